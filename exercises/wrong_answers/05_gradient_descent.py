"""Plausible wrong answers to the exercises of lesson 05, each with the thought behind
it."""

import numpy as np
import torch


def minimise_1(loss, start, lr, steps):
    """Forward, backward, update: that is all that moves w."""
    w = start.detach().clone().requires_grad_()
    for _ in range(steps):
        loss(w).backward()
        with torch.no_grad():
            w -= lr * w.grad
    return w.detach()


def minimise_2(loss, start, lr, steps):
    """start is what has to be moved."""
    w = start.requires_grad_()
    for _ in range(steps):
        loss(w).backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.detach()


def minimise_3(loss, start, lr, steps):
    """Along the gradient."""
    w = start.detach().clone().requires_grad_()
    for _ in range(steps):
        loss(w).backward()
        with torch.no_grad():
            w += lr * w.grad
        w.grad = None
    return w.detach()


def minimise_4(loss, start, lr, steps):
    """A result is a result, recorded or not."""
    w = start.detach().clone().requires_grad_()
    for _ in range(steps):
        loss(w).backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w


def two_rates_1(x):
    """The derivative of w^2 is forgotten: no factor 2."""
    curvature = (x**2).mean().item()
    return 1 / curvature, 2 / curvature


def two_rates_2(x):
    """The square of the mean."""
    curvature = 2 * x.mean().item() ** 2 + 1e-300
    return 1 / curvature, 2 / curvature


def two_rates_3(x):
    """The sum of the errors, not their mean."""
    curvature = 2 * (x**2).sum().item()
    return 1 / curvature, 2 / curvature


def two_rates_4(x):
    """Those of the lesson."""
    return 1 / 15, 2 / 15


def fitted_1(x, y):
    """A rate so small that it suits grams."""
    lr = 1e-7
    w = torch.zeros((), dtype=x.dtype, requires_grad=True)
    for _ in range(100):
        ((w * x - y) ** 2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.item()


def fitted_2(x, y):
    """x a thousand times as large, so the rate a thousandth."""
    lr = 0.2 / x.max()
    w = torch.zeros((), dtype=x.dtype, requires_grad=True)
    for _ in range(100):
        ((w * x - y) ** 2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.item()


def fitted_3(x, y):
    """As large as the limit allows."""
    lr = 2 / (2 * (x**2).mean())
    w = torch.zeros((), dtype=x.dtype, requires_grad=True)
    for _ in range(100):
        ((w * x - y) ** 2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.item()


def fitted_4(x, y):
    """The sum of the squares, whatever the number of receipts."""
    lr = 1 / (2 * (x**2).sum())
    w = torch.zeros((), dtype=x.dtype, requires_grad=True)
    for _ in range(100):
        ((w * x - y) ** 2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.item()


def fitted_5(x, y):
    """x on a common scale: but then w is the price of the largest amount."""
    x = x / x.max()
    lr = 0.5
    w = torch.zeros((), dtype=x.dtype, requires_grad=True)
    for _ in range(100):
        ((w * x - y) ** 2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.item()


def fitted_6(x, y):
    """The lowest point of the parabola can be computed, so why walk?"""
    return ((x * y).mean() / (x * x).mean()).item()


def fitted_7(x, y):
    """A rate that suits the unit, however small, only needs more steps."""
    lr = 0.1 / (2 * (x**2).mean())
    w = torch.zeros((), dtype=x.dtype, requires_grad=True)
    for _ in range(1000):
        ((w * x - y) ** 2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.item()


def slope_gradient_1(x, y, w):
    """Divide by the length, and by it again with mean()."""
    return float((2 * x * (w * x - y) / len(x)).mean())


def slope_gradient_2(x, y, w):
    """The mean of the errors, times the mean of x."""
    return float(2 * (w * x - y).mean() * x.mean())


def slope_gradient_3(x, y, w):
    """The mean, without the 2 of the square."""
    return float(np.dot(x, w * x - y) / len(x))


def hessian_1(function, x):
    """The second derivative is the derivative of the sum of the first."""
    x = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x), x, create_graph=True)
    return torch.autograd.grad(first.sum(), x)[0]


def hessian_2(function, x):
    """Second derivatives belong to one variable each: the diagonal."""
    x = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x), x, create_graph=True)
    rows = [torch.autograd.grad(element, x, retain_graph=True)[0] for element in first]
    return torch.diag(torch.stack(rows).diagonal())


def hessian_3(function, x):
    """First derivatives multiplied with each other."""
    x = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x), x)
    return first[:, None] * first


def hessian_4(function, x):
    """Zeros of the shape of x: a row, not the matrix."""
    x = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x), x, create_graph=True)
    if not first.requires_grad:
        return torch.zeros_like(x)
    rows = [torch.autograd.grad(element, x, retain_graph=True)[0] for element in first]
    return torch.stack(rows)


def hessian_5(function, x):
    """Slopes in which x has no part are left out, and their rows with them."""
    x = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x), x, create_graph=True)
    if not first.requires_grad:
        return torch.zeros(len(x), len(x), dtype=x.dtype, device=x.device)
    rows = []
    for element in first:
        (row,) = torch.autograd.grad(element, x, retain_graph=True, allow_unused=True)
        if row is not None:
            rows.append(row)
    return torch.stack(rows) if rows else x.new_zeros(0, len(x))


def hessian_6(function, x):
    """PyTorch has it ready-made."""
    return torch.autograd.functional.hessian(function, x)
