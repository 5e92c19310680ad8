"""List the ledger's rows whose verdict is not what the rule says of the artefact: ``python -m tools.verdicts``."""

from pathlib import Path

import yaml

from helpers.experiments.machinery.artefact import load

from . import RULES

BOOK = Path(__file__).resolve().parents[2] / "book"


def main() -> int:
    """Print a line for each such row; the exit status is how many there are."""
    ledger = yaml.safe_load((BOOK / "claims.yml").read_text(encoding="utf-8"))
    overtaken = 0
    for row in ledger:
        if row["artefact"]:
            found = RULES[row["id"]](load(BOOK / "results" / row["artefact"]))
            if found != row["verdict"]:
                overtaken += 1
                print(f"{row['id']}: the ledger says {row['verdict']}, {row['artefact']} says {found}")
    return overtaken


if __name__ == "__main__":
    raise SystemExit(main())
