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


# %% 2. Mend (medium, 10 minutes)
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


# %% 3. Mend (medium, 10 minutes)
def log_or_zero(x):
    """Mend: log(x) where x > 0 and 0 elsewhere, with a gradient that is right.

    Gets and returns a tensor of floats, shape (n,). The values are right already; the
    gradient should be 1 / x where x > 0 and 0 elsewhere. torch.where(condition, a, b)
    takes from a where the condition is true and from b elsewhere. Example: at x = [0,
    2] the values are [0, 0.693], and the gradient of their sum is [0, 0.5].
    """
    return torch.where(x > 0, x.log(), 0)


# %% 4. Write (hard, 15 minutes)
def hessian(function, x):
    """Write: the matrix of second derivatives.

    Gets a function from shape (n,) to shape (), and x, floats of shape (n,).
    torch.autograd.grad(y, x, create_graph=True) returns a tuple of one gradient, which
    can be differentiated again. Returns shape (n, n): at [i, j] the derivative by x[i]
    and x[j]. Example: for x[0] * x[1] it is [[0, 1], [1, 0]] anywhere.
    """
    raise NotImplementedError
