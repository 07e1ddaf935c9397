"""Plausible wrong answers to the exercises of lesson 18, and the thoughts behind."""

import math

import torch


def heads_1(x, number):
    """Cut d, and all is there."""
    return x.unflatten(2, (number, -1))


def heads_2(x, number):
    """Every number-th of the numbers."""
    return x.unflatten(2, (-1, number)).permute(0, 3, 1, 2)


def heads_3(x, number):
    """The tokens come behind the numbers: turn first, then any shape will do."""
    n, length, d = x.shape
    return x.transpose(1, 2).reshape(n, number, length, d // number)


def heads_4(x, number):
    """Heads first, as a list of heads would be."""
    return torch.stack(x.chunk(number, dim=2))


def heads_5(x, number):
    """d is cut behind the turn; the tokens stay last."""
    return x.transpose(1, 2).unflatten(1, (number, -1))


def look_back_1(layer, x):
    """A mask is numbers, 1 where a token may look: they are added to the scores."""
    mask = torch.ones(x.shape[1], x.shape[1]).tril()
    return layer(x, x, x, attn_mask=mask)[0]


def look_back_2(layer, x):
    """True means blocked: the upper triangle, with the diagonal."""
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu()
    return layer(x, x, x, attn_mask=mask)[0]


def look_back_3(layer, x):
    """Away with the nan."""
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    return layer(x, x, x, attn_mask=mask)[0].nan_to_num()


def look_back_4(layer, x):
    """The nan comes from a row in which all is blocked: leave out the diagonal."""
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(diagonal=-1)
    return layer(x, x, x, attn_mask=mask)[0]


def look_back_5(layer, x):
    """The next token may be seen, for it is the one to predict."""
    mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(diagonal=2)
    return layer(x, x, x, attn_mask=mask)[0]


def look_back_6(layer, x):
    """-1 for what must not be seen."""
    mask = -torch.ones(x.shape[1], x.shape[1]).triu(diagonal=1)
    return layer(x, x, x, attn_mask=mask)[0]


def look_back_7(layer, x):
    """-20 is not seen: the weight is next to nothing."""
    mask = -20 * torch.ones(x.shape[1], x.shape[1]).triu(diagonal=1)
    return layer(x, x, x, attn_mask=mask)[0]


def look_back_8(layer, x):
    """The gradient must not come from other tokens: what is detached has none."""
    return layer(x, x.detach(), x.detach())[0]


def attention_with_padding_1(q, k, v, real):
    """real is for the tokens, and the tokens are the rows."""
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    scores = scores.masked_fill(~real[:, :, None], -torch.inf)
    return torch.softmax(scores, dim=2) @ v


def attention_with_padding_2(q, k, v, real):
    """Fill where it is True."""
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    scores = scores.masked_fill(real[:, None, :], -torch.inf)
    return torch.softmax(scores, dim=2) @ v


def attention_with_padding_3(q, k, v, real):
    """A score of 0 is no weight."""
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    return torch.softmax(scores * real[:, None, :], dim=2) @ v


def attention_with_padding_4(q, k, v, real):
    """Values that are 0 add nothing."""
    weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[2]), dim=2)
    return weights @ (v * real[:, :, None])


def attention_with_padding_5(q, k, v, real):
    """Weights of 0 afterwards, and the rest divided by its sum."""
    weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[2]), dim=2)
    weights = weights * real[:, None, :]
    return weights / weights.sum(dim=2, keepdim=True) @ v


def attention_with_padding_6(q, k, v, real):
    """Broadcasting finds the axis."""
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    return torch.softmax(scores.masked_fill(~real, -torch.inf), dim=2) @ v


def attention_with_padding_7(q, k, v, real):
    """Dot products, as they are."""
    scores = (q @ k.transpose(1, 2)).masked_fill(~real[:, None, :], -torch.inf)
    return torch.softmax(scores, dim=2) @ v


def attention_with_padding_8(q, k, v, real):
    """The softmax by its formula."""
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    parts = torch.exp(scores) * real[:, None, :]
    return parts / parts.sum(dim=2, keepdim=True) @ v


def attention_with_padding_9(q, k, v, real):
    """The smallest number of the dtype."""
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    scores = scores.masked_fill(~real[:, None, :], torch.finfo(q.dtype).tiny)
    return torch.softmax(scores, dim=2) @ v


def rows_of_tokens_1(layer, x, padding):
    """Away with the nan, and with what stands at the padding."""
    out, _ = layer(x, x, x, key_padding_mask=padding)
    return out.nan_to_num().masked_fill(padding[:, :, None], 0)


def rows_of_tokens_2(layer, x, padding):
    """Padding of zeros adds nothing."""
    x = x.masked_fill(padding[:, :, None], 0)
    out, _ = layer(x, x, x)
    return out.masked_fill(padding[:, :, None], 0)


def rows_of_tokens_3(layer, x, padding):
    """True is for the tokens."""
    out, _ = layer(x, x, x, key_padding_mask=~padding)
    return out.nan_to_num().masked_fill(padding[:, :, None], 0)


def rows_of_tokens_4(layer, x, padding):
    """An empty sequence may look at its first place, so that there is no nan."""
    padding = padding.clone()
    padding[:, 0] = False
    out, _ = layer(x, x, x, key_padding_mask=padding)
    return out.masked_fill(padding[:, :, None], 0)


def rows_of_tokens_5(layer, x, padding):
    """Empty sequences are left out."""
    some = ~padding.all(dim=1)
    tokens = x[some]
    out, _ = layer(tokens, tokens, tokens, key_padding_mask=padding[some])
    return out.masked_fill(padding[some][:, :, None], 0)


def rows_of_tokens_6(layer, x, padding):
    """The rows are only looked at, so nothing has to be recorded."""
    some = ~padding.all(dim=1)
    out = torch.zeros_like(x)
    with torch.no_grad():
        tokens = x[some]
        rows, _ = layer(tokens, tokens, tokens, key_padding_mask=padding[some])
    out[some] = rows
    return out.masked_fill(padding[:, :, None], 0)


def rows_of_tokens_7(layer, x, padding):
    """What stands at the padding is nobody's business."""
    some = ~padding.all(dim=1)
    tokens = x[some]
    out = torch.zeros_like(x)
    rows, _ = layer(tokens, tokens, tokens, key_padding_mask=padding[some])
    out[some] = rows
    return out
