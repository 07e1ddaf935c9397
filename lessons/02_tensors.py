"""02 Tensors: arrays of one dtype on one device, and which of them share their memory.

Everything that flows through a network is a tensor: a loss has no dimension, a sample one,
a batch of samples two. Most silent errors are a wrong shape, a wrong dtype or shared memory.
"""

import argparse
import io
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def raises(action):
    """Whether action() ends in a RuntimeError."""
    try:
        action()
    except RuntimeError:
        return True
    return False


# %% 1. A tensor is an n-dimensional array of one dtype
# Python's floats become float32, half the size of NumPy's float64: precise enough for
# training, and twice as many fit into memory. Python's integers become int64.
def anatomy(data, device="cpu"):
    """(ndim, shape, numel, dtype) of the tensor made from data; numel is the product of shape."""
    tensor = torch.tensor(data, device=device)
    return tensor.ndim, tuple(tensor.shape), tensor.numel(), tensor.dtype


# %% 2. Tensors are made from data, from a shape or from another tensor
# empty hands over memory as it is: write to it before you read it.
def made(rows, columns, device="cpu"):
    """Constructor -> its tensor of rows * columns elements; the *_like copy a shape and dtype."""
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


# %% 3. Random numbers have a known mean and variance, and repeat with their seed
# CPU and CUDA generators give different streams for the same seed: draw on the CPU,
# then move, and every device sees the same numbers.
def draws(n, seed, device="cpu"):
    """n uniform draws in [0, 1), mean 1/2 and variance 1/12, and n normal ones, 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(n, generator=generator)
    normal = torch.randn(n, generator=generator)
    return uniform.to(device), normal.to(device)


def mean_and_variance(x):
    """The mean of x and its mean squared distance from it; .item() makes Python numbers."""
    return x.mean().item(), x.var(correction=0).item()


# %% 4. Operators work element by element; only @ is the matrix product
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
    """(a + b, a afterwards): a method whose name ends in an underscore writes into a."""
    total = a.add_(b) if in_place else a.add(b)
    return total, a


# %% 5. Broadcasting repeats what has size 1
# Shapes are compared from the right; a dimension that is missing counts as 1.
def broadcast_shape(first, second):
    """The shape that first and second broadcast to: sizes must be equal or 1; None if not."""
    shape = []
    for a, b in zip_longest(reversed(first), reversed(second), fillvalue=1):
        if a != b and 1 not in (a, b):
            return None
        shape.append(b if a == 1 else a)
    return tuple(reversed(shape))


def shape_of_sum(first, second):
    """The shape that torch gives zeros(first) + zeros(second); None if it raises."""
    try:
        return tuple((torch.zeros(first) + torch.zeros(second)).shape)
    except RuntimeError:
        return None


def table_of_sums(column, row):
    """column[i] + row[j] at (i, j): shapes (n, 1) and (1, m) give (n, m)."""
    return column.view(-1, 1) + row.view(1, -1)


# %% 6. A slice is a view of the same memory; a mask or an index list copies
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


# %% 7. view, reshape and permute: the same numbers, read in other strides
# A stride says how far to step in memory to reach the next index of a dimension. permute
# swaps strides and moves nothing; view needs strides that fit; reshape copies if they don't.
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


# %% 8. Mistake: reshape to swap axes
# Pictures come as (height, width, channels), networks want (channels, height, width).
# reshape gives the right shape and wrong contents, without a word.
def channels_first(image):
    """image, shape (h, w, c), as (c, h, w): (by permute, by reshape); reshape is wrong."""
    height, width, channels = image.shape
    return image.permute(2, 0, 1), image.reshape(channels, height, width)


# %% 9. from_numpy and .numpy() share memory, torch.tensor copies
# += writes into the array that both sides see. array = array + 1 makes a new array and
# gives it the old name; that the tensor does not follow says nothing about sharing.
def after_adding_one(bridge, in_place):
    """The array of three zeros after 1 was added, in place or not, and bridge(it before)."""
    array = np.zeros(3)
    tensor = bridge(array)
    if in_place:
        array += 1
    else:
        array = array + 1
    return array, tensor


def seen_by_numpy(tensor):
    """tensor.numpy() after tensor += 1; only a tensor on the CPU has it."""
    array = tensor.numpy()
    tensor += 1
    return array


# %% 10. Devices compute the same numbers, and do not mix
# The device "meta" exists on every machine: its tensors have a shape and no memory.
def there_and_back(tensor, device):
    """2 * tensor, computed on device and moved back to the CPU; NumPy's memory is there."""
    return (2 * tensor.to(device)).to("cpu")


def mixing_raises(first, second):
    """Whether a tensor on one device refuses a gradient on the other, as + would refuse both."""
    tensor = torch.ones(3, device=first)

    def mix():
        tensor.grad = torch.ones(3, device=second)

    return raises(mix)


# %% 11. Mistake: numbers that the dtype cannot hold
# uint8, the dtype of pictures, counts modulo 256; float32 has 24 significant bits.
def uint8_arithmetic(a, b):
    """a + b and a - b in uint8."""
    a, b = torch.tensor([a, b], dtype=torch.uint8)
    return (a + b).item(), (a - b).item()


def stored(number, dtype):
    """number, after a stay in a tensor of that dtype."""
    return torch.tensor(number, dtype=dtype).item()


def capital_and_small(n):
    """Shapes of torch.Tensor(n), n uninitialised floats, and torch.tensor(n), the number n."""
    return tuple(torch.Tensor(n).shape), tuple(torch.tensor(n).shape)


# %% 12. A reduction removes the dimension that it is given
def reductions(x):
    """Expression -> its tensor, for x of shape (n, d)."""
    return {
        "x.sum()": x.sum(),
        "x.sum(dim=0)": x.sum(dim=0),
        "x.sum(dim=1)": x.sum(dim=1),
        "x.sum(dim=1, keepdim=True)": x.sum(dim=1, keepdim=True),
        "x.mean(dim=0)": x.mean(dim=0),
        "x.argmax(dim=1)": x.argmax(dim=1),
    }


# %% The picture
def figure(device="cpu"):
    """Twelve numbers under view, reshape and permute, coloured by place in memory."""
    from matplotlib.figure import Figure

    tensors = layouts(3, 4, device)
    titles = ("m", "m.view(4, -1)", "m.reshape(4, 3)", "m.permute(1, 0)")
    names = ("m", "m.view(columns, -1)", "m.reshape(columns, rows)", "m.permute(1, 0)")
    picture = Figure(figsize=(10, 3.7), layout="constrained")
    panels = picture.subplots(1, 4, width_ratios=[4, 3, 3, 3])
    for axes, title, name in zip(panels, titles, names, strict=True):
        numbers = tensors[name].cpu()
        axes.imshow(numbers.numpy(), cmap="Blues", vmin=0, vmax=20)
        for (row, column), number in np.ndenumerate(numbers.numpy()):
            axes.text(column, row, number, ha="center", va="center", size=14)
        axes.set(title=title, xticks=[], yticks=[], xlabel=f"strides {numbers.stride()}")
    return picture


# %% Run it
def main(device):
    print(f"02 Tensors on {device}")

    print("\n1. A tensor is an n-dimensional array of one dtype")
    for data in (3.5, [1, 2, 3], [[1.0, 2.0], [3.0, 4.0]], [[[True], [False]]]):
        ndim, shape, numel, dtype = anatomy(data, device)
        print(f"   {data!s:<24} ndim {ndim}   shape {shape!s:<9}   numel {numel}   {dtype}")

    print("\n2. Tensors are made from data, from a shape or from another tensor")
    for name, tensor in made(1, 3, device).items():
        numbers = "whatever lay there" if name == "empty" else tensor.tolist()
        print(f"   {name:<10}   {tuple(tensor.shape)!s:<6}   {tensor.dtype!s:<13}   {numbers}")

    print("\n3. Random numbers have a known mean and variance, and repeat with their seed")
    uniform, normal = draws(1_000_000, 0, device)
    for name, x, theory in [("rand", uniform, "1/2, 1/12"), ("randn", normal, "0, 1")]:
        mean, variance = mean_and_variance(x)
        print(f"   {name:<5}   mean {mean:z.2f}, variance {variance:.2f} (theory {theory})")
    for seed in (0, 1):
        same = torch.equal(draws(5, 0)[0], draws(5, seed)[0])
        print(f"   seed 0 and seed {seed} give the same numbers: {same}")

    print("\n4. Operators work element by element; only @ is the matrix product")
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0]], device=device)
    for operator, (result, named) in arithmetic(a, a).items():
        print(f"   a {operator} a   {result.tolist()!s:<27} by name: {torch.equal(result, named)}")
    for in_place in (False, True):
        total, after = added(a.clone(), a, in_place)
        call = "a.add_(a)" if in_place else "a.add(a)"
        print(f"   {call:<9} gives {total.tolist()}, a is {after.tolist()}")

    print("\n5. Broadcasting repeats what has size 1")
    for first, second in [((3, 1), (1, 4)), ((2, 3), (3,)), ((2, 3), (2,)), ((5, 1, 3), (4, 1))]:
        predicted, shape = broadcast_shape(first, second), shape_of_sum(first, second)
        print(f"   {first!s:<9} + {second!s:<6}   by the rule {predicted}, by torch {shape}")
    sums = table_of_sums(torch.tensor([0, 10, 20]), torch.tensor([1, 2, 3, 4]))
    print(f"   [0, 10, 20] down and [1, 2, 3, 4] across give\n   {sums.tolist()}")

    print("\n6. A slice is a view of the same memory; a mask or an index list copies")
    for name, pick in PICKS.items():
        print(f"   {name:<9}   {'view' if is_view(pick, device) else 'copy'}")

    print("\n7. view, reshape and permute: the same numbers, read in other strides")
    tensors = layouts(3, 4, device)
    for name, t in tensors.items():
        shape, stride = tuple(t.shape), t.stride()
        shared = "view" if t.data_ptr() == tensors["m"].data_ptr() else "copy"
        print(f"   {name:<28}  {shape!s:<6}  strides {stride!s:<6}  {shared}", end="  ")
        print("contiguous" if t.is_contiguous() else "not contiguous")
    failed = raises(lambda: tensors["m.permute(1, 0)"].view(-1))
    print(f"   m.permute(1, 0).view(-1) raises: {failed}")

    print("\n8. Mistake: reshape to swap axes")
    image = torch.arange(32 * 32 * 3, device=device).view(32, 32, 3)
    right, wrong = channels_first(image)
    print(f"   {(right == wrong).sum()} of {image.numel()} elements are where permute puts them")
    for name, channels in (("permute", right), ("reshape", wrong)):
        means = channels.float().mean(dim=(1, 2))
        print(f"   {name}: channel means {', '.join(f'{mean:.1f}' for mean in means)}")

    print("\n9. from_numpy and .numpy() share memory, torch.tensor copies")
    for name, bridge in {"from_numpy": torch.from_numpy, "tensor": torch.tensor}.items():
        for line, in_place in {"a += 1": True, "a = a + 1": False}.items():
            a, t = after_adding_one(bridge, in_place)
            print(f"   t = {name}(a); {line:<9}".ljust(32) + f" a is {a}, t is {t.tolist()}")
    print(f"   a = t.numpy(); t += 1         a is {seen_by_numpy(torch.zeros(3))}")

    print("\n10. Devices compute the same numbers, and do not mix")
    doubled = there_and_back(torch.tensor([1.0, 2.0, 3.0]), device)
    print(f"   2 * [1, 2, 3], back on {doubled.device}: {doubled.tolist()}")
    print(f"   a tensor on cpu refuses a gradient on meta: {mixing_raises('cpu', 'meta')}")

    print("\n11. Mistake: numbers that the dtype cannot hold")
    for a, b in ((200, 100), (50, 100)):
        total, difference = uint8_arithmetic(a, b)
        print(f"   uint8: {a} + {b} = {total}, {a} - {b} = {difference}")
    for number in (2**24, 2**24 + 1):
        print(f"   float32: {number} is stored as {stored(number, torch.float32):.0f}")
    print(f"   the mean of integers raises: {raises(torch.tensor([1, 2]).mean)}")
    capital, small = capital_and_small(3)
    print(f"   torch.Tensor(3) has shape {capital}, torch.tensor(3) has shape {small}")

    print("\n12. A reduction removes the dimension that it is given")
    for name, t in reductions(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])).items():
        print(f"   {name:<26}   shape {tuple(t.shape)!s:<6}   {t.tolist()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[-1])
    parser.add_argument("--figure", metavar="FILE", help="save the picture (.png, .svg, .pdf)")
    args = parser.parse_args()
    if args.figure is not None:
        file = Path(args.figure)
        if file.suffix not in (".png", ".svg", ".pdf") or not file.parent.is_dir():
            parser.error(f"--figure: {args.figure!r} must be .png, .svg or .pdf, in a real folder")
    main(args.device)
    if args.figure is not None:
        drawn, part = io.BytesIO(), file.with_name(f"{file.name}.part")
        figure(args.device).savefig(drawn, format=file.suffix[1:])
        try:
            part.write_bytes(drawn.getvalue())
            part.replace(file)
        except OSError as error:
            if part in file.parent.iterdir():
                part.unlink()
            parser.error(f"--figure: {error}")
