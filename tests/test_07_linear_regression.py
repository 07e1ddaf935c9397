"""What lesson 07 claims."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import ROOT, assert_values, printed_if_tripled, tensor64

ROWS = np.loadtxt(ROOT / "data" / "norris.csv", delimiter=",", skiprows=1)
Y, X = ROWS.T
DESIGN = np.stack([X, np.ones(36)], axis=1)
# NIST Statistical Reference Datasets, Norris: certified to 15 digits.
SLOPE, INTERCEPT = 1.00211681802045, -0.262323073774029
STANDARD_ERRORS = [0.429796848199937e-03, 0.232818234301152]
RESIDUAL_STD, R_SQUARED = 0.884796396144373, 0.999993745883712
SOLVERS = ["by_normal_equations", "by_lstsq"]


def five_points(device):
    """x and y, five points on no line."""
    x, y = [1.0, 2.0, 4.0, 7.0, 11.0], [3.0, -1.0, 2.0, 5.0, 4.0]
    return tensor64(x, device), tensor64(y, device)


def far_from_zero(device, seed):
    """Twenty points on no line, as far from 0 as 1e5 times their distance."""
    random = np.random.default_rng(seed)
    x = 1e5 + random.uniform(-1, 1, size=20)
    return tensor64(x, device), tensor64(3 * x - 2e5 + random.normal(size=20), device)


def exact_line(x, y):
    """((slope, intercept), residual squares, total squares, squares of x), rational."""
    x, y = ([Fraction(n) for n in t.tolist()] for t in (x, y))
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    spread = sum((p - x_mean) ** 2 for p in x)
    slope = sum((p - x_mean) * (q - y_mean) for p, q in zip(x, y, strict=True)) / spread
    intercept = y_mean - slope * x_mean
    residual = sum((q - slope * p - intercept) ** 2 for p, q in zip(x, y, strict=True))
    return (slope, intercept), residual, sum((q - y_mean) ** 2 for q in y), spread


def steepest_stable(lesson, x, y):
    """0.9 of the largest stable learning rate, at which section 2 descends."""
    return 0.9 * lesson.limit_and_condition(lesson.bowl(x, y)[0])[0]


def test_x_and_y_are_the_files(lesson, device):
    x, y = lesson.norris(device)
    assert_values(x, X, device, rtol=0)
    assert_values(y, Y, device, rtol=0)


# 1. Least squares has a closed form: the certified line
def test_the_certified_values_are_nists(lesson):
    values = [SLOPE, INTERCEPT, *STANDARD_ERRORS, RESIDUAL_STD, R_SQUARED]
    assert list(lesson.CERTIFIED.values()) == values


@pytest.mark.parametrize("solve", SOLVERS)
def test_least_squares_finds_the_certified_line(lesson, device, solve):
    x, y = lesson.norris(device)
    theta = getattr(lesson, solve)(x, y)
    assert_values(theta, [SLOPE, INTERCEPT], device, rtol=1e-10)
    fit = lesson.residual_std_and_r_squared(x, y, theta)
    assert fit == pytest.approx((RESIDUAL_STD, R_SQUARED), rel=1e-12)
    assert_values(lesson.standard_errors(x, y, theta), STANDARD_ERRORS, device)


@pytest.mark.parametrize("solve", SOLVERS)
def test_least_squares_is_exact_arithmetics_on_other_data(lesson, device, solve):
    x, y = five_points(device)
    line, residual, total, spread = exact_line(x, y)
    theta = getattr(lesson, solve)(x, y)
    assert_values(theta, [float(t) for t in line], device)
    expected = (float(residual / 3) ** 0.5, float(1 - residual / total))
    fit = lesson.residual_std_and_r_squared(x, y, theta)
    assert fit == pytest.approx(expected, rel=1e-13)
    # Var(slope) = s^2 / Sxx, Var(intercept) = s^2 (1 / n + mean^2 / Sxx); mean x is 5.
    variances = residual / 3 / spread, residual / 3 * (Fraction(1, 5) + 25 / spread)
    errors = lesson.standard_errors(x, y, theta)
    assert_values(errors, [float(v) ** 0.5 for v in variances], device)


def test_residuals_and_r_squared_are_those_of_any_line(lesson, device):
    x, y = tensor64([0, 1, 2, 3], device), tensor64([1, 0, 5, 2], device)
    # Of y = 2 x - 1 the residuals are 2, -1, 2, -3; around the mean, 2, they are -1,
    # -2, 3 and 0.
    fit = lesson.residual_std_and_r_squared(x, y, tensor64([2, -1], device))
    assert fit == pytest.approx(((18 / 2) ** 0.5, 1 - 18 / 14), rel=1e-14)


def test_the_normal_equations_square_the_condition_number_and_lstsq_does_not(
    lesson, device
):
    worst = {}
    for solve in SOLVERS:
        errors = []
        for seed in range(10):
            x, y = far_from_zero(device, seed)
            theta = getattr(lesson, solve)(x, y).tolist()
            for number, exact in zip(theta, exact_line(x, y)[0], strict=True):
                errors.append(abs(number / float(exact) - 1))
        worst[solve] = max(errors)
    # Uniform in [-1, 1] has std 1 / sqrt(3): with columns of one length A's condition
    # number is 1.7e5, to be multiplied by the rounding 2.2e-16 once, or squared.
    condition = 1e5 * 3**0.5
    assert worst["by_lstsq"] < 10 * 2.2e-16 * condition
    assert 0.1 < worst["by_normal_equations"] / (2.2e-16 * condition**2) < 100


def test_relative_errors_are_relative_to_nists_values(lesson, device):
    theta = tensor64([SLOPE * 1.25, INTERCEPT * 0.5], device)
    assert lesson.relative_errors(theta) == pytest.approx([0.25, 0.5], rel=1e-12)


def test_the_certified_values_are_printed_whatever_is_found(lesson):
    found = [*SOLVERS, "standard_errors", "residual_std_and_r_squared"]
    out = printed_if_tripled(lesson, 1, *found)
    assert f"certified          {SLOPE}     {INTERCEPT}\n" in out
    assert "certified          0.000429796848200    0.232818234301152\n" in out
    assert f"certified {RESIDUAL_STD}\n" in out and "residual std 0.88" not in out
    assert f"certified {R_SQUARED}\n" in out and "R-squared    0.99" not in out
    assert out.count("agrees to 1e-9: False") == out.count("3.006350") == 2


# 2. Gradient descent on the raw data cannot find the intercept
def test_the_bowl_and_its_curvatures_are_numpys(lesson, device):
    x, y = five_points(device)
    p, q = x.cpu().numpy(), y.cpu().numpy()
    h, g = lesson.bowl(x, y)
    expected = 2 * np.array([[np.mean(p * p), np.mean(p)], [np.mean(p), 1]])
    assert_values(h, expected, device, rtol=1e-14)
    assert_values(g, [2 * np.mean(p * q), 2 * np.mean(q)], device, rtol=1e-14)
    # The roots of lambda^2 - trace lambda + determinant.
    polynomial = [1, -np.trace(expected), np.linalg.det(expected)]
    smallest, largest = sorted(np.roots(polynomial))
    assert lesson.limit_and_condition(h) == pytest.approx(
        (2 / largest, largest / smallest), rel=1e-10
    )


def test_the_raw_datas_condition_number_is_that_of_a_squared(lesson, device):
    x, y = lesson.norris(device)
    assert_values(lesson.design(x), DESIGN, device, rtol=0)
    largest, smallest = np.linalg.svd(DESIGN, compute_uv=False)
    limit, condition = lesson.limit_and_condition(lesson.bowl(x, y)[0])
    assert condition == pytest.approx((largest / smallest) ** 2, rel=1e-8)
    assert limit == pytest.approx(36 / largest**2, rel=1e-12)
    assert f"{largest / smallest:.2f}" == "855.22"


def test_descent_follows_the_slope_of_the_loss(lesson, device):
    x, y = five_points(device)
    p, q, theta = x.cpu().numpy(), y.cpu().numpy(), np.zeros(2)
    for _ in range(7):
        error = theta[0] * p + theta[1] - q
        theta = theta - 0.01 * 2 * np.array([np.mean(error * p), np.mean(error)])
    assert_values(lesson.descend(x, y, 0.01, 7), theta, device)


def test_ten_thousand_steps_on_raw_data_leave_the_intercept_wrong(lesson, device):
    x, y = lesson.norris(device)
    lr = steepest_stable(lesson, x, y)
    theta = lesson.descend(x, y, lr, 10_000)
    # In the eigenvectors of H each coordinate shrinks by 1 - lr lambda a step.
    values, vectors = np.linalg.eigh(DESIGN.T @ DESIGN / 18)
    minimum = np.array([SLOPE, INTERCEPT])
    shrunk = (1 - lr * values) ** 10_000 * (vectors.T @ minimum)
    assert_values(theta, minimum - vectors @ shrunk, device, rtol=0, atol=1e-9)
    assert theta[1] > INTERCEPT / 10


# 3. Standardise x: the valley becomes a round bowl
def test_standardising_makes_the_bowl_round(lesson, device):
    for x, y in (lesson.norris(device), five_points(device)):
        z, mean, std = lesson.standardised(x)
        p = x.cpu().numpy()
        assert_values(mean, p.mean(), device, rtol=1e-14)
        assert_values(std, p.std(), device, rtol=1e-14)
        assert_values(z, (p - p.mean()) / p.std(), device, atol=1e-15)
        round_bowl = lesson.limit_and_condition(lesson.bowl(z, y)[0])
        assert round_bowl == pytest.approx((1, 1), rel=1e-12)


def test_a_line_in_z_is_a_line_in_x(lesson, device):
    mean, std = tensor64(7, device), tensor64(2, device)
    theta = lesson.in_units_of_the_data(tensor64([3, 5], device), mean, std)
    assert_values(theta, [1.5, -5.5], device)  # 3 (x - 7) / 2 + 5


@pytest.mark.parametrize(("lr", "steps"), [(0.25, 40), (0.5, 1)])
def test_on_standardised_data_descent_finds_the_certified_line(
    lesson, device, lr, steps
):
    x, y = lesson.norris(device)
    z, mean, std = lesson.standardised(x)
    theta = lesson.in_units_of_the_data(lesson.descend(z, y, lr, steps), mean, std)
    # 40 halvings leave 1e-12 of the bias 420, which is 1e-9 of the intercept.
    assert_values(theta, [SLOPE, INTERCEPT], device, rtol=3e-9)


def test_standardised_by_rows_multiples_of_a_row_are_one_row_and_by_columns_not():
    x = tensor64([[1, 2], [10, 20]])
    by_rows, by_columns = (
        (x - x.mean(dim, keepdim=True)) / x.std(dim, keepdim=True, correction=0)
        for dim in (1, 0)
    )
    assert by_rows.tolist() == [[-1, 1], [-1, 1]]
    assert by_columns.tolist() == [[-1, -1], [1, 1]]


# 4. The pipeline gets there in float32, to float32's precision. Lesson 06 tests train.
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_pipeline_finds_the_certified_line_to_its_precision(lesson, device, dtype):
    x, y = lesson.norris(device)
    theta, losses = lesson.fit(x, y[:, None], torch.nn.MSELoss(), dtype)
    # What is rounded are the weight and the bias of z, 344 and 420: numbers of dtype
    # between 256 and 512 lie 256 eps apart. Training stops moving about one such step
    # from the minimum (and the certified digits, times X, are good to 1e-11).
    step = 256 * torch.finfo(dtype).eps
    near = 1.5 * step + 1e-11
    weight_and_bias = theta.cpu() @ tensor64([[X.std(), X.mean()], [0, 1]])
    expected = [SLOPE * X.std(), SLOPE * X.mean() + INTERCEPT]
    assert_values(weight_and_bias, expected, rtol=0, atol=near)
    rounded = lesson.relative_errors(theta)[1] > 1e-9
    assert rounded == (dtype == torch.float32)
    # At lr 1/4 the distance to the minimum halves at every step, the excess loss falls
    # to 1/4.
    least, start = RESIDUAL_STD**2 * 34 / 36, np.mean(Y**2)
    expected = [least + (start - least) / 4**k for k in range(60)]
    assert losses == pytest.approx(expected, rel=10 * step)


# 5. Mistake: predictions (n, 1) against targets (n,)
def test_predictions_against_flat_targets_are_compared_in_all_pairs(lesson, device):
    p, y = tensor64([[1], [2], [6]], device), tensor64([4, 0, -5], device)
    pairs = np.mean([(a - b) ** 2 for a in (1, 2, 6) for b in (4, 0, -5)])
    assert_values(lesson.squared_error(p, y), pairs, device, rtol=1e-14)
    assert_values(lesson.broadcast_loss(p, y), pairs, device, rtol=1e-14)
    in_rows = lesson.squared_error(p, y[:, None])
    assert_values(in_rows, (9 + 4 + 121) / 3, device, rtol=1e-14)


def test_flat_targets_take_the_slope_to_zero_and_the_loss_to_the_variance(
    lesson, device
):
    x, y = lesson.norris(device)
    theta, losses = lesson.fit(x, y, lesson.squared_error)
    assert_values(theta, [0, Y.mean()], device, atol=1e-9)
    assert losses[-1] == pytest.approx(Y.var(), rel=1e-12)


def test_mseloss_warns_of_flat_targets_and_a_loss_by_hand_is_silent(lesson, device):
    x, y = lesson.norris(device)
    with pytest.warns(UserWarning, match="Using a target size"):
        theta, _ = lesson.fit(x, y, torch.nn.MSELoss())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silent, _ = lesson.fit(x, y, lesson.squared_error)
    assert_values(theta, silent.cpu(), device, atol=1e-9)


def test_the_theory_of_section_5_is_not_the_measurement(lesson):
    out = printed_if_tripled(lesson, 5, "fit", "squared_error")
    theory = f"slope 0, intercept mean y {Y.mean():.4f}, loss var y {Y.var():.4f}\n"
    assert f"theory for (n,)  {theory}" in out
    pairs = np.mean((X[:, None] - Y) ** 2)
    assert f"var p + var y + (mean p - mean y)^2        {pairs:.4f}\n" in out
    assert f"p = x, (n, 1), {3 * pairs:.4f}\n" in out
    assert f"intercept {3 * Y.mean():.4f}, loss {9 * Y.var():.4f}\n" in out


# 6. Mistake: a learning rate that "always works" on features that are not scaled
def test_unscaled_features_multiply_every_step_by_the_steepest_factor(lesson, device):
    x, y = lesson.norris(device)
    factor = abs(1 - 0.01 * np.linalg.norm(DESIGN, 2) ** 2 / 18)
    theory = lesson.step_ratio_in_theory(x, y, 0.01)
    assert theory == pytest.approx(factor, rel=1e-12)
    for steps in (4, 6):
        ratio = lesson.step_ratio(x, y, 0.01, steps)
        assert ratio == pytest.approx(factor, rel=1e-9)
    assert not lesson.descend(x, y, 0.01, 100).isfinite().all()
    out = printed_if_tripled(lesson, 6, "step_ratio")
    assert f"theory: |1 - lr lambda_max| = {factor:.2f}\n" in out
    assert f"each step is {3 * factor:.2f} times" in out


# 7. Mistake: stopping when the line looks right
def test_the_line_looks_right_long_before_the_intercept_is(lesson, device):
    x, y = lesson.norris(device)
    lr = steepest_stable(lesson, x, y)
    for steps in (100, 10_000):
        r_squared, error = lesson.quality_when_stopped(x, y, lr, steps)
        theta = lesson.descend(x, y, lr, steps).cpu().numpy()
        residuals = DESIGN @ theta - Y
        expected = 1 - np.sum(residuals**2) / np.sum((Y - Y.mean()) ** 2)
        assert r_squared == pytest.approx(expected, rel=1e-12)
        assert error == pytest.approx(abs(theta[1] / INTERCEPT - 1), rel=1e-9)
        assert r_squared > 0.99999 and error > 0.97


def test_the_stopped_line_is_nowhere_further_off_than_the_residuals(lesson, device):
    x, y = lesson.norris(device)
    certified = tensor64([SLOPE, INTERCEPT], device)
    stopped = lesson.descend(x, y, steepest_stable(lesson, x, y), 100)
    assert lesson.largest_change(x, stopped, certified) < RESIDUAL_STD


@pytest.mark.parametrize(("x", "expected"), [([-10, 0, 3], 7), ([3, 14], 5)])
def test_the_largest_change_is_that_of_the_predictions(lesson, device, x, expected):
    theta, other = tensor64([1, 2], device), tensor64([0.5, 4], device)  # x / 2 - 2
    assert lesson.largest_change(tensor64(x, device), theta, other) == expected


def test_the_picture_shows_the_line_and_its_residuals(lesson):
    above, below = lesson.figure().axes
    line, points = above.lines
    np.testing.assert_array_equal(points.get_xydata(), np.stack([X, Y], axis=1))
    assert line.get_label() == "y = 1.00212 x - 0.26232"
    residuals = below.lines[1].get_ydata()
    np.testing.assert_allclose(residuals, Y - DESIGN @ [SLOPE, INTERCEPT], atol=1e-9)
