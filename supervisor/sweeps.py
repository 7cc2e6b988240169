"""What dead incarnations have left behind is ended: after whoever takes their place has begun, and in its own task."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from .subreaper import Subreaper

_SETTLING = 0.05
"""Seconds from a death to the sweep: what was killed with it has ended by then, and its successor comes first."""

_MOST = 1000


@dataclass(frozen=True, slots=True)
class _Dead:
    slot: str
    incarnation: int
    pid: int
    at: float


class Sweeps:
    """Sweeps after each death that it is told of. Beyond so many at once the oldest are left to the mesh's end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, subreaper: Subreaper) -> None:
        self._loop = loop
        self._subreaper = subreaper
        self._dead: deque[_Dead] = deque(maxlen=_MOST)
        self._task: asyncio.Task[None] | None = None

    def after(self, slot: str, incarnation: int, pid: int) -> None:
        """Sweep, in a moment, after the incarnation whose process was ``pid``."""
        self._dead.append(_Dead(slot, incarnation, pid, time.clock_gettime(time.CLOCK_BOOTTIME)))
        if self._task is None:
            self._task = self._loop.create_task(self._sweep(), name="meshvisor-sweep")

    async def finish(self) -> None:
        """Wait until it has been swept after everything that is dead now."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Sweep no more."""
        self._dead.clear()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _sweep(self) -> None:
        try:
            while self._dead:
                await asyncio.sleep(_SETTLING)
                for _ in range(len(self._dead)):
                    dead = self._dead.popleft()
                    await self._subreaper.sweep(dead.slot, dead.incarnation, dead.pid, died_at=dead.at)
        finally:
            self._task = None
