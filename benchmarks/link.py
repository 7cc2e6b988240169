"""One link between two processes beside other ways to pass messages, in one run: ``python -m benchmarks.link``.

For each contender a second process is the other end. Throughput: the sender sends ``count`` messages as fast as it
may and waits for one answer when the last has been taken. Round trip: ``count`` messages there and back, one at a
time. Contenders take turns, ``--rounds`` times; the table shows medians, and the ratio to plain pyzmq PAIR.

meshvisor delivers exactly once over any reconnect; none of the others does. ``zmq`` is PAIR with default settings but
for a high-water mark that is no limit; ``streams`` frames by a four-byte length; ``raw`` is one blocking socket, one
``sendall`` per message, with the buffers at 1 MiB.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from typing import Any

Body = bytes
BUFFER = 1 << 20


def _run(main: Coroutine[Any, Any, float | None], fast: bool) -> float | None:
    if fast:
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main)


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


# pyzmq.


def _zmq_socket(address: str, bind: bool, asynchronous: bool):  # type: ignore[no-untyped-def]
    import zmq
    import zmq.asyncio

    context = zmq.asyncio.Context() if asynchronous else zmq.Context()
    pair = context.socket(zmq.PAIR)
    pair.set_hwm(0)
    target = address.replace("unix:", "ipc://").replace("tcp:", "tcp://")
    (pair.bind if bind else pair.connect)(target)
    return context, pair


def zmq_source(address: str, size: int, count: int, rtt: bool) -> float:
    context, pair = _zmq_socket(address, bind=True, asynchronous=False)
    pair.recv()
    body = bytes(size)
    begin = time.perf_counter()
    for _ in range(count):
        pair.send(body)
        if rtt:
            pair.recv()
    if not rtt:
        pair.recv()
    spent = time.perf_counter() - begin
    context.destroy()
    return spent


def zmq_sink(address: str, size: int, count: int, rtt: bool) -> None:
    context, pair = _zmq_socket(address, bind=False, asynchronous=False)
    pair.send(b"hello")
    for _ in range(count):
        body = pair.recv()
        if rtt:
            pair.send(body)
    if not rtt:
        pair.send(b"done")
    context.destroy(linger=1000)


async def azmq_source(address: str, size: int, count: int, rtt: bool) -> float:
    context, pair = _zmq_socket(address, bind=True, asynchronous=True)
    await pair.recv()
    body = bytes(size)
    begin = time.perf_counter()
    for _ in range(count):
        await pair.send(body)
        if rtt:
            await pair.recv()
    if not rtt:
        await pair.recv()
    spent = time.perf_counter() - begin
    context.destroy()
    return spent


async def azmq_sink(address: str, size: int, count: int, rtt: bool) -> None:
    context, pair = _zmq_socket(address, bind=False, asynchronous=True)
    await pair.send(b"hello")
    for _ in range(count):
        body = await pair.recv()
        if rtt:
            await pair.send(body)
    if not rtt:
        await pair.send(b"done")
    context.destroy(linger=1000)


# asyncio streams.


async def _open_stream(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    kind, _, rest = address.partition(":")
    while True:
        try:
            if kind == "unix":
                return await asyncio.open_unix_connection(rest, limit=4 * BUFFER)
            host, _, port = rest.rpartition(":")
            return await asyncio.open_connection(host, int(port), limit=4 * BUFFER)
        except OSError:
            await asyncio.sleep(0.01)


async def streams_source(address: str, size: int, count: int, rtt: bool) -> float:
    accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    accepted = asyncio.get_running_loop().create_future()
    kind, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")

    def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result((reader, writer))

    serve = asyncio.start_unix_server(met, rest, limit=4 * BUFFER) if kind == "unix" else None
    server = await (serve or asyncio.start_server(met, host, int(port), limit=4 * BUFFER))
    reader, writer = await accepted
    body = bytes(size)
    header = size.to_bytes(4, "big")
    begin = time.perf_counter()
    for _ in range(count):
        writer.write(header + body)
        await writer.drain()
        if rtt:
            await reader.readexactly(size)
    if not rtt:
        await reader.readexactly(4)
    spent = time.perf_counter() - begin
    writer.close()
    server.close()
    return spent


async def streams_sink(address: str, size: int, count: int, rtt: bool) -> None:
    reader, writer = await _open_stream(address)
    for _ in range(count):
        length = int.from_bytes(await reader.readexactly(4), "big")
        body = await reader.readexactly(length)
        if rtt:
            writer.write(body)
    if not rtt:
        writer.write(b"done")
    await writer.drain()
    writer.close()


# A raw socket.


def _raw_socket(address: str, bind: bool) -> socket.socket:
    kind, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    family, target = (socket.AF_UNIX, rest) if kind == "unix" else (socket.AF_INET, (host, int(port)))
    sock = socket.socket(family, socket.SOCK_STREAM)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    if kind != "unix":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if bind:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        sock.listen()
        accepted, _ = sock.accept()
        if kind != "unix":
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return accepted
    while True:
        try:
            sock.connect(target)
            return sock
        except OSError:
            time.sleep(0.01)


def _fill(sock: socket.socket, view: memoryview) -> None:
    while len(view):
        view = view[sock.recv_into(view) :]


def raw_source(address: str, size: int, count: int, rtt: bool) -> float:
    sock = _raw_socket(address, bind=True)
    body, room = bytes(size), memoryview(bytearray(size))
    begin = time.perf_counter()
    for _ in range(count):
        sock.sendall(body)
        if rtt:
            _fill(sock, room)
    if not rtt:
        sock.recv(1)
    return time.perf_counter() - begin


def raw_sink(address: str, size: int, count: int, rtt: bool) -> None:
    sock = _raw_socket(address, bind=False)
    room = memoryview(bytearray(size))
    for _ in range(count):
        _fill(sock, room)
        if rtt:
            sock.sendall(room)
    if not rtt:
        sock.send(b"!")


CONTENDERS: dict[str, tuple[Callable[..., object], Callable[..., object]]] = {
    "meshvisor callback": (callback_source, callback_sink),
    "meshvisor await": (link_source, link_sink),
    "zmq": (zmq_source, zmq_sink),
    "zmq asyncio": (azmq_source, azmq_sink),
    "streams": (streams_source, streams_sink),
    "raw": (raw_source, raw_sink),
}
SLOW = {"zmq asyncio": 20, "streams": 4, "raw": 2}


def one_side(name: str, side: int, address: str, size: int, count: int, rtt: bool, fast: bool) -> float | None:
    result = CONTENDERS[name][side](address, size, count, rtt)
    return _run(result, fast) if asyncio.iscoroutine(result) else result  # type: ignore[return-value]


def _free_address(transport: str, folder: str) -> str:
    if transport == "unix":
        return f"unix:{folder}/{time.monotonic_ns()}"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"tcp:127.0.0.1:{probe.getsockname()[1]}"


def measure(name: str, transport: str, size: int, count: int, rtt: bool, fast: bool, folder: str) -> float:
    """Return messages a second, or microseconds for a round trip."""
    address = _free_address(transport, folder)
    common = [name, address, str(size), str(count), "--rtt" if rtt else "--no-rtt", *(["--uvloop"] if fast else [])]
    command = [sys.executable, "-m", "benchmarks.link", "--side"]
    sink = subprocess.Popen([*command, "1", *common])
    try:
        done = subprocess.run([*command, "0", *common], capture_output=True, text=True, timeout=120, check=True)
        sink.wait(20)
    finally:
        sink.kill()
        sink.wait()
    seconds = float(done.stdout)
    return 1e6 * seconds / count if rtt else count / seconds


ROWS = [("64 B", 64, 400_000, False), ("1 KiB", 1024, 200_000, False), ("1 MiB", 1 << 20, 1500, False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?")
    parser.add_argument("address", nargs="?")
    parser.add_argument("size", nargs="?", type=int)
    parser.add_argument("count", nargs="?", type=int)
    parser.add_argument("--rtt", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--side", type=int)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transport", choices=["unix", "tcp"], action="append")
    asked = parser.parse_args()
    if asked.side is not None:
        spent = one_side(asked.name, asked.side, asked.address, asked.size, asked.count, asked.rtt, asked.uvloop)
        if spent is not None:
            print(spent)
        return
    with tempfile.TemporaryDirectory() as folder:
        for transport in asked.transport or ["unix", "tcp"]:
            table(transport, asked.rounds, asked.uvloop, folder)


def table(transport: str, rounds: int, fast: bool, folder: str) -> None:
    """Measure and print the table of one transport."""
    results: dict[tuple[str, str], list[float]] = {}
    rows = [*ROWS, ("RTT 64 B", 64, 5_000, True)]
    for _ in range(rounds):
        for row, size, count, rtt in rows:
            for name in CONTENDERS:
                scaled = count if rtt else max(200, count // SLOW.get(name, 1))
                results.setdefault((row, name), []).append(measure(name, transport, size, scaled, rtt, fast, folder))
    loop = "uvloop" if fast else "asyncio"
    print(f"\n{transport}, {loop}, Python {sys.version.split()[0]}, {os.cpu_count()} cores, median of {rounds}")
    print(f"{'':20}" + "".join(f"{row:>24}" for row, *_ in rows))
    for name in CONTENDERS:
        cells = []
        for row, *_, rtt in rows:
            value = statistics.median(results[row, name])
            base = statistics.median(results[row, "zmq"])
            shown = f"{value:,.1f} us" if rtt else f"{value:,.0f}/s"
            cells.append(f"{shown:>15} {value / base:>5.2f}x ")
        print(f"{name:20}" + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
