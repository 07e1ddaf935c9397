"""The checks of exercises/09_dataset_dataloader.py."""

import os
import pickle
import tempfile

import torch


def can_be_pickled(dataset):
    """Whether a data set can be sent to a worker that is a fresh process."""
    try:
        pickle.dumps(dataset)
    except (AttributeError, TypeError, pickle.PicklingError):
        return False
    return True


def test_from_csv(answer, check):
    check.hint = (
        "Skip the header. What is in row[:-1], and what in row[-1]? A set has each "
        "name once, and sorted makes a list of it."
    )
    animals = [[1.0, 2.0], [3.0, 4.0], [-5.5, 0.25]], ["dog", "cat", "dog"]
    months = [[float(n)] for n in range(12)], [f"{n}" for n in range(12)]
    trees = [[1.0, 0.0, 1e3], [2.5, 0.0, 7.0]], ["Bäume, alte", "Ahorn"]
    for rows, names in (animals, months, trees):
        lines = [",".join("abcd"[: len(rows[0])] + "n")]
        for row, name in zip(rows, names, strict=True):
            lines.append(",".join([*map(str, row), f'"{name}"']))
        check.given = f"a file with the lines {lines}"
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "table.csv")
            with open(path, "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
            dataset, classes = answer(path)
        given = check.given
        check.given = f"{given}; classes"
        check(classes, sorted(set(names)))
        check.given = f"{given}; the length"
        check(len(dataset), len(rows))
        for index, (row, name) in enumerate(zip(rows, names, strict=True)):
            check.given = f"{given}; sample {index}"
            number = sorted(set(names)).index(name)
            check(tuple(dataset[index]), (torch.tensor(row), torch.tensor(number)))
        check.given = f"{given}; can the data set be pickled"
        check(can_be_pickled(dataset), True)


def test_mean_loss(answer, check):
    check.hint = "How many samples stand behind each batch's loss?"
    for sizes, errors in (((4, 1), (1.0, 3.0)), ((5, 2, 5), (1.0, 2.0, 4.0))):
        pairs = list(zip(sizes, errors, strict=True))
        batches = [(torch.full((n, 1), error), torch.zeros(n, 1)) for n, error in pairs]
        for name, power, loss_function in (
            ("L1Loss(), the mean of |p - y|", 1, torch.nn.L1Loss()),
            ("MSELoss()", 2, torch.nn.MSELoss()),
        ):
            expected = sum(n * error**power for n, error in pairs) / sum(sizes)
            check.given = f"{name}, batches of {sizes} samples, each wrong by {errors}"
            check(answer(loss_function, batches), expected)


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


def test_noisy(answer, check):
    check.hint = (
        "Whose generator does the loader seed anew for each worker? When is it asked?"
    )
    x = torch.arange(4000.0).view(4, 1000)
    samples = list(x.clone())
    state = torch.get_rng_state()
    given = "four samples of shape (1000,)"
    check.given = f"{given}; the shape of the batch, and is it float32"
    batch = answer(samples)
    check((tuple(batch.shape), batch.dtype == torch.float32), ((4, 1000), True))
    check.given = f"{given}; mean and std of the noise of sample 2"
    noise = batch[2] - x[2]
    check((noise.mean().item(), noise.std().item()), (0.0, 0.1), rtol=0, atol=0.02)
    check.given = f"{given}; are the samples as they were"
    check(torch.equal(torch.stack(samples), x), True)
    check.given = f"{given}; is the noise of samples 0 and 1 the same"
    check(torch.allclose(batch[0] - x[0], batch[1] - x[1], atol=1e-3), False)
    check.given = f"{given}; are two calls equal"
    check(torch.equal(answer(samples), answer(samples)), False)
    torch.manual_seed(1)
    first = answer(samples)
    check.given = f"{given}; are two calls equal after torch.manual_seed(1) and (2)"
    torch.manual_seed(2)
    check(torch.equal(answer(samples), first), False)
    check.given = f"{given}; are two calls equal after torch.manual_seed(1) each"
    torch.manual_seed(1)
    check(torch.equal(answer(samples), first), True)
    check.given = f"{given}; is the function at the top of a file, for pickle"
    check("<" in answer.__qualname__, False)
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
