"""Options of a strategy, which users choose in its name: ``torchgpipe+chunks=4+checkpoint=always``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import SpecError, UnknownNameError
from harness.spec import Setting

# The values of all of a strategy's options, the ones that nobody chose included.
Chosen = Mapping[str, Setting]


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One option of a strategy.

    Attributes:
        meaning: what it does, for ``harness list``.
        default: its value when nobody chooses; its type is the type of every value.
        choices: the values it may have; empty for any value of its type.
        changes: by chosen value (as in a name: ``"fp16"``, ``"true"``), settings of the strategy that are others with
            it; dictionaries are merged, and None takes out what stands under a key.
    """

    meaning: str
    default: Setting
    choices: tuple[Setting, ...] = ()
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def parse(name: str, options: Mapping[str, Option]) -> tuple[str, dict[str, Setting]]:
    """Return the base of a strategy's name and the values of all its options.

    Raises:
        UnknownNameError: the strategy has no such option.
        SpecError: an option cannot have this value, or is given twice.
    """
    base, *words = name.split("+")
    chosen = {key: option.default for key, option in options.items()}
    seen: set[str] = set()
    for word in words:
        key, given, text = word.partition("=")
        if key not in options:
            raise UnknownNameError(f"option of strategy {base!r}", key, options)
        if key in seen:
            raise SpecError(f"expected option {key!r} of strategy {base!r} once but got {name!r}")
        seen.add(key)
        chosen[key] = _value(base, key, options[key], text if given else "true")
    return base, chosen


def named(base: str, options: Mapping[str, Option], chosen: Chosen) -> str:
    """Return the name that says how ``chosen`` differs from the defaults, options in their declared order."""
    words = [f"{key}={written(chosen[key])}" for key, option in options.items() if chosen[key] != option.default]
    return "+".join([base, *(word.removesuffix("=true") for word in words)])


def written(value: Setting) -> str:
    """Return a value as it stands in a name."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(base: str, key: str, option: Option, text: str) -> Setting:
    kind = type(option.default)
    try:
        value = {"true": True, "false": False}[text] if kind is bool else kind(text)
    except (ValueError, KeyError):
        value = None
    if value is None or (option.choices and value not in option.choices):
        allowed = ", ".join(map(written, option.choices)) or ("true, false" if kind is bool else f"any {kind.__name__}")
        raise SpecError(f"expected option {key!r} of strategy {base!r} among {allowed} but got {text!r}")
    return value
