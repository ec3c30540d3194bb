"""What is promised: strategy x feature x device x world size, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from harness import support
from harness.cases import DEVICES
from harness.features import FEATURES
from harness.report.console import table
from harness.spec import Device
from harness.strategies import base as strategies
from harness.strategies.base import Strategy
from harness.strategies.options import written

SIGNS = {"exact": "=", "reference": "r", "statistical": "~", "finding": "!", "not supported": "-"}
LEGEND = (
    "= equals serial up to rounding",
    "r equals a named reference, which does in one process what the strategy does by design",
    "~ statistically equivalent over paired seeds",
    "! known to differ: a finding",
    "- not supported",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What one strategy promises for one feature, on one device, with so many ranks."""

    strategy: str
    feature: str
    device: Device
    world_size: int
    promise: str

    def as_json(self) -> dict[str, object]:
        """Return the cell as a JSON object."""
        return asdict(self)


def rows() -> list[Strategy]:
    """Return every parallel strategy, each followed by its variants."""
    declared = [strategy for strategy in strategies.strategies().values() if not strategy.serial]
    return [row for strategy in declared for row in (strategy, *strategies.variants(strategy).values())]


def cells() -> Iterator[Cell]:
    """Yield every cell."""
    for strategy in rows():
        for device in DEVICES:
            for world_size in strategy.world_sizes:
                for feature in FEATURES:
                    promise = support.cell(feature, strategy, world_size, device)
                    yield Cell(
                        strategy=strategy.name, feature=feature, device=device, world_size=world_size, promise=promise
                    )


def lines() -> list[str]:
    """Return the matrix as text: a table a device, then the reasons."""
    numbered = [f"{number:2d} {name:<22} {meaning}" for number, (name, meaning) in enumerate(FEATURES.items(), 1)]
    text = ["features", *("  " + line for line in numbered), "", "signs", *("  " + line for line in LEGEND), ""]
    for device in DEVICES:
        text += [device, *("  " + line for line in _grid(device)), ""]
    return [*text, *_options(), "", *_reasons(rows())]


def _options() -> list[str]:
    """Return what users may choose in a strategy's name."""
    text = ["options (strategy+option=value+...)"]
    for strategy in strategies.strategies().values():
        for name, option in strategy.options.items():
            among = f" among {', '.join(map(written, option.choices))}" if option.choices else ""
            default = written(option.default) or "(empty)"
            text.append(f"  {strategy.name}+{name}{among} [{default}]: {option.meaning}")
    return text


def _grid(device: Device) -> list[str]:
    heads = ["strategy", "ranks", *(str(number) for number, _ in enumerate(FEATURES, 1))]
    grid = [heads]
    for strategy in rows():
        if device in strategy.backends:
            # The largest number of ranks: where samples are in groups at all, they are there.
            promises = [support.cell(feature, strategy, max(strategy.world_sizes), device) for feature in FEATURES]
            signs = [SIGNS[promise.partition(":")[0]] for promise in promises]
            grid.append([strategy.name, " ".join(map(str, strategy.world_sizes)), *signs])
    return table(grid)


def _reasons(shown: Sequence[Strategy]) -> list[str]:
    """Return why what is not supported is not, and what is known to differ; a variant only tells what is its own."""
    text = []
    told: set[tuple[str, str, str]] = set()
    for strategy in shown:
        base = strategy.name.partition("+")[0]
        own = {feature: f"not supported: {why}" for feature, why in strategy.limits.items() if "+" not in feature}
        own |= {feature: f"finding: {what}" for feature, what in strategy.findings.items() if "+" not in feature}
        own |= {key.replace("+", " with "): why for key, why in support.together(strategy).items()}
        own |= {device: f"not supported: {why}" for device, why in strategy.unsupported.items()}
        fresh = {key: why for key, why in own.items() if (base, key, why) not in told}
        told |= {(base, key, why) for key, why in fresh.items()}
        if fresh:
            text += [strategy.name, *(f"  {key}: {why}" for key, why in fresh.items())]
    return text
