"""Plausible wrong answers to the exercises of lesson 06, each with the thought behind
it."""

import torch
from torch import nn

mse_loss = nn.functional.mse_loss


def epochs_needed_1(model, optimizer, x, y, tolerance, most):
    """No zero_grad: the optimizer knows."""
    for epoch in range(most):
        loss = mse_loss(model(x), y)
        if loss.item() <= tolerance:
            return epoch
        loss.backward()
        optimizer.step()
    return most


def epochs_needed_2(model, optimizer, x, y, tolerance, most):
    """Train, then look: one epoch is always made."""
    for epoch in range(1, most + 1):
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        if loss.item() <= tolerance:
            return epoch
    return most


def epochs_needed_3(model, optimizer, x, y, tolerance, most):
    """Step with the gradient of the epoch before."""
    for epoch in range(most):
        loss = mse_loss(model(x), y)
        if loss.item() <= tolerance:
            return epoch
        optimizer.step()
        optimizer.zero_grad()
        loss.backward()
    return most


def deep_1(width, depth):
    """One layer, used depth times."""
    layer = nn.Linear(width, width)
    return nn.Sequential(*[layer] * depth, nn.Linear(width, 1))


def deep_2(width, depth):
    """The last layer is one of the depth layers."""
    layers = [nn.Linear(width, width) for _ in range(depth - 1)]
    return nn.Sequential(*layers, nn.Linear(width, 1))


def deep_3(width, depth):
    """The layers are known to the module now; forward stays as short as it can be."""

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
            self.last = nn.Linear(width, 1)

        def forward(self, x):
            return self.last(self.hidden[0](x))

    return Deep()


def epochs_needed_4(model, optimizer, x, y, tolerance, most):
    """Make the step, and look at the loss afterwards: it is there anyway."""
    for epoch in range(most):
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        if loss.item() <= tolerance:
            return epoch
    return most


def epochs_needed_5(model, optimizer, x, y, tolerance, most):
    """Under the tolerance."""
    for epoch in range(most):
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        if loss.item() < tolerance:
            return epoch
        loss.backward()
        optimizer.step()
    return most


def deep_4(width, depth):
    """Sequential makes a network of any layers."""
    layers = [nn.Linear(width, width) for _ in range(depth)]
    return nn.Sequential(*layers, nn.Linear(width, 1))


def deep_5(width, depth):
    """A ModuleList, with depth layers in it."""

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden = nn.ModuleList(depth * [nn.Linear(width, width)])
            self.last = nn.Linear(width, 1)

        def forward(self, x):
            for layer in self.hidden:
                x = torch.tanh(layer(x))
            return self.last(x)

    return Deep()


def two_layers_1(hidden):
    """Sequential is shorter."""
    return nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, 1))


class TwoLayers(nn.Module):
    """What most of the wrong models share."""

    def __init__(self, hidden):
        super().__init__()
        self.first = nn.Linear(1, hidden)
        self.second = nn.Linear(hidden, 1)


def two_layers_9(hidden):
    """A class of my own, and the rest is Sequential's."""

    class Network(nn.Sequential):
        pass

    return Network(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, 1))


def two_layers_2(hidden):
    """Two layers, so two calls."""

    class Straight(TwoLayers):
        def forward(self, x):
            return self.second(self.first(x))

    return Straight(hidden)


def two_layers_3(hidden):
    """An activation belongs behind each layer."""

    class Twice(TwoLayers):
        def forward(self, x):
            return torch.tanh(self.second(torch.tanh(self.first(x))))

    return Twice(hidden)


def two_layers_4(hidden):
    """Layers are kept in a list."""

    class InAList(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(1, hidden), nn.Linear(hidden, 1)]

        def forward(self, x):
            return self.layers[1](torch.tanh(self.layers[0](x)))

    return InAList()


def two_layers_5(hidden):
    """The Network of the chapter."""

    class Network(TwoLayers):
        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))

    return Network(8)


def two_layers_6(hidden):
    """The layers where they are used."""

    class InForward(nn.Module):
        def forward(self, x):
            return nn.Linear(hidden, 1)(torch.tanh(nn.Linear(1, hidden)(x)))

    return InForward()


def two_layers_7(hidden):
    """The class is the model."""

    class Network(TwoLayers):
        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))

    return Network


def two_layers_8(hidden):
    """Any activation will do."""

    class Network(TwoLayers):
        def forward(self, x):
            return self.second(torch.relu(self.first(x)))

    return Network(hidden)


def loaded_1(model, path):
    """Filled is ready."""
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model


def loaded_2(model, path):
    """A file of numbers is a file of numbers."""
    model.load_state_dict(torch.load(path, map_location="cpu"))
    return model.eval()


def loaded_3(model, path):
    """state_dict() is a dictionary, and a dictionary has update."""
    model.state_dict().update(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def loaded_4(model, path):
    """The file was written where it is read."""
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def loaded_5(model, path):
    """What is in the file is the model."""
    model = torch.load(path, map_location="cpu", weights_only=True)
    return model


def loaded_6(model, path):
    """Evaluation mode, without its brackets."""
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    model.eval  # noqa: B018
    return model


def loaded_7(model, path):
    """load_state_dict returns what it has loaded."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    return model.eval().load_state_dict(state)


def loaded_8(model, path):
    """weights_only stands in the way of old files."""
    state = torch.load(path, map_location="cpu", weights_only=False)
    model.load_state_dict(state)
    return model.eval()


def trained_1(model, optimizer, x, y, steps):
    """The reset was the mistake."""
    losses = []
    for _ in range(steps):
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def trained_2(model, optimizer, x, y, steps):
    """The shape was the mistake."""
    losses = []
    for _ in range(steps):
        loss = ((model(x).squeeze(1) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained_3(model, optimizer, x, y, steps):
    """Reset as soon as the gradient is there."""
    losses = []
    for _ in range(steps):
        loss = mse_loss(model(x), y[:, None])
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained_4(model, optimizer, x, y, steps):
    """y gets a second axis, in front."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((model(x) - y[None]) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained_5(model, optimizer, x, y, steps):
    """The loss after each step."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        mse_loss(model(x), y[:, None]).backward()
        optimizer.step()
        losses.append(mse_loss(model(x), y[:, None]).item())
    return losses


def trained_6(model, optimizer, x, y, steps):
    """Keep the losses as they are."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = mse_loss(model(x), y[:, None])
        loss.backward()
        optimizer.step()
        losses.append(loss)
    return losses


def trained_7(model, optimizer, x, y, steps):
    """y gets its second axis once, in place."""
    y.unsqueeze_(1)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained_8(model, optimizer, x, y, steps):
    """Reset once, before everything."""
    optimizer.zero_grad()
    losses = []
    for _ in range(steps):
        loss = mse_loss(model(x), y[:, None])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
