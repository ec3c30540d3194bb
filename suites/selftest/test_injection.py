"""Negative controls leave records that name their fault, whether they are judged or end their ranks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fixtures.sample_records import verdict
from harness.cases import Selection
from harness.controls import Control, controls
from harness.errors import MissingRequirementError, RankError
from harness.injection import Injection
from harness.record import Log, Record
from harness.session import Harness

SAID = Log(who="rank 1", text="loss is nan")


def control() -> Control:
    return next(own for own in controls() if own.id == "sum-for-mean[one tensor]/torch-ddp/2")


def injected(outcome: Any) -> tuple[list[Record], Injection]:
    """Return where records go, and an injection whose runner answers with ``outcome`` or raises it."""

    def answer(*_: object) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    selection = Selection()
    options = SimpleNamespace(run="r", selection=selection, fuzz=None, report_dir=Path())
    notes = SimpleNamespace(told=lambda *_: "kept")
    runner = SimpleNamespace(verdict=answer, notes=notes, logs=lambda *_: (SAID,))
    harness = SimpleNamespace(options=options, runner=runner, environment={"num_cores": 2})
    kept: list[Record] = []
    return kept, Injection(cast("Harness", harness), test="t[x]", keep=kept.append)


def test_a_judged_fault_is_recorded_by_its_full_name() -> None:
    kept, injection = injected(verdict("different"))
    assert injection.verdict(control()).conclusion == "different"
    (record,) = kept
    assert (record.fault, record.verdict, record.failed) == ("sum-for-mean[one tensor]", "different", False)
    assert (record.strategy, record.world_size, record.test, record.traces) == ("torch-ddp", 2, "t[x]", "kept")
    assert record.command == "pytest 't[x]' --ls-scale=full"
    assert record.evidence == verdict("different")
    assert record.logs == (SAID,)


def test_a_fault_that_ends_its_ranks_is_recorded_as_failed() -> None:
    kept, injection = injected(RankError("rank 1 died"))
    with pytest.raises(RankError):
        injection.verdict(control())
    assert [(one.verdict, one.failed, one.reason) for one in kept] == [("not-verified", True, "rank 1 died")]
    assert kept[0].logs == (SAID,)


def test_a_fault_that_this_machine_cannot_run_is_neither() -> None:
    kept, injection = injected(MissingRequirementError("needs torch"))
    with pytest.raises(MissingRequirementError):
        injection.verdict(control())
    assert [(one.verdict, one.failed, one.reason) for one in kept] == [("not-verified", False, "needs torch")]
