"""The observer's own health: Cassandra's local pause, Lifeguard's score, and both against a mesh of healthy peers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshvisor.shared.core.health import HealthScore, ObserverPause
from meshvisor.shared.core.phi import PhiAccrualDetector

# The score (reliability.md §1.5, the table of memberlist's awareness test).


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([0], [0]),
        ([-1], [0]),
        ([-10], [0]),
        ([1, -1], [1, 0]),
        ([10, *[-1] * 8], [7, 6, 5, 4, 3, 2, 1, 0, 0]),
    ],
)
def test_the_score_moves_within_0_and_7_and_a_timeout_with_it(deltas: list[int], expected: list[int]) -> None:
    score = HealthScore()
    seen = []
    for delta in deltas:
        score.apply(delta)
        seen.append(score.value)
        assert score.scale(0.5) == 0.5 * (score.value + 1)
    assert seen == expected


# The veto (reliability.md §1.3).


def test_after_a_gap_nobody_is_suspected_now_nor_for_the_grace() -> None:
    # Cassandra's timeline: a gap of 5.1 s where 5 s are allowed, then 5 s of grace.
    pause = ObserverPause(interval=1.0, limit=4.0, grace=5.0)
    pause.tick(0.0)
    assert pause.is_trusted(0.0)
    pause.tick(5.1)
    assert not pause.is_trusted(5.1)
    for now in (6.1, 7.1, 8.1, 9.1):
        pause.tick(now)
        assert not pause.is_trusted(now)
    assert not pause.is_trusted(10.0)
    assert pause.is_trusted(10.2)


def test_a_gap_of_exactly_the_limit_is_no_pause() -> None:
    pause = ObserverPause(interval=1.0, limit=4.0, grace=5.0)
    pause.tick(0.0)
    assert pause.is_trusted(5.0)
    pause.tick(5.0)
    assert pause.is_trusted(5.0)


def test_an_overdue_tick_is_a_pause_already_before_it_comes() -> None:
    pause = ObserverPause(interval=0.5, limit=0.25, grace=1.0)
    pause.tick(10.0)
    assert pause.is_trusted(10.75)
    assert not pause.is_trusted(20.0)


def test_an_observer_that_never_ticked_suspects_nobody() -> None:
    pause = ObserverPause(interval=1.0, limit=1.0, grace=1.0)
    assert not pause.is_trusted(0.0)
    pause.tick(100.0)
    assert pause.is_trusted(100.0)
    assert pause.score.value == 0


def test_a_second_pause_begins_the_grace_anew() -> None:
    pause = ObserverPause(interval=1.0, limit=0.0, grace=3.0)
    for now in (0.0, 2.0, 3.0, 4.5):
        pause.tick(now)
    assert not pause.is_trusted(5.0)
    for now in (5.5, 6.5):
        pause.tick(now)
        assert not pause.is_trusted(now)
    pause.tick(7.5)
    assert pause.is_trusted(7.5)


def test_without_grace_the_tick_that_finds_a_pause_ends_the_veto() -> None:
    pause = ObserverPause(interval=1.0, limit=0.0, grace=0.0)
    pause.tick(0.0)
    assert not pause.is_trusted(9.0)
    pause.tick(9.0)
    assert pause.is_trusted(9.0)


def test_each_pause_worsens_the_score_and_each_interval_without_one_betters_it() -> None:
    pause = ObserverPause(interval=1.0, limit=0.5, grace=1.0)
    seen = []
    for now in (0.0, 10.0, 20.0, 30.0, 31.0, 31.5, 32.0, 33.5, 34.0, 60.0):
        pause.tick(now)
        seen.append(pause.score.value)
    assert seen == [0, 1, 2, 3, 2, 2, 1, 0, 0, 1]


def test_a_pause_spoils_the_interval_that_it_interrupts() -> None:
    pause = ObserverPause(interval=1.0, limit=0.0, grace=0.0)
    for now in (0.0, 2.0, 2.75, 5.0, 5.5):
        pause.tick(now)
    assert pause.score.value == 2


@given(st.lists(st.floats(min_value=0.0, max_value=30.0), max_size=30), st.floats(min_value=0.0, max_value=30.0))
def test_ticking_twice_changes_nothing(gaps: list[float], ask: float) -> None:
    once = ObserverPause(interval=1.0, limit=1.0, grace=2.0)
    twice = ObserverPause(interval=1.0, limit=1.0, grace=2.0)
    now = 0.0
    for gap in gaps:
        now += gap
        once.tick(now)
        twice.tick(now)
        twice.tick(now)
    assert once.is_trusted(now + ask) == twice.is_trusted(now + ask)
    assert once.score.value == twice.score.value


def test_a_tick_from_the_past_is_refused() -> None:
    pause = ObserverPause(interval=1.0, limit=1.0, grace=1.0)
    pause.tick(5.0)
    for now in (4.0, math.nan):
        with pytest.raises(ValueError, match="use one monotonic clock"):
            pause.tick(now)
    assert pause.is_trusted(5.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("interval", 0.0),
        ("interval", math.inf),
        ("limit", -0.1),
        ("limit", math.nan),
        ("grace", -0.1),
        ("grace", math.inf),
    ],
)
def test_arguments_that_make_no_sense_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a finite number of seconds"):
        ObserverPause(**{"interval": 1.0, "limit": 1.0, "grace": 1.0, name: value})


def test_an_observer_stopped_for_ten_seconds_suspects_none_of_twenty_peers_and_later_the_one_that_died() -> None:
    pause = ObserverPause(interval=0.5, limit=0.5, grace=1.0)
    peers = [PhiAccrualDetector(first_interval=0.5) for _ in range(20)]

    def suspects(now: float) -> list[int]:
        return [n for n, peer in enumerate(peers) if not peer.is_available(now)] if pause.is_trusted(now) else []

    def run(begin: int, end: int, living: list[PhiAccrualDetector]) -> list[list[int]]:
        seen = []
        for half in range(begin, end):
            seen.append(suspects(half / 2))  # before the tick, as a loop that wakes up may have it
            pause.tick(half / 2)
            seen.append(suspects(half / 2))
            for peer in living:
                peer.heartbeat(half / 2)
        return seen

    assert run(0, 60, peers) == [[]] * 120
    assert all(not peer.is_available(39.5) for peer in peers)
    seen = run(79, 100, peers[1:])  # stopped from 29.5 s to 39.5 s; meanwhile peer 0 died
    assert seen == [[]] * 4 + [[0]] * 38
