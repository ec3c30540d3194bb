"""From a case to its verdict and its times: starts ranks, keeps references, asks the oracle."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from harness import jobs, legs, scratch, trials, workloads
from harness import mutants as mutants_run
from harness.datasets import base as datasets
from harness.errors import HarnessError, MissingRequirementError, RankError
from harness.kept import KeptTraces
from harness.launchers import base as launchers
from harness.launchers.local import Group, Pool, RankFailure
from harness.models import base as models
from harness.oracles import determinism, frameworks, parity, spread
from harness.oracles.pair import Pair, observe
from harness.record import Trace, Verdict
from harness.spec import Arrangement, Case, Fault, Job, Leg, Mutant, Purpose, Workload
from harness.strategies import base as strategies
from harness.strategies.base import Strategy

V = TypeVar("V")
# Between a framework and the strategy that has a zygote of its own.
_OWN = " for "
_LACKING = f"raised {MissingRequirementError.__name__}: "


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What holds for every case of a session.

    Attributes:
        scratch: takes arrays, logs and prepared data.
        logs: takes the logs of ranks that failed, which outlive the scratch folder; None leaves them there.
        shared: other pytest workers of the session use ``scratch``, too.
        data_root: where data files lie.
        timeout_s: a rank without progress for so long has hung.
        oversubscribe: ranks may share one GPU, over gloo.
        fuzz: seeds random delays of parallel ranks whose equality is judged; None leaves them alone.
        power: run mutants of every case, so that its verdict tells what it would catch.
    """

    scratch: Path
    logs: Path | None = None
    shared: bool = False
    data_root: str | None = None
    timeout_s: float = 60.0
    oversubscribe: bool = False
    fuzz: int | None = None
    power: bool = True


class Runner:
    """Runs cases; verdicts and reference runs are computed once a session."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self.settings = settings
        self.pool = pool
        self._verdicts: dict[str, Verdict | RankError] = {}
        self._kept = KeptTraces(settings.scratch / "references")

    def shaken(self, seed: int) -> Runner:
        """Return a runner with the same ranks and references whose parallel ranks are delayed at random."""
        other = Runner(dataclasses.replace(self.settings, fuzz=seed), self.pool)
        other._kept = self._kept
        return other

    # -- equality ----------------------------------------------------------------------------------------------------

    def verdict(self, case: Case, workload: Workload | None = None, fault: Fault | None = None) -> Verdict:
        """Return whether the case computes what its reference computes.

        Raises:
            SpecError: the case cannot run.
            RankError: a rank raised, died or hung, now or when the case was asked for before.
            MissingRequirementError: a rank lacks what the case needs.
            StoreError: the scratch folder is full.
        """
        workload = workload or workloads.get(case.workload)
        jobs.validate(case, workload, strategies.get(case.strategy))
        key = f"{case.id} {workload.digest} {fault}"
        return once(self._verdicts, key, lambda: self._judge(case, workload, fault))

    def _judge(self, case: Case, workload: Workload, fault: Fault | None) -> Verdict:
        strategy = strategies.get(case.strategy)
        if strategy.equality == "statistical":
            verdict = trials.judge(workload, lambda seeded: self._pair(case, seeded, fault))
            return _alone(verdict) if case.world_size == 1 else verdict
        checked = jobs.in_dtype_of(strategy, workload)
        verdict = self._judge_once(case, checked, fault)
        if verdict.conclusion != "different" or jobs.exact(checked):
            return verdict
        # float32 can flip a ReLU or a max-pool tie: an alarm counts only if the same case alarms in float64 or, where
        # the engine has none, with other seeds. It is no pass either, since a bug may need float32 to show.
        for words, again in jobs.confirmations(strategy, checked):
            other = self._judge_once(case, again, fault)
            if other.equivalent:
                reason = (
                    f"{other.reason} {words}; in {jobs.precision(checked)} alone it {verdict.reason}. A flipped ReLU "
                    f"or a tie in max-pooling does that, and so does a bug that needs {jobs.precision(checked)}"
                )
                return msgspec.structs.replace(other, conclusion="inconclusive", reason=reason)
        return verdict

    def _judge_once(self, case: Case, workload: Workload, fault: Fault | None) -> Verdict:
        interrupted = workload.check.resume_at is not None
        judge = self._judge_legs if interrupted else self._judge_leg
        verdict = judge(case, workload, fault)
        return _alone(verdict) if case.world_size == 1 else verdict

    def _judge_legs(self, case: Case, workload: Workload, fault: Fault | None) -> Verdict:
        checkpoint = self.settings.scratch / "checkpoints"
        checkpoint.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=checkpoint))
        verdicts: list[Verdict] = []
        stages = legs.stages(workload, case.world_size, folder)
        for stage in stages:
            if all(verdict.equivalent for verdict in verdicts):
                ranks = msgspec.structs.replace(case, world_size=stage.world_size)
                verdicts.append(self._judge_leg(ranks, workload, fault, stage.leg))
        shutil.rmtree(folder)
        return legs.joint(verdicts, stages)

    def _judge_leg(self, case: Case, workload: Workload, fault: Fault | None, leg: Leg | None = None) -> Verdict:
        strategy = strategies.get(case.strategy)
        wanted = jobs.references(workload, strategy, case.world_size)
        mutants = self._mutants(case, workload, fault, leg)
        parallel, mutated, found = self._train(case, workload, wanted, fault, leg, mutants)
        reruns = [found[arrangement] for arrangement in wanted.reruns]
        dtype = jobs.precision(workload)
        verdict = parity.judge(
            reference=found[wanted.run],
            reruns=reruns,
            parallel=parallel,
            reference_name=wanted.name,
            dtype=dtype,
            accumulation=workload.accumulation,
        )
        if wanted.plain is not None:
            away = parity.compare(
                reference=found[wanted.plain],
                reruns=reruns,
                reruns_of=found[wanted.run],
                parallel=parallel,
                dtype=dtype,
            )
            verdict = msgspec.structs.replace(verdict, plain=away)
        if verdict.equivalent and not spread.shared(parallel):
            verdict = msgspec.structs.replace(verdict, conclusion="not-verified", reason=spread.NOTHING_SHARED)
        verdict = mutants_run.judged(verdict, mutated, reference=found[wanted.run], reruns=reruns, dtype=dtype)
        cut = found.values() if leg else ()
        _discard((*parallel, *(trace for _, traces in mutated for trace in traces), *cut))
        if verdict.conclusion == "different" or not _all_ours(workload):
            verdict = determinism.require(verdict, *self._twice(case, workload, wanted))
        return verdict

    def _twice(self, case: Case, workload: Workload, wanted: jobs.References) -> tuple[Trace, Trace]:
        """Return the reference and the same run once more, trained where no earlier case has left it."""
        strategy = strategies.get(case.strategy)
        serial = strategies.get(strategy.reference_of or strategy.name)
        again = jobs.again(wanted.run)
        _, found = self._beside([], case, legs.uninterrupted(workload), serial, (*wanted.all, again))
        return found[wanted.run], found[again]

    def _train(
        self,
        case: Case,
        workload: Workload,
        wanted: jobs.References,
        fault: Fault | None,
        leg: Leg | None = None,
        mutants: tuple[Mutant, ...] = (),
    ) -> tuple[tuple[Trace, ...], list[tuple[Mutant, tuple[Trace, ...]]], Mapping[Arrangement, Trace]]:
        """Run the ranks, with mutants of theirs, and, beside them, the reference runs that no earlier case has left."""
        strategy = strategies.get(case.strategy)
        serial = strategies.get(strategy.reference_of or strategy.name)
        template = msgspec.structs.replace(self.template(case, workload), leg=leg, mutants=mutants)
        ranks = jobs.parallel(template, case, strategy, cpus=[()] * case.world_size, fault=fault)
        one_go = legs.uninterrupted(workload)
        traces, found = self._beside([self.group(strategy, ranks)], case, one_go, serial, wanted.all)
        if leg is not None:
            # Reruns are named alike in the folders of their runs.
            folders = {run: Path(tempfile.mkdtemp(dir=template.directory)) for run in found}
            found = {run: legs.during(trace, leg, folders[run]) for run, trace in found.items()}
        own, *mutated = mutants_run.apart(_declared(strategy, traces[0]), len(ranks), len(mutants))
        return own, list(zip(mutants, mutated, strict=True)), found

    def _mutants(self, case: Case, workload: Workload, fault: Fault | None, leg: Leg | None) -> tuple[Mutant, ...]:
        """Return what the verdict's power is measured with; nothing where something is wrong, or shaken, already."""
        if not self.settings.power or self.settings.fuzz is not None or fault is not None or (leg and leg.first):
            return ()
        last = leg.last if leg else workload.check.num_steps
        return mutants_run.of(case, workload, strategies.get(case.strategy), last=last)

    def _pair(self, case: Case, workload: Workload, fault: Fault | None) -> Pair:
        """Train one seed in parallel and, beside it, serially where no earlier case has left that."""
        strategy = strategies.get(case.strategy)
        serial = strategies.get(strategy.reference_of or strategy.name)
        place = str(self.settings.scratch / "datasets")
        data = datasets.load(addressed(workload), cache=place, data_root=self.settings.data_root)
        workload = trials.training(workload, data, strategy.dtypes)
        run = jobs.references(workload, strategy, case.world_size).run
        # Of this run only a part is kept.
        key = f"part-{jobs.reference_key(workload, serial, run, case.device)}"
        ranks = jobs.parallel(self.template(case, workload), case, strategy, cpus=[()] * case.world_size, fault=fault)
        with scratch.told(self.settings.scratch), self._kept.claimed([key]):
            if (reference := self._kept.get(key)) is not None:
                (traces,) = self._run([self.group(strategy, ranks)])
            else:
                alone = jobs.serial(self.template(case, workload), case, serial, run, cpus=())
                traces, (whole,) = self._run([self.group(strategy, ranks), self.group(serial, alone)])
                reference = trials.pared(whole)
                self._kept.put(key, reference)
        found = observe(
            seed=workload.seed,
            reference=reference,
            parallel=_declared(strategy, traces),
            labels=data.held_out_labels,
            accumulation=workload.accumulation,
        )
        if "parameters" not in strategy.not_shown and not spread.shared(traces):
            found = dataclasses.replace(found, alone=True)
        _discard(traces)
        return found

    def _beside(
        self,
        groups: Sequence[Group],
        case: Case,
        workload: Workload,
        serial: Strategy,
        wanted: Iterable[Arrangement],
    ) -> tuple[list[tuple[Trace, ...]], dict[Arrangement, Trace]]:
        """Run groups and, beside them, the serial runs that are not kept yet; return all that was asked for."""
        keys = {run: jobs.reference_key(workload, serial, run, case.device) for run in wanted}
        with scratch.told(self.settings.scratch), self._kept.claimed(keys.values()):
            if not self.settings.shared and scratch.scarce(self.settings.scratch):
                self._kept.forget_all_but(keys.values())
            found = {run: trace for run, key in keys.items() if (trace := self._kept.get(key)) is not None}
            absent = [run for run in keys if run not in found]
            shared = jobs.together(workload, serial, absent)
            processes = [
                self.group(serial, jobs.serial(self.template(case, workload), case, serial, *runs, cpus=()))
                for runs in shared
            ]
            results = self._run([*groups, *processes])
            for runs, traces in zip(shared, results[len(groups) :], strict=True):
                for run, trace in zip(runs, traces, strict=True):
                    self._kept.put(keys[run], trace)
                    found[run] = trace
        return results[: len(groups)], found

    def _run(self, groups: Sequence[Group]) -> list[tuple[Trace, ...]]:
        """Run groups side by side; of those that fail, the logs stay and the arrays go."""
        try:
            return self.pool.run(groups, timeout_s=self.settings.timeout_s) if groups else []
        except HarnessError as error:
            for folder in {Path(job.directory) for group in groups for job in group.jobs}:
                self._keep_logs(folder, error)
                for file in folder.rglob("*.npy*"):
                    file.unlink(missing_ok=True)
            if isinstance(error, RankFailure) and error.cause.startswith(_LACKING):
                # A rank that lacks something is no failure: the case is skipped, like one that is known to lack it.
                raise MissingRequirementError(error.cause.removeprefix(_LACKING)) from error
            raise

    def _keep_logs(self, folder: Path, error: HarnessError) -> None:
        """Copy the logs of a failed case to where they outlive the session, and let the error's words point there."""
        if self.settings.logs is None:
            return
        kept = self.settings.logs / folder.name
        try:
            kept.mkdir(parents=True, exist_ok=True)
            for log in folder.glob("*.log"):
                shutil.copy(log, kept)
        except OSError as refused:
            error.add_note(f"the logs of the ranks could not be kept in {kept}: {refused}")
        else:
            error.args = tuple(str(part).replace(str(folder), str(kept)) for part in error.args)

    def frameworks(self, workload: Workload, first: str = "torch-serial", second: str = "keras-serial") -> Verdict:
        """Return whether two serial strategies, from the same seed weights, compute the same, layer by layer."""
        sides = []
        check = msgspec.structs.replace(workload.check, activations=True)
        workload = msgspec.structs.replace(workload, check=check)
        for name in (first, second):
            case = Case(workload=workload.name, strategy=name, world_size=1)
            jobs.validate(case, workload, strategies.get(name))
            reference, *reruns = jobs.plain_runs(workload)
            _, found = self._beside([], case, workload, strategies.get(name), (reference, *reruns))
            sides.append((found[reference], [found[rerun] for rerun in reruns]))
        (own, own_reruns), (other, other_reruns) = sides
        return frameworks.judge_frameworks(
            first=own,
            second=other,
            first_reruns=own_reruns,
            second_reruns=other_reruns,
            names=(first, second),
            dtype=workload.check.dtype,
        )

    # -- what equality and timing share ------------------------------------------------------------------------------

    def template(self, case: Case, workload: Workload, purpose: Purpose = "parity") -> Job:
        """Return a job in a fresh folder, to be completed for each rank."""
        place = self.settings.scratch / "cases"
        place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{case.strategy}-", dir=place))
        return Job(
            function="-:-",
            strategy="-",
            workload=addressed(workload),
            purpose=purpose,
            device=case.device,
            environment=jobs.arithmetic(case.device),
            backend="gloo" if self.settings.oversubscribe and case.device == "cuda" else "",
            directory=str(folder),
            cache=str(self.settings.scratch / "datasets"),
            data_root=self.settings.data_root,
            rendezvous=str(folder / "rendezvous"),
            fuzz=self.settings.fuzz if purpose == "parity" else None,
        )

    def group(self, strategy: Strategy, ranks: Sequence[Job]) -> Group:
        """Return the processes of one training, with what their launcher must prepare."""
        return Group(family=_family(strategy), jobs=launchers.get(strategy.launcher)(ranks))


def once(known: dict[str, V | RankError], key: str, compute: Callable[[], V]) -> V:
    """Return what is known under ``key``, computed when first asked for; a failure of ranks is remembered, too.

    So a hang is not waited for again by every test of its case.
    """
    if key not in known:
        try:
            known[key] = compute()
        except RankError as error:
            known[key] = error
    found = known[key]
    if isinstance(found, RankError):
        raise found.with_traceback(None)
    return found


def _family(strategy: Strategy) -> str:
    """Return whose zygote forks a strategy's ranks.

    What a zygote imports is there in references, too, and may patch the framework: a strategy from elsewhere that asks
    for imports of its own gets a zygote of its own.
    """
    shared = _ours(strategy.function) or not strategy.preload
    return strategy.framework if shared else f"{strategy.framework}{_OWN}{strategy.name}"


def addressed(workload: Workload) -> Workload:
    """Return the workload with its own model and dataset named so that a rank, which sees no conftest, finds them."""
    model, dataset = models.registry.address(workload.model), datasets.registry.address(workload.dataset)
    own = {name: where for name, where in (("model", model), ("dataset", dataset)) if not _ours(where)}
    return msgspec.structs.replace(workload, **own)


def _all_ours(workload: Workload) -> bool:
    """Whether model and dataset are of this package, which is known to repeat itself."""
    places = models.registry.address(workload.model), datasets.registry.address(workload.dataset)
    return all(map(_ours, places))


def _ours(place: str) -> bool:
    """Whether an address (``module:function`` or ``file.py:function``) lies in this package."""
    return place.startswith(("harness.", f"{Path(__file__).resolve().parent}/"))


def preload(family: str) -> tuple[str, ...]:
    """Return the modules that the zygote of a framework family imports: all that a rank would otherwise import.

    These are the ones that its installed strategies ask for, and the built-in datasets and models.
    """
    framework = family.partition(_OWN)[0]
    known = [s for s in strategies.strategies().values() if _family(s) in (family, framework) and s.missing() is None]
    asked = dict.fromkeys(module for strategy in known for module in strategy.preload)
    return (*asked, *datasets.registry.modules(), *models.registry.modules())


def _declared(strategy: Strategy, traces: Sequence[Trace]) -> tuple[Trace, ...]:
    """Return the traces with what their strategy declares that it cannot show."""
    return tuple(
        msgspec.structs.replace(trace, not_shown={**strategy.not_shown, **trace.not_shown}) for trace in traces
    )


def _discard(traces: Iterable[Trace]) -> None:
    """Delete the arrays of traces that have been judged."""
    for trace in traces:
        for rung in trace.rungs.values():
            Path(rung.file).unlink(missing_ok=True)


def _alone(verdict: Verdict) -> Verdict:
    """A single rank proves nothing about parallelism, however equal it is."""
    if not verdict.equivalent:
        return verdict
    reason = "one rank is no parallelism, though it computes what its reference computes"
    return msgspec.structs.replace(verdict, conclusion="not-verified", reason=reason)
