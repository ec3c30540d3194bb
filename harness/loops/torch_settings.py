"""Settings that decide what PyTorch computes: arithmetic, threads, device, optimizer."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from harness.loops.stopwatch import Stopwatch
from harness.spec import Job, Optimizer, Precision

# Where a loss scaler starts, so that the short check sees it work without an overflow in its first step.
LOSS_SCALE = 2.0**10


def fix_arithmetic(job: Job) -> None:
    """Fix threads, TF32, cuDNN and the choice of algorithms, so that two runs of one job compute the same."""
    torch.set_num_threads(job.num_threads)
    # torch.manual_seed would also write down this stack for a later start of CUDA: 3 ms of every rank.
    torch.default_generator.manual_seed(job.seed)
    if job.device == "cuda":
        torch.cuda.manual_seed_all(job.seed)
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        if job.purpose == "parity":
            torch.use_deterministic_algorithms(mode=True)


def place(job: Job) -> str:
    """Return the device of this rank: its own GPU, or a shared one where there are fewer GPUs than ranks."""
    if job.device == "cpu":
        return "cpu"
    index = (job.rank if job.gpu is None else job.gpu) % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return f"cuda:{index}"


def build_optimizer(spec: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer that the workload describes."""
    # As a group, since torch.optim refuses an empty list: the layers of a pipeline's stage may have no parameters.
    parameters = [{"params": [parameter for parameter in model.parameters() if parameter.requires_grad]}]
    if spec.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=spec.learning_rate,
            momentum=spec.momentum,
            nesterov=spec.nesterov,
            weight_decay=spec.weight_decay,
        )
    kind = torch.optim.Adam if spec.name == "adam" else torch.optim.AdamW
    return kind(parameters, lr=spec.learning_rate, betas=spec.betas, eps=spec.epsilon, weight_decay=spec.weight_decay)


class Autocast:
    """Mixed precision: bfloat16, or float16 with a loss scaler, or neither.

    The scaler's growth lies beyond the check.
    """

    def __init__(self, precision: Precision, device: str) -> None:
        self._kind = device.partition(":")[0]
        self._dtype = {"full": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._scaler = torch.amp.GradScaler(self._kind, init_scale=LOSS_SCALE) if precision == "fp16" else None

    def forward(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass."""
        return nullcontext() if self._dtype is None else torch.autocast(self._kind, self._dtype)

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """Return what backward starts from."""
        return loss if self._scaler is None else self._scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the complete gradients by the scale."""
        if self._scaler is not None and _trains(optimizer):
            self._scaler.unscale_(optimizer)

    def update(self, optimizer: torch.optim.Optimizer, step: Callable[[torch.optim.Optimizer], None]) -> None:
        """Update the parameters, unless a scaled gradient overflowed."""
        if self._scaler is None or not _trains(optimizer):
            step(optimizer)
        else:
            self._scaler.step(optimizer)
            self._scaler.update()


def _trains(optimizer: torch.optim.Optimizer) -> bool:
    """Whether there is anything to scale: a scaler refuses the optimizer of a pipeline's stage without parameters."""
    return any(group["params"] for group in optimizer.param_groups)


def stopwatch(job: Job) -> Stopwatch:
    """Return what times the parts of an epoch: on a GPU by events of its stream, which runs behind the processor."""
    if job.device == "cpu":
        return Stopwatch()
    return Stopwatch(_event, lambda first, second: first.elapsed_time(second) / 1_000)


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def peak_memory(job: Job) -> int:
    """Return the peak memory of this process in bytes: the device's when it has one, else resident."""
    if job.device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
