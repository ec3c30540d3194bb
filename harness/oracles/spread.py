"""Did ranks share the work at all? A run in which every rank does all of it equals serial, and proves nothing."""

from __future__ import annotations

from collections.abc import Sequence

from harness.record import Trace

NOTHING_SHARED = (
    "nothing was shared out, though it computes what its reference computes: one rank trains all samples of a batch, "
    "and every rank holds all tensors whole"
)


def shared(parallel: Sequence[Trace]) -> bool:
    """Return whether ranks trained samples of their own, or held pieces of tensors or tensors of their own.

    A process that speaks for all of its replicas with one trace is believed.
    """
    trained = [trace for trace in parallel if "data order" in trace.rungs]
    parts = any(file.part for trace in parallel for file in trace.rungs.values())
    return len(parallel) == 1 or len(trained) > 1 or parts
