"""What lesson 18 claims."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_values, printed_if_tripled, tensor64
from reference import log_softmax, softmax
from torch import nn

assert_close = functools.partial(assert_values, atol=1e-12)


def weigh(q, k, causal=False):
    """The weights of one head, number by number."""
    found = np.zeros((len(q), len(k)))
    for t, s in itertools.product(range(len(q)), range(len(k))):
        if s <= t or not causal:
            found[t, s] = math.exp(sum(q[t] * k[s]) / math.sqrt(len(q[t])))
    return found / found.sum(axis=1, keepdims=True)


def many(function, *arguments):
    """function of each head of each sample; the arguments are (n, heads, ., .)."""
    heads = (part.reshape(-1, *part.shape[2:]) for part in arguments)
    found = np.array([function(*head) for head in zip(*heads, strict=True)])
    return found.reshape(*arguments[0].shape[:2], *found.shape[1:])


def later(size, device):
    """True where PyTorch's layers are told not to look."""
    return torch.ones(size, size, dtype=torch.bool, device=device).triu(1)


def scrambled(model, device, seed=0):
    """model in float64 with random parameters, where norms begin with 0 and 1."""
    random = np.random.default_rng(seed)
    for parameter in model.double().to(device).parameters():
        parameter.data = tensor64(0.5 * random.normal(size=parameter.shape), device)
    return model


def draws(monkeypatch, lesson, seed):
    """Let the lesson's noise be NumPy's; what it hands out is kept in the list."""
    random, kept = np.random.default_rng(seed), []

    def noise(*shape, device="cpu"):
        kept.append(random.normal(size=shape))
        return tensor64(kept[-1], device)

    monkeypatch.setattr(lesson, "noise", noise)
    return kept


def test_noise_is_normal_and_the_same_on_each_call_and_device(lesson, device):
    x = lesson.noise(40, 500, device=device)
    assert_values(x, lesson.noise(40, 500), device, rtol=0)
    # 5 standard errors: of the mean 1 / sqrt(n), of the variance sqrt(2 / n).
    assert abs(x.mean().item()) < 5 / math.sqrt(20_000)
    assert x.var().item() == pytest.approx(1, abs=5 * math.sqrt(2 / 20_000))


# 1. Attention is a mean of values, weighted by likeness
@pytest.mark.parametrize("causal", [False, True])
def test_weights_and_attention_are_what_loops_say(lesson, device, causal):
    random = np.random.default_rng(0)
    for t, s, d in ((5, 5, 3), (6, 4, 8), (3, 5, 4)):
        q, k, v = (random.normal(size=(2, 3, rows, d)) for rows in (t, s, s))
        ours = [tensor64(part, device) for part in (q, k, v)]
        expected = many(functools.partial(weigh, causal=causal), q, k)
        assert_close(lesson.weights(*ours[:2], causal), expected, device)
        assert_close(lesson.attention(*ours, causal), expected @ v, device)


@pytest.mark.parametrize("causal", [False, True])
def test_pytorch_means_the_same(lesson, device, causal):
    parts = tensor64(np.random.default_rng(1).normal(size=(3, 2, 9, 16)), device)
    expected = F.scaled_dot_product_attention(*parts, is_causal=causal).cpu()
    assert_close(lesson.attention(*parts, causal), expected, device)


def test_equal_keys_give_the_plain_mean_of_the_values_whatever_the_query(
    lesson, device
):
    q, k, v = np.random.default_rng(3).normal(size=(3, 7, 4))
    ours = [tensor64(part, device) for part in (q, np.tile(k[0], (7, 1)), v)]
    assert_close(lesson.attention(*ours), np.tile(v.mean(axis=0), (7, 1)), device)
    means = [v[: t + 1].mean(axis=0) for t in range(7)]
    assert_close(lesson.attention(*ours, causal=True), means, device)


# 2. Why sqrt(d)
@pytest.mark.parametrize("d", [1, 9, 100])
def test_the_product_of_random_vectors_has_variance_d_and_1_when_scaled(lesson, d):
    # Given q the 16 products are N(0, |q|^2), and |q|^2 has the mean d and the variance
    # 2 d. So the mean of their 16 squares has the variance 2 d + (d^2 + 2 d) / 8.
    error = math.sqrt((2 / d + (1 + 2 / d) / 8) / 3000)
    for scaled, variance in ((False, d), (True, 1)):
        found, _ = lesson.spread(d, scaled, 3000)
        assert found == pytest.approx(variance, rel=5 * error)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("d", [9, 100])
def test_the_entropy_over_16_keys_is_that_of_other_random_numbers(lesson, d, scaled):
    # The products with 16 keys are |q| times 16 numbers from N(0, 1), and |q|^2 is
    # chi-squared.
    random = np.random.default_rng(4)
    norm = np.sqrt(random.chisquare(d, size=(40_000, 1)) / (d if scaled else 1))
    z = norm * random.normal(size=(40_000, 16))
    entropy = -(softmax(z) * log_softmax(z)).sum(axis=1)
    _, found = lesson.spread(d, scaled, 3000)
    # 5 standard errors of the difference of the two means
    error = entropy.std() * math.sqrt(1 / 3000 + 1 / 40_000)
    assert abs(found - entropy.mean()) < 5 * error


def test_scaled_the_weights_are_as_even_for_any_d_and_unscaled_one_takes_all(lesson):
    scaled = [lesson.spread(d, True, 1000)[1] for d in (4, 64, 256)]
    assert max(scaled) - min(scaled) < 0.1 and min(scaled) > 0.8 * math.log(16)
    unscaled = [lesson.spread(d, False, 1000)[1] for d in (4, 64, 256)]
    assert unscaled[0] > unscaled[1] > unscaled[2] < 0.1 * math.log(16)


def test_the_entropy_of_16_equal_weights_is_not_a_measured_one(lesson):
    printed = printed_if_tripled(lesson, 2, "spread")
    assert f"log 16 = {math.log(16):.2f}\n" in printed
    assert f"mean entropy {3 * lesson.spread(4, False)[1]:.2f}\n" in printed


# 3. Causal: the future has no say at all
def test_the_gradient_by_a_later_token_is_exactly_0(lesson, device):
    assert lesson.future_gradient(True, device) == 0


def test_without_a_mask_it_is_what_central_differences_say(lesson, device, monkeypatch):
    places = set()
    for seed in (17, 18, 19, 20, 21, 22, 23, 24):
        kept = draws(monkeypatch, lesson, seed)
        found = lesson.future_gradient(False, device)
        [x] = kept
        slopes, h = {}, 1e-6
        for s, j in np.ndindex(6, 4):
            step = np.zeros((6, 4))
            step[s, j] = h
            above, below = ((weigh(y, y) @ y).sum(axis=1) for y in (x + step, x - step))
            for t in range(s):
                slopes[t, s, j] = abs(above[t] - below[t]) / (2 * h)
        places.add(max(slopes, key=slopes.get)[:2])
        assert found == pytest.approx(max(slopes.values()), rel=1e-7)
    # These draws find the largest at the ends of what is looked at: (t, s).
    assert {(0, 5), (4, 5), (1, 2)} <= places


def test_changing_the_last_of_20_tokens_changes_the_last_output_only(lesson, device):
    x = tensor64(np.random.default_rng(5).normal(size=(20, 4)), device)
    changed = x.clone()
    changed[19] += 1
    before, after = (lesson.attention(y, y, y, causal=True) for y in (x, changed))
    assert torch.equal(before[:19], after[:19]) and (before[19] != after[19]).all()
    before, after = (lesson.attention(y, y, y) for y in (x, changed))
    assert (before != after).all()


# 4. Attention knows no order; positions tell it
def test_shuffled_rows_give_shuffled_rows_unless_causal(lesson, device):
    assert lesson.order_ignored(False, device) is True
    assert lesson.order_ignored(True, device) is False
    # The same by loops
    x = lesson.noise(6, 4).numpy()
    y = x[[3, 0, 5, 1, 4, 2]]
    for causal in (False, True):
        before, after = (weigh(rows, rows, causal) @ rows for rows in (x, y))
        assert np.allclose(after, before[[3, 0, 5, 1, 4, 2]]) is not causal


@pytest.mark.parametrize(("length", "d"), [(50, 16), (7, 2)])
def test_going_on_by_k_turns_each_pair_of_sine_and_cosine(lesson, length, d):
    # As a complex number position t is exp(i w t).
    w = 10_000 ** (-2 * np.arange(d // 2) / d)
    pairs = np.exp(1j * np.arange(length)[:, None] * w)
    found = lesson.sinusoids(length, d)
    assert_close(found, np.concatenate([pairs.imag, pairs.real], axis=1))
    np.testing.assert_allclose(pairs[5:], pairs[:-5] * np.exp(5j * w), atol=1e-12)


def test_the_product_of_two_positions_depends_on_their_distance_only(lesson):
    positions = lesson.sinusoids(40, 12)
    w = 10_000.0 ** (-np.arange(6) / 6)
    distance = np.arange(40)[:, None] - np.arange(40)
    expected = np.cos(distance[..., None] * w).sum(axis=-1)
    assert_close(positions @ positions.T, expected)
    assert set(expected.diagonal()) == {6.0}  # of each with itself: d / 2


# 5. Several heads, and a block around them
def heads_by_hand(layer, x, causal):
    """multi_head in NumPy: head by head, by slices of the three matrices."""
    values = {name: p.detach().cpu().numpy() for name, p in layer.named_parameters()}
    weight, bias = values["in_proj_weight"], values["in_proj_bias"]
    d = x.shape[-1]
    size = d // layer.num_heads
    out = np.zeros(x.shape)
    for sample, start in itertools.product(range(len(x)), range(0, d, size)):
        rows = [slice(part + start, part + start + size) for part in (0, d, 2 * d)]
        q, k, v = (x[sample] @ weight[r].T + bias[r] for r in rows)
        out[sample, :, start : start + size] = weigh(q, k, causal) @ v
    return out @ values["out_proj.weight"].T + values["out_proj.bias"]


def block_by_hand(layer, x, causal):
    """block in NumPy."""
    values = {name: p.detach().cpu().numpy() for name, p in layer.named_parameters()}

    def linear(x, name):
        return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    def norm(x, name):
        off = x - x.mean(axis=-1, keepdims=True)
        standard = off / np.sqrt((off**2).mean(axis=-1, keepdims=True) + 1e-5)
        return standard * values[f"{name}.weight"] + values[f"{name}.bias"]

    x = x + heads_by_hand(layer.self_attn, norm(x, "norm1"), causal)
    hidden = np.maximum(linear(norm(x, "norm2"), "linear1"), 0)
    return x + linear(hidden, "linear2")


@pytest.mark.parametrize(("t", "d", "heads"), [(5, 6, 3), (4, 8, 1)])
def test_several_heads_are_nn_multiheadattention(lesson, device, t, d, heads):
    layer = scrambled(nn.MultiheadAttention(d, heads, batch_first=True), device, seed=d)
    x = np.random.default_rng(t).normal(size=(2, t, d))
    ours = tensor64(x, device)
    for causal, mask in ((False, None), (True, later(t, device))):
        expected, _ = layer(ours, ours, ours, attn_mask=mask)
        found = lesson.multi_head(layer, ours, causal)
        assert_close(found, expected.detach().cpu(), device)
        assert_close(found, heads_by_hand(layer, x, causal), device)
    # whatever the heads
    assert sum(p.numel() for p in layer.parameters()) == 4 * d**2 + 4 * d


def test_a_block_is_nn_transformerencoderlayer(lesson, device):
    layer = scrambled(lesson.encoder_layer(6, 3, 7), device)
    x = np.random.default_rng(5).normal(size=(2, 5, 6))
    ours = tensor64(x, device)
    for causal, mask in ((False, None), (True, later(5, device))):
        expected = layer(ours, src_mask=mask).detach().cpu()
        found = lesson.block(layer, ours, causal)
        assert_close(found, expected, device)
        assert_close(found, block_by_hand(layer, x, causal), device)


def test_the_number_of_parameters_by_the_formula_is_not_the_counted_one(
    lesson, monkeypatch, capsys
):
    layer = lesson.encoder_layer()
    layer.self_attn.idle = nn.Parameter(torch.zeros(5))
    monkeypatch.setattr(lesson, "encoder_layer", lambda: layer)
    lesson.show_5("cpu")
    assert "1093 parameters, 4 d^2 + 4 d is 1088\n" in capsys.readouterr().out


# 6. Mistake: a mask upside down
def test_true_is_allowed_in_one_place_and_blocked_in_the_other(device):
    random = np.random.default_rng(8)
    x, mask = random.normal(size=(5, 4)), random.random(size=(5, 5)) < 0.5
    mask[range(5), range(5)] = True
    e = np.exp(x @ x.T / 2) * mask
    expected = (e / e.sum(axis=1, keepdims=True) @ x)[None]
    ours, allowed = tensor64(x[None], device), torch.from_numpy(mask).to(device)
    found = F.scaled_dot_product_attention(ours, ours, ours, attn_mask=allowed)
    assert_close(found, expected, device)
    layer = nn.MultiheadAttention(4, 1, bias=False, batch_first=True)
    layer.in_proj_weight.data = tensor64(np.tile(np.eye(4), (3, 1)))  # q = k = v = x
    layer.out_proj.weight.data = tensor64(np.eye(4))
    found, _ = layer.to(device)(ours, ours, ours, attn_mask=~allowed)
    assert_close(found, expected, device)


@pytest.mark.parametrize("rows", [[], [1, 3], [0, 1, 2, 3, 4]])
def test_a_token_that_sees_nothing_is_nan(lesson, device, rows):
    blocked = np.random.default_rng(9).random(size=(5, 5)) < 0.5
    blocked[:, 2] = False
    blocked[rows] = True
    found = lesson.rows_of_nan(torch.from_numpy(blocked).to(device), device)
    assert found == len(rows)


@pytest.mark.parametrize("upside_down", [True, False])
def test_a_mask_upside_down_makes_every_parameter_nan_after_one_step(
    device, upside_down
):
    layer = nn.MultiheadAttention(16, 4, batch_first=True).to(device)
    mask = ~later(5, device) if upside_down else later(5, device)
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0)).to(device)
    out, _ = layer(x, x, x, attn_mask=mask)
    assert out.isnan().all(dim=-1).tolist() == [[False] * 4 + [upside_down]] * 2
    F.mse_loss(out, x).backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert {p.isnan().all().item() for p in layer.parameters()} == {upside_down}
    assert {p.isnan().any().item() for p in layer.parameters()} == {upside_down}


# 7. Padding: what only fills the batch
def test_the_heads_are_the_same_on_each_call_and_no_global_draw_is_used(lesson):
    state = torch.get_rng_state()
    first, second = lesson.seeded_heads(), lesson.seeded_heads()
    assert torch.equal(state, torch.get_rng_state())
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("length", [1, 3, 4])
def test_padding_changes_nothing_where_it_is_blocked_and_else_what_loops_say(
    lesson, device, length
):
    layer, x = lesson.seeded_heads(), lesson.noise(1, 5, 16).numpy()
    alone = heads_by_hand(layer, x[:, :length], causal=False)
    together = heads_by_hand(layer, x, causal=False)[:, :length]
    expected = np.abs(together - alone).max()
    assert lesson.changed_by_padding(length, False, device) == pytest.approx(expected)
    assert lesson.changed_by_padding(length, True, device) < 1e-12


@pytest.mark.parametrize("lengths", [[5, 3, 0], [0, 1], [4, 5, 2, 1]])
def test_a_sequence_that_is_all_padding_is_nan_and_no_other_is(lesson, device, lengths):
    expected = [5 if length == 0 else 0 for length in lengths]
    assert lesson.tokens_of_nan(lengths, device) == expected


def test_the_output_is_of_the_size_of_1(lesson):
    # The damage in the table is told in numbers of this size.
    x = lesson.noise(1, 5, 16)
    out, _ = lesson.seeded_heads()(x, x, x)
    assert 0.1 < out.square().mean().sqrt().item() < 2


# Go wrong: what the table says of PyTorch's own layers
@pytest.mark.parametrize("options", [{}, {"batch_first": True}])
def test_batch_first_false_is_the_default_and_takes_the_batch_for_the_sequence(
    device, options
):
    x = tensor64(np.random.default_rng(1).normal(size=(3, 5, 16)), device)
    other = x.clone()
    other[1] += 1  # another sample
    heads = nn.MultiheadAttention(16, 4, **options).double().to(device)
    layer = nn.TransformerEncoderLayer(16, 4, dropout=0.0, **options)
    layer.double().to(device)
    for call in (lambda y: heads(y, y, y)[0], layer):
        depends = (call(x)[0] - call(other)[0]).abs().max().item() > 1e-6
        assert depends is (options == {})


def test_dropout_p_drops_in_evaluation_too(device):
    class Model(nn.Module):
        def forward(self, x, dropout_p):
            return F.scaled_dot_product_attention(x, x, x, dropout_p=dropout_p)

    x, model = torch.randn(1, 2, 64, 16, device=device), Model().eval()
    assert not torch.equal(model(x, 0.1), model(x, 0.1))
    cure = 0.1 if model.training else 0.0
    assert torch.equal(model(x, cure), model(x, cure))


# The picture
def test_the_picture_shows_the_entropies_and_the_products_of_positions(lesson):
    left, right, _ = lesson.figure().axes
    lines = {line.get_label(): line for line in left.lines[:2]}
    sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    for name, scaled in (("divided by sqrt(d)", True), ("undivided", False)):
        assert list(lines[name].get_xdata()) == sizes
        entropies = [lesson.spread(d, scaled, 500)[1] for d in sizes]
        assert list(lines[name].get_ydata()) == entropies
    assert left.lines[2].get_ydata()[0] == pytest.approx(math.log(16))
    shown = np.array(right.images[0].get_array())
    w = 10_000.0 ** (-np.arange(8) / 8)
    distance = np.arange(50)[:, None] - np.arange(50)
    np.testing.assert_allclose(shown, np.cos(distance[..., None] * w).sum(axis=-1))
