"""DeepSpeed's stages that shard clip gradients that still carry the loss scale; stage 0 does not."""

from __future__ import annotations

import msgspec
import pytest

from harness import Optimizer, Verdict, Workload
from harness.session import Run
from harness.spec import Check
from harness.support import finding

CLIPPED = Workload(
    name="digits-mlp-fp16-clipped",
    model="mlp",
    dataset="digits",
    optimizer=Optimizer(name="sgd", learning_rate=0.05, momentum=0.9),
    precision="fp16",
    clip_norm=0.1,
    check=Check(dtype="float32"),
)


BY_VALUE = msgspec.structs.replace(CLIPPED, name="digits-mlp-fp16-clipped-by-value", clip_norm=None, clip_value=0.01)


@pytest.mark.parity(strategy="deepspeed-zero0", workload=BY_VALUE, world_size=2)
@pytest.mark.parity(strategy="deepspeed-zero2", workload=BY_VALUE, world_size=2)
@pytest.mark.parity(strategy="deepspeed-zero3", workload=BY_VALUE, world_size=2)
def test_float16_clipped_by_value_equals_serial(verdict: Verdict) -> None:
    # Lockstep clips here, DeepSpeed cannot: it once did so without regard to the scale of the loss.
    assert verdict.equivalent, verdict


@pytest.mark.parity(strategy="torch-ddp", workload=CLIPPED, world_size=2)
@pytest.mark.parity(strategy="deepspeed-zero0", workload=CLIPPED, world_size=2)
@pytest.mark.parity(strategy="deepspeed-zero1", workload=CLIPPED, world_size=2)
@pytest.mark.parity(strategy="deepspeed-zero2", workload=CLIPPED, world_size=2)
@pytest.mark.parity(strategy="deepspeed-zero3", workload=CLIPPED, world_size=2)
def test_clipped_float16_equals_serial(run: Run, verdict: Verdict) -> None:
    if finding(run.offer.workload, run.offer.strategy) is None:
        assert verdict.equivalent, verdict
        return
    assert verdict.conclusion == "different", f"no longer as found: {verdict}"
    seen = verdict.divergence
    assert seen is not None
    # Gradients before clipping are as they should be; with the first step's all but gone, so is the momentum.
    assert (seen.rung, seen.step) == ("optimizer state", 0), verdict
