"""Exercises for lesson 09, datasets and dataloaders.

The checks: python -m pytest exercises/test_09_dataset_dataloader.py
"""

import csv

import numpy as np
import torch
from torch.utils.data import TensorDataset


# %% 1. Write (medium, 10 minutes)
def from_csv(path):
    """Write: a data set of a table whose last column is a name, and its classes.

    Gets the path of a CSV file in UTF-8 with one header line. The last column is the
    name of the class, the others are numbers. Returns (dataset, classes). classes is
    the sorted list of the names, each once. Sample i of the dataset is (x, y): x is
    float32 of shape (d,), y is the number of the class, int64 of shape (). A worker
    must be able to get it by pickle, so a class inside the function will not do;
    TensorDataset will. csv.reader(file) gives the lines as lists of texts. Example: the
    lines "a,b,kind", "1,2,dog" and "3,4,cat" give classes ["cat", "dog"], and sample 0
    is ([1, 2], 1).
    """
    raise NotImplementedError


# %% 2. Mend (easy, 5 minutes)
def mean_loss(loss_function, batches):
    """Mend: the mean loss of all samples, which come in batches.

    Gets a loss that is a mean over samples, such as MSELoss(), and a list of pairs
    (prediction, y) of floats, shape (n, 1), where n may differ. Returns a Python float.
    Example: losses of 1 in a batch of 4 and 6 in a batch of 1 give 2.0.
    """
    losses = []
    for prediction, y in batches:
        losses.append(loss_function(prediction, y).item())
    return sum(losses) / len(losses)


# %% 3. Write (hard, 15 minutes)
def padded_with_mask(rows):
    """Write: a collate_fn for unequal lengths, with a mask of what is real.

    Gets a list of n tensors of shape (length,). Returns (batch, mask), both (n,
    longest): the numbers with zeros at the ends, in their dtype, and, in bool, True
    where a number is real, not padding (a real number can be 0).
    torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) pads with zeros. Example:
    [3, 0] and [5] give [[3, 0], [5, 0]] and [[True, True], [True, False]].
    """
    raise NotImplementedError


# %% 4. Mend (medium, 10 minutes)
def noisy(samples):
    """Mend: a collate_fn that adds noise which never repeats.

    Gets a list of n tensors of shape (d,), float32. Returns the batch, float32, shape
    (n, d): the samples plus normal noise with mean 0 and std 0.1. The samples stay as
    they are. The noise must be new for each sample and at every call, in every worker
    and in every epoch. After the same torch.manual_seed it must be the same. A worker
    that is a fresh process finds a function by its name, so it stays at the top of the
    file. Example: two calls with [tensor([1.0, 2.0])] differ.
    """
    if not hasattr(noisy, "generator"):
        noisy.generator = np.random.default_rng(0)
    batch = torch.stack(samples)
    noise = noisy.generator.normal(scale=0.1, size=batch.shape)
    return batch + torch.from_numpy(noise).float()


# %% 5. Mend (easy, 5 minutes)
def share(n, worker, workers):
    """Mend: the rows that one worker of several reads from a file of n rows.

    Gets n, and the worker's number from 0 to workers - 1. Returns the row numbers, a
    list or a range. Together the workers must read each of the rows 0 ... n - 1 once,
    and the lengths of their lists may differ by 1 at most. Example: 5 rows for 2
    workers can be [0, 2, 4] and [1, 3].
    """
    rows = n // workers
    return list(range(worker * rows, (worker + 1) * rows))
