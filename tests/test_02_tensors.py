"""What lesson 02 claims."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import assert_values, printed_if_tripled

A = [[1.0, -2.0, 4.0], [3.0, 0.5, -1.0], [2.0, 8.0, 5.0]]
# no sum or quotient of A, B rounds
B = [[2.0, 4.0, -8.0], [1.0, 16.0, 2.0], [-4.0, 0.25, 1.0]]


def assert_exact(tensor, expected, dtype, device="cpu"):
    assert_values(tensor, expected, device, dtype, rtol=0)


@pytest.mark.parametrize("data", [7, [], [1.5, 2], [[1, 2, 3], [4, 5, 6]], [[[True]]]])
def test_a_tensor_has_the_anatomy_of_numpys_array(lesson, device, data):
    array = np.array(data)
    kinds = {"i": torch.int64, "f": torch.float32, "b": torch.bool}
    expected = (array.ndim, array.shape, array.size, kinds[array.dtype.kind])
    assert lesson.anatomy(data, device) == expected


@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (5, 2)])
def test_constructors_make_what_numpy_makes(lesson, device, rows, columns):
    shape, numel = (rows, columns), rows * columns
    floats = {
        "zeros": np.zeros(shape),
        "ones": np.ones(shape),
        "full": np.full(shape, 0.25),
        "linspace": np.linspace(0, 1, numel, dtype=np.float32),
    }
    integers = {
        "arange": np.arange(numel),
        "zeros_like": np.zeros(shape),
        "full_like": np.full(shape, 7),
    }
    made = lesson.constructors(rows, columns, device)
    for name, array in floats.items():
        assert_exact(made.pop(name), array, torch.float32, device)
    for name, array in integers.items():
        assert_exact(made.pop(name), array, torch.int64, device)
    empty = made.pop("empty")
    assert (tuple(empty.shape), empty.device.type) == (shape, device)
    assert not made


def test_a_tensor_is_made_on_the_device_that_is_asked_for(lesson):
    # The device meta has shapes, dtypes and strides, but no memory.
    made = lesson.constructors(2, 3, "meta") | lesson.layouts(2, 3, "meta")
    assert {t.device.type for t in made.values()} == {"meta"}
    assert {t.device.type for t in lesson.draws(4, 0, "meta")} == {"meta"}


def test_operators_and_their_functions_agree_with_numpy(lesson, device):
    a, b = np.array(A), np.array(B)
    expected = {"+": a + b, "-": a - b, "*": a * b, "/": a / b, "@": a @ b}
    tensors = (torch.tensor(numbers, device=device) for numbers in (A, B))
    results = lesson.arithmetic(*tensors)
    assert list(results) == list(expected)
    for operator, (result, named) in results.items():
        assert_exact(result, expected[operator], torch.float32, device)
        assert_exact(named, expected[operator], torch.float32, device)


def test_only_the_underscore_overwrites(lesson, device):
    for in_place in (False, True):
        a = torch.tensor([1.0, 2.0], device=device)
        b = torch.tensor([10.0, 30.0], device=device)
        total, after = lesson.added(a, b, in_place)
        assert after is a and (total is a) is in_place
        assert_exact(total, [11.0, 32.0], torch.float32, device)
        assert a.tolist() == ([11.0, 32.0] if in_place else [1.0, 2.0])
        assert b.tolist() == [10.0, 30.0]


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
        assert_exact(shapes[name], np.float32(array), dtype, device)


SHAPES = [s for n in range(4) for s in itertools.product((0, 1, 2), repeat=n)]


def test_the_broadcasting_rule_is_numpys_and_torchs(lesson):
    for first, second in itertools.product(SHAPES, SHAPES):
        try:
            expected = np.broadcast_shapes(first, second)
        except ValueError:
            expected = None
        assert lesson.broadcast_shape(first, second) == expected
        assert lesson.broadcast_by_torch(first, second) == expected


def test_the_shape_by_the_rule_is_not_torchs(lesson):
    printed = printed_if_tripled(lesson, 4, "broadcast_by_torch")
    for shape in ("(3, 4)", "(2, 3)", "None", "(5, 4, 3)"):
        assert f"by the rule {shape}, by torch" in printed
    assert "by torch (9, 12)" in printed


def test_slices_are_views_and_masks_and_index_lists_copy(lesson, device):
    for name, pick in lesson.PICKS.items():
        copies = name in ("t[t > 5]", "t[[0, 2]]")
        assert lesson.is_view(pick, device) is not copies
        t = torch.tensor([[5, 6, 4], [6, 5, 7], [0, 9, -6]])
        np.testing.assert_array_equal(pick(t), eval(name, {"t": t.numpy()}))


def test_an_assignment_through_a_mask_writes_into_the_tensor(device):
    t = torch.tensor([1.0, 6.0, 8.0], device=device)
    t[t > 5] = 0
    assert t.tolist() == [1.0, 0.0, 0.0]


def test_is_view_looks_at_all_of_t(lesson, device):
    for i, j in itertools.product(range(3), range(4)):
        assert lesson.is_view(lambda t, i=i, j=j: t[i, j], device) is True
    assert lesson.is_view(lambda t: t + 0, device) is False


@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (2, 5)])
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
        t = layouts[name]
        assert_exact(t, array, torch.int64, device)
        assert t.stride() == tuple(s // array.itemsize for s in array.strides)
        shared = t.data_ptr() == layouts["m"].data_ptr()
        assert shared == np.shares_memory(array, m)


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
    with pytest.raises(RuntimeError, match="view size is not compatible with input"):
        swapped.view(-1)
    part = tensors["m"][:, :2]  # not contiguous either, but nothing has to move
    assert not part.is_contiguous()
    assert part.view(2, 2, 1).tolist() == [[[0], [1]], [[3], [4]]]


@pytest.mark.parametrize(
    ("height", "width", "channels", "matches"), [(32, 32, 3, 2), (2, 2, 3, 2)]
)
def test_reshape_does_not_swap_axes(lesson, device, height, width, channels, matches):
    numel = height * width * channels
    image = torch.arange(numel, device=device).view(height, width, channels)
    right, wrong = lesson.channels_first(image)
    # The number at (h, w, c) is its place there, (h * width + w) * channels + c.
    h, w, c = np.meshgrid(range(height), range(width), range(channels), indexing="ij")
    expected = np.empty((channels, height, width), dtype=int)
    expected[c, h, w] = (h * width + w) * channels + c
    assert_exact(right, expected, torch.int64, device)
    assert_exact(wrong, np.arange(numel).reshape(expected.shape), torch.int64, device)
    assert (expected == np.arange(numel).reshape(expected.shape)).sum() == matches


@pytest.mark.parametrize("seed", [1, 12])
def test_random_numbers_have_the_moments_of_their_distribution(lesson, device, seed):
    n = 40_000
    uniform, normal = lesson.draws(n, seed, device)
    assert uniform.shape == normal.shape == (n,)
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
        error = variance * math.sqrt((kurtosis - 1) / n)
        assert abs(measured.var() - variance) < 5 * error


def test_a_seed_repeats_its_numbers_on_every_device(lesson, device):
    before = torch.get_rng_state()
    first, again, other = (lesson.draws(9, seed, device) for seed in (3, 3, 4))
    for i, on_cpu in enumerate(lesson.draws(9, 3)):
        assert_exact(first[i], on_cpu.numpy(), torch.float32, device)
        assert torch.equal(first[i], again[i])
        assert not torch.equal(first[i], other[i])
    # the global generator is left alone
    assert torch.equal(torch.get_rng_state(), before)


def test_the_moments_of_theory_are_not_the_measured_ones(lesson):
    lines = printed_if_tripled(lesson, 7, "draws").splitlines()
    assert "mean 1.50, variance 0.75 (theory 1/2, 1/12)" in lines[2]
    assert "mean 0.00, variance 9.00 (theory 0, 1)" in lines[3]


@pytest.mark.parametrize("in_place", [True, False])
def test_from_numpy_shares_what_is_changed_in_place_and_tensor_copies(lesson, in_place):
    for bridge in (torch.from_numpy, torch.tensor):
        array, tensor = lesson.after_adding_one(bridge, in_place)
        shared = in_place and bridge is torch.from_numpy
        assert_exact(tensor, [1.0 if shared else 0.0] * 3, torch.float64)
        np.testing.assert_array_equal(array, [1.0, 1.0, 1.0])
        assert np.shares_memory(array, tensor.numpy()) is shared


def test_memory_is_shared_on_the_cpu_alone(lesson, device):
    _, tensor = lesson.after_adding_one(lambda a: torch.from_numpy(a).to(device), True)
    assert tensor.tolist() == [1.0 if device == "cpu" else 0.0] * 3
    if device == "cpu":
        tensor.numpy()[0] = 5
        assert tensor[0] == 5
    else:
        with pytest.raises(TypeError):
            tensor.numpy()


def test_a_tensor_goes_to_its_device_and_comes_back(lesson, device):
    doubled = lesson.double_on_device(torch.tensor(A), device)
    assert_exact(doubled, 2 * np.array(A), torch.float32)
    # no memory to copy from
    assert lesson.raises(lambda: lesson.double_on_device(torch.tensor(A), "meta"))


@pytest.mark.parametrize("other", ["meta", "cuda"])
def test_devices_do_not_mix_except_with_a_plain_number_on_the_cpu(other):
    if other == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    there = torch.ones(3, device=other)
    with pytest.raises(RuntimeError):
        torch.ones(1) + there
    assert (torch.tensor(2.0) * there).device.type == other


@pytest.mark.parametrize(("a", "b"), [(200, 100), (50, 100), (255, 255)])
def test_uint8_counts_modulo_256(lesson, a, b):
    assert lesson.uint8_arithmetic(a, b) == ((a + b) % 256, (a - b) % 256)


def test_float32_holds_integers_up_to_2_to_the_24(lesson):
    for number in (2**24 - 1, 2**24, 2**24 + 1, 2**24 + 2):
        assert lesson.round_trip(number, torch.float32) == float(np.float32(number))
        assert lesson.round_trip(number, torch.float64) == number
    assert lesson.round_trip(16777217, torch.float32) == 16777216


def test_float32_keeps_about_7_digits_and_float64_about_16():
    for dtype, bits, digits in ((torch.float32, 24, 7), (torch.float64, 53, 16)):
        assert torch.finfo(dtype).eps == 2.0 ** (1 - bits)
        assert round(bits * math.log10(2)) == digits


def test_only_floats_have_a_mean(device):
    with pytest.raises(RuntimeError, match="could not infer output dtype"):
        torch.tensor([1, 2], device=device).mean()
    assert torch.tensor([1.0, 2.0], device=device).mean() == 1.5


def test_the_picture_shows_the_numbers_where_numpy_puts_them(lesson, device):
    m = np.arange(12).reshape(3, 4)
    expected = (m, m.reshape(4, 3), m.reshape(4, 3), m.T)
    for axes, array in zip(lesson.figure(device).axes, expected, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), array)
        shown = {text.get_position(): int(text.get_text()) for text in axes.texts}
        assert shown == {(column, row): n for (row, column), n in np.ndenumerate(array)}
