"""What lesson 13 claims."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_values, printed_if_tripled, tensor64
from torch import nn


# 1. Dropout in both modes
@pytest.mark.parametrize("p", [0.5, 0.2])
def test_dropout_keeps_the_mean_and_only_eval_stops_it(lesson, device, p):
    n, theory = 40_000, p / (1 - p)
    mean, variance, agree = lesson.dropout_statistics(p, n, True, device)
    # six standard deviations: 1 in 10^9
    assert abs(mean - 1) < 6 * math.sqrt(theory / n)
    assert abs(variance - theory) < 0.05 and agree is False
    assert lesson.dropout_statistics(p, n, False, device) == (1.0, 0.0, True)


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_the_variance_of_dropout_is_that_of_two_values(lesson, p):
    # 0 and 1 / (1 - p): the measured mean fixes the measured variance, divided by n.
    mean, variance, _ = lesson.dropout_statistics(p, 1000, True)
    assert variance == pytest.approx(mean * (1 / (1 - p) - mean), rel=1e-5)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9])
def test_the_variance_in_theory_is_that_of_0_and_1_over_1_minus_p(lesson, p):
    values, chances = np.array([0, 1 / (1 - p)]), np.array([p, 1 - p])
    variance = chances @ (values - chances @ values) ** 2
    assert chances @ values == pytest.approx(1, rel=1e-14)
    assert lesson.variance_in_theory(p) == pytest.approx(variance, rel=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_no_grad_switches_off_recording_and_not_dropout(lesson, training):
    seen = []

    def note(module, inputs, output):
        seen.append((module.training, torch.is_grad_enabled(), inputs[0].tolist()))

    hook = nn.modules.module.register_module_forward_hook(note)
    try:
        lesson.dropout_statistics(0.5, 3, training)
    finally:
        hook.remove()
    assert seen == [(training, False, [1, 1, 1])] * 2


def test_the_ones_are_made_where_they_are_needed(lesson, device):
    with torch.device("meta"):  # whatever is made without a device has no value here
        assert lesson.dropout_statistics(0.5, 10, False, device) == (1.0, 0.0, True)
        assert lesson.variance_after_eval(lesson.Drops(), 10, device) == 0.0


# 2. A function does not know the mode
def test_dropout_as_a_function_is_on_unless_told(device):
    ones = torch.ones(40_000, device=device)
    dropped = F.dropout(ones, 0.5)
    assert set(dropped.tolist()) == {0.0, 2.0}
    # 1 - 4 d^2, the share of 2 being 1/2 + d, and d six standard deviations, 0.015, at
    # most.
    assert abs(dropped.var().item() - 1) < 0.001
    assert F.dropout(ones, 0.5, False).equal(ones)


def test_eval_reaches_what_asks_for_the_mode_and_nothing_else(lesson, device):
    ones = torch.ones(10_000, device=device)
    for model, evaluated in (
        (nn.Dropout(0.5), {1.0}),
        (lesson.Drops(), {1.0}),
        (lesson.AlwaysDrops(), {0.0, 2.0}),
    ):
        assert set(model(ones).tolist()) == {0.0, 2.0}
        variance = lesson.variance_after_eval(model, 10_000, device)
        assert not model.training and set(model(ones).tolist()) == evaluated
        # 1 - 4 d^2 as above, with d six standard deviations, 0.03.
        assert abs(variance - (len(evaluated) - 1)) < 0.004


# 3. Batch norm standardises each column
def batch(n=7, d=3):
    x = np.random.default_rng(0).normal(size=(n, d))
    return x * [0.01, 1.0, 30.0] + [0.0, -5.0, 100.0]


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_batch_norm_is_minus_the_mean_over_the_root_of_variance_plus_eps(
    lesson, device, eps
):
    x = batch()
    variance = np.mean((x - x.mean(axis=0)) ** 2, axis=0)
    expected = (x - x.mean(axis=0)) / np.sqrt(variance + eps)
    found = lesson.batch_norm(tensor64(x, device), eps)
    assert_values(found, expected, device, rtol=1e-10, atol=1e-12)
    layer = nn.BatchNorm1d(3, eps, device=device, dtype=torch.float64)
    assert_values(layer(tensor64(x, device)), expected, device, rtol=1e-10, atol=1e-12)


def test_any_two_different_numbers_become_minus_1_and_1_up_to_eps(lesson, device):
    for low, high in ((3, 1000), (-8, -2), (0, 4)):
        found = lesson.batch_norm(tensor64([[float(low)], [float(high)]], device))
        assert_values(found, [[-1], [1]], device, rtol=1e-5 / ((high - low) / 2) ** 2)
    assert_values(
        lesson.batch_norm(tensor64([[5.0], [5.0]], device)), [[0], [0]], device
    )


def test_layer_norm_does_the_same_to_each_row_and_runs_nothing(lesson, device):
    x = tensor64(batch(4, 3), device)
    layer = nn.LayerNorm(3, device=device, dtype=torch.float64)
    expected = lesson.batch_norm(x.T).T.cpu().numpy()
    assert_values(layer(x), expected, device, rtol=1e-10, atol=1e-12)
    assert_values(layer.eval()(x), expected, device, rtol=1e-10, atol=1e-12)
    assert not list(layer.buffers())


# 4. What batch norm remembers
@pytest.mark.parametrize("batches", [1, 9])
def test_each_training_batch_moves_the_running_values_a_tenth_of_the_way(
    lesson, device, batches
):
    x = batch()
    mean, variance = np.zeros(3), np.ones(3)
    for _ in range(batches):
        mean = mean + (x.mean(axis=0) - mean) / 10
        variance = variance + (x.var(axis=0, ddof=1) - variance) / 10  # n - 1 here
    running = lesson.running_after(tensor64(x, device), batches)
    assert_values(running[0], mean, device)
    assert_values(running[1], variance, device)
    theory = lesson.running_in_theory(0, x.mean(axis=0), batches)
    np.testing.assert_allclose(theory, mean, rtol=1e-12)
    theory = lesson.running_in_theory(1, x.var(axis=0, ddof=1), batches)
    np.testing.assert_allclose(theory, variance, rtol=1e-12)


# 5. Predicting without eval()
@pytest.mark.parametrize("neighbour", [-20.0, 3.001, 7.0])
def test_in_training_mode_the_neighbour_decides_and_in_evaluation_it_does_not(
    lesson, neighbour
):
    half = (3 - neighbour) / 2
    expected = half / math.sqrt(half**2 + 1e-5)
    found = lesson.with_neighbour(neighbour, evaluate=False)
    assert found == pytest.approx(expected, rel=2e-3)
    # The rows 0 to 4 have the mean 2 and, with n - 1, the variance 2.5.
    found = lesson.with_neighbour(neighbour, evaluate=True)
    assert found == pytest.approx((3 - 2) / math.sqrt(2.5 + 1e-5), rel=1e-6)


def test_batch_norm_in_training_refuses_a_batch_of_one(device):
    layer = nn.BatchNorm1d(2, device=device)
    with pytest.raises(ValueError):
        layer(torch.ones(1, 2, device=device))
    assert layer.eval()(torch.ones(1, 2, device=device)).shape == (1, 2)


def test_batch_norm_behind_a_convolution_takes_a_batch_of_one(device):
    layer = nn.BatchNorm2d(1, device=device, dtype=torch.float64)
    z = layer(tensor64([[[[0.0, 4.0]]]], device))
    assert_values(z.detach(), [[[[-1, 1]]]], device, rtol=1e-5)


def test_without_running_values_the_batch_decides_in_evaluation_mode_too(device):
    layer = nn.BatchNorm1d(1, track_running_stats=False, dtype=torch.float64)
    z = layer.to(device).eval()(tensor64([[0.0], [4.0]], device)).detach()
    assert_values(z, [[-1], [1]], device, rtol=1e-5)


# 6. Two losses of one model
@pytest.mark.parametrize(("p", "weights"), [(0.5, [1, 2, 3]), (0.2, [-4, 0.5, 2, 1])])
def test_the_training_loss_of_a_perfect_model_is_that_of_all_its_holes(
    lesson, device, p, weights
):
    # Every way to drop some of the inputs, with its chance.
    losses, chances = [], []
    for kept in itertools.product([0, 1], repeat=len(weights)):
        prediction = sum(np.array(kept) * weights) / (1 - p)
        losses.append((prediction - sum(weights)) ** 2)
        chances.append(np.prod([1 - p if one else p for one in kept]))
    expected = np.dot(chances, losses)
    theory = lesson.training_loss_in_theory(p, weights)
    assert theory == pytest.approx(expected, rel=1e-12)
    n = 40_000
    model = lesson.perfect_model(p, weights).to(device)
    x = torch.ones(n, len(weights), device=device)
    y = torch.full((n, 1), float(sum(weights)), device=device)
    found = lesson.loss_in_mode(model, x, y, training=True)
    spread = math.sqrt(np.dot(chances, np.square(losses)) - expected**2)
    assert abs(found - expected) < 6 * spread / math.sqrt(n)
    assert lesson.loss_in_mode(model, x, y, training=False) == 0


def test_the_theory_holds_for_inputs_of_minus_1_too(lesson):
    signs = torch.tensor([*itertools.product([-1.0, 1.0], repeat=2)])
    holes = torch.tensor([*itertools.product([0.0, 2.0], repeat=2)])
    weights = torch.tensor([3.0, -1.0])
    for sign in signs:
        errors = (sign * weights * (holes - 1)).sum(dim=1)
        theory = lesson.training_loss_in_theory(0.5, weights.tolist())
        assert errors.square().mean().item() == theory


# 7. Each module back into its own mode
@pytest.mark.parametrize("frozen", [True, False])
def test_train_forgets_a_frozen_batch_norm_and_put_back_does_not(lesson, frozen):
    model = lesson.half_frozen() if frozen else nn.Sequential(lesson.half_frozen())
    x = torch.full((4, 3), 5.0)
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm1d))
    before = [module.training for module in model.modules()]
    assert lesson.modes(model) == before and before[-1] is False
    model.eval()
    lesson.put_back(model, before)
    assert [module.training for module in model.modules()] == before
    model(x)
    assert norm.running_mean.tolist() == [0, 0, 0]
    model.train()
    assert all(lesson.modes(model))
    model(x)
    assert norm.running_mean.tolist() != [0, 0, 0]


# The picture
def test_the_picture_shows_what_becomes_of_3_and_the_running_values(lesson):
    beside, running = lesson.figure().axes
    trained, evaluated = (line.get_ydata() for line in beside.lines)
    neighbours = np.array(beside.lines[0].get_xdata())
    far = abs(neighbours - 3) > 0.05
    np.testing.assert_allclose(
        np.array(trained)[far], np.sign(3 - neighbours)[far], rtol=0, atol=0.003
    )
    np.testing.assert_allclose(evaluated, 1 / math.sqrt(2.5), rtol=1e-5)
    measured, theory = running.lines[:2], running.lines[2:]
    for dots, dashes, start, end in zip(measured, theory, (0, 1), (2, 8), strict=True):
        k = np.array(dots.get_xdata())
        expected = end + (start - end) * 0.9**k
        np.testing.assert_allclose(dots.get_ydata(), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(dashes.get_ydata(), expected, rtol=1e-9, atol=1e-12)


# What is printed as theory does not come from the measurement beside it
def test_the_running_values_are_printed_from_theory(lesson):
    rows = re.findall(
        r"after +(\d+) +mean (\S+), variance (\S+)\n"
        r" +theory +mean (\S+), variance (\S+)",
        printed_if_tripled(lesson, 4, "running_after"),
    )
    for k, *numbers in rows:
        rest = 0.9 ** int(k)
        theory = 2 * (1 - rest), rest + 8 * (1 - rest)
        expected = [3 * theory[0], 3 * theory[1], *theory]
        assert numbers == [f"{number:.4f}" for number in expected]
    assert len(rows) == 3


def test_the_variance_of_dropout_is_printed_from_theory(lesson):
    printed = printed_if_tripled(lesson, 1, "dropout_statistics")
    measured = re.findall(r"training=True: mean (\S+), variance (\S+)", printed)
    # Three times a mean with a spread of 0.001 over a million draws, and the variance.
    assert [float(n) for n in measured[0]] == pytest.approx([3, 3], abs=0.02)
    assert "theory: variance 1.00 in training\n" in printed


def test_the_loss_of_the_holes_is_printed_from_theory(lesson):
    printed = printed_if_tripled(lesson, 6, "loss_in_mode")
    assert re.findall(r"theory +(\S+)", printed) == ["3.5", "14.0"]
    measured = re.findall(r"training mode +(\S+),", printed)
    # Three times the loss, whose spread over a million rows is below 0.02.
    assert [float(loss) for loss in measured] == pytest.approx([10.5, 42], abs=0.4)
