"""Exercises for lesson 06, the pipeline.

The checks: python -m pytest exercises/test_06_pipeline.py
"""

import torch


# %% 1. Write (medium, 10 minutes)
def epochs_needed(model, optimizer, x, y, tolerance, most):
    """Write: train until the mean squared error is at most tolerance.

    Gets a model, its optimizer, and x and y, shape (n, 1). Before each epoch (one step
    on all of x and y) look at the loss; stop if it is at most tolerance, or after
    `most` epochs. Returns how many epochs were made. Example: 0 where the loss is small
    enough from the start.
    """
    raise NotImplementedError


# %% 2. Mend (medium, 10 minutes)
def deep(width, depth):
    """Mend: a model of so many hidden layers, all of which are trained.

    Gets two whole numbers. Returns a Module from shape (n, width) to (n, 1): depth
    times Linear(width, width) and tanh, then Linear(width, 1). model.parameters() must
    know them all. Example: deep(10, 3) has 341 numbers to train.
    """

    class Deep(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = [torch.nn.Linear(width, width) for _ in range(depth)]
            self.last = torch.nn.Linear(width, 1)

        def forward(self, x):
            for layer in self.hidden:
                x = torch.tanh(layer(x))
            return self.last(x)

    return Deep()


# %% 3. Mend (medium, 10 minutes)
def evaluated(model, loss_function, x, y):
    """Mend: the loss of a model, measured as the model will be used.

    Gets a model, a loss function of (predictions, y), and tensors x and y. Returns a
    Python number. Dropout must be off and nothing recorded; afterwards the model is in
    the mode in which it came: model.training says whether it trains, and
    model.train(flag) sets it. Example: Dropout(0.5) alone, MSELoss and y = x give 0.0.
    """
    return loss_function(model(x), y).item()


# %% 4. Mend (easy, 5 minutes)
def percent_of_batches(batches):
    """Mend: the percentage of right predictions in all batches.

    Gets a list of pairs (predicted, labels), tensors of integers, shape (n,), where n
    may differ. Returns a Python float. Example: [1, 1] for [1, 0] and [0, 0] for [0, 0]
    give 75.0.
    """
    right = total = 0
    for predicted, labels in batches:
        right += (predicted == labels).sum().item()
        total += (predicted == labels).sum().item()
    return 100 * right / total


# %% 5. Mend (easy, 5 minutes)
def mean_loss(loss_function, batches):
    """Mend: the mean loss of all samples, which come in batches.

    Gets a loss that is a mean over samples, such as MSELoss(), and a list of pairs (p,
    y) of floats, shape (n, 1), where the last n is smaller. Returns a Python float.
    Example: losses of 1 in a batch of 4 and 6 in a batch of 1 give 2.0.
    """
    return sum(loss_function(p, y).item() for p, y in batches) / len(batches)
