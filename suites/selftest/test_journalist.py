"""A page while the run goes on: now and then, never beside a measurement, and at a small share of the time."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fixtures.sample_records import record
from harness import journalist, report, store
from harness.journalist import RENDER_EVERY_S, Journalist
from harness.measure import lease
from harness.report import files
from harness.store import RunInfo

TAKES_S = 60.0


class Clock:
    """A time that passes only where it is told to."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(journalist, "time", found)
    return found


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[float]:
    """When a page was begun; each takes a minute."""
    found: list[float] = []

    def write(run: Path, **_settings: Any) -> Path:
        found.append(clock.now_s)
        clock.now_s += TAKES_S
        return run / "index.html"

    monkeypatch.setattr(report, "write", write)
    return found


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Journalist:
    monkeypatch.setattr(lease, "machine", lambda: tmp_path / "own.lease")
    monkeypatch.setattr(Journalist, "_info", lambda _self: RunInfo(id="run"))
    options = SimpleNamespace(report_dir=tmp_path / "reports", run="run")
    return Journalist(cast("Any", None), cast("Any", options))


def keep(own: Journalist, clock: Clock, every_s: float, number: int) -> None:
    for _ in range(number):
        clock.now_s += every_s
        own.pytest_runtest_logreport(cast("Any", SimpleNamespace(lockstep=store.encode(record()))))


def test_a_page_in_between_takes_no_more_than_its_share_of_the_time(
    own: Journalist, clock: Clock, pages: list[float]
) -> None:
    keep(own, clock, 1.0, 1000)
    assert pages[0] > RENDER_EVERY_S
    assert len(pages) > 1
    assert all(later - earlier > TAKES_S / files.SHARE for earlier, later in itertools.pairwise(pages))


def test_beside_a_measurement_of_another_process_no_page_is_written(
    own: Journalist, clock: Clock, pages: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with lease.exclusive():
        monkeypatch.setenv(lease.HOLDER, "nobody")  # a pytest worker is a process of its own
        keep(own, clock, 30.0, 3)
        assert pages == []
        monkeypatch.setenv(lease.HOLDER, str(lease.machine()))
    keep(own, clock, 1.0, 1)
    assert len(pages) == 1, "it is made up for"
