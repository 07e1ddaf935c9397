"""Exercises for lesson 09, datasets and dataloaders.

The checks: python -m pytest exercises/test_09_dataset_dataloader.py
"""

import numpy as np
import torch
from torch.utils.data import Dataset


# %% 1. Mend (easy, 5 minutes)
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


# %% 2. Mend (easy, 5 minutes)
def mean_loss(loss_function, batches):
    """Mend: the mean loss of all samples, which come in batches.

    Gets a loss that is a mean over samples, such as MSELoss(), and a list of pairs (p,
    y) of floats, shape (n, 1), where the last n is smaller. Returns a Python float.
    Example: losses of 1 in a batch of 4 and 6 in a batch of 1 give 2.0.
    """
    return sum(loss_function(p, y).item() for p, y in batches) / len(batches)


# %% 3. Mend (medium, 10 minutes)
def noisy(x):
    """Mend: a data set with noise that never repeats.

    Gets x, float32, shape (n, d). Returns a Dataset whose sample i is x[i] plus normal
    noise with std 0.1, float32, shape (d,). The noise must be new at every reading, and
    in every worker, which has a copy of the data set. After the same torch.manual_seed
    it must be the same. Example: two readings of sample 0 differ.
    """

    class Noisy(Dataset):
        def __init__(self):
            self.random = np.random.default_rng(0)

        def __len__(self):
            return len(x)

        def __getitem__(self, index):
            noise = self.random.normal(size=x.shape[1])
            return x[index] + 0.1 * torch.from_numpy(noise).float()

    return Noisy()


# %% 4. Mend (easy, 5 minutes)
def share(n, worker, workers):
    """Mend: the rows that one worker of several reads from a file of n rows.

    Gets n, and the worker's number from 0 to workers - 1. Returns the row numbers, a
    list or a range. Together the workers must read each of the rows 0 ... n - 1 once,
    and the lengths of their lists may differ by 1 at most. Example: 5 rows for 2
    workers can be [0, 2, 4] and [1, 3].
    """
    rows = n // workers
    return list(range(worker * rows, (worker + 1) * rows))


# %% 5. Write (hard, 15 minutes)
def padded_with_mask(rows):
    """Write: a collate_fn for unequal lengths, with a mask of what is real.

    Gets a list of n tensors of shape (length,). Returns (batch, mask), both (n,
    longest): the numbers with zeros at the ends, in their dtype, and, in bool, True
    where a number is real, not padding (a real number can be 0).
    torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) pads with zeros. Example:
    [3, 0] and [5] give [[3, 0], [5, 0]] and [[True, True], [True, False]].
    """
    raise NotImplementedError
