"""The command line: every option is under Lockstep's own prefix, and what was asked for is told in its words."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness import options


class Options:
    """Takes what a plugin adds to pytest's parser, and parses with it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.parser = argparse.ArgumentParser(exit_on_error=False)
        options.add(cast("pytest.Parser", self))

    def getgroup(self, _name: str, _description: str = "") -> Options:
        return self

    def addoption(self, name: str, **settings: Any) -> None:
        self.names.append(name)
        self.parser.add_argument(name, **settings)

    def config(self, *arguments: str, markexpr: str = "") -> pytest.Config:
        """Return as much of a configuration as the options are read from."""
        values = vars(self.parser.parse_args(arguments)) | {"markexpr": markexpr}

        def getoption(name: str, default: object = None) -> object:
            return values.get(name.removeprefix("--").replace("-", "_"), default)

        directory = SimpleNamespace(dir=Path("/project"))
        return cast("pytest.Config", SimpleNamespace(getoption=getoption, invocation_params=directory))


def test_every_option_has_the_prefix() -> None:
    names = Options().names
    assert len(names) >= 10
    assert [name for name in names if not name.startswith("--ls-")] == []


def test_the_documented_options_exist() -> None:
    documented = [
        "strategy",
        "workload",
        "world-size",
        "device",
        "data-root",
        "scale",
        "require-gpus",
        "oversubscribe",
        "report-dir",
    ]
    assert {f"--ls-{name}" for name in documented} <= set(Options().names)


def test_a_choice_given_twice_counts_once() -> None:
    config = Options().config("--ls-world-size=2", "--ls-world-size=2", "--ls-strategy=a", "--ls-strategy=b")
    selection = options.read(config).selection
    assert (selection.world_sizes, selection.strategies) == ((2,), ("a", "b"))


def test_nothing_given_selects_everything() -> None:
    read = options.read(Options().config())
    assert not read.selection.asked
    assert (read.selection.scale, read.num_gpus_required, read.scratch) == ("quick", 0, None)
    assert read.report_dir == Path("/project/reports"), "wherever a test may have gone"


@pytest.mark.parametrize(
    "arguments", [["--ls-world-size=0"], ["--ls-world-size=two"], ["--ls-require-gpus=-1"], ["--ls-timeout=0"]]
)
def test_an_impossible_number_is_refused(arguments: list[str]) -> None:
    with pytest.raises(argparse.ArgumentError):
        Options().config(*arguments)


@pytest.mark.parametrize(
    ("expression", "asked"),
    [
        ("gpu2", "-m gpu2"),
        ("torch and not slow", "-m 'torch and not slow'"),
        ("gpu3", "-m gpu3"),
        ("(cpu) or (gpu2)", "-m '(cpu) or (gpu2)'"),
        ("not slow", ""),
        ("not (gpu2 or gpu4)", ""),
        ("somebody_elses", ""),
        ("", ""),
    ],
)
def test_a_marker_expression_asks_for_cases_if_it_names_a_derived_marker(expression: str, asked: str) -> None:
    assert options.asked(Options().config(markexpr=expression)) == asked


def test_what_was_asked_for_is_told_in_the_words_of_the_command_line() -> None:
    config = Options().config("--ls-strategy=torch-ddp", "--ls-world-size=4", markexpr="gpu4")
    assert options.asked(config) == "-m gpu4 --ls-strategy torch-ddp --ls-world-size 4"
