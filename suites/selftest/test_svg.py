"""The plots of the documents: what they are drawn with stays inside its frame and is well-formed."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

PLOTS = Path(__file__).parents[1] / "performance"


@pytest.fixture(scope="module")
def svg() -> ModuleType:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(PLOTS)
        return importlib.import_module("svg")


def test_a_scale_holds_what_lies_outside_at_its_ends(svg: ModuleType) -> None:
    scale = svg.Scale(low=1.0, high=100.0, log=True)
    assert [scale(value) for value in (0.0, -3.0, 1.0, 10.0, 100.0, 1e9, math.inf)] == [0, 0, 0, 50, 100, 100, 100]
    assert svg.Scale(low=0.0, high=4.0, start=20.0, end=10.0)(1.0) == 17.5


@given(st.floats(), st.floats(), st.floats(), st.booleans())
def test_any_number_has_a_place_inside_the_frame(
    svg: ModuleType, low: float, high: float, at: float, log: bool
) -> None:
    scale = svg.Scale(low=low, high=high, start=10.0, end=90.0, log=log)
    assert 10.0 <= scale(at) <= 90.0


def test_a_point_that_is_not_a_number_breaks_a_line(svg: ModuleType) -> None:
    drawn = ET.fromstring(svg.path([(0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, 4.0)], class_="line a"))
    assert drawn.attrib == {"d": "M0.0 1.0L1.0 2.0M3.0 4.0", "class": "line a"}
    assert ET.fromstring(svg.path([])).attrib["d"] == "M0 0"


def test_markup_in_a_label_is_text(svg: ModuleType) -> None:
    drawn = ET.fromstring(svg.text("<script>&", x=1.0, text_anchor='"end"'))
    assert (drawn.text, drawn.attrib) == ("<script>&", {"x": "1", "text-anchor": '"end"'})
