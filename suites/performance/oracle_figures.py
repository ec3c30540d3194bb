"""What every report says of the oracle: harness/report/sections/oracle.json, from the measurements in docs/data.

python suites/performance/oracle_figures.py
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import msgspec
import numpy as np
from oracle_data import DOCS, area, partial, read, scores, whole

from harness.oracles.precision import PRECISIONS
from harness.report.sections.known import FILE, Curve, Detection, Known

# Thresholds at which a curve is drawn: four a decade.
THRESHOLDS = 10.0 ** np.arange(-1, 17.01, 0.25)


def curves() -> tuple[Curve, ...]:
    """Return, for each precision, how many clean and wrong runs lie beyond which threshold."""
    clean, runs, _ = read()
    found = []
    for precision, constants in PRECISIONS.items():
        sound = scores(clean, precision) + scores([row for row in runs if row["kind"] == "clean"], precision)
        bugs = scores([row for row in runs if whole(row) or partial(row)], precision)
        found.append(
            Curve(
                precision=precision,
                factor=constants.factor,
                num_clean=len(sound),
                num_bugs=len(bugs),
                area=area(sound, bugs),
                thresholds=tuple(float(f"{at:.4g}") for at in THRESHOLDS),
                clean=_beyond(sound),
                bugs=_beyond(bugs),
            )
        )
    return tuple(found)


def _beyond(values: list[float]) -> tuple[float, ...]:
    return tuple(float(f"{np.mean(np.asarray(values) > at):.4g}") for at in THRESHOLDS)


def detection(file: Path) -> Detection | None:
    """Return what ``bench_fault_detection.py --out FILE`` found, or None where it has not run."""
    if not file.exists():
        return None
    told = json.loads(gzip.decompress(file.read_bytes()))
    outcomes = told["outcomes"]
    judged = [one for one in outcomes if one["cause"] is not None]
    return Detection(
        num_pairs=len(outcomes),
        num_caught=sum(one["detected"] for one in outcomes),
        num_faults=len({one["fault"] for one in outcomes}),
        num_strategies=len({one["strategy"] for one in outcomes}),
        num_judged=len(judged),
        num_causes=sum(one["cause"] for one in judged),
        num_misled=sum(not one["cause"] and one["confidence"] == "certain" for one in judged),
    )


def main() -> None:
    """Write the file."""
    clean, _, _ = read()
    known = Known(
        num_clean=len(clean),
        num_alarms=sum(row["conclusion"] == "different" for row in clean),
        curves=curves(),
        detection=detection(DOCS / "data" / "fault_detection.json.gz"),
        held_out=detection(DOCS / "data" / "fault_detection_held_out.json.gz"),
    )
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(known), indent=0) + b"\n")


if __name__ == "__main__":
    main()
