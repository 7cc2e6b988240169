"""Processes that outlived their supervisor: found by a mark in their environment, never by name.

Every child carries ``MESHVISOR_MESH=NAME:PID:START:BOOT:PLACE``: the mesh, the identity of its supervisor (a pid is
only an identity together with the time at which its process started, and with the boot) and a digest of its runtime
directory. What children start inherits it.
The parent-death signal and the lifeline end the children themselves; this is for descendants that went their own way.
Only processes of our own pid namespace are looked at, for a pid says nothing about another one; and only those of our
own user, unless we are root, whose commands may run as anybody.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .reaper import send

VARIABLE = "MESHVISOR_MESH"
_PASSES = 4
# Anybody may have anything in his environment, and not everything that is a digit to str makes an int.
_NUMBER = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Mark:
    """The mesh that a process belongs to, and the supervisor of that run of it.

    ``place`` stands for the runtime directory: meshes of one name in two directories have nothing to do with each
    other.
    """

    mesh: str
    pid: int
    started: int
    boot: str
    place: str = ""

    @classmethod
    def of_this_process(cls, mesh: str, place: str = "") -> Mark:
        """Return the mark for the children of a supervisor in this process."""
        pid = os.getpid()
        return cls(mesh, pid, start_time(pid) or 0, _boot_id(), place)

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """Return the mark that ``text`` is, if it is one."""
        parts = text.split(":")
        if len(parts) != 5 or not _NUMBER.fullmatch(parts[1]) or not _NUMBER.fullmatch(parts[2]):
            return None
        return cls(parts[0], int(parts[1]), int(parts[2]), parts[3], parts[4])

    def __str__(self) -> str:
        return f"{self.mesh}:{self.pid}:{self.started}:{self.boot}:{self.place}"

    @property
    def is_orphaned(self) -> bool:
        """Whether the supervisor is no more. What cannot be found out now (no descriptors) counts as alive."""
        try:
            return self.boot != _boot_id() or _started(self.pid) != self.started
        except OSError:
            return False


def place_of(directory: Path) -> str:
    """Return what stands for a runtime directory in a mark."""
    return hashlib.blake2b(os.fsencode(os.path.realpath(directory)), digest_size=6).hexdigest()


async def kill_orphans(mesh: str, place: str, within: float = 2.0) -> list[int]:
    """Kill what earlier supervisors of ``mesh`` at ``place`` left behind, wait for the deaths, and return the pids."""
    return await _kill(lambda mark: (mark.mesh, mark.place) == (mesh, place) and mark.is_orphaned, within)


async def kill_strays(own: Mark, within: float = 2.0) -> list[int]:
    """Kill the descendants of our own children that left their process groups; return the pids."""
    return await _kill(lambda mark: mark == own, within)


async def _kill(concerned: Callable[[Mark], bool], within: float) -> list[int]:
    spared = _ourselves_and_ancestors()
    deadline = asyncio.get_running_loop().time() + within
    killed: list[int] = []
    for _ in range(_PASSES):  # what was being started while we looked shows in the next pass
        pids = [pid for pid, mark in _marked_processes() if pid not in spared and concerned(mark)]
        dead = [pid for pid in pids if await _kill_one(pid, concerned, deadline)]
        if not dead:
            break
        killed += (pid for pid in dead if pid not in killed)
    return killed


async def _kill_one(pid: int, concerned: Callable[[Mark], bool], deadline: float) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # Read again behind the descriptor: now the mark and the process cannot be of two different lives of the pid.
        mark = _mark_of(pid)
        if mark is None or not concerned(mark):
            return False
        send(pidfd, signal.SIGKILL)
        await wait_readable(pidfd, deadline)
        return True
    finally:
        os.close(pidfd)


async def wait_readable(descriptor: int, deadline: float) -> None:
    """Wait until ``descriptor`` is readable (a pidfd: the process has ended), at most until ``deadline``."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await readable.wait()
    finally:
        loop.remove_reader(descriptor)


def _marked_processes() -> list[tuple[int, Mark]]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (mark := _mark_of(int(entry))) is not None:
            found.append((int(entry), mark))
    return found


def _mark_of(pid: int) -> Mark | None:
    try:
        if os.getuid() not in (0, os.stat(f"/proc/{pid}").st_uid):
            return None
        text = environment_of(pid).get(VARIABLE)
        if text is None or os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
            return None
    except OSError:
        return None
    return Mark.parse(text)


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with; empty if it is gone, or not ours to look at."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            items = file.read().decode(errors="replace").split("\0")
    except OSError:
        return {}
    # Backwards, so that of two variables of one name the first one counts, as for getenv(3).
    return dict(item.split("=", 1) for item in reversed(items) if "=" in item)


def _ourselves_and_ancestors() -> set[int]:
    found: set[int] = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = parent_of(pid)
    return found


def parent_of(pid: int) -> int:
    """Return the parent of a process; 0 when there is none (any more)."""
    fields = stat_fields(pid)
    return int(fields[1]) if fields else 0


def start_time(pid: int) -> int | None:
    """Return when the process started, in clock ticks since the boot; None when it is gone, or a zombie."""
    try:
        return _started(pid)
    except OSError:
        return None


def _started(pid: int) -> int | None:
    """Return the same; what cannot be found out is an OSError."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in ("Z", "X") else None


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third (state) on; the second may contain anything."""
    try:
        return _stat(pid)
    except OSError:
        return []


def _stat(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except (FileNotFoundError, PermissionError):  # hidden in some sandboxes; pid and start time still tell much
        return ""
