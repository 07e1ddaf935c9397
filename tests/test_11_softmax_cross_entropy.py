"""What lesson 11 claims."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import ROOT, assert_values, printed_if_tripled, tensor64
from reference import softmax
from torch import nn

TABLE = np.loadtxt(ROOT / "data" / "wine.csv", delimiter=",", skiprows=1)
X, Y = TABLE[:, 1:], TABLE[:, 0].astype(int) - 1
SURE = 60.0  # a lead so large that every other class has less than 1e-25


def loss(z, y):
    """The mean of log(sum of e^z) - z[y]."""
    return (np.logaddexp.reduce(z, axis=1) - z[np.arange(len(y)), y]).mean()


def error(z, y):
    """The gradient of that loss by z; a central difference agrees (section 3)."""
    return (softmax(z) - np.eye(z.shape[1])[y]) / len(y)


def error_twice(z, y):
    """The gradient by z of the loss of softmax(z): the chain rule, row by row."""
    p = softmax(z)
    jacobians = [np.diag(row) - np.outer(row, row) for row in p]
    return np.array([j @ row for j, row in zip(jacobians, error(p, y), strict=True)])


def logits(n, classes, seed=0, std=2.0):
    random = np.random.default_rng(seed)
    return random.normal(scale=std, size=(n, classes)), random.integers(classes, size=n)


def standardised(x):
    return (x - x.mean(axis=0)) / x.std(axis=0)


def slope(x, y, weight, bias, decay, error=error):
    """The gradient of loss + decay |W|^2 / 2 by W, (C, d), and by b, (C,)."""
    by_z = error(x @ weight.T + bias, y)
    return by_z.T @ x + decay * weight, by_z.sum(axis=0)


def optimum(x, y, decay):
    """W and b of softmax regression, by Newton's method."""
    a, c, classes = np.column_stack([x, np.ones(len(x))]), x.shape[1] + 1, 3
    theta = np.zeros((classes, c))
    penalty = decay * np.diag(np.tile(np.append(np.ones(c - 1), 0), classes))
    for _ in range(12):
        gradient = np.column_stack(slope(x, y, theta[:, :-1], theta[:, -1], decay))
        hessian = penalty.copy()
        for row, p in zip(a, softmax(a @ theta.T), strict=True):
            hessian += np.kron(np.diag(p) - np.outer(p, p), np.outer(row, row)) / len(y)
        # The same for each bias changes nothing: of all solutions, the shortest.
        step = np.linalg.lstsq(hessian, gradient.ravel(), rcond=1e-10)[0]
        theta -= step.reshape(theta.shape)
    assert (
        np.abs(np.column_stack(slope(x, y, theta[:, :-1], theta[:, -1], decay))).max()
        < 1e-14
    )
    return theta[:, :-1], theta[:, -1]


@pytest.fixture(scope="module")
def wine_optimum():
    """(x, y, weight, bias): what training with weight decay 0.01 should find."""
    x = standardised(X)
    return (x, Y, *optimum(x, Y, 0.01))


# Reading a data file: tests/test_faults.py tests read_csv
def test_wine_is_the_file_standardised_and_its_classes_count_from_0(lesson, device):
    x, y = lesson.wine(device)
    assert_values(x, standardised(X), device, atol=1e-12)
    assert_values(y, Y, device, torch.int64)


# 1. Softmax makes probabilities of logits
@pytest.mark.parametrize("temperature", [0.25, 1.0, 7.0])
def test_softmax_is_e_to_the_z_over_their_sum_and_temperature_divides_z(
    lesson, device, temperature
):
    z = [0.3, -2.0, 1.7, 0.3, 4.0]
    powers = [math.exp(number / temperature) for number in z]
    expected = [power / math.fsum(powers) for power in powers]
    p = lesson.softmax(tensor64(z, device), temperature)
    assert_values(p, expected, device, rtol=1e-14)


def test_only_differences_of_logits_count(lesson, device):
    z = tensor64([-1.0, 0.5, 3.0], device)
    for shift in (-100.0, 17.5, 300.0):
        assert_values(lesson.softmax(z + shift), softmax(z.cpu().numpy()), device)


def test_a_low_temperature_is_sharp_and_a_high_one_flat(lesson, device):
    z = tensor64([1.0, 3.0, 2.5, -1.0], device)
    assert_values(lesson.softmax(z, 0.01), [0, 1, 0, 0], device, atol=1e-20)
    assert_values(lesson.softmax(z, 1e6), [0.25] * 4, device, rtol=1e-5)


@pytest.mark.parametrize(("n", "classes"), [(4, 10), (5, 5)])
def test_over_the_batch_the_columns_sum_to_1_and_the_rows_to_c_over_n(
    lesson, n, classes
):
    for dim, expected in ((0, classes / n), (1, 1)):
        sums = lesson.row_sums(n, classes, dim)
        assert sums.tolist() == pytest.approx([expected] * n, rel=1e-6)


# 2. Cross-entropy is the mean of -log p of what happened
@pytest.mark.parametrize(("n", "classes"), [(1, 4), (5, 9)])
def test_cross_entropy_is_the_mean_of_minus_log_p_of_the_label(
    lesson, device, n, classes
):
    z, y = logits(n, classes)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    expected = -np.mean([math.log(row[label]) for row, label in zip(p, y, strict=True)])
    ours = tensor64(z, device), torch.tensor(y, device=device)
    assert_values(lesson.cross_entropy(*ours), expected, device, rtol=1e-13)
    assert_values(nn.CrossEntropyLoss()(*ours), expected, device, rtol=1e-13)
    assert_values(
        nn.NLLLoss()(F.log_softmax(ours[0], dim=1), ours[1]),
        expected,
        device,
        rtol=1e-13,
    )
    # e^10000
    assert_values(
        lesson.cross_entropy(ours[0] + 1e4, ours[1]), expected, device, rtol=1e-10
    )


def test_a_p_of_1_costs_0_and_there_is_no_limit_as_p_goes_to_0(lesson, device):
    y = torch.tensor([1], device=device)
    for lead in (100.0, 1e4, 1e8):
        assert_values(
            lesson.cross_entropy(tensor64([[0.0, lead, 0.0]], device), y), 0, device
        )
        assert_values(
            lesson.cross_entropy(tensor64([[lead, 0.0, 0.0]], device), y),
            lead,
            device,
            rtol=1e-15,
        )


def test_what_the_other_classes_got_plays_no_part(lesson, device):
    y = torch.tensor([0], device=device)
    for others in ([0.1, 0.2, 0.3], [0.2, 0.2, 0.2], [0.58, 0.01, 0.01]):
        z = tensor64([[0.4, *others]], device).log()
        assert_values(lesson.cross_entropy(z, y), -math.log(0.4), device, rtol=1e-14)


def test_two_classes_are_the_binary_loss_of_the_difference(lesson, device):
    z, y = logits(40, 2, seed=3)
    binary = np.logaddexp(0, (1 - 2 * y) * (z[:, 1] - z[:, 0])).mean()  # lesson 08
    found = lesson.cross_entropy(tensor64(z, device), torch.tensor(y, device=device))
    assert_values(found, binary, device, rtol=1e-13)


def test_one_output_costs_nothing_and_teaches_nothing(lesson, device):
    for loss_function in (lesson.cross_entropy, nn.CrossEntropyLoss()):
        z = tensor64([[-30.0], [0.2], [5.0]], device).requires_grad_()
        found = loss_function(z, torch.zeros(3, dtype=torch.long, device=device))
        found.backward()
        assert found.item() == 0 and z.grad.tolist() == [[0], [0], [0]]


# 3. Its gradient is what was said minus what happened
@pytest.mark.parametrize(("n", "classes"), [(1, 3), (4, 5)])
def test_the_gradient_is_p_minus_onehot_over_n(lesson, device, n, classes):
    z, y = logits(n, classes, seed=1)
    y[y == classes - 1] = 0  # a class that does not happen is a column all the same
    expected, h = np.empty_like(z), 1e-5
    for index in np.ndindex(z.shape):  # central differences
        step = np.zeros_like(z)
        step[index] = h
        expected[index] = (loss(z + step, y) - loss(z - step, y)) / (2 * h)
    ours = tensor64(z, device), torch.tensor(y, device=device)
    assert_values(lesson.gradient_by_hand(*ours), expected, device, rtol=0, atol=1e-9)
    assert_values(
        lesson.gradient_by_hand(*ours), error(z, y), device, rtol=0, atol=1e-15
    )


@pytest.mark.parametrize("y", [0, 3])
def test_the_hessian_is_diag_p_minus_p_p_t_whatever_y_is(lesson, device, y):
    z, h = np.array([0.5, -1.0, 2.0, 0.0]), 1e-5
    steps = h * np.eye(4)
    columns = [error(np.array([z + s, z - s]), np.array([y, y])) * 2 for s in steps]
    expected = np.array([(up - down) / (2 * h) for up, down in columns])
    found = lesson.hessian_by_hand(tensor64(softmax(z), device))
    assert_values(found, expected, device, rtol=0, atol=1e-10)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_loss_is_flat_along_the_shift_and_curves_up_everywhere_else(
    lesson, device, classes
):
    for z in logits(5, classes, seed=2)[0]:
        hessian = lesson.hessian_by_hand(tensor64(softmax(z), device))
        assert hessian.sum(dim=1).abs().max() < 1e-15  # times (1, ..., 1)
        eigenvalues = np.linalg.eigvalsh(hessian.cpu().numpy())
        # It is above min(p) times the projection that takes the mean away, e.g. by
        # Cauchy-Schwarz: v^T H v is the variance of v under p, at least min(p) sum (v -
        # m)^2 >= min(p) |v|^2.
        assert abs(eigenvalues[0]) < 1e-15
        assert eigenvalues[1] > (1 - 1e-9) * softmax(z).min()


# 4. Before training the loss is log C
def mean_first_loss(std, classes):
    """The expectation of log(sum of e^z) for z from N(0, std^2): that of z[y] is 0.

    Gumbel noise, of mean 0.5772, turns the log of a sum into a maximum: log(sum of e^z)
    is the mean of max(z + noise), minus 0.5772. The distribution function of that
    maximum is the one of z + noise to the power of C.
    """
    u, t = np.linspace(-8, 8, 161), np.linspace(-45, 75, 601)
    density = np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi) * (u[1] - u[0])
    distribution = np.exp(-np.exp(std * u - t[:, None])) @ density
    # The mean of what lies below t[-1] is t[-1] minus the integral of that, from 0 up
    # to 1.
    integral = ((distribution**classes).sum() - 0.5) * (t[1] - t[0])
    return t[-1] - integral - np.euler_gamma


@pytest.mark.parametrize("classes", [2, 10])
def test_logits_that_say_nothing_cost_log_c(lesson, classes):
    found = lesson.first_loss(0.0, classes, rows=300)
    assert found == pytest.approx(math.log(classes), rel=1e-14)
    assert mean_first_loss(0.0, classes) == pytest.approx(math.log(classes), rel=1e-10)
    # A little more than nothing: std^2 / 2 times the trace of the Hessian, 1 - 1 / C.
    more = mean_first_loss(0.01, classes) - math.log(classes)
    assert more == pytest.approx(0.01**2 / 2 * (1 - 1 / classes), rel=1e-3)


@pytest.mark.parametrize(("std", "classes"), [(0.5, 3), (2.0, 10), (4.0, 2)])
def test_large_logits_cost_more_before_anything_is_learned(lesson, std, classes):
    expected = mean_first_loss(std, classes)
    # A row's loss changes by |p - onehot| <= sqrt(2) for each unit of its logits, so
    # its variance is at most 2 std^2 (Poincare): five standard errors of 100,000 rows.
    bound = 5 * std * math.sqrt(2 / 100_000)
    assert lesson.first_loss(std, classes) == pytest.approx(expected, abs=bound)
    assert expected > math.log(classes) + bound


# 5. Mistake: softmax before CrossEntropyLoss
def theory(name, lead):
    """(loss, size of the gradient by the wrong class's logit), for two classes."""
    p = 1 / (1 + math.exp(-lead))  # of the wrong class
    if name == "twice":  # the lead is now p - (1 - p) = tanh(lead / 2)
        again = 1 / (1 + math.exp(1 - 2 * p))
        return math.log1p(math.exp(math.tanh(lead / 2))), again * 2 * p * (1 - p)
    if name == "once, smoothing 0.1":  # the wrong class should have 0.05
        return math.log1p(math.exp(lead)) - 0.05 * lead, abs(p - 0.05)
    return math.log1p(math.exp(lead)), p


@pytest.mark.parametrize("lead", [-12.0, -0.5, 0.0, 4.0, 10.0])
def test_the_right_loss_goes_on_teaching_where_softmax_twice_gives_up(lesson, lead):
    functions = {
        "once": F.cross_entropy,
        "twice": lesson.softmax_twice,
        "once, smoothing 0.1": nn.CrossEntropyLoss(label_smoothing=0.1),
    }
    for name, function in functions.items():
        evidence = lesson.loss_and_gradient(function, lead)
        assert evidence == pytest.approx(theory(name, lead), rel=1e-10)


@pytest.mark.parametrize(("n", "classes"), [(5, 3), (9, 10)])
def test_softmax_twice_takes_probabilities_for_logits(lesson, device, n, classes):
    z, y = logits(n, classes, seed=8)
    ours = tensor64(z, device), torch.tensor(y, device=device)
    assert_values(lesson.softmax_twice(*ours), loss(softmax(z), y), device)
    leaf = ours[0].clone().requires_grad_()
    lesson.softmax_twice(leaf, ours[1]).backward()
    assert_values(leaf.grad, error_twice(z, y), device, rtol=0, atol=1e-14)


@pytest.mark.parametrize("classes", [2, 10])
def test_softmax_twice_costs_from_its_floor_to_one_more(lesson, device, classes):
    # of e for the label and 1 for the others
    floor = math.log((math.e + classes - 1) / math.e)
    assert lesson.floor_of_double_softmax(classes) == pytest.approx(floor, rel=1e-13)
    z, y = logits(50, classes, seed=9, std=30.0)
    found = lesson.softmax_twice(
        tensor64(z, device), torch.tensor(y, device=device)
    ).item()
    assert floor < found < floor + 1
    sure = torch.eye(classes, dtype=torch.float64, device=device) * SURE
    labels = torch.arange(classes, device=device)
    assert_values(lesson.softmax_twice(sure, labels), floor, device)
    assert_values(lesson.softmax_twice(sure, labels.roll(1)), floor + 1, device)


def test_softmax_twice_is_above_its_floor_when_the_right_loss_has_arrived(
    lesson, device, wine_optimum
):
    x, y, weight, bias = wine_optimum
    ours = lesson.wine(device)
    right = lesson.fit(*ours, F.cross_entropy, epochs=101)[1][-1]
    assert right == pytest.approx(loss(x @ weight.T + bias, y), rel=0.05)
    losses = lesson.fit(*ours, lesson.softmax_twice, epochs=101)[1]
    assert losses[0] == pytest.approx(math.log(3), rel=1e-14)
    floor = math.log(math.e + 2) - 1
    assert min(losses) > floor and losses[-1] - floor > 0.02


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("settings", [{}, {"momentum": 0.5, "weight_decay": 0.2}])
def test_fit_descends_from_zeros_by_lr_0_5_and_decays_weights_alone(
    lesson, device, twice, settings
):
    x, y = logits(30, 4, seed=5, std=1.0)
    y = y % 3
    momentum, decay = settings.get("momentum", 0.9), settings.get("weight_decay", 0.01)
    weight, bias, speed, expected = np.zeros((3, 4)), np.zeros(3), (0, 0), []
    for _ in range(6):
        z = x @ weight.T + bias
        expected.append(loss(softmax(z) if twice else z, y))
        slopes = slope(x, y, weight, bias, decay, error_twice if twice else error)
        speed = [momentum * v + g for v, g in zip(speed, slopes, strict=True)]
        weight, bias = weight - 0.5 * speed[0], bias - 0.5 * speed[1]
    ours = tensor64(x, device), torch.tensor(y, device=device)
    function = lesson.softmax_twice if twice else lesson.cross_entropy
    model, losses = lesson.fit(*ours, function, epochs=6, **settings)
    assert losses == pytest.approx(expected, rel=1e-12)
    assert_values(model.weight, weight, device, rtol=1e-11, atol=1e-13)
    assert_values(model.bias, bias, device, rtol=1e-11, atol=1e-13)


# 6. By hand it overflows, and log-sum-exp does not
def test_softmax_by_hand_overflows_above_and_below(lesson, device):
    above = lesson.softmax(torch.tensor([88.73, 1.0, 0.0], device=device))
    assert above.isnan().tolist() == [True, False, False]
    assert not lesson.softmax(torch.tensor([88.72, 1.0], device=device)).isnan().any()
    z = torch.tensor([-150.0, -151.0], device=device)
    assert lesson.softmax(z).isnan().all()
    safe = lesson.softmax(z - z.max()).tolist()
    assert safe == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e)], rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1000.0, -5000.0])
def test_log_sum_exp_is_the_log_of_the_sum_wherever_the_logits_are(
    lesson, device, offset
):
    z = [0.5, -3.0, 2.0, 2.25]
    expected = math.log(math.fsum(map(math.exp, z))) + offset
    found = lesson.log_sum_exp(tensor64(z, device) + offset)
    assert_values(found, expected, device, rtol=1e-15, atol=1e-15)
    assert_values(
        lesson.log_softmax(tensor64(z, device) + offset),
        [number + offset - expected for number in z],
        device,
        atol=2e-12,
    )


@pytest.mark.parametrize("classes", [1, 7, 1000])
def test_log_sum_exp_is_from_the_largest_to_that_plus_log_c(lesson, device, classes):
    z = torch.full((classes,), -2000.0, dtype=torch.float64, device=device)
    all_equal = math.log(classes) - 2000
    assert_values(lesson.log_sum_exp(z), all_equal, device, rtol=1e-15)
    z[0] = -100.0  # one far ahead
    assert_values(lesson.log_sum_exp(z), -100, device, rtol=0)


def test_the_log_of_a_small_softmax_is_minus_infinity_and_log_softmax_is_not(
    lesson, device
):
    z = torch.tensor([-200.0, 0.0], device=device)
    assert lesson.softmax(z).log().tolist() == [-math.inf, 0]
    assert lesson.log_softmax(z).tolist() == [-200, 0]


# 7. The optimum, and what moves it
@pytest.mark.parametrize(("seed", "largest"), [(0, "weight"), (1, "bias")])
def test_the_gradient_s_size_is_its_largest_number_weight_decay_included(
    lesson, device, seed, largest
):
    x, y = logits(8, 2, seed, std=1.0)
    x = 5 * x if largest == "weight" else x / 5
    weight = np.random.default_rng(seed).normal(scale=0.1, size=(3, 2))
    bias = np.zeros(3)
    model = nn.Linear(2, 3, device=device, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(weight))
        model.bias.zero_()
    by_weight, by_bias = slope(x, y, weight, bias, 0.3)
    sizes = {"weight": np.abs(by_weight).max(), "bias": np.abs(by_bias).max()}
    ours = tensor64(x, device), torch.tensor(y, device=device)
    size = lesson.gradient_size(model, F.cross_entropy, *ours, weight_decay=0.3)
    assert max(sizes, key=sizes.get) == largest
    assert size == pytest.approx(sizes[largest], rel=1e-12)


def test_500_epochs_on_the_wines_find_what_newton_finds(lesson, device, wine_optimum):
    x, y, weight, bias = wine_optimum
    ours = lesson.wine(device)
    model, losses = lesson.fit(*ours, nn.CrossEntropyLoss(), epochs=500)
    assert len(losses) == 500 and losses[0] == pytest.approx(math.log(3), rel=1e-14)
    assert losses[-1] == pytest.approx(loss(x @ weight.T + bias, y), abs=1e-6)
    # The gradient is below 1e-6, and the loss curves by 0.01 or more along each weight.
    assert lesson.gradient_size(model, nn.CrossEntropyLoss(), *ours) < 1e-6
    assert_values(model.weight, weight, device, rtol=0, atol=1e-4)
    assert_values(model.bias, bias, device, rtol=0, atol=1e-4)


def test_at_the_optimum_the_mean_probabilities_are_the_shares(
    lesson, device, wine_optimum
):
    x, y, weight, bias = wine_optimum
    p = softmax(x @ weight.T + bias)
    assert p.mean(axis=0) == pytest.approx(np.bincount(y) / 178, abs=1e-13)
    # Other rows, another weight decay, other shares: 4 of 5 rows, the rarest class
    # thinned out.
    rows = np.flatnonzero(
        (np.arange(178) % 5 > 0) & ((Y < 2) | (np.arange(178) % 2 == 0))
    )
    x, y = standardised(X[rows]), Y[rows]
    ours = tensor64(x, device), torch.tensor(y, device=device)
    model, _ = lesson.fit(*ours, F.cross_entropy, epochs=300, weight_decay=0.05)
    assert lesson.gradient_size(model, F.cross_entropy, *ours, weight_decay=0.05) < 1e-6
    p = torch.softmax(model(ours[0]), dim=1).mean(dim=0).detach()
    assert_values(p, np.bincount(y) / len(y), device, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("e", "classes"), [(0.1, 10), (0.6, 3)])
def test_smoothing_has_a_floor_the_entropy_of_its_target(lesson, e, classes):
    target = (1 - e) * np.eye(classes)[0] + e / classes
    floor = -(target * np.log(target)).sum()
    assert lesson.smoothing_floor(e, classes) == pytest.approx(floor, rel=1e-13)
    # There p is the target, and the gap is the log of what the label
    # has over another class.
    best = math.log(target[0] / target[1])
    assert lesson.smoothed_loss(best, e, classes) == pytest.approx(floor, rel=1e-12)
    for gap in (best - 3, best - 0.1, best + 0.1, best + 3):
        assert lesson.smoothed_loss(gap, e, classes) > floor + 1e-5
    gaps = np.linspace(best, best + 50, 20)
    losses = [lesson.smoothed_loss(gap, e, classes) for gap in gaps]
    assert losses == sorted(losses)  # surer is worse


@pytest.mark.parametrize(("e", "classes"), [(0.1, 10), (0.3, 4)])
def test_the_smoothed_loss_is_the_cross_entropy_against_the_target(lesson, e, classes):
    target = (1 - e) * np.eye(classes)[0] + e / classes
    for gap in (-2.0, 0.0, 1.5, 12.0):
        z = gap * np.eye(classes)[0]
        expected = np.logaddexp.reduce(z) - target @ z  # -sum q log p
        assert lesson.smoothed_loss(gap, e, classes) == pytest.approx(
            expected, rel=1e-12
        )


def test_smoothing_0_1_is_best_at_a_gap_of_4_51_for_ten_classes_and_2_9_for_two():
    assert f"{math.log(0.91 / 0.01):.2f}" == "4.51"  # log 91
    assert f"{-math.log(0.95 / 0.05):.1f}" == "-2.9"  # the picture's lowest point


def test_a_class_weight_of_3_is_each_row_three_times(lesson, device):
    z, y = logits(25, 4, seed=7)
    weights = [3.0, 1.0, 2.0, 5.0]
    repeated = np.repeat(np.arange(25), np.array(weights)[y].astype(int))
    expected = loss(z[repeated], y[repeated])
    ours = tensor64(z, device), torch.tensor(y, device=device)
    losses = lesson.weighted_and_repeated(*ours, tensor64(weights, device))
    assert losses == pytest.approx((expected, expected), rel=1e-13)
    # Half a row is none: only the first number takes such weights.
    weights = tensor64([1.5, 1.0, 1.0, 1.0], device)
    weighted, repeated = lesson.weighted_and_repeated(*ours, weights)
    each = np.where(y == 0, 1.5, 1.0)
    costs = np.logaddexp.reduce(z, axis=1) - z[np.arange(25), y]
    expected = each @ costs / each.sum(), loss(z, y)
    assert (weighted, repeated) == pytest.approx(expected, rel=1e-13)


# 8. What the loss must be given
def test_the_loss_is_minus_the_log_of_the_softmax_and_minus_100_is_ignored(lesson):
    log_sum = math.log(1 + math.e + math.e**2)
    cases = {(2,): 2, (0, 1, 2): 1, (2, 2, 0, 1): 5 / 4, (1, 2, -100): 3 / 2}
    for labels, mean in cases.items():  # the logits are the labels
        loss = lesson.loss_of_labels(list(labels))
        assert loss == pytest.approx(log_sum - mean, rel=5e-7)
    assert lesson.loss_of_labels([1, 2, 3]) is lesson.loss_of_labels([-1, 0]) is None
    assert math.isnan(lesson.loss_of_labels([-100]))


def test_the_classes_that_occur_and_each_label_as_its_place_among_them(lesson, device):
    labels = [7, 3, 7, -100, 12, 3]
    found, places = lesson.classes_from_0(torch.tensor(labels, device=device))
    assert_values(found, sorted(set(labels)), device, torch.int64, rtol=0)
    by_hand = [sorted(set(labels)).index(label) for label in labels]
    assert_values(places, by_hand, device, torch.int64, rtol=0)
    part = torch.tensor(labels[-2:], device=device)  # no 7, and another number for 12
    assert lesson.classes_from_0(part)[1].tolist() == [1, 0] != by_hand[-2:]


def test_labels_with_gaps_are_loud_unless_their_places_are_taken(lesson):
    with pytest.raises(IndexError, match="Target 7 is out of bounds"):
        F.cross_entropy(torch.zeros(1, 3), torch.tensor([7]))
    assert lesson.loss_of_labels([1, 3, 7]) is None
    _, places = lesson.classes_from_0(torch.tensor([1, 3, 7]))
    in_order = lesson.loss_of_labels([0, 1, 2])
    assert lesson.loss_of_labels(places.tolist()) == in_order


def test_wrong_kinds_of_classes_are_loud_but_a_batch_of_minus_100_is_silent(device):
    z, y = logits(6, 3)
    z = tensor64(z, device)
    with pytest.raises(RuntimeError):
        F.cross_entropy(z, torch.tensor(y, device=device).float())
    with pytest.raises(IndexError):  # on CUDA it would end the whole process
        F.cross_entropy(z.cpu(), torch.tensor([1, 2, 3, 1, 2, 3]))
    ignored = torch.full((6,), -100, device=device)
    assert F.cross_entropy(z, ignored).isnan()
    ignored[2] = y[2]  # the mean is over the rows that are left
    assert_values(
        F.cross_entropy(z, ignored), loss(z[2:3].cpu().numpy(), y[2:3]), device
    )


def test_logits_by_place_raise_unless_there_are_as_many_places_as_classes():
    y = torch.tensor([[0, 1, 0, 2]])  # one row of four places
    z = 100 * F.one_hot(y, 3).float()  # (n, T, C)
    with pytest.raises(RuntimeError, match="Expected target size"):
        F.cross_entropy(z, y)
    assert F.cross_entropy(z.movedim(2, 1), y) == 0
    y = torch.tensor([[0, 0, 1]])
    # as many places as classes: it runs, and means other places
    z = 100 * F.one_hot(y, 3).float()
    assert F.cross_entropy(z, y) > 10 > F.cross_entropy(z.movedim(2, 1), y) == 0


@pytest.mark.parametrize(
    ("y", "cost"),
    [
        ([[0, 1], [1, 0]], 0),  # the mistake goes unnoticed
        ([[0, 0], [0, 1]], math.log(2) / 2),  # 0.3466
        ([[0, 0], [0, 0]], math.log(2)),
        ([[0, 0], [1, 1]], SURE / 2),  # as dear as the model is sure
    ],
)
def test_right_answers_with_the_classes_last_cost_what_they_like(device, y, cost):
    y = torch.tensor([y], device=device)
    # (n, H, W, C), H = W = C = 2: as right as can be
    z = SURE * F.one_hot(y, 2).double()
    assert F.cross_entropy(z.movedim(3, 1), y).item() == pytest.approx(0, abs=1e-20)
    assert F.cross_entropy(z, y).item() == pytest.approx(cost, abs=1e-12)
    with pytest.raises(RuntimeError):  # another size than C would be loud
        F.cross_entropy(z.new_zeros(1, 4, 4, 2), y.new_zeros(1, 4, 4))


def test_nll_of_logits_falls_by_the_same_in_each_step_for_ever(lesson, device):
    x, y = logits(20, 5, seed=10, std=1.5)
    y = y % 3
    # The loss is linear, -mean of z[y]: class k's weights and bias gain lr times the
    # sum of its rows (x, 1) over n, in each step.
    gains = [np.append(x[y == k].sum(axis=0), np.sum(y == k)) / 20 for k in range(3)]
    fall = sum(gain @ gain for gain in gains)
    ours = tensor64(x, device), torch.tensor(y, device=device)
    assert lesson.fall_in_theory(*ours, lr=0.1) == pytest.approx(0.1 * fall, rel=1e-12)
    assert lesson.fall_in_theory(*ours) == pytest.approx(0.5 * fall, rel=1e-12)
    settings = {"momentum": 0, "weight_decay": 0}
    _, losses = lesson.fit(*ours, nn.NLLLoss(), epochs=31, **settings)
    expected = [-0.5 * k * fall for k in range(31)]
    assert losses == pytest.approx(expected, rel=1e-11, abs=1e-14)


def test_nll_of_probabilities_is_minus_the_mean_of_the_labels_probability(device):
    z, y = logits(10, 4, seed=11)
    loss = F.nll_loss(tensor64(softmax(z), device), torch.tensor(y, device=device))
    assert_values(loss, -softmax(z)[np.arange(10), y].mean(), device)


def test_kl_divergence_is_of_logs_and_below_0_of_probabilities_or_of_these_logits(
    device,
):
    z, target = logits(6, 4, seed=12)[0] + 5, softmax(logits(6, 4, seed=13)[0])
    p = softmax(z)
    for given, sign in ((np.log(p), 1), (p, -1), (z, -1)):
        expected = (target * (np.log(target) - given)).sum() / 6
        ours = tensor64(given, device), tensor64(target, device)
        assert_values(F.kl_div(*ours, reduction="batchmean"), expected, device)
        with pytest.warns(UserWarning, match="batchmean"):
            assert_values(F.kl_div(*ours), expected / 4, device)
        assert sign * expected > 0


# The picture
def test_the_picture_shows_three_losses_and_their_gradients(lesson):
    left, right = lesson.figure().axes
    names = [text.get_text() for text in left.get_legend().get_texts()]
    assert (left.get_title(), right.get_title()) == ("loss", "size of the gradient")
    for number, axes in enumerate((left, right)):
        for name, line in zip(names, axes.lines, strict=True):
            leads, points = line.get_data()
            expected = [theory(name, lead)[number] for lead in leads]
            np.testing.assert_allclose(points, expected, rtol=1e-10, atol=1e-15)


# What is printed as theory does not come from the measurement beside it
def test_log_c_is_printed_from_theory(lesson):
    printed = printed_if_tripled(lesson, 4, "first_loss")
    assert printed.count(f"log 10 {math.log(10):.2f}\n") == 4
    assert printed.count(f"loss {3 * math.log(10):.2f}") == 1


def test_the_shares_are_printed_from_the_labels(lesson, monkeypatch):
    fit = lesson.fit
    monkeypatch.setattr(lesson, "fit", lambda *data, epochs: fit(*data, epochs=1))
    lines = printed_if_tripled(lesson, 7).splitlines()[3:6]
    for line, share in zip(lines, np.bincount(Y) / len(Y), strict=True):
        mean, printed = re.findall(r"0\.\d{6}", line)
        assert printed == f"{share:.6f}" != mean


def test_the_floors_are_printed_from_theory(lesson):
    q = 0.1 / 10 + 0.9 * np.eye(10)[0]
    floor = f"{-(q * np.log(q)).sum():.4f}"
    printed = printed_if_tripled(lesson, 7, "smoothed_loss")
    assert f"floor {floor}\n" in printed and f"loss {floor}" not in printed
    floors = [f"{math.log1p((c - 1) / math.e):.4f}" for c in (2, 3, 10)]
    printed = printed_if_tripled(lesson, 5, "loss_and_gradient")
    assert printed.endswith(f"classes: {' '.join(floors)}\n")
    assert f"loss {floors[0]:>7}" not in printed


def test_the_fall_of_nll_is_printed_from_theory(lesson):
    a = np.column_stack([standardised(X), np.ones(len(X))])
    fall = 0.5 * np.square(np.eye(3)[Y].T @ a / len(Y)).sum()
    printed = printed_if_tripled(lesson, 8, "train")
    rows = re.findall(r"step +(\d+): +(\S+), theory +(\S+)", printed)
    for step, measured, theory in rows:
        expected = f"{-int(step) * fall:.4f}", f"{-3 * int(step) * fall:.4f}"
        assert (theory, measured) == expected
    assert [row[0] for row in rows] == ["1", "10", "100"]
