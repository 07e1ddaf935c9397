"""The checks of exercises/18_attention.py."""

import itertools
import math

import torch
from torch import nn


def numbers(*shape, start=0):
    """Quarters from -1.5 to 1.5, in no order that matters, as nested lists."""
    if not shape:
        return (7 * start * start + 5 * start) % 13 / 4 - 1.5
    size = math.prod(shape[1:])
    return [numbers(*shape[1:], start=start + i * size) for i in range(shape[0])]


def test_heads(answer, check):
    check.hint = "Write down where the 3 of the example has to go. How does memory run?"
    for n, length, d, number in (
        *((1, 2, 4, 2), (1, 4, 4, 4), (2, 3, 6, 2), (2, 3, 6, 3)),
        *((3, 5, 4, 1), (2, 1, 8, 4), (1, 2, 3, 3)),
    ):
        size = d // number
        firsts = [[100.0 * i + 10 * t + 1 for t in range(length)] for i in range(n)]
        rows = [
            [[first + j for j in range(d)] for first in sample] for sample in firsts
        ]
        expected = [
            [[row[h * size : (h + 1) * size] for row in sample] for h in range(number)]
            for sample in rows
        ]
        for dtype in (torch.float32, torch.float64):
            check.given = (
                f"{rows}, as shape {(n, length, d)}, {dtype}, and number = {number}"
            )
            x = torch.tensor(rows, dtype=dtype)
            check(answer(x, number), torch.tensor(expected, dtype=dtype))


def test_look_back(answer, check):
    check.hint = (
        "Print a mask for 3 tokens: the row asks the column. What is True here?"
    )
    for n, length, d, number in (
        (1, 3, 4, 2),
        (2, 5, 8, 4),
        (4, 4, 6, 3),
        (3, 1, 4, 2),
    ):
        layer = filled(nn.MultiheadAttention(d, number, batch_first=True))
        x = torch.tensor(numbers(n, length, d))
        # What came before is all that there is, if the sample ends with the token.
        ends = [layer(*[x[:, : t + 1]] * 3)[0][:, -1] for t in range(length)]
        expected = torch.stack(ends, dim=1).detach()
        given = f"a layer for d = {d} with {number} heads, x of shape {(n, length, d)}"
        check.given = given
        out = answer(layer, x.requires_grad_())
        check(out.detach(), expected)
        check.given = (
            f"{given}; the largest gradient of each output, a row, by each later token"
        )
        table = []
        for t in range(length):
            [gradient] = torch.autograd.grad(out[:, t].sum(), x, retain_graph=True)
            table.append(gradient.abs().amax(dim=(0, 2)))
        found = torch.stack(table)
        check(found.triu(diagonal=1), torch.zeros(length, length), rtol=0, atol=0)


def filled(layer):
    """The layer with numbers of our own."""
    for parameter in layer.parameters():
        values = torch.tensor(numbers(*parameter.shape))
        parameter.data = values / values.shape[-1] ** 0.5
    return layer


def attended(q, k, v, real):
    """One query's mean of the values whose keys are real, in plain Python."""
    there = [s for s, flag in enumerate(real) if flag]
    scores = [math.fsum(a * b for a, b in zip(q, k[s], strict=True)) for s in there]
    scores = [score / math.sqrt(len(q)) for score in scores]
    parts = [math.exp(score - max(scores)) for score in scores]
    columns = zip(*(v[s] for s in there), strict=True)
    return [
        math.fsum(a * b for a, b in zip(parts, column, strict=True)) / math.fsum(parts)
        for column in columns
    ]


def padded(n, length, places, d, e, real):
    """(q, k, v, real) with loud padding: 8 in each key, 1000 in each value."""
    q, k, v = (
        numbers(n, length, d),
        numbers(n, places, d, start=5),
        numbers(n, places, e, start=3),
    )
    for i, s in itertools.product(range(n), range(places)):
        if not real[i][s]:
            k[i][s], v[i][s] = [8.0] * d, [1000.0] * e
    return q, k, v, real


def loud(keys):
    """(q, k, v, real) of one query that scores 20 times each key; the last is none."""
    q, k, v = [40.0, 0.0, 0.0, 0.0], [[key] * 4 for key in keys], [[1.0], [2.0], [5.0]]
    return [[q]], [k], [v], [[True, True, False]]


def test_attention_with_padding(answer, check):
    check.hint = (
        "Which axis of the scores does real tell of? What sums to 1, over which axis?"
    )
    yes, no = True, False
    triangle = [[yes, no, no], [yes, yes, no], [yes, yes, yes]]
    for q, k, v, real in (
        ([[[1.0]]], [[[0.0], [0.0], [9.0]]], [[[2.0], [4.0], [8.0]]], [[yes, yes, no]]),
        padded(3, 3, 3, 4, 4, triangle),
        padded(2, 5, 3, 3, 2, [[yes, no, yes], [no, yes, no]]),
        padded(2, 2, 6, 16, 1, [[no, yes, yes, yes, no, yes], [yes] * 6]),
        loud([40.0, 39.9375, 150.0]),  # scores of 800, 798.75 and, of the padding, 3000
        loud([-40.0, -39.9375, 0.0]),
    ):
        expected = [
            [attended(row, k[i], v[i], real[i]) for row in q[i]] for i in range(len(q))
        ]
        for dtype in (torch.float32, torch.float64):
            tensors = [torch.tensor(x, dtype=dtype) for x in (q, k, v)]
            shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
            check.given = f"q, k and v of shapes {shapes}, {dtype}, and real = {real}"
            if len(real) == 1:
                check.given = f"q = {q}, k = {k}, v = {v}, {dtype}, and real = {real}"
            check(
                answer(*tensors, torch.tensor(real)),
                torch.tensor(expected, dtype=dtype),
            )


def test_rows_of_tokens(answer, check):
    check.hint = (
        "What does the layer give for a sequence that is all padding? Need it see one?"
    )
    for d, number, places, lengths in (
        (4, 2, 5, [5, 0, 1]),
        (6, 3, 3, [0, 2, 0, 3]),
        (8, 1, 4, [2, 3]),
    ):
        layer = filled(nn.MultiheadAttention(d, number, batch_first=True))
        x = torch.tensor(numbers(len(lengths), places, d))
        padding = torch.arange(places) >= torch.tensor(lengths)[:, None]
        x[padding] = 7.0
        expected = torch.zeros_like(x)
        for i, length in enumerate(lengths):
            if length:  # each sequence on its own, without any padding
                alone = x[i : i + 1, :length]
                expected[i, :length] = layer(alone, alone, alone)[0][0]
        wanted = torch.autograd.grad(expected.square().sum(), [*layer.parameters()])
        given = (
            f"a layer for d = {d} with {number} heads, and sequences of the lengths "
            f"{lengths}, padded to {places}"
        )
        check.given = given
        out = answer(layer, x, padding)
        detached = out.detach() if isinstance(out, torch.Tensor) else out
        check(detached, expected.detach())
        check.given = (
            f"{given}; the gradient of the sum of the squares with respect to "
            "in_proj_weight"
        )
        gradients = [None]
        if out.requires_grad:
            gradients = torch.autograd.grad(
                out.square().sum(), [*layer.parameters()], allow_unused=True
            )
        check(gradients[0], wanted[0], rtol=1e-4, atol=1e-4)
