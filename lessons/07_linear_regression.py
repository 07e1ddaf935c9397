"""07 Linear regression: NIST's certified line, and why the raw data hides it from descent.

36 readings of a customer's ozone monitor, y, against NIST's, x. The least-squares line
y = slope x + intercept through them is known to 15 digits (NIST Statistical Reference
Datasets, "Norris").
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DATA = Path(__file__).resolve().parent.parent / "data"
CERTIFIED = {
    "slope": 1.00211681802045,
    "intercept": -0.262323073774029,
    "residual deviation": 0.884796396144373,
    "R-squared": 0.999993745883712,
}


def read_csv(name, header, rows):
    """data/name as an array, shape (rows, columns), float64; a file that is not so ends the run."""
    path, columns = DATA / name, header.count(",") + 1
    try:
        first, *lines = path.read_text("ascii").split("\n")
        if first != header or len(lines) != rows + 1 or lines[-1]:
            raise ValueError(f"it starts with {first!r:.40} and has {len(lines)} line ends")
        table = np.array([line.split(",") for line in lines[:-1]], dtype=float)
        if table.shape != (rows, columns) or not np.isfinite(table).all():
            raise ValueError("a row has another length or a number is not finite")
    except (OSError, ValueError) as error:
        expected = f"expected the header {header!r:.40} and {rows} rows of {columns} numbers"
        cure = "put the course's own copy back (git checkout data)"
        raise SystemExit(f"{path}: {expected}, but {error}; {cure}") from None
    return table


def norris(device="cpu"):
    """x and y, shape (36,), in NIST's units, float64."""
    y, x = torch.from_numpy(read_csv("norris.csv", "y,x", 36)).to(device).T
    return x, y


# %% 1. Least squares has a closed form: the certified line
# The residuals of the best line are orthogonal to the columns of A: the normal equations.
# lstsq works on A itself, whose condition number is 855; that of A^T A is 855^2 = 731,407.
def design(x):
    """A, shape (n, 2): a column of x for the slope and one of ones for the intercept."""
    return torch.stack([x, torch.ones_like(x)], dim=1)


def by_normal_equations(x, y):
    """theta = (slope, intercept), shape (2,), from A^T A theta = A^T y."""
    a = design(x)
    return torch.linalg.solve(a.T @ a, a.T @ y)


def by_lstsq(x, y):
    """theta = (slope, intercept), shape (2,), that makes |A theta - y| smallest."""
    return torch.linalg.lstsq(design(x), y[:, None]).solution[:, 0]


def quality(x, y, theta):
    """(residual deviation with n - 2 degrees of freedom, R-squared) of the line theta."""
    squares = ((y - design(x) @ theta) ** 2).sum()
    spread = ((y - y.mean()) ** 2).sum()
    return (squares / (len(x) - 2)).sqrt().item(), (1 - squares / spread).item()


def relative_errors(theta):
    """|found - certified| / |certified| of slope and intercept."""
    certified = CERTIFIED["slope"], CERTIFIED["intercept"]
    return [abs((t - c) / c) for t, c in zip(theta.tolist(), certified, strict=True)]


# %% 2. Gradient descent on the raw data cannot find the intercept
# The loss is a long narrow valley: its floor falls 731,407 times less than its walls, and
# the walls set the learning rate.
def bowl(x, y):
    """The Hessian H (2, 2) and g (2,): the gradient of mean((A theta - y)^2) is H theta - g."""
    a = design(x)
    return 2 * a.T @ a / len(x), 2 * a.T @ y / len(x)


def limit_and_condition(h):
    """(largest stable learning rate 2 / lambda_max, lambda_max / lambda_min) of a Hessian h."""
    smallest, largest = torch.linalg.eigvalsh(h).tolist()
    return 2 / largest, largest / smallest


def descend(x, y, lr, steps):
    """theta after so many steps of gradient descent from zeros."""
    h, g = bowl(x, y)
    theta = torch.zeros_like(g)
    for _ in range(steps):
        theta = theta - lr * (h @ theta - g)
    return theta


# %% 3. Standardise x: the valley becomes a round bowl
# With mean 0 and mean square 1 the bowl's H is 2 I: condition number 1, one step at lr 1/2.
def standardised(x):
    """z = (x - mean) / deviation, the mean and the deviation (divided by n, not n - 1)."""
    mean, deviation = x.mean(), x.std(correction=0)
    return (x - mean) / deviation, mean, deviation


def in_units_of_the_data(theta, mean, deviation):
    """(slope, intercept) for x, from those for z = (x - mean) / deviation."""
    slope = theta[0] / deviation
    return torch.stack([slope, theta[1] - slope * mean])


# %% 4. The pipeline gets there in float32, to float32's precision
# Linear, MSELoss and SGD are the model, the loss and the update that we wrote by hand.
# float32 rounds to 6e-8 of a number. The intercept is a small difference of two numbers near
# 420, so that rounding weighs 420 / 0.26 = 1600 times as much: 1e-4. float64 rounds to 1e-16.
def train(model, loss_function, optimizer, x, y, epochs):
    """The losses before each step of optimizer, one step an epoch, on all of x and y."""
    losses = []
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def fit(x, y, loss_function, dtype=torch.float64):
    """(theta, losses) by 60 epochs of SGD at lr 1/4 from zeros on standardised x, in dtype."""
    z, mean, deviation = standardised(x)
    model = torch.nn.Linear(1, 1, device=x.device, dtype=dtype)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    losses = train(model, loss_function, optimizer, z[:, None].to(dtype), y.to(dtype), epochs=60)
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    return in_units_of_the_data(theta.double(), mean, deviation), losses


# %% 5. Mistake: predictions (n, 1) against targets (n,)
# The difference broadcasts to (n, n): every prediction is pulled towards every target.
# MSELoss warns of it; a loss by hand is silent.
def squared_error(p, y):
    """mean((p - y)^2), which does not look at the shapes."""
    return ((p - y) ** 2).mean()


def decomposed(p, y):
    """var(p) + var(y) + (mean p - mean y)^2: what the loss silently becomes."""
    return p.var(correction=0) + y.var(correction=0) + (p.mean() - y.mean()) ** 2


# %% 6. Mistake: a learning rate that "always works" on features that are not scaled
# Each step multiplies the error along the steepest direction by 1 - lr lambda_max.
def growth(x, y, lr, steps):
    """|last step| / |step before it|, after so many steps."""
    before, middle, after = (descend(x, y, lr, k) for k in (steps - 2, steps - 1, steps))
    return ((after - middle).norm() / (middle - before).norm()).item()


# %% 7. Mistake: stopping when the line looks right
# The slope is found at once, and R-squared is satisfied; the intercept has hardly moved.
def stopped(x, y, lr, steps):
    """(R-squared, relative error of the intercept) of descend after so many steps."""
    theta = descend(x, y, lr, steps)
    return quality(x, y, theta)[1], relative_errors(theta)[1]


# %% The picture
def figure(device="cpu"):
    """The data with the least-squares line, and the residuals below it."""
    from matplotlib.figure import Figure

    x, y = norris(device)
    slope, intercept = by_lstsq(x, y).tolist()
    x, y = x.cpu(), y.cpu()
    line, ends = slope * x + intercept, np.array([0, 1000])
    picture = Figure(figsize=(7, 5.5), layout="constrained")
    above, below = picture.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    label = f"y = {slope:.5f} x - {-intercept:.5f}"
    above.plot(ends, slope * ends + intercept, color="tab:orange", label=label)
    above.plot(x, y, "o", markersize=4, color="tab:blue", label="36 readings")
    above.set(title="Norris: calibration of an ozone monitor", ylabel="customer's reading y")
    above.legend()
    below.axhline(0, color="tab:orange")
    below.plot(x, y - line, "o", markersize=4, color="tab:blue")
    below.set(xlabel="NIST's reading x", ylabel="residual")
    return picture


# %% Run it
def main(device):
    print(f"07 Linear regression on {device}")
    x, y = norris(device)

    print("\n1. Least squares has a closed form: the certified line")
    print(f"   {'':<16}   {'slope':<16}   {'intercept':<18}   relative error")
    print(f"   {'certified':<16}   {CERTIFIED['slope']:<16}   {CERTIFIED['intercept']}")
    for name, solve in (("normal equations", by_normal_equations), ("lstsq", by_lstsq)):
        slope, intercept = theta = solve(x, y)
        error = max(relative_errors(theta))
        print(f"   {name:<16}   {slope:<16.12f}   {intercept:<18.12f}   {error:.11f}")
    deviation, r_squared = quality(x, y, theta)
    print(f"   residual deviation {deviation:.12f}   certified {CERTIFIED['residual deviation']}")
    print(f"   R-squared          {r_squared:.12f}   certified {CERTIFIED['R-squared']}")

    print("\n2. Gradient descent on the raw data cannot find the intercept")
    limit, condition = limit_and_condition(bowl(x, y)[0])
    print(f"   condition number {condition:,.0f}, largest stable lr {limit:.3e}")
    slope, intercept = descend(x, y, 0.9 * limit, 10_000)
    print(f"   10,000 steps at 0.9 of it: slope {slope:.5f}, intercept {intercept:.3f}")

    print("\n3. Standardise x: the valley becomes a round bowl")
    z, mean, spread = standardised(x)
    limit, condition = limit_and_condition(bowl(z, y)[0])
    print(f"   condition number {condition:.3f}, largest stable lr {limit:.3f}")
    print(f"   {'':<18}   {'slope':<14}   {'intercept':<15}   relative error")
    for lr, steps in ((0.25, 40), (0.5, 1)):
        slope, intercept = theta = in_units_of_the_data(descend(z, y, lr, steps), mean, spread)
        print(f"   lr {lr:.2f}, {steps:>2} step(s)", end="   ")
        print(f"{slope:<14.9f}   {intercept:<15.9f}   {max(relative_errors(theta)):.9f}")

    print("\n4. The pipeline gets there in float32, to float32's precision")
    print(f"   {'':<13}   {'slope':<14}   {'intercept':<15}   relative error")
    mse = torch.nn.MSELoss()
    for dtype, digits in ((torch.float32, 4), (torch.float64, 11)):
        slope, intercept = theta = fit(x, y[:, None], mse, dtype)[0]
        print(f"   {dtype}   {slope:<14.{digits}f}   {intercept:<15.{digits}f}", end="   ")
        print(f"{max(relative_errors(theta)):.{digits}f}")

    print("\n5. Mistake: predictions (n, 1) against targets (n,)")
    for name, target in (("(n, 1)", y[:, None]), ("(n,)", y)):
        (slope, intercept), losses = fit(x, target, squared_error)
        print(f"   targets {name:<6}   slope {slope:z.4f}, intercept {intercept:.4f}", end=", ")
        print(f"loss {losses[-1]:.4f}")
    print(f"   theory for (n,)  slope 0, intercept mean y {y.mean():.4f}", end=", ")
    print(f"loss var y {y.var(correction=0):.4f}")
    p = x[:, None]
    print("   the loss of the predictions p = x, (n, 1), against (n,)", end=": ")
    print(f"{squared_error(p, y):.4f}")
    print(f"   var p + var y + (mean p - mean y)^2, its formula: {decomposed(p, y):.4f}")

    print('\n6. Mistake: a learning rate that "always works" on features that are not scaled')
    limit, _ = limit_and_condition(bowl(x, y)[0])
    lr = 0.01
    print(f"   at lr {lr} each step is {growth(x, y, lr, 5):.2f} times as long as the last")
    print(f"   theory: |1 - lr lambda_max| = {abs(1 - lr * 2 / limit):.2f}")
    print(f"   finite after 100 steps: {descend(x, y, lr, 100).isfinite().all()}")

    print("\n7. Mistake: stopping when the line looks right")
    for steps in (100, 1000, 10_000):
        r_squared, error = stopped(x, y, 0.9 * limit, steps)
        print(f"   {steps:>6} steps on raw data: R-squared {r_squared:.5f}", end=", ")
        print(f"intercept wrong by {error:.0%}")


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
