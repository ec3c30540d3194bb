"""One truth across frameworks: is one framework's serial run another's, from the same seed weights?"""

from __future__ import annotations

from collections.abc import Sequence

from harness.oracles.evidence import gather
from harness.oracles.parity import conclude
from harness.record import Trace, Verdict


def judge_frameworks(
    *,
    first: Trace,
    second: Trace,
    first_reruns: Sequence[Trace],
    second_reruns: Sequence[Trace] = (),
    names: tuple[str, str] = ("torch-serial", "keras-serial"),
    dtype: str = "float64",
    factor: float | None = None,
) -> Verdict:
    """Judge the serial run ``second`` against the serial run ``first``; same definition and errors as ``judge``.

    Where layers put out something else the first one of them is named. The floor is the larger one of both frameworks'
    own: each rerun against the run of its own framework. Two frameworks sum in orders that no rerun of either
    resembles, so expect a margin above that of a parallel strategy.
    """
    reruns = [(f"rerun {i} of {names[0]}", first, rerun) for i, rerun in enumerate(first_reruns)]
    reruns += [(f"rerun {i} of {names[1]}", second, rerun) for i, rerun in enumerate(second_reruns)]
    evidence = gather(reference=first, reruns=reruns, parallel=[second], dtype=dtype, factor=factor)
    return conclude(evidence, reference_name=names[0], against=names[0])
