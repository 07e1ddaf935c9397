"""Exercises for lesson 05, gradient descent.

Solve them here, and let python -m pytest exercises/05_gradient_descent.py check them.
"""

import numpy as np
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. Write
def minimise(loss, start, lr, steps):
    """Write: gradient descent on any function, by autograd.

    Gets loss, a function from shape (n,) to a scalar, and start, shape (n,), which stays as it
    is. Returns where so many steps lead, shape (n,), on the device of start; the result requires
    no gradient. Example: for sum(w^2), start [1, -2], lr 0.25, one step leads to [0.5, -1].
    Medium, 10 minutes. Hint: forward, backward, update, reset, on a copy.
    """
    raise NotImplementedError


def test_minimise():
    curvature = torch.tensor([2.0, 0.5])
    for device in DEVICES:
        for numbers, lr, steps in (([1.0, -2.0], 0.25, 1), ([3.0, 1.0], 0.4, 7)):
            start = torch.tensor(numbers, device=device)
            found = minimise(lambda w: (curvature.to(w.device) * w**2).sum() / 2, start, lr, steps)
            expected = torch.tensor(numbers) * (1 - lr * curvature) ** steps
            given = f"sum(c w^2) / 2 with c = [2, 0.5], start {numbers}, lr {lr}, {steps} steps"
            thought = "Each step takes w - lr * gradient, with a gradient that is new each time."
            check(given, found, expected.to(device), thought)
            recording = found.requires_grad, start.requires_grad
            thought = "detach() what you return, and work on a clone of start."
            check(f"{given}: is result, is start recorded", recording, (False, False), thought)
            check(f"{given}: start afterwards", start.tolist(), numbers, thought)


# %% 2. Write
def two_rates(x):
    """Write: the learning rates that matter for f(x) = w x and the loss mean((w x - y)^2).

    Gets x, shape (n,), float64. Returns two Python numbers: the rate that arrives in one step,
    and the smallest one at which it no longer converges. Example: x = [1, 2, 3, 4] gives 1/15
    and 2/15. Medium, 10 minutes. Hint: each step multiplies the distance by 1 - lr * curvature.
    """
    raise NotImplementedError


def test_two_rates():
    for numbers in ([1.0, 2.0, 3.0, 4.0], [0.5], [-3.0, 0.0, 1.0]):
        x = torch.tensor(numbers, dtype=torch.float64)
        squares = sum(number * number for number in numbers)
        expected = len(numbers) / (2 * squares), len(numbers) / squares
        thought = "1 / c and 2 / c, where c is the derivative of mean(2 (w x - y) x) by w."
        check(numbers, two_rates(x), expected, thought, rtol=1e-12, atol=0)


# %% 3. Mend
def fitted(x, y, lr, steps):
    """Mend: the slope w of y = w x after so many steps of gradient descent from 0.

    Gets x and y, shape (n,), float64. Returns a Python number. Example: x = [1, 2, 3, 4], y = 2
    x, lr 0.01: 0.3 after one step, 0.555 after two. Easy, 5 minutes. Hint: which of the four
    parts of a step is missing?
    """
    w = torch.zeros((), dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        ((w * x - y) ** 2).mean().backward()
        with torch.no_grad():
            w -= lr * w.grad
    return w.item()


def test_fitted():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    for slope, lr, steps in ((2.0, 0.01, 1), (2.0, 0.01, 2), (-5.0, 0.05, 9)):
        expected = slope * (1 - (1 - 15 * lr) ** steps)
        given = f"y = {slope} x, lr {lr}, {steps} steps"
        thought = "One w for all steps; forget its gradient once it has been used, and not before."
        check(given, fitted(x, slope * x, lr, steps), expected, thought, rtol=1e-10, atol=0)


# %% 4. Mend
def slope_gradient(x, y, w):
    """Mend: the derivative of mean((w x - y)^2) by w, in NumPy.

    Gets arrays x and y, shape (n,), and a number w. Returns a Python float. Example: x = [1, 2,
    3, 4], y = 2 x, w = 0 gives -30. Easy, 5 minutes. Hint: count the sums.
    """
    return float(np.dot(2 * x, w * x - y).mean())


def test_slope_gradient():
    for xs, ys, w in (([1, 2, 3, 4], [2, 4, 6, 8], 0.0), ([1, 0, -2], [5, 1, 1], 1.5)):
        expected = sum(2 * (w * x - y) * x for x, y in zip(xs, ys, strict=True)) / len(xs)
        found = slope_gradient(np.array(xs, dtype=float), np.array(ys, dtype=float), w)
        thought = "np.dot adds up and hands one number to mean(), which has nothing left to do."
        check(f"x = {xs}, y = {ys}, w = {w}", found, expected, thought)


# %% What the checks share: no need to read on
def check(given, found, expected, thought, **tolerance):
    """Fail, in words that help, unless found is expected: its kind, shape, dtype and values."""
    try:
        torch.testing.assert_close(found, expected, **tolerance)
        return
    except (TypeError, RuntimeError):
        reason = "a tensor, a number, a tuple and None are different; .item() makes numbers"
    except AssertionError as error:
        first, *others = str(error).strip().splitlines()
        reason = " ".join([first, *(line for line in others if "for item" in line)])
    parts = f"given      {given}", f"came back  {found!r}", f"expected   {expected!r}"
    raise AssertionError("\n".join([*parts, f"so         {reason}", thought]))
