"""What lesson 05 claims."""

import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import assert_values, printed_if_tripled, tensor64

# no line through 0 fits: the loss stays above 0
X, Y = [0.5, -1.0, 3.0], [2.0, 1.0, -4.0]
LINE = [1, 2, 3, 4], [2, 4, 6, 8]  # the lesson's own


def rational_path(x, y, lr, steps):
    """The path in exact arithmetic, with the gradient from the expanded parabola."""
    x, y, lr = [Fraction(n) for n in x], [Fraction(n) for n in y], Fraction(lr)
    a = sum(p * p for p in x) / len(x)  # mean((w x - y)^2) = a w^2 - 2 b w + c
    b = sum(p * q for p, q in zip(x, y, strict=True)) / len(x)
    ws = [Fraction(0)]
    for _ in range(steps):
        ws.append(ws[-1] - lr * (2 * a * ws[-1] - 2 * b))
    return [float(w) for w in ws]


def roots(trace, determinant):
    """The roots of lambda^2 - trace lambda + determinant to 50 digits, sorted."""
    with localcontext() as context:
        context.prec = 50
        half = Decimal(trace.numerator) / trace.denominator / 2
        product = Decimal(determinant.numerator) / determinant.denominator
        root = (half**2 - product).sqrt()
        return [float(half - root), float(half + root)]


# 1. By hand in NumPy, by hand in torch, by autograd: one path
def test_the_data_is_y_equals_2_x(lesson, device):
    x, y = lesson.points(device)
    assert_values(x, LINE[0], device)
    assert_values(y, LINE[1], device)


def test_the_first_gradient_is_minus_30_and_w_becomes_0_30_and_0_555(lesson, device):
    x, y = lesson.points(device)
    assert lesson.loss_gradient(x, y, 0.0).item() == -30
    path = lesson.path_in_torch(x, y, 0.01, 2)
    assert path == pytest.approx([0, 0.30, 0.555], rel=1e-15)


@pytest.mark.parametrize("w", [0.0, -1.5])
def test_the_gradient_is_the_slope_of_the_parabola(lesson, device, w):
    x, y = np.array(X), np.array(Y)
    up, down = (np.mean(((w + h) * x - y) ** 2) for h in (1, -1))
    # exact: a parabola has no third derivative
    slope = pytest.approx((up - down) / 2, rel=1e-14)
    assert lesson.loss_gradient(x, y, w) == slope
    gradient = lesson.loss_gradient(tensor64(X, device), tensor64(Y, device), w)
    assert gradient.item() == slope


@pytest.mark.parametrize(("x", "y"), [(X, Y), LINE])
@pytest.mark.parametrize("lr", [0.01, 0.125])
def test_three_ways_take_one_path_step_by_step(lesson, device, x, y, lr):
    expected = pytest.approx(rational_path(x, y, lr, 25), rel=1e-13)
    arrays = np.array(x, float), np.array(y, float)
    tensors = tensor64(x, device), tensor64(y, device)
    assert lesson.path_in_numpy(lesson.loss_gradient, *arrays, lr, 25) == expected
    assert lesson.path_in_torch(*tensors, lr, 25) == expected
    assert lesson.path_by_autograd(*tensors, lr, 25) == expected


def test_path_in_numpy_follows_whatever_gradient_it_is_given(lesson):
    # w - 0.5 (x w - y): from 0 it halves its distance to y = 4, for x = 1.
    path = lesson.path_in_numpy(lambda x, y, w: x * w - y, 1.0, 4.0, 0.5, 4)
    assert path == [0, 2, 3, 3.5, 3.75]


def test_w_is_made_where_x_is(lesson, device):
    x, y = lesson.points(device)
    bowl = lesson.hessian_by_hand(x)
    with torch.device("meta"):  # whatever is made without a device has no value here
        for path in (lesson.path_in_torch, lesson.path_by_autograd):
            assert path(x, y, 0.01, 1)[1] == pytest.approx(0.3, rel=1e-15)
        assert lesson.points()[0].tolist() == LINE[0]
        arrived = lesson.descend_line(x, y, 0.01, 1)
        predicted = lesson.predicted_descent(bowl, arrived, 0.01, 1)
    assert arrived.device.type == predicted.device.type == device


# 2. On a parabola the path is known
@pytest.mark.parametrize("lr", [0.01, 1 / 15, 0.15])
def test_the_path_is_known_beforehand(lesson, device, lr):
    assert lesson.curvature(lesson.points(device)[0]) == 15
    ws = [lesson.closed_form(2, 15, lr, k) for k in range(21)]
    assert ws == pytest.approx(rational_path(*LINE, lr, 20), rel=1e-12)


def test_curvature_and_closed_form_hold_for_other_data(lesson, device):
    x, slope, lr = [1.0, -2.0, 4.0], -3.0, 0.04
    curvature = lesson.curvature(tensor64(x, device))
    assert curvature == pytest.approx(2 * 21 / 3, rel=1e-15)
    expected = rational_path(x, [slope * p for p in x], lr, 9)
    ws = [lesson.closed_form(slope, curvature, lr, k) for k in range(10)]
    assert ws == pytest.approx(expected, rel=1e-12)


def test_twenty_steps_take_f_of_5_from_0_to_9_612(lesson, device):
    ws = lesson.path_by_autograd(*lesson.points(device), 0.01, 20)
    assert 5 * ws[0] == 0
    expected = float(10 * (1 - Fraction(85, 100) ** 20))
    assert 5 * ws[-1] == pytest.approx(expected, rel=1e-13)
    assert f"{expected:.3f}" == "9.612"


def test_the_closed_form_does_not_come_from_the_descent(lesson):
    wrong = ("path_in_numpy", "path_in_torch", "path_by_autograd")
    printed = printed_if_tripled(lesson, 2, *wrong)
    path = rational_path(*LINE, 0.01, 20)
    numbers = "  ".join(f"{path[k]:.5f}" for k in (0, 1, 2, 5, 10, 20))
    assert f"closed form {numbers}\n" in printed


# 3. The learning rate decides
@pytest.mark.parametrize("share", [0.01, 0.99, 1.01, -0.01])
def test_it_converges_if_and_only_if_lr_is_between_0_and_2_15(lesson, share):
    x, y = map(np.array, LINE)
    ws = lesson.path_in_numpy(lesson.loss_gradient, x, y, share * 2 / 15, 800)
    assert abs(ws[-1] - 2) < 1e-3 if 0 < share < 1 else abs(ws[-1] - 2) > 100


def test_at_both_limits_the_distance_stays(lesson):
    x, y = map(np.array, LINE)
    assert set(lesson.path_in_numpy(lesson.loss_gradient, x, y, 0.0, 5)) == {0}
    ws = lesson.path_in_numpy(lesson.loss_gradient, x, y, 2 / 15, 5)
    assert ws == pytest.approx([0, 4, 0, 4, 0, 4], abs=1e-12)


def test_the_best_rate_arrives_in_one_step_and_larger_ones_overshoot(lesson):
    x, y = map(np.array, LINE)
    for lr, first in ((1 / 15, 2), (0.066, 0.066 * 30), (0.067, 0.067 * 30)):
        ws = lesson.path_in_numpy(lesson.loss_gradient, x, y, lr, 1)
        assert ws[1] == pytest.approx(first, rel=1e-15)


@pytest.mark.parametrize("lr", [0.01, 1 / 15, 0.1, 0.13])
@pytest.mark.parametrize("tolerance", [0.3, 1e-7])
def test_the_number_of_steps_is_known_beforehand(lesson, lr, tolerance):
    x, y = map(np.array, LINE)
    ws = lesson.path_in_numpy(lesson.loss_gradient, x, y, lr, 800)
    within = (abs(Fraction(w) - 2) <= Fraction(tolerance) for w in ws)
    count = list(within).index(True)
    assert lesson.steps_taken(ws, 2, tolerance) == count
    assert lesson.steps_needed(1 - 15 * lr, 2, tolerance) == count


def test_it_takes_47_steps_at_lr_0_01_and_149_at_0_13(lesson):
    for factor, steps in ((0.85, 47), (-0.95, 149)):
        assert math.ceil(math.log(0.001 / 2) / math.log(abs(factor))) == steps
        assert lesson.steps_needed(factor, 2, 0.001) == steps


def test_the_steps_of_theory_are_not_counted_on_the_path(lesson):
    printed = printed_if_tripled(lesson, 3, "steps_taken")
    for taken, theory in ((47, 47), (1, 1), (11, 11), (149, 149)):
        assert f"at {3 * taken} (theory {theory})\n" in printed
    assert printed.count("at inf (theory inf)\n") == 2


def test_steps_taken_counts_to_the_first_within_the_tolerance(lesson):
    # exactly at the tolerance
    assert lesson.steps_taken([5.0, 4.0, 3.0, 2.0], 2.5, 0.5) == 2
    assert lesson.steps_taken([5.0, 2.0, 9.0, 2.0], 2.0, 0.5) == 1
    assert lesson.steps_taken([0.0, 1.0], -0.25, 0.25) == 0
    assert lesson.steps_taken([5.0, 4.0], 0, 3.9) == math.inf


def test_steps_needed_counts_powers_of_the_factor(lesson):
    assert lesson.steps_needed(0.5, 8, 1) == 3
    assert lesson.steps_needed(0.5, 8, 0.9) == 4
    assert lesson.steps_needed(0.5, 8, 8 * 0.5**29) == 29  # exactly at the tolerance
    for factor in (1, -1, 1.5):
        assert lesson.steps_needed(factor, 8, 1) == math.inf


# 4. Mistake: dot() and then mean()
def test_dot_then_mean_is_n_times_too_large(lesson):
    x, y = np.array(X), np.array(Y)
    for w in (0.0, 2.5):
        derivative = sum(2 * p * (w * p - q) for p, q in zip(X, Y, strict=True)) / 3
        assert lesson.dot_then_mean(x, y, w) == pytest.approx(3 * derivative, rel=1e-14)
    assert lesson.dot_then_mean(*map(np.array, LINE), 0.0) == -120


def test_dot_then_mean_looks_better_and_then_explodes(lesson):
    x, y = map(np.array, LINE)
    for lr in (0.01, 0.05):
        wrong = lesson.path_in_numpy(lesson.dot_then_mean, x, y, lr, 20)[-1]
        right = lesson.path_in_numpy(lesson.loss_gradient, x, y, lr, 20)[-1]
        expected = float(2 * (1 - (1 - 60 * Fraction(lr)) ** 20))
        assert wrong == pytest.approx(expected, rel=1e-12)
        assert (abs(wrong - 2) < abs(right - 2)) == (lr == 0.01)
    assert f"{expected:.0f}" == "-2097150"


# 5. Second derivatives
def test_the_second_derivative_of_the_cube_is_6_x(lesson, device):
    x = tensor64([[-2.0, 0.5], [3.0, 0.0]], device)
    assert_values(lesson.cube(x), [[-8, 0.125], [27, 0]], device)
    assert_values(lesson.second_derivative(lesson.cube, x), [[-12, 3], [18, 0]], device)
    sine = -np.sin(x.cpu().numpy())
    assert_values(lesson.second_derivative(torch.sin, x), sine, device)
    assert not x.requires_grad and x.grad is None  # what it was given is left alone


def test_the_second_derivative_of_a_linear_function_is_0(lesson, device):
    x = tensor64([1.0, -2.0], device)
    for function in (lambda x: 3 * x - 1, torch.clone):
        second = lesson.second_derivative(function, x)
        assert_values(second, [0, 0], device, rtol=0)
        assert not second.requires_grad
    assert_values(lesson.second_derivative(torch.square, x), [2, 2], device, rtol=0)


def test_a_gradient_can_be_differentiated_again_if_it_was_recorded_and_depends_on_x():
    x = torch.tensor(2.0, requires_grad=True)
    for y, create_graph in ((x**3, False), (3 * x, True)):
        (first,) = torch.autograd.grad(y, x, create_graph=create_graph)
        assert not first.requires_grad
        with pytest.raises(RuntimeError, match="element 0 of tensors does not require"):
            torch.autograd.grad(first, x)


@pytest.mark.parametrize("line", [[0.0, 0.0], [-1.5, 40.0]])
def test_the_hessian_by_autograd_is_that_of_exact_arithmetic(lesson, device, line):
    x, n = [Fraction(number) for number in X], len(X)
    squares, mixed = 2 * sum(p * p for p in x) / n, 2 * sum(x) / n
    expected = [[float(squares), float(mixed)], [float(mixed), 2]]
    arguments = (tensor64(numbers, device) for numbers in (X, Y, line))
    assert_values(lesson.hessian_by_autograd(*arguments), expected, device, rtol=1e-14)


def test_second_derivatives_by_autograd_are_not_those_by_calculus(lesson):
    wrong = ("second_derivative", "hessian_by_autograd")
    lines = printed_if_tripled(lesson, 5, *wrong).splitlines()
    assert "   6 x                         [6.00, 12.00, 18.00]" in lines
    assert "   d2 mean((w x - y)^2)/dw2    45, and 2 mean(x^2) = 15" in lines


# 6. Two parameters
@pytest.mark.parametrize("numbers", [[1.0, 2.0, 3.0, 4.0], [-1.0, 0.5, 7.0]])
def test_the_hessian_and_its_limits_are_those_of_exact_arithmetic(
    lesson, device, numbers
):
    x, n = [Fraction(number) for number in numbers], len(numbers)
    squares, mixed = 2 * sum(p * p for p in x) / n, 2 * sum(x) / n
    h = lesson.hessian_by_hand(tensor64(numbers, device))
    expected = [[float(squares), float(mixed)], [float(mixed), 2]]
    assert_values(h, expected, device, rtol=1e-15)
    smallest, largest = roots(squares + 2, squares * 2 - mixed**2)
    # Rounding moves an eigenvalue by a few 2^-53 of the largest one.
    by_hand = pytest.approx((smallest, largest), rel=2e-13)
    assert lesson.eigenvalues_by_hand(h) == by_hand
    limits = 2 / largest, largest / smallest
    assert lesson.limit_and_condition(h) == pytest.approx(limits, rel=2e-13)


def test_the_limit_of_the_lesson_is_0_1198_and_the_condition_55_78(lesson, device):
    h = lesson.hessian_by_hand(lesson.points(device)[0])
    assert h.tolist() == [[15, 5], [5, 2]]
    smallest, largest = roots(Fraction(15 + 2), Fraction(15 * 2 - 5 * 5))
    assert [f"{smallest:.5f}", f"{largest:.5f}"] == ["0.29939", "16.70061"]
    limit, condition = lesson.limit_and_condition(h)
    assert [f"{limit:.4f}", f"{condition:.2f}"] == ["0.1198", "55.78"]


@pytest.mark.parametrize(
    ("h", "eigenvalues"), [([[6, 2], [2, 9]], (5, 10)), ([[1, 2], [2, -2]], (-3, 2))]
)
def test_the_eigenvalues_are_the_roots_of_a_parabola(lesson, device, h, eigenvalues):
    assert lesson.eigenvalues_by_hand(tensor64(h, device)) == eigenvalues
    smallest, largest = eigenvalues
    limits = pytest.approx((2 / largest, largest / smallest), rel=1e-14)
    assert lesson.limit_and_condition(tensor64(h, device)) == limits


@pytest.mark.parametrize(("lr", "steps"), [(0.02, 30), (0.12, 7)])
def test_the_path_in_the_bowl_is_known_beforehand(lesson, device, lr, steps):
    x, y = np.array(X), np.array(Y)
    design = np.stack([x, np.ones(3)], axis=1)
    minimum = np.linalg.lstsq(design, y, rcond=None)[0]
    theta = np.zeros(2)
    for _ in range(steps):
        theta = theta - lr * 2 / 3 * design.T @ (design @ theta - y)
    arrived = lesson.descend_line(tensor64(X, device), tensor64(Y, device), lr, steps)
    h = lesson.hessian_by_hand(tensor64(X, device))
    predicted = lesson.predicted_descent(h, tensor64(minimum, device), lr, steps)
    assert_values(arrived, theta, device, rtol=1e-11, atol=1e-14)
    assert_values(predicted, theta, device, rtol=1e-11, atol=1e-14)


def test_the_prediction_in_the_bowl_is_not_the_descent(lesson):
    lines = printed_if_tripled(lesson, 6, "descend_line").splitlines()
    assert "w    5.748, b   0.740   predicted    1.916,   0.247" in lines[-3]
    assert lines[-2].endswith("predicted    1.960,   0.118")
    assert lines[-1].endswith("predicted -208.468, -71.485")


def test_the_eigenvalues_by_hand_are_not_the_librarys(lesson):
    printed = printed_if_tripled(lesson, 6, "limit_and_condition")
    assert "   eigenvalues 0.29939 and 16.70061\n" in printed


def test_the_steepest_direction_sets_the_limit_and_the_flattest_the_pace(
    lesson, device
):
    x, y = lesson.points(device)
    limit, condition = lesson.limit_and_condition(lesson.hessian_by_hand(x))
    below, above = (lesson.descend_line(x, y, k * limit, 1000) for k in (0.95, 1.05))
    assert_values(below, [2, 0], device, rtol=0, atol=1e-9)
    assert above.norm() > 1e6
    # At lr = 1 / lambda_max the flattest direction shrinks by 1 - 1 / condition.
    far, near = (
        lesson.descend_line(x, y, limit / 2, steps) - tensor64([2, 0], device)
        for steps in (50, 90)
    )
    shrunk = (near.norm() / far.norm()).item()
    assert shrunk == pytest.approx((1 - 1 / condition) ** 40, rel=1e-9)


# What the chapter says of a descent without the reset
@pytest.mark.parametrize("lr", [0.1, 1.25, 3.9])
def test_without_the_reset_w_swings_and_comes_near_its_bound(lr):
    w = torch.ones((), dtype=torch.float64, requires_grad=True)
    ws = [1.0]
    for _ in range(500):
        (w**2 / 2).backward()
        with torch.no_grad():
            w -= lr * w.grad
        ws.append(w.item())
    follows = [(2 - lr) * now - before for before, now in itertools.pairwise(ws)]
    assert ws[2:] == pytest.approx(follows[:-1], abs=1e-10)
    # Its solution is cos(k t) - tan(t / 2) sin(k t) with cos(t) = 1 - lr / 2, a wave of
    # height 1 / cos(t / 2).
    t, highest = math.acos(1 - lr / 2), max(map(abs, ws))
    assert 2 / math.sqrt(4 - lr) == pytest.approx(1 / math.cos(t / 2), rel=1e-12)
    assert 0.99 * 2 / math.sqrt(4 - lr) < highest <= 2 / math.sqrt(4 - lr) * (1 + 1e-9)


# The picture
def test_the_picture_shows_the_paths_at_four_rates(lesson, device):
    *parabolas, losses = lesson.figure(device).axes
    assert losses.get_yscale() == "log"
    for axes, loss, (name, lr) in zip(
        parabolas, losses.lines, lesson.RATES.items(), strict=True
    ):
        assert axes.get_title() == f"{name}\nlr {lr}" and loss.get_label() == f"lr {lr}"
        _, path = axes.lines
        expected = rational_path(*LINE, lr, 8)
        np.testing.assert_allclose(path.get_xdata(), expected, rtol=1e-9)
        heights = [7.5 * (w - 2) ** 2 for w in expected]
        # w rounds to 1e-15 beside 2, its distance to 2 as much
        np.testing.assert_allclose(path.get_ydata(), heights, rtol=1e-3)
        np.testing.assert_allclose(loss.get_ydata(), heights, rtol=1e-3)
    small, good, large, diverging = lesson.RATES.values()
    assert 0 < small < good < 1 / 15 < large < 2 / 15 < diverging
