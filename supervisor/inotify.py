"""Hearing from the kernel that something appears in a directory (inotify(7)), for the standard library has no way."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_IN_MOVED_TO, _IN_CREATE = 0x80, 0x100
_ENOUGH = 65_536


def watch_directory(path: str | os.PathLike[str]) -> int:
    """Return a descriptor that becomes readable when a name is created in, or moved into, ``path``.

    Raises:
        OSError: If there is no such directory, or the kernel has no watch to give.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise _error(path)
    if libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MOVED_TO | _IN_CREATE) < 0:
        error = _error(path)
        os.close(descriptor)
        raise error
    return int(descriptor)


def forget_events(descriptor: int) -> None:
    """Take out what is waiting in a descriptor of ``watch_directory``."""
    with suppress(BlockingIOError):
        os.read(descriptor, _ENOUGH)


def _error(path: str | os.PathLike[str]) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), os.fspath(path))
