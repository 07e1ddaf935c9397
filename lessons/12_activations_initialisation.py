"""12 Activations and initialisation: what keeps a signal alive in fifty layers.

Each layer multiplies the size of what passes, and fifty factors are a power.
"""

import argparse
import math
import os
import sys

import torch
import torch.nn.functional as F
from torch import nn

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": F.gelu,
}
GAINS = {"gain 3": 3.0, "He": math.sqrt(2), "Xavier": 1.0}


# %% 1. Four activations and their slopes
# The backward pass multiplies by the slope in each layer (lesson 04). A slope that is
# rounded to 0 stops every gradient behind it.
def slope(activation, x):
    """f'(x) at each x, from autograd; for relu it is 0 at x = 0."""
    x = x.detach().clone().requires_grad_()
    activation(x).sum().backward()
    return x.grad


def show_1(device):
    print("\n1. Four activations and their slopes")
    x = torch.linspace(-5, 5, 1001, dtype=torch.float64, device=device)
    for name, activation in ACTIVATIONS.items():
        y = activation(x)
        slopes = slope(activation, x)
        print(
            f"   {name:<7}   f from {y.min():5.2f} to {y.max():4.2f}, "
            f"f' from {slopes.min():5.2f} to {slopes.max():4.2f}"
        )
    for dtype in (torch.float64, torch.float32):
        ten = torch.tensor([10.0], dtype=dtype, device=device)
        flat = slope(torch.tanh, ten).item()
        print(f"   tanh'(10) in {str(dtype).removeprefix('torch.')}: {flat:.1e}")


# %% 2. Without an activation, layers collapse into one
# W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2): again a linear layer.
def collapse(layers):
    """(W, b) of the one linear layer that equals these layers one after the other."""
    weight, bias = layers[0].weight, layers[0].bias
    for layer in layers[1:]:
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias
    return weight, bias


def show_2(device):
    print("\n2. Without an activation, layers collapse into one")
    layers = [nn.Linear(64, 32), nn.Linear(32, 16), nn.Linear(16, 10)]
    layers = [layer.double().to(device) for layer in layers]
    x = torch.ones(5, 64, dtype=torch.float64, device=device)
    weight, bias = collapse(layers)
    off = (nn.Sequential(*layers)(x) - (x @ weight.T + bias)).abs().max()
    before = sum(layer.weight.numel() + layer.bias.numel() for layer in layers)
    after = weight.numel() + bias.numel()
    print(f"   {before} parameters and {after} agree to 1e-12: {off < 1e-12}")


# %% 3. One recursion foretells fifty layers
# Independent weights of variance gain^2 / n make of n inputs with mean square q sums
# with mean square gain^2 q. Before the next layer the activation turns z into f(z).
def mean_square(activation, q):
    """E[f(z)^2] for z from N(0, q): f(z)^2 times the normal density, over a grid."""
    t = torch.linspace(-10, 10, 4001, dtype=torch.float64)
    density = torch.exp(-t.square() / 2) / math.sqrt(2 * math.pi)
    return torch.trapezoid(activation(math.sqrt(q) * t).square() * density, t).item()


def mean_square_in_theory(activation, gain, layers):
    """q after so many layers: gain^2 after the first, then gain^2 E[f(z)^2]."""
    q = gain**2
    for _ in range(layers - 1):
        q = gain**2 * mean_square(activation, q)
    return q


def mean_squares(activation, gain, layers, seed, width=128, device="cpu"):
    """The mean square of each layer's sums, (layers,), in a network without biases."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(32, width, generator=generator, dtype=torch.float64).to(device)
    found = []
    for layer in range(layers):
        weight = torch.randn(width, width, generator=generator).double().to(device)
        z = (activation(x) if layer else x) @ weight * gain / math.sqrt(width)
        found.append(z.square().mean())
        x = z
    return torch.stack(found)


def show_3(device):
    print("\n3. One recursion foretells fifty layers")
    for name, activation in ACTIVATIONS.items():
        print(f"   E[f(z)^2] of {name:<7}: {mean_square(activation, 1.0):.6f}")
    for name, gain in GAINS.items():
        last = []
        for seed in range(3):
            last.append(mean_squares(torch.relu, gain, 50, seed, device=device)[-1])
        theory = mean_square_in_theory(torch.relu, gain, 50)
        print(
            f"   {name}, relu: after 50 layers {min(last):.0e} to {max(last):.0e}, "
            f"theory {theory:.0e}"
        )
    q = mean_squares(torch.tanh, 1.0, 50, seed=0, device=device)[-1]
    theory = mean_square_in_theory(torch.tanh, 1.0, 50)
    print(f"   Xavier, tanh: {q:.4f}, theory {theory:.4f}")


# %% 4. What nn.Linear does by itself
# Weights and biases uniform within 1 / sqrt(n), so of variance 1 / (3 n). With relu
# each layer keeps about a sixth of what depends on the input; the biases, the same for
# all inputs, take over.
def deep(layers, seed, he=False, width=64, device="cpu"):
    """16 inputs, layers of width relu units, 2 logits; he: N(0, 2 / n), biases 0."""
    with torch.random.fork_rng(devices=[]):
        # layers draw from the global generator: let it be
        torch.default_generator.manual_seed(seed)
        parts = [nn.Linear(16, width)]
        for _ in range(layers - 1):
            parts += [nn.ReLU(), nn.Linear(width, width)]
        parts += [nn.ReLU(), nn.Linear(width, 2)]
        for layer in parts[::2] if he else []:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*parts).to(device)


def share_of_input(model, x):
    """The part of the outputs' mean square that differs between the rows of x."""
    z = model(x)
    return (z.var(dim=0, correction=0).mean() / z.square().mean()).item()


def signs(device="cpu", rows=256):
    """x, (rows, 16), from N(0, 1), and y, (rows,): 1 where x[:, 0] > 0, else 0."""
    x = torch.randn(rows, 16, generator=torch.Generator().manual_seed(0))
    return x.to(device), (x[:, 0] > 0).long().to(device)


def train(model, loss_function, optimizer, x, y, epochs):
    """The losses before each step of optimizer, one an epoch, on all of x and y."""
    model.train()
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [loss.item() for loss in losses]


def show_4(device):
    print("\n4. What nn.Linear does by itself")
    x, y = signs(device)
    for he in (False, True):
        shares = [share_of_input(deep(n, 0, he, device=device), x) for n in (1, 5, 10)]
        rounded = [f"{share:.0e}" for share in shares]
        print(f"   he={he!s:<5}   1, 5, 10 layers: share", *rounded)
        model = deep(20, 0, he, device=device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        loss = train(model, nn.CrossEntropyLoss(), optimizer, x, y, epochs=20)[-1]
        print(
            f"   he={he!s:<5}   20 layers, 20 steps: loss {loss:.2f}, "
            f"log 2 is {math.log(2):.2f}"
        )


# %% 5. A residual block adds to its input
# x + s W2 relu(W1 x): the mean square grows by 1 + s^2 in each block, where W1 has
# variance 2 / n and W2 1 / n. The gradient too has a way that passes no weight at all.
def residual_growth(blocks, s, seed, width=128, device="cpu"):
    """(mean square of the outputs) / (that of the inputs) of so many random blocks."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(32, width, generator=generator, dtype=torch.float64).to(device)
    start = x.square().mean()
    for _ in range(blocks):
        weights = torch.randn(2, width, width, generator=generator)
        first, second = weights.double().to(device)
        hidden = torch.relu(x @ first * math.sqrt(2 / width))
        x = x + s * hidden @ second / math.sqrt(width)
    return (x.square().mean() / start).item()


def growth_in_theory(blocks, s):
    """(1 + s^2)^blocks, the mean of residual_growth over all networks."""
    return (1 + s**2) ** blocks


def show_5(device):
    print("\n5. A residual block adds to its input")
    for name, s in (("1", 1.0), ("1 / sqrt(50)", math.sqrt(1 / 50)), ("0", 0.0)):
        growth = residual_growth(50, s, seed=0, device=device)
        theory = growth_in_theory(50, s)
        print(f"   s = {name}: 50 blocks multiply by {growth:.1e}, theory {theory:.1e}")


# %% 6. Mistake: a learning rate that kills a relu
# y = 2 x at x = 1, 2, 3, 4 (lesson 05), and the model relu(w x). One step too far, and
# the sum is below 0 for every sample: slope 0, for ever. A leaky relu keeps a slope of
# 0.01 there.
def path(negative_slope, w, lr, steps):
    """[(w, loss), ...] before each step of descent on mean((leaky_relu(w x) - y)^2)."""
    x = torch.arange(1.0, 5.0, dtype=torch.float64)
    w = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    found = []
    for _ in range(steps):
        loss = F.mse_loss(F.leaky_relu(w * x, negative_slope), 2 * x)
        found.append((w.item(), loss.item()))
        [gradient] = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w -= lr * gradient
    return found


def steps_back_in_theory(w, lr, negative_slope):
    """Steps until w > 0 by w' = w - 15 lr a (a w - 2): 2 / a - w falls by a factor."""
    factor = 1 - 15 * lr * negative_slope**2
    return math.log((2 / negative_slope) / (2 / negative_slope - w)) / math.log(factor)


def show_6(device):
    print("\n6. Mistake: a learning rate that kills a relu")
    for step, (w, loss) in enumerate(path(0.0, w=0.3, lr=0.2, steps=5)):
        print(f"   relu, lr 0.2, step {step}: w {w:6.3f}, loss {loss:8.3f}")
    back = [w > 0 for w, _ in path(0.01, w=-4.8, lr=1 / 15, steps=300)].index(True)
    theory = steps_back_in_theory(-4.8, 1 / 15, 0.01)
    print(
        f"   leaky relu from w -4.8, lr 1/15: above 0 at step {back}, "
        f"theory {theory:.2f}"
    )


# %% The picture
def figure(device="cpu"):
    """The mean square in fifty layers, theory dashed, and the share of the inputs."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 4), layout="constrained")
    size, share = fig.subplots(1, 2)
    for name, gain in GAINS.items():
        for seed in range(5):
            q = mean_squares(torch.relu, gain, 50, seed, device=device)
            size.semilogy(q.cpu(), alpha=0.5)
        steps = range(0, 50, 7)
        theory = [mean_square_in_theory(torch.relu, gain, n + 1) for n in steps]
        size.semilogy(steps, theory, "k--")
        text = f"{name}, theory {theory[-1]:.0e}"
        size.annotate(text, (39, 9 * theory[-1]), ha="right")
    x, _ = signs(device)
    depths = range(1, 11)
    for he, label in ((False, "nn.Linear's own"), (True, "He")):
        shares = [share_of_input(deep(n, 0, he, device=device), x) for n in depths]
        share.semilogy(depths, shares, marker="o", label=label)
    size.set(title="mean square of the sums", xlabel="layer", ylim=(1e-18, 1e37))
    share.set(title="share that depends on the input", xlabel="layers")
    share.legend()
    return fig


# %% Run it
TITLE = "12 Activations and initialisation"
SECTIONS = [show_1, show_2, show_3, show_4, show_5, show_6]


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
