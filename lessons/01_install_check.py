"""01 Install check: can this machine run the course, and on which devices?

A tool: run it, no need to read it. What is missing, too old or broken becomes a line.
"""

import os
import sys

if __name__ == "__main__":
    # before the other imports: it is them that such a file breaks
    here = os.path.dirname(os.path.abspath(__file__))
    modules = getattr(sys, "stdlib_module_names", ())
    for name in os.listdir(here):
        if name.endswith(".py") and name[:-3] in modules:
            file = os.path.join(here, name)
            raise SystemExit(f"rename {file}: it hides Python's {name[:-3]}")

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import math
import platform
import re
import struct
import subprocess
import textwrap
import warnings
from pathlib import Path

# The oldest versions that the course is tested with: requirements.txt says the same.
OLDEST = {
    "Python": "3.11",
    "numpy": "1.26",  # first: torch and matplotlib need it
    "torch": "2.0.1",
    "torchvision": "0.15.2",
    "matplotlib": "3.8",
    "pytest": "7.4",
}
# The oldest NVIDIA driver on Linux for each CUDA, from its release notes.
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
BITS = 8 * struct.calcsize("P")  # of an address in this Python
SELECTOR = "pytorch.org/get-started/locally"
TOGETHER = f"uninstall torch and torchvision, install both from one index:\n{SELECTOR}"
VISUAL_CPP = "install aka.ms/vc14/vc_redist.x64.exe and restart; if that is not enough:"
ON_THE_CPU = "add --device cpu to each lesson, or"
FINE = ("", "")  # nothing is wrong, so nothing mends it


# %% What the sections share
class Report:
    """Prints a line for each thing examined, and notes the names of the problems."""

    def __init__(self):
        self.problems = []

    def line(self, name, version, problem):
        """Print one line; below it, where something is wrong, what mends it."""
        wrong, mend = problem
        print(f"   {name:<11}   {version:<14}   {wrong or 'ok'}", flush=True)
        if wrong:
            self.advice(mend)
            self.problems.append(name)

    def advice(self, text):
        """Print what to do, indented."""
        print(textwrap.indent(text, 6 * " "))


def in_ascii(text):
    """The text in letters that every console has."""
    return text.encode("ascii", "backslashreplace").decode()


def one_line(error):
    """The type of an exception and the first line of its message, in ASCII."""
    first = str(error).strip().partition("\n")[0]
    return in_ascii(f"{type(error).__name__}: {first}")


def environment_of(prefix, base_prefix):
    """Which kind of environment the folders of a Python tell of."""
    if Path(prefix, "conda-meta").is_dir():
        return "a conda environment"
    return "a virtual environment" if prefix != base_prefix else "no environment"


def version_tuple(version):
    """The leading numbers of a version, to compare: (2, 15, 0) for 2.15.0+cu132."""
    parts = re.match(r"[\d.]*", version)[0].split(".")
    return tuple(int(part) for part in parts if part)


# %% How a package is found and installed
# A package can be there and still not import. Every exception counts: torchvision that
# was built for another torch raises a RuntimeError, not an ImportError. The version is
# read from the file version.py because pip's own record leaves out the +cu132 that
# section 2 compares.
def installed_version(name):
    """The version of a package, such as 2.15.0+cu132, or None; it is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.origin:
        file = Path(spec.origin).with_name("version.py")
        text = file.read_text() if file.exists() else ""
        written = re.search(r"__version__ = '(.+)'", text)
        if written:
            return written[1]
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def try_import(name):
    """(module, ""), or (None, why not) in one line; what it prints is dropped."""
    dropped = io.StringIO()
    try:
        with contextlib.redirect_stdout(dropped), contextlib.redirect_stderr(dropped):
            module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        return None, one_line(error)
    if not hasattr(module, "__version__"):
        file = getattr(module, "__file__", None) or "a folder"
        return None, f"hidden by {file}: rename that"
    return module, ""


def requirements_of(name):
    """What a package's own record asks for, as a list; empty where there is none."""
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def install_command(name, system, machine, conda):
    """The command that installs a package: torch and torchvision only ever together."""
    packages = "torch torchvision" if name.startswith("torch") else name
    if conda:  # the channel pytorch ended with torch 2.5.1; conda-forge carries on
        return f"conda install -c conda-forge {packages.replace('torch', 'pytorch', 1)}"
    if name.startswith("torch") and (system, machine) == ("Darwin", "x86_64"):
        # the last for Intel Macs
        packages = '"torch==2.2.2" "torchvision==0.17.2" "numpy<2"'
    return f"python -m pip install --upgrade {packages}"


# %% 1. Python and the packages
def python_problem(version, bits):
    """(what is wrong with this Python, what mends it); ("", "") if nothing is."""
    if bits == 32:  # there is no torch for it
        return "has 32 bits", "install the 64-bit one from python.org"
    if version_tuple(version) < version_tuple(OLDEST["Python"]):
        return f"older than {OLDEST['Python']}", "install a newer one from python.org"
    return FINE


def package_problem(name, version, error, command):
    """(what is wrong with a package, the command that mends it), or ("", "")."""
    if version is None:
        return "missing", command
    if "torchvision::nms" in error:
        return error, TOGETHER
    if re.search(r"WinError (126|127|1114)\b|DLL load failed", error):
        return error, f"{VISUAL_CPP}\n{command}"
    if error:
        return error, f"{command} --force-reinstall"
    if version != "unknown" and version_tuple(version) < version_tuple(OLDEST[name]):
        return f"older than {OLDEST[name]}", command
    return FINE


def show_1(report):
    """Examine all packages: {name: module or None}, {name: version or None}."""
    print("\n1. Python and the packages")
    version = platform.python_version()
    report.line("Python", version, python_problem(version, BITS))
    environment = environment_of(sys.prefix, sys.base_prefix)
    report.advice(f"{in_ascii(sys.executable or 'unknown')}\n{environment}")
    modules = {}
    versions = {}
    for name in list(OLDEST)[1:]:
        versions[name] = installed_version(name)
        modules[name], error = try_import(name)
        command = install_command(
            name, platform.system(), platform.machine(), "conda" in environment
        )
        problem = package_problem(name, versions[name], error, command)
        report.line(name, versions[name] or "-", problem)
    return modules, versions


# %% 2. Packages that were built for each other
def build_problem(torch, torchvision, requirements=()):
    """(what is wrong, what mends it) if the tags (+cpu, +cu132) or the torch differ."""
    tag = re.compile(r"\+(cpu|cu\d+|rocm[\d.]*|xpu)$")
    first = tag.search(torch)
    second = tag.search(torchvision)
    if first and second and first[1] != second[1]:
        return f"torch is a {first[1]} build, torchvision a {second[1]} build", TOGETHER
    for requirement in requirements:
        wanted = re.match(r"torch ?\(?==([\d.]+)", requirement)
        if wanted and version_tuple(wanted[1]) != version_tuple(torch):
            return f"torchvision was built for torch {wanted[1]}", TOGETHER
    return FINE


def lessons_that_wait(torchvision):
    """A line about the lessons that need a newer torchvision than this, or ""."""
    if torchvision != "unknown" and version_tuple(torchvision) < (0, 16):
        return "lesson 10 waits for torchvision 0.16 or newer; the others run"
    return ""


def numpy_problem(torch, numpy):
    """(what is wrong, what mends it) if numpy is newer than torch was built for."""
    try:
        torch.from_numpy(numpy.ones(1)).numpy()
    except Exception as error:
        return one_line(error), 'python -m pip install "numpy<2"'
    return FINE


def show_2(report, modules, versions):
    """Examine whether torch, torchvision and numpy fit each other."""
    print("\n2. Packages that were built for each other")
    torch = versions["torch"]
    torchvision = versions["torchvision"]
    if torch and torchvision:
        problem = build_problem(torch, torchvision, requirements_of("torchvision"))
        report.line("torchvision", "for this torch", problem)
        if lessons_that_wait(torchvision):
            report.advice(lessons_that_wait(torchvision))
    if modules["torch"] and modules["numpy"]:
        problem = numpy_problem(modules["torch"], modules["numpy"])
        report.line("numpy", "for this torch", problem)
    if modules["torch"] is None:
        print("   waits for torch")


# %% What the driver and the cards say
def driver_version():
    """The version of the NVIDIA driver, from nvidia-smi; None where there is none."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        output = subprocess.run(query, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(rb"\d+(\.\d+)+", output.stdout.strip())
    return found[0].decode() if found else None


def gpu_available(torch):
    """Whether torch finds a GPU; its warnings about the driver are not printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.cuda.is_available()


def gpus(torch):
    """A line for each GPU: name, compute capability and memory in GiB."""
    lines = []
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        memory = f"{gpu.total_memory / 2**30:.1f} GiB"
        lines.append(f"{gpu.name}, capability {gpu.major}.{gpu.minor}, {memory}")
    return lines


# %% Why a GPU cannot be used
# A build of torch holds machine code for some cards, sm_86, and perhaps code that newer
# cards translate when the program starts, compute_90. Machine code for 8.0 runs on 8.0
# to 8.9, and on no 9.0.
def fits(card, built_for):
    """Whether a card (major, minor) runs what torch was built for: ["sm_86", ...]."""
    major, minor = card
    for number in (int(n) for n in re.findall(r"sm_(\d+)", " ".join(built_for))):
        if number // 10 == major and number % 10 <= minor:
            return True
    newer = re.findall(r"compute_(\d+)", " ".join(built_for))
    return any(int(number) <= 10 * major + minor for number in newer)


def card_problem(torch):
    """(why the card that torch finds cannot be used, what mends it), or ("", "")."""
    built_for = torch.cuda.get_arch_list()
    card = torch.cuda.get_device_capability(0)  # the one that the lessons use
    known = [int(number) for number in re.findall(r"sm_(\d+)", " ".join(built_for))]
    if not known or fits(card, built_for):
        return FINE
    mend = f"{ON_THE_CPU}\ninstall the newest torch: {SELECTOR}"
    if 10 * card[0] + card[1] < min(known):
        mend = f"{ON_THE_CPU}\ninstall torch 2.14 or older for CUDA 12.6: {SELECTOR}"
    return f"this torch is not for compute capability {card[0]}.{card[1]}", mend


def driver_problem(torch, driver):
    """(why a CUDA build of torch finds no GPU, what mends it)."""
    cuda = torch.version.cuda
    needed = OLDEST_DRIVER.get(version_tuple(cuda)[0], max(OLDEST_DRIVER.values()))
    if driver is None:
        return "no NVIDIA driver", f"with an NVIDIA card, install driver {needed}"
    if version_tuple(driver)[0] < needed:
        mend = f"install driver {needed} or newer"
        return f"driver {driver} is too old for CUDA {cuda}", mend
    mend = "restart, then see whether nvidia-smi works"
    return "the driver is there, but no card", mend


def other_gpu(torch):
    """Advice where torch was built for a GPU that is not NVIDIA's, or ""."""
    if getattr(torch.version, "hip", None):
        return "a ROCm build, for AMD: see that rocminfo lists the card"
    if hasattr(torch.backends, "mps") and torch.backends.mps.is_available():
        return "an Apple GPU (MPS), which has no float64: the course leaves it alone"
    if getattr(torch.version, "xpu", None):
        return "an XPU build, for Intel GPUs: the course leaves them alone"
    return ""


# %% 3. CUDA: four cases
def cuda_case(torch, driver, system):
    """(case, advice): torch missing, a build without CUDA, no usable GPU, or ready."""
    if torch is None:
        return "torch missing", "mend torch first"
    if torch.version.cuda is None:
        if gpu_available(torch):  # AMD's builds answer for CUDA
            return "ready", ""
        if other_gpu(torch):
            return "no CUDA build", other_gpu(torch)
        if system == "Darwin":
            return "CPU-only build", "there is no CUDA for macOS"
        return "CPU-only build", f"with an NVIDIA card, take a CUDA build: {SELECTOR}"
    problem = card_problem(torch) if gpu_available(torch) else None
    wrong, mend = problem or driver_problem(torch, driver)
    return (f"no usable GPU: {wrong}", mend) if wrong else ("ready", "")


def show_3(report, torch, device):
    """Print which case holds; whether torch can use a GPU."""
    print("\n3. CUDA: four cases")
    driver = driver_version()
    case, advice = cuda_case(torch, driver, platform.system())
    if device == "cuda" and case != "ready":
        report.line("cuda", "asked for", (case, advice))
    elif case != "ready":
        print(f"   {case}")
        if torch and not gpu_available(torch):
            report.advice("no problem: the lessons run on the CPU")
        report.advice(advice)
    else:
        hip = getattr(torch.version, "hip", None)
        cuda = f"CUDA {torch.version.cuda}, driver {driver}"
        build = f"ROCm {hip}" if hip else cuda
        print(f"   ready\n   {build}, cuDNN {torch.backends.cudnn.version()}")
        for line in gpus(torch):
            print(f"   {line}")
    return case == "ready"


# %% 4. A proof on each device
# A version number proves nothing: multiply and differentiate once, and compare.
def product_error(torch, device):
    """The relative error of a 256 x 256 matrix product in float32, against float64."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 256, 256, generator=generator)
    exact = a.double() @ b.double()
    product = (a.to(device) @ b.to(device)).cpu().double()
    return ((product - exact).abs().max() / exact.abs().max()).item()


def derivative_error(torch, device):
    """|autograd - calculus| of d(x sin x)/dx = sin x + x cos x at x = 2, in float64."""
    x = torch.tensor(2.0, dtype=torch.float64, device=device, requires_grad=True)
    (x * x.sin()).backward()
    return abs(x.grad.item() - (math.sin(2) + 2 * math.cos(2)))


def proof(torch, device):
    """(product_error, derivative_error, (what is wrong, what mends it)) on a device."""
    other_build = f"{ON_THE_CPU}\nchoose the build for this card: {SELECTOR}"
    mend = TOGETHER if device == "cpu" else other_build
    try:
        product = product_error(torch, device)
        derivative = derivative_error(torch, device)
    except Exception as error:
        return math.nan, math.nan, (one_line(error), mend)
    right = product < 1e-5 and derivative < 1e-12
    return product, derivative, FINE if right else ("wrong numbers", mend)


def show_4(report, torch, devices):
    """Examine each device by two computations whose result is known."""
    print("\n4. A proof on each device")
    if torch is None:
        print("   waits for torch")
        return
    for device in devices:
        product, derivative, problem = proof(torch, device)
        report.line(device, "", problem)
        report.advice(f"error of a product {product:.0e}, of a slope {derivative:.0e}")


# %% Run it
def main(device=None, section=None):
    """Print the report, or one section of it; return the number of all problems.

    For the device "cuda" a missing GPU is a problem.
    """
    print("01 Install check")
    report = Report()

    def printed(number):
        # each section is computed, and what another one prints is dropped
        if section in (None, number):
            return contextlib.nullcontext()
        return contextlib.redirect_stdout(io.StringIO())

    with printed(1):
        modules, versions = show_1(report)
    torch = modules["torch"]
    with printed(2):
        show_2(report, modules, versions)
    with printed(3):
        ready = show_3(report, torch, device)
    devices = ["cpu", "cuda"] if ready and device != "cpu" else ["cpu"]
    with printed(4):
        show_4(report, torch, devices)

    # the lessons choose a card that torch finds, even if it cannot use it
    found = torch is not None and not ready and gpu_available(torch)
    unusable = " (add --device cpu to each lesson)" if found else ""
    count = len(report.problems)
    if count:
        print(f"\nnot ready: {count} problem{'s' if count > 1 else ''}")
    else:
        print(f"\nready: {', '.join(devices)}{unusable}")
    return count


# %% The command line: no need to read on
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    about = "cpu: leave the GPU alone; cuda: a missing GPU is a problem"
    parser.add_argument("--device", choices=["cpu", "cuda"], help=about)
    parser.add_argument("--section", metavar="N", type=int, choices=range(1, 5))
    args = parser.parse_args()
    try:
        problems = main(args.device, args.section)
        sys.stdout.flush()
    except BrokenPipeError:  # what reads the output, head for instance, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        problems = 0
    raise SystemExit(1 if problems else 0)
