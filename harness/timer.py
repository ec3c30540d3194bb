"""Timing a case: its epochs interleaved with those of the serial runs it is held against, alone on the machine.

One round trains an epoch of each; whatever is not training is stopped. Rounds start with another run each time, so that
a drift of the machine meets all of them:

    round 0 (warm-up)  parallel | one share | whole machine | per-rank batch | again
    round 1            one share | whole machine | per-rank batch | again | parallel
    round 2            whole machine | ...
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from harness import jobs, scratch
from harness.errors import RankError
from harness.launchers.local import Group, Session
from harness.measure import machine, timing
from harness.oracles import accuracy as accuracies
from harness.record import Accuracy, Trace, Verdict
from harness.runner import Runner, once
from harness.spec import Arrangement, Case, Device, Job, Workload
from harness.strategies import base as strategies
from harness.strategies.base import Strategy
from harness.timings import BaselineName, Epoch, Timing

NUM_WARMUP = 1
Rows = tuple[tuple[Epoch, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """What timing a case brings: its times, held-out accuracy serial and parallel, and what it used."""

    timing: Timing
    accuracy: Accuracy
    resources: dict[str, float | int]


class Timer:
    """Times cases; serial against serial is measured once for each workload, framework, world size and device."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._timed: dict[str, Timed | RankError] = {}
        self._again: dict[tuple[str, str, int, Device], tuple[tuple[float, ...], tuple[float, ...]]] = {}

    def time(self, case: Case, workload: Workload, verdict: Verdict) -> Timed:
        """Train serial and parallel to the end, epoch by epoch in turns; a case is timed once a session.

        Raises:
            RankError: a rank raised, died or hung, now or when the case was timed before.
            StoreError: the scratch folder is full.
        """
        return once(self._timed, f"{case.id} {workload.digest}", lambda: self._time(case, workload, verdict))

    def _time(self, case: Case, workload: Workload, verdict: Verdict) -> Timed:
        strategy = strategies.get(case.strategy)
        serial = strategies.get(strategy.reference_of or strategy.name)
        key = (workload.digest, serial.name, case.world_size, case.device)
        baselines = self._baselines(case, workload, serial, again=key not in self._again)
        groups = [self._parallel(case, workload, strategy), *baselines.values()]
        epochs, traces = self._train(groups, workload.epochs + NUM_WARMUP)
        serial_epochs = dict(zip(baselines, (ranks[0] for ranks in epochs[1:]), strict=True))
        if "again" in serial_epochs:
            self._again[key] = (_seconds(serial_epochs["one share"]), _seconds(serial_epochs["again"]))
        summary = timing.summarise(
            parallel=epochs[0],
            baselines={
                name: timing.Serial(
                    epochs=serial_epochs[name],
                    num_threads=group.jobs[0].num_threads,
                    batch=group.jobs[0].workload.global_batch,
                )
                for name, group in baselines.items()
                if name != "again"
            },
            aa=self._again[key],
            world_size=case.world_size,
            num_cores=len(machine.cores()),
            num_warmup=NUM_WARMUP,
        )
        share = traces[1 + list(baselines).index("one share")]
        accuracy = _accuracy(share, traces[0], workload)
        return Timed(
            timing=_struck(
                summary, verdict, accuracies.departure(share[0].losses, traces[0][0].losses, accuracy, verdict)
            ),
            accuracy=accuracy,
            resources=_resources(traces[0], share),
        )

    def _train(self, groups: list[Group], num_rounds: int) -> tuple[list[Rows], list[tuple[Trace, ...]]]:
        """Train all groups in turns; return their epochs, a row a rank, and their traces."""
        settings = self._runner.settings
        with (
            scratch.told(settings.scratch),
            self._runner.pool.open(groups, timeout_s=settings.timeout_s) as session,
        ):
            epochs = _take_turns(session, len(groups), num_rounds)
            return epochs, [session.finish(number) for number in range(len(groups))]

    def _parallel(self, case: Case, workload: Workload, strategy: Strategy) -> Group:
        template = self._runner.trainings.template(case, workload, "timing")
        ranks = jobs.parallel(template, case, strategy, cpus=machine.shares(case.world_size))
        return self._runner.trainings.group(strategy, ranks)

    def _baselines(self, case: Case, workload: Workload, serial: Strategy, *, again: bool) -> dict[BaselineName, Group]:
        share, everything = machine.shares(case.world_size)[0], machine.cores()
        smaller = msgspec.structs.replace(workload, global_batch=max(1, workload.global_batch // case.world_size))
        wanted: dict[BaselineName, tuple[Workload, tuple[int, ...]]] = {
            "one share": (workload, share),
            "whole machine": (workload, everything),
            "per-rank batch": (smaller, share),
        }
        if again:
            wanted["again"] = (workload, share)
        return {name: self._serial(case, serial, trained, cpus) for name, (trained, cpus) in wanted.items()}

    def _serial(self, case: Case, serial: Strategy, workload: Workload, cpus: tuple[int, ...]) -> Group:
        template: Job = self._runner.trainings.template(case, workload, "timing")
        return self._runner.trainings.group(serial, jobs.serial(template, case, serial, Arrangement(), cpus=cpus))


def _struck(summary: Timing, verdict: Verdict, departure: str | None) -> Timing:
    """Return the times without a speed-up unless the case is equivalent and was so, too, while it was timed."""
    if verdict.equivalent and departure is None:
        return summary
    why = f"the case is {verdict.conclusion} ({verdict.reason})" if not verdict.equivalent else departure
    return msgspec.structs.replace(summary, speedup=None, efficiency=None, struck=why)


def _take_turns(session: Session, num_groups: int, num_rounds: int) -> list[Rows]:
    """Return, for each group, a row of epochs for each of its ranks."""
    taken: list[list[tuple[Epoch, ...]]] = [[] for _ in range(num_groups)]
    for number in range(num_rounds):
        for turn in range(num_groups):
            group = (turn + number) % num_groups
            taken[group].append(session.epoch(group))
    return [tuple(zip(*rounds, strict=True)) for rounds in taken]


def _seconds(epochs: tuple[Epoch, ...]) -> tuple[float, ...]:
    return tuple(epoch.end_s - epoch.start_s for epoch in epochs)


def _accuracy(serial: tuple[Trace, ...], parallel: tuple[Trace, ...], workload: Workload) -> Accuracy:
    own, other = serial[0].accuracy, parallel[0].accuracy
    assert own is not None, "a timed training ends with its held-out accuracy"
    assert other is not None, "a timed training ends with its held-out accuracy"
    epochs = workload.epochs + NUM_WARMUP
    return Accuracy(serial=own, parallel=other, num_held_out=parallel[0].num_held_out, epochs=epochs)


def _resources(parallel: tuple[Trace, ...], serial: tuple[Trace, ...]) -> dict[str, float | int]:
    """Return the peak memory of the hungriest rank, and of the serial run beside it, in bytes."""
    peaks = [trace.peak_memory_bytes or 0 for trace in parallel]
    return {"peak_memory_bytes": max(peaks), "serial_peak_memory_bytes": serial[0].peak_memory_bytes or 0}
