"""What lesson 22 claims."""

import functools
import itertools
import logging
import math
import sys
import weakref
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_values, printed_if_tripled
from torch import nn
from torch.utils.checkpoint import checkpoint


def version(text):
    """Major and minor: 2.1.0+cu118 as (2, 1)."""
    return tuple(int(part) for part in text.split(".")[:2])


TORCH, PYTHON = version(torch.__version__), sys.version_info[:2]
HALVES = {torch.float16: 11, torch.bfloat16: 8}  # binary digits
DIGITS = {torch.float64: 53, torch.float32: 24, **HALVES}


def same(found, expected):
    assert (found.dtype, found.device) == (expected.dtype, expected.device)
    assert torch.equal(found, expected)


def numbers(*shape, device="cpu", dtype=torch.float64):
    """Numbers that the lesson does not draw."""
    values = np.random.default_rng(3).normal(size=shape)
    return torch.from_numpy(values).to(device, dtype)


def layers(number, width, device="cpu", dtype=torch.float64):
    """So many tanh layers of this width, made without the lesson."""
    parts = []
    for _ in range(number):
        parts.append(nn.Sequential(nn.Linear(width, width), nn.Tanh()))
    return nn.Sequential(*parts).to(device, dtype)


def nearest(number, digits):
    """The number of so many binary digits that is nearest, the even one of two."""
    mantissa, exponent = math.frexp(number)
    return math.ldexp(round(mantissa * 2**digits), exponent - digits)


def graphs_of(function, *inputs, **options):
    """How many graphs torch.compile makes of a function called with these inputs."""
    found = []

    def backend(graph, inputs):
        found.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(function, backend=backend, **options)
    logging.disable(logging.WARNING)  # it reports each break
    try:
        results = [compiled(x) for x in inputs]
    finally:
        logging.disable(logging.NOTSET)
    for x, result in zip(inputs, results, strict=True):
        torch.testing.assert_close(result, function(x))
    return len(found)


# The counter, and what is counted
def test_a_counter_notes_names_operations_and_bytes_and_changes_no_result(
    lesson, device
):
    a, b = numbers(3, 4, device=device), numbers(4, 5, device=device)
    bias, v = b[0], b[:, 0]
    calls = {
        "mm": (lambda: torch.mm(a, b), 2 * 3 * 4 * 5, 15),
        "addmm": (lambda: torch.addmm(bias, a, b), 2 * 3 * 4 * 5, 15),
        "mv": (lambda: torch.mv(a, v), 2 * 3 * 4, 3),
        "add": (lambda: torch.add(a, a, alpha=2), 0, 12),  # no product of matrices
        "split": (lambda: torch.split(a, 1), 0, 0),  # views: nothing is written
    }
    total = lesson.Count()
    for name, (function, flops, length) in calls.items():
        with lesson.Count() as count, total:
            result = function()
        assert (count.calls, count.flops, count.bytes) == ([name], flops, length * 8)
        if name != "split":
            same(result, function())
    assert (total.calls, total.flops, total.bytes) == (list(calls), 264, 45 * 8)
    assert lesson.counted(lambda: a.float()).bytes == 12 * 4


def test_a_network_is_linear_layers_with_tanh_behind_each_from_seed_0(lesson, device):
    sizes = [3, 7, 2, 5]
    before = torch.get_rng_state()
    model = lesson.network(sizes, device)
    same(torch.get_rng_state(), before)  # nobody else's numbers are touched
    torch.manual_seed(0)
    x = expected = numbers(4, 3, device=device)
    for a, b in itertools.pairwise(sizes):
        linear = nn.Linear(a, b).double().to(device)
        expected = torch.tanh(expected @ linear.weight.T + linear.bias)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-14)
    assert len(model) == 3


def test_what_is_drawn_is_normal_and_from_seed_0(lesson, device):
    before = torch.get_rng_state()
    drawn = lesson.draw(2000, 5, device=device)
    same(torch.get_rng_state(), before)
    torch.manual_seed(0)
    same(drawn, torch.randn(2000, 5, dtype=torch.float64).to(device))


# 1. The operations of a training step, and of a product of three
@pytest.mark.parametrize("sizes", [[5, 3], [4, 4, 7, 1, 8]])
@pytest.mark.parametrize("batch", [1, 6])
def test_a_training_step_takes_6_n_less_2_n_1_operations_a_sample(
    lesson, device, sizes, batch
):
    model, x = lesson.network(sizes, device), numbers(batch, sizes[0], device=device)
    # (batch, a) @ (a, b), (b, batch) @ (batch, a) and (batch, b) @ (b, a)
    forward = sum(2 * batch * a * b for a, b in itertools.pairwise(sizes))
    first = 2 * batch * sizes[0] * sizes[1]  # which no gradient of x is for
    assert lesson.counted(lambda: model(x)).flops == forward
    step = lesson.counted(lambda: model(x).sum().backward()).flops
    assert step == 3 * forward - first == lesson.training_flops(sizes, batch)
    x.requires_grad_()  # as within a larger network: no layer is the first
    every = lesson.counted(lambda: model(x).sum().backward()).flops
    assert every == 3 * forward


def test_torchs_own_counter_counts_the_same_step(lesson, device):
    counter = pytest.importorskip("torch.utils.flop_counter")
    for sizes, batch in (([20, 64, 10], 3), ([5, 7, 2, 2], 1)):
        model = lesson.network(sizes, device)
        x = numbers(batch, sizes[0], device=device)
        with counter.FlopCounterMode(display=False) as count:
            model(x).sum().backward()
        assert count.get_total_flops() == lesson.training_flops(sizes, batch)


def test_torchs_own_counter_came_with_2_1_and_does_not_see_a_matrix_times_a_vector(
    device,
):
    there = find_spec("torch.utils.flop_counter") is not None
    assert there == (version("2.1") <= TORCH)
    counter = pytest.importorskip("torch.utils.flop_counter")
    x, image = numbers(6, 4, device=device), numbers(2, 3, 8, 8, device=device)
    kernels = numbers(4, 3, 3, 3, device=device)
    for function, flops in (
        (lambda: x @ x[0], 0),
        (lambda: x @ x[:1].T, 2 * 6 * 4),  # the same, as (k, 1)
        # 2 * 4 pictures of 6 * 6 numbers, each a sum of 27 products
        (lambda: F.conv2d(image, kernels), 2 * 2 * 4 * 36 * 27),
    ):
        with counter.FlopCounterMode(display=False) as count:
            function()
        assert count.get_total_flops() == flops


def test_100_100_100_takes_100000_operations_a_sample(lesson):
    assert lesson.training_flops([100, 100, 100], 1) == 6 * 20000 - 2 * 10000 == 100000


@pytest.mark.parametrize("n", [2, 9])
def test_two_matrices_first_cost_n_plus_1_halves_as_much(lesson, device, n):
    a, b = numbers(n, n, device=device), numbers(n, n, device=device).T
    v = numbers(n, device=device)
    slow = lesson.counted(lambda: (a @ b) @ v).flops
    fast = lesson.counted(lambda: a @ (b @ v)).flops
    assert (slow, fast) == (2 * n**3 + 2 * n**2, 4 * n**2)
    assert slow / fast == (n + 1) / 2


def least_operations(sizes):
    """Of a chain of matrices of these sizes, by dynamic programming over its parts."""
    least = {(i, i + 1): 0 for i in range(len(sizes) - 1)}
    for length in range(2, len(sizes)):
        for i in range(len(sizes) - length):
            j = i + length
            least[i, j] = min(
                least[i, k] + least[k, j] + 2 * sizes[i] * sizes[k] * sizes[j]
                for k in range(i + 1, j)
            )
    return least[0, len(sizes) - 1]


@pytest.mark.parametrize(
    "sizes", [[10, 1000, 10, 1000, 10], [3, 7, 2, 9, 4, 5], [8, 2, 6, 1]]
)
def test_multi_dot_finds_the_best_order(lesson, device, sizes):
    chain = [numbers(a, b, device=device) for a, b in itertools.pairwise(sizes)]
    best = lesson.counted(lambda: torch.linalg.multi_dot(chain)).flops
    left_to_right = 2 * sizes[0] * sum(a * b for a, b in itertools.pairwise(sizes[1:]))
    assert best == least_operations(sizes) < left_to_right
    if sizes[1] == 1000:
        assert (best, left_to_right) == (402000, 600000)


@pytest.mark.parametrize(
    ("section", "which", "theory", "measured"),
    [
        (1, 1, "theory 268288", "8 samples: 804864"),
        (1, 2, "theory 100.5", "ratio 301.5"),
        (2, 1, "theory 4 * 100 + 1", "1203 calls"),
        (2, 3, "theory 500.5", "ratio 1501.5"),
    ],
)
def test_the_theory_is_not_what_was_counted(
    lesson, monkeypatch, capsys, section, which, theory, measured
):
    """One count of the section, the first or a later one, is made three times as large.

    268288 is 8 * (6 * (20 * 64 + 64 * 64 + 64 * 10) - 2 * 20 * 64).
    """
    counts, counted = [], lesson.counted

    def miscounted(function):
        count = counted(function)
        counts.append(count)
        if len(counts) == which:
            count.calls, count.flops = 3 * count.calls, 3 * count.flops
            count.bytes *= 3
        return count

    monkeypatch.setattr(lesson, "counted", miscounted)
    getattr(lesson, f"show_{section}")("cpu")
    printed = capsys.readouterr().out
    assert theory in printed and measured in printed


# 2. One call instead of many
@pytest.mark.parametrize(("n", "d"), [(0, 3), (7, 4)])
def test_row_by_row_takes_4_n_plus_1_calls_and_a_product_one(lesson, device, n, d):
    x, w = numbers(n, d, device=device), numbers(d, device=device)
    result = lesson.row_by_row(x, w)
    assert_values(result, x.cpu().numpy() @ w.cpu().numpy(), device, atol=1e-13)
    assert len(lesson.counted(lambda: lesson.row_by_row(x, w)).calls) == 4 * n + 1
    assert lesson.counted(lambda: x @ w).calls == ["mv"]


@pytest.mark.parametrize(("n", "d"), [(1, 3), (9, 5)])
def test_cat_in_a_loop_writes_n_plus_1_halves_times_the_bytes(lesson, device, n, d):
    table = numbers(n, d, device=device)
    rows = table.split(1)
    same(lesson.grown(rows), table)
    loop = lesson.counted(lambda: lesson.grown(rows))
    once = lesson.counted(lambda: torch.cat(rows))
    assert loop.bytes == sum(range(1, n + 1)) * d * 8
    assert (once.calls, once.bytes) == (["cat"], n * d * 8)
    assert loop.bytes / once.bytes == (n + 1) / 2


# 3. Operations for each byte: the roofline
@pytest.mark.parametrize("n", [1, 6, 25])
def test_a_product_makes_n_sixths_of_an_operation_a_byte(lesson, device, n):
    for dtype, size in ((torch.float32, 4), (torch.float64, 8)):
        a = torch.zeros(n, n, device=device, dtype=dtype)
        count = lesson.counted(lambda a=a: a @ a)
        intensity = count.flops / (3 * count.bytes)  # two are read and one written
        assert lesson.product_intensity(n, size) == pytest.approx(intensity, rel=1e-15)
    assert lesson.product_intensity(n) == pytest.approx(n / 6, rel=1e-15)


def test_x_plus_1_makes_an_eighth_whatever_the_size(lesson, device):
    x = torch.zeros(40, device=device)
    bytes_read = x.numel() * x.element_size()
    assert 40 / (bytes_read + lesson.counted(lambda: x + 1).bytes) == 1 / 8


def test_the_roof_is_the_bandwidth_up_to_the_corner_and_the_peak_beyond(lesson):
    peak, bandwidth = 300.0, 16.0
    corner = peak / bandwidth
    for part in (0.01, 0.5, 0.99):
        assert lesson.roofline(part * corner, peak, bandwidth) == part * corner * 16
        # fewer bytes help there, and more operations a second do not
        assert lesson.roofline(part * corner, 2 * peak, bandwidth) == part * corner * 16
    for part in (1, 1.01, 100):
        assert lesson.roofline(part * corner, peak, bandwidth) == 300
        assert lesson.roofline(part * corner, peak, 2 * bandwidth) == 300


# 4. What is kept for backward
@pytest.mark.parametrize(("number", "width", "n"), [(1, 8, 3), (3, 5, 7)])
@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.float64, 8)])
def test_tanh_layers_keep_l_n_d_numbers_and_none_under_no_grad(
    lesson, device, number, width, n, dtype, size
):
    model, x = layers(number, width, device, dtype), numbers(n, width, device=device)
    x = x.to(dtype)
    parameters = list(model.parameters())
    kept = lesson.bytes_kept(lambda: model(x), [x, *parameters])
    assert kept == number * n * width * size
    # What is kept of x and the weights is theirs. The first layer's weight is for
    # the gradient of x, which nobody wants.
    with_x = lesson.bytes_kept(lambda: model(x), parameters)
    assert with_x == kept + n * width * size
    with_weights = lesson.bytes_kept(lambda: model(x), [x])
    assert with_weights == kept + (number - 1) * width**2 * size
    with torch.no_grad():
        assert lesson.bytes_kept(lambda: model(x), []) == 0


def test_the_bytes_in_theory_are_not_those_that_were_counted(lesson):
    printed = printed_if_tripled(lesson, 4, "bytes_kept")
    assert f"256 samples: {3 * 524288}, theory {8 * 256 * 64 * 4}" in printed


def test_a_storage_is_counted_once_and_whole(lesson, device):
    x = numbers(6, 4, device=device).requires_grad_()

    def function():
        y = x * 2
        torch.sin(y[:1]) + torch.cos(y[3:]).sum() + y * y

    assert lesson.bytes_kept(function, [x]) == 6 * 4 * 8
    assert lesson.bytes_kept(lambda: x[2:].sin(), []) == 6 * 4 * 8


def test_backward_still_works_while_the_bytes_are_counted(lesson, device):
    x = numbers(5, device=device).requires_grad_()
    assert lesson.bytes_kept(lambda: x.sin().exp().sum().backward(), [x]) == 5 * 8
    expected = (x.cos() * x.sin().exp()).detach()
    torch.testing.assert_close(x.grad, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("number", "width", "n"), [(3, 16, 8), (8, 64, 256)])
def test_autocast_keeps_outputs_and_input_in_2_bytes_and_copies_of_weights(
    lesson, device, number, width, n
):
    model = layers(number, width, device, torch.float32)
    x = numbers(n, width, device=device).float()
    own = [x, *model.parameters()]
    with torch.autocast(device, dtype=torch.bfloat16):
        kept = lesson.bytes_kept(lambda: model(x), own)
    outputs, weights = (number + 1) * n * width * 2, (number - 1) * width**2 * 2
    assert kept == outputs + weights
    assert number == 3 or (outputs, weights) == (294912, 57344)
    assert kept > lesson.bytes_kept(lambda: model(x), own) / 2  # not by half


def test_autocast_leaves_parameters_gradients_and_losses_in_float32(device):
    model, x = layers(2, 4, device, torch.float32), numbers(3, 4, device=device).float()
    target = torch.zeros(3, 4, device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        output = model(x)
        loss = F.mse_loss(output, target) + F.cross_entropy(output, target)
    assert (output.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    loss.backward()
    for parameter in model.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32


# 5. Checkpointing: keep less, compute again
def most_held(function, own):
    """The most bytes that autograd holds at once in function(), own ones aside."""
    held, most = weakref.WeakSet(), [0]
    own = {tensor.untyped_storage().data_ptr() for tensor in own}

    class Held:
        def __init__(self, tensor):
            self.tensor = tensor

    def pack(tensor):
        kept = Held(tensor)
        held.add(kept)
        storages = [one.tensor.untyped_storage() for one in held]
        sizes = {s.data_ptr(): s.nbytes() for s in storages if s.data_ptr() not in own}
        most[0] = max(most[0], sum(sizes.values()))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        function()
    return most[0]


@pytest.mark.parametrize(("number", "width", "n"), [(16, 8, 3), (9, 4, 2), (7, 4, 2)])
def test_blocks_of_k_keep_l_over_k_less_1_and_rebuild_k_least_at_the_root(
    lesson, device, number, width, n
):
    model, x = layers(number, width, device), numbers(n, width, device=device)
    x.requires_grad_()
    own, unit = [x, *model.parameters()], n * width * 8
    together = {}
    for size in range(1, number + 1):
        blocks = functools.partial(lesson.in_blocks, model, x, size)
        kept = lesson.bytes_kept(blocks, own) // unit
        assert kept == math.ceil(number / size) - 1
        together[size] = kept + size
        if number % size == 0:
            most = most_held(lambda f=blocks: f().sum().backward(), own)
            assert most == together[size] * unit
    assert most_held(lambda: model(x).sum().backward(), own) == number * unit
    root = math.isqrt(number)
    if root**2 == number:
        # L / k + k - 2 sqrt(L) = (sqrt(L / k) - sqrt(k))^2 is 0 at the root, else above
        assert min(together.values()) == together[root] == 2 * root - 1
    if number == 16:  # outputs instead of the 16 of a plain pass
        assert [together[k] for k in (1, 2, 4, 8, 16)] == [16, 9, 7, 9, 16]


@pytest.mark.parametrize("size", [1, 2, 6])
def test_blocks_give_the_same_output_and_bit_for_bit_the_same_gradient(
    lesson, device, size
):
    model, x = lesson.network([5, 4, 6, 3, 3, 7, 2], device), numbers(8, 5)
    x = x.to(device).requires_grad_()
    same(lesson.in_blocks(model, x, size).detach(), model(x).detach())
    whole = lesson.gradient(model, lambda: model(x))
    of_x = x.grad.clone()
    for function in (
        lambda: lesson.in_blocks(model, x, size),
        lambda: checkpoint(model, x, use_reentrant=False),
    ):
        x.grad = None
        same(lesson.gradient(model, function), whole)
        same(x.grad, of_x)


def test_the_gradient_is_that_of_the_sum_of_squares_and_starts_from_0(lesson, device):
    model = nn.Linear(3, 2).to(device, torch.float64)
    x = numbers(5, 3, device=device)
    error = 2 * model(x).detach().cpu().numpy()
    expected = np.concatenate([(error.T @ x.cpu().numpy()).ravel(), error.sum(axis=0)])
    for _ in range(2):
        assert_values(lesson.gradient(model, lambda: model(x)), expected, device)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_checkpointing_costs_one_more_forward_pass(lesson, device, size):
    model, x = layers(4, 6, device), numbers(3, 6, device=device).requires_grad_()
    forward = 2 * 3 * 4 * 6 * 6
    blocks = functools.partial(lesson.in_blocks, model, x, size)
    assert lesson.counted(lambda: model(x).sum().backward()).flops == 3 * forward
    assert lesson.counted(lambda: blocks().sum().backward()).flops == 4 * forward


def test_a_block_runs_once_forward_without_a_graph_and_once_more_in_backward(
    lesson, device
):
    seen = []

    def block(x):
        seen.append(torch.is_grad_enabled())
        return x**3

    x = numbers(4, device=device).requires_grad_()
    y = lesson.Recompute.apply(x, block)
    assert seen == [False] and y.requires_grad
    y.backward(torch.tensor([1.0, 2.0, 0.0, -1.0], dtype=torch.float64, device=device))
    assert seen == [False, True]
    slope = 3 * x.detach() ** 2 * torch.tensor([1, 2, 0, -1], device=device)
    torch.testing.assert_close(x.grad, slope, rtol=1e-14, atol=0)


@pytest.mark.parametrize("preserved", [True, False])
def test_dropout_repeats_its_mask_if_the_random_state_is_kept(device, preserved):
    x = torch.full((4096,), 3.0, dtype=torch.float64, device=device, requires_grad=True)
    options = {} if preserved else {"preserve_rng_state": False}  # kept unless told
    y = checkpoint(lambda x: F.dropout(x * x), x, use_reentrant=False, **options)
    torch.rand(5, device=device)  # what comes between
    y.sum().backward()
    repeated = ((y > 0) == (x.grad > 0)).double().mean().item()
    # Two masks agree at half of the places, to five standard errors, 0.5 / sqrt(4096).
    assert repeated == 1 if preserved else abs(repeated - 0.5) < 5 * 0.5 / 64


# 6. Accumulation: a large batch in small parts
def slope_of_mse(x, y, model):
    """The gradient of the mean squared error of a linear layer: weight, then bias."""
    theta = [t.detach().cpu().numpy() for t in (model.weight, model.bias)]
    error = 2 * (x @ theta[0].T + theta[1] - y) / y.size
    return np.concatenate([(error.T @ x).ravel(), error.sum(axis=0)])


@pytest.fixture(scope="module")
def pairs():
    random = np.random.default_rng(5)
    return random.normal(size=(12, 3)), random.normal(size=(12, 2))


@pytest.mark.parametrize("parts", [1, 3, 12])
def test_parts_give_the_gradient_of_the_whole_and_undivided_so_many_times_it(
    lesson, device, pairs, parts
):
    model = nn.Linear(3, 2).to(device, torch.float64)
    x, y = (torch.from_numpy(part).to(device) for part in pairs)
    whole = slope_of_mse(*pairs, model)
    for divided, times in ((True, 1), (False, parts), (True, 1)):
        result = lesson.accumulated(model, x, y, parts, divided)
        assert_values(result, times * whole, device, rtol=1e-11, atol=1e-14)


def test_unequal_parts_need_the_weight_of_their_share(lesson, device, pairs):
    model = nn.Linear(3, 2).to(device, torch.float64)
    x, y = pairs[0][:10], pairs[1][:10]
    ours = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
    whole = slope_of_mse(x, y, model)
    # as chunk cuts 10 in 4
    pieces = [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 10)]
    slopes = [slope_of_mse(x[part], y[part], model) for part in pieces]
    mean = lesson.accumulated(model, *ours, 4)
    assert_values(mean, np.mean(slopes, axis=0), device, rtol=1e-11, atol=1e-14)
    assert np.linalg.norm(np.mean(slopes, axis=0) - whole) > 0.01 * np.linalg.norm(
        whole
    )
    weighed = np.average(slopes, axis=0, weights=[3, 3, 3, 1])
    np.testing.assert_allclose(weighed, whole, rtol=1e-11, atol=1e-14)


# 7. Half the bytes, and what they cannot hold
@pytest.mark.parametrize(("dtype", "digits"), DIGITS.items())
def test_counting_by_ones_stops_at_2_to_the_digits(lesson, dtype, digits):
    assert lesson.counts_to(dtype) == 2**digits
    # one more is a tie between two numbers that are 2 apart, and the even one wins
    assert nearest(2**digits + 1, digits) == 2**digits


def test_bfloat16_has_the_range_of_float32_and_float16_one_from_6e_8_to_65504():
    for dtype in (torch.float32, torch.bfloat16):
        power = torch.tensor(2.0**127, dtype=torch.float64).to(dtype)
        assert power == 2.0**127 and (2 * power).isinf()
        assert torch.finfo(dtype).smallest_normal == 2.0**-126
    small = torch.tensor([2.0**-24, 2.0**-25, 1e-8, 65519, 65520, 70000])
    assert small.half().tolist() == [2.0**-24, 0, 0, 65504, math.inf, math.inf]
    assert f"{2**-24:.0e}" == "6e-08" and (2 - 2**-10) * 2**15 == 65504
    assert small[5].bfloat16().item() == nearest(70000, 8) == 70144


def test_bfloat16_numbers_are_a_256th_apart_below_1_and_a_128th_beyond():
    bits = torch.ones((), dtype=torch.bfloat16).view(torch.int16)
    below, beyond = (bits + step for step in (-1, 1))  # the neighbours, by their bits
    assert 1 - below.view(torch.bfloat16).item() == 1 / 256
    assert beyond.view(torch.bfloat16).item() - 1 == 1 / 128
    assert torch.tensor(0.999).bfloat16().item() == nearest(0.999, 8) == 1
    # Half of the spacing is what a step has to exceed: 0.001 nowhere, 0.003 as far as
    # -1.
    assert nearest(1 - 0.001, 8) == 1 and nearest(1 - 0.003, 8) == 1 - 1 / 256
    assert nearest(-1 - 0.003, 8) == -1 and nearest(-255 / 256 - 0.003, 8) == -1


@pytest.mark.parametrize("steps", [10, 1000])
@pytest.mark.parametrize(("dtype", "digits"), HALVES.items())
def test_a_weight_of_few_digits_is_rounded_at_each_step(lesson, dtype, digits, steps):
    weight = 1.0
    for _ in range(steps):  # in float32, and then to the digits
        weight = nearest(float(np.float32(weight) - np.float32(0.001)), digits)
    assert lesson.after_steps(dtype, steps) == weight
    assert dtype == torch.float16 or weight == 1  # none of 1000 steps counts


@pytest.mark.parametrize(
    ("dtype", "digits"), [(torch.float32, 24), (torch.float64, 53)]
)
def test_a_weight_of_many_digits_loses_a_thousandth_a_step(lesson, dtype, digits):
    for steps in (1, 1000):
        # Each step rounds a number of at most 1, and 0.001, by half a unit.
        bound = steps * 2.0**-digits + 1e-15
        expected = pytest.approx(1 - 0.001 * steps, rel=0, abs=bound)
        assert lesson.after_steps(dtype, steps) == expected


def test_a_float64_array_makes_float64_of_what_it_meets():
    array = torch.from_numpy(np.ones(3))
    assert array.element_size() == 8 and array.float().element_size() == 4
    assert (array * torch.ones(3)).element_size() == 8


def test_clipping_before_unscaling_leaves_a_norm_of_2_to_the_minus_16(device):
    if not hasattr(torch.amp, "GradScaler"):
        pytest.skip("torch.amp.GradScaler is newer")
    norms = []
    for unscaled_first in (False, True):
        weight = nn.Parameter(torch.zeros(3, device=device))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        # slope of norm 7
        loss = (weight * torch.tensor([2.0, -3.0, 6.0], device=device)).sum()
        scaler = torch.amp.GradScaler(device)
        scaler.scale(loss).backward()
        if unscaled_first:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_([weight], 1.0)
        scaler.step(optimizer)
        norms.append(weight.norm().item())  # of the step
    assert norms == pytest.approx([2.0**-16, 1.0], rel=1e-6)


# 8. Waiting for the device
@pytest.mark.parametrize(
    ("steps", "every", "times"), [(12, 1, 13), (12, 5, 3), (12, 13, 1), (0, 4, 1)]
)
def test_a_loop_waits_at_each_item_and_at_the_end(lesson, device, steps, every, times):
    assert lesson.waits(steps, every, device) == times


def test_float_and_if_wait_as_item_does_and_print_too(lesson, device, monkeypatch):
    t = torch.ones((), device=device)
    for function in (t.item, lambda: float(t), lambda: 1 if t > 0 else 0):
        assert lesson.counted(function).calls.count("_local_scalar_dense") == 1
    assert lesson.counted(lambda: t + 1).calls == ["add"]
    item, asked = torch.Tensor.item, []  # a printing hides from the counter

    def watched(tensor):
        asked.append(tensor)
        return item(tensor)

    monkeypatch.setattr(torch.Tensor, "item", watched)
    assert "1." in str(t) and asked


# Capture
@pytest.mark.skipif(
    TORCH < (2, 1), reason="torch.compile of torch 2.0 ends at Python 3.10"
)
def test_a_number_that_python_looks_at_breaks_the_graph_in_two(device):
    x, y = numbers(5, device=device), numbers(7, device=device)
    assert graphs_of(lambda x: x.sin() + 1, x, x) == 1
    assert graphs_of(lambda x: x.sin() * x.sum().item(), x) == 2
    assert graphs_of(lambda x: x.sin() + 1, x, y, dynamic=False) == 2  # each shape anew


@pytest.mark.skipif(
    TORCH >= (2, 1) or version("3.11") > PYTHON,
    reason="about torch 2.0 and Python 3.11 or newer",
)
def test_torch_2_0_has_no_compile_from_python_3_11_on():
    with pytest.raises(RuntimeError):
        torch.compile(torch.sin, backend="eager")(torch.ones(2))


# The picture
def test_a_rate_is_the_operations_over_the_shortest_of_ten_times(lesson, monkeypatch):
    events, times = [], iter([0.0, 0.5, 1.0, 1.25, 2.0, 3.0] + [4.0, 5.0] * 7)

    class Slow(torch.Tensor):
        def item(self):
            events.append("number")

    def clock():
        events.append("clock")
        return next(times)

    monkeypatch.setattr(lesson.time, "perf_counter", clock)
    rate = lesson.measured_rate(3e9, lambda: torch.ones(2, 3).as_subclass(Slow))
    assert rate == 3e9 / 0.25 / 1e9
    # The clock stops when a number is there, not before.
    assert events == 10 * ["clock", "number", "clock"]


def test_the_picture_shows_a_roofline_under_the_best_and_what_blocks_keep(
    lesson, device, monkeypatch
):
    def rate(flops, function):
        count = lesson.counted(function)
        return 5.0 if count.flops == flops else 0.75  # a product, or x + 1

    monkeypatch.setattr(lesson, "measured_rate", rate)
    left, right = lesson.figure(device).axes
    roof, points = left.lines
    positions = [1 / 8, *(2**k / 6 for k in range(4, 11))]
    np.testing.assert_allclose(points.get_xdata(), positions, rtol=1e-14)
    assert points.get_ydata().tolist() == [0.75, *7 * [5.0]]
    expected = np.minimum(5.0, 8 * 0.75 * np.array(roof.get_xdata()))
    np.testing.assert_allclose(roof.get_ydata(), expected, rtol=1e-14)
    [curve] = right.lines
    blocks = {1: 15 + 1, 2: 7 + 2, 4: 3 + 4, 8: 1 + 8, 16: 0 + 16}
    assert dict(zip(curve.get_xdata(), curve.get_ydata(), strict=True)) == blocks
