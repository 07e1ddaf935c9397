"""What lesson 19 claims."""

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


def within(counts, n, p):
    """Counts of n draws are within 5 standard errors of n p."""
    off = np.abs(counts - n * p) / np.sqrt(n * p * (1 - p))
    return bool((off < 5).all())


def scrambled(model, device, seed=0):
    """model in float64 with random parameters, where norms begin with 0 and 1."""
    random = np.random.default_rng(seed)
    for parameter in model.double().to(device).parameters():
        parameter.data = tensor64(0.5 * random.normal(size=parameter.shape), device)
    return model


class Table(nn.Module):
    """A stand-in for TinyGPT whose logits stand in a table of the last two tokens."""

    def __init__(self, table=None, **options):
        super().__init__()
        self.options = options
        table = torch.randn(5, 5, 5, dtype=torch.float64) if table is None else table
        self.table = nn.Parameter(torch.as_tensor(table))

    def forward(self, tokens):
        return self.table[F.pad(tokens[:, :-1], (1, 0)), tokens]


# 1. The source, and the lowest loss
def test_the_entropy_is_that_of_the_stationary_chain_of_pairs(lesson):
    # A pair (a, b) goes on to (b, c). 1/25 for each pair stays as it is, and no other
    # share of the pairs does: from any pair any other is reached in two steps.
    after = sum(P[a] / 25 for a in range(5))  # the joint probability of (b, c)
    assert (after == Fraction(1, 25)).all() and (P.sum(axis=2) == 1).all()
    p = P.astype(float)
    entropy = -(p * np.log(p)).sum(axis=2).mean()
    assert abs(lesson.ENTROPY - entropy) < 1e-14


@pytest.mark.parametrize("length", [3, 16])
def test_sequences_have_the_frequencies_of_the_source(lesson, length):
    # Of the seeds 0 to 19, in 200 bounds each, the largest was 4.05 standard errors.
    n = 30_000
    state = torch.get_rng_state()
    x = lesson.sequences(n, length, torch.Generator().manual_seed(21)).numpy()
    assert torch.equal(state, torch.get_rng_state())
    for t in range(2, length):
        assert within((x[:, t] == (x[:, t - 1] + x[:, t - 2]) % 5).sum(), n, 0.84)
    for t in (0, 1, 2, length - 1):
        assert within(np.bincount(x[:, t], minlength=5), n, 0.2)
    for t in (1, length - 1):  # any two in a row are uniform
        pairs = np.bincount(5 * x[:, t - 1] + x[:, t], minlength=25)
        assert within(pairs, n, 1 / 25)
    triples = np.bincount(x[:, -3:] @ [25, 5, 1], minlength=125)
    assert within(triples, n, P.astype(float).ravel() / 25)


def test_the_source_as_a_model_has_the_source_s_own_table(lesson, device):
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5)).to(device)
    p = P.astype(float).reshape(25, 5)
    found = lesson.source_table(pairs)[:, 0]
    np.testing.assert_allclose(found.cpu(), p, rtol=1e-6)
    logits = lesson.Source()(pairs)
    np.testing.assert_allclose(logits[:, 1].cpu(), np.log(p), rtol=1e-6)
    # of the token after the first one nothing is known
    np.testing.assert_allclose(logits[:, 0].softmax(dim=1).cpu(), 0.2, rtol=1e-6)


def test_the_loss_is_of_each_token_but_the_first_two(lesson, device):
    table = np.random.default_rng(11).normal(size=(5, 5, 5))
    x = lesson.sequences(7, 9, torch.Generator().manual_seed(5))
    expected = -log_softmax(table)[x[:, :-2], x[:, 1:-1], x[:, 2:]].mean()
    found = lesson.next_loss(Table(table).to(device), x.to(device))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_the_source_predicts_itself_as_well_as_its_entropy_and_no_table_better(
    lesson, device
):
    x = lesson.sequences(5000, 16, torch.Generator().manual_seed(3)).to(device)
    error = math.sqrt(0.84 * 0.16 / (5000 * 14)) * math.log(21)
    own = lesson.next_loss(lesson.Source(), x).item()
    assert abs(own - lesson.ENTROPY) < 5 * error
    random = np.random.default_rng(8)
    for scale in (0.5, 2):
        table = np.log(P.astype(float)) + scale * random.normal(size=(5, 5, 5))
        assert lesson.next_loss(Table(table).to(device), x).item() > own
    alike = lesson.next_loss(Table(np.zeros((5, 5, 5))).to(device), x).item()
    assert alike == pytest.approx(math.log(5), rel=1e-6)


def test_the_entropy_is_not_the_loss_that_was_measured(lesson):
    printed = printed_if_tripled(lesson, 1, "next_loss")
    assert f"{lesson.ENTROPY:.4f}\n" in printed and f"{math.log(5):.4f}\n" in printed
    x = lesson.sequences(5000, 16, torch.Generator().manual_seed(0))
    assert f"loss {3 * lesson.next_loss(lesson.Source(), x):.2f}\n" in printed


# 2. An embedding is a row of a matrix
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_embedding_is_the_row_and_the_one_hot_product_to_the_bit(
    lesson, device, dtype
):
    random = np.random.default_rng(1)
    rows = random.normal(size=(7, 4))
    weight = torch.tensor(rows, dtype=dtype, device=device)
    tokens = [6, 0, 3, 3, 5, 0]
    ours = torch.tensor(tokens, device=device)
    embedding = nn.Embedding(7, 4, dtype=dtype, device=device)
    embedding.weight.data = weight
    found = lesson.one_hot_product(ours, weight)
    assert torch.equal(embedding(ours), found) and found.dtype == dtype
    picked = torch.tensor(np.array([rows[i] for i in tokens]), dtype=dtype)
    assert torch.equal(found.cpu(), picked)


def test_a_row_s_gradient_is_how_often_its_token_occurs(lesson, device):
    tokens = [4, 4, 0, 4, 2]
    weight = tensor64(np.random.default_rng(2).normal(size=(6, 3)), device)
    found = lesson.embedding_gradient(torch.tensor(tokens, device=device), weight)
    expected = [3 * [float(tokens.count(token))] for token in range(6)]
    assert_values(found, expected, device, rtol=0)
    assert not weight.requires_grad


def test_the_rows_and_the_counts_are_printed_from_two_sources(lesson):
    product = printed_if_tripled(lesson, 2, "one_hot_product")
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for name, row in (("embedding", weight[2]), ("one-hot  ", 3 * weight[2])):
        words = " ".join(f"{number:7.4f}" for number in row)
        assert f"token 2, {name}   {words}\n" in product
    assert "to the bit, all of them: False\n" in product
    printed = printed_if_tripled(lesson, 2, "embedding_gradient")
    assert "each row   [3, 6, 3, 3, 0]\n" in printed
    assert "it occurs    [1, 2, 1, 1, 0]\n" in printed


# 3. A tiny GPT
def as_pytorchs(block):
    """nn.TransformerEncoderLayer with the numbers of a block."""
    d, heads, wide = len(block.mix.weight), block.heads, len(block.linear1.weight)
    options = {"dropout": 0.0, "batch_first": True, "norm_first": True}
    layer = nn.TransformerEncoderLayer(d, heads, wide, **options)
    theirs = {"project.": "self_attn.in_proj_", "mix.": "self_attn.out_proj."}
    numbers = block.state_dict()
    for ours, name in theirs.items():
        numbers = {key.replace(ours, name): part for key, part in numbers.items()}
    layer.to(block.mix.weight).load_state_dict(numbers)
    return layer


def later(size, device):
    """True where PyTorch's layers are told not to look."""
    return torch.ones(size, size, dtype=torch.bool, device=device).triu(1)


def test_a_tiny_gpt_is_embeddings_a_layer_of_pytorchs_and_a_linear_layer(
    lesson, device
):
    tokens = np.random.default_rng(6).integers(5, size=(3, 7))
    for options, heads in (({}, 4), ({"d": 12, "heads": 3}, 3)):
        model = scrambled(lesson.TinyGPT(**options), device)
        x = tensor64(np.eye(5)[tokens], device) @ model.token.weight
        x = x + model.position.weight[:7]
        layer = as_pytorchs(model.block)
        assert layer.self_attn.num_heads == heads
        hidden = layer(x, src_mask=later(7, device))
        expected = hidden @ model.head.weight.T + model.head.bias
        found = model(torch.from_numpy(tokens).to(device))
        assert_close(found, expected.detach().cpu(), device)


def test_the_width_is_32_with_four_heads_of_8_and_15_positions(lesson):
    # By the shapes: C d and 15 d of rows; (3 d^2 + 3 d) and (d^2 + d) of the heads; 4 d
    # of the norms; (2 d^2 + 2 d) and (2 d^2 + d) of the layers; 5 d + 5 of the last.
    d = 32
    counts = [20 * d, 3 * d**2 + 3 * d, d**2 + d, 4 * d, 4 * d**2 + 3 * d, 5 * d + 5]
    model = lesson.TinyGPT()
    assert sum(p.numel() for p in model.parameters()) == sum(counts) == 9349
    assert sum(counts) == 8 * d**2 + 36 * d + 5
    q, k, v = model.block.split(model.embed(torch.zeros(2, 15, dtype=torch.long)))
    assert q.shape == k.shape == v.shape == (2, 4, 15, 8)
    with pytest.raises(RuntimeError, match="must match the size of tensor b"):
        model(torch.zeros(2, 16, dtype=torch.long))


def test_a_token_must_be_below_the_number_of_rows(lesson):
    with pytest.raises(IndexError, match="index out of range in self"):
        lesson.TinyGPT()(torch.tensor([[0, 5]]))


# 4. It meets the entropy
def adamw(table, batches):
    """(losses, table): AdamW with the rate 0.01, by its formulas."""
    first, second, losses = 0, 0, []
    for step, x in enumerate(batches, start=1):
        a, b, c = (x[:, start : start + 14].ravel() for start in range(3))
        losses.append(-log_softmax(table)[a, b, c].mean())
        gradient = np.zeros((5, 5, 5))
        np.add.at(gradient, (a, b), (softmax(table)[a, b] - np.eye(5)[c]) / len(a))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        spread = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        table = table * (1 - 0.01 * 0.01) - 0.01 * first / (1 - 0.9**step) / spread
    return losses, table


def test_training_predicts_each_token_of_16_but_the_first_two(lesson, device):
    state = torch.get_rng_state()
    model, losses = lesson.train_gpt(20, 3, device, Table, lesson.NoMask)
    assert torch.equal(state, torch.get_rng_state())
    assert model.options == {"block": lesson.NoMask}
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
    assert lesson.excess(lesson.Source(), device) == pytest.approx(0, abs=1e-6)


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


@pytest.fixture(scope="module")
def trained(lesson):
    """{device: (model, losses) after 200 steps}, each trained once."""
    return functools.cache(lambda device: lesson.train_gpt(200, 4, device))


def test_a_tiny_gpt_comes_close_to_the_entropy_and_stays_above(lesson, device, trained):
    # Six seeds after 200 steps: from 0.030 to 0.049; 19 after 150: up to 0.1005.
    model, losses = trained(device)
    assert 0 < lesson.excess(model, device) < 0.1
    # The losses are of samples, and are good to a standard error.
    assert abs(np.mean(losses[-10:]) - lesson.ENTROPY) < 0.1 + 5 * STANDARD_ERROR
    # It says what the source makes most likely.
    x = lesson.sequences(200, 15, torch.Generator().manual_seed(30)).to(device)
    most_likely = model(x)[:, 1:].argmax(dim=-1)
    right = (x[:, 1:] + x[:, :-1]) % 5
    assert (most_likely == right).double().mean().item() > 0.95


# 5. Mistake: a loss below the entropy
def test_who_looks_where(lesson, device):
    """The weights of the mistakes, number by number."""
    random = np.random.default_rng(9)
    q, k, v = random.normal(size=(3, 2, 3, 6, 4))
    ours = [tensor64(part, device) for part in (q, k, v)]
    e = np.exp(q @ k.swapaxes(-1, -2) / 2)
    lower = e * np.tri(6)
    for block, parts, axis in (
        (lesson.Block, lower, -1),
        (lesson.NoMask, e, -1),
        (lesson.OverQueries, lower, -2),
    ):
        expected = parts / parts.sum(axis=axis, keepdims=True) @ v
        assert_close(block(12, 3).attend(*ours), expected, device)


MISTAKES = {
    "right": {},
    "no mask": {"block": "NoMask"},
    "over the queries": {"block": "OverQueries"},
    "no positions": {"model_class": "NoPositions"},
}


def options_of(lesson, name):
    return {key: getattr(lesson, value) for key, value in MISTAKES[name].items()}


@pytest.mark.parametrize("name", ["right", "no mask", "over the queries"])
def test_logits_before_a_changed_token_are_the_same_unless_there_is_a_mistake(
    lesson, device, name
):
    model = lesson.TinyGPT(**options_of(lesson, name)).to(device)
    tokens = lesson.sequences(4, 15, torch.Generator().manual_seed(3)).to(device)
    changed = tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 5
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :10], after[:, :10]) is (name == "right")
    assert not torch.equal(before[:, 10], after[:, 10])


@pytest.mark.parametrize("name", ["TinyGPT", "NoPositions"])
def test_without_positions_a_model_knows_the_symbols_and_not_their_order(
    lesson, device, name
):
    tokens = torch.tensor([[0, 1, 2, 3, 4, 4, 1], [4, 2, 3, 1, 0, 4, 1]], device=device)
    model = scrambled(getattr(lesson, name)(8), device)
    first, second = model(tokens)[:, -1]
    off = (first - second).abs().max().item()
    assert off > 1e-3 if name == "TinyGPT" else off < 1e-12


def test_the_last_loss_is_the_mean_of_the_last_ten(lesson):
    _, losses = lesson.train_gpt(12, seed=5, block=lesson.OverQueries)
    found = lesson.last_loss(12, 5, block=lesson.OverQueries)
    assert found == pytest.approx(np.mean(losses[2:]))


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("no mask", 0, 0.2), ("over the queries", 0, 0.55), ("no positions", 1, 1.5)],
)
def test_who_sees_what_comes_gets_below_the_entropy(lesson, device, name, least, most):
    # Seeds 1 to 19: without a mask from 0.087 to 0.109, over the queries from 0.31 to
    # 0.52, without positions from 1.22 to 1.30. The right model too may be below, by
    # chance, but not by 5 standard errors.
    loss = lesson.last_loss(100, 4, device, **options_of(lesson, name))
    assert type(loss) is float and least < loss < most
    below = loss < lesson.ENTROPY - 5 * STANDARD_ERROR
    assert below is (name != "no positions")


def test_where_the_target_is_the_input_a_copy_has_no_loss(lesson, device):
    x = lesson.sequences(20, 16, torch.Generator().manual_seed(0)).to(device)
    copied = 50.0 * F.one_hot(x, 5).movedim(2, 1)  # (n, 5, t): cross_entropy's order
    assert F.cross_entropy(copied, x).item() < 1e-12
    assert F.cross_entropy(copied[:, :, :-1], x[:, 1:]).item() > 0.6615


# 6. It writes, token by token
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_what_is_written_has_the_frequencies_of_softmax_logits_by_temperature(
    lesson, device, temperature
):
    # By powers: softmax(log(p) / T) is p^(1 / T), divided by its sum.
    powers = P.astype(float) ** (1 / temperature)
    p = (powers / powers.sum(axis=2, keepdims=True)).reshape(25, 5)
    model = Table(np.log(P.astype(float))).to(device)
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    start = pairs.repeat_interleave(4000, dim=0).to(device)
    generator = torch.Generator().manual_seed(12)
    texts = lesson.write(model, start, 4, temperature, generator).cpu()
    assert torch.equal(texts[:, :2], start.cpu()) and texts.shape == (100_000, 4)
    # 125 counts of the first token written, each within 5 standard errors
    for pair in range(25):
        written = texts[4000 * pair : 4000 * (pair + 1), 2]
        assert within(np.bincount(written, minlength=5), 4000, p[pair])
    # The next one goes by what was written, whatever stood before.
    last = texts[:, 1] * 5 + texts[:, 2]
    for pair in range(25):
        written = texts[last == pair, 3]
        assert within(np.bincount(written, minlength=5), len(written), p[pair])
    share = lesson.share_in_theory(temperature)
    assert share == pytest.approx(max(p[0]), rel=1e-12)
    found = lesson.share_of_right(texts)
    assert within(200_000 * found, 200_000, share)


def test_the_source_as_a_model_writes_its_own_table(lesson, device):
    start = torch.zeros(20_000, 2, dtype=torch.long, device=device)
    generator = torch.Generator().manual_seed(4)
    texts = lesson.write(lesson.Source(), start, 4, 1.0, generator).cpu().numpy()
    joint = P[0, 0, :, None].astype(float) * P[0].astype(float)
    counts = np.bincount(5 * texts[:, 2] + texts[:, 3], minlength=25)
    assert within(counts, 20_000, joint.ravel())


def test_greedy_takes_the_likeliest_and_a_low_temperature_nearly_always(lesson, device):
    table = np.random.default_rng(13).normal(size=(5, 5, 5))
    model = Table(table).to(device)
    expected = [[3, 1], [0, 4]]
    for text in expected:
        while len(text) < 40:
            text.append(int(table[text[-2], text[-1]].argmax()))
    start = torch.tensor([[3, 1], [0, 4]], device=device)
    assert lesson.write(model, start, 40, temperature=0).tolist() == expected
    generator = torch.Generator().manual_seed(0)
    cold = lesson.write(model, start, 40, 1e-4, generator)
    assert cold.tolist() == expected


def test_the_model_sees_the_last_15_tokens_and_what_is_written_has_no_graph(
    lesson, device
):
    seen = []

    def model(tokens):
        seen.append(tokens)
        return F.one_hot((tokens + 1) % 5, 5).float().requires_grad_()

    start = torch.tensor([[2, 3]], device=device)
    text = lesson.write(model, start, 20, temperature=0)
    assert text.tolist() == [[token % 5 for token in range(2, 22)]]
    for length, tokens in enumerate(seen, 2):
        assert torch.equal(tokens, text[:, max(0, length - 15) : length])
    assert not text.requires_grad and start.tolist() == [[2, 3]]
    assert torch.equal(lesson.write(model, start, 2, temperature=0), start)


def test_greedy_a_trained_gpt_writes_what_the_rule_says(lesson, device, trained):
    # So did seven seeds after 200 steps.
    model, _ = trained(device)
    text = lesson.write(model, torch.tensor([[1, 1]], device=device), 22, 0)
    fibonacci = [1, 1]
    while len(fibonacci) < 22:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    assert text.tolist() == [[number % 5 for number in fibonacci]]
    assert [number % 5 for number in fibonacci[20:]] == [1, 1]  # it comes round


def test_the_share_of_right_tokens_is_of_all_but_the_first_two(lesson):
    texts = torch.tensor([[1, 1, 2, 3, 0, 4], [4, 4, 3, 1, 4, 0]])
    # 2, 3 and 0 are right, 4 is not; 3 is right, 1 is not 2, 4 and 0 are right
    assert lesson.share_of_right(texts) == 6 / 8


def test_the_share_in_theory_is_not_the_one_that_was_counted(lesson):
    printed = printed_if_tripled(lesson, 6, "share_of_right")
    for temperature, root in ((0.5, 21**2), (1.0, 21), (2.0, math.sqrt(21))):
        assert f"temperature {temperature} " in printed
        # 0.84 is 21 times 0.04
        assert f"theory {root / (root + 4):.2f}\n" in printed
        assert lesson.share_in_theory(temperature) == pytest.approx(root / (root + 4))


# 7. With what is stored
def test_the_logits_with_a_cache_are_those_of_the_whole_text(lesson, device):
    # By PyTorch's own layer on the whole text, with a mask.
    tokens = np.random.default_rng(4).integers(5, size=(3, 15))
    model = scrambled(lesson.TinyGPT(12, 3), device)
    x = tensor64(np.eye(5)[tokens], device) @ model.token.weight + model.position.weight
    hidden = as_pytorchs(model.block)(x, src_mask=later(15, device))
    expected = (hidden @ model.head.weight.T + model.head.bias).detach().cpu()
    ours, stored = torch.from_numpy(tokens).to(device), []
    for t in range(15):
        found = lesson.next_logits(model, ours[:, t : t + 1], stored)
        assert_close(found, expected[:, t], device)
        assert len(stored) == t + 1
    with pytest.raises(IndexError):  # no position is left
        lesson.next_logits(model, ours[:, :1], stored)


@pytest.mark.parametrize("length", [2, 3, 16])
def test_with_a_cache_it_writes_the_same_and_each_token_goes_through_once(
    lesson, device, length
):
    model = scrambled(lesson.TinyGPT(12, 3), device)
    start = torch.tensor([[3, 1], [0, 4]], device=device)
    text, rows = lesson.rows_computed(
        model, lambda: lesson.write(model, start, length, 0)
    )
    same, fewer = lesson.rows_computed(
        model, lambda: lesson.write_with_cache(model, start, length)
    )
    assert torch.equal(text, same) and same.shape == (2, length)
    assert rows == length * (length - 1) // 2 - 1  # 2 + 3 + ... + length - 1
    assert fewer == length - 1
    assert not model.block.project._forward_hooks


def test_once_the_window_moves_the_stored_keys_are_others(lesson):
    # The same 14 tokens, one place further to the left.
    model = scrambled(lesson.TinyGPT(12, 3), "cpu")
    tokens = lesson.sequences(1, 16, torch.Generator().manual_seed(0))
    _, before, _ = model.block.split(model.embed(tokens[:, :15]))
    _, after, _ = model.block.split(model.embed(tokens[:, 1:]))
    assert (before[..., 1:, :] - after[..., :-1, :]).abs().max() > 0.1


def test_a_row_without_a_gradient_still_moves_under_adamw_and_not_under_sgd():
    for kind, moves in ((torch.optim.AdamW, True), (torch.optim.SGD, False)):
        embedding = nn.Embedding(5, 3)
        optimizer = kind(embedding.parameters(), lr=0.02)
        for tokens in ([4, 1], [0, 1]):  # the second batch is without token 4
            before = embedding.weight[4].tolist()
            embedding(torch.tensor(tokens)).sum().backward()
            optimizer.step()
            last = embedding.weight.grad[4].tolist()
            optimizer.zero_grad()
        assert last == [0, 0, 0]
        assert (embedding.weight[4].tolist() != before) is moves


def test_two_blocks_know_the_order_without_positions(lesson):
    tokens = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 3, 2, 4]])
    model = scrambled(lesson.NoPositions(8), "cpu")
    x = model.block(model.embed(tokens))[:, -1]
    assert (x[0] - x[1]).abs().max() < 1e-12
    x = model.block(model.block(model.embed(tokens)))[:, -1]
    assert (x[0] - x[1]).abs().max() > 1e-3


def test_is_causal_takes_a_single_query_for_the_first_token(device):
    q, k, v = tensor64(np.random.default_rng(3).normal(size=(3, 1, 6, 4)), device)
    found = F.scaled_dot_product_attention(q[:, 5:], k, v, is_causal=True)
    assert_close(found, v[:, :1].cpu(), device)


# The picture
def test_the_picture_shows_the_losses_and_where_the_heads_look(lesson, monkeypatch):
    train_gpt, trained = lesson.train_gpt, {}

    def few_steps(steps, seed, device, block):
        trained[block] = train_gpt(4, seed, device, block=block)
        return trained[block]

    monkeypatch.setattr(lesson, "train_gpt", few_steps)
    left, right = lesson.figure().axes
    lines = {line.get_label(): list(line.get_ydata()) for line in left.lines[:3]}
    assert lines == {
        "right": trained[lesson.Block][1],
        "no mask": trained[lesson.NoMask][1],
        "dim=-2": trained[lesson.OverQueries][1],
    }
    levels = {line.get_linestyle(): line.get_ydata()[0] for line in left.lines[3:]}
    assert levels == pytest.approx({":": math.log(5), "--": lesson.ENTROPY})
    model, _ = trained[lesson.Block]
    tokens = lesson.sequences(1, 15, torch.Generator().manual_seed(2))
    layer = as_pytorchs(model.block)
    x = layer.norm1(model.token(tokens) + model.position.weight)
    _, expected = layer.self_attn(x, x, x, attn_mask=later(15, "cpu"))
    shown = right.images[0].get_array()
    np.testing.assert_allclose(shown, expected[0].detach(), atol=1e-6)
