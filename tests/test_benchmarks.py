"""Benchmarks fit the code of now: they load, and with HELPERS_BENCHMARKS set (as every night) run in quick mode."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import helpers
from helpers.experiments.machinery import storage

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").glob("bench_*.py"))
SECTIONS = {
    "bench_bound": {"exact_traces", "growth", "bound"},
    "bench_curvature": {"networks", "growth", "bound"},
    "bench_laboratory": {"laboratory"},
    "bench_threads": {"threads"},
    "bench_training": {"one_thread", "cpu", "cuda", "loop_or_vmap"},
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(script, monkeypatch):
    monkeypatch.syspath_prepend(script.parent)
    assert callable(runpy.run_path(str(script), run_name="loaded")["main"])


@pytest.mark.skipif("HELPERS_BENCHMARKS" not in os.environ, reason="half a minute each: set HELPERS_BENCHMARKS to run")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_quick_mode_runs_and_writes_every_section(script, tmp_path):
    out = tmp_path / "bench.json"
    environment = {**os.environ, "PYTHONPATH": str(Path(helpers.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    content = json.loads(out.read_text())
    assert SECTIONS[script.stem] <= set(content)
    assert storage.sealed({key: value for key, value in content.items() if key != "digest"}) == content


def test_an_error_that_is_rounding_counts_as_exact(monkeypatch):
    """Where our trace has no error but rounding, no ratio of errors is taken."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    at_equal_error = runpy.run_path(str(ROOT / "benchmarks" / "bench_curvature.py"), run_name="loaded")[
        "at_equal_error"
    ]
    lambdas = (1.0, 10.0, 100.0)
    ours = {"trace_error": [1e-10, 0.0, 50.0], "seconds_ratio": 2.0, "work_ratio": 3.0}
    rows = {"published": {"trace_error": [400.0, 300.0, 100.0], "trace_share": 0.5}, "helpers, 3 lambdas": ours}
    found = at_equal_error(rows, type("Sizes", (), {"lambdas": lambdas}))
    assert found["exact_rows"] == 2
    assert found["probe_factors"] == [1.0, 1.0, 4.0]
    assert found["work_ratio"] == pytest.approx(3.0 * (0.5 + 0.5 * 2.0))
