"""The exercises of lesson 15, solved."""

import copy

import torch


def momentum_steps(w, gradient, lr, momentum, steps):
    """The weight after each step."""
    # The memory first: the step uses the gradient that it has just seen.
    memory, places = 0.0, []
    for _ in range(steps):
        memory = momentum * memory + gradient(w)
        w = w - lr * memory
        places.append(w)
    return places


def rates(epochs, batches, optimizer, scheduler):
    """The rate of each epoch."""
    # Note the rate before the batches, for step() of the scheduler sets the next one.
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        for _ in range(batches):
            optimizer.step()
        scheduler.step()
    return found


def range_losses(model, loss_function, rates):
    """The losses before each step; the model is as it was."""
    # state_dict() holds the tensors themselves, which training changes: keep a copy.
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=rates[0])
    losses = []
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = loss_function(model)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.load_state_dict(before)
    return losses


def clipped(gradients, bound):
    """The gradients, shorter if they are too long together."""
    # One arrow: the squares of all numbers under one root, and one factor for all.
    norm = sum(gradient.square().sum() for gradient in gradients).sqrt().item()
    factor = min(1.0, bound / norm) if norm > 0 else 1.0
    return [gradient * factor for gradient in gradients]
