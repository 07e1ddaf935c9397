"""07 Linear regression: the line that a laboratory has certified.

36 readings of a customer's ozone monitor, y, against NIST's, x. The least-squares line
y = slope x + intercept through them is known to 15 digits (NIST Statistical Reference
Datasets, "Norris").
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DATA = Path(__file__).resolve().parent.parent / "data"
CERTIFIED = {
    "slope": 1.00211681802045,
    "intercept": -0.262323073774029,
    "slope error": 0.429796848199937e-03,
    "intercept error": 0.232818234301152,
    "residual std": 0.884796396144373,
    "R-squared": 0.999993745883712,
}


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


def norris(device="cpu"):
    """x and y, shape (36,), in NIST's units, float64."""
    y, x = torch.from_numpy(read_csv("norris.csv", 36, 2)).to(device).T
    return x, y


# %% 1. The best line has a formula
# Where the mean of the squares is smallest, its two slopes are 0: the residuals sum to
# 0, and so do their products with x. These two equations give the line.
def line_by_hand(x, y):
    """(slope, intercept) of the line with the smallest squares, x and y (n,)."""
    dx = x - x.mean()
    dy = y - y.mean()
    slope = (dx * dy).sum() / (dx**2).sum()
    intercept = y.mean() - slope * x.mean()
    return slope, intercept


def with_ones(x):
    """A (n, 2): a column of x for the slope and one of ones for the intercept."""
    return torch.stack([x, torch.ones_like(x)], dim=1)


def line_by_lstsq(x, y):
    """The same by PyTorch: the theta (2, 1) that makes |A theta - y| smallest."""
    theta = torch.linalg.lstsq(with_ones(x), y[:, None]).solution
    return theta[0, 0], theta[1, 0]


def show_1(device):
    print("\n1. The best line has a formula")
    x, y = norris(device)
    print("               slope              intercept")
    slope, intercept = line_by_hand(x, y)
    print(f"   by hand     {slope:.11f}      {intercept:.10f}")
    slope, intercept = line_by_lstsq(x, y)
    print(f"   lstsq       {slope:.11f}      {intercept:.10f}")
    print(f"   certified   {CERTIFIED['slope']}   {CERTIFIED['intercept']}")


# %% 2. What the line leaves over
# Two numbers were fitted, so two points would leave nothing over: n - 2, and not n.
def residual_std(p, y):
    """root(sum((y - p)^2) / (n - 2)) for the predictions p of a line, p and y (n,)."""
    squares = ((y - p) ** 2).sum()
    return (squares / (len(y) - 2)).sqrt()


def r_squared(p, y):
    """1 - sum((y - p)^2) / sum((y - mean y)^2): 1 at best, p and y of shape (n,)."""
    return 1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum()


def show_2(device):
    print("\n2. What the line leaves over")
    x, y = norris(device)
    slope, intercept = line_by_hand(x, y)
    p = slope * x + intercept
    print(f"   residual std   {residual_std(p, y):.12f}")
    print(f"   certified      {CERTIFIED['residual std']}")
    print(f"   R-squared      {r_squared(p, y):.12f}")
    print(f"   certified      {CERTIFIED['R-squared']}")
    small = x < 1
    print(f"   readings with x below 1: {small.sum()}")
    print(f"   their R-squared, by the same line: {r_squared(p[small], y[small]):.2f}")


# %% 3. The loop on the raw readings
# The loop of lesson 06, and a formula of lesson 05 for more steps than one would wait
# for: H is the matrix of second derivatives, m the line with the smallest loss.
def train(x, y, lr, steps):
    """(slope, intercept, losses before each step) of nn.Linear from 0; x, y (n, 1)."""
    model = nn.Linear(1, 1).to(x.device, x.dtype)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    loss_function = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return model.weight.item(), model.bias.item(), losses


def hessian(x):
    """H (2, 2) of the loss mean((slope x + intercept - y)^2), x of shape (n,)."""
    return 2 * with_ones(x).T @ with_ones(x) / len(x)


def after_steps(x, y, lr, steps):
    """(slope, intercept) after steps from 0, none of them taken: m - (I - lr H)^k m."""
    factor = torch.eye(2, dtype=x.dtype, device=x.device) - lr * hessian(x)
    minimum = torch.stack(line_by_hand(x, y))
    line = minimum - torch.linalg.matrix_power(factor, steps) @ minimum
    return line[0], line[1]


def show_3(device):
    print("\n3. The loop on the raw readings")
    x, y = norris(device)
    x_rows = x[:, None].float()
    y_rows = y[:, None].float()
    slope, intercept, losses = train(x_rows, y_rows, lr=0.001, steps=30)
    for step in range(7):
        print(f"   lr 0.001   step {step}   loss {losses[step]:.1e}")
    print(f"   lr 0.001   after 30 steps   slope {slope}   intercept {intercept}")
    print("   lr 3e-6         slope   intercept   R-squared")
    for steps in [10, 100, 1000, 10_000, 100_000, 1_000_000, 2_000_000, 10_000_000]:
        slope, intercept = after_steps(x, y, lr=3e-6, steps=steps)
        quality = r_squared(slope * x + intercept, y)
        print(f"{steps:>12,} {slope:10.5f} {intercept:11.4f} {quality:11.5f}")


# %% 4. Standardise the readings
# z has the mean 0 and the mean square 1. So the curvature is 2 in every direction, and
# one step at lr 1/2 arrives.
def standardised(x):
    """(z, mean, std): z = (x - mean) / std, with the std that divides by n."""
    mean = x.mean()
    std = x.std(correction=0)
    return (x - mean) / std, mean, std


def curvatures(x):
    """(smallest, largest) curvature of the loss of a line, x of shape (n,)."""
    smallest, largest = torch.linalg.eigvalsh(hessian(x)).tolist()
    return smallest, largest


def in_units_of_the_data(slope, intercept, mean, std):
    """(slope, intercept) for x, from those for z = (x - mean) / std."""
    return slope / std, intercept - slope * mean / std


def show_4(device):
    print("\n4. Standardise the readings")
    x, y = norris(device)
    z, mean, std = standardised(x)
    print("         curvatures: smallest    largest   largest stable lr")
    smallest, largest = curvatures(x)
    print(f"   raw readings   {smallest:11.1f} {largest:10,.0f} {2 / largest:19.3e}")
    smallest, largest = curvatures(z)
    print(f"   standardised   {smallest:11.1f} {largest:10.1f} {2 / largest:19.1f}")
    for lr, steps in [(0.25, 5), (0.25, 40), (0.5, 1)]:
        slope, intercept, _ = train(z[:, None], y[:, None], lr, steps)
        slope, intercept = in_units_of_the_data(slope, intercept, mean, std)
        line = f"slope {slope:.7f}   intercept {intercept:.7f}"
        print(f"   lr {lr:.2f}   after {steps:>2} steps   {line}")


# %% 5. Mistake: predictions (n, 1) against targets (n,)
# Each prediction is compared with every target. What is left of the loss is
# var(p) + var(y) + (mean p - mean y)^2, and no x is in it.
def train_on_flat_targets(x, y, lr, steps):
    """(slope, intercept, loss before the last step) with x (n, 1), but y (n,)."""
    model = nn.Linear(1, 1).to(x.device, x.dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        loss = ((model(x) - y) ** 2).mean()  # WRONG: (n, 1) - (n,) is (n, n)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.weight.item(), model.bias.item(), loss.item()


def loss_of_all_pairs(p, y):
    """mean over i and j of (p_i - y_j)^2, from means and variances alone."""
    return p.var(correction=0) + y.var(correction=0) + (p.mean() - y.mean()) ** 2


def show_5(device):
    print("\n5. Mistake: predictions (n, 1) against targets (n,)")
    x, y = norris(device)
    z, _, std = standardised(x)
    slope, _, losses = train(z[:, None], y[:, None], lr=0.25, steps=40)
    print(f"   y (n, 1)   slope {slope / std:.4f}   loss {losses[-1]:11.4f}")
    torch.manual_seed(0)
    slope, intercept, loss = train_on_flat_targets(z[:, None], y, lr=0.25, steps=40)
    print(f"   y (n,)     slope {abs(slope / std):.4f}   loss {loss:11.4f}")
    print(f"   it predicts {intercept:.4f} for every x")
    print(f"   y: mean {y.mean():.4f}, variance {y.var(correction=0):.4f}")
    slope, intercept = line_by_hand(x, y)
    p = slope * x + intercept
    print("   R-squared of the certified line")
    print(f"   p (n,)     {r_squared(p, y):9.5f}")
    print(f"   p (n, 1)   {r_squared(p[:, None], y):9.5f}")
    squares = len(y) ** 2 * loss_of_all_pairs(p, y)
    spread = len(y) * y.var(correction=0)
    print(f"   in theory  {1 - squares / spread:9.5f}")


# %% 6. How sure is the intercept?
# The residual std says how far a reading lies from the line. Draw all readings anew
# with such noise, fit a line again, and see how far its numbers move.
def standard_errors(x, y):
    """The std of (slope, intercept): residual std * root(diagonal of (A^T A)^-1)."""
    slope, intercept = line_by_hand(x, y)
    a = with_ones(x)
    inverse = torch.linalg.inv(a.T @ a)
    return residual_std(slope * x + intercept, y) * inverse.diagonal().sqrt()


def lines_of_new_readings(x, y, times):
    """(2, times): slopes and intercepts, each of n readings with noise drawn anew."""
    slope, intercept = line_by_hand(x, y)
    p = slope * x + intercept
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(x), times, generator=generator, dtype=x.dtype).to(x.device)
    readings = p[:, None] + residual_std(p, y) * noise
    return torch.linalg.lstsq(with_ones(x), readings).solution


def show_6(device):
    print("\n6. How sure is the intercept?")
    x, y = norris(device)
    slopes, intercepts = lines_of_new_readings(x, y, times=10_000)
    slope_error, intercept_error = standard_errors(x, y)
    print("   the standard error of the slope")
    print(f"   std of 10,000 slopes       {slopes.std():.5f}")
    print(f"   by the formula             {slope_error:.14f}")
    print(f"   certified                  {CERTIFIED['slope error']}")
    print("   the standard error of the intercept")
    print(f"   std of 10,000 intercepts   {intercepts.std():.2f}")
    print(f"   by the formula             {intercept_error:.11f}")
    print(f"   certified                  {CERTIFIED['intercept error']}")
    _, intercept = line_by_hand(x, y)
    print(f"   the intercept in standard errors {intercept / intercept_error:.2f}")
    share = (intercepts > 0).double().mean()
    print(f"   share of the 10,000 intercepts above 0   {share:.2f}")


# %% 7. What float32 keeps
# The intercept is mean y - slope * mean x, the small difference of two large numbers.
def show_7(device):
    print("\n7. What float32 keeps")
    x, y = norris(device)
    slope, intercept = line_by_hand(x, y)
    first = y.mean()
    second = slope * x.mean()
    print("               mean of y      slope * mean of x   their difference")
    print(f"   float64     {first:.8f}   {second:.8f}        {first - second:.8f}")
    first = first.float()
    second = second.float()
    print(f"   float32     {first:.8f}   {second:.8f}        {first - second:.8f}")
    print(f"   certified   {'':<31}     {CERTIFIED['intercept']:.8f}")
    z, mean, std = standardised(x)
    for dtype in [torch.float32, torch.float64]:
        z_rows, y_rows = z[:, None].to(dtype), y[:, None].to(dtype)
        slope, intercept, _ = train(z_rows, y_rows, lr=0.25, steps=60)
        _, intercept = in_units_of_the_data(slope, intercept, mean, std)
        print(f"   the loop in {dtype}   intercept {intercept:.4f}")


# %% The picture
def figure(device="cpu"):
    """The intercept after each step, on the raw and on the standardised readings."""
    from matplotlib.figure import Figure

    x, y = norris(device)
    z, mean, std = standardised(x)
    raw = []
    standard = []
    steps = [round(10 ** (k / 10)) for k in range(76)]
    for step in steps:
        raw.append(after_steps(x, y, 3e-6, step)[1].item())
        slope, intercept = after_steps(z, y, 0.25, step)
        standard.append(in_units_of_the_data(slope, intercept, mean, std)[1].item())
    fig = Figure(figsize=(8, 3.5), layout="constrained")
    axes = fig.subplots()
    axes.axhline(CERTIFIED["intercept"], color="gray", ls=":", label="certified")
    axes.semilogx(steps, raw, label="raw readings, lr 3e-6")
    axes.semilogx(steps, standard, label="standardised, lr 0.25")
    axes.set(xlabel="steps", ylabel="intercept")
    axes.legend()
    return fig


# %% Run it
TITLE = "07 Linear regression"
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
