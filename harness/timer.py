"""Timing a case: its epochs interleaved with those of the serial runs it is held against, alone on the machine.

One round trains an epoch of each; whatever is not training is stopped. Each round has an order of its own, so that a
drift of the machine meets all of them, and so does what an epoch leaves behind for the next one (caches, clock). Rounds
go on until the speed-up is as precise as was asked, or the time is up:

    round 0 (warm-up)  parallel | one share | again | whole machine | per-rank batch | as many serial runs at once
    round 1            whole machine | parallel | per-rank batch | again | as many serial runs at once | one share
    round 2            again | ...
    at the end         parallel, profiled: not timed
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from harness import jobs, scratch
from harness.errors import RankError, UsageError
from harness.launchers.local import Group, Session
from harness.measure import epochs, machine, pipelines, sampling, timing, yardstick
from harness.measure.statistics import paired_ratio
from harness.oracles import accuracy as accuracies
from harness.record import Accuracy, Trace, Verdict
from harness.runner import Runner, once
from harness.spec import Arrangement, Case, Job, Workload
from harness.strategies import base as strategies
from harness.strategies.base import Strategy
from harness.timings import BaselineName, Epoch, Interval, Sampling, Scaling, Share, Timing, Used

NUM_WARMUP = 1
# The parallel run's place among the groups of a session.
PARALLEL = 0
EVERYDAY = sampling.Plan()
Rows = list[list[Epoch]]
# How many rounds were timed so far, and what finds the speed-up so far where one may be told.
OnRound = Callable[[int, Callable[[], Interval] | None], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How cases are timed.

    ``sampling`` says how precisely. ``scaling`` is strong (the global batch is the workload's) or weak (each rank's
    batch is). ``num_shares`` is into how many shares the machine's cores are cut, so that a rank owns the same at every
    world size; None for as many as a case has ranks. ``on_round`` is told of each timed round.
    """

    sampling: sampling.Plan = EVERYDAY
    scaling: Scaling = "strong"
    num_shares: int | None = None
    on_round: OnRound | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """What timing a case brings: its times, held-out accuracy serial and parallel, and what it used."""

    timing: Timing
    accuracy: Accuracy
    resources: dict[str, float | int]


@dataclass(kw_only=True, slots=True)
class Rounds:
    """What the rounds of one case have brought: for each group a row of epochs a rank, warm-up included."""

    epochs: list[Rows]
    sampling: Sampling | None = None
    yardstick_s: list[float] = field(default_factory=list)
    used: tuple[Used, ...] = ()
    traces: list[tuple[Trace, ...]] = field(default_factory=list)


class Timer:
    """Times cases, each against serial runs of its own."""

    def __init__(self, runner: Runner, settings: Settings | None = None) -> None:
        self._runner = runner
        self._settings = settings or Settings()
        self._timed: dict[str, Timed | RankError] = {}

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
        baselines = self._baselines(case, workload, serial, splits=strategy.whole)
        groups = [self._parallel(case, workload, strategy), *baselines.values()]
        places: dict[BaselineName, int] = {name: number for number, name in enumerate(baselines, PARALLEL + 1)}
        taken = self._train(groups, workload.epochs, over=places["one share"], equivalent=verdict.equivalent)
        # The serial run that trains the same: in weak scaling one share trains at the per-rank batch.
        alike = taken.traces[places["one share" if self._settings.scaling == "strong" else "whole machine"]]
        parallel = taken.traces[PARALLEL]
        accuracy = _accuracy(alike, parallel, num_epochs=len(taken.epochs[PARALLEL][0]))
        departure = accuracies.departure(alike[0].losses, parallel[0].losses, accuracy, verdict)
        summary = self._summary(case, groups, places, taken, strategy)
        return Timed(
            timing=_struck(summary, verdict, departure), accuracy=accuracy, resources=_resources(parallel, alike)
        )

    def _summary(
        self,
        case: Case,
        groups: Sequence[Group],
        places: Mapping[BaselineName, int],
        taken: Rounds,
        strategy: Strategy,
    ) -> Timing:
        first, told = taken.epochs[PARALLEL][0][0], taken.traces[PARALLEL]
        batch = groups[PARALLEL].jobs[0].workload.global_batch
        one, again = (epochs.walls(taken.epochs[places[name]]) for name in ("one share", "again"))
        summary = timing.summarise(
            parallel=taken.epochs[PARALLEL],
            baselines={
                name: _serial(groups[place], taken.epochs[place]) for name, place in places.items() if name != "again"
            },
            aa=(one, again),
            num_steps=-(-first.num_samples // batch),
            setting=timing.Setting(
                world_size=case.world_size,
                num_cores=machine.num_usable_cores() if case.device == "cpu" else machine.cuda_devices(),
                num_warmup=NUM_WARMUP,
                scaling=self._settings.scaling,
                # Ranks with shares of different sizes do another work than serial runs at the per-rank batch.
                comparable=strategy.comparable and batch % case.world_size == 0,
            ),
        )
        return msgspec.structs.replace(
            summary,
            sampling=taken.sampling,
            share=_share(groups[places["one share"]].jobs[0]),
            communication=tuple(trace.communication for trace in told if trace.communication is not None),
            pipeline=pipelines.joined([trace.pipeline for trace in told]),
            used=taken.used,
            yardstick_s=tuple(taken.yardstick_s[NUM_WARMUP:]),
        )

    def _train(self, groups: Sequence[Group], minimum: int, *, over: int, equivalent: bool) -> Rounds:
        """Train all groups in turns, at least ``minimum`` timed rounds; precise must be the speed-up over one group."""
        settings = self._runner.settings
        with (
            scratch.told(settings.scratch),
            self._runner.trainings.failing(groups),
            self._runner.pool.open(groups, timeout_s=settings.timeout_s) as session,
        ):
            taken = Rounds(epochs=[[[] for _ in group.jobs] for group in groups])
            began_s = time.monotonic()
            while taken.sampling is None:
                num_timed = _take_round(session, taken, groups) - NUM_WARMUP
                if num_timed == 0:
                    if self._settings.scaling == "weak":
                        _require_whole_batch(taken.epochs[PARALLEL][0][0].num_samples, groups[PARALLEL].jobs[0])
                    began_s = time.monotonic()
                    session.forget_used(PARALLEL)
                elif num_timed > 0:
                    taken.sampling = self._enough(taken, over, minimum, time.monotonic() - began_s)
                    if self._settings.on_round is not None:
                        so_far = functools.partial(paired_ratio, *_costs(taken, over)) if equivalent else None
                        self._settings.on_round(num_timed, so_far)
            taken.used = session.used(PARALLEL)
            session.epoch(PARALLEL, profile=True)
            taken.traces = [session.finish(number) for number in range(len(groups))]
        return taken

    def _enough(self, taken: Rounds, over: int, minimum: int, elapsed_s: float) -> Sampling | None:
        """Return why the rounds so far are enough, or None."""
        serial, parallel = _costs(taken, over)
        return sampling.decide(serial, parallel, self._settings.sampling, minimum=minimum, elapsed_s=elapsed_s)

    def _parallel(self, case: Case, workload: Workload, strategy: Strategy) -> Group:
        scaled = self._scaled(workload, case.world_size)
        template = self._runner.trainings.template(case, scaled, "timing")
        ranks = jobs.parallel(template, case, strategy, cpus=self._shares(case))
        return self._runner.trainings.group(strategy, ranks)

    def _baselines(
        self, case: Case, workload: Workload, serial: Strategy, *, splits: bool
    ) -> dict[BaselineName, Group]:
        """Return the serial runs; those at the per-rank batch only where the ranks split the batch."""
        shares, everything = self._shares(case), machine.cores()
        whole = self._scaled(workload, case.world_size)
        smaller = _with_batch(whole, max(1, whole.global_batch // case.world_size))
        strong = self._settings.scaling == "strong"
        share = whole if strong else smaller
        wanted: dict[BaselineName, tuple[Workload, list[tuple[int, ...]]]] = {
            "one share": (share, shares[:1]),
            "again": (share, shares[:1]),
            "whole machine": (whole, [everything]),
        }
        if splits:
            # In weak scaling one share trains at the per-rank batch anyway.
            wanted |= {"per-rank batch": (smaller, shares[:1])} if strong else {}
            wanted |= {"independent": (smaller, shares)}
        return {name: self._serial(case, serial, trained, cpus) for name, (trained, cpus) in wanted.items()}

    def _serial(self, case: Case, serial: Strategy, workload: Workload, cpus: Sequence[tuple[int, ...]]) -> Group:
        """Return as many serial trainings as there are shares, each on its own, and on its own GPU."""
        trainings = [
            msgspec.structs.replace(job, gpu=number)
            for number, own in enumerate(cpus)
            for job in jobs.serial(
                self._runner.trainings.template(case, workload, "timing"), case, serial, Arrangement(), cpus=own
            )
        ]
        return self._runner.trainings.group(serial, trainings)

    def _scaled(self, workload: Workload, world_size: int) -> Workload:
        """Return what the ranks train: in weak scaling each of them has the workload's batch."""
        strong = self._settings.scaling == "strong"
        return workload if strong else _with_batch(workload, workload.global_batch * world_size)

    def _shares(self, case: Case) -> list[tuple[int, ...]]:
        return machine.shares(case.world_size, self._settings.num_shares)


def _with_batch(workload: Workload, global_batch: int) -> Workload:
    return msgspec.structs.replace(workload, global_batch=max(global_batch, workload.accumulation))


def _take_round(session: Session, taken: Rounds, groups: Sequence[Group]) -> int:
    """Train an epoch of every group and measure the yardstick; return how many rounds there were so far."""
    number = len(taken.epochs[PARALLEL][0])
    job = groups[PARALLEL].jobs[0]
    if job.device == "cpu":  # it says nothing of a GPU's mood
        taken.yardstick_s.append(session.quietly(lambda: yardstick.seconds(machine.cores())))
    for group in np.random.default_rng(number).permutation(len(groups)).tolist():
        for row, epoch in zip(taken.epochs[group], session.epoch(group), strict=True):
            row.append(epoch)
    return number + 1


def _costs(taken: Rounds, over: int) -> tuple[list[float], list[float]]:
    """Return what a sample cost the serial and the parallel run in each timed round."""
    serial, parallel = (timing.costs(taken.epochs[group], NUM_WARMUP) for group in (over, PARALLEL))
    return serial, parallel


def _require_whole_batch(num_samples: int, job: Job) -> None:
    """Raise unless an epoch fills the batch that grew with the ranks: else each rank has less to do than serial."""
    if num_samples < job.workload.global_batch:
        raise UsageError(
            f"expected at least {job.workload.global_batch} samples, the batch of {job.world_size} ranks in weak "
            f"scaling, but an epoch has {num_samples}; time more samples, fewer ranks or a smaller batch"
        )


def _serial(group: Group, rows: Rows) -> timing.Serial:
    job = group.jobs[0]
    return timing.Serial(rows=rows, num_threads=job.num_threads, batch=job.workload.global_batch)


def _share(job: Job) -> Share:
    return Share(
        num_cores=len(job.cpus), num_threads=job.num_threads, device=job.device, memory_bytes=machine.memory_bytes()
    )


def _struck(summary: Timing, verdict: Verdict, departure: str | None) -> Timing:
    """Return the times without a speed-up unless the case is equivalent and was so, too, while it was timed."""
    if verdict.equivalent and departure is None:
        return summary
    why = f"the case is {verdict.conclusion} ({verdict.reason})" if not verdict.equivalent else departure
    return msgspec.structs.replace(summary, speedup=None, efficiency=None, claim=None, losses=(), struck=why)


def _accuracy(serial: tuple[Trace, ...], parallel: tuple[Trace, ...], *, num_epochs: int) -> Accuracy:
    own, other = serial[0].accuracy, parallel[0].accuracy
    assert own is not None, "a timed training ends with its held-out accuracy"
    assert other is not None, "a timed training ends with its held-out accuracy"
    return Accuracy(serial=own, parallel=other, num_held_out=parallel[0].num_held_out, epochs=num_epochs)


def _resources(parallel: tuple[Trace, ...], serial: tuple[Trace, ...]) -> dict[str, float | int]:
    """Return the peak memory of the hungriest rank, and of the serial run beside it, in bytes."""
    peaks = [trace.peak_memory_bytes or 0 for trace in parallel]
    return {"peak_memory_bytes": max(peaks), "serial_peak_memory_bytes": serial[0].peak_memory_bytes or 0}
