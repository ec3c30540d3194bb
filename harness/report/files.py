"""Writing what a report consists of, so that no reader sees half a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.errors import StoreError
from harness.store import replace_file


def write(path: Path, content: bytes | Iterable[bytes]) -> Path:
    """Write ``content``, or its pieces, and return ``path``; raise StoreError where that is refused."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise StoreError(
            f"expected to write {path} but {error.strerror or error}; free or allow it, or choose another place "
            "with --ls-report-dir DIR, for the page alone with `harness report RUN --output FILE`"
        ) from error
    return path
