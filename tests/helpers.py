"""What the test modules share: where things are, how a lesson is run, and how a chapter
is taken apart."""

import ast
import contextlib
import functools
import importlib.metadata
import importlib.util
import inspect
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "lessons").glob("[0-9][0-9]_*.py"))
CHAPTERS = [path.with_suffix(".md") for path in LESSONS]
EXERCISES = sorted((ROOT / "exercises").glob("[0-9][0-9]_*.py"))
LESSONS_WITH_DATA = [p for p in LESSONS if "\nDATA = " in p.read_text("utf-8")]

# Lesson 10 ends in one line where torchvision is older than 0.16; requirements.txt
# admits 0.15.
torchvision_too_old = pytest.mark.skipif(
    importlib.metadata.version("torchvision").startswith("0.15."),
    reason="lesson 10 and its train.py need torchvision 0.16 or newer",
)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

# torch.save of torch 2.0 warns of a class of its own, and torch.utils.tensorboard of
# torch 2.0 compares versions with distutils.
warning_of_torch_save = pytest.mark.filterwarnings(
    "ignore:TypedStorage is deprecated:UserWarning"
)
warning_of_tensorboard = pytest.mark.filterwarnings(
    "ignore:distutils Version classes are deprecated"
)


def marks_for(path):
    """The marks of whatever is about the lesson, chapter or exercises at path."""
    marks = {
        "10_transforms": [torchvision_too_old],
        "06_pipeline": [warning_of_torch_save],
        "20_save_resume": [warning_of_torch_save],
        "21_experiment_tracking": [warning_of_tensorboard],
    }
    if path.name == "17_transfer_learning.md":  # its train.py comes from lesson 10
        return [torchvision_too_old]
    return marks.get(path.stem, [])


def for_each(paths):
    """Parametrise a test by path: a case for each lesson, chapter or exercise file."""
    cases = [pytest.param(path, id=path.stem, marks=marks_for(path)) for path in paths]
    return pytest.mark.parametrize("path", cases)


@functools.cache
def read(path):
    """The text of a file."""
    return path.read_text("utf-8")


@functools.cache
def definitions(path):
    """Name -> node of the functions and classes at the top of a file."""
    body = ast.parse(path.read_text("utf-8")).body
    return {n.name: n for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}


def files_below(folder):
    """All files below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


# Values
def tensor64(numbers, device="cpu"):
    """The numbers as a tensor of float64."""
    return torch.tensor(np.array(numbers), device=device, dtype=torch.float64)


def assert_values(
    result, expected, device="cpu", dtype=torch.float64, rtol=1e-12, atol=0.0
):
    """Fail unless result, a tensor, is what NumPy expected: in values, shape and dtype.

    Values may differ by atol + rtol |expected|.
    """
    assert (result.dtype, result.device.type) == (dtype, device)
    assert tuple(result.shape) == np.shape(expected)
    np.testing.assert_allclose(result.detach().cpu(), expected, rtol=rtol, atol=atol)


def tripled(value):
    """A value with every number in it three times as large; what is no number stays."""
    if isinstance(value, dict):
        return {key: tripled(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(tripled(part) for part in value)
    if isinstance(value, (bool, str)) or value is None:
        return value
    return 3 * value


def printed_if_tripled(lesson, section, *names):
    """What show_N prints where the lesson's functions of these names return three times
    what they do.

    A number of theory printed beside a measurement must not follow the measurement.
    """
    out = io.StringIO()
    with contextlib.ExitStack() as stack:
        for name in names:
            function = getattr(lesson, name)
            wrong = functools.wraps(function)(
                lambda *args, function=function, **kw: tripled(function(*args, **kw))
            )
            stack.enter_context(mock.patch.object(lesson, name, wrong))
        stack.enter_context(contextlib.redirect_stdout(out))
        getattr(lesson, f"show_{section}")("cpu")
    return out.getvalue()


def mended(lesson, name, wrong, right):
    """The lesson's function of this name with one piece of its source replaced.

    Where the right piece makes it right, the wrong one is what makes it wrong.
    """
    source = inspect.getsource(getattr(lesson, name))
    assert source.count(wrong) == 1
    names = dict(vars(lesson))
    exec(source.replace(wrong, right), names)
    return names[name]


# Running a lesson
def copy_alone(path, folder):
    """A lesson copied into an empty folder, with the data beside it if it reads any."""
    (folder / "mine").mkdir()
    copy = shutil.copy(path, folder / "mine")
    if path in LESSONS_WITH_DATA:
        shutil.copytree(ROOT / "data", folder / "data")
    return Path(copy)


def run_lesson(path, *arguments):
    """Run a script in this process as a user would: (status, output, error output)."""
    out, err = io.StringIO(), io.StringIO()
    command = [str(path), *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", command),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_path(str(path), run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code or 0
        if isinstance(status, str):  # Python prints it as it ends, and the status is 1
            print(status, file=err)
            status = 1
    return status, out.getvalue(), err.getvalue()


def start_python(*arguments, before=(), environment=os.environ, **options):
    """A process of Python with these arguments, behind another command if one stands
    before."""
    command = [*before, sys.executable, *map(str, arguments)]
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**environment, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, **options)


# Chapters. A fenced block is (language, text); what is left is prose.
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path):
    """The fenced blocks of a page, in order: [(language, text), ...]."""
    return FENCE.findall(read(path))


def in_sections(path):
    """Whether a chapter has the numbered sections of its script, output and all.

    The others are in six steps, from Idea to Solve it, with the output in one piece.
    """
    return "\n## Idea\n" not in read(path)


def outputs_of_sections(path):
    """{N: what section N prints} of a chapter in sections."""
    texts = [text for language, text in blocks(path) if language == "text"]
    numbers = [re.match(r"(\d+)\. ", text) for text in texts]
    pairs = zip(numbers, texts, strict=True)
    return {int(number[1]): text for number, text in pairs if number}


def loud_messages(path):
    """What the table of loud mistakes of a chapter quotes in its first column."""
    table = read(path).split("\nLoud mistakes.")[1].split("\n## ")[0]
    cells = [row.split("|")[1] for row in table.split("\n") if row.startswith("|")]
    return set(re.findall(r"`([^`]+)`", "".join(cells)))


def side_of_diff(diff, sign):
    """The lines of a diff as they are before ("-") or after ("+") the change."""
    kept = [line[1:] for line in diff.splitlines() if line[:1] in (" ", sign, "")]
    return "".join(line + "\n" for line in kept)


PROGRAM_DIFF = re.compile(r"--- lesson (\d\d)/train\.py\n\+\+\+ .*\n")


def program_of(number):
    """train.py as the chapter of this lesson, such as "07", leaves it.

    It stands there whole, or as changes to the program of an earlier lesson: each
    block begins with `--- lesson NN/train.py`, and what it takes away or keeps stands
    once in the program so far. Below its changes it may stand whole once more.
    """
    (path,) = (chapter for chapter in CHAPTERS if chapter.stem.startswith(number))
    program = None
    for language, text in blocks(path):
        change = PROGRAM_DIFF.match(text)
        if language == "python" and text.startswith("# train.py"):
            assert program in (None, text), "the changes make another program"
            program = text
        elif language == "diff" and change:
            program = program or program_of(change[1])
            before = side_of_diff(text[change.end() :], "-")
            assert program.count(before) == 1, before
            program = program.replace(before, side_of_diff(text[change.end() :], "+"))
    return program


def shown_in(path):
    """What a plain run of the lesson prints, by its chapter.

    Where TensorBoard is installed, the last section of lesson 21 is another: the text
    block after.
    """
    if in_sections(path):
        title = read(path).split("\n")[0].removeprefix("# ")
        return "\n".join([f"{title} on cpu\n", *outputs_of_sections(path).values()])
    all_blocks = blocks(path)
    index = [language for language, _ in all_blocks].index("console")
    shown = all_blocks[index][1].split("\n", 1)[1]
    with_board = importlib.util.find_spec("tensorboard")
    if path.stem == "21_experiment_tracking" and with_board:
        section = all_blocks[index + 1][1]
        shown = shown[: shown.index(section.splitlines()[0])] + section
    return shown


def run_block(code, names):
    """Run a block of a chapter: what it prints.

    A comment behind an expression is its value; behind any statement, `# KindOfError:
    words` says how it ends.
    """
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        for statement in ast.parse(code).body:
            source = ast.unparse(statement)
            line = code.split("\n")[statement.end_lineno - 1]
            comment = line.partition("  # ")[2]
            error = re.match(r"(\w+Error): (.*)", comment)
            if error:
                with pytest.raises(Exception) as raised:
                    exec(source, names)
                assert raised.typename == error[1] and error[2] in str(raised.value)
            elif isinstance(statement, ast.Expr):
                value = eval(source, names)
                told = value is None or not comment or repr(value) == comment
                assert told, f"{source} is {value!r}"
            else:
                exec(source, names)
    return out.getvalue()


# A number on its own: not the 32 of float32, nor the 2 of x^2.
NUMBER = re.compile(r"(?<![\w.^])-?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?(?![\w])")


def differences(shown, printed):
    """What two texts differ in: words to the letter, numbers by one unit in the last
    place.

    Whole numbers are counts, shapes and the like, and are compared to the letter too.
    The name of the device is left aside.
    """
    shown, printed = (
        re.sub(r"\b(cpu|cuda)\b", "DEVICE", text) for text in (shown, printed)
    )
    if NUMBER.split(shown) != NUMBER.split(printed):
        pairs = zip(shown.splitlines(), printed.splitlines(), strict=False)
        lines = [
            pair for pair in pairs if NUMBER.split(pair[0]) != NUMBER.split(pair[1])
        ]
        return lines or ["one text is longer than the other"]
    found = []
    for before, after in zip(
        NUMBER.findall(shown), NUMBER.findall(printed), strict=True
    ):
        a, b = (Decimal(number.replace(",", "")) for number in (before, after))
        whole = re.compile(r"-?[\d,]+")
        places = max(a.as_tuple().exponent, b.as_tuple().exponent)
        unit = Decimal(1).scaleb(places)
        if whole.fullmatch(before) or whole.fullmatch(after):
            unit = 0
        if abs(a - b) > unit:
            found.append((before, after))
    return found
