"""What a strategy is said to send follows from the model's shapes, and where it can be counted it is what is sent."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from harness import workloads
from harness.errors import UnknownNameError, UsageError
from harness.models import base as models
from harness.predict import volumes
from harness.predict.volumes import SCHEMES, Scheme, of_parameters, of_workload, scheme, transfers
from harness.spec import Workload
from harness.strategies import base as strategies

SIZES = volumes.Sizes(gradient_bytes=80, parameter_bytes=100, cut_bytes=7, pair_bytes=11)
# A combination of two, and what trains alone.
NOT_PREDICTED = {"torch-ddp-pp", "torch-fsdp-tp", "torch-hsdp", "loader-workers"}


@pytest.mark.parametrize(
    ("plan", "sent"),
    [
        ("all-reduce", [("all-reduce", 80, "backward")]),
        ("optimizer-shards", [("all-reduce", 80, "backward"), ("all-gather", 100, "alone")]),
        ("gradient-shards", [("reduce-scatter", 80, "backward"), ("all-gather", 100, "alone")]),
        (
            "parameter-shards",
            [("all-gather", 100, "forward"), ("all-gather", 100, "backward"), ("reduce-scatter", 80, "backward")],
        ),
        ("one-master", [("broadcast", 100, "alone"), ("broadcast", 80, "alone")]),
        ("server", [("send", 80, "backward"), ("send", 100, "alone")]),
        ("pipeline", [("send", 21, "forward"), ("send", 21, "backward")]),
        ("tensor", [("all-reduce", 33, "alone"), ("all-reduce", 33, "alone")]),
    ],
)
def test_what_each_scheme_sends_in_a_step_of_three_samples(plan: Scheme, sent: list[tuple[str, float, str]]) -> None:
    assert [(one.kind, one.num_bytes, one.beside) for one in transfers(plan, SIZES, 3)] == sent


def test_every_parallel_strategy_is_predicted_or_known_not_to_be() -> None:
    parallel = {name for name, one in strategies.strategies().items() if not one.serial and one.where.startswith("/")}
    shipped = {name for name in parallel if "harness/strategies" in strategies.get(name).where}
    assert shipped - set(SCHEMES) == NOT_PREDICTED
    assert set(SCHEMES) <= shipped


def test_options_do_not_change_what_is_sent_and_a_combination_is_refused() -> None:
    assert scheme("torchgpipe+chunks=4") == "pipeline"
    with pytest.raises(UnknownNameError, match="did you mean 'torch-ddp'"):
        scheme("torch-ddp-pp")


@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn", "mnist-cnn"])
def test_gradients_are_the_parameters_of_the_model(name: str) -> None:
    workload = workloads.get(name)
    described = models.layers(workload)
    trained = models.num_parameters(described) - sum(map(math.prod, models.buffers(described).values()))
    assert of_workload(workload).gradient_bytes == 4 * trained


def small(**changes: Any) -> Workload:
    given = {"name": "w", "model": "layered", "dataset": "synthetic", "shape": (1, 8, 8), "num_classes": 10, **changes}
    return Workload(**{"model_options": {"layers": "conv4-relu-pool2-flatten-dense16-relu-dense"}, **given})


def test_frozen_layers_have_parameters_and_no_gradients() -> None:
    whole, frozen = of_workload(small()), of_workload(small(frozen=("conv1",)))
    assert whole.gradient_bytes - frozen.gradient_bytes == 4 * (4 * 9 + 4)
    assert whole.parameter_bytes == frozen.parameter_bytes


def test_activations_and_multiply_adds_by_hand() -> None:
    described = models.layers(small())
    assert volumes.activations(described, (1, 8, 8)) == [256, 256, 64, 64, 16, 16, 10]
    assert volumes.multiply_adds(small()) == 9 * 256 + 64 * 16 + 16 * 10
    sizes = of_workload(small())
    assert sizes.cut_bytes == pytest.approx(4 * (256 + 256 + 64 + 64 + 16 + 16) / 6)
    # dense1 by columns, dense2 by rows: one sum of ten numbers.
    assert sizes.pair_bytes == 4 * 10


def test_a_model_of_pytorch_modules_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match="--model"):
        of_workload(workloads.get("digits-vit-narrow"))


def test_a_pipeline_of_unknown_activations_is_refused() -> None:
    with pytest.raises(UsageError, match="--workload"):
        transfers("pipeline", of_parameters(1_000), 8)


@pytest.mark.parametrize("name", ["digits-mlp", "mnist-cnn"])
def test_ddp_hands_over_as_many_bytes_as_said(name: str, tmp_path: Path) -> None:
    """Counted in the communication hook of DistributedDataParallel, alone in a group of one."""
    torch = pytest.importorskip("torch")
    import torch.distributed as dist
    from torch._C._distributed_c10d import FileStore
    from torch.nn.parallel import DistributedDataParallel

    from harness.loops.torch_model import build

    workload = workloads.get(name)
    counted: list[int] = []

    def count(_state: object, bucket: Any) -> Any:
        counted.append(bucket.buffer().numel() * bucket.buffer().element_size())
        future: Any = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    count.__annotations__.clear()  # torch reads them, and strings are no types
    store = FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = DistributedDataParallel(build(workload, dtype=torch.float32, device="cpu")).eval()  # without masks
        model.register_comm_hook(None, count)
        model(torch.rand(4, *workload.shape)).sum().backward()
    finally:
        dist.destroy_process_group()
    assert sum(counted) == of_workload(workload).gradient_bytes
