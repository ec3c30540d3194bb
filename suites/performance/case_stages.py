"""Where the time of one data-parallel equality case goes, for bench_case_latency.py.

The ranks train as torch-ddp does, with clocks at its seams; the rest is seen from the supervisor. A stage ends when the
last of the ranks has come to its end, so that the stages of a case add up to what it took.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.launchers.local import Group
from harness.record import Trace
from harness.runner import Runner
from harness.spec import Case, Job, Workload
from harness.strategies.base import strategy
from harness.wire import Done, Message, Step

# In the order in which a case comes through them, each with the milestone at its end.
STAGES = {
    "jobs and their folders": "asked",
    "start the processes of the ranks": "started",
    "join the group: file, gloo": "joined",
    "data, seed weights, model": "built",
    "wrap in DistributedDataParallel": "wrapped",
    "six steps, every rung recorded": "trained",
    "held-out predictions, trace files": "written",
    "wait for the reference and reruns": "referenced",
    "end processes, look for strays": "ended",
    "the oracle": "judged",
}


@strategy(
    "torch-ddp-with-clocks",
    framework="torch",
    requires=("torch",),
    backends={"cpu": "gloo"},
    reference_of="torch-serial",
)
def train(job: Job) -> tuple[Trace, ...]:
    """Do what torch-ddp does and leave the times of its seams in the job's folder."""
    reached = {"started": time.monotonic()}
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    from harness.loops.torch_comm import process_group
    from harness.loops.torch_loop import Parallelism, fit

    def wrap(model: nn.Module) -> nn.Module:
        reached["built"] = time.monotonic()
        wrapped = DistributedDataParallel(model)
        reached["wrapped"] = time.monotonic()
        return wrapped

    with process_group(job) as group:
        reached["joined"] = time.monotonic()
        traces = fit(job, Parallelism(wrap=wrap, comm=group))
    _file(job).write_text(json.dumps(reached))
    return traces


def stages(own: Runner, workload: Workload) -> dict[str, float]:
    """Judge a workload over two ranks and return the seconds of each stage."""
    seen: list[tuple[str, float]] = []
    with _clocked(own, seen):
        began_s = time.monotonic()
        own.verdict(Case(workload=workload.name, strategy="torch-ddp-with-clocks", world_size=2), workload)
        seen.append(("judged", time.monotonic()))
    ends = {name: max(at_s for milestone, at_s in seen if milestone == name) for name in STAGES.values()}
    # A reference that is done before the ranks are keeps nobody waiting.
    ends["referenced"] = max(ends["referenced"], ends["written"])
    points = [began_s, *ends.values()]
    return {stage: end - start for stage, start, end in zip(STAGES, points, points[1:], strict=False)}


@contextmanager
def _clocked(own: Runner, seen: list[tuple[str, float]]) -> Iterator[None]:
    """Note when the ranks come to a milestone while the runner's pool runs a case."""
    run = own.pool.run

    def clocked(groups: Sequence[Group], **settings: Any) -> list[tuple[Trace, ...]]:
        seen.append(("asked", time.monotonic()))
        num_ranks = len(groups[0].jobs)

        def note(process: int, message: Message) -> None:
            if process >= num_ranks:
                seen.extend([("referenced", time.monotonic())] * isinstance(message, Done))
            elif isinstance(message, Step | Done):
                seen.append(("trained" if isinstance(message, Step) else "written", time.monotonic()))

        results = run(groups, **settings, on_event=note)
        seen.append(("ended", time.monotonic()))
        for job in groups[0].jobs:
            seen.extend(json.loads(_file(job).read_text()).items())
        return results

    own.pool.run = clocked  # type: ignore[method-assign]
    try:
        yield
    finally:
        own.pool.run = run  # type: ignore[method-assign]


def _file(job: Job) -> Path:
    return Path(job.directory) / f"milestones-{job.rank}.json"
