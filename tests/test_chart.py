"""Line charts as text: goldens at several sizes, and what no golden would show."""

import math

import numpy as np
import pytest
from golden_texts import Golden
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscem_tui.render.chart import Chart, Series, draw_chart, shown, smoothed


def example(**changes: object) -> Chart:
    x = np.linspace(0.02, 12, 300)
    loss = 0.9 * np.exp(-x / 3) + 0.05 + 0.03 * np.sin(40 * x)
    validation = [(float(e), 0.95 * math.exp(-e / 3) + 0.08) for e in range(1, 13)]
    validation[5] = (6.0, math.nan)
    lines = (Series("training", list(zip(x.tolist(), loss.tolist(), strict=True))), Series("validation", validation))
    return Chart(**{"series": lines, "title": "loss", "x_name": "epoch", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(20, 5), (60, 14), (120, 30), (200, 60)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("ascii_only", [False, True], ids=["braille", "ascii"])
def test_charts_at_several_sizes(size: tuple[int, int], ascii_only: bool, golden: Golden) -> None:
    text = draw_chart(example(), *size, ascii_only)
    golden(f"chart_{'ascii' if ascii_only else 'braille'}_{size[0]}x{size[1]}", text.plain)


def test_a_smoothed_logarithmic_part(golden: Golden) -> None:
    golden("chart_log_smoothed", draw_chart(example(log=True, smoothing=0.9, x_range=(6, 12)), 80, 20).plain)


@given(
    st.lists(
        st.lists(st.tuples(st.floats(allow_nan=True), st.floats(allow_nan=True)), max_size=20).map(
            lambda points: sorted((p for p in points if math.isfinite(p[0])), key=lambda p: p[0])
        ),
        max_size=5,
    ),
    st.integers(1, 90),
    st.integers(1, 30),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.9]),
)
@settings(max_examples=150)
def test_any_values_fill_exactly_the_cells(lines, width, height, log, ascii_only, smoothing) -> None:
    series = tuple(Series(f"line\x1b[31m {n}", points) for n, points in enumerate(lines))
    text = draw_chart(Chart(series, "t", "x", log, smoothing), width, height, ascii_only)
    rows = text.plain.split("\n")
    assert len(rows) == max(3, height)
    assert {len(row) for row in rows} == {max(8, width)}
    assert "\x1b" not in text.plain
    assert text.plain.isascii() or not ascii_only
    assert all(not isinstance(span.style, str) for span in text.spans)


def test_a_line_goes_from_its_first_to_its_last_value() -> None:
    """The grid's corners are the ends of a rising line."""
    rows = draw_chart(Chart((Series("a", [(0, 0), (1, 1)]),)), 40, 12, ascii_only=True).plain.split("\n")[1:-2]
    assert rows[0].rstrip().endswith("*")
    assert rows[-1].split("+" if "+" in rows[-1] else "|")[1].startswith("*")


def test_a_gap_stays_a_gap() -> None:
    points = [(float(x), math.nan if 4 < x < 6 else 1.0 + x / 100) for x in range(11)]
    rows = draw_chart(Chart((Series("a", points),), y_range=(0, 2)), 44, 9, ascii_only=True).plain.split("\n")[1:-2]
    drawn = {index for row in rows for index, character in enumerate(row) if character == "*"}
    assert max(b - a for a, b in zip(sorted(drawn), sorted(drawn)[1:], strict=False)) > 4
    assert len(drawn) > 20


def test_lines_differ_without_colour() -> None:
    chart = Chart(tuple(Series(str(n), [(0, n), (10, n)]) for n in range(4)))
    rows = draw_chart(chart, 60, 20, colour=False).plain.split("\n")[1:-2]
    drawn = [row[row.index("┤" if "┤" in row else "│") + 1 :] for row in rows]
    patterns = [row for row in drawn if row.strip()]
    assert len(patterns) == 4
    assert len({tuple(character == " " for character in row) for row in patterns} | set(patterns)) >= 4
    letters = draw_chart(chart, 60, 20, ascii_only=True).plain
    assert all(mark * 20 in letters for mark in "*o+x")


def test_the_raw_line_lies_faintly_below_the_smooth_one() -> None:
    text = draw_chart(example(smoothing=0.9), 60, 14)
    assert any(getattr(span.style, "dim", False) and "⠀" < text.plain[span.start] <= "⣿" for span in text.spans)


def test_a_logarithmic_scale_leaves_out_what_is_not_above_zero() -> None:
    text = draw_chart(Chart((Series("a", [(0, 0), (1, -1), (2, 10), (3, 1000)]),), log=True), 60, 14).plain
    assert "100" in text
    assert "nothing to show" in draw_chart(Chart((Series("a", [(0, 0)]),), log=True), 60, 14).plain


def test_smoothing_is_that_of_tensorboard() -> None:
    """Debiased: the first value stays, and of a constant nothing changes."""
    values = np.array([1.0, 3.0, math.nan, 5.0])
    expected = [1.0, (0.5 * 0.5 + 1.5) / 0.75, math.nan, ((0.5 * 0.5 + 1.5) * 0.5 + 2.5) / 0.875]
    assert np.allclose(smoothed(values, 0.5), expected, equal_nan=True)
    assert np.allclose(smoothed(np.full(50, 7.0), 0.99), 7.0)


def test_a_constant_line_is_seen() -> None:
    assert "⠤" in draw_chart(Chart((Series("a", [(0, 0.5), (1, 0.5)]),)), 40, 10).plain


def test_shown_text_cannot_move_the_cursor() -> None:
    assert shown("a\x1b[2Jb\n\u202ec") == "a?[2Jb??c"
    assert shown("µ", ascii_only=True) == "?"
