"""Plausible wrong answers to the exercises of lesson 15, and the thoughts behind."""

import torch


def momentum_steps_1(w, gradient, lr, momentum, steps):
    """Step first, and remember afterwards."""
    memory, places = 0.0, []
    for _ in range(steps):
        w = w - lr * memory
        memory = momentum * memory + gradient(w)
        places.append(w)
    return places


def momentum_steps_2(w, gradient, lr, momentum, steps):
    """An average, as Adam keeps it."""
    memory, places = 0.0, []
    for _ in range(steps):
        memory = momentum * memory + (1 - momentum) * gradient(w)
        w = w - lr * memory
        places.append(w)
    return places


def momentum_steps_3(w, gradient, lr, momentum, steps):
    """The start belongs to the path."""
    memory, places = 0.0, [w]
    for _ in range(steps):
        memory = momentum * memory + gradient(w)
        w = w - lr * memory
        places.append(w)
    return places


def momentum_steps_4(w, gradient, lr, momentum, steps):
    """Look ahead first: Nesterov."""
    memory, places = 0.0, []
    for _ in range(steps):
        now = gradient(w)
        memory = momentum * memory + now
        w = w - lr * (now + momentum * memory)
        places.append(w)
    return places


def rates_1(epochs, batches, optimizer, scheduler):
    """Only note the rate at the right place."""
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        for _ in range(batches):
            optimizer.step()
            scheduler.step()
    return found


def rates_2(epochs, batches, optimizer, scheduler):
    """Only move the scheduler."""
    found = []
    for _ in range(epochs):
        for _ in range(batches):
            optimizer.step()
        scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


def rates_3(epochs, batches, optimizer, scheduler):
    """The rates are all that is asked for: no need to train."""
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def range_losses_1(model, loss_function, rates):
    """state_dict() is a copy."""
    before = model.state_dict()
    losses = _losses(model, loss_function, rates)
    model.load_state_dict(before)
    return losses


def range_losses_2(model, loss_function, rates):
    """dict() copies, as it does a list of numbers."""
    before = dict(model.state_dict())
    losses = _losses(model, loss_function, rates)
    model.load_state_dict(before)
    return losses


def range_losses_3(model, loss_function, rates):
    """Only the parameters have changed."""
    before = [parameter.detach().clone() for parameter in model.parameters()]
    losses = _losses(model, loss_function, rates)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), before, strict=True):
            parameter.copy_(value)
    return losses


def range_losses_4(model, loss_function, rates):
    """Restored, and the rate is set as one sets it."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=rates[0])
    losses = []
    for rate in rates:
        optimizer.lr = rate
        optimizer.zero_grad()
        loss = loss_function(model)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.load_state_dict(before)
    return losses


def _losses(model, loss_function, rates):
    """The losses before each step, each at its rate."""
    losses = []
    for rate in rates:
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        optimizer.zero_grad()
        loss = loss_function(model)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def clipped_1(gradients, bound):
    """Each tensor by itself."""
    return [g * min(1.0, bound / max(g.norm().item(), 1e-9)) for g in gradients]


def clipped_2(gradients, bound):
    """Each number by itself."""
    return [gradient.clamp(-bound, bound) for gradient in gradients]


def clipped_3(gradients, bound):
    """Always to the bound."""
    norm = sum(gradient.square().sum() for gradient in gradients).sqrt()
    return [gradient * (bound / norm) for gradient in gradients]


def clipped_4(gradients, bound):
    """In place, as clip_grad_norm_ does it."""
    norm = sum(gradient.square().sum() for gradient in gradients).sqrt().item()
    for gradient in gradients:
        gradient *= min(1.0, bound / max(norm, 1e-9))
    return [gradient.clone() for gradient in gradients]


def clipped_5(gradients, bound):
    """The squares of all are within the bound."""
    square = sum(gradient.square().sum() for gradient in gradients).item()
    return [gradient * min(1.0, bound / max(square, 1e-9)) for gradient in gradients]
