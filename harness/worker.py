"""One rank: receives its job, trains, answers. It never leaves through a normal interpreter exit.

up -> (job) -> step, step, ... | ready, (turn), epoch, ... -> done -> (release) -> end
                    a failure at any point -> failed -> end
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from harness.errors import SpecError
from harness.record import Trace
from harness.resolve import resolve
from harness.spec import Job
from harness.wire import MAX_PACKET, Channel, Done, Failed, Message, Told, Up, encode

# Exit codes of a rank that has answered done, has answered failed, could not even do that.
FINE, FAILED, BROKEN = 0, 1, 70
# A socket's path ends at 108 characters, and multiprocessing puts 40 of its own behind the temporary folder's.
LONGEST_TEMPORARY = 60
# A thread that was told to end needs a moment to do so.
THREAD_GRACE_S = 0.5
# Libraries that read these are loaded later than the job comes, or in processes that the rank starts.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# From glibc's malloc.h; above the largest tensor of an epoch, within what mallopt takes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, KEPT_BYTES = -1, -3, 1_000_000_000


def serve(fd: int) -> int:
    """Be the rank whose end of the channel is ``fd``; return its exit code."""
    channel = Channel(fd)
    channel.send(Up())
    try:
        job = msgspec.structs.replace(channel.job(), channel=fd)
        answer = train(job)
    except BaseException as error:  # SystemExit included: the supervisor decides what it means
        answer = failure(error)
    if isinstance(answer, Done):
        _end_helpers()
    _flush()
    messages = _messages(answer)
    longest = max(len(encode(message)) for message in messages)
    if longest > MAX_PACKET:
        answer = failure(SpecError(f"expected traces of at most {MAX_PACKET} bytes each but got one of {longest}"))
        messages = [answer]
    # The supervisor has gone, or has closed the channel of a case it gave up: nobody is left to tell.
    with suppress(ConnectionError):
        for message in messages:
            channel.send(message)
        if isinstance(answer, Done):
            # Peers may still read what this process has sent them; it stays until all have finished.
            channel.wait_for_release()
    return FINE if isinstance(answer, Done) else FAILED


def _messages(answer: Done | Failed) -> list[Message]:
    """Return the messages that carry an answer: the traces of a case and its mutants are too long for one packet."""
    if isinstance(answer, Failed):
        return [answer]
    told = [Told(trace=trace) for trace in answer.traces[:-1]]
    return [*told, Done(traces=answer.traces[-1:])]


def train(job: Job) -> Done | Failed:
    """Set the process up as the job says, run its strategy and return the answer.

    Raises:
        SpecError: the job asks for cores that this process may not use.
        BaseException: whatever the strategy raises.
    """
    _settle(job)
    function = resolve(job.function)
    found: list[Trace] = []
    for run in _runs(job):
        # A forked process has its zygote's random state: what draws from it unseeded would seem to repeat itself.
        random.seed(run.seed)
        np.random.seed(run.seed % 2**32)
        traces = function(run)
        if not isinstance(traces, tuple) or not all(isinstance(trace, Trace) for trace in traces):
            raise SpecError(
                f"expected {job.function} to return a tuple of Trace but got {traces!r:.200}; return what the loop does"
            )
        found += traces
    return _leak() or Done(traces=tuple(found))


def _runs(job: Job) -> Iterator[Job]:
    """Yield the job itself, then one for each further arrangement and each mutant, in a folder of its own."""
    job, mutants = msgspec.structs.replace(job, mutants=(), followed=bool(job.mutants)), job.mutants
    yield msgspec.structs.replace(job, more=())
    for number, arrangement in enumerate(job.more, 1):
        folder = Path(job.directory) / f"more{number}"
        folder.mkdir()
        yield msgspec.structs.replace(job, arrangement=arrangement, more=(), directory=str(folder))
    for number, mutant in enumerate(mutants, 1):
        folder = Path(job.directory) / f"mutant{number}"
        folder.mkdir(exist_ok=True)  # of all ranks
        followed = number < len(mutants)
        yield msgspec.structs.replace(
            job, fault=mutant.fault, leg=mutant.leg, followed=followed, more=(), directory=str(folder)
        )


def failure(error: BaseException) -> Failed:
    """Return the answer for an exception, with its traceback but for the frames of this file."""
    try:
        message = str(error)
    except Exception as broken:  # a user's exception class may be broken, too
        message = f"(its text cannot be made: {type(broken).__name__})"
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    return Failed(kind=type(error).__name__, message=message, traceback=text)


def _settle(job: Job) -> None:
    if job.cpus:
        allowed = os.sched_getaffinity(0)
        if not allowed.issuperset(job.cpus):
            raise SpecError(f"expected cores among {sorted(allowed)} but the job asks for {sorted(job.cpus)}")
        os.sched_setaffinity(0, job.cpus)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(job.num_threads)))
    os.environ.update(job.environment)
    if len(job.directory) <= LONGEST_TEMPORARY:
        # What libraries leave in the temporary folder goes with the job's own.
        os.environ["TMPDIR"], tempfile.tempdir = job.directory, None
    if job.purpose == "timing":
        _keep_memory()


def _keep_memory() -> None:
    """Let glibc keep freed memory rather than give it back to the kernel and fault it in again.

    Whether an epoch's large tensors cross its thresholds depends on where they happen to lie, for the whole life of a
    process: serial training differed from itself by up to 25 %. Every timed rank is set alike, serial and parallel.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc only
        for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            mallopt(parameter, KEPT_BYTES)


def _leak() -> Failed | None:
    """Return a failure that names the threads which keep a Python process from ending, or None."""
    deadline = time.monotonic() + THREAD_GRACE_S
    left = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [thread for thread in left if thread.is_alive()]
    if not left:
        return None
    frames = sys._current_frames()
    stacks = [
        f"Thread {thread.name!r}:\n{''.join(traceback.format_stack(frames.get(thread.ident or 0)))}" for thread in left
    ]
    names = ", ".join(repr(thread.name) for thread in left)
    return Failed(
        kind="ThreadLeak",
        message=f"left thread {names} running; join it before train() returns",
        traceback="\n".join(stacks),
        leaked=True,
    )


def _end_helpers() -> None:
    """End daemonic child processes (DataLoader workers that stay, for one), as a normal interpreter exit would."""
    children = [child for child in multiprocessing.active_children() if child.daemon]
    # torch takes the death of a worker for a failure and raises from its own handler.
    if children:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in children:
        child.terminate()
    for child in children:
        child.join(THREAD_GRACE_S)


def _flush() -> None:
    # A full disk, or a stream that the strategy closed, must not hide what the rank has to say.
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
