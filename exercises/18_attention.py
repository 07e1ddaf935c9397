"""Exercises for lesson 18, attention.

The checks: python -m pytest exercises/test_18_attention.py
"""

import torch


# %% 1. Mend (easy, 5 minutes)
def heads(x, number):
    """Mend: the numbers of each token, cut into heads.

    Gets x, floats of shape (n, T, d), and the number of heads, which divides d. Returns
    a tensor of shape (n, number, T, d / number), in the dtype of x: for each token the
    first head has the first d / number of its numbers, the second head the next ones,
    and so on. Example: the tokens [1, 2, 3, 4] and [5, 6, 7, 8], as shape (1, 2, 4),
    are for two heads [[1, 2], [5, 6]] and [[3, 4], [7, 8]].
    """
    n, length, d = x.shape
    return x.reshape(n, number, length, d // number)


# %% 2. Mend (medium, 10 minutes)
def look_back(layer, x):
    """Mend: what nn.MultiheadAttention says where no token sees what comes later.

    Gets layer, an nn.MultiheadAttention with batch_first=True, and x, float32 of shape
    (n, T, d), for queries, keys and values. Returns a tensor of shape (n, T, d). No
    token has a say in what comes out for an earlier one: that gradient is exactly 0.
    Example: the first token sees itself alone, so what comes out for it is the same
    whatever follows, and what comes out for the last token is the same as without a
    mask.
    """
    length = x.shape[1]
    mask = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
    out, _ = layer(x, x, x, attn_mask=mask)
    return out


# %% 3. Write (medium, 10 minutes)
def attention_with_padding(q, k, v, real):
    """Write: attention in which no query looks at padding.

    Gets q, floats of shape (n, T, d), k, shape (n, S, d), v, shape (n, S, e), and real,
    booleans of shape (n, S): True where a sample has a token, at least once for each,
    and False where k and v hold padding, which may be any numbers, large ones too.
    Returns a tensor of shape (n, T, e) in the dtype of q: the mean of a sample's real
    values, weighted by the softmax of q k / sqrt(d) over its real keys. Scores may be
    in the hundreds. Example: q = [[[1]]], k = [[[0], [0], [9]]], v = [[[2], [4], [8]]]
    and real = [[True, True, False]] give [[[3]]].
    """
    raise NotImplementedError


# %% 4. Mend (medium, 10 minutes)
def rows_of_tokens(layer, x, padding):
    """Mend: what nn.MultiheadAttention says of a padded batch, with empty sequences in
    it.

    Gets layer, an nn.MultiheadAttention with batch_first=True, x, float32 of shape (n,
    T, d), for queries, keys and values, and padding, booleans of shape (n, T): True
    where x holds padding, which may be any numbers. Some sequences are all padding, but
    never all of them. Returns a tensor of shape (n, T, d): for each token what the
    layer says of its sequence without the padding, and 0 at each place of padding. It
    can be trained: the gradient of the parameters is that of the tokens alone, without
    nan. Example: of a sequence of one token and four of padding, the first row is what
    the layer says of that token alone, and the other four rows are 0.
    """
    out, _ = layer(x, x, x, key_padding_mask=padding)
    return out.nan_to_num()
