"""Tables of results: numbers aligned at the decimal point, errors beside their values, nothing but HTML and text.

A table is data first: each number keeps its full value (in the ``value`` of an HTML ``data`` element, from which the
page copies CSV), and what is shown is rounded. In a terminal it is aligned text.
"""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

SIGNIFICANT = 3  # digits of the largest number of a column
MOST_DECIMALS = 5
# Spaces as wide as what they stand in for: a digit (and a sign), a decimal point, a space that does not collapse.
FIGURE_SPACE, POINT_SPACE, SPACE = "\u2007", "\u2008", "\u00a0"
BLANKS = {".": POINT_SPACE, " ": SPACE}
PLAIN = str.maketrans(FIGURE_SPACE + POINT_SPACE + SPACE, "   ")
MISSING = "–"
# A value with its error, an interval, a count out of so many: no line may end within.
VALUE = re.compile(r"[-+−]?\d[\d.,]*[\u2007\u2008]* ± [\d.,]*\d|\[[^\[\]]{1,24}\]|\b\d+ of \d+\b|\d %")
NARROW = 56  # characters of a row, one between columns included, that a phone shows side by side
WRAPPED = 46  # to how many of them words fill a row before they wrap
FIRST = 16  # characters that the name of a row has beside the others before it gets a line of its own
WORDS = 32  # characters of a cell of words that may stand in a row beside others
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
Number = tuple[float, float | None]  # value, standard error


def _power(match: re.Match[str]) -> str:
    """A number with an exponent as it is written by hand: ``2.7e-03`` as 0.0027, ``1.0e-09`` as 1.0 × 10⁻⁹."""
    digits, exponent = match[1], int(match[2])
    if -4 < exponent < 4:
        return f"{float(match[0]):.{max(len(digits.partition('.')[2]) - exponent, 0)}f}"
    power = "10" + str(exponent).translate(SUPERSCRIPT)
    return power if digits == "1" else "0" if not float(digits) else f"{digits} × {power}"


def _typeset(text: str) -> str:
    """The text with a minus where a number has a hyphen, no sign at a zero, powers of ten, and a dash in 0–1 loss."""
    text = re.sub(r"(?<![\w.,-])0-1(?= [a-z])", "0–1", text)
    text = re.sub(r"(?<![\w.])(\d(?:\.\d+)?)e([-+]\d+)\b", _power, text)
    text = re.sub(r"(?<![\w.])[-+](?=0(?:\.0+)?(?![\d.]))", "", text)
    return re.sub(r"(?<![\w.)\]-])-(?=[\d.∞])", "−", text)


def _number(cell: Any) -> Number | None:
    """Value and standard error of a cell that is a number, a pair, or has both as attributes; None for other cells."""
    if isinstance(cell, bool) or cell is None or isinstance(cell, str):
        return None
    if isinstance(cell, tuple) and len(cell) == 2:
        return float(cell[0]), float(cell[1])
    if hasattr(cell, "value") and hasattr(cell, "standard_error"):
        return float(cell.value), float(getattr(cell, "uncertainty", cell.standard_error))
    try:
        return float(cell), None
    except (TypeError, ValueError):
        return None


def _decimals(error: float) -> int:
    """Decimals that show an error with one digit, or with two where the first is a one."""
    exponent = math.floor(math.log10(error))
    first = int(error / 10.0**exponent + 1e-9)
    return -exponent + (1 if first == 1 else 0)


def uncertain(value: float, error: float) -> str:
    """The value and its standard error as the field writes them, rounded alike: ``0.271 ± 0.014``, ``5200 ± 300``.

    The error has one digit, or two where the first is a one. An error of zero (nothing was sampled) is left out.
    """
    if not (math.isfinite(value) and math.isfinite(error)):
        return f"{value:.3g} ± {error:.3g}"
    if error == 0:
        return _typeset(f"{value:.4g}")
    decimals = _decimals(error)
    value, error = round(value, decimals), round(error, decimals)
    return _typeset(f"{value:.{max(decimals, 0)}f} ± {error:.{max(decimals, 0)}f}")


def _column_decimals(values: Sequence[float]) -> int:
    """Decimals for a column of numbers without errors: three digits of its largest, two of its smallest."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if not sizes or all(value == int(value) for value in values if math.isfinite(value)):
        return 0
    wanted = SIGNIFICANT - 1 - math.floor(math.log10(max(sizes)))
    if min(sizes) < 10.0**-wanted:  # a small number must not read as zero
        wanted = 1 - math.floor(math.log10(min(sizes)))
    return min(max(wanted, 0), MOST_DECIMALS)


def _shown(number: Number, decimals: int, pattern: str | None) -> str:
    value, error = number
    if pattern is not None and math.isfinite(value):
        text = format(value, pattern)
        return text if error is None else f"{text} ± {format(error, pattern)}"
    if error is not None:
        return uncertain(value, error)
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "not a number"
    if value != 0 and abs(value) < 0.5 * 10.0**-decimals:
        return f"{value:.1e}"
    return f"{value:,.{decimals}f}"


def _spread(needs: Sequence[int], wants: Sequence[int]) -> list[int]:
    """The widths that columns get of a line of ``WRAPPED``: what each needs, and of the rest what it wants."""
    widths, rest = list(needs), WRAPPED - sum(needs) - len(needs) + 1
    for i in sorted(range(len(needs)), key=lambda i: wants[i] - needs[i]):
        more = min(max(wants[i] - needs[i], 0), max(rest, 0))
        widths[i], rest = widths[i] + more, rest - more
    return widths


def _padded(html: str) -> str:
    """Numbers whose padding a phone leaves out, as their cells stand below each other there (``book.css``)."""
    return re.sub(f"[{FIGURE_SPACE}{POINT_SPACE}{SPACE}]+", r'<span class="padding">\g<0></span>', html)


def _whole(html: str) -> str:
    """Words in which no line ends within a value (``book.css``)."""
    return VALUE.sub(r'<span class="value">\g<0></span>', html)


def _aligned(texts: Sequence[str]) -> list[str]:
    """The texts, padded with figure spaces so that decimal points and errors stand below each other.

    Beside a power of ten there is nothing to pad for: no decimals of two such numbers are of one size.
    """
    if any(" × 10" in text for text in texts):
        return list(texts)
    heads = [text.partition(" ± ")[0] for text in texts]
    tails = [text[len(head) :] for text, head in zip(texts, heads, strict=True)]
    fractions = [head[len(head.partition(".")[0]) :] for head in heads]
    widest, longest = max(fractions, key=len), max(tails, key=len)
    return [
        head + _blank(widest[len(fraction) :]) + tail + _blank(longest[len(tail) :])
        for head, tail, fraction in zip(heads, tails, fractions, strict=True)
    ]


def _blank(text: str) -> str:
    """Nothing, as wide as the text."""
    return "".join(BLANKS.get(character, FIGURE_SPACE) for character in text)


@dataclass(frozen=True)
class Table:
    """A table of results; a notebook shows it as HTML, a terminal as text.

    Attributes:
        headings: one for each column.
        cells: rows of the values as given.
        shown: rows of what is printed.
        numeric: for each column whether it holds numbers.
        caption: a sentence, or nothing.
    """

    headings: tuple[str, ...]
    cells: tuple[tuple[Any, ...], ...]
    shown: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    caption: str

    def csv(self) -> str:
        """The full values as comma-separated text; a column with errors becomes two."""
        with_error = [any((_number(row[i]) or (0, None))[1] is not None for row in self.cells) for i in self._columns]
        lines = io.StringIO()
        write = csv.writer(lines, lineterminator="\n").writerow
        write(
            name
            for i in self._columns
            for name in [self.headings[i], f"{self.headings[i]}, standard error"][: 1 + with_error[i]]
        )
        for row in self.cells:
            values: list[Any] = []
            for i in self._columns:
                number = _number(row[i]) if self.numeric[i] else None
                value, error = number if number is not None else (row[i], None)
                values += [value, error][: 1 + with_error[i]]
            write("" if value is None else value for value in values)
        return lines.getvalue()

    @property
    def _columns(self) -> range:
        return range(len(self.headings))

    @property
    def _widths(self) -> list[int]:
        """Characters of the longest cell of each column, its heading included."""
        return [max(len(line[i]) for line in (self.headings, *self.shown)) for i in self._columns]

    def _on_a_phone(self) -> tuple[str, int]:
        """Class and style of the table, and how many of its last columns have lines of their own.

        Columns stand side by side, or the row's name above the others, and long words at the end of a row below them.
        Where a row is too long for any of these, a phone stacks its cells: what is scrolled is half unseen.
        """
        texts = [[line[i] for line in self.shown] for i in self._columns]
        heads = [max((len(word) + 1 for word in name.split()), default=0) for name in self.headings]
        whole = [[VALUE.sub(lambda match: "." * len(match[0]), text) for text in column] for column in texts]
        words = [max((len(word) for text in column for word in text.split()), default=0) for column in whole]
        longest = [max(map(len, column)) for column in texts]
        needs = [  # words wrap, over three lines at most
            max(head, size if numeric else max(word, math.ceil(size / 3), min(size, 12)))
            for head, size, word, numeric in zip(heads, longest, words, self.numeric, strict=True)
        ]
        most = len(needs)
        while most > 3 and not self.numeric[most - 1] and longest[most - 1] > WORDS:
            most -= 1
        for kind, start, end in (("narrow", 0, len(needs)), ("lined", 1, len(needs)), ("lined", 1, most)):
            least = [max(needs[0], min(longest[0], FIRST)), *needs[1:]][start:end]
            if least and sum(least) + len(least) - 1 <= NARROW:
                widths = _spread(least, [*map(max, longest, needs)][start:end])
                shares = " ".join(f"minmax(0, {width + 1}fr)" for width in widths)
                style = f'style="--columns: {shares}; --characters: {sum(widths) + len(widths)}"'
                return f'class="results {kind}" {style}', len(needs) - end
        if not any(self.numeric[1:]) and min(longest[1:], default=0) > WORDS:  # one statement below the other
            return f'class="results lined" style="--columns: 1fr; --characters: {WRAPPED}"', len(needs) - 1
        return 'class="results"', 0

    def _repr_html_(self) -> str:
        attributes, below = self._on_a_phone()
        side = ["number" if numeric else "words" for numeric in self.numeric]
        side[len(side) - below :] = ["words long"] * below
        head = "".join(
            f'<th scope="col" class="{kind}">{escape(name)}</th>'
            for name, kind in zip(self.headings, side, strict=True)
        )
        body = ""
        for row, texts in zip(self.cells, self.shown, strict=True):
            body += "<tr>"
            for i in self._columns:
                number, text = _number(row[i]) if self.numeric[i] else None, _padded(escape(texts[i]))
                if number is not None:
                    error = "" if number[1] is None else f' data-error="{number[1]!r}"'
                    text = f'<data value="{number[0]!r}"{error}>{text}</data>'
                elif not self.numeric[i] and VALUE.search(text):
                    text = f"<span>{_whole(text)}</span>"  # one piece, for cells of a phone are flexible boxes
                label = escape(self.headings[i], quote=True)
                tag, scope = ("th", ' scope="row"') if i == 0 else ("td", "")
                body += f'<{tag}{scope} class="{side[i]}" data-label="{label}">{text}</{tag}>'
            body += "</tr>"
        title = f"<caption>{_whole(escape(self.caption))}</caption>" if self.caption else ""
        return f"<table {attributes}>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        lines, widths = [self.headings, *self.shown], self._widths
        text = [
            "  ".join(
                (str.rjust if self.numeric[i] else str.ljust)(line[i].translate(PLAIN), widths[i])
                for i in self._columns
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*([self.caption] if self.caption else []), *text])


def table(
    rows: Sequence[Mapping[str, Any]] | Any,
    *,
    columns: Mapping[str, str] | Sequence[str] | None = None,
    formats: Mapping[str, str] | None = None,
    caption: str = "",
) -> Table:
    """A table of ``rows``, one mapping each, or of a data frame.

    A cell is a number, a pair (value, standard error), anything with ``value`` and ``standard_error`` (shown with its
    ``uncertainty`` where it has one), or text. A number with an error is rounded as the error is; the others of a
    column have the same decimals.

    Args:
        rows: the rows, in order; a data frame gives one for each of its own.
        columns: keys to show, in order; a mapping gives each its heading. Without it, all keys of the first row.
        formats: a format specification for the numbers of a column, such as ``{"share": ".0%"}``.
        caption: a sentence above the table.

    Raises:
        ValueError: if there is no row, or a row lacks a column.
    """
    if hasattr(rows, "to_dict"):
        rows = rows.to_dict("records")
    if not rows:
        raise ValueError("rows is empty: a table needs a row; say in words that there is nothing to show")
    if columns is None:
        columns = list(rows[0])
    names = dict(columns) if isinstance(columns, Mapping) else {key: key for key in columns}
    if lacking := {key for key in names for row in rows if key not in row}:
        raise ValueError(f"rows lack the column {sorted(lacking)[0]!r}: name a key that every row has")
    formats = formats or {}
    columns_shown, numeric = [], []
    for key in names:
        cells = [row[key] for row in rows]
        numbers = [_number(cell) for cell in cells]
        known = [number for number in numbers if number is not None]
        is_numeric = bool(known) and all(n is not None or c is None for n, c in zip(numbers, cells, strict=True))
        numeric.append(is_numeric)
        if is_numeric:
            decimals = _column_decimals([value for value, error in known if error is None])
            texts = [MISSING if n is None else _typeset(_shown(n, decimals, formats.get(key))) for n in numbers]
            columns_shown.append(_aligned(texts))
        else:
            columns_shown.append([_word(cell) for cell in cells])
    return Table(
        headings=tuple(map(_typeset, names.values())),
        cells=tuple(tuple(row[key] for key in names) for row in rows),
        shown=tuple(zip(*columns_shown, strict=True)),
        numeric=tuple(numeric),
        caption=_typeset(caption),
    )


def _word(cell: Any) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return MISSING if cell is None else _typeset(str(cell))


class Caption(str):
    """A sentence that a notebook shows as the caption of the figure in the same cell."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f'<p class="figure-caption">{escape(self)}</p>'


def caption(*parts: str) -> Caption:
    """What a figure shows, as its caption: the parts, which an artefact's ``library.caption`` may be one of."""
    return Caption("; ".join(part for part in parts if part))
