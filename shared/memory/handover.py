"""How a process gets at shared memory that has no name: it asks at a Unix socket, and is given the descriptors.

    client                    server
        connect  ───────────▶
                 ◀───────────  "meshvisor 1 blacklist wake\\n", with the descriptors so named (SCM_RIGHTS); the end

The first word and the version come first in every version. Each end deals with processes of its own user only, and
the server waits for nobody: it sends once, and closes.
"""

from __future__ import annotations

import array
import os
import re
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..errors import SegmentError

VERSION = 1

TIMEOUT = 2.0
"""Seconds that a server may take to answer."""

_GREETING = re.compile(rb"meshvisor (\d{1,9})((?: [a-z]{1,32}){0,8})\n")
_LONGEST = 512
_MOST = 8
_INT = array.array("i").itemsize
_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid
_TIMEVAL = struct.Struct("ll")


def offer(client: socket.socket, descriptors: Mapping[str, int]) -> bool:
    """Send ``descriptors`` by their names to whoever has connected, if it is of our user; return whether it was done.

    Never waits; what cannot be sent at once is not sent. The socket stays the caller's to close.
    """
    greeting = " ".join(["meshvisor", str(VERSION), *descriptors]).encode() + b"\n"
    rights = array.array("i", descriptors.values())
    try:
        if _peer_uid(client) != os.geteuid():
            return False
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        return client.sendmsg([greeting], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], flags) == len(greeting)
    except OSError:
        return False


def fetch(path: str | os.PathLike[str]) -> dict[str, int]:
    """Ask at the socket ``path`` (of any length) and return the descriptors by name, which are the caller's to close.

    Blocks for up to ``TIMEOUT`` seconds, twice at most.

    Raises:
        SegmentError: If nobody answers there, it is not our user who does, or the answer makes no sense.
    """
    name = os.fspath(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        try:
            _set_timeouts(sock)
            _connect(sock, name)
            uid = _peer_uid(sock)
            if uid != os.geteuid():
                raise SegmentError(name, f"the process that listens there belongs to user {uid}, not to this one")
            greeting, descriptors = _receive(sock)
        except BlockingIOError:
            raise SegmentError(name, f"the supervisor did not answer within {TIMEOUT:g} s") from None
        except OSError as error:
            raise SegmentError(name, f"nobody answers there: {error.strerror}") from error
    try:
        return dict(zip(_names(name, greeting, len(descriptors)), descriptors, strict=True))
    except SegmentError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


@contextmanager
def fetched(path: str | os.PathLike[str], error: type[SegmentError] = SegmentError) -> Iterator[dict[str, int]]:
    """Hold what ``fetch`` returns, and close it at the end; whatever is wrong is raised as ``error``."""
    try:
        descriptors = fetch(path)
    except SegmentError as fault:
        raise error(fault.segment, fault.reason) from fault
    try:
        yield descriptors
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)


def is_socket(path: str | os.PathLike[str]) -> bool:
    """Return whether there is a Unix socket at ``path``."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _set_timeouts(sock: socket.socket) -> None:
    # The kernel's own, since a connect that waits for room in a full queue is not covered by poll(2).
    limit = _TIMEVAL.pack(int(TIMEOUT), round(TIMEOUT % 1 * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)


def _connect(sock: socket.socket, path: str) -> None:
    # O_PATH opens sockets too, and the way through the descriptor is short enough for an address.
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{target}")
    finally:
        os.close(target)


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Return what was said, and the descriptors that came with it."""
    data, ancillary, _, _ = sock.recvmsg(_LONGEST, socket.CMSG_SPACE(_MOST * _INT), socket.MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for level, kind, numbers in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors += array.array("i", numbers[: len(numbers) - len(numbers) % _INT])
    return data, descriptors


def _names(path: str, greeting: bytes, count: int) -> list[str]:
    match = _GREETING.fullmatch(greeting)
    if match is None:
        raise SegmentError(path, "what listens there does not hand out shared memory of meshvisor")
    if int(match[1]) != VERSION:
        raise SegmentError(path, f"the mesh is of another version (it hands over by {int(match[1])}, we by {VERSION})")
    names = match[2].decode().split()
    if len(names) != count or len(set(names)) != count:
        raise SegmentError(path, f"{count} descriptors came, where {len(names)} were named")
    return names


def _peer_uid(sock: socket.socket) -> int:
    """Return the uid that the other end had when it connected, or began to listen (unix(7), SO_PEERCRED)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[1])
