"""02 Tensors: arrays of one dtype on one device, and which of them share their memory.

Everything that flows through a network is a tensor. Most silent errors are a wrong
shape, a wrong dtype or shared memory.
"""

import argparse
import os
import sys
from itertools import zip_longest

import numpy as np
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. A tensor is an n-dimensional array of one dtype
# Python's floats become float32, half the size of NumPy's float64: precise enough for
# training, and twice as many fit into memory. Python's integers become int64.
def anatomy(data, device="cpu"):
    """(ndim, shape, numel, dtype) of the tensor made from data."""
    tensor = torch.tensor(data, device=device)
    return tensor.ndim, tuple(tensor.shape), tensor.numel(), tensor.dtype


def constructors(rows, columns, device="cpu"):
    """Constructor -> its tensor; the *_like copy shape, dtype and device of another."""
    shape, numel = (rows, columns), rows * columns
    pattern = torch.ones(shape, dtype=torch.int64, device=device)
    return {
        "zeros": torch.zeros(shape, device=device),
        "ones": torch.ones(shape, device=device),
        "full": torch.full(shape, 0.25, device=device),
        "empty": torch.empty(shape, device=device),
        "arange": torch.arange(numel, device=device),
        "linspace": torch.linspace(0, 1, numel, device=device),
        "zeros_like": torch.zeros_like(pattern),
        "full_like": torch.full_like(pattern, 7),
    }


def show_1(device):
    print("\n1. A tensor is an n-dimensional array of one dtype")
    for data in (3.5, [1, 2, 3], [[1.0, 2.0], [3.0, 4.0]], [[[True], [False]]]):
        ndim, shape, numel, dtype = anatomy(data, device)
        size = f"ndim {ndim}   shape {shape!s:<9}   numel {numel}"
        print(f"   {data!s:<24} {size}   {dtype}")
    for name, tensor in constructors(1, 3, device).items():
        numbers = "whatever lay there" if name == "empty" else tensor.tolist()
        shape = tuple(tensor.shape)
        print(f"   {name:<10}   {shape!s:<6}   {tensor.dtype!s:<13}   {numbers}")


# %% 2. Operators work element by element; only @ is the matrix product
def arithmetic(a, b):
    """Operator -> (a operator b, the same by the function's name)."""
    return {
        "+": (a + b, torch.add(a, b)),
        "-": (a - b, torch.sub(a, b)),
        "*": (a * b, torch.mul(a, b)),
        "/": (a / b, torch.div(a, b)),
        "@": (a @ b, torch.matmul(a, b)),
    }


def added(a, b, in_place):
    """(a + b, a afterwards): the method that ends in an underscore writes into a."""
    return (a.add_(b) if in_place else a.add(b)), a


def show_2(device):
    print("\n2. Operators work element by element; only @ is the matrix product")
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0]], device=device)
    for operator, (result, named) in arithmetic(a, a).items():
        same = torch.equal(result, named)
        print(f"   a {operator} a   {result.tolist()!s:<27} by name: {same}")
    for in_place in (False, True):
        total, after = added(a.clone(), a, in_place)
        call = "a.add_(a)" if in_place else "a.add(a)"
        print(f"   {call:<9} gives {total.tolist()}, a is {after.tolist()}")


# %% 3. A reduction removes a dimension, unsqueeze and stack add one
# dim=0 is the dimension that disappears: what is left are sums down the columns.
def new_shapes(x):
    """Expression -> its tensor, for x of shape (n, d)."""
    return {
        "x.sum()": x.sum(),
        "x.sum(dim=0)": x.sum(dim=0),
        "x.sum(dim=1)": x.sum(dim=1),
        "x.sum(dim=1, keepdim=True)": x.sum(dim=1, keepdim=True),
        "x.mean(dim=0)": x.mean(dim=0),
        "x.argmax(dim=1)": x.argmax(dim=1),
        "x[0].unsqueeze(1)": x[0].unsqueeze(1),
        "torch.stack([x, x])": torch.stack([x, x]),
        "torch.cat([x, x])": torch.cat([x, x]),
    }


def show_3(device):
    print("\n3. A reduction removes a dimension, unsqueeze and stack add one")
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], device=device)
    print(f"   x = {x.tolist()}")
    for name, tensor in new_shapes(x).items():
        numbers = tensor.tolist() if tensor.numel() <= 6 else "x, twice"
        print(f"   {name:<26}   shape {tuple(tensor.shape)!s:<9}  {numbers}")


# %% 4. Broadcasting repeats what has size 1
# Shapes are compared from the right; a dimension that is missing counts as 1.
def broadcast_shape(first, second):
    """The shape that first and second broadcast to; None if they do not fit."""
    shape = []
    for a, b in zip_longest(reversed(first), reversed(second), fillvalue=1):
        if a != b and 1 not in (a, b):
            return None
        shape.append(b if a == 1 else a)
    return tuple(reversed(shape))


def broadcast_by_torch(first, second):
    """The shape to which torch broadcasts such tensors; None if it raises."""
    try:
        results = torch.broadcast_tensors(torch.zeros(first), torch.zeros(second))
        return tuple(results[0].shape)
    except RuntimeError:
        return None


def show_4(device):
    print("\n4. Broadcasting repeats what has size 1")
    pairs = [((3, 1), (1, 4)), ((2, 3), (3,)), ((2, 3), (2,)), ((5, 1, 3), (4, 1))]
    for first, second in pairs:
        rule = broadcast_shape(first, second)
        by_torch = broadcast_by_torch(first, second)
        shapes = f"{first!s:<9} and {second!s:<6}"
        print(f"   {shapes}   by the rule {rule}, by torch {by_torch}")
    column, row = torch.tensor([[0], [10], [20]]), torch.tensor([1, 2, 3, 4])
    print(f"   {column.tolist()} + {row.tolist()} is\n   {(column + row).tolist()}")


# %% 5. A slice is a view of the same memory; a mask or an index list copies
PICKS = {
    "t[1]": lambda t: t[1],
    "t[:, 1:3]": lambda t: t[:, 1:3],
    "t.T": lambda t: t.T,
    "t[t > 5]": lambda t: t[t > 5],
    "t[[0, 2]]": lambda t: t[[0, 2]],
}


def is_view(pick, device="cpu"):
    """Whether writing -1 into pick(t), t of shape (3, 4), shows in t."""
    t = torch.arange(12, device=device).view(3, 4)
    pick(t).fill_(-1)
    return bool((t == -1).any())


def show_5(device):
    print("\n5. A slice is a view of the same memory; a mask or an index list copies")
    for name, pick in PICKS.items():
        print(f"   {name:<9}   {'view' if is_view(pick, device) else 'copy'}")


# %% 6. view, reshape or permute
# A stride says how far to step in memory to reach the next index of a dimension.
# permute swaps strides and moves nothing; view needs strides that fit; reshape copies
# if they don't.
def layouts(rows, columns, device="cpu"):
    """Expression -> its tensor, all from m = 0, 1, 2, ... of shape (rows, columns)."""
    m = torch.arange(rows * columns, device=device).view(rows, columns)
    return {
        "m": m,
        "m.view(columns, -1)": m.view(columns, -1),
        "m.reshape(columns, rows)": m.reshape(columns, rows),
        "m.permute(1, 0)": m.permute(1, 0),
        "m.permute(1, 0).contiguous()": m.permute(1, 0).contiguous(),
        "m.permute(1, 0).reshape(-1)": m.permute(1, 0).reshape(-1),
    }


def raises(action):
    """Whether action() ends in a RuntimeError."""
    try:
        action()
    except RuntimeError:
        return True
    return False


# PIL and NumPy give pictures as (height, width, channels), networks want (channels,
# height, width). reshape gives the right shape and wrong contents, without a word.
def channels_first(image):
    """An image (h, w, c) as (c, h, w): by permute, and by reshape, which is wrong."""
    height, width, channels = image.shape
    return image.permute(2, 0, 1), image.reshape(channels, height, width)


def show_6(device):
    print("\n6. view, reshape or permute")
    tensors = layouts(3, 4, device)
    for name, t in tensors.items():
        shape, stride = tuple(t.shape), t.stride()
        shared = "view" if t.data_ptr() == tensors["m"].data_ptr() else "copy"
        order = "contiguous" if t.is_contiguous() else "not contiguous"
        memory = f"strides {stride!s:<6}  {shared}  {order}"
        print(f"   {name:<28}  {shape!s:<6}  {memory}")
    refused = raises(lambda: tensors["m.permute(1, 0)"].view(-1))
    print(f"   m.permute(1, 0).view(-1) raises RuntimeError: {refused}")
    image = torch.arange(32 * 32 * 3, device=device).view(32, 32, 3)
    right, wrong = channels_first(image)
    same = (right == wrong).sum()
    print(f"   {same} of {image.numel()} elements are where permute puts them")
    for name, channels in (("permute", right), ("reshape", wrong)):
        means = channels.float().mean(dim=(1, 2))
        print(f"   {name}: channel means {', '.join(f'{mean:.1f}' for mean in means)}")


# %% 7. Random numbers have a known mean and variance, and repeat with their seed
# CPU and CUDA generators give different streams for the same seed: draw on the CPU,
# then move, and every device sees the same numbers.
def draws(n, seed, device="cpu"):
    """n uniform draws in [0, 1) and n normal ones, each of shape (n,)."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(n, generator=generator)
    normal = torch.randn(n, generator=generator)
    return uniform.to(device), normal.to(device)


def show_7(device):
    print(
        "\n7. Random numbers have a known mean and variance, and repeat with their seed"
    )
    uniform, normal = draws(1_000_000, 0, device)
    for name, x, theory in [("rand", uniform, "1/2, 1/12"), ("randn", normal, "0, 1")]:
        measured = f"mean {x.mean():z.2f}, variance {x.var():.2f}"
        print(f"   {name:<5}   {measured} (theory {theory})")
    for seed in (0, 1):
        same = torch.equal(draws(5, 0)[0], draws(5, seed)[0])
        print(f"   seed 0 and seed {seed} give the same numbers: {same}")


# %% 8. NumPy, devices and the limits of a dtype
# from_numpy and .numpy() share: += writes into the memory that both sides see. But
# array = array + 1 makes a new array and gives it the old name. That the tensor does
# not follow says nothing about shared memory.
def after_adding_one(bridge, in_place):
    """Three zeros after 1 was added, and the tensor that bridge made of them before."""
    array = np.zeros(3)
    tensor = bridge(array)
    if in_place:
        array += 1
    else:
        array = array + 1
    return array, tensor


def double_on_device(tensor, device):
    """2 * tensor, computed on device and moved back to the CPU."""
    return (2 * tensor.to(device)).to("cpu")


# uint8, the dtype of pictures, counts modulo 256; float32 has 24 significant bits.
def uint8_arithmetic(a, b):
    """a + b and a - b in uint8."""
    a, b = torch.tensor([a, b], dtype=torch.uint8)
    return (a + b).item(), (a - b).item()


def round_trip(number, dtype):
    """number, after a stay in a tensor of that dtype."""
    return torch.tensor(number, dtype=dtype).item()


def show_8(device):
    print("\n8. NumPy, devices and the limits of a dtype")
    bridges = {"from_numpy": torch.from_numpy, "tensor": torch.tensor}
    for name, bridge in bridges.items():
        for line, in_place in {"a += 1": True, "a = a + 1": False}.items():
            a, t = after_adding_one(bridge, in_place)
            code = f"t = {name}(a); {line}"
            print(f"   {code:<29} a is {a}, t is {t.tolist()}")
    doubled = double_on_device(torch.tensor([1.0, 2.0, 3.0]), device)
    print(f"   2 * [1, 2, 3] on {device}, back on {doubled.device}: {doubled.tolist()}")
    for a, b in ((200, 100), (50, 100)):
        total, difference = uint8_arithmetic(a, b)
        print(f"   uint8: {a} + {b} = {total}, {a} - {b} = {difference}")
    for number in (2**24, 2**24 + 1):
        stored = round_trip(number, torch.float32)
        print(f"   float32: {number} is stored as {stored:.0f}")
    refused = raises(torch.tensor([1, 2]).mean)
    print(f"   the mean of integers raises RuntimeError: {refused}")
    shape = tuple(torch.Tensor(3).shape)
    print(f"   torch.Tensor(3): shape {shape}, three numbers that nobody wrote")
    small = torch.tensor(3)
    print(f"   torch.tensor(3): shape {tuple(small.shape)}, the number {small.item()}")


# %% The picture
def figure(device="cpu"):
    """Twelve numbers under view, reshape and permute, coloured by place in memory."""
    from matplotlib.figure import Figure

    tensors = layouts(3, 4, device)
    names = ("m", "m.view(columns, -1)", "m.reshape(columns, rows)", "m.permute(1, 0)")
    fig = Figure(figsize=(10, 3.7), layout="constrained")
    panels = fig.subplots(1, 4, width_ratios=[4, 3, 3, 3])
    for axes, name in zip(panels, names, strict=True):
        numbers = tensors[name].cpu()
        axes.imshow(numbers.numpy(), cmap="Blues", vmin=0, vmax=20)
        for (row, column), number in np.ndenumerate(numbers.numpy()):
            axes.text(column, row, number, ha="center", va="center", size=14)
        axes.set(title=name, xticks=[], yticks=[], xlabel=f"strides {numbers.stride()}")
    return fig


# %% Run it
TITLE = "02 Tensors"
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
