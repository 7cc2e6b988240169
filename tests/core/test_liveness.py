"""The judgement over one connection, with literal times (reliability notes, 1.3, 1.5)."""

import math
import random
from dataclasses import replace

import pytest

from meshvisor.shared.core.liveness import Health, Heartbeat, Liveness

BEAT = Heartbeat(interval=1.0, timeout=4.0)
PATIENT = Heartbeat(interval=1.0, timeout=8.0)
"""So long a time-out that φ suspects first: at 2 s + 4.3 standard deviations of 0.25 s, two probes before 8 s."""


def run(liveness: Liveness, until: float, now: float = 0.0) -> list[tuple[float, Health]]:
    """Tick at each deadline up to ``until``; return when the health changed, and to what."""
    changes: list[tuple[float, Health]] = []
    while liveness.deadline() <= until and liveness.health is not Health.LOST:
        before = liveness.health
        now = max(now, liveness.deadline())
        if liveness.tick(now) is not before:
            changes.append((now, liveness.health))
    return changes


def warm(liveness: Liveness, beats: int, rtt: float = 0.0) -> float:
    """Answer ``beats`` pings, and return when the last answer was heard."""
    now = 0.0
    for _ in range(beats):
        now = liveness.deadline()
        liveness.tick(now)
        nonce = liveness.ping_to_send()
        assert nonce is not None
        now += rtt
        liveness.heard(now)
        assert liveness.ponged(nonce, now) == pytest.approx(rtt)
    return now


def suspect(liveness: Liveness) -> None:
    """Let the peer be silent until it is suspected."""
    for _ in range(20):
        if liveness.tick(liveness.deadline()) is Health.SUSPECT:
            return
    raise AssertionError("never suspected")


def test_an_idle_connection_is_asked_once_an_interval() -> None:
    liveness = Liveness(BEAT, 0.0, first_rtt=1.0)
    assert warm(liveness, 10, rtt=1.0) == pytest.approx(1.0 + 9 * 1.9 + 1.0)
    assert liveness.pings == 10


def test_a_quick_path_is_asked_more_often_and_a_quicker_configuration_is_kept() -> None:
    liveness = Liveness(BEAT, 0.0, first_rtt=0.001)
    assert warm(liveness, 9) == pytest.approx(0.25 * 9)
    liveness = Liveness(BEAT, 0.0, first_rtt=0.5)
    assert liveness.deadline() == pytest.approx(0.6)
    liveness = Liveness(replace(BEAT, interval=0.125), 0.0, first_rtt=0.001)
    assert warm(liveness, 8) == pytest.approx(1.0)


def test_pings_are_spread_by_a_tenth_either_way() -> None:
    dice = random.Random(1)
    liveness = Liveness(replace(BEAT, interval=0.25), 0.0, dice)
    gaps = []
    for _ in range(200):
        before = liveness.deadline()
        warm_once(liveness)
        gaps.append(liveness.deadline() - before)
    assert min(gaps) >= 0.225 - 1e-9
    assert max(gaps) <= 0.275 + 1e-9
    assert max(gaps) - min(gaps) > 0.0375


def warm_once(liveness: Liveness) -> None:
    now = liveness.deadline()
    liveness.tick(now)
    nonce = liveness.ping_to_send()
    assert nonce is not None
    liveness.heard(now)
    liveness.ponged(nonce, now)


def test_traffic_makes_asking_needless_and_never_suspicious() -> None:
    """A stream that lasts for minutes carries no ping, and no ping that is missing is held against the peer."""
    liveness = Liveness(BEAT, 0.0)
    for step in range(1, 60_000):
        now = step * 0.005
        liveness.heard(now)
        assert liveness.deadline() > now or liveness.tick(now) is Health.HEALTHY
    assert liveness.pings == 0


def test_what_comes_within_half_an_interval_teaches_nothing() -> None:
    fresh, busy, slow = (Liveness(BEAT, 0.0) for _ in range(3))
    busy.heard(0.49)
    slow.heard(0.5)
    assert busy.phi(3.0) == fresh.phi(3.0) > slow.phi(3.0)


def test_whoever_hears_something_is_awake_though_it_was_never_due_to_look() -> None:
    """A stream needs no ticks, and their absence does not make the observer distrust itself."""
    liveness = Liveness(BEAT, 0.0)
    for second in range(1, 11):
        liveness.heard(float(second))
    assert run(liveness, math.inf, 10.0)[-1] == (14.0, Health.LOST)


def test_a_burst_does_not_make_the_silence_after_it_look_long() -> None:
    """The detector learns at the pace of the interval: after 10,000 frames a second, one second is not silence."""
    liveness = Liveness(BEAT, 0.0)
    for step in range(1, 100_000):
        liveness.heard(step * 0.0001)
    assert liveness.phi(11.0) < 1.0


@pytest.mark.parametrize("beats", [0, 3, 100])
@pytest.mark.parametrize("rtt", [0.0, 0.5])
def test_silence_is_found_within_the_timeout(beats: int, rtt: float) -> None:
    """Before φ is warm at the time-out, and once it is, earlier; never after it."""
    liveness = Liveness(BEAT, 0.0)
    heard = warm(liveness, beats, rtt)
    changes = run(liveness, math.inf, heard)
    at, last = changes[-1]
    assert last is Health.LOST
    assert at - heard <= 4.0 + 1e-9
    assert at - heard > 2.0


def test_no_verdict_without_a_probe_that_had_its_whole_time() -> None:
    liveness = Liveness(BEAT, 0.0)
    pings = liveness.pings
    changes = run(liveness, math.inf)
    assert changes == [(3.0, Health.PROBING), (4.0, Health.LOST)]
    assert liveness.pings > pings


def test_anything_heard_ends_probing_and_suspicion() -> None:
    liveness = Liveness(PATIENT, 0.0)
    heard = warm(liveness, 50)
    suspect(liveness)
    at = liveness.deadline() - 0.01
    assert at - heard < 6.5
    assert liveness.heard(at)
    assert liveness.health is Health.HEALTHY
    assert not liveness.heard(at)


def test_lost_is_for_good() -> None:
    liveness = Liveness(BEAT, 0.0)
    run(liveness, math.inf)
    assert liveness.tick(100.0) is Health.LOST


def test_a_pong_that_answers_no_question_of_ours_measures_nothing() -> None:
    """Nor can the peer forge the round trip by answering early, twice, or a ping before one that it has answered."""
    liveness = Liveness(BEAT, 0.0)
    assert liveness.ponged(1, 0.5) is None
    liveness.tick(1.0)
    first = liveness.ping_to_send()
    liveness.heard(1.1)
    liveness.ask(1.2)
    second = liveness.ping_to_send()
    assert (first, second) == (1, 2)
    assert liveness.ponged(2, 1.3) == pytest.approx(0.1)
    assert liveness.ponged(1, 1.3) is None
    assert liveness.ponged(2, 1.4) is None
    assert liveness.rtt.srtt == pytest.approx(0.1)
    assert liveness.acked_at == 1.3


def test_an_answer_that_takes_longer_than_an_interval_is_measured_all_the_same() -> None:
    """Each ping is told apart by its number, so one that was sent meanwhile makes no answer ambiguous (Karn)."""
    liveness = Liveness(BEAT, 0.0)
    for now in (1.0, 2.0, 3.0):
        liveness.heard(now)
        liveness.ask(now)
    assert liveness.ponged(1, 3.5) == 2.5
    assert liveness.ponged(2, 4.5) == 2.5
    assert liveness.ponged(3, 5.5) == 2.5


def test_of_a_peer_that_answers_no_ping_the_latest_64_are_remembered() -> None:
    liveness = Liveness(BEAT, 0.0)
    for now in range(100):
        liveness.heard(now)
        liveness.ask(now)
    assert liveness.ponged(36, 100.0) is None
    assert liveness.ponged(37, 100.0) == 64.0


def test_twenty_healthy_peers_are_not_suspected_by_an_observer_that_was_stopped_for_ten_seconds() -> None:
    """1.3, 1.5: the timers of all of them fire at once, long overdue, before anything that arrived is read."""
    dice = random.Random(7)
    peers = [Liveness(BEAT, 0.0, dice) for _ in range(20)]
    for peer in peers:
        for _ in range(30):
            warm_once(peer)
    woke = max(peer.deadline() for peer in peers) + 10.0
    for peer in peers:
        assert peer.tick(woke) is Health.HEALTHY
        nonce = peer.ping_to_send()
        assert nonce is not None
        assert run(peer, woke + 0.5, woke) == []
        # The answer takes longer than usual: everybody has much to catch up with.
        peer.heard(woke + 0.5)
        assert peer.ponged(nonce, woke + 0.5) is None  # it was asked anew meanwhile, and that is what measures
        assert peer.ponged(peer.pings, woke + 0.5) is not None
        assert run(peer, woke + 1.0, woke + 0.5) == []


def test_an_answer_that_waited_for_an_observer_who_stood_still_measures_nothing() -> None:
    liveness = Liveness(BEAT, 0.0)
    warm(liveness, 30)
    asked = liveness.deadline()
    liveness.tick(asked)
    unread = liveness.pings
    liveness.tick(asked + 10.0)
    assert liveness.ponged(unread, asked + 10.0) is None


def test_a_peer_that_died_while_the_observer_was_stopped_is_still_found() -> None:
    liveness = Liveness(BEAT, 0.0)
    heard = warm(liveness, 30)
    woke = heard + 10.0
    liveness.tick(woke)
    changes = run(liveness, math.inf, woke)
    assert changes[-1][1] is Health.LOST
    assert changes[-1][0] - woke <= 5.0


def test_questions_from_outside_are_no_pause_of_the_observer_and_put_no_verdict_off() -> None:
    """The network of this machine changes again and again, and the peer is asked each time."""
    liveness = Liveness(PATIENT, 0.0)
    for now in (0.9, 1.8, 2.7, 3.6):
        liveness.ask(now)
    assert run(liveness, math.inf, 3.6)[-1] == (8.0, Health.LOST)


def test_an_observer_whose_first_deed_on_waking_is_to_ask_condemns_nobody() -> None:
    liveness = Liveness(BEAT, 0.0)
    woke = warm(liveness, 30) + 10.0
    liveness.ask(woke)
    assert liveness.tick(woke) is Health.HEALTHY
    assert run(liveness, woke + 0.5, woke) == []


def test_an_observer_that_stopped_in_the_middle_of_a_probe_condemns_nobody() -> None:
    liveness = Liveness(PATIENT, 0.0)
    warm(liveness, 30)
    suspect(liveness)
    woke = liveness.deadline() + 10.0
    assert liveness.tick(woke) is Health.HEALTHY


@pytest.mark.parametrize("seed", range(3))
def test_an_hour_of_heavy_tailed_answers_is_never_suspicious(seed: int) -> None:
    """Pareto: half of the answers take more than 14 ms, one in a thousand more than a second, none more than 1.9 s."""
    rng = random.Random(seed)
    liveness = Liveness(Heartbeat(interval=0.75, timeout=3.0), 0.0, rng)
    now = 0.0
    arriving: list[tuple[float, int]] = []
    while now < 3600.0:
        now = min([liveness.deadline(), *(at for at, _ in arriving)])
        for at, nonce in [item for item in arriving if item[0] <= now]:
            arriving.remove((at, nonce))
            liveness.heard(now)
            liveness.ponged(nonce, now)
        assert liveness.tick(now) in (Health.HEALTHY, Health.PROBING)
        nonce_due = liveness.ping_to_send()
        if nonce_due is not None:
            # In order, as a stream delivers.
            delay = min(1.9, 0.01 * rng.paretovariate(1.5))
            arriving.append((max([now + delay, *(at for at, _ in arriving)]), nonce_due))
    assert 13_000 < liveness.pings < 15_000


def test_ticking_early_or_twice_changes_nothing() -> None:
    liveness, other = Liveness(BEAT, 0.0), Liveness(BEAT, 0.0)
    for step in range(1, 300):
        other.tick(step * 0.01)
        other.tick(step * 0.01)
        if step % 100 == 0:
            liveness.tick(step * 0.01)
        assert (other.health, other.pings, other.deadline()) == (liveness.health, liveness.pings, liveness.deadline())


@pytest.mark.parametrize(
    ("interval", "timeout", "grace"), [(0.02, 0.05, None), (0.05, 0.3, 0.5), (0.2, 0.27, 0.5), (10.0, 11.0, 0.0)]
)
def test_an_idle_healthy_peer_is_never_lost_whatever_the_settings(
    interval: float, timeout: float, grace: float | None
) -> None:
    """Also with an interval below 250 ms, a time-out below the grace, and one close to the interval."""
    liveness = Liveness(Heartbeat(interval, timeout, grace=grace), 0.0, random.Random(0))
    for _ in range(1000):
        warm_once_within(liveness, interval / 100)
    assert liveness.health is Health.HEALTHY


def warm_once_within(liveness: Liveness, rtt: float) -> None:
    now = liveness.deadline()
    assert liveness.tick(now) in (Health.HEALTHY, Health.PROBING)
    nonce = liveness.ping_to_send()
    assert nonce is not None
    liveness.heard(now + rtt)
    liveness.ponged(nonce, now + rtt)


def test_the_handshake_is_the_first_sample_of_the_round_trip() -> None:
    assert Liveness(BEAT, 0.0, first_rtt=0.25).rtt.srtt == 0.25
    assert Liveness(BEAT, 0.0).rtt.srtt is None
