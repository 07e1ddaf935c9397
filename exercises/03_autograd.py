"""Exercises for lesson 03, autograd.

Solve them here, and let python -m pytest exercises/03_autograd.py check them.
"""

import math

import torch


# %% 1. Write
def value_and_slope(function, x):
    """Write: f(x) and f'(x).

    Gets a function of a tensor and x, a Python number. Returns two Python numbers, as precise as
    float64. Example: for x * x and 3 it returns (9.0, 6.0). Easy, 5 minutes. Hint:
    torch.tensor(3) holds an int64 and torch.tensor(0.1) a float32, unless you say otherwise.
    """
    raise NotImplementedError


def test_value_and_slope():
    cases = [("x * x", lambda x: x * x, 3, (9.0, 6.0))]
    cases += [("sin", torch.sin, 0.1, (math.sin(0.1), math.cos(0.1)))]
    for name, function, x, expected in cases:
        thought = "requires_grad and float64 at the start, backward(), and .item() at the end."
        check(f"{name} at {x}", value_and_slope(function, x), expected, thought, rtol=1e-14, atol=0)


# %% 2. Mend
def gradient_and_rounded(x):
    """Mend: the gradient of sum(sigmoid(x)), and the rounded sigmoids.

    Gets x, shape (n,). Returns two tensors of shape (n,): the gradient s (1 - s), where s is the
    sigmoid, and s rounded. Example: x = [0, 2] gives [0.25, 0.105] and [0, 1]. Medium, 10
    minutes. Hint: what does backward need that is no longer there?
    """
    x = x.detach().clone().requires_grad_()
    s = torch.sigmoid(x)
    s.data.round_()
    s.sum().backward()
    return x.grad, s.detach()


def test_gradient_and_rounded():
    for numbers in ([0.0, 2.0], [-1.0, 1.0, 3.0]):
        s = [1 / (1 + math.exp(-number)) for number in numbers]
        expected = torch.tensor([p * (1 - p) for p in s]), torch.tensor([float(p > 0.5) for p in s])
        thought = "Leave s as it is for backward, and round a copy: round() itself has slope 0."
        check(numbers, gradient_and_rounded(torch.tensor(numbers)), expected, thought)


# %% 3. Mend
def log_or_zero(x):
    """Mend: log(x) where x > 0 and 0 elsewhere, with a gradient that is right.

    Gets and returns shape (n,). The values are right already; the gradient should be 1 / x where
    x > 0 and 0 elsewhere. Example: at x = [0, 2] the values are [0, 0.693], and the gradient of
    their sum is [0, 0.5]. Medium, 10 minutes. Hint: 0 times infinity.
    """
    return torch.where(x > 0, x.log(), 0)


def test_log_or_zero():
    for numbers in ([0.0, 2.0], [-1.0, 0.0, 0.25, 4.0], [1e-12, -1e-12]):
        x = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
        y = log_or_zero(x)
        values = torch.tensor([math.log(n) if n > 0 else 0 for n in numbers], dtype=x.dtype)
        thought = "Keep the values as they are: 0 where x is not positive."
        check(f"x = {numbers}, the values", y.detach(), values, thought)
        y.sum().backward()
        slopes = torch.tensor([1 / n if n > 0 else 0 for n in numbers], dtype=x.dtype)
        thought = "Both branches are differentiated: keep zeros away from log with a second where."
        check(f"x = {numbers}, the gradient", x.grad, slopes, thought)


# %% 4. Write
def hessian(function, x):
    """Write: the matrix of second derivatives.

    Gets a function from shape (n,) to a scalar, and x, shape (n,). Returns shape (n, n): at
    [i, j] the derivative by x[i] and x[j]. Example: for x[0] * x[1] it is [[0, 1], [1, 0]]
    anywhere. Hard, 15 minutes. Hint: differentiate each element of the first gradient (grad
    takes retain_graph=True too); torch.stack makes a matrix of rows.
    """
    raise NotImplementedError


def test_hessian():
    matrix = torch.tensor([[2.0, 1.0, 0.5], [1.0, 4.0, -3.0], [0.5, -3.0, 6.0]])
    cases = [("x[0] * x[1]", lambda x: x[0] * x[1], [5.0, 7.0], [[0.0, 1.0], [1.0, 0.0]])]
    cases += [("x A x / 2", lambda x: x @ matrix @ x / 2, [1.0, 2.0, 3.0], matrix.tolist())]
    cases += [("sum(x)^3", lambda x: x.sum() ** 3, [1.0, 1.0], [[12.0, 12.0], [12.0, 12.0]])]
    for name, function, x, expected in cases:
        thought = "create_graph=True for the first pass; then a pass for each row, retaining it."
        found = hessian(function, torch.tensor(x))
        check(f"{name} at {x}", found, torch.tensor(expected), thought)


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
