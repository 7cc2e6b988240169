"""How much a plugin may say. Pure: ``now`` comes in, a verdict goes out."""

from __future__ import annotations

BURST = 2.0
"""Seconds' worth of ``rate`` that may come at once."""

PIECE = 16 * 1024
"""Bytes that count as one message more: what is long costs its receiver more."""

MOST_OWED = 1024
"""Calls that one link carries at a time (``calls.MAX_IN_FLIGHT``)."""


class Meter:
    """A token bucket for what comes from one plugin: so many messages a second, and replies to what it was asked.

    What is held back by the link counts when it comes. A reply is paid for by whoever asked, however long it is.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = rate * BURST
        self._left = self._most
        self._owed = 0  # replies
        self._at = now

    def allow(self) -> None:
        """Expect a reply: a call was made. One that is over without a reply makes no credit for ever."""
        self._owed = min(self._owed + 1, MOST_OWED)

    def take(self, count: int, size: int, now: float) -> bool:
        """Count what has come, ``size`` bytes that are no replies; return whether it was more than there may be."""
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        paid = min(self._owed, count)
        self._owed -= paid
        self._left -= count - paid + size // PIECE
        return self._left < 0
