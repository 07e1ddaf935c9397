"""What lesson 02 claims."""

import itertools
import math

import numpy as np
import pytest
import torch

A = [[1.0, -2.0, 4.0], [3.0, 0.5, -1.0], [2.0, 8.0, 5.0]]
# no sum or quotient of A, B rounds
B = [[2.0, 4.0, -8.0], [1.0, 16.0, 2.0], [-4.0, 0.25, 1.0]]


def check(tensor, expected, dtype, device="cpu"):
    assert tensor.dtype == dtype
    assert tensor.device.type == device
    assert tensor.shape == np.shape(expected)
    np.testing.assert_array_equal(tensor.cpu().numpy(), expected)


@pytest.mark.parametrize(
    "data", [7, [], [1.5, 2], [[1, 2, 3], [4, 5, 6]], [[[True]], [[False]]]]
)
def test_a_tensor_has_the_anatomy_of_numpys_array(lesson, device, data):
    array = np.array(data)
    kinds = {"i": torch.int64, "f": torch.float32, "b": torch.bool}
    expected = (array.ndim, array.shape, array.size, kinds[array.dtype.kind])
    assert lesson.anatomy(data, device) == expected


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (3, 3), (5, 1)])
def test_constructors_make_what_numpy_makes(lesson, device, rows, columns):
    made, shape = lesson.constructors(rows, columns, device), (rows, columns)
    numel, float32, int64 = rows * columns, torch.float32, torch.int64
    check(made.pop("zeros"), np.zeros(shape), float32, device)
    check(made.pop("ones"), np.ones(shape), float32, device)
    check(made.pop("full"), np.full(shape, 0.25), float32, device)
    check(made.pop("arange"), np.arange(numel), int64, device)
    check(
        made.pop("linspace"),
        np.linspace(0, 1, numel, dtype=np.float32),
        float32,
        device,
    )
    check(made.pop("zeros_like"), np.zeros(shape), int64, device)
    check(made.pop("full_like"), np.full(shape, 7), int64, device)
    empty = made.pop("empty")
    assert (tuple(empty.shape), empty.dtype, empty.device.type) == (
        shape,
        float32,
        device,
    )
    assert not made


def test_a_tensor_is_made_on_the_device_that_is_asked_for(lesson):
    # The device meta has shapes, dtypes and strides, but no memory.
    made = [
        *lesson.constructors(2, 3, "meta").values(),
        *lesson.layouts(2, 3, "meta").values(),
    ]
    assert {t.device.type for t in (*made, *lesson.draws(4, 0, "meta"))} == {"meta"}
    devices = []
    with pytest.raises(StopIteration):
        lesson.is_view(
            lambda t: devices.append(t.device.type) or next(iter(())), "meta"
        )
    assert devices == ["meta"]
    with pytest.raises(RuntimeError):
        lesson.anatomy([1.0], "no such device")


@pytest.mark.parametrize("seed", [1, 12])
def test_random_numbers_have_the_moments_of_their_distribution(lesson, device, seed):
    n = 40_000
    uniform, normal = lesson.draws(n, seed, device)
    assert uniform.shape == normal.shape == (n,)
    assert uniform.dtype == normal.dtype == torch.float32
    assert uniform.device.type == normal.device.type == device
    assert uniform.min() >= 0 and uniform.max() < 1 < normal.max()
    # Five standard errors: of a mean sqrt(variance / n), of a variance sqrt((kurtosis -
    # 1) / n) times it; the kurtosis is 9/5 and 3.
    for x, mean, variance, kurtosis in (
        (uniform, 1 / 2, 1 / 12, 9 / 5),
        (normal, 0, 1, 3),
    ):
        measured = x.double().cpu().numpy()
        assert abs(measured.mean() - mean) < 5 * math.sqrt(variance / n)
        assert abs(measured.var() - variance) < 5 * variance * math.sqrt(
            (kurtosis - 1) / n
        )


def test_a_seed_repeats_its_numbers_and_leaves_the_global_generator_alone(
    lesson, device
):
    before = torch.get_rng_state()
    first, again, other = (lesson.draws(9, seed, device) for seed in (3, 3, 4))
    for one, two, three, on_cpu in zip(
        first, again, other, lesson.draws(9, 3), strict=True
    ):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
        # every device sees the same numbers
        check(one, on_cpu.numpy(), torch.float32, device)
    assert torch.equal(torch.get_rng_state(), before)


def test_operators_and_their_functions_agree_with_numpy(lesson, device):
    a, b = np.array(A), np.array(B)
    expected = {"+": a + b, "-": a - b, "*": a * b, "/": a / b, "@": a @ b}
    results = lesson.arithmetic(
        torch.tensor(A, device=device), torch.tensor(B, device=device)
    )
    assert list(results) == list(expected)
    for operator, both in results.items():
        assert len(both) == 2
        for result in both:
            check(result, expected[operator], torch.float32, device)


def test_only_the_underscore_overwrites(lesson, device):
    for in_place in (False, True):
        a, b = (
            torch.tensor([1.0, 2.0], device=device),
            torch.tensor([10.0, 30.0], device=device),
        )
        total, after = lesson.added(a, b, in_place)
        assert after is a and (total is a) is in_place
        check(total, [11.0, 32.0], torch.float32, device)
        check(a, [11.0, 32.0] if in_place else [1.0, 2.0], torch.float32, device)
        check(b, [10.0, 30.0], torch.float32, device)


def test_a_reduction_removes_a_dimension_and_unsqueeze_and_stack_add_one(
    lesson, device
):
    x = np.array([[1.0, 9.0, 2.0, 4.0], [7.0, 3.0, 5.0, 1.0], [-4.0, 0.0, 8.0, 4.0]])
    expected = {
        "x.sum()": x.sum(),
        "x.sum(dim=0)": x.sum(axis=0),
        "x.sum(dim=1)": x.sum(axis=1),
        "x.sum(dim=1, keepdim=True)": x.sum(axis=1, keepdims=True),
        "x.mean(dim=0)": np.array([4, 12, 15, 9]) / np.float32(3),
        "x.argmax(dim=1)": x.argmax(axis=1),
        "x[0].unsqueeze(1)": x[0][:, None],
        "torch.stack([x, x])": np.stack([x, x]),
        "torch.cat([x, x])": np.concatenate([x, x]),
    }
    tensor = torch.tensor(x, dtype=torch.float32, device=device)
    shapes = lesson.new_shapes(tensor)
    assert list(shapes) == list(expected)
    for name, array in expected.items():
        dtype = torch.int64 if "argmax" in name else torch.float32
        check(shapes[name], np.float32(array), dtype, device)
    assert [shapes[name].ndim - 2 for name in expected] == [
        -2,
        -1,
        -1,
        0,
        -1,
        -1,
        0,
        1,
        0,
    ]
    assert shapes["x[0].unsqueeze(1)"].ndim == tensor[0].ndim + 1


SHAPES = [s for n in range(4) for s in itertools.product((0, 1, 2, 3), repeat=n)]


def broadcast_by_numpy(first, second):
    try:
        return np.broadcast_shapes(first, second)
    except ValueError:
        return None


def test_the_broadcasting_rule_is_numpys_and_torchs(lesson):
    for first, second in itertools.product(SHAPES, SHAPES):
        expected = broadcast_by_numpy(first, second)
        assert lesson.broadcast_shape(first, second) == expected
        if first in SHAPES[::3]:
            assert lesson.broadcast_by_torch(first, second) == expected


def test_broadcasting_repeats_what_has_size_1(device):
    column, row = (
        torch.tensor([[1], [5]], device=device),
        torch.tensor([10, 20, 40], device=device),
    )
    check(column + row, [[11, 21, 41], [15, 25, 45]], torch.int64, device)


def test_slices_are_views_and_masks_and_index_lists_copy(lesson, device):
    views = {
        name for name, pick in lesson.PICKS.items() if lesson.is_view(pick, device)
    }
    assert views == {"t[1]", "t[:, 1:3]", "t.T"}
    assert set(lesson.PICKS) - views == {"t[t > 5]", "t[[0, 2]]"}
    for t in (
        torch.arange(12).view(3, 4),
        torch.tensor([[5, 6, 4], [6, 5, 7], [0, 9, -6]]),
    ):
        for name, pick in lesson.PICKS.items():
            np.testing.assert_array_equal(pick(t), eval(name, {"t": t.numpy()}))


def test_an_assignment_through_a_mask_writes_into_the_tensor(device):
    t = torch.tensor([1.0, 6.0, 8.0], device=device)
    t[t > 5] = 0
    check(t, [1.0, 0.0, 0.0], torch.float32, device)


def test_is_view_looks_at_all_of_t(lesson, device):
    seen = []
    for i, j in itertools.product(range(3), range(4)):
        assert (
            lesson.is_view(
                lambda t, i=i, j=j: seen.append(t.clone()) or t[i, j], device
            )
            is True
        )
    assert lesson.is_view(lambda t: t + 0, device) is False
    for t in seen:
        check(t, np.arange(12).reshape(3, 4), torch.int64, device)


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
        if min(rows, columns) > 1:
            # NumPy leaves the stride of a dimension of size 1 open
            assert layouts[name].stride() == tuple(
                s // array.itemsize for s in array.strides
            )
            shared = layouts[name].data_ptr() == layouts["m"].data_ptr()
            assert shared == np.shares_memory(array, m)
            assert layouts[name].is_contiguous() == array.flags["C_CONTIGUOUS"]


def test_raises_answers_for_a_runtime_error_alone(lesson):
    def fail(error):
        raise error

    assert lesson.raises(lambda: fail(RuntimeError())) is True
    # it is a RuntimeError too
    assert lesson.raises(lambda: fail(NotImplementedError())) is True
    assert lesson.raises(lambda: None) is False
    with pytest.raises(KeyError):
        lesson.raises(lambda: fail(KeyError()))


def test_view_refuses_where_it_would_have_to_move_numbers(lesson, device):
    tensors = lesson.layouts(2, 3, device)
    swapped = tensors["m.permute(1, 0)"]
    assert lesson.raises(lambda: swapped.view(-1))
    assert not lesson.raises(lambda: swapped.reshape(-1))
    part = tensors["m"][:, :2]  # not contiguous either, but nothing has to move
    assert not part.is_contiguous()
    check(part.view(2, 2, 1), [[[0], [1]], [[3], [4]]], torch.int64, device)


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(32, 32, 3), (2, 2, 3), (2, 5, 4)]
)
def test_reshape_does_not_swap_axes(lesson, device, height, width, channels):
    image = torch.arange(height * width * channels, device=device).view(
        height, width, channels
    )
    right, wrong = lesson.channels_first(image)
    # The number at (h, w, c) is its place there, (h * width + w) * channels + c.
    h, w, c = np.meshgrid(range(height), range(width), range(channels), indexing="ij")
    expected = np.empty((channels, height, width), dtype=int)
    expected[c, h, w] = (h * width + w) * channels + c
    places = np.ravel_multi_index((c, h, w), expected.shape)  # its place in (c, h, w)
    check(right, expected, torch.int64, device)
    check(wrong.flatten(), range(image.numel()), torch.int64, device)
    assert wrong.shape == right.shape
    matches = {(32, 32, 3): 2, (2, 2, 3): 2, (2, 5, 4): 4}[height, width, channels]
    assert (right == wrong).sum() == (places == image.cpu().numpy()).sum() == matches


@pytest.mark.parametrize(
    ("bridge", "in_place", "value"),
    [
        (torch.from_numpy, True, 1.0),
        (torch.from_numpy, False, 0.0),
        (torch.tensor, True, 0.0),
        (torch.tensor, False, 0.0),
    ],
)
def test_from_numpy_shares_what_is_changed_in_place_and_tensor_copies(
    lesson, bridge, in_place, value
):
    array, tensor = lesson.after_adding_one(bridge, in_place)
    check(tensor, [value] * 3, torch.float64)
    np.testing.assert_array_equal(array, [1.0, 1.0, 1.0])
    assert np.shares_memory(array, tensor.numpy()) is (value == 1)


def test_memory_is_shared_on_the_cpu_alone(lesson, device):
    _, tensor = lesson.after_adding_one(
        lambda a: torch.from_numpy(a).to(device), in_place=True
    )
    check(tensor, [1.0 if device == "cpu" else 0.0] * 3, torch.float64, device)
    if device == "cpu":
        tensor.numpy()[0] = 5
        assert tensor[0] == 5
    else:
        with pytest.raises(TypeError):
            tensor.numpy()


def test_a_tensor_goes_to_its_device_and_comes_back(lesson, device):
    tensor = torch.tensor(A)
    check(lesson.double_on_device(tensor, device), 2 * np.array(A), torch.float32)
    check(tensor, A, torch.float32)
    # no memory to copy from
    assert lesson.raises(lambda: lesson.double_on_device(tensor, "meta"))


@pytest.mark.parametrize("other", ["meta", "cuda"])
def test_devices_do_not_mix_except_with_a_plain_number_on_the_cpu(lesson, other):
    if other == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    there = torch.ones(3, device=other)
    for shape in ((3,), (1,)):
        here = torch.ones(shape)
        assert lesson.raises(lambda here=here: here + there)
        assert lesson.raises(lambda here=here: there * here)
    for result in (torch.tensor(2.0) * there, there + torch.tensor(2.0)):
        assert (result.device.type, tuple(result.shape)) == (other, (3,))
    if other == "cuda":
        check(torch.tensor(2.0) * there, [2.0] * 3, torch.float32, other)


@pytest.mark.parametrize(
    ("a", "b"), [(200, 100), (50, 100), (255, 255), (7, 7), (0, 1)]
)
def test_uint8_counts_modulo_256(lesson, a, b):
    results = lesson.uint8_arithmetic(a, b)
    assert results == ((a + b) % 256, (a - b) % 256)
    assert [type(result) for result in results] == [int, int]


def test_float32_holds_integers_up_to_2_to_the_24(lesson):
    for number in (0, 2**24 - 1, 2**24, 2**24 + 1, 2**24 + 2, -(2**24) - 1):
        assert lesson.round_trip(number, torch.float32) == float(np.float32(number))
        assert lesson.round_trip(number, torch.float64) == number
        assert lesson.round_trip(number, torch.int64) == number
        assert type(lesson.round_trip(number, torch.float32)) is float
    assert 2**24 == 16777216 == lesson.round_trip(16777217, torch.float32)


def test_float32_keeps_about_7_digits_and_float64_about_16():
    for dtype, bits, digits in ((torch.float32, 24, 7), (torch.float64, 53, 16)):
        assert torch.finfo(dtype).eps == 2.0 ** (1 - bits)
        assert round(bits * math.log10(2)) == digits


def test_only_floats_have_a_mean(lesson, device):
    assert lesson.raises(torch.tensor([1, 2], device=device).mean)
    assert not lesson.raises(torch.tensor([1.0, 2.0], device=device).mean)


def test_capital_tensor_takes_a_shape_and_small_tensor_a_number():
    for n in (1, 3, 5):
        assert torch.Tensor(n).shape == (n,)
        assert torch.Tensor(n).dtype == torch.float32
        check(torch.tensor(n), n, torch.int64)


def test_the_picture_shows_the_numbers_where_numpy_puts_them(lesson, device):
    m = np.arange(12).reshape(3, 4)
    panels = lesson.figure(device).axes
    assert len(panels) == 4
    for axes, array in zip(
        panels, (m, m.reshape(4, 3), m.reshape(4, 3), m.T), strict=True
    ):
        np.testing.assert_array_equal(axes.images[0].get_array(), array)
        shown = {text.get_position(): int(text.get_text()) for text in axes.texts}
        assert shown == {(column, row): n for (row, column), n in np.ndenumerate(array)}
        strides = tuple(s // array.itemsize for s in array.strides)
        assert axes.get_xlabel() == f"strides {strides}"
