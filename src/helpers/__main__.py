"""``python -m helpers``: list, run, show and verify experiments."""

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from helpers import experiments
from helpers.data import DataError
from helpers.experiments.machinery import cluster, verify
from helpers.experiments.machinery.artefact import ArtefactError, load
from helpers.experiments.machinery.config import ConfigError, parse_settings
from helpers.experiments.machinery.runner import RowError

BENCHMARK = "bench-"  # files of the benchmarks, which lie beside the artefacts and are not grids
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what goes wrong in a foreseen way is one sentence on stderr and exit status 2."""
    options = _parser().parse_args(arguments)
    try:
        with _terminated_as_interrupted():
            status = int(options.command(options))
            sys.stdout.flush()
            return status
    except (ConfigError, DataError, ArtefactError, RowError) as error:
        print(f"helpers: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        # on a line of its own: a progress bar may have been stopped in the middle of one
        print("\nhelpers: stopped; finished rows are saved, run the same command again to resume", file=sys.stderr)
        return 130


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Within the block SIGTERM, with which batch systems end a job, is handled as Ctrl-C is: cleanly."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers", description="Run and inspect the book's experiments.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="the experiments, their profiles and sizes")
    listing.set_defaults(command=_list)

    run = commands.add_parser("run", help="run an experiment, or resume it")
    run.add_argument("experiment")
    run.add_argument("--profile", required=True, help="smoke, laptop or paper")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting; lists by commas"
    )
    run.add_argument("--scheduler", metavar="ADDRESS", help="run the rows on an existing Dask cluster")
    run.add_argument("--out", type=Path, default=experiments.RESULTS, metavar="DIR", help="folder for the artefact")
    run.add_argument("--budget", metavar="TIME", help="start no further row after this long: 90s, 9m, 2h")
    run.set_defaults(command=_run)

    show = commands.add_parser("show", help="an experiment's artefacts, row by row")
    show.add_argument("experiment")
    show.add_argument("--out", type=Path, default=experiments.RESULTS, metavar="DIR")
    show.set_defaults(command=_show)

    check = commands.add_parser("verify", help="check every artefact: schema, hashes, settings, version of the code")
    check.add_argument("--out", type=Path, default=experiments.RESULTS, metavar="DIR")
    check.set_defaults(command=_verify)
    return parser


def _list(options: argparse.Namespace) -> int:
    for experiment in experiments.EXPERIMENTS.values():
        print(f"{experiment.name}: {experiment.summary}")
        for profile, config in experiment.profiles.items():
            print(f"    {profile:7} {len(experiment.points(config)):4} rows, {experiment.edition(config)}")
    return 0


def _run(options: argparse.Namespace) -> int:
    experiment = experiments.find(options.experiment)
    config = experiments.settings(experiment, options.profile).with_settings(parse_settings(options.set))
    budget = _seconds(options.budget)
    with _executor(options.scheduler) as (executor, in_flight):
        artefact = experiments.run(
            experiment, options.profile, config, out=options.out, executor=executor, in_flight=in_flight, budget=budget
        )
    path = experiments.artefact_path(options.out, experiment.name, options.profile)
    print(f"{path}: {len(artefact.finished)} of {len(artefact.rows)} rows, {artefact.provenance['data']}")
    return 0


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not match:
        raise ConfigError(f"--budget takes a time such as 90s, 9m or 2h, got {text!r}")
    return float(match[1]) * UNITS[match[2]]


def _executor(address: str | None) -> AbstractContextManager[tuple[Executor | None, int]]:
    """Where rows are computed, and how many at a time: this process, or the Dask cluster at an address."""
    return nullcontext((None, 1)) if address is None else cluster.executor(address)


def _show(options: argparse.Namespace) -> int:
    experiment = experiments.find(options.experiment)
    paths = sorted(options.out.glob(f"{experiment.name}.*.json"))
    if not paths:
        raise ArtefactError(f"there is no artefact of {experiment.name} in {options.out}; make one with 'run'")
    for path in paths:
        artefact = load(path)
        print(f"{path}: {artefact.provenance['data']}, {artefact.provenance['device']}")
        for row in artefact.finished:
            print("    " + ", ".join(f"{key}={_short(value)}" for key, value in row.items() if _is_scalar(value)))
    return 0


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _verify(options: argparse.Namespace) -> int:
    paths = [path for path in sorted(options.out.glob("*.json")) if not path.name.startswith(BENCHMARK)]
    failures = 0
    for path in paths:
        try:
            print(f"{path}: {verify.state(path, experiments.EXPERIMENTS)}")
        except ArtefactError as error:
            failures += 1
            print(f"FAILED {error}")
    print(f"{len(paths)} artefacts, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
