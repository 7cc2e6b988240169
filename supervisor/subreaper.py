"""Orphans: this process adopts those of its descendants, reaps the dead ones and ends those that nobody wants.

As a child subreaper (prctl(2)) a process becomes the parent of every descendant whose own parent ends. That is how
forked workers become our children, and why whatever a worker or a command leaves behind comes to us too.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress

from .leftovers import Mark, environment_of, stat_fields, wait_readable
from .reaper import send

_PR_SET_CHILD_SUBREAPER = 36
_LATER = 0.1
_MUCH_LATER = 1.0
_PASSES = 8


def become_subreaper() -> None:
    """Make this process the one that the orphans among its descendants are given to, for as long as it lives.

    Raises:
        OSError: If the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"the orphans of workers cannot be adopted: {os.strerror(code)}")


def children() -> list[int]:
    """Return all child processes, dead or alive, of this process."""
    found: list[int] = []
    for thread in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError), open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
            found += map(int, file.read().split())
    return found


class Subreaper:
    """Deals with the children that no slot has.

    ``own`` are the children that somebody else here waits for; what is not among them is taken for an orphan. While
    ``is_forking``, a child may be a worker that has just been born and not been told of.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mark: Mark,
        *,
        own: Callable[[], Collection[int]],
        is_forking: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._mark = mark
        self._own = own
        self._is_forking = is_forking
        self._timer: asyncio.TimerHandle | None = None

    def notice(self) -> None:
        """Look for dead orphans in a moment; call it at each SIGCHLD.

        Not at once: a worker that has just died is replaced first. A zombie can wait.
        """
        self._notice(_LATER)

    def reap(self) -> list[int]:
        """Take the death notices of dead orphans and return their pids; while something is forked, later."""
        self.close()
        if self._is_forking():
            self.notice()
            return []
        try:
            orphans = self._orphans()
        except OSError:  # no descriptor to look with
            self._notice(_MUCH_LATER)
            return []
        return [pid for pid in orphans if _reap(pid)]

    async def sweep(
        self, slot: str, incarnation: int, pid: int, within: float = 2.0, *, died_at: float = math.inf
    ) -> list[int]:
        """End the orphans of one incarnation of a slot, whose process was ``pid``; return the pids.

        They are known by their session, by their environment, or, if they were forked from a worker and never executed
        anything, by its title and their start before ``died_at`` (seconds since the boot). Whose parent only ends now
        shows in the next pass.
        """
        deadline = self._loop.time() + within
        died = math.inf if died_at == math.inf else math.ceil(died_at * os.sysconf("SC_CLK_TCK"))
        killed: list[int] = []
        for _ in range(_PASSES):
            orphans = [orphan for orphan in self._orphans() if self._belongs(orphan, slot, incarnation, pid, died)]
            if not orphans or self._loop.time() >= deadline:
                break
            for orphan in orphans:
                await self._end(orphan, deadline)
            killed += (orphan for orphan in orphans if orphan not in killed)
        return killed

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _notice(self, delay: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(delay, self.reap)

    def _orphans(self) -> list[int]:
        own = set(self._own())
        return [pid for pid in children() if pid not in own]

    def _belongs(self, orphan: int, slot: str, incarnation: int, pid: int, died: float) -> bool:
        fields = stat_fields(orphan)
        if not fields or fields[0] in ("Z", "X"):
            return False
        if int(fields[3]) == pid:
            return True
        environment = environment_of(orphan)
        if environment.get("MESHVISOR_MESH") != str(self._mark):
            return False
        if (
            "MESHVISOR_SLOT" not in environment
        ):  # forked from what a zygote has forked: that is the zygote's environment
            return _title_of(orphan) == f"meshvisor {self._mark.mesh}/{slot}" and int(fields[19]) < died
        return environment["MESHVISOR_SLOT"] == slot and environment.get("MESHVISOR_INCARNATION") == str(incarnation)

    async def _end(self, orphan: int, deadline: float) -> None:
        try:
            pidfd = os.pidfd_open(orphan)  # a child of ours that nobody reaps but we: the number is still its own
        except OSError:
            return
        try:
            send(pidfd, signal.SIGKILL)
            await wait_readable(pidfd, deadline)
        finally:
            os.close(pidfd)
        _reap(orphan)


def _title_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\0 ")
    except OSError:
        return ""


def _reap(pid: int) -> bool:
    with suppress(ChildProcessError):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    return False
