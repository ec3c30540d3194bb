from __future__ import annotations

import msgspec
import pytest

from harness import workloads
from harness.features import FEATURES, features
from harness.spec import Check, Optimizer, Schedule, Workload

PLAIN = Workload(
    name="w",
    model="mlp",
    dataset="digits",
    optimizer=Optimizer(momentum=0.0),
    check=Check(num_samples=64, global_batch=32),
)


def test_a_plain_workload_has_the_feature_of_its_optimizer_alone() -> None:
    assert features(PLAIN) == ("sgd",)


@pytest.mark.parametrize(
    ("feature", "changes"),
    [
        ("momentum", {"optimizer": Optimizer(momentum=0.9)}),
        ("nesterov", {"optimizer": Optimizer(momentum=0.9, nesterov=True)}),
        ("adam", {"optimizer": Optimizer(name="adam")}),
        ("adamw", {"optimizer": Optimizer(name="adamw")}),
        ("weight-decay", {"optimizer": Optimizer(weight_decay=0.1)}),
        ("exponential-schedule", {"schedule": Schedule(gamma=0.5)}),
        ("step-schedule", {"schedule": Schedule(gamma=0.5, every=2)}),
        ("clip-norm", {"clip_norm": 1.0}),
        ("clip-value", {"clip_value": 1.0}),
        ("accumulation", {"accumulation": 2}),
        ("dropout", {"dropout": 0.5}),
        ("augmentation", {"augment": "shift"}),
        ("batch-norm", {"model": "mnist-cnn"}),
        ("uneven-batch", {"check": Check(num_samples=63, global_batch=32)}),
        ("frozen", {"frozen": ("dense1",)}),
        ("tied-weights", {"model": "tied-mlp"}),
        ("blocks", {"model": "transformer", "shape": (1, 8, 8)}),
        ("bf16", {"precision": "bf16", "check": Check(dtype="float32")}),
        ("fp16", {"precision": "fp16", "check": Check(dtype="float32")}),
        ("resume", {"check": Check(resume_at=2)}),
        ("resume-resized", {"check": Check(resume_at=2, resume_ranks=3)}),
    ],
)
def test_a_setting_shows_as_its_feature(feature: str, changes: dict[str, object]) -> None:
    assert feature in features(msgspec.structs.replace(PLAIN, **changes))
    assert feature not in features(PLAIN)


def test_every_feature_is_trained_by_a_workload_that_runs_unasked() -> None:
    covered = {
        feature
        for declared in workloads.workloads().values()
        if "conformance" in declared.suites and not declared.needs_data
        for feature in features(declared.workload)
    }
    assert covered == set(FEATURES)
