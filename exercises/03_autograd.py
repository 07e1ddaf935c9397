"""Exercises for lesson 03, autograd.

The checks: python -m pytest exercises/test_03_autograd.py
"""

import torch


# %% 1. Write (easy, 5 minutes)
def value_and_slope(function, x):
    """Write: f(x) and f'(x).

    Gets a function from a tensor of shape () to one of shape (), and x, a Python
    number. Returns two Python numbers, as precise as float64. Example: for x * x and 3
    it returns (9.0, 6.0).
    """
    raise NotImplementedError


# %% 2. Write (easy, 10 minutes)
def trained_weight(x, target, lr, steps):
    """Write: the weight after so many steps of the four lines.

    Gets x and target, floats of shape (n,), and two numbers. The weight w starts at 0,
    and the loss is mean((w x - target)^2). Returns w as a Python number; where x is
    float64, it is as precise as float64. Example: x = [1, 2, 3], target = 2 x and lr
    0.05 give 0.9333 after one step and 1.4311 after two.
    """
    raise NotImplementedError


# %% 3. Write (medium, 10 minutes)
def row_of_jacobian(function, x, i):
    """Write: one row of the Jacobian, in one pass.

    Gets a function from shape (n,) to shape (m,), x, floats of shape (n,), which stays
    as it is, and i, the number of a row. Returns the slopes of output i, shape (n,).
    Make a single backward pass, which computes this row alone. Not allowed are a loop
    over the rows and torch.autograd.functional.jacobian(function, x), because both
    compute the other rows, too. Example: for x.cumsum(dim=0) ** 2, x = [1, 2, 3] and
    i = 1 it returns [6, 6, 0].
    """
    raise NotImplementedError


# %% 4. Mend (medium, 10 minutes)
def gradient_and_rounded(x):
    """Mend: the gradient of sum(sigmoid(x)), and the rounded sigmoids.

    Gets x, shape (n,). Returns two tensors of shape (n,): the gradient s (1 - s), where
    s is the sigmoid, and s rounded; nothing is written through .data. Example: x = [0,
    2] gives [0.25, 0.105] and [0, 1].
    """
    x = x.detach().clone().requires_grad_()
    s = torch.sigmoid(x)
    total = s.sum()
    s.data.round_()
    total.backward()
    return x.grad, s.detach()


# %% 5. Mend (medium, 10 minutes)
def log_or_zero(x):
    """Mend: log(x) where x > 0 and 0 elsewhere, with a gradient that is right.

    Gets and returns a tensor of floats, shape (n,). The values are right already; the
    gradient should be 1 / x where x > 0 and 0 elsewhere. torch.where(condition, a, b)
    takes from a where the condition is true and from b elsewhere. Example: at x = [0,
    2] the values are [0, 0.693], and the gradient of their sum is [0, 0.5].
    """
    return torch.where(x > 0, x.log(), 0)
