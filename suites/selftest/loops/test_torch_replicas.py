from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch, which is not installed")

from harness.loops.torch_replicas import ThreadParallel, scatter

pytestmark = pytest.mark.torch


def test_a_batch_is_cut_as_dataparallel_cuts_it() -> None:
    batch = torch.arange(7)
    assert [piece.tolist() for piece in scatter(batch, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [len(first) for first, _second in scatter((batch, batch + 10), 2)] == [4, 3]


def test_replicas_give_the_outputs_and_gradients_of_the_module_alone() -> None:
    torch.manual_seed(0)
    alone = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    inputs = torch.randn(7, 3, dtype=torch.float64)
    alone(inputs).square().sum().backward()
    expected = [parameter.grad.clone() for parameter in alone.parameters()]
    alone.zero_grad()
    spread = ThreadParallel(alone, num_replicas=3, num_threads=1)
    spread(inputs).square().sum().backward()
    for parameter, gradient in zip(alone.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-14)


def test_only_the_first_replica_moves_the_running_statistics() -> None:
    module = torch.nn.BatchNorm1d(2)
    inputs = torch.tensor([[0.0, 0.0], [2.0, 4.0], [100.0, 100.0], [200.0, 300.0]])
    ThreadParallel(module, num_replicas=2, num_threads=1)(inputs)
    torch.testing.assert_close(module.running_mean, torch.tensor([0.1, 0.2]))


def test_an_error_in_a_replica_reaches_the_caller() -> None:
    spread = ThreadParallel(torch.nn.Linear(3, 1), num_replicas=2, num_threads=1)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        spread(torch.zeros(4, 5))
