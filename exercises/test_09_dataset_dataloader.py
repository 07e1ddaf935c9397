"""The checks of exercises/09_dataset_dataloader.py."""

import copy

import torch


def test_percent_of_batches(answer, check):
    check.hint = (
        "What would it say of a model that is always wrong? Of batches of 4 and 1?"
    )
    cases = [
        ([[1, 1], [0, 0]], [[1, 0], [0, 0]], 75.0),
        ([[1, 2, 3]], [[1, 2, 3]], 100.0),
    ]
    cases += [([[0, 0, 0, 0], [1]], [[1, 0, 0, 1], [0]], 40.0)]
    for predicted, labels, expected in cases:
        batches = [
            tuple(map(torch.tensor, pair))
            for pair in zip(predicted, labels, strict=True)
        ]
        check.given = f"predicted {predicted}, labels {labels}"
        check(answer(batches), expected)


def test_mean_loss(answer, check):
    check.hint = "How many samples stand behind each batch's loss?"
    for sizes, errors in (((4, 1), (1.0, 3.0)), ((5, 5, 2), (1.0, 2.0, 4.0))):
        pairs = list(zip(sizes, errors, strict=True))
        batches = [(torch.full((n, 1), error), torch.zeros(n, 1)) for n, error in pairs]
        for name, power, loss_function in (
            ("L1Loss(), the mean of |p - y|", 1, torch.nn.L1Loss()),
            ("MSELoss()", 2, torch.nn.MSELoss()),
        ):
            expected = sum(n * error**power for n, error in pairs) / sum(sizes)
            check.given = f"{name}, batches of {sizes} samples, each wrong by {errors}"
            check(answer(loss_function, batches), expected)


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
