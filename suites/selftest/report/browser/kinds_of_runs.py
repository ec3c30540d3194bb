"""The kinds of runs whose pages are opened: a real one, made-up ones, and what a bad day leaves behind."""

from __future__ import annotations

import math
import shutil
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

import harness
from fixtures.sample_claims import claim, claims
from fixtures.sample_records import RUN, hostile, record, sample, scaled, timing, verdict, write_run
from harness.claims import PublishedClaim
from harness.record import Record
from harness.report import compare, write, write_comparison
from harness.store import CLAIMS, RECORDS, read
from harness.timings import Breakdown, Interval, Loss

REAL = Path(harness.__file__).parents[1] / "reports" / "sample"
EARLIER = {
    "20261113T091502.345Z-1c2d": "2026-11-13T09:15:02Z",
    "20261119T091502.345Z-2d3e": "2026-11-19T09:15:02Z",
}
SLOWER = "digits-mlp/torch-ddp/2/cpu"
FINDING = "loss: its mean is one of means."
# Each would set window.hurt (or open a dialog) where it is taken for markup, an attribute, a script or a template.
POISON = (
    "<script>window.hurt=1</script>"
    "<img src=x onerror=window.hurt=2>"
    "\"' onfocus=window.hurt=3 autofocus x='"
    "</script><script>window.hurt=4</script>"
    "--></style><svg onload=window.hurt=5>"
    "{{ 7*7 }}${window.hurt=6}`"
    "javascript:window.hurt=7"
    "\u2028\u2029\x00\x1b[31m\ud800\u202e"
)


def poisoned(value: Any, poison: str, annotation: Any = None) -> Any:
    """Return ``value`` with the poison in every free string of it; words of a fixed choice stay."""
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(value)
        return type(value)(**{field.name: poisoned(getattr(value, field.name), poison, field.type) for field in fields})
    inner = typing.get_args(annotation)
    if isinstance(value, str):
        return poison if annotation is str or str in inner else value
    if isinstance(value, dict):
        return {poisoned(key, poison, inner[0]): poisoned(item, poison, inner[1]) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(poisoned(item, poison, inner[0] if Ellipsis in inner else None) for item in value)
    return value


def spoilt(value: Any, bad: float, annotation: Any = float) -> Any:
    """Return ``value`` with ``bad`` for every number in it that may be any; counts and indices stay."""
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(value)
        return type(value)(**{field.name: spoilt(getattr(value, field.name), bad, field.type) for field in fields})
    inner = typing.get_args(annotation)
    if isinstance(value, float):
        return bad
    if isinstance(value, dict):
        return {key: spoilt(item, bad) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(spoilt(item, bad) for item in value)
    return bad if value is None and float in inner else value


def _made(records: Callable[[], list[Record]], *, ended: bool = True) -> Callable[[Path], Path]:
    return lambda folder: write_run(folder / RUN, records(), ended=ended)


def _real(folder: Path) -> Path:
    for file in (RECORDS, "run.json"):
        shutil.copy(REAL / file, folder / file)
    return folder


def _damaged(folder: Path) -> Path:
    run = write_run(folder / RUN, sample(), ended=False)
    (run / RECORDS).write_bytes((run / RECORDS).read_bytes()[:-200])
    return run


def _curves() -> list[Record]:
    return [scaled(ranks, times) for ranks, times in ((2, 1.82), (4, 3.1), (8, 4.7))]


def _poisoned(folder: Path) -> Path:
    """Write a run whose every string is poison, told apart only by a number at its end."""
    records = [
        msgspec.structs.replace(poisoned(told, f"{POISON} {number}"), run=RUN)
        for number, told in enumerate((*sample(), *hostile()))
    ]
    return write_run(folder / RUN, records, command=POISON, asked=POISON, environment={POISON: POISON})


def _full() -> Record:
    """Return a case with every figure that there is."""
    share = Interval(median=0.8, low=0.7, high=0.9)
    parts: Any = {"data": 0.1, "forward": 0.2, "communication": 0.05}
    timed = timing(
        1.3,
        losses=(Loss(name="batch", factor=share, words="about 0.8"),),
        breakdown=Breakdown(ranks=(parts, parts), alone=parts, num_steps=5, accounted=0.99),
    )
    return record("torch-full", "every-figure", timing=timed)


def _spoilt(folder: Path) -> Path:
    """Write a run whose every number is none, or is infinite; in one case all but its epochs, which can be shown."""
    records = []
    for bad in (math.nan, math.inf, -math.inf):
        whole = _full()
        assert whole.timing is not None
        kept = {name: getattr(whole.timing, name) for name in ("epoch_s", "epoch_wall_s", "samples_per_s", "speedup")}
        timed = msgspec.structs.replace(spoilt(whole.timing, bad), **kept)
        all_bad = [spoilt(told, bad) for told in (*sample(), *_curves(), whole)]
        part = msgspec.structs.replace(spoilt(whole, bad), timing=timed)
        for at, told in enumerate((*all_bad, part)):
            records.append(msgspec.structs.replace(told, run=RUN, case=f"{told.case} {bad} {at}"))
    return write_run(folder / RUN, records)


def _slower() -> list[Record]:
    """Return a later run in which one case takes longer."""
    return [
        msgspec.structs.replace(told, timing=timing(1.2, seed=1, typical_s=0.6)) if told.case == SLOWER else told
        for told in sample()
    ]


def _later(folder: Path) -> Path:
    """Write a run with earlier ones beside it, of the day and of the week before."""
    for name, started in EARLIER.items():
        write_run(folder / name, sample(), started=started)
    on_gpus = scaled(4, 3.2, device="cuda", case="mnist-cnn/torch-ddp/4/cuda")
    records = [
        *_slower(),
        on_gpus,
        _full(),
        msgspec.structs.replace(record("torchgpipe", "mnist-cnn"), finding=FINDING),
    ]
    unclear = record("horovod-torch", "digits-cnn", conclusion="inconclusive", evidence=verdict("inconclusive"))
    run = write_run(folder / RUN, [unclear if told.case == unclear.case else told for told in records])
    with (run / CLAIMS).open("ab") as file:
        file.writelines(msgspec.json.encode(told) + b"\n" for told in _claims())
    return run


def _claims() -> list[PublishedClaim]:
    """Return the claims of two studies, one of them with more than a chart shows at first."""
    foretold: Any = {"study": "Published curves", "kind": "predicted", "published": 3.0}
    here = Interval(median=3.1, low=2.9, high=3.3)
    text = "{} GPUs train AmoebaNet-D (18, 256) with torchgpipe on a machine of that time, speed-up over one"
    return [*claims(), *(claim(f"p{at}", text=text.format(at), here=here, **foretold) for at in range(50))]


def _wide(folder: Path) -> Path:
    """Write a run of more workloads than fit beside each other."""
    return write_run(folder / RUN, [record("torch-ddp", f"workload-{at}") for at in range(60)])


def _side_by_side(before: Callable[[Path], Path], after: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def rendered(folder: Path) -> Path:
        runs = [read(write_into(folder / name)) for name, write_into in (("before", before), ("after", after))]
        return write_comparison(folder / "comparison.html", compare(*runs))

    return rendered


RUNS: Mapping[str, Callable[[Path], Path]] = {
    "real": _real,
    "sample": _made(sample),
    "scaled": _made(_curves),
    "hostile": _made(hostile),
    "poisoned": _poisoned,
    "later": _later,
    "spoilt": _spoilt,
    "damaged": _damaged,
    "empty": _made(list, ended=False),
    "one": _made(lambda: [record()]),
}
COMPARISONS: Mapping[str, Callable[[Path], Path]] = {
    "compared": _side_by_side(_made(sample), _made(_slower)),
    "poisoned-compared": _side_by_side(_poisoned, _made(sample)),
}
KINDS = (*RUNS, *COMPARISONS)
# Of which not every kind of test opens the page.
OTHERS: Mapping[str, Callable[[Path], Path]] = {
    "wide": _wide,
    "faults": _made(lambda: [told for told in sample() if told.fault]),
}


def page(kind: str, folder: Path) -> Path:
    """Render the page of a kind in a folder of its own, and return its path."""
    return COMPARISONS[kind](folder) if kind in COMPARISONS else write({**RUNS, **OTHERS}[kind](folder))
