"""What lesson 08 claims."""

import math

import numpy as np
import pytest
import torch
from helpers import ROOT, assert_values, printed_if_tripled, tensor64
from reference import sigmoid

TABLE = np.loadtxt(ROOT / "data" / "breast_cancer.csv", delimiter=",", skiprows=1)
# Training rows that hang on no seed: four of five, 455.
FOUR_FIFTHS = TABLE[np.arange(569) % 5 > 0]
# The test accuracy over the splits of seeds 0 to 999: mean 0.976, standard deviation
# 0.0135. The binomial one for 114 test rows is sqrt(0.976 * 0.024 / 114) = 0.0143.
MEAN, STD = 0.976, 0.0135


def overlapping_classes(n=60, d=3, noise=1.0):
    """x (n, d), and y that leans on x without being fixed by it."""
    random = np.random.default_rng(1)
    x = random.normal(size=(n, d))
    y = x @ np.arange(1, d + 1) / d + noise * random.normal(size=n) > 0.3
    return x, y.astype(float)


def cross_entropy(z, y):
    """The mean of log(1 + exp(-z)) where y is 1 and log(1 + exp(z)) where it is 0."""
    return np.logaddexp(0, (1 - 2 * y) * z).mean()


def slope(x, y, theta, decay):
    """The gradient with respect to theta = (w, b) of the loss + decay |w|^2 / 2."""
    error = (sigmoid(x @ theta[:-1] + theta[-1]) - y) / len(y)
    return np.append(x.T @ error + decay * theta[:-1], error.sum())


def curvature(x, y, theta, decay):
    """The least eigenvalue of its Hessian: above 0 the function is convex."""
    a = np.column_stack([x, np.ones(len(x))])
    p = sigmoid(a @ theta)
    penalty = decay * np.diag([1.0] * x.shape[1] + [0.0])
    return np.linalg.eigvalsh(a.T * (p * (1 - p)) @ a / len(y) + penalty)[0]


def optimum(lesson, x, y, decay):
    """What newton finds, once it is certainly the optimum: slope 0, and convex."""
    theta = lesson.newton(torch.from_numpy(x), torch.from_numpy(y), decay, 12).numpy()
    assert np.abs(slope(x, y, theta, decay)).max() < 1e-13
    assert curvature(x, y, theta, decay) > 0
    return theta


def standardised(x, rows=slice(None)):
    """x as the rows see it: minus their mean, divided by their std."""
    return (x - x[rows].mean(axis=0)) / x[rows].std(axis=0)


def accuracy(x, y, theta):
    return np.mean((x @ theta[:-1] + theta[-1] > 0) == (y == 1))


def test_x_and_y_are_the_files_212_of_569_malignant(lesson, device):
    x, y = lesson.breast_cancer(device)
    assert_values(x, TABLE[:, 1:], device, rtol=0)
    assert_values(y, TABLE[:, 0], device, rtol=0)
    assert y.sum() == 212


# 1. From a logit to a probability, and to the loss
def test_the_loss_is_the_negative_log_likelihood(lesson, device):
    z, y = np.array([-1.0, 0.5, 2.0, -3.0]), np.array([0.0, 1.0, 0.0, 1.0])
    expected = -np.log(np.where(y == 1, sigmoid(z), 1 - sigmoid(z))).mean()
    loss = lesson.loss_by_hand(tensor64(z, device), tensor64(y, device))
    assert_values(loss, expected, device, rtol=1e-14)


def test_the_loss_overflows_nowhere_nor_does_its_gradient(lesson, device):
    z = torch.tensor([-100.0, 100.0, -100.0, 100.0], device=device, requires_grad=True)
    y = torch.tensor([1.0, 0.0, 0.0, 1.0], device=device)
    loss = lesson.loss_by_hand(z, y)
    assert_values(loss, 50, device, torch.float32, rtol=0)
    loss.backward()
    assert z.grad.tolist() == pytest.approx([-0.25, 0.25, 0, 0], abs=1e-30)


@pytest.mark.parametrize(
    ("number", "dtype", "is_nan"),
    [
        (-100, torch.float32, True),
        (-100, torch.float64, False),
        (-709, torch.float64, False),  # the largest float64 is about exp(709.78)
        (-710, torch.float64, True),
    ],
)
def test_by_hand_exp_is_inf_and_inf_times_0_is_nan(device, number, dtype, is_nan):
    z = torch.tensor(float(number), dtype=dtype, device=device, requires_grad=True)
    (-torch.log(1 / (1 + torch.exp(-z)))).backward()
    assert z.grad.isnan() == is_nan


def test_the_gradient_is_x_t_p_minus_y_over_n(lesson, device):
    x, y = overlapping_classes()
    w, b = np.array([0.5, -1.0, 2.0]), 0.25
    expected = slope(x, y, np.append(w, b), 0)[:-1]
    trained = tensor64(w, device).requires_grad_()
    arguments = (tensor64(x, device), tensor64(y, device), trained, b)
    assert_values(lesson.gradient_by_hand(*arguments), expected, device)
    assert_values(lesson.gradient_by_autograd(*arguments), expected, device)
    assert trained.grad is None


# 2. Split first, then scale with what the training rows say
@pytest.mark.parametrize(("n", "rows"), [(569, 455), (12, 10), (13, 10)])
def test_a_split_is_80_to_20_at_random_and_uses_every_row_once(lesson, device, n, rows):
    state = torch.get_rng_state()
    train, test = lesson.split(n, 3, device)
    assert train.device.type == test.device.type == device
    assert (len(train), len(test)) == (rows, n - rows)
    assert sorted(train.tolist() + test.tolist()) == list(range(n))
    assert torch.equal(train, lesson.split(n, 3, device)[0])
    assert not torch.equal(train, lesson.split(n, 4, device)[0])
    # nobody else's numbers are touched
    assert torch.equal(state, torch.get_rng_state())


def test_both_parts_are_scaled_by_what_the_training_rows_say(lesson, device):
    train, test = [[1.0, 10.0], [3.0, 40.0], [8.0, -20.0]], [[5.0, 0.0], [100.0, 7.0]]
    mean, std = np.mean(train, axis=0), np.std(train, axis=0)
    scaled = lesson.scaled(tensor64(train, device), tensor64(test, device))
    for part, rows in zip(scaled, (train, test), strict=True):
        assert_values(part, (np.array(rows) - mean) / std, device, atol=1e-15)


@pytest.mark.parametrize("seed", [0, 5])
def test_train_and_test_are_the_rows_of_the_split_scaled(lesson, device, seed):
    train, test = (part.numpy() for part in lesson.split(569, seed))
    x, y = standardised(TABLE[:, 1:], train), TABLE[:, 0]
    parts = lesson.train_and_test(*lesson.breast_cancer(device), seed)
    expected = x[train], x[test], y[train], y[test]
    for part, numbers in zip(parts, expected, strict=True):
        assert_values(part, numbers, device, atol=1e-11)


# 3. Training finds the optimum that Newton's method finds. Lesson 06 tests train.
def test_fit_sgd_descends_with_lr_1_and_momentum_0_85(lesson, device):
    x, y = overlapping_classes()
    torch.manual_seed(0)
    found = lesson.fit_sgd(tensor64(x, device), tensor64(y, device), 0.1, epochs=4)
    torch.manual_seed(0)  # the same start, whatever it is
    start = torch.nn.Linear(3, 1, device=device, dtype=torch.float64)
    theta, velocity = np.append(start.weight.tolist()[0], start.bias.item()), 0
    for _ in range(4):
        velocity = 0.85 * velocity + slope(x, y, theta, 0.1)
        theta = theta - velocity
    assert_values(found, theta, device)


def test_logits_are_x_w_plus_b(lesson, device):
    x, theta = tensor64([[1, 2], [3, -1]], device), tensor64([10, 1, 0.5], device)
    assert_values(lesson.logits(x, theta), [12.5, 29.5], device)


@pytest.mark.parametrize("steps", [1, 4])
def test_newton_takes_newtons_steps(lesson, device, steps):
    # Two points, x = 1 malignant and x = -1 benign: b stays 0, and with respect to w
    # the loss log(1 + exp(-w)) has the derivatives -(1 - p) and p (1 - p). A step is
    # 1 / p = 1 + exp(-w).
    x, y = tensor64([[1], [-1]], device), tensor64([1, 0], device)
    w = 0.0
    for _ in range(steps):
        w += 1 + math.exp(-w)
    theta = lesson.newton(x, y, 0, steps)
    assert_values(theta, [w, 0], device, rtol=1e-10, atol=1e-12)


def test_newtons_first_step_minimises_the_bowl(lesson, device):
    x, y = overlapping_classes()
    # At theta = 0 each p is 1/2, and the bowl is that of least squares for
    # z = 4 (y - 1/2). The decay is as good as a reading of 0 for each weight.
    a, penalty = np.column_stack([x, np.ones(60)]), 4 * 60 * 0.1
    rows = np.vstack([a, np.sqrt(penalty) * np.eye(4)[:3]])
    expected = np.linalg.lstsq(rows, np.append(4 * y - 2, np.zeros(3)), rcond=None)[0]
    theta = lesson.newton(tensor64(x, device), tensor64(y, device), 0.1, steps=1)
    assert_values(theta, expected, device, rtol=1e-10)


@pytest.mark.parametrize("decay", [0.01, 0.1])
def test_newton_and_training_find_the_one_optimum(lesson, device, decay):
    x, y = standardised(FOUR_FIFTHS[:, 1:]), FOUR_FIFTHS[:, 0]
    data = tensor64(x, device), tensor64(y, device)
    theta = lesson.newton(*data, decay).cpu().numpy()
    # The optimum of a convex function is where the gradient is 0.
    assert np.abs(slope(x, y, theta, decay)).max() < 1e-11
    assert curvature(x, y, theta, decay) > 0
    # The bias is not decayed: its derivative, mean p - share, is 0 as well.
    p = sigmoid(x @ theta[:-1] + theta[-1])
    assert p.mean() == pytest.approx(y.mean(), abs=1e-12)
    trained = lesson.fit_sgd(*data, decay, epochs=250)
    assert_values(trained, theta, device, rtol=0, atol=1e-6)


def test_the_share_of_malignant_rows_is_not_what_was_trained(lesson):
    _, y = lesson.breast_cancer()
    share = y[lesson.split(569, 0)[0]].mean()
    out = printed_if_tripled(lesson, 3, "fit_sgd")
    assert f"share of malignant rows {share:.6f}\n" in out
    assert f"mean probability {share:.6f}" not in out
    assert "agree to 1e-6: False\n" in out
    assert "agree to 1e-6: False\n" in printed_if_tripled(lesson, 3, "newton")


# 4. Without weight decay there is no optimum
def test_separable_rows_make_the_weights_grow_without_end(lesson, device):
    x, y = standardised(FOUR_FIFTHS[:, 1:]), FOUR_FIFTHS[:, 0]
    norms, losses, margins = [], [], []
    for steps in (5, 10, 15):
        theta = lesson.newton(tensor64(x, device), tensor64(y, device), 0, steps)
        theta = theta.cpu().numpy()
        z = x @ theta[:-1] + theta[-1]
        norms.append(np.linalg.norm(theta[:-1]))
        losses.append(cross_entropy(z, y))
        margins.append(((2 * y - 1) * z).min())
    assert norms[2] > 2 * norms[1] > 4 * norms[0]
    # All on their side, so twice the weights are better yet.
    assert margins[0] < 0 < margins[1] < margins[2]
    # Where p is near 1 a step adds 1 to the margins (see above): the loss is divided by
    # e.
    assert losses[2] == pytest.approx(losses[1] / math.e**5, rel=0.05)


def test_a_plane_separates_all_569_rows_and_thus_the_training_rows_of_any_split(lesson):
    x, y = standardised(TABLE[:, 1:]), TABLE[:, 0]
    theta = lesson.newton(tensor64(x), tensor64(y), 0, 20).numpy()
    assert ((2 * y - 1) * (x @ theta[:-1] + theta[-1])).min() > 0


# 5. Judge it on rows that it has not seen
def test_the_confusion_matrix_counts_and_the_scores_divide(lesson, device):
    z = tensor64([2.0, -1.0, 0.5, -3.0, 1.0, 0.0, -2.0, 4.0, -0.5], device)
    y = tensor64([1, 1, 0, 0, 1, 0, 1, 1, 0], device)
    assert lesson.confusion(z, y) == (3, 1, 2, 3)  # z = 0 is not malignant
    assert lesson.scores(z, y) == (6 / 9, 3 / 4, 3 / 5)


def test_without_an_alarm_there_is_no_precision(lesson, device):
    z, y = tensor64([-1, -2, -3, -4], device), tensor64([0, 1, 0, 0], device)
    share, precision, recall = lesson.scores(z, y)
    assert (share, recall) == (3 / 4, 0) and math.isnan(precision)


def test_the_roc_has_a_point_for_every_threshold(lesson, device):
    z, y = tensor64([3, 2, 2, 1, 0], device), tensor64([1, 0, 1, 0, 0], device)
    false_positive_rate, true_positive_rate = lesson.roc(z, y)
    assert_values(false_positive_rate, [0, 0, 1 / 3, 2 / 3, 1], device)
    assert_values(true_positive_rate, [0, 0.5, 1, 1, 1], device)


@pytest.mark.parametrize("decimals", [16, 0])  # rounded to 0 decimals there are ties
def test_the_area_under_the_roc_is_the_share_of_pairs_ranked_right(
    lesson, device, decimals
):
    random = np.random.default_rng(0)
    y = (random.random(200) < 0.4).astype(float)
    z = np.round(random.normal(size=200) + y, decimals)
    differences = z[y == 1][:, None] - z[y == 0]
    share = np.mean((differences > 0) + 0.5 * (differences == 0))
    area = lesson.roc_auc(tensor64(z, device), tensor64(y, device))
    assert area == pytest.approx(share, rel=1e-12)


def test_the_accuracies_are_those_of_the_optimum_with_weight_decay_0_01(lesson, device):
    x, y = overlapping_classes(n=1000, d=20, noise=0.3)
    x[:, 1:] += 3 * x[:, :1]  # correlated: the plane turns with the decay
    expected = {0.01: [], 0.03: []}
    for seed in range(4, 8):
        train, test = (part.numpy() for part in lesson.split(len(y), seed))
        z = standardised(x, train)
        for decay, shares in expected.items():
            theta = optimum(lesson, z[train], y[train], decay)
            shares.append(accuracy(z[test], y[test], theta))
    data = tensor64(x, device), tensor64(y, device)
    found = lesson.accuracies_of_splits(*data, range(4, 8))
    assert found == pytest.approx(expected[0.01], abs=1e-12)
    assert found != pytest.approx(expected[0.03], abs=1e-12)


def test_one_split_is_good_to_a_few_percent(lesson, device):
    found = lesson.accuracies_of_splits(*lesson.breast_cancer(device), range(20))
    # Five standard deviations of the mean of 20; a standard deviation from 20 is itself
    # good to a sixth; and the best and the worst of 20 are near four of them apart, two
    # at least.
    assert np.mean(found) == pytest.approx(MEAN, abs=5 * STD / 20**0.5)
    assert round(100 * np.mean(found)) == 98
    assert np.std(found) == pytest.approx(STD, rel=0.5)
    assert min(found) > MEAN - 6 * STD and max(found) - min(found) > 2 * STD


def test_the_largest_of_one_logit_is_the_first():
    logits = torch.tensor([[-3.0], [0.0], [5.0]])
    assert logits.argmax(dim=1).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("pos_weight", "p"), [(1, 1 / 10), (9, 1 / 2), (1 / 9, 1 / 82)]
)
def test_pos_weight_moves_p_of_one_positive_in_ten_from_0_1_to_0_5_or_0_012(
    device, pos_weight, p
):
    assert f"{1 / 82:.3f}" == "0.012"
    y = tensor64([1] + 9 * [0], device)
    loss_function = torch.nn.BCEWithLogitsLoss(pos_weight=tensor64(pos_weight, device))
    z = tensor64(math.log(p / (1 - p)), device).requires_grad_()
    loss_function(z.expand(10), y).backward()
    assert abs(z.grad.item()) < 1e-15  # the loss is convex: a slope of 0 is its minimum


# 6. Mistake: sigmoid before BCEWithLogitsLoss
@pytest.mark.parametrize("y", [[0], [1], [0, 1], [0, 0, 1, 0]])
def test_a_sigmoid_too_many_puts_a_floor_under_the_loss(lesson, device, y):
    # A no becomes the logit 0, a yes the logit 1.
    share = sum(y) / len(y)
    floor = (1 - share) * math.log(2) + share * math.log(1 + math.exp(-1))
    assert lesson.floor_in_theory(share) == pytest.approx(floor, rel=1e-14)
    found = lesson.floor_of_double_sigmoid(tensor64(y, device))
    assert found == pytest.approx(floor, rel=1e-14)


def test_the_theory_of_section_6_is_not_the_measurement(lesson):
    balanced = (math.log(2) + math.log(1 + math.exp(-1))) / 2
    out = printed_if_tripled(lesson, 6, "floor_of_double_sigmoid")
    assert f"answers {3 * balanced:.6f}, theory {balanced:.6f}\n" in out
    assert "theory 0.552882\n" in out and "answers 0.552882" not in out


# 7. Mistake: sigmoid and then BCELoss
@pytest.mark.parametrize(
    ("z", "y", "with_logits", "loss", "gradient"),
    [
        (20, 0, False, 100, 0),
        (20, 0, True, 20, 1),
        # Label 1 saturates too: exp(89) is above the largest float32. Below -28 the
        # gradient fades, since BCELoss divides (p - 1) by p (1 - p), or by 1e-12 if
        # that is more.
        (-89, 1, False, 100, 0),
        (-40, 1, False, 40, -math.exp(-40) / 1e-12),
        (-89, 1, True, 89, -1),
        # where nothing saturates, they agree
        (1.5, 1, False, -math.log(sigmoid(1.5)), sigmoid(1.5) - 1),
        (1.5, 1, True, -math.log(sigmoid(1.5)), sigmoid(1.5) - 1),
    ],
)
def test_bceloss_saturates_and_bcewithlogitsloss_does_not(
    lesson, z, y, with_logits, loss, gradient
):
    found = lesson.loss_and_gradient(float(z), float(y), with_logits)
    assert found == pytest.approx((loss, gradient), rel=1e-4)


# 8. Mistake: choosing features on all rows
def test_features_chosen_on_all_rows_see_through_coins(lesson):
    seeds = range(100, 140)
    cheating = [lesson.accuracy_on_coins(True, seed) for seed in seeds]
    honest = [lesson.accuracy_on_coins(False, seed) for seed in seeds]
    # An honest accuracy is a mean of 40 * 16 coin flips: 5 standard errors, of 1/2 /
    # sqrt(640), are 0.1. Over the seeds 0 to 999 the other's mean is 0.827, its std
    # 0.098: 0.0155 for 40.
    assert np.mean(honest) == pytest.approx(0.5, abs=0.1)
    assert np.mean(cheating) == pytest.approx(0.827, abs=5 * 0.0155)
    shape = {"n": 80, "features": 500, "chosen": 20}
    assert lesson.accuracy_on_coins(True, 100, **shape) == cheating[0]


@pytest.mark.parametrize("choose_on_all", [True, False])
def test_the_coins_are_chosen_and_judged_as_numpy_would(lesson, choose_on_all):
    n, features, chosen = 200, 100, 60
    expected, found = {0.1: [], 0.03: []}, []
    for seed in range(5):  # 200 test rows: enough to tell one weight decay from another
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, features, generator=generator, dtype=torch.float64).numpy()
        y = torch.randint(0, 2, (n,), generator=generator).double().numpy()
        train, test = (part.numpy() for part in lesson.split(n, seed))
        seen = np.arange(n) if choose_on_all else train
        correlation = [abs(np.corrcoef(column[seen], y[seen])[0, 1]) for column in x.T]
        best = x[:, np.argsort(correlation)[-chosen:]]
        for decay, shares in expected.items():
            theta = optimum(lesson, best[train], y[train], decay)
            shares.append(accuracy(best[test], y[test], theta))
        found.append(lesson.accuracy_on_coins(choose_on_all, seed, n, features, chosen))
    assert found == pytest.approx(expected[0.1], abs=1e-12)
    assert found != pytest.approx(expected[0.03], abs=1e-12)


# What else the chapter says goes wrong
def test_one_nan_in_the_data_makes_all_weights_nan():
    x, y = torch.ones(5, 3), torch.zeros(5)
    # a constant column: 0 / 0
    assert ((x - x.mean(dim=0)) / x.std(dim=0)).isnan().all()
    x[2, 1] = math.nan
    model = torch.nn.Linear(3, 1)
    torch.nn.BCEWithLogitsLoss()(model(x)[:, 0], y).backward()
    assert all(parameter.grad.isnan().all() for parameter in model.parameters())


def test_the_picture_shows_the_roc_and_every_test_row_once(lesson):
    curve, histogram = lesson.figure().axes
    x, y = (torch.tensor(rate) for rate in curve.lines[0].get_data())
    assert f"{torch.trapezoid(y, x):.4f}" in curve.get_title()
    # in the order of the legend: 70 benign, 44 malignant
    names = [text.get_text() for text in histogram.get_legend().get_texts()]
    benign, malignant = histogram.containers
    assert names == ["benign", "malignant"]
    assert sum(bar.get_height() for bar in benign) == 70
    assert sum(bar.get_height() for bar in malignant) == 44
