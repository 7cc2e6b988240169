"""meshvisor's ends of one link."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

# meshvisor, as an application uses it: await send, async for.


async def link_source(address: str, size: int, count: int, rtt: bool) -> float:
    from meshvisor import ConnectionHost, ConnectionHostOptions

    body = bytes(size)
    async with ConnectionHost(ConnectionHostOptions(node_id="source", endpoints=[address])) as host:
        connection = await host.accept()
        begin = time.perf_counter()
        if rtt:
            for _ in range(count):
                await connection.send(body)
                await connection.receive()
        else:
            for _ in range(count):
                await connection.send(body)
            await connection.receive()
        return time.perf_counter() - begin


async def link_sink(address: str, size: int, count: int, rtt: bool) -> None:
    from meshvisor import ConnectionManager, ConnectionOptions

    options = ConnectionOptions(node_id="sink", endpoints=[address], endpoint_blacklist_duration=0.05)
    async with ConnectionManager(options) as manager:
        connection = await manager.connect()
        left = count
        async for message in connection:
            if rtt:
                await connection.send(message.body)
            left -= 1
            if not left:
                break
        if not rtt:
            await connection.send(b"done")
        with contextlib.suppress(Exception):
            await connection.receive()


# meshvisor, as a worker's runtime uses it: batches handed to a callback.


class _Counting:
    def __init__(self, count: int, rtt: bool) -> None:
        self.left = count
        self.rtt = rtt
        self.done = asyncio.Event()
        self.link = asyncio.get_running_loop().create_future()
        self.arrived: Callable[[], None] = lambda: None

    def peer_up(self, link: object) -> None:
        self.link.set_result(link)

    def peer_down(self, link: object, reason: object) -> None:
        self.done.set()

    def calls_received(self, link: object, bodies: list[bytes | bytearray]) -> None: ...

    def links_changed(self, up: int, total: int) -> None: ...

    def messages_received(self, link, first: int, bodies: list[bytes | bytearray]) -> None:  # type: ignore[no-untyped-def]
        link.consumed(first + len(bodies) - 1)
        self.left -= len(bodies)
        if self.rtt and self.left >= 0:
            for body in bodies:
                link.send_nowait(body)
        if self.left <= 0:
            self.done.set()


async def _mesh(address: str, me: str, other: str, handler: _Counting):  # type: ignore[no-untyped-def]
    from meshvisor.shared.core.roster import NodeRecord, NodeStatus
    from meshvisor.shared.mesh.mesh import Mesh, MeshOptions
    from meshvisor.shared.transport.registry import adapters_by_name

    listen = {"a": address, "b": address + "-b" if address.startswith("unix") else "tcp:127.0.0.1:0"}
    mesh = Mesh(
        MeshOptions(me, 1, ord(me), (listen[me],), b"s", blacklist_duration=0.05),
        handler,
        adapters=adapters_by_name().values(),
    )
    status = NodeStatus.LISTENING if other == "a" else NodeStatus.DOWN
    endpoints = (listen[other],) if other == "a" else ()
    mesh.apply([NodeRecord(other, other, 0, 1, ord(other), status, endpoints)])
    await mesh.start()
    return mesh


async def callback_source(address: str, size: int, count: int, rtt: bool) -> float:
    handler = _Counting(count if rtt else 1, rtt)
    mesh = await _mesh(address, "a", "b", handler)
    link = await handler.link
    body = bytes(size)
    begin = time.perf_counter()
    if rtt:
        link.send_nowait(body)
    else:
        for _ in range(count):
            await link.send(body)
    await handler.done.wait()
    spent = time.perf_counter() - begin
    await mesh.close()
    return spent


async def callback_sink(address: str, size: int, count: int, rtt: bool) -> None:
    handler = _Counting(count, rtt)
    mesh = await _mesh(address, "b", "a", handler)
    link = await handler.link
    await handler.done.wait()
    if not rtt:
        await link.send(b"done")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(link.drain(5), 5)
    await mesh.close()
