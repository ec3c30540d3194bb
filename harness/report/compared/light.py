"""A run without its evidence, read in a fraction of the time: what comparing it with another one takes."""

from __future__ import annotations

from pathlib import Path

import msgspec

from harness import store
from harness.record import SCHEMA, Conclusion, Record
from harness.store import RECORDS, Run
from harness.timings import Timing


class _Light(msgspec.Struct):
    """The fields of a record that are read; all others stay empty."""

    schema: int
    run: str
    case: str
    strategy: str
    workload: str
    workload_digest: str
    world_size: int
    device: str
    verdict: Conclusion
    reason: str
    failed: bool = False
    fault: str | None = None
    timing: Timing | None = None
    # Most records of a run were taken in one environment: it is decoded once.
    environment: msgspec.Raw = msgspec.Raw(b"{}")


_RECORD = msgspec.json.Decoder(_Light, strict=False)
_ENVIRONMENT = msgspec.json.Decoder(dict[str, str | float | int])


def size(directory: Path) -> int:
    """Return how many bytes reading a run takes; 0 where there is nothing to read."""
    path = directory / RECORDS
    return path.stat().st_size if path.is_file() else 0


def read(directory: Path) -> Run:
    """Return the run in ``directory`` without evidence, logs and resources.

    Lines that are damaged or of another schema are counted and left out.

    Raises:
        OSError: it cannot be read; SchemaError: its run.json is of another schema.
    """
    info, losses = store.read_info(directory)
    records, num_damaged = [], 0
    known: dict[bytes, dict[str, str | float | int]] = {}
    with (directory / RECORDS).open("rb") as lines:
        for line in lines:
            try:
                found = _RECORD.decode(line)
                environment = bytes(found.environment)
                if environment not in known:
                    known[environment] = _ENVIRONMENT.decode(environment)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                num_damaged += bool(line.strip())
                continue
            if found.schema != SCHEMA or found.fault is not None:
                num_damaged += found.schema != SCHEMA
                continue
            records.append(_record(found, known[environment]))
    return Run(directory=directory, info=info, records=tuple(records), num_damaged=num_damaged, losses=losses)


def _record(found: _Light, environment: dict[str, str | float | int]) -> Record:
    return Record(
        run=found.run,
        case=found.case,
        strategy=found.strategy,
        framework="",
        workload=found.workload,
        workload_digest=found.workload_digest,
        world_size=found.world_size,
        device=found.device,
        dtype="",
        reference="",
        verdict=found.verdict,
        failed=found.failed,
        reason=found.reason,
        timing=found.timing,
        environment=environment,
    )
