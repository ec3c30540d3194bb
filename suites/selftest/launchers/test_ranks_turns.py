"""Trainings that take turns: only one of them runs at a time, and trouble in a turn is told like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from harness.launchers.local import Group, Pool, RankFailure
from harness.wire import EpochDone, Message

MakeGroup = Callable[..., Group]


def test_epochs_come_back_for_every_rank_and_traces_at_the_end(pool: Pool, group: MakeGroup) -> None:
    with pool.open([group("timed"), group("restless", 1)], timeout_s=30) as session:
        epochs = [session.epoch(number) for number in (0, 1, 0, 1, 0)]
        traces = session.finish(0), session.finish(1)
    assert [len(ranks) for ranks in epochs] == [2, 1, 2, 1, 2]
    assert [ranks[0].num_samples for ranks in epochs] == [1, 1, 2, 2, 3]
    assert [[trace.losses for trace in group] for group in traces] == [[(0, 1, 2), (0, 1, 2)], [(0, 1)]]


def test_other_trainings_are_stopped_while_one_has_its_turn(pool: Pool, group: MakeGroup, tmp_path: Path) -> None:
    with pool.open([group("timed"), group("restless", 1)], timeout_s=30) as session:
        timed = [rank for number in (0, 1, 0, 1, 0) for rank in session.epoch(number) if number == 0]
        session.finish(1)
    ticks = [float(line) for line in (tmp_path / "restless" / "restless").read_text().splitlines()]
    assert ticks, "the other training does not even run in its own turn"
    assert not [tick for tick in ticks if any(epoch.start_s < tick < epoch.end_s for epoch in timed)]


def test_zygotes_are_stopped_during_a_turn_and_go_on_after_it(pool: Pool, group: MakeGroup) -> None:
    seen: list[str] = []

    def look(_index: int, message: Message) -> None:
        if isinstance(message, EpochDone):
            seen.extend(zygote.status() for zygote in _zygotes(pool))

    pool.warm("torch")
    with pool.open([group("timed", 1)], timeout_s=60, on_event=look) as session:
        session.epoch(0)
    assert set(seen) == {psutil.STATUS_STOPPED}
    assert psutil.STATUS_STOPPED not in {zygote.status() for zygote in _zygotes(pool)}


def _zygotes(pool: Pool) -> list[psutil.Process]:
    """Return the zygotes of this pool; the session that runs these tests may have its own."""
    found = [psutil.Process(family.pid) for family in pool._families.values() if family.pid is not None]
    assert found
    return found


@pytest.mark.parametrize("guilty", [0, 1])
def test_a_rank_that_dies_in_its_turn_is_named_with_its_signal(pool: Pool, group: MakeGroup, guilty: int) -> None:
    groups = [group("dies_in_turn", guilty=guilty), group("timed", 1)]
    with pool.open(groups, timeout_s=30) as session:
        session.epoch(1)
        with pytest.raises(RankFailure) as caught:
            session.epoch(0)
    assert (caught.value.case, caught.value.rank) == ("tiny/dies_in_turn/2/cpu", guilty)
    assert caught.value.cause == "was killed by SIGKILL (no step yet)"
    assert "  timed rank 0 waited for its turn" in caught.value.others


def test_a_rank_that_takes_no_turn_is_named_and_not_those_that_wait(pool: Pool, group: MakeGroup) -> None:
    groups = [group("timed"), group("behave", guilty=1, behaviour="hangs")]
    with pool.open(groups, timeout_s=1) as session, pytest.raises(RankFailure) as caught:
        session.epoch(0)
    assert (caught.value.case, caught.value.rank, caught.value.kind) == ("tiny/behave/2/cpu", 1, "hang")
