"""What a user types: every lesson runs anywhere, and says the same each time."""

import shutil
from pathlib import Path

import pytest
from test_curriculum import LESSONS, ROOT, every_lesson, later_lessons


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
    assert path == LESSONS[0] or run(copy)[1] == out  # the same on every run
    lines = out.splitlines()
    assert out.isascii() and lines[0].startswith(path.stem[:2])
    assert path == LESSONS[0] or max(map(len, lines)) < 80


@every_lesson
def test_help_says_what_the_lesson_is_about(path, run):
    status, out, err = run(path, "--help")
    assert (status, err) == (0, "")
    assert path.stem[:2] in out and "--device" in out


@later_lessons
def test_the_picture_is_saved_where_it_is_asked_for(path, run, tmp_path):
    file = tmp_path / "a picture.svg"
    assert run(path, "--device", "cpu", "--figure", file)[0] == 0
    assert files(tmp_path) == [file]
    assert "<svg" in file.read_text("utf-8")


@later_lessons
@pytest.mark.parametrize("function", ["main", "figure"])
@pytest.mark.parametrize("error", [ValueError, OSError, ZeroDivisionError])
def test_an_error_in_the_code_shows_pythons_own_traceback(path, run, tmp_path, function, error):
    copy = copy_alone(path, tmp_path)
    head = f"def {function}(device"
    before, after = copy.read_text("utf-8").split(head)
    signature, body = after.split("\n", 1)
    broken = f"{before}{head}{signature}\n    raise {error.__name__}\n{body}"
    if function == "figure":  # go there straight away
        broken = broken.replace("\n    main(args.device)\n", "\n")
    copy.write_text(broken, "utf-8")
    with pytest.raises(error):
        run(copy, "--device", "cpu", "--figure", tmp_path / "a.png")
