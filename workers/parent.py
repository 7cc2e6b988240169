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

ADOPTION_SIGNAL = signal.SIGUSR1
"""Tells a newborn that its parent has ended; any signal would do."""

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl  # made here once: in a forked process it would cost page faults
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
    _ask_for_death_signal(signal.SIGKILL)
    credentials = lifeline.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    supervisor, _, _ = _CREDENTIALS.unpack(credentials)
    if os.getppid() != supervisor:
        print("meshvisor worker: the supervisor has gone", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(1)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when ``parent``, which has just forked it, ends; end at once if it has."""
    _ask_for_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def wait_for_adoption(middle: int, within: float = 2.0) -> None:
    """Wait until the kernel has given this process another parent than ``middle``, which is about to end.

    The parent-death signal itself says when: the kernel sends it after the change. ``ADOPTION_SIGNAL`` must have been
    blocked before the fork.

    Raises:
        TimeoutError: If that has not happened ``within`` so many seconds.
    """
    _ask_for_death_signal(ADOPTION_SIGNAL)
    patience = within if os.getppid() == middle else 0.0  # it may have come between the two lines, or never come
    if signal.sigtimedwait({ADOPTION_SIGNAL}, patience) is None and os.getppid() == middle:
        raise TimeoutError(f"process {middle} has not ended within {within:g} s")


def _ask_for_death_signal(number: signal.Signals) -> None:
    if _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"the parent-death signal cannot be set: {os.strerror(code)}")
