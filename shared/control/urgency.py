"""Short turns on a core, for a process that does little, and that others wait for when it has something to do.

When a worker dies, the kernel wakes all its peers at once, and the supervisor last. A scheduler that is fair lets them
all go first; to a process that asks for shorter turns it gives the next one (EEVDF, sched(7)): no more of the core, but
sooner. That takes no privilege. Before Linux 6.12 it has no effect.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_SET = {"x86_64": 314, "aarch64": 274, "riscv64": 274}.get(platform.machine())  # sched_setattr(2)
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # size, policy, flags, nice, priority, runtime, deadline, period
_RESET_ON_FORK = 1
_SHORT = 100_000  # nanoseconds, the least that there is

_syscall = ctypes.CDLL(None).syscall  # made here once: in a forked process it would cost page faults


def ask_for_short_turns(*, inherit: bool) -> None:
    """Have the calling thread run soon when it wakes up; with ``inherit`` what it forks, too.

    Nothing is done where somebody has chosen another policy or a higher priority for it, or where it is not possible.
    """
    _set(_SHORT, 0 if inherit else _RESET_ON_FORK)


def ask_for_usual_turns() -> None:
    """Take it back, if it was inherited."""
    _set(0, 0)


def _set(runtime: int, flags: int) -> None:
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if _SET is None or os.sched_getscheduler(0) != os.SCHED_OTHER or nice < 0:
        return
    _syscall(_SET, 0, _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, flags, nice, 0, runtime, 0, 0), 0)
