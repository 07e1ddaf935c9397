"""What lesson 06 claims."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

EPS32 = 2.0**-23
X, SLOPE = (0.5, -2.0, 1.5), -3.0  # other data than the lesson's: y = -3 x


def rows(numbers, device):
    return torch.tensor(numbers, device=device)[:, None]


def derivatives(x):
    """The Hessian of mean((w x + b - y)^2) in float64."""
    x = np.array(x, float)
    return 2 * np.array([[np.mean(x * x), np.mean(x)], [np.mean(x), 1]])


def bowl_path(start, lr, steps, x=(1, 2, 3, 4), slope=2.0):
    """Gradient descent on mean((w x + b - slope x)^2) in float64, by its Hessian."""
    minimum, path = np.array([slope, 0.0]), [np.array(start, float)]
    for _ in range(steps):
        path.append(path[-1] - lr * derivatives(x) @ (path[-1] - minimum))
    return np.array(path)


# 1. Three rungs, one path
def test_the_samples_are_y_equals_2_x_in_rows(lesson, device):
    for x, y in (
        lesson.samples(device),
        lesson.samples(device=device),
        lesson.samples(),
    ):
        assert (x.tolist(), y.tolist()) == ([[1], [2], [3], [4]], [[2], [4], [6], [8]])
        assert {x.dtype, y.dtype} == {torch.float32}
    x, y = lesson.samples(device)
    assert {x.device.type, y.device.type} == {device}


@pytest.mark.parametrize(
    ("start", "lr"), [((0.0, 0.0), 0.05), ((-1.5, 3.0), 0.1), ((4.0, 1.0), 0.01)]
)
def test_every_rung_takes_the_path_of_the_bowl(lesson, device, start, lr):
    expected = bowl_path(start, lr, 100)
    paths = lesson.three_paths(*lesson.samples(device), start, lr, 100)
    assert list(paths) == ["by hand", "nn.Linear", "nn.Module"]
    for path in paths.values():
        assert {type(number) for point in path for number in point} == {float}
        # Every step rounds anew; on a bowl that converges the roundings do not pile up.
        np.testing.assert_allclose(
            path, expected, atol=30 * EPS32 * np.abs(expected).max()
        )


def test_each_rung_by_itself_holds_for_other_data(lesson, device):
    x, start, lr = rows(X, device), (1.0, -1.0), 0.1
    expected = bowl_path(start, lr, 20, X, SLOPE)
    paths = [
        lesson.path_by_hand(x, SLOPE * x, start, lr, 20),
        lesson.path_by_model(lesson.linear(start).to(device), x, SLOPE * x, lr, 20),
        lesson.path_by_model(lesson.Line(start).to(device), x, SLOPE * x, lr, 20),
    ]
    for path in paths:
        np.testing.assert_allclose(path, expected, atol=20 * EPS32)


def test_w_and_b_are_made_where_x_is(lesson, device):
    x, y = lesson.samples(device)
    with torch.device("meta"):  # whatever is made without a device has no value here
        assert lesson.samples()[0].tolist() == [[1], [2], [3], [4]]
        moved = lesson.path_by_hand(x, y, (0.0, 0.0), 0.05, 1)
        np.testing.assert_allclose(moved, [(0, 0), (1.5, 0.5)], rtol=4 * EPS32)
        losses = lesson.valley_losses(lambda p: torch.optim.SGD(p, lr=0.01), 1, device)
        assert losses.tolist() == pytest.approx([50.5, 0.99**2 / 2], rel=1e-14)
        assert lesson.dropout_statistics(0.5, 10, False, device) == (1.0, 0.0, True)


def test_the_end_of_100_steps_predicts_9_905_at_5(lesson, device):
    w, b = lesson.path_by_hand(*lesson.samples(device), (0.0, 0.0), 0.05, 100)[-1]
    predicted = bowl_path((0.0, 0.0), 0.05, 100)[-1] @ [5, 1]
    assert (
        5 * w + b == pytest.approx(predicted, rel=10 * EPS32)
        and f"{predicted:.3f}" == "9.905"
    )


def test_training_returns_the_loss_before_each_step(lesson, device):
    x, y = lesson.samples(device)
    model = lesson.linear((1.0, 0.5)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for parameter in model.parameters():  # from elsewhere, and to be forgotten
        parameter.grad = torch.full_like(parameter, 1000.0)
    losses = lesson.train(model, nn.MSELoss(), optimizer, x, y, epochs=2)
    losses += lesson.train(model, nn.MSELoss(), optimizer, x, y, epochs=1)
    # none, and no error
    losses += lesson.train(model, nn.MSELoss(), optimizer, x, y, epochs=0)
    x = np.array([1, 2, 3, 4])
    path = bowl_path((1.0, 0.5), 0.05, 3)
    expected = [np.mean((w * x + b - 2 * x) ** 2) for w, b in path[:3]]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert all(type(loss) is float for loss in losses)
    # After as many steps as losses.
    moved = [parameter.item() for parameter in model.parameters()]
    np.testing.assert_allclose(moved, path[3], atol=10 * EPS32)


def test_training_takes_any_loss_and_any_optimizer(lesson, device):
    x, y = lesson.samples(device)
    model = lesson.Line((0.0, 0.0)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.25)
    losses = lesson.train(model, nn.L1Loss(), optimizer, x, y, epochs=2)
    # The first step of Adam is lr against the sign: w = b = 0.25 leaves 1.75 x - 0.25.
    assert losses == pytest.approx([5, 1.75 * 2.5 - 0.25], rel=1e-6)


def test_training_switches_a_model_to_training_before_its_first_step(lesson, device):
    modes = []

    class Watched(lesson.Line):
        def forward(self, x):
            modes.append(self.training)
            return super().forward(x)

    model = Watched((0.0, 0.0)).to(device).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    lesson.train(model, nn.MSELoss(), optimizer, *lesson.samples(device), epochs=3)
    assert modes == [True] * 3 and model.training


def test_a_line_is_w_x_plus_b_and_knows_its_parameters(lesson):
    x = torch.tensor([[1.0], [-2.0]])
    for model in (lesson.Line((3.0, 0.25)), lesson.linear((3.0, 0.25))):
        assert model(x).tolist() == [[3.25], [-5.75]]
        assert [parameter.item() for parameter in model.parameters()] == [3.0, 0.25]
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert [name for name, _ in lesson.Line((3.0, 0.25)).named_parameters()] == [
        "w",
        "b",
    ]


# 2. Optimizers in one valley
CURVATURE = np.array([1.0, 100.0])
SETTINGS = {  # of each name in OPTIMIZERS
    "SGD, lr 2/101": {"lr": 2 / 101, "momentum": 0.0},
    "SGD, lr 0.03, momentum 0.68": {"lr": 0.03, "momentum": 0.68},
    "Adam, lr 0.1": {"lr": 0.1},
    "Adam, lr 0.01": {"lr": 0.01},
    "Adam, lr 0.003": {"lr": 0.003},
}


@functools.cache
def by_formula(name):
    """500 steps of losses in the valley by each optimizer's published formula, in
    NumPy."""
    lr, share = SETTINGS[name]["lr"], SETTINGS[name].get("momentum")
    point, momentum, square = np.ones(2), np.zeros(2), np.zeros(2)
    losses = [50.5]
    for step in range(1, 501):
        gradient = CURVATURE * point
        if share is not None:  # Polyak (1964); with a share of 0 gradient descent
            momentum = share * momentum + gradient
            point = point - lr * momentum
        else:  # Kingma and Ba (2015), algorithm 1
            momentum = 0.9 * momentum + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            mean, variance = momentum / (1 - 0.9**step), square / (1 - 0.999**step)
            point = point - lr * mean / (np.sqrt(variance) + 1e-8)
        losses.append((CURVATURE * point**2).sum() / 2)
    return np.array(losses)


@functools.cache
def measured(lesson, name, device):
    return lesson.valley_losses(lesson.OPTIMIZERS[name], 500, device)


@pytest.mark.parametrize("name", SETTINGS)
def test_optimizers_follow_their_published_formulas_at_the_rates_of_their_names(
    lesson, device, name
):
    assert list(lesson.OPTIMIZERS) == list(SETTINGS)
    losses = measured(lesson, name, device)
    assert (losses.dtype, losses.shape) == (torch.float64, (501,))
    assert (losses.device.type, losses.requires_grad) == (device, False)
    # u and v round to 2^-53 beside 1, their squares in the loss to less than that
    # beside it.
    np.testing.assert_allclose(losses.cpu(), by_formula(name), rtol=1e-9, atol=1e-14)


def test_the_steps_to_0_01_are_214_28_77_203_and_more_than_250(lesson, device):
    for name, steps in zip(SETTINGS, (214, 28, 77, 203, 251), strict=True):
        found = lesson.steps_to(measured(lesson, name, device)[:251], 0.01)
        low = by_formula(name) <= 0.01  # all from that step on, none just before it
        assert found == steps and not low[steps - 1]
        assert low[steps:].all() or steps == 251
    # The loss 50.5 shrinks by (99/101)^2 a step.
    assert math.ceil(math.log(0.01 / 50.5) / math.log((99 / 101) ** 2)) == 214


def test_at_a_rate_too_large_sgd_explodes_and_adam_does_not(lesson, device):
    sgd = lesson.valley_losses(lambda p: torch.optim.SGD(p, lr=0.03), 100, device)
    # v doubles, and turns
    assert sgd[-1].item() == pytest.approx(50 * 4.0**100, rel=1e-12)
    adam = lesson.valley_losses(lambda p: torch.optim.Adam(p, lr=1.0), 300, device)
    assert adam[-1] < 50.5 and adam.max() < 5050


def test_steps_are_counted_to_where_the_losses_stay_low(lesson, device):
    for losses, steps in (
        ([5.0, 1.0, 4.0, 2.0, 1.5], 3),
        ([5.0, 3.0], 2),
        ([1.0, 0.5], 0),
        ([9.0, 2.0, 1.0], 1),
        ([1.0, 2.5, 2.0], 2),
    ):
        assert lesson.steps_to(torch.tensor(losses, device=device), 2.0) == steps


@pytest.mark.parametrize(
    "lr", [Fraction(1, 100), Fraction(1, 200), Fraction(18, 1000), Fraction(2, 101)]
)
@pytest.mark.parametrize("tolerance", [60, 50.5, 1, 0.125])
def test_the_theory_of_sgd_is_exact_arithmetic(lesson, lr, tolerance):
    u, v, steps = Fraction(1), Fraction(1), 0
    while (u * u + 100 * v * v) / 2 > tolerance:
        u, v = u - lr * u, v - lr * 100 * v
        steps += 1
    assert lesson.sgd_steps_in_theory(float(lr), tolerance) == steps


def test_0_0197_needs_143_steps_where_the_best_factor_needs_214(lesson, device):
    for lr, steps in ((2 / 101, 214), (0.0197, 143)):
        assert lesson.sgd_steps_in_theory(lr, 0.01) == steps
        losses = lesson.valley_losses(
            lambda p, lr=lr: torch.optim.SGD(p, lr=lr), steps, device
        )
        assert lesson.steps_to(losses, 0.01) == steps
    # The larger of the two factors is what counts in the long run, and 99/101 is the
    # smallest.
    factors = [max(abs(1 - lr), abs(1 - 100 * lr)) for lr in np.linspace(0, 0.02, 2001)]
    assert max(abs(1 - 2 / 101), abs(1 - 200 / 101)) == pytest.approx(
        99 / 101, rel=1e-14
    )
    assert min(factors) >= 99 / 101


# 3. A scheduler counts its own steps
@pytest.mark.parametrize("batches", [1, 3])
def test_a_scheduler_stepped_once_an_epoch_waits_30_epochs(lesson, batches):
    rates = lesson.learning_rates(62, batches, once_a_batch=False)
    assert rates == pytest.approx(
        [0.1 * 0.1 ** (e // 30) for e in range(62)], rel=1e-14
    )


@pytest.mark.parametrize("batches", [100, 30, 29, 7, 1])
def test_a_scheduler_stepped_once_a_batch_does_not(lesson, batches):
    rates = lesson.learning_rates(32, batches, once_a_batch=True)
    expected = [0.1 * 0.1 ** (e * batches // 30) for e in range(32)]
    assert rates == pytest.approx(expected, rel=1e-12, abs=0)


def test_the_optimizer_steps_before_its_scheduler(lesson, recwarn):
    for once_a_batch in (False, True):
        assert lesson.learning_rates(2, 2, once_a_batch) == [0.1, 0.1]
    # In the other order torch warns.
    assert not [each for each in recwarn if issubclass(each.category, UserWarning)]


@pytest.mark.parametrize(
    ("told", "sign", "rate"), [({}, 1, 0.01), ({"mode": "max"}, 1, 0.1), ({}, -1, 0.1)]
)
def test_twelve_epochs_each_above_the_last_are_a_plateau_unless_max_is_the_mode(
    told, sign, rate
):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **told)
    for epoch in range(12):
        # still, before the twelfth has been seen
        assert optimizer.param_groups[0]["lr"] == 0.1
        scheduler.step(sign * epoch)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=1e-14)


# 4. Mistake: evaluating in training mode
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


def test_dropout_as_a_function_is_on_unless_told(device):
    ones = torch.ones(40_000, device=device)
    dropped = F.dropout(ones, 0.5)
    assert set(dropped.tolist()) == {0.0, 2.0}
    # 1 - 4 d^2, the share of 2 being 1/2 + d, and d six standard deviations, 0.015, at
    # most.
    assert abs(dropped.var().item() - 1) < 0.001
    assert F.dropout(ones, 0.5, False).equal(ones)


# 5. Mistake: a call left out, or in the wrong place
CALLS = ("zero_grad", "backward", "step")
ORDERS = [order for size in (1, 2, 3) for order in itertools.permutations(CALLS, size)]


@pytest.mark.parametrize(
    "calls", [*ORDERS, ("zero_grad", "backward", "backward", "step")]
)
def test_every_order_of_the_calls_does_what_the_calls_mean(lesson, device, calls):
    start, lr, epochs = (0.5, -1.0), 0.05, 12
    here, gradient = np.array(start), np.zeros(2)
    expected = [here]
    for _ in range(epochs):
        for call in calls:
            if call == "zero_grad":
                gradient = np.zeros(2)
            elif call == "backward":
                gradient = gradient + derivatives(X) @ (here - [SLOPE, 0])
            else:
                here = here - lr * gradient
        expected.append(here)
    x = rows(X, device)
    path = lesson.path_of_calls(calls, x, SLOPE * x, start, lr, epochs)
    assert {type(number) for point in path for number in point} == {float}
    # Twelve steps of numbers below 10, each rounded to float32.
    np.testing.assert_allclose(path, expected, rtol=0, atol=100 * EPS32)


def test_three_orders_out_of_the_six_never_move(lesson, device):
    x, y = lesson.samples(device)
    path = lesson.path_of_calls(CALLS, x, y, (0.0, 0.0), 0.05, 100)
    np.testing.assert_allclose(path, bowl_path((0.0, 0.0), 0.05, 100), atol=20 * EPS32)
    # Between backward and the next step there must be no zero_grad, round the clock.
    assert {
        calls
        for calls in itertools.permutations(CALLS)
        if lesson.path_of_calls(calls, x, y, (0.0, 0.0), 0.05, 5)[-1] != (0, 0)
    } == {
        ("zero_grad", "backward", "step"),
        ("backward", "step", "zero_grad"),
        ("step", "zero_grad", "backward"),
    }


# 6. Mistake: layers in a Python list
def test_layers_in_a_list_are_not_trained(lesson):
    layer, last = 10 * 10 + 10, 10 + 1
    assert lesson.trainable(lesson.Stack(list)) == last == 11
    assert lesson.trainable(lesson.Stack(nn.ModuleList)) == 3 * layer + last == 341
    frozen = lesson.Stack(nn.ModuleList)
    frozen.last.bias.requires_grad_(False)
    assert lesson.trainable(frozen) == 340


@pytest.mark.parametrize("container", [list, nn.ModuleList])
def test_a_stack_has_three_layers_of_10_and_one_of_1_in_either_container(
    lesson, container
):
    stack = lesson.Stack(container)
    assert type(stack.hidden) is container
    shapes = [
        (layer.in_features, layer.out_features) for layer in [*stack.hidden, stack.last]
    ]
    assert shapes == [(10, 10), (10, 10), (10, 10), (10, 1)]


# 7. Mistake: the mean of batch means
@pytest.mark.parametrize(
    ("n", "wrong", "size"), [(10_000, 16, 64), (10, 3, 4), (8, 1, 4)]
)
def test_the_mean_of_batch_means_weighs_the_last_batch_too_much(
    lesson, device, n, wrong, size
):
    correct = np.arange(n) < n - wrong
    means = [correct[i : i + size].mean() for i in range(0, n, size)]
    measured = lesson.mean_of_means_and_mean(torch.tensor(correct, device=device), size)
    assert measured == pytest.approx((np.mean(means), correct.mean()), rel=1e-14)
    assert {type(mean) for mean in measured} == {float}
    if n == 10_000:
        assert measured == pytest.approx((156 / 157, 0.9984), rel=1e-14)
    assert (measured[0] == measured[1]) == (n % size == 0)


def test_eval_goes_on_recording_and_no_grad_does_not():
    model, x = nn.Linear(2, 1).eval(), torch.ones(3, 2)
    assert model(x).requires_grad
    with torch.no_grad():
        assert not model(x).requires_grad


# 8. Mistake: keeping the loss keeps its graph
def test_a_kept_loss_keeps_two_nodes_a_step_and_a_number_none(lesson):
    # A product and a sum each step, and the accumulation into w once.
    for steps in (1, 5, 40):
        assert lesson.nodes_kept(steps, as_number=False) == 2 * steps + 1
        assert lesson.nodes_kept(steps, as_number=True) == 0
    assert lesson.nodes_kept(100, as_number=False) == 201


def test_a_metric_divided_by_itself_says_100_unless_all_is_wrong():
    for right, percent in ((10, 100), (1, 100)):
        assert 100 * right / right == percent
    with pytest.raises(ZeroDivisionError):
        0 / 0  # noqa: B018


# The picture
def test_the_picture_shows_the_losses_of_all_optimizers(lesson, device, monkeypatch):
    losses = {
        make: measured(lesson, name, device) for name, make in lesson.OPTIMIZERS.items()
    }
    monkeypatch.setattr(
        lesson, "valley_losses", lambda make, n, device: losses[make][: n + 1]
    )
    (axes,) = lesson.figure(device).axes
    assert axes.get_yscale() == "log"
    assert [line.get_label() for line in axes.lines] == list(SETTINGS)
    for line in axes.lines:
        expected = by_formula(line.get_label())[:401]
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6, atol=1e-13)
