"""Published figures beside what was found of them here, a table a study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from harness.claims import Holds, Kind, PublishedClaim
from harness.report import words
from harness.spec import Value
from harness.timings import Interval

HOLDS: dict[Kind, dict[Holds, str]] = {
    "measured": {"yes": "holds here", "no": "does not hold here"},
    "predicted": {"yes": "predicted rightly", "no": "predicted wrongly"},
    "recomputed": {"yes": "follows", "no": "does not follow"},
}
# How a sentence counts them: one, several, one that does not, several that do not.
COUNTED: dict[Kind, tuple[str, str, str, str]] = {
    "measured": ("holds here", "hold here", "does not", "do not"),
    "predicted": ("is as published", "are as published", "is not", "are not"),
    "recomputed": ("follows from the source's other figures", "follow from their source's other figures",
                   "does not", "do not"),
}  # fmt: skip
KIND: dict[Kind, str] = {
    "measured": "measured in this run",
    "predicted": "predicted by a model of the machine that was calibrated on the smallest size alone; nothing was run",
    "recomputed": "recomputed from other figures of the same source; nothing was run",
}
# What needs attention comes first.
_ORDER: tuple[Holds, ...] = ("no", "inconclusive", "yes", "not tested")
# Units that stand behind a number without a space.
_TIGHT = {"x"}


class Line(Value, frozen=True, kw_only=True):
    """A claim: ``low`` to ``high`` around ``found`` and their ``ratio`` to what is published, None without any."""

    id: str
    text: str
    kind: str
    published: str
    here: str
    ratio: str
    holds: Holds
    told: str
    reason: str
    source: str
    where: str
    cases: tuple[str, ...] = ()
    contradicts: str = ""
    value: float | None = None
    found: float | None = None
    low: float | None = None
    high: float | None = None


class Study(Value, frozen=True, kw_only=True):
    """All claims of a study, counted in a sentence; ``kinds`` says once what each kind of finding is."""

    name: str
    sentence: str
    kinds: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]


def studies(claims: Iterable[PublishedClaim]) -> list[Study]:
    """Return the studies in the order in which they were reported; of a claim told twice the later word counts."""
    by_study: dict[str, dict[str, PublishedClaim]] = {}
    for claim in claims:
        by_study.setdefault(claim.study, {})[claim.id] = claim
    return [_study(name, list(found.values())) for name, found in by_study.items()]


def sentence(claims: Sequence[PublishedClaim]) -> str:
    """Return the counts, as in ``Of 38 claims 30 hold here, 5 do not, 3 were not tested``; a sentence a kind."""
    latest = {(claim.study, claim.id): claim for claim in claims}.values()
    told = [
        _counted(kind, [claim.holds for claim in latest if claim.kind == kind])
        for kind in COUNTED
        if any(claim.kind == kind for claim in latest)
    ]
    wrong = sum(bool(claim.contradicts) for claim in latest)
    told += [f"{words.count(wrong, 'published figure')} contradict{'s' * (wrong == 1)} others."] if wrong else []
    return " ".join(told)


def _counted(kind: Kind, found: Sequence[Holds]) -> str:
    one, several, one_not, several_not = COUNTED[kind]
    yes, no, unclear, untested = (found.count(name) for name in ("yes", "no", "inconclusive", "not tested"))
    told = [f"{yes:,} {one if yes == 1 else several}"]
    told += [f"{no:,} {one_not if no == 1 else several_not}"] if no else []
    told += [f"{unclear:,} {'is' if unclear == 1 else 'are'} inconclusive"] if unclear else []
    told += [f"{untested:,} {'was' if untested == 1 else 'were'} not tested"] if untested else []
    noun = "claim" if kind == "measured" else "prediction" if kind == "predicted" else "derived figure"
    return f"Of {words.count(len(found), noun)} {', '.join(told)}."


def lines(claims: Sequence[PublishedClaim]) -> list[str]:
    """Return a sentence a study, for the terminal."""
    by_study: dict[str, list[PublishedClaim]] = {}
    for claim in claims:
        by_study.setdefault(claim.study, []).append(claim)
    return [f"{name}: {sentence(found)}" for name, found in by_study.items()]


def _study(name: str, claims: Sequence[PublishedClaim]) -> Study:
    kinds = dict.fromkeys(claim.kind for claim in claims)
    ordered = sorted(claims, key=lambda claim: (not claim.contradicts, _ORDER.index(claim.holds)))
    return Study(
        name=name,
        sentence=sentence(claims),
        kinds=tuple((kind, KIND[kind]) for kind in kinds),
        lines=tuple(map(_line, ordered)),
    )


def _line(claim: PublishedClaim) -> Line:
    here = claim.here
    return Line(
        id=claim.id,
        text=claim.text,
        kind=claim.kind,
        published=_quantity(claim.published, claim.unit),
        here=words.NOTHING if here is None else _interval(here, claim.unit),
        ratio=words.NOTHING if here is None else _ratio(here, claim.published),
        holds=claim.holds,
        told=HOLDS[claim.kind].get(claim.holds, claim.holds),
        reason=claim.reason,
        source=claim.source,
        where=claim.where,
        cases=claim.cases,
        contradicts=claim.contradicts,
        value=_finite(claim.published),
        found=_finite(here.median) if here else None,
        low=_finite(here.low) if here else None,
        high=_finite(here.high) if here else None,
    )


def _quantity(value: float, unit: str) -> str:
    return f"{words.number(value, 4)}{'' if not unit or unit in _TIGHT else ' '}{unit}"


def _interval(found: Interval, unit: str) -> str:
    told = _quantity(found.median, unit)
    if found.low == found.high:
        return told
    return f"{told} [{words.number(found.low, 4)}, {words.number(found.high, 4)}]"


def _ratio(found: Interval, published: float) -> str:
    """Return what was found over what is published, with its interval."""
    if not published or not math.isfinite(published):
        return words.NOTHING
    middle, low, high = (words.number(value / published) for value in (found.median, found.low, found.high))
    return middle if found.low == found.high else f"{middle} [{low}, {high}]"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
