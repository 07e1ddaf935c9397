"""What lesson 04 claims."""

import math

import numpy as np
import pytest
import torch


def tensor(numbers, device):
    return torch.tensor(numbers, device=device, dtype=torch.float64)


def check(result, expected, device, rtol=1e-13):
    assert (result.dtype, result.device.type) == (torch.float64, device)
    assert result.shape == np.shape(expected)
    np.testing.assert_allclose(result.detach().cpu().numpy(), expected, rtol=rtol, atol=1e-15)


def test_raises_answers_for_a_runtime_error_alone(lesson):
    def fail(error):
        raise error

    assert lesson.raises(lambda: fail(RuntimeError())) is True
    assert lesson.raises(lambda: None) is False
    with pytest.raises(KeyError):
        lesson.raises(lambda: fail(KeyError()))


def test_a_leaf_has_nothing_behind_it_and_shares_nothing(lesson, device):
    x = tensor([1.0, 2.0], device).requires_grad_()
    for source in (x, x * 2):
        start = lesson.leaf(source)
        assert start.is_leaf and start.requires_grad and start.grad_fn is None
        assert torch.equal(start, source)
        assert start.data_ptr() != source.data_ptr()


def test_the_gradient_of_one_weight_is_minus_2(lesson):
    forward, local, backward = lesson.by_hand(1, 2, 1)
    assert (forward, local, backward) == ([1, -1, 1], [-2, 1, 1], [-2, -2, -2])


@pytest.mark.parametrize(("x", "y", "w"), [(3.0, 2.0, 0.5), (-2.0, 5.0, 1.5), (1.0, 2.0, 2.0)])
def test_the_chain_rule_is_the_slope_of_the_loss(lesson, device, x, y, w):
    def loss(w):
        return (w * x - y) ** 2

    # Central differences of a parabola are exact: its third derivative is zero.
    slope = (loss(w + 1) - loss(w - 1)) / 2
    forward, local, backward = lesson.by_hand(x, y, w)
    assert forward == [w * x, w * x - y, loss(w)]
    assert local == [2 * (w * x - y), 1, x]
    assert backward == [local[0], local[0], slope]
    assert lesson.by_autograd(*(tensor(n, device) for n in (x, y, w))) == backward
    after, lower = lesson.step(*(tensor(n, device) for n in (x, y, w)), lr=0.03125)
    assert after == w - 0.03125 * slope
    assert lower == loss(after)


def test_the_first_step_reaches_1_02_and_loss_0_9604(lesson, device):
    w, loss = lesson.step(*(tensor(n, device) for n in (1.0, 2.0, 1.0)), lr=0.01)
    assert w == pytest.approx(1 + 0.01 * 2, rel=1e-15)
    assert loss == pytest.approx(0.98**2, rel=1e-14)


def problem(lesson, device, n=6, inputs=3, hidden=4, outputs=2):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(n, inputs, generator=generator, dtype=torch.float64).to(device)
    y = torch.randn(n, outputs, generator=generator, dtype=torch.float64).to(device)
    return (x, y, *lesson.parameters(inputs, hidden, outputs, 3, device))


def numpy_loss(x, y, w1, b1, w2, b2):
    return np.mean((np.tanh(x @ w1.T + b1) @ w2.T + b2 - y) ** 2)


def test_parameters_are_shaped_as_in_torch_nn_linear(lesson, device):
    weights = lesson.parameters(3, 5, 2, 0, device)
    layers = torch.nn.Linear(3, 5), torch.nn.Linear(5, 2)
    assert [w.shape for w in weights] == [w.shape for layer in layers for w in layer.parameters()]
    for w, same, other in zip(
        weights, lesson.parameters(3, 5, 2, 0, device), lesson.parameters(3, 5, 2, 1), strict=True
    ):
        assert (w.dtype, w.device.type) == (torch.float64, device)
        assert torch.equal(w, same) and not torch.equal(w.cpu(), other)
    many = torch.cat([w.flatten() for w in lesson.parameters(99, 99, 99, 0)])
    assert abs(many.mean()) < 5 / math.sqrt(len(many))
    assert abs(many.var() - 1) < 5 * math.sqrt(2 / len(many))


def test_the_network_is_numpys(lesson, device):
    arguments = problem(lesson, device)
    x, y, w1, b1, w2, b2 = (a.cpu().numpy() for a in arguments)
    values = lesson.network(*arguments)
    z = np.einsum("ni,hi->nh", x, w1) + b1
    p = np.einsum("nh,oh->no", np.tanh(z), w2) + b2
    check(values["z"], z, device)
    check(values["h"], np.tanh(z), device)
    check(values["p"], p, device)
    check(values["loss"], np.square(p - y).mean(), device)


def test_every_gradient_by_hand_is_autograds(lesson, device):
    for sizes in ((6, 3, 4, 2), (1, 2, 5, 3), (4, 1, 1, 1)):
        arguments = problem(lesson, device, *sizes)
        hand, automatic = (
            lesson.backward_by_hand(*arguments),
            lesson.backward_by_autograd(*arguments),
        )
        assert set(hand) == set(automatic) == {"p", "w2", "b2", "h", "z", "w1", "b1"}
        for name in hand:
            check(hand[name], automatic[name].cpu().numpy(), device, rtol=1e-11)
        assert lesson.largest_difference(hand, automatic) < 1e-12


def test_the_gradients_are_the_slopes_of_numpys_loss(lesson, device):
    arguments = problem(lesson, device)
    arrays = [a.cpu().numpy() for a in arguments]
    hand = lesson.backward_by_hand(*arguments)
    for position, name in enumerate(("w1", "b1", "w2", "b2"), start=2):
        slopes = np.empty_like(arrays[position])
        for index in np.ndindex(slopes.shape):
            up, down = ([a.copy() for a in arrays] for _ in range(2))
            up[position][index] += 1e-5
            down[position][index] -= 1e-5
            slopes[index] = (numpy_loss(*up) - numpy_loss(*down)) / 2e-5
        np.testing.assert_allclose(hand[name].cpu().numpy(), slopes, rtol=1e-6, atol=1e-8)


def test_the_largest_difference_is_found_under_every_name(lesson, device):
    first = {"a": tensor([1.0, 2.0], device), "b": tensor([[3.0]], device)}
    for name, change, expected in (("a", [1.0, -2.5], 4.5), ("b", [[3.25]], 0.25)):
        second = first | {name: tensor(change, device)}
        assert lesson.largest_difference(first, second) == expected
        assert lesson.largest_difference(second, first) == expected
    with pytest.raises(KeyError):
        lesson.largest_difference(first, {"a": first["a"]})


def test_gradcheck_passes_the_right_backward_and_catches_the_wrong_one(lesson, device):
    x = tensor([[-1.5, 0.5], [2.0, 0.25]], device)
    assert lesson.passes_gradcheck(lesson.Tanh, x) is True
    assert lesson.passes_gradcheck(lesson.WrongTanh, x) is False


def test_our_own_tanh_is_tanh_and_only_one_knows_its_derivative(lesson, device):
    numbers = np.array([-1.5, 0.5, 2.0])
    for function, derivative in (
        (lesson.Tanh, 1 / np.cosh(numbers) ** 2),
        (lesson.WrongTanh, 1 - np.tanh(numbers)),
    ):
        x = tensor(numbers, device).requires_grad_()
        result = function.apply(x)
        check(result, np.tanh(numbers), device)
        result.backward(tensor([1.0, 10.0, -2.0], device))
        check(x.grad, derivative * [1, 10, -2], device)


@pytest.mark.parametrize("start", [0.0, -3.0, 1.5])
def test_depth_multiplies_local_gradients_of_at_most_a_quarter(lesson, device, start):
    s, product = start, 1.0
    for layers in range(1, 12):
        s = 1 / (1 + math.exp(-s))
        product *= s * (1 - s)
        gradients = lesson.through_sigmoids(tensor(start, device), layers)
        assert gradients == pytest.approx((product, product), rel=1e-12)
        assert gradients[0] <= 4.0**-layers * (1 + 1e-15)
    assert lesson.through_sigmoids(tensor(0.0, device), 1) == (0.25, 0.25)  # the bound is met


@pytest.mark.parametrize("n", [1, 4, 7])
def test_the_sum_makes_the_gradient_n_times_too_large(lesson, device, n):
    x = np.arange(1.0, n + 1)
    slope = np.mean(2 * (0.5 * x - (2 * x + 1)) * x)
    results = lesson.sum_and_mean(*(tensor(a, device) for a in (x, 2 * x + 1, 0.5)))
    assert results == pytest.approx([n * slope, slope], rel=1e-13)


def test_the_seeds_example_is_minus_120_against_minus_30(lesson, device):
    x = tensor([1.0, 2.0, 3.0, 4.0], device)
    assert lesson.sum_and_mean(x, 2 * x, tensor(0.0, device)) == [-120, -30]


def test_xor_is_exclusive_or(lesson, device):
    x, y = lesson.xor(device)
    check(y, [[int(a) ^ int(b)] for a, b in x.tolist()], device)
    assert sorted(x.tolist()) == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_training_follows_the_slope_of_numpys_loss(lesson, device):
    arguments = problem(lesson, device)
    before = [w.clone() for w in arguments[2:]]
    weights, loss = lesson.train_by_hand(*arguments[:2], arguments[2:], lr=0.05, steps=3)
    expected = before
    for _ in range(3):
        leaves = [w.clone().requires_grad_() for w in expected]
        gradients = torch.autograd.grad(lesson.network(*arguments[:2], *leaves)["loss"], leaves)
        expected = [w - 0.05 * g for w, g in zip(expected, gradients, strict=True)]
    for w, e, b, original in zip(weights, expected, before, arguments[2:], strict=True):
        check(w, e.cpu().numpy(), device, rtol=1e-12)
        assert torch.equal(b, original)  # what it was given is left alone
    numbers = [a.cpu().numpy() for a in (*arguments[:2], *weights)]
    assert loss == pytest.approx(numpy_loss(*numbers), rel=1e-13)


def test_from_zeros_only_the_last_bias_moves(lesson, device):
    start = [torch.zeros_like(w) for w in lesson.parameters(2, 8, 1, 0, device)]
    (w1, b1, w2, b2), loss = lesson.train_by_hand(*lesson.xor(device), start, lr=0.05, steps=400)
    assert not any(w.any() for w in (w1, b1, w2))
    assert b2.item() == pytest.approx(1 / 2, abs=1e-15)
    assert loss == pytest.approx(1 / 4, abs=1e-15)
    assert lesson.spread_and_rank(w1) == (0, 0)


@pytest.mark.parametrize("value", [0.5, -1.0])
def test_equal_weights_stay_equal_and_never_learn_xor(lesson, device, value):
    start = [torch.full_like(w, value) for w in lesson.parameters(2, 8, 1, 0, device)]
    (w1, *_), loss = lesson.train_by_hand(*lesson.xor(device), start, lr=0.05, steps=400)
    assert lesson.spread_and_rank(w1) == (pytest.approx(0, abs=1e-9), 1)
    assert 1 / 6 < loss < 1 / 4


def test_the_best_that_rises_or_falls_leaves_a_sixth(lesson):
    # Exclusive or against x1 + x2 = 0, 1, 2 (1, 2 and 1 inputs): search all rising triples.
    grid = np.linspace(0, 1, 31)
    a, b, c = np.meshgrid(grid, grid, grid, indexing="ij")
    loss = (a**2 + 2 * (b - 1) ** 2 + c**2) / 4
    assert loss[(a <= b) & (b <= c)].min() == pytest.approx(1 / 6, abs=1e-3)
    assert loss[(a >= b) & (b >= c)].min() == pytest.approx(1 / 6, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_random_weights_learn_xor(lesson, device, seed):
    start = lesson.parameters(2, 8, 1, seed, device)
    (w1, *_), loss = lesson.train_by_hand(*lesson.xor(device), start, lr=0.05, steps=1500)
    spread, rank = lesson.spread_and_rank(w1)
    assert loss < 0.02 and spread > 0.5 and rank == 2


def test_spread_and_rank_of_known_matrices(lesson, device):
    assert lesson.spread_and_rank(tensor([[1.0, 2.0], [-4.0, 2.5]], device)) == (5.0, 2)
    assert lesson.spread_and_rank(tensor([[1.0, 2.0], [2.0, 4.0], [0.0, 0.0]], device)) == (2.0, 1)


def test_a_second_pass_through_one_graph_raises_or_adds_the_same_again(lesson, device):
    numbers = [tensor(n, device) for n in (3.0, 2.0, 0.5)]
    slope = 2 * (0.5 * 3 - 2) * 3
    for passes in (1, 2, 5):
        assert lesson.backward_again(*numbers, passes, retain_graph=True) == passes * slope
    assert lesson.backward_again(*numbers, 1, retain_graph=False) == slope
    assert lesson.raises(lambda: lesson.backward_again(*numbers, 2, retain_graph=False))


def test_the_picture_shows_every_value_and_every_gradient_at_its_place(lesson, device):
    (axes,) = lesson.figure(device).axes
    texts = [text for text in axes.texts if text.get_text()]
    place = {text.get_text().split()[0]: np.array(text.get_position()) for text in texts[:6]}
    shown = [text.get_text().replace("$", "") for text in texts[:6]]
    nodes = ["x = 1", "w = 1", "p = w x\n1", "y = 2", "s = p - y\n-1", "loss = s^2\n1"]
    assert shown == nodes
    edges = {"xp": "-2", "wp": "-2", "ps": "-2", "ys": "2", "sl": "-2"}
    ends = {"xp": "x", "wp": "w", "ps": "p", "ys": "y", "sl": "s"}
    place["l"] = place["loss"]
    for edge, gradient in edges.items():
        middle = (place[edge[0]] + place[edge[1]]) / 2
        near = [t.get_text() for t in texts[6:] if np.abs(t.get_position() - middle).max() < 0.3]
        assert len(near) == 1
        assert near[0].startswith(f"dloss/d{ends[edge]} = ") and near[0].endswith(f"= {gradient}")
    arrows = {(text.xyann, text.xy) for text in axes.texts if not text.get_text()}
    expected = {(tuple(place[a]), tuple(place[b])) for a, b in edges}
    assert arrows == expected
