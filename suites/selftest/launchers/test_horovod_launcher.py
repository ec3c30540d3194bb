import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from harness.errors import DuplicateNameError, MissingRequirementError, UnknownNameError
from harness.launchers import base, horovod
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


def put(url: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, data=b"x", method="PUT"), timeout=10) as answer:
        assert answer.status == 200


def is_there(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.read() == b"x")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 404:
            raise
        return False


def test_the_environment_of_a_rank_is_exactly_this() -> None:
    assert horovod.environment(world_size=4, port=5000, rank=3) == {
        "HOROVOD_RANK": "3",
        "HOROVOD_SIZE": "4",
        "HOROVOD_LOCAL_RANK": "3",
        "HOROVOD_LOCAL_SIZE": "4",
        "HOROVOD_CROSS_RANK": "0",
        "HOROVOD_CROSS_SIZE": "1",
        "HOROVOD_HOSTNAME": "localhost",
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1",
        "HOROVOD_GLOO_RENDEZVOUS_PORT": "5000",
        "HOROVOD_GLOO_IFACE": "lo",
        "HOROVOD_GLOO_TIMEOUT_SECONDS": "900",
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
    }


def test_the_launcher_of_forked_ranks_changes_nothing() -> None:
    assert base.get("local")(jobs(2)) == tuple(jobs(2))


def test_an_unknown_launcher_offers_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'horovod'"):
        base.get("horovodrun")


def test_two_launchers_of_one_name_are_an_error_that_names_both_places() -> None:
    def prepare(given: object) -> tuple[Job, ...]:
        raise AssertionError

    with pytest.raises(DuplicateNameError, match=r"base\.py.*test_horovod_launcher\.py"):
        base.launcher("local")(prepare)


def test_preparing_adds_the_environment_and_keeps_what_was_there() -> None:
    pytest.importorskip("horovod", reason="needs Horovod: make horovod")
    prepared = base.get("horovod")(jobs(3))
    port = horovod.shared().port
    assert [job.environment for job in prepared] == [
        {"MINE": "kept", **horovod.environment(3, port, rank)} for rank in range(3)
    ]


def test_a_new_case_finds_nothing_of_the_case_before() -> None:
    pytest.importorskip("horovod", reason="needs Horovod: make horovod")
    base.get("horovod")(jobs(2))
    key = f"http://127.0.0.1:{horovod.shared().port}/global/0"
    put(key)
    assert is_there(key)
    base.get("horovod")(jobs(2))
    assert not is_there(key)


def test_ranks_of_two_cases_are_never_prepared_together() -> None:
    pytest.importorskip("horovod", reason="needs Horovod: make horovod")
    with pytest.raises(AssertionError, match="every rank of one case"):
        base.get("horovod")([*jobs(2), *jobs(2)])


def test_the_server_listens_on_the_loopback_interface_only_and_ends_when_closed() -> None:
    pytest.importorskip("horovod", reason="needs Horovod: make horovod")
    rendezvous = horovod.serve()
    url = f"http://127.0.0.1:{rendezvous.port}/scope/key"
    with Path("/proc/net/tcp").open(encoding="ascii") as table:
        listening = {line.split()[1] for line in table if line.split()[3] == "0A"}
    assert f"0100007F:{rendezvous.port:04X}" in listening
    assert f"00000000:{rendezvous.port:04X}" not in listening
    put(url)
    rendezvous.close()
    assert not rendezvous.thread.is_alive()
    with pytest.raises(urllib.error.URLError):
        is_there(url)


def test_preparing_imports_no_framework_and_importing_the_launcher_no_horovod() -> None:
    pytest.importorskip("horovod", reason="needs Horovod: make horovod")
    program = """
import sys
from harness.launchers import base, horovod
assert not [name for name in sys.modules if name.split(".")[0] == "horovod"]
horovod.prepare([])
print([name for name in ("torch", "tensorflow", "keras") if name in sys.modules])
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.stdout.strip(), result.returncode) == ("[]", 0), result.stderr


def test_without_horovod_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingRequirementError, match="make horovod"):
        horovod.serve()
