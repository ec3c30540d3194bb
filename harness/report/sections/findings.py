"""In what libraries are known to differ from serial training, and whether that showed in a run: news comes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from harness.record import LADDER, Record
from harness.report import words
from harness.spec import Value

State = Literal["did not show", "showed in part", "showed", "not seen"]
# News comes first.
_STATES: tuple[State, ...] = get_args(State)


class Seen(Value, frozen=True, kw_only=True):
    """A case of a finding, ``line`` its number in the list of cases; ``first`` tells where it left serial training."""

    line: int
    case: str
    strategy: str
    ranks: int
    verdict: str
    tone: str
    first: str = ""


class Finding(Value, frozen=True, kw_only=True):
    """What a strategy declares of its library, and the cases in which it should show.

    ``rung`` is where it is said to show first, empty where that is not said; ``elsewhere`` are the rungs where it
    showed first instead.
    """

    text: str
    rung: str
    strategies: tuple[str, ...]
    workloads: tuple[str, ...]
    sizes: tuple[int, ...]
    state: State
    told: str
    counts: tuple[tuple[str, int], ...]
    elsewhere: tuple[str, ...] = ()
    cases: tuple[Seen, ...] = ()


def findings(records: Iterable[Record], lines: Mapping[int, int]) -> list[Finding]:
    """Return the findings of all cases without an injected fault, those that did not show first.

    ``lines`` holds each record's line in the list of cases by the record's id().
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.finding and record.fault is None:
            groups.setdefault(record.finding, []).append(record)
    found = (_finding(text, cases, lines) for text, cases in groups.items())
    return sorted(found, key=lambda one: _STATES.index(one.state))


def sentence(found: Sequence[Finding]) -> str:
    """Return what the findings come to, or nothing where there is none."""
    if not found:
        return ""
    counts = Counter(one.state for one in found)
    parts = [f"{counts[state]:,} {state}" for state in _STATES if counts[state]]
    return f"{words.count(len(found), 'known difference')} of libraries from serial training: {', '.join(parts)}."


def _finding(declared: str, records: Sequence[Record], lines: Mapping[int, int]) -> Finding:
    rung, text = _split(declared)
    judged = [record for record in records if record.verdict in {"equivalent", "different"}]
    differing = [record for record in judged if record.verdict == "different"]
    firsts = {record.divergence.rung for record in differing if record.divergence}
    state = _state(len(differing), len(judged))
    strategies = tuple(sorted({record.strategy for record in records}))
    counts = Counter(map(words.verdict, records))
    return Finding(
        text=text,
        rung=rung,
        strategies=strategies,
        workloads=tuple(sorted({record.workload for record in records})),
        sizes=tuple(sorted({record.world_size for record in records})),
        state=state,
        told=f"{words.listing(strategies)}: {text.rstrip('.')}. {_told(state, len(differing), len(judged))}",
        counts=tuple(counts.most_common()),
        elsewhere=tuple(name for name in LADDER if rung and name in firsts - {rung}),
        cases=tuple(_seen(record, lines[id(record)]) for record in records),
    )


def _split(declared: str) -> tuple[str, str]:
    """Return the rung that a finding begins with, and the rest."""
    rung, colon, text = declared.partition(": ")
    return (rung, text) if colon and rung in LADDER else ("", declared)


def _state(differing: int, judged: int) -> State:
    if not judged:
        return "not seen"
    if not differing:
        return "did not show"
    return "showed" if differing == judged else "showed in part"


def _told(state: State, differing: int, judged: int) -> str:
    if state == "not seen":
        return "That is known; no case of it was judged here."
    if state == "did not show":
        return f"That is known and did not show here, in {words.count(judged, 'case')}."
    return f"That is known and showed in {differing:,} of {words.count(judged, 'case')}."


def _seen(record: Record, line: int) -> Seen:
    return Seen(
        line=line,
        case=record.case,
        strategy=record.strategy,
        ranks=record.world_size,
        verdict=words.verdict(record),
        tone=words.tone(record),
        first=f"{record.divergence.rung}, {words.place(record.divergence)}" if record.divergence else "",
    )
