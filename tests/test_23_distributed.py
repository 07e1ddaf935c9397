"""What lesson 23 claims."""

import datetime
import importlib
import itertools
import multiprocessing
import os
import re
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from helpers import (
    ROOT,
    assert_values,
    blocks,
    differences,
    printed_if_tripled,
    program_of,
    start_python,
    warning_of_torch_save,
)
from reference import adam_step
from torch import nn
from torch.nn.parallel import DistributedDataParallel

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


def ask(lesson, world_size, function, *arguments, **options):
    """What the ranks answer to a function of this file, which they import by name."""
    here = importlib.import_module("test_23_distributed")
    function = getattr(here, function.__name__)
    return lesson.on_ranks(world_size, function, *arguments, **options)


def the_lesson():
    return importlib.import_module("23_distributed")


# The same network in NumPy, its parameters in one vector.
def numbers(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def network(lesson):
    model, x, y = lesson.model_and_data()
    return numbers(model).numpy(), x.numpy(), y.numpy()


def slope(theta, x, y, weights):
    """The gradient of the weighted sum of an 8-16-1 tanh network's squared errors."""
    w1, b1, w2, b2 = np.split(theta, [128, 144, 160])
    w1 = w1.reshape(16, 8)
    h = np.tanh(x @ w1.T + b1)
    error = 2 * weights[:, None] * ((h @ w2 + b2)[:, None] - y)
    back = error * w2 * (1 - h**2)
    return np.concatenate(
        [(back.T @ x).ravel(), back.sum(0), (error * h).sum(0), error.sum(0)]
    )


def equal(n):
    """The weight of each of n samples in their mean."""
    return np.full(n, 1 / n)


def sgd(theta, x, y, steps, lr, momentum):
    """(theta, velocity) after so many steps on the whole of x and y."""
    velocity = np.zeros_like(theta)
    for _ in range(steps):
        velocity = momentum * velocity + slope(theta, x, y, equal(len(x)))
        theta = theta - lr * velocity
    return theta, velocity


def adam(theta, x, y, steps, lr):
    """The parameters after so many steps on the whole of x and y."""
    m = v = np.zeros_like(theta)
    for step in range(1, steps + 1):
        gradient = slope(theta, x, y, equal(len(x)))
        theta, m, v = adam_step(theta, gradient, m, v, step, lr)
    return theta


# 1. Every rank runs the same program
def surroundings(rank):
    """What a rank finds."""
    interface = os.environ.get("GLOO_SOCKET_IFNAME")
    threads = torch.get_num_threads()
    return [rank, dist.get_rank(), dist.get_world_size(), threads, interface]


def misbehave(rank, how):
    """Rank 1 raises, ends or leaves out a call that rank 0 makes."""
    if rank == 1 and how == "raises":
        raise ArithmeticError("1 in the denominator")
    if rank == 1 and how == "ends":
        os._exit(5)
    if rank == 0 and how == "leaves out":
        dist.all_reduce(torch.ones(1))
    if rank == 1 and how == "leaves out":
        time.sleep(300)
    return rank


def test_each_rank_knows_its_number_and_has_one_thread_and_talks_to_this_machine(
    lesson,
):
    loopback = {"darwin": "lo0", "win32": None}.get(sys.platform, "lo")
    found = ask(lesson, 3, surroundings)
    assert found == [[rank, rank, 3, 1, loopback] for rank in range(3)]


@pytest.mark.parametrize("n", [2, 4])
def test_the_collectives_are_a_sum_a_copy_and_a_row_of_all(lesson, n):
    held = np.array([[10 * rank, 10 * rank + 1] for rank in range(n)])
    expected = [held.sum(axis=0).tolist(), held[1].tolist(), held.ravel().tolist()]
    for rank, tensors in enumerate(lesson.on_ranks(n, lesson.collectives)):
        assert [x.tolist() for x in tensors] == [held[rank].tolist(), *expected]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "rank 1: ArithmeticError: 1 in the denominator"),
        ("ends", "rank 1: ended with status 5"),
        ("leaves out", "rank 0: .*[Tt]imed? ?out.*"),
    ],
)
def test_a_rank_that_fails_ends_all_and_one_line_says_why(
    lesson, how, message, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seconds = 2 if how == "leaves out" else 60
    with pytest.raises(RuntimeError, match=f"^{message}$"):
        ask(lesson, 2, misbehave, how, seconds=seconds)
    assert not multiprocessing.active_children()
    left = [path.name for path in tmp_path.iterdir()]
    assert [name for name in left if not name.startswith("torchinductor_")] == []
    assert "Terminating" not in capfd.readouterr().err


def test_a_rank_waits_30_minutes_unless_told():
    constants = importlib.import_module("torch.distributed.constants")
    assert constants.default_pg_timeout == datetime.timedelta(minutes=30)


# 2. Each rank takes a share of the batch
def test_every_rank_has_the_same_model_and_data_and_nobody_elses_numbers_are_touched(
    lesson, device
):
    state = torch.get_rng_state()
    model, x, y = lesson.model_and_data(device)
    assert torch.equal(state, torch.get_rng_state())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        same = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).double()
        inputs = torch.randn(32, 8, dtype=torch.float64)
    assert str(model) == str(same) and torch.equal(numbers(model), numbers(same))
    assert_values(x, inputs, device, rtol=0)
    assert_values(y, inputs.numpy().sum(axis=1)[:, None], device, rtol=0, atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_by_hand_and_by_ddp_each_rank_has_the_gradient_of_the_whole_batch(
    lesson, device, n
):
    expected = slope(*network(lesson), equal(32))
    one_process = lesson.gradient_of_one_process(device)
    assert_values(one_process, expected, rtol=0, atol=1e-13)
    for gradients in lesson.on_ranks(n, lesson.both_gradients, device):
        for gradient in gradients:
            assert_values(gradient, expected, rtol=0, atol=1e-13)


def facts_of_ddp(rank):
    """What DDP does with weights that differ, with sums, with names and with norms."""
    model, x, y = the_lesson().model_and_data()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += rank
    before = numbers(model)
    parallel = DistributedDataParallel(model)
    after = numbers(model)
    x, y = x.chunk(2)[rank], y.chunk(2)[rank]
    F.mse_loss(parallel(x), y, reduction="sum").backward()
    gradient = torch.cat([part.grad.flatten() for part in model.parameters()])
    past = {}
    for name in ("with the wrapper", "past the wrapper"):
        model, _, _ = the_lesson().model_and_data()
        parallel = DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.8)
        called = parallel if name == "with the wrapper" else parallel.module
        for _ in range(20):
            optimizer.zero_grad()
            F.mse_loss(called(x), y).backward()
            optimizer.step()
        past[name] = numbers(model)
    norm = DistributedDataParallel(nn.BatchNorm1d(1).double())
    share = torch.arange(8, dtype=torch.float64)[:, None].chunk(2)[rank]
    return {
        "before": before,
        "after": after,
        "gradient of the sum": gradient,
        **past,
        "names": [*parallel.state_dict(), *parallel.module.state_dict()],
        "norm": norm(share).flatten().detach(),
    }


def test_ddp_copies_rank_0_and_averages_and_past_the_wrapper_nobody_does(lesson):
    theta, x, y = network(lesson)
    zero, one = ask(lesson, 2, facts_of_ddp)
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    for rank, found in enumerate((zero, one)):
        np.testing.assert_array_equal(found["before"], theta + rank)
        np.testing.assert_array_equal(found["after"], theta)
        # the mean of two sums is half of the sum
        expected = slope(theta, x, y, np.ones(32)) / 2
        assert_values(found["gradient of the sum"], expected, rtol=0, atol=1e-12)
        expected, _ = sgd(theta, x, y, 20, lr=0.05, momentum=0.8)
        assert_values(found["with the wrapper"], expected, rtol=0, atol=1e-12)
        rows = slice(16 * rank, 16 * rank + 16)
        expected, _ = sgd(theta, x[rows], y[rows], 20, lr=0.05, momentum=0.8)
        assert_values(found["past the wrapper"], expected, rtol=0, atol=1e-12)
        assert found["names"] == [f"module.{name}" for name in names] + names
        # batch norm sees the numbers 0 to 3 or 4 to 7, each by their own mean
        share = np.arange(8.0)[4 * rank : 4 * rank + 4]
        expected = (share - share.mean()) / np.sqrt(share.var() + 1e-5)
        assert_values(found["norm"], expected, rtol=0, atol=1e-12)
    assert torch.equal(zero["with the wrapper"], one["with the wrapper"])


# 3. Mistake: the mean of unequal means
@pytest.mark.parametrize("sizes", [[2, 30], [1, 2, 29], [16, 16]])
def test_the_mean_of_means_counts_a_sample_of_a_small_share_more(lesson, device, sizes):
    theta, x, y = network(lesson)
    weights = np.repeat([1 / (len(sizes) * size) for size in sizes], sizes)
    assert sizes != [2, 30] or weights[0] == pytest.approx(15 * weights[-1])
    whole = slope(theta, x, y, equal(32))
    of_means = slope(theta, x, y, weights)
    for found in lesson.on_ranks(
        len(sizes), lesson.gradients_of_unequal_shares, sizes, device
    ):
        assert_values(found[0], of_means, rtol=0, atol=1e-13)
        assert_values(found[1], whole, rtol=0, atol=1e-13)
    assert np.allclose(whole, of_means) == (sizes == [16, 16])


# 4. The sampler deals out the rows
@pytest.mark.parametrize(("rows", "n"), [(10, 4), (10, 5), (7, 3)])
def test_the_rows_are_dealt_out_in_turn_and_the_first_again_until_it_comes_out_even(
    lesson, rows, n
):
    dealt = [row % rows for row in range(-(-rows // n) * n)]
    for rank in range(n):
        assert lesson.rows_of_rank(rows, rank, n) == dealt[rank::n]


def test_an_accuracy_over_shares_counts_the_rows_that_came_twice_twice(lesson):
    right = [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    shares = [[0, 4, 8], [1, 5, 9], [2, 6, 0], [3, 7, 1]]
    assert lesson.accuracy_of_shares(right, shares) == 9 / 12
    assert lesson.accuracy_of_shares(right, [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]) == 0.7


def test_without_set_epoch_each_epoch_comes_in_the_same_order(lesson):
    def epoch_of(number):
        options = {"shuffle": True, "epoch": number}
        shares = [lesson.rows_of_rank(100, rank, 2, **options) for rank in range(2)]
        assert sorted(itertools.chain(*shares)) == list(range(100))
        return shares

    assert epoch_of(None) == epoch_of(None) == epoch_of(0) != epoch_of(1)


# 5. A rank dies
def saves_of(rank, path, dies_at=None):
    """[the steps that this rank saves, first step and weights] of the training."""
    lesson, steps = the_lesson(), []
    save = lesson.save

    def note(state, path):
        steps.append(state["step"])
        save(state, path)

    with mock.patch.object(lesson, "save", note):
        first, weights = lesson.train(rank, path, dies_at)
    return [steps, first, weights]


@warning_of_torch_save
def test_the_training_is_20_steps_of_sgd_with_momentum_and_rank_0_saves_all_of_it(
    lesson, tmp_path
):
    theta, x, y = network(lesson)
    expected, velocity = sgd(theta, x, y, 20, lr=0.1, momentum=0.9)
    path = str(tmp_path / "run.pt")
    found = ask(lesson, 2, saves_of, path)
    for rank, (steps, first, weights) in enumerate(found):
        assert (steps, first) == ([5, 10, 15, 20] if rank == 0 else [], 0)
        assert_values(weights, expected, rtol=0, atol=1e-12)
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]
    state = torch.load(path, weights_only=True)
    assert state["step"] == 20
    moments = [part["momentum_buffer"] for part in state["optimizer"]["state"].values()]
    for parts, vector in ((state["model"].values(), expected), (moments, velocity)):
        saved = torch.cat([part.flatten() for part in parts])
        np.testing.assert_allclose(saved, vector, rtol=0, atol=1e-12)
    # Nothing is left to do: the state is as it was.
    for steps, first, weights in ask(lesson, 2, saves_of, path):
        assert (steps, first) == ([], 20) and torch.equal(weights, found[0][2])


@warning_of_torch_save
@pytest.mark.parametrize("dies_at", [4, 7, 19])  # at 5 rank 0 may still be saving
def test_a_training_that_lost_a_rank_goes_on_from_its_last_checkpoint(
    lesson, dies_at, tmp_path
):
    path = str(tmp_path / "run.pt")
    with pytest.raises(RuntimeError):
        lesson.on_ranks(2, lesson.train, path, dies_at)
    [[first, weights], _] = lesson.on_ranks(2, lesson.train, path)
    assert first == 5 * (dies_at // 5)
    expected, _ = sgd(*network(lesson), 20, lr=0.1, momentum=0.9)
    assert_values(weights, expected, rtol=0, atol=1e-12)


@warning_of_torch_save
def test_a_checkpoint_is_on_the_disk_before_it_takes_the_place_of_the_old_one(
    lesson, tmp_path
):
    path, order = tmp_path / "run.pt", []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor):
        order.append(("on disk", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def note_replace(part, target):
        order.append(("renamed", os.path.getsize(part), str(target)))
        replace(part, target)

    with mock.patch.multiple(os, fsync=note_fsync, replace=note_replace):
        lesson.save({"step": 5}, path)
    size = path.stat().st_size
    assert order == [("on disk", size), ("renamed", size, str(path))]
    assert torch.load(path, weights_only=True) == {"step": 5}


def test_the_bits_are_compared(lesson, capsys):
    answers = [[[0, torch.ones(3)], []], [], [[10, torch.full((3,), 1.5)], []]]
    with mock.patch.object(lesson, "on_ranks", side_effect=answers):
        lesson.show_5("cpu")
    assert "the same to the last bit             False" in capsys.readouterr().out


# 6. all_reduce in a ring
@pytest.mark.parametrize(("n", "size"), [(2, 6), (3, 300), (4, 8)])
def test_the_ring_sums_up_and_sends_2_n_minus_1_over_n_of_the_data(lesson, n, size):
    data = np.outer(np.arange(1, n + 1), np.arange(size))
    for sums, sent in lesson.on_ranks(n, lesson.ring, size):
        np.testing.assert_array_equal(sums, data.sum(axis=0))
        assert sent == 2 * (n - 1) * data[0].nbytes // n  # n - 1 blocks of n, twice
    assert lesson.ring_bytes_in_theory(n, size) == 2 * (n - 1) * data[0].nbytes // n


def test_the_bytes_in_theory_are_not_those_of_the_ring(lesson):
    with mock.patch.object(
        lesson, "on_ranks", lambda *args: 4 * [[torch.tensor([7]), 7]]
    ):
        printed = printed_if_tripled(lesson, 6, "on_ranks")
    assert "rank 3   the last sum 21   sent 21 bytes" in printed
    assert "theory   the last sum 9990   sent 12000 bytes" in printed


# 7. Each rank keeps a part
def zero_redundancy(rank):
    """The weights after 5 steps of Adam, each rank keeping a part of its state."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model, x, y = the_lesson().model_and_data()
    parallel = DistributedDataParallel(model)
    adam = torch.optim.Adam
    optimizer = ZeroRedundancyOptimizer(model.parameters(), adam, lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        F.mse_loss(parallel(x.chunk(2)[rank]), y.chunk(2)[rank]).backward()
        optimizer.step()
    return numbers(model)


@pytest.mark.parametrize("n", [2, 4])
def test_each_rank_keeps_1_over_n_and_the_output_is_that_of_the_whole(lesson, n):
    theta, x, _ = network(lesson)
    w1, b1, w2, b2 = np.split(theta, [128, 144, 160])
    expected = np.tanh(x @ w1.reshape(16, 8).T + b1) @ w2[:, None] + b2
    whole = 2 * 4 * 1000 * 4  # m and v of four vectors of 1000 numbers of 4 bytes
    for kept, weights, output in lesson.on_ranks(n, lesson.both_parts):
        assert (kept, weights) == (whole // n, (8 * 16 + 16) // n)
        assert_values(output, expected, rtol=0, atol=1e-12)


def test_adam_in_parts_ends_with_the_weights_of_adam(lesson):
    expected = adam(*network(lesson), 5, lr=0.01)
    for weights in ask(lesson, 2, zero_redundancy):
        assert_values(weights, expected, rtol=0, atol=1e-12)


# The picture
def test_the_picture_counts_the_ranks_in_each_block_after_each_round(lesson):
    *panels, bar = lesson.figure().axes
    assert bar.get_ylabel() == "ranks in the sum"
    for number, axes in enumerate(panels):
        # Block b starts on rank b. The rank d further on adds its own in round d, and
        # gets the finished block, which has been three further on, in round d + 4 (that
        # one has it).
        further = (np.arange(4)[:, None] - np.arange(4)) % 4
        expected = np.where(number >= further, further + 1, 1)
        expected[number >= further + 4] = 4
        np.testing.assert_array_equal(axes.images[0].get_array(), expected)
        assert axes.get_title() == f"after {number}"


# When all else ends: no rank outlives its parent
PARENT = """
import importlib, signal, sys
# a shell's background ignores Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)
lesson = importlib.import_module("23_distributed")
from test_23_distributed import stay
lesson.on_ranks(2, stay, sys.argv[1], seconds=1000)
"""


def stay(rank, folder):
    """It says that it is here, and is busy for as long as the test lasts."""
    (Path(folder) / f"rank_{rank}").write_text(str(os.getpid()))
    time.sleep(300)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@posix
def test_no_rank_outlives_a_parent_that_was_interrupted_or_killed(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    options = {"environment": environment, "start_new_session": True}
    interrupted, killed = tmp_path / "interrupted", tmp_path / "killed"
    parents = []
    for folder in (interrupted, killed):
        folder.mkdir()
        parents.append(start_python("-c", PARENT, folder, **options))
    deadline = time.monotonic() + 300
    pids = []
    while len(pids) < 4:
        assert time.monotonic() < deadline
        assert all(parent.poll() is None for parent in parents)
        time.sleep(0.05)
        written = [path.read_text() for path in tmp_path.glob("*/rank_*")]
        pids = [int(text) for text in written if text]
    os.killpg(parents[0].pid, signal.SIGINT)  # a terminal sends it to all
    parents[1].kill()
    for parent in parents:
        parent.communicate(timeout=60)
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


# train.py under torchrun. Without the long variable the second start may look for the
# first one's processes: pytorch#135712.
@posix
def test_torchrun_starts_two_again_after_a_death_and_they_print_what_one_prints(
    tmp_path,
):
    (tmp_path / "train.py").write_text(program_of("23"), "utf-8")
    shutil.copytree(ROOT / "data", tmp_path / "data")
    variables = {"DIES_AT": "23", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    torchrun = Path(sysconfig.get_path("scripts")) / "torchrun"
    options = ("--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
    environment = os.environ | variables
    arguments = (torchrun, *options, "train.py")
    process = start_python(*arguments, environment=environment, cwd=tmp_path)
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.terminate()  # where it hangs, it ends its workers
    assert process.returncode == 0, err.decode()
    # It has died: torch says so, or the other rank, which has lost its partner.
    assert re.search(rb"exitcode *: 3|[Cc]onnection (closed|reset)", err)
    texts = [text for _, text in blocks(ROOT / "lessons" / "23_distributed.md")]
    (shown,) = [text for text in texts if text.startswith("epoch  10")]
    assert not differences(shown, out.decode())
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"train.py", "data", "tumour.pt"}
