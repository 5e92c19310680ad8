"""A progress bar that no run depends on: where it cannot be drawn it is dropped."""

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
    """A bar of rows on stderr, or in the notebook; silent once drawing has failed."""

    def __init__(self, *, total: int, done: int, name: str, quiet: bool) -> None:
        self._bar: Any = None
        if not quiet:
            with suppress(*UNDRAWN):
                self._bar = tqdm(total=total, initial=done, unit="row", desc=name)

    def advance(self) -> None:
        """One more row."""
        self._draw("update")

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._draw("close")

    def _draw(self, what: str) -> None:
        if self._bar is not None:
            try:
                getattr(self._bar, what)()
            except UNDRAWN:
                self._bar.disable = True  # else its destructor would try again
                self._bar = None
