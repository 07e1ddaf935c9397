"""16 Convolution: one small set of weights, moved over the whole picture.

1797 digits written by hand, 8 x 8 grey levels each (Alpaydin and Kaynak, 1998).
"""

import argparse
import functools
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

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


@functools.cache  # three sections and the picture ask for them
def digits(device="cpu"):
    """x, (1797, 1, 8, 8), grey levels 0 to 1, and y, (1797,), the digits 0 to 9."""
    table = torch.from_numpy(read_csv("digits.csv", 1797, 65)).to(device)
    x = table[:, 1:].reshape(-1, 1, 8, 8) / 16
    return x.float(), table[:, 0].long()


def canvas(x, down=0, right=0):
    """x, (n, 1, 8, 8), on canvases of 12 x 12, so many pixels away from the middle."""
    canvases = x.new_zeros(len(x), 1, 12, 12)
    canvases[:, :, 2 + down : 10 + down, 2 + right : 10 + right] = x
    return canvases


def train(model, x, y):
    """Three epochs of Adam, in batches of 64."""
    torch.backends.cudnn.allow_tf32 = False  # as exact on a card as on the CPU
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        for rows in torch.randperm(len(y)).to(y.device).split(64):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def as_text(vector, digits=2):
    """The numbers of a vector, rounded, in columns."""
    return " ".join(f"{number:6.{digits}f}" for number in vector.tolist())


# %% 1. A sum over a window
# At each place: multiply the window by the kernel, number by number, and add up.
def convolve(picture, kernel):
    """The sums over all windows of a picture, (H, W), with a kernel, (k, k)."""
    k = len(kernel)
    height = picture.shape[0] - k + 1
    width = picture.shape[1] - k + 1
    sums = picture.new_zeros(height, width)
    for i in range(height):
        for j in range(width):
            window = picture[i : i + k, j : j + k]
            sums[i, j] = (window * kernel).sum()
    return sums


def small_picture(device="cpu"):
    """A picture of 4 x 4, as ink: light, dark to the right, and grey below."""
    rows = [[1, 1, 5, 5], [1, 1, 5, 5], [1, 1, 5, 5], [3, 3, 3, 3]]
    return torch.tensor(rows, device=device, dtype=torch.float32)


def left_to_right(device="cpu"):
    """A kernel of 2 x 2: how much more ink has the right column of the window?"""
    return torch.tensor([[-1.0, 1.0], [-1.0, 1.0]], device=device)


def show_1(device):
    print("\n1. A sum over a window")
    picture = small_picture(device)
    kernel = left_to_right(device)
    print("   left to right")
    for row in convolve(picture, kernel):
        print(f"   {as_text(row, 0)}")
    print("   top to bottom")
    for row in convolve(picture, kernel.T):
        print(f"   {as_text(row, 0)}")


# %% 2. Sizes and parameters
# Two networks for canvases, of about the same number of parameters.
def size_out(size, k, stride=1, padding=0):
    """How many windows of k pixels begin in a row of so many pixels, and end in it."""
    return (size + 2 * padding - k) // stride + 1


class FullyConnected(nn.Module):
    """From canvases, (n, 1, 12, 12), to logits, (n, 10)."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12 * 12, 18)
        self.last = nn.Linear(18, 10)

    def forward(self, x):
        x = torch.relu(self.first(x.flatten(1)))
        return self.last(x)


class Strided(nn.Module):
    """The same by convolutions; each of them halves height and width."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.second = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.last = nn.Linear(16 * 3 * 3, 10)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x))
        return self.last(x.flatten(1))


def count(model):
    """How many numbers a model trains."""
    return sum(parameter.numel() for parameter in model.parameters())


def show_2(device):
    print("\n2. Sizes and parameters")
    x = torch.zeros(5, 1, 12, 12, device=device)
    for stride, padding in [(1, 0), (1, 1), (2, 1)]:
        y = nn.Conv2d(1, 8, 3, stride, padding).to(device)(x)
        formula = size_out(12, 3, stride, padding)
        print(f"   stride {stride}, padding {padding}: {tuple(y.shape)}")
        print(f"   by the formula         {formula} x {formula}")
    print(f"   nn.Conv2d(1, 8, 3)    {count(nn.Conv2d(1, 8, 3)):>7} parameters")
    print(f"   nn.Linear(144, 800)   {count(nn.Linear(144, 800)):>7} parameters")
    print(f"   FullyConnected        {count(FullyConnected()):>7} parameters")
    print(f"   Strided               {count(Strided()):>7} parameters")


# %% 3. It is a matrix
# A picture with a single 1 in it picks one column of the matrix.
def matrix_of(kernel, size):
    """A with A @ picture.flatten() = convolve(picture, kernel).flatten().

    Its shape is (windows, size * size), for pictures of size x size.
    """
    pixels = torch.eye(size * size, dtype=kernel.dtype, device=kernel.device)
    columns = [convolve(pixel.reshape(size, size), kernel) for pixel in pixels]
    return torch.stack([column.flatten() for column in columns], dim=1)


def show_3(device):
    print("\n3. It is a matrix")
    kernel = torch.arange(1.0, 10.0, device=device).reshape(3, 3)
    matrix = matrix_of(kernel, 8)
    x, _ = digits(device)
    print(f"   3 x 3 on 8 x 8: a matrix of shape {tuple(matrix.shape)}")
    print(f"   numbers that are not 0       {matrix.count_nonzero()}")
    print(f"   different ones among them    {len(matrix.unique()) - 1}")
    product = matrix @ x[0].flatten()
    sums = F.conv2d(x[0], kernel[None, None])
    print(f"   first row of a digit, by A   {as_text(product[:6])}")
    print(f"   first row, by F.conv2d       {as_text(sums[0, 0])}")


# %% 4. What moves in moves out
# One kernel at all places: a moved picture gives moved sums, if the stride is 1.
def noise(*shape, device="cpu"):
    """Numbers from N(0, 1) in float64, the same on each call and device."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)


def found_again(before, after, stride):
    """(how many sums of after stood in the same row of before, of how many).

    before, after: two pictures, (1, 1, H, W), float64. The sums are those of a kernel
    of 3 x 3 with padding 1. Sums that are 0 do not count.
    """
    kernel = noise(1, 1, 3, 3, device=before.device)
    old = F.conv2d(before, kernel, stride=stride, padding=1)[0, 0]
    new = F.conv2d(after, kernel, stride=stride, padding=1)[0, 0]
    again, of = 0, 0
    for i, j in (new.abs() > 1e-9).nonzero().tolist():
        of += 1
        if (old[i] - new[i, j]).abs().min() < 1e-9:
            again += 1
    return again, of


def show_4(device):
    print("\n4. What moves in moves out")
    x, _ = digits(device)
    digit = canvas(x[:1]).double()
    for stride, far in [(1, 1), (1, 2), (2, 1), (2, 2)]:
        moved = canvas(x[:1], right=far).double()
        again, of = found_again(digit, moved, stride)
        print(f"   stride {stride}, moved by {far}: {again:>2} of {of} found again")


# %% 5. Digits that move
# The parameters of Strided, with pooling in the place of the stride.
class Pooled(nn.Module):
    """From canvases, (n, 1, 12, 12), to logits, (n, 10)."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 16, 3, padding=1)
        self.last = nn.Linear(16 * 3 * 3, 10)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.first(x)), 2)
        x = F.max_pool2d(torch.relu(self.second(x)), 2)
        return self.last(x.flatten(1))


# (down, right) of each test digit that is 0, 1 and 2 pixels away from the middle
MOVES = [
    [(0, 0)],
    [(-1, 0), (1, 0), (0, -1), (0, 1)],
    [(-2, 0), (2, 0), (0, -2), (0, 2)],
]


def accuracies_when_moved(model_class, seed, device="cpu"):
    """[accuracy] on 360 test digits 0, 1 and 2 pixels away from the middle.

    Trained on the other 1437, in the middle.
    """
    x, y = digits(device)
    torch.manual_seed(seed)
    order = torch.randperm(len(y)).to(device)
    x, y = x[order], y[order]
    model = model_class().to(device)
    train(model, canvas(x[:1437]), y[:1437])
    accuracies = []
    for moves in MOVES:
        pictures = [canvas(x[1437:], down, right) for down, right in moves]
        with torch.no_grad():
            answers = model(torch.cat(pictures)).argmax(dim=1)
        correct = answers == y[1437:].repeat(len(moves))
        accuracies.append(correct.float().mean().item())
    return accuracies


@functools.cache  # the picture asks for them, too
def mean_accuracies(model_class, device):
    """The mean of accuracies_when_moved over the seeds 0, 1 and 2, shape (3,)."""
    runs = [accuracies_when_moved(model_class, seed, device) for seed in range(3)]
    return torch.tensor(runs).mean(dim=0)


def show_5(device):
    print("\n5. Digits that move")
    print("   moved by            0      1      2")
    for model_class in [FullyConnected, Strided, Pooled]:
        accuracies = as_text(mean_accuracies(model_class, device))
        print(f"   {model_class.__name__:<14} {accuracies}")


# %% 6. How far it sees
# Each layer adds k - 1 of its own steps; a stride makes the steps behind it longer.
def receptive_field(layers):
    """How many pixels, in a row, one number of the output depends on.

    layers: (k, stride) of each, from the first on; a pooling is a layer, too.
    """
    field, step = 1, 1
    for k, stride in layers:
        field += (k - 1) * step
        step *= stride
    return field


def pixels_with_gradient(layers):
    """The same, counted: the pixels that get a gradient from one output."""
    x = torch.ones(1, 1, 64, requires_grad=True)
    y = x
    for k, stride in layers:
        y = F.conv1d(y, torch.ones(1, 1, k), stride=stride)
    middle = y.shape[2] // 2
    y[0, 0, middle].backward()
    return x.grad.count_nonzero().item()


def show_6(device):
    print("\n6. How far it sees")
    for name, layers in [
        ("two of 3 x 3", [(3, 1), (3, 1)]),
        ("three of 3 x 3", [(3, 1), (3, 1), (3, 1)]),
        ("Strided", [(3, 2), (3, 2)]),
        ("Pooled", [(3, 1), (2, 2), (3, 1), (2, 2)]),
    ]:
        formula, counted = receptive_field(layers), pixels_with_gradient(layers)
        print(f"   {name:<14}   by the formula {formula:>2}, counted {counted:>2}")


# %% 7. The channel, and zeros around
# A batch of grey pictures needs its channel; and zeros around a picture count.
def shape_out(*shape):
    """The shape that Conv2d(3, 8, 3) makes of (n, 3, H, W), or of (3, H, W)."""
    return tuple(nn.Conv2d(3, 8, 3)(torch.ones(shape)).shape)


def mean_of_ones(count_include_pad):
    """A mean over 3 x 3 with padding 1, of a picture of ones: (4, 4)."""
    ones = torch.ones(1, 1, 4, 4)
    pool = nn.AvgPool2d(3, 1, padding=1, count_include_pad=count_include_pad)
    return pool(ones)[0, 0]


def show_7(device):
    print("\n7. The channel, and zeros around")
    print(f"   three grey pictures, (3, 8, 8)         become {shape_out(3, 8, 8)}")
    print(f"   three colour pictures, (3, 3, 8, 8)    become {shape_out(3, 3, 8, 8)}")
    print("   the mean over 3 x 3 of a picture of ones")
    for row in mean_of_ones(True):
        print(f"   zeros counted      {as_text(row, 3)}")
    for row in mean_of_ones(False)[:1]:
        print(f"   zeros not counted  {as_text(row, 3)}")


# %% 8. Folding a batch norm
# In evaluation the norm multiplies and adds: the convolution can do that itself.
def folded(conv, norm):
    """One Conv2d that does what conv and then norm do in evaluation mode.

    conv: no bias, no groups, no dilation, zeros around; norm: BatchNorm2d.
    """
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    both = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
    ).to(factor)
    with torch.no_grad():
        both.weight.copy_(conv.weight * factor[:, None, None, None])
        both.bias.copy_(norm.bias - norm.running_mean * factor)
    return both


def conv_and_norm(device="cpu"):
    """A convolution and a batch norm that has seen one batch, in float64."""
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 4, 3, bias=False).double().to(device)
    norm = nn.BatchNorm2d(4).double().to(device)
    norm(conv(noise(8, 1, 8, 8, device=device)))
    return conv, norm


def show_8(device):
    print("\n8. Folding a batch norm")
    conv, norm = conv_and_norm(device)
    one = folded(conv, norm)
    x = canvas(digits(device)[0][:8]).double()
    norm.eval()
    row = norm(conv(x))[0, 0, 4, 2:8]  # of the first picture and channel
    print(f"   conv, then norm   {as_text(row)}")
    print(f"   one convolution   {as_text(one(x)[0, 0, 4, 2:8])}")
    print(f"   conv {count(conv)}, norm {count(norm)}, one {count(one)} parameters")


# %% The picture
def figure(device="cpu"):
    """A digit in the middle and beside it, and three accuracies against movement."""
    from matplotlib.figure import Figure

    x, _ = digits(device)
    fig = Figure(figsize=(9, 3.4), layout="constrained")
    middle, beside, accuracy = fig.subplots(1, 3, width_ratios=[1, 1, 1.6])
    middle.imshow(canvas(x[:1])[0, 0].cpu().numpy(), cmap="gray_r")
    middle.set(title="in the middle")
    beside.imshow(canvas(x[:1], right=2)[0, 0].cpu().numpy(), cmap="gray_r")
    beside.set(title="moved by two pixels")
    for model_class in [FullyConnected, Strided, Pooled]:
        accuracies = mean_accuracies(model_class, device)
        accuracy.plot([0, 1, 2], accuracies, "o-", label=model_class.__name__)
    accuracy.axhline(0.1, color="gray", linestyle=":", label="guessing")
    accuracy.set(xlabel="pixels moved", xticks=[0, 1, 2])
    accuracy.set(ylabel="accuracy", ylim=(0, 1))
    accuracy.legend()
    return fig


# %% Run it
TITLE = "16 Convolution"
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
