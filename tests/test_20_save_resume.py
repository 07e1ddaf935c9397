"""What lesson 20 claims."""

import contextlib
import copy
import functools
import io
import itertools
import math
import os
import pickle
import signal
import subprocess
import sys
import time
import types
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import printed_if_tripled, warning_of_torch_save
from torch import nn

pytestmark = warning_of_torch_save

START, EPOCH_END, MID_EPOCH, LAST_STEP = MOMENTS = [(0, 0), (5, 0), (5, 3), (9, 9)]
PARTS = ("optimizer", "scheduler", "epoch", "batch", "order", "random")


def random_state():
    """The state of the global generators: the CPU's and each card's."""
    return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]


def set_random_state(state):
    torch.set_rng_state(state[0])
    torch.cuda.set_rng_state_all(state[1:])


@contextlib.contextmanager
def own_random_numbers():
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


@pytest.fixture
def nothing_drawn():
    """The test leaves the global generator as it was."""
    state = torch.get_rng_state()
    yield
    assert torch.equal(state, torch.get_rng_state())


undrawn = pytest.mark.usefixtures("nothing_drawn")


# The lesson's training once more: no positions, no scheduler, but a list of the steps
# to take. Ten epochs are the first 100 steps; a run that forgets that it has done 5
# comes to epoch 15.
STEPS = [
    (epoch, batch, 0.01 / 2 ** (epoch // 3))
    for epoch in range(15)
    for batch in range(10)
]
DONE = 53  # 5 epochs and 3 batches


@functools.cache
def permutations():
    generator = torch.Generator().manual_seed(0)
    return [torch.randperm(200, generator=generator).view(10, 20) for _ in range(15)]


@functools.cache
def begun(device):
    """((model, optimizer, x, y), the random numbers' state), before the first step."""
    with own_random_numbers():
        torch.manual_seed(0)
        hidden, out = nn.Linear(8, 16), nn.Linear(16, 2)
        x = torch.randn(200, 8)
        model = nn.Sequential(
            hidden, nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), out
        )
        model.to(device)
        y = torch.tensor([int((a < 0) == (b < 0)) for a, b in x[:, :2].tolist()])
        optimizer = torch.optim.Adam(model.parameters())
        return (model, optimizer, x.to(device), y.to(device)), random_state()


def trained(parts, random, steps):
    """The same two after more steps, each (a permutation's number, batch in it, lr)."""
    model, optimizer, x, y = copy.deepcopy(parts)
    with own_random_numbers():
        set_random_state(random)
        for permutation, batch, lr in steps:
            optimizer.param_groups[0]["lr"] = lr
            rows = permutations()[permutation][batch]
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        return (model, optimizer, x, y), random_state()


@functools.cache
def interrupted(device):
    return trained(*begun(device), STEPS[:DONE])


@functools.cache
def whole(device):
    return trained(*interrupted(device), STEPS[DONE:100])


def steps_after(forgotten, epochs):
    """The steps that a run takes up to so many epochs, resumed at (5, 3) without these
    parts."""
    first = 50 if "batch" in forgotten else DONE
    steps = STEPS[first : 10 * epochs + 50 * ("epoch" in forgotten)]
    if "optimizer" in forgotten:
        # and with it the rate, once halved: it starts at 0.01 again
        steps = [(number, batch, lr * 2) for number, batch, lr in steps]
    if "scheduler" in forgotten:
        # it counts anew, three epochs from 5 on, and halves what it has
        steps = [
            (number, batch, 0.005 if number < 8 else 0.0025)
            for number, batch, _ in steps
        ]
    if "order" in forgotten:
        steps = [(number - 5, batch, lr) for number, batch, lr in steps]
    return steps


@functools.cache
def resumed_without(forgotten, device, epochs):
    """The model that ends after so many epochs, from (5, 3), without these parts: read
    only."""
    (model, optimizer, x, y), random = copy.deepcopy(interrupted(device))
    if "optimizer" in forgotten:
        optimizer = torch.optim.Adam(model.parameters())
    if "random" in forgotten:
        random = begun(device)[1]
    return trained((model, optimizer, x, y), random, steps_after(forgotten, epochs))[0][
        0
    ]


def largest_difference(a, b):
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max((p - q).abs().max().item() for p, q in pairs)


def flat(model):
    """All weights as one vector in float64."""
    parts = [parameter.detach().cpu().flatten() for parameter in model.parameters()]
    return torch.cat(parts).double()


def numbers(model, optimizer):
    """Name -> tensor of all that a model and its optimizer hold."""
    found = {
        f"model {name}": tensor.clone() for name, tensor in model.state_dict().items()
    }
    for key, moments in optimizer.state_dict()["state"].items():
        found |= {f"{key} {name}": tensor.clone() for name, tensor in moments.items()}
    return found


def different(found, expected):
    """The names of what is not equal to the last bit; both must have the same names."""
    assert found.keys() == expected.keys()
    return [name for name in found if not torch.equal(found[name], expected[name])]


def written(state):
    """The bytes of a checkpoint."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def read(content):
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


# 1. What a state_dict holds
@undrawn
def test_batch_norm_saves_its_statistics_too_which_are_no_parameters(lesson):
    statistics = ["running_mean", "running_var", "num_batches_tracked"]
    layer = nn.BatchNorm1d(4)
    assert lesson.names(layer) == (["weight", "bias", *statistics], ["weight", "bias"])
    assert lesson.names(nn.BatchNorm1d(4, affine=False)) == (statistics, [])
    # Who saves the parameters alone gets back the statistics of a new layer: means 0,
    # variances 1.
    layer(torch.arange(12.0).view(3, 4))
    fresh = nn.BatchNorm1d(4)
    fresh.load_state_dict(dict(layer.named_parameters()), strict=False)
    assert fresh.running_mean.tolist() == [0] * 4 != layer.running_mean.tolist()
    assert fresh.running_var.tolist() == [1] * 4 != layer.running_var.tolist()


@undrawn
def test_buffers_are_saved_and_a_plain_attribute_is_not(lesson):
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(2))
    model.again = model.weight  # one parameter under two names
    model.plain = torch.zeros(2)
    model.register_buffer("mean", torch.zeros(2))
    model.register_buffer("scratch", torch.zeros(2), persistent=False)
    model.inner = nn.Module()
    model.inner.bias = nn.Parameter(torch.zeros(1))
    saved, parameters = lesson.names(model)
    assert saved == ["weight", "again", "mean", "inner.bias"]
    assert parameters == ["weight", "inner.bias"]


# 2. Mistake: the best weights, kept by reference
@undrawn
@pytest.mark.parametrize("lr", [2.2, 0.5])
@pytest.mark.parametrize("steps", [0, 3, 5])
def test_weights_kept_by_reference_go_on_training(lesson, lr, steps):
    # The slope of w^2 / 2 is w: a step multiplies w, which is 1 at first, by 1 - lr.
    expected = (1 - lr) ** (2 * steps) / 2
    assert lesson.best_loss_later(False, lr, steps) == pytest.approx(
        expected, rel=1e-13
    )
    assert lesson.best_loss_later(True, lr, steps) == 0.5


def test_the_loss_in_theory_is_not_the_one_of_the_kept_weights(lesson):
    printed = printed_if_tripled(lesson, 2, "best_loss_later")
    assert f"theory after 5 steps {1.2**10 / 2:.4f}" in printed
    assert printed.count("3.0959") == 1


# 3. A checkpoint holds all that the next step depends on
@undrawn
def test_a_training_is_ten_epochs_of_ten_batches_and_a_rate_halved_every_three(
    lesson, device
):
    with own_random_numbers():
        run = lesson.Training(device)
        parts, random = begun(device)
        assert different(numbers(run.model, run.optimizer), numbers(*parts[:2])) == []
        # The rate is what the next step will have.
        for until in ((0, 7), (3, 0), MID_EPOCH, LAST_STEP, (10, 0)):
            run.run(until)
            assert (run.position["epoch"], run.position["batch"]) == until
            assert run.optimizer.param_groups[0]["lr"] == 0.01 / 2 ** (until[0] // 3)
            if until in (MID_EPOCH, (10, 0)):
                parts, random = (interrupted if until == MID_EPOCH else whole)(device)
                expected = numbers(*parts[:2])
                assert different(numbers(run.model, run.optimizer), expected) == []
                assert all(map(torch.equal, random_state(), random))


@undrawn
@pytest.mark.parametrize("until", MOMENTS)
def test_a_run_resumed_from_a_file_ends_with_the_same_bits(lesson, device, until):
    with own_random_numbers():
        run = lesson.Training(device).run(until)
        content = written(run.checkpoint())
        before = numbers(run.model, run.optimizer)
        torch.manual_seed(123)  # a new process has other random numbers
        torch.rand(3, device=device)
        # weights_only=True lets it through
        run = lesson.Training(device).restore(read(content))
        assert different(numbers(run.model, run.optimizer), before) == []
        assert (run.position["epoch"], run.position["batch"]) == until
        run.run((10, 0))
        parts, random = whole(device)
        assert different(numbers(run.model, run.optimizer), numbers(*parts[:2])) == []
        assert all(map(torch.equal, random_state(), random))


@undrawn
def test_a_checkpoint_holds_the_order_as_the_epoch_began_and_is_no_view(lesson, device):
    with own_random_numbers():
        run = lesson.Training(device).run(MID_EPOCH)
        checkpoint = run.checkpoint()
        assert all(map(torch.equal, checkpoint["random"], random_state()))
        generator = torch.Generator()
        generator.set_state(checkpoint["position"]["order"])
        drawn = torch.randperm(200, generator=generator)  # 5 have been drawn before
        assert torch.equal(drawn, permutations()[5].flatten())
        run.run((5, 4))
        assert checkpoint["position"]["batch"] == 3


@undrawn
@pytest.mark.parametrize("part", (*PARTS, "model", None))
def test_restoring_leaves_out_what_it_shall_forget_and_no_more(lesson, device, part):
    with own_random_numbers():
        saved = lesson.Training(device).run((3, 2))
        checkpoint = copy.deepcopy(saved.checkpoint())
        new = lesson.Training(device)
        untouched = copy.deepcopy(new.checkpoint())
        new.restore(checkpoint, **({} if part is None else {"forget": (part,)}))
        found = new.checkpoint()

    def contents(state):
        moments = numbers(saved.model, saved.optimizer).keys()
        for name in [name for name in moments if not name.startswith("model")]:
            key, moment = name.split()
            held = state["optimizer"]["state"].get(int(key), {})
            yield "optimizer", held.get(moment, torch.tensor(math.nan)).tolist()
        yield "optimizer", state["optimizer"]["param_groups"][0]["lr"]
        yield from (("model", tensor.tolist()) for tensor in state["model"].values())
        yield "scheduler", state["scheduler"]["last_epoch"]
        yield from ((key, state["position"][key]) for key in ("epoch", "batch"))
        yield "order", state["position"]["order"].tolist()
        yield from (("random", generator.tolist()) for generator in state["random"])

    for (name, value), (_, kept), (_, fresh) in zip(
        contents(found), contents(checkpoint), contents(untouched), strict=True
    ):
        np.testing.assert_array_equal(value, fresh if name == part else kept)


@undrawn
def test_a_resumed_process_hands_back_the_weights_of_the_whole_run(
    lesson, device, tmp_path, monkeypatch
):
    path, threads = tmp_path / "run.pt", []
    # as many as the other process has: they decide in which order to add
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    with own_random_numbers():
        torch.save(lesson.Training(device).run(EPOCH_END).checkpoint(), path)
        torch.manual_seed(123)
        found = lesson.finish(path, device, 3)
    model = whole(device)[0][0]
    assert found == [parameter.tolist() for parameter in model.parameters()]
    assert threads == [3]


@undrawn
@pytest.mark.parametrize("bits", [0, 1])
def test_one_bit_of_one_weight_is_a_difference(lesson, device, bits, monkeypatch):
    class PoolHere(contextlib.nullcontext):
        """Like multiprocessing.Pool, but for the process, and for one weight."""

        def apply_async(self, function, arguments):
            assert arguments[1:] == (device, torch.get_num_threads())
            position = torch.load(arguments[0], weights_only=True)["position"]
            assert (position["epoch"], position["batch"]) == (4, 7)
            weights = function(*arguments)
            weight = np.float32(weights[0][3][5]).view(np.int32) ^ np.int32(bits)
            weights[0][3][5] = float(weight.view(np.float32))
            return types.SimpleNamespace(get=lambda timeout: weights)

    context = types.SimpleNamespace(Pool=lambda workers: PoolHere(PoolHere()))
    monkeypatch.setattr(lesson.multiprocessing, "get_context", lambda method: context)
    assert lesson.resumed_in_new_process((4, 7), device) is (bits == 0)


# 4. What each forgotten part costs
@undrawn
@pytest.mark.parametrize(
    "forgotten", [(), *((part,) for part in PARTS), ("order", "random")]
)
def test_the_cost_is_the_distance_of_a_run_that_takes_other_steps(
    lesson, device, forgotten
):
    # At (8, 0) the rates differ too: 0.0025 from epoch 6 on, 0.005 for a schedule that
    # forgot.
    found = lesson.cost_of_forgetting(forgotten, device, (8, 0))
    other = resumed_without(forgotten, device, 8)
    assert found == largest_difference(other, resumed_without((), device, 8))
    assert (found > 0) == (len(forgotten) > 0)


@undrawn
def test_the_costs_are_those_at_the_end_unless_told(lesson):
    model = resumed_without(("scheduler",), "cpu", 10)
    expected = largest_difference(model, whole("cpu")[0][0])
    assert lesson.cost_of_forgetting(("scheduler",)) == expected


@undrawn
def test_every_forgotten_part_moves_the_weights_and_hardly_the_loss(
    lesson, monkeypatch
):
    # Seeds 0 to 19, on torch 2.0.1 and 2.14: the least and the largest difference
    # 0.0068 and 0.18; the loss of a whole run 0.54 to 0.66, with a part forgotten
    # higher by -0.057 to 0.011. With its moments Adam's median step is 0.07 to 0.21 of
    # the rate.
    manual_seed = torch.manual_seed
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(size=(2000, 8)).astype(np.float32))
    y = (x[:, 0] * x[:, 1] > 0).long()

    def loss(model):
        model.eval()
        with torch.no_grad():
            return F.cross_entropy(model(x), y).item()

    with own_random_numbers():
        monkeypatch.setattr(torch, "manual_seed", lambda given: manual_seed(given + 1))
        run = lesson.Training().run(MID_EPOCH)
        checkpoint = copy.deepcopy(run.checkpoint())
        start = flat(run.model)
        usual = (flat(run.run((5, 4)).model) - start).abs() / 0.005
        end = flat(run.run((10, 0)).model)
        loss_of_whole = loss(run.model)
        for part in PARTS:
            other = lesson.Training().restore(copy.deepcopy(checkpoint), forget=(part,))
            assert 0.003 < (flat(other.run((10, 0)).model) - end).abs().max() < 0.4
            assert loss(other.model) - loss_of_whole < 0.03
    assert 0.03 < usual.median() < 1 / 3


@undrawn
def test_without_its_moments_adam_moves_each_weight_by_the_rate(lesson, device):
    with own_random_numbers():
        run = lesson.Training(device).run(MID_EPOCH)
        run.optimizer = torch.optim.Adam(run.model.parameters(), lr=0.02)
        before = flat(run.model)
        run.run((5, 4))
    gradients = torch.cat(
        [p.grad.cpu().flatten() for p in run.model.parameters()]
    ).double()
    steps = (flat(run.model) - before) / 0.02
    # Adam adds 1e-8, its eps, to sqrt(v): beside a gradient of 1e-5 that is a 1000th.
    assert run.optimizer.defaults["eps"] == 1e-8
    clear = gradients.abs() > 1e-5
    assert clear.sum() > 100
    np.testing.assert_allclose(steps[clear], -gradients[clear].sign(), rtol=2e-3)
    assert (steps[gradients == 0] == 0).all()


# 5. Write beside the old file, then replace it
def test_saving_leaves_the_new_state_in_one_file(lesson, tmp_path):
    path = tmp_path / "run.pt"
    for number in (1.0, 2.0):
        (tmp_path / "run.pt.part").write_bytes(b"left by a crash" * 1000)
        assert lesson.save({"w": torch.tensor(number), "epoch": 3}, path) is None
        assert list(tmp_path.iterdir()) == [path]
        assert read(path.read_bytes()) == {"w": torch.tensor(number), "epoch": 3}


def test_the_new_file_is_on_the_disk_before_it_takes_the_place(
    lesson, tmp_path, monkeypatch
):
    path, part = tmp_path / "run.pt", tmp_path / "run.pt.part"
    lesson.save({"w": torch.tensor(1.0)}, path)
    old, sizes, replace = path.read_bytes(), [], os.replace
    content = written({"w": torch.arange(100)})

    def fsync(descriptor):
        assert os.path.samestat(os.fstat(descriptor), part.stat())
        sizes.append(os.fstat(descriptor).st_size)
        assert path.read_bytes() == old

    def replace_once(source, target):
        sizes.append(part.stat().st_size)
        assert (source, target, len(sizes)) == (part, path, 2)
        replace(source, target)

    # torch.save flushes, as it happens: this one leaves it to its caller.
    monkeypatch.setattr(torch, "save", lambda state, file: file.write(content))
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace_once)
    lesson.save({"w": torch.arange(100)}, path)
    assert sizes == [path.stat().st_size] * 2
    assert read(path.read_bytes())["w"].tolist() == list(range(100))


class Stopping:
    """A file that takes n bytes and no more."""

    def __init__(self, file, n):
        self.file, self.n = file, n

    def write(self, content):
        content = bytes(content)
        self.file.write(content[: self.n])
        if len(content) > self.n:
            self.n = 0
            raise OSError("no space left")
        self.n -= len(content)
        return len(content)

    def flush(self):
        self.file.flush()


def test_a_save_that_stops_at_any_byte_leaves_the_old_file(
    lesson, tmp_path, monkeypatch
):
    path, part, save = tmp_path / "run.pt", tmp_path / "run.pt.part", torch.save
    monkeypatch.setattr(os, "fsync", lambda _: None)  # it takes its time
    lesson.save({"w": torch.tensor(1.0)}, path)
    old, size = path.read_bytes(), len(written({"w": torch.tensor(2.0)}))
    for n in range(size + 1):

        def stopping(state, file, n=n):
            save(state, Stopping(file, n))

        monkeypatch.setattr(torch, "save", stopping)
        if n < size:
            with pytest.raises((OSError, RuntimeError)):
                lesson.save({"w": torch.tensor(2.0)}, path)
            assert path.read_bytes() == old and part.stat().st_size <= n
    lesson.save({"w": torch.tensor(2.0)}, path)  # all of it, and nothing was in the way
    assert read(path.read_bytes()) == {"w": torch.tensor(2.0)}
    assert not part.exists()


def test_a_crash_leaves_the_old_number_or_nothing(lesson, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # it takes its time
    size = len(written({"w": torch.tensor(2.0)}))
    for n in (0, 1, 50, *range(100, 900, 100), 950, size - 1, size):
        assert lesson.left_after_crash(n, True, tmp_path) == 1
        assert (tmp_path / "run.pt.part").stat().st_size == min(n, size)
        # What was left by the last crash does no harm. A whole file has 2.0.
        assert lesson.left_after_crash(n, False, tmp_path) == (None if n < size else 2)
        assert (tmp_path / "run.pt").stat().st_size == min(n, size)


def killed_while_saving(save, path, seconds):
    """Fork a process that saves 1, 2, ... to path; kill it so long after its first
    save."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)  # whatever becomes of the test
            for number in itertools.count(1):
                save({"w": torch.full((20_000,), float(number))}, path)
        finally:
            os._exit(1)
    try:
        deadline = time.monotonic() + 30
        while read(path.read_bytes())["w"][0] == 0:
            # a reader sees whole files all the time
            assert time.monotonic() < deadline
        time.sleep(seconds)
    finally:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@undrawn
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
# Python 3.12: fork beside threads
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_killed_at_any_moment_leaves_a_whole_file(lesson, tmp_path):
    path = tmp_path / "run.pt"
    for milliseconds in range(10):
        lesson.save({"w": torch.zeros(20_000)}, path)
        killed_while_saving(lesson.save, path, milliseconds / 1000)
        w = read(path.read_bytes())["w"]
        assert w.shape == (20_000,) and 0 < w.min() == w.max()


# 6. Loading a file runs what is in it
def test_a_file_runs_code_unless_weights_only_refuses_it(lesson):
    assert lesson.ran_code(False) == (True, False)
    assert lesson.ran_code(True) == (False, True)


def test_weights_only_is_the_default_from_2_6_on(lesson, tmp_path):
    made, file = tmp_path / "made", io.BytesIO()
    torch.save({"w": lesson.Touch(made)}, file)
    file.seek(0)
    refuses = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6)  # torch 2.6
    with pytest.raises(pickle.UnpicklingError) if refuses else contextlib.nullcontext():
        torch.load(file)
    assert made.exists() is not refuses


def test_weights_only_takes_tensors_numbers_strings_lists_and_dictionaries():
    state = {"n": [1, 2.5, True, None, "text"], "d": {1: {"a": (1,)}}}
    tensors = OrderedDict(a=nn.Parameter(torch.zeros(1)))
    found = read(written({**state, "t": tensors}))
    assert found.pop("t")["a"].tolist() == [0] and found == state


def test_weights_only_refuses_other_things():
    for thing in (np.float64(1), np.ones(2), Path("a"), nn.ReLU(), defaultdict(int)):
        with pytest.raises(pickle.UnpicklingError):
            read(written({"w": torch.ones(1), "other": thing}))


# 7. Names must match
@undrawn
def test_names_that_do_not_match_load_nothing(lesson):
    for strict in (True, False):
        assert lesson.loaded("", strict) == (0, 0, 1)
    for prefix in ("module.", "x"):
        assert lesson.loaded(prefix, strict=False) == (2, 2, 0)
        with pytest.raises(RuntimeError):
            lesson.loaded(prefix, strict=True)


def test_a_wrapper_puts_module_before_the_names(lesson):
    with own_random_numbers():
        wrapped = nn.DataParallel(nn.Linear(1, 1))
    assert lesson.names(wrapped)[0] == ["module.weight", "module.bias"]
    assert lesson.names(wrapped.module)[0] == ["weight", "bias"]


@pytest.mark.parametrize("strict", [True, False])
def test_another_shape_raises_always_after_the_rest_is_loaded(strict):
    with own_random_numbers():
        model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 2), nn.Linear(2, 1))
    state = {name: torch.full((1, 1), 7.0) for name in ("0.weight", "1.weight")}
    state |= {"2.weight": torch.full((1, 2), 7.0)}
    with pytest.raises(RuntimeError):
        model.load_state_dict(state, strict=strict)
    assert (model[0].weight == 7).all() and (model[2].weight == 7).all()
    assert (model[1].weight != 7).all()


# What else the chapter says goes wrong
def test_a_model_saved_whole_needs_its_class_where_it_is_loaded(monkeypatch):
    class Model(nn.Module):
        pass

    Model.__module__, Model.__qualname__ = "mine", "Model"
    mine = types.ModuleType("mine")
    mine.Model = Model
    monkeypatch.setitem(sys.modules, "mine", mine)
    content = written(Model())
    assert type(torch.load(io.BytesIO(content), weights_only=False)) is Model
    with pytest.raises(pickle.UnpicklingError):
        read(content)
    del mine.Model
    with pytest.raises(AttributeError):
        torch.load(io.BytesIO(content), weights_only=False)


def test_each_python_orders_a_set_of_letters_anew():
    code = "letters = set('a vocabulary'); print(*letters); print(*sorted(letters))"
    orders = []
    for seed in ("1", "2"):  # unless set, each Python draws one
        environment = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-S", "-c", code]
        orders.append(subprocess.check_output(command, env=environment).splitlines())
    assert orders[0][0] != orders[1][0] and orders[0][1] == orders[1][1]


@pytest.mark.parametrize("value", [0.5, -0.75, 1.0, 1.5])
def test_a_flipped_bit_is_loaded_without_an_error_and_testzip_names_it(value):
    numbers = np.full(1000, value, dtype=np.float32)
    content = bytearray(written({"w": torch.from_numpy(numbers)}))
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert file.testzip() is None
    # The highest bit of the first number's exponent; its lowest byte comes first.
    content[content.index(numbers.tobytes()) + 3] ^= 0b0100_0000
    loaded = read(content)["w"]
    assert (loaded[1:] == value).all()
    if abs(value) < 1:
        # The bit was 0, and it is worth a factor of 2^128: 1.7e+38 for 0.5.
        # Weights of 0.3 and more get as large as 1e+38.
        assert loaded[0].item() == value * 2.0**128 and loaded[0].abs() > 1e38
    else:  # the eight bits are all 1: inf, or nan
        assert not loaded[0].isfinite()
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert file.testzip() == "archive/data/0"


def test_a_slice_brings_its_whole_storage():
    big = torch.zeros(1_000_000)  # 4 bytes a number: 4,000,000, or 4 MB
    assert 4_000_000 < len(written(big[:10])) < 4_002_000
    assert 40 < len(written(big[:10].clone())) < 2040


# The picture
@undrawn
def test_each_line_of_the_picture_is_the_cost_of_the_part_in_its_label(lesson, device):
    [axes] = lesson.figure(device).axes
    for part, line in zip(PARTS, axes.lines, strict=True):
        assert line.get_label() == f"without {part}"
        for epoch, cost in zip((6, 8, 10), line.get_ydata(), strict=True):
            other = resumed_without((part,), device, epoch)
            expected = largest_difference(other, resumed_without((), device, epoch))
            assert cost == expected
    assert axes.get_yscale() == "log"
