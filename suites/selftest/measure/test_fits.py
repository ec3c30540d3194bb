"""Fitted laws find their parameters, hold the truth as often as they say, and say when they do not apply."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from harness.errors import MissingRequirementError, UsageError
from harness.measure import fits
from harness.measure.laws import LAWS, LawName, amdahl, gustafson, usl, usl_peak

SIZES = (2, 4, 8, 16, 32)
FORMULAS: Mapping[LawName, Callable[..., float]] = {"Amdahl": amdahl, "Gustafson": gustafson, "USL": usl}
TRUTH: Mapping[LawName, tuple[float, ...]] = {"Amdahl": (0.08,), "Gustafson": (0.08,), "USL": (0.05, 0.002)}


def samples(
    name: LawName,
    truth: Sequence[float],
    *,
    noise: float,
    seed: int = 0,
    number: int = 10,
    sizes: Sequence[int] = SIZES,
) -> dict[int, list[float]]:
    draw = np.random.default_rng(seed)
    return {size: list(FORMULAS[name](size, *truth) * np.exp(noise * draw.standard_normal(number))) for size in sizes}


@pytest.mark.parametrize("name", LAWS)
def test_exact_speed_ups_give_exact_parameters_and_predictions(name: LawName) -> None:
    found = fits.fit(name, samples(name, TRUTH[name], noise=0.0))
    assert [parameter.median for parameter in found.parameters.values()] == pytest.approx(TRUTH[name], rel=1e-6)
    assert fits.predict(found, 256).median == pytest.approx(FORMULAS[name](256, *TRUTH[name]), rel=1e-6)
    assert not found.misses


@pytest.mark.parametrize("name", LAWS)
def test_intervals_hold_the_truth_in_nineteen_of_twenty_trials(name: LawName) -> None:
    trials = [fits.fit(name, samples(name, TRUTH[name], noise=0.04, seed=seed)) for seed in range(200)]
    for index, parameter in enumerate(LAWS[name].bounds):
        found = [trial.parameters[parameter] for trial in trials]
        covered = np.mean([one.low <= TRUTH[name][index] <= one.high for one in found])
        assert covered >= 0.90
        # The negative control: intervals half as wide do not.
        truth = TRUTH[name][index]
        half = [
            one.median + (one.low - one.median) / 2 <= truth <= one.median + (one.high - one.median) / 2
            for one in found
        ]
        assert np.mean(half) < 0.86


@pytest.mark.parametrize("name", LAWS)
def test_a_law_without_losses_stays_within_its_bounds(name: LawName) -> None:
    for seed in range(20):
        found = fits.fit(name, samples(name, [0.0] * len(LAWS[name].bounds), noise=0.04, seed=seed))
        for parameter in found.parameters.values():
            assert 0 <= parameter.low <= parameter.median <= parameter.high
        assert fits.predict(found, 64).high <= 64


@pytest.mark.parametrize("number", [2, 3])
def test_few_rounds_give_wide_intervals(number: int) -> None:
    few, many = (
        fits.fit("Amdahl", samples("Amdahl", [0.2], noise=0.04, number=count, sizes=(2,))).parameters["serial fraction"]
        for count in (number, 40)
    )
    assert few.high - few.low > 2 * (many.high - many.low)


def test_one_wild_epoch_moves_little_and_widens_little() -> None:
    calm = samples("Amdahl", [0.1], noise=0.03)
    wild = {size: [*values[:-1], values[-1] / 3] for size, values in calm.items()}
    before, after = (fits.fit("Amdahl", found).parameters["serial fraction"] for found in (calm, wild))
    assert after.median == pytest.approx(before.median, rel=0.1)
    assert after.high - after.low < 3 * (before.high - before.low)


def test_rounds_that_resemble_each_other_count_for_less() -> None:
    values = 2 + 0.1 * np.sin(np.arange(40) / 6)
    mixed = np.random.default_rng(0).permutation(values)
    assert fits.centre(4, list(values)).error > 2 * fits.centre(4, list(mixed)).error


def test_a_law_that_misses_the_sizes_says_so_and_is_wider_for_it() -> None:
    for seed in range(5):
        growing = samples("USL", [0.02, 0.01], noise=0.02, seed=seed)
        assert not fits.fit("USL", growing).misses
        found = fits.fit("Amdahl", growing)
        assert found.misses
        wide = found.parameters["serial fraction"]
        narrow = fits.fit("Amdahl", samples("Amdahl", [wide.median], noise=0.02)).parameters["serial fraction"]
        assert wide.high - wide.low > 5 * (narrow.high - narrow.low)


def test_a_law_that_holds_is_rarely_taken_to_miss() -> None:
    found = [fits.fit("Amdahl", samples("Amdahl", [0.1], noise=0.03, seed=seed)).misses for seed in range(200)]
    assert np.mean(found) < 0.12


def test_speed_ups_above_the_ranks_miss_every_law() -> None:
    assert fits.fit("Amdahl", {2: [2.3, 2.31, 2.29], 4: [4.5, 4.51, 4.49]}).misses


def test_a_prediction_widens_with_the_distance_and_holds_the_truth() -> None:
    found = fits.fit("USL", samples("USL", TRUTH["USL"], noise=0.03, sizes=(2, 4, 8)))
    ahead = [fits.predict(found, size) for size in (8, 16, 64)]
    widths = [math.log(one.high / one.low) for one in ahead]
    assert widths == sorted(widths)
    assert ahead[1].low <= usl(16, *TRUTH["USL"]) <= ahead[1].high


def test_the_peak_has_an_interval_where_ranks_cost_and_none_where_they_cannot() -> None:
    peaks = [fits.peak(fits.fit("USL", samples("USL", TRUTH["USL"], noise=0.03, seed=seed))) for seed in range(100)]
    assert np.mean([one is not None and one.low <= usl_peak(*TRUTH["USL"]) <= one.high for one in peaks]) >= 0.90
    assert fits.peak(fits.fit("Amdahl", samples("Amdahl", [0.1], noise=0.02))) is None


def test_the_karp_flatt_fraction_grows_with_communication_and_rarely_with_serial_work() -> None:
    def grown(*truth: float) -> list[bool]:
        found = [fits.growth(samples("USL", truth, noise=0.03, seed=seed)) for seed in range(100)]
        return [one is not None and one.low > 0 for one in found]

    assert np.mean(grown(0.02, 0.005)) == 1
    assert np.mean(grown(0.1, 0.0)) < 0.08
    assert fits.growth(samples("Amdahl", [0.1], noise=0.02, sizes=(2,))) is None


@pytest.mark.parametrize(("name", "sizes"), [("Amdahl", (1,)), ("Gustafson", ()), ("USL", (2, 4)), ("USL", (1, 2, 4))])
def test_too_few_sizes_are_told_instead_of_a_fit(name: LawName, sizes: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=rf"expected {LAWS[name].least_sizes} or more world sizes beyond 1 for {name}"):
        fits.fit(name, {size: [1.0, 1.1, 0.9] for size in sizes})


@pytest.mark.parametrize("values", [[], [1.5], [1.5, math.nan], [1.5, 0.0], [1.5, -1.0], [1.5, math.inf]])
def test_what_are_no_speed_ups_is_refused(values: list[float]) -> None:
    with pytest.raises(UsageError, match="expected at least 2 positive speed-ups"):
        fits.fit("Amdahl", {2: values})


@pytest.mark.parametrize("sizes", [(2,), (2, 4), SIZES])
def test_without_scipy_a_fit_says_what_is_missing_whatever_sizes_are_there(
    sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("scipy", "scipy.special", "scipy.optimize"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingRequirementError, match="needs scipy, which is not installed: pip install"):
        fits.fit("Amdahl", samples("Amdahl", [0.1], noise=0.02, sizes=sizes))
