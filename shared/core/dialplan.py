"""Which endpoint is tried when, if there are several: Happy Eyeballs (RFC 8305) as a plan.

The plan decides and nobody waits in it: ask ``start`` for what to begin now, tell it what ``failed``, and ask again
at ``deadline``. Attempts begin in order; the next one begins when the previous one failed (at once: RFC 8305 allows
a pause of 10 ms here, which would buy nothing within one machine) or has had its ``delay``, and never more than
``max_concurrent`` run at a time (HE1-HE3 of the reliability notes).
"""

from __future__ import annotations

from collections.abc import Sequence


class DialPlan:
    """A plan for ``count`` candidates, named by their index.

    ``delay`` is how long, in seconds, an attempt runs alone before the next begins. ``extra`` may give candidates a
    longer wait than that: the first of a group of less preferred endpoints, say.
    """

    def __init__(self, count: int, *, delay: float, max_concurrent: int, extra: Sequence[float] = ()) -> None:
        self._waits = [delay + wait for wait in extra] if extra else [delay] * count
        self._max_concurrent = max_concurrent
        self._next = 0
        self._running: set[int] = set()
        self._begun_at = 0.0
        self._free_at: float | None = 0.0  # when the previous attempt failed, or there was none

    def start(self, now: float) -> list[int]:
        """Return the candidates whose attempts begin now."""
        begun = []
        while self._may_begin and (self._free_at is not None or now >= self._begun_at + self._waits[self._next]):
            begun.append(self._next)
            self._running.add(self._next)
            self._next += 1
            self._begun_at = now
            self._free_at = None
        return begun

    def failed(self, candidate: int, now: float) -> None:
        """The attempt of ``candidate`` failed; the next one need not wait any longer."""
        self._running.discard(candidate)
        self._free_at = now

    def deadline(self) -> float | None:
        """Return when ``start`` has something to begin, if nothing fails before."""
        if not self._may_begin:
            return None
        return self._begun_at + self._waits[self._next] if self._free_at is None else self._free_at

    @property
    def is_exhausted(self) -> bool:
        """Whether every candidate was tried and failed."""
        return not self._running and self._next >= len(self._waits)

    @property
    def _may_begin(self) -> bool:
        return self._next < len(self._waits) and len(self._running) < self._max_concurrent
