import hashlib
import tarfile
from pathlib import Path

import pytest

from harness.errors import BuildError
from harness.horovod_build import source
from harness.horovod_build.source import Patch

CHANGE = Patch(file="a/b.txt", old="standard 14\n", new="standard 17\n", why="a test")


def tree(root: Path, text: str) -> Path:
    (root / "a").mkdir()
    (root / "a" / "b.txt").write_text(text)
    return root


def test_a_patch_that_fits_once_is_applied(tmp_path: Path) -> None:
    source.patch(tree(tmp_path, "x\nstandard 14\ny\n"), [CHANGE])
    assert (tmp_path / "a" / "b.txt").read_text() == "x\nstandard 17\ny\n"


@pytest.mark.parametrize(("text", "times"), [("nothing", 0), ("standard 14\nstandard 14\n", 2), ("standard 17\n", 0)])
def test_a_patch_that_does_not_fit_exactly_once_stops_the_build(tmp_path: Path, text: str, times: int) -> None:
    with pytest.raises(BuildError, match=rf"once in a/b\.txt .* found it {times} times"):
        source.patch(tree(tmp_path, text), [CHANGE])


def test_a_patch_for_a_file_that_is_gone_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="found it 0 times"):
        source.patch(tmp_path, [CHANGE])


def test_every_patch_says_why_and_changes_something() -> None:
    for gpu in (False, True):
        for patch in source.patches(20, gpu=gpu):
            assert patch.why
            assert patch.new != patch.old


def test_only_a_build_for_cpus_hides_an_nvcc_from_horovod() -> None:
    hidden = [{p.file for p in source.patches(20, gpu=gpu)} for gpu in (False, True)]
    assert hidden[0] - hidden[1] == {"cmake/Modules/FindPytorch.cmake"}


def test_an_archive_with_another_checksum_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / source.ARCHIVE
    archive.write_bytes(b"a proxy's error page")
    with pytest.raises(BuildError, match=r"expected sha256 92a43f5a.* delete .*horovod-0\.28\.1\.tar\.gz"):
        source.verify(archive)
    source.verify(archive, hashlib.sha256(b"a proxy's error page").hexdigest())


def test_an_archive_that_is_there_is_verified_and_not_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / source.ARCHIVE).write_bytes(b"half of it")
    with pytest.raises(BuildError, match="expected sha256"):
        source.download(tmp_path)


def test_unpacking_returns_the_root_of_the_source(tmp_path: Path) -> None:
    inside = tmp_path / "horovod-0.28.1"
    inside.mkdir()
    (inside / "setup.py").write_text("pass")
    archive = tmp_path / "x.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(inside, arcname=inside.name)
    root = source.unpack(archive, tmp_path / "out")
    assert (root / "setup.py").read_text() == "pass"
