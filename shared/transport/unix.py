"""Unix sockets of one user.

A socket's address holds 107 bytes, its path may be longer: a listener's directory and a dialler's target are opened
first and addressed through ``/proc/self/fd``.

A listener's file appears at once as what it is to be: the socket is bound under a hidden name, closed to other users
(mode 0600) and listening before it is linked to its own name. So nobody ever finds a file that cannot be dialled yet,
and a file that refuses is one whose listener is dead.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import socket
import stat
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import PurePosixPath

from ..core.endpoint import Endpoint
from .base import TransportAdapter, TransportConnection, TransportOptions
from .sockets import SocketListener, SocketStream

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05
_SEND_BUFFER = 1024 * 1024
"""Bytes that may be under way to the peer; the kernel's default (208 KiB) costs 15 % at messages of 1 MiB."""
_SHORT = 107
"""Bytes of a path that an address holds."""

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class UnixTransportAdapter:
    """Dials and listens at ``unix:/PATH``; peers of another user are turned away, in both directions."""

    transport = "unix"

    async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        """See ``TransportAdapter.connect``. While the listener's queue is full, it is tried again and again."""
        # A connect to a Unix socket is done when the call returns, so nothing is won by opening both at once.
        control = await _dial(endpoint.path)
        try:
            data = await _dial(endpoint.path)
        except BaseException:
            control.close()
            raise
        return TransportConnection(control, data)

    def connect_now(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection | None:
        """See ``ConnectsAtOnce``. It would have to wait if the listener's queue is full."""
        control = _dial_now(endpoint.path)
        if control is None:
            return None
        try:
            data = _dial_now(endpoint.path)
        except BaseException:
            control.close()
            raise
        if data is None:
            control.close()
            return None
        return TransportConnection(control, data)

    async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> SocketListener:
        """See ``TransportAdapter.listen``. The file of a dead listener is replaced, that of a live one never."""
        path = PurePosixPath(endpoint.path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                return await _publish(sock, directory, path.name, endpoint, options.backlog)
            except BaseException:
                sock.close()
                raise
        except BaseException:
            os.close(directory)
            raise


class _UnixListener(SocketListener):
    """Owns, beside its socket, the descriptor of the directory and the file in it."""

    def __init__(self, sock: socket.socket, endpoint: Endpoint, directory: int, name: str, inode: int) -> None:
        super().__init__(sock, endpoint)
        self._directory = directory
        self._name = name
        self._inode = inode

    def close(self) -> None:
        """Stop listening and remove the file, unless it is another listener's by now."""
        super().close()
        if self._directory < 0:
            return
        with suppress(OSError):
            if os.stat(self._name, dir_fd=self._directory, follow_symlinks=False).st_ino == self._inode:
                os.unlink(self._name, dir_fd=self._directory)
        os.close(self._directory)
        self._directory = -1

    def _welcome(self, accepted: socket.socket) -> bool:
        try:
            accepted.setblocking(False)
            _widen(accepted)
            return _peer_uid(accepted) == os.geteuid()
        except OSError:
            return False


def _widen(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)


async def _publish(sock: socket.socket, directory: int, name: str, endpoint: Endpoint, backlog: int) -> _UnixListener:
    """Bind and listen under a hidden name, then link that to ``name``; the listener owns ``directory`` from then on."""
    # The name is there for those who read `ss -xl`; the socket keeps it after the unlink.
    hidden = f".{name[:24]}.{secrets.token_hex(4)}"
    sock.bind(f"/proc/self/fd/{directory}/{hidden}")
    try:
        os.chmod(hidden, 0o600, dir_fd=directory)
        sock.listen(backlog)
        inode = os.stat(hidden, dir_fd=directory, follow_symlinks=False).st_ino
        async with _locked(directory):
            if _is_stale(directory, name):
                os.unlink(name, dir_fd=directory)
            try:
                os.link(hidden, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
            except FileExistsError:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), endpoint.path) from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(hidden, dir_fd=directory)
    return _UnixListener(sock, endpoint, directory, name, inode)


@asynccontextmanager
async def _locked(directory: int) -> AsyncIterator[None]:
    """Hold the directory's lock: of two that find a stale file, the second must not remove the first one's new file.

    The lock is held for a few system calls and freed by the kernel when its holder dies.
    """
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            await asyncio.sleep(_FIRST_PAUSE)
    try:
        yield
    finally:
        fcntl.flock(directory, fcntl.LOCK_UN)


def _is_stale(directory: int, name: str) -> bool:
    """Whether ``name`` is the file of a socket that nobody listens at."""
    try:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return _connect(probe, name, directory) == errno.ECONNREFUSED


def _connect(sock: socket.socket, path: str, directory: int | None = None) -> int:
    """Connect to the socket at ``path`` and return the errno (0: connected)."""
    if directory is None and len(path) <= _SHORT and path.isascii():
        return sock.connect_ex(path)
    # O_PATH opens what cannot be opened otherwise, sockets too, and takes paths of any length.
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        return error.errno or errno.EIO
    try:
        return sock.connect_ex(f"/proc/self/fd/{target}")
    finally:
        os.close(target)


async def _dial(path: str) -> SocketStream:
    pause = _FIRST_PAUSE
    while (stream := _dial_now(path)) is None:
        # The listener's queue is full, and nothing tells when it is not: the one thing here that must be polled.
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return stream


def _dial_now(path: str) -> SocketStream | None:
    """Return a stream to whoever listens at ``path``; None while its queue is full.

    Raises:
        OSError: If nobody does, or one of another user.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        code = _connect(sock, path)
        if code == errno.EAGAIN:
            sock.close()
            return None
        if code:
            raise OSError(code, os.strerror(code), path)
        uid = _peer_uid(sock)  # nobody's, -1, if there is no connection after all
        if uid != os.geteuid():
            raise PermissionError(errno.EPERM, f"the listener belongs to user {uid}, not to this one", path)
        _widen(sock)
        return SocketStream(sock)
    except BaseException:
        sock.close()
        raise


def _peer_uid(sock: socket.socket) -> int:
    """Return the uid that the other end had when it connected, or began to listen (unix(7), SO_PEERCRED)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(credentials)
    return int(uid)


_adapter: type[TransportAdapter] = UnixTransportAdapter
