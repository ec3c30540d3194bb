"""Predictions of published scaling curves: each calibrated on its smallest size only, every larger size predicted.

What a rank computes comes from the smallest published size (or, where a source tells speed-ups only, from what one
such GPU was measured to train elsewhere), links from data sheets and NCCL's tuning tables, and the gradients' buckets
from the library's settings: see fixtures/published and harness/predict/machines.json. Nothing is fitted to the points
that are predicted. Beside the model stands the naive prediction: as much a rank as at the smallest size.

    python suites/performance/bench_predictions.py [--curves FOLDER]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from benching import tell

from harness.measure.statistics import interval
from harness.predict import published
from harness.predict.hardware import Place
from harness.predict.published import Compared, Document
from harness.report.console import table

CURVES = Path(__file__).parents[2] / "fixtures" / "published"
GOAL = 0.15
# Where ideal scaling is no longer a good guess.
HARD = 0.9


def rows(compared: Sequence[Compared]) -> list[list[str]]:
    """Return a row a point."""
    return [
        [
            one.point,
            f"{one.published:,.4g}",
            f"{one.predicted:,.4g}",
            f"{one.error:+.1%}",
            f"{one.linear_error:+.1%}",
            f"{one.efficiency:.0%}",
        ]
        for one in compared
    ]


def show(document: Document) -> list[Compared]:
    """Print the curves of a source, and return all their points."""
    source = document.source
    print(f"\n{source.title}\n  {source.where} (read {source.read})" + (f"\n  {source.notes}" if source.notes else ""))
    found = []
    for curve in document.curves:
        compared = published.compare(curve)
        net = curve.net or "one node"
        print(
            f"\n  {curve.name} [{curve.gpu}, {net}; calibrated on {curve.points[0].label} = {curve.points[0].value:g}]"
        )
        head = ["ranks", "published", "predicted", "error", "if linear", "of linear"]
        print("\n".join(f"    {line}" for line in table([head, *rows(compared)])))
        found += compared
    return found


def coverage(by_source: Sequence[Sequence[Compared]], where: Place) -> tuple[int, int]:
    """Return of how many points at a place the published value lies in the range, and their number.

    The range of a source's points is taken from all other sources, as one has it for a machine not measured yet.
    """
    inside = total = 0
    for number, own in enumerate(by_source):
        others = [one for other, points in enumerate(by_source) if other != number for one in points]
        if not any(one.place == where for one in others):
            continue
        low, high = published.reached(others, where)
        here = [one for one in own if one.place == where]
        inside += sum(
            min(one.low, low * one.predicted) <= one.published <= max(one.high, high * one.predicted) for one in here
        )
        total += len(here)
    return inside, total


def summary(name: str, points: Sequence[Compared]) -> list[str]:
    """Return a row of the closing table."""
    own, linear = published.median_error(points), published.median_linear_error(points)
    worst = max(points, key=lambda one: abs(one.error))
    return [name, str(len(points)), f"{own:.1%}", f"{linear:.1%}", f"{worst.error:+.0%} {worst.curve}, {worst.point}"]


def main() -> None:
    """Predict and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, default=CURVES, help="folder of published curves")
    documents = published.read(parser.parse_args().curves)
    by_source = [show(document) for document in documents]
    every = [one for points in by_source for one in points]
    hard = [one for one in every if one.efficiency < HARD]
    print("\nMedian of |error|:\n")
    lines = [["", "points", "predicted", "if linear", "worst"], summary("all", every)]
    lines.append(summary(f"below {HARD:.0%} of linear", hard))
    lines += [summary(where, [one for one in every if one.place == where]) for where in get_args(Place)]
    sources = [document.source.title.split(",")[0] for document in documents]
    lines += [summary(name, points) for name, points in zip(sources, by_source, strict=True)]
    print("\n".join(table(lines)))
    print("\nPublished over predicted, 5 to 95 % of points, and how many lie in the range that other sources give:")
    for where in get_args(Place):
        low, high = published.reached(every, where)
        inside, total = coverage(by_source, where)
        told = f"{inside} of {total} ({inside / total:.0%})" if total else "no other source"
        print(f"  {where}: {low:.3f} to {high:.3f}; {told}")
    # Points of a curve err alike: the interval is over curves.
    over = interval([published.median_error(published.compare(curve)) for one in documents for curve in one.curves])
    error = published.median_error(every)
    print(f"{sum(abs(one.error) < abs(one.linear_error) for one in every)} of {len(every)} points nearer than linear")
    print(f"mean |error| {np.mean([abs(one.error) for one in every]):.1%}; median over curves {over.median:.1%}")
    tell(
        "predictions",
        error,
        f"median relative error of {len(every)} published points",
        low=over.low,
        high=over.high,
        goal=f"<= {GOAL:g}",
        holds=error <= GOAL,
    )


if __name__ == "__main__":
    main()
