"""Plausible wrong answers to the exercises of lesson 02, each with the thought behind
it."""


def for_a_network_1(images):
    """The shape is what matters: reshape gives it."""
    n, height, width, channels = images.shape
    return images.reshape(n, channels, height, width) / 255


def for_a_network_2(images):
    """Channels first, and the others in the order that is left, read from the right."""
    return images.permute(0, 3, 2, 1) / 255


def for_a_network_3(images):
    """Divide by 255, then make it float."""
    return (images.permute(0, 3, 1, 2) // 255).float()


def for_a_network_4(images):
    """float() makes it what a network wants."""
    return images.permute(0, 3, 1, 2).float()


def blend_1(a, b):
    """Divide first, so that nothing overflows."""
    return a // 2 + b // 2


def blend_2(a, b):
    """Floats do not overflow."""
    return (a.float() + b.float()) / 2


def blend_3(a, b):
    """Convert the sum to a larger dtype."""
    return ((a + b).int() // 2).byte()


def row_shares_1(x):
    """dim=1 gives the sums of the rows, and broadcasting does the rest."""
    return x / x.sum(dim=1)


def row_shares_2(x):
    """dim=0 is the rows."""
    return x / x.sum(dim=0)


def row_shares_3(x):
    """All shares together are 1."""
    return x / x.sum()


def without_negatives_1(x):
    """Another name is another tensor."""
    result = x
    result[result < 0] = 0
    return result


def without_negatives_2(x):
    """Pick what is not negative."""
    return x[x >= 0]


def without_negatives_3(x):
    """view makes a new tensor."""
    return x.view(x.shape).clamp_(min=0)


def without_negatives_4(x):
    """Nothing to do where nothing is negative."""
    return x.clamp(min=0) if (x < 0).any() else x


def row_shares_4(x):
    """In place, to save memory."""
    x /= x.sum(dim=1, keepdim=True)
    return x
