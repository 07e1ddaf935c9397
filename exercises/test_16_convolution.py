"""The checks of exercises/16_convolution.py."""

import itertools
import math

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

CORNERS = {
    "top left": (0, 0),
    "top right": (0, 7),
    "bottom left": (7, 0),
    "bottom right": (7, 7),
}


def corner_models():
    """(in words, model) for models whose logits are the four corners of a picture."""
    kernel = torch.zeros(4, 1, 8, 8)
    for kind, (i, j) in enumerate(CORNERS.values()):
        kernel[kind, 0, i, j] = 1.0
    models = [nn.Sequential(nn.Conv2d(1, 4, 8, bias=False), nn.Flatten())]
    models[0][0].weight.data = kernel
    models += [nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(64, 4))]
    models[1][0].weight.data, models[1][0].bias.data = (
        torch.ones(1, 1, 1, 1),
        torch.zeros(1),
    )
    models[1][2].weight.data, models[1][2].bias.data = kernel.flatten(1), torch.zeros(4)
    return zip(
        ("a convolution of 8 x 8", "a convolution and a linear layer"),
        models,
        strict=True,
    )


def test_predict_one(answer, check):
    check.hint = (
        "Which shape goes into the model, which comes out, over what is argmax?"
    )
    for logits in ([0.5, 2.0, 1.0], [-3.0, -1.0, -2.0, -0.5]):
        model = nn.Sequential(nn.Conv2d(1, len(logits), 8), nn.Flatten()).eval()
        nn.init.zeros_(model[0].weight)
        model[0].bias.data = torch.tensor(logits)
        check.given = (
            f"a convolution of 8 x 8 whose logits are {logits} for any picture"
        )
        check(answer(model, torch.ones(8, 8)), logits.index(max(logits)))
    for words, model in corner_models():
        shapes = []
        model.eval().register_forward_pre_hook(
            lambda _, x, to=shapes: to.append(x[0].shape)
        )
        for expected, (corner, place) in enumerate(CORNERS.items()):
            bright = torch.zeros(8, 8)
            bright[place] = 0.5
            bright[3, 4] = 1.0
            given = f"{words} whose logits are the corners, {', '.join(CORNERS)}"
            check.given = f"{given}; a picture that is bright {corner}"
            check(answer(model, bright), expected)
            check.given = f"{given}is bright {corner}; the shape that the model got"
            check(tuple(shapes[-1]), (shapes[-1][0], 1, 8, 8))


def test_classifier(answer, check):
    check.hint = (
        "Print the shape after each layer, for 4 pictures of 8 x 8, 16 x 16 and "
        "10 x 14: how many numbers are left of one picture, and how many rows does "
        "the last layer get?"
    )
    check.given = "classifier(16, 16, 3); the shape that it makes of 4 pictures"
    check(tuple(answer(16, 16, 3)(torch.zeros(4, 1, 16, 16)).shape), (4, 3))
    for height, width, classes, numbers in (
        *((8, 8, 10, 1898), (10, 14, 5, 1733), (16, 16, 3, 2019)),
        *((4, 7, 3, 1299), (12, 9, 2, 1442)),
    ):
        given = f"classifier({height}, {width}, {classes})"
        check.given = f"{given}; numbers to train"
        model = answer(height, width, classes)
        if any(map(nn.parameter.is_lazy, model.parameters())):
            model(torch.zeros(1, 1, height, width))  # which makes them
        parameters = {
            tuple(parameter.shape): parameter for parameter in model.parameters()
        }
        check(sum(parameter.numel() for parameter in model.parameters()), numbers)
        check.given = f"{given}; the shapes of its parameters, sorted"
        left = (numbers - 80 - 1168) // classes - 1
        shapes = [(8,), (8, 1, 3, 3), (16,), (16, 8, 3, 3), (classes,), (classes, left)]
        check(sorted(parameters), sorted(shapes))
        pictures = [picture(p, height, width) for p in range(4)]
        for parameter in parameters.values():
            nn.init.zeros_(parameter)
        with torch.no_grad():
            for c in range(8):
                parameters[8, 1, 3, 3][c, 0, c // 3, c % 3] = (-1.0) ** c
            for d in range(16):
                parameters[16, 8, 3, 3][d, d % 8, d % 9 // 3, d % 3] = (
                    1.0 if d < 8 else -1.0
                )
            parameters[16,].fill_(2.5)
            # the first class gets logits below 0, which a relu behind them would cut
            factors = [-1 / 64] + [(k + 1) / 64 for k in range(1, classes)]
            parameters[classes, left].copy_(torch.tensor(factors)[:, None])
            parameters[classes,].fill_(0.25)
        sums = [sum_of_features(rows) for rows in pictures]
        expected = [[factor * total + 0.25 for factor in factors] for total in sums]
        check.given = f"{given} with weights that shift a picture, of 4 pictures"
        found = model(torch.tensor(pictures)[:, None])
        check(found.detach(), torch.tensor(expected))


def picture(p, height, width):
    """Whole numbers from -4 to 8, in no order that matters, as rows of floats."""
    rows = range(height)
    return [
        [(7 * i * i + 5 * j + i * j + 3 * p) % 13 - 4.0 for j in range(width)]
        for i in rows
    ]


def sum_of_features(rows):
    """What is left of a picture, summed, where each kernel has one weight."""
    first = [halved(shifted(rows, c, (-1.0) ** c, 0.0)) for c in range(8)]
    signs = [1.0] * 8 + [-1.0] * 8
    second = [halved(shifted(first[d % 8], d % 9, signs[d], 2.5)) for d in range(16)]
    return math.fsum(
        itertools.chain.from_iterable(itertools.chain.from_iterable(second))
    )


def shifted(rows, tap, factor, bias):
    """factor times the pixel that a 3 x 3 kernel sees at tap 0 to 8, plus bias."""
    height, width = len(rows), len(rows[0])
    out = [[bias] * width for _ in rows]
    for i, j in itertools.product(range(height), range(width)):
        down, right = i + tap // 3 - 1, j + tap % 3 - 1
        if 0 <= down < height and 0 <= right < width:
            out[i][j] += factor * rows[down][right]
    return out


def halved(rows):
    """relu, and the largest of each 2 x 2 numbers."""
    columns = range(0, len(rows[0]) - 1, 2)
    return [
        [max(0.0, *rows[i][j : j + 2], *rows[i + 1][j : j + 2]) for j in columns]
        for i in range(0, len(rows) - 1, 2)
    ]


class Poolings:
    """Counts the calls of PyTorch's own poolings."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.calls += "pool" in str(operation)
        return operation(*args, **(kwargs or {}))


class CountPoolings(Poolings, TorchDispatchMode):
    """In two classes, since a mode with a __torch_dispatch__ of its own loads
    torch._dynamo."""


def test_max_pool_by_loops(answer, check):
    check.hint = "Where does window number i begin and end, and which one is the last?"
    check.given = "x of shape (1, 1, 2, 3), k = 2, stride 1; PyTorch's own poolings"
    with CountPoolings() as pooling:
        answer(torch.tensor([[[[1.0, 5.0, 2.0], [3.0, 4.0, 0.0]]]]), 2, 1)
    check(pooling.calls, 0)
    for rows, k, stride in (
        ([[1.0, 5.0, 2.0], [3.0, 4.0, 0.0]], 2, 1),
        ([[-5.0, -1.0, -3.0, -2.0], [-4.0, -9.0, -7.0, -6.0]], 2, 2),
    ):
        height, width = len(rows), len(rows[0])
        ends = [range(0, length - k + 1, stride) for length in (height, width)]
        expected = [
            [max(max(row[j : j + k]) for row in rows[i : i + k]) for j in ends[1]]
            for i in ends[0]
        ]
        check.given = (
            f"{rows}, as shape (1, 1, {height}, {width}), k = {k}, stride {stride}"
        )
        check(answer(torch.tensor([[rows]]), k, stride), torch.tensor([[expected]]))
    for (n, channels, height, width), k, stride in (
        *(
            ((2, 3, 5, 8), 2, 2),
            ((1, 2, 8, 5), 3, 2),
            ((3, 1, 7, 7), 2, 3),
            ((2, 2, 4, 6), 3, 1),
        ),
        *(((1, 1, 5, 4), 1, 1), ((1, 3, 3, 3), 3, 2), ((2, 1, 6, 7), 1, 3)),
    ):
        size = n * channels * height * width
        # all below 0
        numbers = [float(i * i * 37 % 101 - 110) / 4 for i in range(size)]
        tops, lefts = range(0, height - k + 1, stride), range(0, width - k + 1, stride)
        expected = [
            max(
                numbers[(picture * height + i) * width + j]
                for i in range(top, top + k)
                for j in range(left, left + k)
            )
            for picture in range(n * channels)
            for top in tops
            for left in lefts
        ]
        for dtype in (torch.float32, torch.float64):
            x = torch.tensor(numbers, dtype=dtype).view(n, channels, height, width)
            check.given = (
                f"numbers of shape {tuple(x.shape)}, {dtype}, k = {k}, stride {stride}"
            )
            right = torch.tensor(expected, dtype=dtype)
            check(answer(x, k, stride), right.view(n, channels, len(tops), len(lefts)))


def test_mean_without_dark_border(answer, check):
    check.hint = (
        "How many pixels stand behind the sum in a corner, at an edge, in the middle?"
    )
    for rows, k in (
        ([[1.0, 2.0, 6.0]], 3),
        ([[1.0] * 4] * 4, 3),
        ([[0.0, 4.0, 0.0, -2.0], [8.0, 0.0, 1.0, 0.0], [0.0, -6.0, 3.0, 5.0]], 3),
    ):
        shape = 1, 1, len(rows), len(rows[0])
        check.given = f"{rows}, as shape {shape}, k = {k}"
        check(answer(torch.tensor([[rows]]), k), torch.tensor([[mean_inside(rows, k)]]))
    for (n, channels, height, width), k in (
        *(((2, 3, 4, 5), 3), ((1, 2, 7, 6), 5), ((3, 1, 2, 3), 7), ((2, 2, 3, 4), 1)),
    ):
        pictures = [picture(p, height, width) for p in range(n * channels)]
        right = [mean_inside(rows, k) for rows in pictures]
        for dtype in (torch.float32, torch.float64):
            x = torch.tensor(pictures, dtype=dtype).view(n, channels, height, width)
            check.given = f"numbers of shape {tuple(x.shape)}, {dtype}, k = {k}"
            check(answer(x, k), torch.tensor(right, dtype=dtype).view(x.shape))


def mean_inside(rows, k):
    """For each number the mean of its neighbours up to k // 2 away, by slices."""
    far, out = k // 2, []
    for i in range(len(rows)):
        near = rows[max(i - far, 0) : i + far + 1]
        out.append([])
        for j in range(len(rows[0])):
            numbers = [
                number for row in near for number in row[max(j - far, 0) : j + far + 1]
            ]
            out[-1].append(math.fsum(numbers) / len(numbers))
    return out
