"""IDX files are read whole or refused with the reason; the bad ones lie under fixtures/idx."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from harness.datasets import idx
from harness.errors import DataError

FILES = Path(__file__).parents[3] / "fixtures" / "idx"


def test_gzipped_or_not_the_values_are_the_same() -> None:
    images = idx.read(FILES / "images", 3)
    assert images.shape == (12, 28, 28)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, idx.read(FILES / "images.gz", 3))
    assert images[3, 10, 10] == images[3, 7, 13] != images[3, 10, 20]  # tiles of 7x7 equal pixels
    assert idx.read(FILES / "labels", 1).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_gzip_is_told_by_content_and_not_by_name(tmp_path: Path) -> None:
    """Browsers unpack a download and keep its name; others drop the suffix."""
    (tmp_path / "unpacked.gz").write_bytes((FILES / "images").read_bytes())
    (tmp_path / "packed").write_bytes((FILES / "images.gz").read_bytes())
    np.testing.assert_array_equal(idx.read(tmp_path / "unpacked.gz", 3), idx.read(tmp_path / "packed", 3))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("web-page.gz", "is a web page .*<!DOCTYPE html.*fetch the file itself"),
        ("not-gzip.gz", "expected gzip data but .* starts with 50 4b 03 04"),
        ("empty.gz", "expected gzip data but .* starts with nothing"),
        ("cut.gz", "is truncated.*fetch it again"),
        ("torn.gz", "is unreadable: .*fetch it again"),
        ("cut", r"expected 9424 bytes for shape \(12, 28, 28\) but .* is truncated \(it holds 4712\)"),
        ("cut-in-header", "is truncated in its header"),
        ("too-long", "is longer than its header says"),
        ("labels", "expected IDX magic 00 00 08 03 .* 00 00 08 01; are images and labels swapped"),
        ("floats", "starts with 00 00 0d 01; fetch it again"),
        ("immense", "is truncated"),
        ("absent", "No such file"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong_and_the_way_out(name: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        idx.read(FILES / name, 3)
    assert str(FILES / name) in str(caught.value)


def test_a_header_that_promises_too_much_costs_no_memory() -> None:
    tracemalloc.start()
    with pytest.raises(DataError, match="truncated"):
        idx.read(FILES / "immense", 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
