"""A clock that stands still, and memory whose writer ends where it should."""

from __future__ import annotations

from typing import Any

SECOND = 1_000_000_000


class Clock:
    """A machine's monotonic clock, in nanoseconds, that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000 * SECOND

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.now += round(seconds * SECOND)


class Interrupted(Exception):
    """The writer ends here."""


class Dying:
    """Memory that lets so many stores through; a run of bytes may end anywhere, as by a signal."""

    def __init__(self, memory: Any, budget: list[int]) -> None:
        self._memory = memory
        self._budget = budget

    def __getitem__(self, key: int | slice) -> Any:
        return self._memory[key]

    def __setitem__(self, key: int | slice, value: Any) -> None:
        if isinstance(key, slice):
            for offset, byte in enumerate(value):
                self._spend()
                self._memory[key.start + offset] = byte
        else:
            self._spend()
            self._memory[key] = value

    def _spend(self) -> None:
        if not self._budget[0]:
            raise Interrupted
        self._budget[0] -= 1
