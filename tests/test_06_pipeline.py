"""What lesson 06 claims."""

import math

import numpy as np
import pytest
import torch

EPS32 = 2.0**-23


def bowl_path(start, lr, steps, x=(1, 2, 3, 4), slope=2.0):
    """Gradient descent on mean((w x + b - slope x)^2) in float64, by its Hessian."""
    x = np.array(x, float)
    hessian = 2 * np.array([[np.mean(x * x), np.mean(x)], [np.mean(x), 1]])
    minimum, path = np.array([slope, 0.0]), [np.array(start, float)]
    for _ in range(steps):
        path.append(path[-1] - lr * hessian @ (path[-1] - minimum))
    return np.array(path)


def test_the_data_is_y_equals_2_x_in_rows(lesson, device):
    x, y = lesson.data(device)
    assert (x.tolist(), y.tolist()) == ([[1], [2], [3], [4]], [[2], [4], [6], [8]])
    assert (x.dtype, x.device.type, y.dtype) == (torch.float32, device, torch.float32)


@pytest.mark.parametrize(
    ("start", "lr"), [((0.0, 0.0), 0.05), ((-1.5, 3.0), 0.1), ((4.0, 1.0), 0.01)]
)
def test_every_rung_takes_the_path_of_the_bowl(lesson, device, start, lr):
    expected = bowl_path(start, lr, 60)
    paths = lesson.rungs(*lesson.data(device), start, lr, 60)
    assert list(paths) == ["by hand", "MSELoss, SGD", "nn.Linear", "nn.Module"]
    for path in paths.values():
        # Every step rounds anew; on a bowl that converges the roundings do not pile up.
        np.testing.assert_allclose(path, expected, atol=30 * EPS32 * np.abs(expected).max())


def test_the_rungs_hold_for_other_data(lesson, device):
    x = torch.tensor([[0.5], [-2.0]], device=device)
    expected = bowl_path((1.0, -1.0), 0.1, 20, x=(0.5, -2.0), slope=-3.0)
    for path in lesson.rungs(x, -3 * x, (1.0, -1.0), 0.1, 20).values():
        np.testing.assert_allclose(path, expected, atol=100 * EPS32)


def test_training_returns_the_loss_before_each_step(lesson, device):
    x, y = lesson.data(device)
    model = lesson.linear((1.0, 0.5)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = lesson.train(model, torch.nn.MSELoss(), optimizer, x, y, epochs=2)
    losses += lesson.train(model, torch.nn.MSELoss(), optimizer, x, y, epochs=1)
    x = np.array([1, 2, 3, 4])
    expected = [np.mean((w * x + b - 2 * x) ** 2) for w, b in bowl_path((1.0, 0.5), 0.05, 2)]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert all(type(loss) is float for loss in losses)


def test_one_batch_can_be_learned_by_heart(lesson, device):
    x, y = lesson.data(device)
    model = lesson.linear((0.0, 0.0)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = lesson.train(model, torch.nn.MSELoss(), optimizer, x, y, epochs=900)
    assert losses[0] == pytest.approx(7.5 * 4) and losses[-1] < 1e-9


def test_a_line_is_w_x_plus_b_and_knows_its_parameters(lesson):
    x = torch.tensor([[1.0], [-2.0]])
    for model in (lesson.Line((3.0, 0.25)), lesson.linear((3.0, 0.25))):
        assert model(x).tolist() == [[3.25], [-5.75]]
        assert [p.item() for p in model.parameters()] == [3.0, 0.25]
        assert all(p.requires_grad for p in model.parameters())


def test_path_by_pipeline_takes_any_model_and_its_two_parameters(lesson, device):
    x, y = lesson.data(device)
    model = lesson.Line((2.0, 1.0)).to(device)
    path = lesson.path_by_pipeline(model, model.parameters(), x, y, 0.1, 5)
    np.testing.assert_allclose(path, bowl_path((2.0, 1.0), 0.1, 5), atol=1e-6)
    by_hand = lesson.path_by_hand(x, y, (2.0, 1.0), 0.1, 5)
    np.testing.assert_allclose(by_hand, bowl_path((2.0, 1.0), 0.1, 5), atol=1e-6)


CURVATURE = np.array([1.0, 100.0])


def by_formula(name, steps):
    """The losses in the valley by each optimizer's published formula, in NumPy."""
    point, momentum, square = np.ones(2), np.zeros(2), np.zeros(2)
    losses = [50.5]
    for step in range(1, steps + 1):
        gradient = CURVATURE * point
        if name == "SGD":
            point = point - 2 / 101 * gradient
        elif name == "SGD, momentum":  # Polyak (1964), at his optimum for curvatures 1 and 100
            momentum = (9 / 11) ** 2 * momentum + gradient
            point = point - 4 / 121 * momentum
        else:  # Kingma and Ba (2015), algorithm 1
            momentum = 0.9 * momentum + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            mean, variance = momentum / (1 - 0.9**step), square / (1 - 0.999**step)
            point = point - 0.1 * mean / (np.sqrt(variance) + 1e-8)
        losses.append((CURVATURE * point**2).sum() / 2)
    return losses


@pytest.mark.parametrize("name", ["SGD", "SGD, momentum", "Adam"])
def test_optimizers_follow_their_published_formulas(lesson, device, name):
    losses = lesson.valley_losses(lesson.OPTIMIZERS[name], 100, device)
    assert (losses.dtype, losses.device.type, losses.requires_grad) == (
        torch.float64,
        device,
        False,
    )
    np.testing.assert_allclose(losses.cpu(), by_formula(name, 100), rtol=1e-6, atol=1e-12)


def test_plain_sgd_needs_444_steps_and_momentum_far_fewer(lesson, device):
    steps = {
        name: lesson.steps_to(lesson.valley_losses(make, 600, device), 1e-6)
        for name, make in lesson.OPTIMIZERS.items()
    }
    # The loss 50.5 shrinks by (99/101)^2 a step.
    assert steps["SGD"] == math.ceil(math.log(1e-6 / 50.5) / math.log((99 / 101) ** 2)) == 444
    assert steps["SGD, momentum"] < steps["Adam"] < steps["SGD"]


def test_steps_are_counted_to_where_the_losses_stay_low(lesson):
    assert lesson.steps_to(torch.tensor([5.0, 1.0, 4.0, 2.0, 1.5]), 2.0) == 3
    assert lesson.steps_to(torch.tensor([5.0, 3.0]), 2.0) == 2
    assert lesson.steps_to(torch.tensor([1.0, 0.5]), 2.0) == 0
    assert lesson.steps_to(torch.tensor([9.0, 2.0, 1.0]), 2.0) == 1


@pytest.mark.parametrize(("lr", "decay", "steps"), [(0.01, 0.1, 10), (0.02, 0.5, 7)])
def test_adams_decay_is_a_gradient_and_adamws_a_factor(lesson, lr, decay, steps):
    adamw = lesson.decayed(torch.optim.AdamW, lr, decay, steps)
    assert adamw == pytest.approx((1 - lr * decay) ** steps, rel=1e-12)
    w, momentum, square = 1.0, 0.0, 0.0
    for step in range(1, steps + 1):
        momentum = 0.9 * momentum + 0.1 * decay * w
        square = 0.999 * square + 0.001 * (decay * w) ** 2
        mean, variance = momentum / (1 - 0.9**step), square / (1 - 0.999**step)
        w -= lr * mean / (math.sqrt(variance) + 1e-8)
    assert lesson.decayed(torch.optim.Adam, lr, decay, steps) == pytest.approx(w, rel=1e-9)


def test_ten_steps_leave_adam_at_0_90035(lesson):
    assert f"{lesson.decayed(torch.optim.Adam, 0.01, 0.1, 10):.5f}" == "0.90035"


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_dropout_keeps_the_mean_and_only_eval_stops_it(lesson, device, p):
    n = 40_000
    mean, variance, agree = lesson.dropped(p, n, True, device)
    theory = p / (1 - p)
    assert abs(mean - 1) < 5 * math.sqrt(theory / n)
    # Two values only, 0 and 1 / (1 - p): the measured mean fixes the measured variance.
    assert variance == pytest.approx(mean * (1 / (1 - p) - mean), rel=1e-4)
    assert abs(variance - theory) < 0.05 and agree is False
    assert lesson.dropped(p, n, False, device) == (1.0, 0.0, True)


def test_no_grad_does_not_switch_dropout(device):
    with torch.no_grad():
        assert (torch.nn.Dropout(0.5)(torch.ones(1000, device=device)) == 0).any()


def test_a_scheduler_stepped_once_an_epoch_waits_30_epochs(lesson):
    rates = lesson.learning_rates(62, 3, once_a_batch=False)
    assert rates == pytest.approx([0.1 * 0.1 ** (epoch // 30) for epoch in range(62)])


@pytest.mark.parametrize("batches", [100, 7])
def test_a_scheduler_stepped_once_a_batch_does_not(lesson, batches):
    rates = lesson.learning_rates(5, batches, once_a_batch=True)
    assert rates == pytest.approx([0.1 * 0.1 ** (e * batches // 30) for e in range(5)])


def test_the_order_of_the_calls_decides(lesson, device):
    x, y = lesson.data(device)
    start, lr, steps = (0.5, -1.0), 0.05, 12

    def after(calls):
        return lesson.parameters_after(calls.split(), x, y, start, lr, steps)

    right = bowl_path(start, lr, steps)[-1]
    assert after("zero_grad backward step") == pytest.approx(right, abs=1e-5)
    assert after("zero_grad step backward") == start
    # Without zero_grad each step follows the sum of all gradients so far.
    total, here, numbers = np.zeros(2), np.array(start), np.array([1.0, 2.0, 3.0, 4.0])
    for _ in range(steps):
        error = here[0] * numbers + here[1] - 2 * numbers
        total = total + 2 * np.array([np.mean(error * numbers), np.mean(error)])
        here = here - lr * total
    assert after("backward step") == pytest.approx(here, abs=1e-4)
    assert after("backward zero_grad step") == start


def test_layers_in_a_list_are_not_trained(lesson):
    layer, last = 10 * 10 + 10, 10 + 1
    assert lesson.trainable(lesson.Deep(list)) == last == 11
    assert lesson.trainable(lesson.Deep(torch.nn.ModuleList)) == 3 * layer + last == 341
    frozen = lesson.Deep(torch.nn.ModuleList)
    frozen.last.bias.requires_grad_(False)
    assert lesson.trainable(frozen) == 340


@pytest.mark.parametrize(("n", "wrong", "size"), [(10_000, 16, 64), (10, 3, 4), (8, 1, 4)])
def test_the_mean_of_batch_means_weighs_the_last_batch_too_much(lesson, device, n, wrong, size):
    correct = np.arange(n) < n - wrong
    means = [correct[i : i + size].mean() for i in range(0, n, size)]
    measured = lesson.accuracies(torch.tensor(correct, device=device), size)
    assert measured == pytest.approx((np.mean(means), correct.mean()), rel=1e-14)
    if n == 10_000:
        assert measured == pytest.approx((156 / 157, 0.9984), rel=1e-14)


def test_a_kept_loss_keeps_two_nodes_a_step_and_a_number_none(lesson):
    # A product and a sum each step, and the accumulation into w once.
    for steps in (1, 5, 40):
        assert lesson.nodes_kept(steps, as_number=False) == 2 * steps + 1
        assert lesson.nodes_kept(steps, as_number=True) == 0


def test_a_metric_that_divides_by_itself_is_always_100(lesson, device):
    labels = torch.tensor([0, 1, 2, 2, 1], device=device)
    for predicted, honest in (([0, 1, 2, 2, 1], 100.0), ([0, 0, 2, 1, 0], 40.0)):
        predicted = torch.tensor(predicted, device=device)
        assert lesson.percent_right(predicted, labels) == (honest, 100.0)


def test_the_picture_shows_the_losses_of_the_three(lesson, device):
    (axes,) = lesson.figure(device).axes
    assert axes.get_yscale() == "log"
    assert [line.get_label() for line in axes.lines] == list(lesson.OPTIMIZERS)
    for line in axes.lines:
        expected = by_formula(line.get_label(), 400)
        assert len(line.get_ydata()) == 401
        np.testing.assert_allclose(line.get_ydata()[:60], expected[:60], rtol=1e-6)
