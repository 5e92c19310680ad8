"""Where numbers come from: code, data, libraries, machine."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import torch

import helpers
from helpers.experiments.machinery.fingerprint import Package

LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn")
_READING = Lock()  # a walk through the modules keeps its place in the package; rows in threads must not share it


def provenance(edition: str, module: str) -> dict[str, Any]:
    """What an artefact made by ``module`` says about its origin.

    As rows are added, ``seconds`` (wall-clock of the runs that added them), ``row_seconds`` (sum over rows),
    ``peak_memory_bytes`` (the most of a process that computed one) and ``device`` (each that did) are kept up to date.
    Commit, libraries and Python are those of the process that computed the first row; ``others`` says where the process
    of a later row differs.
    """
    return {
        "package": helpers.__version__,
        "code": code_fingerprint(module),
        "data": edition,
        **environment(),
        "started": now(),
        "resumed": [],
        "others": [],
        "seconds": 0.0,
        "row_seconds": 0.0,
        "peak_memory_bytes": 0,
    }


def environment(accelerated: bool | None = None) -> dict[str, Any]:
    """Commit, device (``device_name``), processors of the machine, libraries and Python of this process."""
    return {
        "commit": commit(),
        "device": device_name(accelerated),
        "processors": os.cpu_count(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
    }


def resumed(origin: dict[str, Any]) -> None:
    """Note in the provenance of an unfinished artefact that this process goes on, and what is different here."""
    here = environment()
    differing = {name: value for name, value in here.items() if name != "device" and value != origin.get(name)}
    origin.setdefault("resumed", []).append({"at": now(), **differing})


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def code_fingerprint(module: str) -> str:
    """Fingerprint of the code that a module's results depend on: itself and all that it imports from the package.

    Layout, comments, docstrings, file names and the version of Python do not count. Of a module outside the package its
    file counts, with what it imports from the package; what was typed into a session has no file, and does not count.
    """
    with _READING:
        package = _package()
        if package.file(module):
            return package.digest(module)
        path = getattr(sys.modules.get(module), "__file__", None)
        return package.digest_of(package.parse(Path(path).read_text(encoding="utf-8") if path else ""))


@cache
def _package() -> Package:
    return Package(Path(helpers.__file__).parent)


@cache
def commit() -> str:
    """The checkout's commit when first asked, with "+" if files differ from it; "unknown" outside a checkout."""
    root = Path(helpers.__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def accelerator_allocations() -> int:
    """How often this process has taken memory of the accelerator so far: who computes there raises it."""
    if not torch.cuda.is_initialized():
        return 0
    return sum(torch.cuda.memory_stats(i).get("allocation.all.allocated", 0) for i in range(torch.cuda.device_count()))


def device_name(accelerated: bool | None = None) -> str:
    """The accelerator, else the processor and the number of threads that experiments use of it.

    Args:
        accelerated: whether the accelerator computed; where it is not known, it did if there is one.
    """
    if torch.cuda.is_available() if accelerated is None else accelerated:
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' if threads > 1 else ''}"


@cache
def _processor() -> str:
    """The processor's own name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.processor() or platform.machine()} CPU"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] not in ("", "unknown") else f"{platform.machine()} CPU"


def peak_memory(accelerated: bool | None = None) -> int:
    """Most bytes this process has held: on the accelerator if that computed, else resident; 0 where nothing tells.

    Args:
        accelerated: as in ``device_name``.
    """
    if torch.cuda.is_available() if accelerated is None else accelerated:
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
