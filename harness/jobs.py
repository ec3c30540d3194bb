"""From a case to the jobs of its ranks and of the reference runs it is judged against; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from harness import plan, support
from harness.errors import SpecError
from harness.models import base as models
from harness.oracles.diagnosis.scene import Context
from harness.spec import Arrangement, Case, Fault, Job, Leg, Split, Value, Workload, digest
from harness.strategies.base import Strategy

# Parameters up to which reference runs share a process; larger ones gain more from a core of their own.
SMALL = 100_000
# How GPUs compute, the same for a reference and for ranks: cuBLAS deterministic, one algorithm and protocol of NCCL, so
# that sums are taken in one order. The loops fix TF32, cuDNN and deterministic algorithms themselves.
CUDA_ARITHMETIC = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NCCL_ALGO": "Ring", "NCCL_PROTO": "Simple"}
# Other seeds that an alarm must repeat with in an engine that has no float64.
NUM_CONFIRMATIONS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class References:
    """What a parallel run is judged against.

    Attributes:
        name: ``plain``, or the second reference that emulates the strategy's own maths.
        run: the reference run.
        reruns: the same maths summed in other orders: what rounding can do.
        plain: the plain run, where ``run`` is a second reference: its distance is shown, never judged.
    """

    name: str
    run: Arrangement
    reruns: tuple[Arrangement, ...]
    plain: Arrangement | None = None

    @property
    def all(self) -> tuple[Arrangement, ...]:
        """Every run that is needed."""
        return (self.run, *self.reruns, *((self.plain,) if self.plain else ()))


class ReferenceKey(Value, frozen=True, kw_only=True):
    """What makes two reference runs the same run."""

    strategy: str
    workload: str
    arrangement: Arrangement
    device: str


def references(workload: Workload, strategy: Strategy, world_size: int) -> References:
    """Return the reference of a strategy and its reruns.

    Plain maths is rerun as ``world_size`` shards and as permuted shards (design: one rerun alone is not enough). With a
    batch norm the groups of samples are part of the maths: a strategy that normalises per shard is judged against a run
    that does so too, and samples may only be permuted inside a group. Where ranks share out the sums inside a layer,
    one more rerun takes them in parts: no order of samples shows how the arithmetic of a single one rounds.
    """
    num_groups = strategy.groups(world_size, strategy.chosen)
    num_parts = strategy.layer_parts(world_size, strategy.chosen)
    plain, *reruns = plain_runs(workload, max(2, num_groups), strategy.split)
    if not models.has_batchnorm(models.layers(workload)) or strategy.batchnorm == "plain" or num_groups == 1:
        return References(name="plain", run=plain, reruns=(*reruns, *in_parts(plain, num_parts)))
    own = Arrangement(shards=num_groups, batchnorm=strategy.batchnorm, split=strategy.split)
    return References(
        name=f"{strategy.batchnorm}-batchnorm",
        run=own,
        reruns=(permuted(own, 1), permuted(own, 2), *in_parts(own, num_parts)),
        plain=plain,
    )


def plain_runs(workload: Workload, num_shards: int = 2, split: Split = "balanced") -> tuple[Arrangement, ...]:
    """Return the plain run and two reruns of it that sum in another order."""
    plain = Arrangement()
    if models.has_batchnorm(models.layers(workload)):
        return plain, permuted(plain, 1), permuted(plain, 2)
    shards = Arrangement(shards=num_shards, split=split)
    return plain, shards, permuted(shards, 1)


def permuted(arrangement: Arrangement, seed: int) -> Arrangement:
    """Return the arrangement with its samples in another order."""
    return msgspec.structs.replace(arrangement, permute=seed)


def again(arrangement: Arrangement) -> Arrangement:
    """Return the arrangement to be run once more, which must compute the same to the last bit."""
    return msgspec.structs.replace(arrangement, again=arrangement.again + 1)


def arithmetic(device: str) -> dict[str, str]:
    """Return the environment that fixes how a device computes."""
    return CUDA_ARITHMETIC if device == "cuda" else {}


def in_parts(arrangement: Arrangement, num_parts: int) -> tuple[Arrangement, ...]:
    """Return the arrangement with the sums inside its layers in parts; nothing where they are in one."""
    return (msgspec.structs.replace(arrangement, layer_parts=num_parts),) if num_parts > 1 else ()


def context(case: Case, workload: Workload, strategy: Strategy, leg: Leg | None = None) -> Context:
    """Return what a diagnosis may know of a case."""
    return Context(
        workload=workload,
        world_size=case.world_size,
        num_groups=strategy.groups(case.world_size, strategy.chosen),
        pipelined=strategy.batchnorm in ("per-micro-batch", "deferred"),
        resumed_at=leg.first if leg is not None and leg.load else None,
    )


def precision(workload: Workload) -> str:
    """Return the precision by which a workload's check is judged."""
    return workload.check.dtype if workload.precision == "full" else workload.precision


def exact(workload: Workload) -> bool:
    """Return whether an alarm of the workload's check counts by itself."""
    return precision(workload) == "float64"


def in_dtype_of(strategy: Strategy, workload: Workload) -> Workload:
    """Return the workload with its check in a dtype that the strategy's engine has."""
    check = workload.check
    if check.dtype in strategy.dtypes:
        return workload
    return msgspec.structs.replace(workload, check=msgspec.structs.replace(check, dtype=strategy.dtypes[0]))


def confirmations(strategy: Strategy, workload: Workload) -> list[tuple[str, Workload]]:
    """Return trainings that must alarm, too, before an alarm that is not exact counts, each with what it is."""
    if "float64" in strategy.dtypes:
        check = msgspec.structs.replace(workload.check, dtype="float64")
        return [("in float64", msgspec.structs.replace(workload, check=check, precision="full"))]
    seeds = [workload.seed + number for number in range(1, NUM_CONFIRMATIONS + 1)]
    return [(f"with seed {seed}", msgspec.structs.replace(workload, seed=seed)) for seed in seeds]


def validate(case: Case, workload: Workload, strategy: Strategy) -> None:
    """Raise SpecError where a case cannot run, before any rank starts."""
    limit = support.limit(workload, strategy)
    if limit:
        raise SpecError(f"{strategy.name} does not support this: {limit}")
    if case.device not in strategy.backends:
        raise SpecError(f"{strategy.name} does not run on {case.device}: {strategy.unsupported.get(case.device, '?')}")
    if strategy.serial and case.world_size != 1:
        raise SpecError(f"expected world size 1 for the serial strategy {strategy.name} but got {case.world_size}")
    for size in {case.world_size, workload.check.resume_ranks or case.world_size}:
        _require_samples(workload, strategy, size)
    if strategy.check is not None:
        strategy.check(workload, case.world_size, strategy.chosen)


def _require_samples(workload: Workload, strategy: Strategy, world_size: int) -> None:
    # A batch norm cannot normalise a single sample.
    minimum = 2 if models.has_batchnorm(models.layers(workload)) else 1
    num_groups = strategy.groups(world_size, strategy.chosen)
    plan.require_samples_for_all(workload, num_groups, strategy.split, minimum)
    smallest = num_groups * workload.accumulation
    if workload.global_batch < smallest:
        raise SpecError(
            f"expected a global batch of at least {smallest} (groups of samples x accumulation) but workload "
            f"{workload.name!r} has {workload.global_batch}; enlarge it or use fewer ranks"
        )


def parallel(
    template: Job, case: Case, strategy: Strategy, *, cpus: Sequence[tuple[int, ...]], fault: Fault | None = None
) -> tuple[Job, ...]:
    """Return a job for each process of a parallel training; ``cpus`` holds the cores of each rank."""
    own = list(cpus) if strategy.processes == "per-rank" else [tuple(sorted({cpu for share in cpus for cpu in share}))]
    return tuple(
        msgspec.structs.replace(
            template,
            function=strategy.function,
            strategy=strategy.name,
            rank=rank,
            world_size=case.world_size,
            device=case.device,
            backend=template.backend or strategy.backends[case.device],
            options=dict(strategy.chosen),
            fault=fault,
            cpus=cores,
            num_threads=max(1, len(cores)),
        )
        for rank, cores in enumerate(own)
    )


def serial(
    template: Job, case: Case, strategy: Strategy, *arrangements: Arrangement, cpus: tuple[int, ...]
) -> tuple[Job, ...]:
    """Return the one job of a reference run, or of several that its process trains one after the other."""
    return (
        msgspec.structs.replace(
            template,
            function=strategy.function,
            strategy=strategy.name,
            device=case.device,
            arrangement=arrangements[0],
            more=arrangements[1:],
            fuzz=None,
            cpus=cpus,
            num_threads=max(1, len(cpus)),
        ),
    )


def together(workload: Workload, serial: Strategy, runs: Sequence[Arrangement]) -> list[tuple[Arrangement, ...]]:
    """Return which reference runs share a process: starting one costs as much as training a small model does."""
    layers = models.layers(workload)
    small = models.num_parameters(layers) <= SMALL and not models.has_blocks(layers)
    return [tuple(runs)] if runs and small and serial.repeats else [(run,) for run in runs]


def reference_key(workload: Workload, strategy: Strategy, arrangement: Arrangement, device: str) -> str:
    """Return twelve hexadecimal digits under which a reference run is kept."""
    return digest(
        ReferenceKey(strategy=strategy.name, workload=workload.digest, arrangement=arrangement, device=device)
    )
