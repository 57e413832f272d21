"""Points as SVG: each at its place, of its kind, and saying what it is."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from clepdg_lib import style
from clepdg_lib.scatter import MAX_NAMED, SHAPES, scatter_svg
from clepdg_lib.style import cycle_styles

POINTS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


def draw(labels=("a", "b", "a"), **options):
    svg = scatter_svg(
        POINTS, labels=labels, styles=cycle_styles(labels), alt="Three <b>", **options
    )
    return ElementTree.fromstring(svg), svg


def test_it_is_well_formed_and_described():
    root, _ = draw(tips=["one", "two &amp; a half", "three"])
    assert root.get("role") == "img"
    assert root.get("aria-label") == "Three <b>"
    titles = {title.text for title in root.iter("title")}
    assert titles == {"one", "two & a half", "three"}


def test_up_is_up_and_right_is_right():
    root, _ = draw(tips=["o", "right", "up"])
    at = {
        use.find("title").text: (float(use.get("x")), float(use.get("y")))
        for use in root.findall("use")
        if use.find("title") is not None
    }
    assert at["right"][0] > at["o"][0] and at["right"][1] == at["o"][1]
    assert at["up"][1] < at["o"][1] and at["up"][0] == at["o"][0]


def test_a_mark_and_a_path_are_drawn():
    _, svg = draw(mark=1)
    assert svg.count("<circle") == 1
    _, svg = draw(path=np.array([[0.0, 0.0], [3.0, 3.0]]))
    assert svg.count("<circle") == 2 and "<polyline" in svg


def test_two_maps_on_one_page_do_not_share_names():
    ids = [set(re.findall(r'id="([^"]+)"', draw()[1])) for _ in range(2)]
    assert not ids[0] & ids[1]


def test_a_long_legend_is_cut_with_a_count():
    labels = [f"s{i:02}" for i in range(MAX_NAMED + 5)]
    svg = scatter_svg(
        np.random.default_rng(0).normal(size=(len(labels), 2)),
        labels=labels,
        styles=cycle_styles(labels),
        alt="Many speakers",
    )
    assert "and 5 more" in svg
    assert f">s{MAX_NAMED - 1:02}<" in svg and f">s{MAX_NAMED:02}<" not in svg


@pytest.mark.parametrize(
    "marker",
    sorted({*style._MARKERS, *(s.marker for s in style.EMOTION_STYLE.values())}),
)
def test_every_marker_of_the_course_has_a_shape(marker):
    assert marker in SHAPES
