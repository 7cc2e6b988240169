"""Both ends of what else carries messages between two processes.

``*_source(address, size, count, rtt)`` sends ``count`` bodies, or sends and gets back each, and returns the seconds
that took; ``*_sink`` is the other end.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

BUFFER = 1 << 20

# pyzmq. Large bodies are not copied, which is the faster way for them.

_COPIED = 1 << 16


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
    copy = size < _COPIED
    for _ in range(count):
        pair.send(body, copy=copy)
        if rtt:
            pair.recv(copy=copy)
    if not rtt:
        pair.recv()
    spent = time.perf_counter() - begin
    context.destroy()
    return spent


def zmq_sink(address: str, size: int, count: int, rtt: bool) -> None:
    context, pair = _zmq_socket(address, bind=False, asynchronous=False)
    pair.send(b"hello")
    for _ in range(count):
        body = pair.recv(copy=size < _COPIED)
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
    copy = size < _COPIED
    for _ in range(count):
        await pair.send(body, copy=copy)
        if rtt:
            await pair.recv(copy=copy)
    if not rtt:
        await pair.recv()
    spent = time.perf_counter() - begin
    context.destroy()
    return spent


async def azmq_sink(address: str, size: int, count: int, rtt: bool) -> None:
    context, pair = _zmq_socket(address, bind=False, asynchronous=True)
    await pair.send(b"hello")
    for _ in range(count):
        body = await pair.recv(copy=size < _COPIED)
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


def _raw_socket(address: str, bind: bool, buffer: int) -> socket.socket:
    kind, _, rest = address.partition(":")
    host, _, port = rest.rpartition(":")
    family, target = (socket.AF_UNIX, rest) if kind == "unix" else (socket.AF_INET, (host, int(port)))
    sock = socket.socket(family, socket.SOCK_STREAM)
    if buffer:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, buffer)
    if kind != "unix":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if bind:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(target)
        sock.listen()
        accepted, _ = sock.accept()
        if buffer:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
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


def raw_source(address: str, size: int, count: int, rtt: bool, buffer: int = BUFFER) -> float:
    sock = _raw_socket(address, True, buffer)
    body, room = bytes(size), memoryview(bytearray(size))
    begin = time.perf_counter()
    for _ in range(count):
        sock.sendall(body)
        if rtt:
            _fill(sock, room)
    if not rtt:
        sock.recv(1)
    return time.perf_counter() - begin


def raw_sink(address: str, size: int, count: int, rtt: bool, buffer: int = BUFFER) -> None:
    sock = _raw_socket(address, False, buffer)
    room = memoryview(bytearray(size))
    for _ in range(count):
        _fill(sock, room)
        if rtt:
            sock.sendall(room)
    if not rtt:
        sock.send(b"!")


# grpc.aio: one stream each way, bodies as they are.


def _grpc() -> Any:
    return importlib.import_module("grpc")


_GRPC_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


async def grpc_source(address: str, size: int, count: int, rtt: bool) -> float:
    grpc = _grpc()
    finished: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    body = bytes(size)

    async def talk(arrived: AsyncIterator[bytes], context: Any) -> None:
        begin = time.perf_counter()
        for _ in range(count):
            await context.write(body)
            if rtt:
                await anext(arrived)
        if not rtt:
            await anext(arrived)
        finished.set_result(time.perf_counter() - begin)

    server = grpc.aio.server(options=_GRPC_OPTIONS)
    handlers = {"Talk": grpc.stream_stream_rpc_method_handler(talk)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Link", handlers)])
    server.add_insecure_port(address)
    await server.start()
    spent = await finished
    await server.stop(1)
    return spent


async def grpc_sink(address: str, size: int, count: int, rtt: bool) -> None:
    grpc = _grpc()
    async with grpc.aio.insecure_channel(address, options=_GRPC_OPTIONS) as channel:
        stream = channel.stream_stream("/Link/Talk")(wait_for_ready=True)
        for _ in range(count):
            body = await stream.read()
            if rtt:
                await stream.write(body)
        if not rtt:
            await stream.write(b"done")
        await stream.done_writing()
        await stream.read()
