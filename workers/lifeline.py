"""A worker's end of its lifeline."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterable

from ..shared.control.lifeline import (
    MAX_DESCRIPTORS,
    Assignment,
    FromWorker,
    LifelineError,
    Links,
    Reserve,
    ToWorker,
    encode,
    worker_end,
)

LINKS_INTERVAL = 0.05
"""Seconds from a change in how many peers are linked to its report.

When a link comes or goes, somebody was born or has died, and the supervisor has other things to do at that moment.
"""

_READ_SIZE = 256 * 1024
_INT = array.array("i").itemsize
_ANCILLARY_SIZE = socket.CMSG_SPACE(MAX_DESCRIPTORS * _INT)


class Lifeline:
    """Speaks to the supervisor: first blocking, until the first message; then on the loop, after ``attach``.

    What goes out is bounded by its nature: each message is sent once, or once for each question, except for ``Links``,
    of which only the latest waits.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.descriptors: dict[str, int] = {}
        self._socket = sock
        self._reader = worker_end()
        self._early: list[ToWorker] = []
        self._is_nameless = False  # a spare: an assignment may still come
        self._outgoing = bytearray()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._links: Links | None = None
        self._links_timer: asyncio.TimerHandle | None = None

    def receive_first(self) -> Assignment | Reserve:
        """Block until the first message is here; ``descriptors`` then holds by name those that came with it.

        Raises:
            EOFError: If the supervisor ended instead.
            LifelineError: If something else came.
        """
        self._socket.setblocking(True)
        descriptors: list[int] = []
        try:
            first = self._receive_first(descriptors)
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        self._is_nameless = isinstance(first, Reserve)
        self.descriptors = dict(zip(first.descriptors, descriptors, strict=True))
        return first

    def _receive_first(self, descriptors: list[int]) -> Assignment | Reserve:
        """Do so, and add to ``descriptors`` those that come, whatever is wrong."""
        while not self._early:
            # socket.recv_fds would leave them inheritable.
            data, ancillary, _, _ = self._socket.recvmsg(_READ_SIZE, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
            for level, kind, numbers in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors += array.array("i", numbers[: len(numbers) - len(numbers) % _INT])
            if not data:
                raise EOFError("the supervisor ended before it said what to run")
            self._early = self._reader.receive(data)
        first = self._early.pop(0)
        if not isinstance(first, Assignment | Reserve):
            raise LifelineError("the first message must be the assignment")
        if len(first.descriptors) != len(descriptors):
            raise LifelineError(f"{len(descriptors)} descriptors came with an assignment of {len(first.descriptors)}")
        if len(set(first.descriptors)) != len(descriptors):
            raise LifelineError(f"two descriptors have one name: {', '.join(first.descriptors)}")
        return first

    def attach(self, on_message: Callable[[ToWorker], None], on_end: Callable[[str], None]) -> None:
        """Read and write on the running loop from now on. Again: pass on to others from now on.

        ``on_end`` is called, with the reason, when the supervisor is gone or cannot be understood. An assignment
        comes only to a spare, and only once.
        """
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._on_end = on_end
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._read)
        early, self._early = self._early, []
        self._hand_out(early)
        self._plan_links()

    def report(self, message: FromWorker) -> None:
        """Send ``message``; of links only the latest, ``LINKS_INTERVAL`` after the first that it makes up for."""
        if isinstance(message, Links):
            self._links = message
            self._plan_links()
            return
        self._outgoing += encode(message)
        self._write()

    def flush(self, timeout: float) -> None:
        """Block for up to ``timeout`` seconds until everything is sent."""
        self._socket.settimeout(timeout)
        with contextlib.suppress(OSError):  # The process ends anyway, and the supervisor learns that from the kernel.
            self._socket.sendall(self._outgoing)

    def _plan_links(self) -> None:
        if self._loop is not None and self._links is not None and self._links_timer is None:
            self._links_timer = self._loop.call_later(LINKS_INTERVAL, self._send_links)

    def _send_links(self) -> None:
        self._links_timer = None
        message = self._links
        if message is None or self._outgoing:  # The supervisor is behind: the latest will do once it has caught up.
            self._plan_links()
            return
        self._links = None
        self._outgoing += encode(message)
        self._write()

    def _write(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            if self._loop is not None:
                self._loop.add_writer(self._socket, self._write)
            return
        except OSError as error:
            self._break(error)
            return
        if self._loop is not None:
            self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(error)
            return
        if not data:
            self._end("the supervisor is gone")
            return
        try:
            messages = self._reader.receive(data)
        except LifelineError as error:
            if self._hand_out(error.before):
                self._end(str(error))
            return
        self._hand_out(messages)

    def _hand_out(self, messages: Iterable[ToWorker]) -> bool:
        """Pass ``messages`` on; return whether that was not the end."""
        for message in messages:
            if isinstance(message, Assignment | Reserve):
                if isinstance(message, Reserve) or not self._is_nameless:
                    self._end("a second assignment came")
                    return False
                self._is_nameless = False
            self._on_message(message)
        return True

    def _break(self, error: OSError) -> None:
        """End it: whoever writes may learn of the other end's death before whoever reads."""
        is_gone = isinstance(error, BrokenPipeError | ConnectionResetError)
        self._end("the supervisor is gone" if is_gone else f"the lifeline broke: {error}")

    def _end(self, reason: str) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._on_end(reason)
