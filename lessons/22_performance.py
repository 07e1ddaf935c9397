"""22 Performance: what makes PyTorch code fast, counted before it is timed.

Operations, calls and bytes are the same on every machine; seconds are not.
"""

import argparse
import functools
import itertools
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# The counter, and what is counted: no need to read on before section 1.
class Count(TorchDispatchMode):
    """Notes each call of torch: its name, bytes written, operations of a product."""

    def __init__(self):
        super().__init__()
        self.calls, self.flops, self.bytes = [], 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        self.calls.append(function.overloadpacket.__name__)
        if self.calls[-1] in ("mm", "addmm", "mv"):  # addmm adds a bias to the product
            left, right = args[-2:]
            self.flops += 2 * left.numel() * right.numel() // len(right)
        if isinstance(output, torch.Tensor):
            self.bytes += output.numel() * output.element_size()
        return output


def network(sizes, device="cpu"):
    """Linear layers of these sizes, tanh behind each, float64, from seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        layers = [
            nn.Sequential(nn.Linear(a, b), nn.Tanh())
            for a, b in itertools.pairwise(sizes)
        ]
    return nn.Sequential(*layers).double().to(device)


def draw(*shape, device="cpu"):
    """Normal numbers in float64, from seed 0."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device)


# %% 1. The operations of a training step, and of a product of three
# A step makes three products for each layer: forward, the gradient of the
# weight, the gradient of the input: which the first layer has no use for. A product of
# (m, k) with (k, n) takes m n sums of k products: 2 m k n. Of three factors the order
# matters, too.
def training_flops(sizes, batch):
    """batch (6 N - 2 N_1): N weights in all, N_1 in the first layer."""
    weights = [a * b for a, b in itertools.pairwise(sizes)]
    return batch * (6 * sum(weights) - 2 * weights[0])


def counted(function):
    """The Count of function()."""
    with Count() as count:
        function()
    return count


def show_1(device):
    print("\n1. The operations of a training step, and of a product of three")
    sizes = [20, 64, 64, 10]
    model, x = network(sizes, device), draw(8, 20, device=device)
    found = counted(lambda: model(x).sum().backward()).flops
    theory = training_flops(sizes, batch=8)
    print(f"   20-64-64-10, 8 samples: {found}, theory {theory}")
    a, v = draw(200, 200, device=device), draw(200, device=device)
    slow, fast = counted(lambda: (a @ a) @ v).flops, counted(lambda: a @ (a @ v)).flops
    ratio = f"ratio {slow / fast}, theory {(200 + 1) / 2}"
    print(f"   (A A) v: {slow}, A (A v): {fast}, {ratio}")


# %% 2. One call instead of many
# A call costs about as much as thousands of operations, however little it computes. And
# cat in a loop copies what is there already, each time.
def row_by_row(x, w):
    """x @ w for x (n, d), w (d,), in a loop over the rows."""
    out = torch.empty(len(x), dtype=x.dtype, device=x.device)
    for i in range(len(x)):
        out[i] = x[i] @ w
    return out


def grown(rows):
    """All rows, each (1, d), in one tensor, to which each is added in turn."""
    table = rows[0][:0]  # (0, d)
    for row in rows:
        table = torch.cat([table, row])
    return table


def show_2(device):
    print("\n2. One call instead of many")
    x, w = draw(100, 5, device=device), draw(5, device=device)
    loop, product = counted(lambda: row_by_row(x, w)), counted(lambda: x @ w)
    same = torch.allclose(row_by_row(x, w), x @ w, rtol=0, atol=1e-12)
    at_once = f"at once {len(product.calls)}, agree to 1e-12: {same}"
    print(f"   row by row {len(loop.calls)} calls, theory 4 * 100 + 1; {at_once}")
    rows = draw(1000, 8, device=device).split(1)
    growing, once = counted(lambda: grown(rows)), counted(lambda: torch.cat(rows))
    ratio = f"ratio {growing.bytes / once.bytes}, theory {(1000 + 1) / 2}"
    print(f"   bytes written in a loop {growing.bytes}, at once {once.bytes}, {ratio}")


# %% 3. Operations for each byte: the roofline
# A machine computes at most at its peak, and fetches numbers at most at its bandwidth.
def product_intensity(n, size=4):
    """Flop a byte: 2 n^3 operations on 3 n^2 numbers of so many bytes, moved once."""
    return 2 * n**3 / (3 * n**2 * size)


def roofline(intensity, peak, bandwidth):
    """The most operations a second: the peak, or what the bandwidth can feed."""
    return min(peak, intensity * bandwidth)


def show_3(device):
    print("\n3. Operations for each byte: the roofline")
    work = {"x + 1": 1 / 8}
    for n in (12, 96):
        work[f"n = {n}"] = product_intensity(n)
    for name, intensity in work.items():
        most = (
            f"at most {roofline(intensity, peak=100, bandwidth=20):.1f} of 100 Gflop/s"
        )
        print(f"   {name}: {intensity:.3f} flop a byte, {most}")


# %% 4. What is kept for backward
# Autograd puts tensors aside in forward. A hook is called for each of them.
def bytes_kept(function, own):
    """The bytes put aside while function() runs, each storage once, own ones aside."""
    own = {tensor.untyped_storage().data_ptr() for tensor in own}
    kept = {}

    def put_aside(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(put_aside, lambda tensor: tensor):
        function()
    return sum(kept.values())


def show_4(device):
    print("\n4. What is kept for backward")
    model, x = network(9 * [64], device).float(), draw(256, 64, device=device).float()
    own, theory = [x, *model.parameters()], 8 * 256 * 64 * 4
    kept = bytes_kept(lambda: model(x), own)
    print(f"   8 layers of 64, 256 samples: {kept}, theory {theory}")
    with torch.no_grad():
        print(f"   under no_grad: {bytes_kept(lambda: model(x), own)}")
    with torch.autocast(device, dtype=torch.bfloat16):
        print(f"   under autocast, bfloat16: {bytes_kept(lambda: model(x), own)}")


# %% 5. Checkpointing: keep less, compute again
class Recompute(torch.autograd.Function):
    """Keeps a block's input alone, which must require grad; backward runs it again."""

    @staticmethod
    def forward(ctx, x, block):
        ctx.block = block
        ctx.save_for_backward(x)
        return block(x)

    @staticmethod
    def backward(ctx, gradient):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            output = ctx.block(x)
        output.backward(gradient)  # to the parameters, and to x
        return x.grad, None


def in_blocks(model, x, size):
    """model(x), in blocks of so many layers, of which only the inputs are kept."""
    for start in range(0, len(model), size):
        x = Recompute.apply(x, model[start : start + size])
    return x


def gradient(model, function):
    """The gradient of sum(function()^2) by all parameters of model, in one vector."""
    model.zero_grad()
    function().square().sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def show_5(device):
    print("\n5. Checkpointing: keep less, compute again")
    model, x = network(17 * [64], device), draw(32, 64, device=device).requires_grad_()
    own, unit = [x, *model.parameters()], 32 * 64 * 8  # bytes of one layer's output
    print(f"   16 layers keep {bytes_kept(lambda: model(x), own) // unit}")
    whole = gradient(model, lambda: model(x))
    for size in (2, 4, 8):
        blocks = functools.partial(in_blocks, model, x, size)
        kept = f"keep {bytes_kept(blocks, own) // unit}, rebuild {size} at a time"
        same = torch.equal(gradient(model, blocks), whole)
        print(f"   blocks of {size} {kept}; same gradient: {same}")


# %% 6. Accumulation: a large batch in small parts
def accumulated(model, x, y, parts, divided=True):
    """The gradient from equal parts in turn; divided: each loss by their number."""
    model.zero_grad()
    for x_part, y_part in zip(x.chunk(parts), y.chunk(parts), strict=True):
        loss = F.mse_loss(model(x_part), y_part)
        (loss / parts if divided else loss).backward()  # gradients add up
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def show_6(device):
    print("\n6. Accumulation: a large batch in small parts")
    model, x = network([8, 16, 1], device), draw(64, 8, device=device)
    y = x.sum(dim=1, keepdim=True)
    whole = accumulated(model, x, y, parts=1)
    for divided in (True, False):
        ratio = accumulated(model, x, y, 4, divided).norm() / whole.norm()
        result = f"gradient / that of 64: {ratio:.6f}"
        print(f"   4 parts of 16, divided={divided!s:<5}   {result}")


# %% 7. Half the bytes, and what they cannot hold
def counts_to(dtype):
    """Where counting by ones stops: the first power of two n for which n + 1 is n."""
    n = 1
    while torch.tensor(n, dtype=dtype) + 1 != n:
        n *= 2
    return n


def after_steps(dtype, steps=1000):
    """A weight of 1.0 after so many steps of -0.001."""
    weight = torch.ones(1, dtype=dtype)
    for _ in range(steps):
        weight -= 0.001
    return weight.item()


def show_7(device):
    print("\n7. Half the bytes, and what they cannot hold")
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        small, large = torch.tensor([1e-8, 70000.0]).to(dtype).tolist()
        rounded = f"1e-8 is {small:.0e}, 70000 is {large:.0f}"
        limits = f"counts to {counts_to(dtype)}, 1 ends at {after_steps(dtype):.2f}"
        print(f"   {str(dtype)[6:]:<8}   {rounded}, {limits}")


# %% 8. Waiting for the device
# A GPU works on while Python goes ahead, until Python asks for a number: then it has to
# wait.
def waits(steps, every, device="cpu"):
    """How often a loop asks for its loss: each so many steps, and at the end."""
    total = torch.zeros((), device=device)
    with Count() as count:
        for step in range(steps):
            total += 0.5  # stands for the loss of a step
            if (step + 1) % every == 0:
                total.item()
        total.item()
    return count.calls.count("_local_scalar_dense")


def show_8(device):
    print("\n8. Waiting for the device")
    for every in (1, 10, 1000):
        number = waits(100, every, device)
        print(f"   100 steps, .item() every {every:>4}: {number} waits")


# %% The picture
def measured_rate(flops, function):
    """Gflop/s of function(), which does so many operations: the best of ten tries."""
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        function().flatten()[0].item()  # a number: so the device has done it
        seconds.append(time.perf_counter() - start)
    return flops / min(seconds) / 1e9


def figure(device="cpu"):
    """Left this machine's roofline and measurements; right what checkpointing keeps."""
    from matplotlib.figure import Figure

    x, sizes = torch.zeros(2**24, device=device), [2**k for k in range(4, 11)]
    squares = [torch.zeros(n, n, device=device) for n in sizes]
    rates = [measured_rate(2 * len(a) ** 3, lambda a=a: a @ a) for a in squares]
    rates = [measured_rate(len(x), lambda: x.add_(1)), *rates]
    intensities = [1 / 8, *(product_intensity(n) for n in sizes)]
    line = [2 ** (k / 8) for k in range(-24, 60)]
    fig = Figure(figsize=(9, 4), layout="constrained")
    left, right = fig.subplots(1, 2)
    left.loglog(
        line, [roofline(i, max(rates), 8 * rates[0]) for i in line], label="roofline"
    )
    left.loglog(intensities, rates, "o", label="x + 1, products of 16 to 1024")
    left.set(xlabel="operations a byte", ylabel="Gflop/s", ylim=(0.1, 20 * max(rates)))
    left.legend(loc="upper left")
    right.plot([1, 2, 4, 8, 16], [16 / k - 1 + k for k in (1, 2, 4, 8, 16)], "o-")
    right.set(
        xlabel="layers in a block", ylabel="layers kept, 16 / k - 1 + k", ylim=(0, 17)
    )
    return fig


# %% Run it
TITLE = "22 Performance"
SECTIONS = [show_1, show_2, show_3, show_4, show_5, show_6, show_7, show_8]


# %% The command line: the same in every lesson, no need to read on
def main(device, section=None):
    """Print the title and all sections, or only the one with this number."""
    print(f"{TITLE} on {device}")
    for number, show in enumerate(SECTIONS, start=1):
        if section is None or section == number:
            show(device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[-1])
    numbers = range(1, len(SECTIONS) + 1)
    parser.add_argument("--section", metavar="N", type=int, choices=numbers)
    parser.add_argument("--figure", metavar="FILE", help="save as .png, .svg or .pdf")
    args = parser.parse_args()
    try:
        (torch.ones(1, device=args.device) + 1).item()
    except RuntimeError as error:  # a card that this build of torch cannot use
        reason = str(error).splitlines()[0]
        sys.exit(f"--device {args.device}: {reason}; see lessons/01_install_check.py")
    try:
        main(args.device, args.section)
        sys.stdout.flush()
    except BrokenPipeError:  # what reads the output, head for instance, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if args.figure is not None:
        fig = figure(args.device)
        part = f"{args.figure}.part"  # an old picture stays until the new one is whole
        try:
            fig.savefig(part, format=args.figure.rpartition(".")[2])
            os.replace(part, args.figure)
        except (OSError, ValueError) as error:
            if os.path.exists(part):
                os.remove(part)
            parser.error(f"--figure {args.figure!r}: {error}")
