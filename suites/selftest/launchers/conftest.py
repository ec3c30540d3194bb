"""A pool of zygotes for these tests, jobs for it, and a look at what every test leaves behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.launchers.local import Group, Pool, RankFailure
from harness.spec import Job, Workload

FIXTURES = Path(__file__).parents[3] / "fixtures"
PRELOAD = {"plain": (), "torch": ("torch", "torch.distributed", "torch.utils.data")}
WORKLOAD = Workload(name="tiny", model="none", dataset="none")


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    with contextlib.closing(Pool(PRELOAD.__getitem__)) as shared:
        yield shared


@pytest.fixture(autouse=True)
def _behaviours_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FIXTURES)


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which anything but guardians and their zygotes lives."""
    yield
    for guardian in psutil.Process().children():
        if any(word.endswith("guardian.py") for word in guardian.cmdline()):
            left = guardian.children(recursive=True)
            assert len(left) <= 1, f"processes left behind: {left}"


@pytest.fixture
def group(tmp_path: Path) -> Callable[..., Group]:
    """Make a group whose ranks run a function of fixtures/rank_behaviours.py."""

    def make(function: str, num_ranks: int = 2, family: str = "plain", **options: str | int) -> Group:
        folder = tmp_path / function
        jobs = tuple(
            Job(
                function=f"rank_behaviours:{function}",
                strategy=function,
                workload=WORKLOAD,
                rank=rank,
                world_size=num_ranks,
                directory=str(folder),
                rendezvous=str(folder / "rendezvous"),
                options=dict(options),
            )
            for rank in range(num_ranks)
        )
        return Group(family=family, jobs=jobs)

    return make


@pytest.fixture
def failure_of(pool: Pool, group: Callable[..., Group]) -> Callable[..., RankFailure]:
    """Run ranks of which one misbehaves, and then well-behaved ones; return what was said of the first."""

    def run(function: str, timeout_s: float = 30.0, **settings: str | int) -> RankFailure:
        with pytest.raises(RankFailure) as caught:
            pool.run([group(function, **settings)], timeout_s=timeout_s)
        assert len(pool.run([group("ok", family=str(settings.get("family", "plain")))], timeout_s=30)[0]) == 2
        return caught.value

    return run
