"""Exercises for lesson 07, linear regression.

The checks: python -m pytest exercises/test_07_linear_regression.py
"""

import torch


# %% 1. Write (medium, 10 minutes)
def fitted_parabola(x, y):
    """Write: the parabola a x^2 + b x + c with the least squared error.

    Gets x and y, shape (n,), float64.
    Returns a, b and c as a tensor of shape (3,), float64, on the device of x.
    torch.linalg.lstsq(A, B).solution has a column for each column of B.
    Example: y = x^2 + 1 exactly gives [1, 0, 1].
    """
    raise NotImplementedError


# %% 2. Mend (medium, 10 minutes)
def r_squared_of_batches(batches):
    """Mend: R-squared over all batches.

    Gets a list of pairs (p, y), one for each batch: predictions and targets, floats
    of shape (n,). The last batch may be smaller; a batch may hold a single row.
    R-squared is 1 - (sum of squared errors) / (sum of squares of y around its mean),
    over all rows of all batches. Returns it, a Python number. Example: the batches
    ([1.0, 2.0], [1.0, 2.0]) and ([3.0], [4.0]) have one error, 1, and the y 1, 2 and
    4 around 7 / 3: 1 - 1 / (14 / 3) = 0.7857.
    """
    total = 0.0
    for p, y in batches:
        squares = ((y - p) ** 2).sum()
        spread = ((y - y.mean()) ** 2).sum()
        total += (1 - squares / spread).item()
    return total / len(batches)


# %% 3. Write (medium, 15 minutes)
def line_in_units_of_the_data(slope, intercept, x, y):
    """Write: a line fitted to standardised data, in the units of the data.

    Both axes were standardised: u = (x - mean of x) / (std of x), and v likewise from
    y, with the std that divides by n, x.std(correction=0). Gets slope and intercept of
    the line v = slope u + intercept, two numbers, and x and y, shape (n,), float64.
    Returns slope and intercept of y over x as Python numbers. Example: x = [0, 2], y =
    [0, 6], slope 1, intercept 0 gives 3 and 0.
    """
    raise NotImplementedError


# %% 4. Mend (easy, 5 minutes)
def model_error(model, x, y):
    """Mend: the mean squared error of a model.

    Gets a model from shape (n, d) to (n, 1), x, floats of shape (n, d), and y, floats
    of shape (n,). Returns a tensor of shape () that can be differentiated. Example:
    predictions [[1], [2]] and y = [1, 2] give 0.
    """
    return ((model(x) - y) ** 2).mean()
