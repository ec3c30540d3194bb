"""What timing a case brings: epochs, their parts, figures with intervals, and what limits them; plain JSON."""

from __future__ import annotations

from typing import Literal

from harness.spec import Value

BaselineName = Literal["one share", "whole machine", "per-rank batch", "independent", "again"]
# Where the time of an epoch goes. "step" is what an engine shows only as a whole (forward, backward and update in one
# graph), "communication" waiting for other ranks outside of forward and backward, "idle" waiting for the slowest rank
# at the end, and "other" what is left.
Part = Literal["data", "forward", "backward", "communication", "optimizer", "step", "idle", "other"]
Scaling = Literal["strong", "weak"]
Claim = Literal["faster", "slower", "inconclusive"]
Outcome = Literal["pass", "slower", "faster", "inconclusive"]

# Nothing that is timed takes so long: 30 years, in seconds.
LONGEST_S = 1e9


class Interval(Value, frozen=True, kw_only=True):
    """A median with its bootstrap interval (95 % unless said otherwise)."""

    median: float
    low: float
    high: float


class Epoch(Value, frozen=True, kw_only=True):
    """One timed epoch of one rank, by the monotonic clock, from barrier to device synchronise; samples of all ranks.

    ``parts`` are seconds this rank spent in each part, as far as its loop can tell; they do not overlap.
    """

    start_s: float
    end_s: float
    num_samples: int
    parts: dict[Part, float] = {}


class Share(Value, frozen=True, kw_only=True):
    """What one rank owns of the machine, and so does the serial run beside it; ``memory_bytes`` is all there is."""

    num_cores: int
    num_threads: int
    device: str
    memory_bytes: int


class Sampling(Value, frozen=True, kw_only=True):
    """How many rounds were timed and why no more; a round is an epoch of every run, one after the other.

    ``precision`` is the half-width of the speed-up's 95 % interval over its median that was asked for, ``reached`` what
    it is, and ``num_needed`` about how many rounds it would have taken (None where it is reached).
    """

    num_rounds: int
    precision: float
    reached: float
    stopped: Literal["precise", "budget"]
    num_needed: int | None = None


class Baseline(Value, frozen=True, kw_only=True):
    """What a strategy is timed against: its epochs, and the strategy's speed-up over it, by samples per second.

    ``num_processes`` serial trainings ran at once, each on a share and on all samples. ``claim`` is what may be said of
    the speed-up given its interval and what this machine can resolve.
    """

    name: BaselineName
    epoch_s: tuple[float, ...]
    warmup_s: tuple[float, ...]
    num_threads: int
    batch: int
    speedup: Interval
    num_processes: int = 1
    claim: Claim | None = None


class Breakdown(Value, frozen=True, kw_only=True):
    """Where the time of an epoch goes: mean seconds of every part, a row a rank, over the timed epochs.

    ``alone`` holds the same for a serial run at the per-rank batch beside as many others: the same work without other
    ranks to wait for (empty where that is other work, as in a pipeline). ``exposed`` is the communication that
    computing does not hide, in seconds an epoch of the slowest rank: parallel minus alone. ``accounted`` is the sum of
    the measured parts, "other" left out, over the time of the epoch.
    """

    ranks: tuple[dict[Part, float], ...]
    alone: dict[Part, float] = {}
    num_steps: int
    accounted: float
    exposed: Interval | None = None


class Communication(Value, frozen=True, kw_only=True):
    """What a rank's collectives did in one epoch that was profiled and not counted, and what the link can do.

    Of a long epoch the first 200 steps are profiled, in ``epoch_s`` seconds. ``busy_s`` is the time in which any of
    them was under way, ``exposed_s`` the part of it in which the rank computed nothing. ``num_bytes`` is what was
    handed to them. ``bus_bytes_per_s`` is nccl-tests' busbw (algbw times 2 (n - 1) / n for an all-reduce),
    ``link_bytes_per_s`` that of an all-reduce of the same size with nothing beside.
    """

    rank: int
    num_calls: int
    num_bytes: int
    busy_s: float
    exposed_s: float
    epoch_s: float
    bus_bytes_per_s: float | None = None
    link_bytes_per_s: float | None = None


class Pipeline(Value, frozen=True, kw_only=True):
    """How busy a pipeline's ranks were: ``busy_s`` each of ``epoch_s`` seconds, those of an epoch inside the pipeline.

    ``ideal`` is the share of the time in which stages of equal cost work, m / (m + n - 1) for n stages and m
    micro-batches (Huang et al. 2019; n - 1 is divided by the stages a rank where these are interleaved),
    ``efficiency`` what it was: mean busy time over that inside the pipeline.
    """

    busy_s: tuple[float, ...]
    epoch_s: float
    num_micro_batches: int
    ideal: float
    efficiency: float


class Loss(Value, frozen=True, kw_only=True):
    """A factor of the speed-up: what turns the ideal into what was measured; above 1 is a gain."""

    name: str
    factor: Interval
    words: str


class Used(Value, frozen=True, kw_only=True):
    """What one rank used while its epochs were timed: CPU seconds (helper processes included), memory, GPU, energy.

    ``wall_s`` spans from the order to train an epoch until all ranks wait for the next, summed over epochs.
    ``memory_bytes`` is mean resident memory, ``peak_memory_bytes`` the most since the rank's start; pages shared with
    other ranks count, those shared with helpers once. ``gpu_utilisation`` is a mean in [0, 1] and needs epochs of a
    second or more; ``energy_j`` the rank's part of what its GPU, or on a CPU the packages, took: equal parts where
    ranks share one. None where it cannot be read.
    """

    rank: int
    wall_s: float
    cpu_s: float
    memory_bytes: int
    peak_memory_bytes: int
    gpu_memory_bytes: int | None = None
    gpu_utilisation: float | None = None
    energy_j: float | None = None


class Compared(Value, frozen=True, kw_only=True):
    """A case's times against those of an earlier run; ``outcome`` is None where they cannot be compared.

    ``ratio`` is the time now over before in units of the yardstick timed beside it, with its 99 % interval; ``bare``
    the same in seconds, ``machine`` the yardstick's own, and ``to_serial`` that of parallel over serial time, which a
    slowdown of what both share does not move. ``floor`` is the relative effect that counts, ``num_earlier`` how many
    other runs told how runs differ, and ``words`` say it all. ``refused`` says that an earlier run has a time of the
    case which cannot be compared, ``allow`` the kinds of difference that would have to be allowed for that.
    """

    run: str
    outcome: Outcome | None
    words: str
    floor: float
    before_s: float | None = None
    now_s: float | None = None
    ratio: Interval | None = None
    bare: float | None = None
    machine: float | None = None
    to_serial: Interval | None = None
    num_earlier: int = 0
    refused: bool = False
    allow: tuple[str, ...] = ()


class Timing(Value, frozen=True, kw_only=True):
    """Interleaved epoch times in seconds.

    ``epoch_s`` holds a row per rank; ``epoch_wall_s`` spans from the first rank's start to the last rank's end.
    ``speedup`` is against serial on one rank's share. ``efficiency`` is that per rank, but against the same at the
    per-rank batch where that is the faster serial run (``efficiency_over``). ``aa`` is serial against serial, and
    ``resolution`` the relative difference below which this machine tells nothing apart. ``struck`` says why the figures
    must not be read as a speed-up. ``losses`` multiply from the number of ranks to the speed-up.
    """

    epoch_s: tuple[tuple[float, ...], ...]
    epoch_wall_s: tuple[float, ...]
    warmup_s: tuple[float, ...]
    num_samples: int
    samples_per_s: float
    baselines: tuple[Baseline, ...]
    speedup: Interval | None = None
    efficiency: Interval | None = None
    efficiency_over: BaselineName = "one share"
    claim: Claim | None = None
    aa: Interval | None = None
    resolution: float | None = None
    scaling: Scaling = "strong"
    share: Share | None = None
    sampling: Sampling | None = None
    oversubscribed: bool = False
    breakdown: Breakdown | None = None
    communication: tuple[Communication, ...] = ()
    pipeline: Pipeline | None = None
    losses: tuple[Loss, ...] = ()
    used: tuple[Used, ...] = ()
    yardstick_s: tuple[float, ...] = ()
    compared: Compared | None = None
    warnings: tuple[str, ...] = ()
    struck: str | None = None

    def baseline(self, name: BaselineName) -> Baseline | None:
        """Return a baseline, None where it was not timed."""
        return next((baseline for baseline in self.baselines if baseline.name == name), None)
