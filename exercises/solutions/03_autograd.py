"""The exercises of lesson 03, solved."""

import torch


def value_and_slope(function, x):
    """f(x) and f'(x) as Python numbers."""
    # float64 from the start: digits that were rounded away do not come back.
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y = function(x)
    y.backward()
    return y.item(), x.grad.item()


def trained_weight(x, target, lr, steps):
    """The weight after so many steps from 0."""
    # new_zeros has the dtype and the device of x: a float32 w would be rounded at each
    # step.
    w = x.new_zeros(()).requires_grad_()
    for _ in range(steps):
        loss = ((w * x - target) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.item()


def row_of_jacobian(function, x, i):
    """Row i of the Jacobian of function at x."""
    # Output i alone is a single number, and its gradient is the row. The copy keeps x
    # free of requires_grad and .grad.
    x = x.detach().clone().requires_grad_()
    function(x)[i].backward()
    return x.grad


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
