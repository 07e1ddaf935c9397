"""The exercises of lesson 03, solved."""

import torch


def value_and_slope(function, x):
    """f(x) and f'(x) as Python numbers."""
    # float64 from the start: digits that were rounded away do not come back.
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y = function(x)
    y.backward()
    return y.item(), x.grad.item()


def gradient_and_rounded(x):
    """The gradient of sum(sigmoid(x)), and the sigmoids rounded."""
    # round() without an underscore makes a new tensor; backward still finds the old
    # one.
    x = x.detach().clone().requires_grad_()
    s = torch.sigmoid(x)
    s.sum().backward()
    return x.grad, s.detach().round()


def log_or_zero(x):
    """log(x) where x > 0, else 0, and the gradient of that."""
    # The branch not taken gets gradient 0, and 0 times log's slope at 0, infinity, is
    # nan.
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1).log(), 0)


def hessian(function, x):
    """The second derivatives, shape (n, n)."""
    # The first gradient has n elements; each is a scalar and has a gradient of its own.
    x = x.detach().clone().requires_grad_()
    (first,) = torch.autograd.grad(function(x), x, create_graph=True)
    rows = [torch.autograd.grad(element, x, retain_graph=True)[0] for element in first]
    return torch.stack(rows)
