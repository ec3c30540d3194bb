"""Ranks that tf.distribute's multi-worker strategies join: TF_CONFIG with a port of the loopback interface for each.

The ports are chosen here and bound by the ranks' gRPC servers a moment later. They lie below the range from which the
kernel gives ports to outgoing connections (32768 and up on Linux), so that no connection can take one in between, and
begin at another place in every process, so that pytest workers side by side rarely try the same.
Source: tensorflow/python/distribute/cluster_resolver/tfconfig_cluster_resolver.py of TensorFlow 2.21.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

import msgspec

from harness.errors import MissingRequirementError
from harness.launchers.base import launcher
from harness.spec import Job

ADDRESS = "127.0.0.1"
PORTS = range(20_000, 32_000)
# A prime, so that processes with neighbouring numbers begin far from each other.
_STRIDE = 1_009
_next = itertools.count(os.getpid() * _STRIDE)


def candidates() -> Iterator[int]:
    """Yield every port of the range once, each call from where the one before stopped."""
    for number in itertools.islice(_next, len(PORTS)):
        yield PORTS[number % len(PORTS)]


def free_ports(num_ports: int, ports: Iterable[int] | None = None) -> tuple[int, ...]:
    """Return distinct ports on which nothing listens now.

    Raises:
        MissingRequirementError: there are not so many free ones.
    """
    found: list[int] = []
    with ExitStack() as held:
        for port in candidates() if ports is None else ports:
            if len(found) == num_ports:
                break
            listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            try:
                listener.bind((ADDRESS, port))
            except OSError:
                continue
            found.append(port)
    if len(found) < num_ports:
        raise MissingRequirementError(
            f"expected {num_ports} free ports on {ADDRESS} but found {len(found)} among {PORTS.start} to "
            f"{PORTS.stop - 1}; end what listens there"
        )
    return tuple(found)


def environment(rank: int, **cluster: Sequence[int]) -> dict[str, str]:
    """Return what worker ``rank`` reads when the tasks of each job of the cluster listen on these ports."""
    addresses = {name: [f"{ADDRESS}:{port}" for port in ports] for name, ports in cluster.items()}
    config = {"cluster": addresses, "task": {"type": "worker", "index": rank}}
    # A proxy must not come between the ranks.
    return {"TF_CONFIG": json.dumps(config), "no_grpc_proxy": ADDRESS}


@launcher("tf-config")
def prepare(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return the jobs of one case with a TF_CONFIG of workers."""
    ports = free_ports(len(jobs))
    return tuple(
        msgspec.structs.replace(job, environment=job.environment | environment(job.rank, worker=ports)) for job in jobs
    )


@launcher("tf-parameter-server")
def prepare_with_server(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return the jobs of one case with a TF_CONFIG of workers and a parameter server, which rank 0 runs, too."""
    *ports, server = free_ports(len(jobs) + 1)
    return tuple(
        msgspec.structs.replace(job, environment=job.environment | environment(job.rank, worker=ports, ps=[server]))
        for job in jobs
    )
