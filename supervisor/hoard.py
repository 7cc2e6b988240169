"""Descriptors kept for the day on which there are none left.

The process may have so many descriptors and no more. When a start fails for want of them, these few are given up: logs
are then written again, and clients of the control socket can still be let in. That matters: libzmq 4.3.5 aborts the
whole process when there is no descriptor for a client that connects (``ipc_listener.cpp``, ``accept``). Nothing is
started again before they are all back, or the first attempt would use them up.
"""

from __future__ import annotations

import os

_COUNT = 16


class Hoard:
    """Holds ``count`` descriptors until ``spend`` or ``close``; the lower their numbers the better: make it early."""

    def __init__(self, count: int = _COUNT) -> None:
        self._count = count
        self._held: list[int] = []
        self._is_closed = False
        self.restock()

    def restock(self) -> bool:
        """Take what is missing; return whether it is complete now. What is not to be had is left to others."""
        try:
            while len(self._held) < self._count and not self._is_closed:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self.spend()
        return self._is_closed or len(self._held) == self._count

    def spend(self) -> None:
        """Give them up, to whoever needs one."""
        while self._held:
            os.close(self._held.pop())

    def close(self) -> None:
        """Hold none any more."""
        self._is_closed = True
        self.spend()
