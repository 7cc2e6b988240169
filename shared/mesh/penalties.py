"""The penalties that one process sees: those that all share, and beside them what concerns only itself.

A failure goes to the shared table, where everybody who dials the endpoint finds it at the next check. It stays in a
private one if it says nothing to others (an endpoint that does not want *us*), if its key is too long for the shared
table, or if that could not be written at this moment: what we know ourselves is honoured in any case. An endpoint is
barred if either table bars it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Protocol

from ..core.penalties import MAX_KEY, MAX_PENALTY, FailureSeverity, Penalties, PenaltyTable
from ..errors import BlacklistError
from ..memory.entry import Penalty

log = logging.getLogger("meshvisor.blacklist")

_SAME = 0.05
"""Seconds by which one expiry may seem to differ, since the clock and the table are not read at one instant."""

_SHORTEST = 0.001
_SPREAD = 0.1


class Blacklist(Protocol):
    """What is needed of a ``SharedBlacklist``, whose docstrings hold for all of this."""

    def set_penalty(
        self, key: str, severity: FailureSeverity | str, duration: float, *, retry_after: bool = False
    ) -> bool: ...

    def get_penalty(self, key: str) -> Penalty | None: ...

    def clear_penalty(self, key: str) -> bool: ...

    def strike(self, key: str, severity: FailureSeverity | str, duration: float) -> float | None: ...

    def forgive(self, key: str) -> bool: ...

    def remaining(self, key: str) -> float: ...

    def asked(self, key: str) -> float: ...

    def subscribe(self, callback: Callable[[Penalty], None]) -> Callable[[], None]: ...


def penalty_table(blacklist: Blacklist | None, duration: float) -> PenaltyTable:
    """Return the table to dial by: the shared one, or a private one if there is none.

    ``duration`` is how long the first failure bars an endpoint, in seconds.
    """
    return Penalties(duration) if blacklist is None else SharedPenalties(blacklist, duration)


class SharedPenalties:
    """A ``PenaltyTable`` of which the greater part is shared. Nothing in here raises or waits."""

    spread = _SPREAD

    def __init__(self, blacklist: Blacklist, duration: float) -> None:
        self._shared = blacklist
        self._own = Penalties(duration)
        self._duration = duration

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
        barred = None if personal or not _fits(key) else self._publish(key, now, severity, known)
        return self._own.fail(key, now, severity) if barred is None else barred

    def _publish(self, key: str, now: float, severity: FailureSeverity, known: float) -> float | None:
        """Tell everybody; return how long ``key`` is barred, or None if that was not possible."""
        try:
            seen = self._shared.get_penalty(key)
            if seen is not None and seen.strikes and now + seen.remaining > max(now, known) + _SAME:
                # Of many who dial a dead endpoint at once, the first has counted the strike. The others bear witness.
                self._shared.set_penalty(key, severity, _SHORTEST)
                return self._shared.remaining(key)
            return self._shared.strike(key, severity, self._duration)
        except BlacklistError as error:
            log.debug("the shared blacklist: %s", error)
            return None

    def bar(self, key: str, seconds: float, now: float, *, personal: bool = False) -> None:
        """Bar ``key`` for at least ``seconds`` (as it asked us to), without counting a strike."""
        if not seconds > 0:
            return
        if not personal and _fits(key):
            try:
                if self._shared.set_penalty(key, FailureSeverity.SOFT, seconds, retry_after=True):
                    return
                # Unchanged, because a longer one is there, or because it could not be written?
                if self._shared.asked(key) > min(seconds, MAX_PENALTY) - _SAME:
                    return
            except BlacklistError as error:
                log.debug("the shared blacklist: %s", error)
        self._own.bar(key, seconds, now)

    def clear(self, key: str) -> None:
        """Forget everything about ``key``, for everybody."""
        self._own.clear(key)
        self._change(key, self._shared.clear_penalty)

    def forgive(self, key: str) -> None:
        """Forget what ``key`` did, but not what it asked for, for everybody."""
        self._own.forgive(key)
        self._change(key, self._shared.forgive)

    def _change(self, key: str, change: Callable[[str], object]) -> None:
        if not _fits(key):
            return
        try:
            change(key)
        except BlacklistError as error:
            log.debug("the shared blacklist: %s", error)

    def remaining(self, key: str, now: float) -> float:
        """Return for how many seconds ``key`` is still barred (0.0: not at all)."""
        return max(self._own.remaining(key, now), self._ask(key, self._shared.remaining))

    def firm(self, key: str, now: float) -> float:
        """Return for how many seconds ``key`` is still barred because it asked for that, or because it is fatal."""
        return max(self._own.firm(key, now), self._ask(key, self._firm))

    def _firm(self, key: str) -> float:
        penalty = self._shared.get_penalty(key)
        if penalty is not None and penalty.severity is FailureSeverity.FATAL:
            return penalty.remaining
        return self._shared.asked(key)

    def _ask(self, key: str, question: Callable[[str], float]) -> float:
        if not _fits(key):
            return 0.0
        try:
            return question(key)
        except BlacklistError:
            return 0.0

    def subscribe(self, freed: Callable[[str], None]) -> Callable[[], None]:
        """Call ``freed``, on the running loop, with each key whose shared penalty somebody has lifted."""

        def changed(penalty: Penalty) -> None:
            if not penalty.remaining:
                self._own.forgive(penalty.key)
                freed(penalty.key)

        try:
            return self._shared.subscribe(changed)
        except BlacklistError as error:
            log.debug("the shared blacklist: %s", error)
            return lambda: None


def _fits(key: str) -> bool:
    return len(key) <= MAX_KEY and (key.isascii() or len(key.encode()) <= MAX_KEY)
