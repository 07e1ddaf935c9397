"""What lesson 02 claims."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from helpers import (
    ROOT,
    assert_values,
    loud_messages,
    needs_cuda,
    printed_if_tripled,
)

CHAPTER = ROOT / "lessons" / "02_tensors.md"
TABLE = np.loadtxt(ROOT / "data" / "digits.csv", delimiter=",", skiprows=1)
LABELS = TABLE[:, 0].astype(int)
A = [[1.0, -2.0, 4.0], [3.0, 0.5, -1.0], [2.0, 8.0, 5.0]]
B = [[2.0, 4.0], [1.0, 16.0], [-4.0, 0.25]]  # no product or sum of A, B rounds


def assert_exact(tensor, expected, dtype, device="cpu"):
    assert_values(tensor, expected, device, dtype, rtol=0)


def read_by_loops(known, new):
    """The digit of the nearest mean for the rows with the numbers in new.

    The means are those of the rows with the numbers in known. In NumPy and float64, one
    row after the other, and by |p - m|^2 = |p|^2 - 2 p m + |m|^2.
    """
    means = [
        np.mean([TABLE[i, 1:] for i in known if LABELS[i] == digit], axis=0)
        for digit in range(10)
    ]
    guesses = []
    for i in new:
        p = TABLE[i, 1:]
        guesses.append(np.argmin([p @ p - 2 * p @ m + m @ m for m in means]))
    return np.array(guesses)


# 1. A picture is a tensor
def test_a_picture_is_a_row_of_the_file_in_eight_rows_of_eight(lesson, device):
    pictures, labels = lesson.digits(device)
    assert_exact(labels, LABELS, torch.int64, device)
    assert_exact(pictures, TABLE[:, 1:].reshape(-1, 8, 8), torch.float32, device)
    assert pictures[7, 2, 3] == TABLE[7, 1 + 2 * 8 + 3]


def test_the_shapes_and_dtypes_of_parts_are_those_of_numpy(lesson, capsys):
    lesson.show_1("cpu")
    lines = capsys.readouterr().out.strip().split("\n")[1:]
    names = {
        "pictures": TABLE[:, 1:].astype(np.float32).reshape(-1, 8, 8),
        "labels": LABELS,
    }
    assert len(lines) == 7
    for line in lines:
        name, shape, dtype = re.split(r"   +", line.strip())
        part = eval(name, names)
        assert shape == f"shape {part.shape}" and dtype == f"torch.{part.dtype}"


@pytest.mark.parametrize("data", [7, [], [1.5, 2], [[1, 2, 3], [4, 5, 6]], [[[True]]]])
def test_a_tensor_has_the_anatomy_of_numpys_array(device, data):
    array, tensor = np.array(data), torch.tensor(data, device=device)
    kinds = {"i": torch.int64, "f": torch.float32, "b": torch.bool}
    assert (tensor.ndim, tuple(tensor.shape)) == (array.ndim, array.shape)
    assert (tensor.numel(), tensor.dtype) == (array.size, kinds[array.dtype.kind])


@needs_cuda
def test_devices_do_not_mix_except_with_a_plain_number_on_the_cpu():
    there = torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError):
        torch.ones(1) + there
    assert (torch.tensor(2.0) * there).device.type == "cuda"


@needs_cuda
def test_a_tensor_is_copied_to_a_card_and_back():
    here = torch.tensor(A)
    there = here.to("cuda")
    there += 1
    assert_exact(there.to("cpu"), np.array(A) + 1, torch.float32)
    assert_exact(here, A, torch.float32)
    with pytest.raises(TypeError):
        there.numpy()


# 2. Operators, and the matrix product
def test_the_product_by_hand_and_the_operator_are_the_sum_over_the_index_between(
    lesson, device
):
    a, b = np.array(A), np.array(B)
    expected = np.einsum("ij,jk->ik", a, b)
    tensors = torch.tensor(A, device=device), torch.tensor(B, device=device)
    for product in (lesson.product_by_hand, torch.matmul):
        assert_exact(product(*tensors), expected, torch.float32, device)
    assert_exact(tensors[0] * tensors[0], a * a, torch.float32, device)


def test_the_line_by_two_loops_is_computed_by_two_loops(lesson):
    printed = printed_if_tripled(lesson, 2, "product_by_hand")
    assert "a @ a                  [[7.0, 10.0], [15.0, 22.0]]\n" in printed
    assert "by two loops    [[21.0, 30.0], [45.0, 66.0]]\n" in printed
    assert "a * a                  [[1.0, 4.0], [9.0, 16.0]]\n" in printed


def test_the_strokes_share_the_points_that_both_have(lesson, capsys):
    lesson.show_2("cpu")
    points = [{0, 2}, {0, 1}, {0, 1, 2}]  # left, top, both
    shared = [[float(len(p & q)) for q in points[:2]] for p in points]
    assert f"strokes @ patterns.T   {shared}\n" in capsys.readouterr().out


def test_a_product_of_more_dimensions_is_one_product_after_the_other(device):
    a = torch.arange(24.0, device=device).reshape(2, 3, 4)
    b = torch.arange(40.0, device=device).reshape(2, 4, 5)
    expected = np.einsum("nij,njk->nik", a.cpu(), b.cpu())
    assert_exact(a @ b, expected, torch.float32, device)


def test_only_the_underscore_overwrites():
    a = torch.tensor([1.0, 2.0])
    assert a.add(10).tolist() == [11, 12] and a.tolist() == [1, 2]
    assert a.add_(10) is a and a.tolist() == [11, 12]


# 3. Sums, means and maxima
def test_a_reduction_removes_the_dimension_that_it_names(lesson, device):
    x = np.array([[1.0, 9.0, 2.0, 4.0], [7.0, 3.0, 5.0, 1.0], [-4.0, 0.0, 8.0, 4.0]])
    expected = {
        "x.sum()": x.sum(),
        "x.sum(dim=0)": x.sum(axis=0),
        "x.sum(dim=1)": x.sum(axis=1),
        "x.sum(dim=1, keepdim=True)": x.sum(axis=1, keepdims=True),
        "x.mean(dim=0)": np.array([4, 12, 15, 9]) / np.float32(3),
        "x.max(dim=1).values": x.max(axis=1),
        "x.max(dim=1).indices": x.argmax(axis=1),
    }
    found = lesson.reductions(torch.tensor(x, dtype=torch.float32, device=device))
    assert list(found) == list(expected)
    for name, array in expected.items():
        dtype = torch.int64 if "indices" in name else torch.float32
        assert_exact(found[name], np.float32(array), dtype, device)


def test_an_8_takes_the_most_ink_and_a_7_the_least(lesson, device, capsys):
    ink = [TABLE[np.equal(LABELS, digit), 1:].sum() for digit in range(10)]
    means = np.array(ink) / np.bincount(LABELS)
    found = lesson.mean_ink(*lesson.digits(device))
    assert_values(found, means, device, torch.float32, rtol=1e-6)
    lesson.show_3(device)
    printed = capsys.readouterr().out
    assert f"most ink    8, {means[8]:.1f} on average" in printed
    assert f"least ink   7, {means[7]:.1f} on average" in printed
    assert means.argmax() == 8 and means.argmin() == 7


# 4. When shapes differ
SHAPES = [s for n in range(3) for s in itertools.product((0, 1, 2, 3), repeat=n)]
SHAPES += [(5, 1, 3), (10, 8, 8), (797, 1, 8, 8)]


def shape_by_the_rule(first, second):
    """The chapter's three steps: right ends together, equal or 1, otherwise None."""
    length = max(len(first), len(second))
    pairs = zip(
        (1,) * (length - len(first)) + first,
        (1,) * (length - len(second)) + second,
        strict=True,
    )
    shape = []
    for a, b in pairs:
        if a != b and 1 not in (a, b):
            return None
        shape.append(b if a == 1 else a)
    return tuple(shape)


def test_the_rule_of_broadcasting_is_torchs():
    for first, second in itertools.product(SHAPES, SHAPES):
        a, b = torch.zeros(first), torch.zeros(second)
        expected = shape_by_the_rule(first, second)
        if expected is None:
            with pytest.raises(RuntimeError, match="must match the size of tensor b"):
                a + b
        else:
            assert tuple((a + b).shape) == expected


def test_a_mean_picture_is_the_mean_of_the_pictures_of_its_digit(lesson, device):
    pictures, labels = lesson.digits(device)
    means = lesson.mean_pictures(pictures[:1000], labels[:1000])
    rows = range(1000)
    for digit in range(10):
        own = np.mean([TABLE[i, 1:] for i in rows if LABELS[i] == digit], axis=0)
        expected = own.reshape(8, 8)
        assert_values(means[digit], expected, device, torch.float32, rtol=1e-6)


def test_the_nearest_mean_is_found_as_by_loops_and_reads_710_of_797(lesson, device):
    pictures, labels = lesson.digits(device)
    means = lesson.mean_pictures(pictures[:1000], labels[:1000])
    expected = read_by_loops(range(1000), range(1000, 1797))
    found = lesson.nearest(pictures[1000:], means)
    assert_exact(found, expected, torch.int64, device)
    assert (expected == LABELS[1000:]).sum() == 710


def test_section_4_prints_the_shapes_of_what_it_compares(lesson, capsys):
    lesson.show_4("cpu")
    lines = capsys.readouterr().out.strip().split("\n")
    assert lines[1:] == [
        f"   new           {(len(TABLE) - 1000, 8, 8)}",
        f"   means         {(10, 8, 8)}",
        f"   differences   {shape_by_the_rule((797, 1, 8, 8), (10, 8, 8))}",
        "   710 of 797 are read right",
    ]


# 5. Views and copies
@pytest.mark.parametrize(
    ("code", "view"),
    [
        ("t[1]", True),
        ("t[:, 1:3]", True),
        ("t[:]", True),
        ("t[:, None]", True),
        ("t[..., ::2]", True),
        ("t.T", True),
        ("t[2, 3]", True),
        ("t[t > 5]", False),
        ("t[[0, 2]]", False),
        ("t + 0", False),
        ("t.clone()", False),
    ],
)
def test_what_shares_memory_is_what_a_write_shows_in(lesson, device, code, view):
    t = torch.arange(12, device=device).reshape(3, 4)
    part = eval(code, {"t": t})
    assert lesson.share_memory(part, t) is view
    part.fill_(-1)
    assert bool((t == -1).any()) is view


def test_section_5_says_view_where_memory_is_shared(lesson, capsys):
    lesson.show_5("cpu")
    printed = capsys.readouterr().out
    rows = re.findall(r"^   (\S.*?)   +(view|copy)$", printed, re.MULTILINE)
    array = np.arange(12).reshape(3, 4)
    assert len(rows) == 6
    for code, kind in rows:
        shared = np.shares_memory(eval(code, {"t": array}), array)
        assert kind == ("view" if shared else "copy")


def test_what_need_not_be_converted_is_not_copied(lesson):
    t = torch.zeros(3)
    assert t.float() is t and t.to("cpu") is t and t.to(torch.float32) is t
    assert not lesson.share_memory(t.double(), t)


def test_an_assignment_through_a_mask_or_a_list_writes_into_the_tensor(device):
    t = torch.tensor([1.0, 6.0, 8.0], device=device)
    t[t > 7] = 0
    t[[0]] = 5
    assert t.tolist() == [5.0, 6.0, 0.0]


def test_only_the_clone_leaves_the_pictures_as_they_were(lesson, device):
    original = np.arange(1.0, 129.0).reshape(2, 8, 8)
    halves = original * (np.arange(8) < 4)[:, None]
    for function, after in (
        (lesson.without_lower_half, original),
        (lesson.without_lower_half_wrong, halves),
    ):
        pictures = torch.tensor(original, device=device)
        assert_exact(function(pictures), halves, torch.float64, device)
        assert_exact(pictures, after, torch.float64, device)


def test_257_halves_are_read_right_and_so_are_the_spoilt_pictures(lesson, capsys):
    pictures, labels = lesson.digits()
    means = lesson.mean_pictures(pictures[:1000], labels[:1000])
    upper = np.arange(64) < 32
    # With the lower half white, |p - m|^2 = sum over the upper half + |lower m|^2.
    distances = [
        ((TABLE[1000:, 1:][:, upper] - mean[upper]) ** 2).sum(axis=1)
        + (mean[~upper] ** 2).sum()
        for mean in means.double().reshape(10, 64).numpy()
    ]
    right = (np.argmin(distances, axis=0) == LABELS[1000:]).sum()
    assert right == 257
    lesson.show_5("cpu")
    found = re.findall(r"(\d+) of 797 are read right", capsys.readouterr().out)
    assert found == ["257", "710", "257", "257"]


# 6. reshape or permute
@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (3, 4), (5, 2)])
def test_layouts_hold_numpys_numbers_in_numpys_strides(lesson, device, rows, columns):
    m = np.arange(rows * columns).reshape(rows, columns)
    expected = {
        "m": m,
        "m.reshape(columns, rows)": m.reshape(columns, rows),
        "m.permute(1, 0)": m.T,
        "m.permute(1, 0).reshape(-1)": m.T.reshape(-1),
    }
    layouts = lesson.layouts(rows, columns, device)
    assert list(layouts) == list(expected)
    for name, array in expected.items():
        t = layouts[name]
        assert_exact(t, array, torch.int64, device)
        assert t.stride() == tuple(s // array.itemsize for s in array.strides)
        assert t.is_contiguous() == array.flags.c_contiguous
        assert lesson.share_memory(t, layouts["m"]) == np.shares_memory(array, m)


def test_view_refuses_only_where_it_would_have_to_move_numbers(device):
    m = torch.arange(6, device=device).reshape(2, 3)
    with pytest.raises(RuntimeError, match="view size is not compatible with input"):
        m.permute(1, 0).view(-1)
    part = m[:, :2]  # not contiguous either, but nothing has to move
    assert not part.is_contiguous()
    assert part.view(2, 2, 1).tolist() == [[[0], [1]], [[3], [4]]]


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(32, 32, 3), (2, 2, 3), (2, 5, 4)]
)
def test_only_permute_puts_each_number_where_it_belongs(
    lesson, device, height, width, channels
):
    numel = height * width * channels
    image = torch.arange(numel, device=device).reshape(height, width, channels)
    # The number at (h, w, c) is its place there, (h * width + w) * channels + c.
    h, w, c = np.meshgrid(range(height), range(width), range(channels), indexing="ij")
    expected = np.empty((channels, height, width), dtype=int)
    expected[c, h, w] = (h * width + w) * channels + c
    reading_order = np.arange(numel).reshape(expected.shape)
    assert_exact(lesson.channels_first(image), expected, torch.int64, device)
    wrong = lesson.channels_first_wrong(image)
    assert_exact(wrong, reading_order, torch.int64, device)
    if channels == 3:
        assert (expected == reading_order).sum() == 2


def test_section_6_prints_two_of_12_and_of_3072(lesson, capsys):
    lesson.show_6("cpu")
    found = re.findall(r"puts (\d+) of (\d+) where", capsys.readouterr().out)
    assert found == [("2", str(2 * 2 * 3)), ("2", str(32 * 32 * 3))]


# 7. Random numbers and their seed
@pytest.mark.parametrize("seed", [1, 12])
def test_normal_numbers_have_the_mean_0_and_the_variance_1(lesson, device, seed):
    n = 40_000
    normal = lesson.draws(n, seed, device)
    assert normal.shape == (n,) and normal.device.type == device
    # Five standard errors: of a mean sqrt(variance / n), of a variance sqrt((kurtosis -
    # 1) / n) times it; the variance is 1, and the kurtosis 3.
    measured = normal.double().cpu().numpy()
    assert abs(measured.mean()) < 5 / math.sqrt(n)
    assert abs(measured.var() - 1) < 5 * math.sqrt(2 / n)


def test_the_numbers_of_theory_are_not_the_measured_ones(lesson):
    lines = printed_if_tripled(lesson, 7, "draws").splitlines()
    assert lines[2:4] == [
        "   randn   std 3.00, 26% from -1 to 1",  # erf(1 / (3 sqrt(2)))
        "   theory  std 1.00, 68% from -1 to 1",
    ]


def test_a_seed_repeats_its_numbers_on_every_device(lesson, device):
    before = torch.get_rng_state()
    first, again, other = (lesson.draws(9, seed, device) for seed in (3, 3, 4))
    assert_exact(first, lesson.draws(9, 3).numpy(), torch.float32, device)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    # the global generator is left alone
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", [1, 5])
def test_a_random_division_is_read_as_by_loops(lesson, device, seed):
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(seed)).numpy()
    assert sorted(order) == list(range(1797))
    guesses = read_by_loops(order[:1000], order[1000:])
    right = (guesses == LABELS[order[1000:]]).sum()
    found = lesson.right_of_a_random_division(*lesson.digits(device), seed)
    assert found == right


def test_seeds_differ_by_what_is_to_be_expected_of_797_coins(lesson):
    counts = [
        lesson.right_of_a_random_division(*lesson.digits(), seed) for seed in range(20)
    ]
    # 797 independent answers, each right with probability 0.9, have this std.
    assert np.std(counts) < 2 * math.sqrt(797 * 0.9 * 0.1)
    assert abs(np.mean(counts) - 710) < 20 and max(counts) - min(counts) >= 10


def test_var_and_std_divide_by_n_minus_1():
    x = torch.tensor(A)
    assert x.var().item() == pytest.approx(np.var(A, ddof=1), rel=1e-6)
    assert x.std().item() == pytest.approx(np.std(A, ddof=1), rel=1e-6)


# 8. NumPy, and the limits of a dtype
def test_making_a_uint8_tensor_of_300_is_refused_and_computing_it_is_not():
    for make in (
        lambda: torch.tensor([300], dtype=torch.uint8),
        lambda: torch.full((2,), 300, dtype=torch.uint8),
    ):
        with pytest.raises(RuntimeError, match="without overflow"):
            make()
    assert torch.tensor([200], dtype=torch.uint8) + 100 == 300 % 256


def test_from_numpy_shares_what_is_changed_in_place_and_tensor_copies(lesson):
    array, shared, copied = lesson.add_one_in_place()
    np.testing.assert_array_equal(array, [1.0] * 3)
    assert_exact(shared, [1.0] * 3, torch.float64)
    assert_exact(copied, [0.0] * 3, torch.float64)
    assert np.shares_memory(array, shared.numpy())
    assert not np.shares_memory(array, copied.numpy())


@pytest.mark.parametrize("number", [0, 7, 200, 254, 255])
def test_uint8_counts_modulo_256(lesson, number):
    assert lesson.plus_one(number, torch.uint8) == (number + 1) % 256
    below = torch.tensor(number, dtype=torch.uint8) - 100
    assert below == (number - 100) % 256


def test_float32_counts_up_to_2_to_the_24(lesson):
    for number in (2**24 - 2, 2**24 - 1, 2**24, 2**24 + 2):
        float32 = np.float32(number) + np.float32(1)
        assert lesson.plus_one(number, torch.float32) == float(float32)
        assert lesson.plus_one(number, torch.float64) == number + 1
    assert lesson.plus_one(2**24, torch.float32) == 2**24
    assert np.nextafter(np.float32(2**24), np.float32(np.inf)) == 2**24 + 2


def test_float32_keeps_about_7_digits_and_float64_about_16():
    for dtype, bits, digits in ((torch.float32, 24, 7), (torch.float64, 53, 16)):
        assert torch.finfo(dtype).eps == 2.0 ** (1 - bits)
        assert round(bits * math.log10(2)) == digits


def test_pixels_are_rounded_and_clamped(lesson, device):
    x = np.array([-1e9, -1.5, -0.4, 0.49, 0.51, 99.7, 254.6, 255.4, 300, np.inf])
    expected = np.minimum(np.maximum(np.rint(x), 0), 255)
    found = lesson.to_pixels(torch.tensor(x, device=device))
    assert_exact(found, expected, torch.uint8, device)


def test_a_nan_stays_a_nan_until_it_is_converted():
    x = torch.tensor([1.0, float("nan")])
    assert torch.isnan(x.round().clamp(0, 255)).tolist() == [False, True]


def test_capital_tensor_takes_a_shape_and_small_tensor_a_number():
    assert torch.Tensor(3).shape == (3,)
    assert (torch.tensor(3).shape, torch.tensor(3).item()) == ((), 3)


# The picture
def test_the_picture_shows_the_digits_by_permute_and_reading_order_by_reshape(
    lesson, device
):
    digits = TABLE[:3, 1:].reshape(3, 8, 8)
    image = np.stack(list(digits), axis=2)
    panels = [image / 16, *digits, image / 16, *image.reshape(3, 8, 8)]
    for axes, array in zip(lesson.figure(device).axes, panels, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), np.float32(array))


# Go wrong
X = torch.ones(2, 3)
LOUD = {
    "must match the size of tensor b": lambda: X - X.mean(dim=1),
    "mat1 and mat2 shapes cannot be multiplied": lambda: X @ X,
    "expected m1 and m2 to have the same dtype": lambda: X @ X.double().T,
    "addmv input tensors must have the same dtype": lambda: X @ X[0].double(),
    "expected both vectors to have same dtype": lambda: X[0] @ X[0].double(),
    "expected scalar type": lambda: X @ X.double().T,
    "unsupported operand type(s) for -: 'Tensor' and 'torch.return_types.max'": (
        lambda: X - X.max(dim=1)
    ),
    "could not infer output dtype": lambda: torch.tensor([1, 2]).mean(),
    "cannot be converted to Scalar": lambda: X.item(),
    "is invalid for input of size": lambda: X.reshape(4, 2),
    "view size is not compatible with input tensor's size and stride": (
        lambda: X.T.view(-1)
    ),
}
ON_A_CARD = "Expected all tensors to be on the same device"
SAME_DTYPE = {
    "expected m1 and m2 to have the same dtype",
    "addmv input tensors must have the same dtype",
    "expected both vectors to have same dtype",
    "expected scalar type",
}


@pytest.mark.parametrize("words", LOUD)
def test_a_loud_message_is_raised(words):
    with pytest.raises((RuntimeError, TypeError)) as raised:
        LOUD[words]()
    wanted = SAME_DTYPE if words in SAME_DTYPE else {words}
    assert any(each in str(raised.value) for each in wanted)


@needs_cuda
def test_two_devices_are_refused_in_the_words_of_the_table():
    with pytest.raises(RuntimeError, match=ON_A_CARD):
        X + X.to("cuda")


def test_of_stacks_another_message_says_that_the_dtypes_differ():
    with pytest.raises(RuntimeError, match="expected scalar type"):
        X.expand(2, *X.shape) @ X.double().T.expand(2, *X.T.shape)


def test_at_of_floats_and_whole_numbers_is_refused_and_of_whole_numbers_is_not():
    whole = torch.tensor([[1, 2], [3, 4]])
    with pytest.raises(RuntimeError) as raised:
        whole.float() @ whole
    assert any(words in str(raised.value) for words in SAME_DTYPE)
    assert (whole @ whole).tolist() == [[7, 10], [15, 22]]


def test_two_rows_of_a_table_share_a_storage_and_no_number(lesson):
    t = torch.zeros(2, 3)
    assert lesson.share_memory(t[0], t[1])
    t[0] += 1
    assert not t[1].any()


def test_the_table_of_loud_mistakes_is_tested_row_by_row():
    assert loud_messages(CHAPTER) - {".item()"} == {*LOUD, ON_A_CARD}
