"""What other systems do differently, as far as it can be tried on this one."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from course import LESSONS, READERS, ROOT, copy_alone, read

WITH_WORKERS = next(path for path in LESSONS if path.stem.startswith("09"))


@pytest.fixture(scope="module", autouse=True)
def console(tmp_path_factory):
    """A lesson without its data, on a console of few letters, while the other tests run."""
    folder = tmp_path_factory.mktemp("console") / "Übung 練習"
    folder.mkdir()
    script = copy_alone(READERS[0], folder)
    shutil.rmtree(folder / "data")
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, script, "--device", "cpu"]
    with subprocess.Popen(command, env=environment, **pipes) as process:
        yield process
        process.kill()


# Every reader is the same to the letter, as tests/test_curriculum.py says: one is tried.
def test_line_ends_of_windows_change_nothing(tmp_path, monkeypatch):
    name = re.search(r'read_csv\("(\w+\.csv)"', read(READERS[0]))[1]
    lesson, content = importlib.import_module(READERS[0].stem), (ROOT / "data" / name).read_bytes()
    rows = content.decode("ascii").splitlines()[1:]
    size = len(rows), len(rows[0].split(","))
    expected = lesson.read_csv(name, *size)
    (tmp_path / name).write_bytes(content.replace(b"\n", b"\r\n"))
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    np.testing.assert_array_equal(lesson.read_csv(name, *size), expected)


# Root may write anywhere, unless that capability is dropped.
ROOT_USER = os.name != "nt" and os.geteuid() == 0
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"] if ROOT_USER else []


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.skipif(ROOT_USER and not shutil.which("setpriv"), reason="root may write anywhere")
def test_nothing_but_the_temporary_folder_needs_to_be_written():
    with tempfile.TemporaryDirectory() as name:
        folder, temporary = Path(name, "course"), Path(name, "temporary")
        folder.mkdir()
        script = copy_alone(WITH_WORKERS, folder)
        temporary.mkdir()
        Path(name).chmod(0o755)
        temporary.chmod(0o777)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        keep = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
        home = {"HOME": "/nonexistent", "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
        home["PYTHONIOENCODING"] = "ascii"  # a console of few letters shows results
        with pytest.raises(subprocess.CalledProcessError):
            subprocess.run(
                [*UNPRIVILEGED, "touch", folder / "a"], stderr=subprocess.DEVNULL, check=True
            )
        arguments = ["--device", "cpu"]
        command = [*UNPRIVILEGED, sys.executable, script, *arguments]
        process = subprocess.run(command, cwd=folder, env=keep | home, capture_output=True)
        assert process.returncode == 0, process.stderr.decode()
        assert b"9. Mistake" in process.stdout
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)


def test_every_text_file_of_the_course_can_be_read_anywhere():
    """Names that no system refuses, and UTF-8 without a byte order mark."""
    for path in (*LESSONS, *(ROOT / "tests").rglob("*.py"), *(ROOT / "exercises").rglob("*.py")):
        assert path.name.isascii() and path.name == path.name.lower()
        assert not path.read_bytes().startswith(b"\xef\xbb\xbf")
        path.read_text("utf-8")


def test_a_console_of_few_letters_shows_an_error(console):
    _, err = console.communicate(timeout=120)
    assert (console.returncode, len(err.splitlines())) == (1, 1)
    for part in (b"bung ", b".csv: ", b"copy the file from the course again"):
        assert part in err
