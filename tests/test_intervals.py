"""Estimates from run-level values: checked against published tables, and by simulation for coverage."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from chaoslab.intervals import (
    GEOMETRIC_T,
    KORN_GRAUBARD,
    LOGIT_T,
    ORDER_STATISTICS,
    STRETCH,
    Estimate,
    kaplan_meier_mean,
    korn_graubard,
    mean_difference,
    mean_log,
    median,
    not_measured,
    proportion,
    repeats_to_clear,
    restricted_mean,
)

FREIREICH_6MP = (6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35)
FREIREICH_CENSORED = (0, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1)
"""Weeks of remission under 6-MP, Freireich et al. 1963, *Blood* 21:699; in every textbook on survival."""


# Published numbers


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_with_as_many_runs_as_probes_korn_graubard_is_clopper_pearson_as_newcombe_tabulates_it(
    hits: int, trials: int, low: float, high: float
) -> None:
    """Newcombe 1998, *Statistics in Medicine* 17:857, table I, method 5."""
    assert korn_graubard(hits / trials, trials=trials, runs=trials) == pytest.approx((low, high), abs=6e-5)


def test_few_runs_cost_korn_graubard_degrees_of_freedom() -> None:
    effective = 600 * (stats.t.ppf(0.975, 599) / stats.t.ppf(0.975, 2)) ** 2

    assert korn_graubard(0.0, trials=600, runs=3) == pytest.approx((0.0, 1 - 0.025 ** (1 / effective)))


def test_the_restricted_mean_of_freireichs_remissions_is_the_textbook_one() -> None:
    """R's survival: print(survfit(Surv(time, status) ~ 1), rmean = 35) gives 23.3 (se 2.83 without n / (n − 1))."""
    mean, variance = kaplan_meier_mean(FREIREICH_6MP, FREIREICH_CENSORED)

    assert mean == pytest.approx(23.29, abs=0.005)
    assert math.sqrt(variance * 20 / 21) == pytest.approx(2.83, abs=0.005)


def test_the_kaplan_meier_curve_is_scipys() -> None:
    open_ = np.array(FREIREICH_CENSORED, dtype=bool)
    times = np.array(FREIREICH_6MP, dtype=float)
    curve = stats.ecdf(stats.CensoredData.right_censored(times, open_)).sf
    steps = np.concatenate(([1.0], curve.probabilities[:-1]))
    area = float(np.sum(steps * np.diff(np.concatenate(([0.0], curve.quantiles)))))

    assert kaplan_meier_mean(times, open_)[0] == pytest.approx(area)


def test_without_censoring_the_variance_is_that_of_a_mean() -> None:
    times = [3.0, 5.0, 4.0, 9.0, 5.0]

    mean, variance = kaplan_meier_mean(times, [False] * 5)

    assert mean == pytest.approx(np.mean(times))
    assert variance == pytest.approx(np.var(times, ddof=1) / 5)


def test_when_all_censored_times_are_the_horizon_it_is_the_mean_of_what_was_seen() -> None:
    times = [3.0, 5.0, 10.0, 10.0]

    mean, variance = kaplan_meier_mean(times, [False, False, True, True])

    assert mean == pytest.approx(7.0)
    assert variance == pytest.approx(np.var(times, ddof=1) / 4)


def test_a_paired_difference_is_scipys_t_interval() -> None:
    differences = [5.0, 7.0, 9.0, 4.0]
    expected = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)

    estimate = mean_difference(differences, unit="ms")

    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))


# Rules


@pytest.mark.parametrize("runs", [1, 2])
def test_below_three_runs_there_is_a_value_no_interval_and_the_number_that_would_give_one(runs: int) -> None:
    estimates = [
        proportion([3.0] * runs, [100.0] * runs, trials=100 * runs),
        restricted_mean([3.0, 4.0][:runs], [False] * runs),
        mean_log([3.0, 4.0][:runs], unit="ms"),
        mean_difference([3.0, 4.0][:runs], unit="ms"),
    ]

    expected = "1 run" if runs == 1 else "2 runs"
    for estimate in estimates:
        assert estimate.value is not None
        assert (estimate.low, estimate.high) == (None, None)
        assert estimate.reason == f"{expected}: an interval over runs needs at least 3"


def test_nothing_at_all_is_no_value() -> None:
    for estimate in (
        proportion([], [], trials=0),
        restricted_mean([], []),
        mean_log([], unit="ms"),
        mean_difference([], unit="ms"),
    ):
        assert estimate.value is None
        assert estimate.n == 0
        assert estimate.reason


def test_zero_failures_still_have_an_upper_bound() -> None:
    estimate = proportion([0, 0, 0], [200, 200, 200], trials=600)

    assert (estimate.value, estimate.low) == (0.0, 0.0)
    assert estimate.high == pytest.approx(100 * korn_graubard(0.0, trials=600, runs=3)[1])
    assert estimate.high == pytest.approx(2.91, abs=0.01)
    assert estimate.method == KORN_GRAUBARD
    assert estimate.reason == "0 % in every run: the bound takes probes as independent"


def test_full_availability_is_the_mirror_image_of_no_failure() -> None:
    down = proportion([0, 0, 0], [30, 30, 30], trials=600)
    up = proportion([30, 30, 30], [30, 30, 30], trials=600)

    assert up.high == 100
    assert up.low == pytest.approx(100 - (down.high or 0))


def test_runs_that_fail_alike_take_the_bound_by_probes_and_do_not_give_a_width_of_zero() -> None:
    estimate = proportion([20, 20, 20], [200, 200, 200], trials=600)

    assert estimate.method == KORN_GRAUBARD
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 8 < 10 < 12 < estimate.high


def test_longer_runs_weigh_more() -> None:
    assert proportion([10, 0, 1], [100, 300, 100], trials=500).value == pytest.approx(2.2)


def test_a_share_is_estimated_on_the_logit_scale() -> None:
    estimate = proportion([3, 9, 6], [100, 100, 100], trials=300)
    error = 0.03 / math.sqrt(3) / (0.06 * 0.94)
    reach = stats.t.ppf(0.975, 2) * error

    assert estimate.method == LOGIT_T
    assert estimate.spread == pytest.approx(error * math.sqrt(3))
    assert estimate.low == pytest.approx(100 / (1 + math.exp(-(math.log(0.06 / 0.94) - reach))))
    assert estimate.high == pytest.approx(100 / (1 + math.exp(-(math.log(0.06 / 0.94) + STRETCH * reach))))


def test_availability_is_the_mirror_image_of_its_complement() -> None:
    down = proportion([3, 9, 6], [100, 100, 100], trials=300)
    up = proportion([97, 91, 94], [100, 100, 100], trials=300)

    assert (up.low, up.high) == pytest.approx((100 - (down.high or 0), 100 - (down.low or 0)))


def test_the_bounds_of_a_median_are_order_statistics_where_their_confidence_is_the_level() -> None:
    """Of 6 runs the smallest and the largest hold the median with 1 − 2⁻⁵; scipy's interval is that of whole ranks."""
    times = [3.0, 9.0, 4.0, 5.0, 7.0, 6.0]
    exact = median(times, [False] * 6, level=1 - 2**-5)
    whole = stats.quantile_test(times, q=0.0, p=0.5).confidence_interval(1 - 2**-5 - 1e-9)

    assert (exact.value, exact.low, exact.high) == pytest.approx((5.5, 3.0, 9.0))
    assert (exact.low, exact.high) == (whole.low, whole.high)
    assert exact.method == ORDER_STATISTICS


def test_the_bounds_of_a_median_are_interpolated_as_published() -> None:
    """Hettmansperger & Sheather 1986, equation 5: λ = (n − d)·I / (d + (n − 2d)·I)."""
    times = np.arange(1.0, 11.0)
    outer, inner = 1 - 2 * stats.binom.cdf([1, 2], 10, 0.5)  # 97.85 % and 89.06 %, for d = 2 and 3
    part = (outer - 0.95) / (outer - inner)
    share = 8 * part / (2 + 6 * part)

    estimate = median(times, [False] * 10)

    assert (estimate.low, estimate.high) == pytest.approx((2 + share, 9 - share))


@pytest.mark.parametrize("runs", [3, 4])
def test_few_runs_give_no_interval_of_a_median(runs: int) -> None:
    estimate = median([3.0, 5.0, 4.0, 6.0][:runs], [False] * runs)

    assert estimate.value is not None
    assert (estimate.low, estimate.high) == (None, None)
    assert estimate.reason == f"{runs} runs: an interval of a median needs at least 5"


def test_censored_times_open_the_interval_of_a_median_upwards() -> None:
    estimate = median([3.0, 4.0, 5.0, 6.0, 30.0, 30.0], [False] * 4 + [True] * 2)

    assert estimate.value == pytest.approx(5.5)
    assert estimate.low is not None
    assert estimate.high is None


def test_where_half_of_the_runs_saw_no_end_there_is_no_median() -> None:
    estimate = median([3.0, 4.0, 30.0, 30.0], [False, False, True, True])

    assert estimate.value is None
    assert estimate.reason == "no recovery within 30 s in half of the runs or more"


def test_what_no_run_showed_may_still_happen() -> None:
    estimate = mean_difference([5.0, 7.0, 9.0], unit="ms")

    assert estimate.unseen_percent == pytest.approx(63.2, abs=0.05)
    assert not_measured("no probe", unit="s").unseen_percent is None


def test_when_no_run_recovered_there_is_no_number() -> None:
    estimate = restricted_mean([30.0, 30.1, 30.2], [True] * 3)

    assert (estimate.value, estimate.low, estimate.high) == (None, None, None)
    assert estimate.reason == "no recovery within 30 s in any run"
    assert (estimate.censored, estimate.horizon) == (3, 30.0)


def test_when_some_did_not_recover_the_number_is_called_a_lower_bound() -> None:
    estimate = restricted_mean([3.0, 5.0, 30.0], [False, False, True])

    assert estimate.value == pytest.approx(38 / 3)
    assert estimate.censored == 1
    assert estimate.reason == "1 of 3 runs saw no recovery before the probes ended: the mean is at least this"


def test_durations_of_zero_do_not_upset_the_log_scale() -> None:
    estimate = restricted_mean([0.0, 0.0, 3.0, 1.0], [False] * 4)

    assert estimate.value == pytest.approx(1.0)
    assert estimate.low is not None
    assert estimate.low > 0


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
def test_runs_without_any_spread_give_no_interval(values: list[float]) -> None:
    estimate = restricted_mean(values, [False] * 3)

    assert estimate.value == values[0]
    assert (estimate.low, estimate.high) == (None, None)
    assert estimate.reason == "all 3 runs gave the same value: their spread cannot be estimated"


def test_a_geometric_mean_refuses_zero() -> None:
    with pytest.raises(ValueError, match="above zero, found 0"):
        mean_log([1.0, 0.0, 2.0], unit="ms")


@pytest.mark.parametrize("function", [mean_log, mean_difference])
def test_values_that_are_not_numbers_are_refused(function: Callable[..., Estimate]) -> None:
    with pytest.raises(ValueError, match="finite"):
        function([1.0, float("nan"), 2.0], unit="ms")


def test_an_estimate_is_a_json_object() -> None:
    fields = mean_log([10.0, 20.0, 40.0], unit="ms").as_dict()

    assert fields["value"] == pytest.approx(20.0)
    assert (fields["method"], fields["n"], fields["unit"], fields["level"]) == (GEOMETRIC_T, 3, "ms", 0.95)


# Planning


@pytest.mark.parametrize("threshold", [8.0, 9.0, 4.0])
def test_repeats_to_clear_is_the_first_number_of_runs_whose_interval_clears(threshold: float) -> None:
    estimate = mean_difference([5.0, 7.0, 9.0], unit="ms")
    runs = repeats_to_clear(estimate, threshold)
    assert runs is not None

    def reach(n: int) -> float:
        return float(stats.t.ppf(0.975, n - 1)) * 2.0 / math.sqrt(n)

    assert reach(runs) < abs(7.0 - threshold)
    assert runs == 3 or reach(runs - 1) >= abs(7.0 - threshold)


def test_repeats_to_clear_counts_on_the_scale_of_the_estimate() -> None:
    estimate = proportion([3, 9, 6], [100, 100, 100], trials=300)
    distance = math.log(0.10 / 0.90) - math.log(0.06 / 0.94)
    runs = repeats_to_clear(estimate, 10.0)
    assert runs is not None
    assert estimate.spread is not None

    reach = STRETCH * estimate.spread
    assert stats.t.ppf(0.975, runs - 1) * reach / math.sqrt(runs) < distance
    assert stats.t.ppf(0.975, runs - 2) * reach / math.sqrt(runs - 1) >= distance


def test_without_failures_more_runs_clear_a_threshold_by_more_probes() -> None:
    estimate = proportion([0, 0, 0], [20, 20, 20], trials=60)
    runs = repeats_to_clear(estimate, 5.0)
    assert runs is not None

    assert korn_graubard(0.0, trials=20 * runs, runs=runs)[1] < 0.05
    assert korn_graubard(0.0, trials=20 * (runs - 1), runs=runs - 1)[1] >= 0.05


@pytest.mark.parametrize(
    "estimate",
    [
        not_measured("no probe", unit="s"),
        mean_difference([7.0], unit="ms"),
        mean_difference([7.0, 7.0, 7.0], unit="ms"),
        mean_difference([6.0, 7.0, 8.0], unit="ms"),
    ],
    ids=["no value", "one run", "no spread", "centre on the threshold"],
)
def test_repeats_to_clear_says_nothing_where_nothing_can_be_said(estimate: Estimate) -> None:
    assert repeats_to_clear(estimate, 7.0) is None


# Coverage. 2,000 trials of a true 95 % have a standard error of 0.5 points.

TRIALS = 2000


def coverage(draw: Callable[[np.random.Generator], Estimate], truth: float) -> float:
    generator = np.random.default_rng(20240501)
    estimates = [draw(generator) for _ in range(TRIALS)]
    bounds = [(found.low, found.high) for found in estimates]
    return sum(low is not None and high is not None and low <= truth <= high for low, high in bounds) / TRIALS


@pytest.mark.parametrize("runs", [3, 5, 10])
def test_the_interval_of_an_error_rate_covers_although_probes_of_a_run_hang_together(runs: int) -> None:
    """A beta-binomial with a design effect of about 30; Wilson on probes covers a third of the time."""

    def draw(generator: np.random.Generator) -> Estimate:
        failed = generator.binomial(600, generator.beta(2.0, 18.0, runs))
        return proportion(failed, np.full(runs, 600), trials=600 * runs)

    assert coverage(draw, truth=10.0) >= 0.91


@pytest.mark.parametrize("runs", [3, 10])
def test_the_interval_of_a_rare_independent_failure_covers(runs: int) -> None:
    def draw(generator: np.random.Generator) -> Estimate:
        return proportion(generator.binomial(600, 0.002, runs), np.full(runs, 600), trials=600 * runs)

    assert coverage(draw, truth=0.2) >= 0.92


@pytest.mark.parametrize("runs", [3, 5, 10])
@pytest.mark.parametrize("horizon", [math.inf, 4 * math.log(1 / 0.15)], ids=["all seen", "15 % censored"])
def test_the_interval_of_a_recovery_time_covers_its_restricted_mean(runs: int, horizon: float) -> None:
    def draw(generator: np.random.Generator) -> Estimate:
        times = generator.exponential(4.0, runs)
        return restricted_mean(np.minimum(times, horizon), times > horizon)

    truth = 4.0 if math.isinf(horizon) else 4.0 * (1 - 0.15)
    assert coverage(draw, truth) >= 0.91


@pytest.mark.parametrize("runs", [3, 10])
def test_the_interval_of_a_latency_quantile_covers_the_typical_run(runs: int) -> None:
    def draw(generator: np.random.Generator) -> Estimate:
        level = generator.normal(1.0, 0.1, runs)
        probes = level[:, None] * generator.lognormal(math.log(20.0), 0.3, (runs, 300))
        return mean_log(np.quantile(probes, 0.5, axis=1), unit="ms")

    assert coverage(draw, truth=20.0 * math.exp(-0.005)) >= 0.91
