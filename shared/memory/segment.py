"""One piece of memory that several processes share, and how it is made, opened, checked and locked.

A segment is a file: a memfd whose descriptor is handed to others, or a file on disk that others find by its path. It
begins with a header of ``HEADER_WORDS`` words; all the rest belongs to its layout (``Layout``: a blacklist, a board).

    word     holds
    0        magic
    1        kind of the layout | version of the layout << 32
    2        size of the file in bytes
    3        capacity
    4        unit: bytes for one of ``capacity``
    5        CRC-32 of words 0 to 4
    6, 7     boot id: times in a segment are of a clock that starts with the machine
    8 .. 15  for the layout

Words are stored and loaded through a ``memoryview`` of unsigned 64-bit numbers, one machine instruction each, and are
never seen half written; ``data`` is the same memory for copying runs of bytes, which can be.

**Three descriptors, two open files.** A lock of ``flock`` belongs to an open file and not to a process: through an
inherited descriptor it excludes nobody, and it is held until the last descriptor of that open file is closed, whoever
has it. So each process opens the memory anew for its lock, after every fork too, and gives that descriptor to nobody;
``fileno`` is another one, and the mapping (which duplicates its descriptor) is of the same open file as that.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import stat
import threading
import time
import weakref
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from functools import cache
from pathlib import Path
from typing import NoReturn, Protocol
from zlib import crc32

from ..errors import SegmentError

HEADER_WORDS = 16
"""Words before those of the layout; the last ``HEADER_WORDS - FIRST_FREE`` of them are the layout's, too."""

FIRST_FREE = 8
"""The first word of the header that the layout may use."""

WORD = 8
"""Bytes in a word."""

MAX_CAPACITY = 65_536

LOCK_PATIENCE = 0.001
"""How long ``lock`` tries, in seconds: it may be called on an event loop."""

_MAGIC = int.from_bytes(b"meshvisr", "little")
_CHECKED = 5
_CHECK, _BOOT = 5, 6
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_TRY = LOCK_EX | LOCK_NB
_PAUSE = 0.00005


@dataclass(frozen=True, slots=True)
class Layout:
    """What a segment is for: ``unit`` bytes (whole words) for each of its capacity, behind the header.

    ``kind`` and ``version`` stand in the header, ``name`` in messages; everything wrong is raised as ``error``.
    """

    kind: int
    version: int
    name: str
    unit: int
    error: type[SegmentError] = SegmentError

    def size(self, capacity: int) -> int:
        """Return the size of a whole segment, in bytes."""
        return HEADER_WORDS * WORD + capacity * self.unit


class Segment:
    """A mapped segment; ``words`` and ``data`` are its memory, whole.

    ``lock`` and ``unlock`` may be used from any thread. After a fork the child has a lock of its own; the memory stays
    shared. ``close`` may be called at any time: memory that a thread still holds a view of lives as long as that.
    """

    def __init__(self, layout: Layout, descriptor: int, name: str) -> None:
        self.layout = layout
        self.name = name
        self.contended = 0
        """How often ``lock`` was called in this process and gave up."""
        self._descriptor = descriptor
        self._locked = -1
        self._mutex = threading.Lock()
        try:
            self.capacity = _check(descriptor, layout, name)
            self.data = mmap.mmap(descriptor, layout.size(self.capacity))
            self._locked = _open_anew(descriptor)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | ValueError):  # ValueError: it has shrunk since it was checked
                raise layout.error(name, f"cannot be mapped: {error}") from error
            raise
        self.words = memoryview(self.data).cast("Q")
        survivors.add(self)

    @classmethod
    def create(cls, layout: Layout, capacity: int, path: str | os.PathLike[str] | None = None) -> Segment:
        """Make a segment of zeros: of memory only, or in a new file at ``path``.

        A file that is there already is opened, if it is a segment of this layout and of this user, and keeps its own
        capacity; what an earlier boot of the machine has left in it is erased.

        Raises:
            SegmentError: If that is not possible, or what is at ``path`` is something else (``Layout.error``).
            ValueError: If ``capacity`` is not a number from 1 to ``MAX_CAPACITY``.
        """
        if isinstance(capacity, bool) or not isinstance(capacity, int) or not 1 <= capacity <= MAX_CAPACITY:
            raise ValueError(f"capacity must be a number from 1 to {MAX_CAPACITY}, not {capacity!r}")
        if path is not None:
            return cls._create_file(layout, capacity, os.fspath(path))
        name = f"{layout.name} (memfd)"
        try:
            descriptor = os.memfd_create(f"meshvisor-{layout.name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise layout.error(name, f"cannot be made: {error.strerror}") from error
        try:
            os.fchmod(descriptor, 0o600)
            _fill(descriptor, layout, capacity)
            # A segment that could shrink would be a SIGBUS for everyone who has it mapped.
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except OSError as error:
            os.close(descriptor)
            raise layout.error(name, f"cannot be made: {error.strerror}") from error
        return cls(layout, descriptor, name)

    @classmethod
    def _create_file(cls, layout: Layout, capacity: int, path: str) -> Segment:
        """Make a file that is whole from the moment it has its name, or open the one that has it."""
        beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(8)}")
        try:
            descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _fill(descriptor, layout, capacity)
                os.link(beside, path)
            except FileExistsError:
                return cls._attach_path(layout, path, renew=True)
            finally:
                os.close(descriptor)
                os.unlink(beside)
        except OSError as error:
            raise layout.error(path, f"cannot be made: {error.strerror}") from error
        return cls._attach_path(layout, path)

    @classmethod
    def attach(cls, layout: Layout, source: str | os.PathLike[str] | int) -> Segment:
        """Open the segment at a path, or the one that an open descriptor is of; the descriptor stays the caller's.

        Raises:
            SegmentError: If it is not there, not this user's, or not a segment of this layout and boot.
        """
        if not isinstance(source, int):
            return cls._attach_path(layout, os.fspath(source))
        name = f"{layout.name} (descriptor {source})"
        try:
            # Before it is opened anew: opening a device can have consequences.
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise layout.error(name, "not a file or memfd")
            return cls(layout, _open_anew(source), name)
        except OSError as error:
            raise layout.error(name, f"cannot be opened: {error.strerror}") from error

    @classmethod
    def _attach_path(cls, layout: Layout, path: str, *, renew: bool = False) -> Segment:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise layout.error(path, f"cannot be opened: {error.strerror}") from error
        if renew:
            _renew(descriptor, layout, path)
        return cls(layout, descriptor, path)

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._descriptor < 0

    def fileno(self) -> int:
        """Return the descriptor to hand on to another process, which attaches by it; -1 once closed."""
        return self._descriptor

    def lock(self, *, wait: bool = True) -> bool:
        """Take the lock of all processes and threads; False, and counted, if it is not to be had within a millisecond.

        A process that is killed has lost it by the time that its death is known; one that is stopped keeps it. Without
        ``wait`` there is one attempt, which does not count.
        """
        mutex = self._mutex
        if not mutex.acquire(False) and not (wait and mutex.acquire(timeout=LOCK_PATIENCE)):
            self.contended += wait
            return False
        taken = False
        try:
            flock(self._locked, _TRY)
            taken = True
        except BlockingIOError:
            taken = wait and self._insist()
        except ValueError:  # -1: closed, or not opened anew after a fork
            if self.is_closed:
                raise self.layout.error(self.name, "is closed") from None
        finally:
            # Also when a signal handler raises, before or after the lock was taken.
            if not taken:
                self.contended += wait
                self.unlock()
        return taken

    def _insist(self) -> bool:
        """Go on trying to get the lock until the patience is over."""
        deadline = time.monotonic() + LOCK_PATIENCE
        while time.monotonic() < deadline:
            time.sleep(_PAUSE)
            try:
                flock(self._locked, _TRY)
            except BlockingIOError:
                continue
            return True
        return False

    def unlock(self) -> None:
        """Give the lock back."""
        try:
            if self._locked >= 0:
                flock(self._locked, LOCK_UN)
        finally:
            self._mutex.release()

    def close(self) -> None:
        """Forget the segment; a memfd that no process holds any more is gone, a file stays."""
        survivors.discard(self)
        # Between another thread's lock and unlock the number of the descriptor must not become another file's.
        waited = self._mutex.acquire(timeout=LOCK_PATIENCE)
        descriptors = self._descriptor, self._locked
        self._descriptor = self._locked = -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)
        if waited:
            self._mutex.release()
        # Not unmapped here: another thread may be reading. The mapping goes with the last view of it.
        self.words = _Closed(self)  # type: ignore[assignment]
        self.data = _Closed(self)  # type: ignore[assignment]

    def after_fork(self) -> None:
        """Give the child a lock of its own (a thread of the parent may have held the inherited one)."""
        self._mutex = threading.Lock()
        inherited, self._locked = self._locked, -1
        os.close(inherited)
        self._locked = _open_anew(self._descriptor)


class _Closed:
    """Stands where the memory of a segment was."""

    def __init__(self, segment: Segment) -> None:
        self._error = segment.layout.error
        self._name = segment.name

    def __getitem__(self, key: object) -> NoReturn:
        self._refuse()

    def __setitem__(self, key: object, value: object) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise self._error(self._name, "is closed")


class _Survivor(Protocol):
    def after_fork(self) -> None: ...


survivors: weakref.WeakSet[_Survivor] = weakref.WeakSet()
"""What has to be put right in a child after a fork."""


def _after_fork() -> None:
    for survivor in list(survivors):
        try:
            survivor.after_fork()
        except OSError:
            continue  # no descriptors left: that segment can be read, and its lock is not to be had


os.register_at_fork(after_in_child=_after_fork)


@cache
def boot_id() -> bytes:
    """Return the 16 bytes that name this boot of the machine."""
    return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", ""))


def _open_anew(descriptor: int) -> int:
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)


def _header(layout: Layout, capacity: int) -> bytes:
    """Return the header up to the boot id."""
    words = (_MAGIC, layout.kind | layout.version << 32, layout.size(capacity), capacity, layout.unit)
    header = b"".join(word.to_bytes(WORD, "little") for word in words)
    return header + crc32(header).to_bytes(WORD, "little")


def _fill(descriptor: int, layout: Layout, capacity: int) -> None:
    # Whole, now: a page that the file system has no room for when it is first touched is a SIGBUS.
    os.posix_fallocate(descriptor, 0, layout.size(capacity))
    os.pwrite(descriptor, _header(layout, capacity) + boot_id(), 0)


def _check(descriptor: int, layout: Layout, name: str, *, any_boot: bool = False) -> int:
    """Return the capacity of a segment that is what it should be, and this user's alone."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise layout.error(name, "not a file or memfd")
    if status.st_uid != os.geteuid():
        raise layout.error(name, f"belongs to user {status.st_uid}, not to {os.geteuid()}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise layout.error(name, "other users may write to it (chmod 600)")
    header = os.pread(descriptor, (_BOOT + 2) * WORD, 0)
    words = [int.from_bytes(header[at : at + WORD], "little") for at in range(0, len(header), WORD)]
    if len(header) < (_BOOT + 2) * WORD or words[0] != _MAGIC:
        raise layout.error(name, "not a segment of meshvisor")
    _, kind, size, capacity, unit = words[:_CHECKED]
    if words[_CHECK] != crc32(header[: _CHECKED * WORD]):
        raise layout.error(name, "its header is damaged; remove it")
    if kind & 0xFFFFFFFF != layout.kind:
        raise layout.error(name, f"not a {layout.name} (kind {kind & 0xFFFFFFFF})")
    if kind >> 32 != layout.version:
        raise layout.error(name, f"of version {kind >> 32}, where this meshvisor uses {layout.version}; remove it")
    whole = 1 <= capacity <= MAX_CAPACITY and unit == layout.unit and size == layout.size(capacity) == status.st_size
    if not whole:
        raise layout.error(name, f"has {status.st_size} bytes, where its header promises {size}; remove it")
    if not any_boot and header[_BOOT * WORD :] != boot_id():
        raise layout.error(name, "left by an earlier boot of the machine; create it anew")
    return capacity


def _renew(descriptor: int, layout: Layout, name: str) -> None:
    """Erase what an earlier boot has left in a file, unless somebody is at it already."""
    try:
        capacity = _check(descriptor, layout, name, any_boot=True)
        if _is_of_this_boot(descriptor):
            return
        flock(descriptor, _TRY)
        if not _is_of_this_boot(descriptor):
            nothing = bytes(layout.size(capacity) - FIRST_FREE * WORD)
            os.pwrite(descriptor, nothing, FIRST_FREE * WORD)
            # Last: nobody else believes the file before.
            os.pwrite(descriptor, boot_id(), _BOOT * WORD)
        flock(descriptor, LOCK_UN)
    except BlockingIOError:
        pass
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise layout.error(name, f"cannot be made anew: {error.strerror}") from error
        raise


def _is_of_this_boot(descriptor: int) -> bool:
    return os.pread(descriptor, len(boot_id()), _BOOT * WORD) == boot_id()
