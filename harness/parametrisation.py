"""From a test to its cases: what pytest parametrises, and the markers that follow from a case."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import pytest

from harness import cases, support, workloads
from harness.cases import Offer, Selection, Suite
from harness.contract.adopt import adopt
from harness.contract.trainings import CONTRACT
from harness.errors import HarnessError, SpecError
from harness.spec import Case, Workload
from harness.strategies import base as strategies

# The fixture that carries a case; all others of the plugin ask for it.
OFFER = "ls_offer"
RUNNER = "ls_runner"
INJECTION = "ls_injection"
MARKERS = {
    "conformance": "does the parallel run compute what the serial run computes?",
    "performance": "how much faster is it? (alone on the machine)",
    "faults": "injected bugs that must be caught",
    "study": "a published comparison, run again",
    "smoke": "two ranks on the CPU, in a minute",
    "slurm": "needs a Slurm allocation",
    "slow": "the full matrix; not in the everyday run",
    "cpu": "uses no GPU",
    "parity": "parity(strategy, workload, world_size=2, device='cpu'): judge this case; ask for the fixture `verdict`",
    **{f"gpu{n}": f"uses {n} physical GPU{'s' * (n > 1)}" for n in (1, 2, 4, 8)},
}
_DECLARED = pytest.StashKey[set[str]]()


def declare_markers(config: pytest.Config) -> None:
    """Declare the markers of the harness and of every strategy known so far."""
    config.stash[_DECLARED] = set(MARKERS)
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    for name in sorted(derived() - set(MARKERS)):
        _declare(config, name)


def derived() -> set[str]:
    """Return every marker that cases get without anybody typing it."""
    return {*MARKERS, *(name for s in strategies.strategies().values() for name in (s.framework, *s.markers))}


def parameters(metafunc: pytest.Metafunc, selection: Selection) -> list[Any]:
    """Return a test's cases as parameters: those of its suite, or the ones its ``parity`` markers name.

    Raises:
        HarnessError: a marker or an option asks for what cannot be.
    """
    suite: Suite = "performance" if timed(metafunc.fixturenames) else "conformance"
    own = _parity(metafunc.definition)
    marked = [offer for marker in own for offer in _marked(marker, selection)]
    offers = marked if own else list(cases.offers(selection, suite))
    for name in dict.fromkeys(name for offer in offers for name in offer.markers):
        _declare(metafunc.config, name)
    return [_parameter(_timeable(offer, selection) if suite == "performance" else offer, suite) for offer in offers]


def require_case(metafunc: pytest.Metafunc) -> None:
    """Raise SpecError where a test names a case by a marker but asks for none."""
    if _parity(metafunc.definition):
        raise SpecError(
            "expected a test with the marker parity to ask for its case but got none of the fixtures verdict, run, "
            "case and timing; write for example: def test_mine(verdict): assert verdict.equivalent, verdict"
        )


def timed(fixtures: Iterable[str]) -> bool:
    """Whether a test that asks for these fixtures times its case; ``timing`` alone may be somebody else's fixture."""
    return {OFFER, "timing"} <= set(fixtures)


def offer_of(item: pytest.Item) -> Offer | None:
    """Return the case of a test, or None."""
    callspec = getattr(item, "callspec", None)
    found = callspec.params.get(OFFER) if callspec else None
    return found if isinstance(found, Offer) else None


def most_ranks(items: Sequence[pytest.Item]) -> int:
    """Return the largest world size among the cases of some tests that can run here; 0 without any."""
    offers = [offer for item in items if (offer := offer_of(item)) is not None and offer.lacks is None]
    return max((offer.case.world_size for offer in offers), default=0)


def unwanted(items: Sequence[pytest.Item], selection: Selection) -> list[pytest.Item]:
    """Return the tests whose ``parity`` marker names a case that the options leave out."""
    return [item for item in items if (offer := offer_of(item)) is not None and not selection.allows(offer.case)]


def _parity(definition: pytest.Item) -> list[pytest.Mark]:
    """Return a test's own ``parity`` markers, top to bottom; without any, the closest one of its class or module."""
    own = [marker for marker in definition.own_markers if marker.name == "parity"][::-1]
    closest = definition.get_closest_marker("parity")
    return own or ([closest] if closest else [])


def _marked(marker: pytest.Mark, selection: Selection) -> list[Offer]:
    """Return the cases that a ``parity`` marker names."""
    try:
        named = _named(*marker.args, **marker.kwargs)
    except HarnessError:
        raise
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"expected @pytest.mark.parity(strategy=..., workload=..., world_size=2, device='cpu') but got "
            f"{marker.args or ''}{marker.kwargs or ''}: {error}"
        ) from error
    found = [(case, workload, strategies.get(case.strategy)) for case, workload in named]
    return [
        cases.offer(case, workload, strategy, selection, refused=support.limit(workload, strategy))
        for case, workload, strategy in found
    ]


def _named(
    strategy: str | Callable[..., Any], workload: object = None, world_size: int = 2, device: str = "cpu"
) -> list[tuple[Case, Workload]]:
    """Return the case of a strategy, or of a function that is none yet, and a workload; without one, the contract's."""
    function = callable(strategy) or ":" in strategy
    name = adopt(strategy).name if function else strategies.canonical(str(strategy))
    described = workload() if callable(workload) else workload  # what @workload decorates describes one
    known = described if isinstance(described, Workload) else workloads.get(str(described)) if described else None
    place = {"strategy": name, "world_size": world_size, "device": device}
    asked = [known] if known else CONTRACT
    return [(msgspec.convert({"workload": one.name, **place}, Case), one) for one in asked]


def _timeable(offer: Offer, selection: Selection) -> Offer:
    """Return the offer with a reason not to time it where its ranks share a GPU."""
    if offer.lacks or not cases.share_gpu(offer.case, selection):
        return offer
    return dataclasses.replace(offer, lacks="ranks that share a GPU (--ls-oversubscribe) are not timed")


def _parameter(offer: Offer, suite: Suite) -> Any:
    marks = [getattr(pytest.mark, name) for name in (suite, *offer.markers)]
    marks.append(pytest.mark.xdist_group(offer.strategy.framework))
    if offer.lacks:
        marks.append(pytest.mark.skip(reason=offer.lacks))
    return pytest.param(offer, id=offer.case.id, marks=marks)


def _declare(config: pytest.Config, name: str) -> None:
    """Declare a marker of a strategy, which may have been registered by a conftest or a test file just now."""
    if name not in config.stash[_DECLARED]:
        config.stash[_DECLARED].add(name)
        meaning = f"uses {name[3:]} physical GPUs" if name.startswith("gpu") else "cases of this framework or library"
        config.addinivalue_line("markers", f"{name}: {meaning}")
