"""Writing to a place that may be slow, stopped or gone, without ever waiting for it."""

from __future__ import annotations

import errno
import os
import select
import threading
from collections import deque
from collections.abc import Callable

LIMIT = 4 * 1024 * 1024
"""How much may wait to be written, in bytes."""


def _not_shown(count: int) -> str:
    return f"... {count} lines are not shown: the output is not taken fast enough\n"


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Writer:
    """Writes to ``descriptor`` in a thread of its own.

    A terminal that was stopped (Ctrl-S), or a pipe that nobody reads, makes texts wait; beyond ``limit`` bytes they
    are dropped, and ``dropped`` tells their number when there is room again. A place that is gone swallows everything.
    The descriptor's own mode is left alone: it may be shared with the shell.
    """

    def __init__(self, descriptor: int, limit: int = LIMIT, dropped: Callable[[int], str] = _not_shown) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._tell_dropped = dropped
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._gone = False
        self._closing = False
        self._changed = threading.Condition()
        # A daemon: if the descriptor never takes what is left, the program ends all the same.
        self._thread = threading.Thread(target=self._run, name="meshvisor-output", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Have ``text`` (whole lines) written soon."""
        data = text.encode(errors="replace")
        with self._changed:
            if self._gone or self._closing:
                return
            if self._size + len(data) > self._limit:
                self._dropped += 1
                return
            if self._dropped:
                data = self._tell_dropped(self._dropped).encode() + data
                self._dropped = 0
            self._waiting.append(data)
            self._size += len(data)
            self._changed.notify()

    def close(self, timeout: float = 1.0) -> None:
        """Write what is left, for at most ``timeout`` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                data = b"".join(self._waiting)
                self._waiting.clear()
            is_written = self._write_all(data)
            with self._changed:
                self._size -= len(data)
                if not is_written:
                    self._gone = True
                    return

    def _write_all(self, data: bytes) -> bool:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody else made it non-blocking
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()
            except OSError as error:
                return error.errno in _FULL  # there may be room again; these lines are lost
        return True
