"""Reading IDX files, plain or gzipped: the format of MNIST and its kin.

A file is a big-endian header (two zero bytes, a type code, the number of dimensions, then each dimension as 32 bits)
followed by the values in row-major order: LeCun, Cortes & Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

_UBYTE = 0x08
_CHUNK_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


def read(file: Path, num_dimensions: int) -> NDArray[np.uint8]:
    """Return the unsigned bytes of an IDX file in its shape; whether it is gzipped is told by its content.

    Raises:
        DataError: the file is a web page, truncated, damaged, longer than its header says, or not such an IDX file.
    """
    content = _content(file, num_dimensions)
    header_size = 4 + 4 * num_dimensions
    shape = struct.unpack(f">{num_dimensions}I", content[4:header_size])
    return np.frombuffer(content, np.uint8, offset=header_size).reshape(shape)


def _content(file: Path, num_dimensions: int) -> bytearray:
    try:
        with file.open("rb") as raw:
            start = raw.read(512)
            raw.seek(0)
            if start.startswith(_GZIP_MAGIC):
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    return _checked(file, cast("BinaryIO", unpacked), num_dimensions)
            _refuse_other_formats(file, start)
            return _checked(file, raw, num_dimensions)
    except (OSError, EOFError, zlib.error) as error:
        # gzip tells truncation as EOFError, a wrong check sum as OSError and garbage as zlib.error.
        what = "truncated" if isinstance(error, EOFError) else "unreadable"
        raise DataError(f"expected a whole IDX file but {file} is {what}: {error}; fetch it again") from error


def _refuse_other_formats(file: Path, start: bytes) -> None:
    if start.lstrip()[:1] == b"<":
        raise DataError(
            f"expected an IDX file but {file} is a web page (it starts with {bytes(start.lstrip()[:15])!r}): the "
            "download was answered with a page; fetch the file itself"
        )
    if file.suffix == ".gz" and start[:2] != b"\x00\x00":
        raise DataError(f"expected gzip data but {file} starts with {start[:4].hex(' ') or 'nothing'}; fetch it again")


def _checked(file: Path, stream: BinaryIO, num_dimensions: int) -> bytearray:
    """Return header and values; memory stays within what the file really holds, whatever its header says."""
    content = bytearray(stream.read(4 + 4 * num_dimensions))
    expected_magic = bytes((0, 0, _UBYTE, num_dimensions))
    if content[:4] != expected_magic:
        way_out = "are images and labels swapped?" if content[:3] == expected_magic[:3] else "fetch it again"
        raise DataError(
            f"expected IDX magic {expected_magic.hex(' ')} (unsigned bytes, {num_dimensions} dimension(s)) but {file} "
            f"starts with {content[:4].hex(' ') or 'nothing'}; {way_out}"
        )
    if len(content) < 4 + 4 * num_dimensions:
        raise DataError(f"expected a whole IDX file but {file} is truncated in its header; fetch it again")
    shape = struct.unpack(f">{num_dimensions}I", content[4:])
    size = len(content) + math.prod(shape)
    while len(content) <= size:
        chunk = stream.read(min(_CHUNK_BYTES, size + 1 - len(content)))
        if not chunk:
            break
        content += chunk
    if len(content) != size:
        found = f"{len(content)}" if len(content) < size else "more"
        what = "truncated" if len(content) < size else "longer than its header says"
        raise DataError(
            f"expected {size} bytes for shape {shape} but {file} is {what} (it holds {found}); fetch it again"
        )
    return content
