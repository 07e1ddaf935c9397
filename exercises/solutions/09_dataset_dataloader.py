"""The exercises of lesson 09, solved."""

import torch
from torch.utils.data import Dataset


def batch_sizes(n, batch_size, drop_last):
    """The sizes of the batches of an epoch."""
    # What remains is a batch, unless it is empty or dropped.
    sizes, rest = [batch_size] * (n // batch_size), n % batch_size
    return [*sizes, rest] if rest and not drop_last else sizes


def sample(line):
    """(measurements, class from 0) of a line."""
    # CrossEntropyLoss uses the class as an index.
    cultivar, *measurements = map(float, line.split(","))
    return torch.tensor(measurements), torch.tensor(int(cultivar) - 1)


def noisy(x):
    """A Dataset of x[i] plus normal noise of std 0.1."""

    class Noisy(Dataset):
        """Sample i: x[i] plus noise."""

        def __len__(self):
            return len(x)

        def __getitem__(self, index):
            # torch's own generator is seeded anew for each worker and each epoch.
            return x[index] + 0.1 * torch.randn(x.shape[1])

    return Noisy()


def share(n, worker, workers):
    """The rows worker, worker + workers, worker + 2 workers and so on, below n."""
    # Blocks of n // workers rows would leave the last n % workers rows to nobody.
    return list(range(worker, n, workers))


def padded_with_mask(rows):
    """(batch, mask), both of shape (n, longest)."""
    # Ones, padded with zeros, are 1 exactly where a number is real.
    ones = [torch.ones(len(row), dtype=torch.bool) for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(rows, batch_first=True), pad(ones, batch_first=True)
