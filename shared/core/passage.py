"""Does what is written to the data channel arrive?

The two channels of a connection can fail apart: a data channel that swallows everything while the control channel
goes on answering pings would look alive for ever. So a PONG tells how many bytes of the data channel had arrived, and
whoever has messages under way compares. Arrival is what counts, not acknowledgement: a consumer may take its time.
"""

from __future__ import annotations

from .liveness import MAX_UNANSWERED

_RECOVERY = 4.0
"""Round trips that a stream may stand still for, beside the time-out: TCP waits for more than one of them before it
sends a lost segment again, and for twice as long if that is lost as well, while all that came after it waits too."""


class Passage:
    """Watches the data channel of one connection. Times are monotonic seconds, ``timeout`` and ``interval`` seconds."""

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._asked: dict[int, int] = {}  # bytes that had been written when a ping went out, by its nonce
        self._arrived = 0
        self._moved_at = now  # when something was last known to get through
        self.ask_at = now + interval
        self.is_stuck = False

    def moved(self, now: float) -> None:
        """An acknowledgement came, or there is nothing under way: no reason to worry."""
        self._moved_at = now
        self.ask_at = now + self._interval

    def ask_later(self, now: float) -> None:
        """A ping was asked for; the next one is due in an interval."""
        self.ask_at = now + self._interval

    def asked(self, nonce: int, written: int) -> None:
        """A ping goes out, and ``written`` bytes were written to the data channel before."""
        self._asked[nonce] = written
        if len(self._asked) > MAX_UNANSWERED:
            del self._asked[next(iter(self._asked))]

    def answered(self, nonce: int, arrived: int, now: float, rtt: float = 0.0) -> None:
        """The pong, which took ``rtt`` seconds, says that ``arrived`` bytes had arrived; judge."""
        written = self._asked.get(nonce, 0)
        for earlier in [number for number in self._asked if number <= nonce]:
            del self._asked[earlier]
        if arrived >= written or arrived > self._arrived:
            self._moved_at = now
        elif now - self._moved_at >= self._timeout + _RECOVERY * rtt:
            self.is_stuck = True
        self._arrived = max(arrived, self._arrived)
