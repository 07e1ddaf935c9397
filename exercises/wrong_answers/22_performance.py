"""Plausible wrong answers to the exercises of lesson 22, each with the thought behind
it."""

import torch
from torch import nn


def weights(model):
    """How many weights each Linear layer has."""
    return [
        part.weight.numel() for part in model.modules() if isinstance(part, nn.Linear)
    ]


def training_flops_of_1(model, batch):
    """Forward 2, backward 4, for each weight."""
    return 6 * batch * sum(weights(model))


def training_flops_of_2(model, batch):
    """Numbers to train are numbers to train: with biases."""
    first, *others = (
        sum(parameter.numel() for parameter in part.parameters())
        for part in model.modules()
        if isinstance(part, nn.Linear)
    )
    return batch * (4 * first + 6 * sum(others))


def training_flops_of_3(model, batch):
    """The layers of a Sequential are what one goes through in it."""
    first, *others = [
        part.weight.numel() for part in model if isinstance(part, nn.Linear)
    ]
    return batch * (4 * first + 6 * sum(others))


def training_flops_of_4(model, batch):
    """Backward begins with the last layer, so that one has an input gradient less."""
    *others, last = weights(model)
    return batch * (4 * last + 6 * sum(others))


def training_flops_of_5(model, batch):
    """A multiplication for each weight in each product."""
    first, *others = weights(model)
    return batch * (2 * first + 3 * sum(others))


def training_flops_of_6(model, batch):
    """Backward costs as much as forward."""
    return 4 * batch * sum(weights(model))


def training_flops_of_7(model, batch):
    """What has a weight is a layer."""
    first, *others = [
        part.weight.numel() for part in model.modules() if hasattr(part, "weight")
    ]
    return batch * (4 * first + 6 * sum(others))


def training_flops_of_8(model, batch):
    """The first layer has no backward."""
    first, *others = weights(model)
    return batch * (2 * first + 6 * sum(others))


def pairwise_1(a, b):
    """One loop is much less than two."""
    return torch.stack([(row - b).square().sum(dim=1).sqrt() for row in a])


def pairwise_2(a, b):
    """A table of all pairs, the rows of b first."""
    return (a - b[:, None]).square().sum(dim=-1).sqrt()


def pairwise_3(a, b):
    """|a|^2 + |b|^2 - 2 a b, which rounding may make negative."""
    square = a.square().sum(dim=1)[:, None] + b.square().sum(dim=1) - 2 * a @ b.T
    return square.sqrt()


def pairwise_4(a, b):
    """The squares say as much as the distances."""
    return (a[:, None] - b).square().sum(dim=-1)


def pairwise_5(a, b):
    """A distance is a sum of differences."""
    return (a[:, None] - b).abs().sum(dim=-1)


def pairwise_6(a, b):
    """Half the bytes are twice as fast."""
    return torch.cdist(a.float(), b.float()).double()


def pairwise_7(a, b):
    """A comprehension is no loop."""
    flat = [(row - other).norm() for row in a for other in b]
    return torch.stack(flat).view(len(a), len(b))


def pairwise_8(a, b):
    """Keep the root away from 0."""
    return ((a[:, None] - b).square().sum(dim=-1) + 1e-8).sqrt()


def accumulated_1(model, loss_function, parts):
    """Times its size: then each sample counts the same."""
    model.zero_grad()
    for x, y in parts:
        (loss_function(model(x), y) * len(x)).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def accumulated_2(model, loss_function, parts):
    """Every part is as long as the first."""
    model.zero_grad()
    total = len(parts) * len(parts[0][0])
    for x, y in parts:
        (loss_function(model(x), y) * len(x) / total).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def accumulated_3(model, loss_function, parts):
    """The large batch itself is right to the last digit."""
    x, y = map(torch.cat, zip(*parts, strict=True))
    model.zero_grad()
    loss_function(model(x), y).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def accumulated_4(model, loss_function, parts):
    """Losses add up, and one backward is less than many."""
    total = sum(len(x) for x, _ in parts)
    model.zero_grad()
    sum(loss_function(model(x), y) * len(x) / total for x, y in parts).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def accumulated_5(model, loss_function, parts):
    """zero_grad before each backward, as always."""
    total = sum(len(x) for x, _ in parts)
    for x, y in parts:
        model.zero_grad()
        (loss_function(model(x), y) * len(x) / total).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def accumulated_6(model, loss_function, parts):
    """Gradients add up here, so none is set to 0."""
    total = sum(len(x) for x, _ in parts)
    for x, y in parts:
        (loss_function(model(x), y) * len(x) / total).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def accumulated_7(model, loss_function, parts):
    """Divide by the size of each part, as a mean does."""
    model.zero_grad()
    for x, y in parts:
        (loss_function(model(x), y) / len(x)).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def accumulated_8(model, loss_function, parts):
    """The losses first, to know their number, then backward for each."""
    total = sum(len(x) for x, _ in parts)
    model.zero_grad()
    for loss in [loss_function(model(x), y) * len(x) / total for x, y in parts]:
        loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def collected_1(parts):
    """A list, and one cat at the end."""
    kept = list(parts)
    return torch.cat(kept) if kept else torch.empty(0)


def collected_2(parts):
    """[:] copies a list, and so it copies a tensor."""
    kept = [part[:] for part in parts]
    return torch.cat(kept) if kept else torch.empty(0)


def collected_3(parts):
    """The first part shows how wide the rows are."""
    width = next(parts, torch.empty(0)).shape[-1]
    return torch.cat([torch.empty(0, width), *(part.clone() for part in parts)])


def collected_4(parts):
    """Ten at a time, and the copies are a tenth."""
    table, kept = torch.empty(0), []
    for part in parts:
        kept.append(part.clone())
        if len(kept) == 10:
            table, kept = torch.cat([table, *kept]), []
    return torch.cat([table, *kept])


def collected_5(parts):
    """No parts have no rows, and no columns."""
    kept = [part.clone() for part in parts]
    return torch.cat(kept) if kept else torch.empty(0, 0)


def collected_6(parts):
    """Nothing comes of nothing."""
    kept = [part.clone() for part in parts]
    return torch.cat(kept) if kept else None


def collected_7(parts):
    """Double the room whenever it is full, and fill it with zeros."""
    table, rows = torch.empty(0), 0
    for part in parts:
        if rows + len(part) > len(table):
            table = torch.cat([table, torch.zeros(rows + len(part), part.shape[1])])
        table[rows : rows + len(part)] = part
        rows += len(part)
    return table[:rows]


def collected_8(parts):
    """detach() takes a tensor away from whoever made it."""
    kept = [part.detach() for part in parts]
    return torch.cat(kept) if kept else torch.empty(0)


def collected_9(parts):
    """Parts without rows can be left out."""
    kept = [part.clone() for part in parts if len(part)]
    return torch.cat(kept) if kept else torch.empty(0)
