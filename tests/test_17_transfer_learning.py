"""What lesson 17 claims."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from helpers import (
    ROOT,
    assert_values,
    loud_messages,
    printed_if_tripled,
    tensor64,
)
from numpy.lib.stride_tricks import sliding_window_view
from reference import adam_step, softmax
from torch import nn
from torchvision import models

CHAPTER = ROOT / "lessons" / "17_transfer_learning.md"
TABLE = np.loadtxt(ROOT / "data" / "digits.csv", delimiter=",", skiprows=1)
X, Y = TABLE[:, 1:].reshape(-1, 8, 8) / 16, TABLE[:, 0].astype(int)
WHICH = {picture.tobytes(): row for row, picture in enumerate(X)}  # no two are the same
# The body: three convolutions without bias, and weight and bias of three batch norms;
# the head.
BODY = 8 * 1 * 9 + 16 * 8 * 9 + 32 * 16 * 9 + 2 * (8 + 16 + 32)
HEAD = 128 * 5 + 5


# Twenty pretrained networks know 0.934 to 0.994 of the old task; the binomial deviation
# for 181 pictures is sqrt(0.96 * 0.04 / 181) = 0.015.
OLD_TASK = 0.88


def state(module):
    """Name -> a copy of each parameter and buffer, in NumPy."""
    return {n: t.detach().cpu().numpy().copy() for n, t in module.state_dict().items()}


def same(before, after):
    """Equal bit for bit, all of them."""
    return not changed(before, after) and list(before) == list(after)


def changed(before, after):
    """The names of what differs."""
    return [name for name in before if not np.array_equal(before[name], after[name])]


def numbers(module):
    return sum(parameter.numel() for parameter in module.parameters())


def forward(numbers_of, x, moved=0):
    """The features (n, 128) of the pictures x (n, 12, 12), from a body's state.

    moved: the batch norms have first seen x so many times in training mode, where each
    normalises by the batch and its running values go a tenth of the way, the variance
    with n - 1.
    """
    running = {}

    def pass_through(x, training):
        for conv, norm in ((0, 1), (4, 5), (7, 8)):
            padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
            windows = sliding_window_view(padded, (3, 3), (2, 3))
            kernel = numbers_of[f"{conv}.weight"]
            x = np.einsum("nchwij,ocij->nohw", windows, kernel, optimize=True)
            mean = numbers_of[f"{norm}.running_mean"]
            variance = numbers_of[f"{norm}.running_var"]
            mean, variance = running.get(norm, (mean, variance))
            if training:
                rest, n = 0.9**moved, x[:, 0].size
                now, spread = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
                then = rest * variance + (1 - rest) * spread * n / (n - 1)
                running[norm] = rest * mean + (1 - rest) * now, then
                mean, variance = now, spread
            x = (x - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]
            x = x * numbers_of[f"{norm}.weight"][:, None, None]
            x = np.maximum(x + numbers_of[f"{norm}.bias"][:, None, None], 0)
            if conv == 0:
                x = x.reshape(len(x), -1, 6, 2, 6, 2).max(axis=(3, 5))
        return x.reshape(len(x), -1, 2, 3, 2, 3).mean(axis=(3, 5)).reshape(len(x), -1)

    if moved:
        pass_through(x[:, None], training=True)
    return pass_through(x[:, None], training=False)


def softmax_regression(features, y, weight, bias, steps):
    """(weight, bias) after steps of Adam on the cross-entropy, with the rate 0.01."""
    x = np.column_stack([features, np.ones(len(y))])
    theta = np.column_stack([weight, bias])
    mean = square = 0
    for step in range(1, steps + 1):
        gradient = (softmax(x @ theta.T) - np.eye(5)[y]).T @ x / len(y)
        theta, mean, square = adam_step(theta, gradient, mean, square, step, 0.01)
    return theta[:, :-1], theta[:, -1]


def share(features, y, weight, bias):
    return np.mean((features @ weight.T + bias).argmax(axis=1) == y)


def found_again(x):
    """[(row of the table, place from 0 to 24), ...] of pictures (n, 1, 12, 12)."""
    found = []
    for canvas in x[:, 0].cpu().numpy():
        windows = sliding_window_view(canvas, (8, 8)).reshape(25, 8, 8)
        fits = [
            (WHICH[window.tobytes()], place)
            for place, window in enumerate(windows)
            if window.tobytes() in WHICH and window.sum() == canvas.sum()
        ]
        assert len(fits) == 1
        found += fits
    return found


def even(places):
    """Chi square of the counts of 25 places, in deviations from its mean."""
    expected = len(places) / 25
    chi = ((np.bincount(places, minlength=25) - expected) ** 2 / expected).sum()
    return (chi - 24) / math.sqrt(2 * 24)


def canvases(n, device, seed=0):
    """n pictures of noise, (n, 1, 12, 12), as a tensor and without channel in NumPy."""
    x = np.random.default_rng(seed).random((n, 1, 12, 12))
    return tensor64(x, device), x[:, 0]


def batches(n, device, seed=0):
    """n batches of 20 labelled pictures of noise."""
    labels = torch.tensor(np.random.default_rng(seed).integers(0, 5, (n, 20)))
    return [(canvases(20, device, i)[0], y) for i, y in enumerate(labels.to(device))]


@pytest.fixture(scope="module")
def data(lesson):
    """data(device): x and y of the lesson, once for each device."""
    return functools.cache(lesson.digits)


@pytest.fixture(scope="module")
def scores(lesson, data):
    """scores(device, each): what four_scores finds with seed 7."""
    return functools.cache(
        lambda device, each: lesson.four_scores(*data(device), each, 7)
    )


# The pictures, and the network
def test_x_and_y_are_the_files_in_sixteenths(device, data):
    x, y = data(device)
    assert_values(x, X[:, None], device, rtol=0)
    assert_values(y, Y, device, torch.int64)
    assert (X.min(), X.max(), len(WHICH)) == (0, 1, 1797)


def test_a_picture_is_placed_whole_at_one_of_25_places_all_alike(lesson, device, data):
    x, generator = data(device)[0], torch.Generator().manual_seed(3)
    rows, places = zip(*found_again(lesson.placed(x, generator)), strict=True)
    assert rows == tuple(range(1797))
    # Chi square with 24 degrees of freedom passes five deviations once in 1e4 seeds.
    assert set(places) == set(range(25)) and abs(even(places)) < 5


def test_the_old_digits_are_720_to_learn_from_and_181_others(lesson, device, data):
    rows = np.flatnonzero(Y < 5)
    x, y, test_x, test_y = lesson.old_digits(*data(device))
    assert_values(x, X[rows[:720], None], device, rtol=0)
    assert_values(y, Y[rows[:720]], device, torch.int64)
    assert [row for row, _ in found_again(test_x)] == rows[720:].tolist()
    assert test_y.tolist() == Y[rows[720:]].tolist() and len(test_y) == 181
    assert abs(even([place for _, place in found_again(test_x)])) < 5


@pytest.mark.parametrize(("each", "seed"), [(1, 0), (20, 6)])
def test_new_digits_are_so_many_of_each_of_5_to_9_and_300_others_to_test(
    lesson, device, data, each, seed
):
    known_x, known_y, test_x, test_y = lesson.new_digits(*data(device), each, seed)
    assert sorted(known_y.tolist()) == sorted(list(range(5)) * each)
    known, test = found_again(known_x), found_again(test_x)
    for pairs, labels in ((known, known_y), (test, test_y)):
        assert [Y[row] - 5 for row, _ in pairs] == labels.tolist()
    assert len({row for row, _ in known + test}) == 5 * each + 300
    assert abs(even([place for _, place in test])) < 5
    # Drawn from all of them, in no order: 300 of 896, of mean row about 900.
    rows = np.array([row for row, _ in test])
    assert abs(rows.mean() - np.flatnonzero(Y >= 5).mean()) < 5 * 520 / math.sqrt(300)
    assert 100 < np.sum(np.diff(rows) > 0) < 200


def test_no_picture_is_both_known_and_tested_however_many_are_asked_for(lesson, data):
    known_x, known_y, test_x, _ = lesson.new_digits(*data("cpu"), 1000, 3)
    known, test = found_again(known_x), found_again(test_x)
    assert len({row for row, _ in known + test}) == len(known_y) + 300 == 896


def test_other_seeds_choose_other_pictures_and_more_labels_keep_the_first(lesson, data):
    two, other, five = (
        lesson.new_digits(*data("cpu"), each, seed)
        for each, seed in ((2, 0), (2, 1), (5, 0))
    )
    rows = [{row for row, _ in found_again(draw[0])} for draw in (two, other, five)]
    # ten of about 900 twice: one or none as a rule
    assert rows[0] < rows[2] and len(rows[0] & rows[1]) < 5
    assert torch.equal(two[2], five[2]) and not torch.equal(two[2], other[2])


def test_a_network_is_three_convolutions_and_a_linear_head(lesson, device):
    model = lesson.network(4, device)
    assert (numbers(model.body), numbers(model.head)) == (BODY, HEAD)
    with torch.no_grad():  # batch norms that do something
        for name, buffer in model.body.named_buffers():
            if "running" in name:
                buffer.copy_(torch.linspace(0.1, 0.9, len(buffer)))
        for p in model.body.parameters():
            if p.ndim == 1:
                p.copy_(torch.linspace(-0.2, 1.3, len(p)))
    ours, x = canvases(6, device)
    features, head = forward(state(model.body), x), state(model.head)
    assert_values(model.eval().body(ours), features, device, rtol=0, atol=1e-13)
    logits = features @ head["weight"].T + head["bias"]
    assert_values(model(ours), logits, device, rtol=0, atol=1e-13)
    assert lesson.Network(3).head.bias.shape == (3,)


def test_a_networks_seed_decides_its_numbers(lesson):
    one, again, other = (state(lesson.network(seed)) for seed in (0, 0, 1))
    assert same(one, again) and not same(one, other)


@pytest.mark.parametrize(("body_lr", "training"), [(0.003, True), (0.02, False)])
def test_train_is_adam_with_one_rate_for_the_head_and_one_for_the_body(
    lesson, device, body_lr, training
):
    model = lesson.network(5, device).train(training)
    ours = copy.deepcopy(model)
    parameters = [*ours.head.parameters(), *ours.body.parameters()]
    moments = [(0, 0)] * len(parameters)
    ((x, y),) = batches(1, device)
    for step in range(1, 4):
        z = ours(x)
        loss = (z.logsumexp(dim=1) - z.gather(1, y[:, None])[:, 0]).mean()
        gradients = torch.autograd.grad(loss, parameters)
        for i, (p, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            lr, gradient = (0.01 if i < 2 else body_lr), gradient.cpu().numpy()
            before = p.detach().cpu().numpy()
            after, *moments[i] = adam_step(before, gradient, *moments[i], step, lr)
            p.data = tensor64(after, device)
    optimizer = torch.optim.Adam(
        [
            {"params": model.head.parameters(), "lr": 0.01},
            {"params": model.body.parameters(), "lr": body_lr},
        ]
    )
    lesson.train(model, optimizer, x, y, steps=3)
    found, expected = state(model), state(ours)
    for name in expected:
        # Adam divides by the gradient's size: where that is 1e-8, so is rounding seen.
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-7)
    assert model.training == training and model.head.bias.grad is None


def test_pretraining_shows_each_of_the_720_once_an_epoch_in_a_new_order_and_place(
    lesson, monkeypatch
):
    seen = []

    def note(model, optimizer, x, y, steps):
        assert model.training and steps == 1
        assert optimizer.param_groups[0]["params"] == list(model.parameters())
        seen.append((x, y, optimizer.param_groups[0]["lr"]))

    monkeypatch.setattr(lesson, "train", note)
    model = lesson.pretrained.__wrapped__("cpu", seed=3)
    assert not model.training and same(state(model), state(lesson.network(3)))
    assert [len(y) for _, y, _ in seen] == [*[64] * 11, 16] * 5
    assert [lr for _, _, lr in seen] == [0.01] * 48 + [0.001] * 12
    orders, places = [], []
    for epoch in (seen[:12], seen[12:24]):
        shown = found_again(torch.cat([x for x, _, _ in epoch]))
        orders.append([row for row, _ in shown])
        places.append([place for _, place in sorted(shown)])
        assert sorted(orders[-1]) == np.flatnonzero(Y < 5)[:720].tolist() != orders[-1]
        labels = torch.cat([y for _, y, _ in epoch])
        np.testing.assert_array_equal(labels, Y[orders[-1]])
    assert orders[0] != orders[1]
    # One in 25 stays by chance, 29 of 720: five deviations of 5.3 more are 56.
    assert np.sum(np.equal(*places)) < 56


def test_accuracy_is_the_share_of_largest_logits_in_evaluation_mode(lesson, device):
    z = torch.tensor([[1.0, 3, 2], [0, -1, -2], [5, 5.5, 6], [1, 0, 9]], device=device)
    y = torch.tensor([1, 0, 1, 2], device=device)
    for model in (nn.Identity(), nn.Dropout(0.999)):
        assert lesson.accuracy(model.train(), z, y) == 3 / 4


def test_other_answers_are_counted_by_class_and_not_by_logit(lesson, device):
    z = torch.tensor([[1.0, 3, 2], [0, -1, -2], [5, 5.5, 6]], device=device)
    reverse = nn.Linear(3, 3, bias=False).to(device)
    with torch.no_grad():
        reverse.weight.copy_(-torch.eye(3))
    assert lesson.other_answers(nn.Identity(), nn.ReLU(), z) == 0
    assert lesson.other_answers(nn.Identity(), reverse, z) == 3


def test_the_pretrained_network_knows_the_old_digits(lesson, device, data):
    _, _, x, y = lesson.old_digits(*data(device))
    model = lesson.pretrained(device)
    head, features = (
        state(model.head),
        forward(state(model.body), x[:, 0].cpu().numpy()),
    )
    expected = share(features, y.cpu().numpy(), head["weight"], head["bias"])
    found = lesson.accuracy(model, x, y)
    assert found == pytest.approx(expected, abs=1e-12) and found > OLD_TASK


# 1. Freeze the body, and put a new head on it
def test_numbers_that_train_counts_what_gets_a_gradient(lesson):
    model = nn.Sequential(nn.Linear(7, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    model[1].requires_grad_(False)
    model[2].weight.requires_grad_(False)
    model[0].requires_grad = False  # a name on the layer: its parameters do not know
    assert lesson.numbers_that_train(model) == 7 * 3 + 3 + 2


def test_a_new_head_is_put_on_a_frozen_copy_of_the_body(lesson, device):
    body = lesson.network(6, device).body
    before, model = state(body), lesson.with_new_head(body)
    assert same(state(model.body), before)
    assert same(state(model.head), state(lesson.network(1).head))
    assert lesson.numbers_that_train(model) == 128 * 5 + 5 == HEAD
    assert all(p.requires_grad for p in body.parameters())  # the old one is as it was
    with torch.no_grad():
        model.body[0].weight.zero_()
    assert same(state(body), before)


def test_a_frozen_body_in_evaluation_mode_stays_the_same_bit_for_bit(
    lesson, device, data
):
    old = lesson.pretrained(device)
    model, before = lesson.with_new_head(old.body), state(old.body)
    x, y, _, _ = lesson.new_digits(*data(device), 3, seed=1)
    lesson.train_head(model, x, y, steps=5)
    assert (
        same(before, state(model.body))
        and lesson.largest_change(model.body, old.body) == 0
    )
    # In training mode the buffers of three batch norms move, and still no parameter.
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    lesson.train(model.train(), optimizer, x, y, steps=5)
    moved = [name.split(".")[-1] for name in changed(before, state(model.body))]
    assert moved == ["running_mean", "running_var", "num_batches_tracked"] * 3


def test_the_largest_change_is_that_of_one_parameter(lesson):
    before = nn.Linear(2, 2)
    after = copy.deepcopy(before)
    with torch.no_grad():
        after.weight[1, 0] -= 0.75
        after.bias[0] += 0.5
    assert lesson.largest_change(after, before) == pytest.approx(0.75, rel=1e-6)


def test_two_lines_that_look_like_freezing_and_replacing_do_neither():
    layer = nn.Linear(32, 1000)
    layer.requires_grad = False
    layer.out_features = 10
    assert layer.weight.requires_grad and layer(torch.ones(2, 32)).shape == (2, 1000)


# 2. Frozen is not in evaluation mode
@pytest.mark.parametrize("mean", [5.0, -3.0])
def test_each_batch_moves_a_frozen_batch_norm_a_tenth_of_the_way(lesson, mean):
    running = 0.0
    for k in range(31):
        found = lesson.running_mean_after(k, mean, training=True)
        assert found == pytest.approx(running, rel=1e-5)  # float32
        assert lesson.running_mean_in_theory(k, mean) == pytest.approx(running)
        assert lesson.running_mean_after(k, mean, training=False) == 0
        running += (mean - running) / 10


def test_the_running_mean_in_theory_is_not_the_measured_one(lesson):
    printed = printed_if_tripled(lesson, 2, "running_mean_after")
    for k in (1, 2, 10):
        theory = 5 * (1 - 0.9**k)
        assert f"after {k:>2}: {3 * theory:.4f}, theory {theory:.4f}\n" in printed


def test_ten_batches_move_the_features_as_far_as_the_running_values_say(lesson, device):
    model = lesson.network(7, device)
    ours, x = canvases(30, device)
    before = state(model)
    for training, moved in ((True, 10), (False, 0)):
        changed_model = lesson.after_ten_batches(model, ours, training)
        found = changed_model.body(ours).detach()
        expected = forward(state(model.body), x, moved=moved)
        assert_values(found, expected, device, rtol=0, atol=1e-12)
        assert not changed_model.training
        assert not any(p.requires_grad for p in changed_model.parameters())
    assert same(state(model), before) and all(
        p.requires_grad for p in model.parameters()
    )


def test_ten_batches_of_ones_change_some_answers_on_0_to_4(lesson, device):
    model = lesson.pretrained(device)
    changed_model, x, y = lesson.ten_batches_of_ones(model, True)
    # Of twenty pretrained networks and batches of ones, 9 to 18 of 181 answers were
    # others.
    assert 3 < lesson.other_answers(model, changed_model, x) < 40
    assert lesson.largest_change(changed_model, model) == 0
    still, _, _ = lesson.ten_batches_of_ones(model, False)
    assert lesson.other_answers(model, still, x) == 0
    assert len(y) == 181


def test_the_ten_batches_are_64_ones_that_the_network_has_learnt_from(
    lesson, device, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        lesson, "after_ten_batches", lambda model, x, training: seen.append(x)
    )
    lesson.ten_batches_of_ones(lesson.network(0, device), True)
    rows = [row for row, _ in found_again(seen[0])]
    assert rows == np.flatnonzero(Y == 1)[:64].tolist()
    assert set(rows) <= set(np.flatnonzero(Y < 5)[:720])


# 3. Features can be computed once
def test_a_head_on_stored_features_is_softmax_regression(lesson, device, data):
    x, y, _, _ = lesson.new_digits(*data(device), 1, seed=2)
    model = lesson.with_new_head(lesson.pretrained(device).body).train()
    through, before = copy.deepcopy(model), state(model.body)
    features, labels = forward(before, x[:, 0].cpu().numpy()), y.cpu().numpy()
    line = softmax_regression(features, labels, *state(model.head).values(), steps=7)
    stored = lesson.features_of(model.body, x)
    assert_values(stored, features, device, rtol=0, atol=1e-12)
    assert not stored.requires_grad and not model.body.training
    lesson.train_on_features(model.head, stored, y, steps=7)
    lesson.train_head(through, x, y, steps=7)
    for trained in (model, through):
        for found, expected in zip(trained.head.parameters(), line, strict=True):
            assert_values(found, expected, device, rtol=0, atol=1e-9)
        assert same(state(trained.body), before)
    assert lesson.largest_change(model.head, through.head) < 1e-12


# 4. Few labels: what does the old body bring?
def test_a_calibrated_body_has_the_mean_and_variance_of_the_pictures(lesson, device):
    body = lesson.network(8, device).body
    ours, x = canvases(30, device)
    before, found = state(body), state(lesson.calibrated(body, ours))
    windows = sliding_window_view(
        np.pad(x, [(0, 0), (1, 1), (1, 1)]), (3, 3), axis=(1, 2)
    )
    maps = np.einsum("nhwij,oij->nohw", windows, before["0.weight"][:, 0])
    mean, variance = maps.mean(axis=(0, 2, 3)), maps.var(axis=(0, 2, 3), ddof=1)
    np.testing.assert_allclose(found["1.running_mean"], mean, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found["1.running_var"], variance, rtol=1e-12)
    # As after so many batches that nothing of the start is left.
    expected = forward(before, x, moved=1000)
    features = lesson.features_of(lesson.calibrated(body, ours), ours)
    assert_values(features, expected, device, rtol=0, atol=1e-11)
    assert same(state(body), before)


def test_the_four_ways_start_from_three_bodies_and_train_head_or_all(
    lesson, data, scores
):
    known_x, known_y, test_x, test_y = lesson.new_digits(*data("cpu"), 2, 7)
    head = state(lesson.network(1).head).values()
    x, test = known_x[:, 0].numpy(), test_x[:, 0].numpy()
    random_body = lesson.network(107).body
    expected = {}
    for name, body in {
        "pretrained, frozen": lesson.pretrained("cpu").body,
        "random, frozen": random_body,
        "random, calibrated": lesson.calibrated(random_body, known_x),
    }.items():
        numbers_of = state(body)
        line = softmax_regression(
            forward(numbers_of, x), known_y.numpy(), *head, steps=60
        )
        expected[name] = share(forward(numbers_of, test), test_y.numpy(), *line)
    model = lesson.network(107)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    lesson.train(model.train(), optimizer, known_x, known_y, steps=40)
    expected["all from scratch"] = lesson.accuracy(model, test_x, test_y)
    assert scores("cpu", 2) == pytest.approx(expected, abs=1e-12)
    assert list(scores("cpu", 2)) == list(expected)


def test_with_two_pictures_the_pretrained_body_beats_a_random_one(device, scores):
    found = scores(device, 2)
    # Twenty draws, each with another pretrained network: ahead of the random body by
    # 0.06 or more, 0.22 on average.
    assert found["pretrained, frozen"] > found["random, frozen"]
    assert found["random, frozen"] == pytest.approx(0.3, abs=0.18)


def test_with_ten_pictures_calibrating_alone_brings_a_random_body_most_of_its_way(
    device, scores
):
    found = scores(device, 10)
    # Twenty draws, each with another pretrained network: calibrating adds 0.16 to
    # 0.32, 0.24 on average, and the pretrained body is ahead of it in all of them.
    assert found["random, calibrated"] - found["random, frozen"] > 0.08
    assert found["pretrained, frozen"] > found["random, calibrated"]


def test_means_and_ranges_are_printed_of_five_draws(lesson, monkeypatch, capsys):
    monkeypatch.setattr(
        lesson, "four_scores", lambda x, y, each, seed: {"a": seed**2 / 20 + each / 100}
    )
    lesson.show_4("cpu")
    out = capsys.readouterr().out
    # 0, 1, 4, 9 and 16 twentieths: their mean is 0.3
    assert "mean 0.32, from 0.02 to 0.82" in out
    assert "mean 0.40, from 0.10 to 0.90" in out


# 5. Train the body too, and how fast
def test_fine_tuning_is_thirty_steps_on_ten_pictures_each_in_training_mode(
    lesson, data
):
    x, y, test_x, test_y = lesson.new_digits(*data("cpu"), 10, seed=4)
    old = lesson.pretrained("cpu")
    model = lesson.network(1)
    model.body.load_state_dict(old.body.state_dict())
    optimizer = torch.optim.Adam(
        [
            {"params": model.head.parameters(), "lr": 0.01},
            {"params": model.body.parameters(), "lr": 0.02},
        ]
    )
    lesson.train(model.train(), optimizer, x, y, steps=30)
    found, draw = lesson.fine_tuned(*data("cpu"), 0.02, 4)
    assert same(state(found), state(model))
    assert torch.equal(draw[2], test_x) and torch.equal(draw[3], test_y)
    new, old_share = lesson.new_and_old(*data("cpu"), 0.02, 4)
    assert new == lesson.accuracy(model, test_x, test_y)
    model.head = old.head
    _, _, old_x, old_y = lesson.old_digits(*data("cpu"))
    assert old_share == lesson.accuracy(model, old_x, old_y)


def test_the_body_really_trains_and_at_the_rate_0_only_its_norms_move(lesson, data):
    old = lesson.pretrained("cpu")
    still, _ = lesson.fine_tuned(*data("cpu"), 0.0, 5)
    assert lesson.largest_change(still.body, old.body) == 0
    assert changed(state(old.body), state(still.body))
    trained, _ = lesson.fine_tuned(*data("cpu"), 0.003, 5)
    for layer in (0, 1, 4, 5, 7, 8):
        assert lesson.largest_change(trained.body[layer], old.body[layer]) > 0.003


def test_an_optimizer_takes_a_frozen_body_without_a_word_and_never_moves_it(lesson):
    model = lesson.with_new_head(lesson.network(2).body)
    before = state(model.body[0])
    optimizer = torch.optim.Adam(
        [
            {"params": model.body.parameters(), "lr": 0.1},
            {"params": model.head.parameters()},
        ]
    )
    ((x, y),) = batches(1, "cpu")
    lesson.train(model.train(), optimizer, x, y, steps=3)
    assert same(before, state(model.body[0]))


def test_a_large_rate_for_the_body_forgets_the_old_digits(lesson, device, data):
    # Twenty draws and pretrained networks: 0.90 to 0.99 at the rate 0, 0.79 to 0.95 at
    # 0.003, 0.19 to 0.46 at 0.1.
    shares = [lesson.new_and_old(*data(device), lr, 6)[1] for lr in (0.0, 0.003, 0.1)]
    assert shares[0] > 0.85 and shares[1] > 0.65 and shares[2] < 0.6


# 6. A real network, and what its pictures must look like
def test_resnet18_for_ten_classes_trains_512_times_10_and_10_of_11181642(lesson):
    model = lesson.resnet_for_ten_classes()
    # A basic block: two 3 x 3 convolutions without bias and two batch norms; where it
    # halves the picture, it doubles the channels, and a 1 x 1 convolution with a batch
    # norm goes beside.
    total = 64 * 3 * 7 * 7 + 2 * 64 + 4 * (64 * 64 * 9 + 2 * 64)
    for n in (128, 256, 512):
        total += n * (n // 2) * 9 + 3 * (n * n * 9) + 4 * 2 * n + n * (n // 2) + 2 * n
    published = models.ResNet18_Weights.DEFAULT.meta["num_params"]
    assert total + 512 * 1000 + 1000 == published
    assert numbers(model) == total + 512 * 10 + 10 == 11181642
    assert lesson.numbers_that_train(model) == 512 * 10 + 10 == 5130
    model(torch.ones(2, 3, 32, 32)).sum().backward()
    assert model.conv1.weight.grad is None and model.fc.bias.grad.tolist() == [2] * 10


def test_all_norms_of_the_frozen_resnet_stand_still_until_train_is_called(lesson):
    model = lesson.resnet_for_ten_classes()
    # One behind each 3 x 3 and 1 x 1 convolution and one behind the first.
    assert lesson.modes_of_norms(model) == (0, 1 + 8 * 2 + 3)
    before = state(model.bn1)
    model(torch.rand(2, 3, 32, 32))
    assert same(before, state(model.bn1))
    assert lesson.modes_of_norms(model.train()) == (20, 0)
    model.layer1.eval()
    assert lesson.modes_of_norms(model) == (16, 4)


def test_the_name_counts_the_layers_on_the_longest_way(lesson):
    layers = [
        module
        for name, module in lesson.resnet_for_ten_classes().named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear)) and "downsample" not in name
    ]
    assert len(layers) == 18


def test_the_transforms_make_224_square_and_subtract_a_mean_each_colour(lesson):
    white = (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert lesson.white_picture().dtype == torch.uint8
    assert lesson.white_picture().unique().tolist() == [255]
    found = lesson.ready_for_resnet(lesson.white_picture())
    expected = np.broadcast_to(white[:, None, None], (3, 224, 224))
    assert_values(found, expected, dtype=torch.float32, rtol=1e-5)


# 7. A head that the optimizer does not know
def test_an_optimizer_made_first_holds_the_old_head_and_moves_the_new_by_0(lesson):
    assert lesson.optimizer_first() == 0
    # The sum of the logits has the slope 1 by each bias: a step of lr.
    assert lesson.head_first() == pytest.approx(0.1, rel=1e-6)
    model = lesson.small_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    assert lesson.step_of(optimizer, model) == pytest.approx(0.25, rel=1e-6)


# Go wrong
def test_the_loud_messages_are_raised(lesson):
    loud = loud_messages(CHAPTER)
    model, old = lesson.Network(10), lesson.Network(5)
    with pytest.raises(RuntimeError, match="size mismatch for head") as mismatch:
        model.load_state_dict(old.state_dict())
    with pytest.raises(RuntimeError) as frozen:
        old.requires_grad_(False)(torch.rand(2, 1, 12, 12)).sum().backward()
    with pytest.raises(ValueError) as twice:
        torch.optim.Adam(
            [{"params": model.parameters()}, {"params": model.head.parameters()}]
        )
    with pytest.raises(ValueError) as alone:
        nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4))(torch.rand(1, 1, 2, 2))
    for message, raised in {
        "size mismatch for": mismatch,
        "element 0 of tensors does not require grad": frozen,
        "some parameters appear in more than one parameter group": twice,
        "Expected more than 1 value per channel when training": alone,
    }.items():
        assert message in loud and message in str(raised.value)
        loud.remove(message)
    assert not loud


# The picture
def test_the_picture_shows_four_digits_and_the_mean_of_five_draws_each_way(
    lesson, monkeypatch
):
    # Training for each count of labels would take long.
    ways = ["a", "bb"]
    monkeypatch.setattr(
        lesson,
        "four_scores",
        lambda x, y, each, seed: {way: each + seed + len(way) for way in ways},
    )
    four, curves = lesson.figure().axes
    canvas = np.asarray(four.images[0].get_array()).reshape(12, 4, 12).swapaxes(0, 1)
    shown = found_again(torch.tensor(canvas[:, None].copy()))
    assert [row for row, _ in shown] == [0, 1, 2, 3]
    for line, way in zip(curves.lines, ways, strict=True):
        assert line.get_label() == way
        assert np.array_equal(line.get_ydata(), line.get_xdata() + 2 + len(way))
