"""Ranks that Horovod's Gloo controller joins, without horovodrun: environment variables and a rendezvous server.

The server is a thread of the process that calls ``prepare`` (pytest), never of a zygote, which must stay
single-threaded to fork. Importing Horovod's runner imports no framework; it happens with the first Horovod case.
Source: horovod/runner/gloo_run.py and horovod/common/gloo/gloo_context.cc of Horovod 0.28.1.
"""

from __future__ import annotations

import functools
import importlib.util
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from harness.errors import MissingRequirementError
from harness.launchers.base import launcher
from harness.spec import Job

HOST = "localhost"
ADDRESS = "127.0.0.1"
# The supervisor's own deadline ends a hang much earlier. A short limit here would fail ranks that it had stopped
# while something else was timed: Gloo compares clocks when they go on.
GLOO_TIMEOUT_S = 900


class _Server(Protocol):
    """What is used of Horovod's server."""

    server_port: int

    def init(self, host_alloc_plan: Sequence[object]) -> None: ...
    def serve_forever(self) -> None: ...
    def shutdown(self) -> None: ...
    def server_close(self) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendezvous:
    """A running key-value server where the ranks of a case find each other; one Horovod case at a time may use it."""

    server: _Server
    thread: threading.Thread

    @property
    def port(self) -> int:
        """The TCP port on the loopback interface."""
        return self.server.server_port

    def reset(self, world_size: int) -> None:
        """Forget the case before and expect ``world_size`` ranks; keys left over can crash the next ranks."""
        from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts

        self.server.init(get_host_assignments(parse_hosts(f"{HOST}:{world_size}"), world_size))

    def close(self) -> None:
        """Stop serving and close the port (up to half a second)."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def environment(world_size: int, port: int, rank: int) -> dict[str, str]:
    """Return what ``horovod.init()`` of ``rank`` reads when the rendezvous server listens on ``port``, one host."""
    return {
        "HOROVOD_RANK": str(rank),
        "HOROVOD_SIZE": str(world_size),
        "HOROVOD_LOCAL_RANK": str(rank),
        "HOROVOD_LOCAL_SIZE": str(world_size),
        "HOROVOD_CROSS_RANK": "0",
        "HOROVOD_CROSS_SIZE": "1",
        "HOROVOD_HOSTNAME": HOST,
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": ADDRESS,
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
        "HOROVOD_GLOO_IFACE": "lo",
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(GLOO_TIMEOUT_S),
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
    }


def serve() -> Rendezvous:
    """Start a rendezvous server on a free port of the loopback interface.

    Raises:
        MissingRequirementError: Horovod is not installed.
    """
    if importlib.util.find_spec("horovod") is None:
        raise MissingRequirementError("expected Horovod but it is not installed; build it with `make horovod`")
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

    class Server(RendezvousHTTPServer):  # type: ignore[misc]  # Horovod ships no types
        # Horovod's own RendezvousServer listens on every interface, and with a backlog of 5, which many ranks that
        # poll at once overflow: a lost connection is tried again only after half a second.
        request_queue_size = 128
        daemon_threads = True

    server = Server((ADDRESS, 0), RendezvousHandler, 0)
    thread = threading.Thread(target=server.serve_forever, name="horovod-rendezvous", daemon=True)
    thread.start()
    return Rendezvous(server=server, thread=thread)


@functools.cache
def shared() -> Rendezvous:
    """Return this process's server, started on the first call; its daemon thread ends with the process."""
    return serve()


@launcher("horovod")
def prepare(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return the jobs of one case with Horovod's environment, and the rendezvous server ready for them."""
    rendezvous = shared()
    world_size = len(jobs)
    assert [(job.rank, job.world_size) for job in jobs] == [(rank, world_size) for rank in range(world_size)], (
        "a launcher prepares every rank of one case, in order"
    )
    rendezvous.reset(world_size)
    return tuple(
        msgspec.structs.replace(job, environment=job.environment | environment(world_size, rendezvous.port, job.rank))
        for job in jobs
    )
