"""Recorded outputs are compared by their text: tables as HTML and pictures are not stored."""

from typing import Any


def pytest_collectstart(collector: Any) -> None:
    if hasattr(collector, "skip_compare"):
        collector.skip_compare = (
            *collector.skip_compare,
            "text/html",
            "image/svg+xml",
        )
