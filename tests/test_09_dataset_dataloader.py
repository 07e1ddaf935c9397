"""What lesson 09 claims."""

import itertools
import math
import multiprocessing
import os
import pickle
import re
from multiprocessing.reduction import ForkingPickler
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import (
    ROOT,
    assert_values,
    loud_messages,
    printed_if_tripled,
    read,
    start_python,
    tensor64,
)
from PIL import Image
from reference import sigmoid
from torch import nn
from torch.utils import data

CHAPTER = ROOT / "lessons" / "09_dataset_dataloader.md"
WINE = ROOT / "data" / "wine.csv"
TABLE = np.loadtxt(WINE, delimiter=",", skiprows=1)
X, Y = TABLE[:, 1:], TABLE[:, 0].astype(int) - 1
STANDARD = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)
SECOND = (Y == 1).astype(float)
START_METHODS = multiprocessing.get_all_start_methods()
needs_fork = pytest.mark.skipif(
    "fork" not in START_METHODS, reason="a dataset of a test cannot be pickled"
)


def printed(lesson, section, capsys):
    """What a section prints, as a list of lines."""
    getattr(lesson, f"show_{section}")("cpu")
    return capsys.readouterr().out.splitlines()


# 1. A Dataset gives one sample
def test_the_wines_are_the_files_with_classes_from_0(lesson):
    wine = lesson.Wine()
    assert len(wine) == 178
    x, y = zip(*(wine[i] for i in range(178)), strict=True)
    assert {(row.dtype, row.shape) for row in x} == {(torch.float32, (13,))}
    assert {(label.dtype, label.shape) for label in y} == {(torch.int64, ())}
    np.testing.assert_array_equal(torch.stack(x), X.astype(np.float32))
    np.testing.assert_array_equal(torch.stack(y), Y)


def test_the_file_is_sorted_by_grape():
    assert (np.diff(Y) >= 0).all() and np.bincount(Y).tolist() == [59, 71, 48]


def test_a_picture_is_read_when_it_is_asked_for_and_its_class_is_its_folders(
    lesson, tmp_path
):
    colours = {"b/1.png": (255, 0, 51), "b/2.png": (0, 255, 0), "a/3.png": (0, 0, 0)}
    for name, colour in colours.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (3, 2), colour).save(tmp_path / name)
    pictures = lesson.Pictures(tmp_path)
    assert len(pictures) == 3 and pictures.classes == ["a", "b"]
    assert [pictures[i][1] for i in range(3)] == [0, 1, 1]
    x, _ = pictures[1]
    expected = np.broadcast_to(np.array([1, 0, 0.2])[:, None, None], (3, 2, 3))
    assert_values(x, expected, dtype=torch.float32, rtol=1e-6)
    (tmp_path / "b/1.png").unlink()
    with pytest.raises(FileNotFoundError):
        pictures[1]
    assert pictures[2][0][1].eq(1).all()


def test_a_picture_of_any_mode_has_three_channels(lesson, tmp_path):
    (tmp_path / "one").mkdir()
    for mode in ["L", "RGBA", "P", "1"]:
        Image.new(mode, (4, 4)).save(tmp_path / "one" / f"{mode}.png")
    pictures = lesson.Pictures(tmp_path)
    assert {pictures[i][0].shape for i in range(4)} == {(3, 4, 4)}


def test_folder_10_is_class_2_and_only_two_of_twelve_names_are_their_number(
    lesson, tmp_path, capsys
):
    datasets = pytest.importorskip("torchvision.datasets")
    lesson.draw_pictures(tmp_path)
    pictures = lesson.Pictures(tmp_path)
    assert pictures.classes[2] == "10"
    assert sorted(pictures.classes, key=int) == [str(n) for n in range(12)]
    assert sum(str(n) == name for n, name in enumerate(pictures.classes)) == 2
    folder = datasets.ImageFolder(tmp_path)
    assert folder.classes == pictures.classes
    assert folder.targets == [pictures[i][1] for i in range(12)]
    assert printed(lesson, 1, capsys)[-1].strip() == ", ".join(folder.classes)


# 2. Batches and epochs
def test_100_samples_in_batches_of_20_are_5_batches_and_178_by_4_are_45(lesson):
    assert lesson.batch_sizes(100, 20, drop_last=False) == [20] * 5
    assert lesson.batch_sizes(178, 4, drop_last=False) == [4] * 44 + [2]
    assert lesson.batch_sizes(178, 4, drop_last=True) == [4] * 44
    assert lesson.batch_sizes(47, 50, drop_last=True) == []


@pytest.mark.parametrize(("size", "drop_last"), [(1, True), (7, False), (50, False)])
def test_a_shuffled_epoch_is_every_sample_once(size, drop_last):
    loader = data.DataLoader(range(47), size, shuffle=True, drop_last=drop_last)
    samples = torch.cat(list(loader)).tolist()
    assert sorted(samples) == list(range(47)) != samples


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_takes_samples_in_an_order_and_stacks_them(lesson, shuffle):
    wine = lesson.Wine()
    loaders = [
        data.DataLoader(
            dataset, 16, shuffle, generator=torch.Generator().manual_seed(4)
        )
        for dataset in (range(178), wine)
    ]
    order = torch.cat(list(loaders[0])).numpy()
    assert np.array_equal(order, np.arange(178)) is not shuffle
    for number, (x, y) in enumerate(loaders[1]):
        rows = order[16 * number : 16 * number + 16]
        np.testing.assert_array_equal(x, X[rows].astype(np.float32))
        np.testing.assert_array_equal(y, Y[rows])
    assert number == 11 and len(y) == 2


def test_each_epoch_has_another_order_and_the_same_seed_the_same(lesson):
    before = torch.get_rng_state()
    first, second = lesson.two_epochs(30, seed=1)
    for epoch in (first, second):
        assert {len(batch) for batch in epoch} == {2}
        assert sorted(itertools.chain(*epoch)) == list(range(30))
    assert first != second
    assert (first, second) == lesson.two_epochs(30, seed=1)
    assert first != lesson.two_epochs(30, seed=2)[0]
    # the generator is the loader's own
    assert torch.equal(torch.get_rng_state(), before)


def test_section_2_counts_what_is_left_out(lesson, capsys):
    rows = [line.split() for line in printed(lesson, 2, capsys)[3:7]]
    expected = []
    for n, size in [(100, 20), (178, 4)]:
        full, rest = divmod(n, size)
        expected.append([n, size, False, full + bool(rest), rest or size, 0])
        expected.append([n, size, True, full, size, rest])
    assert rows == [list(map(str, row)) for row in expected]


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_without_a_generator_moves_the_global_random_state(shuffle):
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        list(data.DataLoader(range(5), shuffle=shuffle, generator=torch.Generator()))
        assert torch.equal(torch.get_rng_state(), before)
        list(data.DataLoader(range(5), shuffle=shuffle))
        after = torch.get_rng_state()
        torch.set_rng_state(before)
        torch.empty((), dtype=torch.int64).random_()  # one number
        assert torch.equal(torch.get_rng_state(), after) is not shuffle
        assert not torch.equal(after, before)


def test_a_batch_sampler_asks_for_a_whole_list_of_indices_and_brings_the_same_batches():
    calls = []

    class Counted(data.TensorDataset):
        def __getitem__(self, indices):
            calls.append(indices)
            return super().__getitem__(indices)

    x, y = torch.tensor(X), torch.tensor(Y)
    sampler = data.BatchSampler(data.SequentialSampler(x), 50, drop_last=False)
    at_once = data.DataLoader(Counted(x, y), sampler=sampler, batch_size=None)
    plain = data.DataLoader(data.TensorDataset(x, y), batch_size=50)
    for (a, b), (c, d) in zip(at_once, plain, strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)
    assert calls == [
        list(range(178))[start : start + 50] for start in range(0, 178, 50)
    ]


# 3. Mistake: sorted data and no shuffle
def test_the_model_gets_standardised_wines_and_whether_they_are_of_grape_2(lesson):
    x, y = lesson.rows_and_answers(lesson.Wine())
    rounding = {"rtol": 1e-4, "atol": 1e-5}
    assert_values(x, STANDARD, dtype=torch.float32, **rounding)
    assert_values(y, SECOND[:, None], dtype=torch.float32, rtol=0)


def logistic_regression(orders, lr=0.5, size=8):
    """Weights, the bias last, after each epoch of SGD in NumPy; orders of the rows."""
    rows = np.column_stack([STANDARD, np.ones(178)])
    weight = np.zeros(14)
    for order in orders:
        for start in range(0, 178, size):
            batch = order[start : start + size]
            error = sigmoid(rows[batch] @ weight) - SECOND[batch]
            weight -= lr * error @ rows[batch] / len(batch)
        yield weight


def right_by_numpy(orders):
    """How many answers are right for each grape after each epoch."""
    counts = []
    for weight in logistic_regression(orders):
        right = (STANDARD @ weight[:-1] + weight[-1] > 0) == (SECOND == 1)
        counts.append(np.bincount(Y[right], minlength=3).tolist())
    return counts


def test_in_the_files_order_the_counts_are_numpys(lesson, device):
    counts = lesson.train(lesson.Wine(), False, 0, 5, device)
    assert counts == right_by_numpy([np.arange(178)] * 5)
    # most of the first grape is forgotten first, and comes back
    assert counts[0][0] < 40 and counts[0][2] == 48 and counts[-1][0] == 59


def test_in_the_files_order_the_loss_on_all_wines_is_smaller_after_each_epoch():
    losses = []
    for weight in logistic_regression([np.arange(178)] * 4):
        p = sigmoid(STANDARD @ weight[:-1] + weight[-1])
        losses.append(-np.log(np.where(SECOND == 1, p, 1 - p)).mean())
    assert (np.diff(losses) < -0.01).all()


def test_one_model_can_be_right_about_all_the_wines():
    # The perceptron comes to an end if, and only if, a line divides the two classes.
    rows = np.column_stack([STANDARD, np.ones(178)]) * (2 * SECOND - 1)[:, None]
    weight = np.zeros(14)
    for _ in range(10_000):
        wrong = rows[rows @ weight <= 0]
        if not len(wrong):
            break
        weight += wrong[0]
    assert (rows @ weight > 0).all()


def test_shuffled_the_counts_are_numpys_in_the_loaders_order(lesson, device):
    for seed in (0, 3):
        generator = torch.Generator().manual_seed(seed)
        loader = data.DataLoader(
            range(178), batch_size=8, shuffle=True, generator=generator
        )
        orders = [torch.cat(list(loader)).numpy() for _ in range(2)]
        counts = lesson.train(lesson.Wine(), True, seed, 2, device)
        assert np.abs(np.subtract(counts, right_by_numpy(orders))).max() <= 1


def test_shuffled_every_seed_forgets_less_than_the_files_order():
    # Any order drawn at random, in NumPy: of forty the worst put 171 right.
    rng = np.random.default_rng(0)
    in_order = sum(right_by_numpy([np.arange(178)])[0])
    shuffled = [sum(right_by_numpy([rng.permutation(178)])[0]) for _ in range(40)]
    assert in_order + 10 < min(shuffled)


def test_right_answers_are_counted_for_each_grape(lesson, device):
    model = nn.Linear(1, 1).to(device)
    with torch.no_grad():
        model.weight.fill_(1)
        model.bias.fill_(0)
    x = torch.tensor([[2.0], [-1.0], [0.0], [3.0], [-2.0]], device=device)
    y = torch.tensor([[1.0], [1.0], [0.0], [1.0], [0.0]], device=device)
    grapes = torch.tensor([0, 0, 2, 2, 2])
    # right are the samples 0, 2 (0 is no yes), 3 and 4
    assert lesson.count_right(model, x, y, grapes) == [1, 0, 3]


def test_section_3_prints_the_mean_of_ten_shuffled_runs(lesson, capsys):
    def counts(wine, shuffle, seed, epochs, device):
        return [[epoch, seed * shuffle, 7] for epoch in range(epochs)]

    with mock.patch.object(lesson, "train", counts):
        lines = printed(lesson, 3, capsys)[4:]
    for epoch, line in enumerate(lines):
        numbers = [float(number) for number in re.findall(r"[\d.]+", line)]
        assert numbers == [epoch + 1, epoch, 0, 7, epoch, np.mean(range(10)), 7]
    assert len(lines) == 4


def test_a_number_that_follows_its_targets_is_sgd_on_a_square():
    # c moves by lr 2 (y - c): half of the way at lr 1/4
    c = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([c], lr=0.25)
    path = []
    for y in [0, 0, 0, 1, 1, 1]:
        optimizer.zero_grad()
        ((c - y) ** 2).sum().backward()
        optimizer.step()
        path.append(c.item())
    assert path == [0, 0, 0, 0.5, 0.75, 0.875]


# 4. Mistake: the mean of batch means
@pytest.mark.parametrize(
    ("n", "wrong", "size"), [(10_000, 16, 64), (10, 3, 4), (8, 1, 4), (5, 1, 4)]
)
def test_the_mean_of_batch_means_weighs_the_last_batch_too_much(lesson, n, wrong, size):
    correct = (np.arange(n) < n - wrong).astype(float)
    means = [correct[i : i + size].mean() for i in range(0, n, size)]
    numbers = tensor64(correct)
    of_batches = lesson.mean_of_batch_means(numbers, size)
    of_all = lesson.mean_of_all(numbers, size)
    assert of_batches == pytest.approx(np.mean(means), rel=1e-14)
    assert of_all == pytest.approx(correct.mean(), rel=1e-14)
    assert {type(of_batches), type(of_all)} == {float}
    if n == 10_000:
        assert (of_batches, of_all) == pytest.approx((156 / 157, 0.9984), rel=1e-14)
    assert (of_batches == of_all) == (n % size == 0)


def test_the_rmse_is_no_mean_of_batches_of_one_size_either(lesson):
    errors = np.array([0.0, 0.0, 2.0, 2.0, 1.0, 3.0])
    roots = np.sqrt((errors**2).reshape(3, 2).mean(axis=1))
    found = lesson.rmse_of_batch_rmses(tensor64(errors), 2)
    assert found == pytest.approx(roots.mean(), rel=1e-14)
    assert found < np.sqrt((errors**2).mean())


def test_section_4_prints_each_number_where_it_says(lesson):
    for name, label, value in [
        ("mean_of_batch_means", "mean of batch means", f"{3 * 156 / 157:.6f}"),
        ("mean_of_all", "mean of all", f"{3 * 0.9984:.6f}"),
        ("mean_of_all", "RMSE of all", f"{6**0.5:.4f}"),
        ("rmse_of_batch_rmses", "mean of batch RMSEs", "3.0000"),
    ]:
        out = printed_if_tripled(lesson, 4, name)
        assert re.search(rf"{label} +{re.escape(value)}\n", out)


def test_a_metric_divided_by_itself_is_always_1():
    for right in (1, 7, 100):
        assert right / right == 1


# 5. Pad and balance
def test_rows_of_unequal_length_are_padded_with_zeros(lesson):
    rows = [torch.tensor(row) for row in ([5], [1, 2, 3], [4, 6])]
    table, lengths = lesson.padded(rows)
    assert table.tolist() == [[5, 0, 0], [1, 2, 3], [4, 6, 0]]
    assert lengths.tolist() == [1, 3, 2]
    # the last number of each row
    assert table[:, -1].tolist() == [0, 3, 0]
    assert table[torch.arange(3), lengths - 1].tolist() == [5, 3, 6]


def test_a_weighted_sampler_evens_the_classes_out(lesson):
    n = 20_000
    counts = np.bincount(Y)
    for weights, expected in (
        (np.ones(178), counts / 178),
        (1 / counts[Y], [1 / 3] * 3),
        (np.array([2.0, 1.0, 0.0])[Y], np.array([118, 71, 0]) / 189),
    ):
        shares = lesson.class_shares(tensor64(weights), n, seed=1)
        for share, p in zip(shares, expected, strict=True):
            assert abs(share - p) <= 5 * math.sqrt(p * (1 - p) / n)
        assert lesson.class_shares(tensor64(weights), n, seed=2) != shares


def test_of_one_weight_for_each_class_come_none_but_the_first_3_of_178_samples(
    lesson,
):
    of_class = tensor64(1 / np.bincount(Y))
    assert set(data.WeightedRandomSampler(of_class, len(Y))) == {0, 1, 2}
    assert set(Y[:3]) == {0}
    assert lesson.class_shares(of_class, 100, seed=0) == [1, 0, 0]


def test_section_5_takes_the_real_ends_and_weighs_each_wine(lesson, capsys):
    class_shares = mock.Mock(wraps=lesson.class_shares)
    with mock.patch.object(lesson, "class_shares", class_shares):
        lines = printed(lesson, 5, capsys)
    assert {call.args[1] for call in class_shares.call_args_list} == {10_000}
    assert [line.split("  ")[-1].strip() for line in lines[2:5]] == [
        "[[1, 2, 3], [4, 0, 0], [5, 6, 0]]",
        "[3, 0, 0]",
        "[3, 4, 6]",
    ]
    counts = np.bincount(Y)
    for line, expected in zip(
        lines[6:9], [counts / 178, [1 / 3] * 3, [1, 0, 0]], strict=True
    ):
        shares = [float(number) for number in re.findall(r"\d\.\d\d", line)]
        # 10,000 draws: the standard deviation is at most 0.005
        np.testing.assert_allclose(shares, expected, rtol=0, atol=0.025)


# 6. Workers are copies
@pytest.mark.parametrize("method", sorted(START_METHODS))
def test_workers_bring_the_same_batches_however_they_start(lesson, method):
    workers = 2 if method == "fork" else 1  # any other takes seconds to import torch
    fetched = data.DataLoader(
        lesson.Wine(),
        batch_size=32,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context=method,
        generator=torch.Generator().manual_seed(3),
    )
    alone = data.DataLoader(
        lesson.Wine(),
        batch_size=32,
        shuffle=True,
        generator=torch.Generator().manual_seed(3),
    )
    for (x, y), (x_alone, y_alone) in zip(fetched, alone, strict=True):
        assert torch.equal(x, x_alone) and torch.equal(y, y_alone)


def test_every_worker_repeats_a_generator_that_the_dataset_owns(lesson):
    # Without workers there is one copy, and it moves on.
    drawn = np.random.default_rng(0).random(8).tolist()
    first_two = drawn[:2] + drawn[:2]
    for workers, persistent, expected in (
        (0, False, (drawn[:4], drawn[4:], 1)),
        (1, False, (drawn[:4], drawn[:4], 2)),
        (2, False, (first_two, first_two, 4)),
        (2, True, (first_two, drawn[2:4] + drawn[2:4], 2)),
    ):
        noise = lesson.OwnNoise()
        found = lesson.fetch_two_epochs(noise, workers, persistent)
        assert found == expected


def test_torchs_generator_is_seeded_anew_for_each_worker_and_epoch(lesson):
    first, second, processes = lesson.fetch_two_epochs(lesson.TorchNoise(), 2)
    assert len({*first, *second}) == 8 and processes == 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        number, process = lesson.TorchNoise()[0]
        torch.manual_seed(5)
        assert (number, process) == (torch.rand(()).item(), os.getpid())


def test_section_6_prints_what_it_says_in_its_titles(lesson, capsys):
    calls = []

    def fetched(dataset, workers, persistent=False):
        calls.append((type(dataset).__name__, workers, persistent))
        return [0.25 * len(calls)], [0.125], len(calls)

    with mock.patch.object(lesson, "fetch_two_epochs", fetched):
        lines = printed(lesson, 6, capsys)[2:]
    titles = [line.strip() for line in lines[::3]]
    for (name, workers, persistent), title in zip(calls, titles, strict=True):
        assert ("torch's generator" in title) == (name == "TorchNoise")
        assert (f"{workers or 'no'} " in title) and persistent == (
            "persistent" in title
        )
    assert len(calls) == 4
    assert lines[1].split("epoch") == ["      ", " 1 [0.25]   ", " 2 [0.12]"]
    assert [line.split()[-1] for line in lines[2::3]] == ["1", "2", "3", "4"]


class GlobalNoise(data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return np.random.random()


@needs_fork
def test_numpys_global_generator_is_seeded_anew_for_each_worker():
    options = {"num_workers": 2, "multiprocessing_context": "fork"}
    loader = data.DataLoader(GlobalNoise(), batch_size=None, **options)
    assert len({*loader, *loader}) == 16


def test_the_tensors_of_a_dataset_that_is_sent_share_their_memory(lesson):
    wine = lesson.Wine()
    assert not wine.x.is_shared() and not wine.y.is_shared()
    ForkingPickler.dumps(wine)  # as a process that is not forked gets it
    assert wine.x.is_shared() and wine.y.is_shared()


class Writer(data.Dataset):
    """Writes into its own tensor when a sample is asked for."""

    def __init__(self):
        self.x = torch.zeros(4)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.x += 1
        return self.x[index].clone()


@pytest.mark.parametrize("method", sorted(START_METHODS))
def test_what_a_worker_writes_into_a_tensor_reaches_the_program_unless_it_is_forked(
    method,
):
    writer = Writer()
    options = {"num_workers": 1, "multiprocessing_context": method}
    list(data.DataLoader(writer, **options))
    assert writer.x.tolist() == [0 if method == "fork" else 4] * 4


def test_work_done_in_getitem_is_done_anew_in_each_epoch():
    calls = []

    class Slow(data.Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            calls.append(index)
            return index

    loader = data.DataLoader(Slow(), batch_size=2)
    for _ in range(3):
        list(loader)
    assert len(calls) == 3 * 5


# 7. A stream is shared out
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_read_once_per_worker_unless_it_is_shared_out(lesson, workers):
    assert lesson.rows_of_an_epoch(lesson.Stream(WINE, True), workers) == 178
    whole = lesson.rows_of_an_epoch(lesson.Stream(WINE, False), workers)
    assert whole == 178 * max(workers, 1)


def test_a_stream_yields_the_rows_of_the_file(lesson):
    stream = lesson.Stream(WINE, shared_out=True)
    assert_values(torch.stack(list(stream)), TABLE, rtol=0)
    loader = data.DataLoader(stream, batch_size=None, num_workers=2)
    shared = [tuple(row.tolist()) for row in loader]
    assert sorted(shared) == sorted(map(tuple, TABLE.tolist()))


@pytest.mark.parametrize("workers", [1, 3])
def test_each_of_n_workers_yields_every_nth_row_from_its_own_number_on(lesson, workers):
    for number in range(workers):
        worker = mock.Mock(id=number, num_workers=workers)
        with mock.patch.object(lesson, "get_worker_info", lambda worker=worker: worker):
            rows = torch.stack(list(lesson.Stream(WINE, shared_out=True)))
        assert_values(rows, TABLE[number::workers], rtol=0)


def test_a_stream_reads_no_further_than_asked(lesson, tmp_path):
    file = tmp_path / "long.csv"
    file.write_text("a\n" + "1\n" * 5 + "not yet read\n")
    stream = iter(lesson.Stream(file, shared_out=False))
    assert [next(stream).item() for _ in range(5)] == [1] * 5


def test_section_7_prints_the_rows_of_either_stream(lesson, capsys):
    lines = printed(lesson, 7, capsys)[3:]
    numbers = [list(map(int, re.findall(r"\d+", line))) for line in lines]
    assert numbers == [[0, 178, 178], [2, 2 * 178, 178]]


# 8. Mini-batch gradients are right on average
def case(device):
    """x, y and a weight in float64, on the device, and the gradients of the rows."""
    weight = np.random.default_rng(0).normal(size=13)
    rows = (sigmoid(STANDARD @ weight) - SECOND)[:, None] * STANDARD
    tensors = [tensor64(each, device) for each in (STANDARD, SECOND[:, None])]
    return *tensors, tensor64(weight[:, None], device), rows


def test_the_slope_of_a_row_is_what_was_said_minus_what_was_true_times_x(
    lesson, device
):
    x, y, weight, expected = case(device)
    found = lesson.gradients_of_rows(x, y, weight)
    assert_values(found, expected, device, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("batch_size", [1, 16, 178])
def test_batch_gradients_weighted_by_size_average_to_the_full_gradient(
    lesson, device, batch_size
):
    x, y, weight, rows = case(device)
    average = lesson.average_of_batches(x, y, weight, batch_size)
    assert_values(average, rows.mean(axis=0), device, rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_formula_is_the_mean_over_all_batches(lesson, size):
    rows = np.random.default_rng(1).normal(size=(5, 2))
    misses = [
        np.sum((rows[list(batch)].mean(axis=0) - rows.mean(axis=0)) ** 2)
        for batch in itertools.combinations(range(5), size)
    ]
    theory = lesson.miss_in_theory(tensor64(rows), size)
    assert theory == pytest.approx(np.mean(misses) ** 0.5, rel=1e-12, abs=1e-12)


def test_random_batches_miss_as_the_formula_says(lesson):
    gradients = tensor64(case("cpu")[-1])
    for size in (4, 64):
        theory = lesson.miss_in_theory(gradients, size)
        found = lesson.typical_miss(gradients, size, 1000, seed=1)
        # Twenty seeds were within 3 % of the theory.
        assert found == pytest.approx(theory, rel=0.06) and found != theory
        assert found != lesson.typical_miss(gradients, size, 1000, seed=2)
    # All rows together are the full gradient.
    assert lesson.typical_miss(gradients, 178, 2, seed=0) < 1e-14


def test_section_8_prints_theory_beside_what_was_measured(lesson):
    rows = (sigmoid(np.zeros(178)) - SECOND)[:, None] * STANDARD
    sigma = np.sqrt(((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean())
    plain = printed_if_tripled(lesson, 8)
    tripled = printed_if_tripled(lesson, 8, "miss_in_theory")
    for size in (4, 16, 64):
        theory = sigma * math.sqrt((178 - size) / 177 / size)
        pattern = rf"{size} wines   measured (.+)   theory (.+)\n"
        measured, printed_theory = map(float, re.search(pattern, plain).groups())
        assert printed_theory == pytest.approx(theory, abs=6e-4)
        assert measured == pytest.approx(theory, rel=0.06)
        again, three_times = map(float, re.search(pattern, tripled).groups())
        assert again == measured
        assert three_times == pytest.approx(3 * theory, abs=6e-4)
    for label, expected in [
        ("all 178 wines", rows.mean(axis=0)),
        ("the first 16 wines", rows[:16].mean(axis=0)),
        ("all batches, weighted by size", rows.mean(axis=0)),
    ]:
        found = re.search(rf"{label} +\[(.+)\]\n", plain)[1].split(", ")
        np.testing.assert_allclose(list(map(float, found)), expected[:3], atol=6e-3)
    assert plain != printed_if_tripled(lesson, 8, "average_of_batches")


# Go wrong
class Local:
    """A data set of a class that stands in a function."""

    def __new__(cls):
        class Inside(data.Dataset):
            pass

        return Inside()


def pickled(dataset):
    # Python 3.12 writes a word into it, and other versions other words
    pickle.dumps(dataset)


ROWS = [torch.zeros(3), torch.zeros(1)]


class Lines(data.IterableDataset):
    def __iter__(self):
        yield 1


def both_orders():
    sampler = data.WeightedRandomSampler(torch.ones(2), 2)
    data.DataLoader(ROWS, sampler=sampler, shuffle=True)


UNEQUAL = "stack expects each tensor to be equal size"
NO_GUARD = "An attempt has been made to start a new process"
PICKLE = ("Can't pickle", "Can't get local object")
MISTAKES = [
    (UNEQUAL, lambda: next(iter(data.DataLoader(ROWS, batch_size=2)))),
    (UNEQUAL, lambda: torch.stack([torch.zeros(3, 4, 4), torch.zeros(3, 5, 4)])),
    ("sampler option is mutually exclusive with shuffle", both_orders),
    (
        "DataLoader with IterableDataset: expected unspecified shuffle option",
        lambda: data.DataLoader(Lines(), shuffle=True),
    ),
]


@pytest.mark.parametrize(("message", "mistake"), MISTAKES)
def test_a_loud_mistake_says_what_the_chapter_quotes(message, mistake):
    with pytest.raises(Exception, match=re.escape(message)):
        mistake()
    assert message in read(CHAPTER)


@pytest.mark.parametrize("dataset", [lambda index: index, Local()])
def test_a_lambda_and_a_class_in_a_function_cannot_be_sent(dataset):
    with pytest.raises((AttributeError, pickle.PicklingError)) as raised:
        pickle.dumps(dataset)
    words = str(raised.value).replace("pickle local", "get local")
    assert any(message in words for message in PICKLE)


def test_without_the_guard_a_fresh_process_starts_the_program_again(tmp_path):
    script = tmp_path / "no_guard.py"
    script.write_text(
        "from torch.utils.data import DataLoader\n"
        "loader = DataLoader(range(4), num_workers=1, "
        "multiprocessing_context='spawn')\n"
        "for batch in loader:\n"
        "    print(batch)\n"
    )
    process = start_python(script, cwd=tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode and NO_GUARD in " ".join(err.decode().split())


def test_every_message_of_the_table_is_made():
    made = {message for message, _ in MISTAKES} | {NO_GUARD, *PICKLE}
    assert {m for m in loud_messages(CHAPTER) if " " in m} <= made


# The picture
def test_the_picture_shows_an_epoch_sorted_and_shuffled(lesson):
    for axes, shuffle in zip(lesson.figure().axes, (False, True), strict=True):
        assert axes.get_title() == f"shuffle={shuffle}"
        classes = np.full(178, -1)
        for grape, dots in enumerate(axes.collections):
            assert dots.get_label() == f"grape {grape + 1}"
            place, batch = np.array(dots.get_offsets()).astype(int).T
            assert place.max() == 7
            classes[8 * batch + place] = grape
        assert np.array_equal(classes, Y) is not shuffle
        assert np.array_equal(np.sort(classes), Y)
