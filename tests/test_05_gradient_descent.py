"""What lesson 05 claims."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

X, Y = [0.5, -1.0, 3.0], [2.0, 1.0, -4.0]  # no line through 0 fits: the loss stays above 0


def tensor(numbers, device):
    return torch.tensor(numbers, device=device, dtype=torch.float64)


def rational_path(x, y, lr, steps):
    """The path in exact arithmetic, with the gradient from the expanded parabola."""
    x, y, lr = [Fraction(n) for n in x], [Fraction(n) for n in y], Fraction(lr)
    a = sum(p * p for p in x) / len(x)  # mean((w x - y)^2) = a w^2 - 2 b w + c
    b = sum(p * q for p, q in zip(x, y, strict=True)) / len(x)
    ws = [Fraction(0)]
    for _ in range(steps):
        ws.append(ws[-1] - lr * (2 * a * ws[-1] - 2 * b))
    return [float(w) for w in ws]


def test_raises_answers_for_a_runtime_error_alone(lesson):
    def fail(error):
        raise error

    assert lesson.raises(lambda: fail(RuntimeError())) is True
    assert lesson.raises(lambda: None) is False
    with pytest.raises(KeyError):
        lesson.raises(lambda: fail(KeyError()))


def test_the_data_is_y_equals_2_x(lesson, device):
    x, y = lesson.data(device)
    assert (x.tolist(), y.tolist()) == ([1, 2, 3, 4], [2, 4, 6, 8])
    for values in (x, y):
        assert (values.dtype, values.device.type) == (torch.float64, device)


def test_the_first_gradient_is_minus_30_and_the_first_w_0_30(lesson, device):
    x, y = lesson.data(device)
    assert lesson.gradient(x, y, 0.0).item() == -30
    assert lesson.path_in_torch(x, y, 0.01, 1) == [0, pytest.approx(0.30, rel=1e-15)]


@pytest.mark.parametrize("w", [0.0, -1.5, 4.0])
def test_the_gradient_is_the_slope_of_the_parabola(lesson, device, w):
    x, y = np.array(X), np.array(Y)
    up, down = (np.mean(((w + h) * x - y) ** 2) for h in (1, -1))
    slope = pytest.approx((up - down) / 2, rel=1e-14)  # exact: a parabola has no third derivative
    assert lesson.gradient(x, y, w) == slope
    assert lesson.gradient(tensor(X, device), tensor(Y, device), w).item() == slope


@pytest.mark.parametrize(("x", "y"), [(X, Y), ([1, 2, 3, 4], [2, 4, 6, 8])])
@pytest.mark.parametrize("lr", [0.01, 0.125])
def test_three_ways_take_one_path_step_by_step(lesson, device, x, y, lr):
    expected = pytest.approx(rational_path(x, y, lr, 25), rel=1e-13)
    arrays = np.array(x, float), np.array(y, float)
    tensors = tensor(x, device), tensor(y, device)
    assert lesson.path_in_numpy(lesson.gradient, *arrays, lr, 25) == expected
    assert lesson.path_in_torch(*tensors, lr, 25) == expected
    assert lesson.path_by_autograd(*tensors, lr, 25) == expected


@pytest.mark.parametrize("lr", [0.01, 1 / 15, 0.1, 0.15])
def test_the_path_is_known_beforehand(lesson, device, lr):
    assert lesson.curvature(lesson.data(device)[0]) == 15
    ws = [lesson.closed_form(2, 15, lr, k) for k in range(21)]
    assert ws == pytest.approx(rational_path([1, 2, 3, 4], [2, 4, 6, 8], lr, 20), rel=1e-12)


def test_curvature_and_closed_form_hold_for_other_data(lesson, device):
    x, slope, lr = [1.0, -2.0, 4.0], -3.0, 0.04
    assert lesson.curvature(tensor(x, device)) == pytest.approx(2 * (1 + 4 + 16) / 3, rel=1e-15)
    expected = rational_path(x, [slope * p for p in x], lr, 9)
    ws = [lesson.closed_form(slope, lesson.curvature(tensor(x, device)), lr, k) for k in range(10)]
    assert ws == pytest.approx(expected, rel=1e-12)


def test_twenty_steps_take_f_of_5_from_0_to_9_612(lesson, device):
    ws = lesson.path_by_autograd(*lesson.data(device), 0.01, 20)
    assert 5 * ws[0] == 0
    assert 5 * ws[-1] == pytest.approx(float(10 * (1 - Fraction(85, 100) ** 20)), rel=1e-13)
    assert f"{5 * ws[-1]:.3f}" == "9.612"


@pytest.mark.parametrize(("share", "converges"), [(0.01, 1), (0.99, 1), (1.01, 0), (-0.01, 0)])
def test_it_converges_if_and_only_if_lr_is_between_0_and_2_15(lesson, device, share, converges):
    ws = lesson.path_in_numpy(lesson.gradient, *lesson.data(), share * 2 / 15, 800)
    assert (abs(ws[-1] - 2) < 1e-3) == converges
    assert (abs(ws[-1] - 2) > 100) != converges


def test_at_both_limits_the_distance_stays(lesson):
    assert set(lesson.path_in_numpy(lesson.gradient, *lesson.data(), 0.0, 5)) == {0}
    ws = lesson.path_in_numpy(lesson.gradient, *lesson.data(), 2 / 15, 5)
    assert ws == pytest.approx([0, 4, 0, 4, 0, 4], abs=1e-12)


def test_the_best_rate_arrives_in_one_step_and_larger_ones_overshoot(lesson):
    def first(lr):
        return lesson.path_in_numpy(lesson.gradient, *lesson.data(), lr, 1)[1]

    assert first(1 / 15) == pytest.approx(2, rel=1e-15)
    assert first(0.066) < 2 < first(0.067)


@pytest.mark.parametrize("lr", [0.01, 0.05, 1 / 15, 0.1, 0.13])
@pytest.mark.parametrize("tolerance", [0.3, 1e-3, 1e-7])
def test_the_number_of_steps_is_known_beforehand(lesson, lr, tolerance):
    ws = lesson.path_in_numpy(lesson.gradient, *lesson.data(), lr, 800)
    count = 0
    while abs(Fraction(ws[count]) - 2) > Fraction(tolerance):
        count += 1
    assert lesson.steps_taken(ws, 2, tolerance) == count
    assert lesson.steps_needed(1 - 15 * lr, 2, tolerance) == count


def test_steps_of_short_paths_and_other_targets(lesson):
    assert lesson.steps_taken([5.0, 4.0, 3.0, 2.0], 2.5, 0.5) == 2  # exactly at the tolerance
    assert lesson.steps_taken([5.0, 4.0], 0, 3.9) == math.inf
    assert lesson.steps_needed(0.5, 8, 1) == 3
    assert lesson.steps_needed(0.5, 8, 0.9) == 4
    assert lesson.steps_needed(0.5, 8, 8 * 0.5**29) == 29  # exactly at the tolerance
    assert lesson.steps_needed(-0.5, 8, 8) == 0
    assert lesson.steps_needed(0, 8, 1) == 1
    assert [lesson.steps_needed(factor, 8, 1) for factor in (1, -1, 1.5)] == [math.inf] * 3


def test_the_hessian_and_its_limits_are_numpys(lesson, device):
    for numbers in ([1.0, 2.0, 3.0, 4.0], [-1.0, 0.5, 7.0]):
        x = np.array(numbers)
        expected = 2 * np.array([[np.mean(x * x), np.mean(x)], [np.mean(x), 1]])
        hessian = lesson.hessian(tensor(numbers, device))
        assert (hessian.dtype, hessian.device.type) == (torch.float64, device)
        np.testing.assert_allclose(hessian.cpu(), expected, rtol=1e-14)
        # The roots of lambda^2 - trace lambda + determinant.
        smallest, largest = sorted(np.roots([1, -np.trace(expected), np.linalg.det(expected)]))
        limits = 2 / largest, largest / smallest
        assert lesson.limit_and_condition(hessian) == pytest.approx(limits, rel=1e-10)


@pytest.mark.parametrize("lr", [0.02, 0.11, 0.12])
def test_the_path_in_the_bowl_is_known_beforehand(lesson, device, lr):
    x, y = np.array(X), np.array(Y)
    design = np.stack([x, np.ones(3)], axis=1)
    minimum = np.linalg.lstsq(design, y, rcond=None)[0]
    theta = np.zeros(2)
    for _ in range(30):
        theta = theta - lr * 2 / 3 * design.T @ (design @ theta - y)
    arrived = lesson.descend(tensor(X, device), tensor(Y, device), lr, 30)
    assert arrived.dtype == torch.float64
    np.testing.assert_allclose(arrived.cpu(), theta, rtol=1e-11)
    hessian = lesson.hessian(tensor(X, device))
    predicted = lesson.predicted_descent(hessian, tensor(minimum, device), lr, 30)
    np.testing.assert_allclose(predicted.cpu(), theta, rtol=1e-10)


def test_the_steepest_direction_sets_the_limit_and_the_flattest_the_pace(lesson, device):
    x, y = lesson.data(device)
    limit, condition = lesson.limit_and_condition(lesson.hessian(x))
    below, above = (lesson.descend(x, y, share * limit, 2000) for share in (0.95, 1.05))
    np.testing.assert_allclose(below.cpu(), [2, 0], atol=1e-9)
    assert above.norm() > 1e6
    # At half the limit lr = 1 / lambda_max the flattest direction shrinks by 1 - 1 / condition.
    minimum = tensor([2, 0], device)
    far, near = (lesson.descend(x, y, limit / 2, steps) - minimum for steps in (50, 90))
    assert (near.norm() / far.norm()).item() == pytest.approx((1 - 1 / condition) ** 40, rel=1e-9)


@pytest.mark.parametrize("lr", [0.1, 0.5, 1.25])
def test_without_reset_the_descent_is_a_pendulum(lesson, device, lr):
    ws = lesson.halved_square(lr, 200, reset=False, device=device)
    assert lesson.pendulum(lr, 200) == pytest.approx(ws, abs=1e-10)
    # Its solution: cos(k t) - tan(t / 2) sin(k t) with cos(t) = 1 - lr / 2.
    t = math.acos(1 - lr / 2)
    solution = [math.cos(k * t) - math.tan(t / 2) * math.sin(k * t) for k in range(201)]
    assert ws == pytest.approx(solution, abs=1e-10)
    assert 0.9 < max(map(abs, ws[150:])) <= 2 / math.sqrt(4 - lr) + 1e-10


def test_the_largest_swing_at_lr_0_1_is_1_0104(lesson, device):
    ws = lesson.halved_square(0.1, 200, reset=False, device=device)
    t = math.acos(1 - 0.1 / 2)
    swing = max(abs(math.cos(k * t) - math.tan(t / 2) * math.sin(k * t)) for k in range(150, 201))
    assert max(map(abs, ws[150:])) == pytest.approx(swing, rel=1e-9)
    assert f"{swing:.4f}" == "1.0104"


@pytest.mark.parametrize("lr", [0.1, 1.5])
def test_with_reset_it_calms_down(lesson, device, lr):
    ws = lesson.halved_square(lr, 200, reset=True, device=device)
    assert ws == pytest.approx([(1 - lr) ** k for k in range(201)], rel=1e-12)


def test_dot_then_mean_is_n_times_too_large(lesson):
    x, y = np.array(X), np.array(Y)
    for w in (0.0, 2.5):
        right = lesson.gradient(x, y, w)
        assert lesson.dot_then_mean(x, y, w) == pytest.approx(3 * right, rel=1e-14)
    x, y = (values.numpy() for values in lesson.data())
    assert lesson.dot_then_mean(x, y, 0.0) == -120


def test_dot_then_mean_looks_better_and_then_explodes(lesson):
    x, y = (values.numpy() for values in lesson.data())
    for lr, rel in ((0.01, 1e-12), (0.05, 1e-12)):
        wrong = lesson.path_in_numpy(lesson.dot_then_mean, x, y, lr, 20)[-1]
        assert wrong == pytest.approx(float(2 * (1 - (1 - 60 * Fraction(lr)) ** 20)), rel=rel)
    assert wrong < -2e6


def test_an_update_inside_the_graph_raises(lesson, device):
    x, y = tensor(X, device), tensor(Y, device)
    assert lesson.raises(lambda: lesson.updated(x, y, 0.01, recorded=True))
    expected = pytest.approx(rational_path(X, Y, 0.01, 1)[1], rel=1e-14)
    assert lesson.updated(x, y, 0.01, recorded=False) == expected


def test_the_picture_shows_the_paths_at_four_rates(lesson, device):
    *parabolas, losses = lesson.figure(device).axes
    assert [losses.get_yscale(), len(losses.lines)] == ["log", 4]
    for axes, loss, (name, lr) in zip(parabolas, losses.lines, lesson.RATES.items(), strict=True):
        assert axes.get_title() == f"{name}\nlr {lr}" and loss.get_label() == f"lr {lr}"
        parabola, path = axes.lines
        w, height = parabola.get_data()
        np.testing.assert_allclose(height, 7.5 * (w - 2) ** 2)
        ws = rational_path([1, 2, 3, 4], [2, 4, 6, 8], lr, 8)
        expected = [7.5 * float(2 * (1 - 15 * Fraction(lr)) ** k) ** 2 for k in range(9)]
        np.testing.assert_allclose(path.get_xdata(), ws, rtol=1e-9)
        for line in (path, loss):  # w rounds to 1e-15 beside 2, its distance to 2 as much
            np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-3)
            assert line.get_color() == path.get_color()
    small, good, large, diverging = lesson.RATES.values()
    assert 0 < small < good < 1 / 15 < large < 2 / 15 < diverging
