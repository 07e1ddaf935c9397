"""Exercises for lesson 02, tensors.

Solve them here, and let python -m pytest exercises/02_tensors.py check them.
"""

import torch


# %% 1. Write
def for_a_network(images):
    """Write: pictures as a network wants them.

    Gets images, uint8, shape (n, height, width, channels), from 0 to 255. Returns them as
    float32, shape (n, channels, height, width), from 0 to 1. Example: the pixel images[0, 1, 2]
    = [255, 0, 51] becomes result[0, :, 1, 2] = [1.0, 0.0, 0.2]. Easy, 5 minutes. Hint: permute
    takes the old number of each new dimension.
    """
    raise NotImplementedError


def test_for_a_network():
    values = [(7 * i) % 256 for i in range(2 * 2 * 3 * 3)]
    images = torch.tensor(values, dtype=torch.uint8).view(2, 2, 3, 3)
    expected = torch.empty(2, 3, 2, 3)
    for n, h, w, c in torch.cartesian_prod(*map(torch.arange, images.shape)).tolist():
        expected[n, c, h, w] = images[n, h, w, c].item() / 255
    thought = "permute moves axes, reshape does not; return float32, divided by 255 with /."
    check("7 i modulo 256, shape (2, 2, 3, 3)", for_a_network(images), expected, thought)


# %% 2. Mend
def blend(a, b):
    """Mend: the mean of two pictures, rounded down.

    Gets a and b, uint8, of equal shape. Returns uint8 of that shape. Example: 200 and 100 give
    150. Easy, 5 minutes. Hint: what is the largest number on the way? x.to(dtype) converts.
    """
    return (a + b) // 2


def test_blend():
    a = torch.tensor([[0, 200, 255], [1, 3, 255]], dtype=torch.uint8)
    b = torch.tensor([[0, 100, 255], [1, 4, 0]], dtype=torch.uint8)
    expected = torch.tensor([[0, 150, 255], [1, 3, 127]], dtype=torch.uint8)
    thought = "Add in a larger dtype, halve the sum, and go back with .to(torch.uint8)."
    check(f"{a.tolist()} and {b.tolist()}", blend(a, b), expected, thought)


# %% 3. Write
def row_shares(x):
    """Write: each number's share of its row.

    Gets x, float, shape (n, d). Returns the same shape: x divided by the sum of its row.
    Example: [[1, 3], [1, 1]] gives [[0.25, 0.75], [0.5, 0.5]]. Easy, 5 minutes. Hint: which
    shape must the sums have so that they stand beside the rows?
    """
    raise NotImplementedError


def test_row_shares():
    for rows in ([[1.0, 3.0], [1.0, 1.0]], [[1.0, 1.0, 2.0], [5.0, 0.0, 5.0]]):
        expected = torch.tensor([[number / sum(row) for number in row] for row in rows])
        thought = "sums of shape (n,) stand below the columns; keepdim=True makes them (n, 1)."
        x = torch.tensor(rows)
        check(rows, row_shares(x), expected, thought)
        check(f"{rows}, afterwards", x, torch.tensor(rows), "/= writes into x; / makes a new one.")


# %% 4. Mend
def without_negatives(x):
    """Mend: a copy of x in which negative numbers are 0; x itself stays as it is.

    Gets x of any shape; returns the same shape and dtype, on the same device. Example: [-1, 2]
    gives [0, 2], and x is still [-1, 2]. Easy, 5 minutes. Hint: section 6 of the lesson.
    """
    result = x[:]
    result[result < 0] = 0
    return result


def test_without_negatives():
    for rows in ([-1.0, 2.0], [[3, -4], [-5, 0]], [1.0, 2.0]):
        x = torch.tensor(rows)
        expected = torch.tensor([max(number, 0) for number in x.flatten().tolist()]).view(x.shape)
        found = without_negatives(x)
        check(rows, found, expected, "An index that is a condition picks elements.")
        found += 1
        thought = "A slice is a view: what is written into it is written into x. clone() copies."
        check(f"{rows}, after the result was changed", x, torch.tensor(rows), thought)


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
