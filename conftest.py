"""The suites run with Lockstep's own plugin, whether the package is installed or only checked out."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["harness.plugin"]

_TIMED = Path(__file__).parent / "suites/performance"
# Timing takes the whole machine, half a minute a case. Every day one of each way to train is timed: ranks of PyTorch,
# replicas of Keras, a launcher of its own, a pipeline in one process.
_EVERYDAY = ("torch-ddp", "tf-mirrored", "horovod-torch", "torchgpipe")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the other timed cases as part of the full matrix, which ``-m "not slow"`` leaves out."""
    for item in items:
        if item.path.is_relative_to(_TIMED) and not any(f"/{name}/" in item.name for name in _EVERYDAY):
            item.add_marker("slow")
