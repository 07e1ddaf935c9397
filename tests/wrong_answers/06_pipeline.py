"""Plausible wrong answers to the exercises of lesson 06, each with the thought behind
it."""

import torch

mse_loss = torch.nn.functional.mse_loss


def epochs_needed_1(model, optimizer, x, y, tolerance, most):
    """No zero_grad: the optimizer knows."""
    for epoch in range(most):
        loss = mse_loss(model(x), y)
        if loss.item() <= tolerance:
            return epoch
        loss.backward()
        optimizer.step()
    return most


def epochs_needed_2(model, optimizer, x, y, tolerance, most):
    """Train, then look: one epoch is always made."""
    for epoch in range(1, most + 1):
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        if loss.item() <= tolerance:
            return epoch
    return most


def epochs_needed_3(model, optimizer, x, y, tolerance, most):
    """Step with the gradient of the epoch before."""
    for epoch in range(most):
        loss = mse_loss(model(x), y)
        if loss.item() <= tolerance:
            return epoch
        optimizer.step()
        optimizer.zero_grad()
        loss.backward()
    return most


def deep_1(width, depth):
    """One layer, used depth times."""
    layer = torch.nn.Linear(width, width)
    return torch.nn.Sequential(*[layer] * depth, torch.nn.Linear(width, 1))


def deep_2(width, depth):
    """The last layer is one of the depth layers."""
    layers = [torch.nn.Linear(width, width) for _ in range(depth - 1)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))


def deep_3(width, depth):
    """The layers are known to the module now; forward stays as short as it can be."""

    class Deep(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = torch.nn.ModuleList(
                torch.nn.Linear(width, width) for _ in range(depth)
            )
            self.last = torch.nn.Linear(width, 1)

        def forward(self, x):
            return self.last(self.hidden[0](x))

    return Deep()


def evaluated_1(model, loss_function, x, y):
    """Nothing recorded, so nothing dropped."""
    with torch.no_grad():
        return loss_function(model(x), y).item()


def evaluated_2(model, loss_function, x, y):
    """eval(), and back to training, where models come from."""
    model.eval()
    with torch.no_grad():
        loss = loss_function(model(x), y).item()
    model.train()
    return loss


def evaluated_3(model, loss_function, x, y):
    """eval() is enough."""
    training = model.training
    model.eval()
    loss = loss_function(model(x), y).item()
    model.train(training)
    return loss


def evaluated_4(model, loss_function, x, y):
    """The mode is the caller's affair."""
    model.eval()
    with torch.no_grad():
        return loss_function(model(x), y).item()


def percent_of_batches_1(batches):
    """The mean of the batches' percentages."""
    shares = [(p == y).double().mean().item() for p, y in batches]
    return 100 * sum(shares) / len(shares)


def percent_of_batches_2(batches):
    """A share is from 0 to 1."""
    right = sum((p == y).sum().item() for p, y in batches)
    return right / sum(len(y) for _, y in batches)


def percent_of_batches_3(batches):
    """Every batch is as long as the first."""
    right = sum((p == y).sum().item() for p, y in batches)
    return 100 * right / (len(batches) * len(batches[0][1]))


def mean_loss_1(loss_function, batches):
    """The sum of the batches' losses, divided by the samples."""
    return sum(loss_function(p, y).item() for p, y in batches) / sum(
        len(y) for _, y in batches
    )


def mean_loss_2(loss_function, batches):
    """The last batch is short: leave it out."""
    full = batches[:-1]
    return sum(loss_function(p, y).item() for p, y in full) / len(full)


def epochs_needed_4(model, optimizer, x, y, tolerance, most):
    """Make the step, and look at the loss afterwards: it is there anyway."""
    for epoch in range(most):
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        if loss.item() <= tolerance:
            return epoch
    return most


def epochs_needed_5(model, optimizer, x, y, tolerance, most):
    """Under the tolerance."""
    for epoch in range(most):
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        if loss.item() < tolerance:
            return epoch
        loss.backward()
        optimizer.step()
    return most


def deep_4(width, depth):
    """Sequential makes a network of any layers."""
    layers = [torch.nn.Linear(width, width) for _ in range(depth)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))


def evaluated_5(model, loss_function, x, y):
    """What is detached was not recorded."""
    training = model.training
    model.eval()
    loss = loss_function(model(x).detach(), y).item()
    model.train(training)
    return loss


def mean_loss_3(loss_function, batches):
    """The losses are squared errors."""
    total = sum(((p - y) ** 2).sum().item() for p, y in batches)
    return total / sum(len(y) for _, y in batches)
