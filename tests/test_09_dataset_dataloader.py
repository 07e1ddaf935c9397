"""What lesson 09 claims."""

import math
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

DATA = Path(__file__).resolve().parent.parent / "data"
TABLE = np.loadtxt(DATA / "wine.csv", delimiter=",", skiprows=1)
START_METHODS = multiprocessing.get_all_start_methods()


def test_all_178_wines_are_there_and_the_first_is_the_first(lesson):
    wine = lesson.Wine()
    assert len(wine) == 178
    x, y = zip(*(wine[i] for i in range(178)), strict=True)
    np.testing.assert_array_equal(torch.stack(x), TABLE[:, 1:].astype(np.float32))
    np.testing.assert_array_equal(torch.stack(y), TABLE[:, 0] - 1)
    assert (x[0].dtype, y[0].dtype, y[0].shape) == (torch.float32, torch.int64, ())
    assert (f"{x[0][0]:.2f}", f"{x[0][1]:.2f}", y[0].item()) == ("14.23", "1.71", 0)


def test_the_header_is_the_files(lesson):
    assert (DATA / "wine.csv").read_text().splitlines()[0] == lesson.HEADER


def test_spoilt_data_ends_in_one_line_that_says_what_to_do(lesson, tmp_path, monkeypatch):
    whole = (DATA / "wine.csv").read_text()
    rows = whole.splitlines(keepends=True)
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    cases = [None, "", whole[:-2], "".join(rows[:-1]), "".join(rows[1:]), whole + rows[-1]]
    cases += [whole.replace("14.23", word, 1) for word in ("merlot", "nan", "inf", "", "1,2")]
    cases += [whole.replace("cultivar", "grape", 1), whole.replace(rows[9], "  \n")]
    for case in cases:
        if case is not None:
            (tmp_path / "wine.csv").write_text(case)
        with pytest.raises(SystemExit) as end:
            lesson.Wine()
        assert str(end.value).startswith(f"{tmp_path / 'wine.csv'}: expected ")
        assert "178 rows of 14 numbers" in str(end.value) and "\n" not in str(end.value)


def test_read_csv_takes_any_table(lesson, tmp_path, monkeypatch):
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    (tmp_path / "one.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "column.csv").write_text("a\n1.5\n-2e3\n")
    np.testing.assert_array_equal(lesson.read_csv("one.csv", "a,b,c", 1), [[1, 2, 3]])
    np.testing.assert_array_equal(lesson.read_csv("column.csv", "a", 2), [[1.5], [-2000]])
    (tmp_path / "one.csv").write_text("a,b,c\n1,2\n")
    with pytest.raises(SystemExit):
        lesson.read_csv("one.csv", "a,b,c", 1)


def test_100_samples_in_batches_of_20_are_5_iterations(lesson):
    assert len(lesson.batches(100, 20)) == 5
    assert [len(b) for b in lesson.batches(178, 4)] == [4] * 44 + [2]
    assert [len(b) for b in lesson.batches(178, 4, drop_last=True)] == [4] * 44


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 7, 20, 50])
@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_is_every_sample_once(lesson, workers, size, drop_last):
    n = 47
    options = {"num_workers": workers, "drop_last": drop_last, "shuffle": True}
    if workers:  # fork is the quickest to start, where there is one
        options["multiprocessing_context"] = "fork" if "fork" in START_METHODS else None
    epoch = lesson.batches(n, size, **options)
    assert [len(b) for b in epoch] == [size] * (n // size) + [n % size] * (
        n % size > 0 and not drop_last
    )
    samples = [sample for batch in epoch for sample in batch]
    assert len(set(samples)) == len(samples) and set(samples) <= set(range(n))
    assert lesson.batches(n, n) == [list(range(n))]


def test_each_epoch_has_another_order_and_the_same_seed_the_same(lesson):
    first, second = lesson.two_epochs(30, seed=1)
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second != list(range(30)) != first
    assert (first, second) == lesson.two_epochs(30, seed=1)
    assert first != lesson.two_epochs(30, seed=2)[0]


@pytest.mark.parametrize("batch_size", [1, 16, 100, 178])
def test_batch_gradients_weighted_by_size_are_the_full_gradient(lesson, device, batch_size):
    x, y = TABLE[:, 1:] / TABLE[:, 1:].max(axis=0), (TABLE[:, 0] - 1).astype(int)
    weight = np.random.default_rng(0).normal(size=(3, 13))
    logits = x @ weight.T
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = (p - np.eye(3)[y]).T @ x / 178  # softmax minus one-hot, by calculus
    tensors = (torch.tensor(a, device=device) for a in (x, y, weight))
    for gradient in lesson.gradients(*tensors, batch_size):
        assert (gradient.dtype, gradient.device.type) == (torch.float64, device)
        np.testing.assert_allclose(gradient.cpu(), expected, rtol=1e-10, atol=1e-14)


def test_training_makes_one_step_for_each_batch(lesson, device):
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]], dtype=torch.float64)
    model = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64).to(device)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset(x, 2 * x), batch_size=2)
    lesson.train_in_batches(model, torch.nn.MSELoss(), optimizer, loader, device, epochs=3)
    w = 0.0
    for batch in ([1, 2], [3, 4], [5]) * 3:
        w -= 0.01 * np.mean([2 * (w * a - 2 * a) * a for a in batch])
    assert model.weight.item() == pytest.approx(w, rel=1e-12)


def test_every_batch_is_moved_to_the_device(lesson, device):
    for target in (device, "meta"):  # meta is another device than the batches' on any machine
        seen, model = [], torch.nn.Linear(1, 1, device=target)
        model.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))

        def loss_function(p, y, seen=seen):
            seen.append(y)
            return p.sum()

        loader = DataLoader(TensorDataset(torch.ones(4, 1), torch.ones(4, 1)), batch_size=2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        lesson.train_in_batches(model, loss_function, optimizer, loader, target, epochs=1)
        assert [tensor.device.type for tensor in seen] == [target] * 4


def test_scaling_decides_whether_the_classifier_learns(lesson, device):
    seeds = range(5)
    assert min(lesson.accuracy(s, True, True, 0.1, 16, 10, device) for s in seeds) >= 0.94
    raw = [lesson.accuracy(s, False, True, 0.1, 16, 10, device) for s in seeds]
    assert 0.2 < np.mean(raw) < 0.6  # the largest class alone is 0.4


def softmax_accuracy(lesson, seed, lr, epochs, scale=True):
    """The classifier in NumPy, with all rows in one batch: no order to agree on."""
    rows, test = lesson.parts(seed)
    x, y = TABLE[:, 1:].astype(np.float32).astype(float), (TABLE[:, 0] - 1).astype(int)
    if scale:
        x = (x - x[rows].mean(axis=0)) / x[rows].std(axis=0, ddof=1)
    weight, bias = np.zeros((3, 13)), np.zeros(3)
    for _ in range(epochs):
        z = x[rows] @ weight.T + bias
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        error = (p - np.eye(3)[y[rows]]) / len(rows)
        weight, bias = weight - lr * error.T @ x[rows], bias - lr * error.sum(axis=0)
    return np.mean((x[test] @ weight.T + bias).argmax(axis=1) == y[test])


@pytest.mark.parametrize(("seed", "lr", "epochs"), [(0, 0.1, 2), (3, 0.01, 1), (7, 0.05, 3)])
def test_the_accuracy_is_numpys(lesson, device, seed, lr, epochs):
    found = lesson.accuracy(seed, True, False, lr, 142, epochs, device)
    assert found == pytest.approx(softmax_accuracy(lesson, seed, lr, epochs))


@pytest.mark.parametrize("start_method", START_METHODS)
def test_workers_bring_the_same_batches_however_they_start(lesson, start_method):
    alone = lesson.fetched(3, 32, workers=0)
    together = lesson.fetched(3, 32, 2, start_method)
    assert [len(x) for x in alone] == [32] * 5 + [18]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not torch.equal(torch.cat(alone), lesson.Wine().x)
    np.testing.assert_array_equal(  # every wine once, and shuffled by this seed
        torch.cat(alone)[:, -1].sort().values, np.sort(TABLE[:, -1].astype(np.float32))
    )
    another = lesson.fetched(4, 32, workers=0)
    assert not torch.equal(another[0], alone[0])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_stream_is_read_once_per_worker_unless_it_is_shared_out(lesson, workers):
    for size in (50, 7):
        assert lesson.times_read(True, workers, size) == 1
        assert lesson.times_read(False, workers, size) == max(workers, 1)


def test_a_stream_yields_the_rows_of_the_file(lesson, tmp_path):
    rows = list(lesson.Stream(DATA / "wine.csv", shared_out=True))
    assert rows[0].dtype == torch.float64
    np.testing.assert_array_equal(torch.stack(rows), TABLE)
    loader = DataLoader(lesson.Stream(DATA / "wine.csv", True), batch_size=None, num_workers=2)
    shared = sorted(map(tuple, torch.stack(list(loader)).tolist()))
    assert shared == sorted(map(tuple, TABLE.tolist()))
    file = tmp_path / "long.csv"
    file.write_text("a\n" + "1\n" * 5 + "not yet read\n")
    stream = iter(lesson.Stream(file, shared_out=False))
    assert [next(stream).item() for _ in range(5)] == [1] * 5  # it reads no further than asked


@pytest.mark.parametrize("batch_size", [1, 5, 64, 200])
def test_three_ways_bring_the_same_batches(lesson, batch_size):
    x, y = torch.tensor(TABLE[:, 1:]), torch.tensor(TABLE[:, 0])
    for epoch in lesson.three_ways(x, y, batch_size).values():
        for start, (a, b) in zip(range(0, 178, batch_size), epoch, strict=True):
            assert torch.equal(a, x[start : start + batch_size])
            assert torch.equal(b, y[start : start + batch_size])


def test_a_batched_dataset_is_asked_once_for_a_batch(lesson):
    calls = []

    class Counted(lesson.Batched):
        def __getitems__(self, indices):
            calls.append(indices)
            return super().__getitems__(indices)

    dataset = Counted(torch.arange(5.0), torch.arange(5))
    batches = list(DataLoader(dataset, batch_size=2, collate_fn=lesson.same))
    assert calls == [[0, 1], [2, 3], [4]]
    assert batches[1][0].tolist() == [2, 3]


def test_a_random_split_uses_every_wine_once(lesson):
    rows, test = lesson.parts(seed=3)
    assert (len(rows), len(test)) == (142, 36)
    assert sorted(rows + test) == list(range(178))
    assert (rows, test) == tuple(lesson.parts(seed=3)) != tuple(lesson.parts(seed=4))
    assert rows == sorted(rows) and rows != list(range(142))


def test_a_weighted_sampler_evens_the_classes_out(lesson):
    n = 20_000
    for balanced, expected in ((False, [59 / 178, 71 / 178, 48 / 178]), (True, [1 / 3] * 3)):
        shares = lesson.shares(balanced, n, seed=1)
        assert sum(shares) == pytest.approx(1, abs=1e-6)
        for share, p in zip(shares, expected, strict=True):
            assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / n)
    assert lesson.shares(True, n, seed=1) == shares != lesson.shares(True, n, seed=2)


def test_rows_of_unequal_length_are_padded_with_zeros(lesson):
    rows = [torch.tensor([5.0]), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 6.0])]
    table, lengths = lesson.padded(rows)
    assert table.tolist() == [[5, 0, 0], [1, 2, 3], [4, 6, 0]]
    assert (lengths.tolist(), lengths.dtype) == ([1, 3, 2], torch.int64)
    (batch,) = DataLoader(rows, batch_size=3, collate_fn=lesson.padded)
    assert torch.equal(batch[0], table)


def test_labels_are_counted_from_0_and_minus_100_is_ignored(lesson):
    for labels in ([0, 1, 2], [2], [0, -100]):
        assert lesson.cross_entropy(labels) == pytest.approx(math.log(3), rel=1e-6)
    for labels in ([1, 2, 3], [3], [-1, 0]):
        assert lesson.cross_entropy(labels) is None
    assert math.isnan(lesson.cross_entropy([-100]))


def test_a_generator_that_the_dataset_owns_repeats_itself_in_every_worker(lesson):
    for workers, different in ((1, 8), (2, 4)):
        assert lesson.noise(owned=True, workers=workers) == (different, True)
        assert lesson.noise(owned=False, workers=workers) == (8, False)
    assert lesson.noise(owned=True, workers=0) == (8, False)  # one copy, and it moves on


def test_noise_is_uniform_and_from_the_generator_it_says(lesson):
    owned = lesson.Noise(owned=True)
    assert len(owned) == 8
    expected = np.random.default_rng(0).random(8)
    assert [owned[0] for _ in range(8)] == expected.tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first = lesson.Noise(owned=False)[0]
        torch.manual_seed(5)
        assert first == torch.rand(()).item()


def test_sorted_data_makes_batches_of_one_class(lesson):
    means = [
        np.mean([len(set(TABLE[i : i + size, 0])) for i in range(0, 178, size)]) for size in (4, 16)
    ]
    for size, mean in zip((4, 16), means, strict=True):
        assert lesson.classes_in_a_batch(False, size, seed=0) == pytest.approx(mean)
        shuffled = [lesson.classes_in_a_batch(True, size, seed) for seed in range(5)]
        assert min(shuffled) > 1.5 * mean and len(set(shuffled)) > 1


def test_without_shuffling_the_last_classes_win(lesson, device):
    def mean_accuracy(shuffle):
        accuracies = [lesson.accuracy(s, True, shuffle, 1.0, 4, 1, device) for s in range(12)]
        return np.mean(accuracies)

    assert mean_accuracy(False) + 0.04 < mean_accuracy(True) > 0.95


def test_a_lambda_cannot_be_sent_to_a_worker(lesson):
    assert lesson.can_be_sent(lesson.Wine()) is True
    assert lesson.can_be_sent([lambda x: x]) is False
    with pytest.raises(ZeroDivisionError):
        lesson.can_be_sent(Unlucky())


class Unlucky:
    def __reduce__(self):
        raise ZeroDivisionError


@pytest.mark.filterwarnings("ignore:Got pickle error")
def test_a_worker_that_is_spawned_cannot_be_given_a_lambda():
    options = {"num_workers": 1, "multiprocessing_context": "spawn"}
    with pytest.raises((AttributeError, pickle.PicklingError)):
        next(iter(DataLoader([lambda x: x], **options)))


def test_reading_a_loader_moves_the_global_state_unless_it_has_its_own(lesson):
    before = torch.get_rng_state()
    assert lesson.next_draw_is_the_same(own_generator=True) is True
    assert lesson.next_draw_is_the_same(own_generator=False) is False
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_are_pinned_for_a_gpu_alone(lesson, device, monkeypatch):
    seen = []
    original = lesson.train_in_batches

    def spy(model, loss_function, optimizer, loader, device, epochs):
        seen.append((loader.pin_memory, model.weight.device.type, model.weight.shape))
        original(model, loss_function, optimizer, loader, device, epochs)

    monkeypatch.setattr(lesson, "train_in_batches", spy)
    lesson.accuracy(0, True, True, 0.1, 16, 1, device)
    assert seen == [(device == "cuda", device, (3, 13))]


def test_the_picture_shows_an_epoch_sorted_and_shuffled(lesson, device):
    in_order, shuffled = (axes.images[0].get_array() for axes in lesson.figure(device).axes)
    for grid in (in_order, shuffled):
        assert grid.shape == (12, 16)
        classes = np.ma.masked_invalid(grid).compressed()
        np.testing.assert_array_equal(np.bincount(classes.astype(int)), [59, 71, 48])
    flat = np.ma.masked_invalid(in_order).compressed()
    np.testing.assert_array_equal(flat, TABLE[:, 0] - 1)
    assert not np.array_equal(np.ma.masked_invalid(shuffled).compressed(), flat)
