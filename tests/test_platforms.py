"""What other systems do differently, as far as it can be tried on this one."""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from test_command_line import copy_alone
from test_curriculum import LESSONS, ROOT, each
from test_faults import READERS, READS


@each(READERS)
def test_line_ends_of_windows_change_nothing(path, tmp_path, monkeypatch):
    lesson, content = importlib.import_module(path.stem), (ROOT / "data" / READS[path]).read_bytes()
    header, *rows = content.decode().splitlines()
    expected = lesson.read_csv(READS[path], header, len(rows))
    (tmp_path / READS[path]).write_bytes(content.replace(b"\n", b"\r\n"))
    monkeypatch.setattr(lesson, "DATA", tmp_path)
    np.testing.assert_array_equal(lesson.read_csv(READS[path], header, len(rows)), expected)


def test_a_console_of_few_letters_shows_results_and_errors(tmp_path):
    with_data, without = tmp_path / "Übung 練習", tmp_path / "Übung ohne Daten"
    runs = []
    for folder, encoding in ((with_data, "ascii"), (without, "ascii"), (without, "cp1252")):
        if not folder.exists():
            folder.mkdir()
            copy_alone(READERS[0], folder)
        environment = os.environ | {"PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, folder / "mine" / READERS[0].name, "--device", "cpu"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        if folder == without:
            shutil.rmtree(folder / "data", ignore_errors=True)
        runs.append(subprocess.Popen(command, env=environment, **pipes))
    results, *errors = [(*run.communicate(timeout=120), run.returncode) for run in runs]
    assert results[1:] == (b"", 0) and results[0].isascii()
    for _, err, status in errors:
        assert (status, len(err.splitlines())) == (1, 1)
        assert b"bung ohne Daten" in err and b"git checkout data" in err


# Root may write anywhere, unless that capability is dropped.
ROOT_USER = os.name != "nt" and os.geteuid() == 0
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"] if ROOT_USER else []


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
@pytest.mark.skipif(ROOT_USER and not shutil.which("setpriv"), reason="root may write anywhere")
def test_nothing_but_the_temporary_folder_needs_to_be_written():
    with tempfile.TemporaryDirectory() as name:
        folder, temporary = Path(name, "course"), Path(name, "temporary")
        shutil.copytree(ROOT / "lessons", folder / "lessons", ignore=shutil.ignore_patterns("_*"))
        shutil.copytree(ROOT / "data", folder / "data")
        temporary.mkdir()
        Path(name).chmod(0o755)
        temporary.chmod(0o777)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        keep = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
        home = {"HOME": "/nonexistent", "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
        with pytest.raises(subprocess.CalledProcessError):
            subprocess.run(
                [*UNPRIVILEGED, "touch", folder / "a"], stderr=subprocess.DEVNULL, check=True
            )
        script = folder / "lessons" / "09_dataset_dataloader.py"
        arguments = ["--device", "cpu", "--figure", temporary / "a.png"]
        command = [*UNPRIVILEGED, sys.executable, script, *arguments]
        process = subprocess.run(command, cwd=folder, env=keep | home, capture_output=True)
        assert process.returncode == 0, process.stderr.decode()
        assert b"12. Mistake" in process.stdout and (temporary / "a.png").stat().st_size > 1000
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)


def test_every_text_file_of_the_course_can_be_read_anywhere():
    """Names that no system refuses, and UTF-8 without a byte order mark."""
    for path in (*LESSONS, *(ROOT / "tests").rglob("*.py"), *(ROOT / "exercises").rglob("*.py")):
        assert path.name.isascii() and path.name == path.name.lower()
        assert not path.read_bytes().startswith(b"\xef\xbb\xbf")
        path.read_text("utf-8")
