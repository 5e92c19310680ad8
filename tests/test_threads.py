"""Two threads by accident: a small training is not brought to a standstill on a machine that others use as well."""

import os
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "bench_threads.py"


def policy(code: str, **environment: str) -> str:
    left = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", f"import os; {code}; print(os.environ['OMP_WAIT_POLICY'])"]
    return subprocess.run(command, env=left | environment, capture_output=True, text=True, check=True).stdout.strip()


def test_threads_that_wait_sleep_unless_the_reader_wants_it_otherwise():
    assert policy("import helpers") == "PASSIVE"
    assert policy("from helpers import losses") == "PASSIVE"
    assert policy("import helpers", OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_whoever_imports_pytorch_first_is_told_in_set_up_and_not_by_each_import():
    code = "import sys, types; sys.modules['torch'] = types.ModuleType('torch'); import helpers"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    page = (SCRIPT.parents[1] / "book" / "setup.md").read_text(encoding="utf-8")
    assert "start Python with `OMP_WAIT_POLICY=PASSIVE` in its environment" in page


def test_two_threads_that_share_a_processor_train_nearly_as_fast_as_one(monkeypatch):
    """Threads that spin would need hundreds of times as long."""
    if not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2:
        pytest.skip("A process cannot be held to one of two processors here.")
    torch = find_spec("torch")
    assert torch is not None
    assert torch.origin is not None
    if not list(Path(torch.origin).parent.glob("lib/libgomp*")):
        pytest.skip("This PyTorch does not come with GNU's threads.")
    monkeypatch.syspath_prepend(SCRIPT.parent)
    measured = runpy.run_path(str(SCRIPT), run_name="loaded")["measured"]
    found = measured(["one thread", "two threads that sleep"], 1, dict(os.environ))["seconds_an_epoch"]
    assert found["two threads that sleep"] < 20 * found["one thread"]
