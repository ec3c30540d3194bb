"""A case's times against those of an earlier run: only like with like, and what is unlike is named.

Any directory of a run is a baseline; there is no server. Other runs that are alike, too, tell how runs differ.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from harness import store
from harness.errors import HarnessError
from harness.measure import gate
from harness.measure.machine import PACKAGES
from harness.record import Record
from harness.timings import Compared, Interval, Outcome, Timing

Kind = Literal["versions", "machine", "settings"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# What of a record's environment must be alike; all that is not named here may differ.
_VERSIONS = ("python", *PACKAGES, "kernel", "nvidia_driver")
_MACHINE = (
    "platform",
    "cpu_model",
    "gpu_model",
    "num_cores",
    "num_cores_machine",
    "cpu_quota",
    "governor",
    "cuda_devices",
)
_SETTINGS = ("schedule_fuzz",)
AUTO = "auto"
FLOOR = 0.05
_MIN_EPOCHS = 2
# How many earlier runs are a baseline together or tell how runs differ, and how many runs are read to find them.
_NUM_EARLIER, _NUM_READ = 20, 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Something that two runs of a case do not have in common; ``kind`` is None where that can never be allowed."""

    name: str
    before: str
    now: str
    kind: Kind | None = None


def differences(before: Record, now: Record) -> list[Difference]:
    """Return what makes two records of a case unlike."""
    found = [
        Difference(name=name.replace("_", " "), before=str(first), now=str(second))
        for name in ("workload_digest", "strategy", "world_size", "device")
        if (first := getattr(before, name)) != (second := getattr(now, name))
    ]
    if before.timing is not None and now.timing is not None:
        found += _arrangement(before.timing, now.timing)
    a, b = before.environment, now.environment
    for name in sorted(a | b):
        of_kind = kind(name)
        if of_kind is not None and a.get(name) != b.get(name):
            values = (str(side.get(name, "none")) for side in (a, b))
            found.append(Difference(name=name, before=next(values), now=next(values), kind=of_kind))
    return found


def refusal(before: Record, now: Record, *, allow: Collection[str] = ()) -> str | None:
    """Return why two records of a case cannot be compared, with what is unlike and how to allow it; None if they can.

    ``allow`` holds the kinds of difference that do not matter.
    """
    for record, which in ((before, "before"), (now, "now")):
        why = _unfit(record)
        if why is not None:
            return f"{why} {which}"
    unlike = [found for found in differences(before, now) if found.kind is None or found.kind not in allow]
    if not unlike:
        return None
    told = "; ".join(f"{found.name} {found.before} before, {found.now} now" for found in unlike)
    kinds = _kinds(unlike)
    return f"not alike: {told}" + (
        f"; if that does not matter, allow a difference of {' and '.join(kinds)}" if kinds else ""
    )


def compare(
    before: Record, now: Record, *, earlier: Sequence[Record] = (), floor: float = FLOOR, allow: Collection[str] = ()
) -> Compared:
    """Return what became of a case's time from ``before`` to ``now``; ``earlier`` are alike, each of another run.

    Raises:
        MissingRequirementError: scipy is not installed.
    """
    why = refusal(before, now, allow=allow)
    if why is None:
        return _judge([before], now, earlier, floor)
    unlike = [found for found in differences(before, now) if found.kind not in allow]
    kinds = () if _unfit(now) else tuple(_kinds(unlike))
    return refused(before.run, why, floor, timed_before=_unfit(before) is None, allow=kinds)


def refused(
    run: str, why: str, floor: float = FLOOR, *, timed_before: bool = False, allow: tuple[str, ...] = ()
) -> Compared:
    """Return that a case cannot be compared with ``run``, and why."""
    told = f"not compared{f' with {run}' if run else ''}: {why}"
    return Compared(run=run, outcome=None, words=told, floor=floor, refused=timed_before, allow=allow)


def chain(alike: Sequence[Record]) -> list[Record]:
    """Return those of a case's records, newest first and alike, that are the baseline together.

    What was called slower is left out, or a second try would be held against the first. What was called faster is the
    last: before it the case was another. So is a slower run that a later one was compared with by name: unless that one
    was slower still, the slowdown was accepted.
    """
    slower = {record.run for record in alike if _said(record) == "slower"}
    found: list[Record] = []
    accepted = None
    for record in alike:
        compared = record.timing.compared if record.timing is not None else None
        if accepted is not None and record.run != accepted:
            continue
        if record.run == accepted:
            found.append(record)
            break
        named = compared.run if compared is not None and compared.run in slower else None
        if _said(record) == "slower":
            continue
        found.append(record)
        if _said(record) == "faster":
            break
        accepted = named
    return found[:_NUM_EARLIER]


def beside(before: Record, alike: Sequence[Record]) -> list[Record]:
    """Return those of ``alike`` that tell how runs differ from ``before``: runs of its chain."""
    others = [record for record in alike if record.run != before.run]
    ordered = sorted([before, *others], key=lambda record: record.run, reverse=True)  # names sort by time
    return [record for record in chain(ordered) if record is not before]


class History:
    """Earlier runs in a folder, read when the first case asks; ``wanted`` is a run, or ``auto``: all that are alike.

    ``allow`` holds the kinds of difference that do not matter, ``own`` the run that is going on.

    Raises:
        UnknownNameError: no such run; StoreError: it cannot be read, or was written under another schema.
    """

    def __init__(self, report_dir: Path, wanted: str, *, allow: Collection[str] = (), own: str = "") -> None:
        self._report_dir, self._allow, self._own = report_dir, allow, own
        if wanted == "latest":  # this run may have begun to write
            wanted = next((path.name for path in store.newest_first(report_dir) if path.name != own), wanted)
        self._baseline = None if wanted == AUTO else store.read(wanted, report_dir)

    def against(self, now: Record, floor: float = FLOOR) -> Compared:
        """Return what became of a case's time since the baseline."""
        alike = [record for record in self._others(now.case) if self._refusal(record, now) is None]
        if self._baseline is None:
            together = chain(alike)
            return _judge(together, now, (), floor) if together else self._none(now, alike, floor)
        named = timed(self._baseline)
        if now.case not in named:
            return refused(self._baseline.directory.name, "it did not time this case", floor)
        before = named[now.case]
        return compare(before, now, earlier=beside(before, alike), floor=floor, allow=self._allow)

    def _refusal(self, before: Record, now: Record) -> str | None:
        return refusal(before, now, allow=self._allow)

    def _none(self, now: Record, alike: Sequence[Record], floor: float) -> Compared:
        """Return why no earlier run will do, of the latest that timed the case, or of the case itself."""
        others = self._others(now.case)
        if not others:
            return refused("", f"no earlier run in {self._report_dir} timed this case", floor)
        if alike:
            why = (
                f"every earlier run that is alike was itself called slower, the latest is {alike[0].run}; "
                "to accept its times, compare with it by name"
            )
            return refused("", why, floor, timed_before=True)
        usable = [record for record in others if fit(record)]
        latest = (usable or others)[0]
        why = f"{self._refusal(latest, now)} (the latest is {latest.run})"
        return refused("", why, floor, timed_before=bool(usable))

    def _others(self, case: str) -> list[Record]:
        return [run[case] for run in self._runs if case in run]

    @cached_property
    def _runs(self) -> list[dict[str, Record]]:
        """The timed cases of the other runs, newest first; a run that cannot be read tells nothing."""
        return [timed(run) for run in others(self._report_dir, {self._own})]


def others(report_dir: Path, hidden: Collection[str]) -> list[store.Run]:
    """Return the latest runs in ``report_dir``, newest first; not those named ``hidden``, nor what cannot be read."""
    found = []
    for folder in [path for path in store.newest_first(report_dir) if path.name not in hidden][:_NUM_READ]:
        with contextlib.suppress(HarnessError):  # a run of another schema, or damaged, tells nothing
            found.append(store.read(folder))
    return found


def timed(run: store.Run) -> dict[str, Record]:
    """Return the timed cases of a run, by their ids."""
    return {record.case: record for record in store.merge(run.records) if record.timing and record.fault is None}


def fit(record: Record) -> bool:
    """Return whether a record's times may be compared with those of a record that is like it."""
    return _unfit(record) is None


def _judge(before: Sequence[Record], now: Record, earlier: Sequence[Record], floor: float) -> Compared:
    """Return what became of a case's time since the runs ``before``, newest first, all of them alike."""
    assert now.timing is not None
    start, run = _start(now.timing), before[0].run
    timings = [record.timing for record in before if record.timing is not None]
    if start.yardstick_s:  # a run without one would make the others go without theirs
        timings = [timing for timing in timings if _start(timing).yardstick_s] or timings
    pairs = [timing.aa.median for timing in (timings[0], now.timing) if timing.aa is not None]
    judged = gate.judge(
        [_start(timing) for timing in timings],
        [start],
        floor=floor,
        earlier=[_start(record.timing) for record in earlier if record.timing is not None],
        pairs=pairs,
        in_order=True,
    )
    sides = [[one for timing in side for one in _beside_serial(timing)] for side in (timings, [now.timing])]
    to_serial = gate.judge(*sides, floor=floor, pairs=pairs, in_order=True) if all(sides) else None
    now_s = statistics.median(now.timing.epoch_wall_s)
    before_s = statistics.median(statistics.median(timing.epoch_wall_s) for timing in timings)
    name = run if len(timings) == 1 else f"the {len(timings)} runs up to {run}"
    return Compared(
        run=run,
        outcome=judged.outcome,
        words=_words(name, judged, to_serial, before_s=before_s, now_s=now_s, device=now.device),
        floor=floor,
        before_s=before_s,
        now_s=now_s,
        ratio=judged.ratio,
        bare=now_s / before_s,
        machine=judged.mood,
        to_serial=to_serial.ratio if to_serial is not None else None,
        num_earlier=len(timings) - 1 + len(earlier),
    )


def _said(record: Record) -> Outcome | None:
    compared = record.timing.compared if record.timing is not None else None
    return compared.outcome if compared is not None else None


def _kinds(unlike: Sequence[Difference]) -> list[str]:
    """Return what would have to be allowed for a comparison; nothing where that would not do."""
    kinds = {found.kind for found in unlike}
    return [] if None in kinds else sorted(kind for kind in kinds if kind is not None)


def kind(name: str) -> Kind | None:
    """Return of which kind a fact of an environment is; None where it may differ."""
    if name in _VERSIONS:
        return "versions"
    if name in _MACHINE:
        return "machine"
    # Environment variables by which a device's arithmetic is fixed are in capitals.
    return "settings" if name in _SETTINGS or name.isupper() else None


def _arrangement(before: Timing, now: Timing) -> list[Difference]:
    """Return what two timings do not share of how ranks were laid out; shares that were not recorded say nothing."""
    pairs: list[tuple[str, object, object]] = [
        ("scaling", before.scaling, now.scaling),
        ("samples an epoch", before.num_samples, now.num_samples),
        ("oversubscribed", before.oversubscribed, now.oversubscribed),
    ]
    if before.share is not None and now.share is not None:
        pairs += [
            (f"a rank's {name.removeprefix('num_')}", getattr(before.share, name), getattr(now.share, name))
            for name in ("num_cores", "num_threads", "device")
        ]
    return [Difference(name=name, before=str(a), now=str(b)) for name, a, b in pairs if a != b]


def _unfit(record: Record) -> str | None:
    """Return why a record's times say nothing, or None."""
    timing = record.timing
    if timing is None:
        return "not timed"
    if record.verdict != "equivalent" or timing.struck is not None:
        return f"struck out ({timing.struck or record.verdict})"
    times = timing.epoch_wall_s
    if len(times) < _MIN_EPOCHS:
        return f"{len(times)} epoch{'s' * (len(times) != 1)} where an interval needs {_MIN_EPOCHS}"
    return None if all(map(gate.is_time, times)) else "an epoch's time is not a positive number of seconds"


def _start(timing: Timing) -> gate.Start:
    units = timing.yardstick_s
    fit = len(units) == len(timing.epoch_wall_s) and all(map(gate.is_time, units))
    return gate.Start(step_s=timing.epoch_wall_s, yardstick_s=units if fit else ())


def _beside_serial(timing: Timing) -> list[gate.Start]:
    """Return the epochs with those of the serial run beside them as the yardstick, where they are pairs."""
    serial = timing.baseline("one share")
    if serial is None or len(serial.epoch_s) != len(timing.epoch_wall_s) or not all(map(gate.is_time, serial.epoch_s)):
        return []
    return [gate.Start(step_s=timing.epoch_wall_s, yardstick_s=serial.epoch_s)]


def _words(
    run: str, judged: gate.Judged, to_serial: gate.Judged | None, *, before_s: float, now_s: float, device: str
) -> str:
    """Return the outcome as a sentence: by how much, from what to what, and what else moved."""
    told = {"pass": "as fast as in", "inconclusive": "inconclusive against"}.get(
        judged.outcome, f"{judged.outcome} than"
    )
    parts = [f"{told} {run}: {_figure(judged.ratio)} (99 %) its time an epoch ({before_s:.4g} s, now {now_s:.4g} s)"]
    if judged.mood is None:
        why = " (a CPU's says nothing of a GPU)" if device == "cuda" else ""
        parts.append(f"without a yardstick{why}, so that the machine itself may have changed")
    elif abs(judged.mood - 1) >= 0.02:
        parts.append(f"fixed work beside it took {judged.mood:.2f}x, which is taken out")
    if judged.outcome in ("slower", "faster") and to_serial is not None:
        moved = to_serial.outcome == judged.outcome
        parts.append(
            f"against serial in the same run {_figure(to_serial.ratio)} (99 %): "
            + ("the parallel run itself changed" if moved else "what serial shares may have changed, too")
        )
    return "; ".join(parts)


def _figure(ratio: Interval) -> str:
    return f"{ratio.median:.3f}x [{ratio.low:.3f}, {ratio.high:.3f}]"
