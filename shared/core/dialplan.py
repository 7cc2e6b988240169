"""Which endpoint is tried when, if there are several: Happy Eyeballs (RFC 8305) as a plan.

The plan decides and nobody waits in it: ask ``start`` for what to begin now, tell it what ``failed``, and ask again
at ``deadline``. Attempts begin in order; the next one begins when the previous one failed (at once: RFC 8305 allows
a pause of 10 ms here, which would buy nothing within one machine) or has taken ``delay``, and never more than
``max_concurrent`` run at a time (HE1-HE3 of the reliability notes).
"""

from __future__ import annotations


class DialPlan:
    """A plan for ``count`` candidates, named by their index."""

    def __init__(self, count: int, *, delay: float, max_concurrent: int) -> None:
        self._count = count
        self._delay = delay
        self._max_concurrent = max_concurrent
        self._next = 0
        self._running: set[int] = set()
        self._begin_at = 0.0

    def start(self, now: float) -> list[int]:
        """Return the candidates whose attempts begin now."""
        begun = []
        while self._may_begin and (now >= self._begin_at or not self._running):
            begun.append(self._next)
            self._running.add(self._next)
            self._next += 1
            self._begin_at = now + self._delay
        return begun

    def failed(self, candidate: int, now: float) -> None:
        """The attempt of ``candidate`` failed; the next one need not wait any longer."""
        self._running.discard(candidate)
        self._begin_at = min(self._begin_at, now)

    def deadline(self) -> float | None:
        """Return when ``start`` has something to begin, if nothing fails before."""
        return self._begin_at if self._may_begin else None

    @property
    def is_exhausted(self) -> bool:
        """Whether every candidate was tried and failed."""
        return not self._running and self._next >= self._count

    @property
    def _may_begin(self) -> bool:
        return self._next < self._count and len(self._running) < self._max_concurrent
