"""The checks of exercises/02_tensors.py."""

import itertools
import math

import torch


def test_for_a_network(answer, check):
    check.hint = "permute takes, for each new dimension, the number of the old one."
    check.given = "0, 2, 4, ... up to 238, uint8, shape (2, 4, 5, 3)"
    images = torch.arange(0, 240, 2, dtype=torch.uint8).view(2, 4, 5, 3)
    expected = torch.empty(2, 3, 4, 5)
    for n, h, w, c in itertools.product(range(2), range(4), range(5), range(3)):
        expected[n, c, h, w] = images[n, h, w, c].item() / 255
    check(answer(images), expected)


def test_blend(answer, check):
    check.hint = "What is the largest number on the way? x.to(dtype) converts."
    a = torch.tensor([[0, 200, 255], [1, 3, 255]], dtype=torch.uint8)
    b = torch.tensor([[0, 100, 255], [1, 4, 0]], dtype=torch.uint8)
    expected = torch.tensor([[0, 150, 255], [1, 3, 127]], dtype=torch.uint8)
    check.given = f"{a.tolist()} and {b.tolist()}"
    check(answer(a, b), expected)


def test_row_shares(answer, check):
    check.hint = (
        "Which shape must the sums have so that they stand beside the rows of x?"
    )
    for rows in ([[1.0, 3.0], [1.0, 1.0]], [[1.0, 1.0, 2.0], [5.0, 0.0, 5.0]]):
        x = torch.tensor(rows)
        check.given = f"{rows}"
        check(
            answer(x),
            torch.tensor([[number / sum(row) for number in row] for row in rows]),
        )
        check.given = f"{rows}; the input itself, afterwards"
        check(x, torch.tensor(rows))


def test_without_negatives(answer, check):
    check.hint = "Which tensors share their memory with x, and which have its shape?"
    for rows in ([-1.0, 2.0], [[3, -4], [-5, 0]], [1.0, 2.0], [-math.inf, 1.0]):
        x = torch.tensor(rows)
        expected = torch.tensor(
            [max(number, 0) for number in x.flatten().tolist()]
        ).view(x.shape)
        check.given = f"{rows}"
        found = answer(x)
        check(found, expected)
        check.given = f"{rows}; the input itself, afterwards"
        check(x, torch.tensor(rows))
        check.given = f"{rows}; looked at after 1 was added to what came back"
        found += 1
        check(x, torch.tensor(rows))
