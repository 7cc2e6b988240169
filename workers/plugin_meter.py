"""How much a plugin may say. Pure: ``now`` comes in, a verdict goes out."""

from __future__ import annotations

BURST = 2.0
"""Seconds' worth of ``rate`` that may come at once."""


class Meter:
    """A token bucket for what comes from one plugin: so many messages a second, and as many more as it was called.

    What is held back by the link counts when it comes; what was asked for is paid for by whoever asked.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = rate * BURST
        self._left = self._most
        self._owed = 0  # replies
        self._at = now

    def allow(self) -> None:
        """Expect one more: a call was made."""
        self._owed += 1

    def take(self, count: int, now: float) -> bool:
        """Count what has come; return whether that was more than there may be."""
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        paid = min(self._owed, count)
        self._owed -= paid
        self._left -= count - paid
        return self._left < 0
