"""What lesson 08 claims."""

import math
import re

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
from reference import sigmoid
from torch import nn

CHAPTER = ROOT / "lessons" / "08_logistic_regression.md"
TABLE = np.loadtxt(ROOT / "data" / "breast_cancer.csv", delimiter=",", skiprows=1)
# Eight patients, and what a child would count: 3 found, 1 missed, 2 false alarms.
LOGITS = np.array([3, 2, 1, -1, 1.5, 0.5, -2, -3])[:, None]
MALIGNANT = np.array([1, 1, 1, 1, 0, 0, 0, 0])[:, None]
# Test accuracy at the optimum with weight decay 0.01, over the splits of the seeds 0
# to 999: mean 0.977, standard deviation 0.013. The binomial one for 114 rows is 0.014.
MEAN, STD = 0.977, 0.013


def rows_of(seed=0):
    """[(x, y), ...] of the parts of a split, x standardised and y flat, in NumPy."""
    order = torch.randperm(569, generator=torch.Generator().manual_seed(seed)).numpy()
    train, valid, test = order[:341], order[341:455], order[455:]
    x = TABLE[:, 1:]
    x = (x - x[train].mean(axis=0)) / x[train].std(axis=0, ddof=1)
    return [(x[part], TABLE[part, 0]) for part in (train, valid, test)]


def overlapping_classes(n=60, d=3):
    """x (n, d), and y (n, 1) that leans on x without being fixed by it."""
    random = np.random.default_rng(1)
    x = random.normal(size=(n, d))
    y = x @ np.arange(1, d + 1) / d + random.normal(size=n) > 0.3
    return x, y.astype(float)[:, None]


def cross_entropy(z, y):
    """The mean of log(1 + exp(-z)) where y is 1 and log(1 + exp(z)) where it is 0."""
    return np.logaddexp(0, (1 - 2 * y) * z).mean()


def with_ones(x):
    return np.column_stack([x, np.ones(len(x))])


def slope(x, y, theta, decay):
    """The gradient with respect to theta = (w, b) of the loss + decay |theta|^2 / 2."""
    a = with_ones(x)
    return a.T @ (sigmoid(a @ theta) - y) / len(y) + decay * theta


def descent(x, y, theta, decay, steps):
    """(theta, the losses before each step) of gradient descent with the rate 1."""
    losses = []
    for _ in range(steps):
        losses.append(cross_entropy(with_ones(x) @ theta, y))
        theta = theta - slope(x, y, theta, decay)
    return theta, losses


def optimum(x, y, decay):
    """The theta where slope is 0, by gradient descent of Nesterov's kind.

    The loss with its decay is strictly convex, so that there is one such point.
    """
    a = with_ones(x)
    largest = np.linalg.eigvalsh(a.T @ a / len(y))[-1] / 4 + decay
    momentum = (1 - (decay / largest) ** 0.5) / (1 + (decay / largest) ** 0.5)
    theta = ahead = np.zeros(a.shape[1])
    for _ in range(3000):
        before, theta = theta, ahead - slope(x, y, ahead, decay) / largest
        ahead = theta + momentum * (theta - before)
    assert np.abs(slope(x, y, theta, decay)).max() < 1e-10
    return theta


def start_of(lesson, seed):
    """theta of the lesson's model before training."""
    model = lesson.line(seed, "cpu")
    return np.append(model.weight.tolist()[0], model.bias.item())


def test_x_and_y_are_the_files_212_of_569_malignant(lesson, device):
    x, y = lesson.breast_cancer(device)
    assert_values(x, TABLE[:, 1:], device, rtol=0)
    assert_values(y, TABLE[:, :1], device, rtol=0)
    assert y.sum() == 212


# 1. From a logit to a probability, and to a loss
def test_the_sigmoid_undoes_the_logarithm_of_the_odds(lesson, device):
    p = np.array([0.01, 0.25, 0.5, 0.731])
    z = np.log(p / (1 - p))
    assert_values(lesson.probability_by_hand(tensor64(z, device)), p, device)


@pytest.mark.parametrize("z", [-3.0, 0.0, 1.0, 2.5])
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_the_loss_is_minus_the_log_of_what_was_true_and_its_slope_p_minus_y(
    lesson, z, y
):
    p = sigmoid(z)
    loss = -math.log(p if y == 1 else 1 - p)
    assert lesson.loss_and_slope(z, y) == pytest.approx((loss, p - y), rel=1e-5)
    near = [cross_entropy(z + h, y) for h in (1e-5, -1e-5)]
    assert (near[0] - near[1]) / 2e-5 == pytest.approx(p - y, abs=1e-9)


def test_section_1_prints_losses_that_do_not_come_from_pytorch(lesson):
    printed = printed_if_tripled(lesson, 1, "loss_and_slope")
    for z in (-3.0, -1.0, 0.0, 1.0, 3.0):
        numbers = [f"{z:.1f}", f"{sigmoid(z):.3f}"]
        numbers += [f"{np.logaddexp(0, -z):.4f}", f"{np.logaddexp(0, z):.4f}"]
        assert numbers in [line.split() for line in printed.splitlines()]
    assert f"loss {3 * math.log(1 + math.exp(-1)):.4f}" in printed


# 2. Split first
@pytest.mark.parametrize(("n", "sizes"), [(569, (341, 114, 114)), (10, (6, 2, 2))])
def test_a_split_is_60_20_20_at_random_and_keeps_rows_together(
    lesson, device, n, sizes
):
    state = torch.get_rng_state()
    x = torch.arange(n, device=device)[:, None]
    parts = lesson.split(x, 7 * x, 3)
    assert tuple(len(x) for x, _ in parts) == sizes
    assert all((y == 7 * x).all() for x, y in parts)
    order = torch.cat([x for x, _ in parts])
    assert order.device.type == device
    assert sorted(order.flatten().tolist()) == list(range(n))
    assert order.flatten().tolist() != list(range(n))
    again, other = (torch.cat([x for x, _ in lesson.split(x, x, k)]) for k in (3, 4))
    assert order.equal(again) and not order.equal(other)
    # nobody else's numbers are touched
    assert torch.equal(state, torch.get_rng_state())


def test_rows_are_scaled_by_the_mean_and_the_std_of_other_rows(lesson, device):
    by, x = [[1.0, 10.0], [3.0, 40.0], [8.0, -20.0]], [[5.0, 0.0], [100.0, 7.0]]
    expected = (np.array(x) - np.mean(by, axis=0)) / np.std(by, axis=0, ddof=1)
    scaled = lesson.scaled(tensor64(x, device), by=tensor64(by, device))
    assert_values(scaled, expected, device, atol=1e-15)


@pytest.mark.parametrize("seed", [0, 5])
def test_all_parts_are_scaled_by_the_training_rows(lesson, device, seed):
    for (x, y), (rows, labels) in zip(
        lesson.patients(device, seed), rows_of(seed), strict=True
    ):
        assert_values(x, rows, device, torch.float32, rtol=1e-6, atol=1e-6)
        assert_values(y, labels[:, None], device, torch.float32, rtol=0)


def test_what_is_scaled_by_itself_has_the_mean_0(lesson, capsys):
    lesson.show_2("cpu")
    printed = capsys.readouterr().out
    x, y = rows_of()[1]
    assert f"training rows   {x[y == 1, 0].mean():5.2f}\n" in printed
    assert "themselves           0.00\n" in printed
    for (_, y), name in zip(rows_of(), ("training", "validation", "test"), strict=True):
        words = rf"{name} +{len(y)} patients, {y.sum():.0f} of them malignant"
        assert re.search(words, printed)


@pytest.mark.filterwarnings("ignore:std.*degrees of freedom")  # not in torch 2.0
def test_the_std_of_a_constant_column_is_not_always_0():
    # The mean of n equal numbers is rounded. Of which n and numbers, is torch's affair.
    columns = [
        torch.full((n, 1), value)
        for value in (0.1, 0.3, 1.1, 5.7)
        for n in (3, 7, 10, 33, 100)
    ]
    assert all((column == column[0]).all() for column in columns)
    assert any(0 < column.std() < 1e-5 for column in columns)
    assert torch.full((4, 1), 5.0).std() == 0
    assert torch.ones(1, 3).std(dim=0).isnan().all()  # a single row


def test_one_nan_in_the_data_makes_all_weights_nan():
    x, y = torch.ones(5, 3), torch.zeros(5, 1)
    # a constant column: 0 / 0
    assert ((x - x.mean(dim=0)) / x.std(dim=0)).isnan().all()
    x[2, 1] = math.nan
    model = nn.Linear(3, 1)
    nn.BCEWithLogitsLoss()(model(x), y).backward()
    assert all(parameter.grad.isnan().all() for parameter in model.parameters())


# 3. The loop does not change
@pytest.mark.parametrize("seed", [1, 2])
def test_train_descends_with_rate_1_and_decays_weights_and_bias(lesson, device, seed):
    x, y = rows_of()[0]
    model = lesson.line(seed, device)
    losses = lesson.train(model, *lesson.patients(device)[0], steps=20)
    theta, expected = descent(x, y, start_of(lesson, seed), 0.01, 20)
    np.testing.assert_allclose(losses, expected, rtol=2e-5)
    found = np.append(model.weight.tolist()[0], model.bias.item())
    np.testing.assert_allclose(found, theta, rtol=0, atol=2e-5)


def test_from_each_of_twenty_starts_training_comes_to_the_one_optimum(lesson):
    x, y = rows_of()[0]
    theta = optimum(x, y, 0.01)
    least = cross_entropy(with_ones(x) @ theta, y)
    starts = np.stack([start_of(lesson, seed) for seed in range(20)])
    ends = []
    for start in starts:
        end, losses = descent(x, y, start, 0.01, 500)
        assert losses[-1] == pytest.approx(least, abs=1e-5)
        ends.append(end)
    # The decay takes 0.01 of the distance at least, in each step near the optimum:
    # 0.99^500 is 0.0066.
    assert np.abs(np.stack(ends) - theta).max() < 0.0066 * np.abs(starts - theta).max()


def test_section_3_prints_two_starts_with_their_own_losses(lesson):
    printed = printed_if_tripled(lesson, 3, "train")
    first, second = (
        descent(*rows_of()[0], start_of(lesson, seed), 0.01, 101)[1] for seed in (1, 2)
    )
    for step in (0, 100):
        numbers = re.search(rf"\n +{step} +(\S+) +(\S+)\n", printed).groups()
        wanted = [3 * first[step], 3 * second[step]]
        assert [float(number) for number in numbers] == pytest.approx(wanted, abs=2e-4)
    weights = re.findall(r"^ +(\S+)   (\S+)   (\S+)$", printed, re.MULTILINE)[-2:]
    theta = optimum(*rows_of()[0], 0.01)
    for numbers in weights:
        assert [float(n) for n in numbers] == pytest.approx(theta[:3], abs=0.01)


def test_twenty_splits_choose_a_decay_of_0_01_and_the_first_alone_does_not(lesson):
    losses = {decay: [] for decay in (0.001, 0.01, 0.1)}
    for seed in range(20):
        (x, y), (x_valid, y_valid), _ = rows_of(seed)
        for decay, found in losses.items():
            theta = lesson.newton(tensor64(x), tensor64(y[:, None]), decay, 15).numpy()
            assert np.abs(slope(x, y, theta, decay)).max() < 1e-10
            found.append(cross_entropy(with_ones(x_valid) @ theta, y_valid))
    means = {decay: np.mean(found) for decay, found in losses.items()}
    assert min(means, key=means.get) == 0.01
    assert [round(mean, 3) for mean in means.values()] == [0.094, 0.086, 0.143]
    assert losses[0.001][0] < losses[0.01][0]


# 4. Judged on patients that it has not seen
def test_the_confusion_matrix_counts_and_the_scores_divide(lesson, device):
    z, y = tensor64(LOGITS, device), tensor64(MALIGNANT, device)
    assert lesson.confusion(z, y) == (3, 1, 2, 2)
    assert lesson.scores(z, y) == (5 / 8, 3 / 5, 3 / 4)
    z, y = tensor64([[0.0], [0.0], [1.0]], device), tensor64([[1], [0], [0]], device)
    assert lesson.confusion(z, y) == (0, 1, 1, 1)  # the logit 0 is no alarm


def test_without_an_alarm_there_is_no_precision(lesson, device):
    z, y = tensor64(-1 - LOGITS**2, device), tensor64(MALIGNANT, device)
    accuracy, precision, recall = lesson.scores(z, y)
    assert (accuracy, recall) == (1 / 2, 0) and math.isnan(precision)


def test_a_mean_over_batches_is_not_the_precision_of_all(lesson):
    z, y = tensor64(LOGITS), tensor64(MALIGNANT)
    batches = [lesson.scores(z[rows], y[rows]) for rows in ([0, 1, 4, 6], [2, 3, 5, 7])]
    assert np.mean(batches, axis=0)[0] == 5 / 8  # accuracy is a mean over rows
    assert np.mean(batches, axis=0)[1] == pytest.approx((2 / 3 + 1 / 2) / 2)


@pytest.mark.parametrize("seed", [0, 3])
def test_the_test_rows_are_judged_by_a_model_of_the_training_rows(lesson, device, seed):
    (x, y), _, (x_test, y_test) = rows_of(seed)
    logits, labels = lesson.logits_of_test_rows(device, seed, steps=30)
    theta, _ = descent(x, y, start_of(lesson, seed), 0.01, 30)
    expected = (with_ones(x_test) @ theta)[:, None]
    assert_values(logits, expected, device, torch.float32, rtol=1e-4, atol=2e-4)
    assert_values(labels, y_test[:, None], device, torch.float32, rtol=0)
    assert not logits.requires_grad


def test_one_split_is_good_to_a_few_percent(lesson):
    found = []
    for seed in range(20):
        logits, y = lesson.logits_of_test_rows("cpu", seed, steps=30)
        found.append(np.mean((logits.numpy() > 0) == (y.numpy() == 1)))
    # Five standard deviations of the mean of 20; a standard deviation from 20 is itself
    # good to a sixth; the best and the worst of 20 are near four of them apart.
    assert np.mean(found) == pytest.approx(MEAN, abs=5 * STD / 20**0.5)
    assert np.std(found) == pytest.approx(STD, rel=0.5)
    assert 2 * STD < max(found) - min(found) < 6 * STD


def test_section_4_prints_the_counts_and_the_spread(lesson, monkeypatch):
    seeds, judged = [], lesson.logits_of_test_rows
    monkeypatch.setattr(
        lesson,
        "logits_of_test_rows",
        lambda device, seed=0, steps=500: (
            seeds.append(seed) or judged(device, seed, steps)
        ),
    )
    (x, y), _, (x_test, y_test) = rows_of()
    theta, _ = descent(x, y, start_of(lesson, 0), 0.01, 500)
    alarm, malignant = with_ones(x_test) @ theta > 0, y_test == 1
    printed = printed_if_tripled(lesson, 4, "scores")
    found, missed = sum(alarm & malignant), sum(~alarm & malignant)
    false_alarms, cleared = sum(alarm & ~malignant), sum(~alarm & ~malignant)
    assert re.search(rf"malignant +{found} found +{missed} missed\n", printed)
    assert re.search(rf"benign +{false_alarms} false alarm +{cleared} cleared", printed)
    accuracy = 3 * np.mean(alarm == malignant)
    precision = 3 * found / (found + false_alarms)
    recall = 3 * found / (found + missed)
    words = f"accuracy {accuracy:.3f}   precision {precision:.3f}   recall {recall:.3f}"
    assert f"{words}\n" in printed
    assert f"always saying benign {1 - y_test.mean():.3f}\n" in printed
    assert seeds == [0, *range(20)]
    low, high = re.search(r"splits   (\S+) to (\S+)\n", printed).groups()
    assert 3 * (MEAN - 6 * STD) < float(low) < 3 * MEAN < float(high) <= 3


@pytest.mark.parametrize("label", [0, 1])
def test_rows_scaled_by_themselves_have_the_bias_for_their_mean_logit(lesson, label):
    x, y = lesson.patients("cpu")[2]
    rows = x[y[:, 0] == label].double()
    theta = torch.randn(31, generator=torch.Generator().manual_seed(0)).double()
    logits = lesson.logits_of(lesson.scaled(rows, by=rows), theta)
    assert logits.mean().item() == pytest.approx(theta[-1].item(), abs=1e-9)


def test_a_clinic_with_scales_of_its_own_loses_about_half_of_its_patients(lesson):
    for label in (0, 1):
        shares = []
        for seed in range(20):
            (x, y), _, (x_test, y_test) = rows_of(seed)
            theta = lesson.newton(tensor64(x), tensor64(y[:, None]), 0.01, 9).numpy()
            rows = x_test[y_test == label]
            own = (rows - rows.mean(axis=0)) / rows.std(axis=0, ddof=1)
            shares.append(np.mean(with_ones(own) @ theta > 0))
            assert np.mean((with_ones(rows) @ theta > 0) == label) > 0.85
        assert 0.3 < min(shares) < max(shares) < 0.6


def test_in_most_of_twenty_splits_the_training_rows_are_the_better_ones(lesson):
    better = 0
    for seed in range(20):
        (x, y), (x_valid, y_valid), _ = rows_of(seed)
        theta = lesson.newton(tensor64(x), tensor64(y[:, None]), 0.01, 9).numpy()
        losses = [
            cross_entropy(with_ones(rows) @ theta, labels)
            for rows, labels in ((x, y), (x_valid, y_valid))
        ]
        better += losses[0] < losses[1]
    assert 10 < better < 20


def test_all_slopes_of_logits_lie_within_1_and_those_of_weights_do_not():
    x = torch.tensor([5.0])
    w = torch.zeros(1, requires_grad=True)
    nn.BCEWithLogitsLoss()(x * w, torch.zeros(1)).backward()
    assert w.grad.item() == 5 * (1 / 2 - 0)


def test_the_largest_of_one_logit_is_the_first():
    logits = torch.tensor([[-3.0], [0.0], [5.0]])
    assert logits.argmax(dim=1).tolist() == [0, 0, 0]


# 5. Mistake: a sigmoid too many
def test_a_sigmoid_too_many_is_descent_on_the_loss_of_a_sigmoid(lesson, device):
    x, y = rows_of()[0]
    parts = lesson.patients(device)[0]
    losses = lesson.with_a_sigmoid_too_many(*parts, 20)
    theta, a, expected = start_of(lesson, 0), with_ones(x), []
    for _ in range(20):
        p = sigmoid(a @ theta)
        expected.append(cross_entropy(p, y))
        pull = (sigmoid(p) - y) * p * (1 - p)
        theta = theta - a.T @ pull / len(y) - 0.01 * theta
    np.testing.assert_allclose(losses, expected, rtol=2e-5)
    right = mended(lesson, "with_a_sigmoid_too_many", "nn.Sigmoid()", "nn.Identity()")(
        *parts, 20
    )
    assert right == lesson.train(lesson.line(0, device), *parts, 20)


@pytest.mark.parametrize("labels", [[0], [1], [0, 1], [0, 0, 1, 0]])
def test_no_answer_at_all_comes_below_the_floor(lesson, labels):
    y = np.array(labels, float)
    floor = lesson.floor_in_theory(y.mean())
    # The best outputs of a sigmoid are the labels themselves.
    assert floor == pytest.approx(cross_entropy(y, y), rel=1e-14)
    outputs = np.random.default_rng(0).random((1000, len(y)))
    assert all(cross_entropy(p, y) > floor for p in outputs)
    perfect = (torch.tensor(y) - 0.5) * torch.inf
    loss = nn.BCEWithLogitsLoss()(torch.sigmoid(perfect), torch.tensor(y))
    assert loss.item() == pytest.approx(floor, rel=1e-14)


def test_the_theory_of_section_5_is_not_the_measurement(lesson):
    names = ("train", "with_a_sigmoid_too_many", "loss_and_slope_by_bce")
    printed = printed_if_tripled(lesson, 5, *names)
    share = rows_of()[0][1].mean()
    floor = (1 - share) * math.log(2) + share * math.log(1 + math.exp(-1))
    assert f"in theory {floor:.4f}\n" in printed
    x, y = rows_of()[0]
    right = descent(x, y, start_of(lesson, 0), 0.01, 1)[1][0]
    wrong = cross_entropy(sigmoid(with_ones(x) @ start_of(lesson, 0)), y)
    # the second is tripled in train, and once more
    first = re.search(r"\n +0 +(\S+) +(\S+)\n", printed).groups()
    expected = [3 * right, 9 * wrong]
    assert [float(number) for number in first] == pytest.approx(expected, abs=2e-4)
    numbers = "20.00     1.00       300.00     0.00"
    assert f"logit 20      {numbers}\n" in printed


@pytest.mark.parametrize(
    ("z", "y", "loss", "slope"),
    [
        (20, 0, 100, 0),
        (40, 0, 100, 0),
        # Label 1 saturates later: exp(89) is above the largest float32. Below -28 the
        # gradient fades, since BCELoss divides (p - 1) by p (1 - p), or by 1e-12 if
        # that is more.
        (-89, 1, 100, 0),
        (-20, 1, 20, -1),
        (-30, 1, 30, -math.exp(-30) / 1e-12),
        (-40, 1, 40, -math.exp(-40) / 1e-12),
        # where nothing saturates, they agree
        (1.5, 1, -math.log(sigmoid(1.5)), sigmoid(1.5) - 1),
        (2, 0, -math.log(1 - sigmoid(2)), sigmoid(2)),
    ],
)
def test_a_sigmoid_and_bceloss_saturate_and_bcewithlogitsloss_does_not(
    lesson, z, y, loss, slope
):
    found = lesson.loss_and_slope_by_bce(float(z), float(y))
    assert found == pytest.approx((loss, slope), rel=1e-4)
    exact = (np.logaddexp(0, (1 - 2 * y) * z), sigmoid(float(z)) - y)
    assert lesson.loss_and_slope(float(z), float(y)) == pytest.approx(exact, rel=1e-4)


def test_it_is_the_sigmoid_that_is_flat_and_not_bceloss():
    p = torch.tensor(1.0, requires_grad=True)
    nn.BCELoss()(p, torch.tensor(0.0)).backward()
    assert p.grad.item() == pytest.approx(1e12)  # (p - y) / 1e-12
    z = torch.tensor(20.0, requires_grad=True)
    torch.sigmoid(z).backward()
    assert torch.sigmoid(z) == 1 and z.grad == 0


@pytest.mark.parametrize(
    ("number", "dtype", "is_nan"),
    [
        (-100, torch.float32, True),
        (-100, torch.float64, False),
        (-709, torch.float64, False),  # the largest float64 is about exp(709.78)
        (-710, torch.float64, True),
    ],
)
def test_by_hand_exp_is_inf_and_inf_times_0_is_nan(
    lesson, device, number, dtype, is_nan
):
    z = torch.tensor(float(number), dtype=dtype, device=device, requires_grad=True)
    (-torch.log(lesson.probability_by_hand(z))).backward()
    assert z.grad.isnan() == is_nan


# 6. Every threshold at once
def test_the_roc_has_a_point_for_every_threshold(lesson, device):
    z = tensor64([[3], [2], [2], [1], [0]], device)
    y = tensor64([[1], [0], [1], [0], [0]], device)
    rates, recalls = lesson.roc(z, y)
    assert rates == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])
    assert recalls == [0, 0.5, 1, 1, 1]


@pytest.mark.parametrize("decimals", [16, 0])  # rounded to 0 decimals there are ties
def test_the_area_under_the_roc_is_the_share_of_pairs_ranked_right(
    lesson, device, decimals
):
    random = np.random.default_rng(0)
    y = (random.random((200, 1)) < 0.4).astype(float)
    z = np.round(random.normal(size=(200, 1)) + y, decimals)
    differences = z[y == 1][:, None] - z[y == 0]
    share = np.mean((differences > 0) + 0.5 * (differences == 0))
    area = lesson.area_under_roc(tensor64(z, device), tensor64(y, device))
    assert area == pytest.approx(share, rel=1e-6)


def test_of_sixteen_pairs_thirteen_are_ranked_right(lesson):
    area = lesson.area_under_roc(tensor64(LOGITS), tensor64(MALIGNANT))
    assert area == pytest.approx((4 + 4 + 3 + 2) / 16)


def test_section_6_counts_alarms_of_unseen_patients(lesson):
    (x, y), _, (x_test, y_test) = rows_of()
    theta, _ = descent(x, y, start_of(lesson, 0), 0.01, 500)
    p = sigmoid(with_ones(x_test) @ theta)
    printed = printed_if_tripled(lesson, 6, "roc", "area_under_roc")
    for threshold in (0.5, 0.2, 0.1, 0.05):
        found, false_alarms = (sum(p[y_test == label] >= threshold) for label in (1, 0))
        words = f"found {found} of {sum(y_test == 1)}   false alarms {false_alarms:>2}"
        assert f"from {threshold:.2f}   {words}\n" in printed
    pairs = p[y_test == 1][:, None] > p[y_test == 0]
    area = re.search(r"ROC   (\S+)\n", printed)[1]
    # three times in both rates, and once more
    assert float(area) == pytest.approx(27 * pairs.mean(), abs=27 * 2 / pairs.size)


@pytest.mark.parametrize(
    ("pos_weight", "p"), [(1, 1 / 10), (9, 1 / 2), (1 / 9, 1 / 82)]
)
def test_pos_weight_moves_p_of_one_positive_in_ten_from_0_1_to_0_5_or_0_012(
    device, pos_weight, p
):
    assert f"{1 / 82:.3f}" == "0.012"
    y = tensor64([1] + 9 * [0], device)
    loss_function = nn.BCEWithLogitsLoss(pos_weight=tensor64(pos_weight, device))
    z = tensor64(math.log(p / (1 - p)), device).requires_grad_()
    loss_function(z.expand(10), y).backward()
    assert abs(z.grad.item()) < 1e-15  # the loss is convex: a slope of 0 is its minimum


# 7. Without weight decay
@pytest.mark.parametrize("steps", [1, 4])
def test_newton_takes_newtons_steps(lesson, device, steps):
    # Two points, x = 1 malignant and x = -1 benign: b stays 0, and with respect to w
    # the loss log(1 + exp(-w)) has the derivatives -(1 - p) and p (1 - p). A step is
    # 1 / p = 1 + exp(-w).
    x, y = tensor64([[1], [-1]], device), tensor64([[1], [0]], device)
    w = 0.0
    for _ in range(steps):
        w += 1 + math.exp(-w)
    theta = lesson.newton(x, y, 0.0, steps)
    assert_values(theta, [w, 0], device, rtol=1e-10, atol=1e-12)


def test_newtons_first_step_minimises_the_bowl(lesson, device):
    x, y = overlapping_classes()
    # At theta = 0 each p is 1/2, and the bowl is that of least squares for
    # z = 4 (y - 1/2). The decay is as good as a reading of 0 for each parameter.
    rows = np.vstack([with_ones(x), np.sqrt(4 * 60 * 0.1) * np.eye(4)])
    z = np.append(4 * y - 2, np.zeros(4))
    expected = np.linalg.lstsq(rows, z, rcond=None)[0]
    theta = lesson.newton(tensor64(x, device), tensor64(y, device), 0.1, steps=1)
    assert_values(theta, expected, device, rtol=1e-10)


@pytest.mark.parametrize("decay", [0.01, 0.1])
def test_newton_and_gradient_descent_find_the_one_optimum(lesson, device, decay):
    x, y = rows_of()[0]
    theta = lesson.newton(tensor64(x, device), tensor64(y[:, None], device), decay, 10)
    assert_values(theta, optimum(x, y, decay), device, rtol=0, atol=1e-7)


def test_logits_are_x_w_plus_b(lesson, device):
    x, theta = tensor64([[1, 2], [3, -1]], device), tensor64([10, 1, 0.5], device)
    assert_values(lesson.logits_of(x, theta), [[12.5], [29.5]], device)


@pytest.mark.parametrize("seed", range(20))
def test_the_training_rows_can_be_separated(lesson, seed):
    x, y = rows_of(seed)[0]
    theta = lesson.newton(tensor64(x), tensor64(y[:, None]), 0.0, 14).numpy()
    # All on their side, so twice the weights are better yet.
    assert ((2 * y - 1) * (with_ones(x) @ theta)).min() > 0


def test_without_decay_weights_and_validation_loss_grow(lesson, capsys):
    lesson.show_7("cpu")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    numbers = np.array(rows, float)
    (_, _, length, loss, valid) = numbers[:3].T
    assert length[2] > 2 * length[1] > 4 * length[0]
    assert loss[0] > 2 * loss[1] > 4 * loss[2] and valid[0] < valid[1] < valid[2]
    (x, y), (x_valid, y_valid), _ = rows_of()
    theta = optimum(x, y, 0.01)
    expected = [np.linalg.norm(theta[:-1]), cross_entropy(with_ones(x) @ theta, y)]
    expected += [cross_entropy(with_ones(x_valid) @ theta, y_valid)]
    for row in numbers[4:]:
        assert row[0] == 0.01 and row[2] == pytest.approx(expected[0], abs=0.06)
        assert list(row[3:]) == pytest.approx(expected[1:], abs=6e-5)


def test_without_decay_the_validation_loss_is_worse_in_nearly_all_splits(lesson):
    worse = 0
    for seed in range(20):
        (x, y), (x_valid, y_valid), _ = rows_of(seed)
        losses = []
        for decay, steps in ((0.0, 15), (0.01, 15)):
            theta = lesson.newton(tensor64(x), tensor64(y[:, None]), decay, steps)
            z = with_ones(x_valid) @ theta.numpy()
            losses.append(cross_entropy(z, y_valid))
        worse += losses[0] > 5 * losses[1]
    assert worse >= 18


# 8. Mistake: choosing features on all rows
def test_the_best_columns_correlate_most_either_way(lesson, device):
    random = np.random.default_rng(0)
    y = (random.random((50, 1)) < 0.3).astype(float)
    x = random.normal(size=(50, 12)) * 10 ** np.arange(12.0) + 5
    x[:, 3] -= 3000 * y[:, 0]
    sizes = [abs(np.corrcoef(column, y[:, 0])[0, 1]) for column in x.T]
    best = lesson.best_columns(tensor64(x, device), tensor64(y, device), 4)
    assert best.tolist() == np.argsort(sizes)[::-1][:4].tolist() and best[0] == 3


def test_features_chosen_on_all_rows_see_through_coins(lesson):
    seeds = range(100, 140)
    cheating = [lesson.accuracy_on_coins(True, seed) for seed in seeds]
    honest = [lesson.accuracy_on_coins(False, seed) for seed in seeds]
    # An honest accuracy is a mean of 40 * 16 coin flips: 5 standard errors, of 1/2 /
    # sqrt(640), are 0.1. Over the seeds 0 to 399 the other's mean is 0.833, its std
    # 0.094: 0.015 for 40.
    assert np.mean(honest) == pytest.approx(0.5, abs=0.1)
    assert np.mean(cheating) == pytest.approx(0.833, abs=5 * 0.015)
    shape = {"n": 80, "features": 500, "chosen": 20}
    assert lesson.accuracy_on_coins(True, 100, **shape) == cheating[0]


@pytest.mark.parametrize("choose_on_all", [True, False])
def test_the_coins_are_chosen_and_judged_as_numpy_would(lesson, choose_on_all):
    n, features, chosen = 200, 100, 60
    expected, found = {0.1: [], 0.01: []}, []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, features, generator=generator).double().numpy()
        y = torch.randint(0, 2, (n, 1), generator=generator).double().numpy()[:, 0]
        seen = n if choose_on_all else 160
        sizes = [abs(np.corrcoef(column[:seen], y[:seen])[0, 1]) for column in x.T]
        best = x[:, np.argsort(sizes)[-chosen:]]
        for decay, shares in expected.items():
            z = with_ones(best[160:]) @ optimum(best[:160], y[:160], decay)
            shares.append(np.mean((z > 0) == (y[160:] == 1)))
        found.append(lesson.accuracy_on_coins(choose_on_all, seed, n, features, chosen))
    assert found == pytest.approx(expected[0.1], abs=1e-12)
    assert found != pytest.approx(expected[0.01], abs=1e-12)


def test_section_8_prints_both_means_over_forty_seeds(lesson, capsys):
    lesson.show_8("cpu")
    printed = capsys.readouterr().out
    for words, on_all in (("all rows", True), ("training rows", False)):
        mean = np.mean([lesson.accuracy_on_coins(on_all, seed) for seed in range(40)])
        assert re.search(rf"chosen on {words} +{mean:.2f}\n", printed)


# Go wrong
LABELS = torch.full((4,), 1)  # whole numbers
Z = torch.tensor([0.1, 0.2, 0.3, 0.4])
MISTAKES = [
    ("can't be cast to the desired output type", nn.BCEWithLogitsLoss, Z, LABELS),
    (
        "can't be cast to the desired output type",
        nn.BCEWithLogitsLoss,
        Z.double(),
        LABELS.int(),
    ),
    ("Found dtype Long but expected Float", nn.BCELoss, Z, LABELS),
    ("two bool tensors is not supported", nn.BCEWithLogitsLoss, Z, LABELS == 1),
    ("must be the same as input size", nn.BCEWithLogitsLoss, Z[:, None], Z),
    ("all elements of input should be between 0 and 1", nn.BCELoss, Z + 1, Z),
    (
        "all elements of input should be between 0 and 1",
        nn.BCELoss,
        Z * math.nan,
        LABELS.float(),
    ),
]
TYPES = "must have the same dtype"
EMPTY = "could not convert string ''"


@pytest.mark.parametrize(("message", "loss_function", "z", "y"), MISTAKES)
def test_a_loud_mistake_says_what_the_chapter_quotes(message, loss_function, z, y):
    with pytest.raises(Exception, match=re.escape(message)):
        loss_function()(z, y)


def test_the_cures_of_the_labels_are_cures():
    wanted = nn.BCELoss()(Z, LABELS.float())
    assert wanted.item() == pytest.approx(-np.log([0.1, 0.2, 0.3, 0.4]).mean())
    assert nn.BCELoss()(Z, (LABELS == 1).float()) == wanted


def test_a_model_of_float32_refuses_rows_of_float64():
    with pytest.raises(RuntimeError, match=TYPES):
        nn.Linear(3, 1)(torch.ones(2, 3).double())


def test_an_empty_cell_stops_loadtxt_and_is_nan_for_genfromtxt():
    lines = ["a,b", "1,2", "3,"]
    with pytest.raises(ValueError, match=EMPTY):
        np.loadtxt(lines, delimiter=",", skiprows=1)
    table = np.genfromtxt(lines, delimiter=",", skip_header=1)
    np.testing.assert_array_equal(table, [[1, 2], [3, math.nan]])


def test_every_message_of_the_table_is_made():
    made = {message for message, *_ in MISTAKES}
    assert loud_messages(CHAPTER) == {TYPES, EMPTY, *made}


@pytest.mark.parametrize("labels", [LABELS.float(), LABELS])
def test_n_1_against_n_compares_all_pairs(labels):
    logits = torch.tensor([[1.0], [-1.0], [2.0], [-2.0]])
    right = (logits > 0) == (labels == 1)
    assert right.shape == (4, 4)
    assert right.sum() / 4 == 2 and right.float().mean() == 0.5


# The picture
def test_the_picture_names_each_side_and_shows_the_roc(lesson, device):
    histogram, curve = lesson.figure(device).axes
    logits, y = (part.cpu() for part in lesson.logits_of_test_rows(device))
    names = [text.get_text() for text in histogram.get_legend().get_texts()]
    handles = histogram.get_legend_handles_labels()
    shown = dict(zip(handles[1], handles[0], strict=True))
    assert names == ["benign", "malignant"] and set(shown) == set(names)
    p = sigmoid(logits.double().numpy())
    for name, label in (("benign", 0), ("malignant", 1)):
        (bars,) = (
            bars
            for bars in histogram.containers
            if bars[0].get_facecolor() == shown[name].get_facecolor()
        )
        heights = [bar.get_height() for bar in bars]
        expected = np.histogram(p[y.numpy() == label], bins=10, range=(0, 1))
        assert heights == expected[0].tolist() and sum(heights) == (y == label).sum()
    rates, recalls = curve.lines[0].get_data()
    assert list(rates) == pytest.approx(lesson.roc(logits, y)[0])
    assert list(recalls) == pytest.approx(lesson.roc(logits, y)[1])
    assert curve.get_xlabel() == "false alarm rate" and curve.get_ylabel() == "recall"
    pairs = logits[y == 1][:, None] > logits[y == 0]
    assert curve.get_title() == f"area {pairs.double().mean():.4f}"
