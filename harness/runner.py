"""From a case to its verdict and its times: starts ranks, keeps references, asks the oracle."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from harness import jobs, legs, scratch, support, trials, workloads
from harness import mutants as mutants_run
from harness.contract import adopt
from harness.datasets import base as datasets
from harness.errors import HarnessError, RankError
from harness.evidence import question
from harness.evidence.keeping import Notes
from harness.kept import KeptTraces
from harness.launchers import outputs
from harness.launchers.local import Pool, RankFailure
from harness.oracles import determinism, frameworks
from harness.oracles.pair import Pair
from harness.record import Log, Trace, Verdict
from harness.spec import Arrangement, Case, Fault, Job, Leg, Mutant, Workload
from harness.strategies import base as strategies
from harness.training import Settings, Trainings, addressed, all_ours, built_in, declared, discard

V = TypeVar("V")
ALONE = "the function, alone on one rank"


class Runner:
    """Runs cases; verdicts and reference runs are computed once a session."""

    def __init__(self, settings: Settings, pool: Pool, kept: KeptTraces | None = None) -> None:
        self.settings = settings
        self.pool = pool
        self.trainings = Trainings(settings, pool, kept)
        self.notes = Notes(settings.traces)
        self._verdicts: dict[str, Verdict | RankError] = {}
        # What the ranks of the latest training printed, and by case those of its last one.
        self._heard: tuple[Log, ...] = ()
        self._logs: dict[str, tuple[Log, ...]] = {}

    def shaken(self, seed: int) -> Runner:
        """Return a runner with the same ranks and references whose parallel ranks are delayed at random."""
        return Runner(dataclasses.replace(self.settings, fuzz=seed), self.pool, self.trainings.kept)

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
        key = _key(case, workload, fault)
        return once(self._verdicts, key, lambda: self._listened(key, case, workload, fault))

    def logs(self, case: Case, workload: Workload, fault: Fault | None = None) -> tuple[Log, ...]:
        """Return what the ranks printed when the case was judged, in the last training that this took."""
        return self._logs.get(_key(case, workload, fault), ())

    def _listened(self, key: str, case: Case, workload: Workload, fault: Fault | None) -> Verdict:
        self._heard = ()
        try:
            return self._noted(case, workload, fault)
        finally:
            self._logs[key] = self._heard

    @contextmanager
    def _listening(self, ranks: Sequence[Job]) -> Iterator[None]:
        """Take note of what ranks print, however their training ends."""
        try:
            yield
        except RankFailure as failure:
            self._heard = failure.outputs
            raise
        except HarnessError:
            self._heard = outputs.of(ranks, outputs.FAILED)
            raise
        self._heard = outputs.of(ranks)

    def _noted(self, case: Case, workload: Workload, fault: Fault | None) -> Verdict:
        """Judge a case and, where that was asked for, keep what it is judged by."""
        with self.notes.case():
            verdict = self._judge(case, workload, fault)
            self.notes.end(case, workload, fault, self.settings.fuzz, verdict)
        return verdict

    def _judge(self, case: Case, workload: Workload, fault: Fault | None) -> Verdict:
        strategy = strategies.get(case.strategy)
        if strategy.equality == "statistical":
            verdict = trials.judge(workload, lambda seeded: self._pair(case, seeded, fault))
            return question.alone(verdict) if case.world_size == 1 else verdict
        checked = jobs.in_dtype_of(strategy, workload)
        verdict = self.judge_once(case, checked, fault)
        self.notes.training()
        if verdict.conclusion != "different" or jobs.exact(checked):
            return verdict
        # float32 can flip a ReLU or a max-pool tie: an alarm counts only if the same case alarms in float64 or, where
        # the engine has none, with other seeds. It is no pass either, since a bug may need float32 to show.
        for words, again in jobs.confirmations(strategy, checked):
            other = self.judge_once(case, again, fault)
            self.notes.training(words)
            if other.equivalent:
                return question.unconfirmed(verdict, other, words, jobs.precision(checked))
        return verdict

    def judge_once(self, case: Case, workload: Workload, fault: Fault | None = None) -> Verdict:
        """Return the verdict of one training in the precision of the workload's check; nothing confirms an alarm."""
        interrupted = workload.check.resume_at is not None
        judge = self._judge_legs if interrupted else self._judge_leg
        verdict = judge(case, workload, fault)
        return question.alone(verdict) if case.world_size == 1 else verdict

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
        try:
            parallel, mutated, found = self._train(case, workload, wanted, fault, leg=leg, mutants=mutants)
        except RankError:
            # A user's own training may refuse a mutant, by an assertion of its own for one; then it goes without.
            if not mutants or built_in(strategy):
                raise
            parallel, mutated, found = self._train(case, workload, wanted, fault, leg=leg, mutants=())
        asked = question.Judged(
            reference=found[wanted.run],
            reruns=tuple(found[arrangement] for arrangement in wanted.reruns),
            ranks=parallel,
            reference_name=wanted.name,
            dtype=jobs.precision(workload),
            context=jobs.context(case, workload, strategy, leg),
            plain=found[wanted.plain] if wanted.plain is not None else None,
            mutants=tuple(question.Mutated(mutant=mutant, ranks=traces) for mutant, traces in mutated),
            leg=leg,
        )
        verdict = question.judge(asked)
        self.notes.leg(asked)
        cut = found.values() if leg else ()
        discard((*parallel, *(trace for _, traces in mutated for trace in traces), *cut))
        if verdict.conclusion == "different" or not all_ours(workload):
            verdict = self._repeated(verdict, *self._twice(case, workload, wanted))
        if verdict.conclusion == "different" and adopt.takes_function(strategy):
            # On one rank it may fail for want of peers, which says nothing of what it did with them.
            with suppress(RankError):
                verdict = self._repeated(verdict, *self._twice_alone(case, workload), who=ALONE)
        return verdict

    def _repeated(self, verdict: Verdict, first: Trace, again: Trace, who: str = determinism.REFERENCE) -> Verdict:
        self.notes.repeat(first, again, who)
        return determinism.require(verdict, first, again, who=who)

    def _twice(self, case: Case, workload: Workload, wanted: jobs.References) -> tuple[Trace, Trace]:
        """Return the reference and the same run once more, trained where no earlier case has left it."""
        strategy = strategies.get(case.strategy)
        serial = strategies.get(strategy.reference_of or strategy.name)
        again = jobs.again(wanted.run)
        _, found = self.trainings.beside([], case, legs.uninterrupted(workload), serial, (*wanted.all, again))
        return found[wanted.run], found[again]

    def _twice_alone(self, case: Case, workload: Workload) -> tuple[Trace, Trace]:
        """Train with a user's function on one rank, twice, the random numbers of libraries beginning elsewhere."""
        single, one_go = msgspec.structs.replace(case, world_size=1), legs.uninterrupted(workload)
        strategy = strategies.get(case.strategy)
        groups = []
        for number in range(2):
            job = self.trainings.template(single, one_go)
            own = msgspec.structs.replace(job, arrangement=Arrangement(again=number))
            groups.append(self.trainings.group(strategy, jobs.parallel(own, single, strategy, cpus=[()])))
        (first,), (again,) = self.trainings.run(groups)
        return first, again

    def _train(
        self,
        case: Case,
        workload: Workload,
        wanted: jobs.References,
        fault: Fault | None,
        *,
        leg: Leg | None,
        mutants: tuple[Mutant, ...],
    ) -> tuple[tuple[Trace, ...], list[tuple[Mutant, tuple[Trace, ...]]], Mapping[Arrangement, Trace]]:
        """Run the ranks, with mutants of theirs, and, beside them, the reference runs that no earlier case has left."""
        strategy = strategies.get(case.strategy)
        serial = strategies.get(strategy.reference_of or strategy.name)
        within = mutants if strategy.repeats else ()
        template = msgspec.structs.replace(self.trainings.template(case, workload), leg=leg, mutants=within)
        cpus = [()] * case.world_size
        ranks = jobs.parallel(template, case, strategy, cpus=cpus, fault=fault)
        groups = [self.trainings.group(strategy, ranks)]
        for mutant in mutants[len(within) :]:
            own = msgspec.structs.replace(self.trainings.template(case, workload), leg=mutant.leg)
            strange = jobs.parallel(own, case, strategy, cpus=cpus, fault=mutant.fault)
            groups.append(self.trainings.group(strategy, strange))
        one_go = legs.uninterrupted(workload)
        with self._listening(ranks):
            (traces, *others), found = self.trainings.beside(groups, case, one_go, serial, wanted.all)
        if leg is not None:
            # Reruns are named alike in the folders of their runs.
            folders = {run: Path(tempfile.mkdtemp(dir=template.directory)) for run in found}
            found = {run: legs.during(trace, leg, folders[run]) for run, trace in found.items()}
        parallel, *mutated = mutants_run.apart(declared(strategy, traces), len(ranks), len(within))
        mutated += [declared(strategy, other) for other in others]
        return parallel, list(zip(mutants, mutated, strict=True)), found

    def _mutants(self, case: Case, workload: Workload, fault: Fault | None, leg: Leg | None) -> tuple[Mutant, ...]:
        """Return what the verdict's power is measured with; nothing where something is wrong, or shaken, already."""
        strategy = strategies.get(case.strategy)
        expected_sound = fault is None and support.finding(workload, strategy) is None
        if not self.settings.power or self.settings.fuzz is not None or not expected_sound or (leg and leg.first):
            return ()
        last = leg.last if leg else workload.check.num_steps
        return mutants_run.of(case, workload, strategy, last=last)

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
        template = self.trainings.template(case, workload)
        ranks = jobs.parallel(template, case, strategy, cpus=[()] * case.world_size, fault=fault)
        group = self.trainings.group(strategy, ranks)
        with self._listening(ranks), scratch.told(self.settings.scratch), self.trainings.kept.claimed([key]):
            if (reference := self.trainings.kept.get(key)) is not None:
                (traces,) = self.trainings.run([group])
            else:
                alone = jobs.serial(self.trainings.template(case, workload), case, serial, run, cpus=())
                traces, (whole,) = self.trainings.run([group, self.trainings.group(serial, alone)])
                reference = trials.pared(whole)
                self.trainings.kept.put(key, reference)
        seed = question.Seed(
            seed=workload.seed,
            reference=reference,
            ranks=declared(strategy, traces),
            accumulation=workload.accumulation,
            weighed="parameters" not in strategy.not_shown,
        )
        found = question.pair(seed, data.held_out_labels)
        self.notes.seed(seed, data.held_out_labels)
        discard(traces)
        return found

    def frameworks(self, workload: Workload, first: str = "torch-serial", second: str = "keras-serial") -> Verdict:
        """Return whether two serial strategies, from the same seed weights, compute the same, layer by layer."""
        sides = []
        check = msgspec.structs.replace(workload.check, activations=True)
        workload = msgspec.structs.replace(workload, check=check)
        for name in (first, second):
            case = Case(workload=workload.name, strategy=name, world_size=1)
            jobs.validate(case, workload, strategies.get(name))
            reference, *reruns = jobs.plain_runs(workload)
            _, found = self.trainings.beside([], case, workload, strategies.get(name), (reference, *reruns))
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


def _key(case: Case, workload: Workload, fault: Fault | None) -> str:
    return f"{case.id} {workload.digest} {fault}"


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
