"""Bundles are squeezed with xz, which finds over megabytes what tables have in common.

One training in several arithmetics, with a bug that is yet to act, or on another rank differs from the reference in the
last bits or in nothing. gzip looks back 32 KiB, less than a row of a table: it leaves ten times as much.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import IO, cast

from harness.errors import MissingRequirementError, StoreError

try:
    import lzma
except ImportError:  # some people's own builds of Python are without it
    lzma = None  # type: ignore[assignment]

# How far back is looked; packing takes some times as much memory, unpacking this.
REACH_BYTES = 64 << 20
_MOST_MEMORY_BYTES = REACH_BYTES + (8 << 20)
# A higher level takes several times as long and makes hardly less.
_LEVEL = 1
_CHUNK = 1 << 20


def writer(raw: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    """Return a file whose content goes to ``raw``, squeezed.

    Raises:
        MissingRequirementError: this Python has no xz.
    """
    _require()
    filters = [{"id": lzma.FILTER_LZMA2, "preset": _LEVEL, "dict_size": REACH_BYTES}]
    return cast("IO[bytes]", lzma.LZMAFile(raw, "wb", format=lzma.FORMAT_XZ, filters=filters))


class Reader:
    """Reads what was squeezed into ``raw``, which may be anybody's: never with more memory than a bundle needs.

    Raises:
        MissingRequirementError: this Python has no xz.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        _require()
        self._raw = raw
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_MEMORY_BYTES)

    def read(self, num_bytes: int) -> bytes:
        """Return the next bytes, fewer only at the end.

        Raises:
            EOFError: it is truncated; StoreError: it is damaged, or something follows it.
        """
        found = bytearray()
        while len(found) < num_bytes and not self._decoder.eof:
            found += self._next(num_bytes - len(found))
        if len(found) < num_bytes and (self._decoder.unused_data or self._raw.read(1)):
            raise StoreError("expected nothing after its end but got more")
        return bytes(found)

    def _next(self, num_bytes: int) -> bytes:
        chunk = b""
        if self._decoder.needs_input and not (chunk := self._raw.read(_CHUNK)):
            raise EOFError
        try:
            return self._decoder.decompress(chunk, num_bytes)
        except lzma.LZMAError as error:
            raise StoreError(f"expected a bundle of `harness bundle` but {error}") from error


def _require() -> None:
    if lzma is None:
        raise MissingRequirementError("needs Python's module lzma, which this Python was built without")
