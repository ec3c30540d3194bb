"""Published scaling curves: each is predicted from its smallest size alone, and the error of every larger one told."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from harness.errors import DataError
from harness.measure.network import Fabric
from harness.predict import hardware
from harness.predict.hardware import Outlook, Place
from harness.predict.prediction import Recompute, Setup, place, step
from harness.predict.volumes import BUCKET_BYTES, Scheme, Sizes, of_parameters
from harness.spec import Value

Quantity = Literal["samples/s", "step seconds", "speed-up"]
# What sources print beside their figures.
Derived = Literal["speed-up", "samples/s a rank", "efficiency"]
_HALVINGS = 200


class Source(Value, frozen=True, kw_only=True):
    """Where curves stand, and whether they were read there; ``notes`` tell what was taken for granted."""

    title: str
    where: str
    read: Literal["directly", "second-hand"]
    notes: str = ""


class Printed(Value, frozen=True, kw_only=True):
    """A figure that a source prints beside a point, though it follows from others: digit by digit as it stands there.

    It is over the curve's smallest size, or over another curve (``over``) at the same size; an efficiency is in
    percent. ``contradicts`` tells that it is known not to follow.
    """

    quantity: Derived
    printed: str
    over: str | None = None
    contradicts: bool = False


class Point(Value, frozen=True, kw_only=True):
    """One published figure; micro-batches and recomputing are those of a pipeline."""

    ranks: int
    value: float
    micro_batches: int | None = None
    recompute: Recompute = "never"
    printed: tuple[Printed, ...] = ()

    @property
    def label(self) -> str:
        """Name the point inside its curve."""
        return str(self.ranks) if self.micro_batches is None else f"{self.ranks}, m={self.micro_batches}"


class OneRank(Value, frozen=True, kw_only=True):
    """What one rank trains, where the curve tells speed-ups only."""

    samples_per_s: float
    source: str


class Curve(Value, frozen=True, kw_only=True):
    """A curve as published: weak scaling at ``batch`` samples a rank, or a pipeline (``batch`` does not matter)."""

    name: str
    gpu: str
    ranks_per_node: int
    scheme: Scheme
    points: tuple[Point, ...]
    net: str | None = None
    model: str | None = None
    batch: float = 1.0
    quantity: Quantity = "samples/s"
    gradient_bytes: int = 4
    parameter_bytes: int = 4
    bucket_bytes: float = BUCKET_BYTES
    buckets: int | None = None
    one_rank: OneRank | None = None


class Document(Value, frozen=True, kw_only=True):
    """A file of curves of one source."""

    source: Source
    curves: tuple[Curve, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A published point with what was predicted for it, in the curve's own samples a second (or speed-up).

    ``linear`` is the naive prediction: as much a rank as at the smallest size. ``low`` and ``high`` are what links and
    overlap may make of it.
    """

    curve: str
    place: Place
    point: str
    ranks: int
    published: float
    predicted: float
    low: float
    high: float
    linear: float

    @property
    def error(self) -> float:
        """The relative error of the prediction."""
        return self.predicted / self.published - 1

    @property
    def linear_error(self) -> float:
        """The relative error of the naive one."""
        return self.linear / self.published - 1

    @property
    def efficiency(self) -> float:
        """What was published over the naive prediction."""
        return self.published / self.linear


def read(folder: Path) -> list[Document]:
    """Return the documents of a folder.

    Raises:
        DataError: none is there, one cannot be read, or a curve has nothing to predict.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise DataError(f"expected files of published curves in {folder} but found none")
    return [_read(path) for path in paths]


def compare(curve: Curve) -> list[Compared]:
    """Return every point but the smallest beside its prediction, calibrated on the smallest alone."""
    first, *others = curve.points
    rates: dict[Outlook, list[float]] = {}
    for outlook in ("likely", "best", "worst"):
        fabric = _fabric(curve, outlook)
        sample_s = _calibrated(curve, fabric, outlook)
        own = [_rate(curve, fabric, point, sample_s, outlook) for point in curve.points]
        # In the units of the curve: what one rank trains may come from elsewhere.
        rates[outlook] = [_published(curve, first) * rate / own[0] for rate in own]
    return [
        Compared(
            curve=curve.name,
            place=place(curve.scheme, _fabric(curve, "likely"), point.ranks),
            point=point.label,
            ranks=point.ranks,
            published=_published(curve, point),
            predicted=rates["likely"][number],
            low=min(rates["worst"][number], rates["best"][number]),
            high=max(rates["worst"][number], rates["best"][number]),
            linear=_published(curve, first) * point.ranks / first.ranks,
        )
        for number, point in enumerate(others, 1)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recomputed:
    """A figure that a source prints, and what its own other figures make of it.

    ``low`` and ``high`` are what the others may be: they are rounded to the last digit that is printed of them.
    """

    curve: str
    point: str
    figure: Printed
    value: float
    low: float
    high: float

    @property
    def published(self) -> float:
        """The figure as it is printed."""
        return float(self.figure.printed)

    @property
    def agrees(self) -> bool:
        """Whether they agree within the last digit that is printed, whether it was rounded or cut there."""
        last = 10.0 ** -_decimals(self.figure.printed)
        return self.low - last <= self.published <= self.high + last


def recompute(document: Document) -> list[Recomputed]:
    """Return every figure of a source that follows from its others.

    Raises:
        DataError: a figure is over a curve, or a size of it, that is not there.
    """
    return [
        _recomputed(document, curve, point, figure)
        for curve in document.curves
        for point in curve.points
        for figure in point.printed
    ]


def median_error(compared: Sequence[Compared]) -> float:
    """Return the median of the relative errors, without sign."""
    return float(np.median([abs(one.error) for one in compared]))


def median_linear_error(compared: Sequence[Compared]) -> float:
    """Return the same of the naive prediction."""
    return float(np.median([abs(one.linear_error) for one in compared]))


def reached(compared: Iterable[Compared], where: Place) -> tuple[float, float]:
    """Return between what shares of the prediction nine of ten published points at a place lie."""
    shares = [one.published / one.predicted for one in compared if one.place == where]
    low, high = np.quantile(shares, [0.05, 0.95])
    return float(low), float(high)


def _read(path: Path) -> Document:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Document)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"expected published curves with a source in {path} but {error}") from error
    for curve in found.curves:
        if len(curve.points) < 2 or curve.points[0].ranks != min(point.ranks for point in curve.points):
            raise DataError(f"{path}: expected two points or more, the smallest first, in curve {curve.name!r}")
    return found


def _recomputed(document: Document, curve: Curve, point: Point, figure: Printed) -> Recomputed:
    below, unit = 1.0, 0.0
    if figure.quantity == "speed-up":
        other = curve if figure.over is None else _named(document, figure.over)
        size = curve.points[0].ranks if figure.over is None else point.ranks
        found = [one.value for one in other.points if one.ranks == size]
        if not found:
            raise DataError(f"{curve.name!r}: expected {size} ranks in {other.name!r}, which a figure there is over")
        below, unit = found[0], _unit(other)
    elif figure.quantity == "efficiency":
        below = point.ranks / 100
    elif curve.quantity != "step seconds":
        below = point.ranks
    value, own = point.value, _unit(curve)
    low, high = (value - own / 2) / (below + unit / 2), (value + own / 2) / (below - unit / 2)
    middle = value / below
    if curve.quantity == "step seconds":
        # The fewer seconds, the more samples.
        scale = curve.batch if figure.quantity == "samples/s a rank" else 1.0
        low, middle, high = scale / high, scale / middle, scale / low
    return Recomputed(curve=curve.name, point=point.label, figure=figure, value=middle, low=low, high=high)


def _named(document: Document, name: str) -> Curve:
    found = [one for one in document.curves if one.name == name]
    if len(found) != 1:
        raise DataError(f"{document.source.title}: expected one curve {name!r} but found {len(found)}")
    return found[0]


def _unit(curve: Curve) -> float:
    """Return the last digit that is printed of a curve's values: of the one that shows most of them."""
    return 10.0 ** -max(_decimals(repr(point.value)) for point in curve.points)


def _decimals(written: str) -> int:
    return len(written.partition(".")[2].removesuffix("0") if written.endswith(".0") else written.partition(".")[2])


def _published(curve: Curve, point: Point) -> float:
    """Return the samples a second (or speed-up) of a point."""
    if curve.quantity == "step seconds":
        return curve.batch * point.ranks / point.value
    return point.value


@functools.cache
def _fabric(curve: Curve, outlook: Outlook) -> Fabric:
    own = hardware.gpu(curve.gpu)
    return hardware.fabric(own, curve.net, outlook, ranks_per_node=curve.ranks_per_node)


def _calibrated(curve: Curve, fabric: Fabric, outlook: Outlook) -> float:
    """Return the seconds a sample for which the smallest size comes out as published."""
    first = curve.points[0]
    wanted = curve.one_rank.samples_per_s if curve.one_rank is not None else _published(curve, first)
    low, high = 0.0, first.ranks / wanted
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle <= 0 or _rate(curve, fabric, first, middle, outlook) > wanted:
            low = middle
        else:
            high = middle
    return high


def _rate(curve: Curve, fabric: Fabric, point: Point, sample_s: float, outlook: Outlook) -> float:
    """Return the predicted samples a second of all ranks together."""
    setup = Setup(
        scheme=curve.scheme,
        sizes=_sizes(curve),
        sample_s=sample_s,
        batch=curve.batch,
        overlap=outlook != "worst",
        bucket_bytes=curve.bucket_bytes,
        buckets=curve.buckets,
        micro_batches=point.micro_batches,
        recompute=point.recompute,
    )
    many = 1 if setup.splits_model else point.ranks
    return many * curve.batch / step(setup, fabric, point.ranks).total_s


def _sizes(curve: Curve) -> Sizes:
    if curve.model is None:
        return Sizes(gradient_bytes=0.0, parameter_bytes=0.0)
    return of_parameters(
        hardware.model(curve.model).num_parameters,
        gradient_bytes=curve.gradient_bytes,
        parameter_bytes=curve.parameter_bytes,
    )
