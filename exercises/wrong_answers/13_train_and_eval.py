"""Plausible wrong answers to the exercises of lesson 13, each with its thought."""

import torch
import torch.nn.functional as F


def dropper_1(p):
    """The mode at the time when it is made."""

    class Dropper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.on = self.training

        def forward(self, x):
            return F.dropout(x, p, self.on)

    return Dropper()


def dropper_2(p):
    """False, since it shall not drop in evaluation mode."""

    class Dropper(torch.nn.Module):
        def forward(self, x):
            return F.dropout(x, p, training=False)

    return Dropper()


def dropper_3(p):
    """No gradient is needed in evaluation, so ask autograd."""

    class Dropper(torch.nn.Module):
        def forward(self, x):
            return F.dropout(x, p, torch.is_grad_enabled())

    return Dropper()


def dropper_4(p):
    """By hand, and without the factor."""

    class Dropper(torch.nn.Module):
        def forward(self, x):
            return x * (torch.rand_like(x) >= p) if self.training else x

    return Dropper()


def dropper_5(p):
    """p is what is kept."""
    return torch.nn.Dropout(1 - p)


def running_values_1(batches, momentum):
    """The variance by n, as batch norm divides in training."""
    means = torch.zeros_like(batches[0][0])
    variances = torch.ones_like(batches[0][0])
    for batch in batches:
        means = means + momentum * (batch.mean(dim=0) - means)
        variances = variances + momentum * (batch.var(dim=0, correction=0) - variances)
    return means, variances


def running_values_2(batches, momentum):
    """Momentum keeps the old, as that of an optimizer does."""
    means = torch.zeros_like(batches[0][0])
    variances = torch.ones_like(batches[0][0])
    for batch in batches:
        means = momentum * means + (1 - momentum) * batch.mean(dim=0)
        variances = momentum * variances + (1 - momentum) * batch.var(dim=0)
    return means, variances


def running_values_3(batches, momentum):
    """The mean over all rows is what the batches tell."""
    rows = torch.cat(batches)
    return rows.mean(dim=0), rows.var(dim=0)


def running_values_4(batches, momentum):
    """Variances start at 0, as means do."""
    means = torch.zeros_like(batches[0][0])
    variances = torch.zeros_like(batches[0][0])
    for batch in batches:
        means = means.lerp(batch.mean(dim=0), momentum)
        variances = variances.lerp(batch.var(dim=0), momentum)
    return means, variances


def running_values_5(batches, momentum):
    """What a layer knows, ask the layer; the momentum is 0.1 anyway."""
    layer = torch.nn.BatchNorm1d(batches[0].shape[1], dtype=batches[0].dtype)
    for batch in batches:
        layer(batch)
    return layer.running_mean, layer.running_var


def running_values_6(batches, momentum):
    """The layer, in the mode in which it shall be used."""
    columns = batches[0].shape[1]
    layer = torch.nn.BatchNorm1d(columns, momentum=momentum, dtype=batches[0].dtype)
    layer.eval()
    for batch in batches:
        layer(batch)
    return layer.running_mean, layer.running_var


def predict_1(model, x):
    """eval(), and who wants to train calls train()."""
    model.eval()
    with torch.no_grad():
        return model(x)


def predict_2(model, x):
    """eval(), and back to training, where models come from."""
    model.eval()
    with torch.no_grad():
        p = model(x)
    model.train()
    return p


def predict_3(model, x):
    """eval() switches autograd off too."""
    training = model.training
    model.eval()
    p = model(x)
    model.train(training)
    return p


def predict_4(model, x):
    """What is detached was not recorded."""
    training = model.training
    model.eval()
    p = model(x).detach()
    model.train(training)
    return p


def predict_5(model, x):
    """Remember the mode, one line too late."""
    model.eval()
    training = model.training
    with torch.no_grad():
        p = model(x)
    model.train(training)
    return p


def predict_6(model, x):
    """The mode is an attribute: set it. The layers inside keep theirs."""
    training = model.training
    model.training = False
    with torch.no_grad():
        p = model(x)
    model.training = training
    return p


def predict_7(model, x):
    """Recording off, for good."""
    training = model.training
    model.eval()
    torch.set_grad_enabled(False)
    p = model(x)
    model.train(training)
    return p


def predict_8(model, x):
    """Parameters that require no gradient record nothing."""
    training = model.training
    model.eval().requires_grad_(False)
    p = model(x)
    model.train(training)
    return p


def predict_9(model, x):
    """Batch norm is what looks at the neighbours: switch it alone."""
    norms = [
        layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm1d)
    ]
    for layer in norms:
        layer.eval()
    with torch.no_grad():
        p = model(x)
    for layer in norms:
        layer.train(model.training)
    return p


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
    noted = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return loss_function(model(x), y).item()
    finally:
        for module, training in noted:
            module.training = training


def evaluated_4(model, loss_function, x, y):
    """The mode is the caller's affair."""
    model.eval()
    with torch.no_grad():
        return loss_function(model(x), y).item()


def evaluated_5(model, loss_function, x, y):
    """What is detached was not recorded."""
    noted = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return loss_function(model(x).detach(), y).item()
    finally:
        for module, training in noted:
            module.training = training


def evaluated_6(model, loss_function, x, y):
    """Each module back into its own mode, if nothing goes wrong."""
    noted = [(module, module.training) for module in model.modules()]
    model.eval()
    with torch.no_grad():
        loss = loss_function(model(x), y).item()
    for module, training in noted:
        module.training = training
    return loss


def evaluated_7(model, loss_function, x, y):
    """An error is dealt with here: there is no loss, so it is not a number."""
    noted = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return loss_function(model(x), y).item()
    except ValueError:
        return float("nan")
    finally:
        for module, training in noted:
            module.training = training


def evaluated_8(model, loss_function, x, y):
    """The mode of the model, put back after an error too, is the mode of all in it."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return loss_function(model(x), y).item()
    finally:
        model.train(training)


def evaluated_9(model, loss_function, x, y):
    """The children first: train() of the model comes last, and sets them all."""
    noted = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return loss_function(model(x), y).item()
    finally:
        for module, training in reversed(noted):
            module.train(training)
