import json
import socket
from pathlib import Path

import pytest

from harness.errors import MissingRequirementError
from harness.launchers import base, tf_config
from harness.spec import Job, Workload

WORKLOAD = Workload(name="w", model="mlp", dataset="digits")


def jobs(world_size: int) -> list[Job]:
    return [
        Job(
            function="m:f",
            strategy="s",
            workload=WORKLOAD,
            rank=rank,
            world_size=world_size,
            environment={"MINE": "kept"},
        )
        for rank in range(world_size)
    ]


def test_the_environment_of_a_worker_is_exactly_this() -> None:
    assert tf_config.environment(1, worker=[5000, 5001], ps=[5002]) == {
        "TF_CONFIG": (
            '{"cluster": {"worker": ["127.0.0.1:5000", "127.0.0.1:5001"], "ps": ["127.0.0.1:5002"]}, '
            '"task": {"type": "worker", "index": 1}}'
        ),
        "no_grpc_proxy": "127.0.0.1",
    }


@pytest.mark.parametrize(("name", "num_servers"), [("tf-config", 0), ("tf-parameter-server", 1)])
def test_all_ranks_of_a_case_hear_of_one_cluster_and_each_of_its_own_place(name: str, num_servers: int) -> None:
    prepared = base.get(name)(jobs(3))
    configs = [json.loads(job.environment["TF_CONFIG"]) for job in prepared]
    assert [config["task"]["index"] for config in configs] == [0, 1, 2]
    clusters = [config["cluster"] for config in configs]
    assert clusters == [clusters[0]] * 3
    assert len(clusters[0].get("ps", ())) == num_servers
    addresses = [*clusters[0]["worker"], *clusters[0].get("ps", ())]
    assert len(set(addresses)) == 3 + num_servers
    assert all(job.environment["MINE"] == "kept" for job in prepared)


def test_two_cases_get_different_ports() -> None:
    assert not set(tf_config.free_ports(4)) & set(tf_config.free_ports(4))


def test_a_port_on_which_something_listens_is_left_out() -> None:
    with socket.socket() as taken:
        taken.bind((tf_config.ADDRESS, 0))
        taken.listen()
        port = taken.getsockname()[1]
        (free,) = tf_config.free_ports(1)
        assert tf_config.free_ports(1, [port, free]) == (free,)
        with pytest.raises(MissingRequirementError, match=r"expected 1 free ports on 127\.0\.0\.1 but found 0"):
            tf_config.free_ports(1, [port])


def test_ports_lie_where_the_kernel_takes_none_for_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if lowest < tf_config.PORTS.stop:
        pytest.skip(f"this machine gives ports from {lowest} to connections")
    assert all(port in tf_config.PORTS for port in tf_config.free_ports(3))
