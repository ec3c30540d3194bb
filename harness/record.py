"""What was observed and concluded: traces, verdicts, records; plain JSON with a schema number."""

from __future__ import annotations

import math
from typing import Literal

from harness.errors import TraceError
from harness.spec import Value
from harness.timings import Communication, Epoch, Pipeline, Timing

SCHEMA = 1
# Numbers in a sketch: 4 KiB in float64.
SKETCH_SIZE = 512

# The ladder: compared at every step in this order; the first divergence is what gets reported.
Rung = Literal[
    "data order",
    "activations",
    "loss",
    "gradients before clipping",
    "gradients after clipping",
    "optimizer state",
    "parameters",
    "buffers",
    "buffers at next forward",
    "predictions",
]
LADDER: tuple[Rung, ...] = (
    "data order",
    "buffers at next forward",
    "activations",
    "loss",
    "gradients before clipping",
    "gradients after clipping",
    "optimizer state",
    "parameters",
    "buffers",
    "predictions",
)
StatisticsName = Literal[
    "held-out loss", "mean training loss", "log gradient length at first", "log gradient length at last"
]
Conclusion = Literal["equivalent", "different", "inconclusive", "not-verified"]
# From the least to the most grave: of all that is said of one case or strategy the gravest counts.
GRAVITY: tuple[Conclusion, ...] = ("not-verified", "equivalent", "inconclusive", "different")


class Tensor(Value, frozen=True, kw_only=True):
    """One tensor of a rung, or a piece of one, under its canonical name; ``trainable`` is False for frozen parameters.

    A piece is the box of ``shape`` that begins at ``start`` in the tensor of shape ``whole``. Where ``whole`` has one
    dimension and the tensor several, it is a range of the flattened tensor.
    Where ``sketched`` is set only its sketch is kept (``harness.sketches``), taken of the whole as a matrix of so many
    rows and columns.

    Raises:
        TraceError: the box does not lie inside the whole.
    """

    name: str
    shape: tuple[int, ...]
    trainable: bool = True
    whole: tuple[int, ...] | None = None
    start: tuple[int, ...] = ()
    sketched: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.whole is None and not self.start:
            return
        whole = self.whole or ()
        if not len(self.shape) == len(self.start) == len(whole) or any(
            start < 0 or start + size > limit for start, size, limit in zip(self.start, self.shape, whole, strict=True)
        ):
            raise TraceError(
                f"piece of {self.name}: expected a box inside the whole, a tensor of shape {self.whole}, but got shape "
                f"{self.shape} from {self.start}; say the whole tensor's shape and where in it the piece begins, a "
                "number for each dimension"
            )

    @property
    def num_values(self) -> int:
        """How many numbers a table holds of it: its values, or its sketch."""
        size = math.prod(self.shape)
        return size if self.sketched is None else min(size, 1) * SKETCH_SIZE


class RungFile(Value, frozen=True, kw_only=True):
    """A rung's values: an .npy file, a row a step, every tensor flattened one after the other.

    ``part`` says that other ranks hold the rest of it: pieces, or tensors that this rank has none of. ``num_rows`` is
    set where the file has more rows than ``steps``, which are its first ones then.
    """

    file: str
    steps: tuple[int, ...]
    tensors: tuple[Tensor, ...]
    part: bool = False
    num_rows: int | None = None


class Trace(Value, frozen=True, kw_only=True):
    """What one rank observed. ``not_shown`` names the rungs its engine cannot show, each with the reason.

    Raises:
        TraceError: another version of Lockstep wrote it.
    """

    schema: int = SCHEMA
    rank: int
    rungs: dict[Rung, RungFile] = {}
    not_shown: dict[Rung, str] = {}
    epochs: tuple[Epoch, ...] = ()
    losses: tuple[float, ...] = ()
    accuracy: float | None = None
    num_held_out: int = 0
    peak_memory_bytes: int | None = None
    communication: Communication | None = None
    pipeline: Pipeline | None = None
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise TraceError(
                f"expected a trace of schema {SCHEMA} but got {self.schema}: another version of Lockstep wrote it; run "
                "the case again with this one"
            )


class Divergence(Value, frozen=True, kw_only=True):
    """The first place where a parallel run leaves its reference; sizes are L2 norms."""

    rung: Rung
    step: int
    rank: int
    tensor: str
    observed: float
    floor: float
    threshold: float

    @property
    def times_threshold(self) -> float:
        """How many times the threshold was exceeded."""
        return self.observed / self.threshold if self.threshold else float("inf")


class RungSummary(Value, frozen=True, kw_only=True):
    """The closest call of one rung: largest D / max(F, G) over steps, tensors and ranks, and where it was."""

    rung: Rung
    ratio: float
    step: int
    rank: int
    tensor: str
    num_compared: int


class Heat(Value, frozen=True, kw_only=True):
    """How close every tensor came to its threshold: ratios D / max(F, G), to three significant digits.

    ``tensors`` are in the order of the model; an optimizer's are named by their parameter. ``rungs`` holds a value a
    tensor, the largest over steps and ranks, None where the rung has no such tensor. ``by_step`` holds, for
    ``by_step_rung`` alone, a row a tensor and in it a value a step, the largest over ranks. ``num_left_out`` tensors
    that came less close than these are not listed.
    """

    tensors: tuple[str, ...]
    rungs: dict[Rung, tuple[float | None, ...]]
    by_step_rung: Rung
    steps: tuple[int, ...]
    by_step: tuple[tuple[float | None, ...], ...]
    num_left_out: int = 0


class Statistics(Value, frozen=True, kw_only=True):
    """One quantity of serial and parallel trainings over paired seeds; losses in nats.

    ``serial`` and ``parallel`` hold a value a seed; ``mean`` is of parallel - serial, ``low`` and ``high`` its 90 %
    interval, to lie within +-``margin``. ``needed`` seeds show it nine times in ten when there is no difference.
    """

    name: StatisticsName
    seeds: tuple[int, ...]
    serial: tuple[float, ...]
    parallel: tuple[float, ...]
    mean: float
    low: float
    high: float
    margin: float
    needed: int


class Diagnosis(Value, frozen=True, kw_only=True):
    """The likely cause of a difference, from the evidence alone.

    ``cause`` is its name in ``harness.oracles.diagnosis``. It is ``certain`` where nothing else that is known leaves
    such evidence, else ``likely``; a verdict without a diagnosis has a cause that is unknown. ``words`` say what was
    seen and what it means, ``check`` how to make sure, ``mend`` how to put it right.
    """

    cause: str
    confidence: Literal["certain", "likely"]
    words: str
    check: str
    mend: str


class Power(Value, frozen=True, kw_only=True):
    """Which of the mutants that were run on the very case its check told from the sound run."""

    killed: tuple[str, ...]
    survived: tuple[str, ...] = ()

    @property
    def applied(self) -> int:
        """How many mutants were run."""
        return len(self.killed) + len(self.survived)


class Verdict(Value, frozen=True, kw_only=True):
    """Equivalent, different, inconclusive or not verified, with the evidence.

    ``margin`` is the largest D / max(F, G) seen; equivalence needs it to be at most ``factor`` (K). ``no_signal``
    are tensors
    whose gradient is rounding noise and ``unresolved`` those too close to their start to judge: neither counts as
    covered. ``plain`` is the difference from the plain reference where ``reference`` is a named second one.
    """

    conclusion: Conclusion
    reason: str
    reference: str = "plain"
    factor: float = 100.0
    margin: float | None = None
    divergence: Divergence | None = None
    rungs: tuple[RungSummary, ...] = ()
    not_shown: dict[Rung, str] = {}
    no_signal: tuple[str, ...] = ()
    unresolved: tuple[str, ...] = ()
    num_tensors: int = 0
    plain: Divergence | None = None
    # Per step, over all tensors and ranks of the parameters: (largest D, its floor max(F, G), its threshold).
    curve: tuple[tuple[float, float, float], ...] = ()
    # Reference and parallel loss per step.
    losses: tuple[tuple[float, float], ...] = ()
    # Where a strategy is judged over paired seeds.
    statistics: tuple[Statistics, ...] = ()
    # Why it differs, where the evidence tells.
    diagnosis: Diagnosis | None = None
    # What the check of an equivalent case was shown to catch; None where no mutant was run.
    power: Power | None = None
    # The closest call of every tensor; None where no rung that compares tensors is shown.
    heat: Heat | None = None

    @property
    def equivalent(self) -> bool:
        """Whether the parallel run computes what its reference computes."""
        return self.conclusion == "equivalent"

    def __str__(self) -> str:
        return f"{self.conclusion}: {self.reason}"

    def __repr__(self) -> str:
        # What pytest shows of a failed `assert verdict.equivalent, verdict`: the evidence would bury the reason.
        return f"<Verdict {self}>"


class Accuracy(Value, frozen=True, kw_only=True):
    """Held-out accuracy after full-length training, and on how many samples the two runs predict the same class."""

    serial: float
    parallel: float
    num_held_out: int
    epochs: int


class Log(Value, frozen=True, kw_only=True):
    """What one rank of the parallel run printed, and where it stood when its case failed.

    ``who`` is ``rank 1``, or ``torch-ddp rank 1`` where several trainings ran side by side. ``text`` is cut in the
    middle where ``num_bytes``, the size of all of it, is too much; the whole of it is in ``path``, which is empty where
    that was not kept. ``stack`` is the Python stack of a rank that raised, hung or was killed, or of one of its peers.
    """

    who: str
    text: str = ""
    num_bytes: int = 0
    stack: str = ""
    path: str = ""


class Record(Value, frozen=True, kw_only=True):
    """All that is known of one case after one test: one line of ``records.jsonl``."""

    schema: int = SCHEMA
    run: str
    case: str
    strategy: str
    framework: str
    workload: str
    workload_digest: str
    world_size: int
    device: str
    dtype: str
    reference: str
    features: dict[str, str | float | int] = {}
    verdict: Conclusion
    # Its test failed before there was a verdict: a rank died, raised or hung. Otherwise a case that is not verified is
    # one that this machine cannot run.
    failed: bool = False
    # In what the strategy's library is known to differ from serial here: then "different" is what must come out.
    finding: str = ""
    reason: str
    evidence: Verdict | None = None
    divergence: Divergence | None = None
    margin: float | None = None
    fault: str | None = None
    accuracy: Accuracy | None = None
    timing: Timing | None = None
    resources: dict[str, float | int] = {}
    environment: dict[str, str | float | int] = {}
    command: str = ""
    started: str = ""
    duration_s: float = 0.0
    test: str = ""
    # Where in its run's folder lies what it was judged by, or "not kept: " and why; empty where nobody asked.
    traces: str = ""
    # The sha256 of the bundle that holds its traces, where it was judged again from those.
    judged_from: str = ""
    # A log a rank of the parallel run, the guilty one's first; none where no rank ran.
    logs: tuple[Log, ...] = ()

    @property
    def bug(self) -> str:
        """The name of the fault, without the part of the training it is in; empty where there is none."""
        return (self.fault or "").partition("[")[0]
