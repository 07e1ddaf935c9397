"""What lesson 05 claims."""

import math
import re
import warnings
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import (
    ROOT,
    assert_values,
    loud_messages,
    mended,
    printed_if_tripled,
    tensor64,
)

CHAPTER = ROOT / "lessons" / "05_gradient_descent.md"
# no line through 0 fits: the loss stays above 0
X, Y = [0.5, -1.0, 3.0], [2.0, 1.0, -4.0]
RECEIPTS = [1, 2, 3, 4], [2, 4, 6, 8]  # the lesson's own


def rational_walk(x, y, lr, steps):
    """The walk in exact arithmetic, with the slope from the expanded parabola."""
    x, y, lr = [Fraction(n) for n in x], [Fraction(n) for n in y], Fraction(lr)
    a = sum(p * p for p in x) / len(x)  # mean((w x - y)^2) = a w^2 - 2 b w + c
    b = sum(p * q for p, q in zip(x, y, strict=True)) / len(x)
    ws = [Fraction(0)]
    for _ in range(steps):
        ws.append(ws[-1] - lr * (2 * a * ws[-1] - 2 * b))
    return [float(w) for w in ws]


def exact_hessian(numbers):
    """The second derivatives of mean((w x + b - y)^2), as fractions."""
    x, n = [Fraction(number) for number in numbers], len(numbers)
    squares, mixed = 2 * sum(p * p for p in x) / n, 2 * sum(x) / n
    return [[squares, mixed], [mixed, Fraction(2)]]


def eigenvalues(h):
    """The roots of lambda^2 - trace lambda + determinant to 50 digits, sorted."""
    trace = h[0][0] + h[1][1]
    determinant = h[0][0] * h[1][1] - h[0][1] * h[1][0]
    with localcontext() as context:
        context.prec = 50
        half = Decimal(trace.numerator) / trace.denominator / 2
        product = Decimal(determinant.numerator) / determinant.denominator
        root = (half**2 - product).sqrt()
        return [float(half - root), float(half + root)]


def in_numpy(numbers):
    """Two lists of numbers as arrays of float64."""
    return [np.array(each, float) for each in numbers]


# 1. By hand, and by autograd
def test_a_kilogram_costs_two_euros(lesson, device):
    for numbers, expected in zip(lesson.receipts(device), RECEIPTS, strict=True):
        assert_values(numbers, expected, device)


def test_the_first_slope_is_minus_30_and_w_becomes_0_30_and_0_555(lesson, device):
    x, y = lesson.receipts(device)
    assert lesson.slope_by_hand(x, y, 0.0).item() == (-4 - 16 - 36 - 64) / 4 == -30
    walk = lesson.walk_by_hand(x, y, 0.01, 2)
    assert walk == pytest.approx([0, 0.30, 0.555], rel=1e-15)
    assert type(walk) is list and {type(w) for w in walk} == {float}


@pytest.mark.parametrize("w", [0.0, -1.5])
def test_the_slope_is_that_of_the_parabola(lesson, device, w):
    x, y = in_numpy((X, Y))
    up, down = (np.mean(((w + h) * x - y) ** 2) for h in (1, -1))
    # exact: a parabola has no third derivative
    slope = pytest.approx((up - down) / 2, rel=1e-14)
    assert lesson.slope_by_hand(x, y, w) == slope
    tensors = tensor64(X, device), tensor64(Y, device)
    assert lesson.slope_by_hand(*tensors, w).item() == slope


@pytest.mark.parametrize("data", [(X, Y), RECEIPTS])
@pytest.mark.parametrize("lr", [0.01, 0.125])
def test_numpy_and_torch_and_autograd_take_one_walk_step_by_step(
    lesson, device, data, lr
):
    expected = pytest.approx(rational_walk(*data, lr, 25), rel=1e-13)
    tensors = [tensor64(numbers, device) for numbers in data]
    assert lesson.walk_by_hand(*in_numpy(data), lr, 25) == expected
    assert lesson.walk_by_hand(*tensors, lr, 25) == expected
    assert lesson.walk_by_autograd(*tensors, lr, 25) == expected


def test_autograd_does_not_know_the_formula_of_the_slope(lesson):
    lines = printed_if_tripled(lesson, 1, "slope_by_hand").splitlines()
    assert lines[-2].split() == ["20", f"{2 - 2 * 0.55**20:.5f}", "1.92248"]


def test_section_1_prints_each_walk_in_its_own_column(lesson):
    exact = rational_walk(*RECEIPTS, 0.01, 20)
    by_hand = printed_if_tripled(lesson, 1, "walk_by_hand").splitlines()
    by_autograd = printed_if_tripled(lesson, 1, "walk_by_autograd").splitlines()
    for row, k in zip(range(4, 10), (0, 1, 2, 5, 10, 20), strict=True):
        once, thrice = f"{exact[k]:.5f}", f"{3 * exact[k]:.5f}"
        assert by_hand[row].split() == [str(k), thrice, once]
        assert by_autograd[row].split() == [str(k), once, thrice]


def test_what_is_made_is_made_where_x_is(lesson, device):
    x, y = lesson.receipts(device)
    with torch.device("meta"):  # whatever is made without a device has no value here
        for walk in (lesson.walk_by_hand, lesson.walk_by_autograd):
            assert walk(x, y, 0.01, 1)[1] == pytest.approx(0.3, rel=1e-15)
        assert lesson.receipts()[0].tolist() == RECEIPTS[0]
        h = lesson.hessian_by_hand(x)
        walk = lesson.walk_line(x, y, 0.01, 1)
        distances = lesson.distances_in_theory(h, walk[1], 0.01, 1)
    assert {each.device.type for each in (h, walk, distances)} == {device}


def test_twenty_steps_say_that_5_kilograms_cost_9_612(lesson, device):
    walk = lesson.walk_by_autograd(*lesson.receipts(device), 0.01, 20)
    assert walk[0] == 0
    expected = float(10 * (1 - Fraction(85, 100) ** 20))
    assert 5 * walk[-1] == pytest.approx(expected, rel=1e-13)
    printed = printed_if_tripled(lesson, 1, "walk_by_hand")
    assert f"5 kilograms cost {expected:.3f} euros" in printed


# The beginning of the chapter
def test_in_grams_a_rate_of_0_01_is_inf_after_four_steps_in_float32(lesson):
    grams = torch.tensor([1000.0, 2000.0, 3000.0, 4000.0])
    euros = torch.tensor([2.0, 4.0, 6.0, 8.0])
    walk = lesson.walk_by_autograd(grams, euros, 0.01, 4)
    losses = [((w * grams - euros) ** 2).mean().item() for w in walk]
    # The distance is multiplied by 1 - 0.01 * 15e6, the loss by the square of that.
    factor = 1 - Fraction(1, 100) * 15_000_000
    exact = [float(30 * factor ** (2 * k)) for k in range(4)]
    assert losses[:4] == pytest.approx(exact, rel=1e-3)
    assert losses[4] == math.inf
    assert 30 * factor**8 > torch.finfo(torch.float32).max


# 2. Three walkers in the fog
def test_ben_lands_half_as_far_each_time_and_carla_farther_each_time(lesson, device):
    x, y = lesson.receipts(device)
    for lr, ratio in ((0.1, -0.5), (0.14, -1.1)):
        walk = np.array(lesson.walk_by_autograd(x, y, lr, 20)) - 2
        np.testing.assert_allclose(walk[1:] / walk[:-1], ratio, rtol=1e-8)


def test_after_20_steps_ben_is_nearest_and_carla_farthest(lesson):
    lines = printed_if_tripled(lesson, 2).splitlines()
    last = [float(word) for word in lines[-1].split()]
    anna, ben, carla = (abs(w - 2) for w in last[1:])
    assert last[0] == 20 and ben < anna < carla


def test_section_2_prints_the_walks_at_three_rates(lesson):
    exact = [rational_walk(*RECEIPTS, lr, 20) for lr in (0.01, 0.1, 0.14)]
    lines = printed_if_tripled(lesson, 2, "walk_by_hand").splitlines()
    for line, k in zip(lines[3:], (0, 1, 2, 3, 4, 5, 20), strict=True):
        step, *ws = map(float, line.split())
        # 0.77175 may be rounded down or up
        assert step == k
        assert ws == pytest.approx([walk[k] for walk in exact], abs=5.1e-5)


# 3. One factor decides
@pytest.mark.parametrize("lr", [0.01, 1 / 15, 0.15])
def test_the_walk_is_known_beforehand(lesson, device, lr):
    assert lesson.curvature(lesson.receipts(device)[0]) == 15
    ws = [lesson.closed_form(2, 15, lr, k) for k in range(21)]
    assert ws == pytest.approx(rational_walk(*RECEIPTS, lr, 20), rel=1e-12)


def test_curvature_and_closed_form_hold_for_other_data(lesson, device):
    x, price, lr = [1.0, -2.0, 4.0], -3.0, 0.04
    curvature = lesson.curvature(tensor64(x, device))
    assert curvature == pytest.approx(2 * 21 / 3, rel=1e-15)
    expected = rational_walk(x, [price * p for p in x], lr, 9)
    ws = [lesson.closed_form(price, curvature, lr, k) for k in range(10)]
    assert ws == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("share", [0.01, 0.99, 1.01, -0.01])
def test_it_arrives_if_and_only_if_lr_is_between_0_and_2_15(lesson, share):
    walk = lesson.walk_by_hand(*in_numpy(RECEIPTS), share * 2 / 15, 800)
    assert abs(walk[-1] - 2) < 1e-3 if 0 < share < 1 else abs(walk[-1] - 2) > 100


def test_at_both_limits_the_distance_stays(lesson):
    assert set(lesson.walk_by_hand(*in_numpy(RECEIPTS), 0.0, 5)) == {0}
    walk = lesson.walk_by_hand(*in_numpy(RECEIPTS), 2 / 15, 5)
    assert walk == pytest.approx([0, 4, 0, 4, 0, 4], abs=1e-12)


@pytest.mark.parametrize(("lr", "side"), [(0.066, -1), (1 / 15, 0), (0.067, 1)])
def test_one_fifteenth_arrives_in_one_step_and_larger_rates_overshoot(lesson, lr, side):
    first = lesson.walk_by_hand(*in_numpy(RECEIPTS), lr, 1)[1]
    assert first == pytest.approx(30 * lr, rel=1e-15)
    assert np.sign(round(first - 2, 12)) == side


@pytest.mark.parametrize("lr", [0.01, 1 / 15, 0.1, 0.13])
@pytest.mark.parametrize("tolerance", [0.3, 1e-7])
def test_the_number_of_steps_is_known_beforehand(lesson, lr, tolerance):
    walk = lesson.walk_by_hand(*in_numpy(RECEIPTS), lr, 800)
    within = (abs(Fraction(w) - 2) <= Fraction(tolerance) for w in walk)
    count = list(within).index(True)
    assert lesson.steps_taken(walk, 2, tolerance) == count
    assert lesson.steps_needed(1 - 15 * lr, 2, tolerance) == count


def test_it_takes_47_steps_at_lr_0_01_and_149_at_0_13(lesson):
    for factor, steps in ((0.85, 47), (-0.95, 149)):
        assert math.ceil(math.log(0.001 / 2) / math.log(abs(factor))) == steps
        assert lesson.steps_needed(factor, 2, 0.001) == steps


def rows_of_section_3(lesson, *names):
    """The numbers of the six rows, where these functions return three times as much."""
    lines = printed_if_tripled(lesson, 3, *names).splitlines()[4:]
    return [line.split() for line in lines]


def test_the_steps_of_theory_are_not_counted_on_the_walk(lesson):
    rows = rows_of_section_3(lesson, "steps_taken")
    assert [row[4:] for row in rows] == [
        ["141", "47"],
        ["3", "1"],
        ["33", "11"],
        ["447", "149"],
        ["inf", "inf"],
        ["inf", "inf"],
    ]


def test_the_formula_does_not_come_from_the_walk(lesson):
    rows = rows_of_section_3(lesson, "walk_by_hand", "walk_by_autograd")
    rates = (0.01, 1 / 15, 0.1, 0.13, 2 / 15, 0.14)
    for row, lr in zip(rows, rates, strict=True):
        factor, walked, formula = map(float, row[1:4])
        assert f"{lr:.4f}" == row[0]
        assert factor == pytest.approx(1 - 15 * lr, abs=0.005001)
        expected = 2 - 2 * (1 - 15 * lr) ** 20
        assert formula == pytest.approx(expected, abs=5.1e-5)
        assert walked == pytest.approx(3 * expected, abs=5.1e-5)


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


# 4. The same apples in grams
@pytest.mark.parametrize("size", [1000, 1, 0.001, -7])
def test_the_limit_goes_with_the_square_of_the_unit(lesson, device, size):
    x = tensor64([size * kilograms for kilograms in RECEIPTS[0]], device)
    assert lesson.limit(x) == pytest.approx(2 / 15 / size**2, rel=1e-14)


@pytest.mark.parametrize("data", [(X, Y), RECEIPTS])
@pytest.mark.parametrize("share", [0.9, 1.1])
def test_what_is_left_is_a_power_of_the_factor(lesson, data, share):
    x, y = in_numpy(data)
    lr = share / np.mean(x**2)  # share * 2 / curvature
    left = lesson.share_left(x, y, lr, 50)
    # rounding: 50 steps, each by 2^-53 of w
    assert left == pytest.approx(abs(1 - 2 * share) ** 50, rel=1e-9)


def test_the_prices_have_no_part_in_the_limit(lesson):
    x, y = in_numpy((X, Y))
    for prices in (y, 3 * y, y - 5):
        for share, left in ((0.9, 0.8**50), (1.1, 1.2**50)):
            found = lesson.share_left(x, prices, share * lesson.limit(x), 50)
            assert found == pytest.approx(left, rel=1e-9)


def test_section_4_prints_the_limit_and_both_sides_of_it_in_three_units(lesson):
    left, tripled = 0.8**50, 3 * 0.8**50
    for names, below in (((), left), (("share_left",), tripled)):
        lines = printed_if_tripled(lesson, 4, *names).splitlines()[4:]
        units = [("tonnes", 1e-3), ("kilograms", 1), ("grams", 1e3)]
        for line, (unit, size) in zip(lines, units, strict=True):
            name, *numbers = line.split()
            assert name == unit
            above = below / 0.8**50 * 1.2**50
            expected = [15 * size**2, 2 / 15 / size**2, below, above]
            assert [float(n) for n in numbers] == pytest.approx(expected, rel=0.05)


# 5. Mistake: dot() and then mean()
@pytest.mark.parametrize("data", [(X, Y), RECEIPTS])
def test_dot_then_mean_is_n_times_the_rate(lesson, data):
    walk = lesson.walk_with_dot(*in_numpy(data), 0.01, 9)
    expected = rational_walk(*data, Fraction(len(data[0])) / 100, 9)
    assert walk == pytest.approx(expected, rel=1e-12)
    assert {type(w) for w in walk} == {float}


def test_the_mean_of_the_product_mends_it(lesson):
    wrong, right = "np.dot(2 * x, w * x - y).mean()", "(2 * x * (w * x - y)).mean()"
    walk = mended(lesson, "walk_with_dot", wrong, right)(*in_numpy((X, Y)), 0.05, 9)
    assert walk == pytest.approx(rational_walk(X, Y, 0.05, 9), rel=1e-12)


def test_the_first_slope_is_minus_120_instead_of_minus_30(lesson):
    x, y = in_numpy(RECEIPTS)
    assert lesson.walk_with_dot(x, y, 0.5, 1)[1] == 0.5 * 120
    assert lesson.walk_by_hand(x, y, 0.5, 1)[1] == 0.5 * 30


def test_it_looks_better_with_4_receipts_and_diverges_with_40(lesson):
    lines = printed_if_tripled(lesson, 5).splitlines()[4:]
    for line, n in zip(lines, (4, 40), strict=True):
        count, right, wrong = line.split()
        assert int(count) == n
        assert float(right) == pytest.approx(2 - 2 * 0.85**20, abs=0.005)
        expected = 2 - 2 * (1 - Fraction(15 * n, 100)) ** 20
        assert float(wrong) == pytest.approx(float(expected), rel=0.005)
        assert (abs(float(wrong) - 2) < abs(float(right) - 2)) == (n == 4)


def test_the_right_walk_is_not_the_wrong_one(lesson):
    for name, column in (("walk_by_hand", 1), ("walk_with_dot", 2)):
        once = printed_if_tripled(lesson, 5).splitlines()[4].split()
        thrice = printed_if_tripled(lesson, 5, name).splitlines()[4].split()
        changed = [once[k] != thrice[k] for k in range(3)]
        assert changed == [k == column for k in range(3)]


# 6. The slope of the slope
def test_the_second_derivative_of_the_cube_is_6_x(lesson, device):
    x = tensor64([[-2.0, 0.5], [3.0, 0.0]], device)
    assert_values(lesson.cube(x), [[-8, 0.125], [27, 0]], device)
    assert_values(lesson.second_derivative(lesson.cube, x), [[-12, 3], [18, 0]], device)
    sine = -np.sin(x.cpu().numpy())
    assert_values(lesson.second_derivative(torch.sin, x), sine, device)
    assert not x.requires_grad and x.grad is None  # what it was given is left alone


def test_the_second_derivative_of_a_linear_function_is_0(lesson, device):
    x = tensor64([1.0, -2.0], device)
    layer = torch.nn.Linear(1, 1).to(device, torch.float64)
    weight = tensor64(3.0, device).requires_grad_()
    linear = (
        lambda x: 3 * x - 1,
        torch.clone,
        lambda x: weight * x,  # its slope has a record, in which x has no part
        lambda x: layer(x[:, None])[:, 0],
    )
    for function in linear:
        second = lesson.second_derivative(function, x)
        assert_values(second, [0, 0], device, rtol=0)
        assert not second.requires_grad
    assert_values(lesson.second_derivative(torch.square, x), [2, 2], device, rtol=0)


def test_the_loud_messages_of_the_chapter_are_raised():
    # The first gradients come without a record, the third with one in which x is not.
    x = torch.tensor(2.0, requires_grad=True)
    said = set()
    for y, create_graph in ((x**3, False), (3 * x, True)):
        (first,) = torch.autograd.grad(y, x, create_graph=create_graph)
        assert not first.requires_grad
        with pytest.raises(RuntimeError) as raised:
            torch.autograd.grad(first, x)
        said.add(
            re.match(r"element 0 of tensors does not require grad", str(raised.value))[
                0
            ]
        )
    unused = "appears to not have been used in the graph"  # 2.0 has other words before
    layer = torch.nn.Linear(1, 1)
    x = torch.tensor([2.0], requires_grad=True)
    (first,) = torch.autograd.grad(layer(x), x, create_graph=True)
    assert first.requires_grad
    assert torch.autograd.grad(first, x, allow_unused=True) == (None,)
    with pytest.raises(RuntimeError, match=f" {unused}"):
        torch.autograd.grad(first, x)
    assert loud_messages(CHAPTER) == said | {"create_graph=True", unused}


def test_the_hessian_at_a_kink_is_0_without_a_message():
    x = torch.tensor([0.0, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        h = torch.autograd.functional.hessian(lambda x: x.abs().sum(), x)
    assert not h.any()


@pytest.mark.parametrize("weights", [[0.0, 0.0], [-1.5, 40.0]])
def test_the_hessian_is_that_of_exact_arithmetic_wherever_it_is_taken(
    lesson, device, weights
):
    expected = np.array(exact_hessian(X), float)
    arguments = (tensor64(numbers, device) for numbers in (X, Y, weights))
    assert_values(lesson.hessian_by_autograd(*arguments), expected, device, rtol=1e-14)
    by_hand = lesson.hessian_by_hand(tensor64(X, device))
    assert_values(by_hand, expected, device, rtol=1e-14)


def test_second_derivatives_by_autograd_are_not_those_by_calculus(lesson):
    wrong = ("second_derivative", "hessian_by_autograd")
    lines = printed_if_tripled(lesson, 6, *wrong).splitlines()
    assert lines[-4:] == [
        "   x^3, by autograd     [18.0, 36.0, 54.0, 72.0]",
        "   x^3, 6 x             [6.0, 12.0, 18.0, 24.0]",
        "   the loss, autograd   [[45.0, 15.0], [15.0, 6.0]]",
        "   the loss, by hand    [[15.0, 5.0], [5.0, 2.0]]",
    ]


# 7. Two weights
def exact_distances(x, y, lr, steps):
    """(walk, distances to the minimum) of gradient descent on the bowl, by lstsq."""
    design = np.stack([x, np.ones(len(x))], axis=1)
    minimum = np.linalg.lstsq(design, np.array(y, float), rcond=None)[0]
    walk = [np.zeros(2)]
    for _ in range(steps):
        slopes = 2 / len(x) * design.T @ (design @ walk[-1] - y)
        walk.append(walk[-1] - lr * slopes)
    return np.array(walk), minimum, np.linalg.norm(walk - minimum, axis=1)


@pytest.mark.parametrize("data", [(X, Y), RECEIPTS])
@pytest.mark.parametrize(("lr", "steps"), [(0.02, 30), (0.11, 7), (0.3, 7)])
def test_the_walk_in_the_bowl_is_known_beforehand(lesson, device, data, lr, steps):
    walk, minimum, distances = exact_distances(*data, lr, steps)
    x, y = (tensor64(numbers, device) for numbers in data)
    tight = {"rtol": 1e-10, "atol": 1e-13}
    assert_values(lesson.walk_line(x, y, lr, steps), walk, device, **tight)
    h = tensor64(np.array(exact_hessian(data[0]), float), device)
    theory = lesson.distances_in_theory(h, tensor64(minimum, device), lr, steps)
    assert_values(theory, distances, device, **tight)


def test_the_eigenvalues_are_the_extremes_of_the_curvature(lesson):
    flattest, steepest = eigenvalues(exact_hessian(RECEIPTS[0]))
    assert [f"{flattest:.4f}", f"{steepest:.4f}"] == ["0.2994", "16.7006"]
    angles = np.radians(np.arange(0, 180, 0.01))
    d = np.stack([np.cos(angles), np.sin(angles)])
    around = 15 * d[0] ** 2 + 10 * d[0] * d[1] + 2 * d[1] ** 2
    # near an extreme d H d differs by less than (steepest - flattest) angle^2
    room = {"abs": 17 * np.radians(0.01) ** 2}
    extremes = [around.min(), around.max()]
    assert extremes == pytest.approx([flattest, steepest], **room)
    printed = printed_if_tripled(lesson, 7)
    assert f"eigenvalues {flattest:.4f} and {steepest:.4f}\n" in printed
    limit, condition = 2 / steepest, steepest / flattest
    line = f"limit {limit:.4f}, condition number {condition:.2f}\n"
    assert line in printed and "limit 0.1198, condition number 55.78\n" in printed


def test_the_steps_in_the_bowl_are_those_of_another_arithmetic(lesson):
    flattest, steepest = eigenvalues(exact_hessian(RECEIPTS[0]))
    spread = np.sqrt(1.25)  # the mean square of -1.5, -0.5, 0.5, 1.5
    standard = (np.array(RECEIPTS[0]) - 2.5) / spread
    rows = [
        (RECEIPTS[0], 1 / steepest),
        (RECEIPTS[0], 2 / (steepest + flattest)),
        (RECEIPTS[0], 1.01 * 2 / steepest),
        (standard, 0.5),
    ]
    lines = printed_if_tripled(lesson, 7).splitlines()[-4:]
    for line, (x, lr) in zip(lines, rows, strict=True):
        distances = exact_distances(x, RECEIPTS[1], lr, 1000)[2]
        count = str(np.argmax(distances <= 0.001)) if distances.min() < 1e-3 else "inf"
        assert line.split()[-3:] == [f"{lr:.4f}", count, count]


def test_the_steps_of_theory_are_not_walked(lesson):
    once = [line.split() for line in printed_if_tripled(lesson, 7).splitlines()]
    walked = printed_if_tripled(lesson, 7, "walk_line").splitlines()
    theory = printed_if_tripled(lesson, 7, "distances_in_theory").splitlines()
    assert [line.split()[-1] for line in walked[-4:]] == [r[-1] for r in once[-4:]]
    assert [line.split()[-2] for line in theory[-4:]] == [r[-2] for r in once[-4:]]
    assert walked[-4].split()[-2] != once[-4][-2]
    assert theory[-4].split()[-1] != once[-4][-1]


def test_the_largest_eigenvalue_sets_the_limit(lesson, device):
    x, y = lesson.receipts(device)
    limit = 2 / eigenvalues(exact_hessian(RECEIPTS[0]))[1]
    below, above = (lesson.walk_line(x, y, k * limit, 1000)[-1] for k in (0.95, 1.05))
    assert_values(below, [2, 0], device, rtol=0, atol=1e-9)
    assert above.norm() > 1e6


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.98, 0.985, 0.999, 1.05])
def test_the_flattest_sets_the_pace_up_to_2_over_the_sum_then_the_steepest(
    lesson, device, share
):
    flattest, steepest = eigenvalues(exact_hessian(RECEIPTS[0]))
    x, y = lesson.receipts(device)
    lr = share * 2 / steepest
    turn = 2 / (flattest + steepest)
    kept = abs(1 - lr * (flattest if lr < turn else steepest))
    walk = lesson.walk_line(x, y, lr, 1000) - tensor64([2, 0], device)
    far = walk.norm(dim=1)
    # Late enough for the other direction to be gone, early enough for the digits.
    end = min(1000, int(math.log(1e-9) / math.log(kept)))
    assert (far[end] / far[end - 2]).sqrt().item() == pytest.approx(kept, abs=2e-3)
    best = (steepest - flattest) / (steepest + flattest)
    assert kept >= best - 1e-12
    condition = steepest / flattest
    assert best == pytest.approx((condition - 1) / (condition + 1), rel=1e-12)


def test_standardised_is_mean_0_and_mean_square_1_and_the_bowl_is_round(lesson, device):
    x = tensor64(X, device)
    expected = (np.array(X) - np.mean(X)) / np.std(X)
    assert_values(lesson.standardised(x), expected, device, rtol=1e-14)
    h = lesson.hessian_by_hand(lesson.standardised(x))
    assert_values(h, [[2, 0], [0, 2]], device, rtol=1e-14, atol=1e-14)
    arrived = lesson.walk_line(lesson.standardised(x), tensor64(Y, device), 0.5, 1)[1]
    answer = [np.mean(expected * Y), np.mean(Y)]  # least squares: mean(z y) and mean(y)
    assert_values(arrived, answer, device, rtol=1e-13, atol=1e-13)


# 8. Hills
def hill_walk(start, lr, steps):
    """Gradient descent on w^4 - 2 w^2 + 1 + 0.3 w, by its slope."""
    walk = [np.float64(start)]
    with np.errstate(all="ignore"):
        for _ in range(steps):
            w = walk[-1]
            walk.append(w - lr * (4 * w**3 - 4 * w + 0.3))
    return np.array(walk)


def test_the_hills_are_a_polynomial_with_two_valleys(lesson):
    w = np.linspace(-2, 2, 9)
    expected = w**4 - 2 * w**2 + 1 + 0.3 * w
    np.testing.assert_allclose(lesson.hills(w), expected, rtol=1e-13)
    left, top, right = sorted(np.roots([4, 0, -4, 0.3]))
    assert [f"{left:.2f}", f"{top:.2f}", f"{right:.2f}"] == ["-1.04", "0.08", "0.96"]
    assert lesson.hills(left) < lesson.hills(right) < lesson.hills(top)


@pytest.mark.parametrize("lr", [0.01, 0.08, 0.1, 0.16])
def test_descend_follows_the_slope_of_the_hills(lesson, lr):
    walk = lesson.descend(lesson.hills, 2.0, lr, 200)
    np.testing.assert_allclose(walk, hill_walk(2.0, lr, 200), rtol=0, atol=1e-9)


def test_section_8_prints_where_each_rate_ends(lesson):
    lines = printed_if_tripled(lesson, 8).splitlines()[3:]
    ends = {0.01: "right", 0.08: "left", 0.1: "left", 0.16: "right", 0.18: "nowhere"}
    left, _, right = sorted(np.roots([4, 0, -4, 0.3]))
    valleys = {"left": left, "right": right, "nowhere": math.nan}
    for line, (lr, end) in zip(lines, ends.items(), strict=True):
        walk, valley = hill_walk(2.0, lr, 3), valleys[end]
        loss = valley**4 - 2 * valley**2 + 1 + 0.3 * valley
        numbers = [walk[1], walk[3], valley, loss]
        assert line.split() == ["lr", f"{lr:.2f}", *(f"{n:.2f}" for n in numbers)]


def test_the_limit_of_a_valley_holds_near_it_and_not_far_from_it(lesson):
    left = min(np.roots([4, 0, -4, 0.3]))
    limit = 2 / (12 * left**2 - 4)
    assert 0.18 < limit < 0.23
    for share in (0.98, 1.02):
        near = lesson.descend(lesson.hills, left + 1e-4, share * limit, 100)
        assert (abs(near[-1] - left) < 1e-4) == (share < 1)
    assert math.isnan(lesson.descend(lesson.hills, 2.0, 0.18, 200)[-1])


def test_beside_the_top_the_loss_hardly_falls_for_eight_steps(lesson):
    losses = lesson.hills(hill_walk(2.0, 0.08, 30))
    assert losses[1] - losses[9] < 0.07 and losses[1] - losses[17] > 1.2


# The picture
def test_the_picture_shows_the_walks_at_four_rates(lesson, device):
    *parabolas, losses = lesson.figure(device).axes
    assert losses.get_yscale() == "log"
    for axes, loss, (name, lr) in zip(
        parabolas, losses.lines, lesson.RATES.items(), strict=True
    ):
        assert axes.get_title() == f"{name}\nlr {lr}" and loss.get_label() == f"lr {lr}"
        _, walk = axes.lines
        expected = rational_walk(*RECEIPTS, lr, 8)
        np.testing.assert_allclose(walk.get_xdata(), expected, rtol=1e-9)
        heights = [7.5 * (w - 2) ** 2 for w in expected]
        # w rounds to 1e-15 beside 2, its distance to 2 as much
        np.testing.assert_allclose(walk.get_ydata(), heights, rtol=1e-3)
        np.testing.assert_allclose(loss.get_ydata(), heights, rtol=1e-3)
    small, good, large, diverging = lesson.RATES.values()
    assert 0 < small < good < 1 / 15 < large < 2 / 15 < diverging
