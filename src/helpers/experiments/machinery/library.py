"""The artefacts that come with the book: where they are, the best there is of one, and how a caption names it."""

import sys
from pathlib import Path

import helpers
from helpers.experiments.machinery.artefact import Artefact, ArtefactError, load

PROFILES = ("paper", "laptop", "smoke")  # best first


def folder() -> Path:
    """``book/results`` of the checkout that the package is installed from, else of the installed distribution."""
    checkout = Path(helpers.__file__).resolve().parents[2] / "book" / "results"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "flatness-and-information" / "results"


def best(experiment: str, *, within: Path | None = None) -> Artefact:
    """The experiment's artefact of the largest profile that has been run.

    Raises:
        ArtefactError: if none has been run, or the file was altered.
    """
    within = folder() if within is None else within
    for profile in PROFILES:
        path = within / f"{experiment}.{profile}.json"
        if path.exists():
            return load(path)
    raise ArtefactError(
        f"{experiment} has not been run: no artefact in {within}; "
        f"make one with: python -m helpers run {experiment} --profile laptop"
    )


def caption(artefact: Artefact) -> str:
    """Data edition, profile, k, n, seeds of the finished rows and hardware, as every figure from an artefact states."""
    config = artefact.config
    parts = [artefact.provenance["data"], f"{artefact.profile} profile"]
    parts += [f"{name} = {config[name]}" for name in ("k", "n") if name in config]
    if seeds := {row["seed"] for row in artefact.finished if "seed" in row}:
        parts.append("1 seed" if len(seeds) == 1 else f"{len(seeds)} seeds")
    if not artefact.complete:
        parts.append(f"{len(artefact.finished)} of {len(artefact.rows)} rows so far")
    return ", ".join([*parts, artefact.provenance["device"]])
