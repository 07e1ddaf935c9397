"""What lesson 08 claims."""

import math

import numpy as np
import pytest
import torch
from course import ROOT

TABLE = np.loadtxt(ROOT / "data" / "breast_cancer.csv", delimiter=",", skiprows=1)
# Training rows that hang on no seed: four of five, 455.
FOUR_FIFTHS = TABLE[np.arange(569) % 5 > 0]
# The test accuracy over the splits of seeds 0 to 999: mean 0.976, standard deviation
# 0.0135. The binomial one for 114 test rows is sqrt(0.976 * 0.024 / 114) = 0.0143.
MEAN, STD = 0.976, 0.0135


def tensor(numbers, device):
    return torch.tensor(numbers, device=device, dtype=torch.float64)


def check(result, expected, device, rtol=1e-12, atol=0.0):
    assert (result.dtype, result.device.type) == (torch.float64, device)
    assert result.shape == np.shape(expected) and not result.requires_grad
    np.testing.assert_allclose(result.cpu(), expected, rtol=rtol, atol=atol)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def problem(n=60, d=3, noise=1.0):
    """Overlapping classes: x (n, d), and y that leans on x without being fixed by it."""
    random = np.random.default_rng(1)
    x = random.normal(size=(n, d))
    y = (x @ np.arange(1, d + 1) / d + noise * random.normal(size=n) > 0.3).astype(
        float
    )
    return x, y


def loss(z, y):
    """The mean of log(1 + exp(-z)) where y is 1 and log(1 + exp(z)) where it is 0."""
    return np.logaddexp(0, (1 - 2 * y) * z).mean()


def slope(x, y, theta, decay):
    """The gradient by theta = (w, b) of loss + decay |w|^2 / 2."""
    error = (sigmoid(x @ theta[:-1] + theta[-1]) - y) / len(y)
    return np.append(x.T @ error + decay * theta[:-1], error.sum())


def curvature(x, y, theta, decay):
    """The least eigenvalue of its Hessian: where it is above 0 the function is convex."""
    a = np.column_stack([x, np.ones(len(x))])
    p = sigmoid(a @ theta)
    hessian = a.T * (p * (1 - p)) @ a / len(y) + decay * np.diag(
        [1.0] * x.shape[1] + [0.0]
    )
    return np.linalg.eigvalsh(hessian)[0]


def optimum(lesson, x, y, decay):
    """What newton finds, once it is certain that it is the optimum: slope 0, and
    convex."""
    theta = lesson.newton(torch.from_numpy(x), torch.from_numpy(y), decay, 12).numpy()
    assert np.abs(slope(x, y, theta, decay)).max() < 1e-13
    assert curvature(x, y, theta, decay) > 0
    return theta


def standardised(x, rows):
    """x as the rows see it: minus their mean, divided by their std."""
    return (x - x[rows].mean(axis=0)) / x[rows].std(axis=0)


def accuracy(x, y, theta):
    return np.mean((x @ theta[:-1] + theta[-1] > 0) == (y == 1))


# Reading a data file: tests/test_faults.py tests read_csv, the same to the letter
# everywhere
def test_x_and_y_are_the_files_212_of_569_malignant(lesson, device):
    x, y = lesson.breast_cancer(device)
    check(x, TABLE[:, 1:], device, rtol=0)
    check(y, TABLE[:, 0], device, rtol=0)
    assert (x.shape, y.sum()) == ((569, 30), 212)
    assert {t.device.type for t in lesson.breast_cancer()} == {"cpu"}


# 1. From a logit to a probability, and to the loss
def test_the_loss_is_the_negative_log_likelihood(lesson, device):
    z, y = [-1.0, 0.5, 2.0, -3.0], [0.0, 1.0, 0.0, 1.0]
    p = [1 / (1 + math.exp(-number)) for number in z]
    expected = -np.mean(
        [math.log(q if b else 1 - q) for q, b in zip(p, y, strict=True)]
    )
    found = lesson.loss_by_hand(tensor(z, device), tensor(y, device))
    check(found, expected, device, rtol=1e-14)
    check(
        lesson.loss_by_hand(tensor([0.0] * 4, device), tensor(y, device)),
        math.log(2),
        device,
    )


def test_the_loss_overflows_nowhere_nor_does_its_gradient(lesson, device):
    z = torch.tensor([-100.0, 100.0, -100.0, 100.0], device=device, requires_grad=True)
    y = torch.tensor([1.0, 0.0, 0.0, 1.0], device=device)
    found = lesson.loss_by_hand(z, y)
    assert (found.dtype, found.shape, found.item()) == (torch.float32, (), 50)
    found.backward()
    assert z.grad.tolist() == pytest.approx([-0.25, 0.25, 0, 0], abs=1e-30)
    # By hand, 1 / (1 + exp(-z)), exp(100) is inf in float32, and inf times 0 is nan.
    for number, dtype, overflows in (
        (-100.0, torch.float32, True),
        (-100.0, torch.float64, False),
        (-709.0, torch.float64, False),  # the largest float64 is about exp(709.78)
        (-710.0, torch.float64, True),
    ):
        by_hand = torch.tensor(number, dtype=dtype, device=device, requires_grad=True)
        (-torch.log(1 / (1 + torch.exp(-by_hand)))).backward()
        assert by_hand.grad.isnan() == overflows


def test_the_gradient_is_x_t_p_minus_y_over_n(lesson, device):
    x, y = problem()
    w, b = np.array([0.5, -1.0, 2.0]), 0.25
    expected = slope(x, y, np.append(w, b), 0)[:-1]
    ours = tensor(w, device)
    for gradient in (lesson.gradient_by_hand, lesson.gradient_by_autograd):
        check(gradient(tensor(x, device), tensor(y, device), ours, b), expected, device)
    assert not ours.requires_grad and ours.tolist() == w.tolist()
    ours.requires_grad_()  # as after training
    check(
        lesson.gradient_by_autograd(*(tensor(t, device) for t in (x, y)), ours, b),
        expected,
        device,
    )
    assert ours.grad is None


# 2. Split first, then scale with what the training rows say
@pytest.mark.parametrize(
    ("n", "rows"), [(569, 455), (10, 8), (12, 10), (13, 10), (10_000, 8000)]
)
def test_a_split_is_80_to_20_and_uses_every_row_once(lesson, device, n, rows):
    train, test = lesson.split(n, 3, device)
    assert train.device.type == test.device.type == device
    assert train.dtype == test.dtype == torch.int64
    assert (len(train), len(test)) == (rows, n - rows)
    assert sorted(train.tolist() + test.tolist()) == list(range(n))


def test_a_split_is_random_and_its_seed_repeats_it(lesson):
    state = torch.get_rng_state()
    train, test = lesson.split(569, 3)
    # nobody else's numbers are touched
    assert torch.equal(state, torch.get_rng_state())
    assert train.device.type == test.device.type == "cpu"
    assert torch.equal(train, lesson.split(569, 3)[0])
    assert not torch.equal(train, lesson.split(569, 4)[0])
    assert train.tolist() != sorted(train.tolist())


def test_both_parts_are_scaled_by_what_the_training_rows_say(lesson, device):
    train, test = [[1.0, 10.0], [3.0, 40.0], [8.0, -20.0]], [[5.0, 0.0], [100.0, 7.0]]
    mean, std = np.mean(train, axis=0), np.std(train, axis=0)
    scaled = lesson.scaled(tensor(train, device), tensor(test, device))
    for part, rows in zip(scaled, (train, test), strict=True):
        check(part, (np.array(rows) - mean) / std, device, atol=1e-15)


@pytest.mark.parametrize("seed", [0, 5])
def test_train_and_test_are_the_rows_of_the_split_scaled(lesson, device, seed):
    x, y = TABLE[:, 1:], TABLE[:, 0]
    train, test = (part.numpy() for part in lesson.split(569, seed))
    expected = standardised(x, train)
    data = lesson.breast_cancer(device)
    for found in [lesson.train_and_test(*data, seed)] + [
        lesson.train_and_test(*data)
    ] * (not seed):
        for part, rows in zip(found[:2], (train, test), strict=True):
            check(part, expected[rows], device, atol=1e-11)
        for part, rows in zip(found[2:], (train, test), strict=True):
            check(part, y[rows], device, rtol=0)


# 3. Training finds the optimum that Newton's method finds
def test_training_returns_the_loss_before_each_step(lesson, device):
    x, y = problem()
    model = torch.nn.Linear(3, 1, device=device, dtype=torch.float64).eval()
    theta = np.append(model.weight.tolist()[0], model.bias.item())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    arguments = (model, torch.nn.BCEWithLogitsLoss(), optimizer, tensor(x, device))
    targets = tensor(y[:, None], device)
    losses = lesson.train(*arguments, targets, epochs=2)
    assert type(losses) is list and model.training
    losses += lesson.train(*arguments, targets, epochs=1)
    expected = []
    for _ in range(3):
        expected.append(loss(x @ theta[:-1] + theta[-1], y))
        theta = theta - 0.2 * slope(x, y, theta, 0)
    assert losses == pytest.approx(expected, rel=1e-12)
    assert [*model.weight.tolist()[0], model.bias.item()] == pytest.approx(
        theta, rel=1e-12
    )


def test_fit_sgd_descends_with_lr_1_and_momentum_0_85(lesson, device):
    x, y = problem()
    torch.manual_seed(0)
    found = lesson.fit_sgd(tensor(x, device), tensor(y, device), 0.1, epochs=4)
    torch.manual_seed(0)  # the same start, whatever it is
    start = torch.nn.Linear(3, 1, device=device, dtype=torch.float64)
    theta, velocity = np.append(start.weight.tolist()[0], start.bias.item()), 0
    for _ in range(4):
        velocity = 0.85 * velocity + slope(x, y, theta, 0.1)
        theta = theta - velocity
    check(found, theta, device)


def test_logits_are_x_w_plus_b(lesson, device):
    x, theta = (
        tensor([[1.0, 2.0], [3.0, -1.0]], device),
        tensor([10.0, 1.0, 0.5], device),
    )
    check(lesson.logits(x, theta), [12.5, 29.5], device)


@pytest.mark.parametrize("steps", [0, 1, 4, None])
def test_newton_takes_newtons_steps_and_nine_unless_told(lesson, device, steps):
    # Two points, x = 1 malignant and x = -1 benign: b stays 0, and by w the loss log(1
    # + exp(-w)) has the derivatives -(1 - p) and p (1 - p). A step is 1 / p = 1 +
    # exp(-w).
    x, y = tensor([[1.0], [-1.0]], device), tensor([1.0, 0.0], device)
    w = 0.0
    for _ in range(9 if steps is None else steps):
        w += 1 + math.exp(-w)
    theta = lesson.newton(x, y, 0, **({} if steps is None else {"steps": steps}))
    check(theta, [w, 0], device, rtol=1e-10, atol=1e-12)


def test_newtons_first_step_minimises_the_bowl(lesson, device):
    x, y = problem()
    # At theta = 0 each p is 1/2 and the bowl is that of least squares for z = 4 (y -
    # 1/2).
    a, penalty = np.column_stack([x, np.ones(60)]), 4 * 60 * 0.1
    # decay: as many readings of 0
    rows = np.vstack([a, np.sqrt(penalty) * np.eye(4)[:3]])
    expected = np.linalg.lstsq(rows, np.append(4 * y - 2, np.zeros(3)), rcond=None)[0]
    check(
        lesson.newton(tensor(x, device), tensor(y, device), 0.1, steps=1),
        expected,
        device,
        1e-10,
    )


@pytest.mark.parametrize("decay", [0.01, 0.1])
def test_newton_and_training_find_the_one_optimum(lesson, device, decay):
    x, y = standardised(FOUR_FIFTHS[:, 1:], slice(None)), FOUR_FIFTHS[:, 0]
    ours = tensor(x, device), tensor(y, device)
    theta = lesson.newton(*ours, decay)
    # The optimum of a convex function is where the gradient is 0. After 6 steps it is
    # 1e-5 yet.
    check(theta, theta.tolist(), device)
    assert np.abs(slope(x, y, theta.cpu().numpy(), decay)).max() < 1e-11
    assert (
        np.abs(
            slope(x, y, lesson.newton(*ours, 0.01, steps=6).cpu().numpy(), 0.01)
        ).max()
        > 1e-9
    )
    # The loss adds curvature to the decay's, so that all of w is curved; b by the loss
    # alone.
    assert curvature(x, y, theta.cpu().numpy(), decay) > 0
    # The bias is not decayed: its derivative, mean p - share, is 0 as well.
    p = sigmoid(x @ theta[:-1].cpu().numpy() + theta[-1].item())
    assert p.mean() == pytest.approx(y.mean(), abs=1e-12)
    check(
        lesson.fit_sgd(*ours, decay, epochs=250), theta.cpu(), device, rtol=0, atol=1e-6
    )


# 4. Without weight decay there is no optimum
def test_separable_rows_make_the_weights_grow_without_end(lesson, device):
    x, y = standardised(FOUR_FIFTHS[:, 1:], slice(None)), FOUR_FIFTHS[:, 0]
    norms, losses, margins = [], [], []
    for steps in (5, 10, 15):
        theta = (
            lesson.newton(tensor(x, device), tensor(y, device), 0, steps).cpu().numpy()
        )
        z = x @ theta[:-1] + theta[-1]
        norms.append(np.linalg.norm(theta[:-1]))
        losses.append(loss(z, y))
        margins.append(((2 * y - 1) * z).min())
    assert norms == sorted(norms) and norms[2] > 2 * norms[1] > 4 * norms[0]
    # All on their side, so twice the weights are better yet.
    assert margins[0] < 0 < margins[1] < margins[2]
    # Where p is near 1 a step adds 1 to the margins (see above): the loss is divided by
    # e.
    assert losses[2] == pytest.approx(losses[1] / math.e**5, rel=0.05)


def test_a_plane_separates_all_569_rows_and_thus_the_training_rows_of_any_split(
    lesson, device
):
    x, y = standardised(TABLE[:, 1:], slice(None)), TABLE[:, 0]
    theta = lesson.newton(tensor(x, device), tensor(y, device), 0, 20).cpu().numpy()
    assert ((2 * y - 1) * (x @ theta[:-1] + theta[-1])).min() > 0


# 5. Judge it on rows that it has not seen
def test_the_confusion_matrix_counts_and_the_scores_divide(lesson, device):
    z = tensor([2.0, -1.0, 0.5, -3.0, 1.0, 0.0, -2.0, 4.0, -0.5], device)
    y = tensor([1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0], device)
    assert lesson.confusion(z, y) == (3, 1, 2, 3)  # z = 0 is not malignant
    assert {type(count) for count in lesson.confusion(z, y)} == {int}
    assert lesson.scores(z, y) == (6 / 9, 3 / 4, 3 / 5)


def test_without_an_alarm_there_is_no_precision(lesson, device):
    z, y = (
        tensor([-1.0, -2.0, -3.0, -4.0], device),
        tensor([0.0, 1.0, 0.0, 0.0], device),
    )
    share, precision, recall = lesson.scores(z, y)
    assert (share, recall) == (3 / 4, 0) and math.isnan(precision)
    assert lesson.scores(-z, 1 - y) == (3 / 4, 3 / 4, 1)
    assert lesson.scores(tensor([1.0, 1.0], device), tensor([0.0, 1.0], device)) == (
        0.5,
        0.5,
        1,
    )
    assert lesson.scores(tensor([1.0, -1.0], device), tensor([0.0, 1.0], device)) == (
        0,
        0,
        0,
    )


def test_the_roc_has_a_point_for_every_threshold(lesson, device):
    z, y = [3.0, 2.0, 2.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0, 0.0]
    false_positive_rate, true_positive_rate = lesson.roc(
        tensor(z, device), tensor(y, device)
    )
    check(false_positive_rate, [0, 0, 1 / 3, 2 / 3, 1], device)
    check(true_positive_rate, [0, 0.5, 1, 1, 1], device)


@pytest.mark.parametrize("n", [30, 200])
def test_the_area_under_the_roc_is_the_share_of_pairs_ranked_right(lesson, device, n):
    random = np.random.default_rng(n)
    y = (random.random(n) < 0.4).astype(float)
    for z in (random.normal(size=n) + y, np.round(random.normal(size=n) + y)):
        # many ties
        differences = z[y == 1][:, None] - z[y == 0]
        share = np.mean((differences > 0) + 0.5 * (differences == 0))
        area = lesson.roc_auc(tensor(z, device), tensor(y, device))
        assert type(area) is float and area == pytest.approx(share, rel=1e-12)


def test_the_accuracies_are_those_of_the_optimum_with_weight_decay_0_01(lesson, device):
    x, y = problem(n=1000, d=20, noise=0.3)
    x[:, 1:] += 3 * x[:, :1]  # correlated: the plane turns with the decay
    expected = {0.01: [], 0.03: []}
    for seed in range(4, 8):
        train, test = (part.numpy() for part in lesson.split(len(y), seed))
        z = standardised(x, train)
        for decay, found in expected.items():
            theta = optimum(lesson, z[train], y[train], decay)
            found.append(accuracy(z[test], y[test], theta))
    found = lesson.accuracies_of_splits(
        tensor(x, device), tensor(y, device), range(4, 8)
    )
    assert found == pytest.approx(expected[0.01], abs=1e-12)
    assert found != pytest.approx(expected[0.03], abs=1e-12)


def test_one_split_is_good_to_a_few_percent(lesson, device):
    found = lesson.accuracies_of_splits(*lesson.breast_cancer(device), range(20))
    assert len(found) == 20 and max(found) <= 1
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
    assert (logits[:, 0] > 0).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("pos_weight", "p"), [(1, 1 / 10), (9, 1 / 2), (1 / 9, 1 / 82)]
)
def test_pos_weight_moves_p_of_one_positive_in_ten_from_0_1_to_0_5_or_0_012(
    device, pos_weight, p
):
    assert f"{1 / 82:.3f}" == "0.012"
    y = tensor([1] + 9 * [0], device)
    loss_function = torch.nn.BCEWithLogitsLoss(pos_weight=tensor(pos_weight, device))
    z = tensor(math.log(p / (1 - p)), device).requires_grad_()
    loss_function(z.expand(10), y).backward()
    assert abs(z.grad.item()) < 1e-15  # the loss is convex: a slope of 0 is its minimum


# 6. Mistake: sigmoid before BCEWithLogitsLoss
def test_a_sigmoid_too_many_puts_a_floor_under_the_loss(lesson, device):
    # A no becomes the logit 0, a yes the logit 1.
    negative, positive = math.log(2), math.log(1 + math.exp(-1))
    for y in ([0.0], [1.0], [0.0, 1.0], [0.0, 0.0, 1.0, 0.0]):
        share = sum(y) / len(y)
        floor = negative + share * (positive - negative)
        found = (
            lesson.floor_of_double_sigmoid(tensor(y, device)),
            lesson.floor_in_theory(share),
        )
        assert (
            found == pytest.approx((floor, floor), rel=1e-14)
            and type(found[0]) is float
        )
        # as sure as can be
        logits = tensor([60.0 * (2 * label - 1) for label in y], device)
        double = torch.nn.BCEWithLogitsLoss()(torch.sigmoid(logits), tensor(y, device))
        assert double.item() == pytest.approx(floor, rel=1e-12)
    assert f"{lesson.floor_in_theory(0.5):.6f}" == "0.503204"


# 7. Mistake: sigmoid and then BCELoss
def test_bceloss_saturates_and_bcewithlogitsloss_does_not(lesson):
    assert lesson.loss_and_gradient(20.0, 0.0, with_logits=False) == (100, 0)
    found = lesson.loss_and_gradient(20.0, 0.0, with_logits=True)
    assert found == pytest.approx((20, 1), rel=1e-6)
    # Label 1 saturates too. exp(89) is above the largest float32; and below -28 the
    # gradient fades, since BCELoss divides (p - 1) by p (1 - p), or by 1e-12 if that is
    # more.
    assert lesson.loss_and_gradient(-89.0, 1.0, with_logits=False) == (100, 0)
    faded = lesson.loss_and_gradient(-40.0, 1.0, with_logits=False)
    assert (
        faded == pytest.approx((40, -math.exp(-40) / 1e-12), rel=1e-4)
        and abs(faded[1]) < 1e-5
    )
    found = lesson.loss_and_gradient(-89.0, 1.0, with_logits=True)
    assert found == pytest.approx((89, -1), rel=1e-6)
    for with_logits in (True, False):  # where nothing saturates, they agree
        found = lesson.loss_and_gradient(1.5, 1.0, with_logits)
        p = 1 / (1 + math.exp(-1.5))
        assert found == pytest.approx((-math.log(p), p - 1), rel=1e-5)
        assert {type(number) for number in found} == {float}


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


@pytest.mark.parametrize("choose_on_all", [True, False])
def test_the_coins_are_chosen_and_judged_as_numpy_would(lesson, choose_on_all):
    n, features, chosen = 200, 100, 60
    expected = {0.1: [], 0.03: []}
    for seed in range(5):  # 200 test rows: enough to tell one weight decay from another
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, features, generator=generator, dtype=torch.float64).numpy()
        y = torch.randint(0, 2, (n,), generator=generator).double().numpy()
        train, test = (part.numpy() for part in lesson.split(n, seed))
        seen = np.arange(n) if choose_on_all else train
        correlation = [abs(np.corrcoef(column[seen], y[seen])[0, 1]) for column in x.T]
        best = x[:, np.argsort(correlation)[-chosen:]]
        for decay, found in expected.items():
            theta = optimum(lesson, best[train], y[train], decay)
            found.append(accuracy(best[test], y[test], theta))
    shape = {"n": n, "features": features, "chosen": chosen}
    found = [
        lesson.accuracy_on_coins(choose_on_all, seed, **shape) for seed in range(5)
    ]
    assert found == pytest.approx(expected[0.1], abs=1e-12)
    assert found != pytest.approx(expected[0.03], abs=1e-12)


def test_80_coins_are_flipped_and_20_of_500_features_chosen(lesson):
    state = torch.get_rng_state()
    for choose_on_all in (True, False):
        found = [lesson.accuracy_on_coins(choose_on_all, seed) for seed in range(5)]
        assert found == [
            lesson.accuracy_on_coins(choose_on_all, s, 80, 500, 20) for s in range(5)
        ]
    assert torch.equal(state, torch.get_rng_state())


# What else the chapter says goes wrong
def test_one_nan_in_the_data_makes_all_weights_nan():
    x, y = torch.ones(5, 3), torch.zeros(5)
    # a constant column: 0 / 0
    assert ((x - x.mean(dim=0)) / x.std(dim=0)).isnan().all()
    x[2, 1] = math.nan
    model = torch.nn.Linear(3, 1)
    torch.nn.BCEWithLogitsLoss()(model(x)[:, 0], y).backward()
    assert all(parameter.grad.isnan().all() for parameter in model.parameters())


# The picture
def test_the_picture_shows_the_roc_and_every_test_row_once(lesson, device):
    curve, histogram = lesson.figure(device).axes
    data = lesson.train_and_test(*lesson.breast_cancer(device))
    x_train, x_test, y_train, y_test = (t.cpu().numpy() for t in data)
    theta = optimum(lesson, x_train, y_train, 0.01)
    z = x_test @ theta[:-1] + theta[-1]
    share = np.mean(z[y_test == 1][:, None] > z[y_test == 0])
    x, y = map(np.asarray, curve.lines[0].get_data())
    assert np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) == pytest.approx(share, rel=1e-9)
    assert f"{share:.4f}" in curve.get_title()
    benign, malignant = (
        [bar.get_height() for bar in bars] for bars in histogram.containers
    )
    p = sigmoid(z)
    edges = np.linspace(p.min(), p.max(), 11)
    np.testing.assert_array_equal(benign, np.histogram(p[y_test == 0], edges)[0])
    np.testing.assert_array_equal(malignant, np.histogram(p[y_test == 1], edges)[0])
