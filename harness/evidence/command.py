"""``harness bundle`` and ``harness judge``: verdicts with all they rest on, carried from machine to machine."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from harness import report, scratch, store
from harness.errors import MissingRequirementError
from harness.evidence import packing, rejudging, unpacking
from harness.evidence.manifest import PackedCase, reason
from harness.evidence.rejudging import Rejudged, key_of
from harness.measure import machine
from harness.record import GRAVITY, Record
from harness.report import words
from harness.report.console import clean
from harness.store import Journal, RunInfo

Say = Callable[..., None]


def add_bundle_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``harness bundle``."""
    parser.description = "Exit status: 0 packed, 2 bad input."
    parser.add_argument("run_name", metavar="RUN", help="a run's folder, its id, or 'latest'")
    parser.add_argument("-o", "--out", metavar="FILE", help=f"where the bundle goes (RUN{packing.SUFFIX})")
    parser.add_argument("--ls-report-dir", default=store.REPORT_DIR, metavar="DIR")


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``harness judge``."""
    parser.description = (
        "Exit status: 0 all that is judged again agrees, 1 something does not, or nothing could be judged, 2 bad input."
    )
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="files of `harness bundle`")
    parser.add_argument("--into", metavar="RUN", help="add the records to this run instead of making a new one")
    parser.add_argument("--ls-report-dir", default=store.REPORT_DIR, metavar="DIR")
    parser.add_argument(
        "--at-most",
        type=_gib,
        default=unpacking.MOST_BYTES,
        metavar="GIB",
        help=f"refuse a bundle that unpacks to more ({unpacking.MOST_BYTES >> 30})",
    )


def bundle(parsed: argparse.Namespace, say: Say) -> int:
    """Pack a run and say what was packed.

    Raises:
        HarnessError: no such run, or it cannot be read or packed.
    """
    run = store.read(parsed.run_name, parsed.ls_report_dir)
    packed = packing.pack(run, Path(parsed.out or f"{run.directory.name}{packing.SUFFIX}"))
    cases = packed.manifest.cases
    lacking = [case for case in cases if not case.question]
    why_not = [words.not_verified(why, names) for why, names in _by_reason(lacking).items()]
    for lost in run.losses:
        say(lost)
    if not run.info.ended:
        say("the run did not end; what it has so far is packed")
    say(
        f"{packed.file}: {words.count(len(cases), 'case')}, {len(cases) - len(lacking)} can be judged again; "
        f"{words.count(len(packed.manifest.files), 'file')}, {words.bytes_size(packed.num_bytes)} "
        f"({words.bytes_size(packed.manifest.num_bytes)} unpacked)",
        *(f"not to be judged again: {clean(told)}" for told in why_not),
        f"sha256 {packed.sha256}",
    )
    least = unpacking.least_bytes(packed.manifest)
    if least > unpacking.MOST_BYTES:
        say(f"judge it with --at-most {math.ceil(least / (1 << 30))}: it is larger than what is taken unasked")
    return 0


def judge(parsed: argparse.Namespace, say: Say) -> int:
    """Judge bundles again, say what came out, and write it as a run; nothing is written where one is refused.

    Raises:
        HarnessError: a bundle or the run to add to cannot be read, or the records cannot be written.
    """
    into = store.read(parsed.into, parsed.ls_report_dir) if parsed.into else None
    here = into.records if into else ()
    findings: list[Rejudged] = []
    added: list[Record] = []
    for name in parsed.bundles:
        found, records = _again(Path(name), parsed.at_most, say)
        findings += found
        added += _counting(records, [*here, *added], say)
    status = rejudging.status(findings)
    if into is not None:
        journal = Journal(into.directory, None)
    else:
        journal = _new_run(Path(parsed.ls_report_dir), shlex.join(["harness", "judge", *parsed.bundles]))
    try:
        for record in added:
            journal.append(record)
        if into is None:
            journal.finish(status)
    finally:
        journal.close()
    num = rejudging.tally(findings)
    told = f"{num['agrees']} agree, {num['disagrees']} disagree, {num['not judged again']} not judged again"
    say(f"{words.count(sum(num.values()), 'case')}: {told}")
    try:
        say(f"report: {report.write(journal.directory)}")
    except MissingRequirementError as error:
        say(f"no report: {error}")
    return status


def _again(bundle: Path, at_most: int, say: Say) -> tuple[list[Rejudged], list[Record]]:
    """Judge the cases of one bundle; return what came out and the records as they count here."""
    sha256 = unpacking.checksum(bundle)
    folder = scratch.create()
    try:
        manifest = unpacking.unpack(bundle, folder, at_most)
        made = clean(f"made by Lockstep {manifest.lockstep}, commit {manifest.commit or 'unknown'}")
        say(f"{bundle}: {made}; sha256 {sha256}")
        run = store.read(folder)
        for lost in run.losses:
            say(lost)
        if run.claims:
            say(f"left out, as no traces tell of them: {words.count(len(run.claims), 'published claim')}")
        asked = rejudging.questions(folder, manifest)
        verdicts = {name: rejudging.rejudge(question) for name, question in asked.items()}
        findings, records = [], []
        for record in run.records:
            verdict = verdicts.get(record.traces)
            finding = rejudging.held(record, asked.get(record.traces), verdict, reason(record))
            findings.append(finding)
            records.append(rejudging.restated(record, finding, sha256))
        told = {record.traces for record in run.records}
        findings += [rejudging.unrecorded(asked[name], verdicts[name], name) for name in asked if name not in told]
    finally:
        scratch.remove(folder)
    for finding in findings:
        say(f"  {clean(words.headline(str(finding)))}")
    return findings, records


def _counting(records: list[Record], there: list[Record], say: Say) -> list[Record]:
    """Return what has more to say of its case than the records that are there, and say what has not."""
    known: dict[tuple[str, str, str | None], int] = {}
    for record in there:
        if (gravity := _gravity(record)) is not None:
            known[key_of(record)] = max(known.get(key_of(record), 0), gravity)
    new: list[Record] = []
    left_out: dict[str, None] = {}
    graver: dict[str, None] = {}
    for record in records:
        before = known.get(key_of(record), -1)
        if GRAVITY.index(record.verdict) <= before:
            left_out[record.case] = None
            continue
        new.append(record)
        if before >= 0:
            graver[record.case] = None
    if left_out:
        say(clean(f"left out, as there is a verdict as grave already: {words.listing(list(left_out), 8)}"))
    if graver:
        say(clean(f"graver than the verdict that was there, and so added: {words.listing(list(graver), 8)}"))
    return new


def _new_run(report_dir: Path, command: str) -> Journal:
    run = store.new_run_id()
    info = RunInfo(id=run, started=store.utc_now(), command=command, environment=machine.environment())
    return Journal(report_dir / run, info)


def _gravity(record: Record) -> int | None:
    """Return how grave what a run says of a case is; None where that is no more than what its machine lacks."""
    if record.failed:
        return GRAVITY.index("inconclusive")  # no pass from elsewhere makes up for it
    judged = record.verdict != "not-verified" or record.evidence is not None or record.judged_from
    return GRAVITY.index(record.verdict) if judged else None


def _by_reason(cases: Iterable[PackedCase]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for case in cases:
        found.setdefault(words.headline(case.reason), []).append(case.case)
    return found


def _gib(text: str) -> int:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of GiB > 0 but got {text}")
    return int(number * (1 << 30))
