"""Mutants: a handful of small bugs run on the very case that is judged, so that its verdict tells what it would catch.

ranks:   the case's training, then a few steps with each mutant, in the same processes
oracle:  each mutant is held against the same reference and reruns; one that passes makes the verdict inconclusive
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from harness.errors import TraceError
from harness.faults import base as faults
from harness.oracles import parity
from harness.record import Power, RungFile, Trace, Verdict
from harness.spec import Case, Fault, Mutant, Workload
from harness.strategies.base import Strategy

# What every optimizer step relies on: the average, all of it, of this step, at this rate, with memory, and equal
# statistics. Those that a strategy cannot express, or that change nothing under a workload, are left out.
FAULTS = (
    Fault(name="sum-for-mean"),
    Fault(name="not-reduced", settings={"tensor": "last"}),
    Fault(name="stale-gradients"),
    Fault(name="learning-rate-x-world"),
    Fault(name="lost-momentum"),
    Fault(name="unsynchronised-buffers"),
)


def of(case: Case, workload: Workload, strategy: Strategy, *, last: int) -> tuple[Mutant, ...]:
    """Return the mutants of a case, each with as many steps as it takes to act, if that is within the first ``last``.

    One rank, which proves nothing anyway, has none. Where processes cannot train twice a mutant needs ranks of its own,
    which cost as much as the case: there is one then.
    """
    if case.world_size == 1:
        return ()
    found = []
    for fault in FAULTS:
        name = strategy.like or strategy.name
        site = faults.Site(workload=workload, strategy=name, world_size=case.world_size, settings=fault.settings)
        if faults.refusal(fault, site) is None:
            num_steps = max(1, faults.expected(fault, site).step + 1)
            if num_steps <= last:
                found.append(Mutant(fault=fault, num_steps=num_steps))
    if not strategy.repeats or not found:
        return tuple(found[:1])
    # Comes last: what trainings leave in a process must not be taken for what a bug does.
    return (*found, Mutant(fault=None, num_steps=max(mutant.num_steps for mutant in found)))


def apart(traces: Sequence[Trace], num_processes: int, num_mutants: int) -> list[tuple[Trace, ...]]:
    """Return the traces of the case itself and then of each mutant, from what all processes have told one by one."""
    told, ragged = divmod(len(traces), num_processes)
    each, over = divmod(told, 1 + num_mutants)
    if ragged or over:
        raise TraceError(
            f"expected as many traces of each of {num_processes} processes and {1 + num_mutants} trainings but got "
            f"{len(traces)} in all; return the same ranks each time"
        )
    return [
        tuple(
            trace
            for process in range(num_processes)
            for trace in traces[process * told + number * each : process * told + (number + 1) * each]
        )
        for number in range(1 + num_mutants)
    ]


def judged(
    verdict: Verdict,
    mutants: Sequence[tuple[Mutant, Sequence[Trace]]],
    *,
    reference: Trace,
    reruns: Sequence[Trace],
    dtype: str,
) -> Verdict:
    """Return an equivalent verdict with its power, or as inconclusive where a mutant passes for the reference, too.

    Without power stays a verdict whose training does not repeat itself in the same processes.
    """
    if not verdict.equivalent or not mutants:
        return verdict
    killed: list[str] = []
    survived: list[str] = []
    for mutant, traces in mutants:
        found = parity.judge(
            reference=first_steps(reference, mutant.num_steps),
            reruns=[first_steps(rerun, mutant.num_steps) for rerun in reruns],
            parallel=[_without_predictions(trace) for trace in traces],
            dtype=dtype,
        )
        if mutant.fault is not None:
            (killed if found.conclusion == "different" else survived).append(mutant.name)
        elif not found.equivalent:
            # Trained once more in the same processes it is another training: then nothing is known of its mutants.
            return verdict
    power = Power(killed=tuple(killed), survived=tuple(survived))
    verdict = msgspec.structs.replace(verdict, power=power)
    if not survived:
        return verdict
    reason = (
        f"{verdict.reason}; but so is the same training with {' or '.join(survived)} injected, so that this check "
        "cannot tell right from wrong; train more steps, at a larger learning rate, on larger batches"
    )
    return msgspec.structs.replace(verdict, conclusion="inconclusive", reason=reason)


def first_steps(trace: Trace, num_steps: int) -> Trace:
    """Return what a trace shows of its first steps and, before them, of the initial weights; no predictions."""
    rungs = {rung: _first(file, num_steps) for rung, file in _without_predictions(trace).rungs.items()}
    return msgspec.structs.replace(trace, rungs=rungs)


def _first(file: RungFile, num_steps: int) -> RungFile:
    steps = tuple(step for step in file.steps if step < num_steps)
    return msgspec.structs.replace(file, steps=steps, num_rows=file.num_rows or len(file.steps))


def _without_predictions(trace: Trace) -> Trace:
    rungs = {rung: file for rung, file in trace.rungs.items() if rung != "predictions"}
    return msgspec.structs.replace(trace, rungs=rungs)
