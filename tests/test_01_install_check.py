"""What lesson 01 claims: it tells broken installs apart, and falls over none."""

import importlib
import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers import ROOT, start_python

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
    assert "uninstall torch and torchvision" in advice and "from one index" in advice


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
    assert after(lines, "CPU-only build")[1].endswith("pytorch.org/get-started/locally")
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
    advice = "with an NVIDIA card, install driver 580 or newer"
    assert after(lines, "no usable GPU: no NVIDIA driver")[1] == advice
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
    nms = "RuntimeError: operator torchvision::nms does not exist"
    assert problem("0.28.0", nms, "torchvision") == (nms, lesson.TOGETHER)
    assert problem("3.7.5") == ("older than 3.8", "mend it")
    assert problem("3.8") == problem("3.10") == problem("unknown") == FINE


def test_an_old_python_is_a_problem(lesson):
    assert lesson.python_problem("3.9.18")[0] == "older than 3.11"
    assert lesson.python_problem("3.11.0") == lesson.python_problem("3.14.2") == FINE


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


NEW, OLD, LESS_OLD = (9, 0), (6, 1), (7, 4)  # compute capabilities


def machine(cuda="13.2", available=False, cards=(NEW,), archs=("sm_75", "sm_90")):
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
        (machine(), None, "no NVIDIA driver", "driver 580 or newer"),
        (machine("14.0"), None, "no NVIDIA driver", "driver 580 or newer"),
        (machine(), "579.99", "579.99 is too old for CUDA 13.2", "driver 580"),
        (machine("12.6"), "524.1", "524.1 is too old for CUDA 12.6", "driver 525"),
        (machine("11.7"), "449.1", "449.1 is too old for CUDA 11.7", "driver 450"),
        (machine(), "580.1", "the driver is there, but no card", "nvidia-smi"),
        (machine(available=True, cards=[OLD, NEW]), None, "6.1 is too old", "2.14"),
        (machine(available=True, cards=[LESS_OLD]), "1.1", "7.4 is too old", "12.6"),
        (machine(available=True, archs=["sm_100a", "x_50"]), None, "9.0 is too", ""),
    ],
)
def test_why_a_gpu_cannot_be_used(lesson, torch, driver, wrong, mend):
    problem = lesson.gpu_problem(torch, driver)
    assert wrong in problem[0] and mend in problem[1]
    case, advice = lesson.cuda_case(torch, driver, "Linux")
    assert (case, advice) == (f"no usable GPU: {problem[0]}", problem[1])


def test_a_gpu_that_torch_finds_and_that_fits_is_ready(lesson):
    for cards in ([NEW], [(7, 5)], [(8, 0), OLD]):
        for driver in ("450.1", None):  # nvidia-smi need not be on the PATH
            fitting = machine(available=True, cards=cards)
            assert lesson.cuda_case(fitting, driver, "Linux") == ("ready", "")
    for archs in ([], ["compute_90"], ["gfx1100"]):
        assert lesson.gpu_problem(machine(available=True, archs=archs), None) == FINE
    amd = machine(cuda=None, available=True)
    assert lesson.cuda_case(amd, None, "Linux") == ("ready", "")


def test_the_report_of_a_machine_with_gpus(lesson, capsys, monkeypatch):
    monkeypatch.setattr(lesson, "driver_version", lambda: "580.65")
    monkeypatch.setattr(lesson, "cuda_case", lambda *machine: ("ready", ""))
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
    words = {"Linux": "choose a CUDA build", "Darwin": "no CUDA for macOS"}
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
    mends = {"cpu": lesson.TOGETHER, "cuda": "choose the build for this card"}
    for device, mend in mends.items():
        product, derivative, problem = lesson.proof(torch, device)
        assert math.isnan(product) and math.isnan(derivative)
        assert problem[0] == error and problem[1].startswith(mend)
