"""Unpacking a bundle that anybody may have made: plain files of the names that bundles have, each as it was packed.

Nothing is written before its name, its kind and its size are those of the manifest, and never more than was promised;
nothing is unpickled. What does not fit is refused by name, and with it the bundle.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from harness.errors import StoreError
from harness.evidence import manifest as manifests
from harness.evidence.manifest import Manifest, Packed
from harness.evidence.squeezing import Reader

# A bundle of more is made for no good, or told to be good with --at-most.
MOST_BYTES = 8 << 30
# What is read into memory at once, the records or a question, may take this part of what is allowed.
TEXT_PART = 32
_MOST_OF_MANIFEST = MOST_BYTES // TEXT_PART
_CHUNK = 1 << 20


class _Versioned(msgspec.Struct):
    schema: int


def checksum(bundle: Path) -> str:
    """Return the sha256 of a bundle.

    Raises:
        StoreError: it cannot be read.
    """
    with _told(bundle), bundle.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def unpack(bundle: Path, folder: Path, most_bytes: int = MOST_BYTES) -> Manifest:
    """Unpack ``bundle`` into ``folder``, which takes at most ``most_bytes``, and return its manifest.

    Raises:
        StoreError: the bundle is truncated, damaged, of another schema, too large, or holds what no bundle holds.
    """
    with _told(bundle), bundle.open("rb") as raw:
        packed = Reader(raw)
        manifest = _manifest(packed)
        _require_room(manifest, folder, most_bytes)
        for file in manifest.files:
            member = _header(packed)
            if member is None or member.name != file.name or member.size != file.num_bytes:
                got = "the end" if member is None else f"{member.name!r} of {member.size:,} bytes"
                raise StoreError(f"expected {file.name!r} of {file.num_bytes:,} bytes next, as promised, but got {got}")
            _write(packed, file, folder)
        if (extra := _header(packed)) is not None:
            raise StoreError(f"expected nothing that the manifest does not name but got {extra.name!r}")
        # Reading on to the end is what checks xz's own sum.
        rest = packed.read(tarfile.RECORDSIZE + 1)
        if len(rest) > tarfile.RECORDSIZE or rest.strip(b"\0"):
            raise StoreError("expected nothing after its last file but got more")
    return manifest


def least_bytes(manifest: Manifest) -> int:
    """Return the least that ``unpack`` is to be allowed for a bundle with this manifest."""
    texts = (file.num_bytes for file in manifest.files if not manifests.is_table(file.name))
    return max(manifest.num_bytes, TEXT_PART * max(texts, default=0))


def _manifest(packed: Reader) -> Manifest:
    member = _header(packed)
    if member is None or member.name != manifests.NAME or member.size > _MOST_OF_MANIFEST:
        got = f"{member.name!r} of {member.size:,} bytes" if member else "nothing"
        raise StoreError(f"expected {manifests.NAME} of at most {_MOST_OF_MANIFEST:,} bytes first but got {got}")
    content = _read(packed, member.size)
    try:
        schema = msgspec.json.decode(content, type=_Versioned).schema
        if schema != manifests.SCHEMA:
            raise StoreError(
                f"expected a bundle of schema {manifests.SCHEMA} but got {schema}; judge it with the version of "
                "Lockstep that made it"
            )
        manifest = msgspec.json.decode(content, type=Manifest, strict=False)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"expected a manifest but {error}") from error
    names = [file.name for file in manifest.files]
    if len(set(names)) < len(names):
        raise StoreError("expected every file once but the manifest names one twice")
    for file in manifest.files:
        manifests.require_name(file.name)
    unknown = {case.question for case in manifest.cases} - {"", *names}
    if unknown:
        raise StoreError(f"expected what each case was judged by in the bundle but it lacks {min(unknown)!r}")
    return manifest


def _require_room(manifest: Manifest, folder: Path, most_bytes: int) -> None:
    for file in manifest.files:
        most = most_bytes if manifests.is_table(file.name) else most_bytes // TEXT_PART
        if not 0 <= file.num_bytes <= most:
            raise StoreError(
                f"expected at most {most:,} bytes of {file.name!r} but got {file.num_bytes:,}; allow as much with "
                "--at-most if you trust it"
            )
    if manifest.num_bytes > most_bytes:
        raise StoreError(
            f"expected at most {most_bytes / (1 << 30):.3g} GiB unpacked but it holds "
            f"{manifest.num_bytes / (1 << 30):.3g} GiB; allow as much with --at-most if you trust it"
        )
    free = shutil.disk_usage(folder).free
    if manifest.num_bytes > free:
        raise StoreError(
            f"expected {manifest.num_bytes / (1 << 30):.3g} GiB free in {folder} but got {free / (1 << 30):.3g} GiB"
        )


def _header(packed: Reader) -> tarfile.TarInfo | None:
    """Return what the next header says, of a plain file in any case; None at the end.

    Not by ``tarfile`` itself, which follows headers that promise names of any length.
    """
    block = _read(packed, tarfile.BLOCKSIZE)
    if not block.strip(b"\0"):
        return None
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise StoreError(f"expected a tar header but {error}") from error
    if member.type != tarfile.REGTYPE or member.size < 0:
        raise StoreError(f"expected plain files but {member.name!r} is {_kind(member)}")
    return member


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"a link to {member.linkname!r}"
    if member.isdev():
        return "a device"
    return "a folder" if member.isdir() else f"of type {member.type!r}"


def _write(packed: Reader, file: Packed, folder: Path) -> None:
    path = folder / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    found, left = hashlib.sha256(), file.num_bytes
    with path.open("xb") as opened:
        while left:
            chunk = packed.read(min(left, _CHUNK))
            if not chunk:
                raise EOFError
            found.update(chunk)
            opened.write(chunk)
            left -= len(chunk)
    packed.read(-file.num_bytes % tarfile.BLOCKSIZE)
    named = path.stem if manifests.is_table(file.name) else file.sha256
    if not found.hexdigest() == file.sha256 == named:
        raise StoreError(
            f"expected {file.name} with the sha256 {file.sha256} but it has {found.hexdigest()}: it was changed or "
            "damaged after it was packed"
        )
    if manifests.is_table(file.name):
        _require_numbers(path, file.name)


def _require_numbers(path: Path, name: str) -> None:
    """Raise StoreError unless a table is numbers alone: nothing pickled, and as many as its header says."""
    try:
        table = np.lib.format.open_memmap(path, mode="r")
    # A header is Python text: what reading one ends with is Python's to choose.
    except Exception as error:
        raise StoreError(f"expected numbers in {name} but {str(error) or type(error).__name__}") from error
    if table.dtype.kind not in "biuf":
        raise StoreError(f"expected numbers in {name} but got {table.dtype}")


def _read(packed: Reader, num_bytes: int) -> bytes:
    """Return as many bytes of a header or of the manifest, without the padding after them."""
    content = packed.read(num_bytes)
    if len(content) < num_bytes:
        raise EOFError
    packed.read(-num_bytes % tarfile.BLOCKSIZE)
    return content


@contextmanager
def _told(bundle: Path) -> Iterator[None]:
    """Name the bundle in whatever is wrong with it, and say the way out."""
    try:
        yield
    except StoreError as error:
        raise StoreError(f"{bundle}: {error}; pack or fetch it again") from error
    except EOFError as error:
        raise StoreError(f"{bundle}: expected more but it is truncated; fetch it again") from error
    except OSError as error:
        raise StoreError(f"expected to read {bundle} but {error}; name a file of `harness bundle`") from error
