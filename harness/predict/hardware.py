"""GPUs, networks and models by name: data with a source each, and the links that follow from it."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources
from typing import Literal, TypeVar

import msgspec

from harness.errors import UnknownNameError, UsageError
from harness.measure.network import Fabric, Link
from harness.spec import Value

LinkKind = Literal["nvlink", "pcie", "network"]
# Where ranks stand, for what is known of predictions.
Place = Literal["one node", "several nodes", "pipeline"]
Precision = Literal["float32", "tf32", "half"]
# The likely case and both ends of what is known of a link and of how well a library uses it.
Outlook = Literal["likely", "best", "worst"]
V = TypeVar("V")

# Adapters of a node, and the Gb/s of each.
_NET = re.compile(r"(?:(?P<adapters>\d{1,2})x)?(?P<gigabits>\d+(?:\.\d+)?)\s*gb(?:ps|it|/s)", re.IGNORECASE)
_KNOWN_NETS = ("10gbps", "25gbps", "50gbps", "100gbps", "200gbps", "400gbps", "8x200gbps", "8x400gbps")


class Known(Value, frozen=True, kw_only=True):
    """A number with its range, and where it comes from."""

    low: float
    likely: float
    high: float
    source: str


class Reached(Value, frozen=True, kw_only=True):
    """What published curves reached of what is predicted for them, in nine of ten cases."""

    place: Place
    low: float
    high: float
    source: str


class Latency(Value, frozen=True, kw_only=True):
    """Microseconds a hop, by the kind of link."""

    kind: LinkKind
    low_us: float
    likely_us: float
    high_us: float
    source: str


class Gpu(Value, frozen=True, kw_only=True):
    """A GPU by its data sheet: dense peak FLOP/s, and its link to the others of a node, bytes/s in one direction."""

    name: str
    title: str
    float32_flops: float
    tf32_flops: float | None = None
    half_flops: float | None = None
    link: LinkKind
    link_bytes_per_s: float
    ranks_per_node: int
    source: str

    def flops(self, precision: Precision) -> float:
        """Return the peak FLOP/s of a precision; raise UsageError where the GPU has none."""
        known = {"float32": self.float32_flops, "tf32": self.tf32_flops, "half": self.half_flops}
        peak = known[precision]
        if peak is None:
            have = [name for name, value in known.items() if value is not None]
            raise UsageError(f"expected a precision that {self.name} has ({', '.join(have)}) but got {precision!r}")
        return peak


class Model(Value, frozen=True, kw_only=True):
    """A published model: its parameters, and the multiply-adds of one sample's forward."""

    name: str
    num_parameters: int
    multiply_adds: float
    unit: str
    source: str


class Measured(Value, frozen=True, kw_only=True):
    """What one GPU was measured to train."""

    model: str
    gpu: str
    precision: Precision
    samples_per_s: float
    source: str


class _Machines(Value, frozen=True, kw_only=True):
    latency: tuple[Latency, ...]
    achieved: Known
    reached: tuple[Reached, ...]
    gpus: tuple[Gpu, ...]
    utilisation: Known


class _Models(Value, frozen=True, kw_only=True):
    models: tuple[Model, ...]
    measured: tuple[Measured, ...]


@functools.cache
def machines() -> _Machines:
    """Return all that is known of machines."""
    return msgspec.json.decode(_file("machines.json"), type=_Machines)


@functools.cache
def known_models() -> _Models:
    """Return all that is known of published models."""
    return msgspec.json.decode(_file("models.json"), type=_Models)


def gpu(name: str) -> Gpu:
    """Return a GPU by name; raise UnknownNameError with the nearest names."""
    return _named("GPU", name, {one.name: one for one in machines().gpus})


def model(name: str) -> Model:
    """Return a published model by name; raise UnknownNameError with the nearest names."""
    return _named("published model", name, {one.name: one for one in known_models().models})


def measured(model_name: str, gpu_name: str, precision: Precision) -> Measured | None:
    """Return what somebody measured of a model on one such GPU, or None."""
    wanted = (model_name, gpu_name, precision)
    return next((one for one in known_models().measured if (one.model, one.gpu, one.precision) == wanted), None)


def reached(place: Place) -> Reached:
    """Return what published curves reached of their prediction."""
    return next(one for one in machines().reached if one.place == place)


def net_bytes_per_s(name: str) -> float:
    """Return the line rate of ``25gbps``, or of several adapters a node: ``8x200gbps``; bytes/s in one direction."""
    matched = _NET.fullmatch(name.strip())
    rate = float(matched["gigabits"]) * int(matched["adapters"] or 1) if matched else 0.0
    if not rate:
        raise UnknownNameError("network", name, _KNOWN_NETS)
    return rate * 1e9 / 8


def link(kind: LinkKind, bytes_per_s: float, outlook: Outlook) -> Link:
    """Return a link whose line rate is given, as a collective library is likely, at best or at worst to see it."""
    latency = next(one for one in machines().latency if one.kind == kind)
    achieved = machines().achieved
    match outlook:
        case "likely":
            alpha_us, share = latency.likely_us, achieved.likely
        case "best":
            alpha_us, share = latency.low_us, achieved.high
        case "worst":
            alpha_us, share = latency.high_us, achieved.low
    return Link(alpha_s=alpha_us * 1e-6, bytes_per_s=bytes_per_s * share)


def fabric(own: Gpu, net: str | None, outlook: Outlook, *, ranks_per_node: int | None = None) -> Fabric:
    """Return how ranks on such GPUs are joined; without ``net`` all of them stand in one node."""
    inner = link(own.link, own.link_bytes_per_s, outlook)
    outer = link("network", net_bytes_per_s(net), outlook) if net is not None else inner
    return Fabric(inner=inner, outer=outer, ranks_per_node=ranks_per_node or own.ranks_per_node)


def _named(kind: str, name: str, known: Mapping[str, V]) -> V:
    if name.lower() not in known:
        raise UnknownNameError(kind, name, known)
    return known[name.lower()]


def _file(name: str) -> bytes:
    return resources.files("harness.predict").joinpath(name).read_bytes()
