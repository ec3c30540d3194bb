"""DeepSpeed's engine as the PyTorch loop drives it, for every stage of ZeRO.

for each micro-batch: engine(inputs) -> engine.backward(loss) -> engine.step(), which updates after the last one
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

# A job says what it runs on: DeepSpeed would look for GPUs now, which whoever forks ranks must not touch.
os.environ["DS_ACCELERATOR"] = "cpu"
# Optimizers that nothing here uses, and ZeRO imports all the same, would load the compiler: 600 modules, a second.
os.environ["TORCHDYNAMO_DISABLE"] = "1"

import deepspeed.comm.mori
import deepspeed.module_inject.auto_ep_layer
import deepspeed.ops
import deepspeed.runtime.superoffload.superoffload_stage3
import deepspeed.runtime.zero.muon.muon_optimizer
from deepspeed.accelerator import set_accelerator
from deepspeed.checkpoint import ds_to_universal
from deepspeed.utils import (
    safe_get_full_grad,
    safe_get_full_optimizer_state,
    safe_get_local_grad,
    safe_set_full_grad,
    safe_set_local_grad,
)

from harness.loops import torch_loop
from harness.loops.torch_comm import ProcessGroup, evaluate_as_rank_0, process_group
from harness.loops.torch_parallelism import MicroBatch, Named, Parallelism, predict, strike_gradients
from harness.loops.torch_settings import LOSS_SCALE, Autocast, build_optimizer
from harness.loops.torch_taps import STATE_NAMES
from harness.record import Trace
from harness.spec import Job, Precision, Workload

del os.environ["DS_ACCELERATOR"], os.environ["TORCHDYNAMO_DISABLE"]
UNIVERSAL = "universal"
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def fit(job: Job, stage: int, settings: Mapping[str, Any]) -> tuple[Trace, ...]:
    """Train what the job says with one stage of ZeRO; ``settings`` is DeepSpeed's configuration."""
    engine = Engine(job, stage, settings)
    with process_group(job) as group:
        return torch_loop.fit(job, engine.parallelism(group))


class Engine:
    """Trains a model with one stage of ZeRO; ``settings`` is DeepSpeed's configuration."""

    def __init__(self, job: Job, stage: int, settings: Mapping[str, Any]) -> None:
        _set_up(job)
        self._job, self._stage, self._settings = job, stage, dict(settings)
        self._spec = job.workload
        self._engine: Any = None

    def parallelism(self, group: ProcessGroup) -> Parallelism:
        """Return how the loop trains with this engine."""
        return Parallelism(
            wrap=self._wrap,
            comm=group,
            wrap_optimizer=lambda _optimizer, _model: self._engine.optimizer,
            autocast=_unscaled,
            backward=self._backward,
            clip=self._clip if self._spec.clip_value is not None else None,
            update=lambda _optimizer: self._engine.step(),
            gradient=self._gradient,
            strike_gradients=_strike if self._job.fault else strike_gradients,
            value=self._value,
            state=self._state,
            predict=self._predict,
            save=lambda _model, _optimizer, folder, _job: self._engine.save_checkpoint(str(folder)),
            load=lambda _model, _optimizer, folder, _job: self._load(folder),
            tells_statistics=self._job.rank == 0,
        )

    def _wrap(self, model: nn.Module) -> nn.Module:
        evaluate_as_rank_0(model)
        self._engine, *_ = deepspeed.initialize(
            model=model,
            # DeepSpeed calls it when the model is where it belongs; what it passes would hold frozen parameters, too.
            optimizer=lambda _parameters: build_optimizer(self._spec.optimizer, model),
            config=self._settings,
        )
        if self._scaler is not None:
            # Its own starts at 2**16, where the first steps overflow and are skipped: that is by design, but no check.
            self._scaler.load_state_dict(torch.amp.GradScaler(self._job.device, init_scale=LOSS_SCALE).state_dict())
        engine: nn.Module = self._engine
        return engine

    def _backward(self, module: nn.Module, batch: MicroBatch) -> torch.Tensor:
        logits = module(batch.inputs)
        with self._autocast():
            loss = batch.loss(logits)
        batch.mark("forward")
        # The engine takes the mean loss of a micro-batch and divides by their number.
        self._engine.backward(loss * self._spec.accumulation)
        if not batch.last:
            self._engine.step()
        batch.mark("backward")
        return loss.detach()

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = AUTOCAST.get(self._spec.precision)
        return nullcontext() if dtype is None else torch.autocast(self._job.device, dtype)

    def _gradient(self, parameter: nn.Parameter) -> torch.Tensor:
        found = safe_get_full_grad(parameter) if parameter.requires_grad else None
        if found is None:
            return torch.zeros(getattr(parameter, "ds_shape", parameter.shape))
        gradient: torch.Tensor = found if self._scaler is None else found / self._scaler.get_scale()
        return gradient

    def _clip(self, parameters: Sequence[nn.Parameter], workload: Workload) -> None:
        """Clip by value, which DeepSpeed has no setting for; by norm it clips inside its step."""
        assert workload.clip_value is not None
        # The engine's gradients still carry the scale of the loss.
        limit = workload.clip_value * (1.0 if self._scaler is None else self._scaler.get_scale())
        for parameter in parameters:
            if parameter.requires_grad:
                _put(parameter, _got(parameter).clamp(-limit, limit))

    @property
    def _scaler(self) -> torch.amp.GradScaler | None:
        """The engine's own scaler of the loss under float16."""
        engine = self._engine
        scaler: torch.amp.GradScaler | None = (
            engine.optimizer.torch_autocast_gradscaler if self._stage else engine.torch_autocast_z0_gradscaler
        )
        return scaler

    def _value(self, parameter: nn.Parameter) -> torch.Tensor:
        if self._stage < 3:
            return parameter
        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()

    def _state(self, optimizer: Any) -> Mapping[Any, Mapping[str, Any]]:
        """Return the optimizer's state by parameter, gathered from the ranks that hold its pieces."""
        if self._stage == 0:
            state: Mapping[Any, Mapping[str, Any]] = optimizer.state
            return state
        # Stage 3 may cut a rank's piece into several groups, which all have the same kinds of state.
        flat: Mapping[str, Any] = next(iter(optimizer.optimizer.state.values()), {})
        keys = [key for key in STATE_NAMES if isinstance(flat.get(key), torch.Tensor)]
        steps = {"step": flat["step"]} if "step" in flat else {}
        return {
            parameter: {key: safe_get_full_optimizer_state(parameter, key) for key in keys} | steps
            for parameter in self._engine.module.parameters()
            if parameter.requires_grad
        }

    def _predict(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        # The engine's forward is always under autocast; serial training evaluates in full precision.
        return predict(module if self._spec.precision == "full" else self._engine.module, images)

    def _load(self, folder: Path) -> None:
        if self._settings.get("checkpoint", {}).get("load_universal"):
            if self._job.rank == 0:
                _convert(folder)
            torch.distributed.barrier()
        path, _ = self._engine.load_checkpoint(str(folder))
        assert path is not None, "an earlier leg has saved there"


def _strike(named: Named, strike: Callable[[Any], None]) -> None:
    """Let a fault change the gradients inside the engine."""
    trained = {name: parameter for name, parameter in named.items() if parameter.requires_grad}
    held = {name: SimpleNamespace(grad=_got(parameter)) for name, parameter in trained.items()}
    strike(held)
    for name, parameter in trained.items():
        _put(parameter, held[name].grad)


# ZeRO-3's safe_set_full_grad fails where a parameter's elements do not divide by the ranks.


def _got(parameter: nn.Parameter) -> torch.Tensor:
    gradient: torch.Tensor = (safe_get_local_grad if hasattr(parameter, "ds_id") else safe_get_full_grad)(parameter)
    return gradient


def _put(parameter: nn.Parameter, gradient: torch.Tensor) -> None:
    (safe_set_local_grad if hasattr(parameter, "ds_id") else safe_set_full_grad)(parameter, gradient)


def _convert(folder: Path) -> None:
    """Turn a checkpoint into a universal one, which any number of ranks can load."""
    (folder / UNIVERSAL).mkdir()
    wanted = {
        "input_folder": str(folder / (folder / "latest").read_text().strip()),
        "output_folder": str(folder / UNIVERSAL),
        "num_extract_workers": 1,
        "num_merge_workers": 1,
        "keep_temp_folder": False,
        "strict": True,
        "inject_missing_state": True,
    }
    ds_to_universal.main(argparse.Namespace(**wanted))


def _unscaled(precision: Precision, device: str) -> Autocast:
    """Leave autocast and the scaling of the loss to the engine."""
    del precision
    return Autocast("full", device)


def _set_up(job: Job) -> None:
    """Tell DeepSpeed what its launcher would."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    os.environ["LOCAL_RANK"] = str(job.rank % torch.cuda.device_count() if job.device == "cuda" else job.rank)
    if job.device == "cuda":
        from deepspeed.accelerator.cuda_accelerator import CUDA_Accelerator as Accelerator
    else:
        from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator as Accelerator
    set_accelerator(Accelerator())
    # A kernel that only inference uses would be compiled here, for 20 s and by all ranks at once.
    deepspeed.ops.__compatible_ops__ = {}
