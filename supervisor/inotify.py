"""Hearing from the kernel what happens in a directory (inotify(7)), for the standard library has no way."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import suppress

_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x2, 0x80, 0x100, 0x200
_IN_DELETE_SELF, _IN_MOVE_SELF = 0x400, 0x800
_IN_Q_OVERFLOW, _IN_IGNORED = 0x4000, 0x8000
_IN_ONLYDIR = 0x0100_0000
_GONE = _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_IGNORED
_APPEARING = _IN_MOVED_TO | _IN_CREATE
_CHANGING = _IN_MODIFY | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_ENOUGH = 65_536


class DirectoryGone(Exception):
    """The directory that was watched is not there any more."""


def watch_directory(path: str | os.PathLike[str], *, writes: bool = False) -> int:
    """Return a descriptor that becomes readable when a name is created in, or moved into, ``path``.

    With ``writes`` also when a file in it is written to or deleted, and when the directory itself goes away; that is
    told when nobody has a file open any more that was in it.

    Raises:
        OSError: If there is no such directory, or the kernel has no watch to give.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise _error(path)
    mask = _APPEARING | (_CHANGING if writes else 0)
    if libc.inotify_add_watch(descriptor, os.fsencode(path), mask | _IN_ONLYDIR) < 0:
        error = _error(path)
        os.close(descriptor)
        raise error
    return int(descriptor)


def forget_events(descriptor: int) -> None:
    """Take out what is waiting in a descriptor of ``watch_directory``."""
    with suppress(BlockingIOError):
        os.read(descriptor, _ENOUGH)


def changed_names(descriptor: int) -> set[str] | None:
    """Take out what is waiting and return the names that it is about; None: there was too much, so any may be.

    Raises:
        DirectoryGone: If the directory was deleted or moved away.
    """
    try:
        data = os.read(descriptor, _ENOUGH)
    except BlockingIOError:
        return set()
    events = list(_events(data))
    if any(mask & _GONE for mask, _ in events):
        raise DirectoryGone
    return None if any(mask & _IN_Q_OVERFLOW for mask, _ in events) else {name for _, name in events if name}


def _events(data: bytes) -> Iterator[tuple[int, str]]:
    place = 0
    while place < len(data):
        _, mask, _, length = _EVENT.unpack_from(data, place)
        place += _EVENT.size + length
        yield mask, os.fsdecode(data[place - length : place].rstrip(b"\0"))


def _error(path: str | os.PathLike[str]) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), os.fspath(path))
