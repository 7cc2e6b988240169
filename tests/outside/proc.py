"""Facts about processes that are nobody's children here, from /proc. A process counts as gone once it is a zombie."""

from __future__ import annotations

import os
import select
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

_MARK = b"MESHVISOR_MESH="
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, not to be confused with a later one of the same pid. ``started`` is in clock ticks since boot."""

    pid: int
    started: int

    @property
    def is_alive(self) -> bool:
        """Whether it runs, or is stopped; not whether its parent has heard of its end."""
        return identity(self.pid) == self

    @property
    def started_ns(self) -> int:
        """When it was forked, on the monotonic clock, to a clock tick (10 ms)."""
        asleep = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
        return self.started * 1_000_000_000 // _TICKS - asleep


def identity(pid: int) -> Identity | None:
    """Return the living process of this pid."""
    fields = _stat(pid)
    return Identity(pid, int(fields[19])) if fields and fields[0] not in ("Z", "X") else None


def marked(mesh: str) -> list[Identity]:
    """Return the living processes whose environment says that they belong to a mesh of this name."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [one for pid in pids if belongs(pid, mesh) and (one := identity(pid)) is not None]


def belongs(pid: int, mesh: str) -> bool:
    """Return whether the environment of a process says that it belongs to a mesh of this name."""
    wanted = _MARK + mesh.encode() + b":"
    return any(item.startswith(wanted) for item in _environment(pid))


def namesakes(mesh: str, slots: Iterable[str]) -> list[str]:
    """Return the slots that more than one process of a mesh is called after. (One that is ending is called nothing.)

    Ask twice, since a process may end, and its successor begin, while one looks.
    """
    titles = Counter(command_line(process.pid) for process in marked(mesh))
    return [name for name in slots if titles[f"meshvisor {mesh}/{name}"] > 1]


def children(pid: int) -> list[int]:
    """Return the children of a process, zombies included."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += map(int, file.read().split())
    return found


def descendants(pid: int) -> list[Identity]:
    """Return all that a living process has started, directly or not, and that lives as well."""
    found: list[Identity] = []
    for child in children(pid):
        if (one := identity(child)) is not None:
            found += [one, *descendants(child)]
    return found


def zombies_of(pid: int) -> list[int]:
    """Return the dead children that a process has not taken notice of."""
    return [child for child in children(pid) if _stat(child)[:1] == ["Z"]]


def zygotes_of(pid: int) -> list[int]:
    """Return the zygotes among the children of a supervisor."""
    return [child for child in children(pid) if "meshvisor" in (words := command_line(child)) and "zygote" in words]


def command_line(pid: int) -> str:
    """Return what ``ps`` shows; empty for a process that is ending."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def descriptors(pid: int) -> list[str]:
    """Return what the open descriptors of a process are."""
    found = []
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
    return sorted(found)


def pss(pid: int) -> int:
    """Return the memory of a process in bytes, what it shares with n others counted as an n-th."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("Pss:"))


def wait_gone(processes: Iterable[Identity], within: float) -> list[Identity]:
    """Wait until all of ``processes`` are gone; return those that are not after ``within`` seconds."""
    watched: dict[int, Identity] = {}
    deadline = time.monotonic() + within
    poll = select.poll()
    try:
        for process in processes:
            with suppress(ProcessLookupError):
                pidfd = os.pidfd_open(process.pid)
                watched[pidfd] = process
                poll.register(pidfd, select.POLLIN)
        waiting = {pidfd for pidfd, process in watched.items() if process.is_alive}
        while waiting and (left := deadline - time.monotonic()) > 0:
            for pidfd, _ in poll.poll(left * 1000):
                waiting.discard(pidfd)
                poll.unregister(pidfd)
        return [watched[pidfd] for pidfd in waiting]
    finally:
        for pidfd in watched:
            os.close(pidfd)


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third (state) on; the second may contain anything."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
