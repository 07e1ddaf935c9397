"""The checks of exercises/15_optimizers.py."""

import math

import torch


def test_momentum_steps(answer, check):
    check.hint = (
        "Two numbers change in each step. Which of them first, and does the step use "
        "the old memory or the new one?"
    )
    for curvature, lr, m in ((1.0, 0.1, 0.5), (15.0, 0.05, 0.9), (2.0, 0.3, 0.0)):
        for steps in (3, 1, 8):
            # The textbook's other form: w'' = w' - lr gradient(w') + m (w' - w).
            places = [1.0, 1.0]
            for _ in range(steps):
                before, now = places[-2:]
                places.append(now - lr * curvature * now + m * (now - before))
            check.given = (
                f"w 1.0, gradient {curvature} w, lr {lr}, momentum {m}, steps {steps}"
            )
            found = answer(1.0, lambda w, c=curvature: c * w, lr, m, steps)
            check(found, places[2:], rtol=1e-9, atol=1e-12)


def test_rates(answer, check):
    check.hint = (
        "When is a rate the rate of an epoch: before its batches, or after them? And "
        "in which loop does the scheduler belong?"
    )
    for epochs, batches, size in ((3, 4, 1), (5, 3, 2), (4, 1, 3)):
        w = torch.zeros(1, requires_grad=True)
        w.grad = torch.ones(1)
        optimizer = torch.optim.SGD([w], lr=1.0)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, size, gamma=0.5)
        expected = [0.5 ** (epoch // size) for epoch in range(epochs)]
        given = f"lr 1.0, StepLR(step_size={size}, gamma=0.5), "
        given += f"{epochs} epochs of {batches} batches"
        check.given = given
        check(answer(epochs, batches, optimizer, scheduler), expected)
        # The gradient is 1: w has lost the sum of the rates of all batches.
        check.given = f"{given}, gradient 1; how far the weight has gone"
        check(-w.item(), batches * sum(expected), rtol=1e-5)


def test_range_losses(answer, check):
    check.hint = (
        "Print optimizer.param_groups after the loop. What is left in "
        "model.state_dict() if you keep it without copying?"
    )
    for rates in ([0.25, 0.5, 0.5], [0.1, 0.3, 0.9, 0.2]):
        model = torch.nn.BatchNorm1d(1, dtype=torch.float64)  # weight 1, bias 0
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        before = {name: tensor.clone() for name, tensor in tensors.items()}

        def loss_function(model):
            model(torch.tensor([[0.0], [4.0]], dtype=torch.float64))  # moves buffers
            return (model.weight**2).sum()

        # The slope of w^2 is 2 w: a step multiplies w by 1 - 2 rate.
        w, expected = 1.0, []
        for rate in rates:
            expected.append(w**2)
            w *= 1 - 2 * rate
        given = f"w = 1, the loss w^2, rates {rates}"
        check.given = given
        check(answer(model, loss_function, list(rates)), expected)
        now = dict(model.named_parameters()) | dict(model.named_buffers())
        for name, value in before.items():
            check.given = f"{given}; {name} afterwards"
            check(now[name].detach(), value)
            check.given = f"{given}; is {name} the tensor that it was"
            check(now[name] is tensors[name], True)


def test_clipped(answer, check):
    check.hint = (
        "One number scales them all. What is it if the norm is below the bound?"
    )
    cases = [([[3.0], [[4.0]]], 1), ([[0.3], [[0.4]]], 1), ([[-6.0, 2.0], [3.0]], 2.5)]
    for numbers, bound in [*cases, ([[0.0, 0.0]], 1), ([[2.0]], 2.0)]:
        gradients = [torch.tensor(part) for part in numbers]
        copies = [gradient.clone() for gradient in gradients]
        flat = [number for gradient in copies for number in gradient.flatten().tolist()]
        norm = math.hypot(*flat)
        factor = bound / norm if norm > bound else 1.0
        check.given = f"{numbers}, bound {bound}"
        found = answer(gradients, bound)
        check(found, [copy * factor for copy in copies], rtol=1e-6)
        check.given = f"{numbers}, bound {bound}; the gradients given, afterwards"
        check(gradients, copies)
        check.given = f"{numbers}, bound {bound}; is any of them one that was given"
        check(any(new is old for new in found for old in gradients), False)
