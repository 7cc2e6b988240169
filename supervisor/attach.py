"""``attach.sock``: where any process of the same user gets at the mesh's shared memory, by descriptor.

The server is a listener on the supervisor's loop that costs it one ``accept`` and one ``sendmsg`` per client. Nothing a
client does can hold it up: no client is waited for, and none is kept.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from ..shared.errors import BlacklistError, SupervisorError
from ..shared.memory.blacklist import SharedBlacklist
from ..shared.memory.handover import offer
from .directory import NotRunning, find_running, why_silent

SOCKET = "attach.sock"

_BACKLOG = 64
_AT_ONCE = 16  # clients served before the loop's other business comes again
_PAUSE = 0.5  # seconds without serving, when no descriptor is left to accept with
_PATIENCE = 2.0
_LOOK = 0.01


class AttachServer:
    """Gives copies of ``descriptors`` to whoever of our user connects, until ``close``.

    ``directory`` is a descriptor of the runtime directory.

    Raises:
        SupervisorError: If the socket cannot be bound.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: int, descriptors: Mapping[str, int]) -> None:
        self._loop = loop
        self._descriptors = dict(descriptors)
        self._timer: asyncio.TimerHandle | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            # Socket addresses are short and directories are not.
            self._listener.bind(f"/proc/self/fd/{directory}/{SOCKET}")
            self._listener.listen(_BACKLOG)
        except OSError as error:
            self._listener.close()
            raise SupervisorError(f"cannot open the socket {SOCKET}: {error.strerror}") from None
        self._watch()

    def close(self) -> None:
        """Stop serving; again: no effect. The file is removed with the runtime directory."""
        if self._timer is not None:
            self._timer.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()

    def _watch(self) -> None:
        self._timer = None
        self._loop.add_reader(self._listener, self._serve)

    def _serve(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:
                # Whoever waits in the queue would wake us again at once, for ever.
                self._loop.remove_reader(self._listener)
                self._timer = self._loop.call_later(_PAUSE, self._watch)
                return
            with client:
                offer(client, self._descriptors)


def attach_blacklist(base: Path, name: str, source: str) -> SharedBlacklist:
    """Return the blacklist of the mesh ``name`` whose runtime directory is in ``base``; ``source`` says who we are.

    Blocks for a few seconds at most.

    Raises:
        NotRunning: If there is no such mesh.
        BlacklistError: If its supervisor does not answer.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        if (pid := find_running(base, name)) is None:
            raise NotRunning(name)
        try:
            return SharedBlacklist.attach(os.fspath(base / name / SOCKET), source=source)
        except BlacklistError as error:
            # A supervisor that has just begun may not have its socket yet, or not listen at it yet; and one that has
            # just ended has none any more.
            if time.monotonic() >= deadline:
                raise BlacklistError(error.segment, error.reason + why_silent(pid)) from None
        time.sleep(_LOOK)
