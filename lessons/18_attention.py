"""18 Attention: each token asks all others, and takes more from those that fit.

A mask says whom it may ask: nobody of the future, and no padding.
"""

import argparse
import math
import os
import sys

import torch
import torch.nn.functional as F
from torch import nn

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def noise(*shape, device="cpu"):
    """Numbers from N(0, 1) in float64, the same on each call and device."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)


# %% 1. Attention is a mean of values, weighted by likeness
# Each query asks all keys. The softmax makes weights of their dot products, and the
# output is the mean of the values with these weights. Causal: a token asks itself and
# what came before.
def weights(q, k, causal=False):
    """softmax(q k^T / sqrt(d)), (..., T, S), for q, (..., T, d), and k, (..., S, d)."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if causal:
        later = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
        scores = scores.masked_fill(later, -torch.inf)
    return torch.softmax(scores, dim=-1)


def attention(q, k, v, causal=False):
    """weights(q, k) @ v, (..., T, d), for v, (..., S, d)."""
    return weights(q, k, causal) @ v


def show_1(device):
    print("\n1. Attention is a mean of values, weighted by likeness")
    q, k, v = noise(3, 2, 7, 8, device=device)
    for causal in (False, True):
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        off = (attention(q, k, v, causal) - expected).abs().max()
        print(f"   causal={causal!s:<5}   PyTorch's agrees to 1e-12: {off < 1e-12}")
    first = weights(q, k, causal=True)[0, :3, :4]
    for row in first:
        numbers = " ".join(f"{weight:.2f}" for weight in row)
        print(f"   weights of the first tokens: {numbers}")


# %% 2. Why sqrt(d)
# The product of two vectors of d independent numbers of mean 0 and variance 1 has
# variance d. Undivided, one weight takes all, and the softmax is flat everywhere else.
def spread(d, scaled, pairs=2000):
    """(variance of q k, mean entropy of the weights over 16 keys), all from N(0, 1)."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(pairs, 1, d, generator=generator)
    k = torch.randn(pairs, 16, d, generator=generator)
    scores = (q * k).sum(dim=-1) / (math.sqrt(d) if scaled else 1)
    p = torch.softmax(scores, dim=-1)
    return scores.var().item(), torch.special.entr(p).sum(dim=-1).mean().item()


def show_2(device):
    print("\n2. Why sqrt(d)")
    print(f"   16 equal weights have entropy log 16 = {math.log(16):.2f}")
    for scaled in (False, True):
        for d in (4, 256):
            variance, entropy = spread(d, scaled)
            case = f"scaled={scaled!s:<5}   d {d:>3}"
            print(f"   {case}: variance {variance:5.1f}, mean entropy {entropy:.2f}")


# %% 3. Causal: the future has no say at all
def future_gradient(causal, device="cpu"):
    """The largest |d sum(output_t) / d x_s| for s > t; q = k = v = x."""
    x = noise(6, 4, device=device).requires_grad_()
    largest = 0.0
    for t in range(5):
        [gradient] = torch.autograd.grad(attention(x, x, x, causal)[t].sum(), x)
        largest = max(largest, gradient[t + 1 :].abs().max().item())
    return largest


def show_3(device):
    print("\n3. Causal: the future has no say at all")
    for causal in (True, False):
        largest = future_gradient(causal, device)
        name = f"causal={causal!s:<5}"
        print(f"   {name}   largest gradient by a later token {largest:.4f}")


# %% 4. Attention knows no order; positions tell it
# Sines and cosines of the position, in pairs of one frequency: going on by k turns each
# pair by the same angle, so the product of two positions depends on their distance
# only.
def order_ignored(causal, device="cpu"):
    """True if attention of shuffled rows is the shuffled attention, to 1e-12."""
    x, order = noise(6, 4, device=device), torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = attention(x[order], x[order], x[order], causal)
    return bool((shuffled - attention(x, x, x, causal)[order]).abs().max() < 1e-12)


def sinusoids(length, d):
    """sin(w t), cos(w t), (length, d), d / 2 frequencies w (Vaswani et al., 2017)."""
    frequency = 10_000 ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def show_4(device):
    print("\n4. Attention knows no order; positions tell it")
    for causal in (False, True):
        ignored = order_ignored(causal, device)
        print(f"   causal={causal!s:<5}   shuffled in, shuffled out: {ignored}")
    positions = sinusoids(50, 16)
    products = positions @ positions.T
    apart = " ".join(f"{products[t, t + 3]:.4f}" for t in (0, 10, 40))
    print(f"   products of positions 3 apart: {apart}")
    print(f"   of each with itself: {products[7, 7]:.4f}, d / 2")


# %% 5. Several heads, and a block around them
# The d numbers are cut into heads, each of which attends by itself. The block adds what
# attention and then two linear layers say to its input (lesson 12), each behind a layer
# norm.
def multi_head(layer, x, causal=True):
    """What nn.MultiheadAttention does to x, (n, T, d), with the weights of layer."""
    projected = x @ layer.in_proj_weight.T + layer.in_proj_bias
    parts = projected.unflatten(-1, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
    out = attention(*parts, causal)  # (n, heads, T, d / heads)
    return layer.out_proj(out.transpose(1, 2).flatten(2))


def block(layer, x, causal=True):
    """What nn.TransformerEncoderLayer(norm_first=True) does, with layer's weights."""
    x = x + multi_head(layer.self_attn, layer.norm1(x), causal)
    return x + layer.linear2(torch.relu(layer.linear1(layer.norm2(x))))


def encoder_layer(d=16, heads=4, hidden=32):
    """nn.TransformerEncoderLayer without dropout, the norm first, for (n, T, d)."""
    options = {"dropout": 0.0, "batch_first": True, "norm_first": True}
    return nn.TransformerEncoderLayer(d, heads, hidden, **options)


def show_5(device):
    print("\n5. Several heads, and a block around them")
    layer, x = encoder_layer().double().to(device), noise(2, 7, 16, device=device)
    mask = nn.Transformer.generate_square_subsequent_mask(7).double().to(device)
    expected, _ = layer.self_attn(x, x, x, attn_mask=mask)
    off = (multi_head(layer.self_attn, x) - expected).abs().max()
    count = sum(parameter.numel() for parameter in layer.self_attn.parameters())
    print(
        f"   nn.MultiheadAttention to 1e-12: {off < 1e-12}; "
        f"{count} parameters, 4 d^2 + 4 d is {4 * 16**2 + 4 * 16}"
    )
    off = (block(layer, x) - layer(x, src_mask=mask)).abs().max()
    print(f"   nn.TransformerEncoderLayer to 1e-12: {off < 1e-12}")


# %% 6. Mistake: a mask upside down
# True means allowed in F.scaled_dot_product_attention, and blocked in
# nn.MultiheadAttention.
def rows_of_nan(mask, device="cpu"):
    """For how many of 5 tokens nn.MultiheadAttention with this mask answers nan."""
    x = noise(1, 5, 16, device=device)
    layer = nn.MultiheadAttention(16, 4, batch_first=True).double().to(device)
    out, _ = layer(x, x, x, attn_mask=mask)
    return out.isnan().any(dim=-1).sum().item()


def show_6(device):
    print("\n6. Mistake: a mask upside down")
    allowed = torch.ones(5, 5, dtype=torch.bool, device=device).tril()
    x = noise(1, 5, 16, device=device)
    found = F.scaled_dot_product_attention(x, x, x, attn_mask=allowed)
    off = (found - attention(x, x, x, causal=True)).abs().max()
    print(f"   lower triangle to scaled_dot_product_attention: causal {off < 1e-12}")
    for name, mask in (("lower", allowed), ("upper", ~allowed)):
        nan = rows_of_nan(mask, device)
        print(f"   {name} triangle to nn.MultiheadAttention: {nan} of 5 tokens are nan")


# %% 7. Padding: what only fills the batch
# Sequences of a batch differ in length, and padding fills the short ones. The layer is
# told which keys are padding: True means blocked, as in section 6.
def seeded_heads():
    """nn.MultiheadAttention(16, 4) for (n, T, d), the same numbers on each call."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.MultiheadAttention(16, 4, batch_first=True).double()


def changed_by_padding(length, masked, device="cpu"):
    """By how much padding, up to 5, changes what a sequence of so many tokens says."""
    layer, x = seeded_heads().to(device), noise(1, 5, 16, device=device)
    short = x[:, :length]
    alone, _ = layer(short, short, short)
    padding = torch.arange(5, device=device)[None] >= length
    out, _ = layer(x, x, x, key_padding_mask=padding if masked else None)
    return (out[:, :length] - alone).abs().max().item()


def tokens_of_nan(lengths, device="cpu"):
    """For each sequence, padded to 5 tokens, how many of the 5 answers are nan."""
    x = noise(len(lengths), 5, 16, device=device)
    places = torch.arange(5, device=device)
    padding = places >= torch.tensor(lengths, device=device)[:, None]
    out, _ = seeded_heads().to(device)(x, x, x, key_padding_mask=padding)
    return out.isnan().any(dim=-1).sum(dim=1).tolist()


def show_7(device):
    print("\n7. Padding: what only fills the batch")
    for masked in (True, False):
        change = changed_by_padding(3, masked, device)
        print(
            f"   padding blocked={masked!s:<5}   it changes the output by {change:.4f}"
        )
    lengths = [5, 3, 0]
    for length, count in zip(lengths, tokens_of_nan(lengths, device), strict=True):
        print(f"   {length} tokens and {5 - length} of padding: {count} are nan")


# %% The picture
def figure(device="cpu"):
    """The entropy of the weights over d, and the products of positions."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 4), layout="constrained")
    left, right = fig.subplots(1, 2)
    sizes = [2**k for k in range(11)]
    for scaled, name in ((True, "divided by sqrt(d)"), (False, "undivided")):
        left.plot(sizes, [spread(d, scaled, 500)[1] for d in sizes], "o-", label=name)
    left.axhline(math.log(16), color="black", linestyle="--")
    left.set(title="entropy of 16 weights; dashed: log 16", xlabel="d", xscale="log")
    left.legend()
    positions = sinusoids(50, 16)
    image = right.imshow((positions @ positions.T).numpy(), cmap="Blues")
    fig.colorbar(image, ax=right)
    right.set(title="products of positions", xlabel="position", ylabel="position")
    return fig


# %% Run it
TITLE = "18 Attention"
SECTIONS = [show_1, show_2, show_3, show_4, show_5, show_6, show_7]


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
