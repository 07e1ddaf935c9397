"""What lesson 02 claims."""

import itertools
import math

import numpy as np
import pytest
import torch

A = [[1.0, -2.0, 4.0], [3.0, 0.5, -1.0], [2.0, 8.0, 5.0]]
B = [[2.0, 4.0, -8.0], [1.0, 16.0, 2.0], [-4.0, 0.25, 1.0]]  # no sum or quotient of A, B rounds


def check(tensor, expected, dtype, device="cpu"):
    assert tensor.dtype == dtype
    assert tensor.device.type == device
    assert tensor.shape == np.shape(expected)
    np.testing.assert_array_equal(tensor.cpu().numpy(), expected)


def test_raises_answers_for_a_runtime_error_alone(lesson):
    def fail(error):
        raise error

    assert lesson.raises(lambda: fail(RuntimeError())) is True
    assert lesson.raises(lambda: None) is False
    with pytest.raises(KeyError):
        lesson.raises(lambda: fail(KeyError()))


@pytest.mark.parametrize("data", [7, [], [1.5, 2], [[1, 2, 3], [4, 5, 6]], [[[True]], [[False]]]])
def test_a_tensor_has_the_anatomy_of_numpys_array(lesson, device, data):
    array = np.array(data)
    kinds = {"i": torch.int64, "f": torch.float32, "b": torch.bool}
    expected = (array.ndim, array.shape, array.size, kinds[array.dtype.kind])
    assert lesson.anatomy(data, device) == expected


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (3, 3), (5, 1)])
def test_constructors_make_what_numpy_makes(lesson, device, rows, columns):
    made, shape, numel = lesson.made(rows, columns, device), (rows, columns), rows * columns
    float32, int64 = torch.float32, torch.int64
    check(made.pop("zeros"), np.zeros(shape), float32, device)
    check(made.pop("ones"), np.ones(shape), float32, device)
    check(made.pop("full"), np.full(shape, 0.25), float32, device)
    check(made.pop("arange"), np.arange(numel), int64, device)
    check(made.pop("linspace"), np.linspace(0, 1, numel, dtype=np.float32), float32, device)
    check(made.pop("zeros_like"), np.zeros(shape), int64, device)
    check(made.pop("full_like"), np.full(shape, 7), int64, device)
    empty = made.pop("empty")
    assert (tuple(empty.shape), empty.dtype, empty.device.type) == (shape, float32, device)
    assert not made


@pytest.mark.parametrize("seed", [1, 12])
def test_random_numbers_have_the_moments_of_their_distribution(lesson, device, seed):
    n = 40_000
    uniform, normal = lesson.draws(n, seed, device)
    assert uniform.shape == normal.shape == (n,)
    assert uniform.device.type == normal.device.type == device
    assert uniform.min() >= 0 and uniform.max() < 1 < normal.max()
    # Five standard errors: of a mean sqrt(variance / n), of a variance sqrt((kurtosis - 1) / n)
    # times it; the kurtosis is 9/5 and 3.
    for x, mean, variance, kurtosis in ((uniform, 1 / 2, 1 / 12, 9 / 5), (normal, 0, 1, 3)):
        measured = x.double().cpu().numpy()
        assert abs(measured.mean() - mean) < 5 * math.sqrt(variance / n)
        assert abs(measured.var() - variance) < 5 * variance * math.sqrt((kurtosis - 1) / n)


def test_a_seed_repeats_its_numbers_and_leaves_the_global_generator_alone(lesson, device):
    before = torch.get_rng_state()
    first, again, other = (lesson.draws(9, seed, device) for seed in (3, 3, 4))
    for one, two, three in zip(first, again, other, strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
    assert torch.equal(torch.get_rng_state(), before)


def test_mean_and_variance_of_1_2_3_6_are_3_and_3_point_5(lesson, device):
    moments = lesson.mean_and_variance(torch.tensor([1.0, 2.0, 3.0, 6.0], device=device))
    assert moments == (3.0, (4 + 1 + 0 + 9) / 4)
    assert all(type(moment) is float for moment in moments)


def test_operators_and_their_functions_agree_with_numpy(lesson, device):
    a, b = np.array(A), np.array(B)
    expected = {"+": a + b, "-": a - b, "*": a * b, "/": a / b, "@": a @ b}
    results = lesson.arithmetic(torch.tensor(A, device=device), torch.tensor(B, device=device))
    assert list(results) == list(expected)
    for operator, both in results.items():
        for result in both:
            check(result, expected[operator], torch.float32, device)


def test_only_the_underscore_overwrites(lesson, device):
    for in_place in (False, True):
        a, b = torch.tensor([1.0, 2.0], device=device), torch.tensor([10.0, 30.0], device=device)
        total, after = lesson.added(a, b, in_place)
        assert after is a
        assert total.tolist() == [11.0, 32.0]
        assert a.tolist() == ([11.0, 32.0] if in_place else [1.0, 2.0])


SHAPES = [s for n in range(4) for s in itertools.product((0, 1, 2, 3), repeat=n)]


def test_the_broadcasting_rule_is_numpys(lesson):
    for first, second in itertools.product(SHAPES, SHAPES):
        try:
            expected = np.broadcast_shapes(first, second)
        except ValueError:
            expected = None
        assert lesson.broadcast_shape(first, second) == expected


def test_torch_keeps_the_broadcasting_rule(lesson, device):
    for first, second in itertools.product(SHAPES[::3], SHAPES[::4]):
        shape = lesson.shape_of_sum(first, second)
        try:
            assert shape == np.broadcast_shapes(first, second)
        except ValueError:
            a, b = torch.zeros(first, device=device), torch.zeros(second, device=device)
            assert shape is None and lesson.raises(lambda a=a, b=b: a + b)


def test_a_column_and_a_row_give_a_table(lesson, device):
    column, row = torch.tensor([1, 5], device=device), torch.tensor([10, 20, 40], device=device)
    check(lesson.table_of_sums(column, row), [[11, 21, 41], [15, 25, 45]], torch.int64, device)


def test_slices_are_views_and_masks_and_index_lists_copy(lesson, device):
    views = {name for name, pick in lesson.PICKS.items() if lesson.is_view(pick, device)}
    assert views == {"t[1]", "t[:, 1:3]", "t.T"}
    t = torch.arange(12).view(3, 4)
    for name, pick in lesson.PICKS.items():
        np.testing.assert_array_equal(pick(t), eval(name, {"t": t.numpy()}))


def test_is_view_looks_at_all_of_t(lesson, device):
    shapes = []
    for i in range(3):
        assert lesson.is_view(lambda t, i=i: shapes.append(t.shape) or t[i, i], device) is True
    assert lesson.is_view(lambda t: t + 0, device) is False
    assert set(shapes) == {(3, 4)}


@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (2, 5), (1, 3)])
def test_layouts_hold_numpys_numbers_in_numpys_strides(lesson, device, rows, columns):
    m = np.arange(rows * columns).reshape(rows, columns)
    expected = {
        "m": m,
        "m.view(columns, -1)": m.reshape(columns, rows),
        "m.reshape(columns, rows)": m.reshape(columns, rows),
        "m.permute(1, 0)": m.T,
        "m.permute(1, 0).contiguous()": m.T.copy(),
        "m.permute(1, 0).reshape(-1)": m.T.reshape(-1),
    }
    layouts = lesson.layouts(rows, columns, device)
    assert list(layouts) == list(expected)
    for name, array in expected.items():
        check(layouts[name], array, torch.int64, device)
        if min(rows, columns) > 1:  # NumPy leaves the stride of a dimension of size 1 open
            assert layouts[name].stride() == tuple(s // array.itemsize for s in array.strides)
            shared = layouts[name].data_ptr() == layouts["m"].data_ptr()
            assert shared == np.shares_memory(array, m)
            assert layouts[name].is_contiguous() == array.flags["C_CONTIGUOUS"]


def test_view_refuses_what_reshape_copies(lesson, device):
    swapped = lesson.layouts(2, 3, device)["m.permute(1, 0)"]
    assert lesson.raises(lambda: swapped.view(-1))
    assert not lesson.raises(lambda: swapped.reshape(-1))


@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 3), (2, 5, 4)])
def test_reshape_does_not_swap_axes(lesson, device, height, width, channels):
    image = torch.arange(height * width * channels, device=device).view(height, width, channels)
    right, wrong = lesson.channels_first(image)
    assert right.shape == wrong.shape == (channels, height, width)
    matches = 0
    for c, h, w in itertools.product(range(channels), range(height), range(width)):
        number = (h * width + w) * channels + c  # its place in (h, w, c)
        place = (c * height + h) * width + w  # its place in (c, h, w)
        assert right[c, h, w] == number
        assert wrong.flatten()[place] == place
        matches += number == place
    assert (right == wrong).sum() == matches
    if (height, width, channels) == (32, 32, 3):
        assert matches == 2


def test_from_numpy_shares_and_tensor_copies(lesson):
    for bridge, in_place, value in [
        (torch.from_numpy, True, 1.0),
        (torch.from_numpy, False, 0.0),
        (torch.tensor, True, 0.0),
        (torch.tensor, False, 0.0),
    ]:
        array, tensor = lesson.after_adding_one(bridge, in_place)
        check(tensor, [value] * 3, torch.float64)
        np.testing.assert_array_equal(array, [1.0, 1.0, 1.0])


def test_numpy_sees_what_torch_writes(lesson):
    np.testing.assert_array_equal(lesson.seen_by_numpy(torch.tensor([1.0, 5.0])), [2.0, 6.0])


def test_memory_is_shared_on_the_cpu_alone(lesson, device):
    _, tensor = lesson.after_adding_one(lambda a: torch.from_numpy(a).to(device), in_place=True)
    assert tensor.tolist() == ([1.0] * 3 if device == "cpu" else [0.0] * 3)
    if device != "cpu":
        with pytest.raises(TypeError):
            lesson.seen_by_numpy(torch.zeros(3, device=device))


def test_devices_compute_the_same_and_do_not_mix(lesson, device):
    check(lesson.there_and_back(torch.tensor(A), device), 2 * np.array(A), torch.float32)
    assert lesson.raises(lambda: lesson.there_and_back(torch.tensor(A), "meta"))  # no memory
    other = "meta" if device == "cpu" else "cpu"
    here, there = torch.ones(3, device=device), torch.ones(3, device=other)
    assert lesson.raises(lambda: here + there)
    assert lesson.mixing_raises(device, other) is lesson.mixing_raises(other, device) is True
    assert lesson.mixing_raises(device, device) is False


@pytest.mark.parametrize(("a", "b"), [(200, 100), (50, 100), (255, 255), (7, 7), (0, 1)])
def test_uint8_counts_modulo_256(lesson, a, b):
    assert lesson.uint8_arithmetic(a, b) == ((a + b) % 256, (a - b) % 256)


def test_float32_holds_integers_up_to_2_to_the_24(lesson):
    for number in (0, 2**24 - 1, 2**24, 2**24 + 1, 2**24 + 2, -(2**24) - 1):
        assert lesson.stored(number, torch.float32) == float(np.float32(number))
        assert lesson.stored(number, torch.float64) == number
    assert lesson.stored(2**24 + 1, torch.float32) == 2**24


def test_only_floats_have_a_mean(lesson, device):
    assert lesson.raises(torch.tensor([1, 2], device=device).mean)
    assert not lesson.raises(torch.tensor([1.0, 2.0], device=device).mean)


def test_capital_tensor_takes_a_shape_and_small_tensor_a_number(lesson):
    for n in (1, 3, 5):
        assert lesson.capital_and_small(n) == ((n,), ())


def test_the_dimension_that_is_named_disappears(lesson, device):
    x = np.array([[1.0, 9.0, 2.0, 4.0], [7.0, 3.0, 5.0, 1.0]])
    expected = {
        "x.sum()": (x.sum(), torch.float32),
        "x.sum(dim=0)": (x.sum(axis=0), torch.float32),
        "x.sum(dim=1)": (x.sum(axis=1), torch.float32),
        "x.sum(dim=1, keepdim=True)": (x.sum(axis=1, keepdims=True), torch.float32),
        "x.mean(dim=0)": (x.mean(axis=0), torch.float32),
        "x.argmax(dim=1)": (x.argmax(axis=1), torch.int64),
    }
    reductions = lesson.reductions(torch.tensor(x, dtype=torch.float32, device=device))
    assert list(reductions) == list(expected)
    for name, (array, dtype) in expected.items():
        check(reductions[name], array, dtype, device)


def test_the_picture_shows_the_numbers_where_numpy_puts_them(lesson, device):
    m = np.arange(12).reshape(3, 4)
    panels = lesson.figure(device).axes
    assert len(panels) == 4
    for axes, array in zip(panels, (m, m.reshape(4, 3), m.reshape(4, 3), m.T), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), array)
        shown = {text.get_position(): int(text.get_text()) for text in axes.texts}
        assert shown == {(column, row): n for (row, column), n in np.ndenumerate(array)}
        strides = tuple(s // array.itemsize for s in array.strides)
        assert axes.get_xlabel() == f"strides {strides}"
