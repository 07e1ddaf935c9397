"""02 Tensors: numbers in tables of any dimension, and which of them share their memory.

A picture, a sentence, the weights of a network: in PyTorch each of them is a tensor.
Here they are pictures of digits, written by hand, and a program that reads them.
"""

import argparse
import math
import os
import sys
from pathlib import Path

import numpy as np
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DATA = Path(__file__).resolve().parent.parent / "data"


# Reading a data file: no need to read on before section 1.
def read_csv(name, rows, columns):
    """The numbers below the header of data/name, float64; a wrong file ends the run."""
    try:
        text = (DATA / name).read_text("ascii")
        table = np.array(
            [line.split(",") for line in text.splitlines()[1:]], dtype=float
        )
        if (
            table.shape != (rows, columns)
            or not np.isfinite(table).all()
            or text[-1] != "\n"
        ):
            raise ValueError("it is cut short, or a number is missing or not finite")
    except (OSError, ValueError) as error:
        cure = "copy the file from the course again"
        raise SystemExit(
            f"{DATA / name}: {rows} rows of {columns}: {error}; {cure}"
        ) from None
    return table


# %% 1. A picture is a tensor
# A row of the file is the digit, and then 8 x 8 grey levels from 0, paper, to 16, ink.
def digits(device="cpu"):
    """pictures (1797, 8, 8) in float32, and labels (1797,), the digits, in int64."""
    numbers = read_csv("digits.csv", 1797, 65)
    table = torch.tensor(numbers, dtype=torch.float32, device=device)
    labels = table[:, 0].long()
    pictures = table[:, 1:].reshape(-1, 8, 8)
    return pictures, labels


def show_1(device):
    print("\n1. A picture is a tensor")
    pictures, labels = digits(device)
    parts = {
        "pictures": pictures,
        "labels": labels,
        "pictures[5]": pictures[5],
        "pictures[5, 4]": pictures[5, 4],
        "pictures[:, 4]": pictures[:, 4],
        "pictures[:5, :, 0]": pictures[:5, :, 0],
        "pictures[0, 0, 0]": pictures[0, 0, 0],
    }
    for name, part in parts.items():
        shape = tuple(part.shape)
        print(f"   {name:<18}   shape {shape!s:<12}   {part.dtype}")


# %% 2. Operators, and the matrix product
# a * b multiplies number by number. In a @ b each number is a row of a times a column
# of b: (a @ b)[i, j] = a[i, 0] b[0, j] + a[i, 1] b[1, j] + ...
def product_by_hand(a, b):
    """a @ b, of shape (n, k), for a of shape (n, d) and b of shape (d, k)."""
    result = torch.zeros(a.shape[0], b.shape[1], device=a.device)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            result[i, j] = (a[i] * b[:, j]).sum()
    return result


def show_2(device):
    print("\n2. Operators, and the matrix product")
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0]], device=device)
    print(f"   a * a                  {(a * a).tolist()}")
    print(f"   a @ a                  {(a @ a).tolist()}")
    print(f"   a @ a, by two loops    {product_by_hand(a, a).tolist()}")
    # Pictures of 2 x 2 pixels, each in one row: a left stroke, a top stroke, both.
    strokes = [[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]
    strokes = torch.tensor(strokes, device=device)
    patterns = strokes[:2]
    scores = strokes @ patterns.T
    print(f"   strokes @ patterns.T   {scores.tolist()}")


# %% 3. Sums, means and maxima
# dim=0 is the dimension that disappears: what is left are sums down the columns.
def reductions(x):
    """Expression -> its tensor, for x of shape (n, d)."""
    return {
        "x.sum()": x.sum(),
        "x.sum(dim=0)": x.sum(dim=0),
        "x.sum(dim=1)": x.sum(dim=1),
        "x.sum(dim=1, keepdim=True)": x.sum(dim=1, keepdim=True),
        "x.mean(dim=0)": x.mean(dim=0),
        "x.max(dim=1).values": x.max(dim=1).values,
        "x.max(dim=1).indices": x.max(dim=1).indices,
    }


def mean_ink(pictures, labels):
    """The mean sum of the grey levels of each digit, shape (10,)."""
    ink = pictures.sum(dim=(1, 2))
    means = []
    for digit in range(10):
        means.append(ink[labels == digit].mean())
    return torch.stack(means)


def show_3(device):
    print("\n3. Sums, means and maxima")
    x = torch.tensor([[3.0, 1.0, 2.0], [0.0, 8.0, 4.0]], device=device)
    print(f"   x = {x.tolist()}")
    for name, result in reductions(x).items():
        shape = tuple(result.shape)
        print(f"   {name:<26}   shape {shape!s:<6}   {result.tolist()}")
    ink = mean_ink(*digits(device))
    print(f"   most ink    {ink.argmax()}, {ink.max():.1f} on average")
    print(f"   least ink   {ink.argmin()}, {ink.min():.1f} on average")


# %% 4. When shapes differ
# Each new picture is compared with the mean picture of each digit. The nearest one is
# the guess. The distance is the sum of the squared differences of the 64 pixels.
def mean_pictures(pictures, labels):
    """The mean of the pictures of each digit, (10, 8, 8), for (n, 8, 8) and (n,)."""
    means = []
    for digit in range(10):
        means.append(pictures[labels == digit].mean(dim=0))
    return torch.stack(means)


def nearest(pictures, means):
    """For each of n pictures the digit of the nearest mean: (n,) in int64."""
    differences = pictures[:, None] - means
    distances = (differences**2).sum(dim=(2, 3))
    return distances.argmin(dim=1)


def show_4(device):
    print("\n4. When shapes differ")
    pictures, labels = digits(device)
    means = mean_pictures(pictures[:1000], labels[:1000])
    new, new_labels = pictures[1000:], labels[1000:]
    right = nearest(new, means) == new_labels
    print(f"   new           {tuple(new.shape)}")
    print(f"   means         {tuple(means.shape)}")
    print(f"   differences   {tuple((new[:, None] - means).shape)}")
    print(f"   {right.sum()} of {len(right)} are read right")


# %% 5. Views and copies
def share_memory(a, b):
    """Whether a and b lie in the same piece of memory."""
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def without_lower_half(pictures):
    """Pictures of shape (n, 8, 8) whose last four rows are paper."""
    changed = pictures.clone()
    changed[:, 4:] = 0
    return changed


def without_lower_half_wrong(pictures):
    """The same, but the pictures that came in are changed, too."""
    changed = pictures[:]  # WRONG: a view
    changed[:, 4:] = 0
    return changed


def show_5(device):
    print("\n5. Views and copies")
    t = torch.arange(12, device=device).reshape(3, 4)
    parts = {
        "t[1]": t[1],
        "t[:, 1:3]": t[:, 1:3],
        "t.T": t.T,
        "t[t > 5]": t[t > 5],
        "t[[0, 2]]": t[[0, 2]],
        "t + 0": t + 0,
    }
    for name, part in parts.items():
        kind = "view" if share_memory(part, t) else "copy"
        print(f"   {name:<9}   {kind}")
    pictures, labels = digits(device)
    means = mean_pictures(pictures[:1000], labels[:1000])
    new, new_labels = pictures[1000:], labels[1000:]
    for function in (without_lower_half, without_lower_half_wrong):
        halves = function(new)
        right_halves = (nearest(halves, means) == new_labels).sum()
        right = (nearest(new, means) == new_labels).sum()
        print(f"   {function.__name__}")
        print(f"      the halves       {right_halves} of {len(new)} are read right")
        print(f"      new, afterwards  {right} of {len(new)} are read right")


# %% 6. reshape or permute
# A stride says how far to step in memory to reach the next index of a dimension.
# permute swaps strides and moves nothing. view needs strides that fit. reshape copies
# where they do not.
def layouts(rows, columns, device="cpu"):
    """Expression -> its tensor, all from m = 0, 1, 2, ... of shape (rows, columns)."""
    m = torch.arange(rows * columns, device=device).reshape(rows, columns)
    return {
        "m": m,
        "m.reshape(columns, rows)": m.reshape(columns, rows),
        "m.permute(1, 0)": m.permute(1, 0),
        "m.permute(1, 0).reshape(-1)": m.permute(1, 0).reshape(-1),
    }


# Many programs that read pictures give (height, width, channels). PyTorch's layers
# want (channels, height, width).
def channels_first(image):
    """A picture (h, w, c) as (c, h, w)."""
    return image.permute(2, 0, 1)


def channels_first_wrong(image):
    """The same shape, and other numbers in nearly all places."""
    return image.reshape(image.shape[2], image.shape[0], image.shape[1])  # WRONG


def show_6(device):
    print("\n6. reshape or permute")
    tensors = layouts(2, 3, device)
    for name, t in tensors.items():
        kind = "view" if share_memory(t, tensors["m"]) else "copy"
        print(f"   {name:<27}  {kind}  strides {t.stride()!s:<6}  {t.tolist()}")
    for size in (2, 32):
        image = torch.arange(size * size * 3, device=device).reshape(size, size, 3)
        same = (channels_first(image) == channels_first_wrong(image)).sum()
        right = f"{same} of {image.numel()}"
        print(f"   {size} x {size} x 3: reshape puts {right} where they belong")


# %% 7. Random numbers and their seed
# The generators of the CPU and of CUDA differ: draw on the CPU, then move, and every
# device has the same numbers.
def draws(n, seed, device="cpu"):
    """n normal draws, of shape (n,)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, generator=generator).to(device)


def right_of_a_random_division(pictures, labels, seed):
    """How many of 797 are read right, where chance says which 797 are the new ones."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pictures), generator=generator).to(pictures.device)
    old, new = order[:1000], order[1000:]
    means = mean_pictures(pictures[old], labels[old])
    return (nearest(pictures[new], means) == labels[new]).sum().item()


def show_7(device):
    print("\n7. Random numbers and their seed")
    normal = draws(1_000_000, 0, device)
    near = (normal.abs() < 1).float().mean()
    print(f"   randn   std {normal.std():.2f}, {near:.0%} from -1 to 1")
    print(f"   theory  std {1:.2f}, {math.erf(math.sqrt(1 / 2)):.0%} from -1 to 1")
    pictures, labels = digits(device)
    for seed in (1, 2, 3, 1):
        right = right_of_a_random_division(pictures, labels, seed)
        print(f"   seed {seed}: {right} of 797 are read right")


# %% 8. NumPy, and the limits of a dtype
# from_numpy shares memory: += writes where both sides look. tensor copies.
def add_one_in_place():
    """(array, from_numpy(array), tensor(array)) of three zeros, after array += 1."""
    array = np.zeros(3)
    shared = torch.from_numpy(array)
    copied = torch.tensor(array)
    array += 1
    return array, shared, copied


def to_pixels(x):
    """Floats as uint8, whole numbers from 0 to 255: rounded first, and clamped."""
    return x.round().clamp(0, 255).to(torch.uint8)


def plus_one(number, dtype):
    """number + 1, computed in this dtype."""
    return (torch.tensor(number, dtype=dtype) + 1).item()


def show_8(device):
    print("\n8. NumPy, and the limits of a dtype")
    array, shared, copied = add_one_in_place()
    print(f"   array += 1   array       {array.tolist()}")
    print(f"                from_numpy  {shared.tolist()}")
    print(f"                tensor      {copied.tolist()}")
    print(f"   uint8     200 + 1 = {plus_one(200, torch.uint8)}")
    print(f"   uint8     255 + 1 = {plus_one(255, torch.uint8)}")
    print(f"   float32   16777216 + 1 = {plus_one(16777216, torch.float32):.0f}")
    print(f"   float64   16777216 + 1 = {plus_one(16777216, torch.float64):.0f}")
    x = torch.tensor([-1.5, 99.7, 300.0], device=device)
    print(f"   {[round(n, 1) for n in x.tolist()]} as pixels {to_pixels(x).tolist()}")


# %% The picture
def figure(device="cpu"):
    """Section 6: three digits as the colours of one picture, taken apart twice."""
    from matplotlib.figure import Figure

    pictures, _ = digits(device)
    image = torch.stack([pictures[0], pictures[1], pictures[2]], dim=2).cpu()
    fig = Figure(figsize=(8, 4.2), layout="constrained")
    panels = fig.subplots(2, 4)
    for row, name, channels in [
        (0, "permute(2, 0, 1)", channels_first(image)),
        (1, "reshape(3, 8, 8)", channels_first_wrong(image)),
    ]:
        panels[row, 0].imshow(image.numpy() / 16)
        panels[row, 0].set_title("(8, 8, 3)")
        for i in range(3):
            panels[row, i + 1].imshow(channels[i].numpy(), cmap="gray_r")
            panels[row, i + 1].set_title(f"{name}[{i}]", size=10)
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
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
