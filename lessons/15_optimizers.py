"""15 Optimizers: which step shall it take?

Plain gradient descent, momentum and Adam go down one valley. Then the rate changes as
training goes on, is found by a test, and long steps are made shorter.
"""

import argparse
import functools
import math
import os
import sys
from pathlib import Path

import numpy as np
import torch
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


@functools.cache
def digits(device):
    """800 pictures x, (800, 64), and which digits they show, y, (800,)."""
    table = torch.from_numpy(read_csv("digits.csv", 1797, 65))
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    rows = table[order[:800]].to(device)
    return rows[:, 1:] / 16, rows[:, 0].long()


# %% 1. Three optimizers in one valley
# The valley is 100 times as steep across, along v, as along u. Plain gradient descent
# has one rate for both.
def valley(point):
    """The loss (u^2 + 100 v^2) / 2 at a point (u, v), or at each row of points."""
    return (point[..., 0] ** 2 + 100 * point[..., 1] ** 2) / 2


def walk(optimizer_class, options, steps, scale=1.0, device="cpu", start=1.0):
    """The points from u = v = start on, (steps + 1, 2), down scale times the valley."""
    point = torch.full((2,), start, dtype=torch.float64, device=device)
    point.requires_grad_()
    optimizer = optimizer_class([point], **options)
    points = [point.detach().clone()]
    for _ in range(steps):
        loss = scale * valley(point)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        points.append(point.detach().clone())
    return torch.stack(points)


SETTINGS = [
    ("SGD, lr 0.01", torch.optim.SGD, {"lr": 0.01}),
    ("SGD, lr 0.019", torch.optim.SGD, {"lr": 0.019}),
    ("SGD, lr 0.03, momentum 0.68", torch.optim.SGD, {"lr": 0.03, "momentum": 0.68}),
    ("Adam, lr 1", torch.optim.Adam, {"lr": 1.0}),
    ("Adam, lr 0.1", torch.optim.Adam, {"lr": 0.1}),
    ("Adam, lr 0.01", torch.optim.Adam, {"lr": 0.01}),
]


def steps_to(losses, tolerance):
    """The first step from which the losses stay at or below tolerance.

    It is len(losses) if there is none.
    """
    above = (losses > tolerance).nonzero().flatten().tolist()
    return above[-1] + 1 if above else 0


def show_1(device):
    print("\n1. Three optimizers in one valley")
    print("   steps until the loss stays at or below 0.01")
    for name, optimizer_class, options in SETTINGS:
        losses = valley(walk(optimizer_class, options, 210, device=device))
        steps = steps_to(losses, 0.01)
        print(f"   {name:<27}   {steps if steps <= 210 else 'more than 210'}")


# %% 2. The loss times 1000
# Adam divides by the size of the gradients, and so a factor of the loss drops out.
def show_2(device):
    print("\n2. The loss times 1000")
    print("   after 20 steps")
    for scale in [1, 1000]:
        points = walk(torch.optim.SGD, {"lr": 0.005}, 20, scale, device)
        u, v = points[-1].tolist()
        print(f"   SGD,  lr 0.005, loss times {scale:>4}   u {u:8.1e}   v {v:8.1e}")
    for scale in [1, 1000]:
        points = walk(torch.optim.Adam, {"lr": 0.1}, 20, scale, device)
        u, v = points[-1].tolist()
        print(f"   Adam, lr 0.1,   loss times {scale:>4}   u {u:8.4f}   v {v:8.4f}")


# %% 3. Weight decay, in Adam and in AdamW
# Here the loss pulls at nothing, its gradient is 0. Only the decay moves w.
def after_decay(optimizer_class, weight_decay, steps=3, device="cpu"):
    """w, from 10, after so many steps of lr 0.1 with a gradient of 0."""
    w = torch.tensor([10.0], dtype=torch.float64, device=device, requires_grad=True)
    optimizer = optimizer_class([w], lr=0.1, weight_decay=weight_decay)
    for _ in range(steps):
        w.grad = torch.zeros_like(w)
        optimizer.step()
    return w.item()


def decay_in_theory(weight_decay, steps=3):
    """10 (1 - 0.1 weight_decay)^steps: each step takes its share of what is left."""
    return 10 * (1 - 0.1 * weight_decay) ** steps


def show_3(device):
    print("\n3. Weight decay, in Adam and in AdamW")
    print("   weight_decay      SGD    AdamW   theory     Adam")
    for decay in [0.1, 0.01, 0.0001]:
        sgd = after_decay(torch.optim.SGD, decay, device=device)
        adamw = after_decay(torch.optim.AdamW, decay, device=device)
        adam = after_decay(torch.optim.Adam, decay, device=device)
        theory = decay_in_theory(decay)
        print(f"   {decay:<12} {sgd:8.4f} {adamw:8.4f} {theory:8.4f} {adam:8.4f}")


# %% 4. A scheduler counts its own steps
# StepLR multiplies the rate by 0.1 after every 30 of its steps, whatever a step is.
def learning_rates(epochs, batches, once_a_batch):
    """The rate at the start of each epoch, by StepLR from 0.1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    rates = []
    for _ in range(epochs):
        rates.append(scheduler.get_last_lr()[0])
        for _ in range(batches):
            optimizer.step()
            if once_a_batch:
                scheduler.step()
        if not once_a_batch:
            scheduler.step()
    return rates


def rate_after(numbers, mode):
    """The rate, 0.1 at first, when ReduceLROnPlateau has been told these numbers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode)
    for number in numbers:
        scheduler.step(number)
    return optimizer.param_groups[0]["lr"]


def show_4(device):
    print("\n4. A scheduler counts its own steps")
    print("   StepLR, 100 batches an epoch: the rate of epochs 1, 2 and 3")
    for name, once_a_batch in [("an epoch", False), ("a batch", True)]:
        first, second, third = learning_rates(3, 100, once_a_batch)
        print(f"   stepped once {name:<8}   {first:.0e}   {second:.0e}   {third:.0e}")
    accuracies = np.linspace(0.50, 0.94, 12).tolist()
    print("   ReduceLROnPlateau, told 12 accuracies, each better than the last")
    for mode in ["min", "max"]:
        print(f"   mode={mode!r}   lr {rate_after(accuracies, mode):.2f}")


# %% 5. Warm-up and a cosine
# A short climb, while Adam knows few gradients; then a long way down, without a jump.
def share_of_rate(step, warm_up, steps):
    """The share of lr for this step: up to 1 in warm_up steps, then half a cosine."""
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / (steps - warm_up)
    return (1 + math.cos(math.pi * progress)) / 2


def rates_of(make_scheduler, steps):
    """The rate of each step, from lr 0.1, and the one after the last."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = make_scheduler(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return [*rates, scheduler.get_last_lr()[0]]


def cosine(optimizer):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)


def warm_up_and_cosine(optimizer):
    def share(step):
        return share_of_rate(step, warm_up=10, steps=100)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def show_5(device):
    print("\n5. Warm-up and a cosine")
    built_in = rates_of(cosine, 100)
    warmed = rates_of(warm_up_and_cosine, 100)
    print("   step   cosine   formula   with a warm-up of 10 steps")
    for step in [0, 4, 9, 25, 50, 75, 100]:
        formula = 0.05 * (1 + math.cos(math.pi * step / 100))
        rates = f"{built_in[step]:.4f}   {formula:.4f}    {warmed[step]:.4f}"
        print(f"   {step:>4}   {rates}")


# %% 6. How far the rate may go with momentum
# The loss 7.5 w^2 has the curvature 15. Plain gradient descent comes to 0 below 2 / 15.
def rate_limit(curvature, momentum, nesterov=False):
    """The rate below which SGD comes to the minimum of curvature w^2 / 2."""
    if nesterov:
        return 2 / curvature * (1 + momentum) / (1 + 2 * momentum)
    return 2 / curvature * (1 + momentum)


def distance(lr, momentum, nesterov=False, steps=300, device="cpu"):
    """|w| after so many steps on 7.5 w^2, from w = 1."""
    w = torch.ones(1, dtype=torch.float64, device=device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=lr, momentum=momentum, nesterov=nesterov)
    for _ in range(steps):
        loss = (7.5 * w**2).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return w.abs().item()


def show_6(device):
    print("\n6. How far the rate may go with momentum")
    kinds = [("plain", 0.0, False), ("momentum", 0.9, False), ("nesterov", 0.9, True)]
    for name, momentum, nesterov in kinds:
        limit = rate_limit(15, momentum, nesterov)
        print(f"   {name:<8}   limit in theory {limit:.4f}")
        for factor in [0.99, 1.01]:
            found = distance(factor * limit, momentum, nesterov, device=device)
            print(f"   {name:<8}   at {factor} of it   |w| {found:.0e}")


# %% 7. A range test finds a rate
# One short training whose rate grows at each step, from far too small to far too large.
def train_at(rates, loss_function, parameters):
    """The losses before each step of SGD, each at its rate, and at the end."""
    optimizer = torch.optim.SGD(parameters, lr=rates[0])
    losses = []
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_function()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return np.array([*losses, loss_function().item()])


def digits_losses(rates, seed=0, device="cpu"):
    """The same for a fresh network and all the digits in each step."""
    x, y = digits(device)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    model.to(device, torch.float64)

    def loss_function():
        return nn.functional.cross_entropy(model(x), y)

    return train_at(rates, loss_function, model.parameters())


def show_7(device):
    print("\n7. A range test finds a rate")
    rates = np.geomspace(1e-4, 100, 121)
    w = torch.ones(1, dtype=torch.float64, device=device, requires_grad=True)
    losses = train_at(rates, lambda: (7.5 * w**2).sum(), [w])
    first = (np.diff(losses) > 0).argmax()
    print(f"   7.5 w^2   falls at {rates[first - 1]:.3f}, climbs at {rates[first]:.3f}")
    print(f"   7.5 w^2   limit in theory {rate_limit(15, 0):.3f}")
    losses = digits_losses(rates, device=device)
    lowest = rates[losses.argmin()]
    print(f"   digits    {losses[0]:.2f} at first, lowest at {lowest:.2f}")
    for rate in [0.001, 0.8, 16]:
        loss = digits_losses(100 * [rate], device=device)[-1]
        print(f"   digits    a fresh network, 100 steps at {rate:>5}   {loss:.2f}")


# %% 8. Clipping, by norm and by number
# By norm the gradient gets shorter and keeps its direction; by number it turns.
def clipped(gradient, by_norm):
    """The gradient as clip_grad_norm_ leaves it, or clip_grad_value_, with bound 1."""
    w = torch.zeros_like(gradient, requires_grad=True)
    w.grad = gradient.clone()
    if by_norm:
        nn.utils.clip_grad_norm_([w], 1.0)
    else:
        nn.utils.clip_grad_value_([w], 1.0)
    return w.grad


def losses_on_a_wall(clip, steps, device="cpu"):
    """The loss w^4 / 4 before each step of lr 0.5 from w = 3.

    clip: "never", or "before step()" or "after step()", to the norm 1.
    """
    w = torch.tensor([3.0], dtype=torch.float64, device=device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.5)
    losses = []
    for _ in range(steps):
        loss = (w**4 / 4).sum()
        loss.backward()
        if clip == "before step()":
            nn.utils.clip_grad_norm_([w], 1.0)
        optimizer.step()
        if clip == "after step()":  # WRONG: the step is taken
            nn.utils.clip_grad_norm_([w], 1.0)
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def show_8(device):
    print("\n8. Clipping, by norm and by number")
    gradient = torch.tensor([3.0, 0.4], dtype=torch.float64, device=device)
    for name, by_norm in [("norm", True), ("number", False)]:
        first, second = clipped(gradient, by_norm).tolist()
        print(f"   (3, 0.4) clipped by {name:<6}   ({first:.4f}, {second:.4f})")
    for clip in ["never", "after step()", "before step()"]:
        losses = losses_on_a_wall(clip, 5, device)
        shown = "".join(f"   {loss:.1e}" for loss in losses)
        print(f"   clipped {clip:<13}{shown}")


# %% The picture
def figure(device="cpu"):
    """Left: the losses in the valley. Right: the range test on the digits."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = fig.subplots(1, 2)
    for name, optimizer_class, options in SETTINGS:
        points = walk(optimizer_class, options, 210, device=device)
        left.semilogy(valley(points).cpu(), label=name)
    left.axhline(0.01, color="gray", ls=":")
    left.set(title="in the valley", xlabel="step", ylabel="loss", ylim=(1e-6, 1e6))
    left.legend(loc="upper right", ncols=2, fontsize="small")
    rates = np.geomspace(1e-4, 100, 121)
    losses = digits_losses(rates, device=device)
    right.semilogx(rates, losses[:-1])
    right.set(title="range test on the digits", xlabel="rate", ylim=(0, 5))
    return fig


# %% Run it
TITLE = "15 Optimizers"
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
