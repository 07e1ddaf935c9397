"""What lesson 23 claims."""

import datetime
import importlib
import io
import itertools
import multiprocessing
import os
import shlex
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
    printed_if_tripled,
    start_python,
    warning_of_torch_save,
)
from reference import adam_step
from torch import nn
from torch.utils.data import DistributedSampler

posix = pytest.mark.skipif(
    os.name == "nt", reason="Windows has neither these signals nor torchrun"
)
sizes = pytest.mark.parametrize("n", [1, 2, 4])


@pytest.fixture(scope="module", autouse=True)
def pool(lesson):
    """The four workers that the tests ask; they end when nobody can ask any more."""
    before = set(multiprocessing.active_children())
    lesson.workers()
    yield
    for _, pipe in lesson.workers():
        pipe.close()
    for process, _ in lesson.workers():
        process.join(60)
        assert process.exitcode == 0
    lesson.workers.cache_clear()
    assert set(multiprocessing.active_children()) <= before


def ask(lesson, function, size, *arguments, **options):
    """What the workers answer to a function of this file, which they import by name."""
    here = importlib.import_module("test_23_distributed")
    function = getattr(here, function.__name__)
    return lesson.together(function, size, *arguments, **options)


# What the workers do for the tests: each is called as f(rank, group, ...), in another
# process.
def the_lesson():
    return importlib.import_module("23_distributed")


def place(rank, group, *arguments):
    """Where it runs, and what it was given."""
    threads, interface = torch.get_num_threads(), os.environ.get("GLOO_SOCKET_IFNAME")
    size, backend = dist.get_world_size(group), dist.get_backend(group)
    return (dist.get_rank(group), size, backend, threads, interface), arguments


def behave(rank, group, *manners):
    """It raises, ends or waits for the others, as its manner is; else it answers."""
    if manners[rank] == "raises":
        raise ArithmeticError(f"{rank} in the denominator")
    if manners[rank] == "ends":
        os._exit(5)
    if manners[rank] == "hangs":
        dist.all_reduce(torch.ones(1), group=group)  # which the others leave out
    return rank


def stay(rank, group, folder):
    """It says that it is here, and is busy as long as its parent lives."""
    (Path(folder) / f"rank_{rank}").touch()
    while multiprocessing.parent_process().is_alive():
        time.sleep(0.05)


def numbers(model):
    return nn.utils.parameters_to_vector(model.parameters()).tolist()


def in_ddp(model, group):
    return nn.parallel.DistributedDataParallel(model, process_group=group)


def data_of(rank, group):
    model, x, y = the_lesson().model_and_data()
    return numbers(model), x.tolist(), y.tolist()


def drift(rank, group, wrapped):
    """The weights before DDP, after it, and after 20 steps with or past the wrapper."""
    model, x, y = the_lesson().model_and_data()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += rank
    before = numbers(model)
    parallel, n = in_ddp(model, group), group.size()
    after = numbers(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.8)
    for _ in range(20):
        optimizer.zero_grad()
        output = (parallel if wrapped else parallel.module)(x.chunk(n)[rank])
        F.mse_loss(output, y.chunk(n)[rank]).backward()
        optimizer.step()
    return before, after, numbers(model)


def wrapper(rank, group):
    """DDP's gradient of a sum, the names in two state_dicts, batch norm's output."""
    model, x, y = the_lesson().model_and_data()
    parallel, n = in_ddp(model, group), group.size()
    F.mse_loss(parallel(x.chunk(n)[rank]), y.chunk(n)[rank], reduction="sum").backward()
    gradient = torch.cat([part.grad.flatten() for part in model.parameters()])
    names = list(parallel.state_dict()), list(parallel.module.state_dict())
    norm = in_ddp(nn.BatchNorm1d(1).double(), group)
    shares = torch.arange(8, dtype=torch.float64)[:, None].chunk(n)
    return gradient.tolist(), names, norm(shares[rank]).flatten().tolist()


def zero_redundancy(rank, group, steps):
    """The weights after some steps of Adam, each rank keeping a part of its state."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model, x, y = the_lesson().model_and_data()
    parallel, n = in_ddp(model, group), group.size()
    parts = model.parameters(), torch.optim.Adam
    optimizer = ZeroRedundancyOptimizer(*parts, process_group=group, lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        F.mse_loss(parallel(x.chunk(n)[rank]), y.chunk(n)[rank]).backward()
        optimizer.step()
    return numbers(model)


def watched(rank, group, folder):
    """What this rank writes in the lesson's training, and loads to go on from there."""
    events, save, replace, load = [], torch.save, os.replace, torch.load

    def spy_on_save(state, file):
        memory = io.BytesIO()
        save(state, memory)
        content = memory.getvalue()
        events.append((Path(file.name).name, len(content)))
        file.write(content[:-9])
        # it waits for a flush: torch.save makes one, as it happens
        file.write(content[-9:])

    def spy_on_fsync(descriptor):
        events.append(os.fstat(descriptor).st_size)

    def spy_on_replace(old, new):
        step = load(old, weights_only=True)["step"]  # it is whole
        events.append((Path(old).name, Path(new).name, step))
        replace(old, new)

    def spy_on_load(path, **options):
        events.append((Path(path).name, options))
        return load(path, **options)

    spies = mock.patch.multiple(torch, save=spy_on_save, load=spy_on_load)
    on_disk = mock.patch.multiple(os, replace=spy_on_replace, fsync=spy_on_fsync)
    with spies, on_disk:
        for _ in range(2):
            the_lesson().trained(rank, group, folder)
    return events


# The same network in NumPy, its parameters in one vector.
def network(lesson):
    model, x, y = lesson.model_and_data()
    return np.array(numbers(model)), x.numpy(), y.numpy()


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


# The four workers
@sizes
def test_a_call_goes_to_the_first_workers_and_their_answers_come_in_the_order_of_ranks(
    lesson, n
):
    loopback = {"darwin": "lo0", "win32": None}.get(sys.platform, "lo")
    common = (n, "gloo", 1, loopback)  # one thread each
    expected = [((rank, *common), ("a", [2])) for rank in range(n)]
    assert ask(lesson, place, n, "a", [2]) == expected


def test_the_workers_are_started_once(lesson):
    started = lesson.workers()
    assert len({process.pid for process, _ in started} - {os.getpid()}) == 4
    assert all(process.daemon for process, _ in started)  # they end with this process
    ask(lesson, place, 4)
    assert lesson.workers() is started


def test_on_linux_they_are_forked_off_a_process_that_has_torch_and_elsewhere_spawned(
    lesson,
):
    method = "forkserver" if sys.platform == "linux" else "spawn"
    kind = multiprocessing.get_context(method).Process
    assert all(type(process) is kind for process, _ in lesson.workers())


@posix
def test_ctrl_c_is_for_the_parent_alone(lesson):
    for process, _ in lesson.workers():
        os.kill(process.pid, signal.SIGINT)
    assert ask(lesson, behave, 4, *4 * [None]) == [0, 1, 2, 3]


def test_after_an_interrupted_call_no_late_answer_is_taken_for_the_next_one(
    lesson, monkeypatch
):
    # the second look at it finds Ctrl-C
    clock = mock.Mock(side_effect=[0, KeyboardInterrupt])
    with monkeypatch.context() as patch:
        patch.setattr(lesson.time, "monotonic", clock)
        with pytest.raises(KeyboardInterrupt):
            lesson.together(lesson.ring, 2, 6)
    answers = lesson.together(lesson.collectives, 2)
    assert [found["all_reduce"] for found in answers] == [[10, 12], [10, 12]]


def test_a_worker_that_has_ended_between_two_calls_is_named_too(lesson):
    process, _ = lesson.workers()[1]
    process.kill()
    process.join()
    with pytest.raises(RuntimeError, match="rank 1: ended"):
        lesson.together(lesson.collectives, 2)
    assert len(lesson.together(lesson.collectives, 2)) == 2


@pytest.mark.parametrize(
    ("manners", "message"),
    [
        ((None, "raises"), "rank 1: ArithmeticError: 1 in the denominator"),
        (
            ("raises", None, "ends", "raises"),
            "rank 2: ended with status 5; "
            "rank 0: ArithmeticError: 0 in the denominator; "
            "rank 3: ArithmeticError: 3 in the denominator",
        ),
        (("hangs", None), "rank 0: no answer within 1 seconds"),
    ],
    ids=["raises", "ends", "hangs"],
)
def test_a_worker_that_fails_is_named_and_the_next_call_finds_new_ones(
    lesson, manners, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ask(lesson, place, 4)  # they have this file
    old, begin = lesson.workers(), time.monotonic()
    with pytest.raises(RuntimeError) as failure:
        ask(
            lesson,
            behave,
            len(manners),
            *manners,
            seconds=1 if "hangs" in manners else 60,
        )
    assert time.monotonic() - begin < 5
    assert str(failure.value) == message
    for process, _ in old:
        process.join(60)
        assert not process.is_alive()
    assert ask(lesson, behave, 4, *4 * [None]) == [0, 1, 2, 3]
    assert not {process.pid for process, _ in old} & {
        p.pid for p, _ in lesson.workers()
    }
    assert not list(tmp_path.iterdir())


def test_an_answer_that_waits_is_taken_however_late_another_was(lesson):
    """Rank 0 is asked for its answer first, and takes all the time that there is."""
    ask(lesson, place, 4)
    with pytest.raises(RuntimeError) as failure:
        ask(lesson, behave, 4, "hangs", None, "raises", None, seconds=0.5)
    assert "rank 1" not in str(failure.value) and "rank 3" not in str(failure.value)
    assert "rank 2: ArithmeticError" in str(failure.value)


def test_a_rank_waits_30_minutes_unless_told():
    constants = importlib.import_module("torch.distributed.constants")
    assert constants.default_pg_timeout == datetime.timedelta(minutes=30)


# 1. Every rank runs the same program; collectives join them
@pytest.mark.parametrize("n", [2, 4])
def test_the_collectives_are_a_sum_a_copy_and_a_row_of_all(lesson, n):
    held = np.array([[10 * rank, 10 * rank + 1] for rank in range(n)])
    expected = {
        "all_reduce": held.sum(axis=0).tolist(),
        "broadcast": held[1].tolist(),
        "all_gather": held.ravel().tolist(),
    }
    assert lesson.together(lesson.collectives, n) == n * [expected]


# 2. all_reduce in a ring
@sizes
@pytest.mark.parametrize("blocks_of", [1, 250])
def test_the_ring_sums_up_and_sends_2_n_minus_1_over_n_of_the_data(
    lesson, n, blocks_of
):
    data = np.outer(np.arange(1, n + 1), np.arange(n * blocks_of))
    sent = 2 * (n - 1) * data[0].nbytes // n  # n - 1 blocks of n, twice
    expected = n * [(data.sum(axis=0).tolist(), sent)]
    assert lesson.together(lesson.ring, n, n * blocks_of) == expected
    assert 2 * 7 * 400 // 8 == 700  # the chapter's first answer, in MB


def test_the_bytes_and_sums_in_theory_are_not_those_of_the_ring(lesson):
    printed = printed_if_tripled(lesson, 2, "together")
    for n, sent in ((2, 8000), (4, 12000)):
        line = f"{n} ranks: right False, each sends {3 * sent}, theory {sent}"
        assert line in printed


# 3. Data parallel: each rank takes a share of the batch, and gradients are averaged
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
    assert str(model) == str(same) and numbers(model) == numbers(same)
    assert_values(x, inputs, device, rtol=0)
    assert_values(y, inputs.numpy().sum(axis=1)[:, None], device, rtol=0, atol=1e-14)
    if device == "cpu":
        assert ask(lesson, data_of, 4) == 4 * [(numbers(model), x.tolist(), y.tolist())]


def test_the_gradient_is_one_vector_and_starts_anew(lesson, device):
    theta, x, y = network(lesson)
    model, *data = lesson.model_and_data(device)
    for rows in (32, 5):
        inputs, targets = (tensor[:rows] for tensor in data)
        gradient = lesson.gradient(model, F.mse_loss(model(inputs), targets))
        expected = slope(theta, x[:rows], y[:rows], equal(rows))
        assert_values(gradient, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shares", [[32], [5, 27], [2, 30], [1, 2, 3, 26]])
def test_means_weighted_by_their_shares_are_the_mean_of_all(lesson, device, shares):
    assert max(lesson.together(lesson.by_hand, len(shares), device, shares)) < 1e-12


@sizes
def test_ddp_gives_each_rank_the_gradient_of_the_whole_batch(lesson, device, n):
    differences = lesson.together(lesson.by_ddp, n, device)
    assert len(differences) == n and max(differences) < 1e-12


@pytest.mark.parametrize("n", [2, 4])
def test_ddp_sends_rank_0s_start_to_all_and_they_stay_equal_to_the_last_bit(lesson, n):
    theta, x, y = network(lesson)
    found = ask(lesson, drift, n, True)
    expected, _ = sgd(theta, x, y, 20, lr=0.05, momentum=0.8)
    for rank, (before, after, last) in enumerate(found):
        np.testing.assert_array_equal(before, theta + rank)
        assert after == theta.tolist() and last == found[0][2]
        np.testing.assert_allclose(last, expected, rtol=0, atol=1e-12)


def test_past_the_wrapper_each_rank_trains_on_its_share_alone(lesson):
    theta, x, y = network(lesson)
    for rank, (_, after, last) in enumerate(ask(lesson, drift, 2, False)):
        rows = slice(16 * rank, 16 * rank + 16)
        expected, _ = sgd(theta, x[rows], y[rows], 20, lr=0.05, momentum=0.8)
        assert after == theta.tolist()
        np.testing.assert_allclose(last, expected, rtol=0, atol=1e-12)


def test_ddps_mean_of_sums_is_1_over_n_of_the_sum(lesson):
    theta, x, y = network(lesson)
    for gradient, _, _ in ask(lesson, wrapper, 4):
        expected = slope(theta, x, y, np.ones(32)) / 4
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12)


def test_the_wrappers_names_begin_with_module(lesson):
    for _, (wrapped, own), _ in ask(lesson, wrapper, 2):
        assert own == ["0.weight", "0.bias", "2.weight", "2.bias"]
        assert wrapped == [f"module.{name}" for name in own]


def test_batch_norm_sees_its_own_share_alone(lesson):
    shares = np.split(np.arange(8.0), 2)
    assert [share.mean() for share in shares] == [1.5, 5.5]  # and 3.5 of all
    assert np.arange(8.0).mean() == 3.5
    for share, (_, _, output) in zip(shares, ask(lesson, wrapper, 2), strict=True):
        expected = (share - share.mean()) / np.sqrt(share.var() + 1e-5)
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-12)


def shares_of(rows, ranks, **options):
    """What the sampler hands to each rank."""
    samplers = [
        DistributedSampler(range(rows), ranks, rank, **options) for rank in range(ranks)
    ]
    return samplers, [list(sampler) for sampler in samplers]


def test_the_sampler_hands_out_rows_twice_where_the_number_does_not_come_out_even():
    _, shares = shares_of(10, 4, shuffle=False)
    rows = list(itertools.chain(*shares))
    assert len(rows) == 12 and [n for n in range(10) if rows.count(n) == 2] == [0, 1]
    # the first 7 of 10 are right
    assert sum(row < 7 for row in rows) / 12 == 0.75
    own = {sum(row < 7 for row in set(share)) / len(set(share)) for share in shares}
    assert 0.7 not in own


def test_without_set_epoch_each_epoch_comes_in_the_same_order():
    samplers, first = shares_of(100, 2, shuffle=True)
    assert [list(sampler) for sampler in samplers] == first
    for sampler in samplers:
        sampler.set_epoch(1)
    second = [list(sampler) for sampler in samplers]
    assert second != first
    assert sorted(itertools.chain(*second)) == list(range(100))


# 4. Mistake: the mean of unequal means
@pytest.mark.parametrize("shares", [[2, 30], [1, 2, 3, 26], [16, 16]])
def test_uncorrected_a_sample_of_a_small_share_counts_more(lesson, device, shares):
    theta, x, y = network(lesson)
    weights = np.repeat([1 / (len(shares) * share) for share in shares], shares)
    assert shares != [2, 30] or weights[0] == pytest.approx(15 * weights[-1])
    error = np.abs(slope(theta, x, y, weights) - slope(theta, x, y, equal(32))).max()
    assert error > 1e-3 or shares == [16, 16]
    found = lesson.together(lesson.by_hand, len(shares), device, shares, False)
    np.testing.assert_allclose(found, len(shares) * [error], rtol=0, atol=1e-12)


# 5. Each rank keeps a part: of the optimizer's state, or of each layer
@sizes
def test_each_rank_keeps_1_over_n_of_adams_two_moments(lesson, n):
    whole = 2 * 4 * 1000 * 4  # m and v of four vectors of 1000 numbers of 4 bytes
    assert lesson.together(lesson.adam_bytes, n) == n * [whole // n]


@sizes
def test_adam_in_parts_ends_with_the_weights_of_adam(lesson, n):
    theta, x, y = network(lesson)
    weights, *others = ask(lesson, zero_redundancy, n, 5)
    assert others == (n - 1) * [weights]
    expected = adam(theta, x, y, 5, lr=0.01)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-12)


@sizes
def test_a_layer_in_parts_gives_the_output_of_the_whole(lesson, n):
    for kept, difference in lesson.together(lesson.tensor_parallel, n):
        assert kept == (8 * 16 + 16) // n and difference < 1e-12


# 6. A worker dies, and the training ends as if it had not
@warning_of_torch_save
@sizes
def test_the_training_is_20_steps_of_sgd_with_momentum(lesson, n, tmp_path):
    theta, x, y = network(lesson)
    expected, velocity = sgd(theta, x, y, 20, lr=0.1, momentum=0.9)
    # rank 0 never dies
    found = lesson.together(lesson.trained, n, tmp_path, 3 if n == 1 else None)
    assert found == n * [(0, found[0][1])]
    np.testing.assert_allclose(found[0][1], expected, rtol=0, atol=1e-12)
    # The checkpoint holds all of it: the model, the momentum, the step.
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    assert state["step"] == 20
    moments = [part["momentum_buffer"] for part in state["optimizer"]["state"].values()]
    for parts, vector in ((state["model"].values(), expected), (moments, velocity)):
        saved = torch.cat([part.flatten() for part in parts])
        np.testing.assert_allclose(saved, vector, rtol=0, atol=1e-12)
    # Nothing is left to do: the state is as it was.
    assert lesson.together(lesson.trained, n, tmp_path) == n * [(20, found[0][1])]


def test_rank_0_alone_saves_every_5_steps_beside_and_renames_and_all_load(
    lesson, tmp_path
):
    first, *others = ask(lesson, watched, 4, tmp_path)
    loaded = [("run.pt", {"weights_only": True})]
    assert first[12:] == loaded and others == 3 * [loaded]
    for number, step in enumerate((5, 10, 15, 20)):
        saved, on_disk, renamed = first[3 * number : 3 * number + 3]
        assert saved == ("run.part", on_disk) and renamed == (
            "run.part",
            "run.pt",
            step,
        )


@pytest.mark.parametrize("dies_at", [0, 4, 5, 19])
def test_a_training_that_lost_a_worker_goes_on_from_its_last_checkpoint(
    lesson, dies_at, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    expected = "rank 1: ended with status 3", 5 * (dies_at // 5), True
    assert lesson.restarted(dies_at) == expected
    assert not list(tmp_path.iterdir())


def test_restarted_says_so_if_the_weights_differ(lesson, monkeypatch):
    answers = [[(start, [w]), (start, [w])] for start, w in ((0, 1), (0, 2), (15, 2))]
    folders = []

    def together(function, size, folder, *dies_at):
        folders.append(folder)
        return answers[len(folders) - 1]

    monkeypatch.setattr(lesson, "together", together)
    assert lesson.restarted(7) == (None, 15, False)
    assert folders[0] != folders[1] == folders[2]


@pytest.mark.parametrize("attempt", ["0", "1"])
@pytest.mark.parametrize("same", [True, False])
def test_a_process_of_torchrun_dies_in_its_first_attempt_alone(
    lesson, attempt, same, tmp_path, monkeypatch
):
    deaths = []

    def trained(rank, group, folder, dies_at=None):
        folder.mkdir(parents=True)
        deaths.append(dies_at)
        return 10, [1.0 if same else folder.name]

    environment = {"TORCHELASTIC_RUN_ID": "mine", "DIES_AT": "7"}
    for name, value in (environment | {"TORCHELASTIC_RESTART_COUNT": attempt}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(lesson, "trained", trained)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(dist, "init_process_group", lambda backend: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    # Nobody removes what another may read yet.
    monkeypatch.setattr(
        dist, "barrier", lambda: deaths.append(len(os.listdir(tmp_path)))
    )
    assert lesson.one_of_several() == (1, 10, same)
    assert deaths == [7 if attempt == "0" else None, None, 1]
    assert not list(tmp_path.iterdir())


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


# When all else ends: no worker outlives its parent
PARENT = """
import importlib, signal, sys, types
# a shell's background ignores Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)
lesson = importlib.import_module("23_distributed")
lesson.sys = types.SimpleNamespace(platform=sys.argv[1])
from test_23_distributed import behave, stay
print(lesson.together(behave, 4, *4 * [None]), flush=True)
lesson.together(stay, 4, sys.argv[2], seconds=1000)
"""


def start_parent(folder, platform):
    """A process that takes its system for another, with workers busy while it lives."""
    (folder / "here").mkdir()
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(folder)}
    arguments = "-c", PARENT, platform, folder / "here"
    return start_python(
        *arguments, environment=os.environ | own, start_new_session=True
    )


def in_the_middle(process):
    """The folder where its workers say that they are in a call, once they do."""
    folder, deadline = Path(process.args[-1]), time.monotonic() + 300
    while len(list(folder.glob("rank_*"))) < 4:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    return folder


def left_beside(folder):
    """The temporary files that are left, torch's folder of compiled code aside."""
    found = [path.name for path in folder.parent.iterdir() if path != folder]
    return [name for name in found if not name.startswith("torchinductor_")]


def last_words(process):
    """What it and its workers have printed, when the last of them has ended."""
    out, err = process.communicate(timeout=60)
    assert out == b"[0, 1, 2, 3]\n"
    return err.decode()


@posix
def test_after_ctrl_c_no_worker_and_no_folder_remains(tmp_path):
    process = start_parent(tmp_path, sys.platform)
    folder = in_the_middle(process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all
    err = last_words(process)
    assert process.returncode == -signal.SIGINT
    assert err.count("Traceback") == err.count("KeyboardInterrupt") == 1
    assert left_beside(folder) == []


@posix
def test_no_spawned_worker_outlives_a_parent_that_was_killed(tmp_path):
    # By spawn, each of the four workers imports torch: 10 s of a core.
    process = start_parent(tmp_path, "darwin")
    folder = in_the_middle(process)
    process.kill()
    last_words(process)
    assert process.returncode == -signal.SIGKILL
    assert left_beside(folder) == []


# The chapter's second console block: torchrun, and two processes that start twice.
# Without the long variable the second start may look for the first one's processes:
# pytorch#135712.
def with_torchrun():
    """({"DIES_AT": ...}, [arguments of torchrun], [lines]) of the chapter."""
    chapter = ROOT / "lessons" / "23_distributed.md"
    _, text = [text for language, text in blocks(chapter) if language == "console"]
    command, *lines = text.splitlines()
    before, after = command.removeprefix("$ ").split(" torchrun ")
    return dict(word.split("=") for word in before.split()), shlex.split(after), lines


@posix
def test_torchrun_starts_both_again_and_they_end_with_the_same_bits(tmp_path):
    environment, arguments, lines = with_torchrun()
    environment = os.environ | environment | {"TMPDIR": str(tmp_path)}
    torchrun = shutil.which("torchrun", path=sysconfig.get_path("scripts"))
    process = start_python(torchrun, *arguments, environment=environment, cwd=ROOT)
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.terminate()  # where it hangs, it ends its workers
    assert process.returncode == 0, err.decode()
    assert sorted(out.decode().splitlines()) == sorted(lines)
    assert not list(tmp_path.glob("lesson_20_*"))
