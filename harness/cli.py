"""The command line: ``harness list | doctor | check | predict | report | compare | ...``; pytest runs suites."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness import cases, compare, controls, doctor, matrix, store
from harness.cases import Offer, Selection
from harness.check import asking, screen
from harness.errors import HarnessError
from harness.evidence import command as evidence
from harness.minimise import command as minimise
from harness.predict import command as predict
from harness.report import command as reporting
from harness.report.console import table
from harness.report.export import formats as export
from harness.strategies import base as strategies


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 it found something amiss, 2 it was asked wrongly."""
    parsed = _parser().parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
        sys.stdout.flush()
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)  # noqa: T201 - a command line speaks
        return 2
    except BrokenPipeError:
        # Whoever reads has seen enough; nothing is left to say when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="harness", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="every case, what it needs, and whether this machine has it")
    listing.add_argument("--matrix", action="store_true", help="what each strategy promises for each feature instead")
    listing.add_argument("--faults", action="store_true", help="the bugs that can be injected instead, and where")
    listing.add_argument("--json", action="store_true", help="one JSON object a case, or a cell of the matrix")
    listing.add_argument("--ls-scale", choices=["quick", "full"], default="quick", help="as for pytest")
    listing.add_argument("--ls-data-root", metavar="DIR", help="as for pytest")
    listing.set_defaults(run=_list)
    looking = commands.add_parser("doctor", help="what this machine has, what it lacks, and the way out")
    looking.add_argument("--ls-report-dir", default=store.REPORT_DIR, metavar="DIR")
    looking.set_defaults(run=_doctor)
    _add_check(commands.add_parser("check", help="does your own training step or strategy compute what serial does?"))
    shrinking = commands.add_parser("minimise", help="the smallest case that still differs, and a script that shows it")
    minimise.add_arguments(shrinking)
    shrinking.set_defaults(run=lambda parsed: minimise.run(parsed, _say))
    predicting = commands.add_parser("predict", help="what a training would take on 1 to 1,024 ranks of other machines")
    predict.add_arguments(predicting)
    predicting.set_defaults(run=lambda parsed: predict.run(parsed, _say))
    packing = commands.add_parser("bundle", help="pack a run with what its verdicts rest on into one file")
    evidence.add_bundle_arguments(packing)
    packing.set_defaults(run=lambda parsed: evidence.bundle(parsed, _say))
    judging = commands.add_parser("judge", help="judge bundles again, on any machine, and put them in a report")
    evidence.add_judge_arguments(judging)
    judging.set_defaults(run=lambda parsed: evidence.judge(parsed, _say))
    rendering = commands.add_parser("report", help="write a run's page again, or keep it current while the run goes on")
    reporting.add_arguments(rendering)
    rendering.set_defaults(run=lambda parsed: reporting.run(parsed, _say))
    exporting = commands.add_parser("export", help="a run as JSON, CSV, Parquet, Markdown or a badge")
    export.add_arguments(exporting)
    exporting.set_defaults(run=lambda parsed: export.run(parsed, _say))
    comparing = commands.add_parser("compare", help="what differs between runs or strategies: machine, verdicts, speed")
    compare.add_arguments(comparing)
    comparing.set_defaults(run=lambda parsed: compare.run(parsed, _say))
    return parser


def _add_check(checking: argparse.ArgumentParser) -> None:
    checking.description = "Exit status: 0 all equivalent, 1 different, 2 bad input, 3 not verified."
    checking.add_argument("where", metavar="MODULE:FUNCTION", help="or FILE.py:FUNCTION, or a strategy's name")
    checking.add_argument("--world-size", type=int, default=2, metavar="N", help="how many ranks (2)")
    checking.add_argument(
        "--workload", action="append", default=[], metavar="NAME", help="one training (or a JSON object) instead of all"
    )
    checking.add_argument("--framework", choices=["torch", "tensorflow"], default="torch", help="of a train(job)")
    checking.add_argument("--starts-equal", action="store_true", help="ranks are handed equal weights: none broadcasts")
    checking.add_argument("--timeout", type=float, default=60.0, metavar="S", help="a silent rank has hung after (60)")
    checking.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    checking.set_defaults(run=_check)


def _check(parsed: argparse.Namespace) -> int:
    question = asking.Question(
        where=parsed.where,
        world_size=parsed.world_size,
        trainings=tuple(parsed.workload),
        framework=parsed.framework,
        starts_equal=parsed.starts_equal,
    )
    with asking.runner(parsed.timeout) as runner:
        found = asking.ask(question, runner)
    _say(*([msgspec.json.encode(found.as_json()).decode()] if parsed.json else screen.screen(found)))
    return found.status


def _say(*lines: str) -> None:
    for line in lines:
        print(line)  # noqa: T201 - a command line speaks


def _list(parsed: argparse.Namespace) -> int:
    strategies.discover()
    if parsed.matrix:
        cells = (msgspec.json.encode(cell.as_json()).decode() for cell in matrix.cells())
        _say(*(cells if parsed.json else matrix.lines()))
        return 0
    if parsed.faults:
        _say(*table(controls.table()))
        return 0
    selection = Selection(scale=parsed.ls_scale, data_root=parsed.ls_data_root)
    offers = {
        (offer.case.id, suite): (suite, offer)
        for suite in ("conformance", "performance")
        for offer in cases.offers(selection, suite)
    }
    if parsed.json:
        _say(*(msgspec.json.encode(_as_json(suite, offer)).decode() for suite, offer in offers.values()))
        return 0
    rows = [["case", "suite", "markers", "here"]]
    rows += [[o.case.id, suite, " ".join(o.markers), o.lacks or "yes"] for suite, o in offers.values()]
    _say(*table(rows))
    ready = sum(offer.lacks is None for _, offer in offers.values())
    _say("", f"{len(offers)} cases, {ready} of them can run here")
    return 0


def _as_json(suite: str, offer: Offer) -> dict[str, object]:
    case = msgspec.structs.asdict(offer.case)
    return {"id": offer.case.id, **case, "suite": suite, "markers": offer.markers, "lacks": offer.lacks}


def _doctor(parsed: argparse.Namespace) -> int:
    findings = list(doctor.examine(Path(parsed.ls_report_dir)))
    marks = {"ok": "ok", "note": "note", "lacks": "LACKS"}
    _say(*table([[marks[f.state], f.topic, f.found, f.way_out] for f in findings]))
    return 0
