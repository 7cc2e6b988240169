"""The φ detector: the exact normal tail, the rules of its history, and numbers that other detectors stumble over."""

import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshvisor.shared.core.phi import PhiAccrualDetector

phi_of = PhiAccrualDetector.phi_of

# -log10(1 - F(y)) by the power series of F in decimal arithmetic of 1,200 digits.
EXACT = [
    (-10.0, 3.3092601213067226e-24),
    (-8.0, 2.7017288495439214e-16),
    (-5.0, 1.2449121373882918e-07),
    (-3.0, 0.0005866493137900667),
    (-1.0, 0.07502601295781802),
    (-0.5, 0.16023139227784902),
    (0.0, 0.3010299956639812),
    (0.5, 0.5106919892652407),
    (1.0, 0.7995455414919705),
    (2.0, 1.643016080140937),
    (3.0, 2.869699035929369),
    (4.0, 4.499334907556479),
    (5.0, 6.5426456723906545),
    (5.612, 7.999996876659293),
    (6.0, 9.005864327476704),
    (8.0, 15.206142551017155),
    (10.0, 23.118053405486076),
    (15.0, 50.43521961427551),
    (20.0, 88.56009534307559),
    (25.0, 137.51474765099553),
    (29.5, 190.84179600839906),
    (30.0, 197.30920926166095),
    (30.5, 203.88507627853653),
    (35.0, 267.94888194975294),
    (37.5, 307.33673707464465),
    (38.5, 323.8513410684794),
    (40.0, 349.43700645934587),
]


def near(value: float) -> object:
    return pytest.approx(value, rel=1e-12, abs=0.0)


# The tail (reliability.md §1.1).


@pytest.mark.parametrize(("y", "expected"), EXACT)
def test_phi_is_the_exact_normal_tail(y: float, expected: float) -> None:
    assert phi_of(y, 0.0, 1.0) == near(expected)


def test_phi_depends_only_on_the_distance_from_the_mean_in_standard_deviations() -> None:
    assert phi_of(2.0, 1.0, 0.25) == phi_of(4.0, 0.0, 1.0)


def test_phi_increases_strictly_and_over_the_seam_of_the_two_formulas_too() -> None:
    coarse = [phi_of(step / 1000, 0.0, 1.0) for step in range(-38_000, 60_000)]
    seam = [phi_of(30.0 + step * 1e-11, 0.0, 1.0) for step in range(-1000, 1000)]
    assert all(a < b for a, b in pairwise(coarse))
    assert all(a < b for a, b in pairwise(seam))


@pytest.mark.parametrize("elapsed", [-math.inf, -1e308, -1e5, -39.0, 0.0])
def test_far_before_the_mean_phi_is_zero_and_never_minus_zero(elapsed: float) -> None:
    phi = phi_of(elapsed, 1e3, 1.0)
    assert phi == 0.0
    assert math.copysign(1.0, phi) == 1.0


@pytest.mark.parametrize("elapsed", [1e160, 1e200, 1e308, math.inf])
def test_far_beyond_the_mean_phi_is_infinite(elapsed: float) -> None:
    assert phi_of(elapsed, 1.0, 1.0) == math.inf


def test_a_distance_that_overflows_is_infinite_too() -> None:
    assert phi_of(1e308, -1e308, 1e-300) == math.inf
    assert phi_of(-1e308, 1e308, 1e-300) == 0.0


def test_without_any_deviation_phi_is_the_limit() -> None:
    assert phi_of(0.9, 1.0, 0.0) == 0.0
    assert phi_of(1.0, 1.0, 0.0) == phi_of(1.0, 1.0, 0.1) == near(0.3010299956639812)
    assert phi_of(1.1, 1.0, 0.0) == math.inf


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(min_value=0.0, allow_nan=False),
)
def test_phi_of_any_numbers_is_zero_or_more_and_never_nan(elapsed: float, mean: float, std: float) -> None:
    phi = phi_of(elapsed, mean, std)
    assert phi >= 0.0
    assert math.copysign(1.0, phi) == 1.0


@pytest.mark.parametrize(
    ("elapsed", "mean", "std"),
    [(1.0, 1.0, -0.1), (1.0, 1.0, math.nan), (math.nan, 1.0, 1.0), (1.0, math.nan, 1.0), (math.inf, math.inf, 1.0)],
)
def test_what_is_no_number_is_refused(elapsed: float, mean: float, std: float) -> None:
    with pytest.raises(ValueError, match="no suspicion can be computed"):
        phi_of(elapsed, mean, std)


# The history (reliability.md §1.2).


def test_before_the_first_heartbeat_nothing_is_known_and_the_peer_is_available() -> None:
    detector = PhiAccrualDetector()
    assert detector.phi(1e9) == 0.0
    assert detector.is_available(1e9)
    assert detector.mean is None
    assert detector.std is None


def test_the_first_heartbeat_makes_two_intervals_around_the_expected_one() -> None:
    detector = PhiAccrualDetector(first_interval=1.0)
    detector.heartbeat(100.0)
    assert (detector.mean, detector.std) == (1.0, 0.25)
    assert detector.phi(101.0) == near(0.3010299956639812)
    assert detector.phi(102.0) == near(4.499334907556479)


def test_the_deviation_is_that_of_a_population() -> None:
    detector = PhiAccrualDetector(first_interval=1.0)
    detector.heartbeat(0.0)
    detector.heartbeat(1.75)
    assert detector.mean == near((0.75 + 1.25 + 1.75) / 3)
    assert detector.std == near(math.sqrt(1 / 6))


def test_the_acceptable_pause_is_added_to_the_mean() -> None:
    detector = PhiAccrualDetector(acceptable_pause=3.0, first_interval=1.0)
    detector.heartbeat(0.0)
    assert detector.phi(4.0) == near(0.3010299956639812)
    assert detector.phi(5.0) == near(4.499334907556479)
    assert detector.mean == 1.0


def test_the_deviation_has_a_floor() -> None:
    detector = PhiAccrualDetector(min_std=0.5, first_interval=1.0)
    detector.heartbeat(0.0)
    assert detector.std == 0.25
    assert detector.phi(2.0) == near(1.643016080140937)


def test_the_oldest_interval_leaves_a_full_window() -> None:
    detector = PhiAccrualDetector(window=3, first_interval=1.0)
    for now in (0.0, 1.0, 2.0, 3.0):
        detector.heartbeat(now)
    assert (detector.mean, detector.std) == (1.0, 0.0)
    detector.heartbeat(3.25)
    assert (detector.mean, detector.std) == (0.75, near(math.sqrt(0.125)))


def test_a_window_of_one_remembers_the_last_interval_alone() -> None:
    detector = PhiAccrualDetector(window=1, first_interval=1.0)
    detector.heartbeat(0.0)
    assert (detector.mean, detector.std) == (1.25, 0.0)
    detector.heartbeat(0.5)
    assert (detector.mean, detector.std) == (0.5, 0.0)


def test_the_interval_that_ends_a_suspicion_is_not_learned_but_the_next_one_is() -> None:
    detector = PhiAccrualDetector(first_interval=1.0)
    detector.heartbeat(0.0)
    assert not detector.is_available(60.0)
    detector.heartbeat(60.0)
    assert (detector.mean, detector.std) == (1.0, 0.25)
    assert detector.is_available(60.0)
    detector.heartbeat(61.0)
    assert detector.std == near(math.sqrt(0.125 / 3))


def test_a_peer_is_suspected_from_the_very_threshold_on() -> None:
    threshold = phi_of(2.0, 1.0, 0.25)
    detector = PhiAccrualDetector(threshold=threshold, first_interval=1.0)
    detector.heartbeat(0.0)
    assert detector.is_available(math.nextafter(2.0, 0.0) - 1e-9)
    assert not detector.is_available(2.0)


def test_a_regular_peer_is_suspected_5_6_floors_after_its_mean_by_default() -> None:
    detector = PhiAccrualDetector()
    for beat in range(2000):
        detector.heartbeat(float(beat))
    assert detector.is_available(1999.0 + 1.561)
    assert not detector.is_available(1999.0 + 1.562)


def test_two_heartbeats_at_one_moment_are_an_interval_of_zero() -> None:
    detector = PhiAccrualDetector(window=1)
    detector.heartbeat(5.0)
    detector.heartbeat(5.0)
    assert detector.mean == 0.0


@settings(max_examples=300)
@given(
    st.lists(st.floats(min_value=0.0, max_value=1e6), max_size=40),
    st.integers(min_value=1, max_value=50),
)
def test_the_running_mean_and_deviation_are_those_of_the_list(intervals: list[float], window: int) -> None:
    detector = PhiAccrualDetector(window=window, acceptable_pause=1e8, first_interval=1.0)
    detector.heartbeat(0.0)
    model, now = [0.75, 1.25], 0.0
    for interval in intervals:
        model.append(now + interval - now)
        now += interval
        detector.heartbeat(now)
    model = model[-window:]
    assert detector.mean == pytest.approx(statistics.fmean(model), rel=1e-9, abs=1e-12)
    assert detector.std == pytest.approx(statistics.pstdev(model), rel=1e-9, abs=1e-12)


@given(st.lists(st.integers(min_value=2**53 - 64, max_value=2**53), min_size=2, max_size=30))
def test_intervals_near_the_end_of_exact_floats_keep_their_exact_deviation(intervals: list[int]) -> None:
    detector = PhiAccrualDetector(window=1, acceptable_pause=2.0**60, first_interval=1.0)
    wide = PhiAccrualDetector(window=len(intervals), acceptable_pause=2.0**60, first_interval=1.0)
    now = 0.0
    learned = []
    for beat in [0, *intervals]:
        learned.append(now + beat - now)
        now += beat
        for each in (detector, wide):
            each.heartbeat(now)
            assert each.std is not None
            assert each.std >= 0.0
    assert detector.std == 0.0
    assert wide.std == pytest.approx(statistics.pstdev([int(value) for value in learned[1:]]), rel=1e-12)


def test_a_long_life_leaves_no_drift_behind() -> None:
    detector = PhiAccrualDetector(window=10, acceptable_pause=1e9, first_interval=1.0)
    now = 0.0
    for beat in range(5000):
        detector.heartbeat(now)
        now += 1e6 if beat % 2 else 1e-3
    for _ in range(11):
        now += 1.0
        detector.heartbeat(now)
    assert (detector.mean, detector.std) == (1.0, 0.0)


@given(st.lists(st.floats(min_value=0.0, max_value=10.0), max_size=20), st.lists(st.floats(0.0, 1e9), max_size=20))
def test_between_heartbeats_phi_never_falls(intervals: list[float], silences: list[float]) -> None:
    detector = PhiAccrualDetector()
    now = 0.0
    detector.heartbeat(now)
    for interval in intervals:
        now += interval
        detector.heartbeat(now)
    suspicions = [detector.phi(now + silence) for silence in sorted(silences)]
    assert suspicions == sorted(suspicions)


@pytest.mark.parametrize("now", [4.0, -math.inf, math.inf, math.nan])
def test_a_heartbeat_from_the_past_or_from_nowhere_is_refused_and_changes_nothing(now: float) -> None:
    detector = PhiAccrualDetector()
    detector.heartbeat(5.0)
    with pytest.raises(ValueError, match=r"cannot follow the one at 5\.0: use one monotonic clock"):
        detector.heartbeat(now)
    assert detector.phi(6.0) == near(0.3010299956639812)


@pytest.mark.parametrize(
    "arguments",
    [
        {"threshold": 0.0},
        {"threshold": math.nan},
        {"window": 0},
        {"min_std": 0.0},
        {"min_std": math.inf},
        {"acceptable_pause": -1.0},
        {"acceptable_pause": math.inf},
        {"first_interval": 0.0},
        {"first_interval": -1.0},
    ],
)
def test_arguments_that_make_no_sense_are_refused_by_name(arguments: dict[str, float]) -> None:
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be"):
        PhiAccrualDetector(**arguments)  # type: ignore[arg-type]  # window is the only int among the floats
