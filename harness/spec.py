"""What to run: workloads, cases and the jobs that ranks receive; frozen, validated, with derived ids."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from harness.errors import SpecError

DType = Literal["float64", "float32"]
Precision = Literal["full", "bf16", "fp16"]
Device = Literal["cpu", "cuda"]
BatchNorm = Literal["plain", "per-shard", "per-micro-batch", "deferred"]
Split = Literal["balanced", "chunk"]
Purpose = Literal["parity", "timing"]
Setting = bool | int | float | str


def _require(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise SpecError(f"expected {expected} but got {name}={got!r}")


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, keyword-only data that is checked again whenever it is read from JSON."""


class Optimizer(Value, frozen=True, kw_only=True):
    """An optimizer with every setting that frameworks default differently spelled out.

    ``epsilon`` is added to the root of the bias-corrected second moment (Kingma & Ba 2015, algorithm 1, as in
    PyTorch; Keras's own Adam has "epsilon hat").
    ``weight_decay`` is an L2 gradient term for ``sgd`` and ``adam`` and decoupled for ``adamw``
    (Loshchilov & Hutter 2019).
    """

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _require(self.learning_rate >= 0, "learning_rate", "a number >= 0", self.learning_rate)
        _require(0 <= self.momentum < 1, "momentum", "a number in [0, 1)", self.momentum)
        _require(not self.nesterov or self.momentum > 0, "nesterov", "momentum > 0 with it", self.momentum)
        _require(self.weight_decay >= 0, "weight_decay", "a number >= 0", self.weight_decay)
        _require(all(0 <= beta < 1 for beta in self.betas), "betas", "two numbers in [0, 1)", self.betas)
        _require(self.epsilon > 0, "epsilon", "a number > 0", self.epsilon)


class Schedule(Value, frozen=True, kw_only=True):
    """Learning rate by epoch: ``gamma ** (epoch // every)`` times the optimizer's rate.

    In the first ``warmup`` epochs it rises linearly from 0, so that the first one moves nothing.
    """

    gamma: float = 1.0
    every: int = 1
    warmup: int = 0

    def __post_init__(self) -> None:
        _require(self.gamma > 0, "gamma", "a number > 0", self.gamma)
        _require(self.every >= 1, "every", "a number of epochs >= 1", self.every)
        _require(self.warmup >= 0, "warmup", "a number of epochs >= 0", self.warmup)


class Check(Value, frozen=True, kw_only=True):
    """The short training on which equality is judged: the same workload on few samples.

    The defaults put an uneven batch (32, 32, 27), an epoch boundary and a change of learning rate (where the
    schedule has one) before step 5 of 6. With ``ends_only`` samples, losses and predictions are recorded at every
    step, all else at the first and the last few: enough for a statistical check. With ``activations`` a serial run
    records what every layer puts out at first, too. With ``resume_at`` the parallel run
    ends after so many steps, saves what its library saves, and goes on from the files in fresh processes: on
    ``resume_ranks`` ranks, or on as many as before. The reference is never interrupted. Of tensors with
    more values than ``sketch_above`` only sketches are recorded and compared.
    """

    num_samples: int = 91
    global_batch: int = 32
    num_steps: int = 6
    num_held_out: int = 61
    dtype: DType = "float64"
    ends_only: bool = False
    activations: bool = False
    resume_at: int | None = None
    resume_ranks: int | None = None
    sketch_above: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_samples", "global_batch", "num_steps", "num_held_out"):
            _require(getattr(self, name) >= 1, name, "a number >= 1", getattr(self, name))
        steps = f"a step between 1 and {self.num_steps - 1}, or None"
        _require(self.resume_at is None or 1 <= self.resume_at < self.num_steps, "resume_at", steps, self.resume_at)
        limit = self.sketch_above
        _require(limit is None or limit >= 0, "sketch_above", "a number of values >= 0, or None", limit)
        ranks = "None, or a number >= 1 with resume_at"
        _require(
            self.resume_ranks is None or (self.resume_ranks >= 1 and self.resume_at is not None),
            "resume_ranks",
            ranks,
            self.resume_ranks,
        )


class Workload(Value, frozen=True, kw_only=True):
    """What is trained: the maths that every strategy must reproduce.

    ``model`` and ``dataset`` are registered names or ``"module:function"``. ``global_batch`` counts samples per
    optimizer step over all ranks and micro-batches; ``accumulation`` is the number of micro-batches per step.
    ``clip_norm`` clips by the global L2 norm, ``clip_value`` every element to [-value, value]. ``frozen`` names layers
    (``conv1``) whose parameters are not trained. ``precision`` other than ``full`` runs forward and backward under
    autocast (fp16 with a loss scaler). ``dtype`` is used for timing and accuracy; ``check.dtype`` for equality.
    ``model_options`` go to the model's description.
    """

    name: str
    model: str
    model_options: dict[str, Setting] = {}
    dataset: str
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    global_batch: int = 64
    epochs: int = 6
    accumulation: int = 1
    clip_norm: float | None = None
    clip_value: float | None = None
    frozen: tuple[str, ...] = ()
    precision: Precision = "full"
    dropout: float = 0.0
    augment: Literal["none", "shift"] = "none"
    dtype: DType = "float32"
    seed: int = 0
    num_samples: int | None = None
    shape: tuple[int, int, int] = (1, 28, 28)
    num_classes: int = 10
    check: Check = Check()

    def __post_init__(self) -> None:
        _require(bool(self.name) and "/" not in self.name, "name", "a non-empty name without '/'", self.name)
        for name in ("global_batch", "epochs", "accumulation", "num_classes"):
            _require(getattr(self, name) >= 1, name, "a number >= 1", getattr(self, name))
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", "a number > 0 or None", self.clip_norm)
        _require(self.clip_value is None or self.clip_value > 0, "clip_value", "a number > 0 or None", self.clip_value)
        both = self.clip_norm is not None and self.clip_value is not None
        _require(not both, "clip_value", "clipping by norm or by value, not both", self.clip_value)
        _require(0 <= self.dropout < 1, "dropout", "a rate in [0, 1)", self.dropout)
        _require(self.seed >= 0, "seed", "a number >= 0", self.seed)
        _require(self.num_samples is None or self.num_samples >= 1, "num_samples", ">= 1 or None", self.num_samples)
        _require(all(n >= 1 for n in self.shape), "shape", "(channels, height, width), each >= 1", self.shape)
        mixed = self.precision != "full" and self.check.dtype != "float32"
        _require(not mixed, "check.dtype", f"float32 under precision={self.precision!r}", self.check.dtype)
        for batch in (self.global_batch, self.check.global_batch):
            _require(batch >= self.accumulation, "accumulation", f"at most the batch of {batch}", self.accumulation)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change when any setting changes."""
        return digest(self)


class Case(Value, frozen=True, kw_only=True):
    """Workload x strategy x world size x device: one row of every report."""

    workload: str
    strategy: str
    world_size: int
    device: Device = "cpu"

    def __post_init__(self) -> None:
        _require(self.world_size >= 1, "world_size", "a number of ranks >= 1", self.world_size)

    @property
    def id(self) -> str:
        """For example ``digits-mlp/torch-ddp/2/cpu``."""
        return f"{self.workload}/{self.strategy}/{self.world_size}/{self.device}"


class Arrangement(Value, frozen=True, kw_only=True):
    """How a single process orders and groups the samples of a step: a reference run or one of its reruns.

    ``shards`` groups are run one after the other and their gradients added; ``permute`` seeds a shuffle of the samples
    inside each micro-batch (inside each shard where that fixes a batch norm's statistics). ``batchnorm`` says whose
    statistics a batch norm sees: the whole micro-batch (``plain``), or each shard alone, keeping shard 0's running
    statistics (``per-shard``, as DistributedDataParallel does) or updating them shard after shard
    (``per-micro-batch``, as pipelines do) or once for all shards (``deferred``, as torchgpipe's DeferredBatchNorm does,
    with the biased variance).
    Linear layers sum over their input features in ``layer_parts`` parts. ``again`` counts repetitions of one and the
    same run, whose libraries' random numbers begin elsewhere: nothing may depend on them.
    """

    shards: int = 1
    permute: int | None = None
    batchnorm: BatchNorm = "plain"
    split: Split = "balanced"
    layer_parts: int = 1
    again: int = 0

    def __post_init__(self) -> None:
        for name in ("shards", "layer_parts"):
            _require(getattr(self, name) >= 1, name, "a number >= 1", getattr(self, name))
        _require(self.again >= 0, "again", "a number >= 0", self.again)


class Fault(Value, frozen=True, kw_only=True):
    """A bug to inject: its registered name and its settings."""

    name: str
    settings: dict[str, float | int | str] = {}


class Mutant(Value, frozen=True, kw_only=True):
    """A fault that is run for its first ``num_steps`` steps after the sound training; without one, the same again."""

    fault: Fault | None
    num_steps: int

    @property
    def name(self) -> str:
        """The fault's name with its settings: ``not-reduced[tensor=last]``."""
        if self.fault is None:
            return "no fault"
        settings = ", ".join(f"{key}={value}" for key, value in self.fault.settings.items())
        return f"{self.fault.name}[{settings}]" if settings else self.fault.name

    @property
    def leg(self) -> Leg:
        """The part of the check that it trains."""
        return Leg(first=0, last=self.num_steps)


class Leg(Value, frozen=True, kw_only=True):
    """A part of an equality check: the steps ``first`` to ``last - 1``, and the checkpoints around them.

    ``load`` is the folder from which the training goes on, ``save`` the one that takes its state after the last step;
    both empty for a check in one go.
    """

    first: int
    last: int
    load: str = ""
    save: str = ""


class Job(Value, frozen=True, kw_only=True):
    """The JSON that tells one rank what to run.

    ``function`` is ``"module:function"`` of the strategy. ``directory`` takes arrays, ``cache`` prepared datasets;
    ``rendezvous`` is a file that does not exist yet. ``channel`` is the file descriptor on which the rank talks to
    its supervisor, or -1 when there is none. ``options`` are the strategy's own, every one of them. ``leg`` is set
    where a check is interrupted and resumed. ``mutants`` are trained after the job itself, and ``followed`` says that
    one is to come, so that ranks stay joined. ``fuzz`` seeds random delays. ``cpus`` are the cores of the process,
    ``num_threads`` what its framework may use.
    """

    function: str
    strategy: str
    workload: Workload
    purpose: Purpose = "parity"
    rank: int = 0
    world_size: int = 1
    device: Device = "cpu"
    backend: str = ""
    arrangement: Arrangement = Arrangement()
    more: tuple[Arrangement, ...] = ()
    fault: Fault | None = None
    mutants: tuple[Mutant, ...] = ()
    followed: bool = False
    options: dict[str, Setting] = {}
    leg: Leg | None = None
    fuzz: int | None = None
    directory: str = "."
    cache: str = "."
    data_root: str | None = None
    rendezvous: str = ""
    environment: dict[str, str] = {}
    cpus: tuple[int, ...] = ()
    num_threads: int = 1
    gpu: int | None = None
    channel: int = -1

    def __post_init__(self) -> None:
        _require(self.function.count(":") == 1, "function", "'module:function'", self.function)
        _require(0 <= self.rank < self.world_size, "rank", f"a rank below world size {self.world_size}", self.rank)
        _require(self.num_threads >= 1, "num_threads", "a number >= 1", self.num_threads)

    @property
    def seed(self) -> int:
        """Where the random numbers of libraries begin; what a workload needs of randomness comes from elsewhere."""
        return self.workload.seed + self.arrangement.again


def digest(value: Value) -> str:
    """Return twelve hexadecimal digits that identify a value's content."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:12]
