"""What came of holding runs against each other, as data: for a terminal, a page and other programs."""

from __future__ import annotations

from typing import Literal, get_args

from harness.record import Conclusion
from harness.report import words
from harness.report.compared.sides import Fact, Side
from harness.spec import Value
from harness.timings import Interval, Outcome

# What two times of a case tell: of code that changed, of two strategies or, on unlike machines, of neither.
Relation = Literal["code", "programs", "unlike"]
# What became of a verdict, the gravest first. "unlike" is that of two strategies.
Kind = Literal[
    "now different",
    "new and different",
    "now failed",
    "new and failed",
    "now inconclusive",
    "new and inconclusive",
    "no longer verified",
    "unlike",
    "now equivalent",
    "no longer run",
    "new",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
ABSENT = "not in this run"
# By the word that is shown of a verdict.
_BECAME: dict[str, Kind] = {
    "different": "now different",
    words.FAILED: "now failed",
    "inconclusive": "now inconclusive",
    "not verified": "no longer verified",
    "equivalent": "now equivalent",
}
# Of a case that was not there before; any other verdict is no more than "new".
_NEW: dict[str, Kind] = {
    "different": "new and different",
    words.FAILED: "new and failed",
    "inconclusive": "new and inconclusive",
}
# In whose colours it is shown; "new" in those of its verdict.
_TONE: dict[Kind, Conclusion] = {
    "now different": "different",
    "new and different": "different",
    "now failed": "different",
    "new and failed": "different",
    "now inconclusive": "inconclusive",
    "new and inconclusive": "inconclusive",
    "no longer verified": "not-verified",
    "unlike": "inconclusive",
    "now equivalent": "equivalent",
    "no longer run": "not-verified",
}


class Change(Value, frozen=True, kw_only=True):
    """A case whose verdict is not the same on all sides: ``verdicts`` has a word a side, ``reason`` says why now.

    ``tone`` says in whose colours it is shown. Of a case that side A lacks, ``earlier`` says what it came to before.
    """

    case: str
    kind: Kind
    tone: Conclusion
    verdicts: tuple[str, ...]
    reason: str = ""
    earlier: str = ""


class Speed(Value, frozen=True, kw_only=True):
    """A case's time per epoch on side ``letter`` against that on side A, in seconds.

    ``ratio`` is its time over that of A: in units of a yardstick timed beside both where there is one, with its 99 %
    interval. ``outcome`` is None where ``relation`` is "unlike": nothing
    is claimed then, and ``why`` says in what the two are not alike. ``floor`` is the relative effect that counts, and
    ``words`` say it all. Speed-ups are over serial training in the same run.
    """

    case: str
    letter: str
    relation: Relation
    outcome: Outcome | None
    why: str = ""
    words: str
    floor: float
    before_s: float
    now_s: float
    ratio: Interval
    to_serial: Interval | None = None
    before_speedup: Interval | None = None
    now_speedup: Interval | None = None


class Refused(Value, frozen=True, kw_only=True):
    """A case whose times on side A and on ``letter`` cannot be compared; ``lost`` if its time in A is fit to be."""

    case: str
    letter: str
    reason: str
    lost: bool


class Comparison(Value, frozen=True, kw_only=True):
    """What differs between side A and the others; ``environment`` first, verdicts the gravest first.

    ``label`` says since when, where the sides are one run and what it was before. ``counts`` holds how many verdicts
    changed in which way and ``num_refused`` how many times were not compared: more than are listed where a list was
    cut. Of the timed cases ``num_steady`` moved by less than the floor and ``num_unjudged`` by more, but less than
    others that were judged; both are 0 where all are judged. ``same`` says that all sides are one and the same, and
    ``whole`` is false while cases of the last side may still come: then none is called one that was not run.
    """

    headline: str = ""
    label: str = ""
    sides: tuple[Side, ...]
    programs: bool
    floor: float
    environment: tuple[Fact, ...]
    verdicts: tuple[Change, ...]
    speeds: tuple[Speed, ...]
    refused: tuple[Refused, ...]
    counts: dict[Kind, int]
    num_refused: int
    num_shared: int
    num_steady: int = 0
    num_unjudged: int = 0
    same: bool = False
    whole: bool = True


def became(before: str, now: str, *, programs: bool) -> Kind | None:
    """Return what became of a verdict, given in words; None where it is as it was."""
    if before == now:
        return None
    if ABSENT in (before, now):
        if before == ABSENT:
            return "new" if programs else _NEW.get(now, "new")
        return "no longer run"
    return "unlike" if programs else _BECAME[now]


def tone(kind: Kind, now: str) -> Conclusion:
    """Return in whose colours a change is shown; ``now`` is the verdict in words that the case has come to."""
    told: dict[str, Conclusion] = {word: conclusion for conclusion, word in words.VERDICT.items()}
    return _TONE.get(kind) or told.get(now, "different" if now == words.FAILED else "not-verified")
