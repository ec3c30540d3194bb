"""Writing what a report consists of: so that no reader sees half a file, and never beside a measurement."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.errors import HarnessError, StoreError
from harness.measure import lease
from harness.store import replace_file

# A page that is kept current while a run goes on takes no more than this share of the time to write.
SHARE = 0.2
_OF_A_RUN = "choose another place with --ls-report-dir DIR, for the page alone with `harness report RUN --output FILE`"


def write(path: Path, content: bytes | Iterable[bytes], *, way_out: str = _OF_A_RUN) -> Path:
    """Write ``content``, or its pieces, and return ``path``.

    Raises:
        StoreError: that is refused; it ends with ``way_out``, which says where else to write.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"expected to write {path} but {why}; free or allow it, or {way_out}") from error
    return path


@contextlib.contextmanager
def unless_measured() -> Iterator[bool]:
    """Keep out of the way of a measurement on this machine: yields False while there is one."""
    with contextlib.ExitStack() as held:
        try:
            free = held.enter_context(lease.unless_measured(label="a report that is being written"))
        except HarnessError:  # without a lease nothing is measured here
            free = True
        yield free
