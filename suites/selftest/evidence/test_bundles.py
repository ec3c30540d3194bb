"""A bundle holds a run with all that its verdicts rest on, and is refused by name where anything in it was changed."""

from __future__ import annotations

import io
import lzma
import os
import pickle
import shutil
import tarfile
from pathlib import Path
from typing import Any

import kept_run
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from harness import store
from harness.errors import MissingRequirementError, StoreError
from harness.evidence import manifest as manifests
from harness.evidence import packing, squeezing, unpacking
from harness.evidence.keeping import FOLDER, TABLES
from harness.evidence.manifest import Packed
from harness.evidence.rejudging import questions
from harness.evidence.unpacking import checksum, unpack


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    return kept_run.make(place / "reports", place / "scratch")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture(scope="module")
def bundle(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packing.pack(store.read(made), tmp_path_factory.mktemp("bundle") / "sound.lockstep").file


@pytest.fixture
def opened(bundle: Path) -> kept_run.Opened:
    return kept_run.take_apart(bundle)


def refused(bundle: Path, folder: Path, **limits: int) -> str:
    """Return in which words a bundle is refused; what it promises is looked at, too, if it comes so far."""
    folder.mkdir(exist_ok=True)
    with pytest.raises(StoreError) as told:
        questions(folder, unpack(bundle, folder, **limits))
    return str(told.value)


def test_a_bundle_holds_the_run_where_it_was_made_and_what_each_case_was_judged_by(made: Path, tmp_path: Path) -> None:
    packed = packing.pack(store.read(made), tmp_path / "run.lockstep")
    cases = {case.case: case for case in packed.manifest.cases}
    assert packed.manifest.commit == "c0ffee"
    assert packed.manifest.environment == kept_run.ELSEWHERE
    assert {name for name, case in cases.items() if case.question} == {
        "tiny/numpy-mean/2/cpu",
        "tiny/numpy-sum/2/cpu",
        "tiny/numpy-mean/1/cpu",
    }
    assert cases["tiny/numpy-mean/8/cpu"].reason == "it never came to a verdict: needs 8 cores"
    assert packed.sha256 == checksum(packed.file)
    folder = tmp_path / "unpacked"
    folder.mkdir()
    assert unpack(packed.file, folder) == packed.manifest
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()
    }
    assert store.read(folder).records == store.read(made).records


def test_the_same_run_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "elsewhere", copy_function=shutil.copyfile))
    first, second = (packing.pack(store.read(run), tmp_path / f"{run.name}.lockstep") for run in (made, copy))
    assert first.file.read_bytes() == second.file.read_bytes()


def test_a_run_without_traces_is_packed_and_says_so(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / FOLDER)
    kept_run.rewrite(run, "numpy-sum", traces="not kept: No space left on device")
    manifest = packing.pack(store.read(run), tmp_path / "bare.lockstep").manifest
    assert {case.question for case in manifest.cases} == {""}
    reasons = {case.case: case.reason for case in manifest.cases}
    assert reasons["tiny/numpy-sum/2/cpu"] == "its traces were not kept: No space left on device"
    assert "--ls-keep-traces" in reasons["tiny/numpy-mean/2/cpu"]


def test_a_case_whose_table_is_gone_is_named(run: Path, tmp_path: Path) -> None:
    question = next((run / FOLDER).glob("tiny-numpy-sum-*.json"))
    own = manifests.decode_question(question.read_bytes(), "").trainings[0].legs[0].ranks[0].rungs["parameters"].file
    (run / TABLES / own).unlink()
    cases = {case.case: case for case in packing.pack(store.read(run), tmp_path / "less.lockstep").manifest.cases}
    assert cases["tiny/numpy-mean/2/cpu"].question
    assert not cases["tiny/numpy-sum/2/cpu"].question
    assert own in cases["tiny/numpy-sum/2/cpu"].reason


def test_a_table_that_has_rotted_is_not_packed(run: Path, tmp_path: Path) -> None:
    table = next((run / TABLES).iterdir())
    content = bytearray(table.read_bytes())
    content[-1] ^= 1
    table.unlink()
    table.write_bytes(content)
    with pytest.raises(StoreError, match=table.name):
        packing.pack(store.read(run), tmp_path / "rotten.lockstep")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_bundle_that_cannot_be_written_leaves_nothing(made: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for file in ("absent/run.lockstep", "file/run.lockstep", "x" * 300):
        with pytest.raises(StoreError, match="name another file with -o"):
            packing.pack(store.read(made), tmp_path / file)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_that_goes_on_is_packed_as_it_was_at_one_moment(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = msgspec.structs.replace(store.read(run).info, ended="", exit_status=None)
    journal = store.Journal(run, info)
    before, made_manifest = store.read(run), packing.manifest_of

    def goes_on(*given: Any) -> Any:
        journal.append(before.records[0])
        manifest = made_manifest(*given)
        journal.append(before.records[0])
        journal.finish(0)
        return manifest

    monkeypatch.setattr(packing, "manifest_of", goes_on)
    bundle = packing.pack(before, tmp_path / "live.lockstep")
    (tmp_path / "to").mkdir()
    unpack(bundle.file, tmp_path / "to")
    found = store.read(tmp_path / "to")
    assert (found.info, found.records) == (info, before.records)


def test_a_file_that_changes_while_it_is_packed_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    question, made_manifest = next((run / FOLDER).glob("*.json")), packing.manifest_of

    def written_again(*given: Any) -> Any:
        manifest = made_manifest(*given)
        question.write_bytes(question.read_bytes().replace(b"tiny", b"TINY"))
        return manifest

    monkeypatch.setattr(packing, "manifest_of", written_again)
    with pytest.raises(StoreError, match="to stay as it is while it is packed"):
        packing.pack(store.read(run), tmp_path / "live.lockstep")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_bundle_is_refused(share: float, bundle: Path, tmp_path: Path) -> None:
    content = bundle.read_bytes()
    short = tmp_path / "short.lockstep"
    short.write_bytes(content[: int(share * len(content))])
    assert refused(short, tmp_path / "to").startswith(f"{short}: expected")


def test_one_bit_of_a_table_is_enough_to_be_refused_by_name(opened: kept_run.Opened, tmp_path: Path) -> None:
    _, content = opened.members[opened.place(".npy")]
    changed = content[:-1] + bytes([content[-1] ^ 1])
    name = opened.change(".npy", changed)
    assert f"expected {name} with the sha256" in refused(opened.write(tmp_path / "bit.lockstep"), tmp_path / "to")


def test_a_table_whose_checksum_was_changed_along_with_it_is_not_what_its_name_says(
    opened: kept_run.Opened, tmp_path: Path
) -> None:
    _, content = opened.members[opened.place(".npy")]
    name = opened.change(".npy", content[:-1] + bytes([content[-1] ^ 1]), told=True)
    assert f"expected {name} with the sha256" in refused(opened.write(tmp_path / "bit.lockstep"), tmp_path / "to")


def test_a_changed_record_is_refused_where_the_checksum_was_left(opened: kept_run.Opened, tmp_path: Path) -> None:
    _, content = opened.members[opened.place(store.RECORDS)]
    opened.change(store.RECORDS, content.replace(b'"different"', b'"equivalent"'))
    assert "records.jsonl" in refused(opened.write(tmp_path / "record.lockstep"), tmp_path / "to")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "traces/../../evil", "traces/tables/x.npy", "a\0b", "..."])
def test_no_file_leaves_the_folder(name: str, opened: kept_run.Opened, tmp_path: Path) -> None:
    evil = Packed(name=name, num_bytes=4, sha256="0" * 64)
    manifest = msgspec.structs.replace(opened.manifest, files=(evil, *opened.manifest.files))
    opened.members.insert(0, (kept_run.plain(name.replace("\u0000", ""), b"evil"), b"evil"))
    assert f"got a file {name!r}" in refused(opened.write(tmp_path / "evil.lockstep", manifest), tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (tarfile.SYMTYPE, "a link to '/etc/passwd'"),
        (tarfile.LNKTYPE, "a link to '/etc/passwd'"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
        (tarfile.DIRTYPE, "a folder"),
        (tarfile.GNUTYPE_SPARSE, "of type b'S'"),
        (tarfile.XHDTYPE, "of type b'x'"),
    ],
)
def test_nothing_but_plain_files_is_taken(kind: bytes, told: str, opened: kept_run.Opened, tmp_path: Path) -> None:
    place = opened.place(store.INFO)
    member = kept_run.plain(store.INFO)
    member.type, member.linkname = kind, "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    opened.members[place] = (member, b"")
    assert f"'run.json' is {told}" in refused(opened.write(tmp_path / "odd.lockstep"), tmp_path / "to")


def test_a_file_that_the_manifest_does_not_name_is_refused(opened: kept_run.Opened, tmp_path: Path) -> None:
    opened.members.append((kept_run.plain("extra", b"more"), b"more"))
    assert "got 'extra'" in refused(opened.write(tmp_path / "extra.lockstep"), tmp_path / "to")


def test_a_file_that_the_manifest_names_and_is_absent_is_refused(opened: kept_run.Opened, tmp_path: Path) -> None:
    member, _ = opened.members.pop()
    assert f"expected {member.name!r}" in refused(opened.write(tmp_path / "less.lockstep"), tmp_path / "to")


def test_what_follows_the_last_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.lockstep"
    more.write_bytes(lzma.compress(lzma.decompress(bundle.read_bytes()) + b"more"))
    assert "expected nothing after its last file" in refused(more, tmp_path / "to")


def test_a_python_without_xz_is_told(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squeezing, "lzma", None)
    with pytest.raises(MissingRequirementError, match="module lzma"):
        unpack(bundle, tmp_path)


def test_what_needs_more_memory_than_a_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    wide = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2 * squeezing.REACH_BYTES}]
    greedy = tmp_path / "greedy.lockstep"
    greedy.write_bytes(lzma.compress(lzma.decompress(bundle.read_bytes()), filters=wide))
    assert "Memory usage limit" in refused(greedy, tmp_path / "to")


@pytest.mark.parametrize("more", [b"\0", b"more", lzma.compress(b"more")])
def test_what_follows_a_bundle_is_refused(more: bytes, bundle: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer.lockstep"
    longer.write_bytes(bundle.read_bytes() + more)
    assert "expected nothing after its end" in refused(longer, tmp_path / "to")


def test_a_bundle_looks_back_further_than_a_table_is_long(opened: kept_run.Opened, tmp_path: Path) -> None:
    table = npy(np.random.default_rng(0).standard_normal(1 << 16))
    before = opened.write(tmp_path / "before.lockstep").stat().st_size
    for nudged in range(8):
        opened.add_table(table[:-1] + bytes([nudged]))
    assert opened.write(tmp_path / "after.lockstep").stat().st_size - before < 1.2 * len(table)


def test_a_bundle_that_unpacks_to_too_much_is_refused_before_anything_is_written(
    bundle: Path, opened: kept_run.Opened, tmp_path: Path
) -> None:
    assert "allow as much with --at-most" in refused(bundle, tmp_path / "to", most_bytes=10_000)
    first = opened.manifest.files[0]
    promised = (msgspec.structs.replace(first, num_bytes=1 << 60), *opened.manifest.files[1:])
    bomb = opened.write(tmp_path / "bomb.lockstep", msgspec.structs.replace(opened.manifest, files=promised))
    assert f"{1 << 60:,}" in refused(bomb, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_records_too_large_to_be_taken_unasked_are_taken_where_more_is_allowed(
    bundle: Path, opened: kept_run.Opened, tmp_path: Path
) -> None:
    least = unpacking.least_bytes(opened.manifest)
    assert least > opened.manifest.num_bytes
    told = refused(bundle, tmp_path / "to", most_bytes=least - 1)
    assert "'traces/tiny-numpy-sum" in told
    assert "allow as much with --at-most" in told
    unpack(bundle, tmp_path / "to", most_bytes=least)


def test_a_file_larger_than_promised_is_refused_unread(opened: kept_run.Opened, tmp_path: Path) -> None:
    opened.change(store.RECORDS, bytes(1 << 20))
    assert "of 1,048,576 bytes" in refused(opened.write(tmp_path / "large.lockstep"), tmp_path / "to")


def test_what_the_disk_has_no_room_for_is_refused(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _place: usage)
    assert "GiB free" in refused(bundle, tmp_path / "to")


@pytest.mark.parametrize("changes", [{"schema": 99}, {"schema": "x"}, {"files": 3}, {"unheard_of": 1}])
def test_another_schema_is_refused_by_number(
    changes: dict[str, object], opened: kept_run.Opened, tmp_path: Path
) -> None:
    manifest = msgspec.to_builtins(opened.manifest) | changes
    told = refused(opened.write(tmp_path / "other.lockstep", manifest), tmp_path / "to")
    assert "got 99" in told if changes == {"schema": 99} else "expected a manifest" in told


def test_records_of_another_schema_are_refused(run: Path, tmp_path: Path) -> None:
    lines = (run / store.RECORDS).read_bytes().replace(b'{"schema":1', b'{"schema":99')
    bundle = packing.pack(store.read(run), tmp_path / "old.lockstep")
    opened = kept_run.take_apart(bundle.file)
    opened.change(store.RECORDS, lines, told=True)
    (tmp_path / "to").mkdir()
    unpack(opened.write(tmp_path / "newer.lockstep"), tmp_path / "to")
    with pytest.raises(StoreError, match="schema 99"):
        store.read(tmp_path / "to")


@pytest.mark.parametrize("content", [b"no bundle at all", lzma.compress(b"no archive"), lzma.compress(bytes(4096))])
def test_what_is_no_bundle_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "strange.lockstep"
    file.write_bytes(content)
    assert refused(file, tmp_path / "to").startswith(str(file))


def test_a_bundle_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.lockstep", tmp_path / "to")


def npy(array: NDArray[Any], *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def header(text: str) -> bytes:
    """Return a table of which there is only the header."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


class Evil:
    """Runs something where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize(
    "content",
    [
        npy(np.array([Evil()]), allow_pickle=True),
        pickle.dumps(Evil()),
        npy(np.array(["text"])),
        npy(np.zeros(4, dtype=[("a", "f8")])),
        npy(np.zeros(4))[:-8],
        b"",
        b"PK\x03\x04 no archive",
        b"PK\x05\x06" + bytes(18),
        header("'''{"),
        header("-" * 9000 + "1"),
        header("\n  a\n b"),
        header("{'descr': ('<f8',), 'fortran_order': False, 'shape': (1,), }"),
        header("{[]: 4}"),
    ],
)
def test_a_table_that_is_not_numbers_alone_is_refused_and_never_unpickled(
    content: bytes, opened: kept_run.Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    swapped = kept_run.swap(opened, content)
    assert f"expected numbers in {swapped}" in refused(opened.write(tmp_path / "odd.lockstep"), tmp_path / "to")
    assert not Path("unpickled").exists()


def test_a_table_of_another_shape_is_refused_with_its_case(opened: kept_run.Opened, tmp_path: Path) -> None:
    kept_run.swap(opened, npy(np.zeros((2, 2))))
    told = refused(opened.write(tmp_path / "shape.lockstep"), tmp_path / "to")
    assert "what tiny/numpy-" in told
    assert "got (2, 2)" in told


@pytest.mark.parametrize("name", ["../../evil.npy", "/etc/evil.npy", "evil"])
def test_a_question_names_no_table_outside_of_the_bundle(name: str, opened: kept_run.Opened, tmp_path: Path) -> None:
    member, content = opened.members[opened.place_of(f"{FOLDER}/tiny")]
    own = opened.question(member.name).trainings[0].legs[0].reference.rungs["parameters"].file
    opened.change(member.name, content.replace(own.encode(), name.encode()), told=True)
    assert "got a file" in refused(opened.write(tmp_path / "outside.lockstep"), tmp_path / "to")
