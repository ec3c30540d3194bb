"""How often a regression gate cries wolf, and what it hears: ours beside pytest-benchmark's and pyperf's comparisons.

Each judges two sides measured in the same seconds, each as its tool lays them out (``gate_steps``), by its own code
(``gate_rivals``): real sides of equal work (A/A) and of more work, and made-up ones with their noise (``gate_noise``).
What was measured is kept in --data, a line a block; a run goes on where an earlier one stopped.
"""

from __future__ import annotations

import os

# Before numpy is imported: a pinned process has no use for threads.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import gate_noise
import gate_plot
import gate_rivals
import gate_steps
import numpy as np
from benching import tell, upper_share
from gate_rivals import Judge, Opinion
from gate_steps import Side

SLOWDOWNS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.10, 0.15, 0.20)
FROM = 0.03
OURS = "lockstep"
Pairs = Sequence[tuple[Side, Side]]
Opinions = dict[str, list[Opinion]]


def main() -> None:
    """Measure, judge and print."""
    parsed = _arguments()
    gate_rivals.require()
    pairs = _measured(parsed)
    judges = gate_rivals.judges(parsed.floor)
    noise = gate_noise.found([side for pair in pairs[0.0] for side in pair])
    draw = np.random.default_rng(0)
    invented = {
        slowdown: [
            (gate_noise.made_up(noise, draw), gate_noise.made_up(noise, draw, slowdown))
            for _ in range(parsed.simulated)
        ]
        for slowdown in (0.0, *SLOWDOWNS)
    }
    half = len(pairs[0.0]) // 2
    apart = [(pairs[0.0][i][0], pairs[0.0][(i + half) % len(pairs[0.0])][1]) for i in range(len(pairs[0.0]))]
    print(f"noise of this machine: {noise}")
    print(f"seconds a side {parsed.seconds_per_side:g}, floor of ours {100 * parsed.floor:g} %\n")
    real = {slowdown: _opinions(judges, found) for slowdown, found in pairs.items()}
    simulated = {slowdown: _opinions(judges, found) for slowdown, found in invented.items()}
    _false_alarms({"simulated": simulated[0.0], "real": real[0.0], "real, far apart": _opinions(judges, apart)})
    for name, opinions in (("simulated", simulated), ("real", real)):
        _power(name, opinions)
    if parsed.plot:
        lines = {
            name: [(slowdown, _rate(found[name])) for slowdown, found in simulated.items()] for name in simulated[0.0]
        }
        gate_plot.draw(parsed.plot, lines)
    for name, opinions in (("simulated", simulated), ("real", real)):
        _close(name, opinions)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", type=int, default=300, metavar="N", help="real pairs of equal work (300)")
    parser.add_argument("--slowed", type=int, default=12, metavar="N", help="real pairs a slowdown (12)")
    parser.add_argument("--simulated", type=int, default=1000, metavar="N", help="made-up pairs a slowdown (1000)")
    parser.add_argument("--seconds-per-side", type=float, default=0.65, metavar="S", help="measuring, a side and tool")
    parser.add_argument("--floor", type=float, default=0.015, help="the effect from which ours speaks (0.015)")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="where steps run (the last)")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="what was measured; continued")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the simulated power curves, as SVG")
    return parser.parse_args()


def _measured(parsed: argparse.Namespace) -> dict[float, list[tuple[Side, Side]]]:
    """Return the real pairs by slowdown; measure those that ``--data`` does not hold yet."""
    if not parsed.data.exists():
        own = gate_steps.plan(parsed.seconds_per_side, parsed.core)
        parsed.data.write_text(json.dumps(asdict(own)) + "\n")
    os.sched_setaffinity(0, {parsed.core})
    head, *lines = parsed.data.read_text().splitlines()
    own = gate_steps.Plan(**json.loads(head))
    pairs: dict[float, list[tuple[Side, Side]]] = {slowdown: [] for slowdown in (0.0, *SLOWDOWNS)}
    for line in lines:
        slowdown, before, now = json.loads(line)
        pairs[slowdown].append((Side(**before), Side(**now)))
    left = {s: max(0, (parsed.slowed if s else parsed.real) - len(found)) for s, found in pairs.items()}
    with parsed.data.open("a") as file:
        # What is left of each slowdown is spread over the whole measurement.
        order = sorted((place / left[s], s) for s in left for place in range(left[s]))
        for _, slowdown in order:
            pair = (gate_steps.measure(own, 0.0), gate_steps.measure(own, slowdown))
            pairs[slowdown].append(pair)
            file.write(json.dumps([slowdown, *map(asdict, pair)]) + "\n")
            file.flush()
    return pairs


def _opinions(judges: Mapping[str, Judge], pairs: Pairs) -> Opinions:
    return {name: [judge(before, now) for before, now in pairs] for name, judge in judges.items()}


def _false_alarms(sources: Mapping[str, Opinions]) -> None:
    print('false "slower" of equal work, with the upper end of the 95 % interval')
    for source, opinions in sources.items():
        for name, found in opinions.items():
            count = sum(opinion.slower for opinion in found)
            print(
                f"  {source:16} {name:26} {count:5} of {len(found):5}  {count / len(found):6.1%}  "
                f"<= {upper_share(count, len(found)):.1%}"
            )
    print()


def _power(source: str, opinions: Mapping[float, Opinions]) -> None:
    """Print how often each says "slower", as it is and where all are held to one false alarm in a hundred."""
    names = list(opinions[0.0])
    limits = {name: _limit(opinions[0.0][name]) for name in names}
    print(f'{source}: "slower" by slowdown, as it is | at 1 % of false alarms')
    print("  " + " " * 6 + "".join(f"{name.replace('pytest-benchmark', 'p-b'):>28}" for name in names))
    for slowdown, found in opinions.items():
        cells = (f"{_rate(found[name]):6.1%} | {_rate(found[name], limits[name]):6.1%}" for name in names)
        print(f"  {slowdown:6.0%}" + "".join(f"{cell:>28}" for cell in cells) + f"   ({len(found[OURS])} pairs)")
    print()


def _close(source: str, opinions: Mapping[float, Opinions]) -> None:
    equal = opinions[0.0][OURS]
    alarms = sum(opinion.slower for opinion in equal)
    upper = upper_share(alarms, len(equal))
    rate = alarms / len(equal)
    tell(f"gate_false_slower_{source}", 100 * rate, "%", low=0.0, high=100 * upper, goal="<= 1", holds=rate <= 0.01)
    limits = {name: _limit(found) for name, found in opinions[0.0].items()}
    rivals = [name for name in opinions[0.0] if name != OURS]
    as_is, matched = [], []
    for slowdown, found in opinions.items():
        if slowdown >= FROM:
            as_is += [_rate(found[OURS]) - _rate(found[name]) for name in rivals]
            matched += [_rate(found[OURS], limits[OURS]) - _rate(found[name], limits[name]) for name in rivals]
    for name, leads in (("as_is", as_is), ("matched", matched)):
        figures = [100 * lead for lead in leads]
        tell(
            f"gate_least_lead_{name}_{source}",
            min(figures),
            "points ahead of the best rival, 3 to 20 % slower",
            low=min(figures),
            high=max(figures),
            goal=">= 0",
            holds=min(figures) >= 0,
        )


def _rate(found: Sequence[Opinion], limit: float | None = None) -> float:
    said = [opinion.slower if limit is None else opinion.score > limit for opinion in found]
    return sum(said) / len(said)


def _limit(equal: Sequence[Opinion]) -> float:
    """Return the score above which at most one pair of equal work in a hundred lies."""
    return sorted(opinion.score for opinion in equal)[-1 - len(equal) // 100]


if __name__ == "__main__":
    main()
