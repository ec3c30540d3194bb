"""How a strategy is used in plain code: the lines by which a script shows a difference without Lockstep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# How the ranks of a script come to be: processes that it starts, one process for all, or processes of Horovod.
Launch = Literal["spawn", "one", "horovod"]
MEAN = "torch.distributed.all_reduce(loss)\nloss /= ranks"
# Of a DTensor the whole, of a plain one a copy.
GATHERED = 'getattr({0}, "full_tensor", {0}.clone)().detach()'
PLAIN_UPDATE = "optimizer.step()"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standalone:
    """The lines of a PyTorch script that are the strategy's own; the rest is the same for all.

    They may use ``model``, ``optimizer``, ``rank``, ``ranks``, ``OPTIMIZER`` and ``SETTINGS`` (the optimizer's class
    and arguments) and, inside a step, ``batch`` (the samples of all ranks), ``own`` (this rank's), ``images`` and
    ``labels``.

    Attributes:
        imports: import statements, one a line.
        wrap: makes ``module`` of ``model``, and may make another ``optimizer``.
        backward: trains ``images[own]`` and leaves ``loss``; empty for a forward and a backward of ``module``.
        shares: whether the ranks share out the samples of a batch.
        total: makes the loss of the whole batch of the ranks' ``loss``; empty where every rank has it.
        synchronise: comes before gradients are read.
        update: updates the parameters.
        whole: copies the whole of a tensor, ``{}``, of which a rank may hold a piece.
        launch: how the ranks come to be.
    """

    imports: str
    wrap: str
    backward: str = ""
    shares: bool = True
    total: str = MEAN
    synchronise: str = ""
    update: str = PLAIN_UPDATE
    whole: str = "{}.detach().clone()"
    launch: Launch = "spawn"
