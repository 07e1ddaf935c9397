"""The checks of exercises/06_pipeline.py."""

import math

import torch


def test_epochs_needed(answer, check):
    check.hint = "A loop with a return in it. In which order do looking and the parts of a step come?"
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


def test_deep(answer, check):
    check.hint = "Where does a module look for its parameters? Follow x through forward on paper."
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


def test_evaluated(answer, check):
    check.hint = "Two switches: one is the model's mode, the other autograd's. Neither does both."
    recorded = []

    def loss_function(p, y):
        recorded.append(torch.is_grad_enabled())
        return ((p - y) ** 2).mean()

    for training in (True, False):
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5)).train(
            training
        )
        torch.nn.init.eye_(model[0].weight)
        torch.nn.init.ones_(model[0].bias)
        x = torch.arange(300.0).view(100, 3)
        given = f"the model x + 1, then Dropout(0.5), training={training}, y = x"
        check.given = given
        check(answer(model, loss_function, x, x), 1.0)
        check.given = f"{given}; was it recorded"
        check(any(recorded), False)
        check.given = f"{given}; model.training afterwards"
        check([module.training for module in model.modules()], [training] * 3)


def test_percent_of_batches(answer, check):
    check.hint = (
        "What would it say of a model that is always wrong? Of batches of 4 and 1?"
    )
    cases = [
        ([[1, 1], [0, 0]], [[1, 0], [0, 0]], 75.0),
        ([[1, 2, 3]], [[1, 2, 3]], 100.0),
    ]
    cases += [([[0, 0, 0, 0], [1]], [[1, 0, 0, 1], [0]], 40.0)]
    for predicted, labels, expected in cases:
        batches = [
            tuple(map(torch.tensor, pair))
            for pair in zip(predicted, labels, strict=True)
        ]
        check.given = f"predicted {predicted}, labels {labels}"
        check(answer(batches), expected)


def test_mean_loss(answer, check):
    check.hint = "How many samples stand behind each batch's loss?"
    for sizes, errors in (((4, 1), (1.0, 3.0)), ((5, 5, 2), (1.0, 2.0, 4.0))):
        pairs = list(zip(sizes, errors, strict=True))
        batches = [(torch.full((n, 1), error), torch.zeros(n, 1)) for n, error in pairs]
        for name, power, loss_function in (
            ("L1Loss(), the mean of |p - y|", 1, torch.nn.L1Loss()),
            ("MSELoss()", 2, torch.nn.MSELoss()),
        ):
            expected = sum(n * error**power for n, error in pairs) / sum(sizes)
            check.given = f"{name}, batches of {sizes} samples, each wrong by {errors}"
            check(answer(loss_function, batches), expected)
