"""What lesson 08 claims."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

DATA = Path(__file__).resolve().parent.parent / "data"
TABLE = np.loadtxt(DATA / "breast_cancer.csv", delimiter=",", skiprows=1)


def tensor(numbers, device):
    return torch.tensor(numbers, device=device, dtype=torch.float64)


def check(result, expected, device, rtol=1e-12, atol=0.0):
    assert (result.dtype, result.device.type) == (torch.float64, device)
    assert result.shape == np.shape(expected)
    np.testing.assert_allclose(result.detach().cpu().numpy(), expected, rtol=rtol, atol=atol)


def problem(device, n=60, d=3, seed=1):
    """Overlapping classes: x (n, d), and y that leans on x without being fixed by it."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d))
    y = (x @ np.arange(1, d + 1) / d + random.normal(size=n) > 0.3).astype(float)
    return tensor(x, device), tensor(y, device)


def numpy_newton(x, y, decay):
    """The optimum by iteratively reweighted least squares (a second algorithm), to the end."""
    a = np.column_stack([x, np.ones(len(x))])
    penalty = decay * len(x) * np.diag([1.0] * x.shape[1] + [0.0])
    theta = np.zeros(a.shape[1])
    for _ in range(60):
        p = 1 / (1 + np.exp(-a @ theta))
        weight = p * (1 - p)
        target = a @ theta + (y - p) / weight
        theta = np.linalg.solve(a.T * weight @ a + penalty, a.T * weight @ target)
    return theta


def test_the_data_is_the_file(lesson, device):
    x, y = lesson.breast_cancer(device)
    check(x, TABLE[:, 1:], device, rtol=0)
    check(y, TABLE[:, 0], device, rtol=0)
    assert (x.shape, y.sum()) == ((569, 30), 212)


def test_the_columns_are_named_as_in_the_file(lesson):
    assert (DATA / "breast_cancer.csv").read_text().splitlines()[0] == ",".join(lesson.COLUMNS)


def test_spoilt_data_ends_in_one_line_that_says_what_to_do(lesson, tmp_path, monkeypatch):
    whole = (DATA / "breast_cancer.csv").read_text()
    rows = whole.splitlines(keepends=True)
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    cases = [None, "", whole[:-2], "".join(rows[:-1]), "".join(rows[1:]), whole + rows[-1]]
    cases += [whole.replace("17.99", word, 1) for word in ("ozone", "nan", "inf", "", "1,2")]
    cases += [whole.replace("malignant", "benign", 1), whole.replace(rows[9], "  \n")]
    for case in cases:
        if case is not None:
            (tmp_path / "breast_cancer.csv").write_text(case)
        with pytest.raises(SystemExit) as end:
            lesson.breast_cancer()
        assert str(end.value).startswith(f"{tmp_path / 'breast_cancer.csv'}: expected ")
        assert "569 rows of 31 numbers" in str(end.value) and "\n" not in str(end.value)


def test_read_csv_takes_any_table(lesson, tmp_path, monkeypatch):
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    (tmp_path / "one.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "column.csv").write_text("a\n1.5\n-2e3\n")
    np.testing.assert_array_equal(lesson.read_csv("one.csv", "a,b,c", 1), [[1, 2, 3]])
    np.testing.assert_array_equal(lesson.read_csv("column.csv", "a", 2), [[1.5], [-2000]])
    (tmp_path / "one.csv").write_text("a,b,c\n1,2\n")
    with pytest.raises(SystemExit):
        lesson.read_csv("one.csv", "a,b,c", 1)


def test_sigmoid_and_logit_undo_each_other(lesson, device):
    z = [-3.0, -0.5, 0.0, 1.0, 4.0]
    check(lesson.sigmoid(tensor(z, device)), [1 / (1 + math.exp(-n)) for n in z], device)
    p = [0.01, 0.25, 0.5, 0.9]
    check(lesson.logit(tensor(p, device)), [math.log(n / (1 - n)) for n in p], device, atol=1e-15)
    check(lesson.sigmoid(lesson.logit(tensor(p, device))), p, device)


def test_the_loss_is_the_negative_log_likelihood(lesson, device):
    z, y = [-1.0, 0.5, 2.0], [0.0, 1.0, 0.0]
    expected = np.mean([math.log(1 + math.exp((1 - 2 * b) * a)) for a, b in zip(z, y, strict=True)])
    loss = lesson.loss_by_hand(tensor(z, device), tensor(y, device)).item()
    assert loss == pytest.approx(expected, rel=1e-14)
    builtin = torch.nn.BCEWithLogitsLoss()(tensor(z, device), tensor(y, device)).item()
    assert loss == pytest.approx(builtin, rel=1e-14)


def test_the_gradient_is_x_t_p_minus_y_over_n(lesson, device):
    x, y = problem(device)
    w, b = [0.5, -1.0, 2.0], 0.25
    by_hand, by_autograd = lesson.gradients(x, y, tensor(w, device), b)
    a = x.cpu().numpy()
    p = 1 / (1 + np.exp(-(a @ w + b)))
    expected = [np.mean((p - y.cpu().numpy()) * column) for column in a.T]
    check(by_hand, expected, device)
    check(by_autograd, expected, device)


@pytest.mark.parametrize(("n", "rows"), [(569, 455), (10, 8), (13, 10)])
def test_a_split_is_80_to_20_and_uses_every_row_once(lesson, device, n, rows):
    train, test = lesson.split(n, 3, device)
    assert train.device.type == test.device.type == device
    assert (len(train), len(test)) == (rows, n - rows)
    assert sorted(train.tolist() + test.tolist()) == list(range(n))
    assert torch.equal(train, lesson.split(n, 3, device)[0])
    assert not torch.equal(train, lesson.split(n, 4, device)[0])
    assert train.tolist() != sorted(train.tolist())


def test_both_parts_are_scaled_by_what_the_training_rows_say(lesson, device):
    train, test = [[1.0, 10.0], [3.0, 40.0], [8.0, -20.0]], [[5.0, 0.0], [100.0, 7.0]]
    mean, deviation = np.mean(train, axis=0), np.std(train, axis=0)
    scaled = lesson.scaled(tensor(train, device), tensor(test, device))
    check(scaled[0], (np.array(train) - mean) / deviation, device, atol=1e-15)
    check(scaled[1], (np.array(test) - mean) / deviation, device, atol=1e-15)


@pytest.mark.parametrize("decay", [0.01, 0.1])
def test_newton_and_training_find_the_optimum_of_a_second_algorithm(lesson, device, decay):
    x, y = problem(device)
    expected = numpy_newton(x.cpu().numpy(), y.cpu().numpy(), decay)
    check(lesson.newton(x, y, decay, 12), expected, device, rtol=1e-9)
    check(lesson.trained(x, y, decay, 600), expected, device, rtol=1e-6)


def test_newton_takes_newtons_first_step(lesson, device):
    x, y = problem(device)
    a = np.column_stack([x.cpu().numpy(), np.ones(60)])
    gradient = a.T @ (0.5 - y.cpu().numpy()) / 60
    hessian = 0.25 * a.T @ a / 60 + np.diag([0.1] * 3 + [0.0])
    check(lesson.newton(x, y, 0.1, 1), -np.linalg.solve(hessian, gradient), device, rtol=1e-10)
    check(lesson.newton(x, y, 0.1, 0), [0, 0, 0, 0], device)


def patients(lesson, device, seed=0):
    x, y = lesson.breast_cancer(device)
    rows, test = lesson.split(569, seed, device)
    return (*lesson.scaled(x[rows], x[test]), y[rows], y[test])


@pytest.mark.parametrize("seed", [0, 5])
def test_the_trained_weights_are_newtons_to_1e_6(lesson, device, seed):
    x, _, y, _ = patients(lesson, device, seed)
    theta = lesson.trained(x, y, 0.01, 500)
    expected = numpy_newton(x.cpu().numpy(), y.cpu().numpy(), 0.01)
    check(theta, expected, device, rtol=0, atol=1e-6)
    check(lesson.newton(x, y, 0.01, 9), expected, device, rtol=0, atol=1e-9)
    p = 1 / (1 + np.exp(-(x.cpu().numpy() @ expected[:-1] + expected[-1])))
    assert p.mean() == pytest.approx(y.mean().item(), abs=1e-9)  # the bias is not decayed


def test_training_returns_the_loss_before_each_step(lesson, device):
    x, y = problem(device)
    model = torch.nn.Linear(3, 1, device=device, dtype=torch.float64)
    before = [p.detach().cpu().numpy().copy() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    arguments = (torch.nn.BCEWithLogitsLoss(), optimizer, x, y[:, None])
    losses = lesson.train(model, *arguments, epochs=2) + lesson.train(model, *arguments, epochs=1)
    a, targets = np.column_stack([x.cpu().numpy(), np.ones(60)]), y.cpu().numpy()
    theta, expected = np.concatenate([before[0][0], before[1]]), []
    for _ in range(3):
        z = a @ theta
        expected.append(np.mean(np.log(1 + np.exp((1 - 2 * targets) * z))))
        theta = theta - 0.2 * a.T @ (1 / (1 + np.exp(-z)) - targets) / 60
    assert losses == pytest.approx(expected, rel=1e-12)
    after = np.concatenate([p.detach().cpu().numpy().ravel() for p in model.parameters()])
    np.testing.assert_allclose(after, theta, rtol=1e-12)


def test_logits_are_x_w_plus_b(lesson, device):
    x, theta = tensor([[1.0, 2.0], [3.0, -1.0]], device), tensor([10.0, 1.0, 0.5], device)
    check(lesson.logits(x, theta), [12.5, 29.5], device)


def test_separable_rows_make_the_weights_grow_without_end(lesson, device):
    x, _, y, _ = patients(lesson, device)
    norms, losses, shares = zip(*(lesson.separated(x, y, k) for k in (5, 10, 15)), strict=True)
    assert list(norms) == sorted(norms) and norms[2] > 4 * norms[1] > 16 * norms[0]
    assert list(losses) == sorted(losses, reverse=True) and losses[2] < 1e-4
    assert shares[0] < 1 == shares[1] == shares[2]
    theta = lesson.newton(x, y, 0, 10)
    z = x.cpu().numpy() @ theta[:-1].cpu().numpy() + theta[-1].item()
    sign = 2 * y.cpu().numpy() - 1
    assert (sign * z).min() > 0  # the plane separates, so twice the weights are better yet
    assert norms[1] == pytest.approx(np.linalg.norm(theta[:-1].cpu()), rel=1e-9)
    assert losses[1] == pytest.approx(np.log1p(np.exp(-sign * z)).mean(), rel=1e-6)


def test_overlapping_rows_have_an_optimum_without_decay(lesson, device):
    x, y = problem(device)
    norm, loss, share = lesson.separated(x, y, 20)
    theta = numpy_newton(x.cpu().numpy(), y.cpu().numpy(), 0)
    z = x.cpu().numpy() @ theta[:-1] + theta[-1]
    assert norm == pytest.approx(np.linalg.norm(theta[:-1]), rel=1e-8)
    targets = y.cpu().numpy()
    assert loss == pytest.approx(np.log1p(np.exp((1 - 2 * targets) * z)).mean(), rel=1e-10)
    assert share == np.mean((z > 0) == (targets == 1)) < 1


def test_the_confusion_matrix_counts_and_the_scores_divide(lesson, device):
    z = tensor([2.0, -1.0, 0.5, -3.0, 1.0, 0.0, -2.0, 4.0], device)
    y = tensor([1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0], device)
    assert lesson.confusion(z, y) == (2, 1, 2, 3)  # z = 0 is not malignant
    assert lesson.scores(z, y) == (5 / 8, 3 / 4, 3 / 5)


@pytest.mark.parametrize("n", [30, 200])
def test_the_area_under_the_roc_is_the_share_of_pairs_ranked_right(lesson, device, n):
    random = np.random.default_rng(n)
    y = (random.random(n) < 0.4).astype(float)
    for z in (random.normal(size=n) + y, np.round(random.normal(size=n) + y)):  # many ties
        differences = z[y == 1][:, None] - z[y == 0]
        share = np.mean((differences > 0) + 0.5 * (differences == 0))
        assert lesson.area(tensor(z, device), tensor(y, device)) == pytest.approx(share, rel=1e-12)


def test_the_roc_has_a_point_for_every_threshold(lesson, device):
    z, y = [3.0, 2.0, 2.0, 1.0], [1.0, 0.0, 1.0, 0.0]
    false_positive, true_positive = lesson.roc(tensor(z, device), tensor(y, device))
    check(false_positive, [0, 0, 0.5, 1], device)
    check(true_positive, [0, 0.5, 1, 1], device)


def test_one_split_can_tell_little_fifty_lie_between_0_947_and_1(lesson, device):
    found = lesson.accuracies(*lesson.breast_cancer(device), 3)
    for seed, accuracy in enumerate(found):
        rows, test = (part.numpy() for part in lesson.split(569, seed))
        x, y = TABLE[:, 1:], TABLE[:, 0]
        mean, deviation = x[rows].mean(axis=0), x[rows].std(axis=0)
        theta = numpy_newton((x[rows] - mean) / deviation, y[rows], 0.01)
        z = (x[test] - mean) / deviation @ theta[:-1] + theta[-1]
        assert accuracy == pytest.approx(np.mean((z > 0) == (y[test] == 1)), abs=1e-12)
    found = lesson.accuracies(*lesson.breast_cancer(device), 50)
    assert len(found) == 50 and min(found) > 0.93 and max(found) <= 1
    assert max(found) - min(found) > 0.03  # what one split says is good to a few percent


def test_a_sigmoid_too_many_puts_a_floor_under_the_loss(lesson, device):
    negative, positive = math.log(2), math.log(1 + math.exp(-1))
    for y, floor in (([0.0], negative), ([1.0], positive), ([0.0, 1.0], (negative + positive) / 2)):
        loss = lesson.floor_of_double_sigmoid(tensor(y, device))
        assert loss == pytest.approx(floor, rel=1e-12)
    assert f"{loss:.6f}" == "0.503204"


def test_bceloss_saturates_and_bcewithlogitsloss_does_not(lesson):
    assert lesson.loss_and_gradient(20.0, 0.0, with_logits=False) == (100, 0)
    loss, gradient = lesson.loss_and_gradient(20.0, 0.0, with_logits=True)
    assert (loss, gradient) == pytest.approx((20, 1), rel=1e-6)
    for with_logits in (True, False):  # where nothing saturates, they agree
        loss, gradient = lesson.loss_and_gradient(1.5, 1.0, with_logits)
        p = 1 / (1 + math.exp(-1.5))
        assert (loss, gradient) == pytest.approx((-math.log(p), p - 1), rel=1e-5)


def test_cross_entropy_of_one_class_is_zero_whatever_the_labels(lesson, device):
    z = tensor([[-3.0], [0.0], [5.0]], device)
    for labels in ([[0.0], [1.0], [1.0]], [[1.0], [0.0], [0.0]]):
        assert lesson.cross_entropy_of_one(z, tensor(labels, device)) == (0, 0)
    two = torch.cat([z, 0 * z], dim=1)  # with two classes it is the loss of this lesson
    targets = tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], device)
    loss, gradient = lesson.cross_entropy_of_one(two, targets)
    errors = [1 / (1 + math.exp(-3)), 0.5, 1 / (1 + math.exp(-5))]
    assert loss == pytest.approx(-np.mean(np.log1p(-np.array(errors))), rel=1e-12)
    assert gradient == pytest.approx(max(errors) / 3, rel=1e-12)


def test_an_accuracy_of_5000_percent(lesson, device):
    y = torch.tensor([0, 1, 1, 0, 1, 0], device=device)
    assert lesson.accuracy_by_sum(y, y) == 1
    assert lesson.accuracy_by_sum(y[:, None], y) == (9 + 9) / 6
    assert lesson.accuracy_by_sum(1 - y, y) == 0
    labels = torch.arange(100, device=device) % 2
    assert lesson.accuracy_by_sum(labels[:, None], labels) == 50


def test_features_chosen_on_all_rows_see_through_coins(lesson):
    seeds = range(100, 160)
    cheating = [lesson.accuracy_on_coins(True, seed, 80, 500, 20) for seed in seeds]
    honest = [lesson.accuracy_on_coins(False, seed, 80, 500, 20) for seed in seeds]
    # An honest accuracy is a mean of 60 * 16 coin flips: 5 standard errors are 0.08.
    assert abs(np.mean(honest) - 0.5) < 0.08
    assert np.mean(cheating) > 0.75


@pytest.mark.parametrize("choose_on_all", [True, False])
def test_the_coins_are_chosen_and_judged_as_numpy_would(lesson, choose_on_all):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(40, 60, generator=generator, dtype=torch.float64).numpy()
    y = torch.randint(0, 2, (40,), generator=generator).double().numpy()
    rows, test = (part.numpy() for part in lesson.split(40, 2))
    seen = np.arange(40) if choose_on_all else rows
    correlation = [abs(np.corrcoef(column[seen], y[seen])[0, 1]) for column in x.T]
    best = np.argsort(correlation)[-5:]
    theta = numpy_newton(x[rows][:, best], y[rows], 0.1)
    accuracy = np.mean((x[test][:, best] @ theta[:-1] + theta[-1] > 0) == (y[test] == 1))
    measured = lesson.accuracy_on_coins(choose_on_all, 2, n=40, features=60, chosen=5)
    assert measured == pytest.approx(accuracy)


def test_the_picture_shows_the_roc_and_every_test_row_once(lesson, device):
    curve, histogram = lesson.figure(device).axes
    x_train, x_test, y_train, y_test = (t.cpu().numpy() for t in patients(lesson, device))
    theta = numpy_newton(x_train, y_train, 0.01)
    z = x_test @ theta[:-1] + theta[-1]
    share = np.mean(z[y_test == 1][:, None] > z[y_test == 0])
    x, y = map(np.asarray, curve.lines[0].get_data())
    assert np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) == pytest.approx(share, rel=1e-9)
    assert f"{share:.4f}" in curve.get_title()
    benign, malignant = ([bar.get_height() for bar in bars] for bars in histogram.containers)
    p = 1 / (1 + np.exp(-z))
    edges = np.linspace(p.min(), p.max(), 11)
    np.testing.assert_array_equal(benign, np.histogram(p[y_test == 0], edges)[0])
    np.testing.assert_array_equal(malignant, np.histogram(p[y_test == 1], edges)[0])
