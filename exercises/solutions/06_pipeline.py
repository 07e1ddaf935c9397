"""The exercises of lesson 06, solved."""

import torch


def epochs_needed(model, optimizer, x, y, tolerance, most):
    """How many epochs until the mean squared error is at most tolerance."""
    # The loss is there before the step, so looking at it costs nothing.
    for epoch in range(most):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        if loss.item() <= tolerance:
            return epoch
        loss.backward()
        optimizer.step()
    return most


def deep(width, depth):
    """A model of depth hidden layers, all of which are trained."""
    # Sequential is a list of layers that a module can see, and it has a forward
    # already.
    layers = []
    for _ in range(depth):
        layers += [torch.nn.Linear(width, width), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 1))


def evaluated(model, loss_function, x, y):
    """The loss in evaluation mode, unrecorded."""
    # The mode is part of the model: leave it as you found it.
    training = model.training
    model.eval()
    with torch.no_grad():
        loss = loss_function(model(x), y).item()
    model.train(training)
    return loss


def percent_of_batches(batches):
    """The percentage of right predictions."""
    # Right answers divided by right answers are 100 % for any model.
    right = total = 0
    for predicted, labels in batches:
        right += (predicted == labels).sum().item()
        total += len(labels)
    return 100 * right / total


def mean_loss(loss_function, batches):
    """The mean loss of all samples."""
    # The loss of a batch is a mean: times its length it is a sum again, and sums add
    # up.
    total = sum(loss_function(p, y).item() * len(y) for p, y in batches)
    return total / sum(len(y) for _, y in batches)
