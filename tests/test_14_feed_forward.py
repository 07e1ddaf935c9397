"""What lesson 14 claims."""

import functools
import itertools
import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import ROOT, assert_values, printed_if_tripled
from reference import adam_step, log_softmax, softmax
from torch import nn

TABLE = np.loadtxt(ROOT / "data" / "digits.csv", delimiter=",", skiprows=1)
X, Y = TABLE[:, 1:] / 16, TABLE[:, 0].astype(int)


def on_device(numbers, device):
    """A tensor of float64 or, of whole numbers, of int64."""
    return torch.from_numpy(np.array(numbers)).to(device)


def rows_without_a_rule(n, seed=0):
    """x (n, 64), and labels that have nothing to do with it; every fourth is a 9."""
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 64)), np.minimum(random.integers(12, size=n), 9)


# The network and its training once more, in NumPy: parameters [W, b] or [W, b, W, b]
def start(model):
    return [parameter.detach().cpu().numpy().copy() for parameter in model.parameters()]


def hidden(parameters, x):
    weight, bias = parameters[:2]
    return np.maximum(x @ weight.T + bias, 0) if len(parameters) == 4 else x


def logits(parameters, x):
    return hidden(parameters, x) @ parameters[-2].T + parameters[-1]


def loss(parameters, x, y):
    return -log_softmax(logits(parameters, x))[np.arange(len(y)), y].mean()


def share_right(parameters, x, y):
    return np.mean(logits(parameters, x).argmax(axis=1) == y)


def gradient(parameters, x, y):
    z, units = logits(parameters, x), hidden(parameters, x)
    error = (softmax(z) - np.eye(10)[y]) / len(y)
    found = [error.T @ units, error.sum(axis=0)]
    if len(parameters) == 4:
        error = error @ parameters[2] * (units > 0)
        found = [error.T @ x, error.sum(axis=0), *found]
    return found


def adam(parameters, x, labels, lr=0.02):
    """The parameters after 0, 1, 2, ... steps of Adam, one for each y in labels."""
    path, mean, square = [parameters], [0] * 4, [0] * 4
    for step, y in enumerate(labels, 1):
        after = list(path[-1])
        for i, slope in enumerate(gradient(path[-1], x, y)):
            state = adam_step(after[i], slope, mean[i], square[i], step, lr)
            after[i], mean[i], square[i] = state
        path.append(after)
    return path


def nearest(x, known, y):
    """The label of the first row of known with the least sum of squared differences."""
    return np.array([y[np.square(known - row).sum(axis=1).argmin()] for row in x])


# Trained once, on rows and with seeds that the lesson does not print
@pytest.fixture(scope="module")
def batch(lesson):
    """(device, apart) -> losses of the rows 64 to 127."""

    @functools.cache
    def losses(device, apart):
        x, y = (t[64:128] for t in lesson.digits(device))
        return lesson.losses_on_batch(x, y, apart, seed=5)

    return losses


@pytest.fixture(scope="module")
def splits(lesson):
    """device -> accuracies on two splits."""

    @functools.cache
    def accuracies(device):
        return [lesson.test_accuracies(*lesson.digits(device), seed) for seed in (3, 4)]

    return accuracies


@pytest.fixture(scope="module")
def watched(lesson):
    """(device, share) -> losses and accuracy of 35 steps."""

    @functools.cache
    def steps(device, share):
        return lesson.watch(*lesson.digits(device), share, seed=5, epochs=35)

    return steps


@pytest.fixture(scope="module")
def folds(lesson):
    """(device, new_model) -> accuracies on 200 pictures with random labels, labels."""
    labels = np.random.default_rng(5).integers(10, size=200)

    @functools.cache
    def accuracies(device, new_model):
        x = lesson.digits(device)[0][200:400]
        return lesson.fold_accuracies(x, on_device(labels, device), new_model)

    return lambda device, new_model: (accuracies(device, new_model), labels)


# Reading a data file: tests/test_faults.py tests read_csv
def test_the_digits_are_1797_pictures_of_64_grey_levels_from_0_to_1(lesson, device):
    x, y = lesson.digits(device)
    assert_values(x, X, device)
    assert_values(y, Y, device, torch.int64)
    assert (x.shape, x.min(), x.max()) == ((1797, 64), 0, 1)


# 1. Split in three
@pytest.mark.parametrize(
    ("n", "sizes"),
    [(1797, (1077, 360, 360)), (11, (5, 3, 3))],
)
def test_a_split_is_60_to_20_to_20_and_uses_every_row_once(lesson, device, n, sizes):
    parts = lesson.split(n, 3, device)
    assert tuple(map(len, parts)) == sizes
    assert sorted(torch.cat(parts).tolist()) == list(range(n))


def test_each_part_of_a_split_comes_from_everywhere(lesson):
    # The mean row is 898 within five standard errors, at most 1797 / sqrt(12 * 360).
    for part in lesson.split(1797, 3):
        assert part.double().mean().item() == pytest.approx(898, abs=5 * 28)


@pytest.mark.parametrize("width", [20, 0])
def test_a_network_starts_uniform_within_1_over_the_root_of_its_inputs(
    lesson, device, width
):
    model = lesson.network(7, width, device)
    shapes = [(width, 64), (width,), (10, width), (10,)] if width else [(10, 64), (10,)]
    assert [p.shape for p in model.parameters()] == shapes
    for weight in list(model.parameters())[::2]:
        bound = 1 / math.sqrt(weight.shape[1])
        # Of 200 or more numbers the largest is below 0.9 of the bound once in 0.9^-200
        # = 1e9.
        assert 0.9 * bound < weight.abs().max() <= bound * (1 + 1e-7)
        # The fourth moment of a uniform number is 9 / 5 of the squared
        # second: five deviations.
        spread = 5 * math.sqrt(0.8 / weight.numel())
        assert weight.square().mean().item() == pytest.approx(bound**2 / 3, rel=spread)
    x, _ = rows_without_a_rule(8)
    with torch.no_grad():
        assert_values(
            model(on_device(x, device)), logits(start(model), x), device, rtol=1e-11
        )


# 2. Before anything else, learn one batch by heart
@pytest.mark.parametrize("width", [64, 0])
def test_fit_takes_the_steps_of_adam_with_lr_0_02(lesson, device, width):
    x, y = rows_without_a_rule(50)
    model = lesson.network(7, width, device)
    path = adam(start(model), x, [y] * 5)
    losses = lesson.fit(model, on_device(x, device), on_device(y, device), epochs=5)
    assert losses == pytest.approx([loss(p, x, y) for p in path[:5]], rel=1e-11)
    for found, expected in zip(start(model), path[5], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("apart", [False, True])
def test_apart_means_that_y_comes_in_another_order_in_each_step(lesson, device, apart):
    x, y = rows_without_a_rule(30)
    generator = torch.Generator().manual_seed(6)
    orders = [torch.randperm(30, generator=generator).numpy() for _ in range(6)]
    labels = [y[order] if apart else y for order in orders]
    path = adam(start(lesson.network(6)), x, labels)
    expected = [loss(*step) for step in zip(path, [x] * 6, labels, strict=False)]
    ours = on_device(x, device), on_device(y, device)
    losses = lesson.losses_on_batch(*ours, apart, seed=6, epochs=6)
    assert losses == pytest.approx(expected, rel=1e-10)


def test_one_batch_is_learned_by_heart_from_log_10_to_0(batch, device):
    losses = batch(device, apart=False)
    # The seeds 100 to 119: from 2.284 to 2.335, and after 30 steps 0.0003 to 0.0011.
    assert len(losses) == 30
    assert losses[0] == pytest.approx(math.log(10), abs=0.15) and losses[-1] < 0.01


def test_shuffled_apart_the_loss_stays_at_the_entropy_of_the_labels(batch, device):
    losses = np.array(batch(device, apart=True))
    # Whatever the network says of a picture, the label is drawn without
    # looking at it: on average the loss is a cross-entropy against the shares,
    # and not below their entropy.
    shares = np.bincount(Y[64:128]) / 64
    entropy = -shares @ np.log(shares)
    assert len(losses) == 30 and 2.2 < entropy < math.log(10)
    error = losses[10:].std() / math.sqrt(20)
    assert losses[10:].mean() > entropy - 5 * error
    # The seeds 100 to 119: never below 2.24, at the end 2.26 to 2.32. Safe:
    assert losses.min() > 2 and losses[-1] < 2.6


# 3. Baselines stand beside the network
def test_the_nearest_neighbour_is_the_one_of_the_least_squared_distance(lesson, device):
    x, y = rows_without_a_rule(90)
    found = lesson.nearest(*(on_device(t, device) for t in (x[:40], x[40:], y[40:])))
    assert_values(found, nearest(x[:40], x[40:], y[40:]), device, torch.int64)
    # Sixteenths, their squares and sums are exact: the first of equally near ones.
    found = lesson.nearest(*(on_device(t, device) for t in (X[:200], X[200:], Y[200:])))
    assert_values(found, nearest(X[:200], X[200:], Y[200:]), device, torch.int64)


def test_network_and_baselines_learn_the_training_rows_and_are_judged_on_the_test_rows(
    lesson, device
):
    x, y = rows_without_a_rule(300)
    known, _, test = (rows.numpy() for rows in lesson.split(300, 6))
    expected = {
        "largest class": np.mean(y[test] == np.bincount(y[known]).argmax()),
        "nearest neighbour": np.mean(nearest(x[test], x[known], y[known]) == y[test]),
    }
    for name, width in (("linear model", 0), ("network", 64)):
        path = adam(start(lesson.network(6, width)), x[known], [y[known]] * 40)
        expected[name] = share_right(path[40], x[test], y[test])
    ours = on_device(x, device), on_device(y, device)
    assert lesson.test_accuracies(*ours, seed=6) == pytest.approx(expected, rel=1e-14)


def test_the_network_beats_the_linear_model_and_the_neighbour_beats_the_network(
    splits, device
):
    mean = {
        name: np.mean([s[name] for s in splits(device)]) for name in splits(device)[0]
    }
    # On the splits of the seeds 100 to 119 the network is ahead of the linear
    # model by 0.008 to 0.056, in 20 of 20, and behind the neighbour by 0.014
    # to 0.044, in 20 of 20.
    assert mean["linear model"] < mean["network"] < mean["nearest neighbour"]
    # 0.928, 0.963 and 0.986 on average, with standard deviations of
    # 0.012, 0.008 and 0.005.
    assert mean["linear model"] > 0.89 and mean["network"] > 0.92
    assert mean["nearest neighbour"] > 0.96
    # Ten classes of 174 to 183 rows, 360 test rows: five binomial deviations.
    assert mean["largest class"] == pytest.approx(0.1, abs=5 * 0.016)


# 4. What one number can tell
def test_the_confusion_matrix_has_a_row_for_each_truth(lesson, device):
    said, y = [1, 1, 0, 1, 3], [0, 0, 0, 1, 0]  # class 2 never occurs
    expected = [[1, 2, 0, 1], [0, 1, 0, 0], [0] * 4, [0] * 4]
    matrix = lesson.confusion_matrix(on_device(said, device), on_device(y, device), 4)
    assert_values(matrix, expected, device, torch.int64)


def test_an_accuracy_is_good_to_the_std_of_the_binomial_distribution(lesson):
    for n, p in ((1, Fraction(1, 3)), (7, Fraction(1, 4)), (30, Fraction(9, 10))):
        chances = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        variance = sum(c * (Fraction(k, n) - p) ** 2 for k, c in enumerate(chances))
        assert lesson.binomial_std(float(p), n) == pytest.approx(
            math.sqrt(variance), rel=1e-14
        )
    # On 360 rows one percent is one standard deviation.
    assert lesson.binomial_std(0.96, 360) == pytest.approx(0.01, rel=0.05)


def test_an_accuracy_is_within_1_96_of_these_stds_of_the_truth_95_times_in_100(lesson):
    # Thus the 95 % interval of Wilson (1927): all p from which the
    # accuracy found is no further.
    n, coverage = 360, []
    shares = np.arange(n + 1) / n
    for p in np.linspace(0.3, 0.97, 40):
        chances = np.array(
            [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        )
        coverage.append(
            chances[abs(shares - p) <= 1.96 * lesson.binomial_std(p, n)].sum()
        )
    # For one p it is off by up to the chance of a single count, on average over many it
    # is not.
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.003)
    assert min(coverage) > 0.93


# 5. It can learn anything, wrong labels too
def test_the_accuracy_is_the_share_of_rows_with_the_largest_logit_at_y(lesson, device):
    x = on_device([[1.0, 3.0, 2.0], [0.0, -1.0, -2.0], [5.0, 6.0, 9.0]], device)
    for y, share in (([1, 0, 2], 1), ([1, 0, 0], 2 / 3), ([0, 1, 0], 0)):
        found = lesson.accuracy(nn.Identity(), x, on_device(y, device))
        assert found == pytest.approx(share, rel=1e-15)


def test_the_accuracy_is_that_of_evaluation_without_dropout(lesson):
    model = nn.Sequential(nn.Dropout(0.9)).train()
    assert lesson.accuracy(model, torch.eye(50), torch.arange(50)) == 1


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_spoilt_label_is_any_of_the_nine_others(lesson, device, share):
    n = 20_000
    y = np.arange(n) % 10
    found = lesson.spoilt(on_device(y, device), share, seed=6)
    shift = (found.cpu().numpy() - y) % 10
    assert found.min() == 0 and found.max() == 9
    # Binomial counts, five standard deviations.
    for count, p in zip(
        np.bincount(shift, minlength=10), [1 - share, *[share / 9] * 9], strict=True
    ):
        assert abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p))


def test_watching_sees_training_validation_and_test_rows_before_each_step(
    lesson, device
):
    # 420 rows to train, of which 400 are taken; 128 hidden units;
    # right labels for the test.
    x, y = rows_without_a_rule(700)
    known, choose, test = (rows.numpy() for rows in lesson.split(700, 6))
    labels = lesson.spoilt(torch.from_numpy(y), 0.4, 6).numpy()
    known = known[:400]
    path = adam(start(lesson.network(6, 128)), x[known], [labels[known]] * 4)[:4]
    expected = [
        [
            loss(p, x[known], labels[known]),
            loss(p, x[choose], labels[choose]),
            share_right(p, x[test], y[test]),
        ]
        for p in path
    ]
    found = lesson.watch(
        on_device(x, device), on_device(y, device), 0.4, seed=6, epochs=4
    )
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_with_wrong_labels_the_validation_loss_turns_up_and_early_stopping_gains(
    watched, device
):
    training, validation, accuracy = watched(device, 0.4).T
    best = validation.argmin()
    # The seeds 100 to 119: the best step is 4 to 13, the gain 0.036
    # to 0.194, in 20 of 20.
    assert 1 < best < 25
    assert accuracy[best] > accuracy[-1]
    # The training loss goes on falling, by 0.51 or more; validation
    # rises by 0.22 or more.
    assert (
        training[-1] < training[best] - 0.1 and validation[-1] > validation[best] + 0.1
    )
    assert accuracy[best] > 0.7  # 0.76 to 0.90, where 0.6 of the labels are right


def test_wrong_labels_are_learned_by_heart(watched, device):
    training, validation, _ = watched(device, 0.4).T
    # Who knows the digit, and no more, cannot do better than the
    # entropy of the label, 1.55.
    entropy = -0.6 * math.log(0.6) - 0.4 * math.log(0.4 / 9)
    # His loss on n rows is log(1 / 0.6) or log(9 / 0.4), a binomial
    # mean: five deviations.
    spread = 5 * (math.log(9 / 0.4) - math.log(1 / 0.6)) * math.sqrt(0.4 * 0.6)
    # The seeds 100 to 119: 0.79 to 1.02 on the training rows, at
    # best 1.66 on the others.
    assert training[-1] < entropy - spread / math.sqrt(400)
    assert validation.min() > entropy - spread / math.sqrt(360)


def test_with_right_labels_early_stopping_gains_nothing(watched, device):
    training, validation, accuracy = watched(device, 0.0).T
    best = validation.argmin()
    # The seeds 100 to 119: from -0.017 to 0.011, -0.002 on average.
    # Two binomial deviations:
    assert abs(accuracy[best] - accuracy[-1]) < 2 * math.sqrt(0.94 * 0.06 / 360)
    # 0.914 to 0.956, and 0.012 at most
    assert accuracy[-1] > 0.87 and training[-1] < 0.1


# 6. Mistake: choosing on the test rows
def distribution_of_the_best(models, rows):
    """In how many of 2^(models rows) outcomes the best has 0, 1, ..., rows right."""
    counts = [math.comb(rows, k) for k in range(rows + 1)]
    at_most = itertools.accumulate(counts, initial=0)
    return [b - a for a, b in itertools.pairwise(count**models for count in at_most)]


@pytest.mark.parametrize(("models", "rows"), [(1, 7), (3, 4), (200, 100)])
def test_the_mean_of_the_best_coin_is_a_closed_form(lesson, models, rows):
    counts, outcomes = distribution_of_the_best(models, rows), 2 ** (models * rows)
    assert sum(counts) == outcomes
    mean = Fraction(sum(k * count for k, count in enumerate(counts)), outcomes * rows)
    assert lesson.best_in_theory(models, rows) == pytest.approx(float(mean), rel=1e-13)
    if models * rows <= 12:  # all outcomes, one by one
        flips = itertools.product((0, 1), repeat=models * rows)
        most = [np.reshape(f, (models, rows)).sum(axis=1).max() for f in flips]
        assert mean == Fraction(int(np.sum(most)), len(most) * rows)


@pytest.mark.parametrize("models", [200, 5])
def test_the_best_of_many_coins_is_lucky_and_the_luck_is_gone_on_fresh_rows(
    lesson, models
):
    rows, seeds = 100, range(100, 200)
    best, fresh = np.transpose(
        [lesson.best_of_coins(models, rows, seed) for seed in seeds]
    )
    counts = distribution_of_the_best(models, rows)
    chances = np.array([count / 2 ** (models * rows) for count in counts])
    shares = np.arange(rows + 1) / rows
    std = math.sqrt(chances @ (shares - chances @ shares) ** 2)
    # Five standard errors of a mean of 100.
    assert best.mean() == pytest.approx(chances @ shares, abs=5 * std / 10)
    assert fresh.mean() == pytest.approx(0.5, abs=5 * 0.05 / 10)


def test_the_best_coin_is_chosen_on_its_rows_and_judged_on_others(lesson):
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        heads = torch.rand(2, 30, 9, generator=generator).numpy() < 0.5
        counts, other = heads.sum(axis=2)
        best = max(range(30), key=lambda model: counts[model])  # the first such
        expected = counts[best] / 9, other[best] / 9
        assert lesson.best_of_coins(30, 9, seed) == pytest.approx(expected, rel=1e-15)


# 7. Mistake: testing on what training has seen
def test_a_twin_is_known_with_probability_640_of_799(lesson):
    # Of 160 test rows one is looked at. The others are any of 799, or of 798 others.
    known = Fraction(math.comb(798, 159), math.comb(799, 159))
    assert known == Fraction(640, 799)
    assert lesson.by_heart(once=False) == pytest.approx(float(known + (1 - known) / 10))
    assert lesson.by_heart(once=True) == 0.1


@pytest.mark.parametrize("once", [True, False])
def test_twins_on_both_sides_are_remembered_and_twins_together_are_not(lesson, once):
    x = torch.from_numpy(X[400:800])
    found = [lesson.accuracy_with_twins(x, once, seed) for seed in range(100, 200)]
    # The standard deviation over the seeds 1000 to 1199 is 0.032 and 0.037: five
    # standard errors.
    std = 0.032 if once else 0.037
    assert np.mean(found) == pytest.approx(lesson.by_heart(once), abs=5 * std / 10)


@pytest.mark.parametrize("once", [True, False])
def test_a_fifth_of_the_rows_is_asked_for_the_nearest_of_the_others(
    lesson, device, once
):
    x, _ = rows_without_a_rule(400)
    n = 400 if once else 800
    for seed in (6, 7):
        labels = torch.randint(
            10, (400,), generator=torch.Generator().manual_seed(seed)
        ).numpy()
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
        twins = np.concatenate([x, x])[order], np.concatenate([labels, labels])[order]
        (test, known), (truth, y) = (np.split(part, [n // 5]) for part in twins)
        expected = np.mean(nearest(test, known, y) == truth)
        found = lesson.accuracy_with_twins(on_device(x, device), once, seed)
        assert found == pytest.approx(expected, rel=1e-14) and len(truth) in (80, 160)


@pytest.mark.parametrize("new_model", [True, False])
def test_each_fold_is_judged_after_20_steps_on_the_other_four(
    lesson, folds, device, new_model
):
    found, labels = folds(device, new_model)
    x, expected = X[200:400], []
    parameters = start(lesson.network(0))
    for fold in range(5):
        if new_model:
            parameters = start(lesson.network(fold))
        test = np.arange(200) % 5 == fold
        path = adam(parameters, x[~test], [labels[~test]] * 21)
        parameters = path[20]
        expected.append([share_right(p, x[test], labels[test]) for p in path[19:]])
    before, at, after = np.transpose(expected)
    assert found == pytest.approx(at, rel=1e-14)
    assert found != pytest.approx(before, rel=1e-14)
    assert found != pytest.approx(after, rel=1e-14)


def test_one_model_for_all_folds_has_seen_their_labels(folds, device):
    one, _ = folds(device, new_model=False)
    new, _ = folds(device, new_model=True)
    # Labels at random: 200 hits or misses at 1/10, within five standard deviations.
    assert np.mean(new) == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / 200))
    # The seeds 100 to 119: the last fold is 0.300 to 0.600 above the first. Safe:
    assert one[-1] > one[0] + 0.15


# The picture
def test_the_picture_shows_what_was_watched_with_wrong_labels_and_with_none(lesson):
    wrong, none = lesson.figure().axes
    assert (wrong.get_title()[:4], none.get_title()[:3]) == ("40% ", "0% ")
    names = [text.get_text() for text in none.get_legend().get_texts()]
    assert names == ["training loss", "validation loss", "test accuracy"]
    for axes, share in ((wrong, 0.4), (none, 0.0)):
        watched = lesson.watch(*lesson.digits(), share, seed=0, epochs=35)
        for line, column in zip(axes.lines, watched.T, strict=True):
            np.testing.assert_allclose(line.get_ydata(), column, rtol=1e-9)


# What is printed as theory does not come from the measurement beside it
def test_the_number_of_parameters_is_printed_from_theory(lesson, monkeypatch):
    monkeypatch.setattr(lesson, "network", lambda seed: nn.Linear(9, 10))
    printed = printed_if_tripled(lesson, 1)
    assert printed.endswith(": 100 parameters, 64 * 64 + 64 + 64 * 10 + 10 is 4810\n")


def test_the_best_coin_and_the_twins_are_printed_from_theory(lesson):
    counts = distribution_of_the_best(200, 100)
    best = Fraction(sum(k * count for k, count in enumerate(counts)), 2**20_000 * 100)
    printed = printed_if_tripled(lesson, 6, "best_of_coins")
    assert f", theory {float(best):.2f}\n" in printed
    assert f"rows: {float(best):.2f}" not in printed
    printed = printed_if_tripled(lesson, 7, "accuracy_with_twins")
    theory = [f"{p + (1 - p) / 10:.2f}" for p in (0, 640 / 799)]
    rows = re.findall(r"once=\w+ +(\S+), theory (\S+)", printed)
    assert [row[1] for row in rows] == theory
    assert all(measured > expected for measured, expected in rows)
