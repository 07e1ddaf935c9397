"""What lesson 11 claims."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import ROOT, assert_values, loud_messages, printed_if_tripled, tensor64
from reference import softmax
from torch import nn

CHAPTER = ROOT / "lessons" / "11_softmax_cross_entropy.md"
TABLE = np.loadtxt(ROOT / "data" / "digits.csv", delimiter=",", skiprows=1)
SURE = 60.0  # a lead so large that every other class has less than 1e-25


def losses_of(z, y):
    """log(sum of e^z) - z[y] of each row."""
    return np.logaddexp.reduce(z, axis=1) - z[np.arange(len(y)), y]


def error(z, y):
    """The gradient of the mean loss with respect to z."""
    return (softmax(z) - np.eye(z.shape[1])[y]) / len(y)


def some_logits(n, classes, seed=0, std=2.0):
    random = np.random.default_rng(seed)
    return random.normal(scale=std, size=(n, classes)), random.integers(classes, size=n)


def on(device, z, y):
    return tensor64(z, device), torch.tensor(y, device=device)


# Reading a data file: tests/test_faults.py tests read_csv
@pytest.mark.parametrize("seed", [0, 7])
def test_the_digits_are_the_file_shuffled_each_row_once(lesson, device, seed):
    x_train, y_train, x_test, y_test = lesson.digits(device, seed)
    assert (len(x_train), len(y_train), len(x_test), len(y_test)) == (
        *(1000, 1000),
        *(797, 797),
    )
    assert x_train.dtype == torch.float32 and y_train.dtype == torch.int64
    assert {each.device.type for each in (x_train, y_train, x_test, y_test)} == {device}
    x = torch.cat([x_train, x_test]).cpu().numpy()
    y = torch.cat([y_train, y_test]).cpu().numpy()
    rows = np.column_stack([y, 16 * x])
    assert sorted(rows.tolist()) == sorted(TABLE.tolist())
    assert (rows != TABLE).any(axis=1).sum() > 1500  # in another order


def test_another_seed_is_another_order(lesson):
    assert (lesson.digits(seed=0)[1] != lesson.digits(seed=1)[1]).any()


# 1. From logits to probabilities
def test_softmax_is_e_to_the_z_over_the_sum_of_the_row(lesson, device):
    z = [[0.3, -2.0, 1.7], [4.0, 4.0, -1.0]]
    expected = []
    for row in z:
        powers = [math.exp(number) for number in row]
        expected.append([power / math.fsum(powers) for power in powers])
    p = lesson.softmax(tensor64(z, device))
    assert_values(p, expected, device, rtol=1e-14)


def test_only_differences_of_logits_count(lesson, device):
    z = np.array([[-1.0, 0.5, 3.0], [2.0, 0.0, 0.0]])
    for shift in (-100.0, 17.5, 300.0):
        assert_values(lesson.softmax(tensor64(z + shift, device)), softmax(z), device)


def test_for_two_classes_it_is_the_sigmoid_of_the_difference(lesson, device):
    z, _ = some_logits(9, 2)
    p = lesson.softmax(tensor64(z, device))
    assert_values(p[:, 1], 1 / (1 + np.exp(z[:, 0] - z[:, 1])), device)


@pytest.mark.parametrize(("n", "classes"), [(5, 10), (1, 10), (4, 7)])
def test_over_the_batch_the_columns_sum_to_1_and_equal_rows_to_c_over_n(n, classes):
    p = torch.softmax(torch.zeros(n, classes), dim=0)
    assert p.sum(dim=1).tolist() == pytest.approx(n * [classes / n], rel=1e-6)


def test_of_a_single_picture_over_the_batch_every_class_is_certain():
    z, _ = some_logits(1, 10, std=9.0)
    assert torch.softmax(tensor64(z), dim=0).tolist() == [10 * [1.0]]


# 2. The loss of an answer
@pytest.mark.parametrize(("n", "classes"), [(1, 4), (5, 9)])
def test_cross_entropy_is_the_mean_of_minus_log_p_of_the_label(
    lesson, device, n, classes
):
    z, y = some_logits(n, classes)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    expected = -np.mean([math.log(row[label]) for row, label in zip(p, y, strict=True)])
    for loss_function in (lesson.cross_entropy, nn.CrossEntropyLoss()):
        loss = loss_function(*on(device, z, y))
        assert_values(loss, expected, device, rtol=1e-13)


def test_what_the_other_classes_got_plays_no_part(lesson, device):
    y = torch.tensor([0], device=device)
    for others in ([0.3, 0.1], [0.2, 0.2], [0.39, 0.01]):
        z = tensor64([[0.6, *others]], device).log()
        loss = lesson.cross_entropy(z, y)
        assert_values(loss, -math.log(0.6), device, rtol=1e-14)


def test_each_halving_of_p_adds_log_2(lesson):
    y = torch.tensor([0])
    for p in (0.9, 0.5, 1e-3):
        one, half = (
            lesson.cross_entropy(tensor64([[q, 1 - q]]).log(), y).item()
            for q in (p, p / 2)
        )
        assert half - one == pytest.approx(math.log(2), rel=1e-9)


def test_two_classes_are_the_binary_loss_of_the_difference(lesson, device):
    z, y = some_logits(40, 2, seed=3)
    binary = np.logaddexp(0, (1 - 2 * y) * (z[:, 1] - z[:, 0])).mean()  # lesson 08
    assert_values(lesson.cross_entropy(*on(device, z, y)), binary, device, rtol=1e-13)


# 3. Which way each logit is pushed
@pytest.mark.parametrize(("n", "classes"), [(1, 3), (4, 5)])
def test_the_gradient_is_p_minus_one_hot_over_n(lesson, device, n, classes):
    z, y = some_logits(n, classes, seed=1)
    y[y == classes - 1] = 0  # a class that does not occur has a column all the same
    expected, h = np.empty_like(z), 1e-5
    for index in np.ndindex(z.shape):  # central differences
        step = np.zeros_like(z)
        step[index] = h
        change = losses_of(z + step, y).mean() - losses_of(z - step, y).mean()
        expected[index] = change / (2 * h)
    for gradient in (lesson.gradient_by_hand, lesson.gradient_by_autograd):
        found = gradient(*on(device, z, y))
        assert_values(found, expected, device, rtol=0, atol=1e-9)
        assert_values(found, error(z, y), device, rtol=0, atol=1e-15)
        assert found.sum(dim=1).abs().max() < 1e-15
        assert found.abs().max() <= 1 / n


# 4. What should the first loss be?
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_equal_logits_cost_log_c_whatever_the_labels_are(lesson, classes):
    expected = math.log(classes)
    assert lesson.loss_of_equal_logits(classes) == pytest.approx(expected, rel=1e-6)
    y = torch.arange(classes)[[0, 0, 0, classes - 1]]
    z = torch.full((4, classes), 7.0)
    assert F.cross_entropy(z, y).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", [0, 3])
def test_the_first_losses_are_those_of_one_new_layer_on_three_inputs(
    lesson, device, seed
):
    x, y, _, _ = lesson.digits(device, seed)
    torch.manual_seed(seed)
    layer = nn.Linear(64, 10)
    weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
    x64, labels = x.cpu().double().numpy(), y.cpu().numpy()
    usual = losses_of(x64 @ weight.T + bias, labels)
    unscaled = losses_of(16 * x64 @ weight.T + bias, labels)
    expected = usual.mean(), unscaled.mean(), usual.sum()
    assert lesson.three_first_losses(x, y, seed) == pytest.approx(expected, rel=1e-4)


def test_a_new_layer_has_small_logits_if_the_pictures_are_scaled(lesson):
    # nn.Linear's numbers are uniform from -1/8 to 1/8, of variance 1/192. By Jensen
    # the mean loss over starts is at least log C; for small logits it is above it by
    # half of their variance. A start differs from the mean by far less than 0.2.
    for seed in range(20):
        x, y, _, _ = lesson.digits(seed=seed)
        usual, unscaled, added = lesson.three_first_losses(x, y, seed)
        assert abs(usual - math.log(10)) < 0.2
        assert unscaled > 2 * math.log(10) and added > 800 * math.log(10)


# 5. A softmax too many
def descent(x, y, weight, bias, steps, twice):
    """The losses before each step of gradient descent with the rate 1, in NumPy."""
    losses = []
    for _ in range(steps):
        z = x @ weight.T + bias
        if twice:
            p = softmax(z)
            losses.append(losses_of(p, y).mean())
            up = error(p, y)
            by_z = p * (up - (up * p).sum(axis=1, keepdims=True))
        else:
            losses.append(losses_of(z, y).mean())
            by_z = error(z, y)
        weight, bias = weight - by_z.T @ x, bias - by_z.sum(axis=0)
    return losses, weight, bias


def test_both_models_descend_from_one_start_as_numpy_does(lesson, device):
    x, y, x_test, y_test = lesson.digits(device, seed=2)
    x64, labels = x.cpu().double().numpy(), y.cpu().numpy()
    right, wrong = lesson.two_models(5, device)
    torch.manual_seed(5)
    start = [p.detach().double().numpy() for p in nn.Linear(64, 10).parameters()]
    for model, layer, twice in ((right, right, False), (wrong, wrong[0], True)):
        losses, weight, bias = descent(x64, labels, *start, 40, twice)
        found = lesson.train(model, x, y, 40)
        assert found == pytest.approx(losses, rel=1e-4)
        assert_values(layer.weight, weight, device, torch.float32, atol=1e-3)
        assert_values(layer.bias, bias, device, torch.float32, atol=1e-3)
        z = x_test.cpu().double().numpy() @ weight.T + bias
        share = (z.argmax(axis=1) == y_test.cpu().numpy()).mean()
        # rounding may move a picture or two across a border
        assert lesson.accuracy(model, x_test, y_test) == pytest.approx(share, abs=3e-3)


def accuracies(lesson, twice):
    """The test accuracies after 301 steps of twenty splits and starts, all at once."""
    parts = [lesson.digits(seed=seed) for seed in range(20)]
    x, y, x_test, y_test = (torch.stack(each) for each in zip(*parts, strict=True))
    x, x_test = (F.pad(each, (0, 1), value=1.0) for each in (x, x_test))
    starts = []
    for seed in range(20):
        torch.manual_seed(seed)
        layer = nn.Linear(64, 10)
        starts.append(torch.cat([layer.weight.T, layer.bias[None]]).detach())
    w, one_hot = torch.stack(starts), F.one_hot(y, 10)
    for _ in range(301):
        p = torch.softmax(x @ w, dim=2)
        if twice:
            up = torch.softmax(p, dim=2) - one_hot
            by_z = p * (up - (up * p).sum(dim=2, keepdim=True))
        else:
            by_z = p - one_hot
        w -= x.mT @ by_z / 1000
    return ((x_test @ w).argmax(dim=2) == y_test).float().mean(dim=1).numpy()


def test_the_accuracies_over_twenty_splits_are_those_of_the_chapter(lesson):
    text = re.sub("<!-- .*? -->", "", CHAPTER.read_text("utf-8"))
    once, twice = accuracies(lesson, twice=False), accuracies(lesson, twice=True)
    medians = re.search(r"reads\s(\d+) % of them.* reads only (\d+) %", text, re.DOTALL)
    # rounding may move a picture or two across a border
    found = 100 * np.median(once), 100 * np.median(twice)
    assert [float(n) for n in medians.groups()] == pytest.approx(found, abs=0.8)
    ranges = re.search(
        r"accuracy lies between (\S+) and (\S+) after these steps. The right model "
        r"has (\S+) to (\S+)\.",
        text,
    )
    found = twice.min(), twice.max(), once.min(), once.max()
    assert [float(n) for n in ranges.groups()] == pytest.approx(found, abs=0.008)


def test_accuracy_is_the_share_of_rows_whose_largest_output_is_the_labels(lesson):
    class Table(nn.Module):
        def forward(self, x):
            return x

    outputs = torch.tensor([[3.0, 1.0], [-2.0, -1.0], [0.0, 4.0], [9.0, 8.0]])
    share = lesson.accuracy(Table(), outputs, torch.tensor([0, 1, 0, 0]))
    assert share == 3 / 4


@pytest.mark.parametrize("classes", [2, 10])
def test_softmax_twice_costs_from_its_lowest_loss_to_one_more(lesson, classes):
    lowest = math.log(1 + (classes - 1) / math.e)
    assert lesson.lowest_loss_in_theory(classes) == pytest.approx(lowest, rel=1e-13)
    z, y = some_logits(50, classes, seed=9, std=30.0)
    found = lesson.softmax_twice(tensor64(z), torch.tensor(y)).item()
    assert found == pytest.approx(losses_of(softmax(z), y).mean(), rel=1e-12)
    assert lowest < found < lowest + 1
    sure = SURE * torch.eye(classes, dtype=torch.float64)
    labels = torch.arange(classes)
    assert_values(lesson.softmax_twice(sure, labels), lowest)
    assert_values(lesson.softmax_twice(sure, labels.roll(1)), lowest + 1)


@pytest.mark.parametrize("lead", [-12.0, -0.5, 0.0, 4.0, 10.0])
def test_softmax_once_goes_on_pushing_where_twice_gives_up(lesson, lead):
    p = 1 / (1 + math.exp(-lead))  # of the wrong class
    again = 1 / (1 + math.exp(1 - 2 * p))
    once = lesson.slope_of_the_wrong_logit(lesson.softmax_once, lead)
    twice = lesson.slope_of_the_wrong_logit(lesson.softmax_twice, lead)
    assert once == pytest.approx(p, rel=1e-10)
    assert twice == pytest.approx(again * 2 * p * (1 - p), rel=1e-10)


def test_a_log_softmax_in_the_model_changes_nothing():
    z, y = some_logits(30, 10)
    loss = F.cross_entropy(F.log_softmax(tensor64(z), dim=1), torch.tensor(y))
    assert_values(loss, losses_of(z, y).mean())


# 6. Logits that are too large
def test_softmax_by_definition_overflows_above_and_below(lesson, device):
    above = lesson.softmax(torch.tensor([[88.73, 1.0, 0.0]], device=device))
    assert above.isnan().tolist() == [[True, False, False]]
    below = lesson.softmax(torch.tensor([[88.72, 1.0]], device=device))
    assert not below.isnan().any()
    z = torch.tensor([[-200.0, -201.0]], device=device)
    assert lesson.softmax(z).isnan().all()


@pytest.mark.parametrize("offset", [0.0, 1000.0, -5000.0])
def test_the_safe_ways_are_right_wherever_the_logits_are(lesson, device, offset):
    z = np.array([[0.5, -3.0, 2.0, 2.25], [-800.0, 0.0, 1.0, 1.0]])
    log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    moved = tensor64(z + offset * np.array([[1.0], [0.5]]), device)
    assert_values(lesson.safe_log_softmax(moved), log_p, device, atol=2e-12)
    assert_values(lesson.safe_softmax(moved), np.exp(log_p), device, rtol=3e-12)


def test_the_log_of_a_small_softmax_is_minus_infinity_and_log_softmax_is_not(lesson):
    z = torch.tensor([[-200.0, 0.0]])
    assert lesson.safe_softmax(z).log().tolist() == [[-math.inf, 0]]
    assert lesson.safe_log_softmax(z).tolist() == [[-200, 0]]


# 7. Losses with another optimum
@pytest.mark.parametrize(("e", "classes"), [(0.1, 10), (0.6, 3)])
def test_smoothing_is_best_where_p_is_the_target(lesson, e, classes):
    target = (1 - e) * np.eye(classes)[0] + e / classes
    best = lesson.best_lead_in_theory(e, classes)
    assert best == pytest.approx(math.log(target[0] / target[1]), rel=1e-12)
    entropy = -(target * np.log(target)).sum()
    assert lesson.smoothed_loss(best, e, classes) == pytest.approx(entropy, rel=1e-5)
    for lead in (best - 3, best - 0.1, best + 0.1, best + 3, 100.0):
        z = lead * np.eye(classes)[0]
        expected = np.logaddexp.reduce(z) - target @ z  # -sum q log p
        found = lesson.smoothed_loss(lead, e, classes)
        assert found == pytest.approx(expected, rel=1e-5)
        assert found > entropy + 1e-5


def test_rows_can_be_made_with_any_losses(lesson, device):
    losses, y = [1.0, 4.0, 0.25], [0, 1, 1]
    z = lesson.logits_with_losses(losses, torch.tensor(y, device=device))
    assert losses_of(z.cpu().double().numpy(), y) == pytest.approx(losses, rel=1e-5)


def test_a_class_weight_of_3_is_each_row_three_times(device):
    z, y = some_logits(25, 4, seed=7)
    weight = np.array([3.0, 1.0, 2.0, 5.0])
    repeated = np.repeat(np.arange(25), weight[y].astype(int))
    found = F.cross_entropy(*on(device, z, y), weight=tensor64(weight, device))
    assert_values(found, losses_of(z, y)[repeated].mean(), device)
    added = F.cross_entropy(
        *on(device, z, y), weight=tensor64(weight, device), reduction="sum"
    )
    assert_values(added, weight[y] @ losses_of(z, y), device)


def test_in_a_batch_of_one_class_its_weight_has_no_effect(device):
    z, _ = some_logits(6, 3)
    y = np.full(6, 2)
    for weight in (0.01, 1.0, 40.0):
        weights = tensor64([1.0, 1.0, weight], device)
        found = F.cross_entropy(*on(device, z, y), weight=weights)
        assert_values(found, losses_of(z, y).mean(), device)


# 8. What the loss must be given
def test_minus_100_is_left_out_and_a_label_that_is_too_large_raises(lesson):
    log_sum = math.log(1 + math.e + math.e**2)
    cases = {(2,): 2, (0, 1, 2): 1, (2, 2, 0, 1): 5 / 4, (1, 2, -100): 3 / 2}
    for labels, mean in cases.items():  # the logits are the labels
        expected = f"loss {log_sum - mean:.4f}"
        assert lesson.loss_of_labels(list(labels)) == expected
    assert lesson.loss_of_labels([1, 2, 3]) == "IndexError"
    assert lesson.loss_of_labels([-100]) == "loss nan"


def test_one_output_more_makes_labels_from_1_silent():
    y = torch.tensor([1, 2, 3])
    assert F.cross_entropy(torch.zeros(3, 4), y).item() == pytest.approx(math.log(4))


def test_nll_of_logits_falls_by_the_same_in_each_step_for_ever(lesson, device):
    x, y, _, _ = lesson.digits(device)
    model, _ = lesson.two_models(0, device)
    losses = lesson.losses_of_nll(model, x, y, 31)
    # The loss is linear, -mean of z[y]: in a step of rate 1 it falls by the squared
    # length of its gradient, which is the same everywhere.
    rows = np.column_stack([x.cpu().double().numpy(), np.ones(1000)])
    gradient = np.eye(10)[y.cpu().numpy()].T @ rows / 1000
    steps = np.arange(31)
    expected = losses[0] - steps * (gradient**2).sum()
    assert losses == pytest.approx(expected, rel=1e-4, abs=1e-3)
    torch.manual_seed(0)
    layer = nn.Linear(64, 10).to(device)
    z = layer(x).detach().cpu()
    first = -z[torch.arange(1000), y.cpu()].mean().item()
    assert losses[0] == pytest.approx(first, abs=1e-5)


def test_kl_divergence_is_of_logs_and_its_mean_divides_by_the_classes_too(device):
    z, target = (
        some_logits(6, 4, seed=12)[0] + 5,
        softmax(some_logits(6, 4, seed=13)[0]),
    )
    p = softmax(z)
    for given, sign in ((np.log(p), 1), (p, -1), (z, -1)):
        expected = (target * (np.log(target) - given)).sum() / 6
        ours = tensor64(given, device), tensor64(target, device)
        assert_values(F.kl_div(*ours, reduction="batchmean"), expected, device)
        with pytest.warns(UserWarning, match="batchmean"):
            assert_values(F.kl_div(*ours), expected / 4, device)
        assert sign * expected > 0


def test_kl_divergence_of_one_hot_targets_is_the_cross_entropy():
    z, y = some_logits(6, 4)
    log_p, target = F.log_softmax(tensor64(z), dim=1), tensor64(np.eye(4)[y])
    loss = F.kl_div(log_p, target, reduction="batchmean")
    assert_values(loss, losses_of(z, y).mean())
    nll = F.nll_loss(log_p, torch.tensor(y))
    assert_values(nll, losses_of(z, y).mean())


@pytest.mark.parametrize(
    ("y", "cost"),
    [
        ([[0, 1], [1, 0]], 0),  # the mistake goes unnoticed
        ([[0, 0], [0, 1]], math.log(2) / 2),  # 0.3466
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


# Go wrong
ZEROS = torch.zeros(4, 3)
LABELS = torch.tensor([0, 1, 2, 0])
LOUD = {
    "expected target dtype to be Long or Byte": lambda: F.cross_entropy(
        ZEROS, LABELS.float()
    ),
    "expected scalar type Long but found": lambda: F.cross_entropy(ZEROS, LABELS.int()),
    "0D or 1D target tensor expected": lambda: F.cross_entropy(ZEROS, LABELS[:, None]),
    "Expected floating point type for target with class probabilities": lambda: (
        F.cross_entropy(ZEROS, F.one_hot(LABELS, 3))
    ),
    "Expected target size": lambda: F.cross_entropy(
        torch.zeros(2, 4, 3), torch.zeros(2, 4, dtype=torch.long)
    ),
    "Target 3 is out of bounds": lambda: F.cross_entropy(ZEROS, LABELS + 1),
    "Target 7 is out of bounds": lambda: F.cross_entropy(ZEROS, 7 * (LABELS % 2)),
    "Target 1 is out of bounds": lambda: F.cross_entropy(ZEROS[:, :1], LABELS % 2),
}
DTYPES = {
    "expected target dtype to be Long or Byte",
    "expected scalar type Long but found",
}


@pytest.mark.parametrize("message", LOUD)
def test_a_loud_mistake_says_what_the_chapter_quotes(message):
    # of the two messages for the dtype each version of torch has one
    words = "|".join(DTYPES) if message in DTYPES else message
    with pytest.raises((RuntimeError, IndexError), match=words):
        LOUD[message]()


def test_every_message_that_the_chapter_quotes_is_raised_here():
    assert loud_messages(CHAPTER) == set(LOUD)


def test_the_cures_of_the_loud_mistakes_are_silent():
    expected = pytest.approx(math.log(3), rel=1e-6)
    for y in (LABELS.float().long(), LABELS[:, None][:, 0], F.one_hot(LABELS).float()):
        assert F.cross_entropy(ZEROS, y).item() == expected
    by_place = torch.zeros(2, 4, 3).movedim(2, 1)
    y = torch.zeros(2, 4, dtype=torch.long)
    assert F.cross_entropy(by_place, y).item() == expected


def test_one_output_with_the_label_0_costs_nothing_and_teaches_nothing(device):
    z = tensor64([[-30.0], [0.2], [5.0]], device).requires_grad_()
    loss = nn.CrossEntropyLoss()(z, torch.zeros(3, dtype=torch.long, device=device))
    loss.backward()
    assert loss.item() == 0 and z.grad.tolist() == [[0], [0], [0]]


# The picture
def test_the_picture_shows_the_losses_and_the_slopes_of_both_models(lesson):
    left, other = lesson.figure().axes
    x, y, _, _ = lesson.digits()
    torch.manual_seed(0)
    start = [p.detach().double().numpy() for p in nn.Linear(64, 10).parameters()]
    for line, twice in zip(left.lines[:2], (False, True), strict=True):
        expected, _, _ = descent(x.double().numpy(), y.numpy(), *start, 60, twice)
        assert len(line.get_ydata()) == 301
        np.testing.assert_allclose(line.get_ydata()[:60], expected, rtol=1e-3)
    assert left.lines[2].get_ydata()[0] == pytest.approx(math.log(1 + 9 / math.e))
    leads, once = other.lines[0].get_data()
    p = 1 / (1 + np.exp(-leads))
    np.testing.assert_allclose(once, p, rtol=1e-10)
    again = 1 / (1 + np.exp(1 - 2 * p))
    twice = other.lines[1].get_ydata()
    np.testing.assert_allclose(twice, again * 2 * p * (1 - p), rtol=1e-9)


# What is printed as theory does not come from the measurement beside it
def test_log_c_is_printed_from_theory(lesson):
    printed = printed_if_tripled(lesson, 4, "loss_of_equal_logits")
    rows = re.findall(r"(\d+) classes   loss (\S+)   log C (\S+)", printed)
    for classes, loss, theory in rows:
        log_c = math.log(int(classes))
        assert (theory, loss) == (f"{log_c:.4f}", f"{3 * log_c:.4f}")
    assert len(rows) == 4


def test_the_lowest_loss_and_the_best_lead_are_printed_from_theory(lesson, monkeypatch):
    printed = printed_if_tripled(lesson, 7, "smoothed_loss")
    assert f"best lead {math.log(91):.2f}\n" in printed
    entropy = -(0.91 * math.log(0.91) + 9 * 0.01 * math.log(0.01))
    assert f"lead   4.51   loss {3 * entropy:.4f}\n" in printed
    monkeypatch.setattr(lesson, "train", lambda *a, steps: [3.0] * steps)
    monkeypatch.setattr(lesson, "accuracy", lambda *a: 0.123)
    printed = printed_if_tripled(lesson, 5)
    assert f"lowest loss of twice      {math.log(1 + 9 / math.e):.4f}\n" in printed


def test_by_hand_and_by_autograd_are_two_ways(lesson):
    printed = printed_if_tripled(lesson, 3, "gradient_by_autograd")
    by_hand = re.findall(r"by hand +(.+)\n", printed)
    by_autograd = re.findall(r"by autograd +(.+)\n", printed)
    assert len(by_hand) == len(by_autograd) == 2
    p = softmax(np.array([[1.8, 1.1, 0.0]]))[0]
    for label, one, other in zip((0, 2), by_hand, by_autograd, strict=True):
        expected = p - np.eye(3)[label]
        assert [float(n) for n in one.split()] == pytest.approx(expected, abs=6e-3)
        assert [float(n) for n in other.split()] == pytest.approx(
            3 * expected, abs=6e-3
        )


def test_sections_2_and_7_print_the_losses_of_their_rows(lesson):
    printed = printed_if_tripled(lesson, 2, "cross_entropy")
    for p in (0.8, 0.4, 0.2):
        assert f"label {p}   loss {-3 * math.log(p):.4f}\n" in printed
    z = np.array([[1.8, 1.1, 0.0]])
    mean = losses_of(z.repeat(2, axis=0), [0, 1]).mean()
    assert f"by hand            {3 * mean:.4f}\n" in printed
    assert f"CrossEntropyLoss   {mean:.4f}\n" in printed
    printed = printed_if_tripled(lesson, 7)
    assert f"both rows         {(1 * 1 + 3 * 4) / 4:.2f}\n" in printed
    assert "the second alone  4.00\n" in printed
