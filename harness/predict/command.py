"""``harness predict``: a table of what a training would take on 1 to 1,024 ranks of a named machine."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import get_args

import msgspec

from harness import store, workloads
from harness.errors import UsageError
from harness.measure.network import Fabric, Link
from harness.predict import hardware, plans, volumes
from harness.predict.hardware import Gpu, Outlook, Precision
from harness.predict.plans import Plan
from harness.predict.prediction import Setup, predict
from harness.predict.screen import LEFT_OUT, Training, screen
from harness.timings import Scaling

_MOST_RANKS = 1_024
_DEFAULT_BATCH = 64
_LINK = re.compile(r"(\d+(?:\.\d+)?)us,(\d+(?:\.\d+)?)GB/s", re.IGNORECASE)
_ON_CPU = "; ranks of a CPU share its memory and send with the cores that compute: expect less"
# Forward and backward take three times the multiply-adds of the forward, two FLOPs each.
_FLOPS_PER_MULTIPLY_ADD = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give ``harness predict`` its options."""
    parser.description = f"Gradients in buckets beside backward, by an alpha-beta model of the links. {LEFT_OUT}"
    parser.add_argument("--gpu", metavar="NAME", help="a100, h100, v100-pcie, ...: computing, and links in a node")
    parser.add_argument("--link", metavar="US,GB/s", help="a measured link instead of the GPU's: 40us,1.2GB/s")
    parser.add_argument("--net", metavar="RATE", help="between nodes, of a whole node: 25gbps, 200gbps, 8x400gbps")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", metavar="NAME", help="a published model: resnet50, bert-base, ...")
    what.add_argument("--workload", metavar="NAME", help="one of Lockstep's workloads of plain layers")
    parser.add_argument("--strategy", default="torch-ddp", metavar="NAME", help="what is sent, options too (torch-ddp)")
    parser.add_argument("--ranks", type=int, default=_MOST_RANKS, metavar="N", help="the most ranks to show (1024)")
    parser.add_argument("--ranks-per-node", type=int, metavar="N", help="GPUs a node (as the machine's data say)")
    parser.add_argument("--batch", type=int, metavar="N", help="samples a rank; in strong scaling and pipelines of all")
    parser.add_argument(
        "--scaling", choices=get_args(Scaling), default="weak", help="what stays fixed (weak: a rank's)"
    )
    parser.add_argument("--micro-batches", type=int, metavar="M", help="of a pipeline (one a rank)")
    parser.add_argument("--precision", choices=get_args(Precision), help="half where the GPU has it, else float32")
    parser.add_argument(
        "--run", dest="run_name", metavar="RUN", help="take the workload's measured serial time from it"
    )
    parser.add_argument("--ls-report-dir", default=store.REPORT_DIR, metavar="DIR")
    parser.add_argument("--json", action="store_true", help="one JSON object a number of ranks instead of a table")


def run(parsed: argparse.Namespace, say: Callable[..., None]) -> int:
    """Predict and print; return 0.

    Raises:
        UsageError: an unknown name, numbers that cannot be, or a question that the data do not answer.
    """
    own = _machine(parsed)
    plan = plans.plan(parsed.strategy, None if parsed.workload is None else workloads.get(parsed.workload))
    training = _training(parsed, own)
    setup = Setup(
        scheme=plan.scheme,
        sizes=plan.sent(training.sizes),
        sample_s=training.sample_s,
        batch=training.batch,
        scaling=parsed.scaling,
        overlap=plan.overlap,
        bucket_bytes=plan.bucket_bytes,
        recompute=plan.recompute,
        micro_batches=_micro_batches(parsed.micro_batches, plan, training.batch),
    )
    usual = _MOST_RANKS if own is None else own.ranks_per_node
    per_node = _at_least_one("--ranks-per-node", parsed.ranks_per_node) or usual
    most, ended = _most(parsed, per_node, setup, training)
    found = predict(setup, _fabrics(parsed, own, per_node), _counts(most))
    notes = [ended] if ended else []
    if plan.not_modelled:
        notes.append(f"Not modelled, so without effect here: {', '.join(plan.not_modelled)}.")
    if parsed.json:
        say(*(msgspec.json.encode(dataclasses.asdict(one)).decode() for one in found))
        sys.stderr.writelines(f"{note}\n" for note in notes)
    else:
        head = f"{plan.name} of {training.name}: {', '.join(_where(parsed, own, per_node, training))}"
        say(*screen(head, training, setup, found, notes))
    return 0


def _where(parsed: argparse.Namespace, own: Gpu | None, per_node: int, training: Training) -> list[str]:
    """Return what a prediction is of: whose computing, and which links."""
    where = [f"computing of {training.computer}"] if training.computer else []
    if own is not None:
        where += [f"links of {own.title}" if where else own.title, f"{per_node} a node"]
    where += [f"link {parsed.link}"] if parsed.link else []
    return [*where, f"{parsed.net} between nodes" if parsed.net else "one node"]


def _micro_batches(asked: int | None, plan: Plan, batch: float) -> int | None:
    """Return a pipeline's number of micro-batches, None for one a rank."""
    if _at_least_one("--micro-batches", asked) is not None:
        if plan.scheme != "pipeline":
            raise UsageError(f"expected --micro-batches with a pipeline but {plan.name!r} has none; leave it out")
        if plan.micro_batches not in {None, asked}:
            raise UsageError(f"expected --micro-batches or chunks but got {asked} and {plan.name!r}; leave one out")
    count = asked or plan.micro_batches
    if count is not None and count > batch:
        raise UsageError(
            f"expected no more micro-batches than samples but got {count} of a batch of {batch:g}; "
            "take a larger --batch or fewer micro-batches"
        )
    return count


def _machine(parsed: argparse.Namespace) -> Gpu | None:
    """Return the GPU, or None where a run and a measured link tell all that its data would."""
    if parsed.gpu is not None:
        return hardware.gpu(parsed.gpu)
    if parsed.run_name is None or parsed.link is None:
        known = ", ".join(one.name for one in hardware.machines().gpus)
        raise UsageError(f"expected --gpu ({known}), or both --run and --link, but got neither")
    return None


def _fabrics(parsed: argparse.Namespace, own: Gpu | None, per_node: int) -> Callable[[Outlook], Fabric]:
    """Return the links as likely, at best and at worst; a measured link is what it is."""
    measured = _link(parsed.link) if parsed.link is not None else None

    @functools.cache
    def fabrics(outlook: Outlook) -> Fabric:
        if measured is None:
            assert own is not None, "without a GPU there is a measured link"
            return hardware.fabric(own, parsed.net, outlook, ranks_per_node=per_node)
        outer = measured
        if parsed.net is not None:
            outer = hardware.link("network", hardware.net_bytes_per_s(parsed.net), outlook)
        return Fabric(inner=measured, outer=outer, ranks_per_node=per_node)

    return fabrics


def _link(written: str) -> Link:
    matched = _LINK.fullmatch(written.replace(" ", ""))
    if not matched or not float(matched[2]):
        raise UsageError(f"expected a link like --link 40us,1.2GB/s (bench_link.py measures one) but got {written!r}")
    return Link(alpha_s=float(matched[1]) * 1e-6, bytes_per_s=float(matched[2]) * 1e9)


def _training(parsed: argparse.Namespace, own: Gpu | None) -> Training:
    batch = _at_least_one("--batch", parsed.batch)
    if parsed.model is not None:
        if parsed.run_name is not None:
            raise UsageError("expected --workload with --run, whose records hold workloads, but got --model")
        known = hardware.model(parsed.model)
        computer, num_layers = "", None
        sample_s, origin = _computing(known.name, known.multiply_adds, known.unit, own, parsed.precision)
        sizes = volumes.of_parameters(known.num_parameters)
        name, unit, usual = known.name, known.unit, _DEFAULT_BATCH
    else:
        workload = workloads.get(parsed.workload)
        sizes, num_layers = volumes.of_workload(workload), volumes.num_layers(workload)
        if parsed.run_name is not None:
            if parsed.precision is not None:
                raise UsageError("expected no --precision with --run, which computed in its own; leave one of them out")
            sample_s, origin, computer = _recorded(parsed.run_name, parsed.ls_report_dir, workload.name)
        else:
            computer, multiply_adds = "", volumes.multiply_adds(workload)
            sample_s, origin = _computing(workload.name, multiply_adds, "samples", own, parsed.precision)
        name, unit, usual = workload.name, "samples", workload.global_batch
    return Training(
        name=name,
        unit=unit,
        sizes=sizes,
        sample_s=sample_s,
        origin=origin,
        computer=computer,
        batch=batch or usual,
        num_layers=num_layers,
    )


def _computing(
    name: str, multiply_adds: float, unit: str, own: Gpu | None, asked: Precision | None
) -> tuple[float, str]:
    """Return the seconds of a sample on one GPU, measured by somebody or else from the peak, and which of the two."""
    assert own is not None, "without a GPU there is a run"
    precision: Precision = asked or ("half" if own.half_flops is not None else "float32")
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


def _recorded(run_name: str, report_dir: str, workload: str) -> tuple[float, str, str]:
    """Return the seconds of a sample of serial training on one rank's share in a run, in words, and where it ran."""
    read = store.read(run_name, report_dir)
    timed = [(one, one.timing) for one in read.records if one.timing is not None and one.timing.scaling == "strong"]
    for record, timing in reversed(timed):
        serial = timing.baseline("one share")
        if record.workload == workload and serial is not None:
            sample_s = statistics.median(serial.epoch_s) / timing.num_samples
            computer = f"run {read.info.id} ({record.device})"
            origin = f"{1 / sample_s:.4g} samples/s, serial on one share in {computer}"
            return sample_s, origin + (_ON_CPU if record.device == "cpu" else ""), computer
    known = ", ".join(sorted({record.workload for record, _ in timed})) or "none"
    raise UsageError(f"expected a timed case of workload {workload!r} in run {read.info.id} but it timed {known}")


def _most(parsed: argparse.Namespace, per_node: int, setup: Setup, training: Training) -> tuple[int, str]:
    """Return the most ranks to show, and why no more where more were asked for."""
    most, ended = parsed.ranks, ""
    if not 1 <= most <= _MOST_RANKS:
        raise UsageError(f"expected --ranks between 1 and {_MOST_RANKS:,} but got {most}")
    if most > per_node and parsed.net is None:
        if most != _MOST_RANKS:
            raise UsageError(f"expected --net for {most} ranks at {per_node} a node, for example --net 200gbps")
        most, ended = per_node, f"Rows end at {per_node} ranks, a node: for more say what joins nodes, --net 200gbps."
    for limit, why in _limits(setup, training):
        if limit < most:
            most, ended = limit, f"Rows end at {limit} ranks: {why}."
    return most, ended


def _limits(setup: Setup, training: Training) -> Iterator[tuple[int, str]]:
    """Yield how many ranks a training can be spread over, and why."""
    batch = math.floor(setup.batch)
    if setup.scheme == "pipeline":
        if training.num_layers is not None:
            yield training.num_layers, f"on more, a stage would have none of the {training.num_layers} layers"
        if setup.micro_batches is None:
            yield batch, f"on more, one of as many micro-batches would have no sample of {batch}; see --micro-batches"
    elif setup.scaling == "strong" and not setup.splits_model:
        yield batch, f"on more, a rank would have no sample of the {batch} in all; take a larger --batch"


def _counts(most: int) -> list[int]:
    """Return the numbers of ranks to show: powers of two up to ``most``, and that itself."""
    return sorted({1 << power for power in range(most.bit_length())} | {most})


def _at_least_one(name: str, given: int | None) -> int | None:
    if given is not None and given < 1:
        raise UsageError(f"expected {name} of at least 1 but got {given}")
    return given
