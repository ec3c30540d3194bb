"""Cutting a micro-batch: every sample once, in order, sizes as declared."""

from __future__ import annotations

import numpy as np
import pytest

from harness.plan import shard, smallest_micro_batch, smallest_shard
from harness.spec import Check, Workload


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("num_samples", [0, 1, 7, 8, 27])
def test_balanced_shards_are_those_of_numpy(num_samples: int, world_size: int) -> None:
    samples = np.arange(num_samples)[::-1]
    pieces = [shard(samples, rank, world_size) for rank in range(world_size)]
    for piece, expected in zip(pieces, np.array_split(samples, world_size), strict=True):
        np.testing.assert_array_equal(piece, expected)


def test_the_smallest_chunk_is_one_that_exists() -> None:
    five = Workload(name="w", model="mlp", dataset="digits", check=Check(num_samples=5, global_batch=5))
    for split, smallest in (("chunk", 1), ("balanced", 0)):
        assert smallest_shard(five, 6, batch=5, num_samples=5, split=split) == smallest  # type: ignore[arg-type]
    assert smallest_micro_batch(five) == 5


def test_chunks_are_all_of_one_size_but_the_last() -> None:
    assert [len(shard(np.arange(27), rank, 4, "chunk")) for rank in range(4)] == [7, 7, 7, 6]
    assert [len(shard(np.arange(5), rank, 4, "chunk")) for rank in range(4)] == [2, 2, 1, 0]
