"""Ranks that run out of batches before others: DistributedDataParallel's join(), and what it leaves behind.

The last batch of an epoch has one sample, so that rank 1 has none: inside join() it shadows the all-reduces of rank 0,
makes no update of its own, and is handed the model at the end of the epoch, but not the optimizer's state.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wrong_strategies import declared

from harness import Case, Job, Optimizer, Trace, Workload
from harness.record import Verdict
from harness.runner import Runner
from harness.spec import Check

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]
NOT_SHOWN = "a rank without samples does not see them"


def joins(job: Job) -> tuple[Trace, ...]:
    """Every input weighs alike, as join() does by default."""
    return trained(job, by_all=True)


def joins_by_those_left(job: Job) -> tuple[Trace, ...]:
    """Gradients are divided by the number of ranks that still have inputs."""
    return trained(job, by_all=False)


def trained(job: Job, *, by_all: bool) -> tuple[Trace, ...]:
    """Train epoch after epoch inside join(); what a step leaves is recorded when the epoch is over, for the idle."""
    import itertools

    import torch
    from torch.nn.parallel import DistributedDataParallel

    from harness import plan
    from harness.datasets import base as datasets
    from harness.datasets.batches import make_batch
    from harness.loops import torch_model
    from harness.loops.torch_comm import process_group
    from harness.loops.torch_settings import build_optimizer, fix_arithmetic
    from harness.recorder import Recorder

    fix_arithmetic(job)
    recorder = Recorder(job)
    data = datasets.load(job.workload, cache=job.cache, data_root=job.data_root)
    model = torch_model.build(job.workload, dtype=torch.float64, device="cpu")
    optimizer = build_optimizer(job.workload.optimizer, model)

    def record(step: int) -> None:
        for name, parameter in model.named_parameters():
            recorder.tap("parameters", step, name, parameter.detach().numpy())

    def train(step: plan.Step, samples: plan.Indices, module: torch.nn.Module) -> float:
        batch = make_batch(job.workload, data, samples, step=step.number, dtype="float64", sites=())
        logits, labels = module(torch.from_numpy(batch.images)), torch.from_numpy(batch.labels)
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum") * job.world_size / step.size
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss)

    with process_group(job) as ranks:
        module = DistributedDataParallel(model)
        record(-1)
        for _, steps in itertools.groupby(plan.check_steps(job.workload), key=lambda step: step.epoch):
            losses: dict[int, float] = {}
            with module.join(divide_by_initial_world_size=by_all):
                for step in steps:
                    samples = plan.shard(step.micro_batches[0], job.rank, job.world_size)
                    recorder.data_order(step.number, [samples], length=job.workload.check.global_batch)
                    losses[step.number] = train(step, samples, module) if len(samples) else 0.0
                    if len(samples):
                        record(step.number)
            for number, loss in losses.items():
                recorder.tap("loss", number, "loss", ranks.mean(torch.tensor(loss, dtype=torch.float64)).numpy())
            if not len(samples):
                record(step.number)
    return recorder.traces()


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with declared(
        joins,
        joins_by_those_left,
        groups=lambda _world_size, _options: 1,
        not_shown={
            "gradients before clipping": NOT_SHOWN,
            "optimizer state": NOT_SHOWN,
            "predictions": "not asked for",
        },
    ):
        yield


def judged(runner: Runner, name: str, momentum: float) -> Verdict:
    """Judge three epochs of two steps: 16 samples, then one."""
    workload = Workload(
        name=f"uneven-{momentum}",
        model="mlp",
        dataset="digits",
        shape=(1, 8, 8),
        optimizer=Optimizer(name="sgd", learning_rate=0.05, momentum=momentum),
        check=Check(num_samples=17, global_batch=16),
    )
    return runner.verdict(Case(workload=workload.name, strategy=name, world_size=2), workload)


def test_joined_ranks_train_as_serial_does_where_the_optimizer_keeps_nothing(ls_runner: Runner) -> None:
    verdict = judged(ls_runner, "joins", momentum=0.0)
    assert verdict.equivalent, verdict


def test_a_rank_that_joined_keeps_the_momentum_of_before_and_spoils_the_next_epoch(ls_runner: Runner) -> None:
    verdict = judged(ls_runner, "joins", momentum=0.9)
    assert verdict.conclusion == "different"
    seen = verdict.divergence
    assert seen is not None
    # The last step of the first epoch has number 1; rank 1 goes wrong with its next own update.
    assert (seen.step, seen.rank) == (2, 1), verdict


def test_dividing_by_the_ranks_that_are_left_gives_their_samples_more_weight(ls_runner: Runner) -> None:
    verdict = judged(ls_runner, "joins_by_those_left", momentum=0.0)
    assert verdict.conclusion == "different"
    seen = verdict.divergence
    assert seen is not None
    assert seen.step == 1, verdict
