"""What is told by the samples that ranks train, by the initial weights, and by the held-out scores."""

from __future__ import annotations

import numpy as np

from harness.oracles.diagnosis.base import CERTAIN, GUESS, LIKELY, Finding, rule, subject
from harness.oracles.diagnosis.scene import Scene
from harness.oracles.order import SAMPLES
from harness.oracles.reasons import amount, listed
from harness.plan import Indices, shard
from harness.recorder import read


@rule("data order")
def samples(scene: Scene) -> Finding:
    """Samples are trained twice, not at all, or in another step."""
    wanted = np.concatenate(scene.plan.micro_batches)
    rows = _rows(scene)
    together = np.concatenate(list(rows.values()))
    earlier = _of_an_earlier_epoch(scene, together, rows)
    if earlier is not None:
        return Finding(
            cause="epoch-order",
            strength=CERTAIN,
            words=f"step {scene.step} of epoch {scene.plan.epoch} trains{earlier}: the samples are not shuffled anew",
        )
    missing = np.setdiff1d(wanted, together)
    foreign = np.setdiff1d(together, wanted)
    if foreign.size and scene.plan.epoch:
        return Finding(
            cause="epoch-order",
            strength=LIKELY,
            words=f"step {scene.step} of epoch {scene.plan.epoch} trains {amount(foreign.size, 'sample')} of other "
            "steps, while the first epoch is right: later epochs are shuffled otherwise",
        )
    if len(scene.plan.micro_batches) > 1 and not foreign.size and together.size < wanted.size:
        for number, batch in enumerate(scene.plan.micro_batches):
            if _is_share(missing, batch, scene.context.num_groups):
                return Finding(
                    cause="micro-batch-left-out",
                    strength=CERTAIN,
                    words=f"micro-batch {number} of step {scene.step} is not trained "
                    f"({amount(missing.size, 'sample')})",
                )
    return Finding(cause="wrong-samples", strength=CERTAIN, words=_mistaken(scene, wanted, rows))


def _rows(scene: Scene) -> dict[int, Indices]:
    found = {}
    for trace in scene.evidence.parallel:
        file = trace.rungs.get("data order")
        if file is not None and scene.step in file.steps and file.tensors[0].name == SAMPLES.name:
            row = np.asarray(read(file)[file.steps.index(scene.step)]).astype(np.int64)
            found[trace.rank] = row[row >= 0]
    return found


def _of_an_earlier_epoch(scene: Scene, together: Indices, rows: dict[int, Indices]) -> str | None:
    """Return in words the step of an earlier epoch whose samples are trained here, by all ranks or by some."""
    per_epoch = sum(step.epoch == 0 for step in scene.steps)
    for number in range(scene.step - per_epoch, -1, -per_epoch):
        batch = np.concatenate(scene.steps[number].micro_batches)
        if np.array_equal(np.sort(batch), np.sort(together)):
            return f" the samples of step {number} again"
        guilty = [rank for rank in scene.ranks_of_mistakes if rows.get(rank, batch[:0]).size]
        if guilty and all(np.isin(rows[rank], batch).all() for rank in guilty):
            return f" samples of step {number} again on rank {listed(list(map(str, guilty)))}"
    return None


def _is_share(missing: Indices, batch: Indices, num_groups: int) -> bool:
    """Whether ``missing`` is a micro-batch, or what one rank has of it."""
    shares = [batch, *(shard(batch, group, num_groups) for group in range(num_groups))]
    return any(missing.size and np.array_equal(np.sort(share), missing) for share in shares)


def _mistaken(scene: Scene, wanted: Indices, rows: dict[int, Indices]) -> str:
    if len(rows) > 1 and all(np.array_equal(np.sort(row), np.sort(wanted)) for row in rows.values()):
        return "every rank trains the whole batch: nothing is shared out"
    for rank, row in rows.items():
        alike = [other for other, theirs in rows.items() if other < rank and np.isin(row, theirs).all() and row.size]
        if alike:
            return f"rank {rank} trains the samples of rank {alike[0]}: ranks read the same part of the data"
    first = scene.evidence.mistakes[scene.step][0]
    return f"{first.text}: the batch is not shared out so that every sample is trained once"


@rule("parameters")
def start(scene: Scene) -> Finding | None:
    """The weights differ before the first update."""
    resumed = scene.context.resumed_at
    if resumed is not None and scene.step == resumed - 1:
        return Finding(
            cause="weights-not-restored",
            strength=CERTAIN,
            words=f"{subject(scene, 'weight')} is not what was saved before step {resumed}: the weights are not "
            "restored",
        )
    if scene.step >= 0:
        return None
    right = [rank for rank in scene.comparison.ranks if rank not in scene.ranks]
    if right:
        who = f"rank{'' if len(scene.ranks) == 1 else 's'} {listed(list(map(str, scene.ranks)))}"
        return Finding(
            cause="no-broadcast",
            strength=CERTAIN,
            words=f"{who} never received the initial weights: they differ before the first step, those of rank "
            f"{right[0]} are right",
        )
    return Finding(
        cause="no-broadcast",
        strength=GUESS,
        words="every rank starts from other weights than the reference",
    )


@rule("predictions")
def evaluation(scene: Scene) -> Finding | None:
    """The logits are right and the scores are not."""
    if "logits" in scene.names:
        return None
    counts = [one for one in scene.here if one.name == "held-out samples" and one.differs]
    if not counts:
        return None
    got, wanted = counts[0].values[0], counts[0].wanted[0]
    return Finding(
        cause="padded-evaluation",
        strength=CERTAIN,
        words=f"{got:g} held-out samples are counted, expected {wanted:g}, though every prediction is right: shares "
        "are filled up with samples that count twice"
        if got > wanted
        else f"{got:g} held-out samples are counted, expected {wanted:g}: some are left out",
    )


@rule("buffers at next forward", "buffers")
def buffers(scene: Scene) -> Finding:
    """Running statistics are not those of the reference."""
    if scene.rung == "buffers at next forward" and not scene.on_all_ranks:
        return Finding(
            cause="buffers-not-synchronised",
            strength=CERTAIN,
            words=f"{subject(scene, 'buffer')} differs at the next forward: running statistics drift apart over ranks",
        )
    moved = [
        (one.values - before, one.wanted - before)
        for one, before in zip(scene.struck, scene.taken("buffers at next forward", scene.step), strict=True)
        if before is not None
    ]
    seen = {scene.context.num_groups: "updated once per group", 2: "updated twice", 0: "not updated"}
    for times, words in seen.items():
        if moved and _repeated(scene, moved, times):
            return Finding(
                cause="buffers-wrong",
                strength=CERTAIN,
                words=f"{subject(scene, 'buffer')} is {words} in step {scene.step}",
            )
    return Finding(
        cause="buffers-wrong",
        strength=LIKELY,
        words=f"{subject(scene, 'buffer')} is wrong after step {scene.step}, and what it is made of is right",
    )


def _repeated(scene: Scene, moved: list[tuple[np.ndarray, np.ndarray]], times: int) -> bool:
    """Whether statistics moved as if the same forward (momentum 0.1) had updated them so many times."""
    factor = (1 - 0.9**times) / 0.1
    left = np.sqrt(sum(float(np.square(own - factor * right).sum()) for own, right in moved))
    away = np.sqrt(sum(float(np.square(own - right).sum()) for own, right in moved))
    return bool(left <= scene.exact * away)
