from harness.launchers import base as launchers
from harness.record import Rung, RungFile, Trace
from harness.strategies import base as strategies
from harness.strategies import horovod_torch


def test_the_strategy_names_a_launcher_that_exists() -> None:
    strategies.discover()
    declared = strategies.get("horovod-torch")
    assert launchers.get(declared.launcher).__module__ == "harness.launchers.horovod"
    assert "buffers at next forward" in declared.not_shown


def test_only_rank_0s_running_statistics_are_the_models() -> None:
    file = RungFile(file="x.npy", steps=(0,), tensors=())
    rungs: dict[Rung, RungFile] = {"loss": file, "buffers at next forward": file}
    traces = [horovod_torch.without_own_statistics(Trace(rank=rank, rungs=rungs)) for rank in (0, 1)]
    assert [sorted(trace.rungs) for trace in traces] == [["buffers at next forward", "loss"], ["loss"]]
