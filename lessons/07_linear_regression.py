"""07 Linear regression: NIST's certified line, which raw data hides from descent.

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
    "slope's standard error": 0.429796848199937e-03,
    "intercept's standard error": 0.232818234301152,
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


# %% 1. Least squares has a closed form: the certified line
# At the minimum the gradient 2 A^T (A theta - y) / n is 0: the normal equations. lstsq
# works on A itself, whose condition number is the root of that of A^T A: it rounds
# less.
def design(x):
    """A (n, 2): a column of x for the slope and one of ones for the intercept."""
    return torch.stack([x, torch.ones_like(x)], dim=1)


def by_normal_equations(x, y):
    """theta = (slope, intercept), shape (2,), from A^T A theta = A^T y."""
    a = design(x)
    return torch.linalg.solve(a.T @ a, a.T @ y)


def by_lstsq(x, y):
    """theta = (slope, intercept), shape (2,), that makes |A theta - y| smallest."""
    return torch.linalg.lstsq(design(x), y[:, None]).solution[:, 0]


def residual_std_and_r_squared(x, y, theta):
    """(residual std, by n - 2 degrees of freedom, R-squared) of a line theta."""
    squares = ((y - design(x) @ theta) ** 2).sum()
    spread = ((y - y.mean()) ** 2).sum()
    return (squares / (len(x) - 2)).sqrt().item(), (1 - squares / spread).item()


def standard_errors(x, y, theta):
    """residual_std * sqrt(diagonal of (A^T A)^-1): how far chance may move theta."""
    residual_std, _ = residual_std_and_r_squared(x, y, theta)
    a = design(x)
    return residual_std * torch.linalg.inv(a.T @ a).diagonal().sqrt()


def relative_errors(theta):
    """|found - certified| / |certified| of slope and intercept."""
    certified = CERTIFIED["slope"], CERTIFIED["intercept"]
    return [abs((t - c) / c) for t, c in zip(theta.tolist(), certified, strict=True)]


def show_1(device):
    print("\n1. Least squares has a closed form: the certified line")
    x, y = norris(device)
    print(f"   {'':<16}   {'slope':<18}   intercept")
    print(f"   {'certified':<16}   {CERTIFIED['slope']:<18}   {CERTIFIED['intercept']}")
    for name, solve in (("normal equations", by_normal_equations), ("lstsq", by_lstsq)):
        theta = solve(x, y)
        print(f"   {name:<16}   {theta[0]:<18.11f}   {theta[1]:.10f}")
        print(f"   {'':<16}   agrees to 1e-9: {max(relative_errors(theta)) < 1e-9}")
    errors = standard_errors(x, y, theta)
    print(f"   standard errors    {errors[0]:<18.11f}   {errors[1]:.10f}")
    slope_error = CERTIFIED["slope's standard error"]
    intercept_error = CERTIFIED["intercept's standard error"]
    print(f"   {'certified':<16}   {slope_error:<18.15f}   {intercept_error}")
    residual_std, r_squared = residual_std_and_r_squared(x, y, theta)
    certified = CERTIFIED["residual std"]
    print(f"   residual std {residual_std:.12f}   certified {certified}")
    print(f"   R-squared    {r_squared:.12f}   certified {CERTIFIED['R-squared']}")


# %% 2. Gradient descent on the raw data cannot find the intercept
# The loss is a long narrow valley: its floor is curved far less than its walls, and the
# walls set the learning rate.
def bowl(x, y):
    """H (2, 2) and g (2,): the gradient of mean((A theta - y)^2) is H theta - g."""
    a = design(x)
    return 2 * a.T @ a / len(x), 2 * a.T @ y / len(x)


def limit_and_condition(h):
    """(largest stable learning rate 2 / lambda_max, lambda_max / lambda_min)."""
    smallest, largest = torch.linalg.eigvalsh(h).tolist()
    return 2 / largest, largest / smallest


def descend(x, y, lr, steps):
    """theta after so many steps of gradient descent from zeros."""
    h, g = bowl(x, y)
    theta = torch.zeros_like(g)
    for _ in range(steps):
        theta = theta - lr * (h @ theta - g)
    return theta


def show_2(device):
    print("\n2. Gradient descent on the raw data cannot find the intercept")
    x, y = norris(device)
    limit, condition = limit_and_condition(bowl(x, y)[0])
    of_a = condition**0.5
    print(f"   condition number of the Hessian {condition:,.0f}, of A {of_a:.2f}")
    print(f"   largest stable lr {limit:.3e}")
    for steps in (5, 20, 10_000):
        slope, intercept = descend(x, y, 0.9 * limit, steps)
        line = f"slope {slope:.5f}, intercept {intercept:.3f}"
        print(f"   {steps:>6,} steps at 0.9 of it: {line}")


# %% 3. Standardise x: the valley becomes a round bowl
# With mean 0 and mean square 1 the bowl's H is 2 I: its condition number is 1, and one
# step at lr 1/2 arrives.
def standardised(x):
    """z = (x - mean) / std, the mean and the std (divided by n, not n - 1)."""
    mean, std = x.mean(), x.std(correction=0)
    return (x - mean) / std, mean, std


def in_units_of_the_data(theta, mean, std):
    """(slope, intercept) for x, from those for z = (x - mean) / std."""
    slope = theta[0] / std
    return torch.stack([slope, theta[1] - slope * mean])


def show_3(device):
    print("\n3. Standardise x: the valley becomes a round bowl")
    x, y = norris(device)
    z, mean, std = standardised(x)
    limit, condition = limit_and_condition(bowl(z, y)[0])
    print(f"   condition number {condition:.3f}, largest stable lr {limit:.3f}")
    for lr, steps in ((0.25, 40), (0.5, 1)):
        theta = in_units_of_the_data(descend(z, y, lr, steps), mean, std)
        line = f"slope {theta[0]:.7f}, intercept {theta[1]:.7f}"
        close = max(relative_errors(theta)) < 1e-8
        print(f"   lr {lr:.2f}, steps {steps:>2}: {line}, to 1e-8: {close}")


# %% 4. The pipeline gets there in float32, to float32's precision
# Linear, MSELoss and SGD are the model, the loss and the update that we wrote by hand.
# float32 rounds to 6e-8 of a number. The intercept is the small difference of two large
# ones, the mean of y and slope * the mean of x, so that the rounding of these weighs
# much more.
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


def fit(x, y, loss_function, dtype=torch.float64):
    """(theta, losses) by 60 epochs of SGD, lr 1/4, from zeros on standardised x."""
    z, mean, std = standardised(x)
    model = nn.Linear(1, 1, device=x.device, dtype=dtype)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    z, y = z[:, None].to(dtype), y.to(dtype)
    losses = train(model, loss_function, optimizer, z, y, epochs=60)
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    return in_units_of_the_data(theta.double(), mean, std), losses


def show_4(device):
    print("\n4. The pipeline gets there in float32, to float32's precision")
    x, y = norris(device)
    for dtype, digits in ((torch.float32, 4), (torch.float64, 11)):
        theta, _ = fit(x, y[:, None], nn.MSELoss(), dtype)
        line = f"slope {theta[0]:z.{digits}f}, intercept {theta[1]:.{digits}f}"
        print(f"   {dtype}   {line}")
    slope, _ = by_lstsq(x, y)
    difference = f"{y.mean():.4f} - {slope * x.mean():.4f}"
    print(f"   the intercept is {difference}, mean y - slope * mean x")


# %% 5. Mistake: predictions (n, 1) against targets (n,)
# The difference broadcasts to (n, n): every prediction is pulled towards every target.
# MSELoss warns of it; a loss by hand is silent.
def squared_error(p, y):
    """mean((p - y)^2), which does not look at the shapes."""
    return ((p - y) ** 2).mean()


def broadcast_loss(p, y):
    """var(p) + var(y) + (mean p - mean y)^2: what the loss silently becomes."""
    return p.var(correction=0) + y.var(correction=0) + (p.mean() - y.mean()) ** 2


def show_5(device):
    print("\n5. Mistake: predictions (n, 1) against targets (n,)")
    x, y = norris(device)
    for name, target in (("(n, 1)", y[:, None]), ("(n,)", y)):
        (slope, intercept), losses = fit(x, target, squared_error)
        line = f"slope {slope:z.4f}, intercept {intercept:.4f}"
        print(f"   targets {name:<6}   {line}, loss {losses[-1]:.4f}")
    # the best that a loss over all pairs can ask for
    constant = y.mean().expand(len(y))
    line = f"slope 0, intercept mean y {y.mean():.4f}"
    print(f"   theory for (n,)  {line}, loss var y {broadcast_loss(constant, y):.4f}")
    loss = squared_error(x[:, None], y)
    print(f"   the loss of the predictions p = x, (n, 1), {loss:.4f}")
    print(f"   var p + var y + (mean p - mean y)^2        {broadcast_loss(x, y):.4f}")


# %% 6. Mistake: a learning rate that "always works" on features that are not scaled
# Each step multiplies the error along the steepest direction by 1 - lr lambda_max.
def step_ratio(x, y, lr, steps):
    """|last step| / |step before it|, after so many steps."""
    before = descend(x, y, lr, steps - 2)
    middle = descend(x, y, lr, steps - 1)
    after = descend(x, y, lr, steps)
    return ((after - middle).norm() / (middle - before).norm()).item()


def step_ratio_in_theory(x, y, lr):
    """|1 - lr lambda_max|, by how much the steepest direction grows at each step."""
    limit, _ = limit_and_condition(bowl(x, y)[0])
    return abs(1 - lr * 2 / limit)


def show_6(device):
    print(
        '\n6. Mistake: a learning rate that "always works" '
        "on features that are not scaled"
    )
    x, y = norris(device)
    lr = 0.01
    ratio = step_ratio(x, y, lr, 5)
    print(f"   at lr {lr} each step is {ratio:.2f} times as long as the last")
    print(f"   theory: |1 - lr lambda_max| = {step_ratio_in_theory(x, y, lr):.2f}")
    print(f"   finite after 100 steps: {descend(x, y, lr, 100).isfinite().all()}")


# %% 7. Mistake: stopping when the line looks right
# R-squared is satisfied long before the intercept has moved. How much that matters is
# for the standard error to say: here 0 is little more than one of them away from the
# certified value.
def quality_when_stopped(x, y, lr, steps):
    """(R-squared, relative error of the intercept) of descend after so many steps."""
    theta = descend(x, y, lr, steps)
    return residual_std_and_r_squared(x, y, theta)[1], relative_errors(theta)[1]


def largest_change(x, theta, other):
    """The largest difference of the predictions of two lines at the points x (n,)."""
    return (design(x) @ (theta - other)).abs().max().item()


def show_7(device):
    print("\n7. Mistake: stopping when the line looks right")
    x, y = norris(device)
    limit, _ = limit_and_condition(bowl(x, y)[0])
    for steps in (100, 1000, 10_000):
        r_squared, error = quality_when_stopped(x, y, 0.9 * limit, steps)
        change = largest_change(x, descend(x, y, 0.9 * limit, steps), by_lstsq(x, y))
        wrong = f"intercept wrong by {error:.0%}, line by {change:.2f}"
        print(f"   {steps:>6,} steps: R-squared {r_squared:.5f}, {wrong}")
    theta = by_lstsq(x, y)
    distance = theta[1].abs() / standard_errors(x, y, theta)[1]
    print(f"   0 is {distance:.2f} standard errors away from the intercept")


# %% The picture
def figure(device="cpu"):
    """The data with the least-squares line, and the residuals below it."""
    from matplotlib.figure import Figure

    x, y = norris(device)
    slope, intercept = by_lstsq(x, y).tolist()
    x, y = x.cpu(), y.cpu()
    line, ends = slope * x + intercept, np.array([0, 1000])
    fig = Figure(figsize=(7, 5.5), layout="constrained")
    above, below = fig.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    label = f"y = {slope:.5f} x - {-intercept:.5f}"
    above.plot(ends, slope * ends + intercept, color="tab:orange", label=label)
    above.plot(x, y, "o", markersize=4, color="tab:blue", label="36 readings")
    above.set(title="Norris: calibration of an ozone monitor")
    above.set(ylabel="customer's reading y")
    above.legend()
    below.axhline(0, color="tab:orange")
    below.plot(x, y - line, "o", markersize=4, color="tab:blue")
    below.set(xlabel="NIST's reading x", ylabel="residual")
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
