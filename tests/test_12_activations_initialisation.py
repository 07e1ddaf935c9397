"""What lesson 12 claims."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_values, printed_if_tripled, tensor64
from reference import sigmoid
from torch import nn

erf = np.vectorize(math.erf, otypes=[float])


def relu(z):
    return np.maximum(z, 0)


def below(z):
    """The part of N(0, 1) that lies below z."""
    return (1 + erf(z / math.sqrt(2))) / 2


def density(z):
    return np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


# Gauss and Legendre's 20 points in each of the 24 unit intervals from -12 to 12.
NODES, SHARES = np.polynomial.legendre.leggauss(20)
POINTS = (np.arange(-12, 12)[:, None] + (NODES + 1) / 2).ravel()
WEIGHTS = np.tile(SHARES / 2, 24) * density(POINTS)
FUNCTIONS = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": relu,
    "gelu": lambda z: z * below(z),
}
SLOPES = {
    "sigmoid": lambda z: sigmoid(z) * sigmoid(-z),
    "tanh": lambda z: 1 / np.cosh(z) ** 2,
    "relu": lambda z: (z > 0) * 1.0,
    "gelu": lambda z: below(z) + z * density(z),
}


def mean_over_normal(function, q=1.0):
    """E[f(z)] for z from N(0, q)."""
    return WEIGHTS @ function(math.sqrt(q) * POINTS)


def relu_products(covariance):
    """E[relu(u) relu(v)] for all pairs of a normal vector (Cho and Saul, 2009)."""
    std = np.sqrt(np.diag(covariance))
    cosine = np.clip(covariance / np.outer(std, std), -1, 1)
    part = np.sqrt(1 - cosine**2) + (math.pi - np.arccos(cosine)) * cosine
    return np.outer(std, std) * part / (2 * math.pi)


def squares_covary(cosine):
    """The covariance of 2 relu(u)^2 and 2 relu(v)^2 of variances 1, by their cosine."""
    cosine = np.clip(cosine, -1, 1)
    angle = np.arccos(cosine)
    part = 3 * np.sin(angle) * cosine + (math.pi - angle) * (1 + 2 * cosine**2)
    return 2 * part / math.pi - 1


# 1. Four activations and their slopes
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "gelu"])
def test_an_activation_and_its_slope_are_the_functions_of_calculus(
    lesson, device, name
):
    x = np.array([-6.0, -2.5, -0.7, -1e-3, 0.0, 0.2, 1.3, 4.0])
    ours = tensor64(x, device)
    activation = lesson.ACTIVATIONS[name]
    assert_values(activation(ours), FUNCTIONS[name](x), device, atol=1e-16)
    found = lesson.slope(activation, ours)
    assert_values(found, SLOPES[name](x), device, atol=1e-15)  # relu: 0 at x = 0
    h = 1e-5
    central = (FUNCTIONS[name](x + h) - FUNCTIONS[name](x - h)) / (2 * h)
    np.testing.assert_allclose(found.cpu()[x != 0], central[x != 0], rtol=0, atol=1e-9)


def test_sigmoids_slope_is_at_most_a_quarter_and_gelus_goes_below_0_and_above_1(lesson):
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)  # 0 is among them
    assert lesson.slope(torch.sigmoid, x).max() == 1 / 4
    # gelu'' = (2 - x^2) density(x), which is 0 at -sqrt(2) and sqrt(2).
    ends = SLOPES["gelu"](np.array([-math.sqrt(2), math.sqrt(2)]))
    slopes = lesson.slope(F.gelu, x)
    assert [slopes.min(), slopes.max()] == pytest.approx(ends, abs=1e-5)


def test_a_saturated_slope_is_exactly_0_in_float32_and_not_in_float64(lesson, device):
    for name, point, true in (
        ("tanh", 12.0, 4 * math.exp(-24)),
        ("tanh", -12.0, 4 * math.exp(-24)),
        ("sigmoid", 20.0, math.exp(-20)),
    ):
        x = tensor64([point], device)
        assert lesson.slope(lesson.ACTIVATIONS[name], x.float()).item() == 0
        found = lesson.slope(lesson.ACTIVATIONS[name], x).item()
        # The slope is 1 - tanh^2 or p (1 - p): a difference of numbers near 1.
        assert found == pytest.approx(true, abs=4e-16) and found > 0


# 2. Without an activation, layers collapse into one
@pytest.mark.parametrize("sizes", [(5, 3, 4), (6, 2, 7, 4, 3)])
def test_linear_layers_one_after_another_are_one_linear_layer(lesson, device, sizes):
    torch.manual_seed(0)
    layers = [nn.Linear(*pair).double() for pair in itertools.pairwise(sizes)]
    layers = [layer.to(device) for layer in layers]
    weight, bias = lesson.collapse(layers)
    x = np.random.default_rng(0).normal(size=(9, sizes[0]))
    expected = x
    for layer in layers:
        expected = expected @ layer.weight.detach().cpu().numpy().T
        expected = expected + layer.bias.detach().cpu().numpy()
    found = tensor64(x, device) @ weight.T + bias
    assert_values(found, expected, device, rtol=0, atol=1e-13)


def test_a_linear_model_answers_xor_with_a_half_and_two_relu_units_are_right():
    rows = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    target = rows[:, 0] ^ rows[:, 1]
    a = np.column_stack([rows, np.ones(4)])
    best = a @ np.linalg.lstsq(a, target, rcond=None)[0]
    np.testing.assert_allclose(best, 0.5, rtol=0, atol=1e-15)
    both = rows.sum(axis=1)
    np.testing.assert_array_equal(relu(both) - 2 * relu(both - 1), target)


# 3. One recursion foretells fifty layers
@pytest.mark.parametrize("q", [1.0, 2.5])
def test_the_mean_square_is_the_integral_of_calculus(lesson, q):
    # gelu: E[z^2 Phi(z)^2], by parts; at q = 1 it is 1/3 + 1 / (2 sqrt(3) pi).
    root = math.sqrt(1 + 2 * q)
    gelu = q / 4 + q / (2 * math.pi) * (
        math.asin(q / (1 + q)) + 2 * q / ((1 + q) * root)
    )
    closed_forms = [
        (torch.relu, q / 2),
        (F.gelu, gelu),
        (lambda z: F.leaky_relu(z, 0.1), q * 1.01 / 2),
        (lambda z: z, q),
        (lambda z: z**2, 3 * q**2),
        (torch.cos, (1 + math.exp(-2 * q)) / 2),
        (torch.sigmoid, mean_over_normal(lambda z: sigmoid(z) ** 2, q)),
        (torch.tanh, mean_over_normal(lambda z: np.tanh(z) ** 2, q)),
    ]
    for activation, expected in closed_forms:
        assert lesson.mean_square(activation, q) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("layers", [1, 2, 50])
def test_the_recursion_is_a_power_for_relu(lesson, layers):
    for name, factor in (("gain 3", 4.5), ("He", 1), ("Xavier", 0.5)):
        q = lesson.mean_square_in_theory(torch.relu, lesson.GAINS[name], layers)
        assert q == pytest.approx(2 * factor**layers, rel=1e-11)


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_the_recursion_follows_any_activation(lesson, gain):
    q = r = gain**2
    for _ in range(5):
        q = gain**2 * (1 - math.exp(-2 * q)) / 2  # E[sin(z)^2]
        r = gain**2 * mean_over_normal(lambda z: np.tanh(z) ** 2, r)
    for activation, expected in ((torch.sin, q), (torch.tanh, r)):
        theory = lesson.mean_square_in_theory(activation, gain, 6)
        assert theory == pytest.approx(expected, rel=1e-12)
    assert r < gain**2  # tanh^2 is below 1: the sums never grow further


@pytest.mark.parametrize(
    ("name", "seed", "layers", "gain", "width"),
    [("relu", 3, 1, 2.0, 20), ("relu", 4, 4, 1.5, 20), ("tanh", 5, 3, 0.7, 128)],
)
def test_a_network_is_what_numpy_makes_of_the_same_random_numbers(
    lesson, device, name, seed, layers, gain, width
):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(32, width, generator=generator, dtype=torch.float64).numpy()
    expected = []
    for _ in range(layers):
        weight = torch.randn(width, width, generator=generator).double().numpy()
        z = x @ weight * gain / math.sqrt(width)
        expected.append(np.mean(z**2))
        x = FUNCTIONS[name](z)
    activation = lesson.ACTIVATIONS[name]
    found = lesson.mean_squares(activation, gain, layers, seed, width, device)
    assert_values(found, expected, device)


@pytest.mark.parametrize("name", ["gain 3", "He", "Xavier"])
def test_over_many_networks_the_mean_is_the_recursions(lesson, device, name):
    gain, width, networks = lesson.GAINS[name], 64, 50
    found = []
    for seed in range(networks):
        q = lesson.mean_squares(torch.relu, gain, 4, seed, width, device)
        found.append(q.tolist())
    theory = gain**2 * (gain**2 / 2) ** np.arange(4)
    # Five times the spread that networks with a single input would have.
    spread = np.sqrt((5 * np.arange(4) + 2) / width)
    off = np.abs(np.mean(found, axis=0) / theory - 1)
    assert (off < 5 * spread / math.sqrt(networks)).all()


def test_a_wide_network_of_tanh_follows_the_recursion(lesson, device):
    found = lesson.mean_squares(torch.tanh, 1.0, 8, 1, width=1024, device=device)
    theory = [lesson.mean_square_in_theory(torch.tanh, 1.0, k) for k in range(1, 9)]
    np.testing.assert_allclose(found.cpu(), theory, rtol=0.06)


def spread_in_theory(layers, width, rows):
    """The standard deviation of log q over networks, by how alike the rows are."""
    cosine, total = np.eye(rows), 0.0
    for _ in range(layers - 1):
        total += squares_covary(cosine).mean()
        cosine = 2 * relu_products(cosine)
    return math.sqrt((total + 2 * (cosine**2).mean()) / width)


def test_one_network_lies_off_by_sqrt_5_l_minus_1_over_n_in_the_logarithm(
    lesson, device
):
    # One input: 5 = Var[2 relu(z)^2] a layer, and 2 of the last layer's squares.
    second, fourth = (mean_over_normal(lambda z, k=k: relu(z) ** k) for k in (2, 4))
    assert 4 * (fourth - second**2) == pytest.approx(5, rel=1e-12)
    assert spread_in_theory(50, 128, rows=1) == pytest.approx(1.4, abs=0.05)
    layers, width, networks = 20, 48, 100
    found = []
    for seed in range(networks):
        start = math.sqrt(2), layers, seed, width, device
        found.append(lesson.mean_squares(torch.relu, *start)[-1].item())
    log = np.log(np.array(found) / 2)
    # The 32 inputs of a network start out different: a little less.
    std = spread_in_theory(layers, width, rows=32)
    most = math.sqrt(5 * (layers - 1) / width)
    assert 0.75 * most < std < most
    assert log.std() == pytest.approx(std, rel=0.3)
    # The mean of the logarithm is log(q) - std^2 / 2: most lie below q, 0.72 of them in
    # theory, and a few far above, 0.12 at twice of q or more.
    assert log.mean() == pytest.approx(-(std**2) / 2, abs=5 * std / math.sqrt(networks))
    assert np.mean(log < 0) > 0.5 and max(found) > 2 * 2


def test_he_and_xavier_are_the_gains_of_pytorchs_own_starts(lesson):
    torch.manual_seed(0)
    n = 400
    weight = torch.empty(500, n), torch.empty(n, n)
    nn.init.kaiming_normal_(weight[0], nonlinearity="relu")
    nn.init.xavier_normal_(weight[1])
    for drawn, name in zip(weight, ("He", "Xavier"), strict=True):
        # The sample variance of so many normal numbers: five standard deviations.
        off = drawn.square().mean().item() * n / lesson.GAINS[name] ** 2 - 1
        assert abs(off) < 5 * math.sqrt(2 / drawn.numel())


# 4. What nn.Linear does by itself
@pytest.mark.parametrize("n", [4, 64])
def test_linears_weights_and_biases_are_uniform_and_of_variance_1_over_3n(n):
    torch.manual_seed(0)
    layer = nn.Linear(n, 20_000)
    end = 1 / math.sqrt(n)
    for numbers in (layer.weight, layer.bias):
        drawn = numbers.detach().double().flatten()
        size = len(drawn)
        assert end * (1 - 1e-3) < drawn.abs().max() <= end * (1 + 1e-6)
        # The variance of x^2 is 4/5 of its mean's square; five standard deviations.
        assert abs(drawn.square().mean() * 3 * n - 1) < 5 * math.sqrt(0.8 / size)
        assert abs(drawn.mean()) < 5 * end / math.sqrt(3 * size)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_deep_network_has_so_many_layers_of_relu(lesson, layers):
    model = lesson.deep(layers, 5, width=7)
    assert [type(part) for part in model] == [nn.Linear, nn.ReLU] * layers + [nn.Linear]
    weights = [(7, 16)] + [(7, 7)] * (layers - 1) + [(2, 7)]
    assert [tuple(layer.weight.shape) for layer in model[::2]] == weights


def test_the_start_is_linears_own_or_hes_with_biases_0(lesson):
    for he in (False, True):
        model = lesson.deep(3, 5, he, width=300)
        for layer in model[::2]:
            n = layer.in_features
            variance, ratio = (2 / n, 2) if he else (1 / (3 * n), 0.8)
            drawn = layer.weight.detach()
            off = drawn.square().mean().item() / variance - 1
            assert abs(off) < 5 * math.sqrt(ratio / drawn.numel())
            assert (drawn.abs().max() > 1.001 / math.sqrt(n)) == he
            assert (layer.bias == 0).all() if he else (layer.bias != 0).any()


def test_the_share_is_the_between_rows_part_of_the_mean_square(lesson, device):
    x = np.random.default_rng(0).normal([0.0, 1.0, -5.0], size=(6, 3))
    expected = 1 - np.mean(x.mean(axis=0) ** 2) / np.mean(x**2)
    share = lesson.share_of_input(nn.Identity(), tensor64(x, device))
    assert share == pytest.approx(expected, rel=1e-12)
    assert lesson.share_of_input(nn.Identity(), tensor64([[2.0, 1.0]] * 4, device)) == 0


def test_the_inputs_are_standard_normal_and_the_class_is_the_first_ones_sign(
    lesson, device
):
    assert len(lesson.signs(device)[0]) == 256
    x, y = lesson.signs(device, rows=10_000)
    # Means and mean squares of 160,000 numbers: five standard errors.
    assert abs(x.mean().item()) < 5 / 400
    assert abs(x.square().mean().item() - 1) < 5 * math.sqrt(2) / 400
    assert y.tolist() == [int(row[0] > 0) for row in x.tolist()]


def shares_in_theory(x, layers, he, width):
    """The share after 1, 2, ... layers of an infinitely wide network."""
    products, shares = x @ x.T / x.shape[1], []
    for layer in range(layers):
        fan_in = width if layer else x.shape[1]
        products = 2 * products if he else (products + 1 / fan_in) / 3
        shares.append(1 - products.mean() / np.diag(products).mean())
        products = relu_products(products)
    return shares


@pytest.mark.parametrize("he", [False, True])
def test_the_share_of_the_first_layers_is_that_of_wide_networks(lesson, device, he):
    x = lesson.signs(device)[0].double()
    found = []
    for seed in range(4):
        model = lesson.deep(4, seed, he, width=400, device=device).double()
        shares = [lesson.share_of_input(model[: 2 * k - 1], x) for k in (1, 2, 3, 4)]
        found.append(shares)
    theory = shares_in_theory(x.cpu().numpy(), 4, he, 400)
    np.testing.assert_allclose(np.exp(np.log(found).mean(axis=0)), theory, rtol=0.15)


def test_with_linears_own_start_a_layer_keeps_a_sixth_of_what_depends_on_the_input(
    lesson, device
):
    x = lesson.signs(device)[0].double()
    theory = shares_in_theory(x.cpu().numpy(), 12, False, 64)
    assert theory[-1] / theory[-2] == pytest.approx(1 / 6, rel=1e-3)
    falls = []
    for seed in range(8):
        model = lesson.deep(30, seed, device=device).double()
        few, many = (lesson.share_of_input(model[: 2 * k - 1], x) for k in (10, 30))
        falls.append(math.log(many / few) / 20)
    # A layer multiplies by a random factor of mean 1/6 and relative variance 5 / n, and
    # the last sums' squares add 2 / n: 5 standard errors.
    error = math.sqrt((5 * 20 + 2) / 64) / 20 / math.sqrt(8)
    assert np.mean(falls) == pytest.approx(math.log(1 / 6) - 5 / 128, abs=5 * error)


def test_after_ten_layers_less_than_1e_5_hangs_on_the_input_and_a_tenth_with_hes_start(
    lesson,
):
    x, _ = lesson.signs()
    for he, low, high in ((False, 0, 1e-5), (True, 0.1, 1)):
        networks = [lesson.deep(10, seed, he) for seed in range(10)]
        shares = [lesson.share_of_input(network, x) for network in networks]
        # Over the seeds 0 to 99 the logarithm's mean is -14.7 and its std 1.3 (He:
        # -1.4, 0.5).
        assert low < math.exp(np.mean(np.log(shares))) < high


def test_twenty_layers_learn_with_hes_start_and_not_with_linears_own(lesson, device):
    x, y = lesson.signs(device)
    for he in (False, True):
        model = lesson.deep(20, 1, he, device=device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        losses = lesson.train(model, nn.CrossEntropyLoss(), optimizer, x, y, epochs=20)
        # Over the seeds 0 to 19: at least 0.692, and at most 0.149 with He's.
        assert losses[-1] < 0.3 if he else 0.6 < losses[-1] < 0.75


# 5. A residual block adds to its input
@pytest.mark.parametrize(("blocks", "s", "width"), [(1, 1.0, 9), (4, 0.5, 20)])
def test_residual_blocks_are_what_numpy_makes_of_them(lesson, device, blocks, s, width):
    generator = torch.Generator().manual_seed(3)
    start = x = torch.randn(32, width, generator=generator, dtype=torch.float64).numpy()
    for _ in range(blocks):
        weights = torch.randn(2, width, width, generator=generator).double().numpy()
        hidden = relu(x @ weights[0] * math.sqrt(2 / width))
        x = x + s * hidden @ weights[1] * math.sqrt(1 / width)
    growth = lesson.residual_growth(blocks, s, 3, width, device)
    assert growth == pytest.approx(np.sum(x**2) / np.sum(start**2), rel=1e-12)


@pytest.mark.parametrize("s", [1.0, 0.5])
def test_a_residual_block_multiplies_the_mean_square_by_1_plus_s_squared(
    lesson, device, s
):
    blocks, width, networks = 3, 64, 80
    found = [
        lesson.residual_growth(blocks, s, seed, width, device)
        for seed in range(networks)
    ]
    # For one input: 2 s x W h has the variance 4 s^2 / n and s^2 |W h|^2 has 7 s^4 / n.
    spread = math.sqrt(blocks * (4 * s**2 + 7 * s**4) / width) / (1 + s**2)
    theory = lesson.growth_in_theory(blocks, s)
    assert theory == (2.0 if s == 1 else 1.25) ** 3
    assert np.mean(found) / theory == pytest.approx(
        1, abs=5 * spread / math.sqrt(networks)
    )


# 6. Mistake: a learning rate that kills a relu
def descent(negative_slope, w, lr, steps):
    """The same by hand: the mean of x^2 is 7.5, the sums are slope w x below 0."""
    found = []
    for _ in range(steps):
        a = 1 if w > 0 else negative_slope
        found.append((w, 7.5 * (a * w - 2) ** 2))
        w = w - lr * 15 * a * (a * w - 2)
    return found


@pytest.mark.parametrize(
    ("negative_slope", "w", "lr"),
    [(0.0, 0.3, 0.2), (0.3, -1.5, 0.1), (0.2, 6.0, 0.15)],
)
def test_the_path_is_gradient_descent_on_one_weight(lesson, negative_slope, w, lr):
    found = lesson.path(negative_slope, w, lr, 6)
    expected = descent(negative_slope, w, lr, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_a_dead_relu_stays_where_it_is_at_a_loss_of_30(lesson):
    for w in (-4.8, -1e-3, -7.0):
        assert lesson.path(0.0, w, 100.0, 4) == [(w, 30)] * 4


@pytest.mark.parametrize(
    ("w", "lr", "slope"), [(-4.8, 1 / 15, 0.01), (-1.0, 0.05, 0.1), (-30.0, 0.2, 0.05)]
)
def test_a_leaky_relu_comes_back_when_theory_says(lesson, w, lr, slope):
    steps = lesson.steps_back_in_theory(w, lr, slope)
    path = lesson.path(slope, w, lr, math.ceil(steps) + 1)
    assert [position > 0 for position, _ in path] == [False] * math.ceil(steps) + [True]
    # The distance to 2 / a shrinks by the same factor each step, to 2 / a at 0.
    distances = [2 / slope - position for position, _ in path]
    factor = distances[1] / distances[0]
    assert distances[0] * factor**steps == pytest.approx(2 / slope, rel=1e-9)


# The picture
def test_the_picture_shows_fifty_layers_beside_theory_and_the_share_of_ten(lesson):
    size, share = lesson.figure().axes
    dashed = [line for line in size.lines if line.get_linestyle() == "--"]
    for gain, line, text in zip((9, 2, 1), dashed, size.texts, strict=True):
        x, theory = line.get_data()
        np.testing.assert_allclose(theory, gain * (gain / 2) ** np.array(x), rtol=1e-9)
        assert text.get_text().endswith(f"theory {theory[-1]:.0e}")
    own, he = share.lines  # one loses what depends on the input, the other does not
    assert (own.get_label(), he.get_label()) == ("nn.Linear's own", "He")
    assert own.get_ydata()[9] < 1e-4 < 0.01 < he.get_ydata()[9]


# What is printed as theory does not come from the measurement beside it
def test_the_recursion_is_printed_from_theory(lesson):
    q = 1.0
    for _ in range(49):
        q = mean_over_normal(lambda z: np.tanh(z) ** 2, q)
    expected = [f"{g * (g / 2) ** 49:.0e}" for g in (9, 2, 1)]
    printed = printed_if_tripled(lesson, 3, "mean_squares")
    assert re.findall(r"theory (\S+)", printed) == [*expected, f"{q:.4f}"]


def test_the_growth_of_residual_blocks_is_printed_from_theory(lesson):
    printed = printed_if_tripled(lesson, 5, "residual_growth")
    measured = re.findall(r"multiply by (\S+),", printed)
    expected = [f"{(1 + square) ** 50:.1e}" for square in (1, 1 / 50, 0)]
    assert re.findall(r"theory (\S+)", printed) == expected
    assert measured[2] == "3.0e+00" != expected[2]


def test_log_2_and_the_steps_back_are_printed_from_theory(lesson):
    printed = printed_if_tripled(lesson, 4, "train")
    assert printed.count(f"log 2 is {math.log(2):.2f}\n") == 2
    assert f"loss {math.log(2):.2f}" not in printed
    # The distance to 200 shrinks by 1e-4 in each step, from 204.8.
    steps = math.log(200 / 204.8) / math.log1p(-1e-4)
    printed = printed_if_tripled(lesson, 6, "path")
    assert printed.endswith(f"above 0 at step {math.ceil(steps)}, theory {steps:.2f}\n")
