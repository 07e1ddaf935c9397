"""16 Convolution: one small set of weights, moved over the whole picture.

1797 pictures of digits written by hand, 8 x 8 grey levels each (Alpaydin and Kaynak,
1998).
"""

import argparse
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


def digits(device="cpu"):
    """x, (1797, 1, 8, 8), grey levels 0 to 1 in float64, and y, (1797,), the digits."""
    table = torch.from_numpy(read_csv("digits.csv", 1797, 65)).to(device)
    return table[:, 1:].reshape(-1, 1, 8, 8) / 16, table[:, 0].long()


def noise(*shape, device="cpu"):
    """Numbers from N(0, 1) in float64, the same on each call and device."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)


# %% 1. A convolution is a sum over a window
# PyTorch does not turn the kernel round, as mathematics does: strictly it is a
# cross-correlation.
def conv_by_loops(x, weight, stride=1, padding=0, dilation=1, groups=1):
    """conv2d of x, (n, C, H, W), with weight, (D, C / groups, k, k), pixel by pixel."""
    x = F.pad(x, [padding] * 4)
    channels, k = weight.shape[1:3]
    reach = dilation * (k - 1) + 1
    height, width = [(length - reach) // stride + 1 for length in x.shape[2:]]
    out = x.new_zeros(len(x), len(weight), height, width)
    for d in range(len(weight)):
        first = d // (len(weight) // groups) * channels
        for i in range(height):
            for j in range(width):
                rows = slice(i * stride, i * stride + reach, dilation)
                columns = slice(j * stride, j * stride + reach, dilation)
                window = x[:, first : first + channels, rows, columns]
                out[:, d, i, j] = (window * weight[d]).sum(dim=(1, 2, 3))
    return out


def conv_by_unfold(x, weight, stride=1, padding=0, dilation=1):
    """The same for one group, as a matrix product: each window becomes a column."""
    k = weight.shape[2]
    # (n, C k k, L)
    windows = F.unfold(x, k, dilation=dilation, padding=padding, stride=stride)
    out = weight.flatten(1) @ windows
    height = out_size(x.shape[2], k, stride, padding, dilation)
    return out.reshape(len(x), len(weight), height, -1)


def show_1(device):
    print("\n1. A convolution is a sum over a window")
    x, weight = noise(2, 4, 9, 9, device=device), noise(6, 4, 3, 3, device=device)
    options = {"stride": 2, "padding": 1, "dilation": 2}
    right = F.conv2d(x, weight, **options)
    print(f"   {options}: shape {tuple(right.shape)}")
    loops = (conv_by_loops(x, weight, **options) - right).abs().max() < 1e-12
    unfold = (conv_by_unfold(x, weight, **options) - right).abs().max() < 1e-12
    half = weight[:, :2]
    off = F.conv2d(x, half, groups=2) - conv_by_loops(x, half, groups=2)
    groups = off.abs().max() < 1e-12
    print(
        f"   loops agree to 1e-12: {loops}, unfold: {unfold}, "
        f"loops in two groups: {groups}"
    )


# %% 2. Sizes and parameters
def out_size(n, k, stride=1, padding=0, dilation=1):
    """floor((n + 2 padding - dilation (k - 1) - 1) / stride) + 1, of n pixels."""
    return (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1


def show_2(device):
    print("\n2. Sizes and parameters")
    for stride, padding in ((1, 0), (1, 1), (2, 1)):
        shape = tuple(nn.Conv2d(1, 8, 3, stride, padding)(torch.ones(1, 1, 8, 8)).shape)
        size = out_size(8, 3, stride, padding)
        print(f"   stride {stride}, padding {padding}: {shape}, formula {size}")
    count = sum(parameter.numel() for parameter in nn.Conv2d(1, 8, 3).parameters())
    linear = nn.Linear(8 * 8, 8 * 6 * 6)
    dense = sum(parameter.numel() for parameter in linear.parameters())
    print(f"   1 to 8 channels, 3 x 3: {count} parameters; as a linear layer {dense}")


# %% 3. A convolution is a matrix, and the transposed one its transpose
def matrix_of(weight, size):
    """A, (outputs, size^2), with conv2d(x) = A x; a picture of one 1 picks a column."""
    units = torch.eye(size**2, dtype=weight.dtype, device=weight.device)
    return F.conv2d(units.reshape(-1, 1, size, size), weight).flatten(1).T


def show_3(device):
    print("\n3. A convolution is a matrix, and the transposed one its transpose")
    weight = noise(1, 1, 3, 3, device=device)
    x, y = noise(1, 1, 8, 8, device=device), noise(1, 1, 6, 6, device=device)
    a = matrix_of(weight, 8)
    off = (a @ x.flatten() - F.conv2d(x, weight).flatten()).abs().max()
    print(
        f"   {tuple(a.shape)}, {a.count_nonzero()} of {a.numel()} not 0, "
        f"{len(a.unique()) - 1} distinct; agrees to 1e-12: {off < 1e-12}"
    )
    off = (a.T @ y.flatten() - F.conv_transpose2d(y, weight).flatten()).abs().max()
    print(f"   A^T y and conv_transpose2d agree to 1e-12: {off < 1e-12}")
    ones = torch.ones(1, 1, 4, dtype=torch.float64, device=device)
    found = F.conv_transpose1d(ones, ones[..., :3], stride=2).flatten().tolist()
    row = " ".join(f"{number:.0f}" for number in found)
    print(f"   four ones, kernel of three ones, stride 2: {row}")


# %% 4. What moves in moves out, but for the border and the stride
def share_moved_wrong(mode, stride=1, shift=1):
    """The share of outputs where conv(moved x) is not conv(x) moved as far."""
    x, weight = noise(1, 1, 8, 8), noise(1, 1, 3, 3)
    moved = F.conv2d(F.pad(x.roll(shift, dims=3), [1] * 4, mode), weight, stride=stride)
    still = F.conv2d(F.pad(x, [1] * 4, mode), weight, stride=stride)
    off = (moved - still.roll(shift // stride, dims=3)).abs()
    return (off > 1e-12).double().mean().item()


def show_4(device):
    print("\n4. What moves in moves out, but for the border and the stride")
    cases = [("circular", 1, 1), ("constant", 1, 1), ("circular", 2, 1)]
    for mode, stride, shift in cases:
        case = f"{mode} padding, stride {stride}, moved by {shift}"
        wrong = share_moved_wrong(mode, stride, shift)
        print(f"   {case}: {wrong:.3f} of them differ")


# %% 5. Digits that move
def canvas(x, down=0, right=0):
    """x, (n, 1, 8, 8), on canvases of 12 x 12, so far from the middle."""
    out = x.new_zeros(len(x), 1, 12, 12)
    out[:, :, 2 + down : 10 + down, 2 + right : 10 + right] = x
    return out


def network(kind, seed, device="cpu"):
    """A network of some 2700 parameters, float64: "mlp", "cnn" or "cnn, norm"."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if kind == "mlp":
            layers = [nn.Flatten(), nn.Linear(144, 18), nn.ReLU(), nn.Linear(18, 10)]
        else:
            layers = []
            for channels, more in ((1, 8), (8, 16)):
                # a norm makes its bias idle
                layers.append(nn.Conv2d(channels, more, 3, padding=1))
                layers += [nn.BatchNorm2d(more)] if kind == "cnn, norm" else []
                layers += [nn.ReLU(), nn.MaxPool2d(2)]
            layers += [nn.Flatten(), nn.Linear(16 * 3 * 3, 10)]
    return nn.Sequential(*layers).double().to(device)


def fit(model, x, y, epochs=4):
    """Train model by Adam on batches of 64, each epoch in a new order."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(y), generator=generator).to(y.device).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()


def accuracies_when_moved(kind, x, y, seed=0):
    """Test accuracy on digits moved by 0, 1 and 2 pixels, over four directions."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=generator).to(y.device)
    known, test = order[:1437], order[1437:]
    model = network(kind, seed, y.device)
    fit(model, canvas(x[known]), y[known])
    model.eval()
    found = []
    for shift in (0, 1, 2):
        # by 0 there is only one
        moves = {(shift, 0), (-shift, 0), (0, shift), (0, -shift)}
        pictures = torch.cat([canvas(x[test], *move) for move in moves])
        with torch.no_grad():
            said = model(pictures).argmax(dim=1)
        found.append((said == y[test].repeat(len(moves))).double().mean().item())
    return found


def show_5(device):
    print("\n5. Digits that move")
    x, y = digits(device)
    for kind in ("mlp", "cnn", "cnn, norm"):
        zero, one, two = accuracies_when_moved(kind, x, y)
        print(f"   {kind:<9}   moved by 0, 1, 2: {zero:.2f} {one:.2f} {two:.2f}")


# %% 6. How far one output sees
def receptive_field(layers):
    """1 + sum of dilation (k - 1) times all strides before; (k, stride, dilation)."""
    field, step = 1, 1
    for k, stride, dilation in layers:
        field += dilation * (k - 1) * step
        step *= stride
    return field


def field_by_gradient(layers):
    """(from first to last, number) of the 64 inputs that a middle output depends on."""
    x = torch.ones(1, 1, 64, dtype=torch.float64, requires_grad=True)
    y = x
    for k, stride, dilation in layers:
        y = F.conv1d(y, torch.ones(1, 1, k).double(), stride=stride, dilation=dilation)
    y[0, 0, y.shape[2] // 2].backward()
    seen = x.grad.flatten().nonzero().flatten()
    return (seen[-1] - seen[0] + 1).item(), len(seen)


def show_6(device):
    print("\n6. How far one output sees")
    for name, layers in (
        ("three 3 x 3", [(3, 1, 1)] * 3),
        ("stride 2", [(3, 2, 1)] * 3),
        ("dilation 1, 2, 4", [(3, 1, 1), (3, 1, 2), (3, 1, 4)]),
        ("dilation 2, 2, 2", [(3, 1, 2)] * 3),
    ):
        field = receptive_field(layers)
        extent, seen = field_by_gradient(layers)
        print(f"   {name:<16}: {field:>2}, measured {extent:>2}, seen {seen:>2}")


# %% 7. The channel, and zeros around
# A batch of grey pictures needs its channel, or it is taken for one picture. And zeros
# around a picture that is not dark are dark borders.
def shape_out(*shape):
    """The shape that Conv2d(3, 8, 3) makes of (n, 3, H, W), or of (3, H, W)."""
    return tuple(nn.Conv2d(3, 8, 3)(torch.ones(shape)).shape)


def mean_of_ones(count_include_pad):
    """Corner, edge and middle of a padded 3 x 3 mean over ones."""
    options = {"stride": 1, "padding": 1, "count_include_pad": count_include_pad}
    [[found]] = F.avg_pool2d(torch.ones(1, 1, 4, 4), 3, **options)
    return found[0, 0].item(), found[0, 1].item(), found[1, 1].item()


def show_7(device):
    print("\n7. The channel, and zeros around")
    grey, colour = shape_out(3, 8, 8), shape_out(3, 3, 8, 8)
    print(f"   three grey pictures, (3, 8, 8), become {grey}")
    print(f"   three pictures of 3 channels, (3, 3, 8, 8), become {colour}")
    for counted in (True, False):
        found = ", ".join(f"{number:.3f}" for number in mean_of_ones(counted))
        name = f"zeros counted={counted!s:<5}"
        print(f"   {name}   corner, edge, middle of ones: {found}")


# %% 8. Batch norm behind a convolution
# In evaluation the convolution can do the norm's work; in training the norm takes its
# bias away.
def folded(conv, norm):
    """One Conv2d for conv (a bias, stride 1, no padding) and norm in evaluation."""
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    both = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size)
    both.weight = nn.Parameter(conv.weight * factor[:, None, None, None])
    both.bias = nn.Parameter((conv.bias - norm.running_mean) * factor + norm.bias)
    return both


def gradients_before_norm(device="cpu"):
    """The largest |gradient| of weights and bias in front of a batch norm."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    model.double().to(device)
    model(noise(8, 1, 8, 8, device=device)).square().mean().backward()
    return tuple(p.grad.abs().max().item() for p in model[0].parameters())


def show_8(device):
    print("\n8. Batch norm behind a convolution")
    x = noise(8, 1, 8, 8, device=device)
    conv = nn.Conv2d(1, 4, 3).double().to(device)
    norm = nn.BatchNorm2d(4).double().to(device)
    norm(conv(x))
    off = (norm.eval()(conv(x)) - folded(conv, norm)(x)).abs().max()
    print(f"   conv and norm, and one conv, agree to 1e-12: {off < 1e-12}")
    weight, bias = gradients_before_norm(device)
    large, dead = weight > 1e-3, bias < 1e-12
    print(f"   gradient: weights above 1e-3: {large}, bias below 1e-12: {dead}")


# %% The picture
def figure(device="cpu"):
    """A digit, its edges, the matrix of a convolution, and accuracy against shift."""
    from matplotlib.figure import Figure

    x, y = digits(device)
    sobel = torch.tensor([[[[1, 0, -1], [2, 0, -2], [1, 0, -1]]]]).to(x)
    fig = Figure(figsize=(9, 6), layout="constrained")
    (digit, edges), (matrix, moved) = fig.subplots(2, 2)
    digit.imshow(x[0, 0].cpu().numpy(), cmap="gray_r")
    digit.set(title="a digit", xlabel="column", ylabel="row")
    found = F.conv2d(x[:1], sobel)[0, 0].cpu().numpy()
    edges.imshow(found, cmap="coolwarm", vmin=-4, vmax=4)
    edges.set(title="its left and right edges (Sobel)", xlabel="column", ylabel="row")
    matrix.imshow(matrix_of(torch.arange(1.0, 10).reshape(1, 1, 3, 3), 8).numpy())
    matrix.set(title="a convolution as a matrix", xlabel="pixel of x")
    matrix.set(ylabel="pixel of the result")
    for kind in ("mlp", "cnn", "cnn, norm"):
        moved.plot([0, 1, 2], accuracies_when_moved(kind, x, y), marker="o", label=kind)
    moved.set(xlabel="pixels moved", xticks=[0, 1, 2])
    moved.set(ylabel="accuracy on digits", ylim=(0, 1))
    moved.legend()
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
