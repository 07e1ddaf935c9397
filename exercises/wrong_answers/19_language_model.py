"""Plausible wrong answers to the exercises of lesson 19, and the thoughts behind."""

import math

import torch
import torch.nn.functional as F


def next_token_loss_1(logits, tokens):
    """One is shifted against the other; the other way round."""
    return F.cross_entropy(logits[:, 1:].flatten(0, 1), tokens[:, :-1].flatten())


def next_token_loss_2(logits, tokens):
    """roll moves all tokens one place back: the last one predicts the first."""
    return F.cross_entropy(logits.flatten(0, 1), tokens.roll(-1, dims=1).flatten())


def next_token_loss_3(logits, tokens):
    """Flatten first, then shift: the last of a text predicts the first of the next."""
    return F.cross_entropy(logits.flatten(0, 1)[:-1], tokens.flatten()[1:])


def next_token_loss_4(logits, tokens):
    """Without the first and the last, as there is nothing to predict there."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, :-1].flatten())


def next_token_loss_5(logits, tokens):
    """A loss is a number."""
    shifted = logits[:, :-1].flatten(0, 1)
    return F.cross_entropy(shifted, tokens[:, 1:].flatten()).item()


def perplexity_1(losses):
    """The mean of the means of the texts."""
    return math.exp(sum(loss.mean().item() for loss in losses) / len(losses))


def perplexity_2(losses):
    """The mean of the perplexities of the tokens."""
    return torch.cat(losses).exp().mean().item()


def perplexity_3(losses):
    """Entropy is counted in bits."""
    return 2 ** torch.cat(losses).mean().item()


def perplexity_4(losses):
    """The mean of the perplexities of the texts."""
    return sum(math.exp(loss.mean().item()) for loss in losses) / len(losses)


def perplexity_5(losses):
    """The mean loss says it all."""
    return torch.cat(losses).mean().item()


def with_temperature_1(logits, temperature):
    """A high temperature makes the logits larger."""
    return torch.softmax(logits * temperature, dim=1)


def with_temperature_2(logits, temperature):
    """The limit comes by itself."""
    return torch.softmax(logits / temperature, dim=1)


def with_temperature_3(logits, temperature):
    """The probabilities are divided."""
    return torch.softmax(logits, dim=1) / max(temperature, 1e-9)


def with_temperature_4(logits, temperature):
    """Next to 0 is 0; the rows stand in the first axis."""
    return torch.softmax(logits / max(temperature, 1e-9), dim=0)


def with_temperature_5(logits, temperature):
    """The softmax by its formula."""
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)
    parts = torch.exp(logits / temperature)
    return parts / parts.sum(dim=1, keepdim=True)


def with_temperature_6(logits, temperature):
    """A probability of 1 is a 1."""
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=1), logits.shape[1])
    return torch.softmax(logits / temperature, dim=1)


def stepped(p, table, steps):
    """Shares after so many steps."""
    for _ in range(steps):
        p = p @ table
    return p


def entropy_rate_1(table):
    """Each row counts the same."""
    return torch.special.entr(table).sum(dim=1).mean().item()


def entropy_rate_2(table):
    """A table times a column, as always, from equal shares on."""
    p = torch.full_like(table[0], 1 / len(table))
    for _ in range(1000):
        p = table @ p
    return (p @ torch.special.entr(table).sum(dim=1)).item()


def entropy_rate_3(table):
    """Entropy is counted in bits."""
    p = stepped(table[0], table, 1000)
    return -(p @ (table * table.log2()).sum(dim=1)).item()


def entropy_rate_4(table):
    """The entropy of the shares."""
    return torch.special.entr(stepped(table[0], table, 1000)).sum().item()


def entropy_rate_5(table):
    """Twenty steps are a long text."""
    p = stepped(torch.full_like(table[0], 1 / len(table)), table, 20)
    return (p @ torch.special.entr(table).sum(dim=1)).item()


def entropy_rate_6(table):
    """The sum over the first axis, as in a mean over samples."""
    return (
        stepped(table[0], table, 1000) @ torch.special.entr(table).sum(dim=0)
    ).item()


def entropy_rate_7(table):
    """One step: the shares are the means of the columns."""
    return (table.mean(dim=0) @ torch.special.entr(table).sum(dim=1)).item()


def entropy_rate_8(table):
    """A number, as torch returns it."""
    return stepped(table[0], table, 1000) @ torch.special.entr(table).sum(dim=1)
