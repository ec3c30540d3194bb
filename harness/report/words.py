"""The wording of every report: terminal, HTML and Markdown say the same because they all ask here."""

from __future__ import annotations

import math
import re
import statistics
import sys
from collections.abc import Sequence
from datetime import datetime

from harness.record import Accuracy, Conclusion, Divergence, Power, Record, RungSummary
from harness.timings import LONGEST_S, Baseline, Interval, Timing, Used

VERDICT: dict[Conclusion, str] = {
    "equivalent": "equivalent",
    "different": "different",
    "inconclusive": "inconclusive",
    "not-verified": "not verified",
}
FAILED = "failed"
# What cases come to, in the order of reports: in whose colours, and the word.
TALLIED: tuple[tuple[Conclusion, str], ...] = (*VERDICT.items(), ("different", FAILED))
# By the word that is shown.
MEANING: dict[str, str] = {
    "equivalent": "computes what serial training computes, within what rounding explains",
    "different": "leaves serial training by more than rounding explains",
    "inconclusive": "judged, but the evidence does not carry a verdict",
    "not verified": "not judged on this machine",
    FAILED: "its ranks raised, died or hung before there was a verdict",
}
BASELINE: dict[str, str] = {
    "one share": "serial, one rank's share",
    "whole machine": "serial, whole machine",
    "per-rank batch": "serial, per-rank batch",
    "independent": "serial, as many at once",
    "again": "serial again (A/A)",
}
SPEEDUP_NOTE = (
    "Speed-up is serial time divided by parallel time: the median of paired epochs with its bootstrap 95 % interval. "
    "A/A is serial against serial: a speed-up inside that band is not told apart from none. "
    "A case that is not equivalent shows its time struck out and no speed-up."
)
SPEEDUP_CHART_NOTE = "Solid line: 1x. Dotted line: as many times as there are ranks. Shade: A/A."
LADDER_NOTE = (
    "Closest call is the largest deviation over all steps, ranks and tensors, "
    "in units of what rounding alone does to the reference."
)
# The reference of cases that are not meant to be equal up to rounding.
STATISTICAL = "statistical"
FAULTS_NOTE = "Bugs put in on purpose: a case that does not come out different would show that the check is blind."
NOTHING = "-"


# A longer name is cut in the middle.
_LONGEST_NAME = 80


class _Shown(dict[int, str]):
    """What a character is shown as, filled as they come: what steers a terminal or turns a line around is a "?"."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = char if char.isprintable() or char in "\n\t\u00a0" else "?"
        return self[code]


_SHOWN = _Shown()


def visible(text: str) -> str:
    """Return ``text`` without characters that cannot be seen but act: controls, and marks that turn its direction."""
    return text if text.isascii() and text.isprintable() else text.translate(_SHOWN)


def short(name: str) -> str:
    """Return a name that is no longer than a sentence can hold: a very long one without its middle."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME // 2]} ... {name[-_LONGEST_NAME // 3 :]}"


def count(number: int, noun: str, nouns: str = "") -> str:
    """Return for example ``1 case`` or ``3 cases``."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def listing(names: Sequence[str], limit: int = 3, joint: str = "and") -> str:
    """Return ``a, b and c``; from more than ``limit`` names the first ones and how many are left."""
    shown = [short(name) for name in names[:limit]]
    if len(names) > limit:
        return f"{', '.join(shown)} {joint} {len(names) - limit} more"
    return f"{', '.join(shown[:-1])} {joint} {shown[-1]}" if len(shown) > 1 else "".join(shown)


def number(value: float | None, digits: int = 3) -> str:
    """Return ``value`` with ``digits`` significant digits, very large and small ones as ``3.2e-08``."""
    if value is None:
        return NOTHING
    if math.isnan(value):
        return "not a number"
    if abs(value) >= sys.float_info.max:  # verdicts store infinity as the largest number
        return "infinite" if value > 0 else "-infinite"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -3 <= exponent < 6:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa.removesuffix('.0').removesuffix('.00')}e{int(power)}"
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"


def seconds(value: float | None) -> str:
    """Return a duration in the unit that reads best."""
    if value is None or not math.isfinite(value):
        return number(value)
    if abs(value) < 1:
        return f"{number(value * 1e3)} ms" if abs(value) >= 1e-3 or value == 0 else f"{number(value * 1e6)} us"
    if abs(value) < 120:
        return f"{number(value)} s"
    return f"{int(value // 60)} min {int(value % 60):02d} s"


def factor(value: float | None) -> str:
    """Return for example ``1.72x``."""
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{value:.2f}x" if abs(value) < 100 else f"{number(value)}x"


def percent(value: float | None, digits: int = 0) -> str:
    """Return a share as ``86 %``."""
    if value is None or not math.isfinite(value):
        return number(value)
    return f"{value * 100:.{digits}f} %" if abs(value) < 100 else f"{number(value * 100)} %"


def bytes_size(value: float) -> str:
    """Return a size in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or not math.isfinite(value):
            return f"{number(value)} {unit}"
        value /= 1024
    return f"{number(value)} TiB"


def speedup(value: Interval | None) -> str:
    """Return for example ``1.72x [1.65, 1.79]``."""
    if value is None:
        return NOTHING
    return f"{factor(value.median)} [{_bound(value.low)}, {_bound(value.high)}]"


def claimed(timing: Timing) -> str:
    """Return a speed-up with what takes away from it: ``1.02x [0.99, 1.05], not told apart from 1x``."""
    told = speedup(timing.speedup)
    if timing.oversubscribed:
        return f"{told}, cores shared"
    return f"{told}, not told apart" if timing.speedup and timing.claim == "inconclusive" else told


def efficiency(value: Interval | None) -> str:
    """Return for example ``86 % [82, 90]``."""
    if value is None:
        return NOTHING
    low, high = (percent(end).removesuffix(" %") for end in (value.low, value.high))
    return f"{percent(value.median)} [{low}, {high}]"


def _bound(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) and abs(value) < 100 else number(value)


def moment(iso: str) -> str:
    """Return a time in UTC for people: ``20 Nov 2026, 10:15 UTC``; what is no time is shown as it is."""
    try:
        at = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{at.day} {at:%b %Y, %H:%M} UTC"


def lasted(started: str, ended: str) -> str:
    """Return how long a run took, or an empty string where that is unknown or no time passed."""
    try:
        elapsed = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    except (ValueError, TypeError):  # an unknown end, or a time without its zone
        return ""
    return seconds(elapsed) if elapsed > 0 else ""


def ranks(record: Record) -> str:
    """Return for example ``2 CPU ranks``."""
    return count(record.world_size, f"{record.device.upper()} rank")


def step(number_from_0: int) -> str:
    """Return a step's name; the weights before training are step -1."""
    return "before the first step" if number_from_0 < 0 else f"step {number_from_0}"


def place(found: Divergence | RungSummary) -> str:
    """Return where something was seen: ``step 3, rank 1, conv1.weight``."""
    return f"{step(found.step)}, rank {found.rank}, {found.tensor}"


def divergence(found: Divergence) -> str:
    """Return the first divergence as a sentence."""
    return (
        f"First divergence: {found.rung}, {place(found)}. Difference {number(found.observed, 2)}, "
        f"{number(found.times_threshold, 2)} times the threshold of {number(found.threshold, 2)}; "
        f"rounding alone {number(found.floor, 2)}."
    )


def diagnosis(record: Record) -> tuple[str, ...]:
    """Return the cause of a difference, how to make sure and how to mend it; nothing where no cause is known."""
    found = record.evidence.diagnosis if record.evidence else None
    if found is None:
        return ()
    cause = "Cause" if found.confidence == "certain" else "Likely cause"
    name = found.cause.replace("-", " ")
    return f"{cause}: {name}: {found.words}.", f"To make sure: {found.check}.", f"To mend it: {found.mend}."


def by_design(record: Record) -> str | None:
    """Return how a case that equals a named second reference stands to plain serial training; None for plain ones."""
    if record.reference in {"", "plain"}:
        return None
    if record.reference == STATISTICAL:
        return "Judged over paired seeds: the library is not meant to compute exactly what serial training computes."
    told = f"Judged against the named reference {record.reference}."
    plain = record.evidence.plain if record.evidence else None
    if plain is None:
        return told
    return (
        f"{told} From plain serial training it differs by design: {number(plain.observed, 2)} in {plain.rung} "
        f"({place(plain)}), {number(plain.times_threshold, 2)} times the threshold."
    )


def judged_from(record: Record) -> str | None:
    """Return that a case was judged again from a bundle, and on what its traces were made; None for all others."""
    if not record.judged_from:
        return None
    return f"Judged again here from a bundle ({record.judged_from[:12]}) made on {trained_on(record)}."


def trained_on(record: Record) -> str:
    """Return what machine a case was trained on: ``Linux-x86_64, AMD EPYC, NVIDIA H200``."""
    facts = [record.environment.get(name) for name in ("platform", "cpu_model", "gpu_model")]
    return ", ".join(str(fact) for fact in facts if fact) or "an unknown machine"


def manner(record: Record) -> str:
    """Return in which manner a case is equal where that is not plainly: ``statistically``, ``to NAME``; else empty."""
    if record.reference in {"", "plain"}:
        return ""
    return "statistically" if record.reference == STATISTICAL else f"to {record.reference}"


def power(found: Power) -> str:
    """Return what the check of a case was shown to catch."""
    told = f"Run with small bugs on purpose, its check told {len(found.killed)} of {found.applied} from the sound run"
    names = f"{told}: {listing(found.killed, 8)}" if found.killed else told
    return f"{names}; not {listing(found.survived, 8, 'or')}." if found.survived else f"{names}."


def closest_call(record: Record) -> str:
    """Return how near a case came to the threshold: ``1.3 of 100``."""
    if record.margin is None:
        return NOTHING
    allowed = record.evidence.factor if record.evidence else None
    return f"{number(record.margin, 2)} of {number(allowed)}" if allowed is not None else number(record.margin, 2)


def struck(record: Record) -> str | None:
    """Return why a case's time must not be read as a speed-up, or None."""
    if record.timing is None:
        return None
    if record.verdict != "equivalent":
        return f"no speed-up: {verdict(record)}"
    if record.timing.struck is not None:
        return f"no speed-up: {record.timing.struck}"
    return None if is_sound(record.timing) else "no speed-up: what was recorded as a time is none"


def is_time(value: float) -> bool:
    """Return whether ``value`` can be seconds that something took: above zero and no more than decades."""
    return 0 < value < LONGEST_S


def is_sound(timing: Timing) -> bool:
    """Return whether the times of a case can be times, and its speed-up a ratio of such."""
    found = timing.speedup
    ratio = (found.low, found.median, found.high) if found is not None else ()
    return all(map(is_time, (*timing.epoch_wall_s, *ratio)))


def verdict(record: Record) -> str:
    """Return the verdict in a word; a case whose ranks failed is not one that this machine could not run."""
    return FAILED if record.failed else VERDICT[record.verdict]


def tone(record: Record) -> Conclusion:
    """Return in whose colours a record is shown: a failure in those of a difference."""
    return "different" if record.failed else record.verdict


def baseline(run: Baseline) -> str:
    """Return what a baseline is: ``serial, one rank's share``."""
    return BASELINE.get(run.name, run.name)


def baseline_detail(run: Baseline) -> str:
    """Return a baseline's threads and batch."""
    return f"{count(run.num_threads, 'thread')}, batch {run.batch:,}"


def resolution(timing: Timing) -> str | None:
    """Return what the A/A check says, or None."""
    return None if timing.aa is None else f"A/A {speedup(timing.aa)}"


def headline(reason: str) -> str:
    """Return the first line of a reason; a failed rank brings its stack along."""
    lines = reason.strip().splitlines()
    return lines[0].strip() if lines else "no reason was recorded"


def evidence(reason: str) -> str:
    """Return what follows the first line of a reason."""
    return "\n".join(reason.strip().splitlines()[1:]).strip("\n")


def not_verified(reason: str, names: Sequence[str]) -> str:
    """Return one line of the list of what was not verified."""
    return f"{reason} ({count(len(names), 'case')}: {listing(names, 4)})"


def fact(name: str, value: str | float) -> tuple[str, str]:
    """Return a machine or resource fact as its name and its value with a unit."""
    label = (
        name.removeprefix("num_").removeprefix("version_").removesuffix("_bytes").removesuffix("_s").replace("_", " ")
    )
    if isinstance(value, str):
        return label, value
    if name.endswith("_bytes"):
        return label, bytes_size(value)
    if name.endswith("_s"):
        return label, seconds(value)
    return label, f"{value:,}" if isinstance(value, int) else number(value)


def accuracy(found: Accuracy) -> str:
    """Return how well serial and parallel training predict what they have not seen."""
    return (
        f"Held-out accuracy after {count(found.epochs, 'epoch')}: serial {percent(found.serial, 2)}, "
        f"parallel {percent(found.parallel, 2)} (of {count(found.num_held_out, 'sample')})."
    )


def epoch_s(timing: Timing) -> float:
    """Return the median time per epoch in seconds, from the first rank's start to the last rank's end."""
    return median(timing.epoch_wall_s)


def used(found: Used) -> str:
    """Return what a rank used: ``0.98 cores busy, 512 MiB, at most 530 MiB, GPU 87 % busy, 1.2 GiB on it, 310 J``."""
    told = [f"{found.cpu_s / found.wall_s:.2f} cores busy"] if found.wall_s else []
    told += [bytes_size(found.memory_bytes), f"at most {bytes_size(found.peak_memory_bytes)}"]
    if found.gpu_utilisation is not None:
        told.append(f"GPU {percent(found.gpu_utilisation)} busy")
    if found.gpu_memory_bytes is not None:
        told.append(f"{bytes_size(found.gpu_memory_bytes)} on it")
    if found.energy_j is not None:
        told.append(f"{number(found.energy_j)} J")
    return ", ".join(told)


def median(values: Sequence[float]) -> float:
    """Return the median; NaN of nothing, and of anything that holds NaN."""
    return statistics.median(values) if values and not any(map(math.isnan, values)) else math.nan


def together(text: str) -> str:
    """Return ``text`` with its figures tied by no-break spaces, so that a line never ends inside an interval."""
    text = re.sub(r"(\S) (\[[^\s\]]+,) ([^\s\]]+\])", "\\1\u00a0\\2\u00a0\\3", text)
    return re.sub(r"(\d) (%|s\b|ms\b)", "\\1\u00a0\\2", text)
