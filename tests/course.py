"""What the test modules share: where things are, and how a lesson is taken apart and
run."""

import ast
import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import io
import multiprocessing
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import warnings
from decimal import Decimal
from pathlib import Path
from unittest import mock

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "lessons").glob("*.py"))
CHAPTERS = [path.with_suffix(".md") for path in LESSONS]
READERS = [path for path in LESSONS if "\nDATA = " in path.read_text("utf-8")]
EXERCISES = sorted((ROOT / "exercises").glob("[0-9][0-9]_*.py"))

# Lesson 10 ends in one line where torchvision is older than 0.16; requirements.txt
# admits 0.15.
too_old = pytest.mark.skipif(
    importlib.metadata.version("torchvision").startswith("0.15."),
    reason="lesson 10 needs torchvision 0.16 or newer",
)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

# torch.save of torch 2.0 warns of a class of its own.
typed_storage = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
# torch.utils.tensorboard of torch 2.0 compares versions with distutils.
distutils = pytest.mark.filterwarnings(
    "ignore:distutils Version classes are deprecated"
)


def needs(path):
    """The marks of whatever is about the lesson, chapter or exercises at path."""
    marks = {
        "10_transforms": [too_old],
        "17_save_resume": [typed_storage],
        "18_experiment_tracking": [distutils],
    }
    return marks.get(path.stem, [])


def each(paths):
    """Parametrise a test by path: one case for each lesson, chapter or file of
    exercises."""
    cases = [pytest.param(path, id=path.stem, marks=needs(path)) for path in paths]
    return pytest.mark.parametrize("path", cases)


def beside(begin):
    """Hand a test the process that begin(an empty folder) starts.

    It takes seconds to start Python and import torch: the processes of all tests that
    will run are begun before the first of them, and run beside them where there is a
    second core.
    """
    cases = [pytest.param(begin, id=begin.__name__)]
    return pytest.mark.parametrize("process", cases, indirect=True)


def ahead(function):
    """Hand a test, as result, what function(*its other parameters) returned in a second
    process.

    That process runs the functions of all such tests, in order, beside the other tests.
    The functions stand in this file, where it finds them.
    """
    cases = [pytest.param(function, id=function.__name__)]
    return pytest.mark.parametrize("result", cases, indirect=True)


def settle(threads, start_method):
    """What a second process that was not forked has to be told."""
    torch.set_num_threads(threads)
    multiprocessing.set_start_method(start_method, force=True)


def apart(function, arguments):
    """What the function returns of arguments by name; no warning reaches what it
    prints."""
    with warnings.catch_warnings(record=True):
        for message in ("TypedStorage is deprecated", "distutils Version"):
            # as needs() says
            warnings.filterwarnings("ignore", message)
        return function(**arguments)


@functools.cache
def definitions(path):
    """Name -> node of the functions and classes at the top of a file."""
    body = ast.parse(path.read_text("utf-8")).body
    return {n.name: n for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}


def copy_alone(path, folder):
    """A lesson copied into an empty folder, with the data beside it if it reads any."""
    (folder / "mine").mkdir()
    copy = shutil.copy(path, folder / "mine")
    if path in READERS:
        shutil.copytree(ROOT / "data", folder / "data")
    return Path(copy)


def files(folder):
    """All files below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def start(*arguments, before=(), environment=os.environ, **options):
    """A process of Python with these arguments, behind another command if one stands
    before."""
    command = [*before, sys.executable, *map(str, arguments)]
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command, env={**environment, "OMP_NUM_THREADS": "1"}, **options
    )


def ran(path, *arguments):
    """Run a lesson in this process as a user would: (status, standard output, error
    output)."""
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
            status = end.code
        if isinstance(status, str):  # Python prints it as it ends, and the status is 1
            print(status, file=err)
            status = 1
    return status, out.getvalue(), err.getvalue()


# What runs ahead
def transcript(path, on):
    """(status, standard output, error output) of the lesson of a chapter on a device."""
    return ran(path.with_suffix(".py"), "--device", on)


def picture(path):
    """(the name of its class, the number of its axes) of the picture of a lesson."""
    figure = importlib.import_module(path.stem).figure()
    return type(figure).__name__, len(figure.axes)


@contextlib.contextmanager
def imported(script):
    """A copy of a lesson as a module, by its own name: worker processes have to import
    it too."""
    lesson = sys.modules.pop(script.stem, None)
    importlib.invalidate_caches()
    try:
        with mock.patch.object(sys, "path", [str(script.parent), *sys.path]):
            yield importlib.import_module(script.stem)
    finally:
        sys.modules.pop(script.stem, None)
        if lesson:
            sys.modules[script.stem] = lesson


def section_after(path, diff, text):
    """What the section of a lesson prints in which a diff of its chapter changes
    something."""
    script = path.with_suffix(".py")
    source, before = read(script), side(diff, "-")
    assert source.count(before) == 1
    begin = source.index(before)
    section = re.findall(
        r"^# %% (\d+)\. ", source[: begin + len(before)], re.MULTILINE
    )[-1]
    out = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(out):
        copy = Path(folder) / "lessons" / script.name
        copy.parent.mkdir()
        copy.write_text(source.replace(before, side(diff, "+")), "utf-8")
        if script in READERS:
            os.symlink(ROOT / "data", Path(folder) / "data")
        with imported(copy) as changed:
            getattr(changed, f"show_{section}")("cpu")
    return out.getvalue()


def batches_by_workers(method):
    """The batches of wines, as lists, that lesson 09's workers fetch if started by this
    method."""
    lesson = importlib.import_module("09_dataset_dataloader")
    # any other imports torch, which takes seconds
    workers = 2 if method == "fork" else 1
    return [x.tolist() for x in lesson.shuffled_batches(3, 32, workers, method)]


def submissions(texts):
    """What pytest --submissions says of {NAME: text of 02_tensors.py}: (status, what it
    printed).

    Where the name is NAME/file, the text is that of another file; where it is None,
    there is none.
    """
    out = io.StringIO()
    environment = {
        key: os.environ[key] for key in os.environ if key != "PYTEST_ADDOPTS"
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, environment, clear=True),
        contextlib.redirect_stdout(out),
    ):
        for name, text in texts.items():
            path = Path(folder) / name
            file = path if path.suffix else path / "02_tensors.py"
            file.parent.mkdir()
            if text is not None:
                file.write_text(text)
        options = ["-p", "no:cacheprovider", "--import-mode=importlib", "--limit=120"]
        checks = ROOT / "exercises" / "test_02_tensors.py"
        status = pytest.main([*options, f"--submissions={folder}", str(checks)])
    return status, out.getvalue()


def side(diff, sign):
    """The lines of a diff as they are before ("-") or after ("+") the change."""
    return "".join(
        line[1:] + "\n" for line in diff.splitlines() if line[:1] in (" ", sign, "")
    )


# Chapters. A fenced block is (language, text); what is left is prose.
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@functools.cache
def read(path):
    """The text of a file."""
    return path.read_text("utf-8")


def blocks(path):
    """The fenced blocks of a page, in order: [(language, text), ...]."""
    return FENCE.findall(read(path))


def shown_in(path):
    """What a plain run of the lesson prints, by the console block of its chapter.

    Where TensorBoard is installed, the last section of lesson 18 is another: the text
    block after.
    """
    all_blocks = blocks(path)
    index = [language for language, _ in all_blocks].index("console")
    shown = all_blocks[index][1].split("\n", 1)[1]
    if path.stem == "18_experiment_tracking" and importlib.util.find_spec(
        "tensorboard"
    ):
        section = all_blocks[index + 1][1]
        shown = shown[: shown.index(section.splitlines()[0])] + section
    return shown


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
        whole = re.fullmatch(r"-?[\d,]+", before) or re.fullmatch(r"-?[\d,]+", after)
        unit = (
            0
            if whole
            else Decimal(1).scaleb(max(a.as_tuple().exponent, b.as_tuple().exponent))
        )
        if abs(a - b) > unit:
            found.append((before, after))
    return found
