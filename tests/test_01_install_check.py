"""What lesson 01 claims: it tells broken installs apart, and falls over none."""

import errno
import importlib
import json
import math
import multiprocessing.spawn
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pytest
import torch
from helpers import (
    FENCE,
    LESSONS_WITH_DATA,
    ROOT,
    blocks,
    needs_cuda,
    read,
    run_block,
    start_python,
)
from test_chapters import plain, unwitnessed

SCRIPT = ROOT / "lessons" / "01_install_check.py"
PACKAGES = ("torch", "torchvision", "numpy", "matplotlib", "pytest")
FINE = ("", "")


def ended(process):
    """(status, lines of its output) of a process at its end; no traceback ever."""
    out, err = process.communicate(timeout=120)
    assert b"Traceback" not in out + err
    return process.returncode, out.decode("ascii").splitlines()


def after(lines, start):
    """The first line that starts so, and the advice below it."""
    index = next(i for i, line in enumerate(lines) if line.strip().startswith(start))
    return lines[index], lines[index + 1].strip()


def test_the_oldest_versions_are_those_of_requirements_txt(lesson):
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    floors = dict(line.split(">=") for line in lines if not line.startswith("#"))
    assert {name: lesson.OLDEST[name] for name in PACKAGES} == floors
    assert set(lesson.OLDEST) == {"Python", *PACKAGES}


def test_without_any_package_each_is_a_line_with_its_command():
    status, lines = ended(start_python("-S", SCRIPT))  # -S: no site-packages
    assert status == 1
    for name in PACKAGES:
        line, advice = after(lines, name)
        assert line.split() == [name, "-", "missing"]
        both = name in ("torch", "torchvision")
        packages = "torch torchvision" if both else name
        assert advice == f"python -m pip install --upgrade {packages}"
    assert after(lines, "torch missing")[1] == "mend torch first"
    assert lines[-1] == "not ready: 5 problems"


def fake(folder, name, code, version):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)
    (folder / name / "version.py").write_text(f"__version__ = '{version}'\n")


def test_a_torchvision_for_another_torch_is_a_line_with_its_cure(
    lesson, tmp_path, monkeypatch, capsys
):
    error = "operator torchvision::nms does not exist"
    fake(tmp_path, "torchvision", f"raise RuntimeError('{error}\\nmore')", "0.28.0+cu1")
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    assert lesson.main("cpu") > 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("not ready:")
    line, advice = after(lines, "torchvision")
    assert line.split(maxsplit=2)[1:] == ["0.28.0+cu1", f"RuntimeError: {error}"]
    assert advice == "uninstall torch and torchvision, install both from one index:"


BROKEN = ("raise OSError('no library')", "1 / 0", "import gone")


def test_a_torch_that_does_not_import_is_a_line_not_a_traceback(tmp_path):
    processes = []
    for number, code in enumerate(BROKEN):
        folder = tmp_path / str(number)
        folder.mkdir()
        fake(folder, "torch", code, "2.9.0")
        changed = os.environ | {"PYTHONPATH": str(folder)}
        processes.append(start_python(SCRIPT, "--device", "cuda", environment=changed))
    for process in processes:
        status, lines = ended(process)
        line, advice = after(lines, "torch ")
        assert line.split()[:2] == ["torch", "2.9.0"] and "Error: " in line
        assert advice.endswith("install --upgrade torch torchvision --force-reinstall")
        assert status == 1 and lines[-1].startswith("not ready: ")


def test_this_machine_is_ready_on_what_it_has(lesson, capsys):
    assert lesson.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "01 Install check"
    usable = lesson.cuda_case(torch, lesson.driver_version(), "Linux")[0] == "ready"
    assert lines[-1] == ("ready: cpu, cuda" if usable else "ready: cpu")
    assert lesson.main("cpu") == 0
    assert lesson.main("cuda") == (not usable)


@pytest.mark.parametrize("section", [1, 2, 3, 4])
def test_a_section_prints_its_own_lines_and_whether_all_is_ready(
    lesson, capsys, monkeypatch, section
):
    problem = ("wrong numbers", "mend it")  # section 4 finds it, whichever is printed
    monkeypatch.setattr(lesson, "proof", lambda torch, device: (1.0, 0.0, problem))
    assert lesson.main("cpu") == 1
    title, *parts, end = capsys.readouterr().out.split("\n\n")
    assert len(parts) == 4 and end == "not ready: 1 problem\n"
    assert lesson.main("cpu", section) == 1
    shown = capsys.readouterr().out.split("\n\n")
    assert shown == [title, parts[section - 1], end]
    assert shown[1].startswith(f"{section}. ")


def test_the_command_line_knows_four_sections(run):
    status, out, err = run(SCRIPT, "--device", "cpu", "--section", 3)
    assert (status, err) == (0, "")
    assert "3. CUDA: four cases" in out and "1. Python" not in out
    for number in ("0", "5", "two"):
        status, out, err = run(SCRIPT, "--section", number)
        assert (status, out) == (2, "")
        assert "error: argument --section: invalid" in err.splitlines()[-1]


def test_a_closed_pipe_ends_it_silently():
    for unbuffered in ("", "1"):  # it is noticed at the end, or by the first print
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        with start_python("-S", SCRIPT, environment=environment) as process:
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(timeout=120) == 0


def test_a_cpu_only_build_is_ready_but_not_for_cuda(lesson, capsys, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert lesson.main() == 0
    lines = capsys.readouterr().out.splitlines()
    advice = "no problem: the lessons run on the CPU"
    assert after(lines, "CPU-only build")[1] == advice
    assert after(lines, advice)[1].endswith("pytorch.org/get-started/locally")
    assert lines[-1] == "ready: cpu"
    assert lesson.main("cuda") == 1
    lines = capsys.readouterr().out.splitlines()
    assert after(lines, "cuda")[0].split(maxsplit=3)[-1] == "CPU-only build"
    assert lines[-1] == "not ready: 1 problem"


def test_a_cuda_build_without_a_gpu_is_ready_but_not_for_cuda(
    lesson, capsys, monkeypatch
):
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(lesson, "driver_version", lambda: None)
    assert lesson.main() == 0
    lines = capsys.readouterr().out.splitlines()
    advice = "no problem: the lessons run on the CPU"
    assert after(lines, "no usable GPU: no NVIDIA driver")[1] == advice
    assert after(lines, advice)[1] == "with an NVIDIA card, install driver 580"
    assert lines[-1] == "ready: cpu"
    assert lesson.main("cuda") == 1


def test_the_version_is_read_without_importing(lesson, tmp_path, monkeypatch):
    assert lesson.installed_version("torch") == torch.__version__
    assert lesson.installed_version("pytest") == pytest.__version__
    assert lesson.installed_version("no_such_package") is None
    monkeypatch.syspath_prepend(tmp_path)
    fake(tmp_path, "fake_package", "raise RuntimeError", "1.2+cu3")
    assert lesson.installed_version("fake_package") == "1.2+cu3"
    (tmp_path / "fake_package" / "version.py").write_text("version = 1")
    assert lesson.installed_version("fake_package") == "unknown"
    (tmp_path / "fake_folder").mkdir()  # no __init__.py: a namespace, without an origin
    importlib.invalidate_caches()
    assert lesson.installed_version("fake_folder") == "unknown"


def test_an_import_that_fails_is_one_line_and_silent(
    lesson, tmp_path, monkeypatch, capsys
):
    assert lesson.try_import("json") == (json, "")
    monkeypatch.syspath_prepend(tmp_path)
    noisy = "import sys; print('noise'); print('noise', file=sys.stderr)"
    noisy += "; raise RuntimeError('\\nfirst \\u2603\\nsecond')"
    fake(tmp_path, "fake_noisy", noisy, "1")
    assert lesson.try_import("fake_noisy") == (None, "RuntimeError: first \\u2603")
    fake(tmp_path, "fake_exit", "raise SystemExit(0)", "1")
    assert lesson.try_import("fake_exit") == (None, "SystemExit: 0")
    fake(tmp_path, "fake_empty", "", "1")
    wrong = f"hidden by {tmp_path / 'fake_empty' / '__init__.py'}: rename that"
    assert lesson.try_import("fake_empty") == (None, wrong)
    (tmp_path / "fake_nothing").mkdir()
    wrong = "hidden by a folder: rename that"
    assert lesson.try_import("fake_nothing") == (None, wrong)
    assert lesson.try_import("no_such_package")[1].startswith("ModuleNotFoundError: ")
    assert capsys.readouterr() == ("", "")
    assert lesson.one_line(KeyError()) == "KeyError: "


def test_versions_compare_as_numbers(lesson):
    assert lesson.version_tuple("2.15.0+cu132") == (2, 15, 0)
    assert lesson.version_tuple("2.9") < lesson.version_tuple("2.15.0a0+git1")
    assert lesson.version_tuple("unknown") == ()


def test_torch_and_torchvision_are_only_ever_installed_together(lesson):
    pip = "python -m pip install --upgrade"
    for name in ("torch", "torchvision"):
        for computer in (("Linux", "x86_64"), ("Darwin", "arm64")):
            command = lesson.install_command(name, *computer, False)
            assert command == f"{pip} torch torchvision"
        intel_mac = lesson.install_command(name, "Darwin", "x86_64", False)
        assert intel_mac == f'{pip} "torch==2.2.2" "torchvision==0.17.2" "numpy<2"'
        conda = lesson.install_command(name, "Darwin", "x86_64", True)
        assert conda == "conda install -c conda-forge pytorch torchvision"
    assert lesson.install_command("numpy", "Darwin", "x86_64", False) == f"{pip} numpy"
    conda = lesson.install_command("numpy", "Linux", "x86_64", True)
    assert conda == "conda install -c conda-forge numpy"


def test_a_package_is_missing_broken_too_old_or_fine(lesson):
    def problem(version, error="", name="matplotlib"):
        return lesson.package_problem(name, version, error, "mend it")

    assert problem(None, "ModuleNotFoundError: No module") == ("missing", "mend it")
    assert problem("3.9", "OSError: x") == ("OSError: x", "mend it --force-reinstall")
    for dll in (
        "OSError: [WinError 126] The specified module could not be found. Error "
        'loading "fbgemm.dll" or one of its dependencies.',
        "OSError: [WinError 1114] A dynamic link library (DLL) initialization routine",
        "ImportError: DLL load failed while importing _C",
    ):
        wrong, mend = problem("2.4.0", dll, "torch")
        assert wrong == dll and "aka.ms/vc14/vc_redist.x64.exe" in mend
        assert mend.endswith("\nmend it")
    for other in ("OSError: [WinError 1260] x", "OSError: [WinError 5] Access"):
        assert problem("2.4.0", other) == (other, "mend it --force-reinstall")
    nms = "RuntimeError: operator torchvision::nms does not exist"
    assert problem("0.28.0", nms, "torchvision") == (nms, lesson.TOGETHER)
    assert problem("3.7.5") == ("older than 3.8", "mend it")
    assert problem("3.8") == problem("3.10") == problem("unknown") == FINE


def test_an_old_python_is_a_problem(lesson):
    assert lesson.python_problem("3.9.18", 64)[0] == "older than 3.11"
    for version in ("3.11.0", "3.14.2"):
        assert lesson.python_problem(version, 64) == FINE
        assert lesson.python_problem(version, 32)[0] == "has 32 bits"


def test_the_report_names_the_python_that_runs_and_its_environment(
    lesson, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "executable", "/home/J\u00fcrgen/python")
    assert lesson.main("cpu", 1) == 0
    line, path = after(capsys.readouterr().out.splitlines(), "Python ")
    assert platform.python_version() in line and path == "/home/J\\xfcrgen/python"
    monkeypatch.setattr(sys, "executable", "")  # so it is inside another program
    assert lesson.main("cpu", 1) == 0
    assert "      unknown\n" in capsys.readouterr().out


def test_an_environment_is_known_by_its_folders(lesson, tmp_path):
    folder = str(tmp_path)
    assert lesson.environment_of(folder, folder) == "no environment"
    assert lesson.environment_of(folder, "/usr") == "a virtual environment"
    (tmp_path / "conda-meta").mkdir()
    assert lesson.environment_of(folder, folder) == "a conda environment"


def test_a_python_that_is_ended_from_inside_leaves_the_lines_before(tmp_path):
    """The second OpenMP ends the process, without an exception that could be caught."""
    fake(tmp_path, "torch", "import os; os.abort()", "2.9.0")
    changed = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONUNBUFFERED": ""}
    with start_python(SCRIPT, environment=changed) as process:
        out, _ = process.communicate(timeout=120)
    assert process.returncode
    assert out.decode().splitlines()[-1].split()[::2] == ["numpy", "ok"]


def test_only_two_different_tags_are_a_mismatch(lesson):
    for torch_version, vision_version in [
        ("2.15.0", "0.29.2"),
        ("2.15.0+cpu", "0.29.2+cpu"),
        ("2.15.0", "0.29.2+cpu"),
        ("2.15.0+cpu", "unknown"),
        ("2.16.0a0+git1a2b3c4", "0.31.0a0+9f8e7d6"),
    ]:
        assert lesson.build_problem(torch_version, vision_version) == FINE
    wrong, mend = lesson.build_problem("2.13.0+cpu", "0.28.0+cu130")
    assert wrong == "torch is a cpu build, torchvision a cu130 build"
    assert mend == lesson.TOGETHER


def test_a_torchvision_that_asks_for_another_torch_is_a_mismatch(lesson):
    for record in (["numpy", "torch==2.13.0"], ["torch (==2.13.0)"]):
        wrong, mend = lesson.build_problem("2.15.0+cu132", "0.28.0+cu132", record)
        assert wrong == "torchvision was built for torch 2.13.0"
        assert mend == lesson.TOGETHER
        assert lesson.build_problem("2.13.0+cpu", "0.28.0", record) == FINE
    for record in (["torch>=2.14.0"], ["torch"], []):
        assert lesson.build_problem("2.15.0", "0.29.2", record) == FINE


def test_the_record_of_a_package_is_what_pip_knows(lesson):
    lines = lesson.requirements_of("torchvision")
    assert any(line.startswith("torch") for line in lines)
    assert lesson.requirements_of("no_such_package") == []


def test_lesson_10_waits_for_torchvision_0_16(lesson):
    assert "lesson 10" in lesson.lessons_that_wait("0.15.2+cpu")
    for version in ("0.16.0", "0.29.2", "1.0", "unknown"):
        assert lesson.lessons_that_wait(version) == ""


def test_a_numpy_that_torch_cannot_use_is_a_problem(lesson):
    import numpy

    assert lesson.numpy_problem(torch, numpy) == FINE

    def refuse(array):
        raise RuntimeError("Numpy is not available")

    wrong, mend = lesson.numpy_problem(SimpleNamespace(from_numpy=refuse), numpy)
    assert wrong == "RuntimeError: Numpy is not available"
    assert mend == 'python -m pip install "numpy<2"'
    one_way = SimpleNamespace(numpy=lambda: refuse(None))  # and not back
    half = SimpleNamespace(from_numpy=lambda array: one_way)
    assert lesson.numpy_problem(half, numpy) == (wrong, mend)


def test_the_driver_is_what_nvidia_smi_says(lesson, monkeypatch):
    def answer(stdout="", error=None):
        def fake_run(command, **options):
            assert command[0] == "nvidia-smi" and "driver_version" in command[1]
            assert options["check"] and options["timeout"] <= 10
            if error:
                raise error
            return SimpleNamespace(stdout=stdout.encode("latin-1"))

        monkeypatch.setattr(lesson.subprocess, "run", fake_run)
        return lesson.driver_version()

    assert answer("580.65.06\n580.65.06\n") == "580.65.06"
    assert answer("\n") is answer("[N/A]\n") is answer("\xff\xfe") is None
    assert answer(error=FileNotFoundError()) is None
    assert answer(error=subprocess.CalledProcessError(9, "nvidia-smi")) is None
    assert answer(error=subprocess.TimeoutExpired("nvidia-smi", 10)) is None


def report_of(lesson, capsys, device=None, section=None):
    """The report as lines, on whatever machine a test pretends to be."""
    lesson.main(device, section)
    return capsys.readouterr().out.splitlines()


NEW, OLD, LESS_OLD = (9, 0), (6, 1), (7, 4)  # compute capabilities


def machine(
    cuda="13.2", available=False, cards=(NEW,), archs=("sm_75", "sm_80", "sm_90")
):
    """A torch that answers like one on another machine."""
    properties = SimpleNamespace(name="GPU", major=8, minor=6, total_memory=3 * 2**29)
    answers = SimpleNamespace(
        is_available=lambda: available,
        get_arch_list=lambda: list(archs),
        device_count=lambda: len(cards),
        get_device_capability=lambda index: cards[index],
        get_device_properties=lambda index: properties,
    )
    version = SimpleNamespace(cuda=cuda)
    return SimpleNamespace(version=version, cuda=answers, backends=SimpleNamespace())


@pytest.mark.parametrize(
    ("torch", "driver", "wrong", "mend"),
    [
        (machine(), None, "no NVIDIA driver", "install driver 580"),
        (machine("14.0"), None, "no NVIDIA driver", "install driver 580"),
        (machine(), "579.99", "579.99 is too old for CUDA 13.2", "driver 580"),
        (machine("12.6"), "524.1", "524.1 is too old for CUDA 12.6", "driver 525"),
        (machine("11.7"), "449.1", "449.1 is too old for CUDA 11.7", "driver 450"),
        (machine(), "580.1", "the driver is there, but no card", "nvidia-smi"),
    ],
)
def test_why_torch_finds_no_gpu(lesson, torch, driver, wrong, mend):
    problem = lesson.driver_problem(torch, driver)
    assert wrong in problem[0] and mend in problem[1]
    case, advice = lesson.cuda_case(torch, driver, "Linux")
    assert (case, advice) == (f"no usable GPU: {problem[0]}", problem[1])


@pytest.mark.parametrize(
    ("cards", "archs", "mend"),
    [
        ([OLD, NEW], ("sm_75", "sm_90"), "torch 2.14 or older for CUDA 12.6"),
        ([LESS_OLD], ("sm_75", "sm_90"), "torch 2.14 or older for CUDA 12.6"),
        ([NEW], ("sm_100a", "x_50"), "torch 2.14 or older"),
        ([(12, 0)], ("sm_50", "sm_86", "sm_90"), "the newest torch"),
        ([(8, 0)], ("sm_75", "sm_86"), "the newest torch"),
    ],
)
def test_a_card_that_torch_was_not_built_for_needs_device_cpu(
    lesson, cards, archs, mend
):
    """The lessons choose a card that torch finds, and cannot know that it is no use."""
    torch = machine(available=True, cards=cards, archs=archs)
    wrong, advice = lesson.card_problem(torch)
    assert f"not for compute capability {cards[0][0]}.{cards[0][1]}" in wrong
    first, second = advice.split("\n")
    assert first == "add --device cpu to each lesson, or" and mend in second
    case = lesson.cuda_case(torch, "580", "Linux")
    assert case == (f"no usable GPU: {wrong}", advice)


def test_the_last_line_says_what_to_do_about_a_card_that_is_no_use(
    lesson, capsys, monkeypatch
):
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: OLD)
    lines = report_of(lesson, capsys)
    assert lines[-1] == "ready: cpu (add --device cpu to each lesson)"
    assert not [line for line in lines if "no problem" in line]
    assert lesson.main("cuda") == 1


def test_machine_code_runs_within_a_generation_and_other_code_on_newer_cards(lesson):
    """By NVIDIA's CUDA programming guide: binary and PTX compatibility."""
    for card, built_for, expected in [
        ((8, 6), ["sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80", "sm_86"], False),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((8, 0), ["sm_90", "compute_90"], False),
        ((12, 1), ["sm_120"], True),
        ((7, 5), [], False),
    ]:
        assert lesson.fits(card, built_for) is expected


def test_a_gpu_that_torch_finds_and_that_fits_is_ready(lesson):
    for cards in ([NEW], [(7, 5)], [(8, 0), OLD]):
        for driver in ("450.1", None):  # nvidia-smi need not be on the PATH
            fitting = machine(available=True, cards=cards)
            assert lesson.cuda_case(fitting, driver, "Linux") == ("ready", "")
    for archs in ([], ["compute_90"], ["gfx1100"]):
        assert lesson.card_problem(machine(available=True, archs=archs)) == FINE
    amd = machine(cuda=None, available=True)
    assert lesson.cuda_case(amd, None, "Linux") == ("ready", "")


def test_the_report_of_a_machine_with_gpus(lesson, capsys, monkeypatch):
    monkeypatch.setattr(lesson, "driver_version", lambda: "580.65")
    monkeypatch.setattr(lesson, "cuda_case", lambda *machine: ("ready", ""))
    monkeypatch.setattr(lesson, "gpu_available", lambda torch: True)
    monkeypatch.setattr(lesson, "gpus", lambda torch: ["card one", "card two"])
    monkeypatch.setattr(lesson, "proof", lambda torch, device: (2e-7, 0.0, FINE))
    assert lesson.main() == lesson.main("cuda") == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"   CUDA {torch.version.cuda}, driver 580.65, cuDNN" in "\n".join(lines)
    assert lines.count("   card one") == lines.count("   card two") == 2
    assert lines[-1] == "ready: cpu, cuda"
    monkeypatch.setattr(torch.version, "hip", "6.4", raising=False)
    assert lesson.main() == 0
    printed = capsys.readouterr().out
    assert "   ROCm 6.4, cuDNN" in printed and "driver" not in printed
    assert lesson.main("cpu") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ready: cpu"
    wrong = (1.0, 0.0, ("wrong", "mend it"))
    monkeypatch.setattr(lesson, "proof", lambda torch, device: wrong)
    assert lesson.main() == 2
    assert capsys.readouterr().out.splitlines()[-1] == "not ready: 2 problems"


def test_the_other_two_cases_of_cuda(lesson):
    assert lesson.cuda_case(None, "580", "Linux")[0] == "torch missing"
    words = {"Linux": "take a CUDA build", "Darwin": "no CUDA for macOS"}
    for system, word in words.items():
        case, advice = lesson.cuda_case(machine(cuda=None), "580", system)
        assert case == "CPU-only build" and word in advice


def test_the_gpus_of_other_makers_are_told_apart(lesson):
    assert lesson.other_gpu(machine(cuda=None)) == ""
    amd, apple, intel = (machine(cuda=None) for _ in range(3))
    amd.version.hip = "6.4"
    apple.backends.mps = SimpleNamespace(is_available=lambda: True)
    intel.version.xpu = "20250302"  # with a card or without one
    for other, word in ((amd, "ROCm"), (apple, "MPS"), (intel, "XPU")):
        advice = lesson.other_gpu(other)
        assert word in advice
        assert lesson.cuda_case(other, None, "Linux") == ("no CUDA build", advice)
    apple.backends.mps = SimpleNamespace(is_available=lambda: False)
    amd.version.hip = intel.version.xpu = None
    assert lesson.other_gpu(amd) == ""
    assert lesson.other_gpu(apple) == lesson.other_gpu(intel) == ""


def test_a_warning_of_torch_about_the_driver_stays_out_of_the_report(lesson, recwarn):
    import warnings

    torch = machine()
    torch.cuda.is_available = lambda: warnings.warn("driver", stacklevel=1) or False
    assert lesson.gpu_available(torch) is False
    assert lesson.gpu_available(machine(available=True)) is True
    assert not recwarn


def test_gpus_are_listed_with_capability_and_memory(lesson):
    two = machine(cards=[NEW, NEW])
    assert lesson.gpus(two) == ["GPU, capability 8.6, 1.5 GiB"] * 2


def test_the_proof_is_passed_by_each_device(lesson, device):
    # float32 rounds, but not much
    assert 1e-9 < lesson.product_error(torch, device) < 1e-5
    assert lesson.derivative_error(torch, device) < 1e-14
    product, derivative, problem = lesson.proof(torch, device)
    assert product == lesson.product_error(torch, device)
    assert derivative == lesson.derivative_error(torch, device)
    assert problem == FINE


def test_the_product_error_is_relative_and_sees_one_wrong_element(lesson, monkeypatch):
    true_product = torch.Tensor.__matmul__

    def wrong_product(a, b):
        product = true_product(a, b)
        if product.dtype == torch.float32:
            product[3, 7] += product.abs().max() / 8
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", wrong_product)
    assert lesson.product_error(torch, "cpu") == pytest.approx(1 / 8, rel=1e-5)


def test_wrong_numbers_and_errors_are_problems(lesson, monkeypatch):
    def proof(product, derivative):
        monkeypatch.setattr(lesson, "product_error", lambda *where: product)
        monkeypatch.setattr(lesson, "derivative_error", lambda *where: derivative)
        return lesson.proof(torch, "cpu")

    assert proof(9e-6, 9e-13) == (9e-6, 9e-13, FINE)
    assert proof(1.1e-5, 0.0)[2] == ("wrong numbers", lesson.TOGETHER)
    assert proof(0.0, 1.1e-12)[2] == ("wrong numbers", lesson.TOGETHER)
    assert proof(math.nan, 0.0)[2] == ("wrong numbers", lesson.TOGETHER)

    def fail(torch, device):
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    monkeypatch.setattr(lesson, "derivative_error", fail)
    error = "RuntimeError: CUDA error: no kernel image is available"
    mends = {
        "cpu": lesson.TOGETHER,
        "cuda": "add --device cpu to each lesson, or\nchoose",
    }
    for device, mend in mends.items():
        product, derivative, problem = lesson.proof(torch, device)
        assert math.isnan(product) and math.isnan(derivative)
        assert problem[0] == error and problem[1].startswith(mend)


# The chapter
CHAPTER = SCRIPT.with_suffix(".md")


def shown(start):
    """The blocks of text of the chapter that begin so."""
    texts = [text for language, text in blocks(CHAPTER) if language == "text"]
    return [text for text in texts if text.startswith(start)]


def as_mia(monkeypatch, lesson, versions):
    """Pretend to be the laptop of the chapter, with these versions of packages."""
    monkeypatch.setattr(platform, "python_version", lambda: versions["Python"])
    monkeypatch.setattr(sys, "executable", "/home/mia/course/.venv/bin/python")
    monkeypatch.setattr(sys, "prefix", "/home/mia/course/.venv")
    monkeypatch.setattr(lesson, "installed_version", versions.get)
    monkeypatch.setattr(lesson, "requirements_of", lambda name: [])
    monkeypatch.setattr(lesson, "driver_version", lambda: None)
    monkeypatch.setattr(lesson, "proof", lambda torch, device: (6e-7, 0.0, FINE))
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_the_report_of_the_chapter_is_what_such_a_laptop_prints(
    lesson, capsys, monkeypatch
):
    [report] = shown("01 Install check\n")
    lines = [line.split() for line in report.splitlines() if line.endswith("ok")]
    as_mia(monkeypatch, lesson, {words[0]: words[1] for words in lines[:6]})
    assert report_of(lesson, capsys) == report.splitlines()
    # Where nothing is installed, the cure does not depend on the system.
    monkeypatch.setattr(lesson, "installed_version", lambda name: None)
    monkeypatch.setattr(lesson, "try_import", lambda name: (None, "gone"))
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)  # by -S
    lines = report_of(lesson, capsys, section=1)
    assert lines[-2:] == ["", "not ready: 5 problems"]
    lines = [*lines[2:-2], "", "...", lines[-1], ""]
    assert ["\n".join(lines)] == shown("1. Python and the packages\n")
    assert "(b) `not ready: 5 problems`" in read(CHAPTER)


def test_the_cases_of_the_chapter_are_what_such_machines_print(
    lesson, capsys, monkeypatch
):
    apple = machine(cuda=None)
    apple.backends.mps = SimpleNamespace(is_available=lambda: True)
    card = SimpleNamespace(
        name="NVIDIA GeForce RTX 4070", major=8, minor=9, total_memory=12 * 2**30
    )
    ready = machine(available=True, cards=[(8, 9)])
    ready.cuda.get_device_properties = lambda index: card
    ready.backends.cudnn = SimpleNamespace(version=lambda: 92400)
    old = machine(available=True, cards=[OLD])
    cases = [
        (None, "580.65.06"),
        (machine(cuda=None), "580.65.06"),
        (apple, None),
        (machine(), "535.183.01"),
        (old, "580.65.06"),
        (ready, "580.65.06"),
    ]
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    printed = []
    for its_torch, driver in cases:
        monkeypatch.setattr(lesson, "driver_version", lambda driver=driver: driver)
        lesson.show_3(lesson.Report(), its_torch, None)
        printed.append(capsys.readouterr().out.removeprefix("\n"))
    assert printed == shown("3. CUDA: four cases\n")


def test_the_numbers_of_the_chapter_have_witnesses(lesson):
    """What stands in backquotes is a command, a message or the name of a version."""
    names = vars(lesson) | {"math": math, "torch": torch}
    own = {name for name in names if not name.startswith("__")} - {"torch", "math"}
    parts = FENCE.sub("", read(CHAPTER).split("\n", 3)[3])
    for paragraph in re.split(r"\n\s*\n|\n(?=\||- )", plain(parts)):
        assert not unwitnessed(paragraph, names, own, read(CHAPTER)), paragraph


def test_the_python_of_the_chapter_runs():
    names = {}
    for language, code in blocks(CHAPTER):
        if language == "python":
            run_block(code, names)
    assert names["device"] in ("cuda", "mps", "cpu")


@pytest.fixture
def quoted():
    """Whether the tables of the chapter quote these words of a message."""
    cells = re.findall(r"^\| (.+?) \|", read(CHAPTER), re.MULTILINE)
    codes = re.findall(r"`([^`]+)`", "\n".join(cells))
    return lambda message: any(code in message for code in codes)


def without_file():
    """A lesson with data, run in a console that does not know where its file is."""
    source = read(LESSONS_WITH_DATA[0])
    exec(compile(source, "cell", "exec"), {"__name__": "console"})


def own_torch(folder):
    """What Python says where a file torch.py stands beside the script."""
    (folder / "torch.py").write_text("import torch\ntorch.tensor(1)\n")
    with start_python(folder / "torch.py") as process:
        return process.communicate(timeout=120)[1].decode()


def test_messages_that_can_be_had_here_are_quoted(quoted, tmp_path, monkeypatch):
    with pytest.raises(RuntimeError) as error:
        torch.nn.Linear(2, 1)(torch.ones(1, 2, dtype=torch.float64))
    assert quoted(str(error.value))
    with pytest.raises(NameError) as error:
        without_file()
    assert quoted(str(error.value))
    with pytest.raises(ValueError) as error:
        matplotlib.rcParams["backend"] = "foo"
    assert quoted(str(error.value))
    assert quoted(os.strerror(errno.ENOSPC)) and quoted(own_torch(tmp_path))
    with start_python("-S", "-c", "import torch") as process:
        assert quoted(process.communicate(timeout=120)[1].decode())
    assert not quoted("a message that nobody has seen")


def test_messages_of_other_machines_are_still_in_the_source(quoted):
    message = "Torch not compiled with CUDA enabled"
    assert quoted(message) and message in read(Path(torch.cuda.__file__))
    message = "is not compatible with the current PyTorch installation"
    assert quoted(message) and message in read(Path(torch.cuda.__file__))
    message = "before the current process has finished its bootstrapping phase"
    source = " ".join(read(Path(multiprocessing.spawn.__file__)).split())
    assert quoted(message) and message in source


def test_a_card_that_is_not_there_is_an_invalid_choice(quoted, run):
    status, _, err = run(LESSONS_WITH_DATA[0], "--device", "cuda", "--section", 1)
    assert status == 0 if torch.cuda.is_available() else status == 2 and quoted(err)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a card makes it no error")
def test_the_argument_of_a_generator_is_a_device(quoted):
    with pytest.raises(RuntimeError) as error:
        torch.Generator(0)
    assert torch.version.cuda is None or quoted(str(error.value))


@needs_cuda
def test_with_a_card_the_argument_of_a_generator_makes_one_for_the_card(quoted):
    generator = torch.Generator(0)
    assert generator.device.type == "cuda"
    with pytest.raises(RuntimeError, match="device type for generator"):
        torch.randn(3, generator=generator)
