"""A small classifier trained in numpy, serially, in another order, or on ranks that take turns: traces to be judged.

``shift`` is added to every logit, so that its gradient is zero but for rounding; ``fixed`` is frozen. Rank 1's buffers
are its own between a step and the next forward, as with DistributedDataParallel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.oracles.parity import judge
from harness.record import Rung, RungFile, Trace, Verdict
from harness.recorder import Piece, Recorder, read
from harness.spec import Check, Job, Workload

Array = NDArray[np.float64]
Values = dict[str, Array]
Tamper = Callable[[Rung, int, int, str, Array], Array]
# Which ranks hold what of a tensor, given its rung, name and shape: all of it (None), a box, or a range of its values.
Box = tuple[slice, ...] | slice | None
Held = Iterable[tuple[int, Box]]
Plan = Callable[[Rung, str, tuple[int, ...]], Held]

NUM_STEPS = 6
BATCH = 12
SHAPES = {"one.weight": (6, 5), "one.bias": (6,), "two.weight": (3, 6), "two.bias": (3,), "shift": (1,), "fixed": (5,)}
FROZEN = ("fixed",)
WORKLOAD = Workload(name="toy", model="toy", dataset="toy")


def sketching(above: int | None) -> Workload:
    """Return the workload whose check keeps only sketches of tensors with more than so many values."""
    return msgspec.structs.replace(WORKLOAD, check=Check(sketch_above=above))


def untouched(rung: Rung, step: int, rank: int, name: str, value: Array) -> Array:
    return value


def train(
    directory: Path,
    *,
    ranks: int = 1,
    shards: int = 1,
    permute: int | None = None,
    adam: bool = False,
    dtype: str = "float64",
    learning_rate: float = 0.1,
    grad_scale: float = 1.0,
    data_scale: float = 1.0,
    tamper: Tamper = untouched,
    leave_out: tuple[Rung, ...] = (),
    sketch_above: int | None = None,
) -> list[Trace]:
    """Train and return a trace a rank; ``tamper`` changes what is recorded, ``grad_scale`` what is computed."""
    directory.mkdir(parents=True, exist_ok=True)
    workload = sketching(sketch_above)
    recorder = Recorder(Job(function="toy:train", strategy="toy", workload=workload, directory=str(directory)))

    def tap(rung: Rung, step: int, values: Values, only: int | None = None) -> None:
        for rank in range(ranks) if only is None else [only]:
            for name, value in values.items() if rung not in leave_out else ():
                seen = tamper(rung, step, rank, name, value.copy())
                recorder.tap(rung, step, name, seen, rank=rank, trainable=name not in FROZEN)

    draw = np.random.default_rng(7)
    weights = {name: draw.normal(size=shape).astype(dtype) for name, shape in SHAPES.items()}
    images = (data_scale * draw.normal(size=(64, 5))).astype(dtype)
    labels = draw.integers(0, 3, size=64)
    state: Values = {}
    mean = np.zeros(5, dtype)
    tap("parameters", -1, weights)
    for step in range(NUM_STEPS):
        batch = np.random.default_rng([1, step]).permutation(48)[: BATCH - 3 * (step % 3 == 2)]
        order = batch if permute is None else np.random.default_rng([permute, step]).permutation(batch)
        pieces = np.array_split(order, max(ranks, shards))
        for rank in range(ranks):
            mine = pieces[rank] if ranks > 1 else order
            samples = np.concatenate([mine, np.full(BATCH - len(mine), -1)])
            tap("data order", step, {"samples": samples}, only=rank)
        tap("buffers at next forward", step, {"mean": mean})
        parts = [_gradients(weights, images[piece], labels[piece], len(batch)) for piece in pieces]
        parts = parts[::-1] if ranks > 1 else parts
        tap("activations", step, dict(zip(("hidden", "logits"), _logits(weights, images[48:]), strict=True)))
        loss = np.sum([part[0] for part in parts], keepdims=True)
        grads = {name: grad_scale * np.sum([part[1][name] for part in parts], axis=0) for name in parts[0][1]}
        tap("loss", step, {"loss": loss})
        tap("gradients before clipping", step, grads)
        norm = np.sqrt(sum(float(np.square(grad).sum()) for grad in grads.values()))
        grads = {name: grad * (0.5 / max(0.5, norm)) for name, grad in grads.items()}
        tap("gradients after clipping", step, grads)
        _update(weights, grads, state, step, learning_rate, adam=adam)
        tap("optimizer state", step, {**state, "step": np.array(step + 1.0)})
        tap("parameters", step, weights)
        mean = 0.9 * mean + 0.1 * sum(images[piece].sum(axis=0) for piece in pieces) / len(batch)
        for rank in range(ranks):
            tap("buffers", step, {"mean": mean if rank == 0 else mean + 1.0}, only=rank)
    tap("predictions", NUM_STEPS - 1, {"logits": _logits(weights, images[48:])[1]})
    return list(recorder.traces())


def reordered(trace: Trace, path: Path) -> Trace:
    """Return a copy of ``trace`` under ``path`` whose tensors come in the opposite order."""
    rungs: dict[Rung, RungFile] = {}
    for rung, file in trace.rungs.items():
        table = np.load(file.file)
        ends = np.cumsum([int(np.prod(tensor.shape)) for tensor in file.tensors])[:-1]
        pieces = np.split(table, ends, axis=1)[::-1]
        target = path.with_name(f"{path.name}-{rung}.npy")
        np.save(target, np.concatenate(pieces, axis=1))
        rungs[rung] = RungFile(file=str(target), steps=file.steps, tensors=file.tensors[::-1])
    return msgspec.structs.replace(trace, rungs=rungs)


def spread(
    trace: Trace,
    directory: Path,
    plan: Plan,
    *,
    ranks: int = 2,
    tamper: Tamper = untouched,
    sketch_above: int | None = None,
) -> list[Trace]:
    """Return the traces of ``ranks`` that hold what ``trace`` holds in the pieces of ``plan``; rank 0 knows the order.

    ``tamper`` changes pieces.
    """
    directory.mkdir(parents=True, exist_ok=True)
    workload = sketching(sketch_above)
    job = Job(function="toy:train", strategy="toy", workload=workload, world_size=ranks, directory=str(directory))
    recorders = [Recorder(msgspec.structs.replace(job, rank=rank)) for rank in range(ranks)]
    for recorder in recorders:
        recorder.holds_part(*(rung for rung in trace.rungs if rung != "data order"))
    for rung, file in trace.rungs.items():
        ends = np.cumsum([int(np.prod(tensor.shape)) for tensor in file.tensors])[:-1]
        for step, row in zip(file.steps, read(file), strict=True):
            for tensor, values in zip(file.tensors, np.split(row, ends), strict=True):
                held = [(0, None)] if rung == "data order" else plan(rung, tensor.name, tensor.shape)
                for rank, box in held:
                    value, piece = _piece(values.reshape(tensor.shape), box)
                    value = tamper(rung, step, rank, tensor.name, value.copy())
                    recorders[rank].tap(rung, step, tensor.name, value, trainable=tensor.trainable, piece=piece)
    return [recorder.traces()[0] for recorder in recorders]


def _piece(whole: Array, box: Box) -> tuple[Array, Piece | None]:
    if box is None:
        return whole, None
    seen, cuts = (whole.reshape(-1), (box,)) if isinstance(box, slice) else (whole, box)
    start = [cut.indices(size)[0] for cut, size in zip(cuts, seen.shape, strict=True)]
    return seen[cuts], Piece(whole=whole.shape, start=tuple(start))


def _logits(weights: Values, images: Array) -> tuple[Array, Array]:
    hidden = np.tanh(images * weights["fixed"] @ weights["one.weight"].T + weights["one.bias"])
    return hidden, hidden @ weights["two.weight"].T + weights["two.bias"] + weights["shift"]


def _gradients(weights: Values, images: Array, labels: NDArray[np.int64], whole: int) -> tuple[Array, Values]:
    hidden, logits = _logits(weights, images)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    loss = -np.log(shares[np.arange(len(labels)), labels]).sum() / whole
    out = shares.copy()
    out[np.arange(len(labels)), labels] -= 1
    out /= whole
    inner = out @ weights["two.weight"] * (1 - hidden**2)
    grads = {
        "one.weight": inner.T @ (images * weights["fixed"]),
        "one.bias": inner.sum(axis=0),
        "two.weight": out.T @ hidden,
        "two.bias": out.sum(axis=0),
        "shift": out.sum(keepdims=True)[0],
    }
    return loss, grads


def _update(weights: Values, grads: Values, state: Values, step: int, learning_rate: float, *, adam: bool) -> None:
    for name, grad in grads.items():
        if adam:
            first, second = state.get(f"exp_avg:{name}", 0 * grad), state.get(f"exp_avg_sq:{name}", 0 * grad)
            state[f"exp_avg:{name}"] = 0.9 * first + 0.1 * grad
            state[f"exp_avg_sq:{name}"] = 0.999 * second + 0.001 * grad**2
            root = np.sqrt(state[f"exp_avg_sq:{name}"] / (1 - 0.999 ** (step + 1))) + 1e-8
            weights[name] = weights[name] - learning_rate * state[f"exp_avg:{name}"] / (1 - 0.9 ** (step + 1)) / root
        else:
            state[f"momentum:{name}"] = 0.9 * state.get(f"momentum:{name}", 0 * grad) + grad
            weights[name] = weights[name] - learning_rate * state[f"momentum:{name}"]


class Clean:
    """The reference and its two reruns of one setting, trained once."""

    def __init__(self, directory: Path, **settings: object) -> None:
        self.directory, self.settings, self.runs = directory, settings, 0
        (self.reference,) = self._train()
        self.reruns = [*self._train(shards=2), *self._train(shards=2, permute=3)]

    def _train(self, **changes: object) -> list[Trace]:
        self.runs += 1
        return train(self.directory / str(self.runs), **(self.settings | changes))  # type: ignore[arg-type]

    def parallel(self, **changes: object) -> list[Trace]:
        self.runs = 10 + self.runs % 2
        return self._train(**({"ranks": 2} | changes))

    def judge(self, **changes: object) -> Verdict:
        return self.verdict(self.parallel(**changes))

    def verdict(self, parallel: list[Trace], **changes: object) -> Verdict:
        arguments = {"reference": self.reference, "reruns": self.reruns, "dtype": self.settings.get("dtype", "float64")}
        return judge(parallel=parallel, **(arguments | changes))  # type: ignore[arg-type]


def off(rung: Rung, step: int | None, rank: int | None, name: str, by: float = 1e-3) -> Tamper:
    """Return a tamper that moves the last value of one tensor where everything given matches."""

    def tamper(r: Rung, s: int, k: int, n: str, value: Array) -> Array:
        if (r, n) == (rung, name) and step in {None, s} and rank in {None, k}:
            value[(-1,) * value.ndim] += by
        return value

    return tamper


def both(first: Tamper, second: Tamper) -> Tamper:
    return lambda rung, step, rank, name, value: second(rung, step, rank, name, first(rung, step, rank, name, value))
