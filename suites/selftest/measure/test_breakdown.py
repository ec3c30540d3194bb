"""From the parts of every rank's epochs to where the time goes, and to what communication costs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.measure.breakdown import breakdown, breakdown_warnings
from harness.timings import Epoch, Part

Parts = dict[Part, float]


def epoch(parts: Parts, *, start_s: float = 0.0, longer_s: float = 0.0) -> Epoch:
    length_s = sum(parts.values())
    told: Parts = {**parts, "other": longer_s} if parts else {}
    return Epoch(start_s=start_s, end_s=start_s + length_s + longer_s, num_samples=64, parts=told)


def row(*steps: Parts, **settings: float) -> list[Epoch]:
    return [epoch(parts, **settings) for parts in steps]


WORK: Parts = {"data": 0.1, "forward": 1.0, "backward": 2.0, "optimizer": 0.4}
# Over all samples, while each of two ranks trains half of them.
ALONE = [row(*[{part: 2 * seconds for part, seconds in WORK.items()}] * 6) for _ in range(2)]


def waiting(seconds: float, parts: Parts = WORK) -> Parts:
    return {**parts, "communication": seconds}


def test_means_are_over_epochs_and_the_faster_rank_is_idle_until_the_slower_one_ends() -> None:
    fast, slow = row(WORK, WORK), row({**WORK, "forward": 1.5}, {**WORK, "forward": 1.7})
    found = breakdown([fast, slow], None, num_steps=10)
    assert found is not None
    first, second = found.ranks
    assert first == pytest.approx({**WORK, "idle": 0.6, "other": 0.0})
    assert second == pytest.approx({**WORK, "forward": 1.6, "idle": 0.0, "other": 0.0})
    assert list(first) == ["data", "forward", "backward", "optimizer", "idle", "other"]
    assert sum(first.values()) == pytest.approx(sum(second.values()))
    assert found.num_steps == 10
    assert (found.alone, found.exposed) == ({}, None)


def test_exposed_communication_is_what_ranks_take_longer_than_serial_trainings_of_the_same_work() -> None:
    waits = [0.30, 0.31, 0.29, 0.30, 0.32, 0.28]
    hidden: Parts = {**WORK, "backward": 2.2}
    found = breakdown([row(*(waiting(s, hidden) for s in waits))] * 2, ALONE, num_steps=4)
    assert found is not None
    assert found.exposed is not None
    assert found.exposed.median == pytest.approx(0.5)
    assert 0.48 <= found.exposed.low <= found.exposed.median <= found.exposed.high <= 0.52
    assert found.alone == pytest.approx({**WORK, "other": 0.0})


def test_without_waiting_nothing_is_exposed() -> None:
    found = breakdown([row(*[WORK] * 6)] * 2, ALONE, num_steps=4)
    assert found is not None
    assert found.exposed is not None
    assert found.exposed.median == pytest.approx(0)


def test_waiting_for_a_rank_that_is_late_with_its_data_is_not_communication() -> None:
    late, prompt = {**waiting(0.1), "data": 0.9}, waiting(0.9)
    found = breakdown([row(*[prompt] * 6), row(*[late] * 6)], ALONE, num_steps=4)
    assert found is not None
    assert found.exposed is not None
    assert found.exposed.median == pytest.approx(0.1)


def test_a_rank_on_a_slow_core_is_held_against_the_serial_run_on_that_core() -> None:
    slow: Parts = {**WORK, "backward": 2.6}
    serial = [ALONE[0], row(*[{part: 2 * seconds for part, seconds in slow.items()}] * 6)]
    # The quick rank waits for the slow one, which waits 0.1 s for the wire.
    found = breakdown([row(*[waiting(0.7)] * 6), row(*[waiting(0.1, slow)] * 6)], serial, num_steps=4)
    assert found is not None
    assert found.exposed is not None
    assert found.exposed.median == pytest.approx(0.1)


def test_a_whole_step_of_an_engine_counts_as_what_may_wait() -> None:
    steps: Parts = {"data": 0.1, "step": 3.6}
    alone: Parts = {"data": 0.2, "step": 6.8}
    serial = [row(*[alone] * 6) for _ in range(2)]
    found = breakdown([row(*[steps] * 6)] * 2, serial, num_steps=4)
    assert found is not None
    assert found.exposed is not None
    assert found.exposed.median == pytest.approx(0.2)


def test_a_process_that_tells_nothing_leaves_the_others_with_their_parts_and_nothing_to_compare() -> None:
    followers = [Epoch(start_s=0.0, end_s=0.0, num_samples=0)] * 6
    found = breakdown([row(*[WORK] * 6), followers], ALONE, num_steps=4)
    assert found is not None
    assert found.ranks[1] == {}
    assert found.accounted == pytest.approx(1)
    assert found.exposed is None


def test_without_any_parts_there_is_no_breakdown() -> None:
    bare = [Epoch(start_s=0.0, end_s=1.0, num_samples=64)]
    assert breakdown([bare, bare], None, num_steps=4) is None


@pytest.mark.parametrize(("rest_s", "warned"), [(0.1, False), (0.4, True)])
def test_time_that_no_part_accounts_for_is_told(rest_s: float, warned: bool) -> None:
    found = breakdown([row(WORK, longer_s=rest_s)], None, num_steps=4)
    assert found is not None
    assert found.accounted == pytest.approx(1 - rest_s / (3.5 + rest_s))
    told = breakdown_warnings(found)
    assert bool(told) == warned
    assert not warned or "add up to 90%" in told[0]


def test_ranks_that_are_faster_than_the_same_work_alone_are_told() -> None:
    quick: Sequence[Epoch] = row(*[{**WORK, "backward": 1.5}] * 6)
    found = breakdown([quick] * 2, ALONE, num_steps=4)
    assert found is not None
    (told,) = breakdown_warnings(found)
    assert "no communication can be told" in told
