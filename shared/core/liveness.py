"""Is the other end still there? The judgement over one connection, from what was heard of it and when.

Any byte received is life. A connection on which nothing arrives is asked (PING, with a nonce) once per interval;
traffic makes asking needless, so a busy connection carries no pings and is never taken for a dead one. Intervals are
spread by a tenth either way, lest many links ask in step.

    HEALTHY ── φ says it should have been heard, or the time-out comes near ──▶ PROBING (a PING goes out now)
       ▲                                                                           │
       ├──────────────── anything is heard ────────────────┬───────────────────────┤ the probe's time is over
       │                                                   │                       ▼
       └───────────────────────────────────────────────────┴──── SUSPECT (and probing on) ──▶ LOST, at the time-out,
                                                                        or when φ leaves no doubt after two probes

Three clauses keep the innocent alive. The detector learns at the pace of the interval, not of the traffic, so that a
burst does not make the silence after it look long. A verdict needs a probe that had its whole time. And the observer
asks itself first whether it was *it* that stood still (a stopped process, a starved or blocked loop): a timer that
fires much too late condemns nobody, and everybody gets a fresh chance (Cassandra's local pause; Lifeguard's
"am I the slow one?").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .health import ObserverPause
from .phi import PhiAccrualDetector
from .retry import Dice
from .rtt import RttEstimator

_SPREAD = 0.1
_SOON = 0.001
_SHORTEST = 0.25
"""Seconds between two pings below which a quick path makes nobody go; a shorter configured interval is kept."""
_ROUND_TRIPS = 1.2
MAX_UNANSWERED = 64
"""Of how many pings the answer is still expected: on a long way one asks again before the first answer is there."""


class Health(StrEnum):
    """What is thought of the other end."""

    HEALTHY = "healthy"
    PROBING = "probing"  # late, and asked; nothing to worry anybody with
    SUSPECT = "suspect"  # did not answer in time
    LOST = "lost"


_PROBING = frozenset({Health.PROBING, Health.SUSPECT})


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How often an idle connection is asked, and when a silent one is given up. Durations in seconds.

    ``grace`` is how long traffic must have paused before pings begin (at most the interval, which is the default).
    From ``suspect`` on, φ is a reason to probe: 5 is one probe too many in 100,000 intervals. From ``failure`` on, two
    probes without an answer are a verdict, before the time-out. Neither counts before ``samples`` intervals are known.
    """

    interval: float
    timeout: float
    grace: float | None = None
    suspect: float = 5.0
    failure: float = 8.0
    samples: int = 8


class Liveness:
    """Judges one connection. ``tick`` wants to be called at ``deadline``; early or twice, it does nothing."""

    def __init__(
        self, heartbeat: Heartbeat, now: float, dice: Dice | None = None, *, first_rtt: float | None = None
    ) -> None:
        interval = heartbeat.interval
        self.health = Health.HEALTHY
        self.rtt = RttEstimator(granularity=0.001, min_rto=min(0.2, interval), max_rto=60.0)
        self.detector = PhiAccrualDetector(
            threshold=heartbeat.suspect,
            window=1000,
            min_std=interval / 4,
            acceptable_pause=interval,
            first_interval=interval,
        )
        self.sent_at: float | None = None  # the latest ping
        self.acked_at: float | None = None  # the latest pong
        self.pings = 0  # how many were sent: the nonce of the latest
        self._heartbeat = heartbeat
        self._dice = dice or _Level()
        # Every deadline is within one spread interval, so a gap of two is a pause of ours.
        self._observer = ObserverPause(interval * (1 + _SPREAD), limit=interval, grace=interval)
        self._observer.tick(now)
        self._ticked_at = now
        self._heard_at = now
        self._learned_at = now
        self._learned = 0
        self._unanswered: dict[int, float] = {}  # when the pings went out that no pong has answered, by nonce
        self._verdict_at = 0.0  # when a probe has had its time
        self.is_ping_due = False
        if first_rtt is not None:
            self.rtt.sample(first_rtt)
        self._ask_at = now + self._spread_interval()
        self.detector.heartbeat(now)

    def heard(self, now: float) -> bool:
        """Bytes arrived; return whether that ends a suspicion."""
        self._heard_at = now
        self._wake(now)
        if now - self._learned_at >= self._heartbeat.interval / 2:
            self._learned_at = now
            self._learned += 1
            self.detector.heartbeat(now)
        recovered = self.health is Health.SUSPECT
        self.health = Health.HEALTHY
        return recovered

    def ponged(self, nonce: int, now: float) -> float | None:
        """A PONG arrived; return the round trip. It measures nothing if that ping, or a later one, was answered."""
        asked_at = self._unanswered.get(nonce)
        if asked_at is None:
            return None
        for earlier in [number for number in self._unanswered if number <= nonce]:
            del self._unanswered[earlier]
        rtt = max(0.0, now - asked_at)
        self.rtt.sample(rtt)
        self.acked_at = now
        return rtt

    def silence(self, now: float) -> float:
        """Return for how long nothing has been heard."""
        return max(0.0, now - self._heard_at)

    def phi(self, now: float) -> float:
        """Return the suspicion at ``now``."""
        return self.detector.phi(now)

    def deadline(self) -> float:
        """Return when ``tick`` wants to be called."""
        if self.health in _PROBING:
            # In between, only to show that the observer is awake.
            return min(self._verdict_at, self._ticked_at + self._heartbeat.interval)
        return min(max(self._ask_at, self._heard_at + self._quiet), self._probe_at)

    @property
    def _probe_at(self) -> float:
        """When the silence is so long that only a probe's time is left before the time-out."""
        return self._heard_at + max(self._heartbeat.timeout - self._probe_time, self._heartbeat.timeout / 2)

    @property
    def _probe_time(self) -> float:
        rto = self.rtt.rto if self.rtt.srtt is not None else 0.0
        return min(max(self._heartbeat.interval, rto), self._heartbeat.timeout / 2)

    def tick(self, now: float) -> Health:
        """Judge at ``now`` and return what is thought of the other end."""
        self._wake(now)
        if now < self.deadline() or self.health is Health.LOST:
            return self.health
        # What was due only to show that the observer is awake ended here: something is to be done.
        if not self._observer.is_trusted(now):
            self._pardon(now)
        elif self.health in _PROBING:
            self._judge(now)
        elif now >= self._probe_at or self._phi_reaches(self._heartbeat.suspect, now):
            self.health = Health.PROBING
            self._probe(now)
        else:
            self.ask(now)
        return self.health

    def _wake(self, now: float) -> None:
        self._ticked_at = max(now, self._ticked_at)
        self._observer.tick(self._ticked_at)

    def _phi_reaches(self, threshold: float, now: float) -> bool:
        return self._learned >= self._heartbeat.samples and self.detector.phi(now) >= threshold

    def _pardon(self, now: float) -> None:
        """It was we who stood still: what was sent meanwhile has not even been read."""
        self.health = Health.HEALTHY
        self._heard_at = self._learned_at = now
        self._unanswered.clear()
        self.ask(now)

    def _judge(self, now: float) -> None:
        twice = self.health is Health.SUSPECT
        if now >= self._heard_at + self._heartbeat.timeout or (
            twice and self._phi_reaches(self._heartbeat.failure, now)
        ):
            self.health = Health.LOST
        else:
            self.health = Health.SUSPECT
            self._probe(now)

    def _probe(self, now: float) -> None:
        self._verdict_at = min(now + self._probe_time, max(self._heard_at + self._heartbeat.timeout, now + _SOON))
        self.ask(now)

    def ask(self, now: float) -> None:
        """Have a ping sent now."""
        self._wake(now)  # or a deadline that this puts off would look like a pause of ours
        self.is_ping_due = True
        self.pings += 1
        self.sent_at = now
        self._unanswered[self.pings] = now
        self._unanswered.pop(self.pings - MAX_UNANSWERED, None)
        self._ask_at = now + self._spread_interval()

    def _spread_interval(self) -> float:
        return self._pace * (1.0 - _SPREAD + 2 * _SPREAD * self._dice.random())

    @property
    def _quiet(self) -> float:
        """How long nothing must have been heard for a ping to go out."""
        # No longer than the shortest interval, or every other ping would go out exactly one interval after the last.
        shortest = self._pace * (1.0 - _SPREAD)
        return shortest if self._heartbeat.grace is None else min(self._heartbeat.grace, shortest)

    @property
    def _pace(self) -> float:
        """The interval of this path: a quick one is asked more often than configured, down to each quarter second."""
        longest = self._heartbeat.interval
        if self.rtt.srtt is None:
            return longest
        return min(longest, max(_SHORTEST, _ROUND_TRIPS * self.rtt.srtt))

    def ping_to_send(self) -> int | None:
        """Return the nonce of the ping that is to be written, if there is one; it is taken as written."""
        if not self.is_ping_due:
            return None
        self.is_ping_due = False
        return self.pings


class _Level:
    """Dice for those who want no spread."""

    def random(self) -> float:
        return 0.5
