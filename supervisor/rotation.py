"""A file that only grows at its end and never beyond a size: then it is renamed, and a new one begun."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class RotatedFile:
    """``PATH``, then ``PATH.1`` (the latest of the earlier ones) to ``PATH.keep``; with ``keep`` 0 nothing earlier.

    Whatever the disk does, writing goes on with the next piece. What could not be written is lost; ``lost`` is called
    with the reason once per row of failures, and ``restored`` with the number of pieces lost when that is over.
    """

    def __init__(
        self, path: Path, *, max_size: int, keep: int, lost: Callable[[str], None], restored: Callable[[int], None]
    ) -> None:
        self.path = path
        self.max_size = max_size
        self.keep = keep
        self._lost = lost
        self._restored = restored
        self._descriptor = -1
        self._size = 0
        self._missing = 0

    def append(self, data: bytes, pieces: int = 1) -> None:
        """Write ``data``, which ends with a line's end and holds so many ``pieces``; whole, or not at all."""
        try:
            self._append(data)
        except OSError as error:
            self.close()
            self._missing += pieces
            if self._missing == pieces:
                self._lost(error.strerror or str(error))
        else:
            missing, self._missing = self._missing, 0
            if missing:
                self._restored(missing)

    def close(self) -> None:
        """Close the file; the next piece opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _append(self, data: bytes) -> None:
        if self._descriptor < 0:
            self._open()
        if self._size and self._size + len(data) > self.max_size:
            self._rotate()
        written = os.write(self._descriptor, data)
        if written < len(data):
            with suppress(OSError):  # a device has no size
                os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # No link is followed: whoever can put one into the directory must not choose what we write to.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
        self._descriptor = os.open(self.path, flags, 0o640)
        self._size = os.fstat(self._descriptor).st_size
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            self._size += os.write(self._descriptor, b"\n")  # the last writer was cut off within a piece

    def _rotate(self) -> None:
        if self.keep == 0:
            os.ftruncate(self._descriptor, 0)
            self._size = 0
        else:
            self.close()
            for number in range(self.keep - 1, 0, -1):
                with suppress(FileNotFoundError):
                    os.replace(self._numbered(number), self._numbered(number + 1))
            os.replace(self.path, self._numbered(1))
            self._open()
        with suppress(FileNotFoundError):  # an earlier run may have kept more
            for number in itertools.count(self.keep + 1):
                os.unlink(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
