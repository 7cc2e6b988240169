import pytest

from meshvisor.supervisor.intensity import RestartIntensity


def test_the_edge_belongs_to_the_window() -> None:
    """OTP (reliability.md 4.1): intensity 1, period 5: restarts at 0 and 5 die, at 0 and 6 live."""
    intensity = RestartIntensity(1, 5.0)
    assert [intensity.record(0.0), intensity.record(5.0)] == [False, True]
    intensity = RestartIntensity(1, 5.0)
    assert [intensity.record(0.0), intensity.record(6.0)] == [False, False]


def test_no_restart_allowed_means_that_the_first_is_too_many() -> None:
    """OTP (reliability.md 4.1): intensity 0 dies on the first restart."""
    assert RestartIntensity(0, 10.0).record(0.0)


def test_the_window_slides() -> None:
    """circus (reliability.md 4.4) has a tumbling one: a burst across its reset is missed."""
    intensity = RestartIntensity(2, 10.0)
    assert [intensity.record(now) for now in (0.0, 9.0, 11.0, 12.0)] == [False, False, False, True]


def test_five_in_ten_seconds_are_allowed_and_six_are_not() -> None:
    """supervisord 3 (reliability.md 4.3) restarts without a limit what it takes for running; we do not."""
    intensity = RestartIntensity(5, 10.0)
    assert [intensity.record(float(now)) for now in range(6)] == [False] * 5 + [True]


def test_the_memory_is_bounded_and_the_verdict_stays() -> None:
    intensity = RestartIntensity(3, 10.0)
    assert [intensity.record(now / 1000) for now in range(1000)] == [False] * 3 + [True] * 997
    assert not intensity.record(100.0)


@pytest.mark.parametrize(("max_restarts", "window"), [(-1, 1.0), (1, 0.0), (1, -1.0), (1, float("inf"))])
def test_limits_that_make_no_sense_are_refused(max_restarts: int, window: float) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        RestartIntensity(max_restarts, window)
