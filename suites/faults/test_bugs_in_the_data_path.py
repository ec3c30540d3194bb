"""Loaders that bring other samples than they were asked for, or make something else of them; and workers that die."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from wrong_strategies import declared

from harness import Case, Job, Trace, Workload
from harness.errors import RankError
from harness.plan import Step
from harness.record import Verdict
from harness.runner import Runner

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]
WORKLOAD = Workload(name="loaded", model="mlp", dataset="digits", augment="shift")
PIDS = "PIDS_OF_WORKERS"
Feed = Callable[[Any, Sequence[Step]], Any]


def fed(job: Job, feed: Feed) -> tuple[Trace, ...]:
    from harness.loops.torch_loop import Parallelism, fit

    return fit(job, Parallelism(feed=feed))


def made_by(samples: Callable[[Any], Any]) -> Feed:
    """Feed from two workers that ask ``samples(make)`` for each sample of the plan."""

    def feed(make: Any, steps: Sequence[Step]) -> Any:
        from torch.utils.data import DataLoader

        from harness.loops.torch_loader import delivered, keys

        return delivered(DataLoader(samples(make), batch_sampler=keys(steps), num_workers=2))

    return feed


def shuffles_by_itself(job: Job) -> tuple[Trace, ...]:
    """The plan's samples in an order of the loader's own, cut into batches of the plan's sizes."""

    def feed(make: Any, steps: Sequence[Step]) -> Any:
        from torch.utils.data import DataLoader

        from harness.loops.torch_loader import Samples, delivered, keys

        planned = keys(steps)
        order = iter(np.random.default_rng(job.workload.seed).permutation([key for batch in planned for key in batch]))
        batches = [[tuple(next(order)) for _ in batch] for batch in planned]
        return delivered(DataLoader(Samples(make), batch_sampler=batches, num_workers=2))

    return fed(job, feed)


def every_worker_reads_all(job: Job) -> tuple[Trace, ...]:
    """A stream that is not split between the workers (pytorch's IterableDataset without get_worker_info)."""

    def feed(make: Any, steps: Sequence[Step]) -> Any:
        from torch.utils.data import DataLoader, IterableDataset

        from harness.loops.torch_loader import Samples, delivered, keys

        class Stream(IterableDataset[Any]):
            def __iter__(self) -> Iterator[Any]:
                samples = Samples(make)
                return (samples[key] for batch in keys(steps) for key in batch)

        return delivered(DataLoader(Stream(), batch_size=32, num_workers=2))

    return fed(job, feed)


def workers_share_a_seed(job: Job) -> tuple[Trace, ...]:
    """Every worker draws its augmentation from a copy of one generator (pytorch #5059)."""

    def samples(make: Any) -> Any:
        from harness.datasets.batches import REACH, shifted
        from harness.loops.torch_loader import Samples

        class Drawn(Samples):
            generator = np.random.default_rng(job.workload.seed)

            def __getitem__(self, key: tuple[int, int]) -> tuple[Any, ...]:
                index, image, *rest = super().__getitem__(key)
                return index, shifted(image[None], self.generator.integers(-REACH, REACH + 1, (1, 2)))[0], *rest

        return Drawn(make)

    return fed(job, made_by(samples))


def a_worker_is_killed(job: Job) -> tuple[Trace, ...]:
    return fed(job, made_by(lambda make: killing(make, "worker")))


def the_rank_is_killed(job: Job) -> tuple[Trace, ...]:
    return fed(job, made_by(lambda make: killing(make, "rank")))


def killing(make: Any, whom: str) -> Any:
    """Samples in whose third step a worker kills itself or its rank."""
    from harness.loops.torch_loader import Samples

    class Killing(Samples):
        def __getitem__(self, key: tuple[int, int]) -> tuple[Any, ...]:
            pids = Path(os.environ[PIDS])
            (pids / str(os.getpid())).touch()
            if key[0] == 2:
                os.kill(os.getpid() if whom == "worker" else os.getppid(), signal.SIGKILL)
            return super().__getitem__(key)

    return Killing(make)


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    broken = (
        shuffles_by_itself,
        every_worker_reads_all,
        workers_share_a_seed,
        a_worker_is_killed,
        the_rank_is_killed,
    )
    with declared(
        *broken, backends={"cpu": "worker processes"}, processes="one", groups=lambda _world_size, _options: 1
    ):
        yield


def judged(runner: Runner, name: str) -> Verdict:
    return runner.verdict(Case(workload=WORKLOAD.name, strategy=name, world_size=2), WORKLOAD)


def test_a_sound_loader_brings_the_same_bits(ls_runner: Runner) -> None:
    verdict = judged(ls_runner, "loader-workers")
    assert verdict.equivalent
    assert verdict.margin == 0


@pytest.mark.parametrize(
    ("name", "rung", "step"),
    [
        ("shuffles_by_itself", "data order", 0),
        ("every_worker_reads_all", "data order", 1),
        ("workers_share_a_seed", "loss", 0),
    ],
)
def test_a_loader_that_is_wrong_is_caught_where_it_first_acts(
    name: str, rung: str, step: int, ls_runner: Runner
) -> None:
    verdict = judged(ls_runner, name)
    assert verdict.conclusion == "different", verdict
    seen = verdict.divergence
    assert seen is not None
    assert (seen.rung, seen.step) == (rung, step), verdict


@pytest.mark.parametrize(
    ("name", "said"),
    [
        # torch says the one or the other, as its signal handler or the broken pipe comes first.
        ("a_worker_is_killed", r"DataLoader worker .* (is killed by signal: Killed|exited unexpectedly)"),
        ("the_rank_is_killed", "SIGKILL"),
    ],
)
def test_a_death_in_the_data_path_is_told_and_leaves_no_worker(
    name: str, said: str, ls_runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PIDS, str(tmp_path))
    with pytest.raises(RankError, match=said):
        judged(ls_runner, name)
    pids = [int(file.name) for file in tmp_path.iterdir()]
    # The other worker may not have come to its first sample.
    assert pids
    workers = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    assert not psutil.wait_procs(workers, timeout=10)[1]
