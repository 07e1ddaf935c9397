"""What lesson 07 claims."""

import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from course import ROOT

ROWS = np.loadtxt(ROOT / "data" / "norris.csv", delimiter=",", skiprows=1)
Y, X = ROWS.T
# NIST Statistical Reference Datasets, Norris: certified to 15 digits.
SLOPE, INTERCEPT = 1.00211681802045, -0.262323073774029
STANDARD_ERRORS = [0.429796848199937e-03, 0.232818234301152]
RESIDUAL_STD, R_SQUARED = 0.884796396144373, 0.999993745883712


def tensor(numbers, device):
    return torch.tensor(numbers, device=device, dtype=torch.float64)


def check(result, expected, device, rtol=1e-12, atol=0.0):
    assert (result.dtype, result.device.type) == (torch.float64, device)
    assert result.shape == np.shape(expected) and not result.requires_grad
    np.testing.assert_allclose(result.cpu(), expected, rtol=rtol, atol=atol)


def small(device):
    """Five points on no line."""
    x, y = [1.0, 2.0, 4.0, 7.0, 11.0], [3.0, -1.0, 2.0, 5.0, 4.0]
    return tensor(x, device), tensor(y, device)


def far(device, seed):
    """Twenty points on no line, as far from 0 as 1e5 times their distance."""
    random = np.random.default_rng(seed)
    x = 1e5 + random.uniform(-1, 1, size=20)
    return tensor(x, device), tensor(3 * x - 2e5 + random.normal(size=20), device)


def exact_line(x, y):
    """((slope, intercept), residual squares, total squares, squares of x), rational."""
    x, y = ([Fraction(n) for n in t.tolist()] for t in (x, y))
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    spread = sum((p - x_mean) ** 2 for p in x)
    slope = sum((p - x_mean) * (q - y_mean) for p, q in zip(x, y, strict=True)) / spread
    intercept = y_mean - slope * x_mean
    residual = sum((q - slope * p - intercept) ** 2 for p, q in zip(x, y, strict=True))
    return (slope, intercept), residual, sum((q - y_mean) ** 2 for q in y), spread


# Reading a data file: tests/test_faults.py tests read_csv, the same to the letter
# everywhere
def test_x_and_y_are_the_files(lesson, device):
    assert ROWS.shape == (36, 2)
    x, y = lesson.norris(device)
    check(x, X, device, rtol=0)
    check(y, Y, device, rtol=0)
    assert {t.device.type for t in lesson.norris()} == {"cpu"}


# 1. Least squares has a closed form: the certified line
def test_the_certified_values_are_nists(lesson):
    values = [SLOPE, INTERCEPT, *STANDARD_ERRORS, RESIDUAL_STD, R_SQUARED]
    assert list(lesson.CERTIFIED.values()) == values


def test_the_design_has_a_column_of_x_and_one_of_ones(lesson, device):
    check(
        lesson.design(tensor([2.0, -3.0, 0.5], device)),
        [[2, 1], [-3, 1], [0.5, 1]],
        device,
        0,
    )


@pytest.mark.parametrize("solve", ["by_normal_equations", "by_lstsq"])
def test_least_squares_finds_the_certified_line(lesson, device, solve):
    x, y = lesson.norris(device)
    theta = getattr(lesson, solve)(x, y)
    check(theta, [SLOPE, INTERCEPT], device, rtol=1e-10)
    found = lesson.residual_std_and_r_squared(x, y, theta)
    assert found == pytest.approx((RESIDUAL_STD, R_SQUARED), rel=1e-12)
    check(lesson.standard_errors(x, y, theta), STANDARD_ERRORS, device)


@pytest.mark.parametrize("solve", ["by_normal_equations", "by_lstsq"])
def test_least_squares_is_exact_arithmetics_on_other_data(lesson, device, solve):
    x, y = small(device)
    line, residual, total, spread = exact_line(x, y)
    theta = getattr(lesson, solve)(x, y)
    check(theta, [float(t) for t in line], device)
    expected = (float(residual / 3) ** 0.5, float(1 - residual / total))
    assert lesson.residual_std_and_r_squared(x, y, theta) == pytest.approx(
        expected, rel=1e-13
    )
    # Var(slope) = s^2 / Sxx, Var(intercept) = s^2 (1 / n + mean^2 / Sxx); the mean of x
    # is 5.
    variances = residual / 3 / spread, residual / 3 * (Fraction(1, 5) + 25 / spread)
    check(
        lesson.standard_errors(x, y, theta),
        [float(v) ** 0.5 for v in variances],
        device,
    )


def test_residuals_and_r_squared_are_those_of_any_line(lesson, device):
    x, y = tensor([0.0, 1.0, 2.0, 3.0], device), tensor([1.0, 0.0, 5.0, 2.0], device)
    # Of y = 2 x - 1 the residuals are 2, -1, 2, -3; around the mean 2 they are -1, -2,
    # 3, 0.
    found = lesson.residual_std_and_r_squared(x, y, tensor([2.0, -1.0], device))
    assert found == pytest.approx(((18 / 2) ** 0.5, 1 - 18 / 14), rel=1e-14)
    assert {type(number) for number in found} == {float}


def test_the_normal_equations_square_the_condition_number_and_lstsq_does_not(
    lesson, device
):
    errors = {"by_lstsq": [], "by_normal_equations": []}
    for seed in range(10):
        x, y = far(device, seed)
        line = exact_line(x, y)[0]
        for name, found in errors.items():
            theta = getattr(lesson, name)(x, y).tolist()
            found += [abs(t / float(c) - 1) for t, c in zip(theta, line, strict=True)]
    # Uniform in [-1, 1] has std 1 / sqrt(3): with columns of one length A's condition
    # number is 1.7e5, to be multiplied by the rounding 2.2e-16 once, or squared.
    condition = 1e5 * 3**0.5
    assert max(errors["by_lstsq"]) < 10 * 2.2e-16 * condition
    assert 0.1 < max(errors["by_normal_equations"]) / (2.2e-16 * condition**2) < 100


def test_relative_errors_are_relative_to_nists_values(lesson, device):
    theta = tensor([SLOPE * 1.25, INTERCEPT * 0.5], device)
    found = lesson.relative_errors(theta)
    assert found == pytest.approx([0.25, 0.5], rel=1e-12)
    assert {type(number) for number in found} == {float}
    with pytest.raises(ValueError):
        lesson.relative_errors(tensor([1.0, 2.0, 3.0], device))


# 2. Gradient descent on the raw data cannot find the intercept
def test_the_bowl_is_numpys(lesson, device):
    x, y = small(device)
    p, q = x.cpu().numpy(), y.cpu().numpy()
    h, g = lesson.bowl(x, y)
    expected = 2 * np.array([[np.mean(p * p), np.mean(p)], [np.mean(p), 1]])
    check(h, expected, device, rtol=1e-14)
    check(g, [2 * np.mean(p * q), 2 * np.mean(q)], device, rtol=1e-14)
    # The roots of lambda^2 - trace lambda + determinant.
    smallest, largest = sorted(
        np.roots([1, -np.trace(expected), np.linalg.det(expected)])
    )
    assert lesson.limit_and_condition(lesson.bowl(x, y)[0]) == pytest.approx(
        (2 / largest, largest / smallest), rel=1e-10
    )


def test_the_raw_datas_condition_number_is_731407_and_its_limit_3_408e_6(
    lesson, device
):
    x, y = lesson.norris(device)
    singular = np.linalg.svd(np.stack([X, np.ones(36)], axis=1), compute_uv=False)
    limit, condition = lesson.limit_and_condition(lesson.bowl(x, y)[0])
    assert condition == pytest.approx((singular[0] / singular[1]) ** 2, rel=1e-8)
    assert limit == pytest.approx(36 / singular[0] ** 2, rel=1e-12)
    assert f"{singular[0] / singular[1]:.2f}" == "855.22"
    assert (f"{condition:,.0f}", f"{limit:.3e}") == ("731,407", "3.408e-06")


def test_descent_follows_the_slope_of_the_loss(lesson, device):
    x, y = small(device)
    p, q, theta = x.cpu().numpy(), y.cpu().numpy(), np.zeros(2)
    for _ in range(7):
        error = theta[0] * p + theta[1] - q
        theta = theta - 0.01 * 2 * np.array([np.mean(error * p), np.mean(error)])
    check(lesson.descend(x, y, 0.01, 7), theta, device)
    check(lesson.descend(x, y, 0.01, 0), [0, 0], device, rtol=0)


def test_ten_thousand_steps_on_raw_data_leave_the_intercept_wrong(lesson, device):
    x, y = lesson.norris(device)
    lr = 0.9 * lesson.limit_and_condition(lesson.bowl(x, y)[0])[0]
    slope, intercept = lesson.descend(x, y, lr, 10_000).tolist()
    # The same path in the eigenvectors of H: each coordinate shrinks by 1 - lr lambda a
    # step.
    design = np.stack([X, np.ones(36)], axis=1)
    values, vectors = np.linalg.eigh(design.T @ design / 18)
    minimum = np.array([SLOPE, INTERCEPT])
    shrunk = (1 - lr * values) ** 10_000 * (vectors.T @ minimum)
    assert [slope, intercept] == pytest.approx(minimum - vectors @ shrunk, abs=1e-9)
    assert f"{intercept:.3f}" == "-0.005"


# 3. Standardise x: the valley becomes a round bowl
def test_standardising_makes_the_bowl_round(lesson, device):
    for x, y in (lesson.norris(device), small(device)):
        z, mean, std = lesson.standardised(x)
        p = x.cpu().numpy()
        assert (mean.item(), std.item()) == pytest.approx(
            (p.mean(), p.std()), rel=1e-14
        )
        check(z, (p - p.mean()) / p.std(), device, atol=1e-15)
        assert lesson.limit_and_condition(lesson.bowl(z, y)[0]) == pytest.approx(
            (1, 1), rel=1e-12
        )


def test_a_line_in_z_is_a_line_in_x(lesson, device):
    mean, std = tensor(7.0, device), tensor(2.0, device)
    # 3 (x - 7) / 2 + 5
    check(
        lesson.in_units_of_the_data(tensor([3.0, 5.0], device), mean, std),
        [1.5, -5.5],
        device,
    )


@pytest.mark.parametrize(("lr", "steps"), [(0.25, 40), (0.5, 1)])
def test_on_standardised_data_descent_finds_the_certified_line(
    lesson, device, lr, steps
):
    x, y = lesson.norris(device)
    z, mean, std = lesson.standardised(x)
    theta = lesson.in_units_of_the_data(lesson.descend(z, y, lr, steps), mean, std)
    # 40 halvings leave 1e-12 of the bias 420, which is 1e-9 of the intercept.
    check(theta, [SLOPE, INTERCEPT], device, rtol=3e-9)


def test_standardised_by_rows_multiples_of_a_row_are_one_row_and_by_columns_not():
    x = torch.tensor([[1.0, 2.0], [10.0, 20.0]], dtype=torch.float64)
    by_rows, by_columns = (
        (x - x.mean(dim, keepdim=True)) / x.std(dim, keepdim=True, correction=0)
        for dim in (1, 0)
    )
    assert by_rows.tolist() == [[-1, 1], [-1, 1]]
    assert by_columns.tolist() == [[-1, -1], [1, 1]]


# 4. The pipeline gets there in float32, to float32's precision
def test_training_is_descent_and_returns_the_loss_before_each_step(lesson, device):
    x, y = small(device)
    model = torch.nn.Linear(1, 1, device=device, dtype=torch.float64).eval()
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    arguments = (model, torch.nn.MSELoss(), optimizer, x[:, None], y[:, None])
    losses = lesson.train(*arguments, epochs=2) + lesson.train(*arguments, epochs=1)
    assert model.training
    for steps, loss in enumerate(losses):
        slope, intercept = lesson.descend(x, y, 0.01, steps).tolist()
        expected = np.mean((slope * x.cpu().numpy() + intercept - y.cpu().numpy()) ** 2)
        assert loss == pytest.approx(expected, rel=1e-12)
    found = [model.weight.item(), model.bias.item()]
    assert found == pytest.approx(lesson.descend(x, y, 0.01, 3).tolist(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_pipeline_finds_the_certified_line_to_its_precision(lesson, device, dtype):
    x, y = lesson.norris(device)
    theta, losses = lesson.fit(x, y[:, None], torch.nn.MSELoss(), dtype)
    # What is rounded are the weight and the bias of z, 344 and 420: numbers of dtype
    # between 256 and 512 lie 256 eps apart. Training stops moving about one such step
    # from the minimum (and the certified digits, times X, are good to 1e-11).
    assert (theta.shape, theta.dtype, theta.device.type) == (
        (2,),
        torch.float64,
        device,
    )
    slope, intercept = theta.tolist()
    step = 256 * torch.finfo(dtype).eps
    near = 1.5 * step + 1e-11
    assert slope * X.std() == pytest.approx(SLOPE * X.std(), abs=near)
    assert slope * X.mean() + intercept == pytest.approx(
        SLOPE * X.mean() + INTERCEPT, abs=near
    )
    # At lr 1/4 the distance to the minimum halves at every step, the excess loss falls
    # to 1/4.
    least, start = RESIDUAL_STD**2 * 34 / 36, np.mean(Y**2)
    expected = [least + (start - least) / 4**k for k in range(60)]
    assert losses == pytest.approx(expected, rel=10 * step)


def test_each_of_60_steps_halves_the_distance_to_the_minimum(lesson, device):
    x, y = lesson.norris(device)
    means = []

    def loss_function(p, target):
        means.append(p.mean().item())
        return lesson.squared_error(p, target)

    lesson.fit(x, y[:, None], loss_function)
    # z has mean 0, so that the mean prediction is the bias: 0, 1/2, 3/4, ... of the
    # mean of y.
    assert means == pytest.approx(
        [Y.mean() * (1 - 0.5**k) for k in range(60)], rel=1e-12
    )


def test_float32_is_worse_than_float64_and_float64_is_the_default(lesson, device):
    x, y = lesson.norris(device)
    mse = torch.nn.MSELoss()
    errors = [
        lesson.relative_errors(lesson.fit(x, y[:, None], mse, **choice)[0])[1]
        for choice in ({}, {"dtype": torch.float64}, {"dtype": torch.float32})
    ]
    assert max(errors[:2]) < 1e-9 < errors[2]


# 5. Mistake: predictions (n, 1) against targets (n,)
def test_predictions_against_flat_targets_are_compared_in_all_pairs(lesson, device):
    p, y = tensor([[1.0], [2.0], [6.0]], device), tensor([4.0, 0.0, -5.0], device)
    pairs = [(a - b) ** 2 for a in (1, 2, 6) for b in (4, 0, -5)]
    for loss in (lesson.squared_error(p, y), lesson.broadcast_loss(p, y)):
        check(loss, np.mean(pairs), device, rtol=1e-14)
    check(lesson.squared_error(p, y[:, None]), (9 + 4 + 121) / 3, device, rtol=1e-14)


def test_flat_targets_take_the_slope_to_zero_and_the_loss_to_the_variance(
    lesson, device
):
    x, y = lesson.norris(device)
    theta, losses = lesson.fit(x, y, lesson.squared_error)
    check(theta, [0, Y.mean()], device, atol=1e-9)
    assert losses[-1] == pytest.approx(Y.var(), rel=1e-12)


def test_mseloss_warns_of_flat_targets_and_a_loss_by_hand_is_silent(lesson, device):
    x, y = lesson.norris(device)
    with pytest.warns(UserWarning, match="target size"):
        theta, _ = lesson.fit(x, y, torch.nn.MSELoss())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silent, _ = lesson.fit(x, y, lesson.squared_error)
    check(theta, silent.cpu(), device, atol=1e-9)


# 6. Mistake: a learning rate that "always works" on features that are not scaled
@pytest.mark.parametrize("lr", [0.01, 0.1])
def test_unscaled_features_multiply_every_step_by_the_steepest_factor(
    lesson, device, lr
):
    x, y = lesson.norris(device)
    largest = np.linalg.norm(np.stack([X, np.ones(36)], axis=1), 2) ** 2 / 18
    assert lesson.step_ratio_in_theory(x, y, lr) == pytest.approx(
        abs(1 - lr * largest), rel=1e-12
    )
    for steps in (4, 6):
        assert lesson.step_ratio(x, y, lr, steps) == pytest.approx(
            abs(1 - lr * largest), rel=1e-9
        )
    assert not lesson.descend(x, y, lr, 100).isfinite().all()


def test_step_ratio_compares_the_last_step_with_the_one_before(lesson, device):
    x, y = small(device)
    a, b, c = (lesson.descend(x, y, 0.01, steps).cpu().numpy() for steps in (1, 2, 3))
    found = lesson.step_ratio(x, y, 0.01, 3)
    expected = np.linalg.norm(c - b) / np.linalg.norm(b - a)
    assert type(found) is float and found == pytest.approx(expected, rel=1e-12)


# 7. Mistake: stopping when the line looks right
def test_the_line_looks_right_long_before_the_intercept_is(lesson, device):
    x, y = lesson.norris(device)
    lr = 0.9 * lesson.limit_and_condition(lesson.bowl(x, y)[0])[0]
    for steps in (100, 10_000):
        r_squared, error = lesson.quality_when_stopped(x, y, lr, steps)
        slope, intercept = lesson.descend(x, y, lr, steps).tolist()
        expected = 1 - np.sum((slope * X + intercept - Y) ** 2) / np.sum(
            (Y - Y.mean()) ** 2
        )
        assert r_squared == pytest.approx(expected, rel=1e-12)
        assert error == pytest.approx(abs(intercept / INTERCEPT - 1), rel=1e-9)
        assert r_squared > 0.99999 and error > 0.97


def test_the_stopped_line_is_nowhere_further_off_than_the_residuals(lesson, device):
    x, y = lesson.norris(device)
    lr = 0.9 * lesson.limit_and_condition(lesson.bowl(x, y)[0])[0]
    certified = tensor([SLOPE, INTERCEPT], device)
    for steps in (100, 1000):
        assert (
            lesson.largest_change(x, lesson.descend(x, y, lr, steps), certified)
            < RESIDUAL_STD
        )


@pytest.mark.parametrize(("x", "expected"), [([-10.0, 0.0, 3.0], 7), ([3.0, 14.0], 5)])
def test_the_largest_change_is_that_of_the_predictions(lesson, device, x, expected):
    theta, other = tensor([1.0, 2.0], device), tensor([0.5, 4.0], device)  # x / 2 - 2
    for pair in ((theta, other), (other, theta)):
        change = lesson.largest_change(tensor(x, device), *pair)
        assert type(change) is float and change == expected


# The picture
def test_the_picture_shows_the_line_and_its_residuals(lesson, device):
    above, below = lesson.figure(device).axes
    line, points = above.lines
    np.testing.assert_array_equal(points.get_xydata(), np.stack([X, Y], axis=1))
    np.testing.assert_array_equal(line.get_xdata(), [0, 1000])
    np.testing.assert_allclose(
        line.get_ydata(), [INTERCEPT, SLOPE * 1000 + INTERCEPT], rtol=1e-9
    )
    assert line.get_label() == "y = 1.00212 x - 0.26232"
    zero, residuals = below.lines
    assert set(zero.get_ydata()) == {0}
    np.testing.assert_allclose(
        residuals.get_ydata(), Y - SLOPE * X - INTERCEPT, atol=1e-9
    )
    assert abs(residuals.get_ydata().sum()) < 1e-8  # as the normal equations demand
