"""Hears from the kernel that the machine's network changed: links up or down, addresses added or removed."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

# linux/rtnetlink.h: multicast groups to join, and types of messages.
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_MESSAGES = {
    16: "a network interface changed",  # RTM_NEWLINK
    17: "a network interface went away",  # RTM_DELLINK
    20: "an address was added",  # RTM_NEWADDR
    21: "an address went away",  # RTM_DELADDR
}
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ROOM = 65536


def changes(data: bytes) -> list[str]:
    """Return what a datagram of rtnetlink messages says that changed, each kind of change once."""
    found = []
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            break
        if kind in _MESSAGES and _MESSAGES[kind] not in found:
            found.append(_MESSAGES[kind])
        data = data[(length + 3) & ~3 :]
    return found


class NetworkMonitor:
    """Calls ``changed`` with a description of each change. Where netlink cannot be had, it stays silent."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to listen, on the running loop; again: no effect."""
        if self._socket is not None:
            return
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
            )
            self._socket.bind((0, _GROUPS))
        except OSError:
            self._drop()
            return
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._read)

    def close(self) -> None:
        """Stop."""
        if self._loop is not None and self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
        self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_ROOM)
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: more changed than was read; what it was does not matter
            self._changed("the network changed")
            return
        for change in changes(data):
            self._changed(change)
