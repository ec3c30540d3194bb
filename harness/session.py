"""What a pytest session holds: its options, its runner, and what each case has come to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import msgspec

from harness import jobs, scratch, support, timer, trials
from harness.cases import Offer, Selection, share_gpu
from harness.errors import MissingRequirementError, UsageError
from harness.history import AUTO, FLOOR, History, refused
from harness.launchers.local import Pool, RankFailure
from harness.measure import machine
from harness.measure.sampling import Plan
from harness.record import Accuracy, Conclusion, Log, Record, Verdict
from harness.runner import Runner
from harness.spec import Case, Workload
from harness.timer import EVERYDAY, OnRound, Timer
from harness.timings import Compared, Scaling, Timing
from harness.training import Settings, preload

SHARED_GPU = "one, shared by all ranks, over gloo"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The ``--ls-*`` options of a session; ``run`` and ``scratch`` are the same in every pytest worker."""

    run: str
    report_dir: Path
    selection: Selection
    scratch: Path | None
    timeout_s: float
    num_gpus_required: int = 0
    fuzz: int | None = None
    power: bool = True
    keep_traces: bool = False
    sampling: Plan = EVERYDAY
    scaling: Scaling = "strong"
    compare_to: str | None = None
    fail_slower: float | None = None
    allow: tuple[str, ...] = ()


class Harness:
    """The runner of this pytest process, started when the first case needs it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        # The largest world size that is timed: what a rank owns then, it owns at every world size.
        self.most_ranks = 0
        # Told of each timed round, where somebody may watch.
        self.on_round: OnRound | None = None
        # The cases of which it was said that they got slower.
        self.told: set[str] = set()

    @cached_property
    def scratch(self) -> Path:
        """The session's scratch folder; the process that makes it removes it."""
        return self.options.scratch or scratch.create()

    @cached_property
    def runner(self) -> Runner:
        """Runs the cases of this process."""
        settings = Settings(
            scratch=self.scratch,
            logs=self.options.report_dir / self.options.run / "logs",
            shared=self.options.scratch is not None,
            data_root=self.options.selection.data_root,
            timeout_s=self.options.timeout_s,
            oversubscribe=self.options.selection.oversubscribe,
            fuzz=self.options.fuzz,
            power=self.options.power,
            traces=self.options.report_dir / self.options.run if self.options.keep_traces else None,
        )
        return Runner(settings, Pool(preload))

    @cached_property
    def environment(self) -> dict[str, str | float | int]:
        """Where this session runs, looked at once."""
        return machine.environment()

    @cached_property
    def timer(self) -> Timer:
        """Times the cases of this process."""
        settings = timer.Settings(
            sampling=self.options.sampling,
            scaling=self.options.scaling,
            num_shares=self.most_ranks or None,
            on_round=self.on_round,
        )
        return Timer(self.runner, settings)

    @cached_property
    def history(self) -> History | None:
        """The earlier runs that times are compared with, where that was asked for.

        Raises:
            UnknownNameError: no such run; StoreError: it cannot be read, or was written under another schema.
        """
        own = self.options
        if own.compare_to is None:
            return None
        return History(own.report_dir, own.compare_to, allow=own.allow, own=own.run)

    def close(self) -> None:
        """End every zygote, with it every rank, and remove the scratch folder if it was made here."""
        if "runner" in self.__dict__:
            self.runner.pool.close()
        if "scratch" in self.__dict__ and self.options.scratch is None:
            scratch.remove(self.scratch)


@dataclass(kw_only=True, slots=True)
class Run:
    """One case on its way through one test; what is asked of it is computed once and kept for the record.

    ``alone`` says whether the test has the machine to itself, as timing needs.
    """

    harness: Harness
    offer: Offer
    alone: bool = False
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    began_s: float = field(default_factory=time.monotonic)
    found: Verdict | None = None
    times: Timing | None = None
    learnt: Accuracy | None = None
    resources: dict[str, float | int] = field(default_factory=dict)
    logs: tuple[Log, ...] = ()

    @property
    def case(self) -> Case:
        """The case."""
        return self.offer.case

    @property
    def workload(self) -> Workload:
        """What is trained."""
        return self.offer.workload

    def verdict(self) -> Verdict:
        """Return whether the case computes what its reference computes."""
        if self.found is None:
            runner = self.harness.runner
            try:
                self.found = runner.verdict(self.case, self.workload)
            finally:
                self.logs = runner.logs(self.case, self.workload)
        return self.found

    def timing(self) -> Timing:
        """Return the case's times; a case that is not equivalent has them struck out.

        Raises:
            UsageError: other tests may run beside this one.
        """
        if not self.alone:
            raise UsageError(
                "expected a test that asks for the fixture timing, so that it has the machine to itself, but this one "
                "does not; add timing to its arguments"
            )
        if self.times is None:
            verdict = self.verdict()
            try:
                timed = self.harness.timer.time(self.case, self.workload, verdict)
            except RankFailure as failure:
                self.logs = failure.outputs
                raise
            self.times, self.learnt, self.resources = timed.timing, timed.accuracy, timed.resources
            if self.harness.history is not None:
                self.times = msgspec.structs.replace(timed.timing, compared=self._compared(self.harness.history))
        return self.times

    def slower(self) -> str | None:
        """Return why the case's time is not accepted, once a session, else None.

        It got slower than is allowed, or it cannot be compared though the run that was named has a time of it.
        """
        own = self.harness.options
        compared = self.times.compared if self.times is not None else None
        if own.fail_slower is None or compared is None or self.case.id in self.harness.told:
            return None
        if compared.outcome == "slower":
            told = f"got slower than --ls-fail-slower {100 * own.fail_slower:g}% allows: {compared.words}"
        elif compared.refused and own.compare_to != AUTO:
            allowing = " ".join(f"--ls-allow-difference {kind}" for kind in compared.allow)
            told = f"--ls-fail-slower cannot be answered: {compared.words}" + (f" ({allowing})" if allowing else "")
        else:
            return None
        self.harness.told.add(self.case.id)
        return f"{self.case.id}: {told}"

    def _compared(self, history: History) -> Compared:
        now = record(self.harness, self.offer, done=self, failure=None, failed=False, test="", command="")
        floor = self.harness.options.fail_slower or FLOOR
        try:
            return history.against(now, floor)
        except MissingRequirementError as error:  # the times are worth keeping
            return refused("", str(error), floor, timed_before=True)

    def accuracy(self) -> Accuracy:
        """Return the held-out accuracy of the serial and the parallel training that were timed."""
        self.timing()
        assert self.learnt is not None, "timing trains to the end"
        return self.learnt


def record(
    harness: Harness,
    offer: Offer,
    *,
    done: Run | None,
    failure: str | None,
    failed: bool,
    test: str,
    command: str,
) -> Record:
    """Return what is known of a case after a test: judged, failed on the way, or (``done`` None) never run."""
    case, workload = offer.case, offer.workload
    verdict = done.found if done else None
    conclusion: Conclusion = verdict.conclusion if verdict else "not-verified"
    reason = verdict.reason if verdict else failure or offer.lacks or "the test ended before a verdict"
    if verdict and failure and done and done.alone and done.times is None:
        reason += f"; not timed: {failure}"
    return Record(
        run=harness.options.run,
        case=case.id,
        strategy=case.strategy,
        framework=offer.strategy.framework,
        workload=case.workload,
        workload_digest=workload.digest,
        world_size=case.world_size,
        device=case.device,
        dtype=_precision(offer),
        reference=verdict.reference if verdict else "plain",
        features=settings(workload) | ({"gpus": SHARED_GPU} if share_gpu(case, harness.options.selection) else {}),
        verdict=conclusion,
        finding=support.finding(workload, offer.strategy) or "",
        failed=failed and verdict is None,
        reason=reason,
        evidence=verdict,
        divergence=verdict.divergence if verdict else None,
        margin=verdict.margin if verdict else None,
        accuracy=done.learnt if done else None,
        timing=done.times if done else None,
        resources=done.resources if done else {},
        environment={**harness.environment, **jobs.arithmetic(case.device), **_shaken(harness.options)},
        command=command,
        started=done.started if done else "",
        duration_s=time.monotonic() - done.began_s if done else 0.0,
        test=test,
        logs=done.logs if done else (),
        traces=harness.runner.notes.told(case, workload, harness.options.fuzz) if verdict else "",
    )


def _shaken(options: Options) -> dict[str, int]:
    """Return the seed of the delays by which a session shakes its ranks."""
    return {} if options.fuzz is None else {"schedule_fuzz": options.fuzz}


def _precision(offer: Offer) -> str:
    """Return the precision in which a case is judged."""
    if offer.strategy.equality == "statistical":
        return trials.dtype(offer.strategy.dtypes)
    return jobs.precision(jobs.in_dtype_of(offer.strategy, offer.workload))


def settings(workload: Workload) -> dict[str, str | float | int]:
    """Return the settings of a workload that a reader compares."""
    optimizer, check = workload.optimizer, workload.check
    chosen: dict[str, str | float | int] = {
        "model": " ".join([workload.model, *(f"{key}={value}" for key, value in workload.model_options.items())]),
        "dataset": workload.dataset,
        "optimizer": "sgd, Nesterov" if optimizer.nesterov else optimizer.name,
        "weight_decay": optimizer.weight_decay,
        "accumulation": workload.accumulation,
        "global_batch": workload.global_batch,
        "dropout": workload.dropout,
        "augment": workload.augment,
        "timing_dtype": workload.dtype,
    }
    if workload.schedule.gamma != 1:
        chosen["schedule"] = f"x{workload.schedule.gamma:g} every {workload.schedule.every} epoch(s)"
    if check.resume_at is not None:
        chosen["resumed"] = f"at step {check.resume_at} by {check.resume_ranks or 'as many'} ranks"
    told: dict[str, str | float | int | None] = {
        "clip_norm": workload.clip_norm,
        "clip_value": workload.clip_value,
        "frozen": ", ".join(workload.frozen) or None,
        "precision": workload.precision if workload.precision != "full" else None,
    }
    return chosen | {name: value for name, value in told.items() if value is not None}
