"""Sphinx extension: works are listed by author and year, and labelled as the text cites them.

Works of one author and year are told apart by a letter in their ``year``, which text and list then both show.
"""

from collections.abc import Iterator
from typing import Any

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx

STYLE = "author_year"


def label(entry: Entry) -> str:
    """ "Wu and Su, 2023", "Peng et al., 2025"."""
    people = [
        " ".join(map(str, person.rich_prelast_names + person.rich_last_names))
        for person in entry.persons.get("author", [])
    ]
    if len(people) > 2:
        people = [f"{people[0]} et al."]
    name = " and ".join(people) or entry.fields.get("title", entry.key)
    return f"{name.replace('{', '').replace('}', '')}, {entry.fields.get('year', 'no year')}"


class AuthorYearLabels(BaseLabelStyle):
    """Labels of a list."""

    def format_labels(self, sorted_entries: list[Entry]) -> Iterator[str]:
        """One label for each entry."""
        return map(label, sorted_entries)


class AuthorYearStyle(Style):
    """pybtex's plain style with these labels."""

    default_label_style = AuthorYearLabels
    default_sorting_style = "author_year_title"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with pybtex, which the bibliography asks for its style."""
    register_plugin("pybtex.style.formatting", STYLE, AuthorYearStyle)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
