"""The exercises of lesson 05, solved."""

import numpy as np
import torch


def minimise(loss, start, lr, steps):
    """Where gradient descent on loss arrives from start."""
    # clone, or the update in place would move start as well.
    w = start.detach().clone().requires_grad_()
    for _ in range(steps):
        loss(w).backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.detach()


def two_rates(x):
    """The rate that arrives in one step, and the limit."""
    # The factor 1 - lr * curvature is 0 at 1 / curvature and -1 at 2 / curvature.
    curvature = 2 * (x**2).mean().item()
    return 1 / curvature, 2 / curvature


def fitted(x, y):
    """The price, in whatever unit x comes."""
    # A fixed rate suits one unit. 1 / curvature is half the limit, whatever the unit.
    lr = 1 / (2 * (x**2).mean())
    w = torch.zeros((), dtype=x.dtype, requires_grad=True)
    for _ in range(100):
        loss = ((w * x - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.item()


def slope_gradient(x, y, w):
    """The slope of mean((w x - y)^2) with respect to w."""
    # dot adds up n products, so the mean is a division by n.
    return float(np.dot(2 * x, w * x - y) / len(x))


def hessian(function, x):
    """The second derivatives, shape (n, n)."""
    # The first gradient has n elements; each is a scalar and has a gradient of its own.
    x = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x), x, create_graph=True)
    rows = torch.zeros(len(x), len(x), dtype=x.dtype, device=x.device)
    if not first.requires_grad:  # a linear function of x alone: no record is left
        return rows
    for i, element in enumerate(first):
        (row,) = torch.autograd.grad(element, x, retain_graph=True, allow_unused=True)
        if row is not None:  # None: it depends on weights, and not on x
            rows[i] = row
    return rows
