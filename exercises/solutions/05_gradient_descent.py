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


def fitted(x, y, lr, steps):
    """The slope after so many steps from 0."""
    # Without the reset each step would repeat all steps before it.
    w = torch.zeros((), dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        ((w * x - y) ** 2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.item()


def slope_gradient(x, y, w):
    """The derivative of mean((w x - y)^2) by w."""
    # dot adds up n products, so the mean is a division by n.
    return float(np.dot(2 * x, w * x - y) / len(x))
