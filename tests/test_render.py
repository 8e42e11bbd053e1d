"""Slices as text: what is drawn, cell by cell."""

from __future__ import annotations

import io
import re

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console
from rich.text import Text

from deepscem_tui.engine.words import duration
from deepscem_tui.render.marks import drawn, marks_of
from deepscem_tui.render.run_text import Bar, draw_bar
from deepscem_tui.render.sampling import area_mean, cover, edge, fit
from deepscem_tui.render.slices import Scene, choose_style, compared, draw, labelled

Mask = npt.NDArray[np.bool_]


def disk(y: float, x: float, radius: float, side: int = 40) -> Mask:
    rows, columns = np.mgrid[:side, :side]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 < radius**2)


def ramp(side: int = 40) -> npt.NDArray[np.uint8]:
    return np.repeat(np.linspace(0, 255, side).astype(np.uint8)[None], side, axis=0)


def ansi(text: Text, width: int = 40) -> str:
    console = Console(
        file=io.StringIO(), force_terminal=True, color_system="truecolor", width=width, legacy_windows=False
    )
    console.print(text)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def lines(text: Text) -> list[str]:
    return text.plain.split("\n")


# ------------------------------------------------------------------------------------------------ sampling


@pytest.mark.parametrize(
    ("shape", "columns", "rows", "aspect", "expected"),
    [
        ((100, 100), 40, None, 1.0, (40, 40)),
        ((100, 200), 40, None, 1.0, (20, 40)),
        ((100, 100), 40, 10, 1.0, (20, 20)),  # limited by its height
        ((10, 100), 40, None, 4.0, (16, 40)),  # voxels higher than wide, as in a slice along Z
        ((1, 1000), 40, None, 1.0, (2, 40)),  # never less than a row of cells
        ((100000, 1), 40, None, 1.0, (160, 1)),  # nor endlessly high
    ],
)
def test_fit(shape: tuple[int, int], columns: int, rows: int | None, aspect: float, expected: tuple[int, int]) -> None:
    assert fit(shape, columns, rows, aspect) == expected


@pytest.mark.parametrize("target", [(1, 1), (3, 5), (7, 4), (14, 22)])
def test_area_mean_keeps_the_mean(target: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((7, 11)).astype(np.float32)
    reduced = area_mean(image, target)
    assert reduced.shape == target
    assert reduced.mean() == pytest.approx(image.mean(), rel=1e-5)


def test_area_mean_averages_blocks() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert area_mean(image, (2, 2)).tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_what_is_not_labelled_is_hatched() -> None:
    flat, half = np.zeros((12, 12), np.uint8), np.zeros((12, 12), bool)
    half[:, 6:] = True
    text = lines(draw(labelled(flat, [np.zeros_like(half)], ["mito"], ignored=half), "ascii", 12))
    assert text[-1] == "A mito  / not labelled"
    assert all(line[:6].strip() == "" and 0 < line[6:].count("/") < 6 for line in text[:-1])
    everything = np.ones_like(half)
    text = lines(draw(compared(flat, [everything], [everything], ignored=half), "ascii", 12))
    assert text[-1] == "H hits  M misses  F false alarms  / not labelled"
    assert all("/" not in line[:6] and "H" not in line[6:] for line in text[:-1])
    assert "(hatched)" in draw(labelled(flat, [], [], ignored=half), "blocks", 12).plain


def test_a_single_voxel_survives_any_reduction_and_fills_its_own_place_when_enlarged() -> None:
    mask = np.zeros((100, 100), bool)
    mask[33, 57] = True
    assert np.argwhere(cover(mask, (10, 10))).tolist() == [[3, 5]]
    small = np.array([[False, True], [False, False]])
    assert cover(small, (4, 4)).sum() == 4
    assert cover(small, (4, 4))[:2, 2:].all()


def test_the_border_of_the_picture_is_no_edge() -> None:
    assert not edge(np.ones((4, 4), bool)).any()
    assert edge(np.eye(3, dtype=bool)).sum() == 3


# ------------------------------------------------------------------------------------------------ characters

GOLDEN = [
    "   ..::---==++***##%%@@@",
    "   ..AAAAAAA++***##%%@@@",
    "   AA::---==AA***##%%@@@",
    "   A.::---==+A***##%%@@@",
    "   A.::---==+A***##%%@@@",
    "   A.::---==+A***##%%@@@",
    "   .AAAAAAAABBBBBBB%%@@@",
    "   ..::---=B++***##B%@@@",
    "   ..::---=B++***##B%@@@",
    "   ..::---=BB+***#BB%@@@",
    "   ..::---==+BBBBB#%%@@@",
    "   ..::---==++***##%%@@@",
    "A mito  B v?sicle",
]


def test_ascii_picture_is_exactly_this() -> None:
    scene = labelled(ramp(24), [disk(8, 8, 6, 24), disk(16, 15, 5, 24)], ["mito", "vésicle"])
    assert lines(draw(scene, "ascii", 24)) == GOLDEN


@pytest.mark.parametrize("style", ["ascii", "blocks"])
def test_comparison_tells_hits_misses_and_false_alarms_apart(style: str) -> None:
    flat = np.full((8, 8), 128, np.uint8)
    found, true = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    found[:, :4], true[:, 2:6] = True, True
    text = draw(compared(flat, [found], [true]), "ascii" if style == "ascii" else "blocks", 8)
    if style == "ascii":
        assert lines(text) == [*["FFHHMM==".replace("=", "+")] * 4, "H hits  M misses  F false alarms"]
    else:
        top = re.findall(r"38;2;(\d+;\d+;\d+);48", ansi(text).split("\n")[0])
        assert "230;159;0" in top  # a miss
        assert "204;121;167" in top  # a false alarm
        assert "misses (solid)" in text.plain


def test_a_compared_pixel_shows_what_most_of_it_is() -> None:
    """One wrong voxel in a hundred does not hide what is right, and one voxel alone is still seen."""
    true = np.zeros((40, 40), bool)
    true[:20] = True
    found = true.copy()
    found[5, 5], found[35, 35] = False, True
    text = draw(compared(np.full((40, 40), 0, np.uint8), [found], [true]), "ascii", 4)
    assert lines(text)[:2] == ["HHHH", "   F"]


def test_what_is_wrong_in_one_label_is_no_hit() -> None:
    on, off = np.ones((2, 2), bool), np.zeros((2, 2), bool)
    scene = compared(np.zeros((2, 2)), [on, off], [on, on])
    assert [bool(mask.all()) for mask in scene.masks] == [False, True, False]


def test_ascii_is_seven_bit_and_of_the_right_size() -> None:
    scene = labelled(np.random.default_rng(1).random((37, 53)), [disk(9, 9, 5, 53)[:37]], ["\x1b[31mé\u202e"])
    text = draw(scene, "ascii", 30)
    assert text.plain.isascii()
    assert all(character.isprintable() for line in lines(text) for character in line)
    assert {len(line) for line in lines(text)[:-1]} == {30}
    assert len(lines(text)) == 10 + 1  # half as many lines as square pixels, and the legend


def test_brighter_voxels_give_denser_characters() -> None:
    (line, *_) = lines(draw(Scene(ramp(10)), "ascii", 10))
    assert line == " .:-=+*#%@"


# ------------------------------------------------------------------------------------------------ half blocks


def test_blocks_show_two_exact_greys_a_cell() -> None:
    image = np.array([[0, 255], [128, 7]], np.uint8)
    text = draw(Scene(image), "blocks", 2)
    assert ansi(text) == ("\x1b[38;2;0;0;0;48;2;128;128;128m▀\x1b[0m\x1b[38;2;255;255;255;48;2;7;7;7m▀\x1b[0m\n")


def test_blocks_draw_an_outline_in_the_label_s_colour_and_tint_what_it_holds() -> None:
    mask = np.zeros((6, 6), bool)
    mask[1:5, 1:5] = True
    text = draw(labelled(np.full((6, 6), 100, np.uint8), [mask], ["box"]), "blocks", 6)
    second = ansi(text).split("\n")[1]  # rows 2 and 3
    tint = "38;2;126;112;80;48;2;126;112;80"
    colour = "38;2;230;159;0;48;2;230;159;0"
    grey = "38;2;100;100;100;48;2;100;100;100"
    assert re.findall(r"\[([\d;]+)m(▀+)", second) == [
        (grey, "▀"), (colour, "▀"), (tint, "▀▀"), (colour, "▀"), (grey, "▀")
    ]  # fmt: skip
    assert lines(text)[-1] == "▀▀ box (outline)"


def test_labels_differ_by_more_than_hue() -> None:
    mask = disk(20, 20, 15)
    pictures = [drawn(mask, mark.pattern).tobytes() for mark in marks_of(5)]
    assert len(set(pictures)) == 5
    assert len({(mark.colour, mark.pattern.name) for mark in marks_of(35)}) == 35
    assert len({mark.letter for mark in marks_of(35)}) == 35


def test_float_and_uint8_images_look_the_same() -> None:
    grey = ramp(16)
    assert draw(Scene(grey), "blocks", 16) == draw(Scene(grey / 255), "blocks", 16)


# ------------------------------------------------------------------------------------------------ the choice


@pytest.mark.parametrize(
    ("wanted", "terminal", "colour", "encoding", "expected"),
    [
        ("auto", True, True, "utf-8", "blocks"),
        ("auto", True, True, "UTF8", "blocks"),
        ("auto", False, True, "utf-8", "ascii"),
        ("auto", True, False, "utf-8", "ascii"),
        ("auto", True, True, "latin-1", "ascii"),
        ("auto", True, True, None, "ascii"),
        ("blocks", False, False, "ascii", "blocks"),
        ("ascii", True, True, "utf-8", "ascii"),
    ],
)
def test_choose_style(wanted: str, terminal: bool, colour: bool, encoding: str | None, expected: str) -> None:
    assert choose_style(wanted, terminal=terminal, colour=colour, encoding=encoding) == expected


def test_a_bar_has_its_whole_name() -> None:
    assert draw_bar(Bar("reading samples", 0.5, "4/8 slices"), 80).plain.startswith("reading samples ━")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(7.4, "7 s"), (185, "3 min 05 s"), (7620, "2 h 07 min"), (172_800, "2 d 0 h"), (180_000, "2 d 2 h")],
)
def test_a_time_is_the_same_in_lists_and_in_live_views(seconds: float, expected: str) -> None:
    assert duration(seconds).startswith(expected)
