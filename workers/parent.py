"""Tying this process to its supervisor: neither outlives the other's word.

Imports as little as possible: until ``die_with`` has run, this process could outlive a supervisor that is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys

_PR_SET_PDEATHSIG = 1
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def open_lifeline(text: str) -> socket.socket:
    """Return the inherited socket whose descriptor's number is ``text``.

    Raises:
        ValueError: If it is none.
    """
    try:
        lifeline = socket.socket(fileno=int(text))
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{text!r} is not the number of an inherited socket: {error}") from None
    lifeline.set_inheritable(False)
    return lifeline


def die_with_supervisor(lifeline: socket.socket) -> None:
    """Have the kernel kill this process when its supervisor ends; end at once if that has happened already.

    The supervisor is whoever made the lifeline's socket pair. If it has died before the signal was asked for, this
    process has another parent by now (prctl(2) says to compare).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"the parent-death signal cannot be set: {os.strerror(code)}")
    credentials = lifeline.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    supervisor, _, _ = _CREDENTIALS.unpack(credentials)
    if os.getppid() != supervisor:
        print("meshvisor worker: the supervisor has gone", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(1)
