"""What lesson 04 claims."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import assert_values, printed_if_tripled, tensor64
from reference import sigmoid

EPS = 2.0**-52


def test_a_leaf_shares_nothing_with_what_it_copies(lesson, device):
    x = tensor64([1.0, 2.0], device).requires_grad_()
    start = lesson.leaf(x * 2)
    assert start.is_leaf and start.requires_grad
    assert_values(start, [2, 4], device)
    assert lesson.leaf(start).data_ptr() != start.data_ptr()


def test_scalars_have_no_dimension(lesson, device):
    first, second = lesson.scalars((0.1, -2.0), device)
    assert_values(first, 0.1, device, rtol=0)
    assert_values(second, -2.0, device, rtol=0)


def test_the_gradient_of_one_weight_is_minus_2(lesson):
    forward, local, backward = lesson.by_hand(1, 2, 1)
    assert (forward, local, backward) == ([1, -1, 1], [-2, 1, 1], [-2, -2, -2])


@pytest.mark.parametrize(
    ("x", "y", "w"), [(3.0, 2.0, 0.5), (-2.0, 5.0, 1.5), (1.0, 2.0, 2.0)]
)
def test_the_chain_rule_is_the_slope_of_the_loss(lesson, device, x, y, w):
    def loss(w):
        return (w * x - y) ** 2

    # Central differences of a parabola are exact: its third derivative is zero.
    slope = (loss(w + 1) - loss(w - 1)) / 2
    error = w * x - y
    in_error = ((error + 1) ** 2 - (error - 1) ** 2) / 2
    forward, local, backward = lesson.by_hand(x, y, w)
    assert forward == [w * x, error, loss(w)]
    assert local == [in_error, 1, x]
    assert backward == [in_error, in_error, slope]
    start = [tensor64(number, device) for number in (x, y, w)]
    assert lesson.by_autograd(*start) == backward
    after = w - 0.03125 * slope
    assert lesson.step(*start, lr=0.03125) == (slope, after, loss(after))
    # what it was given is left alone
    assert start[2].item() == w and start[2].grad is None


def test_the_first_step_reaches_1_02_and_loss_0_9604(lesson, device):
    start = lesson.scalars((1.0, 2.0, 1.0), device)
    gradient, w, loss = lesson.step(*start, lr=0.01)
    assert gradient == -2
    assert w == pytest.approx(1 + 0.01 * 2, rel=1e-15)
    assert loss == pytest.approx(0.98**2, rel=1e-14)
    assert lesson.step(*start, lr=0.5) == (-2, 2, 0)


def test_local_gradients_and_what_flows_back_are_not_autograds(lesson):
    printed = printed_if_tripled(lesson, 1, "by_autograd")
    assert "backward   dloss/de = -1, dloss/dp = -1, dloss/dw = -3\n" in printed
    assert "autograd   dloss/de = -3, dloss/dp = -3, dloss/dw = -9\n" in printed


def test_normal_numbers_have_mean_0_and_variance_1_and_repeat_with_their_seed(
    lesson, device
):
    shape, before = (200, 100), torch.get_rng_state()
    first, again, other = (lesson.normal(shape, seed, device) for seed in (3, 3, 4))
    # the same on every device
    assert_values(first, lesson.normal(shape, 3).numpy(), device, rtol=0)
    assert first.shape == shape
    assert torch.equal(first, again) and not torch.equal(first, other)
    # the global generator is left alone
    assert torch.equal(torch.get_rng_state(), before)
    x = first.cpu().numpy()
    assert abs(x.mean()) < 5 / math.sqrt(x.size)  # five standard errors
    assert abs(x.var() - 1) < 5 * math.sqrt(2 / x.size)


def test_parameters_are_shaped_as_in_torch_nn_linear_and_no_two_alike(lesson, device):
    layers = torch.nn.Linear(3, 5), torch.nn.Linear(5, 2)
    shapes = [w.shape for layer in layers for w in layer.parameters()]
    firsts = set()
    for seed in range(4):
        weights = lesson.parameters(3, 5, 2, seed, device)
        assert [w.shape for w in weights] == shapes
        for w, same in zip(weights, lesson.parameters(3, 5, 2, seed), strict=True):
            assert_values(w, same.numpy(), device, rtol=0)
        firsts |= {w.flatten()[0].item() for w in weights}
    assert len(firsts) == 16


SIZES = [(6, 3, 4, 2), (1, 2, 5, 3)]  # n, inputs, hidden, outputs


def problem(device, n, inputs, hidden, outputs):
    """x, y, w1, b1, w2 and b2 of these sizes, by NumPy."""
    random, weights = np.random.default_rng(5), [(hidden, inputs), (hidden,)]
    shapes = [(n, inputs), (n, outputs), *weights, (outputs, hidden), (outputs,)]
    return [tensor64(random.normal(size=shape), device) for shape in shapes]


def numpy_network(x, y, w1, b1, w2, b2, z=0.0, h=0.0, p=0.0):
    """(z, h, p, loss) in NumPy; z, h and p are added to what the network computes
    there."""
    z = np.einsum("ni,hi->nh", x, w1) + b1 + z
    h = np.tanh(z) + h
    p = np.einsum("nh,oh->no", h, w2) + b2 + p
    return z, h, p, ((p - y) ** 2).mean()


def slopes(arguments, name):
    """dloss / d name from NumPy's loss by a complex step: Im f(x + i t) / t, exact."""
    values = dict(zip(("x", "y", "w1", "b1", "w2", "b2"), arguments, strict=True))
    for node, value in zip(("z", "h", "p"), numpy_network(*arguments)[:3], strict=True):
        values[node] = np.zeros_like(value)
    result = np.empty(values[name].shape)
    for index in np.ndindex(result.shape):
        moved = values[name].astype(complex)
        moved[index] += 1e-30j
        result[index] = numpy_network(**values | {name: moved})[3].imag / 1e-30
    return result


@pytest.mark.parametrize("sizes", SIZES)
def test_the_network_is_numpys(lesson, device, sizes):
    arguments = problem(device, *sizes)
    values = lesson.network(*arguments)
    expected = numpy_network(*(a.cpu().numpy() for a in arguments))
    for name, array in zip(("z", "h", "p", "loss"), expected, strict=True):
        assert_values(values[name], array, device, atol=1e-15)


@pytest.mark.parametrize("sizes", SIZES)
def test_every_gradient_by_hand_and_by_autograd_is_the_slope_of_numpys_loss(
    lesson, device, sizes
):
    arguments = problem(device, *sizes)
    arrays = [a.cpu().numpy() for a in arguments]
    hand = lesson.backward_by_hand(*arguments)
    x, y, w1, b1, w2, b2 = arguments
    automatic = lesson.backward_by_autograd(x, y, w1=w1, b1=b1, w2=w2, b2=b2)
    assert set(hand) == set(automatic) == {"p", "w2", "b2", "h", "z", "w1", "b1"}
    for name in hand:
        expected = slopes(arrays, name)
        assert_values(hand[name], expected, device, atol=1e-15)
        assert_values(automatic[name], expected, device, atol=1e-15)
    assert lesson.largest_difference(hand, automatic) < 1e-12


def test_the_largest_difference_is_found_under_every_name(lesson, device):
    first = {"a": tensor64([1.0, 2.0], device), "b": tensor64([[3.0]], device)}
    for name, change, expected in (("a", [1.0, -2.5], 4.5), ("b", [[3.25]], 0.25)):
        second = first | {name: tensor64(change, device)}
        assert lesson.largest_difference(first, second) == expected
        assert lesson.largest_difference(second, first) == expected
    for pair in ((first, {"a": first["a"]}), ({"a": first["a"]}, first)):
        with pytest.raises(KeyError):
            lesson.largest_difference(*pair)


@pytest.mark.parametrize("x", [-1.75, 0.1, 3.0])
def test_autograd_rounds_each_step_and_nothing_else(lesson, device, x):
    exact = 3 * Fraction(x) ** 2  # in rational arithmetic
    slope = lesson.slope_by_autograd(lesson.cube, tensor64(x, device)).item()
    # four roundings of half an eps each
    assert abs(Fraction(slope) - exact) <= 2 * EPS * exact


def test_the_error_of_autograd_is_that_of_two_roundings(lesson, device):
    # Autograd rounds x * x and its triple, the comparison 3 x and 3 x * x: half an eps
    # each.
    def error(x):
        return lesson.mean_error(lesson.slope_by_autograd(lesson.cube, x), x)

    x = torch.linspace(1, 2, 1001, device=device, dtype=torch.float64)
    assert 0 < error(x) < 2 * EPS * np.mean(3 * x.cpu().numpy() ** 2)
    # nothing is rounded
    assert error(tensor64([-1.5, 0.25, 3.0], device)) == 0


def test_the_error_of_the_central_difference_is_h_squared(lesson, device):
    # (x + h)^3 - (x - h)^3 = 6 x^2 h + 2 h^3, so the error is h^2 for every x. With few
    # digits nothing is rounded.
    x = tensor64([1.0, -1.5, 2.25, 0.0], device)
    for h in (0.5, 2**-5, 2**-9):
        derivative = lesson.central_difference(lesson.cube, x, h)
        expected = 3 * x.cpu().numpy() ** 2 + h**2
        assert_values(derivative, expected, device, rtol=0)
        assert lesson.mean_error(derivative, x) == h**2


def test_rounding_makes_the_error_rise_again_like_eps_over_h(lesson, device):
    x = torch.linspace(1, 2, 1001, device=device, dtype=torch.float64)
    autograd = lesson.mean_error(lesson.slope_by_autograd(lesson.cube, x), x)
    for h in (1e-7, 1e-9, 1e-11):
        error = lesson.mean_error(lesson.central_difference(lesson.cube, x, h), x)
        assert 0.3 * EPS / h < error < 15 * EPS / h
        assert error > 1000 * autograd


def test_the_mean_error_is_a_mean_of_distances_from_3_x_squared(lesson, device):
    x = tensor64([1.0, 2.0, -1.0], device)
    error = lesson.mean_error(tensor64([4.0, 12.0, 1.0], device), x)
    assert error == (1 + 0 + 2) / 3 and type(error) is float


def test_a_slope_by_autograd_is_taken_element_by_element(lesson, device):
    numbers = np.array([[-2.0, 0.5], [3.0, 0.0]])
    x = tensor64(numbers, device)
    assert_values(lesson.cube(x), numbers**3, device, rtol=0)
    assert_values(lesson.slope_by_autograd(torch.sin, x), np.cos(numbers), device)
    # what it was given is left alone
    assert x.grad is None and not x.requires_grad


def test_h_squared_and_eps_over_h_are_not_what_was_measured(lesson):
    measured = ("mean_error", "central_difference", "slope_by_autograd")
    lines = printed_if_tripled(lesson, 6, *measured).splitlines()[4:]
    for exponent, line in zip((1, 3, 5, 7, 9, 11), lines, strict=False):
        h = 10.0**-exponent
        assert line.split()[0] == f"{h:.0e}"
        assert line.split()[2:] == [f"{h**2:.0e}", f"{EPS / h:.0e}"]


# exp(x) + 2 + exp(-x) is 1 / (s (1 - s)), and adds positive numbers alone.
@pytest.mark.parametrize("number", [-3.0, 0.0, 17.0, 60.0])
def test_the_slope_of_the_sigmoid_without_a_difference_keeps_its_digits(
    lesson, device, number
):
    expected = 1 / (math.exp(number) + 2 + math.exp(-number))
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor(number, dtype=dtype, device=device)
        slope = lesson.slope_of_sigmoid(x)
        eps = torch.finfo(dtype).eps
        assert (slope.dtype, slope.device.type) == (dtype, device)
        assert slope.item() == pytest.approx(expected, rel=60 * eps, abs=0)


def test_where_1_minus_s_cancels_autograd_loses_digits_too(lesson, device):
    x = torch.tensor(17.0, device=device)
    assert x.dtype == torch.float32
    assert lesson.slope_by_autograd(torch.sigmoid, x) == 0
    assert f"{1 / (math.exp(17) + 2 + math.exp(-17)):.0e}" == "4e-08"
    # In float64 1 - s keeps some digits: s rounds by half an eps at most.
    slope = lesson.slope_by_autograd(torch.sigmoid, x.double()).item()
    exact = 1 / (math.exp(17) + 2 + math.exp(-17))
    assert slope == pytest.approx(exact, abs=EPS)
    assert slope != pytest.approx(exact, rel=4 * EPS, abs=0)


def test_the_slope_without_a_difference_is_not_autograds(lesson):
    *_, by_autograd, by_product = printed_if_tripled(
        lesson, 6, "slope_by_autograd"
    ).splitlines()
    assert by_autograd.split() == ["by", "autograd", "0e+00"]
    assert by_product.split() == ["s(17)", "s(-17)", "4e-08"]


def test_gradcheck_sees_no_error_where_both_slopes_are_1_or_hardly_any(lesson, device):
    # 1 - tanh and 1 - tanh^2 are both 1 at 0, and both below 1e-5 at 7.
    for number in (0.0, 7.0):
        assert lesson.passes_gradcheck(lesson.WrongTanh, tensor64([number], device))


def test_gradcheck_passes_the_right_backward_and_catches_the_wrong_one(lesson, device):
    x = tensor64([[-1.5, 0.5], [2.0, 0.25]], device)
    assert lesson.passes_gradcheck(lesson.Tanh, x) is True
    assert lesson.passes_gradcheck(lesson.WrongTanh, x) is False


# Gradcheck's own tolerances are 1e-5 and a relative 1e-3. The slope of tanh is 1 at 0,
# and 1.8e-4 at 5: a loosened relative tolerance shows at the first, a loosened absolute
# one at both.
@pytest.mark.parametrize(("factor", "number"), [(1.002, 0.0), (0.998, 0.0), (1.1, 5.0)])
def test_gradcheck_catches_a_backward_that_is_wrong_by_a_little(
    lesson, device, factor, number
):
    class Nearly(lesson.Tanh):
        @staticmethod
        def backward(ctx, gradient):
            return factor * lesson.Tanh.backward(ctx, gradient)

    assert lesson.passes_gradcheck(Nearly, tensor64([number], device)) is False


def test_our_own_tanh_is_tanh_and_only_one_knows_its_derivative(lesson, device):
    numbers = np.array([-1.5, 0.5, 2.0])
    for function, derivative in (
        (lesson.Tanh, 1 / np.cosh(numbers) ** 2),
        (lesson.WrongTanh, 1 - np.tanh(numbers)),
    ):
        x = tensor64(numbers, device).requires_grad_()
        result = function.apply(x)
        assert_values(result, np.tanh(numbers), device)
        result.backward(tensor64([1.0, 10.0, -2.0], device))
        assert_values(x.grad, derivative * [1, 10, -2], device)


@pytest.mark.parametrize("start", [0.0, -3.0])
def test_depth_multiplies_local_gradients_of_at_most_a_quarter(lesson, device, start):
    s, product = start, 1.0
    for layers in range(1, 21):
        s = sigmoid(s)
        product *= s * (1 - s)
        gradients = lesson.through_sigmoids(tensor64(start, device), layers)
        assert gradients == pytest.approx((product, product), rel=1e-12, abs=0)
        assert max(gradients) <= 4.0**-layers * (1 + 1e-14)


def test_what_autograd_finds_stands_beside_what_was_multiplied_by_hand(
    lesson, capsys, monkeypatch
):
    monkeypatch.setattr(lesson, "through_sigmoids", lambda x, layers: (0.5, 0.125))
    lesson.show_8("cpu")
    printed = capsys.readouterr().out
    assert "    1 sigmoids   autograd 5.00e-01   by hand 1.25e-01   at most" in printed


def test_the_bound_on_sigmoids_is_not_what_autograd_finds(lesson):
    # the bound is met by one sigmoid, at 0
    assert lesson.through_sigmoids(tensor64(0.0), 1) == (0.25, 0.25)
    lines = printed_if_tripled(lesson, 8, "through_sigmoids").splitlines()[3:]
    for line, layers in zip(lines, (1, 2, 5, 10, 20), strict=True):
        assert line.endswith(f"at most {0.25**layers:.2e}")
    assert "autograd 7.50e-01" in lines[0]


@pytest.mark.parametrize("n", [1, 4, 7])
def test_the_sum_makes_the_gradient_n_times_too_large(lesson, device, n):
    x = np.arange(1.0, n + 1)
    slope = np.mean(2 * (0.5 * x - (2 * x + 1)) * x)
    results = lesson.sum_and_mean(*(tensor64(a, device) for a in (x, 2 * x + 1, 0.5)))
    assert results == pytest.approx([n * slope, slope], rel=1e-13)


def test_the_example_of_four_is_minus_120_against_minus_30(lesson, device):
    # dloss/dw = sum of 2 (w x - 2 x) x = -4 (1 + 4 + 9 + 16) at w = 0.
    x = tensor64([1.0, 2.0, 3.0, 4.0], device)
    assert lesson.sum_and_mean(x, 2 * x, tensor64(0.0, device)) == [-120, -30]


def test_xor_is_exclusive_or(lesson, device):
    x, y = lesson.xor(device)
    assert_values(x, [[0, 0], [0, 1], [1, 0], [1, 1]], device)
    assert_values(y, [[0], [1], [1], [0]], device)


@pytest.mark.parametrize(("lr", "steps"), [(0.05, 0), (0.1, 4)])
def test_training_follows_the_slope_of_numpys_loss(lesson, device, lr, steps):
    x, y, *start = problem(device, 6, 3, 4, 2)
    weights, loss = lesson.train_by_hand(x, y, start, lr=lr, steps=steps)
    data = [x.cpu().numpy(), y.cpu().numpy()]
    original = [w.cpu().numpy() for w in problem(device, 6, 3, 4, 2)[2:]]
    expected, names = original, ("w1", "b1", "w2", "b2")
    for _ in range(steps):
        gradients = [slopes([*data, *expected], name) for name in names]
        expected = [w - lr * g for w, g in zip(expected, gradients, strict=True)]
    for w, e, given, o in zip(weights, expected, start, original, strict=True):
        assert_values(w, e, device, atol=1e-15)
        assert_values(given, o, device, rtol=0)  # what it was given is left alone
    assert loss == pytest.approx(numpy_network(*data, *expected)[3], rel=1e-12)


# The settings of section 5: exclusive or, 8 hidden units, lr 0.1, 300 steps.
def trained(lesson, device, start, steps=300):
    """(w1, b1, w2, b2) and the loss after section 5's training from these weights."""
    return lesson.train_by_hand(*lesson.xor(device), start, lr=0.1, steps=steps)


@pytest.mark.parametrize("steps", [1, 300])
def test_from_zeros_only_the_last_bias_moves(lesson, device, steps):
    start = [torch.zeros_like(w) for w in lesson.parameters(2, 8, 1, 0, device)]
    (w1, b1, w2, b2), loss = trained(lesson, device, start, steps)
    assert not any(w.any() for w in (w1, b1, w2))
    # Its gradient is 2 (b2 - 1/2): a step leaves 1 - 2 lr = 0.8 of the way to 1/2, and
    # the loss is the mean of (b2 - 0)^2 and (b2 - 1)^2.
    b = (1 - 0.8**steps) / 2
    assert_values(b2, [b], device)
    assert loss == pytest.approx((b**2 + (b - 1) ** 2) / 2, rel=1e-13)
    assert lesson.row_difference_and_rank(w1) == (0, 0)


@pytest.mark.parametrize("value", [0.5, -1.0])
def test_equal_weights_stay_equal_and_never_learn_xor(lesson, device, value):
    start = [torch.full_like(w, value) for w in lesson.parameters(2, 8, 1, 0, device)]
    (w1, *_), loss = trained(lesson, device, start)
    assert lesson.row_difference_and_rank(w1) == (pytest.approx(0, abs=1e-13), 1)
    assert 1 / 6 < loss < 1 / 4


def test_equal_units_only_rise_or_only_fall_with_x1_plus_x2(lesson, device):
    x, y = lesson.xor(device)
    random = np.random.default_rng(0)
    for numbers in random.normal(size=(20, 4)):
        w1, b1, w2, b2 = (
            tensor64(np.full(shape, number), device)
            for shape, number in zip([(8, 2), (8,), (1, 8), (1,)], numbers, strict=True)
        )
        p = lesson.network(x, y, w1, b1, w2, b2)["p"]
        none, one, other, both = p.flatten().tolist()
        assert one == pytest.approx(other, rel=1e-13)
        assert none < one < both or none > one > both


def test_the_best_that_rises_or_falls_leaves_a_sixth():
    # Exclusive or against x1 + x2 = 0, 1, 2 (1, 2 and 1 inputs): the best rising answer
    # to 0, 1, 0 puts the two that fall into one, their mean (2 * 1 + 0) / 3; the best
    # falling is its mirror.
    pooled = Fraction(2 * 1 + 0, 3)
    best = ((0 - 0) ** 2 + 2 * (pooled - 1) ** 2 + (pooled - 0) ** 2) / 4
    assert (pooled, best) == (Fraction(2, 3), Fraction(1, 6))
    grid = np.linspace(0, 1, 31)  # a search of all rising triples finds none better
    a, b, c = np.meshgrid(grid, grid, grid, indexing="ij")
    loss = (a**2 + 2 * (b - 1) ** 2 + c**2) / 4
    for monotone in ((a <= b) & (b <= c), (a >= b) & (b >= c)):
        assert loss[monotone].min() >= 1 / 6 - 1e-15


@pytest.mark.parametrize("seed", range(3))
def test_random_weights_learn_xor(lesson, device, seed):
    (w1, *_), loss = trained(lesson, device, lesson.parameters(2, 8, 1, seed, device))
    difference, rank = lesson.row_difference_and_rank(w1)
    # Over 200 seeds the loss is 1.1e-4 at most.
    assert loss < 5e-3 and difference > 0.5 and rank == 2


def test_row_difference_and_rank_of_known_matrices(lesson, device):
    for rows, expected in (
        ([[1.0, 2.0], [-4.0, 2.5]], (5.0, 2)),
        ([[1.0, 2.0], [2.0, 4.0], [0.0, 0.0]], (2.0, 1)),
        ([[3.0, -1.0]] * 8, (0.0, 1)),
    ):
        assert lesson.row_difference_and_rank(tensor64(rows, device)) == expected


def test_the_picture_shows_every_value_and_every_gradient(lesson, device):
    axes, _ = lesson.figure(device).axes
    shown = {text.get_text().replace("$", "") for text in axes.texts}
    # loss = (w x - y)^2 by calculus, at x = 3, y = 2, w = 1/2
    error = 0.5 * 3 - 2
    gradients = {"x": 2 * error * 0.5, "w": 2 * error * 3, "p": 2 * error}
    gradients |= {"y": -2 * error, "e": 2 * error}
    for name, gradient in gradients.items():
        (label,) = (text for text in shown if text.startswith(f"dloss/d{name} = "))
        assert float(label.split(" = ")[-1]) == gradient
    assert {"p = w x\n1.5", "e = p - y\n-0.5", "loss = e^2\n0.25"} <= shown


def test_the_picture_of_the_errors_is_a_v_above_autograd(lesson, device):
    _, axes = lesson.figure(device).axes
    lines = {line.get_label(): line for line in axes.lines}
    h, error = lines["central difference"].get_data()
    np.testing.assert_allclose(lines["$h^2$"].get_ydata(), np.asarray(h) ** 2)
    bound = lines["eps / h, eps = 2e-16"].get_ydata()
    np.testing.assert_allclose(bound, EPS / np.asarray(h))
    assert 1e-13 <= min(h) < 2e-13 and max(h) == 1
    bottom = np.argmin(error)
    assert 1e-6 < h[bottom] < 1e-4  # theory: about eps^(1/3) = 6e-6
    assert error[0] > 1e6 * error[bottom] < 1e6 * error[-1]
    assert 1e-11 < min(error) < 1e-9
    assert lines["autograd"].get_ydata()[0] < 10 * EPS < min(error)
