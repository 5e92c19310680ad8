"""A progress bar that no computation depends on: where it cannot be drawn it is dropped."""

import os
from contextlib import suppress
from typing import Any

from tqdm.auto import tqdm

UNDRAWN = (
    OSError,
    ValueError,
    AttributeError,
    ImportError,
)  # a stream that is full, closed or none; a kernel without widgets


class Bar:
    """A bar on stderr, or in the notebook; silent once drawing has failed, and where tqdm's TQDM_DISABLE is set.

    What tqdm takes beside total, name and unit goes to it as it is.
    """

    def __init__(self, *, total: int, name: str, unit: str, quiet: bool = False, **options: Any) -> None:
        self._bar: Any = None
        if not (quiet or os.environ.get("TQDM_DISABLE")):  # which in a notebook tqdm itself does not read
            with suppress(*UNDRAWN):
                self._bar = tqdm(total=total, desc=name, unit=unit, **options)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def advance(self) -> None:
        """One more unit."""
        self._draw("update")

    def close(self) -> None:
        """No more is to come."""
        self._draw("close")

    def _draw(self, what: str) -> None:
        if self._bar is not None:
            try:
                getattr(self._bar, what)()
            except UNDRAWN:
                self._bar.disable = True  # else its destructor would try again
                self._bar = None
