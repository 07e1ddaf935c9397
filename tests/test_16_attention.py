"""What lesson 16 claims."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

# The source once more, exactly: P[a, b, c] is the probability of c after a and b.
RIGHT, OTHER = Fraction(84, 100), Fraction(4, 100)
P = np.array(
    [
        [[RIGHT if c == (a + b) % 5 else OTHER for c in range(5)] for b in range(5)]
        for a in range(5)
    ]
)
# A surprise is -log 0.84 with probability 0.84, else -log 0.04: its std is sqrt(0.84 *
# 0.16) * log(21). The mean of ten losses holds 10 * 32 * 14 of them, 0.0167.
STANDARD_ERROR = math.sqrt(0.84 * 0.16 / (10 * 32 * 14)) * math.log(21)


def tensor(numbers, device):
    return torch.tensor(np.array(numbers)).to(device)


def check(result, expected, device, dtype=torch.float64, rtol=1e-12, atol=1e-12):
    assert (result.dtype, result.device.type) == (dtype, device)
    assert result.shape == np.shape(expected)
    np.testing.assert_allclose(result.detach().cpu(), expected, rtol=rtol, atol=atol)


def weigh(q, k, causal=False, dim=-1):
    """The weights of one head, number by number."""
    found = np.zeros((len(q), len(k)))
    for t, s in itertools.product(range(len(q)), range(len(k))):
        if s <= t or not causal:
            found[t, s] = math.exp(sum(q[t] * k[s]) / math.sqrt(len(q[t])))
    return found / found.sum(axis=dim, keepdims=True)


def many(function, *arguments):
    """function of each head of each sample, where the arguments are (n, heads, ., .)."""
    heads = (part.reshape(-1, *part.shape[2:]) for part in arguments)
    found = np.array([function(*head) for head in zip(*heads, strict=True)])
    return found.reshape(*arguments[0].shape[:2], *found.shape[1:])


def later(size, device):
    """True where PyTorch's layers are told not to look."""
    return torch.ones(size, size, dtype=torch.bool, device=device).triu(1)


def scrambled(model, device, seed=0):
    """model in float64 with parameters of which none is 0 or 1, as biases and norms are
    at first.

    They come from NumPy and are the same on each device.
    """
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in model.double().to(device).parameters():
            parameter.copy_(torch.from_numpy(0.5 * random.normal(size=parameter.shape)))
    return model


def draws(monkeypatch, lesson, seed):
    """Let the lesson's noise be NumPy's. What it has handed out is kept in the list
    returned."""
    random, kept = np.random.default_rng(seed), []

    def noise(*shape, device="cpu"):
        kept.append(random.normal(size=shape))
        return tensor(kept[-1], device)

    monkeypatch.setattr(lesson, "noise", noise)
    return kept


def test_noise_is_normal_and_the_same_on_each_call_and_device(lesson, device):
    state = torch.get_rng_state()
    x = lesson.noise(40, 500, device=device)
    # nobody else's numbers are touched
    assert torch.equal(state, torch.get_rng_state())
    check(x, lesson.noise(40, 500).numpy(), device, rtol=0, atol=0)
    seeded = torch.Generator().manual_seed(0)
    assert torch.equal(
        x.cpu(), torch.randn(40, 500, generator=seeded, dtype=torch.float64)
    )
    # 5 standard errors: those of the mean of 20,000 are 1 / sqrt(n), of the variance
    # sqrt(2 / n).
    assert abs(x.mean().item()) < 5 / math.sqrt(20_000)
    assert x.var().item() == pytest.approx(1, abs=5 * math.sqrt(2 / 20_000))


# 1. Attention is a mean of values, weighted by likeness
@pytest.mark.parametrize("dim", [-1, -2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("t", "s", "d"), [(5, 5, 3), (6, 4, 8), (1, 1, 1)])
def test_weights_and_attention_are_what_loops_say(lesson, device, t, s, d, causal, dim):
    random = np.random.default_rng(t)
    q, k, v = (random.normal(size=(2, 3, rows, d)) for rows in (t, s, s))
    ours = [tensor(part, device) for part in (q, k, v)]
    expected = many(lambda q, k: weigh(q, k, causal, dim), q, k)
    check(lesson.weights(*ours[:2], causal, dim), expected, device)
    check(lesson.attention(*ours, causal, dim), expected @ v, device)
    check(
        lesson.weights(ours[0][0, 0], ours[1][0, 0], causal, dim),
        expected[0, 0],
        device,
    )
    if dim == -1:
        check(lesson.attention(*ours, causal), expected @ v, device)
        np.testing.assert_allclose(expected.sum(axis=-1), 1, rtol=1e-12)
    if dim == -1 and not causal:  # so it is unless told
        check(lesson.weights(*ours[:2]), expected, device)
        check(lesson.attention(*ours), expected @ v, device)


def test_a_causal_query_may_be_shorter_than_the_keys(lesson, device):
    random = np.random.default_rng(0)
    q, k = random.normal(size=(3, 4)), random.normal(size=(5, 4))
    expected = weigh(q, k, causal=True)
    check(
        lesson.weights(tensor(q, device), tensor(k, device), causal=True),
        expected,
        device,
    )
    assert (expected[:, 3:] == 0).all()


@pytest.mark.parametrize("causal", [False, True])
def test_pytorch_means_the_same_in_both_precisions(lesson, device, causal):
    parts = [
        tensor(part, device)
        for part in np.random.default_rng(1).normal(size=(3, 2, 9, 16))
    ]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        q, k, v = (part.to(dtype) for part in parts)
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal).cpu()
        found = lesson.attention(q, k, v, causal)
        check(found, expected, device, dtype, rtol=0, atol=tolerance)


@pytest.mark.parametrize("causal", [False, True])
def test_what_comes_out_lies_in_the_hull_of_the_values(lesson, device, causal):
    random = np.random.default_rng(2)
    q, k, v = random.normal(size=(3, 6, 4))
    out = lesson.attention(*(tensor(part, device) for part in (9 * q, k, v)), causal)
    # A point is in the hull if it goes beyond all the values in no direction.
    directions = random.normal(size=(4, 200))
    for t, row in enumerate(out.cpu().numpy() @ directions):
        seen = (v[: t + 1] if causal else v) @ directions
        assert (row <= seen.max(axis=0) + 1e-12).all() and (
            row >= seen.min(axis=0) - 1e-12
        ).all()
    constant = tensor(np.tile(v[0], (6, 1)), device)
    out = lesson.attention(tensor(q, device), tensor(k, device), constant, causal)
    check(out, np.tile(v[0], (6, 1)), device)


def test_equal_keys_give_the_plain_mean_of_the_values_whatever_the_query(
    lesson, device
):
    random = np.random.default_rng(3)
    q, v = random.normal(size=(2, 7, 4))
    k = np.tile(random.normal(size=4), (7, 1))
    q, k, ours = tensor(q, device), tensor(k, device), tensor(v, device)
    check(lesson.weights(q, k), np.full((7, 7), 1 / 7), device)
    check(lesson.attention(q, k, ours), np.tile(v.mean(axis=0), (7, 1)), device)
    means = [v[: t + 1].mean(axis=0) for t in range(7)]
    check(lesson.attention(q, k, ours, causal=True), means, device)


# 2. Why sqrt(d)
@pytest.mark.parametrize("d", [1, 9, 100])
def test_the_product_of_random_vectors_has_variance_d_and_1_when_scaled(lesson, d):
    # Given q the 16 products are N(0, |q|^2), and |q|^2 has the mean d and the variance
    # 2 d. So the mean of their 16 squares has the variance 2 d + (d^2 + 2 d) / 8.
    pairs = 3000
    error = math.sqrt((2 / d + (1 + 2 / d) / 8) / pairs)
    for scaled, variance in ((False, d), (True, 1)):
        found, _ = lesson.spread(d, scaled, pairs)
        assert type(found) is float and found == pytest.approx(variance, rel=5 * error)


@pytest.mark.parametrize(
    ("d", "scaled"), [(9, False), (9, True), (100, False), (100, True)]
)
def test_the_entropy_over_16_keys_is_that_of_other_random_numbers(lesson, d, scaled):
    # The products with 16 keys are |q| times 16 numbers from N(0, 1), and |q|^2 is
    # chi-squared.
    random = np.random.default_rng(4)
    norm = np.sqrt(random.chisquare(d, size=(40_000, 1)) / (d if scaled else 1))
    z = norm * random.normal(size=(40_000, 16))
    log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    entropy = -(np.exp(log_p) * log_p).sum(axis=1)
    _, found = lesson.spread(d, scaled, 3000)
    # 5 standard errors of the difference of the two means
    assert type(found) is float
    assert abs(found - entropy.mean()) < 5 * entropy.std() * math.sqrt(
        1 / 3000 + 1 / 40_000
    )


def test_scaled_the_weights_are_as_even_for_any_d_and_unscaled_one_takes_all(lesson):
    assert math.log(16) == pytest.approx(sum(-math.log(1 / 16) / 16 for _ in range(16)))
    scaled = [lesson.spread(d, True, 1000)[1] for d in (4, 64, 256)]
    assert max(scaled) - min(scaled) < 0.1 and min(scaled) > 0.8 * math.log(16)
    unscaled = [lesson.spread(d, False, 1000)[1] for d in (4, 64, 256)]
    assert unscaled == sorted(unscaled, reverse=True) and unscaled[2] < 0.1 * math.log(
        16
    )


def test_2000_pairs_are_drawn_unless_told_and_the_same_ones_on_each_call(lesson):
    state = torch.get_rng_state()
    for scaled in (False, True):
        assert lesson.spread(5, scaled) == lesson.spread(5, scaled, 2000)
        assert lesson.spread(5, scaled) != lesson.spread(5, scaled, 2001)
    assert torch.equal(state, torch.get_rng_state())
    seeded = torch.Generator().manual_seed(0)
    q, k = (
        torch.randn(2000, keys, 5, generator=seeded).double().numpy()
        for keys in (1, 16)
    )
    variance = np.einsum("pqd,pkd->pk", q, k).var(ddof=1)
    assert lesson.spread(5, False)[0] == pytest.approx(variance, rel=1e-5)


# 3. Causal: the future has no say at all
def test_the_gradient_by_a_later_token_is_exactly_0(lesson, device, monkeypatch):
    assert lesson.future_gradient(True, device) == 0
    for seed in range(5):
        draws(monkeypatch, lesson, seed)
        assert lesson.future_gradient(True, device) == 0


def test_without_a_mask_it_is_what_central_differences_say(lesson, device, monkeypatch):
    places = set()
    for seed in range(17, 25):
        kept = draws(monkeypatch, lesson, seed)
        found = lesson.future_gradient(False, device)
        [x] = kept
        assert x.shape == (6, 4)
        expected, h = {}, 1e-6
        for s, j in itertools.product(range(6), range(4)):
            sums = []
            for step in (h, -h):
                near = x.copy()
                near[s, j] += step
                sums.append((weigh(near, near) @ near).sum(axis=1))
            for t in range(s):
                expected[t, s, j] = abs(sums[0][t] - sums[1][t]) / (2 * h)
        places.add(max(expected, key=expected.get)[:2])
        assert type(found) is float and found == pytest.approx(
            max(expected.values()), rel=1e-7
        )
    # These draws find the largest at the ends of what is looked at: (t, s).
    assert {(0, 5), (4, 5), (1, 2)} <= places


def test_changing_the_last_of_20_tokens_changes_the_last_output_only(lesson, device):
    x = tensor(np.random.default_rng(5).normal(size=(20, 4)), device)
    changed = x.clone()
    changed[19] += 1
    before, after = (
        lesson.attention(part, part, part, causal=True) for part in (x, changed)
    )
    assert torch.equal(before[:19], after[:19]) and (before[19] != after[19]).all()
    before, after = (lesson.attention(part, part, part) for part in (x, changed))
    assert (before != after).all()


# 4. Attention knows no order; positions tell it
def test_shuffled_rows_give_shuffled_rows_unless_causal(lesson, device, monkeypatch):
    assert lesson.order_ignored(False, device) is True
    assert lesson.order_ignored(True, device) is False
    for seed in range(5):
        kept = draws(monkeypatch, lesson, seed)
        assert lesson.order_ignored(False, device) is True
        assert lesson.order_ignored(True, device) is False
        assert kept[0].shape == (6, 4)
    # Not to the last bit: the sums run in another order. 1e-12 is what is asked for.
    for off, expected in ((0.97e-12, True), (1.03e-12, False)):
        answers = iter((torch.zeros(6, 4) + off, torch.zeros(6, 4)))
        with monkeypatch.context() as patch:
            patch.setattr(
                lesson, "attention", lambda *_, answers=answers: next(answers).double()
            )
            assert lesson.order_ignored(False) is expected


@pytest.mark.parametrize(("length", "d"), [(50, 16), (7, 2), (30, 64)])
def test_sinusoids_are_sines_and_cosines_in_pairs_of_one_frequency(lesson, length, d):
    found = lesson.sinusoids(length, d)
    w = [10_000 ** (-2 * i / d) for i in range(d // 2)]
    expected = [
        [math.sin(t * f) for f in w] + [math.cos(t * f) for f in w]
        for t in range(length)
    ]
    check(found, expected, "cpu")
    # Going on by k turns each pair: as a complex number it is multiplied by exp(i w k).
    pairs = found[:, d // 2 :].numpy() + 1j * found[:, : d // 2].numpy()
    for k in (1, 5):
        turned = pairs[:-k] * np.exp(1j * k * np.array(w))
        np.testing.assert_allclose(pairs[k:], turned, rtol=0, atol=1e-12)


def test_the_product_of_two_positions_depends_on_their_distance_only(lesson):
    positions = lesson.sinusoids(40, 12)
    w = 10_000.0 ** (-np.arange(6) / 6)
    distance = np.arange(40)[:, None] - np.arange(40)
    check(positions @ positions.T, np.cos(distance[..., None] * w).sum(axis=-1), "cpu")
    # of each with itself: d / 2
    check((positions**2).sum(dim=1), np.full(40, 6.0), "cpu")


# 5. Several heads, and a block around them
def heads_by_hand(layer, x, causal, dim):
    """multi_head in NumPy: head by head, by slices of the three matrices."""
    weight, bias = (
        p.detach().cpu().numpy() for p in (layer.in_proj_weight, layer.in_proj_bias)
    )
    d = x.shape[-1]
    size = d // layer.num_heads
    samples = []
    for sample in x:
        parts = []
        for start in range(0, d, size):
            rows = [
                slice(part * d + start, part * d + start + size) for part in range(3)
            ]
            q, k, v = (sample @ weight[r].T + bias[r] for r in rows)
            parts.append(weigh(q, k, causal, dim) @ v)
        samples.append(np.concatenate(parts, axis=1))
    out = layer.out_proj
    return (
        np.array(samples) @ out.weight.detach().cpu().numpy().T
        + out.bias.detach().cpu().numpy()
    )


def block_by_hand(layer, x, causal, dim):
    """block in NumPy."""
    values = {name: p.detach().cpu().numpy() for name, p in layer.named_parameters()}

    def norm(x, name):
        off = x - x.mean(axis=-1, keepdims=True)
        standard = off / np.sqrt((off**2).mean(axis=-1, keepdims=True) + 1e-5)
        return standard * values[f"{name}.weight"] + values[f"{name}.bias"]

    x = x + heads_by_hand(layer.self_attn, norm(x, "norm1"), causal, dim)
    hidden = norm(x, "norm2") @ values["linear1.weight"].T + values["linear1.bias"]
    return (
        x + np.maximum(hidden, 0) @ values["linear2.weight"].T + values["linear2.bias"]
    )


@pytest.mark.parametrize(
    ("n", "t", "d", "heads"), [(2, 5, 6, 3), (3, 4, 8, 1), (1, 1, 4, 4)]
)
def test_several_heads_are_nn_multiheadattention(lesson, device, n, t, d, heads):
    layer = scrambled(nn.MultiheadAttention(d, heads, batch_first=True), device, seed=d)
    x = np.random.default_rng(t).normal(size=(n, t, d))
    ours = tensor(x, device)
    for causal, mask in ((False, None), (True, later(t, device))):
        expected, _ = layer(ours, ours, ours, attn_mask=mask)
        check(lesson.multi_head(layer, ours, causal), expected.detach().cpu(), device)
        for dim in (-1, -2):
            by_hand = heads_by_hand(layer, x, causal, dim)
            check(lesson.multi_head(layer, ours, causal, dim), by_hand, device)
    check(lesson.multi_head(layer, ours), heads_by_hand(layer, x, True, -1), device)
    # whatever the heads
    assert sum(p.numel() for p in layer.parameters()) == 4 * d**2 + 4 * d


@pytest.mark.parametrize(
    ("n", "t", "d", "heads", "hidden"), [(2, 5, 6, 3, 7), (1, 3, 8, 2, 4)]
)
def test_a_block_is_nn_transformerencoderlayer(lesson, device, n, t, d, heads, hidden):
    layer = scrambled(lesson.encoder_layer(d, heads, hidden), device, seed=d)
    x = np.random.default_rng(t).normal(size=(n, t, d))
    ours = tensor(x, device)
    for causal, mask in ((False, None), (True, later(t, device))):
        expected = layer(ours, src_mask=mask).detach().cpu()
        check(lesson.block(layer, ours, causal), expected, device)
        for dim in (-1, -2):
            by_hand = block_by_hand(layer, x, causal, dim)
            check(lesson.block(layer, ours, causal, dim), by_hand, device)
    check(lesson.block(layer, ours), block_by_hand(layer, x, True, -1), device)


def test_an_encoder_layer_has_no_dropout_the_norm_first_and_samples_in_front(lesson):
    layer = lesson.encoder_layer()
    assert isinstance(layer, nn.TransformerEncoderLayer) and layer.training
    assert layer.norm_first and layer.self_attn.batch_first
    dropouts = (layer.dropout, layer.dropout1, layer.dropout2)
    assert [part.p for part in dropouts] == [0, 0, 0] and layer.self_attn.dropout == 0
    attention = layer.self_attn
    assert (attention.embed_dim, attention.num_heads, layer.linear1.out_features) == (
        16,
        4,
        32,
    )


# 6. Token by token, with what is stored
@pytest.mark.parametrize("t", [1, 2, 9])
def test_token_by_token_is_all_at_once_for_one_score_for_each_earlier_token(
    lesson, device, t
):
    random = np.random.default_rng(t)
    q, k, v = random.normal(size=(3, 2, 3, t, 4))
    found, scores = lesson.attention_with_cache(
        *(tensor(part, device) for part in (q, k, v))
    )
    check(found, many(lambda q, k: weigh(q, k, causal=True), q, k) @ v, device)
    assert type(scores) is int and scores == t * (t + 1) / 2  # 1 + 2 + ... + t
    found, _ = lesson.attention_with_cache(
        *(tensor(part[0, 0], device) for part in (q, k, v))
    )
    check(found, weigh(q[0, 0], k[0, 0], causal=True) @ v[0, 0], device)


# 7. A tiny GPT meets the entropy of its source
def test_the_entropy_is_that_of_the_stationary_chain_of_pairs(lesson):
    # A pair (a, b) goes on to (b, c). 1/25 for each pair stays as it is, and no other
    # share of the pairs does: from any pair any other is reached in two steps.
    after = sum(P[a] / 25 for a in range(5))  # the joint probability of (b, c)
    assert (
        (after == Fraction(1, 25)).all()
        and (P > 0).all()
        and (P.sum(axis=2) == 1).all()
    )
    p = P.astype(float)
    entropy = -(p * np.log(p)).sum(axis=2).mean()
    assert abs(lesson.ENTROPY - entropy) < 1e-14
    assert f"{entropy:.4f}, {entropy:.2f}" == "0.6615, 0.66"
    # that of one symbol, or of one given the one before
    assert f"{math.log(5):.4f}" == "1.6094"


@pytest.mark.parametrize("length", [3, 16])
def test_sequences_have_the_frequencies_of_the_source(lesson, length):
    # The largest of the 20 seeds 0 to 19, in 200 bounds each, was 4.05 standard errors.
    n = 30_000
    state = torch.get_rng_state()
    x = lesson.sequences(n, length, torch.Generator().manual_seed(21))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(
        x, lesson.sequences(n, length, torch.Generator().manual_seed(21))
    )
    assert (x.dtype, x.shape, x.device.type) == (torch.int64, (n, length), "cpu")
    x = x.numpy()
    assert set(x.ravel()) == set(range(5))

    def within(counts, p, n):
        off = np.abs(counts - n * p) / np.sqrt(n * p * (1 - p))
        assert (off < 5).all()

    for t in range(2, length):
        right = (x[:, t] == (x[:, t - 1] + x[:, t - 2]) % 5).sum()
        within(right, 0.84, n)
    for t in (0, 1, 2, length - 1):
        within(np.bincount(x[:, t], minlength=5), 0.2, n)
    for t in (1, length - 1):  # any two in a row are uniform
        pairs = np.bincount(5 * x[:, t - 1] + x[:, t], minlength=25)
        within(pairs, 1 / 25, n)
    triples = np.bincount(x[:, -3:] @ [25, 5, 1], minlength=125)
    within(triples, P.astype(float).ravel() / 25, n)


@pytest.mark.parametrize(("n", "length"), [(3, 1), (4, 2), (1, 5)])
def test_sequences_may_be_short(lesson, n, length):
    assert lesson.sequences(n, length, torch.Generator().manual_seed(0)).shape == (
        n,
        length,
    )


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_a_tiny_gpt_is_embeddings_a_layer_of_pytorchs_and_a_linear_layer(
    lesson, device, causal, positions
):
    model = scrambled(lesson.TinyGPT(d=8, causal=causal, positions=positions), device)
    tokens = np.random.default_rng(6).integers(5, size=(3, 7))
    x = torch.from_numpy(np.eye(5)[tokens]).to(device) @ model.token.weight
    if positions:
        x = (
            x
            + torch.eye(15, device=device, dtype=torch.float64)[:7]
            @ model.position.weight
        )
    hidden = model.layer(x, src_mask=later(7, device) if causal else None)
    expected = hidden @ model.head.weight.T + model.head.bias
    check(model(tensor(tokens, device)), expected.detach().cpu(), device)
    model.dim = -2
    hidden = block_by_hand(model.layer, x.detach().cpu().numpy(), causal, -2)
    expected = tensor(hidden, device) @ model.head.weight.T + model.head.bias
    check(model(tensor(tokens, device)), expected.detach().cpu(), device)


def test_a_tiny_gpt_is_32_wide_with_4_heads_causal_and_with_positions_unless_told(
    lesson,
):
    models = {8: lesson.TinyGPT(8, dim=-2), 32: lesson.TinyGPT()}
    assert [model.dim for model in models.values()] == [-2, -1]
    assert models[32].causal is models[32].positions is True
    for d, model in models.items():
        # heads, norms, two linears
        layer = 4 * d * d + 4 * d + 4 * d + 2 * d * 2 * d + 2 * d + d
        assert (
            sum(p.numel() for p in model.parameters())
            == 5 * d + 15 * d + layer + 5 * d + 5
        )
        assert (
            model.layer.self_attn.num_heads == 4
            and model.layer.linear1.out_features == 2 * d
        )
        assert model(torch.zeros(2, 15, dtype=torch.int64)).shape == (2, 15, 5)


@pytest.mark.parametrize("mistake", [{}, {"causal": False}, {"dim": -2}])
def test_logits_before_a_changed_token_are_the_same_unless_there_is_a_mistake(
    lesson, device, mistake
):
    model = lesson.TinyGPT(**mistake).to(device)
    tokens = lesson.sequences(4, 15, torch.Generator().manual_seed(3)).to(device)
    changed = tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 5
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :10], after[:, :10]) is (mistake == {})
    assert not torch.equal(before[:, 10], after[:, 10])
    # The gradient of the logits of token t by the embedding of a later one
    seen = []
    model.token.register_forward_hook(lambda *arguments: seen.append(arguments[-1]))
    logits = model(tokens)
    [gradient] = torch.autograd.grad(logits[:, 9].sum(), seen)
    assert (gradient[:, :10] != 0).any() and (gradient[:, 10:] == 0).all().item() is (
        mistake == {}
    )


def test_without_positions_a_model_knows_the_symbols_and_not_their_order(
    lesson, device
):
    tokens = torch.tensor([[0, 1, 2, 3, 4, 4, 1], [4, 2, 3, 1, 0, 4, 1]], device=device)
    for positions in (False, True):
        model = scrambled(lesson.TinyGPT(8, positions=positions), device)
        first, second = model(tokens)[:, -1]
        assert (first - second).abs().max().item() < 1e-12 or positions
        assert (first - second).abs().max().item() > 1e-3 or not positions


class Table(nn.Module):
    """A stand-in for TinyGPT whose logits stand in a table of the last two tokens."""

    def __init__(self, table=None, **options):
        super().__init__()
        self.options, self.calls = options, []
        table = torch.randn(5, 5, 5, dtype=torch.float64) if table is None else table
        self.table = nn.Parameter(torch.as_tensor(table))

    def forward(self, tokens):
        self.calls.append(tokens.cpu().numpy())
        return self.table[F.pad(tokens[:, :-1], (1, 0)), tokens]


def annealed(start, end, share):
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def adamw(table, batches):
    """(losses, table): AdamW under OneCycleLR, for a peak of 0.02, by the formulas of
    both."""
    first, second, losses, steps = 0, 0, [], len(batches)
    peak = 0.3 * steps - 1
    for step, x in enumerate(batches):
        if step < peak:  # up from 1/25 of it, and momentum down
            lr, beta = (
                annealed(*ends, step / peak) for ends in ((8e-4, 0.02), (0.95, 0.85))
            )
        else:  # down to 1e-4 of the start
            share = (step - peak) / (steps - 1 - peak)
            lr, beta = (annealed(*ends, share) for ends in ((0.02, 8e-8), (0.85, 0.95)))
        a, b, c = (x[:, start : start + 14].ravel() for start in range(3))
        log_q = table - np.logaddexp.reduce(table, axis=2, keepdims=True)
        losses.append(-log_q[a, b, c].mean())
        gradient = np.zeros((5, 5, 5))
        np.add.at(gradient, (a, b), (np.exp(log_q[a, b]) - np.eye(5)[c]) / len(a))
        first = beta * first + (1 - beta) * gradient
        second = 0.999 * second + 0.001 * gradient**2
        spread = np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8
        table = table * (1 - lr * 0.01) - lr * first / (1 - beta ** (step + 1)) / spread
    return losses, table


@pytest.mark.parametrize(("steps", "seed"), [(20, 3), (10, 8)])
def test_training_predicts_each_token_of_16_but_the_first_two(
    lesson, device, monkeypatch, steps, seed
):
    monkeypatch.setattr(lesson, "TinyGPT", Table)
    state = torch.get_rng_state()
    model, losses = lesson.train_gpt(steps, seed, device, causal=False, d=7)
    # nobody else's numbers are touched
    assert torch.equal(state, torch.get_rng_state())
    assert (
        model.options == {"causal": False, "d": 7} and model.table.device.type == device
    )
    assert {call.shape for call in model.calls} == {(32, 15)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start = Table().table.detach().numpy()
    generator = torch.Generator().manual_seed(seed)
    batches = [lesson.sequences(32, 16, generator).numpy() for _ in range(steps)]
    expected, table = adamw(start, batches)
    assert type(losses) is list and losses == pytest.approx(expected, rel=1e-9)
    check(model.table, table, device, rtol=1e-9)


def test_the_seed_makes_the_tiny_gpt_and_its_mistakes_are_handed_on(lesson, device):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        start = lesson.TinyGPT(dim=-2).to(device)
    x = lesson.sequences(32, 16, torch.Generator().manual_seed(9)).to(device)
    log_q = torch.log_softmax(start(x[:, :15]), dim=-1)
    expected = -log_q[:, 1:].gather(2, x[:, 2:, None]).mean().item()
    model, losses = lesson.train_gpt(2, 9, device, dim=-2)
    assert isinstance(model, lesson.TinyGPT) and model.dim == -2
    assert losses[0] == pytest.approx(expected, rel=1e-5) and len(losses) == 2


def table_of(p):
    return np.log(p.astype(float))


def test_the_excess_of_the_source_itself_is_0_and_of_equal_logits_what_log_5_is_above(
    lesson, device
):
    for table, expected in (
        (table_of(P), 0),
        (np.zeros((5, 5, 5)), math.log(5) - lesson.ENTROPY),
    ):
        model = Table(table).to(device)
        found = lesson.excess(model, device)
        assert type(found) is float and found == pytest.approx(expected, abs=1e-6)
        [tokens] = model.calls  # 500 sequences of 16, without their last token
        x = lesson.sequences(500, 16, torch.Generator().manual_seed(1)).numpy()
        np.testing.assert_array_equal(tokens, x[:, :-1])
        # logits, not logs
        assert found == pytest.approx(lesson.excess(Table(table + 3)), abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_excess_is_the_mean_divergence_and_never_below_0(lesson, device, dtype):
    random = np.random.default_rng(7)
    for scale in (0.1, 1, 5):
        table = (table_of(P) + scale * random.normal(size=(5, 5, 5))).astype(dtype)
        model = Table(table).to(device)
        found = lesson.excess(model, device)
        log_q = table - np.logaddexp.reduce(table.astype(float), axis=2, keepdims=True)
        # p log(p / q) for each pair: above 0, as Gibbs says, for each of them
        divergence = (P.astype(float) * (table_of(P) - log_q)).sum(axis=2)
        [tokens] = model.calls
        expected = [
            divergence[a, b] for row in tokens for a, b in itertools.pairwise(row)
        ]
        assert len(expected) == 500 * 14 and divergence.min() > 0
        assert found == pytest.approx(np.mean(expected), abs=2e-6) and found > 0


@functools.cache
def trained(lesson, device):
    """The right model and the losses of its 200 steps, from a seed that the lesson has
    not."""
    return lesson.train_gpt(200, 4, device)


def test_a_tiny_gpt_comes_close_to_the_entropy_and_stays_above(lesson, device):
    # Seeds 1 to 20: from 0.0112 to 0.0316.
    model, losses = trained(lesson, device)
    assert 0 < lesson.excess(model, device) < 0.05
    # The losses are of samples, and are good to a standard error.
    assert len(losses) == 200 and losses[0] > 1.5
    assert abs(np.mean(losses[-10:]) - lesson.ENTROPY) < 0.05 + 5 * STANDARD_ERROR
    # It says what the source makes most likely.
    x = lesson.sequences(200, 15, torch.Generator().manual_seed(30)).to(device)
    with torch.no_grad():
        most_likely = model(x)[:, 1:].argmax(dim=-1)
    right = (x[:, 1:] + x[:, :-1]) % 5
    assert (most_likely == right).double().mean().item() > 0.95


# 8. Mistake: a loss below the entropy
def test_the_last_loss_is_the_mean_of_the_last_ten(lesson, device, monkeypatch):
    calls = []

    def train_gpt(steps, seed, device, **mistake):
        calls.append((steps, seed, device, mistake))
        return None, [2.0**step for step in range(steps)]

    monkeypatch.setattr(lesson, "train_gpt", train_gpt)
    assert lesson.last_loss(12, device=device, dim=-2) == (2**12 - 2**2) / 10
    assert lesson.last_loss(10, 5) == (2**10 - 1) / 10
    assert calls == [(12, 0, device, {"dim": -2}), (10, 5, "cpu", {})]


@pytest.mark.parametrize(
    ("mistake", "least", "most"),
    [
        ({"causal": False}, 0, 0.2),
        ({"dim": -2}, 0, 0.55),
        ({"positions": False}, 1, 1.5),
    ],
)
def test_who_sees_what_comes_gets_below_the_entropy(
    lesson, device, mistake, least, most
):
    # Seeds 1 to 20: without a mask from 0.067 to 0.103, with the wrong dim from 0.18 to
    # 0.46, without positions from 1.19 to 1.26. The right model too may be below, by
    # chance (the least of the 20 is 0.654, after 200 steps), but not by 5 standard
    # errors.
    loss = lesson.last_loss(120, 4, device, **mistake)
    assert type(loss) is float and least < loss < most
    assert (loss < lesson.ENTROPY - 5 * STANDARD_ERROR) is ("positions" not in mistake)


def test_where_the_target_is_the_input_a_copy_has_no_loss(lesson, device):
    x = lesson.sequences(20, 16, torch.Generator().manual_seed(0)).to(device)
    copied = 50.0 * F.one_hot(x, 5).movedim(2, 1)  # (n, 5, t): cross_entropy's order
    assert F.cross_entropy(copied, x).item() < 1e-12
    assert F.cross_entropy(copied[:, :, :-1], x[:, 1:]).item() > 0.6615


# 9. Mistake: a mask upside down
def test_true_is_allowed_in_one_place_and_blocked_in_the_other(lesson, device):
    random = np.random.default_rng(8)
    q, k, v = random.normal(size=(3, 1, 1, 5, 4))
    mask = random.random(size=(5, 5)) < 0.5
    mask[range(5), range(5)] = True
    e = np.exp(q[0, 0] @ k[0, 0].T / 2) * mask
    expected = (e / e.sum(axis=1, keepdims=True) @ v[0, 0])[None, None]
    ours, allowed = [tensor(part, device) for part in (q, k, v)], tensor(mask, device)
    check(F.scaled_dot_product_attention(*ours, attn_mask=allowed), expected, device)
    triangle = torch.ones(5, 5, dtype=torch.bool, device=device).tril()
    causal = lesson.attention(*ours, causal=True).cpu()
    check(F.scaled_dot_product_attention(*ours, attn_mask=triangle), causal, device)
    layer = (
        nn.MultiheadAttention(4, 1, bias=False, batch_first=True).double().to(device)
    )
    with torch.no_grad():  # q = k = v = x
        layer.in_proj_weight.copy_(torch.eye(4).repeat(3, 1))
        layer.out_proj.weight.copy_(torch.eye(4))
    x = ours[0][0]
    expected = F.scaled_dot_product_attention(x, x, x, attn_mask=allowed).cpu()
    check(layer(x, x, x, attn_mask=~allowed)[0], expected, device)


def test_a_token_that_sees_nothing_is_nan(lesson, device):
    triangle = torch.ones(5, 5, dtype=torch.bool, device=device).tril()
    assert lesson.rows_of_nan(triangle, device) == 1
    assert lesson.rows_of_nan(~triangle, device) == 0
    random = np.random.default_rng(9)
    for rows in ([], [0], [1, 3], range(5)):
        mask = random.random(size=(5, 5)) < 0.5
        mask[:, 2] = False
        mask[rows] = True
        found = lesson.rows_of_nan(tensor(mask, device), device)
        assert type(found) is int and found == len(rows)


@pytest.mark.parametrize("upside_down", [True, False])
def test_a_mask_upside_down_makes_every_gradient_nan_and_then_every_parameter(
    device, upside_down
):
    layer = nn.MultiheadAttention(16, 4, batch_first=True).to(device)
    mask = ~later(5, device) if upside_down else later(5, device)
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0)).to(device)
    out, _ = layer(x, x, x, attn_mask=mask)
    assert out.isnan().all(dim=-1).tolist() == [[False] * 4 + [upside_down]] * 2
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    F.mse_loss(out, x).backward()
    assert {p.grad.isnan().all().item() for p in layer.parameters()} == {upside_down}
    optimizer.step()
    assert {p.isnan().all().item() for p in layer.parameters()} == {upside_down}
    assert {p.isnan().any().item() for p in layer.parameters()} == {upside_down}


# Go wrong: what the table says of PyTorch's own layers
def test_batch_first_false_is_the_default_and_takes_the_batch_for_the_sequence(device):
    x = (
        torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(1))
        .double()
        .to(device)
    )
    changed = x.clone()
    changed[1] += 1  # another sample
    for kind, arguments in (
        (nn.MultiheadAttention, (16, 4)),
        (nn.TransformerEncoderLayer, (16, 4)),
    ):
        for options in ({}, {"batch_first": False}, {"batch_first": True}):
            layer = kind(*arguments, dropout=0.0, **options).double().to(device)
            heads = kind is nn.MultiheadAttention
            before, after = (
                layer(p, p, p)[0] if heads else layer(p) for p in (x, changed)
            )
            depends = (before[0] - after[0]).abs().max().item() > 1e-6
            assert depends is (options != {"batch_first": True})


def test_dropout_p_drops_in_evaluation_too(device):
    class Model(nn.Module):
        def forward(self, x, heeds):
            dropout_p = 0.1 if self.training or not heeds else 0.0
            return F.scaled_dot_product_attention(x, x, x, dropout_p=dropout_p)

    x, model = torch.randn(1, 2, 64, 16, device=device), Model().eval()
    assert not torch.equal(model(x, False), model(x, False))
    assert torch.equal(model(x, True), model(x, True))
    model.train()
    assert not torch.equal(model(x, True), model(x, True))


# The picture
def test_the_picture_shows_the_losses_and_where_the_heads_look(
    lesson, device, monkeypatch
):
    train_gpt, calls = lesson.train_gpt, []

    def few_steps(steps, seed, device, **mistake):
        result = train_gpt(4, seed, device, **mistake)
        calls.append((steps, seed, mistake, *result))
        return result

    monkeypatch.setattr(lesson, "train_gpt", few_steps)
    left, right = lesson.figure(device).axes
    assert {call[:2] for call in calls} == {(200, 0)}
    mistakes = {"correct": {}, "no mask": {"causal": False}, "wrong dim": {"dim": -2}}
    assert {line.get_label() for line in left.lines[:3]} == mistakes.keys()
    assert len(left.lines) == 5
    for (_, _, mistake, _, losses), line in zip(calls, left.lines, strict=False):
        assert mistakes[line.get_label()] == mistake
        assert list(line.get_ydata()) == losses
    levels = {line.get_linestyle(): line.get_ydata()[0] for line in left.lines[3:]}
    assert levels == pytest.approx({":": math.log(5), "--": lesson.ENTROPY})
    [image] = right.images
    model = next(model for _, _, mistake, model, _ in calls if not mistake)
    tokens = lesson.sequences(1, 15, torch.Generator().manual_seed(2)).to(device)
    x = model.layer.norm1(model.token(tokens) + model.position.weight)
    # the mean of heads
    _, expected = model.layer.self_attn(x, x, x, attn_mask=later(15, device))
    np.testing.assert_allclose(
        image.get_array(), expected[0].detach().cpu(), rtol=0, atol=1e-6
    )
