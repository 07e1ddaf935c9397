"""What pytest exercises prints: a line for each exercise, and, for a single file, what helps.

With --submissions FOLDER the answers come from FOLDER/NAME/02_tensors.py and so on, and the
checks from here: a line for each NAME.
"""

import collections
import importlib.metadata
import importlib.util
import traceback
from pathlib import Path

import pytest

collect_ignore = ["solutions"]
if importlib.metadata.version("torchvision").startswith("0.15."):
    collect_ignore.append("10_transforms.py")  # it needs 0.16, as the lesson does
STATE = {"passed": "solved", "failed": "to do"}


def pytest_addoption(parser):
    parser.addoption("--submissions", metavar="FOLDER", help="check FOLDER/NAME/NN_name.py of all")


def pytest_configure(config):
    config.option.verbose = min(config.option.verbose, -1)  # our lines instead of pytest's
    config.option.continue_on_collection_errors = True  # the other files are checked all the same
    folder = config.getoption("submissions")
    if folder is not None and not students(folder):
        raise pytest.UsageError(f"--submissions: {folder!r} must be a folder of folders, one each")


def students(folder):
    """The folders in a folder, in order; none if there is no such folder."""
    folder = Path(folder)
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def pytest_generate_tests(metafunc):
    folder = metafunc.config.getoption("submissions")
    if folder is not None:
        paths = students(folder)
        metafunc.parametrize("answer", paths, ids=[path.name for path in paths], indirect=True)


@pytest.fixture(autouse=True)
def answer(request, monkeypatch):
    """Put the function of a submission in the place of the exercise."""
    if hasattr(request, "param"):
        path, name = request.param / request.path.name, request.function.__name__[len("test_") :]
        monkeypatch.setattr(request.module, name, submitted(path, name))


def submitted(path, name):
    """The function of that name in a file, or one that raises what reading the file raised."""

    def failed(*_, **__):
        raise problem

    problem = NotImplementedError()  # until there is such a function
    if path.is_file():
        try:
            spec = importlib.util.spec_from_file_location("submission", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            if hasattr(module, name):
                return getattr(module, name)
        except Exception as error:  # whatever somebody else's file does
            problem = error
    return failed


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    """Of a file that cannot be imported show the error alone, without pytest's own lines."""
    report = (yield).get_result()
    if report.failed:
        lines = [line for line in str(report.longrepr).splitlines() if line.startswith("E ")]
        report.longrepr = "\n".join(line[1:].removeprefix("   ") for line in lines)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Put beside a report whose answer it is about, and what went wrong with it."""
    report = (yield).get_result()
    report.exercise = item.path.stem, item.originalname[len("test_") :]
    report.student = item.callspec.params["answer"].name if hasattr(item, "callspec") else None
    report.problem = explained(call.excinfo.value) if call.excinfo else ""


def explained(error):
    """The message of a check that failed; of any other error also the line that raised it."""
    if isinstance(error, NotImplementedError) and not str(error):  # torch raises it with words
        return "not written yet"
    if isinstance(error, AssertionError):
        return str(error)
    inside = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    ours = [f for f in inside if Path(f.filename).stem[:2].isdigit()]
    known = ours and not isinstance(error, SyntaxError)  # which says itself where it is
    where = f"{Path(ours[-1].filename).name}, line {ours[-1].lineno}" if known else ""
    where += " in the check" if known and ours[-1].name.startswith("test_") else ""
    return f"{where}{': ' if where else ''}{type(error).__name__}: {str(error).strip()}"


def pytest_report_teststatus(report):
    if report.when == "call" and report.outcome in STATE:
        return STATE[report.outcome], "", ""


def pytest_terminal_summary(terminalreporter, config):
    reports = [r for state in STATE.values() for r in terminalreporter.getreports(state)]
    reports.sort(key=lambda report: (report.location[0], report.location[1]))
    single = len({report.location[0] for report in reports}) == 1
    groups = collections.defaultdict(list)
    for report in reports:
        groups[report.student].append(report)
    terminalreporter.ensure_newline()
    for student in sorted(groups, key=str):
        if student is not None:
            solved = sum(report.passed for report in groups[student])
            terminalreporter.line(f"{student:<30}{solved} of {len(groups[student])} solved")
        for report in groups[student] if student is None or single else ():
            terminalreporter.line(f"{'  '.join(report.exercise):<50}{STATE[report.outcome]}")
            for line in report.problem.splitlines() if single else ():
                terminalreporter.line(f"    {line}")
    if not single and any(report.failed for report in reports):
        terminalreporter.line(
            "\nFor what is wrong, run one file: python -m pytest exercises/NN_name.py"
        )
