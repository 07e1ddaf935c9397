"""What a user types: every lesson runs anywhere, and refuses what it cannot do in one line."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "lessons").glob("*.py"))
every_lesson = pytest.mark.parametrize("path", LESSONS, ids=[path.stem for path in LESSONS])
later_lessons = pytest.mark.parametrize("path", LESSONS[1:], ids=[p.stem for p in LESSONS[1:]])


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a lesson in this process as a user would: (status, standard output, error output)."""

    def run_lesson(path, *arguments):
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        try:
            runpy.run_path(str(path), run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code
        out, err = capsys.readouterr()
        return status, out, err

    return run_lesson


def copy_alone(path, folder):
    """A lesson copied into an empty folder, with the data beside it if it reads any."""
    (folder / "mine").mkdir()
    copy = shutil.copy(path, folder / "mine")
    if "\nDATA = " in path.read_text("utf-8"):
        shutil.copytree(ROOT / "data", folder / "data")
    return Path(copy)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@every_lesson
def test_a_lesson_runs_alone_from_anywhere_and_writes_nothing(path, tmp_path):
    folder = tmp_path / "Übung 1"
    folder.mkdir()
    copy = copy_alone(path, folder)
    before = files(tmp_path)
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"PYTHONIOENCODING": "ascii"}
    process = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", copy],
        **{"cwd": tmp_path, "env": environment, "capture_output": True, "timeout": 120},
    )
    assert (process.returncode, process.stderr) == (0, b"")
    assert files(tmp_path) == before
    lines = process.stdout.decode("ascii").splitlines()
    assert lines[0].startswith(path.stem[:2])
    assert path == LESSONS[0] or max(map(len, lines)) < 80


@every_lesson
def test_help_says_what_the_lesson_is_about(path, run):
    status, out, err = run(path, "--help")
    assert (status, err) == (0, "")
    assert path.stem[:2] in out and "--device" in out


@later_lessons
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_in_one_line(path, run):
    status, out, err = run(path, "--device", "cuda")
    usage, error = err.strip().rsplit("\n", 1)
    assert (status, out) == (2, "")
    assert usage.startswith("usage: ") and "--device: invalid choice: 'cuda'" in error


@every_lesson
@pytest.mark.parametrize("arguments", [["--device", "tpu"], ["--devise", "cpu"], ["more"]])
def test_other_arguments_are_refused_in_one_line(path, run, arguments):
    status, out, err = run(path, *arguments)
    assert (status, out) == (2, "")
    assert arguments[-1] in err.strip().splitlines()[-1]


@later_lessons
def test_the_picture_is_saved_where_it_is_asked_for(path, run, tmp_path):
    file = tmp_path / "a picture.svg"
    assert run(path, "--device", "cpu", "--figure", file)[0] == 0
    assert files(tmp_path) == [file]
    assert "<svg" in file.read_text("utf-8")


@later_lessons
def test_a_picture_that_cannot_be_saved_is_refused_in_one_line(path, run, tmp_path):
    (tmp_path / "folder.png").mkdir()
    for file in (tmp_path / "gone" / "a.png", tmp_path / "a.docx", tmp_path / "folder.png"):
        status, _, err = run(path, "--device", "cpu", "--figure", file)
        assert status == 2
        assert "error: --figure: " in err.strip().splitlines()[-1]
    assert not files(tmp_path)


@later_lessons
@pytest.mark.parametrize("function", ["main", "figure"])
@pytest.mark.parametrize("error", [ValueError, OSError, ZeroDivisionError])
def test_an_error_in_the_code_shows_pythons_own_traceback(path, run, tmp_path, function, error):
    copy = copy_alone(path, tmp_path)
    head = f"def {function}(device"
    before, after = copy.read_text("utf-8").split(head)
    signature, body = after.split("\n", 1)
    broken = f"{before}{head}{signature}\n    raise {error.__name__}\n{body}"
    copy.write_text(broken, "utf-8")
    with pytest.raises(error):
        run(copy, "--device", "cpu", "--figure", tmp_path / "a.png")


@pytest.mark.parametrize("path", [p for p in LESSONS if "\nDATA = " in p.read_text("utf-8")])
def test_missing_data_ends_in_one_line_that_names_the_file(path, tmp_path):
    copy = copy_alone(path, tmp_path)
    for file in (tmp_path / "data").iterdir():
        file.unlink()
    process = subprocess.run([sys.executable, copy], capture_output=True, text=True, timeout=120)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert str(tmp_path / "data") in line and "expected" in line
