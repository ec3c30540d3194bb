from __future__ import annotations

import pytest

from harness.cases import Selection, offers
from harness.errors import SpecError, UnknownNameError
from harness.strategies import base as strategies
from harness.strategies.options import Option, named, parse

OPTIONS = {
    "chunks": Option(meaning="micro-batches", default=0),
    "mode": Option(meaning="how", default="never", choices=("never", "always")),
    "static": Option(meaning="whether", default=False),
}


def test_a_name_chooses_options_and_the_others_keep_their_defaults() -> None:
    assert parse("pipe+mode=always+chunks=4", OPTIONS) == ("pipe", {"chunks": 4, "mode": "always", "static": False})
    assert parse("pipe+static", OPTIONS) == ("pipe", {"chunks": 0, "mode": "never", "static": True})


def test_one_choice_has_one_name_however_it_is_typed() -> None:
    for typed in ("pipe+static+chunks=4", "pipe+chunks=4+static=true+mode=never"):
        base, chosen = parse(typed, OPTIONS)
        assert named(base, OPTIONS, chosen) == "pipe+chunks=4+static"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pipe+chunks=four", "expected option 'chunks' of strategy 'pipe' among any int but got 'four'"),
        ("pipe+mode=sometimes", "expected option 'mode' of strategy 'pipe' among never, always but got 'sometimes'"),
        ("pipe+static=maybe", "expected option 'static' of strategy 'pipe' among true, false but got 'maybe'"),
        ("pipe+chunks=1+chunks=2", "expected option 'chunks' of strategy 'pipe' once"),
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused(name: str, words: str) -> None:
    with pytest.raises(SpecError, match=words.replace("+", r"\+")):
        parse(name, OPTIONS)


def test_an_unknown_option_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown option of strategy 'pipe' 'chunk'; did you mean 'chunks'"):
        parse("pipe+chunk=4", OPTIONS)


def test_every_variant_that_suites_try_is_another_strategy_of_the_same_function() -> None:
    for declared in strategies.strategies().values():
        for words, variant in strategies.variants(declared).items():
            assert variant.function == declared.function
            assert variant.chosen != declared.chosen, f"{declared.name}+{words} chooses nothing"


@pytest.mark.parametrize("typed", ["torch-ddp+bucket-mb=1", "torch-ddp+bucket-mb=1.0+find-unused=false"])
def test_what_is_typed_selects_the_strategy_it_means(typed: str) -> None:
    selection = Selection(strategies=(typed,))
    (name,) = {offer.case.strategy for offer in offers(selection, "conformance")}
    assert name == "torch-ddp+bucket-mb=1.0"
    assert all(selection.allows(offer.case) for offer in offers(selection, "conformance"))


def test_a_name_of_nothing_stays_for_whoever_refuses_it() -> None:
    assert strategies.canonical("torch-dpd+x=1") == "torch-dpd+x=1"
