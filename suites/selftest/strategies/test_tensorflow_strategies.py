from collections.abc import Mapping

import pytest

from harness import jobs, workloads
from harness.errors import SpecError
from harness.features import features
from harness.launchers import base as launchers
from harness.record import Rung, RungFile, Trace
from harness.spec import Case
from harness.strategies import base as strategies
from harness.strategies import horovod_keras
from harness.strategies.base import Strategy
from harness.support import finding, limit, promise


@pytest.fixture(scope="module")
def family() -> Mapping[str, Strategy]:
    strategies.discover()
    ours = {name: found for name, found in strategies.strategies().items() if found.framework == "tensorflow"}
    return {name: found for name, found in ours.items() if found.function.startswith("harness.")}


def test_the_family_names_launchers_that_exist(family: Mapping[str, Strategy]) -> None:
    named = {name: launchers.get(found.launcher).__module__ for name, found in family.items()}
    assert named == {
        "keras-serial": "harness.launchers.base",
        "tf-mirrored": "harness.launchers.base",
        "tf-multiworker": "harness.launchers.tf_config",
        "tf-parameter-server": "harness.launchers.tf_config",
        "horovod-keras": "harness.launchers.horovod",
    }


def test_a_model_of_pytorch_modules_is_refused_before_any_rank_starts(family: Mapping[str, Strategy]) -> None:
    vision = workloads.get("digits-resnet18-narrow")
    for name, declared in family.items():
        case = Case(workload=vision.name, strategy=name, world_size=declared.world_sizes[0])
        with pytest.raises(SpecError, match="does not support this: Keras cannot build a model of PyTorch modules"):
            jobs.validate(case, vision, declared)


@pytest.mark.parametrize(
    "feature",
    ["batch-norm", "accumulation", "clip-norm", "clip-value", "dropout", "frozen", "resume", "resume-resized"],
)
def test_the_quick_scale_sees_every_feature_somewhere_in_the_family(
    feature: str, family: Mapping[str, Strategy]
) -> None:
    everyday = {name for declared in family.values() for name in declared.everyday or ()}
    assert any(feature in features(workloads.get(name)) for name in everyday)


def test_what_asynchronous_workers_compute_is_promised_statistically_and_never_resumed(
    family: Mapping[str, Strategy],
) -> None:
    server = family["tf-parameter-server"]
    assert promise(workloads.get("digits-mlp"), server, 2) == "statistical"
    assert "in one go" in (limit(workloads.get("digits-cnn-resumed"), server) or "")


def test_stock_horovod_is_expected_to_differ_on_every_workload_and_ours_on_none() -> None:
    stock, ours = strategies.get("horovod-keras+stock"), strategies.get("horovod-keras")
    for declared in workloads.workloads().values():
        if limit(declared.workload, stock) is None:
            assert "silently" in (finding(declared.workload, stock) or ""), declared.workload.name
            assert finding(declared.workload, ours) is None


def test_compression_that_stock_horovod_would_not_do_is_refused() -> None:
    both = strategies.get("horovod-keras+compression=fp16+stock")
    case = Case(workload="digits-mlp", strategy=both.name, world_size=2)
    with pytest.raises(SpecError, match=r"expected no compression with stock.*but got 'fp16'"):
        jobs.validate(case, workloads.get("digits-mlp"), both)


def test_gradients_that_the_optimizer_would_average_are_not_shown() -> None:
    file = RungFile(file="x.npy", steps=(0,), tensors=())
    rungs: dict[Rung, RungFile] = {"loss": file, "gradients before clipping": file, "gradients after clipping": file}
    assert list(horovod_keras.without_gradients(Trace(rank=0, rungs=rungs)).rungs) == ["loss"]
    assert "gradients before clipping" in strategies.get("horovod-keras+stock").not_shown
    assert "gradients before clipping" not in strategies.get("horovod-keras").not_shown
