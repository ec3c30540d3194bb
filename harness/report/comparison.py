"""Two runs held against each other: first where they ran, then what changed, then speed where like meets like."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness import history
from harness.record import Record
from harness.report import words
from harness.report.console import clean, table
from harness.report.summary import resolved_speedup, summarise
from harness.store import Run
from harness.timings import Compared, Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """What became of one case's time from run A to run B, and its speed-up over serial in each."""

    case: str
    found: Compared
    speedup_a: Interval | None
    speedup_b: Interval | None

    @property
    def slower(self) -> bool:
        """Whether it got slower by more than the floor, beyond doubt."""
        return self.found.outcome == "slower"

    @property
    def faster(self) -> bool:
        """Whether it got faster by more than the floor, beyond doubt."""
        return self.found.outcome == "faster"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What differs between run A and run B.

    ``environment`` holds (name, A, B) and ``verdicts`` (case, A, B) where the two differ; ``refused`` holds
    (case, reason) where speed could not be compared, ``lost`` the cases among them whose time in A is fit to be.
    ``losses`` say what could not be read, and ``same`` whether A and B are one run.
    """

    run_a: str
    run_b: str
    environment: tuple[tuple[str, str, str], ...]
    verdicts: tuple[tuple[str, str, str], ...]
    speeds: tuple[Speed, ...]
    refused: tuple[tuple[str, str], ...]
    lost: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    same: bool = False

    def failures(self) -> list[str]:
        """Return why nobody may say that nothing got slower, a line each; none where that may be said."""
        if self.same:
            return ["nothing was compared: A and B are one and the same run; name two"]
        if not self.speeds:
            return ["nothing was compared: no case has a time in A and one in B that are alike", *self._lost()]
        return [f"slower: {clean(speed.case)}" for speed in self.speeds if speed.slower] + self._lost()

    def _lost(self) -> list[str]:
        reasons = dict(self.refused)
        return [f"timed in A and not compared: {clean(case)}: {clean(reasons[case])}" for case in self.lost]

    def lines(self) -> list[str]:
        """Return the comparison as lines of a terminal."""
        speeds = [("case", "A", "B", "time B / A", "", "speed-up in A", "speed-up in B"), *map(_row, self.speeds)]
        return [
            f"A: {clean(self.run_a)}",
            f"B: {clean(self.run_b)}",
            *(["A and B are one and the same run"] if self.same else []),
            *map(clean, self.losses),
            *_part("environment", [("", "A", "B"), *self.environment], "no difference"),
            *_part("verdicts", [("case", "A", "B"), *self.verdicts], "no change"),
            *_part("time per epoch", speeds, "nothing to compare"),
            *(f"  {clean(speed.case)}: {clean(speed.found.words)}" for speed in self.speeds if speed.slower),
            *(_part("not compared", [("case", "reason"), *self.refused], "") if self.refused else []),
        ]


def compare(
    run_a: Run,
    run_b: Run,
    *,
    others: Collection[Run] = (),
    floor: float = history.FLOOR,
    allow: Collection[str] = (),
) -> Comparison:
    """Return what changed from ``run_a`` to ``run_b``; only a case that is alike in both is timed against.

    ``others`` are runs that tell how runs differ, ``floor`` the relative effect that counts, and ``allow`` the kinds of
    difference that do not matter (``harness.history.KINDS``).
    """
    cases_a, cases_b, *cases = ({case.case: case for case in summarise(run).cases} for run in (run_a, run_b, *others))
    names = sorted(cases_a.keys() | cases_b.keys())
    verdicts = [(name, _verdict(cases_a.get(name)), _verdict(cases_b.get(name))) for name in names]
    speeds, refused = [], []
    for name in names:
        a, b = cases_a.get(name), cases_b.get(name)
        if not any(case is not None and case.timing is not None for case in (a, b)):
            continue
        if a is None or b is None:
            refused.append((name, f"only in {'A' if b is None else 'B'}"))
            continue
        why = history.refusal(a, b, allow=allow)
        if why is not None:
            refused.append((name, why + _outcome(b)))
            continue
        alike = [run[name] for run in cases if name in run and history.refusal(run[name], b, allow=allow) is None]
        found = history.compare(a, b, earlier=history.beside(a, alike), floor=floor, allow=allow)
        speeds.append(Speed(case=name, found=found, speedup_a=resolved_speedup(a), speedup_b=resolved_speedup(b)))
    return Comparison(
        run_a=run_a.info.id,
        run_b=run_b.info.id,
        environment=tuple(_environment(run_a, run_b)),
        verdicts=tuple(item for item in verdicts if item[1] != item[2]),
        speeds=tuple(speeds),
        refused=tuple(refused),
        lost=tuple(name for name, _ in refused if name in cases_a and history.fit(cases_a[name])),
        losses=tuple(f"{which}: {loss}" for which, run in (("A", run_a), ("B", run_b)) for loss in run.losses),
        same=run_a.directory.resolve() == run_b.directory.resolve(),
    )


def _environment(run_a: Run, run_b: Run) -> list[tuple[str, str, str]]:
    a, b = run_a.info.environment, run_b.info.environment
    found = [(name, str(a.get(name, words.NOTHING)), str(b.get(name, words.NOTHING))) for name in sorted(a | b)]
    return [item for item in found if item[1] != item[2]]


def _verdict(case: Record | None) -> str:
    return "not in this run" if case is None else words.VERDICT[case.verdict]


def _outcome(case: Record) -> str:
    """Return in brackets what became of a case that has no times; nothing of one that was judged."""
    if case.timing is not None or case.verdict == "equivalent":
        return ""
    return f" ({words.verdict(case)}: {words.headline(case.reason)})"


def _row(speed: Speed) -> tuple[str, ...]:
    return (
        speed.case,
        words.seconds(speed.found.before_s),
        words.seconds(speed.found.now_s),
        words.speedup(speed.found.ratio),
        str(speed.found.outcome),
        words.speedup(speed.speedup_a),
        words.speedup(speed.speedup_b),
    )


def _part(title: str, rows: Sequence[Sequence[str]], nothing: str) -> list[str]:
    body = table(rows) if len(rows) > 1 else [nothing]
    return ["", title, *("  " + line for line in body)]
