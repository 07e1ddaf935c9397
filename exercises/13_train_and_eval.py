"""Exercises for lesson 13, training and evaluation mode.

The checks: python -m pytest exercises/test_13_train_and_eval.py
"""

import torch
import torch.nn.functional as F


# %% 1. Mend (easy, 5 minutes)
def dropper(p):
    """Mend: a module that drops in training, and only there.

    Gets p, a float from 0 to 1. Returns an nn.Module. In training mode it sets each
    number of its input to 0 with probability p, and multiplies the others by
    1 / (1 - p). In evaluation mode it returns its input unchanged. Example: with p =
    0.5 and in evaluation mode it makes [1, 1, 1] of [1, 1, 1].
    """

    class Dropper(torch.nn.Module):
        def forward(self, x):
            return F.dropout(x, p)

    return Dropper()


# %% 2. Write (medium, 10 minutes)
def running_values(batches, momentum):
    """Write: what batch norm remembers after some batches.

    Gets a list of batches, floats of shape (n, d), where n is 2 or more and may differ,
    and momentum, a float: the part of the way that each batch moves the running values.
    Before the first batch the running means are 0 and the running variances 1. Returns
    the tuple (means, variances), two tensors of floats, shape (d,). No nn.BatchNorm1d
    is needed. Example: the one batch [[0], [4]] with momentum 0.1 gives [0.2] and
    [1.7].
    """
    raise NotImplementedError


# %% 3. Mend (medium, 10 minutes)
def predict(model, x):
    """Mend: what a trained model says of each row, whatever stands beside it.

    Gets a model, which may hold batch norm and dropout, all in one mode, and x, floats
    of shape (n, d), where n may be 1. Returns model(x) in evaluation mode; nothing is
    recorded. Afterwards the model is in the mode in which it came, training or not, its
    parameters can be trained, and autograd records again. Example: a batch norm with
    running mean 2 and running variance 4 makes 0.5 of the row 3.
    """
    with torch.no_grad():
        return model(x)


# %% 4. Mend (medium, 10 minutes)
def evaluated(model, loss_function, x, y):
    """Mend: the loss of a model, measured as the model will be used.

    Gets a model, a loss function of (predictions, y), and tensors x and y. Returns a
    Python number. The whole model is in evaluation mode meanwhile, and nothing is
    recorded. Afterwards each module is in its own mode, the one in which it came: some
    may be in training mode, others not. That is so too if the loss function raises an
    error, which the caller of evaluated then gets. Example: Dropout(0.5) alone, MSELoss
    and y = x give 0.0.
    """
    training = model.training
    model.eval()
    with torch.no_grad():
        loss = loss_function(model(x), y).item()
    model.train(training)
    return loss
