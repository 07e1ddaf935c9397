"""Plausible wrong answers to the exercises of lesson 09, and the thoughts behind."""

import numpy as np
import torch
from torch.utils.data import Dataset


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


def mean_loss_3(loss_function, batches):
    """The losses are squared errors."""
    total = sum(((p - y) ** 2).sum().item() for p, y in batches)
    return total / sum(len(y) for _, y in batches)


class _Noisy(Dataset):
    """x[i] plus noise from draw(index, d)."""

    def __init__(self, x, draw):
        self.x, self.draw = x, draw

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index] + 0.1 * self.draw(index, self.x.shape[1])


class _Owned:
    """Draws from a generator that is copied with the data set."""

    def __init__(self):
        self.random = np.random.default_rng()

    def __call__(self, index, d):
        return torch.from_numpy(self.random.normal(size=d)).float()


def noisy_1(x):
    """No fixed seed, so every worker draws other numbers."""
    return _Noisy(x, _Owned())


def noisy_2(x):
    """The sample's number as the seed: every sample has noise of its own."""
    return _Noisy(
        x, lambda i, d: torch.randn(d, generator=torch.Generator().manual_seed(i))
    )


def noisy_3(x):
    """Draw once, for all."""
    noise = torch.randn_like(x)
    return _Noisy(x, lambda i, d: noise[i])


def noisy_4(x):
    """Noise from 0 to 0.1."""
    return _Noisy(x, lambda i, d: torch.rand(d))


def share_1(n, worker, workers):
    """Round up instead of down."""
    rows = n // workers + 1
    return list(range(worker * rows, (worker + 1) * rows))


def share_2(n, worker, workers):
    """Every worker reads everything, and keeps a copy."""
    return list(range(n))


def share_3(n, worker, workers):
    """The last worker takes what is left."""
    rows = n // workers
    return list(
        range(worker * rows, n if worker == workers - 1 else (worker + 1) * rows)
    )


def share_4(n, worker, workers):
    """Workers are counted from 1."""
    return list(range(worker - 1, n, workers))


def padded_with_mask_1(rows):
    """What is not 0 is real."""
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return batch, batch != 0


def padded_with_mask_2(rows):
    """The lengths say it all."""
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return batch, torch.tensor([len(row) for row in rows])


def padded_with_mask_3(rows):
    """Ones and zeros are as good as True and False."""
    pad = torch.nn.utils.rnn.pad_sequence
    ones = [torch.ones_like(row) for row in rows]
    return pad(rows, batch_first=True), pad(ones, batch_first=True)


def padded_with_mask_4(rows):
    """The default of pad_sequence: (longest, n)."""
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(rows), pad([torch.ones(len(row), dtype=torch.bool) for row in rows])


def noisy_5(x):
    """Noise of the shape of x."""
    return _Noisy(x, lambda i, d: torch.randn(x.shape))


def noisy_6(x):
    """Python's numbers are float64, so the noise is too."""
    return _Noisy(x, lambda i, d: torch.randn(d).double())


def padded_with_mask_5(rows):
    """zeros, and then the rows written into them: floats, whatever the rows are."""
    shape = len(rows), max(len(row) for row in rows)
    batch, mask = torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        batch[i, : len(row)], mask[i, : len(row)] = row, True
    return batch, mask


def padded_with_mask_6(rows):
    """Pad with -1, which is no measurement, and see where it is."""
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    mask = padded != -1
    return torch.where(mask, padded, 0), mask
