"""Huge pages for what a zygote holds, so that a fork copies hundreds of page-table entries, not a hundred thousand.

A forked rank shares the zygote's memory, but its page table is a copy: 9 ms to make and 10 ms to tear down for the
350 MB that torch fills with objects, page by page of 4 kB. In pages of 2 MB it is 1 ms and 3 ms. A rank that writes
into such a page still gets 4 kB of its own, not 2 MB.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

# <linux/mman.h>, Linux 6.1: gather these pages into huge ones now.
MADV_COLLAPSE = 25
HUGE_BYTES = 2 << 20
# What malloc and Python's allocator have mapped: private, writable, of no file.
_OWN = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 +(?:\[heap\]|\[anon:.*\])?$")


def collapse() -> int:
    """Move this process's heap into huge pages and return for how many bytes that worked; 0 on a kernel without."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = 0
    for start, size in list(_heap()):
        # Refused for old kernels, pages in short supply, memory with rules of its own: then it stays as it is.
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), ctypes.c_int(MADV_COLLAPSE)) == 0:
            done += size
    return done


def _heap() -> Iterator[tuple[int, int]]:
    """Yield (address, bytes) of the whole huge pages in each private mapping without a file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if found := _OWN.match(line):
            start, end = (int(bound, 16) // HUGE_BYTES * HUGE_BYTES for bound in found.groups())
            start += HUGE_BYTES * (int(found[1], 16) > start)
            if end > start:
                yield start, end - start
