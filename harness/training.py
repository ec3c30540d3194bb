"""Starting trainings: the ranks of a case, and the reference runs that are computed once a session."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from harness import jobs, scratch
from harness.datasets import base as datasets
from harness.errors import HarnessError, MissingRequirementError
from harness.kept import KeptTraces
from harness.launchers import base as launchers
from harness.launchers.local import Group, Pool, RankFailure
from harness.models import base as models
from harness.record import Log, Trace
from harness.spec import Arrangement, Case, Job, Purpose, Workload
from harness.strategies import base as strategies
from harness.strategies.base import Strategy

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
        traces: the run's folder, where each case leaves what it was judged by; None leaves nothing.
        power: run mutants of every case, so that its verdict tells what it would catch.
    """

    scratch: Path
    logs: Path | None = None
    shared: bool = False
    data_root: str | None = None
    timeout_s: float = 60.0
    oversubscribe: bool = False
    fuzz: int | None = None
    traces: Path | None = None
    power: bool = True


class Trainings:
    """Starts processes; keeps the traces of reference runs in ``kept``, which several of these may share."""

    def __init__(self, settings: Settings, pool: Pool, kept: KeptTraces | None = None) -> None:
        self.settings = settings
        self.pool = pool
        self.kept = kept or KeptTraces(settings.scratch / "references")

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

    def beside(
        self,
        groups: Sequence[Group],
        case: Case,
        workload: Workload,
        serial: Strategy,
        wanted: Iterable[Arrangement],
    ) -> tuple[list[tuple[Trace, ...]], dict[Arrangement, Trace]]:
        """Run groups and, beside them, the serial runs that are not kept yet; return all that was asked for."""
        keys = {run: jobs.reference_key(workload, serial, run, case.device) for run in wanted}
        with scratch.told(self.settings.scratch), self.kept.claimed(keys.values()):
            if not self.settings.shared and scratch.scarce(self.settings.scratch):
                self.kept.forget_all_but(keys.values())
            found = {run: trace for run, key in keys.items() if (trace := self.kept.get(key)) is not None}
            absent = [run for run in keys if run not in found]
            shared = jobs.together(workload, serial, absent)
            processes = [
                self.group(serial, jobs.serial(self.template(case, workload), case, serial, *runs, cpus=()))
                for runs in shared
            ]
            results = self.run([*groups, *processes])
            for runs, traces in zip(shared, results[len(groups) :], strict=True):
                for run, trace in zip(runs, traces, strict=True):
                    self.kept.put(keys[run], trace)
                    found[run] = trace
        return results[: len(groups)], found

    def run(self, groups: Sequence[Group]) -> list[tuple[Trace, ...]]:
        """Run groups side by side."""
        with self.failing(groups):
            return self.pool.run(groups, timeout_s=self.settings.timeout_s) if groups else []

    @contextmanager
    def failing(self, groups: Sequence[Group]) -> Iterator[None]:
        """Of groups that fail within, keep the logs and delete the arrays."""
        try:
            yield
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
        """Copy the logs of a failed case to where they outlive the session, and let the error point there."""
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
            if isinstance(error, RankFailure):
                # A record points from its run's own folder, which may be moved.
                error.outputs = tuple(_moved(log, folder, self.settings.logs.parent, kept) for log in error.outputs)


def _moved(log: Log, folder: Path, run: Path, kept: Path) -> Log:
    path = Path(log.path)
    if path.parent != folder:
        return log
    return msgspec.structs.replace(log, path=str((kept / path.name).relative_to(run)))


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


def built_in(strategy: Strategy) -> bool:
    """Whether a strategy is of this package, and trains no function of a user's."""
    return _ours(strategy.function) and not strategy.function.startswith("harness.loops.torch_user:")


def all_ours(workload: Workload) -> bool:
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


def declared(strategy: Strategy, traces: Sequence[Trace]) -> tuple[Trace, ...]:
    """Return the traces with what their strategy declares that it cannot show."""
    return tuple(
        msgspec.structs.replace(trace, not_shown={**strategy.not_shown, **trace.not_shown}) for trace in traces
    )


def discard(traces: Iterable[Trace]) -> None:
    """Delete the arrays of traces that have been judged."""
    for trace in traces:
        for rung in trace.rungs.values():
            Path(rung.file).unlink(missing_ok=True)
