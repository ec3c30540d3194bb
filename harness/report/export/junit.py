"""What pytest's JUnit XML says of a case and of a run: properties, for CI systems that show or compare them."""

from __future__ import annotations

from harness.record import Record
from harness.report import words
from harness.report.headline import answer
from harness.report.summary import resolved_speedup, summarise, tally
from harness.store import Run

PREFIX = "lockstep."


def of_case(record: Record) -> list[tuple[str, str]]:
    """Return the properties of a case's test; what is not known, or must not be read as a speed-up, is left out."""
    timing, speedup = record.timing, resolved_speedup(record)
    efficiency = timing.efficiency if timing is not None and speedup is not None else None
    found: dict[str, object] = {
        "case": record.case,
        "verdict": words.verdict(record),
        "reason": record.reason,
        "reference": record.reference,
        "fault": record.fault,
        "finding": record.finding,
        "margin": record.margin,
        "speedup": speedup and speedup.median,
        "speedup.low": speedup and speedup.low,
        "speedup.high": speedup and speedup.high,
        "efficiency": efficiency and efficiency.median,
        "epoch_s": words.epoch_s(timing) if timing is not None else None,
        "command": record.command,
    }
    return [(f"{PREFIX}{name}", _text(value)) for name, value in found.items() if value not in (None, "")]


def of_run(run: Run) -> list[tuple[str, str]]:
    """Return the properties of the whole suite: the run's id, the answer and the tally."""
    summary = summarise(run)
    found = {"run": run.info.id, "answer": answer(summary), "tally": tally(summary)}
    return [(f"{PREFIX}{name}", _text(value)) for name, value in found.items()]


def _text(value: object) -> str:
    """Return ``value`` as a text that pytest-xdist can send; pytest itself escapes what XML cannot hold."""
    return str(value).encode("utf-8", "backslashreplace").decode()
