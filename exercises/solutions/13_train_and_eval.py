"""The exercises of lesson 13, solved."""

import torch


def dropper(p):
    """Dropout that eval() switches off."""
    # nn.Dropout is F.dropout with self.training as its third argument.
    return torch.nn.Dropout(p)


def running_values(batches, momentum):
    """The running mean and variance of each column."""
    # lerp goes a part of the way from the old value to the batch's. The running
    # variance is by n - 1, the one that batch norm divides by in training is by n.
    means = torch.zeros_like(batches[0][0])
    variances = torch.ones_like(batches[0][0])
    for batch in batches:
        means = means.lerp(batch.mean(dim=0), momentum)
        variances = variances.lerp(batch.var(dim=0, correction=1), momentum)
    return means, variances


def predict(model, x):
    """What a trained model says of each row, whatever stands beside it."""
    # eval() for batch norm and dropout, no_grad() for autograd: neither does the
    # other's work.
    training = model.training
    model.eval()
    with torch.no_grad():
        p = model(x)
    model.train(training)
    return p


def evaluated(model, loss_function, x, y):
    """The loss in evaluation mode, unrecorded."""
    # Each module has a mode of its own, so each is noted; and what stands behind
    # finally runs after an error too. no_grad ends by itself, error or not.
    noted = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return loss_function(model(x), y).item()
    finally:
        for module, training in noted:
            module.training = training
