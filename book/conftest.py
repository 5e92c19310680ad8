"""How recorded outputs are compared: a table by its text, since its HTML holds the same numbers."""

from typing import Any


def pytest_collectstart(collector: Any) -> None:
    if hasattr(collector, "skip_compare"):
        collector.skip_compare = (*collector.skip_compare, "text/html")
