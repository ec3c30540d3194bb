"""Trying a built Horovod: two ranks all-reduce in float64 and must agree with numpy to the last bit.

Run as ``python -m harness.horovod_build.check FRAMEWORK...`` it is one of the ranks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.errors import BuildError
from harness.launchers import horovod as launcher
from harness.stage import say

NUM_RANKS = 2
NUM_VALUES = 1000
LIMIT_S = 120


def values(rank: int) -> NDArray[np.float64]:
    """Return what ``rank`` brings, shape (1000,): numbers whose sums are rounded."""
    return np.random.default_rng([7, rank]).standard_normal(NUM_VALUES)


def expected(num_ranks: int = NUM_RANKS) -> NDArray[np.float64]:
    """Return the sum over ranks; for two, addition commutes, so there is one right answer to the last bit."""
    total: NDArray[np.float64] = np.sum([values(rank) for rank in range(num_ranks)], axis=0)
    return total


def check(frameworks: Sequence[str]) -> None:
    """Start two ranks that all-reduce with every framework of ``frameworks`` (``torch``, ``tensorflow``).

    Raises:
        BuildError: a rank failed, its sum was wrong, or the ranks were not done after 120 s.
    """
    rendezvous = launcher.serve()
    try:
        rendezvous.reset(NUM_RANKS)
        environments = [launcher.environment(NUM_RANKS, rendezvous.port, rank) for rank in range(NUM_RANKS)]
        ranks = [_start(frameworks, environment) for environment in environments]
        problems = [problem for rank, process in enumerate(ranks) if (problem := _problem(rank, process))]
    finally:
        rendezvous.close()
    if problems:
        raise BuildError(
            f"expected an exact float64 all-reduce over {NUM_RANKS} ranks with {' and '.join(frameworks)} "
            "but got:\n" + "\n".join(problems)
        )


def _start(frameworks: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "harness.horovod_build.check", *frameworks],
        env=os.environ | settings | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _problem(rank: int, process: subprocess.Popen[str]) -> str | None:
    try:
        output = process.communicate(timeout=LIMIT_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return f"rank {rank}: not done after {LIMIT_S} s: {process.communicate()[0][-2000:]}"
    return None if process.returncode == 0 else f"rank {rank}: exit code {process.returncode}: {output[-2000:]}"


def _sum_with_torch(mine: NDArray[np.float64]) -> NDArray[np.float64]:
    import horovod.torch as hvd
    import torch

    hvd.init()
    total: NDArray[np.float64] = hvd.allreduce(torch.from_numpy(mine), op=hvd.Sum, name="torch").numpy()
    return total


def _sum_with_tensorflow(mine: NDArray[np.float64]) -> NDArray[np.float64]:
    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    total: NDArray[np.float64] = hvd.allreduce(tf.constant(mine), op=hvd.Sum, name="tensorflow").numpy()
    return total


def rank_main(frameworks: Sequence[str]) -> int:
    """Be one of the ranks: 0 when every framework's sum is right to the last bit."""
    mine = values(int(os.environ["HOROVOD_RANK"]))
    sums = {"torch": _sum_with_torch, "tensorflow": _sum_with_tensorflow}
    for framework in frameworks:
        got = sums[framework](mine)
        if not np.array_equal(got, expected()):
            say(f"{framework}: the sum is off by up to {np.abs(got - expected()).max():.3g}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(rank_main(sys.argv[1:]))
