"""How much memory the processes of a slot use, against its limits; and whether the kernel ran out of it.

What counts is what one can see in ``status`` and ``ps``: the resident set of the slot's process and of all its
descendants. Memory that they share (a program that forks workers) is in the resident set of each; so what the sum says
is believed as long as it is below a limit, and before anything is done about it, shared pages are divided up among
those that share them (``smaps_rollup``, which takes the kernel milliseconds for a large process). A process by itself
is always judged by its resident set.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from .child import Exit

PERIOD = 1.0
"""How often the memory of slots with a limit is measured, in seconds."""
OOM_MEMORY = 5.0
"""How long a kill by the kernel that nobody has claimed may still explain a death, in seconds."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MOST_PROCESSES = 10_000


class MemoryLimit(StrEnum):
    """Which limit was exceeded."""

    SOFT = "memory_soft"
    HARD = "max_memory"


@dataclass(slots=True)
class _Watched:
    pid: int
    soft: int | None
    hard: int | None
    exceeded: Callable[[MemoryLimit, int], None]

    def judge(self, size: int) -> MemoryLimit | None:
        if self.hard is not None and size > self.hard:
            return MemoryLimit.HARD
        return MemoryLimit.SOFT if self.soft is not None and size > self.soft else None


class MemoryWatch:
    """One sampler for all slots that have a limit; without any it does nothing.

    ``exceeded(limit, bytes)`` is called at most once for each limit of a watch, the soft one first unless both are
    exceeded at once; after the hard one the watch is over.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, measure: Callable[[int, int], int] | None = None) -> None:
        self._loop = loop
        self._measure = measure or memory_of
        self._watched: dict[object, _Watched] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(
        self, pid: int, soft: int | None, hard: int | None, exceeded: Callable[[MemoryLimit, int], None]
    ) -> Callable[[], None]:
        """Begin to watch a process and its descendants, and return what ends that."""
        key = object()
        if soft is not None or hard is not None:
            self._watched[key] = _Watched(pid, soft, hard, exceeded)
            self._arm()

        def unwatch() -> None:
            self._watched.pop(key, None)
            self._arm()

        return unwatch

    def _arm(self) -> None:
        if self._watched and self._timer is None:
            self._timer = self._loop.call_later(PERIOD, self._look)
        elif not self._watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        for key, watched in tuple(self._watched.items()):
            if key not in self._watched:  # ended by what was decided about another
                continue
            least = min(limit for limit in (watched.soft, watched.hard) if limit is not None)
            size = self._measure(watched.pid, least)
            limit = watched.judge(size)
            if limit is None:
                continue
            if limit is MemoryLimit.HARD or watched.hard is None:
                del self._watched[key]
            watched.soft = None
            watched.exceeded(limit, size)
        self._arm()


def memory_of(pid: int, doubtful: int = 0) -> int:
    """Return the memory in bytes of a process and its descendants; 0 when it is gone.

    A sum over several processes that is above ``doubtful`` is taken again with shared pages divided up.
    """
    pids = list(_family(pid))
    size = sum(map(_resident, pids))
    if len(pids) == 1 or size <= doubtful:
        return size
    shares = [share for pid in pids if (share := _proportional(pid)) is not None]
    return min(size, sum(shares)) if len(shares) == len(pids) else size


def _family(pid: int) -> Iterator[int]:
    """Yield a process and its descendants, parents first."""
    waiting, seen = [pid], {pid}
    while waiting and len(seen) < _MOST_PROCESSES:
        pid = waiting.pop()
        yield pid
        children = [child for child in _children(pid) if child not in seen]
        seen.update(children)
        waiting += children


def _children(pid: int) -> list[int]:
    """Return the children of a process; none where the kernel keeps no list of them (CONFIG_PROC_CHILDREN)."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int | None:
    """Return a process's share of the memory that it uses; None where one must not know."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except (OSError, StopIteration):
        return None


# Whether it was the kernel.


class OomWatch:
    """Tells whether a SIGKILL that nobody here has sent came from the kernel, which had run out of memory.

    The kernel says only how many processes it has killed for that: in our control group and below it, or (where there
    is no such count) on the whole machine. One of these kills explains one death of the last five seconds. So a
    ``True`` is as good as certain by the group's count, unless at the same moment a descendant of ours was the victim
    and somebody else's ``kill -9`` hit the slot; by the machine's count the victim may have been any process at all.
    A ``False`` is certain where there is a count. In a container the group is the container's.
    """

    def __init__(self, now: Callable[[], float], count: Callable[[], int | None] | None = None) -> None:
        self._now = now
        self._counter = OomCounter()
        self._count = count or self._counter
        self._last = self._count()
        self._unclaimed: list[float] = []

    def note(self) -> None:
        """Look at the count: what was killed before now is older than whatever dies later."""
        count = self._count()
        if count is not None and self._last is not None:
            self._unclaimed += [self._now()] * min(count - self._last, _MOST_PROCESSES)
        self._last = count
        self._unclaimed = [at for at in self._unclaimed if self._now() - at <= OOM_MEMORY]

    def explains(self, exit: Exit) -> bool:
        """Say whether a death that nobody of us has caused was the kernel's doing, and claim that kill for it."""
        self.note()
        if exit.signal != "SIGKILL" or not self._unclaimed:
            return False
        self._unclaimed.pop()
        return True

    def close(self) -> None:
        """Explain nothing any more."""
        self._counter.close()


class OomCounter:
    """Counts the processes that the kernel has killed for want of memory: in our control group, else on the machine.

    It keeps its file open: it is read at every death, while a slot waits for its replacement.
    """

    def __init__(self) -> None:
        self._descriptor = -1
        for file in (*_group_counters(), "/proc/vmstat"):
            with suppress(OSError):
                self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
                if self() is not None:
                    break
                self.close()

    def __call__(self) -> int | None:
        """Return the count; None: the kernel does not say."""
        if self._descriptor < 0:
            return None
        with suppress(OSError, ValueError):
            _, found, rest = os.pread(self._descriptor, 65_536, 0).partition(b"\noom_kill ")
            return int(rest.partition(b"\n")[0]) if found else None
        return None

    def close(self) -> None:
        """Release the file; nothing is known any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _group_counters() -> list[str]:
    """Return where our control group may count its kills: the unified hierarchy first, then the one before it."""
    found: list[str] = []
    with suppress(OSError), open("/proc/self/cgroup", encoding="utf-8", errors="replace") as stream:
        for line in stream:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if not controllers:
                found.insert(0, f"/sys/fs/cgroup{path}/memory.events")
            elif "memory" in controllers.split(","):
                found.append(f"/sys/fs/cgroup/memory{path}/memory.oom_control")
    return found
