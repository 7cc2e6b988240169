"""What the kernel knows about a process and one of its threads, read from /proc.

Nothing is kept open: a descriptor in /proc outlives the process it is of. A pid is believed only together with the
time at which its process started, so that a number which the kernel has given away again is nobody's.
"""

from __future__ import annotations

import os

from .verdict import Look, Others

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SIZE = 4096
_MOST_THREADS = 64  # looked at beside the loop's
_EPOLL = frozenset({"ep_poll", "do_epoll_wait", "do_epoll_pwait"})  # by kernel: functions may be inlined into callers

# Fields of stat, counted from behind the name (which may hold anything, parentheses too): proc_pid_stat(5) less 3.
_STATE, _USER, _SYSTEM, _STARTED, _RESIDENT, _EXIT_CODE = 0, 11, 12, 19, 21, 49


def start_time(pid: int) -> int | None:
    """Return when ``pid`` started, in ticks since the boot; None if there is no such process."""
    fields = _fields(f"/proc/{pid}/stat")
    return int(fields[_STARTED]) if fields else None


def usage(pid: int) -> tuple[float, int] | None:
    """Return the seconds of CPU and the resident bytes of a process that is not reaped yet; None if it is gone."""
    fields = _fields(f"/proc/{pid}/stat")
    if not fields:
        return None
    return (int(fields[_USER]) + int(fields[_SYSTEM])) * _TICK, int(fields[_RESIDENT]) * _PAGE


def look(pid: int, tid: int, started: int, now: float) -> Look | None:
    """Return what is known at ``now`` of process ``pid`` and its thread ``tid``.

    None if that process, the one that started at ``started``, or that thread is gone (a zombie is).
    """
    process = _fields(f"/proc/{pid}/stat")
    thread = _fields(f"/proc/{pid}/task/{tid}/stat")
    if not process or not thread or int(process[_STARTED]) != started:
        return None
    state = thread[_STATE].decode()
    if state in "ZX":
        return None
    executed, waited = _schedule(f"/proc/{pid}/task/{tid}/schedstat")
    return Look(
        now=now,
        state=state,
        executed=executed,
        waited=waited,
        ticks=(int(thread[_USER]) + int(thread[_SYSTEM])) * _TICK,
        cpu=(int(process[_USER]) + int(process[_SYSTEM])) * _TICK,
        # While a process is stopped the field holds the signal that did it, until a parent has waited for the stop.
        stop_signal=int(thread[_EXIT_CODE]) & 0x7F if state == "T" else 0,
        others=_others(pid, tid),
    )


def sleeps_in(pid: int, tid: int) -> str:
    """Return the kernel function that the thread sleeps in; empty if it does not, or if that is not ours to know."""
    name = _read(f"/proc/{pid}/task/{tid}/wchan").decode(errors="replace")
    return name if name.isidentifier() else ""


def waits_on(pid: int, tid: int) -> int | None:
    """Return the epoll descriptor that the thread waits on; None if it waits on none, or if we may not know."""
    if sleeps_in(pid, tid) not in _EPOLL:
        return None
    fields = _read(f"/proc/{pid}/task/{tid}/syscall").split()
    try:
        return int(fields[1], 16)
    except (IndexError, ValueError):
        return None


def _others(pid: int, tid: int) -> Others:
    try:
        threads = [thread for thread in os.listdir(f"/proc/{pid}/task") if thread != str(tid)]
    except OSError:
        return Others()
    executed = waited = 0.0
    is_runnable = False
    for thread in threads[:_MOST_THREADS]:
        one = _schedule(f"/proc/{pid}/task/{thread}/schedstat")
        executed += one[0] or 0.0
        waited += one[1]
        is_runnable = is_runnable or _fields(f"/proc/{pid}/task/{thread}/stat")[:1] == [b"R"]
    return Others(executed, waited, is_runnable)


def _fields(path: str) -> list[bytes]:
    fields = _read(path).rpartition(b")")[2].split()
    return fields if len(fields) > _EXIT_CODE else []


def _schedule(path: str) -> tuple[float | None, float]:
    fields = _read(path).split()
    if len(fields) < 2:
        return None, 0.0
    return int(fields[0]) / 1e9, int(fields[1]) / 1e9


def _read(path: str) -> bytes:
    """Return what ``path`` holds; nothing if it is not there (any more) or not ours to read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _SIZE)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
