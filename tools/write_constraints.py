"""Write constraints.txt: the exact version of every package that the environment holds.

Run it (``make lock``) after an upgrade that passed the tests. The project itself and pip are left out, and so is a
version's local part (``+cu130``), so that any build of the same release satisfies the pin.
"""

import re
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {"flatness-and-information", "pip"}
HEADER = """\
# The versions that the book was built and tested with: the full closure of pyproject.toml with its extras.
# Written by `make lock`. Packages that exist for one platform only are ignored by pip elsewhere.
"""


def canonical(name: str) -> str:
    """The package name as indexes compare it: lower case, one dash between words."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    """Canonical name to public version, for every distribution of the running environment."""
    return {canonical(found.name): found.version.split("+")[0] for found in distributions()}


def main() -> None:
    """Write the file next to pyproject.toml."""
    pins = {name: version for name, version in installed().items() if name not in LEFT_OUT}
    lines = "".join(f"{name}=={pins[name]}\n" for name in sorted(pins))
    (ROOT / "constraints.txt").write_text(HEADER + lines, encoding="utf-8")
    print(f"constraints.txt: {len(pins)} packages")


if __name__ == "__main__":
    main()
