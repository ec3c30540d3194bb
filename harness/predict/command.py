"""``harness predict``: a table of what a training would take on 1 to 1,024 ranks of a named machine."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import msgspec

from harness import store, workloads
from harness.errors import UsageError
from harness.measure.network import Fabric
from harness.predict import hardware, volumes
from harness.predict.hardware import Gpu, Outlook, Precision
from harness.predict.prediction import Prediction, Setup, predict
from harness.report.console import table
from harness.timings import Scaling

_MOST_RANKS = 1_024
_DEFAULT_BATCH = 64
# Forward and backward take three times the multiply-adds of the forward, two FLOPs each.
_FLOPS_PER_MULTIPLY_ADD = 6
_LEFT_OUT = "Left out: reading data, ranks that straggle, contention between sending and computing, other jobs."


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What is trained: its sizes, the seconds of a sample on one rank, and in words where those come from."""

    name: str
    unit: str
    sizes: volumes.Sizes
    sample_s: float
    origin: str
    batch: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give ``harness predict`` its options."""
    parser.description = f"Gradients in buckets beside backward, by an alpha-beta model of the links. {_LEFT_OUT}"
    parser.add_argument("--gpu", required=True, metavar="NAME", help="a100, h100, v100-pcie, ...: compute and links")
    parser.add_argument("--net", metavar="RATE", help="between nodes, of a whole node: 25gbps, 200gbps, 8x400gbps")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", metavar="NAME", help="a published model: resnet50, bert-base, ...")
    what.add_argument("--workload", metavar="NAME", help="one of Lockstep's workloads of plain layers")
    parser.add_argument("--strategy", default="torch-ddp", metavar="NAME", help="what is sent (torch-ddp)")
    parser.add_argument("--ranks", type=int, default=_MOST_RANKS, metavar="N", help="the most ranks to show (1024)")
    parser.add_argument("--ranks-per-node", type=int, metavar="N", help="GPUs a node (as the machine's data say)")
    parser.add_argument("--batch", type=int, metavar="N", help="samples a rank; in strong scaling and pipelines of all")
    parser.add_argument("--scaling", choices=get_args(Scaling), default="weak", help="what stays fixed (weak: a rank's)")
    parser.add_argument("--micro-batches", type=int, metavar="M", help="of a pipeline (one a rank)")
    parser.add_argument("--precision", choices=get_args(Precision), help="half where the GPU has it, else float32")
    parser.add_argument("--run", dest="run_name", metavar="RUN", help="take the workload's measured serial time from it")
    parser.add_argument("--ls-report-dir", default=store.REPORT_DIR, metavar="DIR")
    parser.add_argument("--json", action="store_true", help="one JSON object a number of ranks instead of a table")


def run(parsed: argparse.Namespace, say: Callable[..., None]) -> int:
    """Predict and print; return 0.

    Raises:
        UsageError: an unknown name, numbers that cannot be, or a question that the data do not answer.
    """
    own = hardware.gpu(parsed.gpu)
    plan = volumes.scheme(parsed.strategy)
    training = _training(parsed, own)
    setup = Setup(
        scheme=plan,
        sizes=training.sizes,
        sample_s=training.sample_s,
        batch=training.batch,
        scaling=parsed.scaling,
        bucket_bytes=volumes.bucket_bytes(parsed.strategy),
        recompute="except-last" if parsed.strategy.startswith("torchgpipe") else "never",
        micro_batches=_at_least_one("--micro-batches", parsed.micro_batches),
    )
    per_node = _at_least_one("--ranks-per-node", parsed.ranks_per_node) or own.ranks_per_node
    counts = _counts(parsed.ranks, per_node, parsed.net)
    if parsed.scaling == "strong" and not setup.splits_model:
        counts = [count for count in counts if count <= setup.batch]
    found = predict(setup, _fabrics(own, parsed.net, per_node), counts)
    if parsed.json:
        say(*(msgspec.json.encode(dataclasses.asdict(one)).decode() for one in found))
    else:
        say(*_screen(parsed, own, per_node, training, setup, found))
    return 0


def _fabrics(own: Gpu, net: str | None, per_node: int) -> Callable[[Outlook], Fabric]:
    @functools.cache
    def fabrics(outlook: Outlook) -> Fabric:
        return hardware.fabric(own, net, outlook, ranks_per_node=per_node)

    return fabrics


def _training(parsed: argparse.Namespace, own: Gpu) -> Training:
    precision: Precision = parsed.precision or ("half" if own.half_flops is not None else "float32")
    batch = _at_least_one("--batch", parsed.batch)
    if parsed.model is not None:
        if parsed.run_name is not None:
            raise UsageError("expected --workload with --run, whose records hold workloads, but got --model")
        known = hardware.model(parsed.model)
        sizes = volumes.of_parameters(known.num_parameters)
        sample_s, origin = _computing(known.name, known.multiply_adds, known.unit, own, precision)
        return Training(
            name=known.name,
            unit=known.unit,
            sizes=sizes,
            sample_s=sample_s,
            origin=origin,
            batch=batch or _DEFAULT_BATCH,
        )
    workload = workloads.get(parsed.workload)
    sizes = volumes.of_workload(workload)
    if parsed.run_name is not None:
        sample_s, origin = _recorded(parsed.run_name, parsed.ls_report_dir, workload.name)
    else:
        sample_s, origin = _computing(workload.name, volumes.multiply_adds(workload), "samples", own, precision)
    return Training(
        name=workload.name,
        unit="samples",
        sizes=sizes,
        sample_s=sample_s,
        origin=origin,
        batch=batch or workload.global_batch,
    )


def _computing(name: str, multiply_adds: float, unit: str, own: Gpu, precision: Precision) -> tuple[float, str]:
    """Return the seconds of a sample on one GPU, measured by somebody or else from the peak, and which of the two."""
    peak = own.flops(precision)
    known = hardware.measured(name, own.name, precision)
    if known is not None:
        return 1 / known.samples_per_s, f"{known.samples_per_s:g} {unit}/s in {precision}, measured: {known.source}"
    share = hardware.machines().utilisation
    per_s = share.likely * peak / (_FLOPS_PER_MULTIPLY_ADD * multiply_adds)
    return 1 / per_s, (
        f"{per_s:.4g} {unit}/s in {precision}, estimated at {share.likely:.0%} of {peak / 1e12:g} TFLOP/s "
        f"(known: {share.low:.0%} to {share.high:.0%}); a small model reaches less"
    )


def _recorded(run_name: str, report_dir: str, workload: str) -> tuple[float, str]:
    """Return the seconds of a sample of serial training on one rank's share, from a run's records."""
    read = store.read(run_name, report_dir)
    for record in reversed(read.records):
        serial = [one for one in record.timing.baselines if one.name == "one share"] if record.timing else []
        if record.workload == workload and record.timing is not None and record.timing.scaling == "strong" and serial:
            sample_s = statistics.median(serial[0].epoch_s) / record.timing.num_samples
            return sample_s, f"{1 / sample_s:.4g} samples/s, serial on one share in run {read.info.id} ({record.device})"
    timed = sorted({record.workload for record in read.records if record.timing is not None})
    raise UsageError(
        f"expected a timed case of workload {workload!r} in run {read.info.id} but it timed {', '.join(timed) or 'none'}"
    )


def _counts(most: int, per_node: int, net: str | None) -> list[int]:
    """Return the numbers of ranks to show: powers of two up to ``most``, and that itself."""
    if not 1 <= most <= _MOST_RANKS:
        raise UsageError(f"expected --ranks between 1 and {_MOST_RANKS:,} but got {most}")
    if most > per_node and net is None:
        if most != _MOST_RANKS:
            raise UsageError(f"expected --net for {most} ranks at {per_node} a node, for example --net 200gbps")
        most = per_node
    return sorted({1 << power for power in range(most.bit_length())} | {most})


def _at_least_one(name: str, given: int | None) -> int | None:
    if given is not None and given < 1:
        raise UsageError(f"expected {name} of at least 1 but got {given}")
    return given


def _screen(
    parsed: argparse.Namespace,
    own: Gpu,
    per_node: int,
    training: Training,
    setup: Setup,
    found: Sequence[Prediction],
) -> list[str]:
    strong = setup.splits_model or setup.scaling == "strong"
    net = f"{parsed.net} between nodes" if parsed.net else "one node"
    rows = [["ranks", "step", f"{training.unit.split()[0]}/s", "speed-up", "range", "efficiency", "limited by"]]
    rows += [_row(one, training) for one in found]
    return [
        f"{parsed.strategy} of {training.name}: {own.title}, {per_node} a node, {net}; "
        f"{'strong' if strong else 'weak'} scaling, {training.batch:g} {training.unit} {'in all' if strong else 'a rank'}",
        f"computing on one rank: {training.origin}",
        f"sent in a step: {_sent(setup)}",
        "",
        *table(rows),
        "",
        "Range: what links and overlap may make of it, and nine of ten published curves (docs/performance.md).",
        _LEFT_OUT,
    ]


def _row(one: Prediction, training: Training) -> list[str]:
    per_s = one.speedup.likely / training.sample_s
    return [
        f"{one.num_ranks:,}",
        _time(one.step_s.likely),
        f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}",
        f"{one.speedup.likely:.4g}",
        f"{one.speedup.low:.4g} to {one.speedup.high:.4g}",
        f"{one.efficiency.likely:.0%}",
        one.limit,
    ]


def _sent(setup: Setup) -> str:
    if setup.scheme == "pipeline":
        cut = setup.sizes.cut_bytes
        return "activations from stage to stage" + ("" if cut is None else f", {_bytes(cut)} a sample and cut")
    sent = volumes.transfers(setup.scheme, setup.sizes, setup.batch)
    beside = {"forward": "beside forward", "backward": "beside backward", "alone": "alone"}
    return "; ".join(f"{one.kind} of {_bytes(one.num_bytes)} {beside[one.beside]}" for one in sent)


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
