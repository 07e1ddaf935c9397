"""The checks of exercises/09_dataset_dataloader.py."""

import copy

import torch
from torch.utils.data import DataLoader


def test_batch_sizes(answer, check):
    check.hint = (
        "n // batch_size batches are full; n % batch_size samples remain, or none do."
    )
    for n, batch_size in ((5, 2), (6, 2), (100, 20), (3, 8), (178, 4)):
        for drop_last in (False, True):
            loader = DataLoader(range(n), batch_size, drop_last=drop_last)
            check.given = (
                f"{n} samples in batches of {batch_size}, drop_last={drop_last}"
            )
            check(answer(n, batch_size, drop_last), [len(batch) for batch in loader])


def test_sample(answer, check):
    check.hint = (
        "CrossEntropyLoss wants one whole number for each sample. Where does it begin?"
    )
    cases = [
        ("2,12.37,0.94", [12.37, 0.94], 1),
        ("1,14.23,1.71,2.43", [14.23, 1.71, 2.43], 0),
    ]
    for line, x, y in cases:
        check.given = repr(line)
        check(answer(line), (torch.tensor(x), torch.tensor(y)))


def test_noisy(answer, check):
    check.hint = (
        "Whose generator does torch seed anew for each worker? When is it asked?"
    )
    x, state = torch.arange(4000.0).view(4, 1000), torch.get_rng_state()
    given = "x, shape (4, 1000)"
    check.given = f"{given}; the length"
    dataset = answer(x)
    check(len(dataset), 4)
    check.given = f"{given}; the shape of sample 2, and is it float32"
    sample = dataset[2]
    check((tuple(sample.shape), sample.dtype == torch.float32), ((1000,), True))
    check.given = f"{given}; mean and std of sample 2 minus x[2]"
    noise = sample - x[2]
    check((noise.mean().item(), noise.std().item()), (0.0, 0.1), rtol=0, atol=0.02)
    check.given = f"{given}; is x as it was"
    check(torch.equal(x, torch.arange(4000.0).view(4, 1000)), True)
    check.given = f"{given}; are two readings of sample 1 equal"
    check(torch.equal(dataset[1], dataset[1]), False)
    check.given = (
        f"{given}; is sample 0 equal in two copies of the data set, as two workers have"
    )
    here, there = copy.deepcopy(dataset), copy.deepcopy(dataset)
    check(torch.equal(here[0], there[0]), False)
    check.given = f"{given}; is sample 1 equal after torch.manual_seed(1) twice"
    torch.manual_seed(1)
    first = dataset[1]
    torch.manual_seed(1)
    check(torch.equal(dataset[1], first), True)
    torch.set_rng_state(state)


def test_share(answer, check):
    check.hint = "Try 5 rows and 2 workers by hand, and deal them like cards."
    for n, workers in ((5, 2), (6, 3), (178, 4), (2, 3)):
        check.given = f"{n} rows, workers 0 to {workers - 1}; all their rows, sorted"
        parts = [answer(n, worker, workers) for worker in range(workers)]
        check(sorted(row for part in parts for row in part), list(range(n)))
        lengths = [len(part) for part in parts]
        check.given = (
            f"{n} rows for {workers} workers, who read {lengths}; is that fair"
        )
        check(max(lengths) - min(lengths) <= 1, True)


def test_padded_with_mask(answer, check):
    check.hint = (
        "Any number can be real: the mask comes from the lengths. Who has them?"
    )
    cases = [[[3, 0], [5]], [[0.5], [-1.0, 2.0, 0.0, 4.0], [7.0, 0.0]], [[1.0, 2.0]]]
    cases += [[[-1, 0, 1], [2], [-1, -100]]]
    for rows in cases:
        longest = max(len(row) for row in rows)
        batch = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[i < len(row) for i in range(longest)] for row in rows])
        check.given = f"{rows}"
        check(answer([torch.tensor(row) for row in rows]), (batch, mask))
