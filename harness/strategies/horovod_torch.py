"""Data parallelism with Horovod's DistributedOptimizer for PyTorch."""

from __future__ import annotations

from harness.errors import SpecError
from harness.features import features
from harness.record import Trace
from harness.spec import Job, Workload
from harness.strategies import horovod_built
from harness.strategies.base import strategy
from harness.strategies.options import Chosen, Option
from harness.strategies.standalone import Standalone

OPTIONS = {
    "fusion-mb": Option(meaning="MiB of gradients that are fused into one all-reduce; 0 fuses none", default=128.0),
    "groups": Option(meaning="groups of gradients that are reduced together; 0 leaves it to fusion", default=0),
    "compression": Option(
        meaning="how gradients are compressed on their way",
        default="none",
        choices=("none", "fp16"),
        changes={"fp16": {"equality": "statistical"}},
    ),
}


def check(workload: Workload, world_size: int, chosen: Chosen) -> None:
    """Refuse numbers below zero, and groups of gradients some of which a rank may not have."""
    del world_size
    for name in ("fusion-mb", "groups"):
        if not float(chosen[name]) >= 0:
            raise SpecError(f"expected {name} of at least 0 but got {name}={chosen[name]}")
    if chosen["groups"] and "routed" in features(workload):
        raise SpecError(
            f"expected groups=0 for workload {workload.name!r}, whose ranks do not use every parameter in every step, "
            f"but got groups={chosen['groups']}: Horovod 0.28.1 waits for ever for a group that is complete on some "
            "ranks only"
        )


def standalone(chosen: Chosen) -> Standalone:
    """Broadcast rank 0's weights and wrap the optimizer."""
    more = f", compression=hvd.Compression.{chosen['compression']}" if chosen["compression"] != "none" else ""
    more += f", groups={chosen['groups']}" if chosen["groups"] else ""
    return Standalone(
        imports="import horovod\nimport horovod.torch as hvd",
        wrap=f"""hvd.broadcast_parameters(model.state_dict(), root_rank=0)
optimizer = hvd.DistributedOptimizer(optimizer, model.named_parameters(){more})""",
        total="loss = hvd.allreduce(loss)",
        synchronise="optimizer.synchronize()",
        update="with optimizer.skip_synchronize():\n    optimizer.step()",
        launch="horovod",
    )


@strategy(
    "horovod-torch",
    framework="torch",
    requires=("torch", "horovod"),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="torch-serial",
    launcher="horovod",
    world_sizes=(1, 2, 3, 4),
    gradients=".grad after the optimizer's synchronize()",
    options=OPTIONS,
    variants={
        "fusion-mb=0": ("digits-mlp", "digits-cnn-accumulated"),
        "groups=2": ("digits-mlp", "digits-mlp-adam"),
        "compression=fp16": (),
    },
    findings={
        "routed": "optimizer state: a parameter that no rank used in a step gets a gradient of zero for None, so "
        "that momentum and "
        "weight decay move it (optimizer.py, _allreduce_grad_async)"
    },
    check=check,
    standalone=standalone,
    lacks=lambda: horovod_built.misfit("torch"),
    markers=("horovod",),
    repeats=True,
    preload=("torch._dynamo", "harness.loops.torch_horovod", "harness.loops.torch_loop"),
)
def train(job: Job) -> tuple[Trace, ...]:
    """Horovod averages each gradient as soon as backward has computed it."""
    from harness.loops import torch_horovod
    from harness.loops.torch_loop import Parallelism, fit

    with torch_horovod.joined(job) as ranks:
        return fit(
            job,
            Parallelism(
                wrap=torch_horovod.starting_as_rank_zero,
                comm=ranks,
                wrap_optimizer=lambda optimizer, model: torch_horovod.reducing(job, optimizer, model),
                synchronise=torch_horovod.synchronise,
                update=torch_horovod.update,
                # Every rank is left the running statistics of its own samples; rank 0's are the model's.
                tells_statistics=job.rank == 0,
            ),
        )
