"""What lesson 06 claims."""

import ast
import copy
import functools
import itertools
import re
import tempfile
import textwrap
import types
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from helpers import (
    ROOT,
    assert_values,
    blocks,
    definitions,
    loud_messages,
    mended,
    needs_cuda,
    printed_if_tripled,
    read,
    warning_of_torch_save,
)
from reference import swings
from torch import nn

pytestmark = warning_of_torch_save

EPS32 = 2.0**-23
SCRIPT = ROOT / "lessons" / "06_pipeline.py"
CHAPTER = SCRIPT.with_suffix(".md")
FOUR_POINTS = [1, 2, 3, 4], [3, 5, 7, 9]  # the lesson's own
NO_LINE = [0.5, -1.0, 3.0], [2.0, 1.0, -4.0]  # no line meets these three
DATA = pytest.mark.parametrize(("x", "y"), [FOUR_POINTS, NO_LINE])


def rows(numbers, device):
    """The numbers in float32, of shape (n, 1)."""
    return torch.tensor(numbers, device=device, dtype=torch.float32)[:, None]


def bowl(x, y, lr, steps, reset=True):
    """(path of (w, b) from (0, 0), losses on the way) by mean((w x + b - y)^2).

    In the directions of the eigenvectors of the Hessian each distance to the minimum
    goes its own way: with reset it keeps the share 1 - lr eigenvalue.
    """
    design = np.stack([x, np.ones(len(x))], axis=1)
    minimum = np.linalg.lstsq(design, np.array(y, float), rcond=None)[0]
    eigenvalues, vectors = np.linalg.eigh(2 / len(x) * design.T @ design)
    if reset:
        shares = [(1 - lr * each) ** np.arange(steps + 1) for each in eigenvalues]
    else:
        shares = [swings(lr * each, steps) for each in eigenvalues]
    path = (minimum[:, None] - vectors * (vectors.T @ minimum) @ shares).T
    return path, np.mean((path @ design.T - y) ** 2, axis=1)


def assert_line(w, b, losses, expected, atol=1e-5):
    """Fail unless w, b and the losses are those of the bowl."""
    path, exact = expected
    assert (w, b) == pytest.approx(path[-1], abs=atol)
    # The loss is mean(residual^2): an error of atol in each residual.
    errors = 2 * atol * np.sqrt(exact[:-1]) + atol**2 + 4 * EPS32 * exact[:-1]
    assert len(losses) == len(path) - 1
    assert (np.abs(np.array(losses) - exact[:-1]) <= errors).all()


# 1. By hand: five lines make a step
def test_the_data_is_y_equals_2_x_plus_1_in_rows(lesson, device):
    for numbers, expected in zip(lesson.four_points(device), FOUR_POINTS, strict=True):
        column = np.array(expected)[:, None]
        assert_values(numbers, column, device, torch.float32, rtol=0)


@DATA
@pytest.mark.parametrize("lr", [0.01, 0.05, 0.11])
def test_five_lines_by_hand_roll_down_the_bowl(lesson, device, x, y, lr):
    w, b, losses = lesson.train_by_hand(rows(x, device), rows(y, device), lr, 60)
    assert_line(w, b, losses, bowl(x, y, lr, 60))
    assert {type(number) for number in (w, b, *losses)} == {float}


def test_the_first_loss_is_41_and_the_500th_is_0(lesson, device):
    w, b, losses = lesson.train_by_hand(*lesson.four_points(device), 0.05, 500)
    assert losses[0] == (9 + 25 + 49 + 81) / 4
    assert losses[-1] < 1e-8
    assert (w, b) == pytest.approx((2, 1), abs=3e-4)  # 0.985^500 is 5e-4


def test_a_rate_of_0_12_is_too_large_and_0_119_is_not(lesson, device):
    # The Hessian [[15, 5], [5, 2]] has the eigenvalues (17 +- sqrt(269)) / 2.
    limit = 4 / (17 + 269**0.5)
    assert 0.119 < limit < 0.12
    for lr in (0.119, 0.12):
        losses = lesson.train_by_hand(*lesson.four_points(device), lr, 600)[2]
        assert (losses[-1] > losses[0]) == (lr > limit)


def test_every_so_many_losses_are_printed(lesson, capsys):
    lesson.print_losses([9.0, 8.0, 7.0, 6.5, 6.25], every=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["step", "0", "loss", "9.0000"],
        ["step", "2", "loss", "7.0000"],
        ["step", "4", "loss", "6.2500"],
    ]


def test_section_1_prints_what_was_trained_by_hand(lesson):
    printed = printed_if_tripled(lesson, 1, "train_by_hand")
    assert "step    0   loss 123.0000\n" in printed
    end = re.search(r"at the end   w (.+)   b (.+)\n", printed)
    w, b = 3 * bowl(*FOUR_POINTS, 0.05, 500)[0][-1]
    assert [float(end[1]), float(end[2])] == pytest.approx([w, b], abs=1e-4)
    assert printed == printed_if_tripled(lesson, 1, "train_by_hand", "train")


# 2. The same step in PyTorch's words
def trained_line(lesson, device, x, y, lr, steps):
    """(w, b, losses) of nn.Linear from zero by the lesson's train."""
    model = lesson.line_from_zero(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = lesson.train(model, optimizer, rows(x, device), rows(y, device), steps)
    return model.weight.item(), model.bias.item(), losses


def test_a_line_from_zero_is_nn_linear_with_w_and_b_0(lesson, device):
    model = lesson.line_from_zero(device)
    assert type(model) is nn.Linear
    assert_values(model.weight, [[0]], device, torch.float32)
    assert_values(model.bias, [0], device, torch.float32)
    assert model.weight.requires_grad and model.bias.requires_grad


@DATA
@pytest.mark.parametrize("lr", [0.01, 0.05, 0.11])
def test_the_parts_of_pytorch_roll_down_the_bowl_as_the_lines_by_hand_do(
    lesson, device, x, y, lr
):
    w, b, losses = trained_line(lesson, device, x, y, lr, 60)
    assert_line(w, b, losses, bowl(x, y, lr, 60))
    by_hand = lesson.train_by_hand(rows(x, device), rows(y, device), lr, 60)
    assert (w, b) == pytest.approx(by_hand[:2], abs=1e-5)
    assert losses == pytest.approx(by_hand[2], rel=1e-5, abs=1e-7)


def test_a_loss_of_train_is_a_number_from_before_its_step(lesson, device):
    w, b, losses = trained_line(lesson, device, *FOUR_POINTS, 0.05, 1)
    assert losses == [41] and type(losses[0]) is float
    # the gradient is -2 (mean(x y), mean(y)) = (-35, -12)
    assert (w, b) == pytest.approx((0.05 * 35, 0.05 * 12), rel=1e-6)
    assert trained_line(lesson, device, *FOUR_POINTS, 0.05, 0) == (0, 0, [])


def test_train_takes_any_model_in_training_mode_and_any_optimizer(lesson, device):
    modes = []

    class Watched(nn.Linear):
        def forward(self, x):
            modes.append(self.training)
            return super().forward(x)

    model = Watched(1, 1).eval()
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.25)
    losses = lesson.train(model, optimizer, *lesson.four_points(device), steps=2)
    # The first step of Adam is lr against the sign: 0.25 x + 0.25 leaves 1.75 x + 0.75.
    expected = np.mean((1.75 * np.array([1, 2, 3, 4]) + 0.75) ** 2)
    assert losses == pytest.approx([41, expected], rel=1e-6)
    assert modes == [True, True]


def test_section_2_prints_what_the_parts_of_pytorch_have_trained(lesson):
    printed = printed_if_tripled(lesson, 2, "train")
    assert "step    0   loss 123.0000\n" in printed
    assert printed == printed_if_tripled(lesson, 2, "train", "train_by_hand")
    with mock.patch.object(lesson, "train", return_value=[0.5] * 500):
        untrained = printed_if_tripled(lesson, 2)
    assert "at the end   w 0.0000   b 0.0000\n" in untrained


# 3. A model of your own
def forward_by_hand(parameters, x):
    """(hidden, output) of two layers with tanh between them, in NumPy."""
    weight_1, bias_1, weight_2, bias_2 = parameters
    hidden = np.tanh(x @ weight_1.T + bias_1)
    return hidden, hidden @ weight_2.T + bias_2


def step_by_hand(parameters, x, y, lr):
    """The parameters one step of gradient descent on the mean squared error later."""
    hidden, output = forward_by_hand(parameters, x)
    at_output = 2 * (output - y) / len(x)
    at_hidden = at_output @ parameters[2] * (1 - hidden**2)  # tanh' = 1 - tanh^2
    gradients = (
        at_hidden.T @ x,
        at_hidden.sum(axis=0),
        at_output.T @ hidden,
        at_output.sum(axis=0),
    )
    return [p - lr * g for p, g in zip(parameters, gradients, strict=True)]


def loss_by_hand(parameters, x, y):
    return np.mean((forward_by_hand(parameters, x)[1] - y) ** 2)


def in_numpy(values):
    """A list of the tensors as arrays of float64."""
    return [value.detach().cpu().double().numpy() for value in values]


def test_the_network_has_8_numbers_between_two_layers(lesson):
    shapes = {name: tuple(p.shape) for name, p in lesson.Network().named_parameters()}
    assert shapes == {
        "first.weight": (8, 1),
        "first.bias": (8,),
        "second.weight": (1, 8),
        "second.bias": (1,),
    }


def test_the_network_is_a_sum_of_eight_curves(lesson, device):
    network, x = lesson.Network().to(device), rows([-2.5, 0.0, 0.75, 4.0], device)
    output = forward_by_hand(in_numpy(network.parameters()), *in_numpy([x]))[1]
    rounding = {"rtol": 0, "atol": 20 * EPS32}
    assert_values(network(x), output, device, torch.float32, **rounding)


@pytest.mark.parametrize("lr", [0.05, 0.1])
def test_the_same_loop_trains_the_network_by_backprop(lesson, device, lr):
    x = rows([-2, -1, 0, 1, 2, 0.5], device)
    network = lesson.Network().to(device)
    parameters, exact = in_numpy(network.parameters()), []
    arrays = in_numpy([x, x**2])
    for _ in range(100):
        exact.append(loss_by_hand(parameters, *arrays))
        parameters = step_by_hand(parameters, *arrays, lr)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    losses = lesson.train(network, optimizer, x, x**2, 100)
    np.testing.assert_allclose(losses, exact, rtol=1e-4, atol=1e-5)
    for trained, expected in zip(network.parameters(), parameters, strict=True):
        rounding = {"rtol": 0, "atol": 1e-4}
        assert_values(trained, expected, device, torch.float32, **rounding)


def test_the_best_line_through_the_parabola_leaves_2_8_and_the_network_nothing(
    lesson, device
):
    x = rows([-2, -1, 0, 1, 2], device)
    line, network = nn.Linear(1, 1).to(device), lesson.Network().to(device)
    last = []
    for model in (line, network):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        last.append(lesson.train(model, optimizer, x, x**2, 1000)[-1])
    # w = 0, b = mean(x^2) = 2; the eigenvalues are 4 and 2, and 0.9^1000 is nothing
    assert (line.weight.item(), line.bias.item()) == pytest.approx((0, 2), abs=1e-5)
    assert last[0] == pytest.approx((4 + 1 + 4 + 1 + 4) / 5, rel=1e-5)
    # twenty seeds ended between 3e-9 and 5e-4
    assert last[1] < 0.01


# 4. A whole program
@functools.cache
def watched_program(lesson, device):
    """A run of program(device): what it printed and saved, what its model was given.

    models, starts: the models that it made, and their numbers at first
    seen: (input, whether training, whether recording) of each call of a model
    targets: the targets of each call of the loss function, in the same order
    """
    run = types.SimpleNamespace(models=[], starts=[], seen=[], targets=[])
    mean_squared_error = nn.MSELoss.forward

    class Watched(lesson.Network):
        def __init__(self):
            super().__init__()
            run.models.append(self)
            run.starts.append(copy.deepcopy(self.state_dict()))

        def forward(self, x):
            run.seen.append((x, self.training, torch.is_grad_enabled()))
            return super().forward(x)

    def watched(loss_function, prediction, target):
        run.targets.append(target)
        return mean_squared_error(loss_function, prediction, target)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(lesson, "Network", Watched),
        mock.patch.object(nn.MSELoss, "forward", watched),
        mock.patch("builtins.print") as printed,
    ):
        path = Path(folder) / "flats.pt"
        lesson.program(device, path)
        run.saved = torch.load(path, map_location="cpu", weights_only=True)
        run.files = [each.name for each in Path(folder).iterdir()]
    run.printed = [call.args[0] for call in printed.call_args_list]
    return run


def splits(run):
    """[training (x, y), validation (x, y), test (x, y)] of a watched program."""
    pairs = [(x, y) for (x, _, _), y in zip(run.seen[:-1], run.targets, strict=True)]
    return [pairs[0], pairs[1], pairs[-1]]


def test_the_program_looks_at_the_validation_rows_6_times_and_at_the_test_rows_once(
    lesson, device
):
    run = watched_program(lesson, device)
    (x_train, _), (x_valid, _), (x_test, _) = splits(run)
    expected = []
    for step in range(1501):
        expected.append((x_train, True, True))
        if step % 300 == 0:
            expected.append((x_valid, False, False))
    expected.append((x_test, False, False))
    *looks, (flat, training, _) = run.seen
    assert len(looks) == len(expected)
    for seen, wanted in zip(looks, expected, strict=True):
        assert seen[0] is wanted[0] and seen[1:] == wanted[1:]
    assert flat.tolist() == [[0.5]] and not training


def test_the_flats_are_600_200_and_200_others(lesson, device):
    parts = splits(watched_program(lesson, device))
    assert [tuple(x.shape) for x, _ in parts] == [(600, 1), (200, 1), (200, 1)]
    assert [tuple(y.shape) for _, y in parts] == [(600, 1), (200, 1), (200, 1)]
    x = np.concatenate(in_numpy([x for x, _ in parts]))
    assert len({tuple(row) for row in x}) > 990  # 1000 of 2^24 numbers: one flat each
    assert 0 <= x.min() < 0.05 and 1.95 < x.max() <= 2  # 0.975^1000 is 1e-11


def test_what_the_curve_misses_is_the_noise(lesson, device):
    parts = splits(watched_program(lesson, device))
    for x, y in (in_numpy(part) for part in parts):
        noise, n = y - 1 - x**2, len(x)
        # Six standard deviations: 0.1 / sqrt(n) for the mean, and 0.01 sqrt(2 / n) for
        # the mean of the squares, as the square of a normal number has the variance 2.
        assert abs(np.mean(noise)) < 6 * 0.1 / n**0.5
        assert abs(np.mean(noise**2) - 0.01) < 6 * 0.01 * (2 / n) ** 0.5


def test_the_program_prints_and_saves_what_backprop_by_hand_comes_to(lesson, device):
    run = watched_program(lesson, device)
    train, valid, test = (in_numpy(part) for part in splits(run))
    parameters, lines = in_numpy(run.starts[0].values()), []
    for step in range(1501):
        loss = loss_by_hand(parameters, *train)
        parameters = step_by_hand(parameters, *train, 0.05)
        if step % 300 == 0:
            lines.append([step, loss, loss_by_hand(parameters, *valid)])
    price = forward_by_hand(parameters, np.array([[0.5]]))[1].item()
    printed = [
        ["step", "train", "validation"],
        ["on flats that it has not seen: loss"],
        ["a flat of 50 square metres:", "times 100,000"],
    ]
    expected = [*lines, [loss_by_hand(parameters, *test)], [50, price, 100_000]]
    kinds = [*(printed[:1] * 6), *printed[1:]]
    assert len(run.printed) == len(kinds)
    for line, words, numbers in zip(run.printed, kinds, expected, strict=True):
        assert all(word in line for word in words)
        found = re.findall(r"\d[\d,]*(?:\.\d+)?", line)
        for shown, number in zip(found, numbers, strict=True):
            digits = len(shown.partition(".")[2])
            # half a unit of the last digit, and what float32 has lost in 1501 steps
            unit = 0.5 * 10.0**-digits
            assert abs(float(shown.replace(",", "")) - number) < unit * 1.001 + 2e-5
    for saved, exact in zip(run.saved.values(), parameters, strict=True):
        np.testing.assert_allclose(saved, exact, rtol=0, atol=1e-4)


def test_the_file_holds_the_state_dict_and_fills_another_model(lesson, device):
    run = watched_program(lesson, device)
    trained, loaded = run.models
    assert run.files == ["flats.pt"]
    assert list(run.saved) == list(trained.state_dict())
    for name, values in trained.state_dict().items():
        assert run.saved[name].equal(values.cpu())
        assert loaded.state_dict()[name].equal(values.cpu())
        assert not run.starts[1][name].equal(values.cpu())
    assert not loaded.training


def test_section_4_leaves_no_file_behind(lesson, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    paths = []
    monkeypatch.setattr(lesson, "program", lambda device, path: paths.append(path))
    lesson.show_4("cpu")
    assert Path(paths[0]).is_relative_to(tmp_path) and not list(tmp_path.iterdir())


def without_docstring(node, text):
    """The lines of a class or function behind its docstring."""
    return text.splitlines()[node.body[0].end_lineno : node.end_lineno]


def test_train_py_of_the_chapter_is_the_program_of_the_script():
    text, (network, program) = (
        read(SCRIPT),
        (definitions(SCRIPT)[name] for name in ("Network", "program")),
    )
    assert all(ast.get_docstring(node) for node in (network, program))
    body = textwrap.dedent("\n".join(without_docstring(program, text)))
    script = [
        "class Network(nn.Module):",
        *without_docstring(network, text),
        *body.replace('print(f"   ', 'print(f"').splitlines(),
    ]
    (block,) = (code for _, code in blocks(CHAPTER) if code.startswith("# train.py"))
    aside = ("import ", "from ", "device = ", "path = ")
    chapter = [line for line in block.splitlines()[1:] if not line.startswith(aside)]
    assert [line for line in chapter if line] == [line for line in script if line]
    assert [line for line in block.splitlines() if line.startswith(aside)] == [
        "import torch",
        "from torch import nn",
        'device = "cuda" if torch.cuda.is_available() else "cpu"',
        'path = "flats.pt"',
    ]


# 5. Mistakes without an error message
@DATA
def test_without_the_reset_w_and_b_swing_for_ever(lesson, device, x, y):
    losses = lesson.without_reset(rows(x, device), rows(y, device), 200)
    exact = bowl(x, y, 0.05, 200, reset=False)[1][:-1]
    np.testing.assert_allclose(losses, exact, rtol=1e-4, atol=5e-4)


@DATA
def test_an_optimizer_of_other_parameters_leaves_the_loss_where_it_is(
    lesson, device, x, y
):
    losses = lesson.with_the_old_optimizer(rows(x, device), rows(y, device), 9)
    assert losses == pytest.approx([np.mean(np.square(y))] * 9, rel=4 * EPS32)


@DATA
def test_a_flat_y_asks_for_the_mean_of_y_everywhere(lesson, device, x, y):
    # mean_ij (p_i - y_j)^2 = mean_i (p_i - mean(y))^2 + mean_j (y_j - mean(y))^2
    losses = lesson.with_a_flat_y(rows(x, device), rows(y, device), 200)
    exact = bowl(x, [np.mean(y)] * len(x), 0.05, 200)[1][:-1] + np.var(y)
    np.testing.assert_allclose(losses, exact, rtol=1e-5)


def test_a_flat_y_ends_at_the_loss_5_of_the_mean_6(lesson, device):
    losses = lesson.with_a_flat_y(*lesson.four_points(device), 1000)
    # y = 3, 5, 7, 9 is 3, 1, 1 and 3 away from 6; 0.985^2000 is nothing
    assert losses[-1] == pytest.approx((9 + 1 + 1 + 9) / 4, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        (
            "without_reset",
            "        optimizer.step()\n",
            "        optimizer.step()\n        optimizer.zero_grad()\n",
        ),
        (
            "with_the_old_optimizer",
            "    model = line_from_zero(x.device)  # WRONG",
            "    # WRONG",
        ),
        ("with_a_flat_y", "y.flatten()", "y"),
    ],
)
def test_each_mistake_is_the_only_one_in_its_loop(lesson, device, name, wrong, right):
    points = lesson.four_points(device)
    losses = mended(lesson, name, wrong, right)(*points, 200)
    path, exact = bowl(*FOUR_POINTS, 0.05, 200)
    assert_line(*path[-1], losses, (path, exact))


@pytest.mark.parametrize(
    "order", [*itertools.permutations(["backward", "step", "reset"])]
)
def test_only_a_reset_between_backward_and_step_stops_the_training(order):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    start = model.weight.item()
    for _ in range(3):
        loss = model(torch.ones(1, 1)).square().mean()
        calls = {"step": optimizer.step, "reset": optimizer.zero_grad}
        calls["backward"] = loss.backward
        for name in order:
            calls[name]()
    # round the clock, the call behind backward is the reset
    following = order[(order.index("backward") + 1) % 3]
    assert (model.weight.item() == start) == (following == "reset")


def test_no_step_at_all_moves_nothing():
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    start = copy.deepcopy(model.state_dict())
    for _ in range(3):
        model(torch.ones(1, 1)).square().mean().backward()
        optimizer.zero_grad()
    assert all(start[name].equal(now) for name, now in model.state_dict().items())


# 6. Layers that the model does not know
LAYER, LAST = 10 * 10 + 10, 10 + 1


@pytest.mark.parametrize(
    ("name", "count", "layers"),
    [
        ("InAList", LAST, 3),
        ("InAModuleList", 3 * LAYER + LAST, 3),
        ("ThreeTimesTheSame", LAYER + LAST, 1),
    ],
)
def test_only_layers_in_a_module_list_are_trained_each_of_them(
    lesson, name, count, layers
):
    model = getattr(lesson, name)()
    assert lesson.numbers_to_train(model) == count
    hidden = list(model.hidden)
    shapes = [(each.in_features, each.out_features) for each in [*hidden, model.last]]
    assert shapes == [(10, 10), (10, 10), (10, 10), (10, 1)]
    assert len({id(layer) for layer in hidden}) == layers


def test_the_numbers_of_a_layer_are_its_weights_and_biases(lesson):
    assert lesson.numbers_to_train(nn.Linear(3, 4)) == 3 * 4 + 4
    assert lesson.numbers_to_train(lesson.Network()) == 8 + 8 + 8 + 1
    assert lesson.numbers_to_train(nn.Tanh()) == 0


# 7. The loss keeps its graph
@pytest.mark.parametrize("steps", [1, 7, 40])
def test_a_kept_loss_keeps_two_operations_a_step_and_a_number_none(lesson, steps):
    assert lesson.operations_kept(steps, as_number=False) == 2 * steps
    assert lesson.operations_kept(steps, as_number=True) == 0


def test_eval_goes_on_recording_and_no_grad_does_not():
    model, x = nn.Linear(2, 1).eval(), torch.ones(3, 2)
    assert model(x).requires_grad
    with torch.no_grad():
        assert not model(x).requires_grad


# Go wrong
def test_mse_loss_warns_of_a_flat_y_and_computes_all_pairs():
    prediction, y = torch.tensor([[1.0], [4.0]]), torch.tensor([2.0, 8.0])
    with pytest.warns(UserWarning, match="Using a target size"):
        loss = nn.MSELoss()(prediction, y)
    assert loss.item() == (1 + 49 + 4 + 16) / 4


class Misspelt(nn.Module):
    def _init_(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x):
        return self.layer(x)


class WithoutSuper(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(1, 1)


class AllInAList(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(1, 1)]


def flat_target():
    prediction, y = torch.ones(3, 1), torch.ones(3)
    with pytest.warns(UserWarning) as warned:
        nn.MSELoss()(prediction, y)
    raise warned[0].message


def condition():
    if torch.tensor([1.0, 2.0]) > 0:
        pass


def both():
    return torch.tensor([True, False]) and torch.tensor([True, True])


AMBIGUOUS = "Boolean value of Tensor with more than one value is ambiguous"
EMPTY = "optimizer got an empty parameter list"
ELSEWHERE = "Expected all tensors to be on the same device"
MISTAKES = [
    ("Using a target size", flat_target),
    (EMPTY, lambda: torch.optim.SGD(Misspelt().parameters(), lr=0.1)),
    (EMPTY, lambda: torch.optim.SGD(AllInAList().parameters(), lr=0.1)),
    ("cannot assign module before Module.__init__() call", WithoutSuper),
    ("object has no attribute", lambda: Misspelt()(torch.ones(1, 1))),
    (AMBIGUOUS, condition),
    (AMBIGUOUS, both),
    (AMBIGUOUS, lambda: nn.MSELoss(torch.ones(3, 1), torch.ones(3, 1))),
]


@pytest.mark.parametrize(("message", "mistake"), MISTAKES)
def test_a_loud_mistake_says_what_the_chapter_quotes(message, mistake):
    with pytest.raises(Exception, match=re.escape(message)):
        mistake()
    assert message in read(CHAPTER).replace("\n", " ")


@needs_cuda
def test_a_model_on_the_card_refuses_data_that_is_not():
    with pytest.raises(RuntimeError, match=ELSEWHERE):
        nn.Linear(1, 1).to("cuda")(torch.ones(1, 1))


def test_every_message_of_the_table_is_made():
    made = {message for message, _ in MISTAKES} | {ELSEWHERE}
    assert loud_messages(CHAPTER) <= made


# The picture
def test_the_picture_shows_a_flat_line_and_the_network_through_the_points(
    lesson, device
):
    starts = []

    class Watched(lesson.Network):
        def __init__(self):
            super().__init__()
            starts.append(in_numpy(self.parameters()))

    with mock.patch.object(lesson, "Network", Watched):
        (axes,) = lesson.figure(device).axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["nn.Linear", "Network", "the five points"]
    x = np.array([-2, -1, 0, 1, 2.0])[:, None]
    points = np.squeeze(lines["the five points"].get_data())
    np.testing.assert_array_equal(points, np.transpose(np.hstack([x, x**2])))
    places = np.linspace(-2.5, 2.5, 101)
    for label in ("nn.Linear", "Network"):
        drawn = np.squeeze(lines[label].get_xdata())
        np.testing.assert_allclose(drawn, places, atol=1e-6)
    flat = np.squeeze(lines["nn.Linear"].get_ydata())
    np.testing.assert_allclose(flat, 2, atol=1e-5)
    (parameters,) = starts
    for _ in range(1000):
        parameters = step_by_hand(parameters, x, x**2, 0.05)
    curve = np.squeeze(lines["Network"].get_ydata())
    by_hand = forward_by_hand(parameters, places[:, None])[1].squeeze()
    np.testing.assert_allclose(curve, by_hand, rtol=0, atol=1e-4)
