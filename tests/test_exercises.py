"""Every exercise: unsolved it fails, solved it passes, and wrong answers are refused."""

import ast
import importlib.util
import itertools
import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import execute
from test_curriculum import too_old

ROOT = Path(__file__).resolve().parent.parent
ALL_FILES = sorted((ROOT / "exercises").glob("??_*.py"))
SOLUTIONS, WRONG_ANSWERS = ROOT / "exercises" / "solutions", ROOT / "tests" / "wrong_answers"
README = (ROOT / "README.md").read_text("utf-8")


def functions(path):
    """Name -> node of the functions at the top of a file."""
    body = ast.parse(path.read_text("utf-8")).body
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def names(path):
    """The exercises of a file: the functions whose check stands right below them."""
    return [a for a, b in itertools.pairwise(functions(path)) if b == f"test_{a}"]


def load(path):
    """A fresh copy of the module at path."""
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def each(cases):
    """Parametrise by (path, name, ...); lesson 10 needs a newer torchvision than the oldest."""
    marked = [
        pytest.param(
            *case,
            id="-".join([case[0].stem, *case[1:]]),
            marks=too_old if case[0].stem == "10_transforms" else (),
        )
        for case in cases
    ]
    return pytest.mark.parametrize(("path", "name", "wrong")[: len(cases[0])], marked)


def parses(path):
    """Whether a file is Python; while somebody is solving an exercise it may not be."""
    try:
        return bool(ast.parse(path.read_text("utf-8")))
    except SyntaxError:
        return False


# Whoever solves an exercise does not break the course: what is not as shipped is skipped, but not
# where the course itself is tested, in .ci/run and the like.
CI = bool(os.environ.get("CI"))
EXERCISES = [path for path in ALL_FILES if parses(path)]
all_parse = pytest.mark.skipif(
    EXERCISES != ALL_FILES and not CI, reason="solved, or being solved, here"
)

ALL = [(path, name) for path in EXERCISES for name in names(path)]
WRONG = [
    (path, name, wrong)
    for path, name in ALL
    for wrong in functions(WRONG_ANSWERS / path.name)
    if re.fullmatch(rf"{name}_\d", wrong)
]


def answered(path, name, answer):
    """Run the check of an exercise with another function in the place of the exercise."""
    module = load(path)
    setattr(module, name, answer)
    getattr(module, f"test_{name}")()


@all_parse
def test_each_lesson_but_the_first_has_three_to_five_exercises_of_both_kinds():
    lessons = sorted(path.name for path in (ROOT / "lessons").glob("*.py"))[1:]
    assert [path.name for path in EXERCISES] == lessons
    for path in EXERCISES:
        docstrings = [ast.get_docstring(functions(path)[name]) for name in names(path)]
        kinds = [docstring.split(":")[0] for docstring in docstrings]
        assert 3 <= len(kinds) <= 5 and set(kinds) == {"Write", "Mend"}
        cells = re.findall(r"^# %% (\d)\. (\w+)$", path.read_text("utf-8"), re.MULTILINE)
        assert cells == [(str(i), kind) for i, kind in enumerate(kinds, 1)]
    assert len(ALL) >= 32


@each(ALL)
def test_an_exercise_says_what_it_returns_and_costs(path, name):
    docstring = ast.get_docstring(functions(path)[name])
    assert "Returns" in docstring or "returns" in docstring
    assert re.search(r"(Easy|Medium|Hard),\s+(5|10|15)\s+minutes\.\s+Hint:\s", docstring)


@each(ALL)
def test_an_exercise_fails_as_shipped(path, name):
    module, ended = load(path), None
    kind = getattr(module, name).__doc__.split(":")[0]
    try:
        getattr(module, f"test_{name}")()
    except Exception as error:
        ended = type(error)
    shipped = {"Write": NotImplementedError, "Mend": AssertionError}[kind]
    if ended is not shipped and not CI:
        pytest.skip("solved, or being solved, here")
    assert ended is shipped


@each(ALL)
def test_the_solution_passes_is_short_and_says_why(path, name):
    source = (SOLUTIONS / path.name).read_text("utf-8")
    node = functions(SOLUTIONS / path.name)[name]
    assert len(ast.unparse(node.body[1:]).splitlines()) <= 12
    assert "    # " in ast.get_source_segment(source, node)
    assert list(functions(SOLUTIONS / path.name)) == names(path)
    answered(path, name, getattr(load(SOLUTIONS / path.name), name))


@each(ALL)
def test_at_least_two_wrong_answers_are_kept(path, name):
    assert sum(case[:2] == (path, name) for case in WRONG) >= 2


@each(WRONG)
def test_a_wrong_answer_is_refused_with_a_message_that_teaches(path, name, wrong):
    answer = getattr(load(WRONG_ANSWERS / path.name), wrong)
    assert answer.__doc__, "the thought behind it"
    with pytest.raises(AssertionError) as refusal:
        answered(path, name, answer)
    parts = r"given      .+\ncame back  .+\nexpected   .+\nso         .+\n.{10,}"
    assert re.fullmatch(parts, str(refusal.value), re.DOTALL)


def test_no_wrong_answer_is_without_its_exercise():
    for path in EXERCISES:
        kept = functions(WRONG_ANSWERS / path.name)
        assert len(kept) == sum(case[0] == path for case in WRONG)


def test_the_checks_share_one_function_to_the_letter():
    texts = [path.read_text("utf-8") for path in EXERCISES]
    assert len({text[text.index("# %% What the checks share") :] for text in texts}) == 1


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_no_solution_is_lines_of_the_lesson(path):
    source = (ROOT / "lessons" / path.name).read_text("utf-8")
    lesson = {line.strip() for line in ast.unparse(ast.parse(source)).splitlines()}
    for name in names(path):
        body = functions(SOLUTIONS / path.name)[name].body[1:]
        assert not {line.strip() for line in ast.unparse(body).splitlines()} <= lesson, name


def section(path):
    """The lines of the README's section about the lesson of a file."""
    return README.split(f"\n## {path.stem[:2]} ")[1].split("\n## ")[0].splitlines()


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_the_readme_lists_the_exercises_of_a_lesson_and_what_they_test(path):
    lines = section(path)
    listed = lines[lines.index("### Solve it") + 1 :]
    assert f"`python -m pytest exercises/{path.name}` checks them." in " ".join(listed)
    expected = []
    for name in names(path):
        kind, _, task = ast.get_docstring(functions(path)[name]).splitlines()[0].partition(": ")
        expected.append(f"- {kind} `{name}`: {task}")
    assert [line for line in listed if line.startswith("- ")] == expected
    teachers = README.split("\n## For teachers\n")[1].split("\n## ")[0]
    row = re.search(rf"^  \| {path.stem[:2]} \| (.+) \|$", teachers, re.MULTILINE)[1]
    assert re.findall(r"\(`(\w+)`\)", row) == names(path)


PYTEST = ("-m", "pytest", "-p", "no:cacheprovider")


@too_old
@all_parse
@pytest.mark.parametrize("finished", [(*PYTEST, "exercises")], indirect=True, ids=[""])
def test_pytest_exercises_prints_a_line_for_each_and_no_traceback(finished):
    lines = re.findall(r"^(\w+)  (\w+) +(solved|to do)$", finished.stdout, re.MULTILINE)
    assert [line[:2] for line in lines] == [(path.stem, name) for path, name in ALL]
    assert finished.returncode == ("to do" in [line[2] for line in lines])
    assert len((finished.stdout + finished.stderr).splitlines()) < len(ALL) + 8


THREE = """
def empty():
    raise NotImplementedError

def test_empty():
    empty()

def test_wrong():
    raise AssertionError("given      1\\nthe thought")

def test_raises():
    {}["key"]

def test_right():
    pass
"""


def test_a_single_file_says_what_is_wrong(tmp_path):
    (tmp_path / "exercises").mkdir()
    shutil.copy(ROOT / "exercises" / "conftest.py", tmp_path / "exercises")
    (tmp_path / "exercises" / "11_new.py").write_text(THREE)
    (tmp_path / "exercises" / "12_torn.py").write_text("import math\ndef (\n")
    torn = execute((*PYTEST, tmp_path / "exercises" / "12_torn.py"))
    assert torn.returncode == 1 and "SyntaxError: invalid syntax" in torn.stdout
    assert "line 2" in torn.stdout and "ast.py" not in torn.stdout  # no line of pytest's own
    run = execute((*PYTEST, tmp_path / "exercises" / "11_new.py"))
    assert run.returncode == 1 and not run.stderr
    assert run.stdout.count("to do\n") == 3 and run.stdout.count("solved\n") == 1
    assert "\n    not written yet\n" in run.stdout
    assert "\n    given      1\n    the thought\n" in run.stdout
    assert "\n    11_new.py, line 12 in the check: KeyError: 'key'\n" in run.stdout
    assert "Traceback" not in run.stdout


def test_a_folder_of_submissions_is_checked_a_line_each(tmp_path):
    files = {"ann": (SOLUTIONS / "02_tensors.py").read_text()}
    files |= {"bob b": "def for_a_network(images):\n    return images / 0\n"}
    files |= {"carl": "def (\n", "dora": "def blend(a, b):\n    return torch.mean(a)\n"}
    for name, text in files.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "02_tensors.py").write_text(text)
    (tmp_path / "eve").mkdir()
    run = execute((*PYTEST, "exercises/02_tensors.py", "--submissions", tmp_path))
    status, printed = run.returncode, run.stdout
    counts = re.findall(r"^(\S.*?) +(\d) of 4 solved$", printed, re.MULTILINE)
    assert counts == [("ann", "4"), ("bob b", "0"), ("carl", "0"), ("dora", "0"), ("eve", "0")]
    assert status == 1 and "    SyntaxError: " in printed
    assert "    02_tensors.py, line 2: NameError: " in printed
    run = execute((*PYTEST, "exercises", "--submissions", tmp_path / "nobody"))
    assert run.returncode == 4 and len(run.stderr.strip().splitlines()) == 1
