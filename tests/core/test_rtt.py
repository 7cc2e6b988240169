"""Round-trip estimates, computed by hand from the rules of RFC 6298, section 2."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshvisor.shared.core.rtt import RttEstimator


def test_before_the_first_sample_nothing_is_known_and_an_answer_may_take_a_second() -> None:
    estimator = RttEstimator()
    assert (estimator.srtt, estimator.rttvar, estimator.rto) == (None, None, 1.0)


def test_the_first_guess_keeps_the_limits() -> None:
    assert RttEstimator(min_rto=2.0).rto == 2.0
    assert RttEstimator(max_rto=0.5).rto == 0.5


def test_the_first_sample_is_the_estimate_and_half_of_it_the_deviation() -> None:
    estimator = RttEstimator()
    estimator.sample(0.5)
    assert (estimator.srtt, estimator.rttvar, estimator.rto) == (0.5, 0.25, 1.5)


def test_the_deviation_is_updated_before_the_estimate() -> None:
    estimator = RttEstimator()
    estimator.sample(0.5)
    estimator.sample(1.0)
    # |0.5 - 1.0|, not |0.5625 - 1.0|.
    assert (estimator.srtt, estimator.rttvar, estimator.rto) == (0.5625, 0.3125, 1.8125)
    estimator.sample(0.5625)
    assert (estimator.srtt, estimator.rttvar, estimator.rto) == (0.5625, 0.234375, 1.5)


def test_a_steady_path_still_leaves_the_clock_its_granularity() -> None:
    estimator = RttEstimator(granularity=0.25, min_rto=0.001)
    for _ in range(200):
        estimator.sample(1.0)
    assert estimator.srtt == 1.0
    assert estimator.rto == 1.25


def test_the_timeout_stays_within_its_limits() -> None:
    estimator = RttEstimator()
    estimator.sample(0.0)
    assert (estimator.srtt, estimator.rttvar, estimator.rto) == (0.0, 0.0, 0.2)
    for _ in range(100):
        estimator.sample(1000.0)
    assert estimator.rto == 60.0


@pytest.mark.parametrize("rtt", [-0.001, -math.inf, math.inf, math.nan])
def test_a_bad_sample_is_refused_and_changes_nothing(rtt: float) -> None:
    estimator = RttEstimator()
    estimator.sample(0.5)
    with pytest.raises(ValueError, match="a round-trip time must be"):
        estimator.sample(rtt)
    assert (estimator.srtt, estimator.rttvar) == (0.5, 0.25)


@given(st.lists(st.floats(min_value=0.0, max_value=1e300), min_size=1))
def test_the_estimate_stays_between_the_least_and_the_greatest_sample(samples: list[float]) -> None:
    estimator = RttEstimator()
    for rtt in samples:
        estimator.sample(rtt)
    assert estimator.srtt is not None
    assert min(samples) * (1 - 1e-12) <= estimator.srtt <= max(samples) * (1 + 1e-12)
    assert 0.2 <= estimator.rto <= 60.0


@pytest.mark.parametrize("name", ["granularity", "min_rto", "max_rto"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_arguments_that_make_no_sense_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a finite number of seconds above 0"):
        RttEstimator(**{name: value})


def test_a_least_timeout_above_the_greatest_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_rto \(2\.0\) must not be greater than max_rto \(1\.0\)"):
        RttEstimator(min_rto=2.0, max_rto=1.0)
