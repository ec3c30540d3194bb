"""A run whose cases left what they were judged by, and bundles of it that somebody has laid hands on."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from harness import store, workloads
from harness.evidence import manifest as manifests
from harness.evidence import squeezing
from harness.evidence.keeping import FOLDER, TABLES
from harness.evidence.manifest import Manifest, Packed
from harness.evidence.question import Question
from harness.launchers.local import Pool
from harness.record import Record
from harness.runner import Runner
from harness.spec import Case
from harness.store import Journal, RunInfo
from harness.strategies import base as strategies
from harness.training import Settings

FIXTURES = Path(__file__).parents[3] / "fixtures"
ELSEWHERE: dict[str, str | float | int] = {"platform": "Linux-x86_64", "gpu_model": "Imagined 9000", "commit": "c0ffee"}
Member = tuple[tarfile.TarInfo, bytes]


@contextlib.contextmanager
def numpy_strategies() -> Iterator[None]:
    """Register strategies whose ranks need no framework: ``numpy-mean``, and ``numpy-sum``, which is wrong."""
    with pytest.MonkeyPatch.context() as patch, strategies._registry.passing(), workloads._registry.passing():
        patch.syspath_prepend(FIXTURES)
        patch.delitem(sys.modules, "numpy_strategies", raising=False)
        importlib.import_module("numpy_strategies").misbehaving("sum")
        yield
    sys.modules.pop("numpy_strategies", None)


@contextlib.contextmanager
def runner(scratch: Path, run: Path | None) -> Iterator[Runner]:
    """Return a runner that keeps traces in the folder ``run``."""
    with contextlib.closing(Pool(lambda _family: ())) as pool:
        yield Runner(Settings(scratch=scratch, traces=run, timeout_s=30.0), pool)


def case(strategy: str = "numpy-mean", world_size: int = 2) -> Case:
    return Case(workload="tiny", strategy=strategy, world_size=world_size)


def make(reports: Path, scratch: Path, *, keep: bool = True) -> Path:
    """Judge a sound case, a wrong one and a single rank, and return the folder of their run."""
    info = RunInfo(id="20261120T101502.345Z-3f9a", started=store.utc_now(), environment=ELSEWHERE)
    folder = reports / info.id
    journal = Journal(folder, info)
    with numpy_strategies(), runner(scratch, folder if keep else None) as own:
        for asked in (case(), case("numpy-sum"), case(world_size=1)):
            journal.append(judged(own, asked, info.id))
    journal.append(store.not_verified(info.id, case(world_size=8), framework="plain", reason="needs 8 cores"))
    journal.finish(1)
    return folder


def judged(own: Runner, asked: Case, run: str) -> Record:
    """Return the record of a case that is judged now."""
    workload = workloads.get(asked.workload)
    verdict = own.verdict(asked, workload)
    return Record(
        run=run,
        case=asked.id,
        strategy=asked.strategy,
        framework="plain",
        workload=asked.workload,
        workload_digest=workload.digest,
        world_size=asked.world_size,
        device=asked.device,
        dtype="float64",
        reference=verdict.reference,
        verdict=verdict.conclusion,
        reason=verdict.reason,
        evidence=verdict,
        divergence=verdict.divergence,
        margin=verdict.margin,
        environment=ELSEWHERE,
        traces=own.notes.told(asked, workload),
    )


def rewrite(folder: Path, of: str, /, **changes: object) -> None:
    """Change what a run's first record of a strategy says, as somebody might with an editor."""
    records = list(store.read(folder).records)
    place = next(i for i, record in enumerate(records) if record.strategy == of)
    records[place] = msgspec.structs.replace(records[place], **changes)
    (folder / store.RECORDS).write_bytes(b"".join(store.encode(record) + b"\n" for record in records))


@dataclass(kw_only=True)
class Opened:
    """A bundle taken apart, to be put together again with changes."""

    manifest: Manifest
    members: list[Member]

    def place(self, ending: str) -> int:
        """Return which member's name ends so."""
        return next(i for i, (member, _) in enumerate(self.members) if member.name.endswith(ending))

    def place_of(self, beginning: str) -> int:
        """Return which member's name begins so."""
        return next(i for i, (member, _) in enumerate(self.members) if member.name.startswith(beginning))

    def question(self, name: str) -> Question:
        """Return what a case was judged by, as it lies in the bundle."""
        return manifests.decode_question(self.members[self.place_of(name)][1], name)

    def add_table(self, content: bytes) -> str:
        """Add a table under the name that it must have, and return that name."""
        sha256 = hashlib.sha256(content).hexdigest()
        packed = Packed(name=f"{TABLES}/{sha256}.npy", num_bytes=len(content), sha256=sha256)
        self.manifest = msgspec.structs.replace(self.manifest, files=(*self.manifest.files, packed))
        self.members.append((plain(packed.name, content), content))
        return f"{sha256}.npy"

    def change(self, ending: str, content: bytes, *, told: bool = False) -> str:
        """Give the first file whose name ends so another content; where ``told`` the manifest says so, too."""
        place = self.place(ending)
        name = self.members[place][0].name
        self.members[place] = (plain(name, content), content)
        if told:
            sha256 = hashlib.sha256(content).hexdigest()
            files = tuple(
                msgspec.structs.replace(file, sha256=sha256, num_bytes=len(content)) if file.name == name else file
                for file in self.manifest.files
            )
            self.manifest = msgspec.structs.replace(self.manifest, files=files)
        return name

    def write(self, path: Path, manifest: object = None) -> Path:
        """Put the bundle together."""
        first = store.encode(self.manifest if manifest is None else manifest)
        return pack(path, [(plain(manifests.NAME, first), first), *self.members])


def take_apart(bundle: Path) -> Opened:
    """Return what is in a bundle."""
    with tarfile.open(bundle, "r:xz") as archive:
        members = []
        for member in archive:
            file = archive.extractfile(member)
            members.append((member, file.read() if file else b""))
    (_, told), *others = members
    return Opened(manifest=msgspec.json.decode(told, type=Manifest), members=others)


def plain(name: str, content: bytes = b"") -> tarfile.TarInfo:
    """Return the header of a plain file."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member


def pack(path: Path, members: Sequence[Member]) -> Path:
    """Write members as they come, with sums that are right for them."""
    with path.open("wb") as raw, squeezing.writer(raw) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


def swap(opened: Opened, content: bytes) -> str:
    """Put a table into a bundle in the place of another one, with all sums and names right; return its name."""
    own = opened.question(f"{FOLDER}/tiny").trainings[0].legs[0].reference.rungs["parameters"].file
    new = f"{hashlib.sha256(content).hexdigest()}.npy"
    for at, (other, text) in enumerate(opened.members):
        if other.name.startswith(f"{FOLDER}/tiny"):
            opened.change(other.name, text.replace(own.encode(), new.encode()), told=True)
        if other.name == f"{TABLES}/{own}":
            opened.members[at] = (plain(f"{TABLES}/{new}", content), content)
    packed = Packed(name=f"{TABLES}/{new}", num_bytes=len(content), sha256=new.removesuffix(".npy"))
    files = tuple(packed if file.name == f"{TABLES}/{own}" else file for file in opened.manifest.files)
    opened.manifest = msgspec.structs.replace(opened.manifest, files=files)
    return packed.name
