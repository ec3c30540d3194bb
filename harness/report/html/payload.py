"""What the page's script reads, packed into the page: compressed, in pieces that are opened when they are needed.

A page holds one line of every case, and the details of as many cases as fit; the gravest come first, so that what is
left out of a very large run is what is most like the rest.
"""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from harness.record import GRAVITY, Record
from harness.report import words
from harness.report.sections import cases

# Cases whose details are unpacked together.
CHUNK = 100
# Beyond so many cases the details of equivalent ones are brief.
MANY = 1_000
# Characters that the details of all cases may take, compressed: what a page of 5 MB has left beside everything else.
ROOM = 3_250_000
_BLOB = re.compile(r'<script type="application/gzip" id="blob-([\w-]+)">([\w+/=]*)</script>')


def ordered(records: Iterable[Record]) -> list[Record]:
    """Return cases as the page lists them: the gravest first, timed ones before others alike, injected faults last."""

    def key(record: Record) -> tuple[object, ...]:
        gravity = -GRAVITY.index("different" if record.failed else record.verdict)
        name = (record.workload, record.strategy, record.world_size, record.device, record.fault or "")
        return (record.fault is not None, gravity, bool(record.finding), record.timing is None, name)

    return sorted(records, key=key)


def details(records: Sequence[Record], common: dict[str, str | float | int]) -> tuple[dict[str, str], int]:
    """Return the packed details of ``records``, a piece for every CHUNK of them, and of how many there was room."""
    packed: dict[str, str] = {}
    left, brief = ROOM, len(records) > MANY
    for start in range(0, len(records), CHUNK):
        piece = pack([cases.detail(record, common, brief=brief) for record in records[start : start + CHUNK]])
        left -= len(piece)
        if left < 0:
            return packed, start
        packed[f"cases-{start // CHUNK}"] = piece
    return packed, len(records)


def pack(content: Any) -> str:
    """Return ``content`` as compressed JSON in base 64; what is not finite becomes null."""
    text = words.visible(msgspec.json.encode(content).decode())
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)).decode("ascii")


def unpack(page: str) -> dict[str, Any]:
    """Return what is packed into a page, by name."""
    return {
        name: msgspec.json.decode(gzip.decompress(base64.b64decode(content))) for name, content in _BLOB.findall(page)
    }
