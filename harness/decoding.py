"""Reading what may be damaged or of another version: the rest is shown and the loss told, or all is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from harness.errors import SchemaError
from harness.record import SCHEMA
from harness.spec import Value

Plain = dict[str, Any]
# From a schema's number to what makes the next one's of it: (what it is to become, its JSON) -> JSON.
MIGRATIONS: dict[int, Callable[[type[Value], Plain], Plain]] = {}

_T = TypeVar("_T", bound=Value)


class _Versioned(msgspec.Struct):
    schema: int


def decode(line: bytes, kind: type[_T], where: str) -> _T | None:
    """Return what ``line`` holds, or None when it is damaged; lax, since NaN and infinity are written as strings.

    Raises:
        SchemaError: it has another schema, and no migration leads from there to this one.
    """
    try:
        schema = msgspec.json.decode(line, type=_Versioned).schema
        if schema == SCHEMA:
            return msgspec.json.decode(line, type=kind, strict=False)
        return msgspec.convert(_migrated(msgspec.json.decode(line), schema, kind, where), kind, strict=False)
    # What is not UTF-8 is a ValueError; what is nested too deeply, a RecursionError.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def decode_lines(
    kind: type[_T], lines: Sequence[bytes], file: str, where: str
) -> tuple[list[_T], int, tuple[str, ...]]:
    """Return what the lines of a journal hold, how many are lost, and that in sentences; ``file`` is its name.

    Raises:
        SchemaError: another version of Lockstep wrote some of them, and nothing else is left.
    """
    found: list[_T] = []
    lost: dict[int | None, list[int]] = {}
    refused: SchemaError | None = None
    for number, line in enumerate(lines, 1):
        try:
            entry = decode(line, kind, f"{where}:{number}")
        except SchemaError as error:
            refused = refused or error
            lost.setdefault(error.schema, []).append(number)
        else:
            if entry is not None:
                found.append(entry)
            elif line.strip():
                lost.setdefault(None, []).append(number)
    if refused is not None and not found:
        raise refused
    told = tuple(_left_out(numbers, schema, file) for schema, numbers in lost.items())
    return found, sum(map(len, lost.values())), told


def _left_out(numbers: Sequence[int], schema: int | None, file: str) -> str:
    noun, verb = ("line", "was") if len(numbers) == 1 else ("lines", "were")
    what = f"damaged {noun}" if schema is None else f"{noun} of schema {schema}"
    where = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    told = f"{len(numbers)} {what} of {file} ({noun} {where}) {verb} left out"
    return told if schema is None else f"{told}: {_way_out(schema)}"


def _migrated(plain: Plain, schema: int, kind: type[Value], where: str) -> Plain:
    if schema > SCHEMA or any(step not in MIGRATIONS for step in range(schema, SCHEMA)):
        raise SchemaError(f"expected schema {SCHEMA} but {where} has schema {schema}; {_way_out(schema)}", schema)
    for step in range(schema, SCHEMA):
        plain = MIGRATIONS[step](kind, plain) | {"schema": step + 1}
    return plain


def _way_out(schema: int) -> str:
    if schema > SCHEMA:
        return "a newer version of Lockstep wrote it: update this one (pip install -U lockstep-harness)"
    return "an older version of Lockstep wrote it: read it with that one, or run the cases again"
