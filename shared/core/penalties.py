"""Endpoints that failed, and how long they are left alone.

``Penalties`` is a table private to one process; the same rules run on a table that many processes share. Those who
dial see either as a ``PenaltyTable``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

MAX_PENALTY = 300.0
"""The longest penalty, in seconds."""

MAX_KEY = 255
"""Bytes of the longest key that a shared table holds; a private one holds any."""

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


def worst(*severities: FailureSeverity) -> FailureSeverity:
    """Return the highest of ``severities``."""
    return max(severities, key=lambda severity: severity.rank)


class PenaltyTable(Protocol):
    """Which endpoints are barred, as those who dial see it. Keys are those of ``Endpoint``; ``now`` is the loop's time.

    ``spread`` is for how many seconds those who waited for the end of one penalty should spread their dials: many
    processes see a shared one end at the same instant.
    """

    @property
    def spread(self) -> float: ...

    def fail(
        self,
        key: str,
        now: float,
        severity: FailureSeverity = ...,
        *,
        known: float = ...,
        personal: bool = ...,
    ) -> float:
        """Take note that ``key`` failed; return how long it is barred from now on, in seconds.

        ``known`` is until when it was barred as the attempt began: if that is longer by now, somebody else has told
        of the same trouble meanwhile, and it counts once. What is ``personal`` is between the endpoint and us, and
        says nothing to others who dial it.
        """

    def bar(self, key: str, seconds: float, now: float, *, personal: bool = ...) -> None:
        """Bar ``key`` for at least ``seconds`` (as it asked for), without counting a strike."""

    def clear(self, key: str) -> None:
        """Forget everything about ``key``: it answered, and the answer was authentic."""

    def forgive(self, key: str) -> None:
        """Forget what ``key`` did, but not what it asked for: there is another incarnation behind it now."""

    def remaining(self, key: str, now: float) -> float:
        """Return for how many seconds ``key`` is still barred (0.0: not at all)."""

    def firm(self, key: str, now: float) -> float:
        """Return for how many seconds ``key`` must not be dialled even if little else is left.

        That is as long as it asked for, or all of a fatal penalty.
        """

    def subscribe(self, freed: Callable[[str], None]) -> Callable[[], None]:
        """Call ``freed`` with each key that is barred no longer before its time, by whomever; return what ends that."""


@dataclass(slots=True)
class _Entry:
    until: float
    strikes: int = 0
    severity: FailureSeverity = FailureSeverity.SOFT  # while it is barred
    asked_until: float = 0.0  # the part of ``until`` that the endpoint asked for


class Penalties:
    """A private table; the n-th failure in a row bars an endpoint for ``n * duration`` seconds.

    Sticky: while an endpoint is barred, its penalty never ends earlier than it was first said to and never becomes
    less severe, except by ``clear`` (an authenticated success) and ``forgive`` (a new incarnation behind it).
    """

    spread = 0.0

    def __init__(self, duration: float) -> None:
        self._duration = duration
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def fail(
        self,
        key: str,
        now: float,
        severity: FailureSeverity = FailureSeverity.HARD,
        *,
        known: float = math.inf,
        personal: bool = False,
    ) -> float:
        """Take note that ``key`` failed; return how long it is barred from now on, in seconds."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._add(key, now)
        elif entry.until < now:
            # One strike is forgiven for each duration without a failure.
            entry.strikes = max(0, entry.strikes - int((now - entry.until) / self._duration))
        seconds = 0.0
        if not entry.strikes or entry.until <= max(now, known):
            entry.strikes += 1
            seconds = min(MAX_PENALTY, self._duration * entry.strikes)
        self._extend(entry, seconds, severity, now)
        return entry.until - now

    def _add(self, key: str, now: float) -> _Entry:
        """Make an entry for ``key``; a full table loses the one that ends soonest."""
        if len(self._entries) >= _CAPACITY:
            del self._entries[min(self._entries, key=lambda name: self._entries[name].until)]
        entry = self._entries[key] = _Entry(until=now)
        return entry

    def _extend(self, entry: _Entry, seconds: float, severity: FailureSeverity, now: float) -> None:
        """Bar for ``seconds`` from ``now``, or longer; what has expired lends no severity."""
        entry.severity = worst(entry.severity, severity) if entry.until > now else severity
        entry.until = max(entry.until, now + seconds)

    def bar(self, key: str, seconds: float, now: float, *, personal: bool = False) -> None:
        """Bar ``key`` for at least ``seconds`` (as it asked us to), without counting a strike."""
        entry = self._entries.get(key) or self._add(key, now)
        seconds = min(MAX_PENALTY, seconds)
        entry.asked_until = max(entry.asked_until, now + seconds)
        self._extend(entry, seconds, FailureSeverity.SOFT, now)

    def clear(self, key: str) -> None:
        """Forget everything about ``key``."""
        self._entries.pop(key, None)

    def forgive(self, key: str) -> None:
        """Forget what ``key`` did, but not what it asked for: there is another incarnation behind it now."""
        entry = self._entries.pop(key, None)
        if entry is not None and entry.asked_until:
            self._entries[key] = _Entry(until=entry.asked_until, asked_until=entry.asked_until)

    def remaining(self, key: str, now: float) -> float:
        """Return for how many seconds ``key`` is still barred (0.0: not at all)."""
        entry = self._entries.get(key)
        return 0.0 if entry is None else max(0.0, entry.until - now)

    def firm(self, key: str, now: float) -> float:
        """Return for how many seconds ``key`` is still barred because it asked for that, or because it is fatal."""
        entry = self._entries.get(key)
        if entry is None:
            return 0.0
        return max(0.0, (entry.until if entry.severity is FailureSeverity.FATAL else entry.asked_until) - now)

    def subscribe(self, freed: Callable[[str], None]) -> Callable[[], None]:
        """Nobody else can free an endpoint of a private table, so nobody is ever told."""
        return lambda: None
