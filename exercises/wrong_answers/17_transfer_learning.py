"""Plausible wrong answers to the exercises of lesson 17, and the thoughts behind."""

import torch
import torch.nn.functional as F
from torch import nn


def freeze_1(module):
    """An attribute of each layer, not of the model alone."""
    for layer in module.modules():
        layer.requires_grad = False
    return module


def freeze_2(module):
    """What is in evaluation mode does not learn."""
    return module.eval()


def freeze_3(module):
    """The weights are what is trained."""
    for name, parameter in module.named_parameters():
        if name.endswith("weight"):
            parameter.requires_grad_(False)
    return module


def freeze_4(module):
    """A detached tensor has no graph."""
    for parameter in module.parameters():
        parameter = parameter.detach()
    return module


def freeze_5(module):
    """Nothing in it is recorded, so nothing in it gets a gradient."""
    forward = module.forward

    def unrecorded(*arguments):
        with torch.no_grad():
            return forward(*arguments)

    module.requires_grad_(False)
    module.forward = unrecorded
    return module


def freeze_6(module):
    """One layer after the other."""
    for layer in module.children():
        layer.requires_grad_(False)
    return module


def freeze_7(module):
    """It is done to the module, so there is nothing to return."""
    module.requires_grad_(False)


def freeze_8(module):
    """Parameters, without those of the modules inside, which have their own."""
    for layer in (module, *module.children()):
        for parameter in layer.parameters(recurse=False):
            parameter.requires_grad_(False)
    return module


def freeze_9(module):
    """No number of it changes if every gradient is made 0."""
    for parameter in module.parameters():
        parameter.register_hook(torch.zeros_like)
    return module


def trained(model, forward, y, steps, before=lambda: None):
    """The loop, around what computes the logits."""
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        before()
        optimizer.zero_grad()
        loss = F.cross_entropy(forward(), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_head_1(model, x, y, steps):
    """First the exception, then the rule."""
    model.body.eval()
    model.train()
    return trained(model, lambda: model(x), y, steps)


def train_head_2(model, x, y, steps):
    """What is frozen once more is frozen."""
    model.body.requires_grad_(False)
    model.train()
    return trained(model, lambda: model(x), y, steps)


def train_head_3(model, x, y, steps):
    """The body without a graph."""
    model.train()

    def forward():
        with torch.no_grad():
            features = model.body(x)
        return model.head(features)

    return trained(model, forward, y, steps)


def train_head_4(model, x, y, steps):
    """Put the buffers back afterwards."""
    before = {name: buffer.clone() for name, buffer in model.body.named_buffers()}
    model.train()
    losses = trained(model, lambda: model(x), y, steps)
    for name, buffer in model.body.named_buffers():
        buffer.copy_(before[name])
    return losses


def train_head_5(model, x, y, steps):
    """A momentum of 0: the running numbers do not move."""
    for layer in model.body.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.momentum = 0.0
    model.train()
    return trained(model, lambda: model(x), y, steps)


def train_head_6(model, x, y, steps):
    """Only batch norm is different in training."""
    model.train()
    for layer in model.body.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.eval()
    return trained(model, lambda: model(x), y, steps)


def train_head_7(model, x, y, steps):
    """Evaluation mode before, training mode in each step."""
    model.eval()
    return trained(model, lambda: model(x), y, steps, before=model.train)


def train_head_8(model, x, y, steps):
    """Nothing changes in evaluation mode; and an optimizer for what is trained."""
    model.eval()
    optimizer = torch.optim.SGD(model.body.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_head_9(model, x, y, steps):
    """A small step for the body does no harm."""
    model.requires_grad_(True).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def features_1(body, x, batch_size):
    """Nothing recorded, so nothing dropped."""
    with torch.no_grad():
        return torch.cat([body(rows) for rows in x.split(batch_size)])


def features_2(body, x, batch_size):
    """Evaluation mode is enough."""
    training = body.training
    body.eval()
    found = torch.cat([body(rows) for rows in x.split(batch_size)])
    body.train(training)
    return found


def features_3(body, x, batch_size):
    """Detached at the end, it has no graph."""
    training = body.training
    body.eval()
    found = torch.cat([body(rows) for rows in x.split(batch_size)]).detach()
    body.train(training)
    return found


def features_4(body, x, batch_size):
    """Back to training, where it goes on."""
    body.eval()
    with torch.no_grad():
        found = torch.cat([body(rows) for rows in x.split(batch_size)])
    body.train()
    return found


def features_5(body, x, batch_size):
    """As many parts as there are batches, of one size."""
    training = body.training
    body.eval()
    with torch.no_grad():
        parts = x.chunk(-(-len(x) // batch_size))
        found = torch.cat([body(rows) for rows in parts])
    body.train(training)
    return found


def features_6(body, x, batch_size):
    """In evaluation mode rows do not depend on each other: all at once."""
    training = body.training
    body.eval()
    with torch.no_grad():
        found = body(x)
    body.train(training)
    return found


def features_7(body, x, batch_size):
    """A head wants a row of numbers for each picture."""
    training = body.training
    body.eval()
    with torch.no_grad():
        found = torch.cat([body(rows).flatten(1) for rows in x.split(batch_size)])
    body.train(training)
    return found


def features_8(body, x, batch_size):
    """Frozen: then there is no graph."""
    training = body.training
    body.requires_grad_(False).eval()
    found = torch.cat([body(rows) for rows in x.split(batch_size)])
    body.train(training)
    return found


def features_9(body, x, batch_size):
    """Inference mode is no_grad, and faster."""
    training = body.training
    body.eval()
    with torch.inference_mode():
        found = torch.cat([body(rows) for rows in x.split(batch_size)])
    body.train(training)
    return found


def groups_1(body, head, body_lr, head_lr):
    """As in the lesson: an optimizer passes over what is frozen."""
    return [
        {"params": list(body.parameters()), "lr": body_lr},
        {"params": list(head.parameters()), "lr": head_lr},
    ]


def trains(module):
    """The parameters of a module that are not frozen."""
    return [p for p in module.parameters() if p.requires_grad]


def groups_2(body, head, body_lr, head_lr):
    """What requires a gradient in the one, and in the other."""
    return [
        {"params": trains(body), "lr": body_lr},
        {"params": trains(head), "lr": head_lr},
    ]


def groups_3(body, head, body_lr, head_lr):
    """What is in both is also in the head, which is new."""
    new = set(head.parameters())
    return [
        {"params": [p for p in trains(body) if p not in new], "lr": body_lr},
        {"params": trains(head), "lr": head_lr},
    ]


def groups_4(body, head, body_lr, head_lr):
    """Two parameters are the same if all their numbers are."""
    old = trains(body)
    new = [p for p in trains(head) if not any(torch.equal(p, q) for q in old)]
    return [{"params": old, "lr": body_lr}, {"params": new, "lr": head_lr}]


def groups_5(body, head, body_lr, head_lr):
    """A parameter is known by its name."""
    old = dict(body.named_parameters())
    new = [
        p for name, p in head.named_parameters() if name not in old and p.requires_grad
    ]
    return [{"params": trains(body), "lr": body_lr}, {"params": new, "lr": head_lr}]


def groups_6(body, head, body_lr, head_lr):
    """A body is frozen or it is not: its first parameter tells."""
    old = list(body.parameters()) if next(body.parameters()).requires_grad else []
    new = [p for p in trains(head) if not any(p is q for q in body.parameters())]
    return [{"params": old, "lr": body_lr}, {"params": new, "lr": head_lr}]


def groups_7(body, head, body_lr, head_lr):
    """The new layers need the small steps."""
    new = [p for p in trains(head) if not any(p is q for q in body.parameters())]
    return [{"params": trains(body), "lr": head_lr}, {"params": new, "lr": body_lr}]


def groups_8(body, head, body_lr, head_lr):
    """Layer by layer."""
    layers = list(body) if isinstance(body, nn.Sequential) else [body]
    old = [p for layer in layers for p in trains(layer)]
    new = [p for p in trains(head) if not any(p is q for q in old)]
    return [{"params": old, "lr": body_lr}, {"params": new, "lr": head_lr}]


def groups_9(body, head, body_lr, head_lr):
    """What is in both is in neither: it would be moved twice."""
    old, new = set(body.parameters()), set(head.parameters())
    return [
        {"params": [p for p in trains(body) if p not in new], "lr": body_lr},
        {"params": [p for p in trains(head) if p not in old], "lr": head_lr},
    ]
