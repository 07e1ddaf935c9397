"""18 Attention: each token looks at the others, and takes more from those that fit.

The word "bank" means one thing beside "river" and another beside "money". A mask says
which tokens may not be looked at.
"""

import argparse
import math
import os
import sys

import torch
import torch.nn.functional as F
from torch import nn

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. A mean, weighted by likeness
# A row of two numbers for each word: how much it has to do with water, and with money.
ROWS = {
    "the": [0.0, 0.0],
    "river": [1.0, 0.0],
    "money": [0.0, 1.0],
    "bank": [1.0, 1.0],
}


def rows_of(sentence, device="cpu"):
    """The rows of the words of a sentence, (T, 2)."""
    return torch.tensor([ROWS[word] for word in sentence.split()], device=device)


def by_likeness(x):
    """(weights (T, T), new rows (T, d)): softmax(x x^T), and this times x, (T, d)."""
    scores = x @ x.T
    weights = torch.softmax(scores, dim=-1)
    return weights, weights @ x


def two_digits(row):
    """The numbers of a row with two digits behind the point."""
    return " ".join(f"{number:.2f}" for number in row.tolist())


def show_1(device):
    print("\n1. A mean, weighted by likeness")
    for sentence in ["the river bank", "the money bank"]:
        weights, rows = by_likeness(rows_of(sentence, device))
        for t, word in enumerate(sentence.split()):
            shares = two_digits(weights[t])
            print(f"   {word:<5}   weights {shares}   row {two_digits(rows[t])}")


# %% 2. Why sqrt(d)
# The product of two rows of d independent numbers of mean 0 and variance 1 has the
# variance d. So scores grow like sqrt(d) if nobody divides them.
def attention_weights(q, k, blocked=None):
    """softmax(q k^T / sqrt(d)), (..., T, S), for q, (..., T, d), and k, (..., S, d).

    blocked, of a shape that broadcasts to (..., T, S), is True where a query, a row,
    may not look at a key, a column: this weight is exactly 0.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if blocked is not None:
        scores = scores.masked_fill(blocked, -torch.inf)
    return torch.softmax(scores, dim=-1)


def attention(q, k, v, blocked=None):
    """The means of the values v, (..., S, e), by these weights: (..., T, e)."""
    return attention_weights(q, k, blocked) @ v


def scores_of_noise(d, pairs=2000):
    """Products of a query with 16 keys, (pairs, 16), all numbers from N(0, 1)."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(pairs, 1, d, generator=generator)
    k = torch.randn(pairs, 16, d, generator=generator)
    return (q * k).sum(dim=-1)


def largest_weight(scores):
    """The largest of the softmax's weights over the last dimension, on average."""
    return torch.softmax(scores, dim=-1).amax(dim=-1).mean().item()


def show_2(device):
    print("\n2. Why sqrt(d)")
    for d in [4, 64, 256]:
        scores = scores_of_noise(d).to(device)
        size = scores.square().mean().sqrt().item()
        undivided = largest_weight(scores)
        divided = largest_weight(scores / math.sqrt(d))
        print(f"   d {d:>3}   size of a score {size:4.1f}   theory {math.sqrt(d):4.1f}")
        print(f"      largest weight {undivided:.2f}   divided {divided:.2f}")


# %% 3. Causal: only what came before
def later(size, device="cpu"):
    """True where the key, a column, comes after the query, a row: (size, size)."""
    return torch.ones(size, size, dtype=torch.bool, device=device).triu(diagonal=1)


def future_gradient(x, blocked):
    """The largest slope of a new row with respect to a later row of x, (T, d)."""
    x = x.clone().requires_grad_()
    out = attention(x, x, x, blocked)
    slopes = []
    for t in range(len(x) - 1):
        gradient = torch.autograd.grad(out[t].sum(), x, retain_graph=True)[0]
        slopes.append(gradient[t + 1 :].abs().max().item())
    return max(slopes)


def show_3(device):
    print("\n3. Causal: only what came before")
    x = rows_of("the river bank", device)
    weights = attention_weights(x, x, later(3, device))
    for t, word in enumerate(["the", "river", "bank"]):
        print(f"   {word:<5}   weights {two_digits(weights[t])}")
    print(f"   slope by the future, no mask   {future_gradient(x, None):.4f}")
    slope = future_gradient(x, later(3, device))
    print(f"   slope by the future, causal    {slope:.4f}")


# %% 4. Order and positions
def sinusoids(length, d):
    """sin(w t), then cos(w t), (length, d), for d / 2 rates w (Vaswani et al., 2017).

    w is 1 for the first pair, and falls like 10000^(-2 i / d) to the last.
    """
    rates = 10_000 ** (-torch.arange(0, d, 2) / d)
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def new_row_of_bank(sentence, with_positions, device="cpu"):
    """What attention without a mask makes of the word bank, (2,)."""
    x = rows_of(sentence, device)
    if with_positions:
        x = x + sinusoids(len(x), 2).to(device)
    place = sentence.split().index("bank")
    return attention(x, x, x)[place]


def show_4(device):
    print("\n4. Order and positions")
    for sentence in ["the river bank", "bank the river"]:
        without = two_digits(new_row_of_bank(sentence, False, device))
        added = two_digits(new_row_of_bank(sentence, True, device))
        print(f"   {sentence}   bank {without}   with positions {added}")
    positions = sinusoids(50, 16).to(device)
    for first in [0, 10, 40]:
        product = (positions[first] @ positions[first + 3]).item()
        print(f"   position {first:>2} times position {first + 3:>2}   {product:.2f}")


# %% 5. Heads: queries, keys and values
# A third number for each word: 1 if the word has two meanings.
class Head(nn.Module):
    """One head of attention, from (..., T, d) to (..., T, size)."""

    def __init__(self, d, size):
        super().__init__()
        self.W_q = nn.Linear(d, size, bias=False)
        self.W_k = nn.Linear(d, size, bias=False)
        self.W_v = nn.Linear(d, size, bias=False)

    def forward(self, x, blocked=None):
        q = self.W_q(x)  # what each token asks
        k = self.W_k(x)  # what each token offers to those who ask
        v = self.W_v(x)  # what each token hands over
        return attention(q, k, v, blocked)


class SeveralHeads(nn.Module):
    """Heads that share d, and a matrix that mixes: (..., T, d) to the same."""

    def __init__(self, d, number):
        super().__init__()
        self.heads = nn.ModuleList([Head(d, d // number) for _ in range(number)])
        self.mix = nn.Linear(d, d, bias=False)

    def forward(self, x, blocked=None):
        parts = [head(x, blocked) for head in self.heads]
        return self.mix(torch.cat(parts, dim=-1))


def meaning_head():
    """A head set by hand: it answers 1 for water and -1 for money, in part."""
    head = Head(3, 1)
    head.W_q.weight = nn.Parameter(torch.tensor([[0.0, 0.0, 2.0]]))
    head.W_k.weight = nn.Parameter(torch.tensor([[1.0, 1.0, -2.0]]))
    head.W_v.weight = nn.Parameter(torch.tensor([[1.0, -1.0, 0.0]]))
    return head


def show_5(device):
    print("\n5. Heads: queries, keys and values")
    head = meaning_head().to(device)
    two_meanings = torch.tensor([[0.0], [0.0], [1.0]], device=device)
    for sentence in ["the river bank", "the money bank"]:
        x = torch.cat([rows_of(sentence, device), two_meanings], dim=1)
        print(f"   {sentence}   bank {head(x)[2].item():5.2f}")
    count = sum(parameter.numel() for parameter in SeveralHeads(32, 4).parameters())
    print(f"   4 heads, d = 32: {count} parameters, 4 d^2 is {4 * 32**2}")


# %% 6. A block
# Attention and two linear layers, each added to its input (lesson 12), and each behind
# a layer norm.
class Block(nn.Module):
    """A block of several heads, (..., T, d) to the same."""

    def __init__(self, d, number, hidden):
        super().__init__()
        self.norm1 = nn.LayerNorm(d)
        self.heads = SeveralHeads(d, number)
        self.norm2 = nn.LayerNorm(d)
        self.linear1 = nn.Linear(d, hidden)
        self.linear2 = nn.Linear(hidden, d)

    def forward(self, x, blocked=None):
        x = x + self.heads(self.norm1(x), blocked)
        return x + self.linear2(torch.relu(self.linear1(self.norm2(x))))


def copy_heads(heads, layer):
    """Give the weights of SeveralHeads to an nn.MultiheadAttention."""
    matrices = [head.W_q.weight for head in heads.heads]
    matrices += [head.W_k.weight for head in heads.heads]
    matrices += [head.W_v.weight for head in heads.heads]
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.cat(matrices))
        layer.out_proj.weight.copy_(heads.mix.weight)


def show_6(device):
    print("\n6. A block")
    torch.manual_seed(0)
    block = Block(4, 2, 8)
    layer = nn.TransformerEncoderLayer(
        4, 2, 8, dropout=0.0, batch_first=True, norm_first=True
    )
    layer.linear1, layer.linear2 = block.linear1, block.linear2
    copy_heads(block.heads, layer.self_attn)
    x = torch.randn(1, 3, 4).to(device)
    mask = later(3, device)
    print(f"   Block       {two_digits(block.to(device)(x, mask)[0, 2])}")
    rows = layer.to(device)(x, src_mask=mask)
    print(f"   PyTorch's   {two_digits(rows[0, 2])}")
    for part in [block.heads.mix.weight, block.linear2.weight, block.linear2.bias]:
        nn.init.zeros_(part)
    x = torch.tensor([[[1.0, 3.0, 5.0, 7.0]]], device=device)
    print(f"   [1, 3, 5, 7], with zeros   {two_digits(block(x)[0, 0])}")


# %% 7. A mask upside down
def plain_layer(device="cpu"):
    """nn.MultiheadAttention of one head whose queries, keys and values are the rows."""
    layer = nn.MultiheadAttention(2, 1, bias=False, batch_first=True)
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.eye(2).repeat(3, 1))
        layer.out_proj.weight.copy_(torch.eye(2))
    return layer.to(device)


def show_7(device):
    print("\n7. A mask upside down")
    x = rows_of("the river bank", device)[None]
    layer = plain_layer(device)
    allowed = ~later(3, device)
    print("   scaled_dot_product_attention, True where it may look")
    rows = F.scaled_dot_product_attention(x, x, x, attn_mask=allowed)
    print(f"      river, row {two_digits(rows[0, 1])}")
    print("   nn.MultiheadAttention, the same mask")
    _, weights = layer(x, x, x, attn_mask=allowed)
    for t, word in enumerate(["the", "river", "bank"]):
        print(f"      {word:<5}   weights {two_digits(weights[0, t])}")
    print("   nn.MultiheadAttention, the mask turned round")
    rows, _ = layer(x, x, x, attn_mask=~allowed)
    print(f"      river, row {two_digits(rows[0, 1])}")


# %% 8. Padding
def padded(sentences, length, device="cpu"):
    """(x, (n, length, 2), and padding, (n, length)): rows of 0, True where they are."""
    x = torch.zeros(len(sentences), length, 2)
    padding = torch.ones(len(sentences), length, dtype=torch.bool)
    for i, sentence in enumerate(sentences):
        count = len(sentence.split())
        if count:
            x[i, :count] = rows_of(sentence)
        padding[i, :count] = False
    return x.to(device), padding.to(device)


def show_8(device):
    print("\n8. Padding")
    x, padding = padded(["river bank", ""], 4, device)
    short = x[:, :2]
    alone = attention(short, short, short)
    print(f"   bank, alone in its batch    {two_digits(alone[0, 1])}")
    shared = attention(x, x, x)
    print(f"   bank, with padding          {two_digits(shared[0, 1])}")
    rows = attention(x, x, x, padding[:, None, :])
    print(f"   bank, the padding blocked   {two_digits(rows[0, 1])}")
    print(f"   a sentence of padding       {two_digits(rows[1, 1])}")


# %% The picture
def figure(device="cpu"):
    """Who looks at whom; the largest weight over d; the products of positions."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(12, 4), layout="constrained")
    whom, largest, products = fig.subplots(1, 3)
    x = rows_of("the river bank")
    whom.imshow(attention_weights(x, x, later(3)).numpy(), cmap="Blues", vmin=0)
    words = ["the", "river", "bank"]
    whom.set(xticks=range(3), yticks=range(3), xticklabels=words, yticklabels=words)
    whom.set(title="weights, causal", xlabel="is looked at", ylabel="looks")
    sizes = [2**power for power in range(11)]
    all_scores = [scores_of_noise(d, 500) for d in sizes]
    pairs = list(zip(sizes, all_scores, strict=True))
    undivided = [largest_weight(scores) for scores in all_scores]
    divided = [largest_weight(scores / math.sqrt(d)) for d, scores in pairs]
    largest.plot(sizes, undivided, "o-", label="undivided")
    largest.plot(sizes, divided, "o-", label="divided by sqrt(d)")
    largest.set(title="largest of 16 weights", xlabel="d", xscale="log", ylim=(0, 1))
    largest.legend()
    positions = sinusoids(50, 16)
    image = products.imshow((positions @ positions.T).numpy(), cmap="Blues")
    fig.colorbar(image, ax=products)
    products.set(title="products of positions", xlabel="position", ylabel="position")
    return fig


# %% Run it
TITLE = "18 Attention"
SECTIONS = [show_1, show_2, show_3, show_4, show_5, show_6, show_7, show_8]


# %% The command line: the same in every lesson, no need to read on
def main(device, section=None):
    """Print the title and all sections, or only the one with this number."""
    print(f"{TITLE} on {device}")
    for number, show in enumerate(SECTIONS, start=1):
        if section is None or section == number:
            show(device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--device", choices=DEVICES, default=DEVICES[-1])
    numbers = range(1, len(SECTIONS) + 1)
    parser.add_argument("--section", metavar="N", type=int, choices=numbers)
    parser.add_argument("--figure", metavar="FILE", help="save as .png, .svg or .pdf")
    args = parser.parse_args()
    try:
        (torch.ones(1, device=args.device) + 1).item()
    except RuntimeError as error:  # a card that this build of torch cannot use
        reason = str(error).splitlines()[0]
        sys.exit(f"--device {args.device}: {reason}; see lessons/01_install_check.py")
    try:
        main(args.device, args.section)
        sys.stdout.flush()
    except BrokenPipeError:  # what reads the output, head for instance, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if args.figure is not None:
        fig = figure(args.device)
        part = f"{args.figure}.part"  # an old picture stays until the new one is whole
        try:
            fig.savefig(part, format=args.figure.rpartition(".")[2])
            os.replace(part, args.figure)
        except (OSError, ValueError) as error:
            if os.path.exists(part):
                os.remove(part)
            parser.error(f"--figure {args.figure!r}: {error}")
