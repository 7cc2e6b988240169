"""How much a plugin may say."""

from meshvisor.workers.calls import MAX_IN_FLIGHT
from meshvisor.workers.plugin_meter import BURST, MOST_OWED, PIECE, Meter


def test_a_burst_is_taken_and_what_exceeds_it_is_not() -> None:
    meter = Meter(100.0, 5.0)
    assert not meter.take(int(100 * BURST), 0, 5.0)
    assert meter.take(1, 0, 5.0)


def test_the_rate_can_be_kept_up_for_ever() -> None:
    meter = Meter(100.0, 0.0)
    assert not any(meter.take(50, 0, tick / 2) for tick in range(1000))
    assert any(meter.take(60, 0, 500 + tick / 2) for tick in range(100))


def test_silence_saves_up_no_more_than_a_burst() -> None:
    meter = Meter(100.0, 0.0)
    assert meter.take(int(100 * BURST) + 1, 0, 3600.0)


def test_replies_are_paid_for_by_who_asked() -> None:
    meter = Meter(1.0, 0.0)
    for _ in range(1000):
        meter.allow()
    assert not meter.take(1000, 0, 0.0)
    assert meter.take(int(BURST) + 1, 0, 0.0)


def test_calls_without_a_reply_are_no_credit_for_ever() -> None:
    meter = Meter(1.0, 0.0)
    for _ in range(10 * MOST_OWED):
        meter.allow()
    assert meter.take(MOST_OWED + int(BURST) + 1, 0, 0.0)


def test_a_link_carries_no_more_calls_than_replies_are_expected() -> None:
    assert MOST_OWED == MAX_IN_FLIGHT


def test_what_is_long_counts_for_more() -> None:
    meter = Meter(100.0, 0.0)
    assert not meter.take(100, 100 * PIECE, 0.0)
    assert meter.take(1, 0, 0.0)
