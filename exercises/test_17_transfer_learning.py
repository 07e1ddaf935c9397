"""The checks of exercises/17_transfer_learning.py."""

import math

import torch
from torch import nn


class Scaled(nn.Module):
    """Layers, times a number that is trained."""

    def __init__(self, *layers):
        super().__init__()
        self.scale, self.layers = nn.Parameter(torch.ones(1)), nn.Sequential(*layers)

    def forward(self, x):
        return self.scale * self.layers(x)


def test_freeze(answer, check):
    check.hint = (
        "Which objects get a gradient? Ask each afterwards: model.named_parameters()."
    )
    for words, body in (
        ("a Linear", nn.Linear(2, 2)),
        (
            "a Sequential in a Sequential",
            nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Tanh()),
        ),
        ("a module with a parameter and a Linear", Scaled(nn.Linear(2, 2), nn.PReLU())),
    ):
        model = nn.Sequential()
        model.first, model.body, model.head = nn.Linear(1, 2), body, nn.Linear(2, 3)
        for parameter in model.parameters():
            nn.init.constant_(parameter, 0.25)  # all positive, so that no gradient is 0
        others = ["first.weight", "first.bias", "head.weight", "head.bias"]
        given = f"model.body, {words} between model.first and model.head"
        check.given = f"{given}; what requires a gradient afterwards"
        found = answer(model.body)
        check([name for name, p in model.named_parameters() if p.requires_grad], others)
        check.given = f"{given}; is it the module that came back"
        check(found is body, True)
        check.given = f"{given}; are all parameters what they were"
        check(all(bool((p == 0.25).all()) for p in model.parameters()), True)
        check.given = f"{given}; what a step of SGD with model.parameters() moves"
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        moved = [
            name for name, p in model.named_parameters() if bool((p != 0.25).any())
        ]
        check(moved, others)


def test_train_head(answer, check):
    check.hint = (
        "What in the body moves without a gradient? Which call decides it, and when?"
    )
    rows, labels = (
        [[1.0, 2.0], [3.0, -1.0], [0.0, 0.5], [-2.0, 4.0], [2.5, 2.5]],
        [0, 1, 2, 1, 0],
    )
    x, y = torch.tensor(rows, dtype=torch.float64), torch.tensor(labels)
    for steps, training in ((1, True), (4, False), (3, True)):
        model = frozen_model().train(training)
        norm = model.body[1]
        buffers, body = (
            [n.clone() for n in part] for part in (norm.buffers(), numbers(model))
        )
        given = f"x = {rows}, y = {labels}, steps {steps}, training={training}"
        check.given = f"{given}; the buffers of the batch norm afterwards"
        found = answer(model, x, y, steps)
        check(list(norm.buffers()), buffers)
        check.given = f"{given}; all numbers of the body afterwards"
        check(numbers(model), body)
        check.given = (
            f"{given}; a head of zeros for 3 classes, the loss before each step"
        )
        losses, weight, bias = trained_head(
            [features_of(*row) for row in rows], labels, steps
        )
        check(found, losses)
        check.given = f"{given}; the head afterwards"
        expected = [torch.tensor(part, dtype=torch.float64) for part in (weight, bias)]
        check(
            [part.detach() for part in (model.head.weight, model.head.bias)], expected
        )


def numbers(model):
    """All parameters and buffers of the body."""
    return list(model.body.state_dict().values())


def frozen_model():
    """A frozen body, whose features features_of knows, and a head of zeros."""
    model = nn.Sequential()
    layers = nn.Linear(2, 2), nn.BatchNorm1d(2), nn.LeakyReLU(0.5), nn.Dropout(0.5)
    model.body, model.head = nn.Sequential(*layers), nn.Linear(2, 3)
    with torch.no_grad():
        for tensor, values in (
            *(
                (layers[0].weight, [[1.0, 0.0], [1.0, 1.0]]),
                (layers[0].bias, [0.0, -1.0]),
            ),
            *((layers[1].weight, [1.0, 2.0]), (layers[1].bias, [0.5, 0.0])),
            *(
                (layers[1].running_mean, [1.0, 2.0]),
                (layers[1].running_var, [4.0, 9.0]),
            ),
        ):
            tensor.copy_(torch.tensor(values))
        for tensor in model.head.parameters():
            tensor.zero_()
    model.body.requires_grad_(False)
    return model.double()


def features_of(a, b):
    """What the body of frozen_model makes of a row in evaluation mode."""
    first = 0.5 + (a - 1) / math.sqrt(4 + 1e-5)
    second = 2 * (a + b - 1 - 2) / math.sqrt(9 + 1e-5)
    return [max(number, 0.5 * number) for number in (first, second)]


def trained_head(rows, labels, steps):
    """Softmax regression for three classes: the losses, the weight and the bias."""
    w, losses = [[0.0, 0.0, 0.0] for _ in range(3)], []  # the last column is the bias
    for _ in range(steps):
        total, gradient = 0.0, [[0.0, 0.0, 0.0] for _ in range(3)]
        for row, label in zip(rows, labels, strict=True):
            inputs = [*row, 1.0]
            powers = [math.exp(sum(map(float.__mul__, line, inputs))) for line in w]
            total -= math.log(powers[label] / sum(powers))
            for k in range(3):
                error = powers[k] / sum(powers) - (k == label)
                gradient[k] = [
                    g + error * v for g, v in zip(gradient[k], inputs, strict=True)
                ]
        losses.append(total / len(rows))
        for k in range(3):
            w[k] = [
                v - 0.1 * g / len(rows) for v, g in zip(w[k], gradient[k], strict=True)
            ]
    return losses, [line[:2] for line in w], [line[2] for line in w]


class Watched(nn.Module):
    """Layers; noted is how many rows they return, and if these require a gradient."""

    def __init__(self, *layers):
        super().__init__()
        self.layers, self.sizes, self.recorded = nn.Sequential(*layers), [], []

    def forward(self, x):
        out = self.layers(x)
        self.sizes.append(len(x))
        self.recorded.append(out.requires_grad)
        return out


def test_features(answer, check):
    check.hint = (
        "Which rows go in, how often, how many at once? How stands each switch then?"
    )
    for shape, batch_size, sizes in (
        *(((7, 2), 4, [4, 3]), ((9, 2), 4, [4, 4, 1]), ((6, 2), 3, [3, 3])),
        *(((5, 2, 1, 2), 2, [2, 2, 1]), ((4, 2), 4, [4])),
        *(((3, 2), 8, [3]), ((2, 2), 1, [1, 1])),
    ):
        for training, dtype in ((True, torch.float64), (False, torch.float32)):
            norm = nn.BatchNorm1d(2) if len(shape) == 2 else nn.BatchNorm2d(2)
            norm.running_mean.copy_(torch.tensor([2.0, 6.0]))
            norm.running_var.copy_(torch.tensor([4.0, 16.0]))
            body = (
                Watched(norm, nn.Flatten(), nn.Dropout(0.5)).to(dtype).train(training)
            )
            x = torch.arange(math.prod(shape), dtype=dtype).view(shape)
            pixels = math.prod(shape[2:])  # so many numbers are in a channel of a row
            expected = [
                (v - 6) / math.sqrt(16 + 1e-5)
                if v // pixels % 2
                else (v - 2) / math.sqrt(4 + 1e-5)
                for v in range(x.numel())
            ]
            expected = torch.tensor(expected, dtype=dtype).view(len(x), -1)
            words = f"batch norm and dropout, training={training}, "
            words += f"x = arange of shape {shape}, {dtype}"
            check_features(answer, check, words, body, x, batch_size, sizes, expected)
    x = torch.arange(12.0).view(3, 2, 2)
    words = "nn.Identity(), x = arange of shape (3, 2, 2), which stays as it is"
    check_features(answer, check, words, Watched(nn.Identity()), x, 2, [2, 1], x)
    x, expected = (
        torch.arange(5.0)[:, None],
        torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0]]),
    )
    words = "nn.Identity(), x = [[0.0], ..., [4.0]]"
    check_features(
        answer, check, words, Watched(nn.Identity()), x, 2, [2, 2, 1], expected
    )


def check_features(answer, check, words, body, x, batch_size, sizes, expected):
    """The features, how they came about, and in which state all is afterwards."""
    given = f"{words}, batch_size {batch_size}"
    training = body.training
    check.given = given
    with torch.enable_grad():
        found = answer(body, x, batch_size)
        again = torch.is_grad_enabled()
    check(found, expected)
    check.given = f"{given}; how many rows the body got, each time"
    check(body.sizes, sizes)
    check.given = f"{given}; was anything recorded"
    check(any(body.recorded) or found.requires_grad, False)
    check.given = (
        f"{given}; is it a tensor of inference mode, which no head can be trained on"
    )
    check(found.is_inference(), False)
    check.given = f"{given}; model.training of the body and its layers afterwards"
    check(
        [module.training for module in body.modules()],
        [training for _ in body.modules()],
    )
    check.given = f"{given}; do the parameters require gradients afterwards"
    check(
        [p.requires_grad for p in body.parameters()], [True for _ in body.parameters()]
    )
    check.given = f"{given}; does autograd record afterwards"
    check(again, True)


def test_groups(answer, check):
    check.hint = (
        "Print the names of the parameters of both modules: which are frozen, which "
        "turn up again? Two can hold equal numbers and still be two: what do == and "
        "`in` ask, and what does `is`?"
    )
    for words, body, head in pairs_of_modules():
        names = {id(p): f"head.{name}" for name, p in head.named_parameters()}
        names |= {id(p): f"body.{name}" for name, p in body.named_parameters()}
        frozen = {id(p) for module in (body, head) for p in module.parameters()}
        frozen -= {
            id(p) for p in (*body.parameters(), *head.parameters()) if p.requires_grad
        }
        for body_lr, head_lr in ((0.001, 0.01), (0.5, 0.25)):
            expected = [
                f"{name}: {body_lr if name.startswith('body') else head_lr}"
                for key, name in names.items()
                if key not in frozen
            ]
            given = f"{words}, body_lr {body_lr}, head_lr {head_lr}"
            check.given = f"{given}; parameters and their rates, in any order"
            found = []
            for group in answer(body, head, body_lr, head_lr):
                members = group.get("params", [])
                for p in [members] if isinstance(members, torch.Tensor) else members:
                    found.append(f"{names.get(id(p), 'another')}: {group.get('lr')}")
            check(sorted(found), sorted(expected))
            check.given = f"{given}; torch.optim.Adam of it"
            optimizer = torch.optim.Adam(answer(body, head, body_lr, head_lr))
            count = sum(len(group["params"]) for group in optimizer.param_groups)
            check(count, len(expected))
            check.given = f"{given}; are the frozen ones frozen afterwards"
            modules = nn.ModuleList([body, head]).parameters()
            check([p.requires_grad for p in modules].count(False), len(frozen))


def pairs_of_modules():
    """What is special, a body, and a head, all numbers of which are 0."""
    body, head = nn.Linear(2, 3), nn.Linear(3, 4)
    yield "Linear(2, 3) and Linear(3, 4)", body, head
    body = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    body[0].requires_grad_(False)
    yield "the first of three layers of the body frozen", body, nn.Linear(3, 3)
    body, head = (
        nn.Sequential(nn.Linear(3, 3), nn.Tanh()),
        nn.Sequential(nn.Linear(3, 3)),
    )
    for parameter in (*body.parameters(), *head.parameters()):
        nn.init.zeros_(parameter)
    yield "body and head of the same layers, all numbers 0", body, head
    body, head = (
        nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
        nn.Sequential(nn.Linear(3, 3)),
    )
    head[0].weight = body[0].weight
    yield "head[0].weight = body[0].weight", body, head
    layer = nn.Linear(3, 3)
    body, head = (
        nn.Sequential(layer, nn.ReLU(), layer),
        nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
    )
    head.append(head[0])
    yield "body and head with one layer twice each", body, head
    body, head = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), nn.Linear(3, 3)
    head.weight = body[1].weight
    body[1].weight.requires_grad_(False)
    head.bias.requires_grad_(False)
    yield "head.weight = body[1].weight frozen, head.bias frozen", body, head
    body = nn.Linear(2, 3).requires_grad_(False)
    yield (
        "all of the body frozen",
        body,
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)),
    )
