"""What changed, in sentences: of one case, and of a whole comparison in a headline."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from harness import history
from harness.record import Record
from harness.report import words
from harness.report.compared.comparison import KINDS, Comparison, Kind, Speed, became
from harness.report.compared.sides import Fact
from harness.timings import Compared

_NUM_NAMED = 2
_NUM_FACTS = 3
# What is said of so many cases whose verdict changed.
_CHANGED: dict[Kind, tuple[str, str]] = {
    "now different": ("is now different", "are now different"),
    "new and different": ("is new and different", "are new and different"),
    "now failed": ("now fails", "now fail"),
    "new and failed": ("is new and fails", "are new and fail"),
    "now inconclusive": ("is now inconclusive", "are now inconclusive"),
    "new and inconclusive": ("is new and inconclusive", "are new and inconclusive"),
    "no longer verified": ("is no longer verified", "are no longer verified"),
    "unlike": ("has another verdict", "have other verdicts"),
    "now equivalent": ("is now equivalent", "are now equivalent"),
    "no longer run": ("was not run", "were not run"),
    "new": ("is new", "are new"),
}
# Of these the cases are named.
_GRAVE = frozenset(kind for kind in KINDS if kind.startswith(("now ", "new and ")) and kind != "now equivalent")
_WRONG = frozenset(KINDS[: KINDS.index("now inconclusive")])
# Of strategies none was there before.
_ON_ONE_SIDE: dict[Kind, tuple[str, str]] = {"new": ("was run by it alone", "were run by it alone")}


def programs(before: Record, now: Record, found: Compared) -> str:
    """Return how two strategies' times stand to each other."""
    assert before.timing is not None
    assert now.timing is not None
    told = {"pass": "not slower", "inconclusive": "not told apart"}.get(found.outcome or "", found.outcome)
    return (
        f"{now.strategy} {told}: {words.speedup(found.ratio)} (99 %) the time of {before.strategy} "
        f"({words.seconds(found.now_s)} an epoch against {words.seconds(found.before_s)}, "
        f"{words.number(now.timing.samples_per_s)} samples/s against {words.number(before.timing.samples_per_s)}); "
        "these are two programs"
    )


def unlike(found: Compared, why: str) -> str:
    """Return two times side by side that tell nothing of the code; ``why`` is what ``unlikeness`` says."""
    return (
        f"{words.seconds(found.now_s)} an epoch against {words.seconds(found.before_s)}, {words.speedup(found.ratio)} "
        f"(99 %) the time, {why}: this tells nothing of the code"
    )


def unlikeness(before: Record, now: Record, allow: Collection[str] = ()) -> str:
    """Return in what two times are not alike: ``on unlike machines: NVIDIA A100 against NVIDIA H200``."""
    every = [found for found in history.differences(before, now) if found.kind is None or found.kind not in allow]
    parts = []
    for kind in (*history.KINDS[::-1], None):
        of_kind = [found for found in every if found.kind == kind and found.name != "strategy"]
        if of_kind:
            parts.append((kind or "shares", of_kind))
    # The machine says it all: what else it brings along is listed with the environment.
    parts = [part for part in parts if part[0] == "machine"] or parts
    return "on unlike " + " and ".join(f"{_plural(name)}: {_pairs(of_kind)}" for name, of_kind in parts)


def _plural(name: str) -> str:
    return "machines" if name == "machine" else name


def _pairs(unlike: Sequence[history.Difference]) -> str:
    """Return the values in which two cases differ; a machine by its models alone, where these differ."""
    models = [found for found in unlike if found.name in ("gpu_model", "cpu_model")]
    if models:
        found = next((found for found in models if found.name == "gpu_model"), models[0])
        return f"{found.before} against {found.now}"
    return ", ".join(f"{found.name.replace('_', ' ')} {found.before} against {found.now}" for found in unlike)


def headline(comparison: Comparison) -> str:
    """Return a comparison in one sentence a side: what got slower, faster and different, and where else it ran."""
    if comparison.same:
        return "All sides are one and the same run."
    told = [_side(comparison, number) for number in range(1, len(comparison.sides))]
    if any(speed.outcome in ("slower", "faster", None) for speed in comparison.speeds):
        told.append("Ratios of times are with their 99 % interval")
    return " ".join(part + "." for part in told)


def _side(comparison: Comparison, number: int) -> str:
    first, side = comparison.sides[0], comparison.sides[number]
    verdicts = list(_verdicts(comparison, number))
    # What computes something else is graver than what is slower.
    wrong = [told for kind, told in verdicts if kind in _WRONG]
    parts = [*wrong, *_speeds(comparison, side.letter), *(told for kind, told in verdicts if kind not in _WRONG)]
    unclear = list(_unclear(comparison, side.letter))
    if comparison.programs:
        lead = f"{side.strategy} against {first.strategy}, two programs"
    else:
        since = f"ince {_day(first.started, side.started)}"
        lead = f"{side.letter} s{since}" if len(comparison.sides) > 2 else f"S{since}"
        lead += "" if comparison.whole else ", so far"
    told = f"{lead}: {', '.join(parts) or _nothing(comparison, side.letter, bool(unclear))}"
    return "; ".join(filter(None, [told, ", ".join(unclear), environment(comparison.environment, number)]))


def _nothing(comparison: Comparison, letter: str, unclear: bool) -> str:
    """Return that nothing changed, and no more than was seen of that."""
    if not comparison.num_shared:
        return "no case is in both"
    if unclear:
        return "no change was shown"
    timed = any(speed.letter == letter for speed in comparison.speeds)
    if comparison.programs:
        return "neither is slower and no verdict differs" if timed else "no verdict differs"
    return "nothing got slower, faster or different" if timed else "no verdict changed"


def _speeds(comparison: Comparison, letter: str) -> Iterator[str]:
    for outcome in ("slower", "faster"):
        found = [speed for speed in comparison.speeds if (speed.letter, speed.outcome) == (letter, outcome)]
        if found:
            farthest = sorted(found, key=lambda speed: speed.ratio.median, reverse=outcome == "slower")
            verb = ("is" if len(found) == 1 else "are") if comparison.programs else "got"
            names = words.listing([_named(speed) for speed in farthest], _NUM_NAMED)
            yield f"{words.count(len(found), 'case')} {verb} {outcome} ({names})"


def _named(speed: Speed) -> str:
    return f"{speed.case} {words.speedup(speed.ratio)} the time"


def _verdicts(comparison: Comparison, number: int) -> Iterator[tuple[Kind, str]]:
    """Yield how many verdicts changed in which way on side ``number``."""
    names: dict[Kind, list[str]] = {}
    for change in comparison.verdicts:
        kind: Kind | None = change.kind
        if len(comparison.sides) > 2:
            kind = became(change.verdicts[0], change.verdicts[number], programs=comparison.programs)
        if kind is not None:
            names.setdefault(kind, []).append(f"{change.case}, {change.earlier}" if change.earlier else change.case)
    for kind in KINDS:
        # Of two sides all are counted, also what is not listed.
        count = comparison.counts.get(kind, 0) if len(comparison.sides) == 2 else len(names.get(kind, ()))
        if count:
            told = f" ({words.listing(names.get(kind, ()), _NUM_NAMED)})" if kind in _GRAVE else ""
            verbs = (_CHANGED | _ON_ONE_SIDE if comparison.programs else _CHANGED)[kind]
            yield kind, f"{count:,} {verbs[count != 1]}{told}"


def _unclear(comparison: Comparison, letter: str) -> Iterator[str]:
    """Return how many times could not be told apart, judged or compared."""
    speeds = [speed for speed in comparison.speeds if speed.letter == letter]
    beside = [speed for speed in speeds if speed.outcome is None]
    if beside:
        names = f" ({words.listing([_named(speed) for speed in beside])})" if len(beside) <= _NUM_NAMED else ""
        yield f"{words.count(len(beside), 'time')} side by side, not alike{names}"
    unclear = sum(speed.outcome == "inconclusive" for speed in speeds)
    if unclear:
        yield f"{words.count(unclear, 'time')} inconclusive"
    if comparison.num_steady:
        yield f"{words.count(comparison.num_steady, 'time')} moved by less than {100 * comparison.floor:g} %"
    if comparison.num_unjudged:
        yield f"{words.count(comparison.num_unjudged, 'more time')} moved further, not judged here"
    refused = sum(one.letter == letter and one.lost for one in comparison.refused) - len(beside)
    if refused > 0:
        yield f"{words.count(refused, 'time')} not compared"


def environment(facts: Sequence[Fact], number: int) -> str:
    """Return in what side ``number``, from 1, ran elsewhere than side A: ``torch 2.14 -> 2.15``, and a few more."""
    found = [
        f"{fact.name} {_known(fact.values[0])} -> {_known(fact.values[number])}"
        for fact in facts
        if fact.group in ("machine", "versions", "settings") and fact.values[0] != fact.values[number]
    ]
    return words.listing(found, _NUM_FACTS)


def gravity(comparison: Comparison) -> int:
    """Return how grave the gravest change of a comparison is: the lower, the graver; 0 is a case that is different."""
    kinds = [KINDS.index(kind) for kind in comparison.counts if kind in _GRAVE]
    slower = any(speed.outcome == "slower" for speed in comparison.speeds)
    return min(kinds + [KINDS.index("now inconclusive")] * slower, default=len(KINDS))


def _known(value: str) -> str:
    return "none" if value == words.NOTHING else value


def _day(before: str, now: str) -> str:
    """Return when ``before`` was, as precisely as it takes to tell it from ``now``."""
    try:
        first, second = datetime.fromisoformat(before), datetime.fromisoformat(now)
    except ValueError:
        return words.moment(before) or "a run of unknown time"
    if first.date() == second.date():
        return words.moment(before)
    return f"{first.day} {first:%b}" + (f" {first.year}" if first.year != second.year else "")


def earlier(elapsed_s: float) -> str:
    """Return how long ago something was: ``2 hours earlier``."""
    for unit, length_s in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if elapsed_s >= length_s:
            return f"{words.count(int(elapsed_s // length_s), unit)} earlier"
    return "less than a minute earlier"
