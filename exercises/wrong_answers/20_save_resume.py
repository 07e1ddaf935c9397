"""Plausible wrong answers to the exercises of lesson 20, each with the thought behind
it."""

import copy
import os
import shutil

import torch


def best_weights_1(model, one_epoch, epochs):
    """A copy of the dictionary."""
    best, smallest = None, float("inf")
    for _ in range(epochs):
        loss = one_epoch(model)
        if loss < smallest:
            best, smallest = dict(model.state_dict()), loss
    return best


def best_weights_2(model, one_epoch, epochs):
    """Copy once, at the end: copies are expensive."""
    best, smallest = None, float("inf")
    for _ in range(epochs):
        loss = one_epoch(model)
        if loss < smallest:
            best, smallest = model.state_dict(), loss
    return copy.deepcopy(best)


def best_weights_3(model, one_epoch, epochs):
    """Weights are parameters."""
    best, smallest = None, float("inf")
    for _ in range(epochs):
        loss = one_epoch(model)
        if loss < smallest:
            best = {name: p.detach().clone() for name, p in model.named_parameters()}
            smallest = loss
    return best


def best_weights_4(model, one_epoch, epochs):
    """Detached from the graph, and so from the model."""
    best, smallest = None, float("inf")
    for _ in range(epochs):
        loss = one_epoch(model)
        if loss < smallest:
            best = {
                name: tensor.detach() for name, tensor in model.state_dict().items()
            }
            smallest = loss
    return best


def best_weights_5(model, one_epoch, epochs):
    """Of equal losses the one that has trained longer."""
    best, smallest = None, float("inf")
    for _ in range(epochs):
        loss = one_epoch(model)
        if loss <= smallest:
            best, smallest = copy.deepcopy(model.state_dict()), loss
    return best


def best_weights_6(model, one_epoch, epochs):
    """Better than the epoch before."""
    best, before = None, float("inf")
    for _ in range(epochs):
        loss = one_epoch(model)
        if loss < before:
            best = copy.deepcopy(model.state_dict())
        before = loss
    return best


def best_weights_7(model, one_epoch, epochs):
    """The best weights belong into the model."""
    best, smallest = None, float("inf")
    for _ in range(epochs):
        loss = one_epoch(model)
        if loss < smallest:
            best, smallest = copy.deepcopy(model.state_dict()), loss
    model.load_state_dict(best)
    return best


def best_weights_8(model, one_epoch, epochs):
    """Train, and look at what is best: the weights before the epoch."""
    best, smallest = None, float("inf")
    for _ in range(epochs):
        state = copy.deepcopy(model.state_dict())
        loss = one_epoch(model)
        if loss < smallest:
            best, smallest = state, loss
    return best


def save_1(state, path):
    """torch.save writes files."""
    torch.save(state, path)


def save_2(state, path):
    """What was written to the disk is safe."""
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def save_3(state, path):
    """A copy of the older one is put back if writing fails."""
    older = path.with_suffix(".older")
    if path.exists():
        shutil.copyfile(path, older)
    try:
        torch.save(state, path)
    except OSError:
        path.unlink()
        if older.exists():
            older.replace(path)
        raise


def save_4(state, path):
    """Beside it first, and then copied over it."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    shutil.copyfile(new, path)


def save_5(state, path):
    """The name must be free before another file can have it."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    path.unlink(missing_ok=True)
    new.rename(path)


def save_6(state, path):
    """Beside it, then replaced, whatever happens: nothing is left over."""
    new = path.with_suffix(".new")
    try:
        with new.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    finally:
        new.replace(path)


def save_7(state, path):
    """Beside it, then replaced: what was written is on the disk."""
    new = path.with_suffix(".new")
    torch.save(state, new)
    new.replace(path)


def save_8(state, path):
    """First in its place, then on the disk."""
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        torch.save(state, file)
    new.replace(path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def save_9(state, path):
    """The older one is safe, so a failure need not end the run."""
    new = path.with_suffix(".new")
    try:
        with new.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return
    new.replace(path)


def checkpoint_1(model, optimizer, generator):
    """The four states, as they are handed out."""
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "random": torch.get_rng_state(),
    }


def checkpoint_2(model, optimizer, generator):
    """The weights are copied; the optimizer's state is its own."""
    return {
        "model": copy.deepcopy(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "generator": generator.get_state(),
        "random": torch.get_rng_state(),
    }


def checkpoint_3(model, optimizer, generator):
    """The seeds say which random numbers come."""
    return {
        "model": copy.deepcopy(model.state_dict()),
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "generator": torch.Generator()
        .manual_seed(generator.initial_seed())
        .get_state(),
        "random": torch.Generator().manual_seed(torch.initial_seed()).get_state(),
    }


def checkpoint_4(model, optimizer, generator):
    """There is one generator, and its state."""
    return {
        "model": copy.deepcopy(model.state_dict()),
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "generator": generator.get_state(),
        "random": generator.get_state(),
    }


def checkpoint_5(model, optimizer, generator):
    """The parameters are what is trained."""
    return {
        "model": {name: p.detach().clone() for name, p in model.named_parameters()},
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "generator": generator.get_state(),
        "random": torch.get_rng_state(),
    }


def checkpoint_6(model, optimizer, generator):
    """Whole objects: then nothing can be missing."""
    return {
        "model": copy.deepcopy(model),
        "optimizer": copy.deepcopy(optimizer),
        "generator": generator.get_state(),
        "random": torch.get_rng_state(),
    }


def checkpoint_7(model, optimizer, generator):
    """Of the optimizer the rate and the other settings."""
    settings = copy.deepcopy(optimizer.state_dict()["param_groups"])
    return {
        "model": copy.deepcopy(model.state_dict()),
        "optimizer": {"state": {}, "param_groups": settings},
        "generator": generator.get_state(),
        "random": torch.get_rng_state(),
    }


def checkpoint_8(model, optimizer, generator):
    """A new seed here, which who resumes can set as well."""
    torch.manual_seed(0)
    return {
        "model": copy.deepcopy(model.state_dict()),
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "generator": generator.get_state(),
        "random": torch.get_rng_state(),
    }


def checkpoint_9(model, optimizer, generator):
    """The seeds themselves."""
    return {
        "model": copy.deepcopy(model.state_dict()),
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "generator": generator.initial_seed(),
        "random": torch.initial_seed(),
    }


def load_matching_1(model, state):
    """strict=False loads what fits."""
    own = model.state_dict()
    fits = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    return sorted(model.load_state_dict(fits, strict=False).missing_keys)


def load_matching_2(model, state):
    """copy_ raises where it does not fit."""
    own = model.state_dict()
    left = own.keys() ^ state.keys()
    for name in own.keys() & state.keys():
        try:
            own[name].copy_(state[name])
        except RuntimeError:
            left.add(name)
    return sorted(left)


def load_matching_3(model, state):
    """As many numbers are the same weights."""
    own = model.state_dict()
    left = own.keys() ^ state.keys()
    for name in own.keys() & state.keys():
        if own[name].numel() == state[name].numel():
            own[name].copy_(state[name].view_as(own[name]))
        else:
            left.add(name)
    return sorted(left)


def load_matching_4(model, state):
    """Take out what does not fit, and load the rest."""
    own, other = model.state_dict(), []
    for name in list(state):
        if name in own and state[name].shape != own[name].shape:
            other.append(name)
            del state[name]
    found = model.load_state_dict(state, strict=False)
    return sorted({*found.missing_keys, *found.unexpected_keys, *other})


def load_matching_5(model, state):
    """Three lists, one after the other, of which a name may be in two."""
    own = model.state_dict()
    other = [k for k, v in state.items() if k in own and v.shape != own[k].shape]
    fits = {k: v for k, v in state.items() if k not in other}
    found = model.load_state_dict(fits, strict=False)
    return sorted([*found.missing_keys, *found.unexpected_keys, *other])


def load_matching_6(model, state):
    """Set .data, which autograd does not see."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    left = tensors.keys() ^ state.keys()
    for name in tensors.keys() & state.keys():
        if tensors[name].shape == state[name].shape:
            tensors[name].data = state[name].to(tensors[name].dtype)
        else:
            left.add(name)
    return sorted(left)


def load_matching_7(model, state):
    """Only parameters are loaded."""
    own, state = dict(model.named_parameters()), dict(state)
    left = own.keys() ^ state.keys()
    for name in own.keys() & state.keys():
        if own[name].shape == state[name].shape:
            own[name].detach().copy_(state[name])
        else:
            left.add(name)
    return sorted(left)


def load_matching_8(model, state):
    """All or nothing: where one shape differs, the file belongs to another model."""
    own = model.state_dict()
    left = own.keys() ^ state.keys()
    other = {k for k in own.keys() & state.keys() if own[k].shape != state[k].shape}
    if not other:
        model.load_state_dict(state, strict=False)
    return sorted(left | other)


def load_matching_9(model, state):
    """In the order of the model, and then of the dictionary."""
    own = model.state_dict()
    fits = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    model.load_state_dict(fits, strict=False)
    return [name for name in {**own, **state} if name not in fits]
