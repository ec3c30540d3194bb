"""The tables of docs/oracle.md, in Markdown, from the measurements kept in docs/data.

python suites/performance/oracle_tables.py
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterable, Sequence

import numpy as np
from oracle_data import DOCS, Row, area, partial, read, score, scores, share_of, whole

from harness.oracles import tost
from harness.oracles.precision import PRECISIONS
from harness.oracles.statistical import PILOT, POWER
from harness.record import LADDER


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def alarms(clean: Sequence[Row]) -> str:
    """Return how the clean cases ended in each precision, and their margins by seed."""
    rows = []
    for precision in PRECISIONS:
        of = [row for row in clean if row["precision"] == precision]
        if not of:
            continue
        first = sum(row["first"] == "different" for row in of)
        ended = sum(row["conclusion"] == "different" for row in of)
        seeds = sorted({row["seed"] for row in clean})
        shown = [_spread([score(row) for row in of if row["seed"] == seed]) for seed in seeds]
        rows.append([precision, f"{len(of):,}", *shown, f"{PRECISIONS[precision].factor:g}", str(first), str(ended)])
    seeds = [f"seed {seed}: median, q99, max" for seed in sorted({row["seed"] for row in clean})]
    return table(["precision", "cases", *seeds, "K", "beyond K at first", "called different"], rows)


def families(clean: Sequence[Row]) -> str:
    """Return the margins of each strategy in float64 and float32."""
    rows = []
    for name in sorted({family(row) for row in clean}):
        of = [row for row in clean if family(row) == name]
        shown = [_spread(scores(of, precision)) for precision in ("float64", "float32")]
        rows.append([f"`{name}`", f"{len(of):,}", *shown])
    return table(["strategy, variants included", "cases", "float64: median, q99, max", "float32"], rows)


def family(row: Row) -> str:
    """Return a case's strategy without its options."""
    return str(row["strategy"]).partition("+")[0]


def rungs(clean: Sequence[Row]) -> str:
    """Return the ratios of each rung in each precision."""
    rows = []
    for rung in LADDER:
        shown = [
            _spread([row["rungs"][rung] for row in clean if row["precision"] == precision and rung in row["rungs"]])
            for precision in PRECISIONS
        ]
        rows.append([rung, *shown])
    return table(["rung (median, q99, max)", *PRECISIONS], rows)


def bugs(clean: Sequence[Row], runs: Sequence[Row]) -> str:
    """Return how well bugs are told from clean runs in each precision."""
    rows = []
    for precision, constants in PRECISIONS.items():
        sound = scores(clean, precision) + scores([row for row in runs if row["kind"] == "clean"], precision)
        shown = []
        for is_kind in (whole, partial):
            found = scores([row for row in runs if is_kind(row)], precision)
            caught = sum(ratio > constants.factor for ratio in found)
            shown += [f"{caught} of {len(found)}", f"{min(found, default=0.0):.2g}", f"{area(sound, found):.4f}"]
        rows.append([precision, *shown])
    head = ["beyond K", "smallest D / max(F, G)", "area under ROC"]
    return table(["precision", *[f"whole: {name}" for name in head], *[f"partial: {name}" for name in head]], rows)


def missed(runs: Sequence[Row]) -> str:
    """Return the bugs that stay below K somewhere, by precision."""
    rows = []
    for kind in sorted({row["kind"] for row in runs if whole(row) or partial(row)}):
        shown = []
        for precision, constants in PRECISIONS.items():
            found = scores([row for row in runs if row["kind"] == kind], precision)
            caught = sum(ratio > constants.factor for ratio in found)
            shown.append(f"{caught} of {len(found)}" if caught < len(found) else f"all {len(found)}" if found else "-")
        rows.append([kind, *shown])
    return table(["bug: runs beyond K", *PRECISIONS], rows)


def smallest(runs: Sequence[Row]) -> str:
    """Return the share of runs in which a gradient that is wrong by a share exceeds K."""
    kinds = sorted(
        {row["kind"] for row in runs if row["kind"].startswith("wrong by")}, key=lambda kind: -share_of(kind)
    )
    rows = []
    for kind in sorted(kinds, key=share_of, reverse=True):
        shown = []
        for precision, constants in PRECISIONS.items():
            found = scores([row for row in runs if row["kind"] == kind], precision)
            shown.append(f"{100 * np.mean([ratio > constants.factor for ratio in found]):.0f} %" if found else "")
        rows.append([f"{share_of(kind):.0e}", *shown])
    return table(["gradients wrong by", *PRECISIONS], rows)


def depth_table(depth: Sequence[Row]) -> str:
    """Return how the measured rounding error of layers lies to the bound of theory and to what is allowed."""
    rows = []
    for model, precision in itertools.product(sorted({row["model"] for row in depth}), PRECISIONS):
        of = [row for row in depth if (row["model"], row["precision"]) == (model, precision) and row["error"] > 0]
        if not of:
            continue
        loose = [row["bound"] / row["error"] for row in of]
        own = [row["allowed"] / row["error"] for row in of]
        exceeded = sum(row["error"] > row["bound"] for row in of)
        beyond = sum(row["error"] > row["allowed"] for row in of)
        of_theory = f"{exceeded} of {len(of)}", f"{min(loose):.2g} to {max(loose):.2g}"
        of_ours = f"{beyond} of {len(of)}", f"{min(own):.2g} to {max(own):.2g}"
        rows.append([model, precision, *of_theory, *of_ours])
    head = ["bound exceeded", "bound / error", "K max(F, G) exceeded", "K max(F, G) / error"]
    return table(["network", "precision", *head], rows)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    middle, high = np.quantile(values, [0.5, 0.99])
    return f"{middle:.2g}, {high:.2g}, {max(values):.2g}"


def tail(clean: Sequence[Row]) -> str:
    """Return how many clean float64 workloads have a case beyond which ratio."""
    largest: dict[tuple[int, int], float] = {}
    for row in clean:
        if row["precision"] == "float64":
            key = row["seed"], row["number"]
            largest[key] = max(largest.get(key, 0.0), score(row))
    limits = (2, 5, 10, 20, 50, 100)
    counts = [f"{sum(ratio > limit for ratio in largest.values()):,}" for limit in limits]
    head = [f"float64: of {len(largest):,} workloads, largest D / max(F, G) beyond", *map(str, limits)]
    return table(head, [["workloads", *counts]])


def simulated() -> str:
    """Return how often the statistical procedure comes to which verdict."""
    rows = []
    found = json.loads((DOCS / "data" / "statistical.json").read_text())
    for (shape, spread), group in itertools.groupby(found, key=lambda row: (row["shape"], row["spread"])):
        same, edge, beyond = sorted(group, key=lambda row: float(row["mean"]))
        shares = same["equivalent"], same["different"], edge["equivalent"], edge["different"], beyond["different"]
        needed = tost.num_pairs_needed(spread, wanted=POWER, least=PILOT)
        seeds = f"{same['seeds']:.1f}", str(needed)
        rows.append([shape, f"{spread:g}", *(f"{share:.1%}".replace("%", " %") for share in shares), *seeds])
    head = ["differences", "s", "d = 0: `equivalent`", "`different`", "d = margin: `equivalent`", "`different`"]
    return table([*head, "d = 2 margins: `different`", "seeds trained at d = 0", "n with P(n) >= 0.9"], rows)


def detection() -> str:
    """Return how many controls were caught where expected, and how often the cause that was named is the right one."""
    rows = []
    for name, words in (("fault_detection", "all controls"), ("fault_detection_held_out", "held out, quick scale")):
        outcomes = json.loads(gzip.decompress((DOCS / "data" / f"{name}.json.gz").read_bytes()))["outcomes"]
        shown = []
        for what in ("detected", "rung", "step", "tensor", "rank", "cause"):
            seen = [one[what] for one in outcomes if one[what] is not None]
            shown.append(f"{sum(seen)} of {len(seen)}")
        misled = sum(one["cause"] is False and one["confidence"] == "certain" for one in outcomes)
        rows.append([words, *shown, str(misled)])
    head = ["caught", "right rung", "right step", "right tensor", "right rank", "right cause", "wrong and certain"]
    return table(["controls", *head], rows)


def main() -> None:
    """Write all of them."""
    clean, runs, depth = read()
    tables = {
        "alarms": alarms(clean),
        "tail": tail(clean),
        "families": families(clean),
        "rungs": rungs(clean),
        "bugs": bugs(clean, runs),
        "kinds": missed(runs),
        "smallest": smallest(runs),
        "depth": depth_table(depth),
        "detection": detection(),
        "statistical": simulated(),
    }
    page = DOCS / "oracle.md"
    words = page.read_text()
    for name, lines in tables.items():
        before, _, rest = words.partition(f"<!-- table: {name} -->\n")
        words = f"{before}<!-- table: {name} -->\n{lines.rstrip()}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    page.write_text(words)


if __name__ == "__main__":
    main()
