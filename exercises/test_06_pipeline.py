"""The checks of exercises/06_pipeline.py."""

import math
import os
import tempfile

import numpy as np
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def test_epochs_needed(answer, check):
    check.hint = (
        "A loop with a return in it. In which order do looking and the parts of a step "
        "come?"
    )
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]], dtype=torch.float64)
    # Lesson 05: from w = 0 the loss after k steps for y = 2 x is 7.5 (2 (1 - 15
    # lr)^k)^2.
    for lr, tolerance, most in (
        (0.01, 1e-3, 99),
        (0.06, 1e-6, 99),
        (0.01, 1e-3, 7),
        (0.1, 30, 9),
    ):
        model = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        torch.nn.init.zeros_(model.weight)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        losses = [7.5 * (2 * (1 - 15 * lr) ** k) ** 2 for k in range(most)]
        expected = next((k for k, loss in enumerate(losses) if loss <= tolerance), most)
        given = f"y = 2 x from w = 0, lr {lr}, tolerance {tolerance}, most {most}"
        check.given = given
        check(answer(model, optimizer, x, 2 * x, tolerance, most), expected)
        check.given = f"{given}; the weight afterwards"
        check(
            model.weight.item(), 2 * (1 - (1 - 15 * lr) ** expected), rtol=1e-9, atol=0
        )


def test_two_layers(answer, check):
    check.hint = (
        "A class with two methods: one makes the layers, the other says in which order "
        "x goes through them. Return a model, not the class."
    )
    for hidden in (8, 3):
        check.given = f"{hidden}; is what came back an nn.Module"
        model = answer(hidden)
        check(isinstance(model, torch.nn.Module), True)
        check.given = f"{hidden}; is what came back an nn.Sequential"
        check(isinstance(model, torch.nn.Sequential), False)
        check.given = f"{hidden}; the shapes of its parameters, sorted"
        parameters = {parameter.shape: parameter for parameter in model.parameters()}
        shapes = [(1,), (1, hidden), (hidden,), (hidden, 1)]
        check(sorted(tuple(p.shape) for p in model.parameters()), shapes)
        c, v, b, w = (
            [0.3 + math.sin(3 * k + len(shape)) for k in range(math.prod(shape))]
            for shape in shapes
        )
        with torch.no_grad():
            for shape, numbers in zip(shapes, (c, v, b, w), strict=True):
                parameters[shape].copy_(torch.tensor(numbers).view(shape))
        xs = [-2.0, 0.0, 0.5]
        expected = [
            [sum(v[k] * math.tanh(w[k] * x + b[k]) for k in range(hidden)) + c[0]]
            for x in xs
        ]
        check.given = f"{hidden}; what the model makes of the rows {xs}"
        check(model(torch.tensor(xs)[:, None]).detach(), torch.tensor(expected))


class Network(torch.nn.Module):
    """That of the chapter."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(1, 8)
        self.second = torch.nn.Linear(8, 1)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def place(map_location):
    """Where torch.load puts what was on a second graphics card, in words."""
    if callable(map_location):
        return str(map_location(torch.UntypedStorage(1), "cuda:1").device)
    return str(map_location)


def test_loaded(answer, check):
    check.hint = (
        "Section 4 loads at the end of its program. What do its three lines ask of "
        "torch.load, where do the numbers go, and which mode does a new model have?"
    )
    load = torch.load
    calls = []

    def watched(file, map_location=None, *arguments, **options):
        calls.append((options.get("weights_only"), place(map_location)))
        return load(file, map_location, *arguments, **options)

    for device in DEVICES:
        given = f"a new Network() and a file that was written on {device}"
        check.given = given
        other = Network().to(device)
        expected = []
        with torch.no_grad():
            for k, parameter in enumerate(other.parameters()):
                parameter.fill_(k + 0.5)
                expected.append(torch.full(parameter.shape, k + 0.5))
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "flats.pt")
            torch.save(other.state_dict(), path)
            torch.load = watched
            try:
                found = answer(Network(), path)
            finally:
                torch.load = load
        check.given = f"{given}; is what came back an nn.Module"
        check(isinstance(found, torch.nn.Module), True)
        check.given = f"{given}; its parameters afterwards"
        check([parameter.detach() for parameter in found.parameters()], expected)
        check.given = f"{given}; .training of the model and of its two layers"
        check([module.training for module in found.modules()], [False] * 3)
        check.given = f"{given}; weights_only, as torch.load was told"
        check([only for only, _ in calls], [True] * max(1, len(calls)))
        check.given = f"{given}; map_location, as torch.load was told"
        check([where for _, where in calls], ["cpu"] * len(calls))


def test_trained(answer, check):
    check.hint = (
        "Which shape has model(x) - y? What is in the gradients when the second step "
        "begins?"
    )
    for xs, ys, lr, steps in (
        ([1.0, 2.0, 3.0, 4.0], [3.0, 5.0, 7.0, 9.0], 0.05, 3),
        ([-1.0, 0.0, 2.0], [1.0, 1.0, -5.0], 0.1, 20),
    ):
        given = f"a line from w = b = 0, x = {xs}, y = {ys}, lr {lr}, {steps} steps"
        check.given = given
        # The slopes of mean(e^2), where e = w x + b - y, are 2 mean(e x) and 2 mean(e).
        w = b = 0.0
        expected = []
        for _ in range(steps):
            e = w * np.array(xs) + b - np.array(ys)
            expected.append(float(np.mean(e**2)))
            w -= lr * 2 * float(np.mean(e * xs))
            b -= lr * 2 * float(np.mean(e))
        model = torch.nn.Linear(1, 1, dtype=torch.float64)
        for parameter in model.parameters():
            torch.nn.init.zeros_(parameter)
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        x = torch.tensor(xs, dtype=torch.float64)[:, None]
        y = torch.tensor(ys, dtype=torch.float64)
        check(answer(model, optimizer, x, y, steps), expected, rtol=1e-9, atol=1e-12)
        check.given = f"{given}; w and b afterwards"
        check([model.weight.item(), model.bias.item()], [w, b], rtol=1e-9, atol=1e-12)
        check.given = f"{given}; the shapes of x and y afterwards"
        check([tuple(x.shape), tuple(y.shape)], [(len(xs), 1), (len(xs),)])


def test_deep(answer, check):
    check.hint = (
        "Where does a module look for its parameters? "
        "Follow x through forward on paper."
    )
    for width, depth in ((10, 3), (4, 6)):
        check.given = f"width {width}, depth {depth}; numbers to train"
        model = answer(width, depth)
        found = sum(parameter.numel() for parameter in model.parameters())
        check(found, depth * (width * width + width) + width + 1)
        h = 1.0
        for _ in range(depth):
            h = math.tanh(0.1 * width * h + 0.1)
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, 0.1)
        check.given = (
            f"width {width}, depth {depth}, all parameters 0.1; of ones(5, {width})"
        )
        found = model(torch.ones(5, width))
        check(found.detach(), torch.full((5, 1), 0.1 * width * h + 0.1))
