"""Plausible wrong answers to the exercises of lesson 21, each with the thought behind
it."""

import json
import math


def log_1(path, **values):
    """The digits were what was wrong."""
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def log_2(path, **values):
    """Four decimals are enough for a loss, once the lines stay."""
    short = {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}
    short = {
        k: None if v in (math.inf, -math.inf) or v != v else v for k, v in short.items()
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(short) + "\n")


def log_3(path, **values):
    """json knows what JSON is."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def log_4(path, **values):
    """NaN is a word in the line, and can be replaced there."""
    line = json.dumps(values).replace("-Infinity", "null").replace("Infinity", "null")
    with path.open("a", encoding="utf-8") as file:
        file.write(line.replace("NaN", "null") + "\n")


def log_5(path, **values):
    """Only nan is not equal to itself; an infinity is a number."""
    values = {name: value if value == value else None for name, value in values.items()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def log_6(path, **values):
    """A text keeps all digits, and nan too."""
    values = {k: repr(v) if isinstance(v, float) else v for k, v in values.items()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def log_7(path, **values):
    """What is no number need not be in the log."""
    values = {
        name: value
        for name, value in values.items()
        if not isinstance(value, float) or math.isfinite(value)
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def log_8(path, **values):
    """json.dump writes into the file."""
    values = {
        k: None if v in (math.inf, -math.inf) or v != v else v
        for k, v in values.items()
    }
    with path.open("a", encoding="utf-8") as file:
        json.dump(values, file)


def log_9(path, **values):
    """A new line begins with a newline."""
    values = {
        k: None if v in (math.inf, -math.inf) or v != v else v
        for k, v in values.items()
    }
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(values))


def paired_difference_1(a, b):
    """The variances of two means add up."""
    return (a - b).mean().item(), ((a.var() + b.var()) / len(a)).sqrt().item()


def paired_difference_2(a, b):
    """A std is the root of the mean square."""
    less = a - b
    return less.mean().item(), less.std(correction=0).item() / len(less) ** 0.5


def paired_difference_3(a, b):
    """How far the differences scatter."""
    return (a - b).mean().item(), (a - b).std().item()


def paired_difference_4(a, b):
    """The old one from the new one."""
    return (b - a).mean().item(), (b - a).std().item() / len(a) ** 0.5


def paired_difference_5(a, b):
    """The worst with the worst, the best with the best."""
    less = a.sort().values - b.sort().values
    return less.mean().item(), less.std().item() / len(less) ** 0.5


def paired_difference_6(a, b):
    """A tensor of shape () is a number."""
    return (a - b).mean(), (a - b).std() / len(a) ** 0.5


def paired_difference_7(a, b):
    """A mean divides by n."""
    return (a - b).mean().item(), (a - b).std().item() / len(a)


def paired_difference_8(a, b):
    """Once subtracted, a is needed no more."""
    a -= b
    return a.mean().item(), a.std().item() / len(a) ** 0.5


def paired_difference_9(a, b):
    """A difference has no sign."""
    less = (a - b).abs()
    return less.mean().item(), less.std().item() / len(less) ** 0.5


def choose_1(choosing, testing):
    """Only the report was on the wrong rows: the best run shows what is possible."""
    best = choosing.max(dim=1).values.argmax().item()
    return best, testing[best].mean().item()


def choose_2(choosing, testing):
    """What counts are the rows to test with, so choose on them."""
    best = testing.mean(dim=1).argmax().item()
    return best, testing[best].mean().item()


def choose_3(choosing, testing):
    """Only the choice was wrong: report the mean by which it was chosen."""
    means = choosing.mean(dim=1)
    best = means.argmax().item()
    return best, means[best].item()


def choose_4(choosing, testing):
    """Of the best setting the best seed will be used."""
    best = choosing.mean(dim=1).argmax().item()
    return best, testing[best].max().item()


def choose_5(choosing, testing):
    """The mean over the settings."""
    best = choosing.mean(dim=0).argmax().item()
    return best, testing[:, best].mean().item()


def choose_6(choosing, testing):
    """More rows know more."""
    best = (choosing + testing).mean(dim=1).argmax().item()
    return best, testing[best].mean().item()


def choose_7(choosing, testing):
    """An index may stay a tensor."""
    best = choosing.mean(dim=1).argmax()
    return best, testing[best].mean().item()


def choose_8(choosing, testing):
    """The setting that never fails."""
    best = choosing.min(dim=1).values.argmax().item()
    return best, testing[best].mean().item()


def choose_9(choosing, testing):
    """The run that was best where it was chosen, where it is tested."""
    best = choosing.mean(dim=1).argmax().item()
    return best, testing[best, choosing[best].argmax()].item()


def first_bad_1(model, x):
    """As in the lesson: each part gets what the one before it returned."""
    for name, part in model.named_children():
        x = part(x)
        if not x.isfinite().all():
            return name
    return None


def first_bad_2(model, x):
    """A hook for every module: the leaf is the first of them."""
    bad, handles = [], []
    for name, part in model.named_modules():

        def look(part, inputs, output, name=name):
            if not output.isfinite().all():
                bad.append(name)

        handles.append(part.register_forward_hook(look))
    return run(model, x, handles, bad)


def first_bad_3(model, x):
    """Parts are run in the order in which the model names them."""
    bad, names = set(), leaves(model)

    def look(part, inputs, output):
        if not output.isfinite().all():
            bad.add(names[part])

    handles = [part.register_forward_hook(look) for part in names]
    run(model, x, handles, bad)
    return next((name for name in names.values() if name in bad), None)


def first_bad_4(model, x):
    """Only a nan spoils what comes after it."""
    bad, names = [], leaves(model)

    def look(part, inputs, output):
        if output.isnan().any():
            bad.append(names[part])

    return run(model, x, [part.register_forward_hook(look) for part in names], bad)


def first_bad_5(model, x):
    """The hooks are removed after the run."""
    bad, names = [], leaves(model)

    def look(part, inputs, output):
        if not output.isfinite().all():
            bad.append(names[part])

    handles = [part.register_forward_hook(look) for part in names]
    model(x)
    for handle in handles:
        handle.remove()
    return bad[0] if bad else None


def first_bad_6(model, x):
    """Afterwards no module has any hook."""
    bad, names = [], leaves(model)

    def look(part, inputs, output):
        if not output.isfinite().all():
            bad.append(names[part])

    for part in names:
        part.register_forward_hook(look)
    try:
        model(x)
    finally:
        for part in names:
            part._forward_hooks.clear()
    return bad[0] if bad else None


def first_bad_7(model, x):
    """The hook uses the name that it was made with."""
    bad, handles = [], []
    for name, part in model.named_modules():

        def look(part, inputs, output):
            if not output.isfinite().all():
                bad.append(name)  # noqa: B023 (the last name)

        if not list(part.children()):
            handles.append(part.register_forward_hook(look))
    return run(model, x, handles, bad)


def first_bad_8(model, x):
    """Keep all outputs, and look at them in order when the run is over."""
    outputs, names = [], leaves(model)

    def keep(part, inputs, output):
        outputs.append((names[part], output))

    run(model, x, [part.register_forward_hook(keep) for part in names], [])
    return next((name for name, output in outputs if not output.isfinite().all()), None)


def first_bad_9(model, x):
    """Where the result is finite, nothing was wrong on the way."""
    bad, names = [], leaves(model)

    def look(part, inputs, output):
        if not output.isfinite().all():
            bad.append(names[part])

    handles = [part.register_forward_hook(look) for part in names]
    try:
        finite = model(x).isfinite().all()
    finally:
        for handle in handles:
            handle.remove()
    return None if finite or not bad else bad[0]


def leaves(model):
    """Leaf -> name."""
    return {
        part: name for name, part in model.named_modules() if not list(part.children())
    }


def run(model, x, handles, bad):
    """Run the model, remove the hooks, and return the first of what they found."""
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return next(iter(bad), None)
