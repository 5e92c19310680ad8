"""The artefacts that come with the book, and those of the reader: where they are, and the best there is of one.

In a checkout both lie in ``book/results``. Installed, the book's are data of the package, and runs are written to
``~/.local/share/flatness-and-information/results``. The environment variable HELPERS_RESULTS names another folder to
write to. Artefacts are read from the folder that is written to and from the book's; where both have one that is equally
good, the first counts.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import helpers
from helpers.experiments.machinery.artefact import Artefact, load
from helpers.experiments.machinery.storage import ArtefactError, Json, is_intact, read_json

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]

PROFILES = ("paper", "laptop", "smoke")  # best first
BENCHMARK = "bench-"  # files of the benchmarks, which lie beside the artefacts and are not grids


def book() -> Path:
    """The book's folder, with ``results`` and ``claims.yml``: the checkout's, else the copy within the package."""
    package = Path(helpers.__file__).resolve().parent
    checkout = package.parents[1] / "book"
    return checkout if (checkout / "results").is_dir() else package / "_book"


def folder() -> Path:
    """Where runs are written, and looked for first."""
    if chosen := os.environ.get("HELPERS_RESULTS"):
        return Path(chosen)
    if book().name == "book":
        return book() / "results"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "flatness-and-information" / "results"


def folders() -> list[Path]:
    """The folders that artefacts are read from, in order."""
    return list(dict.fromkeys([folder(), book() / "results"]))


def best(experiment: str, *, within: Path | None = None) -> Artefact:
    """The experiment's artefact of the largest profile that is complete, else of the largest that has any rows.

    Raises:
        ArtefactError: if there is none, or a file was altered or holds another artefact than its name says.
    """
    places = folders() if within is None else [within]
    paths = [place / f"{experiment}.{profile}.json" for profile in PROFILES for place in places]
    begun = [artefact for artefact in map(load, filter(Path.exists, paths)) if artefact.finished]
    if begun:
        return next((artefact for artefact in begun if artefact.complete), begun[0])
    raise ArtefactError(
        f"{experiment} has not been run: no artefact in {' or '.join(map(str, places))}; "
        f"make one with: python -m helpers run {experiment} --profile laptop"
    )


def frame(experiment: str, *, within: Path | None = None) -> "pandas.DataFrame":
    """The finished rows of the best artefact as a table, one column a key.

    Raises:
        ArtefactError: as ``best`` does.
        ImportError: if pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("a frame needs pandas, which the book does not; install it: pip install pandas") from error
    return pandas.DataFrame(best(experiment, within=within).finished)


def benchmark(name: str) -> Json:
    """The content of ``bench-NAME.json`` of the book.

    Raises:
        ArtefactError: if it is not there or was altered.
    """
    path = book() / "results" / f"{BENCHMARK}{name}.json"
    content = read_json(path)
    if not is_intact(content):
        raise ArtefactError(
            f"{path} was altered after it was written (its digest differs); restore it or measure again"
        )
    return content


def caption(artefact: Artefact) -> str:
    """What a figure from an artefact states of its runs: data edition, profile, sizes, seeds, how good, on what.

    Each part appears where settings or finished rows hold it: width, k and n (of the rows, and of the settings where
    rows do not say), seeds, augmentation, and the range of test error and test loss.
    """
    config, rows = artefact.config, artefact.finished
    parts = [artefact.provenance["data"], f"{artefact.profile} profile"]
    if widths := _numbers(rows, "width") or _numbers([config], "width"):
        parts.append(f"width {_range(widths, 'd')}")
    if "k" in config:
        parts.append(f"k = {config['k']}")
    if "n" in config:
        parts.append(f"n = {_range(_numbers(rows, 'n') or [config['n']], ',d')}")
    if seeds := {row["seed"] for row in rows if "seed" in row}:
        parts.append("1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds")
    if config.get("augment") is True:
        parts.append("crop and flip")
    if errors := _numbers(rows, "test_error") or [1 - share for share in _numbers(rows, "test_accuracy")]:
        parts.append(f"test error {_range(errors, '.2f')}")
    if losses := _numbers(rows, "test_loss"):
        parts.append(f"test loss {_range(losses, '.2f')}")
    if not artefact.complete:
        parts.append(f"{len(rows)} of {len(artefact.rows)} rows so far")
    return ", ".join([*parts, artefact.provenance["device"]])


def _numbers(rows: Sequence[Json], key: str) -> list[float]:
    """The numbers that rows hold under a key; lists, as of an accuracy along training, are none."""
    return [row[key] for row in rows if isinstance(row.get(key), int | float)]


def _range(values: Sequence[float], form: str) -> str:
    low, high = (format(end, form) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
