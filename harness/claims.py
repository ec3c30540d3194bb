"""What a published study says, and what was found of it here: one line of ``claims.jsonl`` each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from harness.errors import SpecError
from harness.record import SCHEMA
from harness.spec import Value
from harness.timings import Interval

Holds = Literal["yes", "no", "inconclusive", "not tested"]
# Of how much weight what was found is: a training that ran here, a model of it, or arithmetic on published figures.
Kind = Literal["measured", "predicted", "recomputed"]


class PublishedClaim(Value, frozen=True, kw_only=True):
    """One figure of a published study beside what was found here.

    ``text`` says in the study's words what is claimed; ``where`` in ``source`` it stands. ``here`` is in the same
    ``unit``: an interval of what was measured, a range of what is predicted, or a single number (then its ends are
    equal). It is None where nothing was found, for a ``reason``. ``cases`` are those of the run that it rests on.
    ``contradicts`` tells which other published figure this one does not agree with.

    Raises:
        SpecError: a source, a finding or a reason is missing.
    """

    schema: int = SCHEMA
    run: str = ""
    study: str
    id: str
    text: str
    quantity: str
    unit: str = ""
    published: float
    source: str
    where: str
    kind: Kind
    holds: Holds
    here: Interval | None = None
    reason: str = ""
    cases: tuple[str, ...] = ()
    contradicts: str = ""
    test: str = ""

    def __post_init__(self) -> None:
        for name in ("study", "id", "text", "quantity", "source", "where"):
            if not getattr(self, name).strip():
                raise SpecError(f"claim {self.study}/{self.id}: expected {name} but it is empty; say it")
        if self.holds in {"yes", "no"} and self.here is None:
            raise SpecError(
                f"claim {self.study}/{self.id}: expected what was found here but got only holds={self.holds!r}; give "
                "here, or holds='not tested' and a reason"
            )
        if self.holds in {"inconclusive", "not tested"} and not self.reason.strip():
            raise SpecError(f"claim {self.study}/{self.id}: expected a reason why it is {self.holds}; give one")


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Where a test reports claims; its run and its name are filled in."""

    run: str
    test: str
    keep: Callable[[PublishedClaim], None]

    def report(self, claim: PublishedClaim) -> None:
        """Write ``claim`` into the run when the test has ended, however it ends."""
        self.keep(msgspec.structs.replace(claim, run=self.run, test=self.test))


def exactly(value: float) -> Interval:
    """Return a single number as what was found."""
    return Interval(median=value, low=value, high=value)
