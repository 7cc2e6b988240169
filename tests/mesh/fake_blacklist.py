"""A shared blacklist on the loop's own clock: what ``SharedBlacklist`` promises, for scenarios in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from meshvisor.shared.core.penalties import FailureSeverity, worst
from meshvisor.shared.errors import BlacklistError
from meshvisor.shared.memory.entry import Penalty

Callback = Callable[[Penalty], None]


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Entry:
    until: float = 0.0
    severity: FailureSeverity = FailureSeverity.SOFT
    asked_until: float = 0.0
    strikes: int = 0
    reporters: set[str] = field(default_factory=set)


class FakeBlacklist:
    """One process's view; ``seen_by`` is that of another one. ``is_locked``: nobody can write. ``is_closed``: gone."""

    def __init__(self, source: str = "test") -> None:
        self.entries: dict[str, Entry] = {}
        self.callbacks: list[Callback] = []
        self.is_locked = False
        self.is_closed = False
        self.source = source

    def seen_by(self, source: str) -> FakeBlacklist:
        other = FakeBlacklist(source)
        other.entries, other.callbacks = self.entries, self.callbacks
        return other

    def set_penalty(
        self, key: str, severity: FailureSeverity | str, duration: float, *, retry_after: bool = False
    ) -> bool:
        self._check()
        if self.is_locked:
            return False
        entry = self.entries.setdefault(key, Entry())
        until, given = now() + duration, FailureSeverity(severity)
        if entry.until <= now():
            entry.reporters, entry.severity = set(), given
        entry.severity = worst(entry.severity, given)
        entry.reporters.add(self.source)
        changed = until > entry.until
        entry.until = max(entry.until, until)
        if retry_after:
            entry.asked_until = max(entry.asked_until, until)
        self._tell(key)
        return changed

    def strike(self, key: str, severity: FailureSeverity | str, duration: float) -> float | None:
        self._check()
        if self.is_locked:
            return None
        self.entries.setdefault(key, Entry()).strikes += 1
        self.set_penalty(key, severity, duration * self.entries[key].strikes)
        return self.remaining(key)

    def get_penalty(self, key: str) -> Penalty | None:
        self._check()
        entry = self.entries.get(key)
        if entry is None or entry.until <= now():
            return None
        asked = entry.asked_until > now()
        return Penalty(
            key, entry.severity, entry.until - now(), asked, self.source, len(entry.reporters), entry.strikes
        )

    def remaining(self, key: str) -> float:
        self._check()
        return max(0.0, self.entries.get(key, Entry()).until - now())

    def asked(self, key: str) -> float:
        self._check()
        return max(0.0, self.entries.get(key, Entry()).asked_until - now())

    def clear_penalty(self, key: str) -> bool:
        self._check()
        if self.is_locked or self.entries.pop(key, None) is None:
            return False
        self._tell(key)
        return True

    def forgive(self, key: str) -> bool:
        self._check()
        entry = self.entries.get(key)
        if self.is_locked or entry is None:
            return False
        self.entries[key] = Entry(entry.asked_until, asked_until=entry.asked_until)
        self._tell(key)
        return True

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        self._check()
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def _tell(self, key: str) -> None:
        penalty = self.get_penalty(key) or Penalty(key, FailureSeverity.SOFT, 0.0, False, self.source, 0, 0)
        for callback in list(self.callbacks):
            callback(penalty)

    def _check(self) -> None:
        if self.is_closed:
            raise BlacklistError("the blacklist", "is closed")
