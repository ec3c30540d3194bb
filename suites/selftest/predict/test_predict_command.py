"""``harness predict`` on a command line: a table, JSON, measured runs and links, and errors with the nearest names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.sample_records import sample, write_run
from harness.cli import main

ASKED = ["predict", "--gpu", "a100", "--net", "200gbps", "--model", "resnet50", "--batch", "256"]


def test_the_table_goes_to_as_many_ranks_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, "--ranks", "512"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "torch-ddp of resnet50: A100 SXM4, 8 a node, 200gbps between nodes; weak scaling, 256 images a rank"
    )
    assert lines[1].startswith("computing on one rank: 2470 images/s in half, measured: NVIDIA")
    assert lines[2] == "sent in a step: all-reduce of 102 MB beside backward"
    assert [line.split()[0] for line in lines[5:15]] == [str(1 << power) for power in range(10)]
    assert lines[-1].startswith("Left out:")


def test_json_holds_the_ranges(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["num_ranks"] for one in found] == [1 << power for power in range(11)]
    assert {"low", "likely", "high"} == set(found[-1]["speedup"])


def test_without_a_network_the_table_ends_with_the_node(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--gpu", "v100", "--workload", "mnist-cnn", "--strategy", "torch-pp", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_what_nobody_measured_is_estimated_and_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--gpu", "h100", "--net", "8x400gbps", "--model", "bert-base"]) == 0
    assert "estimated at 40% of 989 TFLOP/s (known: 30% to 58%)" in capsys.readouterr().out


def test_a_run_and_a_measured_link_need_no_gpu(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    records = [one for one in sample() if one.timing is not None]
    write_run(tmp_path / "run", records)
    asked = ["predict", "--run", str(tmp_path / "run"), "--link", "40us,1.2GB/s", "--ranks", "4"]
    assert main([*asked, "--workload", records[-1].workload]) == 0
    told = capsys.readouterr().out
    assert "the run's machine, link 40us,1.2GB/s, one node" in told
    assert "serial on one share in run" in told
    assert main([*asked, "--workload", "mnist-cnn"]) == 2
    assert "expected a timed case of workload" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([*ASKED, "--gpu", "b100"], "unknown GPU 'b100'; did you mean 'v100'"),
        ([*ASKED, "--net", "fast"], "unknown network 'fast'; known: 100gbps"),
        ([*ASKED, "--model", "resnet5"], "did you mean 'resnet50'"),
        ([*ASKED, "--strategy", "torch-ddq"], "did you mean 'torch-ddp'"),
        ([*ASKED, "--strategy", "torch-tp"], "name a workload of plain layers with --workload"),
        ([*ASKED, "--precision", "tf32", "--gpu", "v100"], "expected a precision that v100 has (float32, half)"),
        ([*ASKED, "--ranks", "2000"], "expected --ranks between 1 and 1,024 but got 2000"),
        ([*ASKED, "--batch", "0"], "expected --batch of at least 1 but got 0"),
        ([*ASKED, "--link", "fast"], "expected a link like --link 40us,1.2GB/s"),
        ([*ASKED, "--run", "latest"], "expected --workload with --run"),
        (["predict", "--gpu", "a100", "--model", "resnet50", "--ranks", "64"], "expected --net for 64 ranks"),
        (["predict", "--model", "resnet50"], "expected --gpu (k80, p40"),
        (["predict", "--gpu", "a100", "--workload", "mnist-cn"], "unknown workload 'mnist-cn'"),
    ],
)
def test_a_wrong_question_is_answered_with_the_way_out(
    asked: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked) == 2
    assert said in capsys.readouterr().err
