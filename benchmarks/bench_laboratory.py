"""What a run of the laboratory takes in the page, and the same run with the package.

    python benchmarks/bench_laboratory.py [--quick] [--out FILE] [--threads N] [--browser chromium|firefox]

Four runs of a 64-16-10 network on 200 digits each, 100 epochs, and every bound on a path of nine lambdas: in a headless
browser, and in Python on one thread, in turns, in processor seconds. The results of both are compared. ``--quick``
takes two epochs and one turn and writes only where ``--out`` says.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _in_browser import NAMES, InBrowser, executable, opened, processor_seconds
from _timing import RESULTS, median, origin, write

from helpers.widgets.laboratory import measure, packed_digits, replay
from helpers.widgets.laboratory.scripts import ENGINE

SETTINGS = {"world": "digits", "batch_size": 20, "lr": 0.1, "epochs": 100, "width": 16, "n": 200, "seed": 0}
PLACES = ("page", "package")
IN_PAGE = """
const all = digits(argument.text);
let results = null;
for (let turn = 0; turn < argument.turns; turn++) {
  const prepared = prepare({ ...DEFAULTS, ...argument.settings }, all);
  while (prepared.runs.losses.length < prepared.settings.epochs) epoch(prepared.runs, prepared.next_orders());
  if (!argument.bounds) continue;
  const work = answers(prepared);
  let next = work.next();
  while (!next.done) next = work.next();
  results = next.value;
}
return results && { gap: results.gap.value, dispersion: results.dispersion };
"""


def in_page(page: InBrowser, settings: dict[str, Any], turns: int, *, bounds: bool) -> tuple[float, Any]:
    """Processor seconds of one turn in the browser, all its processes together, and two of the results."""
    argument = {"text": packed_digits(), "settings": settings, "turns": turns, "bounds": bounds}
    before = processor_seconds(page.pid)
    found = page.calculate(ENGINE + IN_PAGE, argument)
    return (processor_seconds(page.pid) - before) / turns, found


def in_package(settings: dict[str, Any]) -> tuple[float, float, dict[str, Any]]:
    """Processor seconds of training and of bounds with the package, and the results."""
    start = time.process_time()
    done = replay(**settings)
    trained = time.process_time()
    found = measure(done.run, done.roles)
    return trained - start, time.process_time() - trained, found


def measured(browser: str, settings: dict[str, Any], repeats: int, turns: int) -> dict[str, Any]:
    """Both, in turns; processor time and not the clock's, so that other work on the machine does not count."""
    times: dict[str, list[float]] = {f"{where}, {part}": [] for where in PLACES for part in ("training", "bounds")}
    with opened(browser) as page:
        in_page(page, settings, turns, bounds=True)
        for _ in range(repeats):
            training, _nothing = in_page(page, settings, turns, bounds=False)
            whole, there = in_page(page, settings, turns, bounds=True)
            *package, here = in_package(settings)
            for name, value in zip(times, (training, whole - training, *package), strict=True):
                times[name].append(value)
    torch.testing.assert_close(there["gap"], here["gap"]["value"], rtol=1e-8, atol=0)
    torch.testing.assert_close(there["dispersion"], here["dispersion"], rtol=1e-8, atol=0)
    middle = {name: median(values) for name, values in times.items()}
    page_seconds, package_seconds = (
        sum(middle[f"{where}, {p}"][0] for p in ("training", "bounds")) for where in PLACES
    )
    return {
        "browser": browser, "settings": settings, "lambdas": 9, "runs": 4, "repeats": repeats,
        "processor_seconds": {name: value for name, (value, _) in middle.items()},
        "errors": {name: error for name, (_, error) in middle.items()},
        "page": page_seconds, "package": package_seconds, "ratio": package_seconds / page_seconds,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two epochs; writes only where --out says")
    parser.add_argument("--out", type=Path, help="the file to write")
    parser.add_argument("--threads", type=int, default=1, help="of the package (default 1)")
    parser.add_argument("--browser", choices=sorted(NAMES), default="chromium")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    if executable(options.browser) is None:
        sys.exit(f"there is no {options.browser} on this machine: install it to measure the laboratory in it")
    settings = SETTINGS | ({"epochs": 2} if options.quick else {})
    content = {"laboratory": measured(options.browser, settings, *((1, 1) if options.quick else (5, 5)))}
    print("processor seconds: page {page:.2f}, package {package:.1f}".format(**content["laboratory"]))
    out = options.out or (None if options.quick else RESULTS / "bench-laboratory.json")
    if out:
        whole = not options.quick
        write(out, {"origin": origin("digits (scikit-learn)", ["torch", "numpy"]), "whole": whole, **content})


if __name__ == "__main__":
    main(sys.argv[1:])
