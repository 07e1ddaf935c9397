"""What lesson 16 claims."""

import functools
import itertools
import re
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import (
    ROOT,
    assert_values,
    loud_messages,
    mended,
    printed_if_tripled,
    read,
    tensor64,
)
from reference import adam_step, softmax
from torch import nn

CHAPTER = ROOT / "lessons" / "16_convolution.md"
windows_of = np.lib.stride_tricks.sliding_window_view
# Of sums of some dozens of numbers near 1.
assert_close = functools.partial(assert_values, rtol=1e-11, atol=1e-12)
NAMES = ("FullyConnected", "Strided", "Pooled")
# The accuracy on digits moved by 0, 1 and 2 pixels over the seeds 100 to 119, which the
# lesson does not use (each with a split and a start of its own): mean and standard
# deviation. In 20 of 20 Pooled is ahead of both others when moved by 1 (by 0.038 of
# Strided and by 0.014 of FullyConnected at least) and by 2 (by 0.058 and 0.075).
# Strided less FullyConnected is between -0.086 and 0.111; its means over the seeds are
# 0.007, -0.007 and -0.003.
MEAN = {"FullyConnected": (0.912, 0.433, 0.112), "Strided": (0.919, 0.426, 0.109)}
MEAN |= {"Pooled": (0.907, 0.546, 0.240)}
STD = {"FullyConnected": (0.020, 0.023, 0.014), "Strided": (0.018, 0.035, 0.026)}
STD |= {"Pooled": (0.032, 0.047, 0.027)}


def normal(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape)


def correlate(x, weight, stride=1, padding=0):
    """conv2d in NumPy: a view of all windows, then a sum over indices."""
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    windows = windows_of(x, weight.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,dcij->ndhw", windows, weight, optimize=True)


def table():
    rows = np.loadtxt(ROOT / "data" / "digits.csv", delimiter=",", skiprows=1)
    return rows[:, 1:].reshape(-1, 1, 8, 8) / 16, rows[:, 0].astype(int)


def moved_by(x, down, right):
    """Pictures in the middle of canvases of 12 x 12, rolled: none goes over the rim."""
    canvases = np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)])
    return np.roll(canvases, (down, right), axis=(2, 3))


# What several sections use
def test_x_is_the_files_grey_levels_divided_by_16_and_y_its_digits(lesson, device):
    x, y = lesson.digits(device)
    grey, digit = table()
    assert_values(x, grey, device, torch.float32, rtol=0)  # sixteenths are exact
    assert_values(y, digit, device, torch.int64)
    assert (x.min(), x.max(), x.shape) == (0, 1, (1797, 1, 8, 8))
    assert set(digit) == set(range(10))


@pytest.mark.parametrize(("down", "right"), [(0, 0), (-2, 0), (0, 1), (2, -2)])
def test_on_a_canvas_of_12_a_digit_moves_without_losing_ink(
    lesson, device, down, right
):
    x = normal(3, 1, 8, 8)
    found = lesson.canvas(tensor64(x, device), down, right)
    assert_values(found, moved_by(x, down, right), device, rtol=0)


def test_the_noise_is_normal_the_same_on_each_call_and_nobody_elses(lesson, device):
    state = torch.get_rng_state()
    found = lesson.noise(50, 2, 100, device=device)
    assert torch.equal(state, torch.get_rng_state())
    assert_values(found, lesson.noise(50, 2, 100), device, rtol=0)
    # Standard errors of 10,000 numbers: of the mean 0.01, of the mean square 0.014.
    assert found.mean().item() == pytest.approx(0, abs=0.05)
    assert found.square().mean().item() == pytest.approx(1, abs=0.07)


def test_training_is_three_epochs_of_adam_on_batches_of_64_each_in_a_new_order(
    lesson, device
):
    x, y = normal(150, 6), np.arange(150) * 7 % 4
    torch.manual_seed(0)
    model = nn.Linear(6, 4).to(device, torch.float64)
    theta = np.vstack([p.detach().cpu().numpy().T for p in model.parameters()])
    state = torch.get_rng_state()
    lesson.train(model, tensor64(x, device), torch.tensor(y, device=device))
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    torch.set_rng_state(state)
    orders = [torch.randperm(150).numpy() for _ in range(3)]
    batches = [order[i : i + 64] for order in orders for i in (0, 64, 128)]
    a, targets = np.column_stack([x, np.ones(150)]), np.eye(4)[y]
    mean = square = 0
    for step, rows in enumerate(batches, start=1):
        error = softmax(a[rows] @ theta) - targets[rows]
        gradient = a[rows].T @ error / len(rows)
        theta, mean, square = adam_step(theta, gradient, mean, square, step, lr=0.01)
    found = np.vstack([p.detach().cpu().numpy().T for p in model.parameters()])
    np.testing.assert_allclose(found, theta, rtol=1e-9, atol=1e-10)


def test_numbers_of_a_vector_stand_in_columns(lesson):
    assert lesson.as_text(torch.tensor([1.0, -22.346])) == "  1.00 -22.35"
    assert lesson.as_text(torch.tensor([8.0]), 0) == "     8"


# 1. A sum over a window
@pytest.mark.parametrize(
    ("height", "width", "k"), [(4, 4, 2), (5, 7, 3), (3, 9, 1), (6, 4, 4)]
)
def test_the_loops_are_a_sum_over_each_window_and_conv2d(
    lesson, device, height, width, k
):
    x, kernel = normal(height, width), normal(k, k, seed=2)
    expected = correlate(x[None, None], kernel[None, None])[0, 0]
    ours = tensor64(x, device), tensor64(kernel, device)
    assert_close(lesson.convolve(*ours), expected, device)
    assert_close(
        F.conv2d(ours[0][None, None], ours[1][None, None])[0, 0], expected, device
    )


def test_the_small_picture_and_its_sums_are_those_worked_out_by_hand(lesson, device):
    picture, kernel = lesson.small_picture(device), lesson.left_to_right(device)
    rows = [[1, 1, 5, 5]] * 3 + [[3, 3, 3, 3]]
    assert_values(picture, rows, device, torch.float32, rtol=0)
    assert_values(kernel, [[-1, 1], [-1, 1]], device, torch.float32, rtol=0)
    # differences to the right, of two rows each; and the same downwards
    right = [[0, 8, 0], [0, 8, 0], [0, 4, 0]]
    down = [[0, 0, 0], [0, 0, 0], [4, 0, -4]]
    assert_values(lesson.convolve(picture, kernel), right, device, torch.float32)
    assert_values(lesson.convolve(picture, kernel.T), down, device, torch.float32)


def test_it_is_a_correlation_and_only_with_the_kernel_turned_round_a_convolution(
    lesson, device
):
    x, weight = normal(7), normal(3, seed=2)
    picture, kernel = np.zeros((7, 7)), np.zeros((3, 3))
    # one row in the middle: it meets row 3 alone
    picture[3], kernel[1] = x, weight
    row = lesson.convolve(tensor64(picture, device), tensor64(kernel, device))[2]
    assert_close(row, np.correlate(x, weight, "valid"), device)
    assert_close(row, np.convolve(x, weight[::-1], "valid"), device)
    assert np.abs(row.cpu().numpy() - np.convolve(x, weight, "valid")).max() > 0.1


def test_section_1_prints_the_sums_of_the_loops(lesson):
    printed = printed_if_tripled(lesson, 1, "convolve").splitlines()
    assert printed[3:6] == ["        0     24      0"] * 2 + ["        0     12      0"]
    assert printed[7:9] == ["        0      0      0"] * 2
    assert printed[9].split() == ["12", "0", "-12"]


def test_a_layer_finds_the_kernel_of_the_chapter_from_any_start():
    # The loss is quadratic: at a rate below 2 / the largest eigenvalue of its Hessian
    # each distance shrinks by |1 - lr eigenvalue| a step, whatever the start was.
    x = table()[0][:100]
    rows = windows_of(x, (2, 2), axis=(2, 3)).reshape(-1, 4)
    eigenvalues = np.linalg.eigvalsh(2 * rows.T @ rows / len(rows))
    assert np.abs(1 - 0.5 * eigenvalues).max() ** 300 < 0.005 / 2  # starts: within 2


# 2. Sizes and parameters
def test_the_formula_counts_the_windows_that_begin_and_end_inside(lesson):
    for size, k in itertools.product(range(3, 15), (1, 2, 3, 4, 5)):
        for stride, padding in itertools.product((1, 2, 3), (0, 1, 2)):
            if size + 2 * padding < k:
                continue
            found = lesson.size_out(size, k, stride, padding)
            end = size + 2 * padding
            assert found == sum(i + k <= end for i in range(0, end, stride))
            row, kernel = torch.zeros(1, 1, size), torch.zeros(1, 1, k)
            out = F.conv1d(row, kernel, stride=stride, padding=padding)
            assert out.shape == (1, 1, found)
    assert lesson.size_out(8, 3) == 6


def test_the_size_by_the_formula_and_the_measured_one_are_two(lesson):
    printed = printed_if_tripled(lesson, 2, "size_out")
    for size in (10, 12, 6):
        measured = f"(5, 8, {size}, {size})\n"
        assert (
            f"{measured}   by the formula         {3 * size} x {3 * size}\n" in printed
        )


def test_parameters_are_counted_by_the_kernels_and_not_by_the_picture(lesson):
    assert lesson.count(nn.Conv2d(1, 8, 3)) == 8 * (9 + 1) == 80
    assert lesson.count(nn.Conv2d(8, 16, 3)) == 16 * (8 * 9 + 1)
    assert lesson.count(nn.Linear(144, 800)) == 144 * 800 + 800 == 116_000


@pytest.mark.parametrize(
    ("name", "shapes", "parameters"),
    [
        ("FullyConnected", [(18, 144), (10, 18)], 2800),
        ("Strided", [(8, 1, 3, 3), (16, 8, 3, 3), (10, 144)], 2698),
        ("Pooled", [(8, 1, 3, 3), (16, 8, 3, 3), (10, 144)], 2698),
    ],
)
def test_a_network_computes_what_its_parameters_say(
    lesson, device, name, shapes, parameters
):
    torch.manual_seed(5)
    model = getattr(lesson, name)().double().to(device)
    found = dict(model.named_parameters())
    assert [p.shape for name, p in found.items() if name.endswith("weight")] == shapes
    assert lesson.count(model) == parameters
    x = np.abs(normal(6, 1, 12, 12))
    assert_close(model(tensor64(x, device)), logits(name, model, x), device, rtol=1e-10)


def logits(name, model, x):
    """What a network says, in NumPy, from its parameters alone."""
    *hidden, last = model.children()
    stride = 2 if name == "Strided" else 1
    for layer in hidden:
        weight, bias = (p.detach().cpu().double().numpy() for p in layer.parameters())
        if weight.ndim == 4:
            x = correlate(x, weight, stride, padding=1) + bias[:, None, None]
        else:
            x = x.reshape(len(x), -1) @ weight.T + bias
        x = np.maximum(x, 0)
        if name == "Pooled":
            n, channels, height, width = x.shape
            pairs = x.reshape(n, channels, height // 2, 2, width // 2, 2)
            x = pairs.max(axis=(3, 5))
    weight, bias = (p.detach().cpu().double().numpy() for p in last.parameters())
    return x.reshape(len(x), -1) @ weight.T + bias


# 3. It is a matrix
@pytest.mark.parametrize(("k", "size"), [(3, 8), (5, 6), (2, 3)])
def test_the_matrix_holds_the_kernel_in_each_row_at_its_windows_place(
    lesson, device, k, size
):
    kernel, x = normal(k, k), normal(1, 1, size, size, seed=2)
    out = size - k + 1
    expected = np.zeros((out, out, size, size))
    for i, j in itertools.product(range(out), range(out)):
        expected[i, j, i : i + k, j : j + k] = kernel
    matrix = lesson.matrix_of(tensor64(kernel, device), size)
    assert_values(matrix, expected.reshape(out**2, size**2), device, rtol=0)
    product = matrix @ tensor64(x.ravel(), device)
    assert_close(product, correlate(x, kernel[None, None]).ravel(), device)


def test_the_matrix_and_conv2d_are_printed_apart(lesson):
    # 3 x 3 with the weights 1 to 9, on the first digit's first three rows
    x = table()[0][:1]
    sums = correlate(x, np.arange(1.0, 10.0).reshape(1, 1, 3, 3))[0, 0, 0]
    printed = printed_if_tripled(lesson, 3, "matrix_of")
    for words, expected in [("by A", 3 * sums), ("by F.conv2d", sums)]:
        (row,) = re.findall(rf"   first row.*{words} +(.+)\n", printed)
        numbers = [float(number) for number in row.split()]
        assert numbers == pytest.approx(expected, abs=0.0051)


def test_36_windows_of_9_weights_are_324_numbers_that_are_not_0(lesson, capsys):
    lesson.show_3("cpu")
    printed = capsys.readouterr().out
    assert "a matrix of shape (36, 64)\n" in printed
    assert f"not 0       {6 * 6 * 9}\n" in printed
    assert f"among them    {3 * 3}\n" in printed


# 4. What moves in moves out
def rows_of_sums(lesson, x, stride):
    """The sums of the lesson's kernel that are not 0, row by row, from NumPy."""
    kernel = lesson.noise(1, 1, 3, 3).numpy()
    sums = correlate(x, kernel, stride, padding=1)[0, 0].round(9)
    return [set(row[row != 0].tolist()) for row in sums]


def digits_with_different_sums():
    """The first digit: no two windows of one row of it are equal, unless white."""
    return table()[0][:1]


@pytest.mark.parametrize(("stride", "far"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_digit_with_white_around_moves_along_but_by_odd_moves_with_a_stride_of_2(
    lesson, device, stride, far
):
    x = digits_with_different_sums()
    for down, right in ((0, far), (0, -far)):
        still, moved = moved_by(x, 0, 0), moved_by(x, down, right)
        old, new = (
            rows_of_sums(lesson, still, stride),
            rows_of_sums(lesson, moved, stride),
        )
        again = sum(len(a & b) for a, b in zip(old, new, strict=True))
        of = sum(map(len, new))
        found = lesson.found_again(
            tensor64(still, device), tensor64(moved, device), stride
        )
        assert found == (again, of)
        assert again == (of if far % stride == 0 else 0)


@pytest.mark.parametrize(("stride", "far"), [(1, 1), (1, 2), (2, 2)])
def test_what_moves_along_comes_so_many_strides_later(lesson, stride, far):
    kernel = lesson.noise(1, 1, 3, 3).numpy()
    for x in table()[0][:20, None]:
        still, moved = (
            correlate(moved_by(x, 0, right), kernel, stride, padding=1)
            for right in (0, far)
        )
        places = far // stride
        assert_close(torch.from_numpy(moved[..., places:]), still[..., :-places])


def test_a_sum_counts_as_found_only_in_its_own_row_and_if_it_is_not_0(lesson, device):
    # a single 1 shows the kernel, turned round
    picture, lower = np.zeros((2, 1, 1, 12, 12))
    picture[0, 0, 4, 4] = lower[0, 0, 8, 4] = 1
    picture, lower = tensor64(picture, device), tensor64(lower, device)
    assert lesson.found_again(picture, picture, 1) == (9, 9)
    assert lesson.found_again(picture, lower, 1) == (0, 9)
    assert lesson.found_again(picture, 2 * picture, 1) == (0, 9)
    # with a stride of 2 a pixel in an even row and column is seen by one window
    assert lesson.found_again(picture, picture, 2) == (1, 1)


def test_at_the_border_a_picture_loses_what_leaves_it_and_padding_is_seen(lesson):
    x, kernel = normal(1, 1, 12, 12), lesson.noise(1, 1, 3, 3).numpy()
    moved = np.pad(x, [(0, 0), (0, 0), (0, 0), (1, 0)])[..., :-1]
    before, after = (correlate(picture, kernel, padding=1) for picture in (x, moved))
    same = np.isclose(after[..., 1:], before[..., :-1]).all(axis=(0, 1, 2))
    assert same[:-1].all() and not same[-1]  # the last column misses what has left


def test_section_4_prints_what_was_counted(lesson):
    printed = printed_if_tripled(lesson, 4, "found_again")
    counts = re.findall(r"moved by \d: +(\d+) of (\d+) found again", printed)
    expected = []
    for stride, far in ((1, 1), (1, 2), (2, 1), (2, 2)):
        x = digits_with_different_sums()
        of = sum(map(len, rows_of_sums(lesson, moved_by(x, 0, far), stride)))
        again = of if far % stride == 0 else 0
        expected.append((str(3 * again), str(3 * of)))
    assert counts == expected


def test_the_rows_of_the_chapter_move_and_with_a_stride_of_2_they_do_not():
    row, kernel = [0, 0, 3, 1, 0, 0, 0, 0], [1, 2]
    sums = np.correlate(row, kernel, "valid")
    moved = np.correlate(np.roll(row, 1), kernel, "valid")
    assert sums.tolist() == [0, 6, 5, 1, 0, 0, 0]
    assert moved.tolist() == [0, 0, 6, 5, 1, 0, 0]
    assert (sums[::2].tolist(), moved[::2].tolist()) == ([0, 5, 0, 0], [0, 6, 1, 0])
    pooled = [x[:6].reshape(3, 2).max(axis=1).tolist() for x in (sums, moved)]
    assert pooled == [[6, 5, 0], [0, 6, 1]]
    for values in (row, sums, moved):
        assert " ".join(map(str, values)) in read(CHAPTER)
    for values in (sums[::2], moved[::2], *pooled):
        assert f" {' '.join(map(str, values))}\n" in read(CHAPTER)


# 5. Digits that move
def test_the_largest_stays_while_it_moves_inside_its_window_and_no_larger_comes_in():
    sums = np.array([0, 6, 5, 1, 0, 0])
    inside = np.array([6, 0, 1, 5, 0, 0])  # both moved inside their windows
    larger = np.array([7, 6, 5, 1, 0, 0])
    pooled = [x.reshape(3, 2).max(axis=1).tolist() for x in (sums, inside, larger)]
    assert pooled == [[6, 5, 0], [6, 5, 0], [7, 5, 0]]


def test_max_pooling_keeps_the_largest_of_each_2_x_2_and_rounds_down(device):
    x = np.arange(35.0).reshape(1, 1, 5, 7)
    expected = x[:, :, 1:4:2, 1:6:2]  # the last of each window
    assert_values(nn.MaxPool2d(2)(tensor64(x, device)), expected, device, rtol=0)


@functools.cache
def accuracies(lesson, name, device):
    """The accuracies of seed 103, which the lesson does not use."""
    return lesson.accuracies_when_moved(getattr(lesson, name), 103, device)


@pytest.mark.parametrize("name", NAMES)
def test_training_saw_1437_digits_in_the_middle_and_the_others_are_moved(
    lesson, device, name
):
    x, y = table()
    torch.manual_seed(103)
    order = torch.randperm(1797).numpy()
    model = getattr(lesson, name)().to(device)
    training_rows, test_rows = order[:1437], order[1437:]
    middle = tensor64(moved_by(x[training_rows], 0, 0), device).float()
    lesson.train(model, middle, torch.tensor(y[training_rows], device=device))
    for far, accuracy in enumerate(accuracies(lesson, name, device)):
        right = [
            logits(name, model, moved_by(x[test_rows], *move)).argmax(axis=1)
            == y[test_rows]
            for move in ((far, 0), (-far, 0), (0, far), (0, -far))
        ]
        # float32 and float64 may differ on a digit or two of 1440
        assert accuracy == pytest.approx(np.mean(right), abs=0.003)


def test_what_moves_is_known_less_well_and_least_badly_with_pooling(lesson, device):
    found = {name: accuracies(lesson, name, device) for name in NAMES}
    for name in NAMES:  # five standard deviations, see above
        for accuracy, mean, std in zip(found[name], MEAN[name], STD[name], strict=True):
            assert accuracy == pytest.approx(mean, abs=5 * std)
        # none is blind to moving
        assert found[name][0] > found[name][1] > found[name][2]
    for far in (1, 2):
        assert found["Pooled"][far] > found["Strided"][far]
        assert found["Pooled"][far] > found["FullyConnected"][far]
        # six standard deviations of the difference, 0.049 and 0.032
        apart = found["Strided"][far] - found["FullyConnected"][far]
        assert abs(apart) < (0.29, 0.19)[far - 1]


def test_trained_on_five_places_all_read_there_and_fully_connected_not_between(lesson):
    # The change of the chapter. Over the seeds 100 to 119, at 0, 1 and 2 pixels:
    # FullyConnected 0.831, 0.502, 0.869 (standard deviations 0.021, 0.036, 0.020),
    # Strided 0.861, 0.599, 0.893 (0.035, 0.059, 0.021), Pooled 0.947, 0.813, 0.923
    # (0.021, 0.040, 0.026).
    change = mended(
        lesson,
        "accuracies_when_moved",
        "    train(model, canvas(x[:1437]), y[:1437])\n",
        "    places = [canvas(x[:1437])]\n"
        "    for down, right in MOVES[2]:\n"
        "        places.append(canvas(x[:1437], down, right))\n"
        "    train(model, torch.cat(places), y[:1437].repeat(5))\n",
    )
    fully, strided, pooled = (change(getattr(lesson, name), 103) for name in NAMES)
    for found, name in zip((fully, strided, pooled), NAMES, strict=True):
        assert found[2] > 0.75 > accuracies(lesson, name, "cpu")[2] + 0.3
        assert found[0] > 0.7 and found[1] < min(found[0], found[2])
    # Pooled was ahead of both there in each of the twenty, by 0.087 at least
    assert fully[1] < 0.502 + 5 * 0.036 and pooled[1] > max(fully[1], strided[1])


def test_the_mean_is_that_of_the_seeds_0_to_2(lesson):
    def invented(model_class, seed, device):
        return [len(model_class.__name__) + seed, 10.0 * seed, 0.5]

    with mock.patch.object(lesson, "accuracies_when_moved", invented):
        found = lesson.mean_accuracies.__wrapped__(lesson.Pooled, "cpu")
    assert_values(found, [6 + 1, 10, 0.5], "cpu", torch.float32)


def test_the_mean_over_all_places_does_not_notice_a_move_that_meets_no_border(device):
    x = table()[0][:40]
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 8, 3, padding=1).double().to(device)
    strided = nn.Conv2d(1, 8, 3, padding=1, stride=2).double().to(device)
    strided.load_state_dict(conv.state_dict())
    still, moved = (tensor64(moved_by(x, 0, far), device) for far in (0, 1))

    def means(layer, pictures):
        return torch.relu(layer(pictures)).mean(dim=(2, 3))

    assert (means(conv, still) - means(conv, moved)).abs().max() < 1e-12
    assert (means(strided, still) - means(strided, moved)).abs().max() > 1e-3


# 6. How far it sees
LAYERS = [
    [],
    [(4, 3)],
    [(3, 1)] * 3,
    [(3, 2)] * 2,
    [(3, 1), (2, 2), (3, 1), (2, 2)],
    [(2, 2), (3, 2), (2, 1)],
    [(3, 3), (2, 1), (4, 2), (2, 1)],
]


@pytest.mark.parametrize("layers", LAYERS)
def test_the_receptive_field_is_how_far_a_gradient_reaches(lesson, layers):
    # Backwards from one number: the places that it sees, layer by layer.
    places = {0}
    for k, stride in reversed(layers):
        places = {stride * place + tap for place in places for tap in range(k)}
    assert lesson.receptive_field(layers) == max(places) + 1
    assert lesson.pixels_with_gradient(layers) == len(places)


def test_a_number_of_the_networks_sees_7_and_10_pixels(lesson, device):
    x = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    x = x.double().to(device)
    for name, field in (("Strided", 7), ("Pooled", 10)):
        model = getattr(lesson, name)().double().to(device)
        pool = 2 if name == "Pooled" else 1

        def features(x, model=model, pool=pool):
            x = F.avg_pool2d(model.first(x), pool)
            return F.avg_pool2d(model.second(x), pool)[0, :, 1, 1]

        changed = []
        for column in range(12):
            other = x.clone()
            other[..., column] += 1
            changed.append(not torch.allclose(features(other), features(x)))
        assert sum(changed) == field


def test_the_receptive_field_by_the_formula_is_not_the_counted_one(lesson):
    printed = printed_if_tripled(lesson, 6, "receptive_field")
    for field in (5, 7, 7, 10):
        assert f"by the formula {3 * field}, counted {field:>2}\n" in printed


# 7. The channel, and zeros around
def test_three_grey_pictures_are_taken_for_one_of_3_channels(lesson):
    assert lesson.shape_out(3, 8, 8) == (8, 6, 6)
    assert lesson.shape_out(4, 3, 5, 10) == (4, 8, 3, 8)
    for shape in ((2, 8, 8), (4, 8, 8), (3, 1, 8, 8)):
        # no other number passes
        with pytest.raises(RuntimeError):
            lesson.shape_out(*shape)


def test_their_channel_is_x_none(device):
    x, conv = torch.rand(3, 8, 8, device=device), nn.Conv2d(1, 8, 3).to(device)
    assert conv(x[:, None]).shape == (3, 8, 6, 6)


def test_zeros_leave_4_9_in_the_corner_and_6_9_at_the_edge(lesson, device):
    means = windows_of(np.pad(np.ones((4, 4)), 1), (3, 3)).mean(axis=(2, 3))
    assert means[0, 0] == pytest.approx(4 / 9) and means[0, 1] == pytest.approx(6 / 9)
    assert_values(lesson.mean_of_ones(True), means, dtype=torch.float32, rtol=1e-6)
    assert_values(lesson.mean_of_ones(False), np.ones((4, 4)), dtype=torch.float32)
    # A convolution with the mean as its kernel does the same, unless it reflects.
    x = torch.ones(1, 1, 4, 4, dtype=torch.float64, device=device)
    for mode, borders in (("zeros", means), ("reflect", np.ones((4, 4)))):
        conv = nn.Conv2d(1, 1, 3, padding=1, bias=False, padding_mode=mode)
        nn.init.constant_(conv.to(device, torch.float64).weight, 1 / 9)
        assert_values(conv(x)[0, 0], borders, device)


def test_all_rows_with_zeros_are_printed_and_one_without(lesson):
    printed = printed_if_tripled(lesson, 7, "shape_out")
    assert "(3, 8, 8)         become (24, 18, 18)\n" in printed
    assert "(3, 3, 8, 8)    become (9, 24, 18, 18)\n" in printed
    rows = ["0.444  0.667  0.667  0.444", "0.667  1.000  1.000  0.667"]
    lines = [line.split("counted  ")[-1].strip() for line in printed.splitlines()[-5:]]
    assert lines == [rows[0], rows[1], rows[1], rows[0], "1.000  1.000  1.000  1.000"]


# 8. Folding a batch norm
def in_evaluation(norm, z):
    """What a batch norm makes of z in evaluation mode, in NumPy."""
    mean, var, weight, bias = (
        values.detach().cpu().numpy()[:, None, None]
        for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (z - mean) / np.sqrt(var + norm.eps) * weight + bias


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 0), ((2, 5), 1, 1), (3, 2, 1), (1, 3, 0)]
)
def test_one_convolution_does_what_it_and_batch_norm_do_in_evaluation(
    lesson, device, kernel, stride, padding
):
    conv = nn.Conv2d(3, 5, kernel, stride, padding, bias=False)
    conv.to(device, torch.float64)
    norm = nn.BatchNorm2d(5, eps=0.01).to(device, torch.float64).eval()
    mean, var, gamma, beta = normal(4, 5)
    norm.running_mean.copy_(tensor64(mean))
    norm.running_var.copy_(tensor64(var**2))
    norm.weight.data.copy_(tensor64(gamma))
    norm.bias.data.copy_(tensor64(beta))
    x = normal(2, 3, 6, 7, seed=5)
    weight = conv.weight.detach().cpu().numpy()
    expected = in_evaluation(norm, correlate(x, weight, stride, padding))
    both, pictures = lesson.folded(conv, norm), tensor64(x, device)
    assert_close(both(pictures), expected, device)
    assert_close(norm(conv(pictures)), expected, device)
    fused = torch.nn.utils.fusion.fuse_conv_bn_eval(conv.eval(), norm)
    assert_close(fused(pictures), expected, device)
    assert both.weight.requires_grad and both.bias.requires_grad
    # with an activation between, or in training, no folding does it
    assert (norm(torch.relu(conv(pictures))) - both(pictures)).abs().max() > 1e-3
    assert (norm.train()(conv(pictures)) - both(pictures)).abs().max() > 1e-3


def test_the_norm_of_the_lesson_has_seen_one_batch(lesson, device):
    conv, norm = lesson.conv_and_norm(device)
    z = correlate(lesson.noise(8, 1, 8, 8).numpy(), conv.weight.detach().cpu().numpy())
    seen = np.mean(z, axis=(0, 2, 3)), np.var(z, axis=(0, 2, 3), ddof=1)
    assert_close(norm.running_mean, 0.1 * seen[0], device)
    assert_close(norm.running_var, 0.9 + 0.1 * seen[1], device)
    assert norm.training and conv.bias is None


def test_section_8_prints_two_equal_lines(lesson, capsys):
    lesson.show_8("cpu")
    printed = capsys.readouterr().out
    conv, norm = lesson.conv_and_norm()
    z = correlate(moved_by(table()[0][:8], 0, 0), conv.weight.detach().numpy())
    expected = in_evaluation(norm, z)[0, 0, 4, 2:8]
    for words in ("conv, then norm", "one convolution"):
        (row,) = re.findall(rf"   {words} +(-?\d.+)\n", printed)
        numbers = [float(number) for number in row.split()]
        assert numbers == pytest.approx(expected, abs=0.0051)
    assert "   conv 36, norm 8, one 40 parameters\n" in printed
    tripled = printed_if_tripled(lesson, 8, "count")
    assert "   conv 108, norm 24, one 120 parameters\n" in tripled


def test_the_folding_worked_by_hand_is_that_of_the_lesson_and_of_pytorch(lesson):
    conv, norm = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0).eval()
    parts = [(conv.weight, 5), (norm.running_mean, 2), (norm.running_var, 4)]
    parts += [(norm.weight, 3), (norm.bias, 1)]
    for tensor, number in parts:
        nn.init.constant_(tensor, number)
    one = torch.ones(1, 1, 1, 1)
    fused = torch.nn.utils.fusion.fuse_conv_bn_eval(conv.eval(), norm)
    for layer in (lesson.folded(conv, norm), fused):
        assert conv(one).item() == 5 and layer(one).item() == pytest.approx(5.5)
        assert layer.weight.item() == pytest.approx(5 * 1.5)
        assert layer.bias.item() == pytest.approx(-2)


def test_in_training_a_bias_before_batch_norm_does_nothing_and_gets_no_gradient(device):
    torch.manual_seed(1)
    conv = nn.Conv2d(1, 4, 3).double().to(device)
    norm, x = (
        nn.BatchNorm2d(4).double().to(device),
        tensor64(normal(8, 1, 8, 8), device),
    )
    loss = torch.relu(norm(conv(x))).square().mean()
    loss.backward()
    # Over the seeds 0 to 299 the weights' is 0.018 to 0.082, and the bias's is rounding
    assert conv.weight.grad.abs().max() > 1e-3 and conv.bias.grad.abs().max() < 1e-12
    with torch.no_grad():
        conv.bias += 3
        again = torch.relu(norm(conv(x))).square().mean()
    assert again.item() == pytest.approx(loss.item(), rel=1e-10)


# Go wrong
def test_one_picture_without_a_batch_gives_an_output_without_one(device):
    conv, picture = nn.Conv2d(1, 10, 3).to(device), torch.rand(8, 7, device=device)
    alone, batch = conv(picture[None]), conv(picture[None, None])
    assert alone.shape == (10, 6, 5) and batch.shape == (1, 10, 6, 5)
    # What was dim 1, the channels or classes, is now the rows of pixels.
    assert alone.argmax(dim=1).max() < 6


def test_view_minus_1_makes_8_rows_of_4_pictures_and_flatten_does_not(device):
    x = torch.zeros(4, 16, 2, 2, device=device)
    assert nn.Linear(32, 10).to(device)(x.view(-1, 32)).shape == (8, 10)
    assert nn.Linear(64, 10).to(device)(x.flatten(1)).shape == (4, 10)


CHANNELS_1, CHANNELS_8 = (
    f"to have 1 channels, but got {n} channels instead" for n in (3, 8)
)
MISTAKES = [
    (CHANNELS_1, lambda: nn.Conv2d(1, 8, 3)(torch.ones(4, 3, 8, 8))),
    (CHANNELS_1, lambda: nn.Conv2d(1, 8, 3)(torch.ones(3, 8, 8))),
    (CHANNELS_8, lambda: nn.Conv2d(1, 8, 3)(torch.ones(4, 8, 7, 1))),
    (
        "Expected 3D (unbatched) or 4D (batched) input to conv2d",
        lambda: nn.Conv2d(1, 8, 3)(torch.ones(8, 8)),
    ),
    (
        "Input type (double) and bias type (float) should be the same",
        lambda: nn.Conv2d(1, 8, 3)(torch.from_numpy(np.ones((1, 1, 8, 8)))),
    ),
    (
        "mat1 and mat2 shapes cannot be multiplied",
        lambda: nn.Linear(32, 10)(torch.zeros(4, 16, 2, 2).flatten(1)),
    ),
    # one picture without its batch, into a network with a linear layer
    (
        "mat1 and mat2 shapes cannot be multiplied",
        lambda: nn.Linear(144, 10)(
            nn.Conv2d(1, 16, 3, 4, 1)(torch.zeros(1, 12, 12)).flatten(1)
        ),
    ),
    (
        "Expected input batch_size (8) to match target batch_size (4)",
        lambda: F.cross_entropy(
            nn.Linear(32, 10)(torch.zeros(4, 16, 2, 2).view(-1, 32)),
            torch.zeros(4, dtype=torch.long),
        ),
    ),
]


@pytest.mark.parametrize(("message", "mistake"), MISTAKES)
def test_a_loud_mistake_says_what_the_chapter_quotes(message, mistake):
    with pytest.raises(Exception, match=re.escape(message)):
        mistake()


def test_every_message_of_the_table_is_made_and_its_cure_works():
    assert loud_messages(CHAPTER) == {message for message, _ in MISTAKES}
    conv = nn.Conv2d(1, 8, 3)
    assert conv(torch.ones(3, 8, 8)[:, None]).shape == (3, 8, 6, 6)
    assert conv(torch.ones(4, 8, 7, 1).permute(0, 3, 1, 2)).shape == (4, 8, 6, 5)
    assert conv(torch.ones(8, 8)[None, None]).shape == (1, 8, 6, 6)
    assert conv(torch.ones(1, 1, 8, 8).double().float()).shape == (1, 8, 6, 6)


def test_ten_bits_of_mantissa_are_good_to_1e_3():
    # Rounded to 10 bits a factor is off by 2^-11 at most, and a product by twice as
    # much.
    x, w = (np.abs(normal(100_000, seed=seed)) for seed in (1, 2))

    def rounded(numbers):
        # mantissas from 1/2 to 1: one bit is the first
        mantissa, exponent = np.frexp(numbers)
        return np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent)

    error = np.abs(rounded(x) * rounded(w) / (x * w) - 1).max()
    assert 0.8e-3 < error < 1.001 * 2**-10 < 1e-3


def test_float32_convolutions_on_cuda_are_good_to_1e_3_and_float64_to_1e_12(device):
    x, weight = normal(4, 8, 9, 9), normal(16, 8, 3, 3, seed=2)
    expected, size = correlate(x, weight), correlate(np.abs(x), np.abs(weight))
    found = F.conv2d(tensor64(x, device), tensor64(weight, device)).cpu().numpy()
    assert np.all(np.abs(found - expected) < 1e-12 * size)
    found = F.conv2d(tensor64(x, device).float(), tensor64(weight, device).float())
    assert found.dtype == torch.float32
    assert np.all(np.abs(found.cpu().numpy() - expected) < 1e-3 * size)
    if device == "cpu":
        assert np.all(np.abs(found.numpy() - expected) < 1e-5 * size)


# The picture
def test_the_picture_shows_a_digit_that_moves_and_the_mean_accuracies(lesson):
    middle, beside, accuracy = lesson.figure().axes
    x = table()[0][:1]
    np.testing.assert_array_equal(middle.images[0].get_array(), moved_by(x, 0, 0)[0, 0])
    np.testing.assert_array_equal(beside.images[0].get_array(), moved_by(x, 0, 2)[0, 0])
    lines = {line.get_label(): line for line in accuracy.lines}
    assert list(lines) == [*NAMES, "guessing"]
    for name in NAMES:
        expected = lesson.mean_accuracies(getattr(lesson, name), "cpu")
        assert list(lines[name].get_xdata()) == [0, 1, 2]
        np.testing.assert_array_equal(lines[name].get_ydata(), expected)
    np.testing.assert_allclose(lines["guessing"].get_ydata(), 1 / 10)
