"""The exercises of lesson 09, solved."""

import csv

import torch
from torch.utils.data import TensorDataset


def from_csv(path):
    """(dataset, classes) of a table whose last column is a name."""
    with open(path, encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    classes = sorted({row[-1] for row in rows})
    x = torch.tensor([[float(word) for word in row[:-1]] for row in rows])
    y = torch.tensor([classes.index(row[-1]) for row in rows])
    # TensorDataset is a class at the top of a file of PyTorch: pickle can send it.
    return TensorDataset(x, y), classes


def mean_loss(loss_function, batches):
    """The mean loss of all samples."""
    # The loss of a batch is a mean: times its length it is a sum again, and sums add
    # up.
    total = 0.0
    count = 0
    for prediction, y in batches:
        total += loss_function(prediction, y).item() * len(y)
        count += len(y)
    return total / count


def padded_with_mask(rows):
    """(batch, mask), both of shape (n, longest)."""
    # Ones, padded with zeros, are 1 exactly where a number is real.
    ones = [torch.ones(len(row), dtype=torch.bool) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(rows, batch_first=True), pad(ones, batch_first=True)


def noisy(samples):
    """The batch of the samples, plus normal noise of std 0.1."""
    # torch's own generator is seeded anew for each worker and each epoch. A generator
    # of our own would be copied, or made anew from the same seed, in every worker.
    batch = torch.stack(samples)
    return batch + 0.1 * torch.randn(batch.shape)


def share(n, worker, workers):
    """The rows worker, worker + workers, worker + 2 workers and so on, below n."""
    # Blocks of n // workers rows would leave the last n % workers rows to nobody.
    return list(range(worker, n, workers))
