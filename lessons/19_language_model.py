"""19 Language model: a tiny GPT, as good as it can be, and then it writes.

The source of its texts has a known entropy. A mean loss on new texts that is clearly
below it says that the model sees what it should predict.
"""

import argparse
import functools
import math
import os
import sys

import torch
import torch.nn.functional as F
from torch import nn

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


# %% 1. The source, and the lowest loss
# x[t] = x[t - 1] + x[t - 2] mod 5 with probability 0.8, else any of the five: the right
# token has probability 0.84, each other 0.04. In the long run nobody who sees only the
# past has a lower loss than the source's entropy.
ENTROPY = -0.84 * math.log(0.84) - 4 * 0.04 * math.log(0.04)


def sequences(n, length, generator):
    """n sequences of the source, (n, length), whole numbers from 0 to 4."""
    x = torch.randint(5, (n, length), generator=generator)
    kept = torch.rand(n, length, generator=generator) < 0.8
    for t in range(2, length):
        x[:, t] = torch.where(kept[:, t], (x[:, t - 1] + x[:, t - 2]) % 5, x[:, t])
    return x


def source_table(x):
    """The source's own p of each next token, (n, T - 1, 5), for x, (n, T)."""
    right = (x[:, 1:] + x[:, :-1]) % 5
    return 0.04 + 0.8 * F.one_hot(right, 5)


class Source(nn.Module):
    """The best model there is: its logits, (n, T, 5), are the source's log p."""

    def forward(self, tokens):
        first = torch.full((len(tokens), 1, 5), 0.2, device=tokens.device)
        return torch.cat([first, source_table(tokens)], dim=1).log()


def next_loss(model, x):
    """The mean cross-entropy of each token of x, (n, T), but the first two."""
    logits = model(x[:, :-1])[:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), x[:, 2:].flatten())


def show_1(device):
    print("\n1. The source, and the lowest loss")
    x = sequences(5000, 16, torch.Generator().manual_seed(0)).to(device)
    print(f"   a text: {' '.join(map(str, x[0].tolist()))}")
    right = (x[:, 2:] == (x[:, 1:-1] + x[:, :-2]) % 5).double().mean()
    print(f"   the right token comes with   {right:.2f}, in theory 0.84")
    print(f"   the source predicts itself   loss {next_loss(Source(), x):.2f}")
    print(f"   its entropy                       {ENTROPY:.4f}")
    print(f"   all five tokens alike, log 5      {math.log(5):.4f}")


# %% 2. An embedding is a row of a matrix
def one_hot_product(tokens, weight):
    """one_hot(tokens, C) @ weight, (T, d), for tokens, (T,), and weight, (C, d)."""
    return F.one_hot(tokens, len(weight)).to(weight.dtype) @ weight


def embedding_gradient(tokens, weight):
    """The gradient of the sum of all embedded numbers with respect to weight."""
    leaf = weight.clone().requires_grad_()
    F.embedding(tokens, leaf).sum().backward()
    return leaf.grad


def show_2(device):
    print("\n2. An embedding is a row of a matrix")
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).to(device)
    tokens = torch.tensor([1, 1, 2, 3, 0], device=device)
    rows, product = F.embedding(tokens, weight), one_hot_product(tokens, weight)
    for name, numbers in (("embedding", rows[2]), ("one-hot", product[2])):
        words = " ".join(f"{number:7.4f}" for number in numbers.tolist())
        print(f"   token 2, {name:<9}   {words}")
    print(f"   equal to the bit, all of them: {torch.equal(rows, product)}")
    gradient = embedding_gradient(tokens, weight)[:, 0].int().tolist()
    print(f"   gradient of each row   {gradient}")
    count = torch.bincount(tokens, minlength=5).tolist()
    print(f"   how often it occurs    {count}")


# %% 3. A tiny GPT
# The block of lesson 18, as one would write it at work.
class Block(nn.Module):
    """(n, T, d) to (n, T, d): attention of several heads, then two linear layers."""

    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.project, self.mix = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.linear1, self.linear2 = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def split(self, x):
        """q, k and v of each head, (3, n, heads, T, d / heads)."""
        parts = self.project(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        return parts.permute(2, 0, 3, 1, 4)

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def finish(self, x, seen):
        x = x + self.mix(seen.transpose(1, 2).flatten(2))
        return x + self.linear2(torch.relu(self.linear1(self.norm2(x))))

    def forward(self, x):
        return self.finish(x, self.attend(*self.split(x)))


class TinyGPT(nn.Module):
    """Tokens (n, T), T up to 15, to logits of the next ones (n, T, 5), by one block."""

    def __init__(self, d=32, heads=4, block=Block):
        super().__init__()
        self.token, self.position = nn.Embedding(5, d), nn.Embedding(15, d)
        self.block, self.head = block(d, heads), nn.Linear(d, 5)

    def embed(self, tokens):
        """What goes into the block: a row for the token plus one for its position."""
        return self.token(tokens) + self.position.weight[: tokens.shape[1]]

    def forward(self, tokens):
        return self.head(self.block(self.embed(tokens)))


def show_3(device):
    print("\n3. A tiny GPT")
    model = TinyGPT().to(device)
    tokens = torch.tensor([[1, 1, 2, 3, 0, 3]], device=device)
    print(f"   tokens     {tuple(tokens.shape)}")
    print(f"   logits     {tuple(model(tokens).shape)}")
    for name, part in [*model.named_children(), ("in all", model)]:
        count = sum(parameter.numel() for parameter in part.parameters())
        print(f"   {name:<8} {count:>5} parameters")


# %% 4. It meets the entropy
def train_gpt(steps, seed, device="cpu", model_class=TinyGPT, block=Block):
    """(model, losses of its steps): it predicts each token of 16 but the first two."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = model_class(block=block).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        loss = next_loss(model, sequences(32, 16, generator).to(device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return model, torch.stack(losses).tolist()


@functools.cache  # sections 4 and 6 look at the same model
def trained_gpt(device):
    """(model, losses) of 200 steps from seed 0."""
    return train_gpt(200, seed=0, device=device)


def excess(model, device="cpu"):
    """-sum p log q - entropy over the source's own p: never below 0 for any model."""
    x = sequences(500, 16, torch.Generator().manual_seed(1)).to(device)
    with torch.no_grad():
        log_q = F.log_softmax(model(x[:, :-1])[:, 1:].double(), dim=-1)
    p = source_table(x[:, :-1])
    return -(p * log_q).sum(dim=-1).mean().item() - ENTROPY


def show_4(device):
    print("\n4. It meets the entropy")
    model, losses = trained_gpt(device)
    for first in (0, 50, 190):
        mean = sum(losses[first : first + 10]) / 10
        print(f"   steps {first:>3} to {first + 9:>3}   mean loss {mean:.1f}")
    print(f"   entropy of the source   {ENTROPY:.4f}")
    print(f"   perplexity of the source   {math.exp(ENTROPY):.2f}")
    close = 0 < excess(model, device) < 0.1
    print(f"   the model is above the entropy, by less than 0.1: {close}")


# %% 5. Mistake: a loss below the entropy
# One batch may be, by luck. A model with ten that are far below sees the answer.
class NoMask(Block):
    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)  # WRONG: no is_causal=True


class OverQueries(Block):
    def attend(self, q, k, v):
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        later = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
        scores = scores.masked_fill(later, -torch.inf)
        return torch.softmax(scores, dim=-2) @ v  # WRONG: dim=-1, over the keys


class NoPositions(TinyGPT):
    def embed(self, tokens):
        return self.token(tokens)  # WRONG: no row for the position


def last_loss(steps, seed=0, device="cpu", model_class=TinyGPT, block=Block):
    """The mean loss of the last ten of so many steps."""
    _, losses = train_gpt(steps, seed, device, model_class, block)
    return sum(losses[-10:]) / 10


def show_5(device):
    print("\n5. Mistake: a loss below the entropy")
    for name, model_class, block in (
        ("NoMask", TinyGPT, NoMask),
        ("OverQueries", TinyGPT, OverQueries),
        ("NoPositions", NoPositions, Block),
    ):
        loss = last_loss(100, 0, device, model_class, block)
        print(f"   {name:<11}   loss {loss:.1f}   below the entropy: {loss < ENTROPY}")


# %% 6. It writes, token by token
def write(model, start, length, temperature, generator=None):
    """start, (n, T), and what the model writes after it, (n, length) in all.

    A token is drawn with the probabilities softmax(logits / temperature). At
    temperature 0 it is the likeliest: that is called greedy.
    """
    tokens = start
    while tokens.shape[1] < length:
        with torch.no_grad():
            logits = model(tokens[:, -15:])[:, -1]  # no more positions than 15
        if temperature == 0:
            new = logits.argmax(dim=-1, keepdim=True)
        else:
            p = torch.softmax(logits / temperature, dim=-1)
            new = torch.multinomial(p.cpu(), 1, generator=generator).to(start.device)
        tokens = torch.cat([tokens, new], dim=1)
    return tokens


def share_in_theory(temperature):
    """How often the right token is drawn: 0.84^(1/T) of the sum of all five powers."""
    right, other = 0.84 ** (1 / temperature), 0.04 ** (1 / temperature)
    return right / (right + 4 * other)


def share_of_right(texts):
    """How many of the tokens of texts, (n, T), but the first two, follow the rule."""
    right = (texts[:, 1:-1] + texts[:, :-2]) % 5
    return (texts[:, 2:] == right).double().mean().item()


def show_6(device):
    print("\n6. It writes, token by token")
    model, _ = trained_gpt(device)
    start = torch.tensor([[1, 1]], device=device)
    text = write(model, start, 22, temperature=0)
    print(f"   greedy   {' '.join(map(str, text[0].tolist()))}")
    start, generator = start.expand(2000, 2), torch.Generator().manual_seed(0)
    for temperature in (0.5, 1.0, 2.0):
        texts = write(Source(), start, 12, temperature, generator)
        share, theory = share_of_right(texts), share_in_theory(temperature)
        print(f"   temperature {temperature}   right {share:.2f}   theory {theory:.2f}")


# %% 7. With what is stored
# As long as no position changes, the keys and values of the past stay as they are.
def next_logits(model, token, stored):
    """The logits after token, (n, 1). stored: a list, (k, v) of each before."""
    x = model.token(token) + model.position.weight[len(stored)]
    q, k, v = model.block.split(x)
    stored.append((k, v))
    keys = torch.cat([k for k, _ in stored], dim=-2)
    values = torch.cat([v for _, v in stored], dim=-2)
    # Not is_causal=True: it takes the one query for the first token.
    seen = F.scaled_dot_product_attention(q, keys, values)
    return model.head(model.block.finish(x, seen))[:, -1]


def write_with_cache(model, start, length):
    """What write says at temperature 0, for a length of up to 16."""
    tokens, stored = start, []
    while len(stored) < length - 1:
        with torch.no_grad():
            token = tokens[:, len(stored) : len(stored) + 1]
            logits = next_logits(model, token, stored)
        if len(stored) == tokens.shape[1]:
            tokens = torch.cat([tokens, logits.argmax(dim=-1, keepdim=True)], dim=1)
    return tokens


def rows_computed(model, write_text):
    """(text, how many rows of tokens went through the block to write it)."""
    rows = []
    handle = model.block.project.register_forward_hook(
        lambda layer, given, out: rows.append(out.shape[1])
    )
    text = write_text()
    handle.remove()
    return text, sum(rows)


def show_7(device):
    print("\n7. With what is stored")
    model, _ = trained_gpt(device)
    start = torch.tensor([[1, 1]], device=device)
    text, rows = rows_computed(model, lambda: write(model, start, 16, 0))
    same, fewer = rows_computed(model, lambda: write_with_cache(model, start, 16))
    print(f"   the same text: {torch.equal(text, same)}")
    print(f"   rows without a cache   {rows:>3}")
    print(f"   rows with a cache      {fewer:>3}")


# %% The picture
def weights(model, tokens):
    """How much each token takes from each, the mean of all heads, (T, T)."""
    q, k, _ = model.block.split(model.embed(tokens))
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    later = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
    p = torch.softmax(scores.masked_fill(later, -torch.inf), dim=-1)
    return p[0].mean(dim=0).detach().cpu()


def figure(device="cpu"):
    """Losses of the right model and of two mistakes, and where the heads look."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(9, 4), layout="constrained")
    left, right = fig.subplots(1, 2)
    for name, block in (("right", Block), ("no mask", NoMask), ("dim=-2", OverQueries)):
        model, losses = train_gpt(200, 0, device, block=block)
        left.plot(losses, label=name)
        if name == "right":
            x = sequences(1, 15, torch.Generator().manual_seed(2)).to(device)
            right.imshow(weights(model, x).numpy(), cmap="Blues")
    for value, style in ((math.log(5), ":"), (ENTROPY, "--")):
        left.axhline(value, color="black", linestyle=style)
    left.set(title="loss; dashed: the entropy, dotted: log 5", xlabel="step")
    right.set(title="weights, mean of four heads", xlabel="key", ylabel="query")
    right.set(xticks=range(0, 15, 2), yticks=range(0, 15, 2))
    left.legend()
    return fig


# %% Run it
TITLE = "19 Language model"
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
