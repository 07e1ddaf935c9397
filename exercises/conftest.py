"""What the checks share, what pytest prints, and how a class of submissions is checked.

There is no need to read this to solve the exercises.
"""

import concurrent.futures
import contextlib
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest
import torch

collect_ignore = ["solutions", "wrong_answers"]
with contextlib.suppress(importlib.metadata.PackageNotFoundError):
    if importlib.metadata.version("torchvision").startswith("0.15."):
        # it needs 0.16, as the lesson does
        collect_ignore.append("test_10_transforms.py")


# %% The two fixtures of a check
class Problem(AssertionError):
    """What is wrong with an answer, in words that need no traceback."""


class Check:
    """Compares what came back with what was expected.

    It knows what was given, and a hint.
    """

    given = hint = ""

    def __call__(self, found, expected, **tolerance):
        """Fail unless found is expected: its kind, shape, dtype, device and values."""
        why = difference(found, expected, **tolerance)
        if why:
            lines = [f"given      {self.given}", f"came back  {short(found)}"]
            lines += [f"expected   {short(expected)}", f"so         {why}"]
            raise Problem("\n".join(lines))


@pytest.fixture
def check():
    return Check()


@pytest.fixture
def answer(request):
    """The function that a check is about: blend for test_blend."""
    return function(answers_of(request.path), name_of(request.function))


def answers_of(path):
    """exercises/02_tensors.py for exercises/test_02_tensors.py."""
    return path.with_name(path.name.removeprefix("test_"))


def name_of(checks):
    """The name of the exercise that a function checks."""
    return checks.__name__.removeprefix("test_")


# %% Reading an answer
@functools.cache
def load(path):
    """The module at path, or what ended reading it."""
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        return error


def function(path, name):
    """The function of that name in the file at path; a Problem where there is none."""
    if not path.is_file():
        others = " or ".join(repr(other.name) for other in similar(path))
        cure = f"rename {others}" if others else "copy it from the course anew"
        raise Problem(f"there is no file {path.name}: {cure}")
    module = load(path)
    if isinstance(module, SystemExit):
        raise Problem(
            f"{located(module, path)}: take the line that ends Python out of the file"
        )
    if isinstance(module, BaseException):
        raise Problem(
            f"{located(module, path)}: mend this first, for nothing below it was read"
        )
    if not callable(getattr(module, name, None)):
        there = [
            key for key, value in vars(module).items() if hasattr(value, "__code__")
        ]
        others = f"only {', '.join(there)}" if there else "nor any other"
        cure = "mend its name, or copy it from the course anew"
        raise Problem(f"{path.name} has no function {name}, {others}: {cure}")
    return getattr(module, name)


def similar(path):
    """The files beside path with its number, such as '02_tensors (1).py'."""
    with_its_number = path.parent.glob(f"{path.name[:3]}*")
    return sorted(other for other in with_its_number if other != path)


def located(error, path):
    """An error in one line, with the last line of the file at path on its way."""
    name = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    message = " ".join(str(error).split())[:500]
    if isinstance(error, SyntaxError):
        lines, message = [error.lineno or 1], error.msg
    where = f"{path.name}, line {lines[-1]}: " if lines else ""
    return f"{where}{name}: {message}" if message else f"{where}{name}"


def problem_of(checks, find, path):
    """What a check says of the answer that find() returns; nothing if it accepts it."""
    check = Check()
    try:
        checks(find(), check)
    except BaseException as error:  # whatever an answer raises, an exit too
        return explained(error, check, path)
    return ""


def explained(error, check, path):
    """What ended a check, in words: a Problem's, or what was given and raised."""
    # torch raises a NotImplementedError too, but with words.
    if isinstance(error, NotImplementedError) and not str(error):
        return "not written yet: raise NotImplementedError still stands there"
    if isinstance(error, Problem):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = any(frame.filename == str(path) for frame in frames)
    what = "nothing, but" if theirs else "something that the check cannot use:"
    return f"given      {check.given}\ncame back  {what} {located(error, path)}"


# %% Comparing
def difference(found, expected, **tolerance):
    """Why found is not expected, in words; nothing if it is."""
    if is_row(found) and is_row(expected):
        if len(found) != len(expected):
            return f"{len(found)} came back, not {len(expected)}"
        reasons = [
            difference(*pair, **tolerance) for pair in zip(found, expected, strict=True)
        ]
        return next(
            (f"at [{i}]: {reason}" for i, reason in enumerate(reasons) if reason), ""
        )
    if type(found) is not type(expected):
        return f"{kind(found)} came back, not {kind(expected)}"
    if not isinstance(expected, torch.Tensor):
        return "" if equal(found, expected, **tolerance) else "they differ"
    for what, theirs, ours in (
        ("shape", tuple(found.shape), tuple(expected.shape)),
        ("dtype", found.dtype, expected.dtype),
        ("device", found.device, expected.device),
    ):
        if theirs != ours:
            return f"{what} {theirs} came back, not {ours}"
    tolerance = TOLERANCE.get(expected.dtype, {}) | tolerance
    pairs = list(
        zip(found.flatten().tolist(), expected.flatten().tolist(), strict=True)
    )
    wrong = [i for i, pair in enumerate(pairs) if not equal(*pair, **tolerance)]
    if not wrong:
        return ""
    if len(pairs) == 1:
        return "they differ"
    place = list(itertools.product(*map(range, expected.shape)))[wrong[0]]
    first = f"{pairs[wrong[0]][0]:.6g} came back, not {pairs[wrong[0]][1]:.6g}"
    return f"{len(wrong)} of {len(pairs)} differ, first at {list(place)}: {first}"


# Those of torch.testing.assert_close, which loads torch.distributed first, a second at
# each start.
TOLERANCE = {torch.float32: {"rtol": 1.3e-6, "atol": 1e-5}}


def equal(found, expected, rtol=1e-7, atol=1e-7):
    """Whether two values are equal; floats may differ by atol + rtol * expected."""
    if found == expected or not isinstance(expected, float):
        return found == expected
    return abs(found - expected) <= atol + rtol * abs(expected) < math.inf


def is_row(value):
    """Whether a value is a tuple, a list or a range."""
    return isinstance(value, (tuple, list, range))


def kind(value):
    """What a value is, in words: 'a tensor', 'None', 'a tuple (a tensor, an int)'."""
    if value is None:
        return "None"
    name = "tensor" if type(value) is torch.Tensor else type(value).__name__
    inside = (
        f" ({', '.join(kind(item) for item in value[:5])})" if is_row(value) else ""
    )
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}{inside}"


def short(value):
    """A value in one line; of a large tensor its shape, dtype and first numbers."""
    if isinstance(value, torch.Tensor) and value.numel() > 16:
        numbers = ", ".join(f"{number:.4g}" for number in value.flatten()[:6].tolist())
        dtype = str(value.dtype).removeprefix("torch.")
        return f"shape {tuple(value.shape)}, {dtype}: {numbers} ..."
    if is_row(value) and any(isinstance(item, torch.Tensor) for item in value):
        return f"({', '.join(short(item) for item in value[:5])})"
    text = " ".join(repr(value).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."


# %% What pytest prints
def parts():
    """{"02": "Foundations", ...}: the parts of the course, by the README above.

    There a heading ### Foundations stands above the table of its lessons. Where the
    folder of exercises was copied away there are no parts.
    """
    readme, part, part_of = Path(__file__).parent.parent / "README.md", "", {}
    lines = readme.read_text("utf-8").splitlines() if readme.is_file() else []
    for line in lines:
        if line.startswith("### "):
            part = line.removeprefix("### ")
        if lesson := re.match(r"\| \[(\d\d) ", line):
            part_of[lesson[1]] = part
    return part_of


def pytest_addoption(parser):
    parser.addoption(
        "--hints", action="store_true", help="show a hint below what is wrong"
    )
    parser.addoption(
        "--submissions", metavar="FOLDER", help="check FOLDER/NAME/NN_name.py of all"
    )
    parser.addoption(
        "--limit", metavar="SECONDS", type=float, default=60, help="for each NAME"
    )


def pytest_configure(config):
    config.args = [checks_beside(argument) for argument in config.args]
    config.option.tracebacks = config.option.tbstyle not in ("auto", "no")
    if all(is_here(path) for path in config.args):
        # Our lines instead of pytest's, unless somebody asked for those.
        if config.option.verbose <= 0:
            config.option.verbose = -2
        if config.option.tbstyle == "auto":  # it takes seconds, and is not shown
            config.option.tbstyle = "native"
    folder = config.getoption("submissions", None)
    if folder is not None and not students(folder):
        raise pytest.UsageError(
            f"--submissions: {folder!r} must be a folder of folders, one each"
        )


def is_here(argument):
    """Whether an argument of pytest is this folder or in it."""
    path = Path(argument.partition("::")[0]).resolve()
    return path.is_relative_to(Path(__file__).parent)


def checks_beside(argument):
    """exercises/test_02_tensors.py for exercises/02_tensors.py, or the argument."""
    path, separator, rest = argument.partition("::")
    checks = Path(path).parent / f"test_{Path(path).name}"
    return f"{checks}{separator}{rest}" if checks.is_file() else argument


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Put beside a report the exercise, what is wrong with its answer, and the hint."""
    report = (yield).get_result()
    path, check = answers_of(item.path), item.funcargs.get("check", Check())
    report.exercise, report.hint = f"{path.stem}  {name_of(item.function)}", check.hint
    report.problem = explained(call.excinfo.value, check, path) if call.excinfo else ""


def pytest_report_teststatus(report, config):
    if not hasattr(report, "exercise"):
        return None  # a test of another folder, in the same run
    category = "solved" if report.passed else "to do"
    if category == "to do" or report.when == "call":
        return category, "", category.upper() if config.option.verbose > 0 else ""


def pytest_terminal_summary(terminalreporter, config):
    """Of one file what is wrong with each exercise; of several what is solved."""
    line = terminalreporter.line
    todo, solved = (terminalreporter.getreports(state) for state in ("to do", "solved"))
    reports = sorted([*todo, *solved], key=lambda report: report.location[:2])
    if not reports:
        return
    single = len({report.location[0] for report in reports}) == 1
    terminalreporter.ensure_newline()
    if config.option.tracebacks:
        for report in todo:
            terminalreporter.write_sep("_", report.exercise)
            line(report.longreprtext)
    if single:
        for report in reports:
            line(f"{report.exercise:<50}{'to do' if report in todo else 'solved'}")
            if report in todo:
                explain(report, config.option.hints, line)
    else:
        progress(reports, todo, line)
    end = f"{len(solved)} of {len(reports)} solved"
    if todo and not single:
        first = next(report for report in reports if report in todo)
        name = first.exercise.split()[1]
        end += f"; next: {name}, python -m pytest {first.location[0]}"
    elif todo and not config.option.hints:
        end += "; for hints add --hints to the command"
    line(end)


def explain(report, hints, line):
    """What is wrong with an answer, what it printed, and the hint if it is wanted."""
    for text in report.problem.splitlines():
        line(f"    {text}")
    for text in report.capstdout.splitlines()[:20]:
        line(f"    printed    {text}")
    if hints and report.hint:
        line(f"    hint       {report.hint}")


def progress(reports, todo, line):
    """Below its part a line for each lesson: # is solved, - is to do."""
    part_of, part = parts(), ""
    for lesson, of_lesson in itertools.groupby(
        reports, lambda report: report.exercise.split()[0]
    ):
        marks = "".join("-" if report in todo else "#" for report in of_lesson)
        if part_of.get(lesson[:2], part) != part:
            part = part_of[lesson[:2]]
            line(part)
        line(f"  {lesson:<34}{marks:<6}{marks.count('#')} of {len(marks)}")


# %% A class of submissions: a process for each student
def students(folder):
    """The folders in a folder, in order, but for hidden ones; none if it is none."""
    folder = Path(folder).resolve()
    if not folder.is_dir():
        return []
    folders = [path for path in folder.iterdir() if path.is_dir()]
    return sorted(p for p in folders if p.name[0] != "." and p.name != "__pycache__")


def pytest_runtestloop(session):
    """With --submissions check those, and none of the exercises here."""
    folder = session.config.getoption("submissions", None)
    if folder is None or session.testsfailed or session.config.option.collectonly:
        return None
    start = time.monotonic()
    line = session.config.pluginmanager.get_plugin("terminalreporter").line
    exercises = [f"{item.path}::{item.name}" for item in session.items]
    single = len({item.path for item in session.items}) == 1
    examine = functools.partial(examined, exercises, session.config.option.limit)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for student, problems, notes in pool.map(examine, students(folder)):
            solved = list(problems.values()).count("")
            session.testsfailed += solved < len(exercises)
            line(
                ": ".join([f"{student:<30}{solved} of {len(exercises)} solved", *notes])
            )
            for exercise, problem in problems.items():
                if problem and single:
                    line(f"    {exercise.split('::test_')[1]}")
                    for text in problem.splitlines():
                        line(f"        {text}")
    line(f"{len(students(folder))} students in {time.monotonic() - start:.0f} seconds")
    return True


def examined(exercises, limit, folder):
    """A student's name, {exercise: what is wrong, or nothing}, and notes."""
    files = {exercise: submitted(folder, exercise) for exercise in exercises}
    there = [exercise for exercise in exercises if files[exercise].is_file()]
    notes = []
    for path in sorted(set(files.values())):
        others = " and ".join(repr(other.name) for other in similar(path))
        if not path.is_file() and (others or len(set(files.values())) == 1):
            notes.append(f"no file {path.name}" + (f" but {others}" if others else ""))
    problems, ended = marks(folder, there, limit) if there else ({}, "")
    if len(problems) < len(there):
        notes.append(f"{ended} at {there[len(problems)].split('/')[-1]}")
    return folder.name, problems, notes


def submitted(folder, exercise):
    """A student's file for an exercise such as .../test_02_tensors.py::test_blend."""
    return folder / answers_of(Path(exercise.split("::")[0])).name


def marks(folder, exercises, limit):
    """Check one student in a process: {exercise: what is wrong}, and how it ended."""
    command = [sys.executable, "-P", "-B", __file__, str(folder), *exercises]
    # there are as many processes as cores already
    options = {"timeout": limit, "env": os.environ | {"OMP_NUM_THREADS": "1"}}
    options |= {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    problems, ended = {}, "Python was ended"
    # a pipe would wait for whatever was started there
    with tempfile.TemporaryFile() as results:
        try:
            subprocess.run(command, stdout=results, **options)
        except subprocess.TimeoutExpired:
            ended = f"ran over {limit:g} seconds"
        results.seek(0)
        for text in results.read().decode("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError):  # a line that was cut short
                exercise, problem = json.loads(text)
                problems.setdefault(exercise, problem)
    return problems, ended


def check_one_student(folder, *exercises):
    """Write a line for each exercise to a standard output that answers do not see."""
    # Ctrl-C ends this, and is no student's error
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (1, 2):
        os.dup2(nothing, standard)
    for exercise in exercises:
        path, test = exercise.split("::")
        checks = getattr(load(Path(path)), test)
        answers = submitted(Path(folder), exercise)
        find = functools.partial(function, answers, name_of(checks))
        problem = problem_of(checks, find, answers)
        if not problem and not refuses_what_is_wrong():
            problem = "the comparison has been tampered with"
        results.write(json.dumps([exercise, problem[:2000]]) + "\n")
        results.flush()
    os._exit(0)  # wait for no thread of theirs


def refuses_what_is_wrong():
    """Whether the comparison works, after code that may have changed torch."""
    one, three = torch.ones(1), torch.full((1,), 3.0)
    wrong = [
        (one, three),
        (one.int(), three.int()),
        (one, one.int()),
        (one, torch.ones(2)),
        (one > 0, one < 0),
        (1.0, 3.0),
        (1, 3),
        (True, False),
        (1, 1.0),
        ((one,), (three,)),
    ]
    return all(difference(found, expected) for found, expected in wrong)


if __name__ == "__main__":
    check_one_student(*sys.argv[1:])
