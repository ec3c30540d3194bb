"""``results.json``: a run for other programs, one merged record a case, with a JSON Schema that comes with it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.claims import PublishedClaim
from harness.record import Conclusion, Record
from harness.report import files, words
from harness.report.headline import answer, gain, question
from harness.report.sections import fault_matrix
from harness.report.summary import Summary, failures, not_verified, remarks, resolved_speedup, summarise, tally
from harness.spec import Value
from harness.store import Run, RunInfo, encode
from harness.timings import Claim, Interval

FILE = "results.json"
SCHEMA_FILE = "results.schema.json"
# Fields may be added under one number; renaming or removing one is a new number.
Version = Literal["lockstep-results/1"]
VERSION: Version = "lockstep-results/1"
_CLOSED = ("additionalProperties", False)


class Counts(Value, frozen=True, kw_only=True):
    """How many cases came to what; ``failed`` ones had no verdict because a rank raised, died or hung."""

    equivalent: int = 0
    different: int = 0
    inconclusive: int = 0
    not_verified: int = 0
    failed: int = 0


class Fastest(Value, frozen=True, kw_only=True):
    """The equivalent parallel case with the largest speed-up.

    ``gain`` says that it is told apart from 1x and that serial training on the whole machine is not as fast.
    """

    case: str
    strategy: str
    workload: str
    world_size: int
    device: str
    speedup: Interval
    claim: Claim | None
    gain: bool


class Unverified(Value, frozen=True, kw_only=True):
    """A reason for which cases were not verified, or failed, and their ids."""

    reason: str
    cases: tuple[str, ...]


class Overview(Value, frozen=True, kw_only=True):
    """What a run comes to, in the words of every report.

    ``conclusion`` speaks for the whole run (see ``conclusion``), ``strategies`` holds that of each parallel strategy;
    ``num_equal`` of ``num_judged`` of these equal serial training, on the ``num_ran`` of ``num_cases`` cases that were
    judged or failed to be; ``num_unrun`` left no record. A run that is not ``complete`` goes on, was killed or
    interrupted, stopped before all cases were run, or lost records.
    """

    question: str
    answer: str
    tally: str
    conclusion: Conclusion
    complete: bool
    num_equal: int
    num_judged: int
    num_ran: int
    num_cases: int
    num_unrun: int
    counts: Counts
    strategies: dict[str, Conclusion]
    fastest: Fastest | None
    not_verified: tuple[Unverified, ...]
    failed: tuple[Unverified, ...]
    remarks: tuple[str, ...]


class Results(Value, frozen=True, kw_only=True):
    """A run: what it comes to, and a record a case; ``faults`` are the cases into which a bug was put on purpose.

    ``claims`` hold figures of published studies beside what was found here. ``losses`` tell in sentences what of the
    run could not be read.
    """

    schema: Version = VERSION
    run: RunInfo
    summary: Overview
    losses: tuple[str, ...] = ()
    cases: tuple[Record, ...] = ()
    faults: tuple[Record, ...] = ()
    claims: tuple[PublishedClaim, ...] = ()


def write(run: Run) -> Path:
    """Write ``results.json`` into the run's folder, and return its path; raise StoreError where that is refused."""
    return files.write(run.directory / FILE, lines(run))


def lines(run: Run) -> Iterator[bytes]:
    """Yield ``results.json`` piece by piece, a record a line: the whole of it is never held."""
    summary = summarise(run)
    yield b'{"schema":' + msgspec.json.encode(VERSION) + b',\n"run":' + encode(run.info)
    yield b',\n"summary":' + encode(overview(summary)) + b',\n"losses":' + encode(run.losses)
    for name, records in ((b"cases", summary.cases), (b"faults", summary.faults), (b"claims", run.claims)):
        yield b',\n"' + name + b'":['
        for number, record in enumerate(records):
            yield (b",\n" if number else b"\n") + encode(record)
        yield b"]"
    yield b"}\n"


def overview(summary: Summary) -> Overview:
    """Return what a run comes to."""
    equal, judged = equal_of_judged(summary)
    counts = {"not_verified" if word == "not verified" else word: number for word, number in _counted(summary).items()}
    return Overview(
        question=question(summary),
        answer=answer(summary),
        tally=tally(summary),
        conclusion=conclusion(summary),
        complete=complete(summary),
        num_equal=equal,
        num_judged=judged,
        num_ran=summary.num_ran,
        num_cases=summary.num_cases,
        num_unrun=summary.num_unrun,
        counts=Counts(**counts),
        strategies=summary.strategies,
        fastest=_fastest(summary),
        not_verified=_reasons(not_verified(summary)),
        failed=_reasons(failures(summary)),
        remarks=tuple(remarks(summary)),
    )


def equal_of_judged(summary: Summary) -> tuple[int, int]:
    """Return how many parallel strategies equal serial training, of how many that were judged or failed to be."""
    judged = [name for name, found in summary.strategies.items() if found != "not-verified" or name in summary.failed]
    return len(summary.named("equivalent")), len(judged)


def conclusion(summary: Summary) -> Conclusion:
    """Return what may be said of a whole run.

    ``different`` where a case is so that is not known to be, or failed; ``inconclusive`` where one is so, or where an
    injected bug went unseen and the check is blind; ``equivalent`` where a parallel strategy is and none of that holds.
    """
    if any(case.failed or (case.verdict == "different" and not case.finding) for case in summary.cases):
        return "different"
    found = set(summary.strategies.values())
    if "inconclusive" in found or fault_matrix.unseen(summary.faults):
        return "inconclusive"
    return "equivalent" if "equivalent" in found else "different" if "different" in found else "not-verified"


def complete(summary: Summary) -> bool:
    """Return whether the run came to its end, with a record of every case, and all of it can be read."""
    run = summary.run
    return bool(run.info.ended) and not run.info.interrupted and not run.losses and not summary.num_unrun


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``results.json``, made from the types.

    JSON has no NaN and no infinity: a number may be "nan", "inf" or "-inf" instead.
    """
    made = _adapted(msgspec.json.schema(Results, ref_template="#/$defs/{name}"))
    made["$defs"]["Number"] = {
        "title": "Number",
        "description": "A number; JSON has no NaN and no infinity, so these are strings.",
        "anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:lockstep:{VERSION}",
        "title": VERSION,
        **made,
    }


def schema_text() -> str:
    """Return the JSON Schema as it lies in the package."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"


def _adapted(part: Any) -> Any:
    """Let a number be what JSON has none for, and an object have fields that a later version adds."""
    if isinstance(part, dict):
        kept = {name: _adapted(value) for name, value in part.items() if (name, value) != _CLOSED}
        if isinstance(kept.get("description"), str):
            kept["description"] = inspect.cleandoc(kept["description"]).replace("``", "`")
        if kept.get("type") == "number":
            del kept["type"]
            kept["$ref"] = "#/$defs/Number"
        return kept
    return [_adapted(item) for item in part] if isinstance(part, list) else part


def _reasons(found: list[tuple[str, list[str]]]) -> tuple[Unverified, ...]:
    return tuple(Unverified(reason=reason, cases=tuple(names)) for reason, names in found)


def _counted(summary: Summary) -> dict[str, int]:
    found: dict[str, int] = {}
    for case in summary.cases:
        found[words.verdict(case)] = found.get(words.verdict(case), 0) + 1
    return found


def _fastest(summary: Summary) -> Fastest | None:
    case = summary.fastest
    speedup = resolved_speedup(case) if case is not None else None
    if case is None or case.timing is None or speedup is None:
        return None
    return Fastest(
        case=case.case,
        strategy=case.strategy,
        workload=case.workload,
        world_size=case.world_size,
        device=case.device,
        speedup=speedup,
        claim=case.timing.claim,
        gain=gain(case),
    )
