"""The case of bench_case_latency.py, written as PyTorch writes it: a test of its own MultiProcessTestCase.

Two spawned ranks, a FileStore, gloo, DistributedDataParallel and, in each rank, the serial reference. The script
says "ready", then answers each line "go" with the seconds of one run of the test.
"""

from __future__ import annotations

import os
import sys
import time
import unittest
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import FileStore
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.common_distributed import MultiProcessTestCase

# A folder with images.npy, labels.npy and held_out.npy.
DATA = "LOCKSTEP_BENCH_DATA"
NUM_STEPS, BATCH = 6, 32


class DataParallelCase(MultiProcessTestCase):  # type: ignore[no-untyped-call]
    """Data parallelism over two ranks equals serial training, step by step."""

    @property
    def world_size(self) -> int:
        return 2

    def setUp(self) -> None:
        super().setUp()
        self._spawn_processes()

    def tearDown(self) -> None:
        super().tearDown()
        Path(self.file_name).unlink(missing_ok=True)

    def test_data_parallel_training_equals_serial_training(self) -> None:
        store = FileStore(self.file_name, self.world_size)
        dist.init_process_group("gloo", store=store, rank=self.rank, world_size=self.world_size)
        serial, own = network(), network()
        parallel = DistributedDataParallel(own)
        optimizers = [torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9) for model in (serial, own)]
        for step, (images, labels) in enumerate(batches()):
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = 0.05 * 0.8 ** (step // 3)
                optimizer.zero_grad()
            mean_loss = nn.functional.cross_entropy(serial(images), labels)
            mean_loss.backward()  # type: ignore[no-untyped-call]
            mine = torch.tensor_split(torch.arange(len(images)), self.world_size)[self.rank]
            loss = nn.functional.cross_entropy(parallel(images[mine]), labels[mine], reduction="sum")
            loss = loss * self.world_size / len(images)
            loss.backward()  # type: ignore[no-untyped-call]
            dist.all_reduce(total := loss.detach().clone())
            torch.testing.assert_close(total / self.world_size, mean_loss.detach())
            for ours, theirs in zip(own.parameters(), serial.parameters(), strict=True):
                torch.testing.assert_close(ours.grad, theirs.grad)
            for optimizer in optimizers:
                optimizer.step()
            torch.testing.assert_close(own.state_dict(), serial.state_dict())
        with torch.no_grad():
            held_out = torch.from_numpy(np.load(folder() / "held_out.npy"))
            torch.testing.assert_close(parallel(held_out), serial(held_out))
        dist.destroy_process_group()


def network() -> nn.Sequential:
    """Return the model "mlp" in float64, always with the same weights."""
    torch.manual_seed(0)
    hidden = [nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(32, 10)).double()


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return two epochs of three batches, the last of each uneven."""
    images, labels = (torch.from_numpy(np.load(folder() / f"{name}.npy")) for name in ("images", "labels"))
    orders = [torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch)) for epoch in range(2)]
    picks = [order[start : start + BATCH] for order in orders for start in range(0, len(order), BATCH)]
    assert len(picks) == NUM_STEPS
    return [(images[pick], labels[pick]) for pick in picks]


def folder() -> Path:
    """Return where the data lies."""
    return Path(os.environ[DATA])


def answer(text: str) -> None:
    """Tell the benchmark something."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Run the test whenever asked."""
    answer("ready")
    for _line in sys.stdin:
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(DataParallelCase)
        began_s = time.monotonic()
        result = unittest.TextTestRunner().run(suite)
        took_s = time.monotonic() - began_s
        if not result.wasSuccessful() or result.testsRun != 1:
            sys.exit("the test did not pass")
        answer(f"{took_s}")


if __name__ == "__main__":
    main()
