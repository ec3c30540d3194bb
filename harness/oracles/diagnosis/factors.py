"""What a factor between a gradient (or a loss) and the right one means: which number of the training it is."""

from __future__ import annotations

import itertools

from harness.oracles.diagnosis.base import CERTAIN, LIKELY, same
from harness.oracles.diagnosis.scene import Scene

Named = tuple[str, str, int]
# What is said of a factor that is no number of the training.
STRANGE = "a factor that should not be there"


def named(scene: Scene, factor: float, *, of_loss: bool = False) -> Named:
    """Return the cause of ``factor``, what it means in words, and how much that is worth."""
    world = scene.context.world_size
    found = _world(world, factor, of_loss=of_loss) if world > 1 else []
    groups = [] if found or of_loss else _group(world, factor)
    if scene.num_replicas in (1, world):
        found += _micro_batches(scene, factor)
        found += groups if not found else []
    else:
        found += [*groups, *_micro_batches(scene, factor)]
    nominal = scene.workload.check.global_batch
    over = scene.plan.size / nominal
    if over != 1 and (same(factor, over) or same(factor, 1 / over)):
        why = f"divided by a full batch of {nominal} samples where the batch has {scene.plan.size}"
        found.append(("wrong-divisor", why, CERTAIN))
    if not found:
        return ("loss-scaled" if of_loss else "gradients-scaled"), STRANGE, CERTAIN
    cause, why, strength = found[0]
    if len({other[0] for other in found}) == 1:
        return cause, why, strength
    # One number may stand for the ranks and for the micro-batches.
    return cause, " or ".join(why for _, why, _ in found), LIKELY


def _world(world: int, factor: float, *, of_loss: bool) -> list[Named]:
    if same(factor, world):
        why = f"summed over {world} ranks instead of averaged"
        return [("loss-scaled" if of_loss else "summed-not-averaged", why, CERTAIN)]
    if same(factor, 1 / world):
        why = f"divided by the {world} ranks twice"
        return [("loss-scaled" if of_loss else "divided-twice", why, CERTAIN)]
    return []


def _group(world: int, factor: float) -> list[Named]:
    """Return the first two groups of ranks that may have been mixed up."""
    sizes = [size for size in range(1, world + 1) if world % size == 0]
    for down, up in itertools.permutations(sizes, 2):
        if same(factor, down / up):
            why = f"divided by {up} where it should be by {down}: by the wrong group of the {world} ranks"
            return [("wrong-divisor", why, LIKELY)]
    return []


def _micro_batches(scene: Scene, factor: float) -> list[Named]:
    """Return what it means if ``factor`` is the number of micro-batches: of the step, of the schedule, or of both."""
    for micro in sorted({scene.workload.accumulation, _pieces(scene), num_micro_batches(scene)} - {1}):
        if same(factor, micro):
            why = f"{micro} micro-batches are added up, but their mean is asked for"
            return [("accumulation-not-divided", why, CERTAIN)]
        if same(factor, 1 / micro):
            return [("divided-by-micro-batches", f"divided by the {micro} micro-batches twice", CERTAIN)]
    return []


def _pieces(scene: Scene) -> int:
    """Return into how many pieces a pipeline cuts a micro-batch."""
    return max(1, scene.context.num_groups // scene.num_replicas) if scene.pipelined else 1


def num_micro_batches(scene: Scene) -> int:
    """Return into how many pieces each rank cuts its samples, one after the other."""
    return scene.workload.accumulation * _pieces(scene)
