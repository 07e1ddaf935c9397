"""The checks of exercises/13_train_and_eval.py."""

import math

import torch


def test_dropper(answer, check):
    check.hint = "Who knows the mode of a module, and who is never told?"
    for p in (0.5, 0.2, 0.9):
        given = check.given = f"p {p}, then"
        module, x = answer(p), torch.arange(1.0, 10_001.0)
        check.given = (
            f"{given} train() and x = 1, 2, ..., 10000; which factors are there"
        )
        factors = (module.train()(x) / x).double()
        rounded = sorted({round(factor, 3) for factor in factors.tolist()})
        check(rounded, [0.0, round(1 / (1 - p), 3)], rtol=0, atol=2e-3)
        check.given = f"{given} train() and x; the part that became 0"
        found = (factors == 0).double().mean().item()
        # Six standard deviations of a part of 10,000.
        check(found, p, rtol=0, atol=6 * math.sqrt(p * (1 - p) / 10_000))
        check.given = f"{given} eval(); the same x"
        check(module.eval()(x), x)
        check.given = f"{given} eval(), train() again and x; is anything dropped"
        check((module.train()(x) == 0).any().item(), True)
        check.given = f"{given} eval() of a Sequential that holds it; the same x"
        check(torch.nn.Sequential(module).eval()(x), x)


def test_running_values(answer, check):
    check.hint = (
        "A step of momentum towards each batch. What is its variance divided by?"
    )
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(n, 3, generator=generator) * n for n in (4, 2, 7)]
    cases = [([torch.tensor([[0.0], [4.0]])], 0.1), (batches, 0.1), (batches, 0.5)]
    cases += [(batches[::-1], 0.3), ([batches[0].double()] * 5, 0.1)]
    for given, momentum in cases:
        # Python's numbers, one column after the other.
        means, variances = [], []
        for column in range(given[0].shape[1]):
            mean, variance = 0.0, 1.0
            for rows in given:
                numbers = rows[:, column].tolist()
                centre = sum(numbers) / len(numbers)
                squares = sum((number - centre) ** 2 for number in numbers)
                mean += momentum * (centre - mean)
                variance += momentum * (squares / (len(numbers) - 1) - variance)
            means.append(mean)
            variances.append(variance)
        shapes = ", ".join(str(tuple(rows.shape)) for rows in given)
        dtype = given[0].dtype
        check.given = f"batches of the shapes {shapes}, {dtype}, momentum {momentum}"
        expected = (
            torch.tensor(means, dtype=dtype),
            torch.tensor(variances, dtype=dtype),
        )
        check(answer(list(given), momentum), expected, rtol=1e-5, atol=1e-5)


def test_predict(answer, check):
    check.hint = (
        "What does the model know of its mode, and autograd of recording: before, "
        "during, after?"
    )
    for training in (True, False):
        for numbers in ([3.0, 1.0], [3.0, 1000.0], [3.0]):
            model, recorded = watched_model(training)
            given = (
                f"batch norm with running mean 2 and variance 4, training={training}, "
            )
            given += f"rows {numbers}"
            check.given = given
            with torch.enable_grad():
                found = answer(model, torch.tensor(numbers)[:, None])
                again = torch.is_grad_enabled()
            expected = [(v - 2) / math.sqrt(4 + 1e-5) for v in numbers]
            check(found, torch.tensor(expected)[:, None])
            check.given = f"{given}; was anything recorded"
            check(any(recorded) or found.requires_grad, False)
            check.given = (
                f"{given}; model.training of the model and its layers afterwards"
            )
            check([module.training for module in model.modules()], [training] * 4)
            check.given = f"{given}; do the parameters require gradients afterwards"
            check(
                [parameter.requires_grad for parameter in model.parameters()],
                [True] * 4,
            )
            check.given = f"{given}; does autograd record afterwards"
            check(again, True)


def watched_model(training):
    """x, batch norm, dropout; and a list: did each layer's result need a gradient?"""
    layers = torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1), torch.nn.Dropout(0.5)
    model, recorded = torch.nn.Sequential(*layers).train(training), []
    torch.nn.init.ones_(model[0].weight)
    torch.nn.init.zeros_(model[0].bias)
    model[1].running_mean.fill_(2.0)
    model[1].running_var.fill_(4.0)
    for layer in layers:
        layer.register_forward_hook(lambda _, x, y: recorded.append(y.requires_grad))
    return model, recorded


def test_evaluated(answer, check):
    check.hint = (
        "Three things can go wrong: what is measured, what is recorded, and how the "
        "model is left. A list can keep a mode for each of model.modules()."
    )
    x = torch.arange(300.0).view(100, 3)
    for norm, dropout in ((True, True), (False, False), (False, True), (True, False)):
        model, recorded = model_with_modes(norm, dropout)
        given = "x + 1, batch norm that has seen nothing, Dropout(0.5), y = x; "
        given += f"training={norm} of the batch norm, {dropout} of the dropout"
        before = [module.training for module in model.modules()]
        check.given = given

        def loss_function(p, y, recorded=recorded):
            recorded.append(torch.is_grad_enabled() or p.requires_grad)
            return ((p - y) ** 2).mean()

        check(answer(model, loss_function, x, x), 1.0, rtol=1e-2)
        check.given = f"{given}; was it recorded"
        check(any(recorded), False)
        check.given = f"{given}; training of each of modules() afterwards"
        check([module.training for module in model.modules()], before)
        check.given = f"{given}; the running mean afterwards"
        check(model[1].running_mean, torch.zeros(3))
        check.given = f"{given}; does autograd record afterwards"
        check(torch.is_grad_enabled(), True)

        def broken(p, y):
            raise ValueError("the loss function has failed")

        check.given = f"{given}; the loss function raises a ValueError: who gets it"
        try:
            answer(model, broken, x, x)
            reached = "nobody"
        except ValueError:
            reached = "the caller"
        check(reached, "the caller")
        check.given = (
            f"{given}; the loss function raises an error: training of each of "
            "modules() afterwards"
        )
        check([module.training for module in model.modules()], before)
        check.given = (
            f"{given}; the loss function raises: does autograd record after it"
        )
        check(torch.is_grad_enabled(), True)


def model_with_modes(norm, dropout):
    """x + 1, a fresh batch norm, dropout, in training mode but for these two; a list
    that notes whether each layer's result needs a gradient."""
    layers = torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5)
    model, recorded = torch.nn.Sequential(*layers).train(norm), []
    torch.nn.init.eye_(model[0].weight)
    torch.nn.init.ones_(model[0].bias)
    model[2].train(dropout)
    for layer in layers:
        layer.register_forward_hook(lambda _, x, y: recorded.append(y.requires_grad))
    return model, recorded
