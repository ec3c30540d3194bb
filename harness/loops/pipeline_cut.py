"""Cutting a sequential model into the stages of a pipeline, consecutive layers each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from harness.errors import SpecError
from harness.models import base as models
from harness.spec import Workload


def cut(costs: Sequence[float], trained: Sequence[bool], num_stages: int) -> list[int]:
    """Return how many layers each stage holds; where there are enough that are trained, every stage has one.

    Raises:
        SpecError: there are fewer layers than stages.
    """
    begins = [0, *[number for number, trains in enumerate(trained) if trains][1:], len(costs)]
    if sum(trained) < num_stages:
        return balanced(costs, num_stages)
    units = [sum(costs[start:end]) for start, end in itertools.pairwise(begins)]
    ends = [begins[number] for number in itertools.accumulate(balanced(units, num_stages))]
    return [end - start for start, end in itertools.pairwise([0, *ends])]


def balanced(costs: Sequence[float], num_stages: int) -> list[int]:
    """Return how many consecutive layers each stage holds, the heaviest stage as light as it can be.

    Raises:
        SpecError: there are fewer layers than stages.
    """
    _require_layers(len(costs), num_stages)
    best: dict[tuple[int, int], tuple[float, list[int]]] = {(0, 0): (0, [])}
    for stages in range(1, num_stages + 1):
        for end in range(stages, len(costs) + 1):
            best[stages, end] = min(
                (
                    max(best[stages - 1, start][0], sum(costs[start:end])),
                    [*best[stages - 1, start][1], end - start],
                )
                for start in range(stages - 1, end)
                if (stages - 1, start) in best
            )
    return best[num_stages, len(costs)][1]


def given(balance: str) -> list[int]:
    """Return the numbers of layers that a user wrote as ``"3-4"``.

    Raises:
        SpecError: they are not whole numbers >= 1.
    """
    words = balance.split("-")
    if not all(word.isdecimal() and int(word) for word in words):
        raise SpecError(f"expected balance to be numbers of layers >= 1, as in '3-4', but got {balance!r}")
    return [int(word) for word in words]


def require(workload: Workload, num_stages: int, balance: str) -> None:
    """Raise SpecError unless the workload's model can be cut into so many stages, or as the user's ``balance`` says."""
    num_layers = len(models.layers(workload))
    _require_layers(num_layers, num_stages)
    counts = given(balance) if balance else []
    if balance and (len(counts) != num_stages or sum(counts) != num_layers):
        raise SpecError(
            f"expected balance to be {num_stages} numbers that add up to the {num_layers} layers of model "
            f"{workload.model!r} but got {balance!r}, which are {len(counts)} that add up to {sum(counts)}"
        )


def require_equal_micro_batches(workload: Workload, pieces: int) -> None:
    """Raise SpecError where padding would change a batch norm's statistics: micro-batches must be equal without it.

    ``pieces`` is into how many a micro-batch of the step is cut, by micro-batches of the pipeline and by replicas.
    """
    if not models.has_batchnorm(models.layers(workload)):
        return
    whole = pieces * workload.accumulation
    for name, batch in (("check.global_batch", workload.check.global_batch), ("global_batch", workload.global_batch)):
        if batch % whole:
            raise SpecError(
                f"expected {name} to be a multiple of {whole} (micro-batches x accumulation) in workload "
                f"{workload.name!r}, whose batch norms would see the padding of smaller ones, but got {batch}"
            )


def require_chunks(chunks: int, num_ranks: int, schedule: str) -> None:
    """Raise SpecError where a schedule of torch does not take so many micro-batches."""
    rounds = max(1, chunks // num_ranks)
    if chunks < 1 or (schedule == "1f1b" and chunks < num_ranks) or (schedule == "interleaved" and chunks % rounds):
        wanted = {"1f1b": f">= {num_ranks} (ranks)", "interleaved": f"a multiple of {rounds} (rounds)"}
        raise SpecError(
            f"expected chunks of schedule {schedule!r} to be {wanted.get(schedule, '>= 1, or 0 for one per rank')} "
            f"but got {chunks}"
        )


def _require_layers(num_layers: int, num_stages: int) -> None:
    if num_layers < num_stages:
        raise SpecError(
            f"expected at least one layer per stage but the model has {num_layers} layers for {num_stages} "
            "stages; use fewer ranks, or a model that is described in more layers"
        )
