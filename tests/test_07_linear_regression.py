"""What lesson 07 claims."""

import re
import runpy
import types
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import (
    CHAPTERS,
    ROOT,
    assert_values,
    loud_messages,
    mended,
    printed_if_tripled,
    program_of,
    read,
    tensor64,
)
from torch import nn

(CHAPTER,) = (path for path in CHAPTERS if path.stem == "07_linear_regression")
ROWS = np.loadtxt(ROOT / "data" / "norris.csv", delimiter=",", skiprows=1)
Y, X = ROWS.T
DESIGN = np.stack([X, np.ones(36)], axis=1)
# NIST Statistical Reference Datasets, Norris: certified to 15 digits.
SLOPE, INTERCEPT = 1.00211681802045, -0.262323073774029
STANDARD_ERRORS = [0.429796848199937e-03, 0.232818234301152]
RESIDUAL_STD, R_SQUARED = 0.884796396144373, 0.999993745883712
SOLVERS = ["line_by_hand", "line_by_lstsq"]


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


def in_float(numbers):
    return [float(number) for number in numbers]


def numbers_behind(out, label):
    """The numbers of the one line that begins with a label."""
    (line,) = re.findall(rf"^ *{re.escape(label)}(.*)$", out, re.MULTILINE)
    return [
        float(n.replace(",", "")) for n in re.findall(r"-?[\d.,]+(?:e-?\d+)?", line)
    ]


def test_x_and_y_are_the_files(lesson, device):
    x, y = lesson.norris(device)
    assert_values(x, X, device, rtol=0)
    assert_values(y, Y, device, rtol=0)


def test_a_reading_that_is_no_number_ends_the_run_in_one_line(
    lesson, tmp_path, monkeypatch
):
    lines = (ROOT / "data" / "norris.csv").read_text("ascii").splitlines()
    for word in ("nan", "inf", "-inf"):
        spoilt = [*lines[:5], f"{word},1.0", *lines[6:], ""]
        (tmp_path / "norris.csv").write_text("\n".join(spoilt), "ascii")
        monkeypatch.setattr(lesson, "DATA", tmp_path)
        with pytest.raises(SystemExit, match="not finite"):
            lesson.norris()


# 1. The best line has a formula
def test_the_certified_values_are_nists(lesson):
    values = [SLOPE, INTERCEPT, *STANDARD_ERRORS, RESIDUAL_STD, R_SQUARED]
    assert list(lesson.CERTIFIED.values()) == values


@pytest.mark.parametrize("solve", SOLVERS)
def test_both_ways_find_all_printed_digits_of_the_certified_line(lesson, device, solve):
    slope, intercept = getattr(lesson, solve)(*lesson.norris(device))
    assert_values(slope, SLOPE, device, rtol=1e-12)
    assert_values(intercept, INTERCEPT, device, rtol=1e-10)


@pytest.mark.parametrize("solve", SOLVERS)
def test_both_ways_are_exact_arithmetics_on_other_data(lesson, device, solve):
    x, y = five_points(device)
    line = torch.stack(getattr(lesson, solve)(x, y))
    assert_values(line, in_float(exact_line(x, y)[0]), device)


def test_lstsq_and_the_formula_round_less_than_a_product_of_matrices(lesson, device):
    def by_product(x, y):
        a = lesson.with_ones(x)
        return torch.linalg.solve(a.T @ a, a.T @ y)

    worst = {}
    for name in [*SOLVERS, "by_product"]:
        solve = by_product if name == "by_product" else getattr(lesson, name)
        errors = []
        for seed in range(10):
            x, y = far_from_zero(device, seed)
            for number, exact in zip(solve(x, y), exact_line(x, y)[0], strict=True):
                errors.append(abs(number.item() / float(exact) - 1))
        worst[name] = max(errors)
    # Uniform in [-1, 1] has std 1 / sqrt(3): with columns of one length A's condition
    # number is 1.7e5, to be multiplied by the rounding 2.2e-16 once, or squared.
    condition = 1e5 * 3**0.5
    assert worst["line_by_lstsq"] < 10 * 2.2e-16 * condition
    assert worst["line_by_hand"] < 10 * 2.2e-16 * condition
    assert 0.1 < worst["by_product"] / (2.2e-16 * condition**2) < 100


def test_the_residuals_of_the_best_line_satisfy_the_normal_equations(lesson, device):
    x, y = five_points(device)
    slope, intercept = lesson.line_by_hand(x, y)
    residuals = y - slope * x - intercept
    assert abs(residuals.sum().item()) < 1e-13
    assert abs((residuals * x).sum().item()) < 1e-12


def test_the_certified_line_is_printed_whatever_is_found(lesson):
    out = printed_if_tripled(lesson, 1, *SOLVERS)
    assert f"   certified   {SLOPE}   {INTERCEPT}\n" in out
    for name in ("by hand", "lstsq"):
        assert numbers_behind(out, name) == pytest.approx([3 * SLOPE, 3 * INTERCEPT])


# 2. What the line leaves over
def test_residual_std_and_r_squared_of_the_line_are_certified(lesson, device):
    x, y = lesson.norris(device)
    p = SLOPE * x + INTERCEPT
    assert_values(lesson.residual_std(p, y), RESIDUAL_STD, device)
    assert_values(lesson.r_squared(p, y), R_SQUARED, device, rtol=1e-14)


def test_residual_std_and_r_squared_are_those_of_any_predictions(lesson, device):
    # The residuals are 2, -1, 2, -1; around the mean, 2.5, y is -1.5, -2.5, 2.5, 1.5.
    p, y = tensor64([-1, 1, 3, 5], device), tensor64([1, 0, 5, 4], device)
    assert_values(lesson.residual_std(p, y), (10 / 2) ** 0.5, device)
    assert_values(lesson.r_squared(p, y), 1 - 10 / 17, device)


def test_a_good_line_has_a_bad_r_squared_where_x_hardly_varies(lesson, capsys):
    lesson.show_2("cpu")
    out = capsys.readouterr().out
    small = X < 1
    residuals = Y - SLOPE * X - INTERCEPT
    spread = np.sum((Y[small] - Y[small].mean()) ** 2)
    expected = 1 - np.sum(residuals[small] ** 2) / spread
    assert numbers_behind(out, "readings with x below 1:") == [small.sum()]
    printed = numbers_behind(out, "their R-squared, by the same line:")
    assert printed == pytest.approx([expected], abs=0.005) and expected < -1


def test_the_certified_quality_is_printed_whatever_is_found(lesson):
    out = printed_if_tripled(lesson, 2, "residual_std", "r_squared")
    assert f"   certified      {RESIDUAL_STD}\n" in out
    assert f"   certified      {R_SQUARED}\n" in out
    assert numbers_behind(out, "residual std") == pytest.approx([3 * RESIDUAL_STD])
    assert numbers_behind(out, "R-squared") == pytest.approx([3 * R_SQUARED])


# 3. The loop on the raw readings
def descent(x, y, lr, steps):
    """((slope, intercept), losses before each step) from 0, in NumPy."""
    theta, losses = np.zeros(2), []
    for _ in range(steps):
        error = theta[0] * x + theta[1] - y
        losses.append(np.mean(error**2))
        theta = theta - lr * 2 * np.array([np.mean(error * x), np.mean(error)])
    return theta, losses


def test_the_loop_is_gradient_descent_from_zero(lesson, device):
    x, y = five_points(device)
    *line, losses = lesson.train(x[:, None], y[:, None], 0.01, 7)
    expected, expected_losses = descent(x.cpu().numpy(), y.cpu().numpy(), 0.01, 7)
    np.testing.assert_allclose(line, expected, rtol=1e-12)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-12)


def test_the_closed_form_is_the_loop(lesson, device):
    x, y = five_points(device)
    for steps in (0, 1, 7, 200):
        expected, _ = descent(x.cpu().numpy(), y.cpu().numpy(), 0.01, steps)
        line = torch.stack(lesson.after_steps(x, y, 0.01, steps))
        assert_values(line, expected, device, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("steps", [100, 10_000, 2_000_000])
def test_on_the_raw_readings_each_direction_shrinks_by_its_curvature(
    lesson, device, steps
):
    line = torch.stack(lesson.after_steps(*lesson.norris(device), 3e-6, steps))
    # In the eigenvectors of H each coordinate shrinks by 1 - lr lambda a step.
    values, vectors = np.linalg.eigh(DESIGN.T @ DESIGN / 18)
    minimum = np.array([SLOPE, INTERCEPT])
    shrunk = (1 - 3e-6 * values) ** steps * (vectors.T @ minimum)
    assert_values(line, minimum - vectors @ shrunk, device, rtol=0, atol=1e-7)


def test_r_squared_is_content_while_the_intercept_is_not_even_negative(lesson, device):
    x, y = lesson.norris(device)
    x_rows, y_rows = x[:, None].float(), y[:, None].float()
    slope, intercept, _ = lesson.train(x_rows, y_rows, 3e-6, 100)
    p = slope * X + intercept
    assert 1 - np.sum((Y - p) ** 2) / np.sum((Y - Y.mean()) ** 2) > 0.99999
    assert intercept > 0
    # Nothing that a user would predict with it is off by more than the noise.
    assert np.abs(p - SLOPE * X - INTERCEPT).max() < RESIDUAL_STD


def test_only_millions_of_steps_find_the_intercept_on_the_raw_readings(lesson, device):
    x, y = lesson.norris(device)
    wrong = {
        steps: abs(lesson.after_steps(x, y, 3e-6, steps)[1].item() / INTERCEPT - 1)
        for steps in (10_000, 1_000_000, 2_000_000, 10_000_000)
    }
    assert wrong[10_000] > 0.98 and wrong[1_000_000] > 0.09
    assert wrong[2_000_000] < 0.01 and wrong[10_000_000] < 1e-6


def test_at_a_thousandth_the_loss_grows_by_the_square_of_the_steepest_factor(
    lesson, device
):
    x, y = lesson.norris(device)
    _, _, losses = lesson.train(x[:, None].float(), y[:, None].float(), 0.001, 30)
    factor = 1 - 0.001 * np.linalg.norm(DESIGN, 2) ** 2 / 18
    assert losses[3] / losses[2] == pytest.approx(factor**2, rel=1e-4)
    # float32 ends at 3.4e38
    expected = [losses[2] * factor ** (2 * k) > 3.4e38 for k in range(-2, 5)]
    assert [np.isinf(loss) for loss in losses[:7]] == expected
    assert np.isnan(losses[-1])


def test_section_3_prints_the_closed_form_for_many_steps(lesson, capsys):
    lesson.show_3("cpu")
    out = capsys.readouterr().out
    assert "after 30 steps   slope nan   intercept nan\n" in out
    values, vectors = np.linalg.eigh(DESIGN.T @ DESIGN / 18)
    for steps in (10, 100, 1000, 10**4, 10**5, 10**6, 2 * 10**6, 10**7):
        minimum = np.array([SLOPE, INTERCEPT])
        shrunk = (1 - 3e-6 * values) ** steps * (vectors.T @ minimum)
        slope, intercept = minimum - vectors @ shrunk
        squares = np.sum((Y - slope * X - intercept) ** 2)
        quality = 1 - squares / np.sum((Y - Y.mean()) ** 2)
        printed = numbers_behind(out, f"{steps:,} ")
        assert printed == pytest.approx([slope, intercept, quality], abs=6e-5)


# 4. Standardise the readings
def test_the_curvatures_are_the_squared_singular_values(lesson, device):
    x, _ = lesson.norris(device)
    assert_values(lesson.with_ones(x), DESIGN, device, rtol=0)
    largest, smallest = np.linalg.svd(DESIGN, compute_uv=False)
    found = lesson.curvatures(x)
    assert found == pytest.approx((smallest**2 / 18, largest**2 / 18), rel=1e-8)
    x, _ = five_points(device)
    p = x.cpu().numpy()
    h = 2 * np.array([[np.mean(p * p), np.mean(p)], [np.mean(p), 1]])
    assert_values(lesson.hessian(x), h, device, rtol=1e-14)
    # The roots of lambda^2 - trace lambda + determinant.
    roots = sorted(np.roots([1, -np.trace(h), np.linalg.det(h)]))
    assert lesson.curvatures(x) == pytest.approx(roots, rel=1e-10)


@pytest.mark.parametrize("scale", [0.01, 1, 100])
def test_the_limit_lies_between_the_two_bounds_of_the_chapter(lesson, device, scale):
    for x in (lesson.norris(device)[0], five_points(device)[0]):
        square = np.mean((scale * x.cpu().numpy()) ** 2)
        limit = 2 / lesson.curvatures(scale * x)[1]
        assert 1 / (square + 1) <= limit <= 1 / square * (1 + 1e-12)


def test_standardising_makes_the_bowl_round(lesson, device):
    for x, _ in (lesson.norris(device), five_points(device)):
        z, mean, std = lesson.standardised(x)
        p = x.cpu().numpy()
        assert_values(mean, p.mean(), device, rtol=1e-14)
        assert_values(std, p.std(), device, rtol=1e-14)
        assert_values(z, (p - p.mean()) / p.std(), device, atol=1e-15)
        assert lesson.curvatures(z) == pytest.approx((2, 2), rel=1e-12)


def test_a_line_in_z_is_a_line_in_x(lesson):
    # 3 (x - 7) / 2 + 5
    assert lesson.in_units_of_the_data(3.0, 5.0, 7.0, 2.0) == (1.5, -5.5)


@pytest.mark.parametrize(("lr", "steps"), [(0.25, 40), (0.5, 1)])
def test_on_standardised_readings_the_loop_finds_the_certified_line(
    lesson, device, lr, steps
):
    x, y = lesson.norris(device)
    z, mean, std = lesson.standardised(x)
    line = lesson.train(z[:, None], y[:, None], lr, steps)[:2]
    line = torch.stack(lesson.in_units_of_the_data(*line, mean, std))
    # 40 halvings leave 1e-12 of the bias 420, which is 1e-9 of the intercept.
    assert_values(line, [SLOPE, INTERCEPT], device, rtol=3e-9)


def test_five_steps_at_a_quarter_leave_a_half_to_the_fifth(lesson, capsys):
    lesson.show_4("cpu")
    share = 1 - 0.5**5
    printed = numbers_behind(
        capsys.readouterr().out, "lr 0.25   after  5 steps   slope"
    )
    assert printed == pytest.approx([share * SLOPE, share * INTERCEPT], abs=6e-8)


def test_standardised_by_rows_multiples_of_a_row_are_one_row_and_by_columns_not():
    x = tensor64([[1, 2], [10, 20]])
    by_rows, by_columns = (
        (x - x.mean(dim, keepdim=True)) / x.std(dim, keepdim=True, correction=0)
        for dim in (1, 0)
    )
    assert by_rows.tolist() == [[-1, 1], [-1, 1]]
    assert by_columns.tolist() == [[-1, -1], [1, 1]]


def test_columns_that_say_nearly_the_same_stay_a_valley_when_they_are_standardised():
    random = np.random.default_rng(0)
    first = random.normal(size=500)
    second = first + 0.01 * random.normal(size=500)
    table = np.stack([first, second], axis=1)
    z = (table - table.mean(axis=0)) / table.std(axis=0)
    # The correlation r is 1 - 0.01^2 / 2; the eigenvalues of Z^T Z / n are 1 + r, 1 - r
    assert np.linalg.cond(z.T @ z) == pytest.approx(2 / (0.01**2 / 2), rel=0.3)


# 5. Mistake: predictions (n, 1) against targets (n,)
def test_the_loss_of_all_pairs_is_in_the_means_and_variances(lesson, device):
    p, y = tensor64([1, 2, 6], device), tensor64([4, 0, -5], device)
    pairs = np.mean([(a - b) ** 2 for a in (1, 2, 6) for b in (4, 0, -5)])
    assert_values(lesson.loss_of_all_pairs(p, y), pairs, device, rtol=1e-14)
    assert_values(((p[:, None] - y) ** 2).mean(), pairs, device, rtol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_flat_targets_take_the_slope_to_zero_and_the_loss_to_the_variance(
    lesson, device, seed
):
    x, y = lesson.norris(device)
    z = lesson.standardised(x)[0][:, None]
    torch.manual_seed(seed)
    slope, intercept, loss = lesson.train_on_flat_targets(z, y, 0.25, 45)
    assert abs(slope) < 1e-12  # nn.Linear begins below 1; 2^-45 is left of it
    assert intercept == pytest.approx(Y.mean(), rel=1e-11)
    assert loss == pytest.approx(Y.var(), rel=1e-12)


def test_the_flat_targets_are_the_only_mistake_of_their_loop(lesson, device):
    x, y = lesson.norris(device)
    z, mean, std = lesson.standardised(x)
    right = mended(
        lesson, "train_on_flat_targets", "(model(x) - y)", "(model(x) - y[:, None])"
    )
    line = right(z[:, None], y, 0.25, 45)[:2]
    line = torch.stack(lesson.in_units_of_the_data(*line, mean, std))
    assert_values(line, [SLOPE, INTERCEPT], device, rtol=3e-9)


def test_the_theory_of_section_5_is_not_the_measurement(lesson):
    out = printed_if_tripled(lesson, 5, "train_on_flat_targets", "r_squared", "train")
    # All pairs have the mean square var p + var y, and var p is R-squared times var y.
    wrong = 1 - 36 * (1 + R_SQUARED)
    assert numbers_behind(out, "in theory") == pytest.approx([wrong], abs=6e-6)
    found = [numbers_behind(out, label) for label in ("p (n,) ", "p (n, 1) ")]
    expected = [[3 * R_SQUARED], [3 * wrong]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    assert f"   y: mean {Y.mean():.4f}, variance {Y.var():.4f}\n" in out
    assert f"it predicts {3 * Y.mean():.4f} for" in out
    assert f"loss {3 * Y.var():.4f}\n" in out


def test_mse_loss_warns_once_of_a_flat_target(lesson):
    loop = "for _ in range(3):\n    nn.MSELoss()(torch.ones(3, 1), torch.ones(3))\n"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        exec(compile(loop, "a_loop.py", "exec"), {"nn": nn, "torch": torch})
    assert len(caught) == 1 and "Using a target size" in str(caught[0].message)


# train.py
@pytest.fixture(scope="module")
def train_py(tmp_path_factory):
    """The variables of the chapter's train.py after it has run."""
    folder = tmp_path_factory.mktemp("train_py")
    (folder / "train.py").write_text(program_of("07"), "utf-8")
    (folder / "data").symlink_to(ROOT / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return types.SimpleNamespace(**runpy.run_path("train.py"))


def wine():
    return np.loadtxt(ROOT / "data" / "wine.csv", delimiter=",", skiprows=1)


def best_fit(x, y):
    """Least squares by NumPy: the weights of the columns of x, and the bias."""
    return np.linalg.lstsq(np.hstack([x, np.ones((len(x), 1))]), y, rcond=None)[0]


def losses_of_best_fit(table):
    """(training, test loss, test loss of the mean): 108 rows, the last 35."""
    x, y = table[:, 2:], table[:, 1:2]
    theta = best_fit(x[:108], y[:108])
    squares = (np.hstack([x, np.ones((len(x), 1))]) @ theta - y) ** 2
    return (
        squares[:108].mean(),
        squares[143:].mean(),
        ((y[:108].mean() - y[143:]) ** 2).mean(),
    )


def in_order(table):
    return table[np.lexsort(table.T)]


def test_every_wine_is_in_one_of_the_three_parts(train_py):
    parts = [
        (train_py.x[a:b], train_py.y[a:b])
        for a, b in ((0, 108), (108, 143), (143, 178))
    ]
    assert [len(y) for y in (train_py.y_train, train_py.y_valid, train_py.y_test)] == [
        len(y) for _, y in parts
    ]
    table = torch.cat([train_py.y, train_py.x], dim=1).cpu().numpy()
    np.testing.assert_allclose(in_order(table), in_order(wine()[:, 1:]), rtol=1e-6)
    # 35 rows at random out of 178: all three kinds are among them but once in 1e5
    kinds = train_py.table[:, 0].cpu()
    assert all(len(set(part.tolist())) == 3 for part in (kinds[:108], kinds[143:]))


def test_the_training_rows_alone_give_the_mean_and_the_std(train_py):
    rows = train_py.x[:108].double().cpu().numpy()
    np.testing.assert_allclose(train_py.mean.cpu(), rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(train_py.std.cpu(), rows.std(axis=0, ddof=1), rtol=1e-5)
    for part, raw in (
        (train_py.x_train, train_py.x[:108]),
        (train_py.x_valid, train_py.x[108:143]),
        (train_py.x_test, train_py.x[143:]),
    ):
        expected = (raw.double().cpu().numpy() - rows.mean(axis=0)) / rows.std(
            axis=0, ddof=1
        )
        np.testing.assert_allclose(part.cpu(), expected, atol=1e-4)


def test_the_program_arrives_at_the_best_fit(train_py):
    table = train_py.table.double().cpu().numpy()
    best, test, of_mean = losses_of_best_fit(table)
    assert train_py.loss.item() == pytest.approx(best, abs=1e-5)
    assert train_py.test.item() == pytest.approx(test, abs=1e-3)
    assert train_py.guess.item() == pytest.approx(of_mean, abs=1e-5)


def test_the_file_alone_predicts_as_the_trained_model_does(train_py):
    assert sorted(train_py.saved) == ["mean", "std", "weights"]
    trained = train_py.model.cpu()(train_py.x_test[-1:].cpu()).item()
    assert train_py.alcohol == pytest.approx(trained, rel=1e-5)
    assert train_py.wine.equal(train_py.x[-1:].cpu())


def test_over_two_hundred_shuffles_the_model_beats_the_mean():
    ratios = []
    for seed in range(200):
        table = np.random.default_rng(seed).permutation(wine())
        _, test, of_mean = losses_of_best_fit(table)
        ratios.append(test / of_mean)
    # half the loss of the mean, and never more than it
    assert 0.45 < np.mean(ratios) < 0.6 and max(ratios) < 1


def test_without_the_shuffle_the_mean_beats_the_model():
    _, test, of_mean = losses_of_best_fit(wine())
    assert len(set(wine()[143:, 0])) == 1 and wine()[143, 0] not in wine()[:108, 0]
    assert test > 1.5 * of_mean


# 6. How sure is the intercept?
def test_the_standard_errors_are_certified(lesson, device):
    x, y = lesson.norris(device)
    assert_values(lesson.standard_errors(x, y), STANDARD_ERRORS, device)


def test_the_standard_errors_are_exact_arithmetics_on_other_data(lesson, device):
    x, y = five_points(device)
    _, residual, _, spread = exact_line(x, y)
    # Var(slope) = s^2 / Sxx, Var(intercept) = s^2 (1 / n + mean^2 / Sxx); mean x is 5.
    variances = residual / 3 / spread, residual / 3 * (Fraction(1, 5) + 25 / spread)
    expected = [float(variance) ** 0.5 for variance in variances]
    assert_values(lesson.standard_errors(x, y), expected, device)


def test_lines_of_new_readings_scatter_as_the_standard_errors_say(lesson, device):
    lines = lesson.lines_of_new_readings(*lesson.norris(device), times=4000).cpu()
    assert lines.shape == (2, 4000)
    # Six standard deviations: 1 / sqrt(2 n) for a std, 1 / sqrt(n) for a mean.
    np.testing.assert_allclose(
        lines.std(dim=1), STANDARD_ERRORS, rtol=6 / 8000**0.5, atol=0
    )
    off = (lines.mean(dim=1).numpy() - [SLOPE, INTERCEPT]) / STANDARD_ERRORS
    assert np.abs(off).max() < 6 / 4000**0.5


def test_section_6_prints_theory_and_certificate_beside_the_experiment(lesson):
    out = printed_if_tripled(lesson, 6, "lines_of_new_readings")
    assert numbers_behind(out, "std of 10,000 intercepts") == pytest.approx(
        [3 * STANDARD_ERRORS[1]], rel=0.05
    )
    assert numbers_behind(out, "std of 10,000 slopes") == pytest.approx(
        [3 * STANDARD_ERRORS[0]], rel=0.05
    )
    for error, digits in zip(STANDARD_ERRORS, (14, 11), strict=True):
        assert f"   by the formula             {error:.{digits}f}\n" in out
    out = printed_if_tripled(lesson, 6, "standard_errors", "lines_of_new_readings")
    assert out.count("   certified                  ") == 2
    assert f"certified                  {STANDARD_ERRORS[0]}\n" in out
    assert f"certified                  {STANDARD_ERRORS[1]}\n" in out


def test_chance_puts_every_eighth_intercept_above_zero(lesson, capsys):
    lesson.show_6("cpu")
    out = capsys.readouterr().out
    in_errors = INTERCEPT / STANDARD_ERRORS[1]
    printed = numbers_behind(out, "the intercept in standard errors")
    assert printed == pytest.approx([in_errors], abs=0.005)
    share = torch.special.ndtr(torch.tensor(in_errors)).item()
    printed = numbers_behind(out, "share of the 10,000 intercepts above 0")
    # six standard deviations of a share of 10,000, and the rounding
    assert printed == pytest.approx([share], abs=6 * (share / 1e4) ** 0.5 + 0.005)


# 7. What float32 keeps
def test_float32_rounds_the_difference_of_two_large_numbers(lesson, capsys):
    lesson.show_7("cpu")
    out = capsys.readouterr().out
    y_mean, rest = Y.mean(), SLOPE * X.mean()
    exact = numbers_behind(out, "float64")
    assert exact == pytest.approx([y_mean, rest, INTERCEPT], abs=6e-9)
    small = [np.float32(y_mean), np.float32(rest)]
    expected = [*map(float, small), float(small[0] - small[1])]
    assert numbers_behind(out, "float32") == pytest.approx(expected, abs=6e-9)
    # numbers of float32 between 256 and 512 lie 2^-15 apart
    assert 1e-7 < abs(expected[2] - INTERCEPT) < 2**-15
    assert numbers_behind(out, "certified") == pytest.approx([INTERCEPT], abs=6e-9)


def test_a_bad_fit_brings_the_square_of_the_condition_number_in():
    # Trefethen and Bau, theorem 18.1: k + k^2 |r| / (|A| |theta|). A change of A by
    # eps |A| r v^T, v the flattest direction, comes to the second term alone.
    theta = np.array([SLOPE, INTERCEPT])
    residuals = Y - DESIGN @ theta
    _, values, vectors = np.linalg.svd(DESIGN, full_matrices=False)
    condition = values[0] / values[1]
    second = condition**2 * np.linalg.norm(residuals)
    second /= values[0] * np.linalg.norm(theta)
    assert condition == pytest.approx(855.22, abs=0.01)
    assert condition + second == pytest.approx(1976, abs=0.5)
    eps = 1e-9
    change = eps * values[0] * np.outer(residuals, vectors[1])
    changed = DESIGN + change / np.linalg.norm(residuals)
    found = np.linalg.lstsq(changed, Y, rcond=None)[0]
    growth = np.linalg.norm(found - theta) / np.linalg.norm(theta) / eps
    assert growth == pytest.approx(second, rel=1e-3) and growth > condition


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loop_finds_the_certified_line_to_the_precision_of_its_dtype(
    lesson, device, dtype
):
    x, y = lesson.norris(device)
    z = lesson.standardised(x)[0]
    slope, intercept, losses = lesson.train(
        z[:, None].to(dtype), y[:, None].to(dtype), 0.25, 60
    )
    # What is rounded are the weight and the bias of z, 344 and 420: numbers of dtype
    # between 256 and 512 lie 256 eps apart. Training stops moving about one such step
    # from the minimum (and the certified digits, times X, are good to 1e-11).
    step = 256 * torch.finfo(dtype).eps
    near = 1.5 * step + 1e-11
    assert slope == pytest.approx(SLOPE * X.std(), abs=near)
    assert intercept == pytest.approx(Y.mean(), abs=near)
    # At lr 1/4 the distance to the minimum halves at every step, the excess loss falls
    # to 1/4.
    least, start = RESIDUAL_STD**2 * 34 / 36, np.mean(Y**2)
    expected = [least + (start - least) / 4**k for k in range(60)]
    assert losses == pytest.approx(expected, rel=10 * step)


# Go wrong
def flat_target():
    with pytest.warns(UserWarning) as warned:
        nn.MSELoss()(torch.ones(3, 1), torch.ones(3))
    raise warned[0].message


def whole_file():
    model = nn.Linear(2, 1)
    model.load_state_dict({"weights": model.state_dict(), "mean": 0, "std": 1})


MISTAKES = [
    ("Using a target size", flat_target),
    (
        "mat1 and mat2 must have the same dtype",
        lambda: nn.Linear(1, 1)(torch.ones(3, 1, dtype=torch.float64)),
    ),
    (
        "mat1 and mat2 shapes cannot be multiplied",
        lambda: nn.Linear(12, 1)(torch.ones(3, 13)),
    ),
    (
        "mat1 and mat2 shapes cannot be multiplied",
        lambda: nn.Linear(1, 1)(torch.ones(3)),
    ),
    (
        "could not convert string",
        lambda: np.loadtxt(ROOT / "data" / "wine.csv", delimiter=","),
    ),
    ("Missing key(s) in state_dict", whole_file),
]


@pytest.mark.parametrize(("message", "mistake"), MISTAKES)
def test_a_loud_mistake_says_what_the_chapter_quotes(message, mistake):
    with pytest.raises(Exception, match=re.escape(message)):
        mistake()
    assert message in read(CHAPTER)


def test_every_message_of_the_table_is_made():
    assert loud_messages(CHAPTER) <= {message for message, _ in MISTAKES}


# The picture
def test_the_picture_shows_a_fast_and_a_slow_way_to_the_certified_intercept(lesson):
    (axes,) = lesson.figure().axes
    lines = {line.get_label(): line for line in axes.lines}
    raw, standard = (
        lines[label] for label in ("raw readings, lr 3e-6", "standardised, lr 0.25")
    )
    assert set(lines["certified"].get_ydata()) == {INTERCEPT}
    assert axes.get_xscale() == "log"
    steps = np.array(raw.get_xdata())
    np.testing.assert_array_equal(steps, standard.get_xdata())
    assert steps[0] == 1 and steps[-1] == 10**7.5 // 1 + 1
    values, vectors = np.linalg.eigh(DESIGN.T @ DESIGN / 18)
    minimum = np.array([SLOPE, INTERCEPT])
    shrunk = (1 - 3e-6 * values) ** steps[:, None] * (vectors.T @ minimum)
    np.testing.assert_allclose(
        raw.get_ydata(), (minimum - shrunk @ vectors.T)[:, 1], rtol=0, atol=1e-6
    )
    halved = INTERCEPT * (1 - 0.5 ** np.minimum(steps, 1000))
    np.testing.assert_allclose(standard.get_ydata(), halved, rtol=0, atol=1e-9)
