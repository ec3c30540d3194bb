"""Trainings that cannot be judged, or are wrong in a way that one word tells: none passes, and each is told by name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from wrong_strategies import declared, judged

from harness import Job, Optimizer, Trace, Workload, address, workloads
from harness.datasets.base import Data
from harness.errors import HarnessError, RankError, TraceError
from harness.models.base import Block, Dense, Flatten, Layer, Shape
from harness.runner import Runner

pytestmark = [pytest.mark.faults, pytest.mark.torch, pytest.mark.xdist_group("torch")]
SMALL = msgspec.structs.replace(workloads.get("digits-mlp"), name="bad-input", shape=(1, 8, 8))


def parallel(job: Job, spoil: Any = None, change: Any = None) -> tuple[Trace, ...]:
    """Train with DistributedDataParallel; ``spoil`` strikes the averaged gradients, ``change`` the model."""
    from torch.nn.parallel import DistributedDataParallel

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    def wrap(model: Any) -> Any:
        return DistributedDataParallel(change(model) if change else model)

    steps = iter(range(100))

    def strike(optimizer: Any) -> None:
        if spoil is not None:
            spoil(job.rank, next(steps), optimizer.param_groups[0]["params"])

    with process_group(job) as group:
        return fit(job, Parallelism(wrap=wrap, comm=group, synchronise=strike))


def sound(job: Job) -> tuple[Trace, ...]:
    return parallel(job)


def nan_on_rank_1(job: Job) -> tuple[Trace, ...]:
    return parallel(job, lambda rank, step, p: p[2].grad[0].fill_(math.nan) if (rank, step) == (1, 2) else None)


def infinity_everywhere(job: Job) -> tuple[Trace, ...]:
    return parallel(job, lambda _rank, step, p: p[0].grad.view(-1)[0].fill_(math.inf) if step == 3 else None)


def sent_in_float16(job: Job) -> tuple[Trace, ...]:
    return parallel(job, lambda _rank, _step, p: [one.grad.copy_(one.grad.half().double()) for one in p])


def trains_in_float32(job: Job) -> tuple[Trace, ...]:
    check = msgspec.structs.replace(job.workload.check, dtype="float32")
    return parallel(msgspec.structs.replace(job, workload=msgspec.structs.replace(job.workload, check=check)))


def one_layer_more(job: Job) -> tuple[Trace, ...]:
    from torch import nn

    def with_more(model: Any) -> Any:
        model.add_module("extra", nn.Linear(10, 10).double())
        return model

    return parallel(job, change=with_more)


def truncates_its_trace(job: Job) -> tuple[Trace, ...]:
    traces = parallel(job)
    file = Path(traces[0].rungs["parameters"].file)
    file.write_bytes(file.read_bytes()[:-100])
    return traces


def of_another_schema(job: Job) -> tuple[Trace, ...]:
    return tuple(msgspec.structs.replace(trace, schema=2) for trace in parallel(job))


# A model and datasets of a user's own.
def dropping_out(**_settings: int) -> Any:
    from torch import nn

    return nn.Dropout(0.5)


def own_dropout(shape: Shape, num_classes: int, _dropout: float) -> tuple[Layer, ...]:
    """Draw masks from the library's generator, which knows nothing of shards."""
    return (
        Flatten(),
        Dense(name="dense1", in_features=math.prod(shape), out_features=12),
        Block(name="random", module=address(dropping_out)),
        Dense(name="dense2", in_features=12, out_features=num_classes),
    )


def with_a_nan(workload: Workload, _root: str | None) -> Data:
    """Spoil one pixel of one picture."""
    draw = np.random.default_rng(0)
    images = draw.standard_normal((200, *workload.shape)).astype(np.float32)
    images[40, 0, 0, 0] = np.nan
    labels = draw.integers(0, 10, 200)
    return Data(
        images=images, labels=labels, held_out_images=images[100:], held_out_labels=labels[100:], num_classes=10
    )


STRATEGIES = (
    sound,
    nan_on_rank_1,
    infinity_everywhere,
    sent_in_float16,
    trains_in_float32,
    one_layer_more,
    truncates_its_trace,
    of_another_schema,
)


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with declared(*STRATEGIES):
        yield


def test_without_any_of_it_the_same_training_is_equivalent(ls_runner: Runner) -> None:
    assert judged(ls_runner, "sound", SMALL).equivalent


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "nan_on_rank_1",
            "at step 2, on rank 1 only, in gradients before clipping of dense2.weight: NaN where the reference is",
        ),
        (
            "infinity_everywhere",
            "at step 3, on every rank, in gradients before clipping of dense1.weight: infinity where the reference is",
        ),
        ("sent_in_float16", "its values are float16 numbers, expected float64: it is trained, or was sent, in float16"),
        ("trains_in_float32", "its values are float32 numbers, expected float64: it is trained, or was sent, in"),
    ],
)
def test_what_kind_of_numbers_a_rank_holds_is_said_where_it_differs(name: str, words: str, ls_runner: Runner) -> None:
    verdict = judged(ls_runner, name, SMALL)
    assert verdict.conclusion == "different"
    assert words in verdict.reason


@pytest.mark.parametrize("name", ["sound", "nan_on_rank_1"])
def test_a_training_that_diverges_by_itself_is_no_strategys_fault(name: str, ls_runner: Runner) -> None:
    wild = msgspec.structs.replace(SMALL, name="wild", optimizer=Optimizer(name="sgd", learning_rate=1e200))
    verdict = judged(ls_runner, name, wild)
    assert verdict.conclusion == "inconclusive"
    assert verdict.reason.startswith("the loss diverges by itself: NaN at step 1 in the reference")


def test_a_nan_in_the_data_is_found_before_anything_is_trained(ls_runner: Runner) -> None:
    spoilt = msgspec.structs.replace(SMALL, name="spoilt", dataset=address(with_a_nan))
    with pytest.raises(RankError, match=r"with_a_nan' \(training samples\): expected finite pixels but got NaN"):
        judged(ls_runner, "sound", spoilt)


@pytest.mark.parametrize("name", ["sound", "nan_on_rank_1"])
def test_a_reference_that_does_not_repeat_itself_lets_nothing_pass(name: str, ls_runner: Runner) -> None:
    varying = msgspec.structs.replace(SMALL, name="varying", model=address(own_dropout))
    verdict = judged(ls_runner, name, varying)
    assert verdict.conclusion == "inconclusive"
    assert verdict.reason.startswith(
        "the reference, run twice, does not repeat itself: it varies first at step 0, in loss"
    )


def test_a_model_with_other_parameters_is_refused_with_their_names(ls_runner: Runner) -> None:
    with pytest.raises(TraceError, match=r"expected the tensors of the reference but .*extra\.weight, extra\.bias"):
        judged(ls_runner, "one_layer_more", SMALL)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("truncates_its_trace", r"expected an \.npy array at .*rank0-parameters\.npy but .*run the case again"),
        ("of_another_schema", "expected a trace of schema 1 but got 2: another version of Lockstep wrote it"),
    ],
)
def test_a_trace_that_cannot_be_read_is_told_with_the_way_out(name: str, words: str, ls_runner: Runner) -> None:
    with pytest.raises(HarnessError, match=words):
        judged(ls_runner, name, SMALL)
