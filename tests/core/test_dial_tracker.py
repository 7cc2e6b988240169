"""When one endpoint may be dialled again: bars after failures, and a limit per minute for those that fail."""

import math

import pytest

from meshvisor.shared.core.retry import EndpointDialTracker


def test_a_new_endpoint_may_be_dialled() -> None:
    tracker = EndpointDialTracker()
    assert tracker.may_dial(0.0)
    assert tracker.attempts(0.0) == 0


def test_a_failure_bars_the_endpoint_for_its_duration() -> None:
    tracker = EndpointDialTracker()
    tracker.record_attempt(0.0)
    tracker.record_failure(1.0, 10.0)
    assert not tracker.may_dial(10.999)
    assert tracker.delay(4.0) == 7.0
    assert tracker.may_dial(11.0)


def test_an_earlier_bar_is_never_shortened() -> None:
    tracker = EndpointDialTracker()
    tracker.record_failure(0.0, 30.0)
    tracker.record_failure(1.0, 5.0)
    assert tracker.delay(1.0) == 29.0
    tracker.record_failure(2.0, 40.0)
    assert tracker.delay(2.0) == 40.0


def test_a_success_lifts_the_bar() -> None:
    tracker = EndpointDialTracker()
    tracker.record_failure(0.0, 300.0)
    tracker.record_success()
    assert tracker.may_dial(0.0)


def test_the_limit_delays_an_endpoint_whose_last_dial_failed() -> None:
    tracker = EndpointDialTracker(max_per_minute=3)
    for now in (0.0, 10.0, 20.0):
        assert tracker.may_dial(now)
        tracker.record_attempt(now)
        tracker.record_failure(now, 0.0)
    assert tracker.attempts(20.0) == 3
    assert tracker.delay(20.0) == 40.0
    assert not tracker.may_dial(59.999)
    assert tracker.may_dial(60.0)
    assert tracker.attempts(60.0) == 2


def test_the_window_slides_so_that_no_minute_has_more_attempts_than_the_limit() -> None:
    tracker = EndpointDialTracker(max_per_minute=5)
    dialled = []
    for tenth in range(3000):
        now = tenth / 10
        if tracker.may_dial(now):
            tracker.record_attempt(now)
            tracker.record_failure(now, 1.0)
            dialled.append(now)
    assert dialled[:11] == [0.0, 1.0, 2.0, 3.0, 4.0, 60.0, 61.0, 62.0, 63.0, 64.0, 120.0]
    assert all(later >= earlier + 60.0 for earlier, later in zip(dialled, dialled[5:], strict=False))


def test_the_longer_of_bar_and_limit_counts() -> None:
    tracker = EndpointDialTracker(max_per_minute=1)
    tracker.record_attempt(0.0)
    tracker.record_failure(0.0, 100.0)
    assert tracker.delay(0.0) == 100.0
    tracker.record_attempt(100.0)
    tracker.record_failure(100.0, 10.0)
    assert tracker.delay(100.0) == 60.0


def test_an_endpoint_that_answers_is_never_held_up() -> None:
    tracker = EndpointDialTracker(max_per_minute=3)
    for _ in range(10):
        assert tracker.may_dial(0.0)
        tracker.record_attempt(0.0)
        tracker.record_success()
    assert tracker.attempts(0.0) == 10


def test_the_first_failure_after_many_answered_dials_meets_the_limit() -> None:
    tracker = EndpointDialTracker(max_per_minute=3)
    for second in range(5):
        tracker.record_attempt(float(second))
        tracker.record_success()
    tracker.record_failure(5.0, 1.0)
    assert tracker.delay(5.0) == 57.0  # two attempts are left of the minute when the one at 2 s has left it


@pytest.mark.parametrize("limit", [0, -1])
def test_zero_or_less_is_no_limit(limit: int) -> None:
    tracker = EndpointDialTracker(max_per_minute=limit)
    for _ in range(100):
        tracker.record_attempt(0.0)
        tracker.record_failure(0.0, 0.0)
    assert tracker.may_dial(0.0)
    tracker.record_failure(0.0, 2.0)
    assert tracker.delay(0.0) == 2.0


def test_a_flood_of_attempts_leaves_the_memory_bounded() -> None:
    tracker = EndpointDialTracker(max_per_minute=0)
    for _ in range(5000):
        tracker.record_attempt(0.0)
    assert tracker.attempts(0.0) == 1024
    generous = EndpointDialTracker(max_per_minute=2000)
    for _ in range(5000):
        generous.record_attempt(0.0)
    generous.record_failure(0.0, 0.0)
    assert generous.attempts(0.0) == 2000
    assert not generous.may_dial(59.0)


@pytest.mark.parametrize("duration", [-1.0, math.nan, math.inf])
def test_a_duration_that_makes_no_sense_is_refused_and_changes_nothing(duration: float) -> None:
    tracker = EndpointDialTracker()
    with pytest.raises(ValueError, match="duration must be a finite number of seconds"):
        tracker.record_failure(0.0, duration)
    assert tracker.may_dial(0.0)
