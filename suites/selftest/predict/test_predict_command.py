"""``harness predict`` on a command line: a table, JSON, measured runs and links, and errors with the nearest names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.sample_records import sample, write_run
from harness import workloads
from harness.cli import main
from harness.predict import volumes

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
    assert [line.partition(":")[0] for line in lines[-2:]] == ["Range", "Nearly always optimistic"]


def test_json_holds_the_ranges(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["num_ranks"] for one in found] == [1 << power for power in range(11)]
    assert {"low", "likely", "high"} == set(found[-1]["speedup"])


@pytest.mark.parametrize(
    ("asked", "most", "why"),
    [
        (["--scaling", "strong", "--batch", "7"], "7", "a rank would have no sample of the 7 in all"),
        (["--strategy", "torch-pp", "--batch", "6"], "6", "would have no sample of 6; see --micro-batches"),
        (["--strategy", "torch-pp", "--batch", "6", "--micro-batches", "2"], "512", ""),
        (["--batch", "7"], "512", ""),
    ],
)
def test_rows_end_where_a_rank_would_have_nothing_and_say_so(
    asked: list[str], most: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ASKED, "--ranks", "512", *asked]) == 0
    told = capsys.readouterr().out
    rows = [line.split()[0] for line in told.splitlines()[5:] if line[:1].isdigit()]
    assert rows[-1] == most
    assert (f"Rows end at {most} ranks" in told) == bool(why)
    assert why in told


def test_a_pipeline_ends_with_the_layers_of_its_model(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["predict", "--gpu", "a100", "--net", "200gbps", "--workload", "digits-mlp", "--strategy", "torch-pp"]
    assert main([*asked, "--json"]) == 0
    told = capsys.readouterr()
    layers = volumes.num_layers(workloads.get("digits-mlp"))
    assert json.loads(told.out.splitlines()[-1])["num_ranks"] == layers
    assert told.err == f"Rows end at {layers} ranks: on more, a stage would have none of the {layers} layers.\n"


def test_options_without_a_term_in_the_model_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    asked = [*ASKED, "--strategy", "torch-ddp+static-graph+hook=fp16"]
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert told.startswith("torch-ddp+static-graph+hook=fp16 of resnet50")
    assert "all-reduce of 51.1 MB beside backward" in told
    assert "Not modelled, so without effect here: static-graph=true." in told
    assert main(ASKED) == 0
    assert "Not modelled" not in capsys.readouterr().out


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
    assert "computing of run run (cpu), link 40us,1.2GB/s, one node" in told
    assert "serial on one share in run" in told
    assert main([*asked, "--workload", "mnist-cnn"]) == 2
    assert "expected a timed case of workload" in capsys.readouterr().err
    assert main([*asked, "--workload", "digits-cnn", "--precision", "half"]) == 2
    assert "expected no --precision with --run" in capsys.readouterr().err


def test_the_title_tells_a_runs_computing_from_a_gpus_links(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_run(tmp_path / "run", sample())
    assert main(["predict", "--run", str(tmp_path / "run"), "--gpu", "a100", "--workload", "digits-cnn"]) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert "digits-cnn: computing of run run (cpu), links of A100 SXM4, 8 a node, one node" in head


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([*ASKED, "--gpu", "b100"], "unknown GPU 'b100'; did you mean 'v100'"),
        ([*ASKED, "--net", "fast"], "unknown network 'fast'; known: 100gbps"),
        ([*ASKED, "--model", "resnet5"], "did you mean 'resnet50'"),
        ([*ASKED, "--strategy", "torch-ddq"], "did you mean 'torch-ddp'"),
        ([*ASKED, "--strategy", "torch-ddp+nonsense=1"], "unknown option of strategy 'torch-ddp' 'nonsense'"),
        ([*ASKED, "--strategy", "torch-ddp+bucket-mb=0"], "expected buckets above 0 MiB but got bucket-mb=0"),
        ([*ASKED, "--strategy", "torch-ddp+hook=powersgd"], "expected fp16 or bf16 for hook but got 'powersgd'"),
        ([*ASKED, "--micro-batches", "4"], "expected --micro-batches with a pipeline but 'torch-ddp' has none"),
        (
            [*ASKED, "--strategy", "torch-pp", "--batch", "1", "--micro-batches", "64"],
            "expected no more micro-batches than samples but got 64 of a batch of 1",
        ),
        (
            [*ASKED, "--strategy", "torch-pp+chunks=4", "--micro-batches", "8"],
            "expected --micro-batches or chunks but got 8 and 'torch-pp+chunks=4'",
        ),
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
