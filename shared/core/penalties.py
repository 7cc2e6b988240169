"""Endpoints that failed, and how long they are left alone.

The table is private to one process here; inside a mesh the same rules will run on a table that all share.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MAX_PENALTY = 300.0
"""The longest penalty, in seconds."""

_CAPACITY = 1024


class FailureSeverity(StrEnum):
    """How bad a failure was: soft < hard < fatal."""

    SOFT = "soft"  # it answered, and declined or asked for a pause
    HARD = "hard"  # it cannot be reached, or broke off
    FATAL = "fatal"  # trying again cannot help

    @property
    def rank(self) -> int:
        """The place in the order: 0, 1, 2."""
        return list(FailureSeverity).index(self)


@dataclass(slots=True)
class _Entry:
    until: float
    strikes: int
    asked_until: float = 0.0  # the part of ``until`` that the endpoint asked for


class Penalties:
    """Penalties by endpoint key; the n-th failure in a row bars an endpoint for ``n * duration`` seconds.

    Sticky: while an endpoint is barred, its penalty never ends earlier than it was first said to, except by
    ``clear`` (an authenticated success, or a new incarnation behind the same endpoint).
    """

    def __init__(self, duration: float) -> None:
        self._duration = duration
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def fail(self, key: str, now: float) -> float:
        """Take note that ``key`` failed; return how long it is barred from now on, in seconds."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._add(key, now)
        elif entry.until < now:
            # One strike is forgiven for each duration without a failure.
            entry.strikes = max(0, entry.strikes - int((now - entry.until) / self._duration))
        entry.strikes += 1
        entry.until = max(entry.until, now + min(MAX_PENALTY, self._duration * entry.strikes))
        return entry.until - now

    def _add(self, key: str, now: float) -> _Entry:
        """Make an entry for ``key``; a full table loses the one that ends soonest."""
        if len(self._entries) >= _CAPACITY:
            del self._entries[min(self._entries, key=lambda name: self._entries[name].until)]
        entry = self._entries[key] = _Entry(until=now, strikes=0)
        return entry

    def bar(self, key: str, seconds: float, now: float) -> None:
        """Bar ``key`` for at least ``seconds`` (as it asked us to), without counting a strike."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._add(key, now)
        entry.asked_until = max(entry.asked_until, now + min(MAX_PENALTY, seconds))
        entry.until = max(entry.until, entry.asked_until)

    def clear(self, key: str) -> None:
        """Forget everything about ``key``."""
        self._entries.pop(key, None)

    def forgive(self, key: str) -> None:
        """Forget what ``key`` did, but not what it asked for: there is another incarnation behind it now."""
        entry = self._entries.pop(key, None)
        if entry is not None and entry.asked_until:
            self._entries[key] = _Entry(until=entry.asked_until, strikes=0, asked_until=entry.asked_until)

    def remaining(self, key: str, now: float) -> float:
        """Return for how many seconds ``key`` is still barred (0.0: not at all)."""
        entry = self._entries.get(key)
        return 0.0 if entry is None else max(0.0, entry.until - now)

    def asked(self, key: str, now: float) -> float:
        """Return for how many seconds ``key`` is still barred because it asked for that."""
        entry = self._entries.get(key)
        return 0.0 if entry is None else max(0.0, entry.asked_until - now)
