"""Exercises for lesson 02, tensors.

The checks: python -m pytest exercises/test_02_tensors.py
"""

import torch


# %% 1. Write (easy, 5 minutes)
def for_a_network(images):
    """Write: pictures as a network wants them.

    Gets images, uint8, shape (n, height, width, channels), from 0 to 255. Returns them
    as float32, shape (n, channels, height, width), from 0 to 1. Example: the pixel
    images[0, 1, 2] = [255, 0, 51] becomes result[0, :, 1, 2] = [1.0, 0.0, 0.2].
    """
    raise NotImplementedError


# %% 2. Mend (easy, 5 minutes)
def blend(a, b):
    """Mend: the mean of two pictures, rounded down.

    Gets a and b, uint8, of equal shape.
    Returns uint8 of that shape.
    Example: [200] and [100] give [150].
    """
    return (a + b) // 2


# %% 3. Write (easy, 5 minutes)
def row_shares(x):
    """Write: each number's share of its row.

    Gets x, float, shape (n, d).
    Returns the same shape: x divided by the sum of its row.
    Example: [[1, 3], [1, 1]] gives [[0.25, 0.75], [0.5, 0.5]].
    """
    raise NotImplementedError


# %% 4. Mend (easy, 5 minutes)
def without_negatives(x):
    """Mend: a copy of x in which negative numbers are 0; x itself stays as it is.

    Gets x of any shape; returns the same shape and dtype, on the same device.
    Example: [-1, 2] gives [0, 2], and x is still [-1, 2].
    """
    result = x[:]
    result[result < 0] = 0
    return result
