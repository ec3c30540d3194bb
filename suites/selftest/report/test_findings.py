"""Known differences of libraries: grouped, and those that no longer show come first."""

from __future__ import annotations

from typing import Any

import msgspec

from fixtures.sample_records import divergence, hostile, record, sample, skipped
from harness.record import Record
from harness.report.sections import findings as section
from harness.report.sections.findings import Finding, sentence

KNOWN = "loss: its mean is one of means."


def findings(records: list[Record]) -> list[Finding]:
    return section.findings(records, {id(told): line for line, told in enumerate(records)})


def known(text: str = KNOWN, **changes: Any) -> Record:
    return record(finding=text, **changes)


def test_a_finding_tells_who_where_and_how_often() -> None:
    found = known(conclusion="different", divergence=divergence(rung="loss"))
    other = known(strategy="torchgpipe", world_size=4, conclusion="different", divergence=divergence(rung="loss"))
    (one,) = findings([found, other, record()])
    assert (one.rung, one.text, one.state) == ("loss", "its mean is one of means.", "showed")
    assert (one.strategies, one.sizes) == (("torch-ddp", "torchgpipe"), (2, 4))
    assert one.told == "torch-ddp and torchgpipe: its mean is one of means. That is known and showed in 2 of 2 cases."
    assert one.counts == (("different", 2),)
    assert one.elsewhere == ()
    assert one.cases[0].first == "loss, step 0, rank 1, conv1.weight"
    assert [seen.line for seen in one.cases] == [0, 1]


def test_a_finding_that_no_longer_shows_comes_first() -> None:
    gone = known("buffers: x", strategy="torchgpipe")
    found = findings([known(conclusion="different"), gone])
    assert [one.state for one in found] == ["did not show", "showed"]
    assert found[0].told == "torchgpipe: x. That is known and did not show here, in 1 case."
    assert sentence(found) == "2 known differences of libraries from serial training: 1 did not show, 1 showed."


def test_one_that_shows_in_part_is_told_apart() -> None:
    (one,) = findings([known(conclusion="different"), known(world_size=4)])
    assert one.state == "showed in part"
    assert one.told.endswith("showed in 1 of 2 cases.")


def test_one_of_which_nothing_was_judged_did_not_fail_to_show() -> None:
    unseen = msgspec.structs.replace(skipped("torch-dp", "digits-mlp", 2, "needs 2 GPUs"), finding=KNOWN)
    (one,) = findings([unseen, known(conclusion="inconclusive")])
    assert one.state == "not seen"


def test_one_that_shows_somewhere_else_says_where() -> None:
    (one,) = findings([known(conclusion="different", divergence=divergence(rung="buffers"))])
    assert one.elsewhere == ("buffers",)


def test_an_injected_fault_is_no_finding_and_nor_is_a_plain_case() -> None:
    assert findings([known(fault="sum-for-mean"), *sample()]) == []
    assert sentence([]) == ""


def test_hostile_texts_are_kept_as_they_are() -> None:
    nasty = [msgspec.structs.replace(one, finding="<b>: \x1b[31m", fault=None) for one in hostile()]
    (one,) = findings(nasty)
    assert (one.rung, one.text) == ("", "<b>: \x1b[31m")
