"""Scripts as text: short, plain, free of Lockstep; or a reason why there is none."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from harness import Case, Optimizer, Verdict, Workload
from harness.errors import SpecError
from harness.minimise.script import MOST_LINES, WIDTH, Mutation, standalone
from harness.record import Divergence
from harness.spec import Check, Schedule
from harness.strategies import base as strategies

WITH_SCRIPT = ["torch-ddp", "torch-zero1", "torch-fsdp", "torch-tp", "torch-pp", "torchgpipe", "horovod-torch"]
PLACE = Divergence(
    rung="gradients before clipping", step=0, rank=0, tensor="dense1.weight", observed=1.0, floor=0.0, threshold=0.0
)
DIFFERENT = Verdict(conclusion="different", reason="as said", divergence=PLACE)


@pytest.fixture(autouse=True)
def _discovered() -> None:
    strategies.discover()


def smallest(layers: str = "flatten-dense2-relu-dense", check: Check | None = None, **settings: Any) -> Workload:
    few = check or Check(num_samples=4, global_batch=4, num_steps=1, num_held_out=1)
    settings.setdefault("model_options", {"layers": layers})
    settings.setdefault("model", "layered")
    return Workload(name="smallest", dataset="synthetic", shape=(1, 4, 4), num_classes=2, check=few, **settings)


def script(strategy: str, workload: Workload, verdict: Verdict = DIFFERENT, mutation: Mutation | None = None) -> str:
    return standalone(Case(workload=workload.name, strategy=strategy, world_size=2), workload, verdict, mutation)


def imported(text: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(text)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.partition(".")[0] for name in plain | {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom)}}


@pytest.mark.parametrize("strategy", WITH_SCRIPT)
def test_a_script_is_short_and_needs_the_library_only(strategy: str) -> None:
    text = script(strategy, smallest())
    lines = text.splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= WIDTH
    assert imported(text) <= {"sys", "tempfile", "itertools", "torch", "torchgpipe", "horovod"}
    assert f"{strategy} on 2 ranks differs from serial training in gradients before clipping" in lines[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"clip_norm": 0.5}, "clip_grad_norm_(model.parameters(), 0.5)"),
        ({"clip_value": 0.5}, "clip_grad_value_(model.parameters(), 0.5)"),
        ({"accumulation": 2}, "torch.tensor(batch).tensor_split(2)"),
        ({"optimizer": Optimizer(name="adamw", learning_rate=0.01)}, "torch.optim.AdamW"),
        ({"optimizer": Optimizer(weight_decay=0.1)}, '"weight_decay": 0.1'),
        ({"frozen": ("dense1",)}, "model[1].requires_grad_(False)"),
        ({"model": "tied-mlp", "model_options": {"width": 2}}, "model[7].weight = model[3].weight"),
        ({"layers": "conv2-bn-pool2-flatten-dense"}, "nn.BatchNorm2d(2, eps=1e-05, momentum=0.1)"),
    ],
)
def test_what_the_case_has_stands_in_the_script(settings: dict[str, Any], said: str) -> None:
    text = script("torch-ddp", smallest(**settings))
    assert said in text
    ast.parse(text)
    assert max(map(len, text.splitlines())) <= WIDTH


def test_a_learning_rate_that_changes_stands_beside_its_samples() -> None:
    check = Check(num_samples=3, global_batch=3, num_steps=2, num_held_out=1)
    text = script("torch-ddp", smallest(check=check, schedule=Schedule(gamma=0.5)))
    assert "STEPS = [(0.05, [" in text
    assert "(0.025, [" in text
    assert 'optimizer.param_groups[0]["lr"] = rate' in text


def test_options_of_the_strategy_stand_in_the_script() -> None:
    text = script("torch-ddp+bucket-mb=0.001+hook=powersgd", smallest())
    assert "DistributedDataParallel(model, bucket_cap_mb=0.001)" in text
    assert "PowerSGDState(None, matrix_approximation_rank=1, start_powerSGD_iter=2)" in text
    assert "reshard_after_forward=False" in script("torch-fsdp+reshard=never", smallest())
    assert 'checkpoint="always"' in script("torchgpipe+checkpoint=always", smallest())


def test_a_bug_is_written_where_it_strikes() -> None:
    bug = Mutation(place="gradients", code="for p in model.parameters():\n    p.grad *= ranks")
    text = script("torch-ddp", smallest(), mutation=bug)
    assert text.index("loss.backward()") < text.index("p.grad *= ranks") < text.index('"gradient"')


@pytest.mark.parametrize(
    ("strategy", "settings", "said"),
    [
        ("deepspeed-zero2", {}, "its declaration does not say, in `standalone`, how plain code uses it"),
        ("torch-pp+schedule=interleaved", {}, "schedule=interleaved"),
        ("torch-ddp", {"dropout": 0.5, "model": "mlp", "model_options": {}}, "dropout"),
        ("torch-ddp", {"augment": "shift"}, "augmentation"),
        ("torch-ddp", {"check": Check(resume_at=2)}, "an interrupted training"),
        ("torch-ddp", {"precision": "bf16", "check": Check(dtype="float32")}, "autocast"),
        (
            "torch-ddp",
            {"model": "transformer", "model_options": {"dim": 4, "depth": 1, "heads": 1, "patch": 2}},
            "layers of Lockstep's own",
        ),
        (
            "torch-ddp",
            {"check": Check(num_samples=900, global_batch=900)},
            "expected at most 60 lines but it would take",
        ),
    ],
)
def test_where_there_is_no_script_it_is_told_why(strategy: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match="no standalone script for") as told:
        script(strategy, smallest(**settings))
    assert said in str(told.value)


def test_a_reference_that_no_short_script_trains_is_told() -> None:
    verdict = Verdict(conclusion="different", reason="", reference="per-shard-batchnorm", divergence=PLACE)
    with pytest.raises(SpecError, match="cannot train the reference 'per-shard-batchnorm'"):
        script("torch-ddp", smallest(), verdict)


def test_the_reference_of_a_pipeline_trains_micro_batch_after_micro_batch() -> None:
    verdict = Verdict(conclusion="different", reason="", reference="per-micro-batch-batchnorm", divergence=PLACE)
    text = script("torchgpipe", smallest(), verdict)
    assert "for own in torch.tensor(batch).chunk(2) if ranks == 1 else [torch.tensor(batch)]:" in text
