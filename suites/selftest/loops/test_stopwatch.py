"""Stamps that follow one another: whatever a clock or a device shows, an epoch's parts add up to it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from harness.loops.stopwatch import Stopwatch
from harness.timings import Part


class Device:
    """A device that notes stamps when it gets to them, in milliseconds of its own clock."""

    def __init__(self, moments_ms: list[float]) -> None:
        self._moments: Iterator[float] = iter(moments_ms)
        self.asked = 0

    def stamp(self) -> float:
        return next(self._moments)

    def between(self, first: float, second: float) -> float:
        self.asked += 1
        return (second - first) / 1_000


def test_every_part_is_the_sum_of_what_lay_between_its_marks_and_the_mark_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moments = iter([10.0, 10.0, 11.0, 13.0, 16.0, 17.0, 18.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    watch = Stopwatch(time.monotonic)
    watch.start()
    parts: tuple[Part, ...] = ("data", "forward", "backward", "data")
    for part in parts:
        watch.mark(part)
    epoch = watch.stop(64)
    assert epoch.parts == {"data": 2.0, "forward": 2.0, "backward": 3.0, "other": 1.5}
    assert (epoch.start_s, epoch.end_s, epoch.num_samples) == (10.0, 18.5, 64)


def test_a_second_epoch_starts_from_nothing_and_between_epochs_marks_do_not_count() -> None:
    watch = Stopwatch()
    watch.mark("data")
    watch.start()
    watch.mark("data")
    watch.stop(1)
    watch.mark("forward")
    watch.start()
    watch.mark("backward")
    assert set(watch.stop(1).parts) == {"backward", "other"}


def test_an_epoch_that_is_not_stamped_is_timed_as_a_whole() -> None:
    watch = Stopwatch()
    watch.start(stamped=False)
    watch.mark("data")
    epoch = watch.stop(1)
    assert epoch.parts == {}
    assert epoch.end_s >= epoch.start_s


def test_a_device_is_asked_only_once_the_epoch_is_over() -> None:
    device = Device([0.0, 4.0, 9.0])
    watch = Stopwatch(device.stamp, device.between)
    watch.start()
    watch.mark("forward")
    watch.mark("backward")
    assert device.asked == 0
    parts = watch.stop(1).parts
    assert (parts["forward"], parts["backward"]) == (0.004, 0.005)


def test_a_device_whose_clock_runs_ahead_leaves_no_negative_rest() -> None:
    device = Device([0.0, 1e6])
    watch = Stopwatch(device.stamp, device.between)
    watch.start()
    watch.mark("step")
    assert watch.stop(1).parts == {"step": 1e3, "other": 0.0}
