"""The skeleton of a lesson, made in a copy of the course."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from helpers import LESSONS, ROOT, files_below, run_lesson

TOOLS = (".github/new_lesson.py", ".github/figures.py")
NAMES = ("README.md", "pyproject.toml", *TOOLS)
FOLDERS = ("lessons", "exercises", "tests")
LAST = LESSONS[-1].stem
NEW = "98_new"  # a number that no lesson of the course has


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A copy of the course without its pictures."""
    course = tmp_path_factory.mktemp("course")
    (course / ".github").mkdir()
    for name in NAMES:
        shutil.copy(ROOT / name, course / name)
    ignored = shutil.ignore_patterns("figures", "__pycache__")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, course / folder, ignore=ignored)
    return course


def files_of_the_new_lesson(course):
    files = [path.relative_to(course) for path in files_below(course)]
    return {path.as_posix() for path in files if NEW in path.stem}


def test_a_lesson_is_made_runs_and_says_what_is_left_until_it_is_done(course):
    script = course / ".github" / "new_lesson.py"
    arguments = ("98", "new", "Brand new")
    status, made, err = run_lesson(script, *arguments)
    assert (status, err) == (0, "") and made.count("made ") == 7
    expected = {f"lessons/{NEW}.py", f"lessons/{NEW}.md", f"tests/test_{NEW}.py"}
    expected |= {f"lessons/figures/{NEW}.png", f"lessons/figures/{NEW}_2.png"}
    for folder in ("", "test_", "solutions/", "wrong_answers/"):
        expected.add(f"exercises/{folder}{NEW}.py")
    assert expected <= files_of_the_new_lesson(course)
    chapter = (course / "lessons" / f"{NEW}.md").read_text("utf-8")
    assert chapter.startswith("# 98 Brand new\n") and "theory     5050\n" in chapter

    # The tests of the new lesson pass; the page for teachers is written by hand.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"tests/test_{NEW}.py", "tests/test_exercises.py"]
    command += ["-k", f"{NEW} and not teachers"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    options = {"cwd": course, "env": environment, "capture_output": True, "text": True}
    process = subprocess.run(command, **options)
    assert process.returncode == 0, process.stdout

    # The same command again changes nothing, and prints what is missing.
    before = {path: path.read_bytes() for path in files_below(course)}
    status, left, err = run_lesson(script, *arguments)
    assert (status, err) == (0, "") and made.endswith(left)
    assert before == {path: path.read_bytes() for path in files_below(course)}
    for page in ("README.md", "ways.md", LAST, "symptoms.md", "exercises/README.md"):
        assert page in left

    # Once it is done by hand, nothing is missing.
    for name in files_of_the_new_lesson(course):
        if name.endswith((".py", ".md")):
            text = (course / name).read_text("utf-8").replace("TODO", "done")
            text = text.replace("15 minutes, exercises 10", "0 minutes")
            (course / name).write_text(text, "utf-8")
    by_hand = {
        "README.md": f"\n| [98 Brand new](lessons/{NEW}.md) | Is it? | see |\n",
        "lessons/ways.md": "\n98 Brand new\n",
        "lessons/symptoms.md": f"\n| done | | done | [98]({NEW}.md#go-wrong) |\n",
        "exercises/README.md": "\n| 98 | a thought |\n",
        f"lessons/{LAST}.md": f"\nNext: [98 Brand new]({NEW}.md)\n",
    }
    for name, text in by_hand.items():
        with open(course / name, "a", encoding="utf-8") as page:
            page.write(text)
    status, left, err = run_lesson(script, *arguments)
    assert (status, err) == (0, "")
    # The hours are those of all lessons, and another test holds them.
    lines = [line for line in left.splitlines()[1:] if "The lessons take" not in line]
    assert lines == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give a number, a name and a title"),
        (["98", "new"], "give a number, a name and a title"),
        (["02", "new", "New"], f"02 is taken by {LESSONS[1].stem}"),
        (["9", "new", "New"], "'9' must be a number of two digits"),
        (["99", "New", "New"], "'New' must consist of small letters and _"),
        (["99", "../new", "New"], "'../new' must consist of small letters and _"),
    ],
)
def test_bad_input_ends_in_one_line(course, arguments, reason):
    before = files_below(course)
    status, out, err = run_lesson(course / ".github" / "new_lesson.py", *arguments)
    assert (status, out) == (2, "") and re.fullmatch(r"new_lesson: .*\n", err)
    assert reason in err and files_below(course) == before
