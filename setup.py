"""The book's artefacts and its table of claims travel in the package, as ``helpers/_book``; the rest is pyproject.toml.

In a checkout they stay where they are, in ``book``: ``helpers.experiments.library`` reads whichever is there.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BOOK = Path(__file__).parent / "book"
DATA = ("claims.yml", "claims-sources.yml", "mutation.json")


class BuildWithBook(build_py):
    """Copies the book's data beside the modules, unless they are used from where they lie."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for path in self._data():
                copy = Path(self.build_lib) / "helpers" / "_book" / path.relative_to(BOOK)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)

    def _data(self) -> list[Path]:
        return [BOOK / name for name in DATA] + sorted((BOOK / "results").glob("*.json"))


setup(cmdclass={"build_py": BuildWithBook})
