"""Plausible wrong answers to the exercises of lesson 03, each with the thought behind
it."""

import torch


def value_and_slope_1(function, x):
    """A float is a float."""
    x = torch.tensor(float(x), requires_grad=True)
    y = function(x)
    y.backward()
    return y.item(), x.grad.item()


def value_and_slope_2(function, x):
    """A finite difference is a derivative."""
    x, h = torch.tensor(x, dtype=torch.float64), 1e-6
    return function(x).item(), ((function(x + h) - function(x - h)) / (2 * h)).item()


def value_and_slope_3(function, x):
    """Tensors of one number are numbers."""
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y = function(x)
    y.backward()
    return y.detach(), x.grad


def trained_weight_1(x, target, lr, steps):
    """Compute, differentiate, update: that is all that moves w."""
    w = x.new_zeros(()).requires_grad_()
    for _ in range(steps):
        ((w * x - target) ** 2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
    return w.item()


def trained_weight_2(x, target, lr, steps):
    """A weight of 0 is torch.tensor(0.0), as in the lesson."""
    w = torch.tensor(0.0, device=x.device, requires_grad=True)
    for _ in range(steps):
        ((w * x - target) ** 2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.item()


def trained_weight_3(x, target, lr, steps):
    """backward wants a single number, and a sum is one."""
    w = x.new_zeros(()).requires_grad_()
    for _ in range(steps):
        ((w * x - target) ** 2).sum().backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.item()


def trained_weight_4(x, target, lr, steps):
    """The gradient says where to go."""
    w = x.new_zeros(()).requires_grad_()
    for _ in range(steps):
        ((w * x - target) ** 2).mean().backward()
        with torch.no_grad():
            w += lr * w.grad
        w.grad = None
    return w.item()


def trained_weight_5(x, target, lr, steps):
    """A tensor of one number is a number."""
    w = x.new_zeros(()).requires_grad_()
    for _ in range(steps):
        ((w * x - target) ** 2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.detach()


def trained_weight_6(x, target, lr, steps):
    """Training finds the best weight, so compute that."""
    return ((x * target).mean() / (x * x).mean()).item()


def trained_weight_7(x, target, lr, steps):
    """Reset before the update: it must not use old gradients."""
    w = x.new_zeros(()).requires_grad_()
    for _ in range(steps):
        ((w * x - target) ** 2).mean().backward()
        w.grad.zero_()
        with torch.no_grad():
            w -= lr * w.grad
    return w.item()


def row_of_jacobian_1(function, x, i):
    """There is a function for the table, and a row is easily taken from it."""
    return torch.autograd.functional.jacobian(function, x)[i]


def row_of_jacobian_2(function, x, i):
    """All rows, one after the other, and then the one that is wanted."""
    rows = []
    for row in range(len(function(x))):
        leaf = x.detach().clone().requires_grad_()
        function(leaf)[row].backward()
        rows.append(leaf.grad)
    return rows[i]


def row_of_jacobian_3(function, x, i):
    """backward wants a single number, and the sum is one."""
    x = x.detach().clone().requires_grad_()
    function(x).sum().backward()
    return x.grad


def row_of_jacobian_4(function, x, i):
    """The table has x in its rows: take column i."""
    return torch.autograd.functional.jacobian(function, x)[:, i]


def row_of_jacobian_5(function, x, i):
    """x is what has to be recorded."""
    x.requires_grad_()
    function(x)[i].backward()
    return x.grad


def row_of_jacobian_6(function, x, i):
    """The outputs up to i count."""
    x = x.detach().clone().requires_grad_()
    y = function(x)
    v = torch.zeros_like(y)
    v[: i + 1] = 1
    y.backward(v)
    return x.grad


def row_of_jacobian_7(function, x, i):
    """One call with all rows in it is one pass."""
    return torch.autograd.functional.jacobian(function, x, vectorize=True)[i]


def row_of_jacobian_8(function, x, i):
    """Finite differences need no pass at all."""
    h = 1e-3 * torch.eye(len(x), dtype=x.dtype, device=x.device)
    return torch.stack([(function(x + d) - function(x - d))[i] / 2e-3 for d in h])


def gradient_and_rounded_1(x):
    """Round first, then use the rounded numbers for both."""
    x = x.detach().clone().requires_grad_()
    s = torch.sigmoid(x).round()
    s.sum().backward()
    return x.grad, s.detach()


def gradient_and_rounded_2(x):
    """The report rounds when it prints."""
    x = x.detach().clone().requires_grad_()
    s = torch.sigmoid(x)
    s.sum().backward()
    return x.grad, s.detach()


def gradient_and_rounded_3(x):
    """s (1 - s), with the s that is there already."""
    s = torch.sigmoid(x)
    return s * (1 - s.round()), s.round()


def log_or_zero_1(x):
    """Keep x away from 0 by a small number."""
    return torch.log(x.clamp(min=1e-9))


def log_or_zero_2(x):
    """Replace the nan afterwards."""
    return torch.nan_to_num(torch.where(x > 0, x.log(), 0))


def log_or_zero_3(x):
    """Add something small inside."""
    return torch.where(x > 0, (x + 1e-3).log(), 0)


def log_or_zero_4(x):
    """So small a number that nobody notices."""
    return torch.where(x > 0, (x + 1e-12).clamp(min=1e-13).log(), 0)


def gradient_and_rounded_4(x):
    """After backward nobody needs s any more, so .data does no harm."""
    x = x.detach().clone().requires_grad_()
    s = torch.sigmoid(x)
    s.sum().backward()
    s.data.round_()
    return x.grad, s.detach()
