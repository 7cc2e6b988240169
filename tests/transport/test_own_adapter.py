"""An adapter of one's own, as the guide in ``meshvisor.shared.transport`` says, and messages over it."""

import asyncio
from typing import Self

from meshvisor import (
    ConnectionHost,
    ConnectionHostOptions,
    ConnectionManager,
    ConnectionOptions,
    Endpoint,
    TransportConnection,
)
from meshvisor.shared.transport.base import TransportOptions


class PlainStream:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self, limit: int, /) -> bytes:
        return await self.reader.read(limit)

    async def write(self, data: bytes | bytearray | memoryview, /) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        self.writer.close()


class PlainListener:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.arrived: asyncio.Queue[PlainStream | None] = asyncio.Queue(maxsize=64)
        self.server: asyncio.Server | None = None

    async def start(self) -> Self:
        host, _, port = self.endpoint.path.rpartition(":")
        self.server = await asyncio.start_server(self.meet, host, int(port))
        port = self.server.sockets[0].getsockname()[1]
        self.endpoint = Endpoint.parse(f"plain:{host}:{port}")
        return self

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.arrived.put(PlainStream(reader, writer))

    async def accept(self) -> PlainStream:
        stream = await self.arrived.get()
        if stream is None:
            raise OSError("the listener is closed")
        return stream

    def close(self) -> None:
        if self.server is not None:
            self.server.close()
        self.arrived.put_nowait(None)


class PlainAdapter:
    transport = "plain"

    async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        control = await self.open(endpoint)
        try:
            return TransportConnection(control, await self.open(endpoint))
        except BaseException:
            control.close()
            raise

    async def open(self, endpoint: Endpoint) -> PlainStream:
        host, _, port = endpoint.path.rpartition(":")
        return PlainStream(*await asyncio.open_connection(host, int(port)))

    async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> PlainListener:
        return await PlainListener(endpoint).start()


def test_messages_pass_over_an_adapter_of_ones_own() -> None:
    async def main() -> None:
        adapters = [PlainAdapter()]
        host_options = ConnectionHostOptions(node_id="host", endpoints=["plain:127.0.0.1:0"])
        async with ConnectionHost(host_options, adapters=adapters) as host:
            options = ConnectionOptions(node_id="client", endpoints=list(host.endpoints))
            async with ConnectionManager(options, adapters=adapters) as manager:
                connection = await manager.connect()
                accepted = await host.accept()
                for number in range(100):
                    await connection.send(b"x" * number * 500)
                bodies = [(await accepted.receive()).body for _ in range(100)]
                assert [len(body) for body in bodies] == [number * 500 for number in range(100)]
                await accepted.send(b"back")
                assert (await connection.receive()).body == b"back"

    asyncio.run(main())
