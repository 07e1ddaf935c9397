"""Plausible wrong answers to the exercises of lesson 23, each with the thought behind
it."""

import os
import shutil

import torch


def ring_bytes_1(n, size, itemsize):
    """The formula of the lesson: all send the same."""
    return [2 * (n - 1) * size * itemsize // n] * n


def ring_bytes_2(n, size, itemsize):
    """All blocks are as long as the first."""
    return [2 * (n - 1) * -(-size // n) * itemsize] * n


def ring_bytes_3(n, size, itemsize):
    """What is left over is not sent."""
    return [2 * (n - 1) * (size // n) * itemsize] * n


def ring_bytes_4(n, size, itemsize):
    """A round for each other rank."""
    blocks = [size // n + (number < size % n) for number in range(n)]
    return [itemsize * sum(blocks[(r - k) % n] for k in range(n - 1)) for r in range(n)]


def ring_bytes_5(n, size, itemsize):
    """A ring is a ring, whichever way round."""
    blocks = [size // n + (number < size % n) for number in range(n)]
    return [
        itemsize * sum(blocks[(r + k) % n] for k in range(2 * n - 2)) for r in range(n)
    ]


def ring_bytes_6(n, size, itemsize):
    """The second half sends what the first did."""
    blocks = [size // n + (number < size % n) for number in range(n)]
    return [
        itemsize * 2 * sum(blocks[(r - k) % n] for k in range(n - 1)) for r in range(n)
    ]


def ring_bytes_7(n, size, itemsize):
    """Rounds 0 to 2 n - 3, so range(2 n - 3)."""
    blocks = [size // n + (number < size % n) for number in range(n)]
    return [
        itemsize * sum(blocks[(r - k) % n] for k in range(2 * n - 3)) for r in range(n)
    ]


def ring_bytes_8(n, size, itemsize):
    """What is left over goes to the last block."""
    blocks = [size // n] * (n - 1) + [size // n + size % n]
    return [
        itemsize * sum(blocks[(r - k) % n] for k in range(2 * n - 2)) for r in range(n)
    ]


def ring_bytes_9(n, size, itemsize):
    """The bytes are cut in blocks, not the numbers."""
    blocks = [
        size * itemsize // n + (number < size * itemsize % n) for number in range(n)
    ]
    return [sum(blocks[(r - k) % n] for k in range(2 * n - 2)) for r in range(n)]


def loss_of_shard_1(losses, ranks, total):
    """DDP divides by the ranks, so multiply by them."""
    return losses.mean() * ranks


def loss_of_shard_2(losses, ranks, total):
    """Each sample counts 1 / total."""
    return losses.sum() / total


def loss_of_shard_3(losses, ranks, total):
    """The share of the samples, times the ranks, of a mean that there may not be."""
    return losses.mean() * len(losses) * ranks / total


def loss_of_shard_4(losses, ranks, total):
    """The share of the samples, as when gradients are accumulated."""
    return losses.sum() / max(len(losses), 1) * len(losses) / total


def loss_of_shard_5(losses, ranks, total):
    """The ranks share the samples evenly."""
    return losses.sum() / (total // ranks)


def loss_of_shard_6(losses, ranks, total):
    """The number is right, and a tensor again."""
    return torch.tensor(losses.sum().item() * ranks / total, dtype=losses.dtype)


def loss_of_shard_7(losses, ranks, total):
    """backward sums them up."""
    return losses * ranks / total


def loss_of_shard_8(losses, ranks, total):
    """No samples, no loss, no gradient."""
    return losses.sum() * ranks / total if len(losses) else losses.new_zeros(())


def evaluated_1(shares):
    """Count first, divide once."""
    right = sum(sum(answers) for _, answers in shares)
    return right / sum(len(rows) for rows, _ in shares)


def evaluated_2(shares):
    """Rows are handed out again on the same rank."""
    accuracies = []
    for rows, right in shares:
        answers = dict(zip(rows, right, strict=True))
        accuracies.append(sum(answers.values()) / len(answers))
    return sum(accuracies) / len(accuracies)


def evaluated_3(shares):
    """Leave out what another rank had before; then the mean of the ranks."""
    seen, accuracies = set(), []
    for rows, right in shares:
        new = [
            answer for row, answer in zip(rows, right, strict=True) if row not in seen
        ]
        seen.update(rows)
        accuracies.append(sum(new) / max(len(new), 1))
    return sum(accuracies) / len(accuracies)


def evaluated_4(shares):
    """The right ones once, among all."""
    right = {
        row
        for rows, answers in shares
        for row, answer in zip(rows, answers, strict=True)
        if answer
    }
    return len(right) / sum(len(rows) for rows, _ in shares)


def evaluated_5(shares):
    """How many rows there are is known now; the right ones are counted as before."""
    right = sum(sum(answers) for _, answers in shares)
    return right / len({row for rows, _ in shares for row in rows})


def evaluated_6(shares):
    """A padded row is the last of its rank, and comes after a larger one."""
    right = total = 0
    for rows, answers in shares:
        padded = len(rows) > 1 and rows[-1] < rows[-2]
        right += sum(answers[:-1] if padded else answers)
        total += len(rows) - padded
    return right / total


def evaluated_7(shares):
    """The last of each rank may be padded: leave all of them out."""
    right = sum(sum(answers[:-1]) for _, answers in shares)
    return right / max(sum(len(rows) - 1 for rows, _ in shares), 1)


def evaluated_8(shares):
    """A row that is there twice is there in no rank's name."""
    every = [
        pair for rows, answers in shares for pair in zip(rows, answers, strict=True)
    ]
    once = [answer for row, answer in every if every.count((row, answer)) == 1]
    return sum(once) / max(len(once), 1)


def state_of(parallel, optimizer, step):
    """What belongs into a checkpoint."""
    state = {"model": parallel.module.state_dict(), "optimizer": optimizer.state_dict()}
    return {**state, "step": step}


def saved_1(rank, parallel, optimizer, step, path):
    """Rank 0 alone, all in it, straight into the file."""
    if rank == 0:
        torch.save(state_of(parallel, optimizer, step), path)


def saved_2(rank, parallel, optimizer, step, path):
    """Beside it under the rank's own name, so that nobody is in the way of another."""
    part = path.with_suffix(f".{rank}")
    torch.save(state_of(parallel, optimizer, step), part)
    os.replace(part, path)


def saved_3(rank, parallel, optimizer, step, path):
    """The state of what is trained, which is the wrapper."""
    if rank == 0:
        state = {"model": parallel.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "step": step}, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)


def saved_4(rank, parallel, optimizer, step, path):
    """The optimizer makes its state anew."""
    if rank == 0:
        state = {"model": parallel.module.state_dict(), "optimizer": None, "step": step}
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)


def saved_5(rank, parallel, optimizer, step, path):
    """The older one stays aside until the new one is there."""
    if rank == 0:
        older = path.with_suffix(".older")
        if path.exists():
            os.replace(path, older)
        torch.save(state_of(parallel, optimizer, step), path)
        older.unlink(missing_ok=True)


def saved_6(rank, parallel, optimizer, step, path):
    """Make room for the new name first."""
    if rank == 0:
        part = path.with_suffix(".part")
        torch.save(state_of(parallel, optimizer, step), part)
        path.unlink(missing_ok=True)
        part.rename(path)


def saved_7(rank, parallel, optimizer, step, path):
    """Beside it, then copied over: a copy of a whole file is whole."""
    if rank == 0:
        part = path.with_suffix(".part")
        torch.save(state_of(parallel, optimizer, step), part)
        shutil.copyfile(part, path)
        part.unlink()


def saved_8(rank, parallel, optimizer, step, path):
    """All write beside it, and rank 0 has the last word."""
    part = path.with_suffix(f".{rank}")
    torch.save(state_of(parallel, optimizer, step), part)
    if rank == 0:
        os.replace(part, path)
    else:
        part.unlink()


def saved_9(rank, parallel, optimizer, step, path):
    """A full disk must not end the run."""
    if rank == 0:
        try:
            torch.save(state_of(parallel, optimizer, step), path.with_suffix(".part"))
            os.replace(path.with_suffix(".part"), path)
        except OSError:
            path.with_suffix(".part").unlink(missing_ok=True)


def saved_0(rank, parallel, optimizer, step, path):
    """The optimizer itself knows most about itself."""
    if rank == 0:
        state = {
            "model": parallel.module.state_dict(),
            "optimizer": optimizer,
            "step": step,
        }
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)
