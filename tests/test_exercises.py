"""Every exercise fails unsolved and passes solved, and wrong answers are refused."""

import ast
import collections
import copy
import importlib.util
import itertools
import json
import os
import re
import shutil

import pytest
import torch
from helpers import (
    EXERCISES,
    LESSONS,
    ROOT,
    definitions,
    for_each,
    marks_for,
    torchvision_too_old,
)

FOLDER = ROOT / "exercises"
SOLUTIONS, WRONG_ANSWERS = FOLDER / "solutions", FOLDER / "wrong_answers"
NOT_WRITTEN = "not written yet: raise NotImplementedError still stands there"


def module(path):
    """A fresh copy of the module at path."""
    spec = importlib.util.spec_from_file_location(
        f"{path.parent.name}_{path.stem}", path
    )
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    return fresh


conftest = module(FOLDER / "conftest.py")
checks = {
    path: conftest.load(path.with_name(f"test_{path.name}")) for path in EXERCISES
}


def names_of_exercises(path):
    """The exercises of a file: what the checks beside it check."""
    found = definitions(path.with_name(f"test_{path.name}"))
    return [name.removeprefix("test_") for name in found if name.startswith("test_")]


def for_each_exercise(rows):
    """Parametrise by (path, name) or (path, name, wrong)."""
    marked = [
        pytest.param(
            *row, id="-".join([row[0].stem, *row[1:]]), marks=marks_for(row[0])
        )
        for row in rows
    ]
    return pytest.mark.parametrize(("path", "name", "wrong")[: len(rows[0])], marked)


ALL = [(path, name) for path in EXERCISES for name in names_of_exercises(path)]
WRONG = [
    (path, name, wrong)
    for path, name in ALL
    for wrong in definitions(WRONG_ANSWERS / path.name)
    if re.fullmatch(rf"{name}_\d", wrong)
]


def problem_found(path, name, find):
    """What the check of an exercise says of the function that find() returns."""
    return conftest.problem_of(getattr(checks[path], f"test_{name}"), find, path)


def handed_out(path):
    """{name: node} of a file of exercises; skips where somebody is solving it.

    Whoever solves an exercise does not break the course; but where the course itself is
    tested, in .ci/run and the like, the exercises must be as they are handed out.
    """
    try:
        found = definitions(path)
    except SyntaxError:
        found = {}
    if list(found) != names_of_exercises(path) and not os.environ.get("CI"):
        pytest.skip("solved, or being solved, here")
    assert list(found) == names_of_exercises(path)
    return found


def kind_and_subject(path, name):
    """The first paragraph of an exercise, taken apart: ('Mend', 'the mean of ...')."""
    first = ast.get_docstring(handed_out(path)[name]).split("\n\n")[0]
    kind, subject = " ".join(first.split()).split(": ", 1)
    return kind, subject


# What is handed out
def test_each_lesson_but_the_first_has_three_to_five_exercises():
    assert [path.name for path in EXERCISES] == [path.name for path in LESSONS[1:]]
    assert all(3 <= len(names_of_exercises(path)) <= 5 for path in EXERCISES)
    assert len(ALL) >= 32


@for_each(EXERCISES)
def test_a_file_holds_what_the_learner_writes_and_nothing_else(path):
    handed_out(path)
    source = path.read_text("utf-8")
    docstring, *body = ast.parse(source).body
    assert f"python -m pytest exercises/test_{path.name}" in docstring.value.value
    assert {type(node) for node in body} <= {
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
    }
    names = names_of_exercises(path)
    kinds = [kind_and_subject(path, name)[0] for name in names]
    assert set(kinds) == {"Write", "Mend"}
    numbers = [str(number) for number in range(1, len(names) + 1)]
    marked = re.findall(r"^# %% (\d)\. (\w+) \(.+\)\ndef (\w+)", source, re.MULTILINE)
    assert marked == list(zip(numbers, kinds, names, strict=True))


@for_each_exercise(ALL)
def test_an_exercise_says_what_it_gets_and_returns_and_has_an_example(path, name):
    docstring = ast.get_docstring(handed_out(path)[name])
    for word in (r"\bGets\b", r"\b[Rr]eturns\b", r"\bExample:\s"):
        assert re.search(word, docstring), word


@for_each_exercise(ALL)
def test_an_exercise_fails_as_shipped(path, name):
    kind, _ = kind_and_subject(path, name)
    said = problem_found(path, name, lambda: conftest.function(path, name))
    as_shipped = said == NOT_WRITTEN if kind == "Write" else said.startswith("given  ")

    if not as_shipped and not os.environ.get("CI"):
        pytest.skip("solved, or being solved, here")
    assert as_shipped


@for_each_exercise(ALL)
def test_a_check_has_a_hint_before_anything_can_fail(path, name):
    check = conftest.Check()
    with pytest.raises(Exception):  # noqa: B017 (the answer is none)
        getattr(checks[path], f"test_{name}")(None, check)
    assert len(check.hint) > 20 and check.given


# Solutions
@for_each_exercise(ALL)
def test_the_solution_passes(path, name):
    solution = SOLUTIONS / path.name
    assert list(definitions(solution)) == names_of_exercises(path)
    assert problem_found(path, name, lambda: conftest.function(solution, name)) == ""


@for_each(EXERCISES)
def test_no_solution_is_lines_of_the_lesson(path):
    source = (ROOT / "lessons" / path.name).read_text("utf-8")
    lesson = {line.strip() for line in ast.unparse(ast.parse(source)).splitlines()}
    for name in names_of_exercises(path):
        body = ast.unparse(definitions(SOLUTIONS / path.name)[name].body[1:])
        assert not {line.strip() for line in body.splitlines()} <= lesson, name


# Other ways to solve them; a number before a name is that of the one lesson meant
RIGHT = {
    "for_a_network": lambda images: images.movedim(3, 1).float() / 255,
    "blend": lambda a, b: (a & b) + ((a ^ b) >> 1),
    "row_shares": lambda x: (x.T / x.sum(dim=1)).T,
    "without_negatives": lambda x: x.clamp(min=0),
    "trained_weight": lambda x, target, lr, steps: float(
        sum(
            2 * lr * (x * target).mean() * (1 - 2 * lr * (x * x).mean()) ** k
            for k in range(steps)
        )
    ),
    "row_of_jacobian": lambda function, x, i: torch.autograd.functional.vjp(
        lambda x: function(x)[i], x
    )[1],
    "log_or_zero": lambda x: torch.where(x > 0, x, 1).log(),
    "layer_gradients": lambda x, w, dz: [dz @ w, (x.T @ dz).T, dz.T.sum(dim=1)],
    "hessian": lambda function, x: torch.autograd.functional.jacobian(
        torch.func.grad(function), x
    ),
    "two_layers": lambda hidden: type(
        "TwoLayers",
        (torch.nn.ModuleList,),
        {"forward": lambda self, x: self[1](self[0](x).tanh())},
    )([torch.nn.Linear(1, hidden), torch.nn.Linear(hidden, 1)]),
    "06 loaded": lambda model, path: (
        model.load_state_dict(
            torch.load(path, lambda storage, _: storage, weights_only=True)
        )
        and model.train(False)
    ),
    "trained": lambda model, optimizer, x, y, steps: [
        optimizer.step(
            lambda: [
                optimizer.zero_grad(),
                loss := (model(x).flatten() - y).square().mean(),
                loss.backward(),
            ][1]
        ).item()
        for _ in range(steps)
    ],
    "deep": lambda width, depth: torch.nn.Sequential(
        *(
            layer
            for _ in range(depth)
            for layer in (torch.nn.Linear(width, width), torch.nn.Tanh())
        ),
        torch.nn.Linear(width, 1),
    ),
    "model_error": lambda model, x, y: torch.nn.MSELoss()(model(x).squeeze(1), y),
    "accuracy": lambda logits, y: (
        ((logits.flatten() > 0) == (y == 1)).float().mean().item()
    ),
    "share": lambda n, i, workers: range(n * i // workers, n * (i + 1) // workers),
    "loaded": lambda picture: torch.from_numpy(picture).permute(2, 0, 1) / 255,
    "log_softmax_by_hand": lambda z: z - z.logsumexp(dim=1, keepdim=True),
    "cross_entropy_gradient": lambda x, y, w, b: [
        ((x @ w.T + b).softmax(dim=1) - torch.eye(len(b))[y]).T @ factor / len(y)
        for factor in (x, torch.ones_like(x[:, 0]))
    ],
    "block": lambda x: torch.where(x > 0, 2 * x, x),
    "he_normal": lambda rows, n, g: torch.empty(rows, n).normal_(
        0, (2 / n) ** 0.5, generator=g
    ),
    "mean_square_after": lambda layers, gain: 2 * (gain**2 / 2) ** layers,
    "dead_units": lambda layer, x: int((torch.relu(layer(x)).amax(dim=0) == 0).sum()),
    "dropper": lambda p: torch.nn.Sequential(torch.nn.Identity(), torch.nn.Dropout(p)),
    "running_values": lambda batches, momentum: (
        (layer := torch.nn.BatchNorm1d(len(batches[0].T), momentum=momentum)).to(
            batches[0].dtype
        )
        and [layer(batch) for batch in batches]
        and (layer.running_mean, layer.running_var)
    ),
    "predict": torch.no_grad()(lambda model, x: copy.deepcopy(model).eval()(x)),
    "13 evaluated": torch.no_grad()(
        lambda model, loss_function, x, y: loss_function(
            copy.deepcopy(model).eval()(x), y
        ).item()
    ),
    "wilson": lambda right, n, z=1.96: tuple(
        (right + z * (z / 2 + sign * (right * (n - right) / n + z**2 / 4) ** 0.5))
        / (n + z**2)
        for sign in (-1, 1)
    ),
    "early_stop": lambda losses, patience: next(
        i for i in range(len(losses)) if losses[i] == min(losses[i : i + patience + 1])
    ),
    "momentum_steps": lambda w, gradient, lr, momentum, steps: [
        now
        for _, now in itertools.accumulate(
            range(steps),
            lambda two, _: (
                two[1],
                two[1] - lr * gradient(two[1]) + momentum * (two[1] - two[0]),
            ),
            initial=(w, w),
        )
    ][1:],
    "rates": lambda epochs, batches, optimizer, scheduler: [
        (
            optimizer.param_groups[0]["lr"],
            [optimizer.step() for _ in range(batches)],
            scheduler.step(),
        )[0]
        for _ in range(epochs)
    ],
    "clipped": lambda gradients, bound: [
        gradient
        / max(1.0, torch.cat([g.flatten() for g in gradients]).norm().item() / bound)
        for gradient in gradients
    ],
    "predict_one": lambda model, picture: int(
        model(picture.view(1, 1, 8, 8))[0].argmax()
    ),
    "max_pool_by_loops": lambda x, k, stride: (
        x.unfold(2, k, stride).unfold(3, k, stride).amax(dim=(4, 5))
    ),
    "mean_without_dark_border": lambda x, k: torch.nn.functional.avg_pool2d(
        x, k, stride=1, padding=k // 2, count_include_pad=False
    ),
    "freeze": lambda module: (
        [p.requires_grad_(False) for p in module.parameters()] and module
    ),
    "groups": lambda body, head, *rates: [
        {"params": p, "lr": rates[name.startswith("1.")]}
        for name, p in torch.nn.Sequential(body, head).named_parameters()
        if p.requires_grad
    ],
    "heads": lambda x, number: torch.stack(x.chunk(number, dim=-1), dim=1),
    "look_back": lambda layer, x: layer(
        *(x, x, x),
        attn_mask=torch.nn.Transformer.generate_square_subsequent_mask(x.shape[1]),
        need_weights=False,
    )[0],
    "attention_with_padding": lambda q, k, v, real: (
        torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=real[:, None, :]
        )
    ),
    "rows_of_tokens": lambda layer, x, padding: torch.nn.utils.rnn.pad_sequence(
        [
            torch.zeros_like(row)
            if out.all()
            else torch.cat([layer(*[row[~out][None]] * 3)[0][0], 0 * row[out]])
            for row, out in zip(x, padding, strict=True)
        ],
        batch_first=True,
    ),
    "next_token_loss": lambda logits, tokens: torch.nn.functional.nll_loss(
        logits.log_softmax(2)[:, :-1].transpose(1, 2), tokens[:, 1:]
    ),
    "perplexity": lambda losses: (
        (sum(part.sum() for part in losses) / sum(map(len, losses))).exp().item()
    ),
    "with_temperature": lambda logits, temperature: (
        (logits - logits.amax(dim=1, keepdim=True))
        .div(temperature or 1e-12)
        .softmax(dim=1)
    ),
    "entropy_rate": lambda table: (
        torch.linalg.matrix_power(table, 4096) @ torch.special.entr(table).sum(dim=1)
    )[0].item(),
    "best_weights": lambda model, one_epoch, epochs: min(
        (
            one_epoch(model),
            i,
            {name: t.clone() for name, t in model.state_dict().items()},
        )
        for i in range(epochs)
    )[2],
    "checkpoint": lambda model, optimizer, generator: {
        "model": copy.deepcopy(model).state_dict(),
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "generator": generator.get_state(),
        "random": torch.default_generator.get_state(),
    },
    "load_matching": lambda model, state: sorted(
        (model.state_dict().keys() | state.keys())
        - {
            name
            for name, t in model.state_dict().items()
            if name in state
            and t.shape == state[name].shape
            and t.copy_(state[name]) is t
        }
    ),
    "log": lambda path, **values: (
        path.write_text(
            (path.read_text("utf-8") if path.exists() else "")
            + json.dumps(json.loads(json.dumps(values), parse_constant=lambda _: None))
            + "\n",
            "utf-8",
        )
        and None
    ),
    "paired_difference": lambda a, b: (
        (a.mean() - b.mean()).item(),
        (torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) * torch.stack([a, b]).cov())
        .sum()
        .item()
        ** 0.5
        / len(a) ** 0.5,
    ),
    "choose": lambda choosing, testing: next(
        (i, sum(testing[i].tolist()) / testing.shape[1])
        for i, mean in enumerate(choosing.mean(dim=1))
        if mean == choosing.mean(dim=1).max()
    ),
    "training_flops_of": lambda model, batch: (
        6 * batch * sum(p.numel() for p in model.parameters() if p.dim() == 2)
        - 2 * batch * next(p.numel() for p in model.parameters() if p.dim() == 2)
    ),
    "pairwise": torch.cdist,
    "accumulated": lambda model, loss_function, parts: (
        sum(
            torch.cat(
                [
                    len(y) * gradient.flatten()
                    for gradient in torch.autograd.grad(
                        loss_function(model(x), y), [*model.parameters()]
                    )
                ]
            )
            for x, y in parts
        )
        / sum(len(y) for _, y in parts)
    ),
    "collected": lambda parts: torch.cat(
        [torch.empty(0), *(part + 0 for part in parts)]
    ),
    "ring_bytes": lambda n, size, itemsize: [
        sum(
            len(torch.empty(size).tensor_split(n)[(r - k) % n])
            for k in range(2 * n - 2)
        )
        * itemsize
        for r in range(n)
    ],
    "loss_of_shard": lambda losses, ranks, total: (losses / (total / ranks)).sum(),
    "saved": lambda rank, parallel, optimizer, step, path: (
        None
        if rank
        else torch.save(
            {
                "step": step,
                "optimizer": optimizer.state_dict(),
                "model": parallel.module.state_dict(),
            },
            f"{path}.new",
        )
        or os.replace(f"{path}.new", path)
    ),
}


def another(path, name):
    """The other way to solve an exercise, if there is one."""
    return RIGHT.get(f"{path.stem[:2]} {name}", RIGHT.get(name))


@for_each_exercise([case for case in ALL if another(*case)])
def test_another_right_answer_is_accepted(path, name):
    answer = another(path, name)
    assert problem_found(path, name, lambda: answer) == ""


# Wrong answers
@for_each_exercise(ALL)
def test_at_least_two_wrong_answers_are_kept(path, name):
    assert sum(case[:2] == (path, name) for case in WRONG) >= 2


@for_each_exercise(WRONG)
def test_a_wrong_answer_is_refused_in_words_that_help(path, name, wrong):
    answer = conftest.function(WRONG_ANSWERS / path.name, wrong)
    assert answer.__doc__, "the thought behind it"
    said = problem_found(path, name, lambda: answer)
    assert re.fullmatch(
        r"given      .+\ncame back  .+\nexpected   .+\nso         .+", said
    )
    assert len(said) < 1200


def test_no_wrong_answer_is_without_its_exercise():
    kept = [
        name for path in EXERCISES for name in definitions(WRONG_ANSWERS / path.name)
    ]
    assert len([name for name in kept if re.search(r"_\d$", name)]) == len(WRONG)


def test_an_exception_says_what_was_given_and_where_it_was_raised():
    path = EXERCISES[0]
    code = compile(
        "\ndef blend(a, b):\n    return a // 0 + {}['key']", str(path), "exec"
    )
    space = {}
    exec(code, space)
    said = problem_found(path, "blend", lambda: space["blend"])
    assert re.match(
        r"given      \[\[0, 200.+\ncame back  nothing, but 02_tensors.py, line 3: ",
        said,
    )
    said = problem_found(path, "without_negatives", lambda: str)
    assert said.startswith(
        "given      [-1.0, 2.0]\ncame back  'tensor([-1., 2.])'\nexpected"
    )
    assert said.endswith("so         a str came back, not a tensor")


def test_the_words_name_the_first_thing_that_is_wrong():
    one, two = torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0, 1], [2, 4]])
    assert conftest.difference(one, one.clone()) == ""
    for found, expected, words in (
        (two, one, "1 of 4 differ, first at [1, 1]: 4 came back, not 3"),
        (one.flatten(), one, "shape (4,) came back, not (2, 2)"),
        ((one, 1), (one, one), "at [1]: an int came back, not a tensor"),
        (
            (one, two),
            (one, one),
            "at [1]: 1 of 4 differ, first at [1, 1]: 4 came back, not 3",
        ),
        ([1, 2], [1], "2 came back, not 1"),
        (1, 1.0, "an int came back, not a float"),
        (1.0, float("inf"), "they differ"),
        (float("nan"), 1.0, "they differ"),
        (0.1 + 0.2, 0.3, ""),
        (
            one + 2e-5,
            one + 0.0,
            "4 of 4 differ, first at [0, 0]: 2e-05 came back, not 0",
        ),
        (None, one, "None came back, not a tensor"),
        (
            torch.nn.Parameter(one.float()),
            one.float(),
            "a Parameter came back, not a tensor",
        ),
    ):
        assert conftest.difference(found, expected) == words
    assert "torch.float32" in conftest.difference(one.float(), one)
    assert conftest.short(torch.zeros(100, 100)).count("0") < 30


# What the pages say of them
@for_each(EXERCISES)
def test_a_chapter_lists_its_exercises(path):
    chapter = ROOT / "lessons" / f"{path.stem}.md"
    listed = chapter.read_text("utf-8").split("\n## Solve it\n")[1]
    assert f"python -m pytest exercises/test_{path.name}" in listed
    items = re.findall(r"^- (.+(?:\n  .+)*)", listed, re.MULTILINE)
    for item, name in zip(items, names_of_exercises(path), strict=True):
        kind, subject = kind_and_subject(path, name)
        assert " ".join(item.split()).startswith(f"{kind} `{name}`: {subject}")


@for_each(EXERCISES)
def test_the_page_for_teachers_says_what_each_exercise_tests(path):
    teachers = (FOLDER / "README.md").read_text("utf-8").split("\n## For teachers\n")[1]
    row = re.search(rf"^\| {path.stem[:2]} \| (.+) \|$", teachers, re.MULTILINE)[1]
    assert re.findall(r"\(`(\w+)`\)", row) == names_of_exercises(path)


# What pytest prints
@pytest.fixture
def exercises_run(monkeypatch, capsys):
    """Run pytest in this process as a learner would: (status, what it printed)."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(*arguments):
        options = [
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            "--import-mode=importlib",
        ]
        status = pytest.main([*options, *map(str, arguments)])
        return status, "".join(capsys.readouterr())

    return run


@torchvision_too_old
def test_pytest_exercises_shows_what_is_solved_by_lesson_and_part(exercises_run):
    status, printed = exercises_run(FOLDER)
    rows = re.findall(r"^  (\w+) +([#-]+) +(\d+) of (\d+)$", printed, re.MULTILINE)
    sizes = collections.Counter(path.stem for path, _ in ALL)
    assert [(stem, len(marks), int(size)) for stem, marks, _, size in rows] == [
        (stem, size, size) for stem, size in sizes.items()
    ]
    assert all(marks.count("#") == int(solved) for _, marks, solved, _ in rows)
    headings = re.findall(r"^([A-Z][\w ]+)$", printed, re.MULTILINE)
    assert headings == list(dict.fromkeys(conftest.parts().values()))
    marks = "".join(row[1] for row in rows)
    end = f"{marks.count('#')} of {len(ALL)} solved"
    if "-" in marks:
        path, name = ALL[marks.index("-")]
        end += f"; next: {name}, python -m pytest exercises/test_{path.name}"
    assert printed.splitlines()[-1] == end and status == ("-" in marks)


def test_each_lesson_belongs_to_a_part_that_the_front_page_names():
    part_of = conftest.parts()
    assert [path.stem[:2] for path in LESSONS] == list(part_of)
    front = (ROOT / "README.md").read_text("utf-8")
    assert all(f"\n### {part}\n" in front for part in part_of.values())


CHECKS = """
def test_empty(answer, check):
    check.hint = "the hint"
    check(answer(), 1)

def test_wrong(answer, check):
    check.hint, check.given = "think", "2"
    check(answer(2), 4)

def test_raises(answer, check):
    check.hint, check.given = "read", "a dict"
    check(answer({}), 4)

def test_right(answer, check):
    check(answer(), 4)
"""
ANSWERS = """
def empty():
    raise NotImplementedError

def wrong(x):
    print("x is", x)
    return x

def raises(x):
    return x["key"]

def right():
    return 4
"""


@pytest.fixture
def folder(tmp_path):
    """A folder of exercises of our own: 11_new.py, which test_11_new.py checks."""
    shutil.copy(FOLDER / "conftest.py", tmp_path)
    (tmp_path / "test_11_new.py").write_text(CHECKS)
    (tmp_path / "11_new.py").write_text(ANSWERS)
    return tmp_path


def test_a_single_file_says_what_is_wrong(folder, exercises_run):
    status, printed = exercises_run(folder / "test_11_new.py")
    assert status == 1 and printed.strip().splitlines()[-13:] == [
        f"{'11_new  empty':<50}to do",
        f"    {NOT_WRITTEN}",
        f"{'11_new  wrong':<50}to do",
        "    given      2",
        "    came back  2",
        "    expected   4",
        "    so         they differ",
        "    printed    x is 2",
        f"{'11_new  raises':<50}to do",
        "    given      a dict",
        "    came back  nothing, but 11_new.py, line 10: KeyError: 'key'",
        f"{'11_new  right':<50}solved",
        "1 of 4 solved; for hints add --hints to the command",
    ]
    # its checks are meant
    status, printed = exercises_run(folder / "11_new.py", "--hints")
    hints = [line.strip() for line in printed.splitlines() if "  hint  " in line]
    assert hints == ["hint       the hint", "hint       think", "hint       read"]
    assert printed.strip().endswith("\n1 of 4 solved")


def test_tests_of_another_folder_in_the_same_run_are_no_exercises(
    folder, exercises_run, tmp_path_factory
):
    other = tmp_path_factory.mktemp("other") / "test_other.py"
    other.write_text(
        "def test_right():\n    pass\n\n\ndef test_wrong():\n    assert False\n"
    )
    status, printed = exercises_run(folder / "test_11_new.py", other, "-v")
    assert status == 1 and "11_new  right" in printed and "1 of 4 solved" in printed
    assert "::test_wrong FAILED" in printed and "::test_right PASSED" in printed


def test_the_options_of_the_command_line_are_obeyed(folder, exercises_run):
    _, printed = exercises_run(folder / "test_11_new.py")
    assert "TO DO" not in printed and "def test_raises" not in printed
    _, printed = exercises_run(folder / "test_11_new.py", "-v")
    assert printed.count(" TO DO ") == 3 and printed.count(" SOLVED ") == 1
    assert "def test_raises" not in printed
    _, printed = exercises_run(folder / "test_11_new.py", "--tb=long")
    assert "def test_raises(answer, check):" in printed
    assert '>       return x["key"]' in printed and " TO DO " not in printed


def test_a_file_that_ends_python_hides_no_exercise(folder, exercises_run):
    (folder / "11_new.py").write_text("import sys\nsys.exit('bye')\n")
    status, printed = exercises_run(folder)
    words = "11_new.py, line 2: SystemExit: bye: take the line that ends Python out of "
    words += "the file"
    assert status == 1 and printed.count(words) == 4 and "\n0 of 4 solved" in printed


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("11_new.py", "x = 1\ndef (\n", "11_new.py, line 2: SyntaxError: "),
        (
            "11_new.py",
            "import no_such_package\n",
            "11_new.py, line 1: ModuleNotFoundError: ",
        ),
        ("11_new.py", "", "11_new.py has no function right, nor any other: "),
        (
            "11_new.py",
            ANSWERS.replace("right", "rihgt"),
            "only empty, wrong, raises, rihgt: mend",
        ),
        (
            "11_new (1).py",
            ANSWERS,
            "there is no file 11_new.py: rename '11_new (1).py'",
        ),
        (
            "other.py",
            ANSWERS,
            "there is no file 11_new.py: copy it from the course anew",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_words(file, text, words, tmp_path):
    (tmp_path / file).write_text(text)
    with pytest.raises(conftest.Problem) as problem:
        conftest.function(tmp_path / "11_new.py", "right")
    assert words in str(problem.value)


# A class of submissions
GOOD = (SOLUTIONS / "02_tensors.py").read_text("utf-8")
SPITEFUL = """
import os, sys, torch
os.chdir("/")
torch.set_default_dtype(torch.float64)
torch.testing.assert_close = lambda *arguments, **options: None
tolist = torch.Tensor.tolist
sys.stdout.close()

def for_a_network(images):
    sys.exit()

def blend(a, b):
    torch.Tensor.tolist = lambda x: []
    return a

def row_shares(x):
    torch.Tensor.tolist = tolist
    raise KeyboardInterrupt

def without_negatives(x):
    os._exit(0)
"""
ENDLESS = "import time\nwhile True:\n    time.sleep(1)\n"


CLASS = {
    "ann/02_tensors.py": GOOD,
    "bob b/02_tensors.py": SPITEFUL,
    "dora/02_tensors (1).py": GOOD,
}


def test_a_folder_of_submissions_is_checked_a_line_each(tmp_path, exercises_run):
    for folder in ("ann", "bob b", "dora", "eve", "__pycache__", ".git"):
        (tmp_path / folder).mkdir()
    for name, text in CLASS.items():
        (tmp_path / name).write_text(text)
    checks = FOLDER / "test_02_tensors.py"
    status, printed = exercises_run(checks, f"--submissions={tmp_path}", "--limit=120")
    assert status == 1
    ended = "Python was ended at test_02_tensors.py::test_without_negatives"
    assert re.findall(r"^(\S.*?)  +(\d of \d solved.*)$", printed, re.MULTILINE) == [
        ("ann", "4 of 4 solved"),
        ("bob b", f"0 of 4 solved: {ended}"),
        ("dora", "0 of 4 solved: no file 02_tensors.py but '02_tensors (1).py'"),
        ("eve", "0 of 4 solved: no file 02_tensors.py"),
    ]
    for line, error in ((10, "SystemExit"), (18, "KeyboardInterrupt")):
        where = f"came back  nothing, but 02_tensors.py, line {line}: {error}\n"
        assert where in printed
    assert "        the comparison has been tampered with\n" in printed
    assert re.search(r"^4 students in \d+ seconds$", printed.strip().splitlines()[-1])


def test_a_submission_that_never_ends_is_ended(tmp_path):
    exercises = [f"{FOLDER / 'test_02_tensors.py'}::test_blend"]
    student = tmp_path / "fred"
    student.mkdir()
    (student / "02_tensors.py").write_text(ENDLESS)
    name, problems, notes = conftest.examined(exercises, 0.5, student)
    assert (name, problems) == ("fred", {})
    assert notes == ["ran over 0.5 seconds at test_02_tensors.py::test_blend"]


def test_no_folder_of_submissions_is_one_line(tmp_path, exercises_run):
    status, printed = exercises_run(FOLDER, "--submissions", tmp_path / "nobody")
    assert status == 4 and len(printed.strip().splitlines()) == 1
