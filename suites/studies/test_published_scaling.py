"""Published scaling curves: what the model of ``harness predict`` foretells of them, and what their own figures give.

The model is calibrated on the smallest published size alone, and how far off it may be is taken from all other sources.
That it is right is nobody's claim: whether the published value lies within the predicted range is told in the report.
What a source derives from its own figures is recomputed.
"""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

import pytest

from harness.claims import Holds, PublishedClaim, Study, exactly
from harness.predict import published
from harness.predict.hardware import Place
from harness.predict.published import Compared, Curve, Document, Point, Quantity, Recomputed
from harness.timings import Interval

FOLDER = Path(__file__).parents[2] / "fixtures" / "published"
DOCUMENTS = dict(zip([path.stem for path in sorted(FOLDER.glob("*.json"))], published.read(FOLDER), strict=True))
UNITS: dict[Quantity, str] = {"samples/s": "samples/s", "step seconds": "samples/s", "speed-up": "x"}


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> Document:
    return DOCUMENTS[request.param]


def test_what_is_published_at_the_largest_size_is_predicted_from_the_smallest(document: Document, study: Study) -> None:
    claims = [foretold(document, number, curve) for number, curve in enumerate(document.curves)]
    for claim in claims:
        study.report(claim)
    assert len({claim.id for claim in claims}) == len(document.curves)
    for claim in claims:
        assert claim.here is not None
        assert 0 < claim.here.low <= claim.here.median <= claim.here.high


def test_what_a_source_derives_from_its_own_figures_follows_from_them_or_is_known_not_to(
    document: Document, study: Study
) -> None:
    found = published.recompute(document)
    for number, one in enumerate(found):
        study.report(recomputed(document, number, one))
    # Both ways: a contradiction that is no longer one has been a slip in the data file.
    assert [one for one in found if one.agrees == one.figure.contradicts] == []


def test_the_documentation_tells_these_counts() -> None:
    claims = [foretold(one, number, curve) for one in DOCUMENTS.values() for number, curve in enumerate(one.curves)]
    holds = Counter(claim.holds for claim in claims)
    found = [one for document in DOCUMENTS.values() for one in published.recompute(document)]
    agree = sum(one.agrees for one in found)
    told = " ".join((FOLDER.parents[1] / "docs" / "studies.md").read_text().split())
    assert f"Of {len(claims)}, {holds['yes']} are as published, {holds['no']} are not, and the" in told
    assert f"the {holds['inconclusive']} pipelines are inconclusive" in told
    assert f"- {len(found)} figures that sources derive" in told
    assert f"{agree} follow within the last printed digit" in told
    assert f"{len(found) - agree} do not:" in told


def foretold(document: Document, number: int, curve: Curve) -> PublishedClaim:
    """Return what is published at the largest size of a curve beside its prediction."""
    largest = published.compare(curve)[-1]
    known = reached_elsewhere(document, largest.place)
    low, high = largest.low, largest.high
    if known is not None:
        low, high = min(low, known[0] * largest.predicted), max(high, known[1] * largest.predicted)
    holds: Holds = "yes" if low <= largest.published <= high else "no"
    alone = "" if known else "; no other source tells how far off a prediction may be here"
    return PublishedClaim(
        study="Published scaling curves",
        id=f"{document.source.title}: {number + 1}",
        text=f"{curve.name}: {told(curve, curve.points[-1])}",
        quantity="speed-up" if curve.quantity == "speed-up" else "samples a second",
        unit=UNITS[curve.quantity],
        published=largest.published,
        source=document.source.title,
        where=document.source.where,
        kind="predicted",
        holds=holds if known else "inconclusive",
        here=Interval(median=largest.predicted, low=low, high=high),
        reason=f"calibrated on {told(curve, curve.points[0])}{alone}",
    )


@functools.cache
def compared(title: str) -> list[Compared]:
    """Return every point of a source beside its prediction."""
    (found,) = [document for document in DOCUMENTS.values() if document.source.title == title]
    return [one for curve in found.curves for one in published.compare(curve)]


def reached_elsewhere(document: Document, where: Place) -> tuple[float, float] | None:
    """Return what the curves of all other sources reached of their prediction at a place; None where there is none.

    As one has it for a machine that is not measured yet: its own curves would make the range fit them.
    """
    titles = {other.source.title for other in DOCUMENTS.values()} - {document.source.title}
    others = [one for title in sorted(titles) for one in compared(title) if one.place == where]
    return published.reached(others, where) if others else None


def recomputed(document: Document, number: int, one: Recomputed) -> PublishedClaim:
    """Return a derived figure beside what the source's other figures give."""
    over = f" over {one.figure.over}" if one.figure.over else ""
    low, high = sorted((one.low, one.high))
    return PublishedClaim(
        study="Published scaling curves, recomputed",
        id=f"{document.source.title}: {number + 1}",
        text=f"{one.curve}: {one.figure.quantity}{over} at size {one.point} is {one.figure.printed}",
        quantity=one.figure.quantity,
        unit={"speed-up": "x", "efficiency": "%"}.get(one.figure.quantity, "samples/s"),
        published=one.published,
        source=document.source.title,
        where=document.source.where,
        kind="recomputed",
        holds="yes" if one.agrees else "no",
        here=Interval(median=one.value, low=low, high=high) if low < high else exactly(one.value),
        contradicts="" if one.agrees else "the figures of the same source from which it is derived",
    )


def told(curve: Curve, point: Point) -> str:
    """Return a point in the words of its curve."""
    words = {"samples/s": "samples/s", "step seconds": "s a step", "speed-up": "times one rank"}[curve.quantity]
    pieces = f", {point.micro_batches} micro-batches" if point.micro_batches else ""
    return f"{point.value:.8g} {words} on {point.ranks} rank{'s' * (point.ranks != 1)}{pieces}"
