"""Did ranks share the work at all? A run in which every rank does all of it equals serial, and proves nothing."""

from __future__ import annotations

from collections.abc import Sequence

from harness.record import RungFile, Trace

NOTHING_SHARED = (
    "nothing was shared out, though it computes what its reference computes: one rank trains all samples of a batch, "
    "and every rank holds all tensors whole"
)


def shared(parallel: Sequence[Trace]) -> bool:
    """Return whether ranks trained samples of their own, or held pieces of tensors or tensors of their own.

    That a rank declares to hold a part is not enough where it holds everything. A process that speaks for all of its
    replicas with one trace is believed.
    """
    trained = [trace for trace in parallel if "data order" in trace.rungs]
    parts = {rung for trace in parallel for rung, file in trace.rungs.items() if file.part}
    divided = any(_divided([trace.rungs[rung] for trace in parallel if rung in trace.rungs]) for rung in parts)
    return len(parallel) == 1 or len(trained) > 1 or divided


def _divided(files: Sequence[RungFile]) -> bool:
    held = [{(tensor.name, tensor.shape, tensor.start) for tensor in file.tensors} for file in files]
    pieces = any(tensor.whole not in (None, tensor.shape) for file in files for tensor in file.tensors)
    return pieces or any(one != held[0] for one in held)
