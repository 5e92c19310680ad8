"""Tables: what is rounded, aligned and kept."""

import csv
import io
import re

import pytest

from helpers import plots
from helpers.curvature import Estimate

SPACE, POINT = "\u2007", "\u2008"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.27123, 0.0142, "0.271 ± 0.014"),
        (0.27123, 0.0342, "0.27 ± 0.03"),
        (5234.0, 312.0, "5200 ± 300"),
        (12.0, 0.0, "12"),
        (-1.25, 1.0, "−1.2 ± 1.0"),
        (-0.01, 1.0, "0.0 ± 1.0"),
        (float("inf"), 1.0, "inf ± 1"),
    ],
)
def test_value_and_error_are_rounded_alike(value: float, error: float, text: str) -> None:
    assert plots.uncertain(value, error) == text


def test_points_and_errors_stand_below_each_other() -> None:
    shown = plots.table([{"x": (1.25, 0.02)}, {"x": (102.5, 0.3)}]).shown
    assert [row[0] for row in shown] == ["1.25 ± 0.02", f"102.5{SPACE} ± 0.3{SPACE}"]
    mixed = [row[0] for row in plots.table([{"x": 1.5}, {"x": 250.0}], formats={"x": "g"}).shown]
    assert mixed == ["1.5", "250" + POINT + SPACE]
    exact = [row[0] for row in plots.table([{"x": 1.25}, {"x": (1.5, 0.02)}]).shown]
    assert exact == ["1.25" + "\u00a0" + SPACE + "\u00a0" + SPACE + POINT + 2 * SPACE, "1.50 ± 0.02"]


def test_a_small_number_does_not_read_as_zero() -> None:
    assert [row[0] for row in plots.table([{"x": 250.0}, {"x": 0.004}]).shown] == ["250.0000", "0.0040"]
    assert plots.table([{"x": 250.0}, {"x": 1e-9}]).shown[1][0].strip(SPACE) == "1.0 × 10⁻⁹"


def test_whole_numbers_and_words_stay_as_they_are() -> None:
    table = plots.table([{"n": 1200, "ok": True, "why": None}, {"n": 7, "ok": False, "why": "clip"}])
    assert table.shown == (("1,200", "yes", "–"), ("7", "no", "clip"))
    assert table.numeric == (True, False, False)


def test_estimates_are_numbers_with_errors() -> None:
    table = plots.table([{"gap": Estimate(0.5, 0.02, 3, "exact")}])
    assert table.shown == (("0.50 ± 0.02",),)


def test_html_carries_the_full_value_and_escapes_words() -> None:
    html = plots.table([{"a<b": "x&y", "v": (1 / 3, 0.1)}], caption="1 < 2")._repr_html_()
    assert f'<data value="{1 / 3!r}" data-error="0.1">' in html
    assert "<caption>1 &lt; 2</caption>" in html
    assert 'data-label="a&lt;b">x&amp;y<' in html
    assert len(re.findall("<th ", html)) == 3, "two headings, and the first cell heads its row"


def test_no_line_ends_within_a_value_or_an_interval_among_words() -> None:
    html = plots.table([{"a": "gains +0.6 ± 0.1 points, [-0.20, 0.35]", "b": 1.5}])._repr_html_()
    assert '<span class="value">+0.6 ± 0.1</span> points, <span class="value">[−0.20, 0.35]</span>' in html
    assert '<data value="1.5">' in html
    assert '<span class="value">12 of 18</span>' in plots.table([{"a": "x"}], caption="12 of 18 runs")._repr_html_()


def test_padding_is_apart_so_that_a_phone_can_leave_it_out() -> None:
    html = plots.table([{"a": "x", "b": (31.0, 4.0)}, {"a": "y", "b": (0.25, 0.01)}])._repr_html_()
    assert f'>31<span class="padding">{POINT}{3 * SPACE}</span> ± 4' in html
    assert SPACE not in re.sub(r'<span class="padding">[^<]*</span>', "", html)


def test_a_row_that_a_phone_can_show_is_marked() -> None:
    row: dict[str, float | str] = {"noise": "constant", "exact": 0.131, "lemma": 0.153}
    assert '<table class="results narrow" style="--columns: ' in plots.table([row])._repr_html_()
    assert '<table class="results narrow"' in plots.table([row | {"a heading of many words": 1}])._repr_html_()
    named = {"noise": "a long name of a setting", "a": (-0.131, 0.01), "b": (0.153, 0.01), "c": (15.3, 0.01)}
    html = plots.table([named], columns={"noise": "", "a": "gap", "b": "bound", "c": "another"})._repr_html_()
    assert 'class="results lined"' in html
    widths = re.findall(r"minmax\(0, (\d+)fr\)", html)
    assert len(widths) == 3, "the name has a line of its own"
    assert sum(map(int, widths)) == int(re.findall(r"--characters: (\d+)", html)[0]) <= 57
    html = plots.table([named | {"d": "many words " * 20}])._repr_html_()
    assert 'class="results lined"' in html
    assert html.count('class="words long"') == 2, "its heading and its cell, on a line of their own"
    assert len(re.findall(r"minmax", html)) == 3
    statements = plots.table([{"claim": "So", "d": "many words " * 20, "e": "many words " * 20}])._repr_html_()
    assert 'class="results lined"' in statements
    assert statements.count('class="words long"') == 4, "every statement on lines of its own"
    beside = plots.table([{"claim": "So", "d": "many words " * 20, "e": "12 words " * 3}])._repr_html_()
    assert '<table class="results">' in beside


def test_numbers_are_typeset() -> None:
    rows = [{"x": 10.0**-k, "y": -(10.0**k), "z": f"[-{k}.5, 0.3] at 1e-0{k}, 2024-01-0{k}"} for k in (1, 5)]
    table = plots.table(rows, formats={"x": ".1e", "y": ".0f"})
    assert [row[0] for row in table.shown] == ["0.10", "1.0 × 10⁻⁵"], "no padding beside a power"
    assert [row[1] for row in table.shown] == ["−10", "−100000"]
    assert [row[2] for row in table.shown] == ["[−1.5, 0.3] at 0.1, 2024-01-01", "[−5.5, 0.3] at 10⁻⁵, 2024-01-05"]
    assert plots.table([{"x": -0.01}, {"x": 0.0}], formats={"x": "+.1f"}).shown == (("0.0",), ("0.0",))
    assert plots.table([{"x": 0.0}, {"x": 2500.0}], formats={"x": ".0e"}).shown == (("0",), ("2000",))
    assert plots.table([{"x": float("inf")}], formats={"x": ".2f"}).shown == (("∞",),)


def test_csv_has_the_full_values_and_a_column_for_the_errors() -> None:
    text = plots.table([{"name": "a,b", "v": (1 / 3, 0.1)}, {"name": "c", "v": None}]).csv()
    assert list(csv.reader(io.StringIO(text))) == [
        ["name", "v", "v, standard error"],
        ["a,b", repr(1 / 3), "0.1"],
        ["c", "", ""],
    ]


def test_text_is_aligned() -> None:
    table = plots.table([{"k": "a", "v": 1.0}, {"k": "bcd", "v": 20.5}], columns={"k": "kind", "v": "value"})
    assert repr(table) == "kind  value\na       1.0\nbcd    20.5"


def test_what_cannot_be_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="rows is empty"):
        plots.table([])
    with pytest.raises(ValueError, match="lack the column 'b'"):
        plots.table([{"a": 1}], columns=["a", "b"])


def test_a_frame_is_a_table_too() -> None:
    class Frame:
        def to_dict(self, kind: str) -> list[dict[str, int]]:
            assert kind == "records"
            return [{"a": 1}]

    assert plots.table(Frame()).shown == (("1",),)


def test_a_caption_is_a_sentence_and_html() -> None:
    caption = plots.caption("digits <8>", "", "2 seeds")
    assert caption == "digits <8>; 2 seeds"
    assert caption._repr_html_() == '<p class="figure-caption">digits &lt;8&gt;; 2 seeds</p>'
