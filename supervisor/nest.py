"""Processes that are in no slot: watched, so that a dead one is reaped and never handed out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from .reaper import kill_group, reap
from .spawn import Process


class Nest:
    """``died`` is called with its age (in seconds) when a process has died that was not to be ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, died: Callable[[float], None]) -> None:
        self._loop = loop
        self._died = died
        self._living: dict[int, tuple[Process, float]] = {}
        self._doomed: dict[int, Process] = {}
        self._has_no_doomed = asyncio.Event()
        self._has_no_doomed.set()

    def __len__(self) -> int:
        """Return how many could be taken."""
        return len(self._living)

    @property
    def pids(self) -> set[int]:
        """The processes in it, and those that are to be ended but are not reaped yet."""
        return {*self._living, *self._doomed}

    def add(self, process: Process) -> None:
        """Take a process over."""
        self._living[process.pid] = process, self._loop.time()
        self._loop.add_reader(process.pidfd, self._look, process)

    def take(self) -> Process | None:
        """Return the process that has been here longest, which is the caller's from now on; None if there is none."""
        for process, _ in list(self._living.values()):
            if os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                self._loop.remove_reader(process.pidfd)
                del self._living[process.pid]
                return process
            self._look(process)
        return None

    def end(self, process: Process) -> None:
        """Kill a process that nobody wants, and reap it."""
        self._doomed[process.pid] = process
        self._has_no_doomed.clear()
        kill_group(process.pid)
        self._loop.add_reader(process.pidfd, self._look, process)

    def clear(self) -> None:
        """Kill all processes in it."""
        living, self._living = self._living, {}
        for process, _ in living.values():
            self.end(process)

    async def close(self) -> None:
        """Kill all processes in it and wait until they are reaped."""
        self.clear()
        await self._has_no_doomed.wait()

    def _look(self, process: Process) -> None:
        if reap(process.pid, process.pidfd) is None:
            return
        self._loop.remove_reader(process.pidfd)
        process.close()
        if process.pid in self._living:
            _, since = self._living.pop(process.pid)
            self._died(self._loop.time() - since)
            return
        del self._doomed[process.pid]
        if not self._doomed:
            self._has_no_doomed.set()
