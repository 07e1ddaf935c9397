"""Exercises for lesson 07, linear regression.

Solve them here, and let python -m pytest exercises/07_linear_regression.py check them.
"""

import numpy as np
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. Write
def fitted_parabola(x, y):
    """Write: the parabola a x^2 + b x + c with the least squared error.

    Gets x and y, shape (n,), float64. Returns (a, b, c) as a tensor of shape (3,) on the device
    of x. Example: y = x^2 + 1 exactly gives [1, 0, 1]. Medium, 10 minutes. Hint: a line has two
    columns, x and ones.
    """
    raise NotImplementedError


def test_fitted_parabola():
    noise = np.random.default_rng(0).normal(size=9)
    for device in DEVICES:
        for a, b, c, scale in ((1.0, 0.0, 1.0, 0.0), (0.5, -3.0, 2.0, 1.0)):
            x = np.linspace(-2, 4, 9)
            y = a * x**2 + b * x + c + scale * noise
            found = fitted_parabola(torch.tensor(x, device=device), torch.tensor(y, device=device))
            expected = torch.tensor(np.polyfit(x, y, 2).copy(), device=device)
            given = f"9 points, y = {a} x^2 + {b} x + {c} + {scale} noise"
            thought = (
                "lstsq wants a matrix with the columns x^2, x and 1; take column 0 of its solution."
            )
            check(given, found, expected, thought, rtol=1e-9, atol=1e-9)


# %% 2. Mend
def model_error(model, x, y):
    """Mend: the mean squared error of a model.

    Gets a model from shape (n, d) to (n, 1), x, shape (n, d), and y, shape (n,). Returns a
    scalar tensor that can be differentiated. Example: predictions [[1], [2]] and y = [1, 2] give
    0. Easy, 5 minutes. Hint: what is the shape of the difference?
    """
    return ((model(x) - y) ** 2).mean()


def test_model_error():
    model = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.zeros_(model.bias)
    for rows, y in (([[1.0, 0.0], [0.0, 2.0]], [1.0, 2.0]), ([[1.0, 1.0]] * 3, [0.0, 2.0, 5.0])):
        found = model_error(model, torch.tensor(rows), torch.tensor(y))
        expected = torch.tensor(
            sum((sum(r) - t) ** 2 for r, t in zip(rows, y, strict=True)) / len(y)
        )
        given = f"the model x[0] + x[1], x = {rows}, y = {y}"
        kind = isinstance(found, torch.Tensor) and found.requires_grad
        check(f"{given}: a tensor that is recorded", kind, True, "Return it, without .item().")
        thought = "(n, 1) minus (n,) is (n, n): give y a second dimension, and take the mean."
        check(given, found.detach(), expected, thought)


# %% 3. Write
def line_in_units_of_the_data(slope, intercept, x, y):
    """Write: a line fitted to standardised data, in the units of the data.

    Both axes were standardised: u = (x - mean of x) / deviation of x, and v likewise from y,
    with deviations that divide by n. Gets slope and intercept of the line v = slope u +
    intercept, two numbers, and x and y, shape (n,), float64. Returns slope and intercept of y
    over x as Python numbers. Example: x = [0, 2], y = [0, 6], slope 1, intercept 0 gives 3 and
    0. Medium, 15 minutes. Hint: write the formula for v down and solve it for y.
    """
    raise NotImplementedError


def test_line_in_units_of_the_data():
    for xs, ys, slope, intercept in (
        ([0.0, 2.0], [0.0, 6.0], 1.0, 0.0),
        ([1.0, 4.0, 7.0], [5.0, -1.0, 2.0], -0.5, 0.25),
    ):

        def v(u, slope=slope, intercept=intercept):
            return slope * u + intercept

        at_0, at_1 = (  # the line at x = 0 and at x = 1
            np.mean(ys) + np.std(ys) * v((x - np.mean(xs)) / np.std(xs)) for x in (0, 1)
        )
        tensors = torch.tensor(xs, dtype=torch.float64), torch.tensor(ys, dtype=torch.float64)
        found = line_in_units_of_the_data(slope, intercept, *tensors)
        expected = float(at_1 - at_0), float(at_0)
        thought = "Both axes were shifted and stretched; std() divides by n - 1 unless told."
        check(f"x = {xs}, y = {ys}, v = {slope} u + {intercept}", found, expected, thought)


# %% 4. Mend
def r_squared(p, y):
    """Mend: R-squared, the share of y's variance that the predictions p explain.

    Gets p and y, shape (n,). Returns a Python number: 1 for p = y, 0 for p = mean y, and less
    than 0 for worse. Easy, 5 minutes. Hint: whose variance?
    """
    return (1 - ((y - p) ** 2).sum() / ((p - p.mean()) ** 2).sum()).item()


def test_r_squared():
    for p, y in (([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]), ([4.0, 3.0, 1.0], [1.0, 2.0, 3.0])):
        left = sum((a - b) ** 2 for a, b in zip(p, y, strict=True))
        spread = sum((a - sum(y) / len(y)) ** 2 for a in y)
        thought = "What is left over, compared with the spread of y around its own mean."
        found = r_squared(torch.tensor(p), torch.tensor(y))
        check(f"p = {p}, y = {y}", found, 1 - left / spread, thought, rtol=1e-5, atol=1e-6)


# %% What the checks share: no need to read on
def check(given, found, expected, thought, **tolerance):
    """Fail, in words that help, unless found is expected: its kind, shape, dtype and values."""
    try:
        torch.testing.assert_close(found, expected, **tolerance)
        return
    except (TypeError, RuntimeError):
        reason = "a tensor, a number, a tuple and None are different; .item() makes numbers"
    except AssertionError as error:
        first, *others = str(error).strip().splitlines()
        reason = " ".join([first, *(line for line in others if "for item" in line)])
    parts = f"given      {given}", f"came back  {found!r}", f"expected   {expected!r}"
    raise AssertionError("\n".join([*parts, f"so         {reason}", thought]))
