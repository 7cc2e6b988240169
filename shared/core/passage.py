"""Does what is written to the data channel arrive?

The two channels of a connection can fail apart: a data channel that swallows everything while the control channel
goes on answering pings would look alive for ever. So a PONG tells how many bytes of the data channel had arrived, and
whoever has messages under way compares. Arrival is what counts, not acknowledgement: a consumer may take its time.
"""

from __future__ import annotations


class Passage:
    """Watches the data channel of one connection. Times are monotonic seconds, ``timeout`` and ``interval`` seconds."""

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._asked: int | None = None  # bytes that had been written when the latest ping went out
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

    def asked(self, written: int) -> None:
        """A ping goes out, and ``written`` bytes were written to the data channel before."""
        self._asked = written

    def answered(self, arrived: int, now: float) -> None:
        """The pong says that ``arrived`` bytes had arrived; judge."""
        if self._asked is None or arrived >= self._asked or arrived > self._arrived:
            self._moved_at = now
        elif now - self._moved_at >= self._timeout:
            self.is_stuck = True
        self._arrived = max(arrived, self._arrived)
