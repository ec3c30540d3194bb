"""Saving and resuming a PyTorch training the everyday way: rank 0 writes state dicts, every rank reads them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from harness.spec import Job

FILE = "checkpoint.pt"


def save(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, job: Job) -> None:
    """Write model and optimizer to ``folder``."""
    if job.rank == 0:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / FILE)


def load(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path, job: Job) -> None:
    """Go on from what ``save`` wrote, on any number of ranks."""
    del job
    kept = torch.load(folder / FILE, map_location="cpu", weights_only=True)
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
