"""What a strategy's options mean for a prediction: known, refused with the reason, or named as not modelled."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness import workloads
from harness.errors import SpecError, UnknownNameError, UsageError
from harness.predict.plans import plan
from harness.predict.volumes import BUCKET_BYTES, FUSION_BYTES, SCHEMES, Sizes
from harness.strategies import base as strategies

REFUSED = {"hook=powersgd+powersgd-rank=4", "stock", "fusion-mb=0"}
SIZES = Sizes(gradient_bytes=80, parameter_bytes=100)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_strategy_without_options_is_wholly_modelled(name: str) -> None:
    found = plan(name)
    assert (found.name, found.scheme, found.not_modelled) == (name, SCHEMES[name], ())
    assert found.sent(SIZES) == SIZES


@pytest.mark.parametrize("name", SCHEMES)
def test_no_option_of_any_variant_is_ignored_in_silence(name: str) -> None:
    bare = plan(name)
    for variant in set(strategies.get(name).variants) - REFUSED:
        found = plan(f"{name}+{variant}")
        terms = ("bucket_bytes", "overlap", "gradient_share", "micro_batches", "recompute")
        changed = [term for term in terms if getattr(found, term) != getattr(bare, term)]
        assert len(changed) + len(found.not_modelled) >= len(variant.split("+")), (variant, found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torch-ddp", {"bucket_bytes": BUCKET_BYTES, "overlap": True}),
        ("torch-ddp+bucket-mb=50", {"bucket_bytes": 2 * BUCKET_BYTES}),
        ("torch-ddp+hook=bf16", {"gradient_share": 0.5, "bucket_bytes": BUCKET_BYTES / 2}),
        ("torch-ddp+find-unused", {"not_modelled": ("find-unused=true",), "bucket_bytes": BUCKET_BYTES}),
        ("horovod-torch+compression=fp16", {"gradient_share": 0.5, "bucket_bytes": FUSION_BYTES}),
        ("horovod-torch+fusion-mb=64+groups=2", {"bucket_bytes": FUSION_BYTES / 2, "not_modelled": ("groups=2",)}),
        ("deepspeed-zero2", {"overlap": False, "bucket_bytes": 2e9}),
        ("deepspeed-zero2+overlap+bucket=1000", {"overlap": True, "bucket_bytes": 4000}),
        ("deepspeed-zero0", {"overlap": False}),
        ("torch-pp+chunks=6+schedule=1f1b", {"micro_batches": 6, "not_modelled": ("schedule=1f1b",)}),
        ("torchgpipe", {"recompute": "never", "micro_batches": None}),
        ("torchgpipe+checkpoint=except_last", {"recompute": "except-last"}),
        ("torch-fsdp+reshard=never", {"not_modelled": ("reshard=never",)}),
    ],
)
def test_options_change_what_they_say(name: str, expected: dict[str, Any]) -> None:
    found = plan(name)
    assert {key: getattr(found, key) for key in expected} == expected


def test_two_bytes_are_a_quarter_of_a_workload_in_double_precision() -> None:
    double = msgspec.structs.replace(workloads.get("digits-mlp"), dtype="float64")
    assert plan("torch-ddp+hook=fp16", double).gradient_share == 0.25


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("torch-ddp+nonsense=1", UnknownNameError, "unknown option"),
        ("torch-ddp+bucket-mb=0", SpecError, "expected buckets above 0 MiB"),
        ("torch-ddp+bucket-mb=nan", SpecError, "expected buckets above 0 MiB"),
        ("torch-ddp+hook=powersgd", UsageError, "shape of every layer"),
        ("horovod-torch+fusion-mb=0", UsageError, "expected fusion-mb above 0"),
        ("horovod-keras+stock", UsageError, "ranks train apart"),
        ("deepspeed-zero1+bucket=0", SpecError, "elements >= 1"),
        ("torch-pp+chunks=-1", UsageError, "expected chunks of at least 1"),
        ("torch-ddp-pp", UnknownNameError, "did you mean 'torch-ddp'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(name: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        plan(name)
