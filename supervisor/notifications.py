"""What a command says about itself in the way of sd_notify(3): READY=1, STOPPING=1, STATUS=...

Each incarnation has a socket of its own: nothing that an earlier one says late is taken for news of this one. Where
the command runs as we do, the socket is a file in the runtime directory, which nobody else can enter. Where it runs as
another user, who could not enter either, or where the directory's path is too long for an address, it is an abstract
address that cannot be guessed. Either way the kernel says who sent a message: it must have come from the session that
the command leads, or from a descendant of it. A sender that is gone already (``systemd-notify`` in a script ends
before anybody can look) cannot be looked up any more; then it is enough that its user is the command's.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .leftovers import parent_of

_LONGEST_ADDRESS = 107  # sun_path, with its closing NUL
_LONGEST_MESSAGE = 4096
_MESSAGES_PER_TURN = 16
_LONGEST_STATUS = 300
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_MOST_ANCESTORS = 64


def _ignore() -> None:
    pass


class NotifySocket:
    """The receiving end. ``on_ready`` and ``on_stopping`` are called when the command says so; ``status`` is its own
    latest word on how it is.

    Raises:
        OSError: If it cannot be bound.
    """

    def __init__(self, file: Path, user: str | None = None) -> None:
        self.on_ready: Callable[[], None] = _ignore
        self.on_stopping: Callable[[], None] = _ignore
        self.status = ""
        uid = pwd.getpwnam(user).pw_uid if user else os.geteuid()
        self._uids = {0, os.geteuid(), uid}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        is_reachable = uid == os.geteuid() and len(os.fsencode(file)) <= _LONGEST_ADDRESS
        self._file = file if is_reachable else None
        self.address = f"@meshvisor-{secrets.token_hex(16)}" if self._file is None else str(file)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._socket.bind(self.address.replace("@", "\0", 1) if self._file is None else self.address)
        except OSError:
            self._socket.close()
            raise

    def listen(self, loop: asyncio.AbstractEventLoop, pid: int) -> None:
        """Begin to hear what the session of ``pid`` says."""
        self._loop, self._pid = loop, pid
        loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        """Stop listening; again: no effect."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._loop = None
        if self._socket.fileno() >= 0:
            self._socket.close()
            if self._file is not None:
                with suppress(OSError):
                    self._file.unlink()

    def _read(self) -> None:
        for _ in range(_MESSAGES_PER_TURN):
            if self._loop is None:
                return
            try:
                # With room for the credentials alone: descriptors that come along are closed by the kernel, which is
                # also what a sender that waits for its message to be seen (BARRIER=1) waits for.
                room = socket.CMSG_SPACE(_CREDENTIALS.size)
                data, ancillary, _, _ = self._socket.recvmsg(_LONGEST_MESSAGE, room)
            except OSError:
                return
            if self._is_from_the_command(ancillary):
                self._take(data)

    def _is_from_the_command(self, ancillary: list[tuple[int, int, bytes]]) -> bool:
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) == _CREDENTIALS.size:
                pid, uid, _ = _CREDENTIALS.unpack(data)
                return uid in self._uids and self._is_ours(pid)
        return False

    def _is_ours(self, pid: int) -> bool:
        try:
            if os.getsid(pid) == self._pid:
                return True
        except ProcessLookupError:
            return True
        for _ in range(_MOST_ANCESTORS):
            if pid in (self._pid, 0):
                break
            pid = parent_of(pid)
        return pid == self._pid

    def _take(self, data: bytes) -> None:
        words = set()
        for line in data.decode(errors="replace").split("\n"):  # and not at what else Python takes for a line's end
            if line.startswith("STATUS="):
                self.status = line.removeprefix("STATUS=")[:_LONGEST_STATUS]
            words.add(line)
        if "READY=1" in words:
            self.on_ready()
        if "STOPPING=1" in words:
            self.on_stopping()
