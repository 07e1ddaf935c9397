"""What a user types: every lesson runs anywhere, and refuses what it cannot do in one line."""

import importlib.metadata
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "lessons").glob("*.py"))
# Lesson 10 ends in one line where torchvision is older than 0.16; requirements.txt admits 0.15.
too_old = pytest.mark.skipif(
    importlib.metadata.version("torchvision").startswith("0.15."),
    reason="lesson 10 needs torchvision 0.16 or newer",
)


def each(paths):
    """Parametrise a test by the path of each lesson."""
    marks = {"10_transforms": too_old}
    parameters = [pytest.param(p, id=p.stem, marks=marks.get(p.stem, ())) for p in paths]
    return pytest.mark.parametrize("path", parameters)


every_lesson, later_lessons = each(LESSONS), each(LESSONS[1:])


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
@pytest.mark.filterwarnings("error::UserWarning")
def test_a_lesson_runs_alone_from_anywhere_and_writes_nothing(path, run, tmp_path, monkeypatch):
    folder = tmp_path / "Übung 1"
    folder.mkdir()
    copy = copy_alone(path, folder)
    before = files(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    status, out, err = run(copy)
    assert (status, err) == (0, "")
    assert files(tmp_path) == before
    lines = out.splitlines()
    assert out.isascii() and lines[0].startswith(path.stem[:2])
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
def test_a_picture_that_cannot_be_saved_is_refused_before_anything_is_computed(path, run, tmp_path):
    for file in (tmp_path / "gone" / "a.png", tmp_path / "a.docx", tmp_path / "a", tmp_path, ""):
        status, out, err = run(path, "--device", "cpu", "--figure", file)
        assert (status, out) == (2, "")
        assert "error: --figure: " in err.strip().splitlines()[-1]
    assert not files(tmp_path)


@later_lessons
def test_a_picture_is_saved_whole_or_not_at_all(path, run, tmp_path, monkeypatch):
    (tmp_path / "folder.png").mkdir()
    status, _, err = run(path, "--device", "cpu", "--figure", tmp_path / "folder.png")
    assert status == 2 and "error: --figure: " in err.strip().splitlines()[-1]
    old = tmp_path / "old.png"
    old.write_bytes(b"a picture that is there")

    def full_disk(self, content):
        with open(self, "wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    status, _, err = run(path, "--device", "cpu", "--figure", old)
    assert status == 2 and "No space left on device" in err.strip().splitlines()[-1]
    assert files(tmp_path) == [old] and old.read_bytes() == b"a picture that is there"


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


READERS = [path for path in LESSONS if "\nDATA = " in path.read_text("utf-8")]


@each(READERS)
def test_missing_data_ends_in_one_line_that_names_the_file(path, run, tmp_path):
    copy = copy_alone(path, tmp_path)
    for file in (tmp_path / "data").iterdir():
        file.unlink()
    message, _, err = run(copy)
    assert err == ""
    assert str(tmp_path / "data") in message and "expected" in message and "\n" not in message


def test_what_ends_a_lesson_goes_to_standard_error_with_status_1(tmp_path):
    copy = copy_alone(READERS[0], tmp_path)
    shutil.rmtree(tmp_path / "data")
    process = subprocess.run([sys.executable, copy], capture_output=True, text=True, timeout=120)
    assert (process.returncode, len(process.stderr.splitlines())) == (1, 1)
