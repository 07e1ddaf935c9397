"""The exercises of lesson 17, solved."""

import torch
import torch.nn.functional as F


def freeze(module):
    """A module of which no parameter trains any more."""
    # The method goes to each parameter; an attribute of that name stays on the module.
    return module.requires_grad_(False)


def train_head(model, x, y, steps):
    """Train the head, and leave the frozen body as it is."""
    # Batch norm moves by the mode and not by gradients. After train(), which reaches
    # all layers.
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    losses = []
    model.train()
    model.body.eval()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def features(body, x, batch_size):
    """What a body makes of all rows, to be stored."""
    # Both switches, and the mode back. Without the graph only the features stay in
    # memory.
    training = body.training
    body.eval()
    with torch.no_grad():
        found = torch.cat([body(rows) for rows in x.split(batch_size)])
    body.train(training)
    return found


def groups(body, head, body_lr, head_lr):
    """The parameter groups for an optimizer."""
    # == and `in` of a list compare numbers; a set of tensors asks which object it is.
    shared = set(body.parameters())
    rest = [p for p in head.parameters() if p not in shared]
    return [
        {"params": [p for p in parameters if p.requires_grad], "lr": lr}
        for parameters, lr in ((body.parameters(), body_lr), (rest, head_lr))
    ]
