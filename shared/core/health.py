"""Am I the sick one? What an observer asks itself before it suspects anybody else.

A process that was stopped, starved or stuck finds on waking that everybody was silent: they were not, it was deaf.
Most false suspicions are of this kind (Dadgar et al., "Lifeguard: Local Health Awareness for More Accurate Failure
Detection", 2017). Two remedies: a veto after a pause of one's own (Cassandra's failure detector has it), and a score
that stretches one's timeouts while pauses keep coming (Lifeguard, as in memberlist).
"""

from __future__ import annotations

import math

_WORST = 7


class HealthScore:
    """Lifeguard's local health: 0 (well) to 7 (very sick). Timeouts are multiplied by the score plus one."""

    def __init__(self) -> None:
        self.value = 0

    def apply(self, delta: int) -> None:
        """Worsen the score by ``delta``, or better it by a negative one; it stays within 0..7."""
        self.value = min(_WORST, max(0, self.value + delta))

    def scale(self, timeout: float) -> float:
        """Return ``timeout`` as long as an observer of this health must make it."""
        return timeout * (self.value + 1)


class ObserverPause:
    """The veto of an observer that stood still: for a while after a pause of its own it may suspect nobody.

    The owner calls ``tick`` from a timer every ``interval`` seconds and asks ``is_trusted`` before it acts on any
    silence. A gap between two ticks of more than ``interval + limit`` is a pause. It ends with the tick that finds it;
    for ``grace`` seconds from then on the observer is not trusted, so that what had piled up can be read and answers
    can come. Times are monotonic seconds.

    Each pause also makes ``score`` worse by one, each ``interval`` without a pause better by one. The owner may apply
    its own findings to it (a failed probe, +1; an answered one, -1) and scales its timeouts by it.

    Args:
        interval: Seconds between two ticks, as the timer is set.
        limit: How many seconds a tick may be late. Choose it below the time in which a silent peer is suspected.
        grace: Seconds without trust after a pause. Choose at least a heartbeat's interval and a round trip.

    Raises:
        ValueError: If ``interval`` is not above 0, ``limit`` or ``grace`` is negative, or one is not finite.
    """

    def __init__(self, interval: float, limit: float, grace: float) -> None:
        if not 0 < interval < math.inf:
            raise ValueError(f"interval must be a finite number of seconds above 0, not {interval}")
        for name, value in (("limit", limit), ("grace", grace)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number of seconds, 0 or more, not {value}")
        self.score = HealthScore()
        self._interval = interval
        self._longest = interval + limit
        self._grace = grace
        self._ticked_at: float | None = None
        self._woke_at = -math.inf
        self._punctual = 0.0  # seconds without a pause that have not bettered the score yet

    def tick(self, now: float) -> None:
        """Say that the observer runs at ``now``; a tick too many does no harm.

        Raises:
            ValueError: If ``now`` is earlier than the previous tick.
        """
        gap = 0.0 if self._ticked_at is None else now - self._ticked_at
        if not gap >= 0.0:
            raise ValueError(f"a tick at {now} cannot follow the one at {self._ticked_at}: use one monotonic clock")
        self._ticked_at = now
        if gap > self._longest:
            self._woke_at = now
            self._punctual = 0.0
            self.score.apply(+1)
            return
        # By time and not by ticks, so that an owner that ticks more often does not recover faster.
        intervals, self._punctual = divmod(self._punctual + gap, self._interval)
        self.score.apply(-int(intervals))

    def is_trusted(self, now: float) -> bool:
        """Return whether the observer may suspect anybody at ``now``.

        It may not before its first tick, nor while a tick is overdue: after a pause the loop may well run the timer
        that asks this before the one that ticks.
        """
        if self._ticked_at is None or now - self._ticked_at > self._longest:
            return False
        return now >= self._woke_at + self._grace
