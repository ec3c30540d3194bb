"""From a case to jobs: the references it is judged against, and who gets which cores."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from harness import jobs
from harness.errors import SpecError
from harness.spec import Arrangement, Case, Check, Fault, Job, Workload
from harness.strategies.base import Strategy

PLAIN = Workload(name="w", model="mlp", dataset="digits")
NORMED = Workload(name="n", model="mnist-cnn", dataset="digits")
TEMPLATE = Job(function="-:-", strategy="-", workload=PLAIN)
STRATEGY = Strategy(
    name="s",
    function="m:train",
    where="m.py:1",
    summary="",
    framework="f",
    requires=(),
    backends={"cpu": "gloo", "cuda": "nccl"},
    reference_of="r",
)
SERIAL = Strategy(
    name="r",
    function="m:serial",
    where="m.py:9",
    summary="",
    framework="f",
    requires=(),
    backends={"cpu": "none"},
    reference_of=None,
)


def case(workload: Workload = PLAIN, world_size: int = 2, device: str = "cpu", strategy: str = "s") -> Case:
    return msgspec.convert(
        {"workload": workload.name, "strategy": strategy, "world_size": world_size, "device": device}, Case
    )


def changed(strategy: Strategy, **settings: object) -> Strategy:
    return dataclasses.replace(strategy, **settings)  # type: ignore[arg-type]


def test_plain_maths_is_rerun_as_shards_and_as_permuted_shards() -> None:
    wanted = jobs.references(PLAIN, changed(STRATEGY, split="chunk"), 3)
    assert wanted.name == "plain"
    assert wanted.run == Arrangement()
    assert wanted.reruns == (
        Arrangement(shards=3, split="chunk"),
        Arrangement(shards=3, split="chunk", permute=1),
    )
    assert wanted.plain is None
    assert wanted.all == (wanted.run, *wanted.reruns)


def test_a_batch_norm_per_shard_is_judged_against_a_run_that_does_so_and_shown_against_plain() -> None:
    wanted = jobs.references(NORMED, STRATEGY, 2)
    own = Arrangement(shards=2, batchnorm="per-shard")
    assert wanted.name == "per-shard-batchnorm"
    assert wanted.run == own
    assert wanted.reruns == (jobs.permuted(own, 1), jobs.permuted(own, 2))
    assert wanted.plain == Arrangement()
    assert wanted.all == (own, *wanted.reruns, Arrangement())


@pytest.mark.parametrize(("batchnorm", "world_size"), [("plain", 2), ("per-shard", 1)])
def test_a_batch_norm_over_the_whole_batch_is_judged_against_plain(batchnorm: str, world_size: int) -> None:
    wanted = jobs.references(NORMED, changed(STRATEGY, batchnorm=batchnorm), world_size)
    assert (wanted.name, wanted.run, wanted.plain) == ("plain", Arrangement(), None)
    # Shards would be another mathematics: only the order of samples may change.
    assert wanted.reruns == (Arrangement(permute=1), Arrangement(permute=2))


def test_serial_runs_of_two_frameworks_are_held_against_each_other_with_reruns_of_their_own() -> None:
    assert jobs.plain_runs(PLAIN) == (Arrangement(), Arrangement(shards=2), Arrangement(shards=2, permute=1))
    assert jobs.plain_runs(NORMED) == (Arrangement(), Arrangement(permute=1), Arrangement(permute=2))


def test_every_rank_gets_its_own_cores_and_as_many_threads() -> None:
    first, second = jobs.parallel(TEMPLATE, case(), STRATEGY, cpus=[(0, 1), (2, 3)], fault=Fault(name="bug"))
    assert (first.rank, first.cpus, first.num_threads) == (0, (0, 1), 2)
    assert (second.rank, second.cpus, second.num_threads) == (1, (2, 3), 2)
    assert {job.world_size for job in (first, second)} == {2}
    assert (first.function, first.strategy, first.backend) == ("m:train", "s", "gloo")
    assert first.fault == Fault(name="bug")


def test_replicas_in_one_process_get_all_cores_together() -> None:
    (job,) = jobs.parallel(TEMPLATE, case(), changed(STRATEGY, processes="one"), cpus=[(0, 1), (2, 3)])
    assert (job.rank, job.world_size, job.cpus, job.num_threads) == (0, 2, (0, 1, 2, 3), 4)


def test_without_given_cores_a_rank_has_one_thread() -> None:
    assert [job.num_threads for job in jobs.parallel(TEMPLATE, case(), STRATEGY, cpus=[(), ()])] == [1, 1]


def test_a_template_may_say_which_library_ranks_talk_through() -> None:
    template = msgspec.structs.replace(TEMPLATE, backend="gloo")
    (job, _) = jobs.parallel(template, case(device="cuda"), STRATEGY, cpus=[(), ()])
    assert job.backend == "gloo"
    (job, _) = jobs.parallel(TEMPLATE, case(device="cuda"), STRATEGY, cpus=[(), ()])
    assert job.backend == "nccl"


def test_a_reference_run_is_one_process_of_the_serial_strategy() -> None:
    own = Arrangement(shards=2, permute=1)
    (job,) = jobs.serial(TEMPLATE, case(), SERIAL, own, cpus=(3,))
    assert (job.function, job.strategy, job.rank, job.world_size) == ("m:serial", "r", 0, 1)
    assert (job.arrangement, job.cpus, job.num_threads) == (own, (3,), 1)


def test_a_reference_is_kept_under_all_that_makes_it_another_one() -> None:
    other = msgspec.structs.replace(PLAIN, seed=1)
    keys = {
        jobs.reference_key(PLAIN, SERIAL, Arrangement(), "cpu"),
        jobs.reference_key(other, SERIAL, Arrangement(), "cpu"),
        jobs.reference_key(PLAIN, STRATEGY, Arrangement(), "cpu"),
        jobs.reference_key(PLAIN, SERIAL, Arrangement(shards=2), "cpu"),
        jobs.reference_key(PLAIN, SERIAL, Arrangement(), "cuda"),
    }
    assert len(keys) == 5
    assert jobs.reference_key(PLAIN, SERIAL, Arrangement(), "cpu") in keys


def test_a_case_that_can_run_is_let_through() -> None:
    jobs.validate(case(), PLAIN, STRATEGY)
    jobs.validate(case(NORMED), NORMED, STRATEGY)
    jobs.validate(case(world_size=1, strategy="r"), PLAIN, SERIAL)


@pytest.mark.parametrize(
    ("strategy", "workload", "world_size", "device", "words"),
    [
        (SERIAL, PLAIN, 1, "cuda", "r does not run on cuda"),
        (SERIAL, PLAIN, 2, "cpu", "expected world size 1 for the serial strategy r but got 2"),
        (STRATEGY, PLAIN, 40, "cpu", "expected at least 1 sample.* or use fewer ranks"),
        # Four ranks share 7 samples: one of them has a single one, which cannot be normalised.
        (
            STRATEGY,
            msgspec.structs.replace(NORMED, check=Check(num_samples=7, global_batch=7)),
            4,
            "cpu",
            "expected at least 2 sample.*leaves 1",
        ),
        (
            STRATEGY,
            msgspec.structs.replace(PLAIN, global_batch=3),
            4,
            "cpu",
            r"expected a global batch of at least 4 \(groups of samples x accumulation\) but workload 'w' has 3",
        ),
    ],
)
def test_a_case_that_cannot_run_is_refused_with_the_way_out(
    strategy: Strategy, workload: Workload, world_size: int, device: str, words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        jobs.validate(case(workload, world_size, device, strategy.name), workload, strategy)
