"""01 Install check: can this machine run the course, and on which devices?

A tool: run it, no need to read it. What is missing, too old or broken becomes a line.
"""

import os
import sys

if __name__ == "__main__":
    # before the other imports: it is them that such a file breaks
    here = os.path.dirname(os.path.abspath(__file__))
    for name in os.listdir(here):
        if name.endswith(".py") and name[:-3] in getattr(
            sys, "stdlib_module_names", ()
        ):
            raise SystemExit(
                f"rename {here}{os.sep}{name}: it hides Python's {name[:-3]}"
            )

import argparse
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import math
import platform
import re
import subprocess
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
# The oldest NVIDIA driver on Linux for each major version of CUDA, from CUDA's release
# notes.
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
SELECTOR = "pytorch.org/get-started/locally"
TOGETHER = f"uninstall torch and torchvision, install both from one index: {SELECTOR}"


# %% 1. Python and the packages
# A package can be there and still not import. Every exception counts: torchvision that
# was built for another torch raises a RuntimeError, not an ImportError. The version is
# read from the file version.py because pip's own record leaves out the +cu132 that
# section 2 compares.
def installed_version(name):
    """The version of a package, such as 2.15.0+cu132, without importing it; None if
    missing."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.origin:
        file = Path(spec.origin).with_name("version.py")
        written = (
            re.search(r"__version__ = '(.+)'", file.read_text())
            if file.exists()
            else None
        )
        if written:
            return written[1]
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def try_import(name):
    """(module, ""), or (None, why not), the type and the first line of what importing
    raised."""
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        return None, one_line(error)
    if not hasattr(module, "__version__"):
        return (
            None,
            f"hidden by {getattr(module, '__file__', None) or 'a folder'}: rename that",
        )
    return module, ""


def one_line(error):
    """The type of an exception and the first line of its message, in ASCII."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}".encode(
        "ascii", "backslashreplace"
    ).decode()


def version_tuple(version):
    """The leading numbers of a version, to compare: (2, 15, 0) for 2.15.0+cu132."""
    return tuple(
        int(part) for part in re.match(r"[\d.]*", version)[0].split(".") if part
    )


def install_command(name, system, machine, conda):
    """The command that installs a package: torch and torchvision only ever together."""
    packages = "torch torchvision" if name.startswith("torch") else name
    if conda:  # the channel pytorch ended with torch 2.5.1; conda-forge carries on
        return f"conda install -c conda-forge {packages.replace('torch', 'pytorch', 1)}"
    if name.startswith("torch") and (system, machine) == ("Darwin", "x86_64"):
        # the last for Intel Macs
        packages = '"torch==2.2.2" "torchvision==0.17.2" "numpy<2"'
    return f"python -m pip install --upgrade {packages}"


def package_problem(name, version, error, command):
    """(what is wrong with a package, the command that mends it); ("", "") if nothing
    is."""
    if version is None:
        return "missing", command
    if "torchvision::nms" in error:
        return error, TOGETHER
    if error:
        return error, f"{command} --force-reinstall"
    if version != "unknown" and version_tuple(version) < version_tuple(OLDEST[name]):
        return f"older than {OLDEST[name]}", command
    return "", ""


def python_problem(version):
    """(what is wrong with this Python, what mends it); ("", "") if nothing is."""
    if version_tuple(version) >= version_tuple(OLDEST["Python"]):
        return "", ""
    return f"older than {OLDEST['Python']}", "install a newer one from python.org"


# %% 2. Packages that were built for each other
def build_problem(torch, torchvision, requirements=()):
    """(what is wrong, what mends it) if local tags (+cpu, +cu132) or the torch asked
    for differ."""
    found = [
        re.search(r"\+(cpu|cu\d+|rocm[\d.]*|xpu)$", v) for v in (torch, torchvision)
    ]
    first, second = (tag[1] if tag else "" for tag in found)
    if first and second and first != second:
        return f"torch is a {first} build, torchvision a {second} build", TOGETHER
    for requirement in requirements:
        wanted = re.match(r"torch ?\(?==([\d.]+)", requirement)
        if wanted and version_tuple(wanted[1]) != version_tuple(torch):
            return f"torchvision was built for torch {wanted[1]}", TOGETHER
    return "", ""


def requirements_of(name):
    """What a package's own record asks for, as a list; empty where there is none."""
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def lessons_that_wait(torchvision):
    """A line about the lessons that need a newer torchvision than this version, or ""."""
    if torchvision != "unknown" and version_tuple(torchvision) < (0, 16):
        return "lesson 10 waits for torchvision 0.16 or newer; the others run"
    return ""


def numpy_problem(torch, numpy):
    """(what is wrong, what mends it) if numpy is newer than torch was built for."""
    try:
        torch.from_numpy(numpy.ones(1)).numpy()
    except Exception as error:
        return one_line(error), 'python -m pip install "numpy<2"'
    return "", ""


# %% 3. CUDA: four cases
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
    """Whether torch finds a GPU; its warnings about the driver stay out of the report."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.cuda.is_available()


def gpu_problem(torch, driver):
    """(why a CUDA build of torch cannot use a GPU, what mends it); ("", "") if it can."""
    if gpu_available(torch):
        found = (re.match(r"sm_(\d+)", arch) for arch in torch.cuda.get_arch_list())
        oldest = min((int(arch[1]) for arch in found if arch), default=0)
        # the one that the lessons use
        major, minor = torch.cuda.get_device_capability(0)
        if major * 10 + minor >= oldest:
            return "", ""
        wrong = (
            f"the card's compute capability {major}.{minor} is too old for this torch"
        )
        return wrong, f"install torch 2.14 or older, built for CUDA 12.6: {SELECTOR}"
    cuda = torch.version.cuda
    needed = OLDEST_DRIVER.get(version_tuple(cuda)[0], max(OLDEST_DRIVER.values()))
    if driver is None:
        return (
            "no NVIDIA driver",
            f"with an NVIDIA card, install driver {needed} or newer",
        )
    if version_tuple(driver)[0] < needed:
        return (
            f"driver {driver} is too old for CUDA {cuda}",
            f"install driver {needed} or newer",
        )
    return (
        "the driver is there, but no card",
        "restart, then see whether nvidia-smi works",
    )


def other_gpu(torch):
    """Advice where torch was built for a GPU that is not NVIDIA's; "" where it was not."""
    if getattr(torch.version, "hip", None):
        return "a ROCm build, for AMD: see that rocminfo lists the card"
    if hasattr(torch.backends, "mps") and torch.backends.mps.is_available():
        return (
            "an Apple GPU (MPS): the course leaves it alone, since MPS has no float64"
        )
    if getattr(torch.version, "xpu", None):
        return "an XPU build, for Intel GPUs: the course leaves them alone"
    return ""


def cuda_case(torch, driver, system):
    """(case, advice): torch missing, CPU-only or no CUDA build, no usable GPU, or
    ready."""
    if torch is None:
        return "torch missing", "mend torch first"
    if gpu_available(torch) and torch.version.cuda is None:
        # AMD's builds answer for CUDA
        return "ready", ""
    if torch.version.cuda is None:
        advice = f"with an NVIDIA card, choose a CUDA build: {SELECTOR}"
        if system == "Darwin":
            advice = "there is no CUDA for macOS, and the course needs none"
        other = other_gpu(torch)
        return ("no CUDA build", other) if other else ("CPU-only build", advice)
    wrong, mend = gpu_problem(torch, driver)
    return (f"no usable GPU: {wrong}", mend) if wrong else ("ready", "")


def gpus(torch):
    """A line for each GPU: name, compute capability and memory in GiB."""
    lines = []
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        memory = gpu.total_memory / 2**30
        lines.append(
            f"{gpu.name}, capability {gpu.major}.{gpu.minor}, {memory:.1f} GiB"
        )
    return lines


# %% 4. A proof on each device
# A version number proves nothing: multiply and differentiate once, and compare.
def product_error(torch, device):
    """The relative error of a 256 x 256 float32 matrix product, against float64 on the
    CPU."""
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
    """(product_error, derivative_error) on a device, and (what is wrong, what mends
    it)."""
    mend = (
        TOGETHER if device == "cpu" else f"choose the build for this card: {SELECTOR}"
    )
    try:
        product, derivative = (
            product_error(torch, device),
            derivative_error(torch, device),
        )
    except Exception as error:
        return math.nan, math.nan, (one_line(error), mend)
    right = product < 1e-5 and derivative < 1e-12
    return product, derivative, ("", "") if right else ("wrong numbers", mend)


# %% Run it
def main(device=None):
    """Print the report, return the number of problems; for "cuda" a missing GPU is one
    of them."""
    print("01 Install check")
    problems = []

    def report(name, version, problem):
        wrong, mend = problem
        print(f"   {name:<11}   {version:<14}   {wrong or 'ok'}")
        if wrong:
            print(f"      {mend}")
            problems.append(name)

    print("\n1. Python and the packages")
    report(
        "Python", platform.python_version(), python_problem(platform.python_version())
    )
    modules, versions = {}, {}
    for name in list(OLDEST)[1:]:
        versions[name] = installed_version(name)
        modules[name], error = try_import(name)
        conda = Path(sys.prefix, "conda-meta").is_dir()
        command = install_command(name, platform.system(), platform.machine(), conda)
        report(
            name,
            versions[name] or "-",
            package_problem(name, versions[name], error, command),
        )
    torch = modules["torch"]

    print("\n2. Packages that were built for each other")
    if versions["torch"] and versions["torchvision"]:
        requirements = requirements_of("torchvision")
        problem = build_problem(
            versions["torch"], versions["torchvision"], requirements
        )
        report("torchvision", "for this torch", problem)
        if lessons_that_wait(versions["torchvision"]):
            print(f"      {lessons_that_wait(versions['torchvision'])}")
    if torch and modules["numpy"]:
        report("numpy", "for this torch", numpy_problem(torch, modules["numpy"]))
    if torch is None:
        print("   waits for torch")

    print("\n3. CUDA: four cases")
    driver = driver_version()
    case, advice = cuda_case(torch, driver, platform.system())
    if device == "cuda" and case != "ready":
        report("cuda", "asked for", (case, advice))
    else:
        print("\n      ".join(filter(None, (f"   {case}", advice))))
    if case == "ready":
        hip = getattr(torch.version, "hip", None)
        build = f"ROCm {hip}" if hip else f"CUDA {torch.version.cuda}, driver {driver}"
        print(f"   {build}, cuDNN {torch.backends.cudnn.version()}")
        for line in gpus(torch):
            print(f"   {line}")

    print("\n4. A proof on each device")
    devices = ["cpu", "cuda"] if case == "ready" and device != "cpu" else ["cpu"]
    if torch is None:
        print("   waits for torch")
    for name in devices if torch else []:
        product, derivative, problem = proof(torch, name)
        report(name, "", problem)
        print(
            f"      relative error of a product {product:.0e}, of a derivative {derivative:.0e}"
        )

    if problems:
        print(f"\nnot ready: {len(problems)} problem{'s' if len(problems) > 1 else ''}")
    else:
        print(f"\nready: {', '.join(devices)}")
    return len(problems)


# %% The command line: no need to read on
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    about = "cpu: leave the GPU alone; cuda: a missing GPU is a problem"
    parser.add_argument("--device", choices=["cpu", "cuda"], help=about)
    args = parser.parse_args()
    raise SystemExit(1 if main(args.device) else 0)
