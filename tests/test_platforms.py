"""What other systems do differently, as far as it can be tried on this one."""

import importlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    LESSONS,
    LESSONS_WITH_DATA,
    ROOT,
    copy_alone,
    read,
    run_lesson,
    start_python,
)

WITH_WORKERS = next(path for path in LESSONS if path.stem.startswith("09"))


# Every reader is the same to the letter, as tests/test_curriculum.py says: one is
# tried.
def test_line_ends_of_windows_change_nothing(tmp_path, monkeypatch):
    name = re.search(r'read_csv\("(\w+\.csv)"', read(LESSONS_WITH_DATA[0]))[1]
    lesson, content = (
        importlib.import_module(LESSONS_WITH_DATA[0].stem),
        (ROOT / "data" / name).read_bytes(),
    )
    rows = content.decode("ascii").splitlines()[1:]
    size = len(rows), len(rows[0].split(","))
    expected = lesson.read_csv(name, *size)
    (tmp_path / name).write_bytes(content.replace(b"\n", b"\r\n"))
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    np.testing.assert_array_equal(lesson.read_csv(name, *size), expected)


# Root may write anywhere, unless that capability is dropped.
ROOT_USER = os.name != "nt" and os.geteuid() == 0
UNPRIVILEGED = (
    ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"] if ROOT_USER else []
)


FEW_LETTERS = {"PYTHONIOENCODING": "ascii"}  # a console's


def lesson_in_a_folder_that_is_read_only(folder):
    folder.chmod(0o755)
    course, temporary = folder / "course", folder / "temporary"
    course.mkdir()
    script = copy_alone(WITH_WORKERS, course)
    temporary.mkdir()
    for path in (course, *course.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    keep = {
        key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ
    }
    home = {"HOME": "/nonexistent", "TMPDIR": str(temporary)}
    options = {
        "before": UNPRIVILEGED,
        "environment": keep | home | FEW_LETTERS,
        "cwd": course,
    }
    return start_python(script, "--device", "cpu", **options)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.skipif(
    ROOT_USER and not shutil.which("setpriv"), reason="root may write anywhere"
)
def test_nothing_but_the_temporary_folder_needs_to_be_written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a")  # sockets have short names, or none
    process = lesson_in_a_folder_that_is_read_only(folder)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    last = re.findall(r"^# %% (\d+\. .+)$", read(WITH_WORKERS), re.MULTILINE)[-1]
    assert last.encode() in out
    course = Path(process.args[-3]).parent.parent
    denied = subprocess.run(
        [*UNPRIVILEGED, "touch", course / "a"], stderr=subprocess.DEVNULL
    )
    assert denied.returncode
    for path in (course, *course.rglob("*")):
        path.chmod(0o755)


def test_every_text_file_of_the_course_can_be_read_anywhere():
    """Names that no system refuses, and UTF-8 without a byte order mark."""
    for path in (
        *LESSONS,
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "exercises").rglob("*.py"),
    ):
        assert path.name.isascii() and path.name == path.name.lower()
        assert not path.read_bytes().startswith(b"\xef\xbb\xbf")
        path.read_text("utf-8")


def test_a_console_of_few_letters_shows_an_error(tmp_path):
    course = tmp_path / "Übung 練習"
    course.mkdir()
    script = copy_alone(LESSONS_WITH_DATA[0], course)
    shutil.rmtree(course / "data")
    status, _, err = run_lesson(script, "--device", "cpu")
    assert (status, len(err.splitlines())) == (1, 1)
    # so Python writes errors to such a console
    err = err.encode("ascii", "backslashreplace")
    for part in (b"bung ", b".csv: ", b"copy the file from the course again"):
        assert part in err
