"""Settings that decide what PyTorch computes: arithmetic, threads, device, optimizer."""

from __future__ import annotations

import os
import resource

import torch
from torch import nn

from harness.spec import Job, Optimizer


def fix_arithmetic(job: Job) -> None:
    """Fix threads, TF32, cuDNN and the choice of algorithms, so that two runs of one job compute the same."""
    torch.set_num_threads(job.num_threads)
    # torch.manual_seed would also write down this stack for a later start of CUDA: 3 ms of every rank.
    torch.default_generator.manual_seed(job.workload.seed)
    if job.device == "cuda":
        torch.cuda.manual_seed_all(job.workload.seed)
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
    index = job.rank % torch.cuda.device_count()
    torch.cuda.set_device(index)
    return f"cuda:{index}"


def build_optimizer(spec: Optimizer, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer that the workload describes."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
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


def peak_memory(job: Job) -> int:
    """Return the peak memory of this process in bytes: the device's when it has one, else resident."""
    if job.device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
