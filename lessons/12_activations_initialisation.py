"""12 Activations and initialisation: why a deep network does not learn.

A hundred digits written by hand pass through ten layers, and through fifty. Each layer
multiplies what passes, so a small change at each of them is a large one at the end.
"""

import argparse
import math
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
    """x, (100, 64), grey levels standardised by one mean and std, and y, (100,)."""
    table = torch.from_numpy(read_csv("digits.csv", 1797, 65)).float().to(device)
    x = table[:100, 1:]
    return (x - x.mean()) / x.std(), table[:100, 0].long()


# %% 1. Layers without a bend
# W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2): two layers are one.
def two_small_layers(device="cpu"):
    """nn.Linear(2, 2) and nn.Linear(2, 1) with small whole numbers."""
    first = nn.Linear(2, 2)
    second = nn.Linear(2, 1)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        first.bias.copy_(torch.tensor([1.0, 0.0]))
        second.weight.copy_(torch.tensor([[1.0, -1.0]]))
        second.bias.copy_(torch.tensor([5.0]))
    return first.to(device), second.to(device)


def as_one_layer(layers):
    """(weight, bias) of one layer that says what these say, one after the other."""
    weight = layers[0].weight
    bias = layers[0].bias
    for layer in layers[1:]:
        weight = layer.weight @ weight
        bias = layer.weight @ bias + layer.bias
    return weight, bias


@torch.no_grad()
def show_1(device):
    print("\n1. Layers without a bend")
    first, second = two_small_layers(device)
    weight, bias = as_one_layer([first, second])
    print("      row   two layers   one layer   relu between")
    for row in [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]:
        x = torch.tensor([row], device=device)
        two = second(first(x)).item()
        one = (x @ weight.T + bias).item()
        bent = second(torch.relu(first(x))).item()
        print(f"   {row[0]:>2g}, {row[1]:g} {two:>12.1f} {one:>11.1f} {bent:>14.1f}")


# %% 2. Fifty layers
# A sum of n products of numbers with mean square q and independent weights with mean 0
# and variance v has on average the square n v q. A relu leaves half of it.
def random_layers(x, layers, nv, seed, activation=torch.relu):
    """(squares, gradient) of so many random layers of n units, x of shape (rows, n).

    The weights are normal with variance nv / n, and there are no biases. squares is the
    mean square of what comes out of each layer, gradient the mean square of what
    arrives at x, where gradients of 1 or -1 start at the end.
    """
    generator = torch.Generator().manual_seed(seed)
    n = x.shape[1]
    inputs = x.clone().requires_grad_()
    h = inputs
    squares = []
    for _ in range(layers):
        weight = torch.randn(n, n, generator=generator) * math.sqrt(nv / n)
        h = activation(h @ weight.to(x.device).T)
        squares.append(h.square().mean().item())
    signs = torch.randint(0, 2, h.shape, generator=generator) * 2 - 1
    h.backward(signs.float().to(x.device))
    return squares, inputs.grad.square().mean().item()


def layers_in_theory(layers, nv):
    """(nv / 2)^layers: of the square of x this is left, on average over networks."""
    return (nv / 2) ** layers


def median(rows):
    """The medians of the columns of a list of lists, or of a list of numbers."""
    return np.median(np.array(rows), axis=0)


def show_2(device):
    print("\n2. Fifty layers")
    x, _ = digits(device)
    print("   variance   values: least    median   largest   gradient    theory")
    layers = 50
    for nv in [1, 2, 4]:
        values = []
        gradients = []
        for seed in range(5):
            squares, gradient = random_layers(x, layers, nv, seed)
            values.append(squares[-1])
            gradients.append(gradient)
        print(
            f"   {nv} / n {min(values):>18.0e} {median(values):>9.0e}"
            f" {max(values):>9.0e} {median(gradients):>10.0e}"
            f" {layers_in_theory(layers, nv):>9.0e}"
        )


# %% 3. What nn.Linear does by itself
# Evenly from -1 / sqrt(n) to 1 / sqrt(n): the variance is 1 / (3 n), and n v / 2 = 1/6.
def kaiming_start(model):
    """Give each linear layer weights of variance 2 / n, and biases of 0."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)


def new_network(layers, kaiming, seed, device="cpu"):
    """64 grey levels, hidden layers of 64 relu units, 10 logits, and their start."""
    torch.manual_seed(seed)
    parts = []
    for _ in range(layers):
        parts += [nn.Linear(64, 64), nn.ReLU()]
    model = nn.Sequential(*parts, nn.Linear(64, 10))
    if kaiming:
        kaiming_start(model)
    return model.to(device)


@torch.no_grad()
def differences(model, x):
    """By how much the rows differ behind each relu: the mean std of its units."""
    found = []
    for layer in model:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            found.append(x.std(dim=0).mean().item())
    return found


def gradient_sizes(model, x, y):
    """The root of the mean square of the gradient of each layer's weights."""
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    return [
        layer.weight.grad.square().mean().sqrt().item()
        for layer in model
        if isinstance(layer, nn.Linear)
    ]


def show_3(device):
    print("\n3. What nn.Linear does by itself")
    x, y = digits(device)
    for kaiming in [False, True]:
        networks = [new_network(10, kaiming, seed, device) for seed in range(5)]
        differ = median([differences(model, x) for model in networks])
        gradient = median([gradient_sizes(model, x, y) for model in networks])
        print("   Kaiming's start" if kaiming else "   nn.Linear's own start")
        for layer in [1, 4, 7, 10]:
            print(
                f"   layer {layer:>2}   digits differ by {differ[layer - 1]:.5f}"
                f"   gradient {gradient[layer - 1]:.1e}"
            )


# %% 4. A way around the layers
# x + g(x): the mean squares add up, and the gradient has a way past all weights.
class Block(nn.Module):
    """x + g(x), where g is two linear layers of n units and a relu between them."""

    def __init__(self, n):
        super().__init__()
        self.first = nn.Linear(n, n)
        self.second = nn.Linear(n, n)

    def forward(self, x):
        return x + self.second(torch.relu(self.first(x)))


def new_blocks(blocks, kaiming, seed, device="cpu"):
    """So many blocks of 64 units, one after the other, and their start."""
    torch.manual_seed(seed)
    model = nn.Sequential(*[Block(64) for _ in range(blocks)])
    if kaiming:
        kaiming_start(model)
    return model.to(device)


def growth(model, x):
    """(values, gradients): by how much their mean squares grow on their way.

    The gradients start as 1 at the end, and arrive at x.
    """
    inputs = x.clone().requires_grad_()
    outputs = model(inputs)
    outputs.sum().backward()
    values = outputs.square().mean() / x.square().mean()
    return values.item(), inputs.grad.square().mean().item()


def blocks_in_theory(blocks, first, second):
    """(1 + first / 2 * second)^blocks, n times the variance of the weights given.

    The mean over networks of what the mean square grows by, without biases.
    """
    return (1 + first / 2 * second) ** blocks


def show_4(device):
    print("\n4. A way around the layers")
    x, _ = digits(device)
    print("   start       blocks    values   gradients   theory")
    for name, kaiming, nv in [("nn.Linear", False, 1 / 3), ("Kaiming", True, 2)]:
        for blocks in [1, 20]:
            found = []
            for seed in range(5):
                found.append(growth(new_blocks(blocks, kaiming, seed, device), x))
            values, gradients = median(found)
            theory = blocks_in_theory(blocks, nv, nv)
            print(
                f"   {name:<9} {blocks:>8} {values:>9.3g} {gradients:>11.3g}"
                f" {theory:>8.3g}"
            )


# %% 5. The same digits, three networks
def residual_network(seed, device="cpu"):
    """Five blocks of two layers each, with nn.Linear's own start, and 10 logits."""
    torch.manual_seed(seed)
    blocks = [Block(64) for _ in range(5)]
    return nn.Sequential(*blocks, nn.Linear(64, 10)).to(device)


def train(model, x, y, steps):
    """The cross-entropy on all rows before each step, and after the last."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    with torch.no_grad():
        losses.append(F.cross_entropy(model(x), y).item())
    return losses


def three_losses(networks, x, y):
    """The last losses of three networks, the least first."""
    return sorted(train(model, x, y, 40)[-1] for model in networks)


def show_5(device):
    print("\n5. The same digits, three networks")
    x, y = digits(device)
    own = [new_network(10, False, seed, device) for seed in range(3)]
    kaiming = [new_network(10, True, seed, device) for seed in range(3)]
    residual = [residual_network(seed, device) for seed in range(3)]
    print("   loss after 40 steps       least   median   largest")
    for name, networks in [
        ("nn.Linear's own start", own),
        ("Kaiming's start", kaiming),
        ("blocks, nn.Linear's start", residual),
    ]:
        least, median_loss, largest = three_losses(networks, x, y)
        print(f"   {name:<26} {least:.2f} {median_loss:>8.2f} {largest:>9.2f}")
    share = torch.bincount(y) / len(y)
    print(f"   the same answer for all, at best {-(share * share.log()).sum():.2f}")


# %% 6. Mistake: a rate that kills a relu
# The model relu(w x) and y = 2 x at x = 1, 2, 3, 4. For a negative w each sum is below
# 0, each slope is 0, and so is the gradient.
def train_unit(w, lr, steps, negative_slope=0.0):
    """w before each step, and after the last; a leaky relu has a negative_slope."""
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    y = 2 * x
    w = torch.tensor(w, requires_grad=True)
    path = [w.item()]
    for _ in range(steps):
        prediction = F.leaky_relu(w * x, negative_slope)
        loss = ((prediction - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
        path.append(w.item())
    return path


def show_6(device):
    print("\n6. Mistake: a rate that kills a relu")
    large = train_unit(0.3, lr=0.2, steps=200)
    small = train_unit(0.3, lr=0.1, steps=200)
    later = train_unit(-4.8, lr=0.1, steps=200)
    leaky = train_unit(-4.8, lr=0.1, steps=200, negative_slope=0.01)
    print("   step   relu 0.2   relu 0.1   dead, 0.1   leaky, 0.1")
    for step in [0, 1, 2, 3, 100, 200]:
        print(
            f"   {step:>4} {large[step]:>10.2f} {small[step]:>10.2f}"
            f" {later[step]:>11.2f} {leaky[step]:>12.2f}"
        )


# %% 7. Which activation to take
def slope(activation, z):
    """f'(z) by autograd at the number z."""
    z = torch.tensor(z, requires_grad=True)
    activation(z).backward()
    return z.grad.item()


def show_7(device):
    print("\n7. Which activation to take")
    x, _ = digits(device)
    print("   activation   slope at -3     at 0     at 3   n v   gradient left")
    for activation, nv in [
        (torch.sigmoid, 1),
        (torch.tanh, 1),
        (torch.relu, 2),
        (F.leaky_relu, 2),
        (F.gelu, 2),
    ]:
        gradients = []
        for seed in range(5):
            gradients.append(random_layers(x, 10, nv, seed, activation)[1])
        print(
            f"   {activation.__name__:<10} {slope(activation, -3.0):>13.3f}"
            f" {slope(activation, 0.0):>8.3f} {slope(activation, 3.0):>8.3f}"
            f" {nv:>5} {median(gradients):>15.1e}"
        )


# %% The picture
def figure(device="cpu"):
    """Sections 2 and 3: values in fifty layers, and by how much the digits differ."""
    from matplotlib.figure import Figure

    x, _ = digits(device)
    fig = Figure(figsize=(9, 4), layout="constrained")
    left, right = fig.subplots(1, 2)
    layers = range(1, 51)
    for nv, colour in [(4, "C3"), (2, "C2"), (1, "C0")]:
        for seed in range(5):
            squares, _ = random_layers(x, 50, nv, seed)
            left.semilogy(layers, squares, colour, alpha=0.5)
        theory = [layers_in_theory(layer, nv) for layer in layers]
        left.semilogy(layers, theory, "k--")
        left.plot([], [], colour, label=f"variance {nv} / n")
    left.legend()
    left.set(title="mean square of what comes out", xlabel="layer")
    depths = range(1, 11)
    for kaiming, label in [(False, "nn.Linear's own start"), (True, "Kaiming's start")]:
        networks = [new_network(10, kaiming, seed, device) for seed in range(5)]
        differ = median([differences(model, x) for model in networks])
        right.semilogy(depths, differ, "o-", label=label)
    right.set(title="by how much the digits differ", xlabel="layer")
    right.legend()
    return fig


# %% Run it
TITLE = "12 Activations and initialisation"
SECTIONS = [show_1, show_2, show_3, show_4, show_5, show_6, show_7]


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
