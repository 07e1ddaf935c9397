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
