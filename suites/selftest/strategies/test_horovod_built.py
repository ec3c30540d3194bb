"""A Horovod that was built for another framework is told before any rank starts, and before any zygote imports it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

import pytest

from harness.strategies import base as strategies
from harness.strategies import horovod_built
from harness.training import preload

strategies.discover()
LOCAL = "torch2.15.0.cu132.tf2.21.0.b607bac11"


@pytest.fixture(autouse=True)
def _looked_up_anew() -> Iterator[None]:
    horovod_built.misfit.cache_clear()
    yield
    horovod_built.misfit.cache_clear()


@pytest.mark.parametrize(
    ("framework", "version", "local"),
    [
        ("torch", "2.15.0+cu132", LOCAL),
        ("tensorflow", "2.21.0", LOCAL),
        ("torch", "2.15.0+cu132", "torch2.15.0.cu132.b607bac11"),
        ("torch", None, LOCAL),
        ("torch", "2.15.0+cu132", ""),
        ("torch", "2.15.0+cu132", "custom.1"),
    ],
)
def test_what_fits_or_is_unknown_is_no_hindrance(framework: str, version: str | None, local: str) -> None:
    assert horovod_built.told(framework, version, local) is None


@pytest.mark.parametrize(
    ("framework", "version", "local"),
    [
        ("torch", "2.15.0+cpu", LOCAL),
        ("torch", "2.15.1+cu132", LOCAL),
        ("tensorflow", "2.21.1", LOCAL),
        ("tensorflow", "2.21.0", "torch2.15.0.cu132.b607bac11"),
    ],
)
def test_another_version_and_a_framework_it_was_not_built_for_do_not_fit(
    framework: str, version: str, local: str
) -> None:
    told = horovod_built.told(framework, version, local) or ""
    assert told.startswith(f"needs a Horovod that was built for {framework} {version}, but the installed one was built")
    assert "for torch2.15.0.cu132" in told
    assert told.endswith("make horovod")


def test_a_case_with_such_a_horovod_is_not_run_and_its_zygote_does_not_import_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = importlib.metadata.version
    pytest.importorskip("torch")
    if "+torch" not in version("horovod"):
        pytest.skip("no Horovod of our own is installed")
    assert strategies.get("horovod-torch").missing() is None
    assert "harness.loops.torch_horovod" in preload("torch")
    horovod_built.misfit.cache_clear()
    monkeypatch.setattr(
        importlib.metadata,
        "version",
        lambda name: "0.28.1+torch1.13.1.b12345678" if name == "horovod" else version(name),
    )
    assert "but the installed one was built for torch1.13.1" in (strategies.get("horovod-torch").missing() or "")
    assert "harness.loops.torch_horovod" not in preload("torch")
