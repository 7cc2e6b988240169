"""What only TCP has: names, ports, options of the socket, and connecting to oneself."""

import asyncio
import socket
from typing import Any

import pytest

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.transport import tcp
from meshvisor.shared.transport.base import HasSocket, TransportOptions
from meshvisor.shared.transport.tcp import TcpTransportAdapter

OPTIONS = TransportOptions("node-a")


def test_port_0_is_filled_in_and_a_name_is_kept() -> None:
    async def main() -> None:
        adapter = TcpTransportAdapter()
        listener = await adapter.listen(Endpoint.parse("tcp:localhost:0"), OPTIONS)
        assert listener.endpoint.host == "localhost"
        assert listener.endpoint.port > 0
        connection = await adapter.connect(listener.endpoint, OPTIONS)
        connection.close()
        listener.close()

    asyncio.run(main())


def test_small_messages_go_at_once_and_keepalive_is_off_at_both_ends() -> None:
    async def main() -> None:
        adapter = TcpTransportAdapter()
        listener = await adapter.listen(Endpoint.parse("tcp:127.0.0.1:0"), OPTIONS)
        connection = await adapter.connect(listener.endpoint, OPTIONS)
        streams: list[Any] = [connection.control, connection.data, await listener.accept(), await listener.accept()]
        for stream in streams:
            assert isinstance(stream, HasSocket)
            assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
            assert stream.socket.gettimeout() == 0
        for stream in streams:
            stream.close()
        listener.close()

    asyncio.run(main())


def test_a_dial_that_connected_to_itself_counts_as_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel makes such a connection when the dialled port happens to become the dialler's own: bind it first.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    prepare = tcp._prepare

    def prepare_and_bind(sock: socket.socket) -> None:
        prepare(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))

    monkeypatch.setattr(tcp, "_prepare", prepare_and_bind)

    async def main() -> None:
        with pytest.raises(OSError, match=r"refused|in use|assign"):
            await TcpTransportAdapter().connect(Endpoint.parse(f"tcp:127.0.0.1:{port}"), OPTIONS)

    asyncio.run(main())


def test_the_next_address_of_a_name_is_dialled_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        adapter = TcpTransportAdapter()
        listener = await adapter.listen(Endpoint.parse("tcp:127.0.0.1:0"), OPTIONS)
        port = listener.endpoint.port

        async def resolve(endpoint: Endpoint) -> list[Any]:
            return [(socket.AF_INET6, ("::1", port, 0, 0)), (socket.AF_INET, ("127.0.0.1", port))]

        monkeypatch.setattr(tcp, "_resolve", resolve)
        (await adapter.connect(Endpoint.parse("tcp:both.example:1"), OPTIONS)).close()
        listener.close()

    asyncio.run(main())


def test_a_name_that_does_not_resolve_is_an_os_error() -> None:
    async def main() -> None:
        with pytest.raises(OSError, match=r"(?i)name|service|resol"):
            await TcpTransportAdapter().connect(Endpoint.parse("tcp:no-such-host.invalid:1"), OPTIONS)

    asyncio.run(main())
