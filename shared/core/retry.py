"""How long to wait before the next try, and how often to try at all."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol


class Dice(Protocol):
    """A source of randomness; ``random.Random`` is one."""

    def random(self) -> float:
        """Return a number in [0, 1)."""


class Backoff:
    """Exponential back-off with full jitter: the n-th wait is drawn from [0, min(cap, initial * 2**(n-1))] seconds.

    Full jitter is what keeps many clients of one dead server apart; see "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015.
    """

    def __init__(self, initial: float, cap: float) -> None:
        self.tries = 0
        self._initial = initial
        self._cap = cap

    def next(self, rng: Dice) -> float:
        """Return the next wait in seconds."""
        ceiling = min(self._cap, self._initial * 2.0 ** min(self.tries, 60))
        self.tries += 1
        return rng.random() * ceiling

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self.tries = 0


_TOKEN = 10**9
_SLOTS = 100


class RetryBudget:
    """How many retries a process may make, as a share of what it tries anyway: the rules of Finagle's ``RetryBudget``.

    Every first try deposits ``ratio`` tokens, every retry withdraws one; what was deposited or withdrawn is forgotten
    after ``ttl`` seconds. ``min_per_second * ttl`` tokens are always there on top, so that a quiet process can retry.
    Of the events that are remembered, retries <= reserve + ratio * first tries. A ratio of 0 with a minimum of 0
    forbids every retry.

    Tokens are counted in whole billionths, so that the share comes out for every ratio and nothing drifts. Events
    within a hundredth of ``ttl`` are kept as one, with the time of the first: the memory is bounded, and an event may
    be forgotten by this much too early, never too late.

    Args:
        ttl: How long deposits and withdrawals count, 1 to 60 seconds.
        min_per_second: The retries per second that are always allowed.
        ratio: Retries per first try, 0 to 1000.

    Raises:
        ValueError: If an argument is out of its bounds (they are Finagle's).
    """

    def __init__(self, ttl: float = 10.0, min_per_second: float = 10.0, ratio: float = 0.2) -> None:
        if not 1 <= ttl <= 60:
            raise ValueError(f"ttl must be from 1 to 60 seconds, not {ttl}")
        if not 0 <= min_per_second < math.inf:
            raise ValueError(f"min_per_second must be a finite number, 0 or more, not {min_per_second}")
        if not 0 <= ratio <= 1000:
            raise ValueError(f"ratio must be from 0 to 1000, not {ratio}")
        self._ttl = ttl
        self._reserve = round(min_per_second * ttl * _TOKEN)
        self._deposit = round(ratio * _TOKEN)
        self._slots: deque[_Slot] = deque()
        self._sum = 0

    def deposit(self, now: float) -> None:
        """Count a first try at ``now`` (monotonic seconds)."""
        self._add(self._deposit, now)

    def try_withdraw(self, now: float) -> bool:
        """Take a token for a retry at ``now`` and return True, or return False: there is none, do not retry now."""
        if self._tokens(now) < _TOKEN:
            return False
        self._add(-_TOKEN, now)
        return True

    def balance(self, now: float) -> float:
        """Return the tokens that are left at ``now``, 0.0 or more, with fractions."""
        return max(0, self._tokens(now)) / _TOKEN

    def _tokens(self, now: float) -> int:
        # Below 0 when deposits have expired that were spent late: the retries they paid for still count.
        self._forget(now)
        return self._reserve + self._sum

    def _add(self, amount: int, now: float) -> None:
        self._forget(now)
        if not self._slots or now >= self._slots[-1].since + self._ttl / _SLOTS:
            self._slots.append(_Slot(now, 0))
        self._slots[-1].amount += amount
        self._sum += amount

    def _forget(self, now: float) -> None:
        while self._slots and now >= self._slots[0].since + self._ttl:
            self._sum -= self._slots.popleft().amount


@dataclass(slots=True)
class _Slot:
    since: float
    amount: int


_MINUTE = 60.0
_REMEMBERED_ATTEMPTS = 1024


class EndpointDialTracker:
    """When one endpoint may be dialled again.

    A failed dial bars the endpoint for a time, and at most ``max_per_minute`` attempts may begin within any 60 s. Both
    delay only an endpoint whose last dial failed: one that answers is never held up. Times are monotonic seconds.

    Args:
        max_per_minute: The limit; 0 or less means none.
    """

    def __init__(self, max_per_minute: int = 30) -> None:
        self._limit = max_per_minute
        self._attempts: deque[float] = deque(maxlen=max(max_per_minute, _REMEMBERED_ATTEMPTS))
        self._barred_until: float | None = None  # None: the last dial did not fail

    def may_dial(self, now: float) -> bool:
        """Return whether the endpoint may be dialled at ``now``."""
        return self.delay(now) == 0.0

    def delay(self, now: float) -> float:
        """Return for how many seconds from ``now`` on the endpoint must be left alone; 0.0: it may be dialled."""
        if self._barred_until is None:
            return 0.0
        free_at = self._barred_until
        if 0 < self._limit <= self.attempts(now):
            free_at = max(free_at, self._attempts[-self._limit] + _MINUTE)
        return max(0.0, free_at - now)

    def record_attempt(self, now: float) -> None:
        """Count a dial that begins at ``now``."""
        self._attempts.append(now)

    def record_failure(self, now: float, duration: float) -> None:
        """Bar the endpoint, whose dial failed at ``now``, for ``duration`` seconds; an earlier bar is never shortened.

        Raises:
            ValueError: If ``duration`` is negative or not finite.
        """
        if not 0 <= duration < math.inf:
            raise ValueError(f"duration must be a finite number of seconds, 0 or more, not {duration}")
        until = now + duration
        self._barred_until = until if self._barred_until is None else max(self._barred_until, until)

    def record_success(self) -> None:
        """Lift every delay: the endpoint answered, and the answer was authentic."""
        self._barred_until = None

    def attempts(self, now: float) -> int:
        """Return how many attempts began within the last 60 s (1024, or the limit if higher, are remembered)."""
        while self._attempts and now >= self._attempts[0] + _MINUTE:
            self._attempts.popleft()
        return len(self._attempts)
