"""TCP. Small messages go at once (TCP_NODELAY); keepalive stays off, since links notice silence by themselves."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from dataclasses import replace

from ..core.endpoint import Endpoint
from .base import TransportAdapter, TransportConnection, TransportOptions
from .sockets import SocketListener, SocketStream, finish_connect

_Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


class TcpTransportAdapter:
    """Dials and listens at ``tcp:HOST:PORT``.

    A name that resolves to several addresses is dialled at one after the other; to have them raced, list them as
    endpoints. The listener takes the first one that can be bound.
    """

    transport = "tcp"

    async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        """See ``TransportAdapter.connect``."""
        failure: OSError | None = None
        for address in await _resolve(endpoint):
            try:
                return await _connect_both(address)
            except OSError as error:
                failure = error
        raise failure or OSError(errno.EADDRNOTAVAIL, f"{endpoint.host} has no address")

    async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> SocketListener:
        """See ``TransportAdapter.listen``."""
        failure: OSError | None = None
        for address in await _resolve(endpoint):
            try:
                sock = _bind(address, options.backlog)
            except OSError as error:
                failure = error
                continue
            return _TcpListener(sock, replace(endpoint, port=sock.getsockname()[1]))
        raise failure or OSError(errno.EADDRNOTAVAIL, f"{endpoint.host} has no address")


class _TcpListener(SocketListener):
    def _welcome(self, accepted: socket.socket) -> bool:
        try:
            _prepare(accepted)
        except OSError:  # The peer is gone again.
            return False
        return True


async def _resolve(endpoint: Endpoint) -> list[_Address]:
    """Return the addresses of ``endpoint``, without a thread if it holds one already."""
    host, port, kind = endpoint.host, endpoint.port, socket.SOCK_STREAM
    try:
        found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind)
    return [(family, address) for family, _, _, _, address in found]


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _bind(address: _Address, backlog: int) -> socket.socket:
    family, place = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_both(address: _Address) -> TransportConnection:
    """Open both streams at the same time: each connect is under way before the first one is waited for."""
    family, place = address
    sockets: list[socket.socket] = []
    try:
        for _ in range(2):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            _prepare(sock)
            code = sock.connect_ex(place)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
        for sock in sockets:
            await finish_connect(sock)
            # While a port of the ephemeral range has no listener, a dial may be given that very port as its own and
            # connect to itself (TCP's simultaneous open).
            if sock.getsockname() == sock.getpeername():
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    control, data = map(SocketStream, sockets)
    return TransportConnection(control, data)


_adapter: type[TransportAdapter] = TcpTransportAdapter
