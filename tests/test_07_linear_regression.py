"""What lesson 07 claims."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

DATA = Path(__file__).resolve().parent.parent / "data"
# NIST Statistical Reference Datasets, Norris: certified to 15 digits.
SLOPE, INTERCEPT = 1.00211681802045, -0.262323073774029
DEVIATION, R_SQUARED = 0.884796396144373, 0.999993745883712


def tensor(numbers, device):
    return torch.tensor(numbers, device=device, dtype=torch.float64)


def small(device):
    """Five points on no line."""
    x, y = [1.0, 2.0, 4.0, 7.0, 11.0], [3.0, -1.0, 2.0, 5.0, 4.0]
    return tensor(x, device), tensor(y, device)


def exact_line(x, y):
    """(slope, intercept, residual sum of squares, total sum of squares), rational."""
    x, y = ([Fraction(n) for n in t.tolist()] for t in (x, y))
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    slope = sum((p - x_mean) * (q - y_mean) for p, q in zip(x, y, strict=True))
    slope /= sum((p - x_mean) ** 2 for p in x)
    intercept = y_mean - slope * x_mean
    residual = sum((q - slope * p - intercept) ** 2 for p, q in zip(x, y, strict=True))
    return slope, intercept, residual, sum((q - y_mean) ** 2 for q in y)


def test_the_certified_values_are_nists(lesson):
    assert list(lesson.CERTIFIED.values()) == [SLOPE, INTERCEPT, DEVIATION, R_SQUARED]


def test_norris_is_the_file(lesson, device):
    x, y = lesson.norris(device)
    rows = [line.split(",") for line in (DATA / "norris.csv").read_text().split()[1:]]
    assert len(rows) == 36
    for values, column in ((x, 1), (y, 0)):
        assert (values.dtype, values.device.type) == (torch.float64, device)
        assert values.tolist() == [float(row[column]) for row in rows]


@pytest.fixture
def spoil(lesson, tmp_path, monkeypatch):
    """Write a data file in place of norris.csv, for the lesson to read."""
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    return (tmp_path / "norris.csv").write_bytes


WHOLE = (DATA / "norris.csv").read_bytes()
LINES = WHOLE.splitlines(keepends=True)
SPOILT = {
    "empty": b"",
    "cut within a number": WHOLE[:-3],
    "cut after a row": b"".join(LINES[:-1]),
    "cut before the last line end": WHOLE[:-1],
    "a row too many": WHOLE + LINES[-1],
    "a blank line": WHOLE + b"\n",
    "a blank row": WHOLE.replace(LINES[5], b"\n"),
    "a blank row of spaces": WHOLE.replace(LINES[5], b"  \n"),
    "no header": b"".join(LINES[1:]),
    "another header": WHOLE.replace(b"y,x", b"x,y"),
    "a word": WHOLE.replace(LINES[5], b"338.1,ozone\n"),
    "a nan": WHOLE.replace(LINES[5], b"338.1,nan\n"),
    "an inf": WHOLE.replace(LINES[5], b"inf,338.1\n"),
    "a column too many in one row": WHOLE.replace(LINES[5], b"1,2,3\n"),
    "a column too many": WHOLE.replace(b"\n", b",1\n").replace(b"y,x,1", b"y,x"),
    "a column too few": re.sub(rb",[\d.]+", b"", WHOLE),
    "a comment": WHOLE.replace(LINES[5], b"# 338.1,338.8\n"),
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("content", SPOILT.values(), ids=SPOILT)
def test_spoilt_data_ends_in_one_line_that_says_what_to_do(lesson, spoil, tmp_path, content):
    spoil(content)
    with pytest.raises(SystemExit) as end:
        lesson.norris()
    message = end.value.code
    assert message.startswith(f"{tmp_path / 'norris.csv'}: ")
    assert "'y,x' and 36 rows of 2 numbers" in message and "git checkout data" in message
    assert "\n" not in message


def test_the_message_counts_what_the_file_holds(lesson, spoil):
    for content, found in (("cut after a row", "36 line ends"), ("another header", "'x,y'")):
        spoil(SPOILT[content])
        with pytest.raises(SystemExit, match=found):
            lesson.norris()


def test_missing_data_and_a_folder_in_its_place_end_in_one_line(lesson, tmp_path, monkeypatch):
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    for prepare in (lambda: None, (tmp_path / "norris.csv").mkdir):
        prepare()
        with pytest.raises(SystemExit, match=r"norris.csv: expected .* 36 rows of 2 numbers"):
            lesson.norris()


def test_the_line_ends_of_windows_do_no_harm(lesson, spoil):
    both = []
    for content in (WHOLE, WHOLE.replace(b"\n", b"\r\n")):
        spoil(content)
        both.append(lesson.norris()[0])
    assert torch.equal(*both)


def test_read_csv_takes_any_table(lesson, tmp_path, monkeypatch):
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    (tmp_path / "one.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "column.csv").write_text("a\n1.5\n-2e3\n")
    np.testing.assert_array_equal(lesson.read_csv("one.csv", "a,b,c", 1), [[1, 2, 3]])
    np.testing.assert_array_equal(lesson.read_csv("column.csv", "a", 2), [[1.5], [-2000]])


@pytest.mark.parametrize("solve", ["by_normal_equations", "by_lstsq"])
def test_least_squares_finds_the_certified_line(lesson, device, solve):
    x, y = lesson.norris(device)
    theta = getattr(lesson, solve)(x, y)
    assert theta.shape == (2,) and theta.device.type == device
    assert theta.tolist() == pytest.approx([SLOPE, INTERCEPT], rel=1e-10)
    assert lesson.quality(x, y, theta) == pytest.approx((DEVIATION, R_SQUARED), rel=1e-10)


@pytest.mark.parametrize("solve", ["by_normal_equations", "by_lstsq"])
def test_least_squares_is_exact_arithmetics_on_other_data(lesson, device, solve):
    x, y = small(device)
    slope, intercept, residual, total = exact_line(x, y)
    theta = getattr(lesson, solve)(x, y)
    assert theta.tolist() == pytest.approx([float(slope), float(intercept)], rel=1e-12)
    expected = (float(residual / 3) ** 0.5, float(1 - residual / total))
    assert lesson.quality(x, y, theta) == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(lesson.design(x).cpu(), [[p, 1] for p in x.tolist()])


def test_relative_errors_are_relative_to_nists_values(lesson, device):
    theta = tensor([SLOPE * 1.25, INTERCEPT * 0.5], device)
    assert lesson.relative_errors(theta) == pytest.approx([0.25, 0.5], rel=1e-12)


def test_the_bowl_is_numpys(lesson, device):
    x, y = small(device)
    p, q = x.cpu().numpy(), y.cpu().numpy()
    h, g = lesson.bowl(x, y)
    expected = 2 * np.array([[np.mean(p * p), np.mean(p)], [np.mean(p), 1]])
    np.testing.assert_allclose(h.cpu(), expected, rtol=1e-14)
    np.testing.assert_allclose(g.cpu(), [2 * np.mean(p * q), 2 * np.mean(q)], rtol=1e-14)
    # The roots of lambda^2 - trace lambda + determinant.
    smallest, largest = sorted(np.roots([1, -np.trace(expected), np.linalg.det(expected)]))
    assert lesson.limit_and_condition(lesson.bowl(x, y)[0]) == pytest.approx(
        (2 / largest, largest / smallest), rel=1e-10
    )


def test_the_raw_datas_condition_number_is_731407_and_its_limit_3_408e_6(lesson, device):
    x, y = lesson.norris(device)
    singular = np.linalg.svd(lesson.design(x).cpu().numpy(), compute_uv=False)
    limit, condition = lesson.limit_and_condition(lesson.bowl(x, y)[0])
    assert condition == pytest.approx((singular[0] / singular[1]) ** 2, rel=1e-8)
    assert limit == pytest.approx(36 / singular[0] ** 2, rel=1e-12)
    assert f"{singular[0] / singular[1]:.0f}" == "855"
    assert (f"{condition:,.0f}", f"{limit:.3e}") == ("731,407", "3.408e-06")


def test_descent_follows_the_slope_of_the_loss(lesson, device):
    x, y = small(device)
    p, q, theta = x.cpu().numpy(), y.cpu().numpy(), np.zeros(2)
    for _ in range(7):
        error = theta[0] * p + theta[1] - q
        theta = theta - 0.01 * 2 * np.array([np.mean(error * p), np.mean(error)])
    np.testing.assert_allclose(lesson.descend(x, y, 0.01, 7).cpu(), theta, rtol=1e-12)
    assert lesson.descend(x, y, 0.01, 0).tolist() == [0, 0]


def test_ten_thousand_steps_on_raw_data_leave_the_intercept_wrong(lesson, device):
    x, y = lesson.norris(device)
    lr = 0.9 * lesson.limit_and_condition(lesson.bowl(x, y)[0])[0]
    slope, intercept = lesson.descend(x, y, lr, 10_000).tolist()
    # The same path in the eigenvectors of H: each coordinate shrinks by 1 - lr lambda a step.
    design = np.stack([x.cpu().numpy(), np.ones(36)], axis=1)
    values, vectors = np.linalg.eigh(design.T @ design / 18)
    minimum = np.array([SLOPE, INTERCEPT])
    shrunk = (1 - lr * values) ** 10_000 * (vectors.T @ minimum)
    assert [slope, intercept] == pytest.approx(minimum - vectors @ shrunk, abs=1e-9)
    assert f"{intercept:.3f}" == "-0.005"


def test_standardising_makes_the_bowl_round(lesson, device):
    for x, y in (lesson.norris(device), small(device)):
        z, mean, deviation = lesson.standardised(x)
        p = x.cpu().numpy()
        assert (mean.item(), deviation.item()) == pytest.approx((p.mean(), p.std()), rel=1e-14)
        np.testing.assert_allclose(z.cpu(), (p - p.mean()) / p.std(), rtol=1e-12, atol=1e-15)
        assert lesson.limit_and_condition(lesson.bowl(z, y)[0]) == pytest.approx((1, 1), rel=1e-12)


def test_a_line_in_z_is_a_line_in_x(lesson, device):
    slope, intercept = lesson.in_units_of_the_data(
        tensor([3.0, 5.0], device), tensor(7.0, device), tensor(2.0, device)
    ).tolist()
    for x in (-1.0, 0.0, 10.0):
        assert slope * x + intercept == pytest.approx(3 * (x - 7) / 2 + 5)


@pytest.mark.parametrize(("lr", "steps"), [(0.25, 40), (0.5, 1)])
def test_on_standardised_data_descent_finds_the_certified_line(lesson, device, lr, steps):
    x, y = lesson.norris(device)
    z, mean, deviation = lesson.standardised(x)
    theta = lesson.in_units_of_the_data(lesson.descend(z, y, lr, steps), mean, deviation)
    assert theta.tolist() == pytest.approx([SLOPE, INTERCEPT], rel=1e-9)


def test_training_is_descent_and_returns_the_loss_before_each_step(lesson, device):
    x, y = small(device)
    model = torch.nn.Linear(1, 1, device=device, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    arguments = (model, torch.nn.MSELoss(), optimizer, x[:, None], y[:, None])
    losses = lesson.train(*arguments, epochs=2) + lesson.train(*arguments, epochs=1)
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
    # Rounding of numbers near 420, carried into the intercept: a few times eps * 420.
    tolerance = 4 * torch.finfo(dtype).eps * 420
    assert theta.tolist() == pytest.approx([SLOPE, INTERCEPT], abs=tolerance)
    assert theta.dtype == torch.float64
    assert losses[-1] == pytest.approx(DEVIATION**2 * 34 / 36, rel=tolerance)
    # At lr 1/4 the distance to the minimum halves at every step, the excess loss falls to 1/4.
    least, start = DEVIATION**2 * 34 / 36, (y**2).mean().item()
    expected = [least + (start - least) / 4**k for k in range(60)]
    assert losses == pytest.approx(expected, rel=10 * tolerance)


def test_float32_is_worse_than_float64_but_float64_is_the_default(lesson, device):
    x, y = lesson.norris(device)
    mse = torch.nn.MSELoss()
    errors = [
        lesson.relative_errors(lesson.fit(x, y[:, None], mse, **choice)[0])[1]
        for choice in ({}, {"dtype": torch.float64}, {"dtype": torch.float32})
    ]
    assert max(errors[:2]) < 1e-9 < errors[2]


def test_predictions_against_flat_targets_pull_everything_together(lesson, device):
    p, y = tensor([[1.0], [2.0], [6.0]], device), tensor([4.0, 0.0, -4.0], device)
    pairs = [(a - b) ** 2 for a in (1, 2, 6) for b in (4, 0, -4)]
    assert lesson.squared_error(p, y).item() == pytest.approx(np.mean(pairs), rel=1e-14)
    assert lesson.decomposed(p, y).item() == pytest.approx(np.mean(pairs), rel=1e-14)
    assert lesson.squared_error(p, y[:, None]).item() == pytest.approx((9 + 4 + 100) / 3, rel=1e-14)


def test_flat_targets_take_the_slope_to_zero_and_the_loss_to_the_variance(lesson, device):
    x, y = lesson.norris(device)
    theta, losses = lesson.fit(x, y, lesson.squared_error)
    q = y.cpu().numpy()
    assert theta.tolist() == pytest.approx([0, q.mean()], abs=1e-9)
    assert losses[-1] == pytest.approx(q.var(), rel=1e-12)


def test_mseloss_warns_of_flat_targets(device):
    with pytest.warns(UserWarning):
        torch.nn.MSELoss()(torch.zeros(3, 1, device=device), torch.zeros(3, device=device))


@pytest.mark.parametrize("lr", [0.01, 0.1])
def test_unscaled_features_multiply_every_step_by_the_steepest_factor(lesson, device, lr):
    x, y = lesson.norris(device)
    largest = np.linalg.norm(lesson.design(x).cpu().numpy(), 2) ** 2 / 18
    for steps in (4, 6):
        assert lesson.growth(x, y, lr, steps) == pytest.approx(abs(1 - lr * largest), rel=1e-9)
    assert not lesson.descend(x, y, lr, 100).isfinite().all()


def test_growth_compares_the_last_step_with_the_one_before(lesson, device):
    x, y = small(device)
    a, b, c = (lesson.descend(x, y, 0.01, steps).cpu().numpy() for steps in (1, 2, 3))
    expected = np.linalg.norm(c - b) / np.linalg.norm(b - a)
    assert lesson.growth(x, y, 0.01, 3) == pytest.approx(expected, rel=1e-9)


def test_the_line_looks_right_long_before_it_is(lesson, device):
    x, y = lesson.norris(device)
    lr = 0.9 * lesson.limit_and_condition(lesson.bowl(x, y)[0])[0]
    for steps in (100, 10_000):
        r_squared, error = lesson.stopped(x, y, lr, steps)
        slope, intercept = lesson.descend(x, y, lr, steps).tolist()
        p, q = x.cpu().numpy(), y.cpu().numpy()
        expected = 1 - np.sum((slope * p + intercept - q) ** 2) / np.sum((q - q.mean()) ** 2)
        assert r_squared == pytest.approx(expected, rel=1e-12)
        assert error == pytest.approx(abs(intercept / INTERCEPT - 1), rel=1e-9)
        assert r_squared > 0.99999 and error > 0.97


def test_the_picture_shows_the_line_and_its_residuals(lesson, device):
    above, below = lesson.figure(device).axes
    rows = [line.split(",") for line in (DATA / "norris.csv").read_text().split()[1:]]
    y, x = np.array(rows, float).T
    line, points = above.lines
    np.testing.assert_array_equal(points.get_xydata(), np.stack([x, y], axis=1))
    np.testing.assert_array_equal(line.get_xdata(), [0, 1000])
    np.testing.assert_allclose(line.get_ydata(), [INTERCEPT, SLOPE * 1000 + INTERCEPT], rtol=1e-9)
    assert line.get_label() == "y = 1.00212 x - 0.26232"
    zero, residuals = below.lines
    assert set(zero.get_ydata()) == {0}
    np.testing.assert_allclose(residuals.get_ydata(), y - SLOPE * x - INTERCEPT, atol=1e-9)
    assert abs(residuals.get_ydata().sum()) < 1e-8  # as the normal equations demand
