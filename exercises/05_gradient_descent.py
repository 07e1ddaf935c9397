"""Exercises for lesson 05, gradient descent.

The checks: python -m pytest exercises/test_05_gradient_descent.py
"""

import numpy as np
import torch


# %% 1. Write (medium, 10 minutes)
def minimise(loss, start, lr, steps):
    """Write: gradient descent on any function, by autograd.

    Gets loss, a function from shape (n,) to shape (), start, floats of shape (n,),
    which stays as it is, and two numbers. Returns where so many steps lead, shape (n,),
    on the device of start; the result requires no gradient. Example: for sum(w^2),
    start [1, -2], lr 0.25, one step leads to [0.5, -1].
    """
    raise NotImplementedError


# %% 2. Write (medium, 10 minutes)
def two_rates(x):
    """Write: the learning rates that matter for the loss mean((w x - y)^2).

    Gets x, shape (n,), float64. Returns two Python numbers: the rate at which gradient
    descent arrives in one step, and the smallest rate at which it no longer arrives.
    Example: x = [1, 2, 3, 4] gives 1/15 and 2/15.
    """
    raise NotImplementedError


# %% 3. Mend (easy, 5 minutes)
def fitted(x, y):
    """Mend: the price w of y = w x by gradient descent, in whatever unit x comes.

    Gets x, amounts, and y, prices, shape (n,), float64; both stay as they are.
    Returns a Python number, the w with the smallest mean((w x - y)^2), after at most
    100 steps, each with a slope from backward() or torch.autograd.grad. A formula for
    the best w is not allowed. It works for kilograms; it has to for grams and tonnes.
    Example: x = [1000, 2000, 3000, 4000] and y = [2, 4, 6, 8] give 0.002.
    """
    w = torch.zeros((), dtype=x.dtype, requires_grad=True)
    for _ in range(100):
        loss = ((w * x - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            w -= 0.05 * w.grad
        w.grad = None
    return w.item()


# %% 4. Mend (easy, 5 minutes)
def slope_gradient(x, y, w):
    """Mend: the slope of mean((w x - y)^2) with respect to w, in NumPy.

    Gets arrays x and y, shape (n,), and a number w.
    Returns a Python float: .item() or float() makes one of a NumPy number.
    Example: x = [1, 2, 3, 4], y = 2 x, w = 0 gives -30.
    """
    return float(np.dot(2 * x, w * x - y).mean())


# %% 5. Write (hard, 15 minutes)
def hessian(function, x):
    """Write: the matrix of second derivatives.

    Gets a function from shape (n,) to shape (), and x, floats of shape (n,).
    torch.autograd.grad(y, x, create_graph=True) returns a tuple of one gradient, which
    can be differentiated again. That of a linear function does not depend on x, and the
    matrix is 0, whether or not its weights require a gradient. Not allowed are
    torch.autograd.functional.hessian and torch.func.hessian, which are this function,
    ready-made. Returns shape (n, n): at [i, j] the slope with respect to x[j] of the
    slope with respect to x[i]. Example: for x[0] * x[1] it is [[0, 1], [1, 0]]
    anywhere, for x[0] - x[1] [[0, 0], [0, 0]].
    """
    raise NotImplementedError
