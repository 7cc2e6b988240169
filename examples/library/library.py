"""A link by itself: first over TCP as it comes, then over a transport that is made here, in 40 lines."""

import asyncio
import socket
from typing import ClassVar

from meshvisor import (
    ConnectionHost,
    ConnectionHostOptions,
    ConnectionManager,
    ConnectionOptions,
    Endpoint,
    TransportConnection,
    Worker,
)
from meshvisor.shared.transport.base import TransportOptions


class PairStream:
    """A stream over one end of a socket pair."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    async def read(self, limit: int, /) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._end, limit)

    async def write(self, data: bytes | bytearray | memoryview, /) -> None:
        await asyncio.get_running_loop().sock_sendall(self._end, data)

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        if self._end.fileno() >= 0:  # whoever waits for it must not wait for a number that is somebody else's soon
            loop.remove_reader(self._end)
            loop.remove_writer(self._end)
            self._end.close()


class PairListener:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.knocking: asyncio.Queue[PairStream] = asyncio.Queue(100)

    async def accept(self) -> PairStream:
        return await self.knocking.get()

    def close(self) -> None:
        PairAdapter.listeners.pop(self.endpoint.path, None)


class PairAdapter:
    """Carries ``pair:NAME`` endpoints over socket pairs within this process."""

    transport = "pair"
    listeners: ClassVar[dict[str, PairListener]] = {}

    async def connect(self, endpoint: Endpoint, options: TransportOptions, /) -> TransportConnection:
        return TransportConnection(control=self._open(endpoint), data=self._open(endpoint))

    def _open(self, endpoint: Endpoint) -> PairStream:
        if endpoint.path not in self.listeners:
            raise ConnectionRefusedError(f"nobody listens at {endpoint}")
        near, far = socket.socketpair()
        self.listeners[endpoint.path].knocking.put_nowait(PairStream(far))
        return PairStream(near)

    async def listen(self, endpoint: Endpoint, options: TransportOptions, /) -> PairListener:
        return self.listeners.setdefault(endpoint.path, PairListener(endpoint))


async def talk(endpoint: str, adapters: list[PairAdapter] | None = None) -> None:
    """Send a few messages over a link, exchange its connection for another one in between, and show what it was."""
    listening = ConnectionHostOptions(node_id="server", endpoints=[endpoint], secret=b"between the two of us")
    async with ConnectionHost(listening, adapters=adapters) as host:
        dialling = ConnectionOptions(
            node_id="client", endpoints=[str(host.endpoints[0])], secret=b"between the two of us"
        )
        async with ConnectionManager(dialling, adapters=adapters) as manager:
            manager.on_state_changed(lambda change: print(f"  {change.previous} -> {change.current} ({change.cause})"))
            link = await manager.connect()
            accepted = await host.accept()
            for word in ("hello", "over", "there"):
                await link.send(word.encode())
            await manager.reconnect()  # make before break: nothing is lost, and nothing arrives twice
            await link.send(b"again")
            got = [bytes((await accepted.receive()).body).decode() for _ in range(4)]
            await accepted.send(f"got {' '.join(got)}".encode())
            print(
                f"  {(await link.receive()).body.decode()!r}, round trip {1e6 * (manager.metrics().srtt or 0):.0f} us"
            )


async def main() -> None:
    print("over TCP, on a port that the system chooses:")
    await talk("tcp:127.0.0.1:0")
    print("over a transport of our own:")
    await talk("pair:here", adapters=[PairAdapter()])


class Script(Worker):
    """Has the same done in a process that is looked after."""

    async def run(self) -> None:
        await main()


if __name__ == "__main__":
    asyncio.run(main())
