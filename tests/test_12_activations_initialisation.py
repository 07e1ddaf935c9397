"""What lesson 12 claims."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

erf = np.vectorize(math.erf, otypes=[float])


def tensor(numbers, device):
    return torch.tensor(numbers, device=device, dtype=torch.float64)


def check(result, expected, device, rtol=1e-12, atol=0.0):
    assert (result.dtype, result.device.type) == (torch.float64, device)
    assert result.shape == np.shape(expected) and not result.requires_grad
    np.testing.assert_allclose(result.cpu(), expected, rtol=rtol, atol=atol)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


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
    """E[relu(u) relu(v)] for all pairs of a normal vector (Cho and Saul, 2009), with
    E[u^2]."""
    std = np.sqrt(np.diag(covariance))
    cosine = np.clip(covariance / np.outer(std, std), -1, 1)
    part = np.sqrt(1 - cosine**2) + (math.pi - np.arccos(cosine)) * cosine
    return np.outer(std, std) * part / (2 * math.pi)


def squares_covary(cosine):
    """The covariance of 2 relu(u)^2 and 2 relu(v)^2 at variances 1: 5 for u = v, 0 at c
    = 0."""
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
    ours = tensor(x, device).requires_grad_()
    assert list(lesson.ACTIVATIONS) == list(FUNCTIONS)
    activation = lesson.ACTIVATIONS[name]
    check(activation(ours).detach(), FUNCTIONS[name](x), device, rtol=1e-13, atol=1e-16)
    found = lesson.slope(activation, ours)
    check(found, SLOPES[name](x), device, rtol=1e-12, atol=1e-15)  # relu: 0 at x = 0
    assert ours.grad is None and ours.requires_grad  # x is left as it was
    h = 1e-5
    central = (FUNCTIONS[name](x + h) - FUNCTIONS[name](x - h)) / (2 * h)
    np.testing.assert_allclose(found.cpu()[x != 0], central[x != 0], rtol=0, atol=1e-9)


def test_a_slope_is_right_for_any_function_and_shape(lesson, device):
    x = torch.tensor([[1.0, -2.0], [0.5, 3.0]], device=device)
    found = lesson.slope(lambda z: z**3 + 2 * z, x)
    assert (found.dtype, found.device.type) == (torch.float32, device)
    assert found.tolist() == [[5, 14], [2.75, 29]]


def test_sigmoids_slope_is_at_most_a_quarter_and_gelus_goes_below_0_and_above_1(
    lesson, device
):
    # 0 is among them
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64, device=device)
    ranges = {name: lesson.slope(f, x) for name, f in lesson.ACTIVATIONS.items()}
    assert ranges["sigmoid"].max() == 1 / 4 and ranges["tanh"].max() == 1
    assert set(ranges["relu"].tolist()) == {0, 1}
    assert all(ranges[name].min() >= 0 for name in ("sigmoid", "tanh"))
    # gelu'' = (2 - x^2) density(x), which is 0 at -sqrt(2) and sqrt(2).
    ends = SLOPES["gelu"](np.array([-math.sqrt(2), math.sqrt(2)]))
    assert [f"{end:.2f}" for end in ends] == ["-0.13", "1.13"]
    found = [ranges["gelu"].min().item(), ranges["gelu"].max().item()]
    assert found == pytest.approx(ends, abs=1e-5)
    assert lesson.ACTIVATIONS["gelu"](x).min().item() == pytest.approx(-0.17, abs=5e-3)


def test_a_saturated_slope_is_exactly_0_in_float32_and_not_in_float64(lesson, device):
    for name, point, true in (
        ("tanh", 12.0, 4 * math.exp(-24)),
        ("tanh", -12.0, 4 * math.exp(-24)),
        ("sigmoid", 20.0, math.exp(-20)),
    ):
        x = tensor([point], device)
        assert lesson.slope(lesson.ACTIVATIONS[name], x.float()).item() == 0
        found = lesson.slope(lesson.ACTIVATIONS[name], x).item()
        # The slope is 1 - tanh^2 or p (1 - p): a difference of numbers near 1.
        assert found == pytest.approx(true, abs=4e-16) and found > 0


# 2. Without an activation, layers collapse into one
@pytest.mark.parametrize("sizes", [(5, 3), (5, 3, 4), (6, 2, 7, 4, 3)])
def test_linear_layers_one_after_another_are_one_linear_layer(lesson, device, sizes):
    torch.manual_seed(0)
    layers = [
        nn.Linear(*pair).double().to(device) for pair in itertools.pairwise(sizes)
    ]
    weight, bias = lesson.collapse(layers)
    x = np.random.default_rng(0).normal(size=(9, sizes[0]))
    expected = x
    for layer in layers:
        expected = expected @ layer.weight.detach().cpu().numpy().T
        expected = expected + layer.bias.detach().cpu().numpy()
    assert (weight.shape, bias.shape) == ((sizes[-1], sizes[0]), (sizes[-1],))
    found = tensor(x, device) @ weight.T + bias
    check(found.detach(), expected, device, rtol=0, atol=1e-13)


def test_2778_parameters_say_what_650_say():
    assert (64 + 1) * 32 + (32 + 1) * 16 + (16 + 1) * 10 == 2778
    assert (64 + 1) * 10 == 650


def test_a_linear_model_answers_xor_with_a_half_everywhere_and_two_relu_units_are_right():
    rows = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    target = rows[:, 0] ^ rows[:, 1]
    a = np.column_stack([rows, np.ones(4)])
    best = a @ np.linalg.lstsq(a, target, rcond=None)[0]
    np.testing.assert_allclose(best, 0.5, rtol=0, atol=1e-15)
    both = rows.sum(axis=1)
    np.testing.assert_array_equal(relu(both) - 2 * relu(both - 1), target)


# 3. One recursion foretells fifty layers
@pytest.mark.parametrize("q", [1.0, 0.3, 2.5])
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
        found = lesson.mean_square(activation, q)
        assert type(found) is float
        assert found == pytest.approx(expected, rel=1e-12)


def test_the_grid_reaches_ten_standard_deviations(lesson):
    # exp(z)^2 times the density has its top at 2 and exp(3 z)^2 at 6: four from the
    # grid's end, beyond which lies erfc(4 / sqrt(2)) / 2 of it, 3.2e-5, and 2.9e-7 if
    # the grid were to 11.
    for slope, end in ((1, 8), (3, 4)):
        expected = math.exp(2 * slope**2) * (1 - math.erfc(end / math.sqrt(2)) / 2)
        for sign in (1, -1):
            found = lesson.mean_square(lambda z, a=sign * slope: torch.exp(a * z), 1.0)
            assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("gain", [3.0, math.sqrt(2), 1.0, 0.5])
def test_the_recursion_is_a_power_for_relu(lesson, gain):
    for layers in (1, 2, 7, 50):
        found = lesson.mean_square_in_theory(torch.relu, gain, layers)
        assert found == pytest.approx(
            gain**2 * (gain**2 / 2) ** (layers - 1), rel=1e-11
        )
        found = lesson.mean_square_in_theory(lambda z: z, gain, layers)
        assert found == pytest.approx(gain ** (2 * layers), rel=1e-11)


def test_a_half_fifty_times_is_1e_15_and_a_gain_of_3_grows_by_4_5_a_layer(lesson):
    assert math.prod([0.5] * 50) == pytest.approx(1e-15, rel=0.15)
    gain = lesson.GAINS["gain 3"]
    assert (gain, gain**2 / 2, f"{9 * 4.5**49:.0e}") == (3, 4.5, "9e+32")
    assert lesson.GAINS["He"] ** 2 / 2 == pytest.approx(1, rel=1e-15)
    assert lesson.GAINS["Xavier"] ** 2 / 2 == 1 / 2


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_the_recursion_follows_any_activation(lesson, gain):
    q = r = gain**2
    for _ in range(5):
        q = gain**2 * (1 - math.exp(-2 * q)) / 2  # E[sin(z)^2]
        r = gain**2 * mean_over_normal(lambda z: np.tanh(z) ** 2, r)
    assert lesson.mean_square_in_theory(torch.sin, gain, 6) == pytest.approx(
        q, rel=1e-12
    )
    assert lesson.mean_square_in_theory(torch.tanh, gain, 6) == pytest.approx(
        r, rel=1e-12
    )
    assert r < gain**2  # tanh^2 is below 1: the sums never grow further


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_a_network_is_what_numpy_makes_of_the_same_random_numbers(lesson, device, name):
    state = torch.get_rng_state()
    for seed, layers, gain, width in (
        (3, 1, 2.0, 20),
        (4, 4, 1.5, 20),
        (5, 3, 0.7, 128),
    ):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(32, width, generator=generator, dtype=torch.float64).numpy()
        expected = []
        for _ in range(layers):
            weight = torch.randn(width, width, generator=generator).double().numpy()
            z = x @ weight * gain / math.sqrt(width)
            expected.append(np.mean(z**2))
            x = FUNCTIONS[name](z)
        options = (
            {"device": device} if width == 128 else {"device": device, "width": width}
        )
        found = lesson.mean_squares(
            lesson.ACTIVATIONS[name], gain, layers, seed, **options
        )
        check(found, expected, device)
    assert torch.equal(state, torch.get_rng_state())
    assert lesson.mean_squares(torch.relu, 1.0, 2, 0).device.type == "cpu"


@pytest.mark.parametrize("name", ["gain 3", "He", "Xavier"])
def test_over_many_networks_the_mean_is_the_recursions(lesson, device, name):
    gain, width, networks = lesson.GAINS[name], 64, 50
    found = torch.stack(
        [
            lesson.mean_squares(torch.relu, gain, 4, seed, width, device)
            for seed in range(networks)
        ]
    ).cpu()
    theory = [
        lesson.mean_square_in_theory(torch.relu, gain, layers) for layers in range(1, 5)
    ]
    # Five times the spread that networks with a single input would have.
    spread = np.sqrt((5 * np.arange(4) + 2) / width)
    off = np.abs(found.mean(dim=0).numpy() / theory - 1)
    assert (off < 5 * spread / math.sqrt(networks)).all()


def test_a_wide_network_of_tanh_follows_the_recursion(lesson, device):
    found = lesson.mean_squares(torch.tanh, 1.0, 8, 1, width=1024, device=device)
    theory = [
        lesson.mean_square_in_theory(torch.tanh, 1.0, layers) for layers in range(1, 9)
    ]
    np.testing.assert_allclose(found.cpu(), theory, rtol=0.06)


def spread_in_theory(layers, width, rows):
    """The standard deviation of log q over networks, by how alike the rows have become."""
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
    assert f"{math.sqrt(5 * (50 - 1) / 128):.1f}" == "1.4"
    assert spread_in_theory(50, 128, rows=1) == pytest.approx(1.4, abs=0.05)
    layers, width, networks = 20, 48, 100
    found = np.array(
        [
            lesson.mean_squares(torch.relu, math.sqrt(2), layers, seed, width, device)[
                -1
            ].item()
            for seed in range(networks)
        ]
    )
    log = np.log(found / 2)
    # The 32 inputs of a network start out different: a little less.
    std = spread_in_theory(layers, width, rows=32)
    most = math.sqrt(5 * (layers - 1) / width)
    assert 0.75 * most < std < most
    assert log.std() == pytest.approx(std, rel=0.3)
    # The mean of the logarithm is log(q) - std^2 / 2: most lie below q, 0.72 of them in
    # theory, and a few far above, 0.12 at twice of q or more.
    assert log.mean() == pytest.approx(-(std**2) / 2, abs=5 * std / math.sqrt(networks))
    assert np.mean(log < 0) > 0.5 and found.max() > 2 * 2


@pytest.mark.parametrize("n", [400, 1000])
def test_he_and_xavier_are_the_gains_of_pytorchs_own_starts(lesson, n):
    torch.manual_seed(0)
    weight = torch.empty(500, n), torch.empty(n, n)
    nn.init.kaiming_normal_(weight[0], nonlinearity="relu")
    nn.init.xavier_normal_(weight[1])
    for drawn, name in zip(weight, ("He", "Xavier"), strict=True):
        # The sample variance of so many normal numbers: five standard deviations.
        off = drawn.square().mean().item() * n / lesson.GAINS[name] ** 2 - 1
        assert abs(off) < 5 * math.sqrt(2 / drawn.numel())


# 4. What nn.Linear does by itself
@pytest.mark.parametrize("n", [1, 4, 64])
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
        even = torch.linspace(-end, end, size, dtype=torch.float64)
        # Kolmogorov and Smirnov: three is passed once in 3e7 times.
        assert (drawn.sort().values - even).abs().max() / (2 * end) < 3 / math.sqrt(
            size
        )


@pytest.mark.parametrize(("layers", "width"), [(1, 64), (3, 64), (2, 7)])
@pytest.mark.parametrize("he", [False, True])
def test_a_deep_network_has_so_many_layers_of_relu(lesson, device, layers, width, he):
    options = {"device": device} if width == 64 else {"device": device, "width": width}
    model = lesson.deep(layers, 5, he, **options)
    expected = [nn.Linear, nn.ReLU] * layers + [nn.Linear]
    assert [type(part) for part in model] == expected
    shapes = [(width, 16), (width,)] + [(width, width), (width,)] * (layers - 1)
    shapes += [(2, width), (2,)]
    assert [tuple(parameter.shape) for parameter in model.parameters()] == shapes
    assert {parameter.device.type for parameter in model.parameters()} == {device}
    assert lesson.deep(1, 0)[0].weight.device.type == "cpu"


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
    own = [lesson.deep(2, 5), lesson.deep(2, 5, he=False)]
    assert all(
        torch.equal(*pair) for pair in zip(*(m.parameters() for m in own), strict=True)
    )


def test_a_deep_network_is_repeated_by_its_seed_and_touches_nobodys_numbers(lesson):
    state = torch.get_rng_state()
    for he in (False, True):
        first, again, other = (lesson.deep(2, seed, he)[0].weight for seed in (1, 1, 2))
        assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_the_share_is_the_between_rows_part_of_the_mean_square(lesson, device):
    x = np.random.default_rng(0).normal([0.0, 1.0, -5.0], size=(6, 3))
    expected = 1 - np.mean(x.mean(axis=0) ** 2) / np.mean(x**2)
    found = lesson.share_of_input(nn.Identity(), tensor(x, device))
    assert type(found) is float and found == pytest.approx(expected, rel=1e-12)
    model = nn.Linear(2, 1, device=device, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(tensor([[3.0, 0.0]], device))
        model.bias.fill_(2.0)
    # 3 x + 2 at x = -1 and 1: -1 and 5, mean 2, variance 9, mean square 13.
    assert (
        lesson.share_of_input(model, tensor([[-1.0, 8.0], [1.0, 9.0]], device))
        == 9 / 13
    )
    assert lesson.share_of_input(nn.Identity(), tensor([[2.0, 1.0]] * 4, device)) == 0


def test_the_inputs_are_standard_normal_and_the_class_is_the_first_ones_sign(
    lesson, device
):
    for options, rows in (({}, 256), ({"rows": 10_000}, 10_000)):
        x, y = lesson.signs(device, **options)
        assert (x.shape, x.dtype, x.device.type) == ((rows, 16), torch.float32, device)
        assert (y.shape, y.dtype, y.device.type) == ((rows,), torch.int64, device)
        # seed 0
        drawn = torch.randn(rows, 16, generator=torch.Generator().manual_seed(0))
        assert torch.equal(x.cpu(), drawn)
        assert y.tolist() == [int(row[0] > 0) for row in drawn.tolist()]
    assert {t.device.type for t in lesson.signs()} == {"cpu"}


def shares_in_theory(x, layers, he, width):
    """The share after 1, 2, ... layers of an infinitely wide network, biases of
    variance 1 / 3n."""
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
        with torch.no_grad():
            found.append(
                [lesson.share_of_input(model[: 2 * k - 1], x) for k in (1, 2, 3, 4)]
            )
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
        with torch.no_grad():
            few, many = (lesson.share_of_input(model[: 2 * k - 1], x) for k in (10, 30))
        falls.append(math.log(many / few) / 20)
    # A layer multiplies by a random factor of mean 1/6 and relative variance 5 / n, and
    # the last sums' squares add 2 / n: 5 standard errors.
    error = math.sqrt((5 * 20 + 2) / 64) / 20 / math.sqrt(8)
    assert np.mean(falls) == pytest.approx(math.log(1 / 6) - 5 / 128, abs=5 * error)


def test_after_ten_layers_less_than_1e_5_depends_on_the_input_and_with_hes_start_a_tenth(
    lesson,
):
    x, _ = lesson.signs()
    for he, low, high in ((False, 0, 1e-5), (True, 0.1, 1)):
        shares = [
            lesson.share_of_input(lesson.deep(10, seed, he), x) for seed in range(10)
        ]
        # Over the seeds 0 to 99 the logarithm's mean is -14.7 and its std 1.3 (He:
        # -1.4, 0.5).
        assert low < math.exp(np.mean(np.log(shares))) < high


def test_training_returns_the_loss_before_each_step(lesson, device):
    model = nn.Linear(1, 1, bias=False, device=device, dtype=torch.float64).eval()
    nn.init.constant_(model.weight, 5.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = tensor([[1.0], [2.0]], device), tensor([[2.0], [4.0]], device)
    # The loss is 2.5 (w - 2)^2, its slope 5 (w - 2): each step halves w - 2.
    losses = lesson.train(model, nn.MSELoss(), optimizer, x, y, epochs=4)
    assert losses == pytest.approx([2.5 * 9 / 4**k for k in range(4)], rel=1e-12)
    assert model.training and model.weight.item() == pytest.approx(
        2 + 3 / 16, rel=1e-12
    )


def test_twenty_layers_learn_with_hes_start_and_not_with_linears_own(lesson, device):
    x, y = lesson.signs(device)
    for he in (False, True):
        model = lesson.deep(20, 1, he, device=device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        loss = lesson.train(model, nn.CrossEntropyLoss(), optimizer, x, y, epochs=20)[
            -1
        ]
        # Over the seeds 0 to 19: at least 0.692, and at most 0.149 with He's.
        assert loss < 0.3 if he else 0.6 < loss < 0.75


# 5. A residual block adds to its input
@pytest.mark.parametrize(
    ("blocks", "s", "seed", "width"),
    [(1, 1.0, 3, 9), (4, 0.5, 4, 20), (2, 2.0, 5, 128)],
)
def test_residual_blocks_are_what_numpy_makes_of_them(
    lesson, device, blocks, s, seed, width
):
    generator = torch.Generator().manual_seed(seed)
    start = x = torch.randn(32, width, generator=generator, dtype=torch.float64).numpy()
    for _ in range(blocks):
        first, second = (
            torch.randn(2, width, width, generator=generator).double().numpy()
        )
        x = x + s * relu(x @ first * math.sqrt(2 / width)) @ second * math.sqrt(
            1 / width
        )
    options = {"device": device} if width == 128 else {"device": device, "width": width}
    found = lesson.residual_growth(blocks, s, seed, **options)
    assert type(found) is float
    assert found == pytest.approx(np.sum(x**2) / np.sum(start**2), rel=1e-12)


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


def test_a_residual_block_with_s_0_is_the_identity(lesson):
    state = torch.get_rng_state()
    assert lesson.residual_growth(7, 0.0, 1) == 1
    assert lesson.residual_growth(0, 1.0, 1) == 1
    assert torch.equal(state, torch.get_rng_state())


# 6. Batch norm standardises each column of the batch
def batch(n=7, d=3):
    return np.random.default_rng(0).normal(size=(n, d)) * [0.01, 1.0, 30.0] + [
        0.0,
        -5.0,
        100.0,
    ]


@pytest.mark.parametrize("eps", [None, 1e-5, 0.1])
def test_batch_norm_is_minus_the_mean_over_the_root_of_variance_plus_eps(
    lesson, device, eps
):
    x, options = batch(), {} if eps is None else {"eps": eps}
    variance = np.mean((x - x.mean(axis=0)) ** 2, axis=0)
    expected = (x - x.mean(axis=0)) / np.sqrt(variance + (1e-5 if eps is None else eps))
    found = lesson.batch_norm(tensor(x, device), **options)
    check(found, expected, device, rtol=1e-10, atol=1e-12)
    layer = nn.BatchNorm1d(3, device=device, dtype=torch.float64, **options)
    check(layer(tensor(x, device)).detach(), expected, device, rtol=1e-10, atol=1e-12)


def test_any_two_different_numbers_become_minus_1_and_1_up_to_eps(lesson, device):
    for low, high in ((3, 1000), (-8, -2), (0, 4)):
        found = lesson.batch_norm(tensor([[float(low)], [float(high)]], device))
        check(found, [[-1], [1]], device, rtol=1e-5 / ((high - low) / 2) ** 2)
    check(lesson.batch_norm(tensor([[5.0], [5.0]], device)), [[0], [0]], device)


def test_layer_norm_does_the_same_to_each_row_and_runs_nothing(lesson, device):
    x = tensor(batch(4, 3), device)
    layer = nn.LayerNorm(3, device=device, dtype=torch.float64)
    expected = lesson.batch_norm(x.T).T.cpu().numpy()
    check(layer(x).detach(), expected, device, rtol=1e-10, atol=1e-12)
    check(layer.eval()(x).detach(), expected, device, rtol=1e-10, atol=1e-12)
    assert not list(layer.buffers())


@pytest.mark.parametrize("batches", [1, 2, 9])
def test_each_training_batch_moves_the_running_values_a_tenth_of_the_way(
    lesson, device, batches
):
    x = batch()
    mean, variance = np.zeros(3), np.ones(3)
    for _ in range(batches):
        mean = mean + (x.mean(axis=0) - mean) / 10
        variance = variance + (x.var(axis=0, ddof=1) - variance) / 10  # n - 1 here
    for found, expected in zip(
        lesson.running_after(tensor(x, device), batches), (mean, variance), strict=True
    ):
        check(found, expected, device)
    theory = lesson.running_in_theory(0, x.mean(axis=0), batches)
    np.testing.assert_allclose(theory, mean, rtol=1e-12)
    theory = lesson.running_in_theory(1, x.var(axis=0, ddof=1), batches)
    np.testing.assert_allclose(theory, variance, rtol=1e-12)


def test_no_batch_leaves_the_running_values_at_0_and_1(lesson, device):
    mean, variance = lesson.running_after(tensor(batch(), device), 0)
    check(mean, [0] * 3, device)
    check(variance, [1] * 3, device)
    assert lesson.running_in_theory(5, 8, 0) == 5


# 7. Mistake: predicting without eval()
@pytest.mark.parametrize("neighbour", [-20.0, 2.9, 3.001, 7.0, 1e6])
def test_in_training_mode_the_neighbour_decides_and_in_evaluation_it_does_not(
    lesson, neighbour
):
    half = (3 - neighbour) / 2
    expected = half / math.sqrt(half**2 + 1e-5)
    found = lesson.with_neighbour(neighbour, evaluate=False)
    assert type(found) is float and found == pytest.approx(expected, rel=2e-3)
    # The columns 0 to 4 have the mean 2 and, with n - 1, the variance 2.5.
    found = lesson.with_neighbour(neighbour, evaluate=True)
    assert found == pytest.approx((3 - 2) / math.sqrt(2.5 + 1e-5), rel=1e-6)


def test_batch_norm_in_training_refuses_a_batch_of_one(device):
    layer = nn.BatchNorm1d(2, device=device)
    with pytest.raises(ValueError):
        layer(torch.ones(1, 2, device=device))
    assert layer.eval()(torch.ones(1, 2, device=device)).shape == (1, 2)


# 8. Mistake: a learning rate that kills a relu
def descent(negative_slope, w, lr, steps):
    """The same by hand: the mean of x^2 is 7.5, and the sums are slope w x on one side
    of 0."""
    found = []
    for _ in range(steps):
        a = 1 if w > 0 else negative_slope
        found.append((w, 7.5 * (a * w - 2) ** 2))
        w = w - lr * 15 * a * (a * w - 2)
    return found


@pytest.mark.parametrize(
    ("negative_slope", "w", "lr"),
    [
        (0.0, 0.5, 0.02),
        (0.0, 0.3, 0.2),
        (0.3, -1.5, 0.1),
        (0.01, -4.0, 0.9),
        (0.2, 6.0, 0.15),
    ],
)
def test_the_path_is_gradient_descent_on_one_weight(lesson, negative_slope, w, lr):
    found = lesson.path(negative_slope, w, lr, 6)
    assert [type(pair) for pair in found] == [tuple] * 6
    assert {type(number) for pair in found for number in pair} == {float}
    expected = descent(negative_slope, w, lr, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    assert lesson.path(negative_slope, w, lr, 0) == []


def test_a_dead_relu_stays_where_it_is_at_a_loss_of_30(lesson):
    for w in (-4.8, -1e-3, -7.0):
        assert lesson.path(0.0, w, 100.0, 4) == [(w, 30)] * 4
    step, dead = lesson.path(0.0, 0.3, 0.2, 3)[1:]
    assert step[0] == pytest.approx(5.4, rel=1e-12) and dead[0] == pytest.approx(
        -4.8, rel=1e-12
    )


def test_a_step_of_1_15_arrives_at_once(lesson):
    for w in (0.3, 5.4, 40.0):
        assert lesson.path(0.0, w, 1 / 15, 2)[1] == pytest.approx((2, 0), abs=1e-12)


@pytest.mark.parametrize(
    ("w", "lr", "slope"), [(-4.8, 1 / 15, 0.01), (-1.0, 0.05, 0.1), (-30.0, 0.2, 0.05)]
)
def test_a_leaky_relu_comes_back_when_theory_says(lesson, w, lr, slope):
    steps = lesson.steps_back_in_theory(w, lr, slope)
    path = lesson.path(slope, w, lr, math.ceil(steps) + 1)
    assert [position > 0 for position, _ in path] == [False] * math.ceil(steps) + [True]
    # Between steps the distance to 2 / a shrinks by the same factor each step, to 2 / a
    # at 0.
    distances = [2 / slope - position for position, _ in path]
    factor = distances[1] / distances[0]
    assert distances[0] * factor**steps == pytest.approx(2 / slope, rel=1e-9)
    if slope == 0.01:
        assert math.ceil(steps) == 238


# 9. Mistake: all weights alike
def softmax(z):
    return np.exp(z - np.logaddexp.reduce(z, axis=1, keepdims=True))


def one_unit_eight_times(x, y, start, epochs):
    """The losses of a network with a single hidden unit that counts eight times, by
    Adam."""
    w, c, v, b = (
        np.full(16, start),
        np.full(1, start),
        np.full(2, start),
        np.full(2, start),
    )
    parameters = [w, c, v, b]
    first, second = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    losses = []
    for step in range(1, epochs + 1):
        z = x @ w + c
        hidden = relu(z)
        logits = 8 * np.outer(hidden, v) + b
        losses.append(np.mean(np.logaddexp(*logits.T) - logits[np.arange(len(y)), y]))
        error = (softmax(logits) - np.eye(2)[y]) / len(y)
        back = (error @ v) * (z > 0)
        gradients = [
            x.T @ back,
            back.sum(keepdims=True),
            hidden @ error,
            error.sum(axis=0),
        ]
        for p, g, m, s in zip(parameters, gradients, first, second, strict=True):
            m += 0.1 * (g - m)
            s += 0.001 * (g**2 - s)
            p -= 0.02 * m / (1 - 0.9**step) / (np.sqrt(s / (1 - 0.999**step)) + 1e-8)
    return losses


@pytest.mark.parametrize(
    ("start", "epochs"), [(0.0, 20), (0.1, 50), (0.3, 30), (-0.1, 30)]
)
def test_eight_units_that_start_alike_say_what_one_says(lesson, start, epochs):
    x, y = (t.numpy() for t in lesson.signs())
    expected = one_unit_eight_times(x.astype(float), y, start, epochs)[-1]
    units, loss = lesson.alike(start, epochs)
    assert (units, type(loss)) == (1, float)
    assert loss == pytest.approx(expected, rel=1e-5)  # float32
    if epochs == 50:
        assert lesson.alike(start) == (units, loss)


def test_units_that_start_apart_are_counted_apart(lesson, monkeypatch):
    monkeypatch.setattr(nn.init, "constant_", lambda parameter, start: None)
    assert lesson.alike(0.0, epochs=2)[0] == 8


def test_from_zero_only_the_last_bias_ever_moves(lesson, monkeypatch):
    models, train = [], lesson.train

    def spy(model, *arguments):
        models.append(model)
        return train(model, *arguments)

    monkeypatch.setattr(lesson, "train", spy)
    _, loss = lesson.alike(0.0)
    [*others, last] = models[0].parameters()
    assert all((parameter == 0).all() for parameter in others) and (last != 0).all()
    # So the same answer to all: at best the entropy of the two classes.
    share = lesson.signs()[1].double().mean().item()
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert entropy - 1e-6 < loss < math.log(2)


# The picture
def test_the_picture_shows_fifty_layers_beside_theory_and_the_share_of_ten(
    lesson, device
):
    size, share = lesson.figure(device).axes
    assert size.get_yscale() == share.get_yscale() == "log"
    dashed = [line for line in size.lines if line.get_linestyle() == "--"]
    solid = [line for line in size.lines if line not in dashed]
    assert (len(dashed), len(solid)) == (3, 15)
    layers = np.arange(50)
    for i, gain in enumerate((3.0, math.sqrt(2), 1.0)):
        power = math.log(gain**2) + layers * math.log(gain**2 / 2)
        x, theory = dashed[i].get_data()
        assert x[0] == 0 and x[-1] == 49
        np.testing.assert_allclose(np.log(theory), power[x], rtol=1e-9, atol=1e-9)
        for line in solid[5 * i : 5 * i + 5]:
            off = np.log(np.asarray(line.get_ydata())) - power
            # Six standard deviations about the logarithm's mean.
            std = np.sqrt((5 * layers + 2) / 128)
            assert (np.abs(off + std**2 / 2) < 6 * std).all()
    x, _ = lesson.signs(device)
    for line, he in zip(share.lines, (False, True), strict=True):
        assert line.get_label() == ("He" if he else "nn.Linear's own")
        assert list(line.get_xdata()) == list(range(1, 11))
        found = [
            lesson.share_of_input(lesson.deep(n, 0, he, device=device), x)
            for n in (1, 10)
        ]
        assert [line.get_ydata()[0], line.get_ydata()[9]] == pytest.approx(
            found, rel=1e-6
        )
