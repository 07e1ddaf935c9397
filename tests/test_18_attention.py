"""What lesson 18 claims."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_values, printed_if_tripled, tensor64
from reference import log_softmax, softmax
from torch import nn

assert_close = functools.partial(assert_values, atol=1e-12)

# The source once more, exactly: P[a, b, c] is the probability of c after a and b.
RIGHT, OTHER = Fraction(84, 100), Fraction(4, 100)
P = np.full((5, 5, 5), OTHER)
for a, b in itertools.product(range(5), range(5)):
    P[a, b, (a + b) % 5] = RIGHT
# A surprise is -log 0.84 with probability 0.84, else -log 0.04: its std is sqrt(0.84 *
# 0.16) * log(21). The mean of ten losses holds 10 * 32 * 14 of them, 0.0167.
STANDARD_ERROR = math.sqrt(0.84 * 0.16 / (10 * 32 * 14)) * math.log(21)


def weigh(q, k, causal=False, dim=-1):
    """The weights of one head, number by number."""
    found = np.zeros((len(q), len(k)))
    for t, s in itertools.product(range(len(q)), range(len(k))):
        if s <= t or not causal:
            found[t, s] = math.exp(sum(q[t] * k[s]) / math.sqrt(len(q[t])))
    return found / found.sum(axis=dim, keepdims=True)


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
@pytest.mark.parametrize("dim", [-1, -2])
@pytest.mark.parametrize("causal", [False, True])
def test_weights_and_attention_are_what_loops_say(lesson, device, causal, dim):
    random = np.random.default_rng(0)
    for t, s, d in ((5, 5, 3), (6, 4, 8), (3, 5, 4)):
        if (t, dim) == (3, -2):
            continue  # the last keys have nobody that looks at them
        q, k, v = (random.normal(size=(2, 3, rows, d)) for rows in (t, s, s))
        ours = [tensor64(part, device) for part in (q, k, v)]
        expected = many(functools.partial(weigh, causal=causal, dim=dim), q, k)
        assert_close(lesson.weights(*ours[:2], causal, dim), expected, device)
        assert_close(lesson.attention(*ours, causal, dim), expected @ v, device)


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
def heads_by_hand(layer, x, causal, dim):
    """multi_head in NumPy: head by head, by slices of the three matrices."""
    values = {name: p.detach().cpu().numpy() for name, p in layer.named_parameters()}
    weight, bias = values["in_proj_weight"], values["in_proj_bias"]
    d = x.shape[-1]
    size = d // layer.num_heads
    out = np.zeros(x.shape)
    for sample, start in itertools.product(range(len(x)), range(0, d, size)):
        rows = [slice(part + start, part + start + size) for part in (0, d, 2 * d)]
        q, k, v = (x[sample] @ weight[r].T + bias[r] for r in rows)
        out[sample, :, start : start + size] = weigh(q, k, causal, dim) @ v
    return out @ values["out_proj.weight"].T + values["out_proj.bias"]


def block_by_hand(layer, x, causal, dim):
    """block in NumPy."""
    values = {name: p.detach().cpu().numpy() for name, p in layer.named_parameters()}

    def linear(x, name):
        return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    def norm(x, name):
        off = x - x.mean(axis=-1, keepdims=True)
        standard = off / np.sqrt((off**2).mean(axis=-1, keepdims=True) + 1e-5)
        return standard * values[f"{name}.weight"] + values[f"{name}.bias"]

    x = x + heads_by_hand(layer.self_attn, norm(x, "norm1"), causal, dim)
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
        for dim in (-1, -2):
            by_hand = heads_by_hand(layer, x, causal, dim)
            assert_close(lesson.multi_head(layer, ours, causal, dim), by_hand, device)
    # whatever the heads
    assert sum(p.numel() for p in layer.parameters()) == 4 * d**2 + 4 * d


def test_a_block_is_nn_transformerencoderlayer(lesson, device):
    layer = scrambled(lesson.encoder_layer(6, 3, 7), device)
    x = np.random.default_rng(5).normal(size=(2, 5, 6))
    ours = tensor64(x, device)
    for causal, mask in ((False, None), (True, later(5, device))):
        expected = layer(ours, src_mask=mask).detach().cpu()
        assert_close(lesson.block(layer, ours, causal), expected, device)
        for dim in (-1, -2):
            by_hand = block_by_hand(layer, x, causal, dim)
            assert_close(lesson.block(layer, ours, causal, dim), by_hand, device)


def test_the_number_of_parameters_by_the_formula_is_not_the_counted_one(
    lesson, monkeypatch, capsys
):
    layer = lesson.encoder_layer()
    layer.self_attn.idle = nn.Parameter(torch.zeros(5))
    monkeypatch.setattr(lesson, "encoder_layer", lambda: layer)
    lesson.show_5("cpu")
    assert "1093 parameters, 4 d^2 + 4 d is 1088\n" in capsys.readouterr().out


# 6. Token by token, with what is stored
@pytest.mark.parametrize("t", [1, 9])
def test_token_by_token_is_all_at_once_for_one_score_for_each_earlier_token(
    lesson, device, t
):
    q, k, v = np.random.default_rng(t).normal(size=(3, 2, 3, t, 4))
    ours = [tensor64(part, device) for part in (q, k, v)]
    found, scores = lesson.attention_with_cache(*ours)
    expected = many(functools.partial(weigh, causal=True), q, k) @ v
    assert_close(found, expected, device)
    assert scores == t * (t + 1) / 2  # 1 + 2 + ... + t


def test_the_scores_without_a_cache_are_not_counted_with_one(lesson):
    printed = printed_if_tripled(lesson, 6, "attention_with_cache")
    anew = 32 * 33 * 65 // 6  # the sum of the squares of 1 to 32
    assert f" {3 * 32 * 33 // 2} scores, without a cache {anew}\n" in printed


# 7. A tiny GPT meets the entropy of its source
def test_the_entropy_is_that_of_the_stationary_chain_of_pairs(lesson):
    # A pair (a, b) goes on to (b, c). 1/25 for each pair stays as it is, and no other
    # share of the pairs does: from any pair any other is reached in two steps.
    after = sum(P[a] / 25 for a in range(5))  # the joint probability of (b, c)
    assert (after == Fraction(1, 25)).all() and (P.sum(axis=2) == 1).all()
    p = P.astype(float)
    entropy = -(p * np.log(p)).sum(axis=2).mean()
    assert abs(lesson.ENTROPY - entropy) < 1e-14
    assert f"{entropy:.4f}, {entropy:.2f}" == "0.6615, 0.66"
    assert f"{math.log(5):.4f}" == "1.6094"


@pytest.mark.parametrize("length", [3, 16])
def test_sequences_have_the_frequencies_of_the_source(lesson, length):
    # Of the seeds 0 to 19, in 200 bounds each, the largest was 4.05 standard errors.
    n = 30_000
    state = torch.get_rng_state()
    x = lesson.sequences(n, length, torch.Generator().manual_seed(21)).numpy()
    assert torch.equal(state, torch.get_rng_state())

    def within(counts, p):
        off = np.abs(counts - n * p) / np.sqrt(n * p * (1 - p))
        assert (off < 5).all()

    for t in range(2, length):
        within((x[:, t] == (x[:, t - 1] + x[:, t - 2]) % 5).sum(), 0.84)
    for t in (0, 1, 2, length - 1):
        within(np.bincount(x[:, t], minlength=5), 0.2)
    for t in (1, length - 1):  # any two in a row are uniform
        within(np.bincount(5 * x[:, t - 1] + x[:, t], minlength=25), 1 / 25)
    triples = np.bincount(x[:, -3:] @ [25, 5, 1], minlength=125)
    within(triples, P.astype(float).ravel() / 25)


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_a_tiny_gpt_is_embeddings_a_layer_of_pytorchs_and_a_linear_layer(
    lesson, device, causal, positions
):
    model = scrambled(lesson.TinyGPT(d=8, causal=causal, positions=positions), device)
    tokens = np.random.default_rng(6).integers(5, size=(3, 7))
    x = tensor64(np.eye(5)[tokens], device) @ model.token.weight
    if positions:
        x = x + model.position.weight[:7]
    hidden = model.layer(x, src_mask=later(7, device) if causal else None)
    expected = hidden @ model.head.weight.T + model.head.bias
    ours = torch.from_numpy(tokens).to(device)
    assert_close(model(ours), expected.detach().cpu(), device)
    model.dim = -2
    hidden = block_by_hand(model.layer, x.detach().cpu().numpy(), causal, -2)
    expected = tensor64(hidden, device) @ model.head.weight.T + model.head.bias
    assert_close(model(ours), expected.detach().cpu(), device)


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


@pytest.mark.parametrize("positions", [False, True])
def test_without_positions_a_model_knows_the_symbols_and_not_their_order(
    lesson, device, positions
):
    tokens = torch.tensor([[0, 1, 2, 3, 4, 4, 1], [4, 2, 3, 1, 0, 4, 1]], device=device)
    model = scrambled(lesson.TinyGPT(8, positions=positions), device)
    first, second = model(tokens)[:, -1]
    off = (first - second).abs().max().item()
    assert off > 1e-3 if positions else off < 1e-12


class Table(nn.Module):
    """A stand-in for TinyGPT whose logits stand in a table of the last two tokens."""

    def __init__(self, table=None, **options):
        super().__init__()
        self.options = options
        table = torch.randn(5, 5, 5, dtype=torch.float64) if table is None else table
        self.table = nn.Parameter(torch.as_tensor(table))

    def forward(self, tokens):
        return self.table[F.pad(tokens[:, :-1], (1, 0)), tokens]


def annealed(start, end, share):
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def adamw(table, batches):
    """(losses, table): AdamW under OneCycleLR with the peak 0.02, by their formulas."""
    first, second, losses, steps = 0, 0, [], len(batches)
    peak = 0.3 * steps - 1
    for step, x in enumerate(batches):
        # Up from 1/25 of the peak and down to 1e-4 of that, and momentum down and up.
        share, rates, betas = step / peak, (8e-4, 0.02), (0.95, 0.85)
        if step >= peak:
            share = (step - peak) / (steps - 1 - peak)
            rates, betas = (0.02, 8e-8), (0.85, 0.95)
        lr, beta = annealed(*rates, share), annealed(*betas, share)
        a, b, c = (x[:, start : start + 14].ravel() for start in range(3))
        losses.append(-log_softmax(table)[a, b, c].mean())
        gradient = np.zeros((5, 5, 5))
        np.add.at(gradient, (a, b), (softmax(table)[a, b] - np.eye(5)[c]) / len(a))
        first = beta * first + (1 - beta) * gradient
        second = 0.999 * second + 0.001 * gradient**2
        spread = np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8
        table = table * (1 - lr * 0.01) - lr * first / (1 - beta ** (step + 1)) / spread
    return losses, table


def test_training_predicts_each_token_of_16_but_the_first_two(
    lesson, device, monkeypatch
):
    monkeypatch.setattr(lesson, "TinyGPT", Table)
    state = torch.get_rng_state()
    model, losses = lesson.train_gpt(20, 3, device, causal=False)
    assert torch.equal(state, torch.get_rng_state())
    assert model.options == {"causal": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        start = Table().table.detach().numpy()
    generator = torch.Generator().manual_seed(3)
    batches = [lesson.sequences(32, 16, generator).numpy() for _ in range(20)]
    expected, table = adamw(start, batches)
    assert losses == pytest.approx(expected, rel=1e-9)
    assert_values(model.table, table, device, rtol=1e-9, atol=1e-12)


def test_the_excess_of_the_source_itself_is_0_and_of_equal_logits_what_log_5_is_above(
    lesson, device
):
    table, above = np.log(P.astype(float)), math.log(5) - lesson.ENTROPY
    # Logits are not logs: 3 more of each changes nothing.
    for logits, expected in ((table, 0), (table + 3, 0), (np.zeros((5, 5, 5)), above)):
        found = lesson.excess(Table(logits).to(device), device)
        assert found == pytest.approx(expected, abs=1e-6)


def test_the_excess_is_the_mean_divergence_and_never_below_0(lesson, device):
    random, p = np.random.default_rng(7), P.astype(float)
    x = lesson.sequences(500, 16, torch.Generator().manual_seed(1)).numpy()
    for scale in (0.1, 1, 5):
        table = np.log(p) + scale * random.normal(size=(5, 5, 5))
        found = lesson.excess(Table(table).to(device), device)
        # p log(p / q) for each pair: above 0, as Gibbs says, for each of them
        divergence = (p * (np.log(p) - log_softmax(table))).sum(axis=2)
        assert divergence.min() > 0
        expected = divergence[x[:, :-2], x[:, 1:-1]].mean()
        assert found == pytest.approx(expected, abs=2e-6)


def test_a_tiny_gpt_comes_close_to_the_entropy_and_stays_above(lesson, device):
    # Seeds 1 to 20: from 0.0112 to 0.0316.
    model, losses = lesson.train_gpt(200, 4, device)
    assert 0 < lesson.excess(model, device) < 0.05
    # The losses are of samples, and are good to a standard error.
    assert abs(np.mean(losses[-10:]) - lesson.ENTROPY) < 0.05 + 5 * STANDARD_ERROR
    # It says what the source makes most likely.
    x = lesson.sequences(200, 15, torch.Generator().manual_seed(30)).to(device)
    most_likely = model(x)[:, 1:].argmax(dim=-1)
    right = (x[:, 1:] + x[:, :-1]) % 5
    assert (most_likely == right).double().mean().item() > 0.95


# 8. Mistake: a loss below the entropy
def test_the_last_loss_is_the_mean_of_the_last_ten(lesson):
    _, losses = lesson.train_gpt(12, seed=5, dim=-2)
    assert lesson.last_loss(12, 5, dim=-2) == pytest.approx(np.mean(losses[2:]))


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
def test_the_picture_shows_the_losses_and_where_the_heads_look(lesson, monkeypatch):
    train_gpt, trained = lesson.train_gpt, {}

    def few_steps(steps, seed, device, **mistake):
        trained[str(mistake)] = train_gpt(4, seed, device, **mistake)
        return trained[str(mistake)]

    monkeypatch.setattr(lesson, "train_gpt", few_steps)
    left, right = lesson.figure().axes
    lines = {line.get_label(): list(line.get_ydata()) for line in left.lines[:3]}
    mistakes = {"correct": {}, "no mask": {"causal": False}, "wrong dim": {"dim": -2}}
    assert lines == {name: trained[str(m)][1] for name, m in mistakes.items()}
    levels = {line.get_linestyle(): line.get_ydata()[0] for line in left.lines[3:]}
    assert levels == pytest.approx({":": math.log(5), "--": lesson.ENTROPY})
    model, _ = trained["{}"]
    tokens = lesson.sequences(1, 15, torch.Generator().manual_seed(2))
    x = model.layer.norm1(model.token(tokens) + model.position.weight)
    _, expected = model.layer.self_attn(x, x, x, attn_mask=later(15, "cpu"))
    shown = right.images[0].get_array()
    np.testing.assert_allclose(shown, expected[0].detach(), atol=1e-6)
