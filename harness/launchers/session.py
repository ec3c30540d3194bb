"""A session: the freshly forked ranks of some trainings, side by side or in turns, from their start to their end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from harness.errors import TraceError
from harness.launchers import guardian, outputs, pause, ranks
from harness.launchers.causes import RankFailure
from harness.launchers.family import Family, Stray
from harness.launchers.meter import Meter
from harness.launchers.ranks import Rank, case_of, kill
from harness.launchers.supervise import KILL_S, Watch, failure
from harness.measure import sound
from harness.record import Trace
from harness.spec import Job
from harness.timings import Epoch, Used
from harness.wire import Message, Turn

OnEvent = Callable[[int, Message], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The ranks of one training: a job for each of its processes, forked from the zygote of ``family``."""

    family: str
    jobs: tuple[Job, ...]


class Session:
    """Freshly forked ranks of some trainings; made by Pool.open.

    Every method raises RankFailure when a rank raised, died, hung or left something behind, and ZygoteLostError when a
    zygote died; all ranks of all groups are dead by then. While ``metered``, what ranks use in their epochs is read.
    """

    metered = True

    def __init__(
        self,
        groups: Sequence[Group],
        families: Sequence[Family],
        timeout_s: float,
        on_event: OnEvent | None,
    ) -> None:
        self._groups = tuple(groups)
        self._families = {family.name: family for family in families}
        # The others may still import, or even die, without these ranks being concerned.
        self._used = [self._families[name] for name in dict.fromkeys(group.family for group in groups)]
        self._watch = Watch(self._used, timeout_s, on_event)
        self._stopped: list[int] = []
        self._meters: dict[int, Meter] = {}
        self._checked = False

    def start(self) -> None:
        """Fork every rank and send it its job."""
        for number, group in enumerate(self._groups):
            for job in group.jobs:
                label = f"rank {job.rank}" if len(self._groups) == 1 else f"{job.strategy} rank {job.rank}"
                family, index = self._families[group.family], len(self._watch.ranks)
                self._watch.add(ranks.start(family, job, group=number, index=index, label=label))

    def results(self) -> list[tuple[Trace, ...]]:
        """Wait until every rank is done and return the traces of each group, ordered by rank."""
        self._reach(lambda: all(rank.traces is not None for rank in self._watch.ranks))
        self._leave(self._watch.ranks)
        return [self._traces(number) for number in range(len(self._groups))]

    def epoch(self, group: int, *, profile: bool = False, parts: bool = True) -> tuple[Epoch, ...]:
        """Let all ranks of a group train one epoch while everything else of the pool is stopped; return their epochs.

        One to ``profile`` is looked at closely, which takes time; without ``parts`` it is timed as a whole. It begins
        once every rank of every group waits for its turn, and ends when those of this group do so again.
        """
        own = self._of(group)
        self._reach_rest()
        for rank in own:
            rank.ready, rank.epoch, rank.num_epochs = False, None, 0
        meter = self._meter(group) if self.metered and not profile else None
        with self._all_stopped_but(group):
            if meter is not None:
                meter.begin()
            began_s = time.monotonic()
            for rank in own:
                rank.send(Turn(go=True, profile=profile, parts=parts))
            self._reach_turn(lambda: all(rank.ready for rank in own), meter.idle if meter is not None else None)
            if meter is not None:
                meter.end()
        return self._epochs(own, began_s)

    def quietly(self, measure: Callable[[], float]) -> float:
        """Return what ``measure`` returns while every rank and everything else of the pool is stopped."""
        self._reach_rest()
        with self._all_stopped_but(None):
            return measure()

    def used(self, group: int) -> tuple[Used, ...]:
        """Return what each rank of a group used in the epochs since ``forget_used``, profiled ones left out."""
        return self._meter(group).used()

    def forget_used(self, group: int) -> None:
        """Leave out of ``used`` what came before: warm-up."""
        self._meter(group).forget()

    def finish(self, group: int) -> tuple[Trace, ...]:
        """Tell the ranks of a group that their training is over and return its traces, ordered by rank."""
        own = self._of(group)
        self._reach_turn(lambda: all(rank.ready for rank in own))
        for rank in own:
            rank.ready = False
            rank.send(Turn(go=False))
        self._reach(lambda: all(rank.traces is not None for rank in own))
        self._leave(own)
        return self._traces(group)

    def end(self) -> None:
        """Kill whoever still lives and forget the session; never leaves a process behind, nor hides an error."""
        try:
            self._resume()
            kill(self._watch.ranks)
            all_dead = self._watch.wait_for_deaths(KILL_S)
            for rank in self._watch.ranks:
                rank.reap()
            for family in self._used:
                if family.busy or not all_dead or not (self._checked or family.closed or family.kill_strays()):
                    family.close()
        except BaseException:
            # Interrupted, or a zygote died meanwhile: the guardians end all there is.
            for family in self._used:
                family.close()
            raise
        finally:
            self._watch.close()

    def _of(self, group: int) -> list[Rank]:
        return [rank for rank in self._watch.ranks if rank.group == group]

    def _traces(self, group: int) -> tuple[Trace, ...]:
        own = self._of(group)
        for rank in own:
            _require_own_traces(rank, alone=len(own) == 1)
        return tuple(sorted((trace for rank in own for trace in rank.traces or ()), key=lambda trace: trace.rank))

    def _meter(self, group: int) -> Meter:
        if group not in self._meters:
            self._meters[group] = Meter(self._of(group))
        return self._meters[group]

    def _epochs(self, own: Sequence[Rank], began_s: float) -> tuple[Epoch, ...]:
        """Return the epochs that ranks have told in a turn which began at ``began_s``, if these can be."""
        ended_s = time.monotonic()
        for rank in own:
            if rank.epoch is None or rank.num_epochs != 1:
                flaw: str | None = f"expected one epoch a turn but it told of {rank.num_epochs}; send EpochDone once"
            else:
                flaw = sound.flaw(rank.epoch, after_s=began_s, before_s=ended_s)
            if flaw is not None:
                self._blame(rank, f"took a turn that cannot be timed: {flaw}")
        epochs = tuple(rank.epoch for rank in own if rank.epoch is not None)
        if (odd := sound.odd_one(epochs)) is not None:
            self._blame(own[odd[0]], f"took a turn that cannot be timed: {odd[1]}")
        return epochs

    def _reach(self, goal: Callable[[], bool], idle: Callable[[], float] | None = None) -> None:
        if not self._watch.until(goal, idle):
            self._fail()

    def _reach_turn(self, goal: Callable[[], bool], idle: Callable[[], float] | None = None) -> None:
        """Reach a goal that lies within the turns of ranks: none may return before it is told that they are over."""

        def early() -> Rank | None:
            return next((rank for rank in self._watch.ranks if rank.traces is not None and not rank.released), None)

        self._reach(lambda: goal() or early() is not None, idle)
        if (rank := early()) is not None:
            self._blame(
                rank,
                "returned before its turns were over: expected an epoch for every turn but it takes no more; train "
                "until Channel.turn() tells that the training is over",
            )

    def _reach_rest(self) -> None:
        """Wait until every rank of every group waits for its turn, or has ended."""
        self._reach_turn(lambda: all(rank.ready or rank.code is not None for rank in self._watch.ranks))

    def _blame(self, rank: Rank, message: str) -> None:
        self._watch.blame(rank, message)
        self._fail()

    def _fail(self) -> None:
        # A stopped zygote cannot tell how its ranks ended.
        self._resume()
        raise failure(self._watch)

    def _leave(self, done: Sequence[Rank]) -> None:
        """Let ranks go that are done, and look at how they went and what they left."""
        for rank in done:
            rank.release()
        self._reach(lambda: all(rank.dead for rank in done))
        for rank in done:
            rank.reap()
        if any(rank.code for rank in done):
            self._fail()
        if all(rank.code is not None for rank in self._watch.ranks):
            self._check_strays()

    def _check_strays(self) -> None:
        for family in self._used:
            if left := family.lasting_strays():
                raise _left_behind(left, self._watch.ranks)
        self._checked = True

    @contextmanager
    def _all_stopped_but(self, group: int | None) -> Iterator[None]:
        """Stop the zygotes and the ranks of other groups (None: of all), helper processes included."""
        others = [rank for rank in self._watch.ranks if rank.group != group and rank.code is None]
        for family in self._families.values():
            self._stopped += [family.pid] if family.pid is not None else family.processes()
        pids = [rank.pid for rank in others]
        self._stopped += [*pids, *guardian.descendants(*pids)]
        try:
            pause.stop(self._stopped)
            yield
        finally:
            self._resume()

    def _resume(self) -> None:
        pause.go_on(self._stopped)
        self._stopped.clear()


def _left_behind(strays: Sequence[Stray], known: Sequence[Rank]) -> RankFailure:
    """Return the error for processes that outlived a case; the rank is -1 where nothing tells whose they are."""
    stray = strays[0]
    named = re.match(r"ls-rank(\d+)", stray.name)
    owner = next((rank for rank in known if rank.pid == stray.session), None)
    if owner is None and named:
        owner = next((rank for rank in known if rank.job.rank == int(named[1])), None)
    job = (owner or known[0]).job
    cause = "left " + ", ".join(f"process {one.pid} ({one.command})" for one in strays) + " behind"
    return RankFailure(
        f"{case_of(job)}: {owner.label if owner else 'a rank'} {cause}; end what train() starts before it returns "
        "(the process was killed)",
        case=case_of(job),
        rank=owner.job.rank if owner else -1,
        kind="stray",
        cause=cause,
        outputs=[rank.output() for rank in known if rank.group == (owner or known[0]).group][: outputs.MOST_RANKS],
    )


def _require_own_traces(rank: Rank, *, alone: bool) -> None:
    """Raise unless a process tells of its own rank and of no other; one that trains alone may tell of all replicas.

    Otherwise a rank that never trained could hide behind the trace of one that did.
    """
    job = rank.job
    told = sorted(trace.rank for trace in rank.traces or ())
    replicas = list(range(job.world_size))
    num_trainings = 1 + len(job.more) + len(job.mutants)
    if told == [job.rank] * num_trainings or (alone and told == sorted(replicas * num_trainings)):
        return
    wanted = f"one trace of rank {job.rank}" + (f", or one of each rank in {replicas}," if alone else "")
    raise TraceError(
        f"{case_of(job)}: expected {wanted} from the process of rank {job.rank} but it told of ranks {told}; "
        "return what the loop returns"
    )
