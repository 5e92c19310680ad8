"""What a run of the laboratory takes in the page, and the same run with the package.

    python benchmarks/bench_laboratory.py [--quick] [--out FILE] [--threads N] [--browser chromium|firefox]

Four runs of a 64-16-10 network on 200 digits each, 100 epochs, and every bound on a path of nine lambdas: in a headless
browser, and in Python on one thread, in turns. The results of both are compared. ``--quick`` takes two epochs and one
turn and writes only where ``--out`` says.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _in_browser import NAMES, InBrowser, executable, opened
from _timing import RESULTS, median, origin, seconds, write

from helpers.widgets.laboratory import measure, packed_digits, replay
from helpers.widgets.laboratory.scripts import ENGINE

SETTINGS = {"world": "digits", "batch_size": 20, "lr": 0.1, "epochs": 100, "width": 16, "n": 200, "seed": 0}
IN_PAGE = """
const all = digits(argument.text);
const times = [];
let results = null;
for (let turn = 0; turn < argument.turns; turn++) {
  const start = performance.now();
  const prepared = prepare({ ...DEFAULTS, ...argument.settings }, all);
  while (prepared.runs.losses.length < prepared.settings.epochs) epoch(prepared.runs, prepared.next_orders());
  const trained = performance.now();
  const work = answers(prepared);
  let next = work.next();
  while (!next.done) next = work.next();
  results = next.value;
  times.push([(trained - start) / 1000, (performance.now() - trained) / 1000]);
}
return { times, gap: results.gap.value, closed_form: results.closed_form.value };
"""


def in_page(page: InBrowser, settings: dict[str, Any], turns: int) -> dict[str, Any]:
    """Seconds of training and bounds for each turn in the browser, and two of the results."""
    found = page.calculate(ENGINE + IN_PAGE, {"text": packed_digits(), "settings": settings, "turns": turns})
    return dict(found)


def in_package(settings: dict[str, Any]) -> tuple[float, float, dict[str, Any]]:
    """Seconds of training and of bounds with the package, and the results."""
    kept: dict[str, Any] = {}

    def train() -> None:
        kept["done"] = replay(**settings)

    def bound() -> None:
        kept["found"] = measure(kept["done"].run, kept["done"].roles)

    return seconds(train), seconds(bound), kept["found"]


def measured(browser: str, settings: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Both, in turns, so that a busy machine slows them alike; the first turns warm up and do not count."""
    times: dict[str, list[float]] = {
        name: [] for name in ("page, training", "page, bounds", "package, training", "package, bounds")
    }
    with opened(browser) as page:
        in_page(page, settings, 2)
        for _ in range(repeats):
            there = in_page(page, settings, 3)
            training, bounds, here = in_package(settings)
            best = min(there["times"], key=sum)
            for name, value in zip(times, (*best, training, bounds), strict=True):
                times[name].append(value)
    torch.testing.assert_close(there["gap"], here["gap"]["value"], rtol=1e-6, atol=0)
    torch.testing.assert_close(
        there["closed_form"], here["closed_form"]["value"], rtol=0.1, atol=0
    )  # its trace is sampled
    middle = {name: median(values)[0] for name, values in times.items()}
    page_seconds = middle["page, training"] + middle["page, bounds"]
    package_seconds = middle["package, training"] + middle["package, bounds"]
    return {
        "browser": browser, "settings": settings, "lambdas": 9, "runs": 4, "repeats": repeats, "seconds": middle,
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
    content = {"laboratory": measured(options.browser, settings, 1 if options.quick else 5)}
    print("the page takes {page:.2f} s, the package {package:.1f} s".format(**content["laboratory"]))
    out = options.out or (None if options.quick else RESULTS / "bench-laboratory.json")
    if out:
        whole = not options.quick
        write(out, {"origin": origin("digits (scikit-learn)", ["torch", "numpy"]), "whole": whole, **content})


if __name__ == "__main__":
    main(sys.argv[1:])
