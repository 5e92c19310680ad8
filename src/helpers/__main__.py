"""``python -m helpers``: list, run, show, verify and restamp experiments."""

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from itertools import product
from pathlib import Path

import argcomplete
from argcomplete.completers import BaseCompleter

import helpers
from helpers import data, experiments
from helpers.data import DataError
from helpers.experiments.machinery import cluster, library, verify
from helpers.experiments.machinery.artefact import Artefact, load
from helpers.experiments.machinery.config import Config, ConfigError, parse_settings
from helpers.experiments.machinery.restamp import restamp
from helpers.experiments.machinery.runner import Experiment, RowError
from helpers.experiments.machinery.storage import ArtefactError

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what goes wrong in a foreseen way is one sentence on stderr and exit status 2."""
    _open_streams()
    parser = _parser()
    argcomplete.autocomplete(parser, default_completer=_Names())  # where a shell asks for it; else it does nothing
    options = parser.parse_args(arguments)
    status = 1 if options.judges else 0  # until the command has come to its end
    try:
        with _terminated_as_interrupted():
            status = int(options.command(options))
            sys.stdout.flush()
            return status
    except (ConfigError, DataError, ArtefactError, RowError) as error:
        _complain(f"helpers: {error}")
        return 2
    except BrokenPipeError:
        if options.saves:
            raise
        _close_stdout()  # the reader, such as head, has seen enough
        return status
    except KeyboardInterrupt:
        rows = "; finished rows are saved, run the same command again to resume" if options.saves else ""
        # on a line of its own: a progress bar may have been stopped in the middle of one
        _complain(f"\nhelpers: stopped{rows}")
        return 130


def _open_streams() -> None:
    """Where a stream was closed before Python began, what is said goes nowhere, instead of into the next file.

    What a stream cannot encode, such as a Greek letter in ASCII, is spelt out.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for as long as Python runs
        if hasattr(stream := getattr(sys, name), "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _close_stdout() -> None:
    """Nothing more is written to stdout, not even what is left in its buffer when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    """A line on stderr, if there is one that takes it."""
    start = "\n" if text.startswith("\n") else ""
    with suppress(OSError, ValueError):
        print(start + _printable(text.removeprefix("\n")), file=sys.stderr, flush=True)


def _say(text: str) -> None:
    """A line on stdout; what is not printable, such as a terminal's commands in an artefact, is spelt out."""
    print(_printable(text))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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


def _name() -> str:
    """The command as it was called."""
    called = Path(sys.argv[0]).name
    return called if called == "flatness-and-information" else "python -m helpers"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_name(), description="Run and inspect the book's experiments.")
    parser.set_defaults(judges=False)
    parser.add_argument("--version", action="version", version=f"flatness-and-information {helpers.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    out = argparse.ArgumentParser(add_help=False)
    out.add_argument("--out", type=Path, metavar="DIR", help="folder of artefacts; the book's and yours unless given")

    listing = commands.add_parser("list", help="the experiments, their profiles and sizes")
    listing.add_argument("--settings", action="store_true", help="and every setting of every profile")
    listing.set_defaults(command=_list, saves=False)

    run = commands.add_parser("run", parents=[out], help="run an experiment, or resume it")
    run.add_argument("experiment")
    run.add_argument("--profile", required=True, help="smoke, laptop or paper")
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting; lists by commas"
    )
    run.add_argument("--scheduler", metavar="ADDRESS", help="run the rows on an existing Dask cluster")
    run.add_argument("--budget", metavar="TIME", help="start no further row after this long: 90s, 9m, 2h")
    run.add_argument("--threads", type=int, metavar="N", help="threads of a row, on which its last digits depend: 1")
    run.add_argument("--download", action="store_true", help="first fetch the data set that the settings name")
    run.add_argument("--fresh", action="store_true", help="compute all rows anew; they replace the artefact at the end")
    run.set_defaults(command=_run, saves=True)

    show = commands.add_parser("show", parents=[out], help="an experiment's artefacts, row by row")
    show.add_argument("experiment")
    show.set_defaults(command=_show, saves=False)

    check = commands.add_parser("verify", parents=[out], help="check every artefact: hashes, settings, code version")
    check.set_defaults(command=_verify, saves=False, judges=True)

    stamp = commands.add_parser(
        "restamp", parents=[out], help="prove by its cheapest rows that an artefact is what the current code gives"
    )
    which = stamp.add_mutually_exclusive_group(required=True)
    which.add_argument("experiment", nargs="?")
    which.add_argument("--all", action="store_true", help="every artefact of the folder")
    stamp.add_argument("--profile", help="of this profile only")
    stamp.add_argument("--rows", type=int, default=1, metavar="N", help="how many rows to compute again: 1")
    stamp.set_defaults(command=_restamp, saves=False, judges=True)
    return parser


class _Names(BaseCompleter):
    """What a shell offers for an experiment, a profile, a setting; for nothing else."""

    def __call__(
        self, *, prefix: str, action: argparse.Action, parser: argparse.ArgumentParser, parsed_args: argparse.Namespace
    ) -> list[str]:
        if action.dest == "experiment":
            return list(experiments.EXPERIMENTS)
        known = experiments.EXPERIMENTS.get(getattr(parsed_args, "experiment", None) or "")
        profiles = known.profiles if known else {}
        if action.dest == "profile":
            return list(profiles)
        chosen = profiles.get(getattr(parsed_args, "profile", None) or "")
        return [f"{name}=" for name in chosen.as_json()] if action.dest == "set" and chosen else []


def _list(options: argparse.Namespace) -> int:
    for experiment in experiments.EXPERIMENTS.values():
        _say(f"{experiment.name}: {experiment.summary}")
        for profile, config in experiment.profiles.items():
            _say(f"    {profile:7} {len(experiment.points(config)):4} rows, {experiment.edition(config)}")
            if options.settings:
                _say(f"            {_settings(config)}")
    return 0


def _settings(config: Config) -> str:
    """The settings as ``--set`` takes them."""
    pairs = config.as_json().items()
    return " ".join(f"{name}={','.join(map(str, v)) if isinstance(v, list) else str(v).lower()}" for name, v in pairs)


def _run(options: argparse.Namespace) -> int:
    experiment = experiments.find(options.experiment)
    config = experiments.settings(experiment, options.profile).with_settings(parse_settings(options.set))
    budget = _seconds(options.budget)
    out = options.out or library.folder()
    if options.download:
        _download(experiment, config)
    with _executor(options.scheduler) as (executor, in_flight):
        artefact = experiments.run(
            experiment,
            options.profile,
            config,
            out=out,
            executor=executor,
            in_flight=in_flight,
            budget=budget,
            threads=options.threads,
            fresh=options.fresh,
        )
    path = experiments.artefact_path(out, experiment.name, options.profile)
    with suppress(OSError):  # the rows are saved, whoever reads this
        _say(f"{path}: {_done(artefact)}, {artefact.provenance['data']}")
        if artefact.provenance["code"] != experiment.code:
            _say(
                "    made by an earlier version of the code, and left as it is: compute it anew with --fresh, or prove "
                f"that nothing changed with 'restamp {experiment.name} --profile {options.profile}'"
            )
        sys.stdout.flush()
        return 0
    _close_stdout()
    return 0


def _done(artefact: Artefact) -> str:
    degenerate = sum(str(row.get("status", "")).startswith("degenerate") for row in artefact.finished)
    rows = f"{len(artefact.finished)} of {len(artefact.rows)} rows"
    return f"{rows}, {degenerate} of them degenerate" if degenerate else rows


def _download(experiment: Experiment, config: Config) -> None:
    """Fetch the data sets of the settings, both parts of each."""
    names = getattr(config, "datasets", None) or [getattr(config, "dataset", None)]
    if names == [None]:
        raise ConfigError(f"--download has nothing to fetch: {experiment.name} has no setting 'dataset'")
    for name, train in product(names, (True, False)):
        data.load(name, train=train, download=True)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", text)
    if not match:
        raise ConfigError(f"--budget takes a time such as 90s, 9m or 2h, got {text!r}")
    return float(match[1]) * UNITS[match[2]]


def _executor(address: str | None) -> AbstractContextManager[tuple[Executor | None, int]]:
    """Where rows are computed, and how many at a time: this process, or the Dask cluster at an address."""
    return nullcontext((None, 1)) if address is None else cluster.executor(address)


def _files(options: argparse.Namespace) -> list[Path]:
    """The JSON files of ``--out``, else those of the reader's folder, if there is one, and of the book."""
    if options.out is not None:
        return verify.files(options.out)
    return verify.files(*([folder for folder in library.folders() if folder.exists()] or library.folders()))


def _artefacts_of(experiment: Experiment, options: argparse.Namespace) -> list[Path]:
    names = [f"{experiment.name}.{profile}.json" for profile in experiment.profiles]
    paths = [path for path in _files(options) if path.name in names]
    if not paths:
        place = options.out or " or ".join(map(str, library.folders()))
        raise ArtefactError(f"there is no artefact of {experiment.name} in {place}; make one with 'run'")
    return paths


def _show(options: argparse.Namespace) -> int:
    for path in _artefacts_of(experiments.find(options.experiment), options):
        artefact = load(path)
        _say(f"{path}: {_done(artefact)}, {artefact.provenance['data']}, {artefact.provenance['device']}")
        for row in artefact.finished:
            _say("    " + ", ".join(f"{key}={_short(value)}" for key, value in row.items() if _is_scalar(value)))
    return 0


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _verify(options: argparse.Namespace) -> int:
    paths = _files(options)
    failures = 0
    for path in paths:
        try:
            _say(f"{path}: {verify.condition(path, experiments.EXPERIMENTS)}")
        except ArtefactError as error:
            failures += 1
            _say(f"FAILED {error}")
    _say(f"{len(paths)} artefacts, {failures} failed")
    return 1 if failures else 0


def _restamp(options: argparse.Namespace) -> int:
    if options.rows < 1:
        raise ConfigError(f"--rows takes a positive whole number, got {options.rows}")
    if options.all:
        paths = [path for path in _files(options) if not path.name.startswith(library.BENCHMARK)]
    else:
        paths = _artefacts_of(experiments.find(options.experiment), options)
    if options.profile is not None:
        paths = [path for path in paths if path.name.endswith(f".{options.profile}.json")]
    if not paths:
        raise ArtefactError(f"there is no artefact of profile {options.profile!r}; leave --profile out")
    failures = 0
    for path in paths:
        try:
            _say(f"{path}: {restamp(path, experiments.EXPERIMENTS, rows=options.rows)}")
            sys.stdout.flush()
        except (ArtefactError, RowError) as error:
            failures += 1
            _say(f"FAILED {error}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
