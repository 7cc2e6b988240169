"""What a worker that hangs had to say at last: the tracebacks of all its threads, from a file in memory.

worker's start    ``make_traces()``; its descriptor is handed down as ``traces``
a verdict         ``request_traces(pidfd)``, ``PATIENCE`` for the worker to write, SIGKILL, ``read_traces``
"""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress

from ..shared.control.lifeline import TRACES_SIGNAL

PATIENCE = 0.1
"""Seconds from the request until the tracebacks are there, unless there is no core for the worker."""

_LONGEST = 65_536
_THREAD = re.compile(r"(Current thread|Thread) 0x[0-9a-f]+(?: \[(.*)\])? \(most recent call first\):")
_CONTROL = re.compile(r"[^\n -~\u00a0-\U0010ffff]")


def make_traces() -> int:
    """Return the descriptor of a new file in memory, which is the caller's to close."""
    return os.memfd_create("meshvisor-traces", os.MFD_CLOEXEC)


def clear_traces(descriptor: int) -> None:
    """Forget what was written before: worker and supervisor share one open file, and so one place in it."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)


def request_traces(pidfd: int) -> None:
    """Ask the worker behind ``pidfd`` for its tracebacks. One that has not registered for it is ended by that."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, TRACES_SIGNAL)


def read_traces(descriptor: int) -> str:
    """Return the tracebacks in the file as text for people; empty if there are none."""
    with suppress(OSError):
        return clean(os.pread(descriptor, _LONGEST, 0).decode(errors="replace"))
    return ""


def clean(dump: str) -> str:
    """Return what faulthandler wrote with threads by number instead of address, the main thread first.

    faulthandler begins with the latest thread and says "most recent call first"; it stops at a hundred threads.
    """
    blocks: list[list[str]] = []
    for line in _CONTROL.sub("", dump).splitlines():
        if _THREAD.fullmatch(line):
            blocks.append([line])
        elif blocks and line.strip():
            blocks[-1].append(line)
    text = []
    for number, (head, *frames) in enumerate(reversed(blocks)):
        found = _THREAD.fullmatch(head)
        name = found[2] if found else None
        title = "Main thread" if number == 0 and len(blocks) <= 100 else f"Thread {number + 1}"
        text.append("\n".join([f"{title}{f' ({name})' if name else ''}, most recent call first:", *frames]))
    return "\n\n".join(text) + "\n" if text else ""
