"""Calls between two processes, side by side: ``python -m benchmarks.calls [--rounds N] [--uvloop] [--in-flight N]``.

A caller in one process keeps ``--in-flight`` calls of ``add(x, y)`` under way, on one link, to a callee in another.
Contenders take turns, ``--rounds`` times; the table shows the medians of calls a second and of the processor time a
call takes in both processes together (the steadier figure on a machine that is not idle), and ratios to pyzmq asyncio.

``plain`` is an ``@rpc`` method that is a plain ``def``, run on the callee's loop; ``task`` is an ``async def``, run as
a task of its own. ``pyzmq asyncio`` is a DEALER and a ROUTER with the same msgpack, a dict of Futures, and no types,
time-outs or errors. ``xoscar`` and ``ray`` are their actors' methods; they are left out, which is said, where they are
not installed (``pip install xoscar ray``: they are large, and no part of the ``bench`` extra). ``ray`` runs a cluster
of its own, whose processor time is not counted. ``grpc.aio`` is a unary call, arguments and result in msgpack.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import itertools
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import msgspec

from meshvisor import Worker, rpc

from .disciplines import CALLS
from .table import Row

Call = Callable[[], Awaitable[object]]


async def keep_calling(call: Call, count: int, in_flight: int) -> float:
    """Make ``count`` calls, ``in_flight`` at a time; return the seconds that took."""

    async def caller() -> None:
        for _ in range(count // in_flight):
            await call()

    await call()
    begin = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return time.perf_counter() - begin


# meshvisor.


class Callee(Worker):
    @rpc
    def plain(self, x: int, y: int) -> int:
        return x + y

    @rpc
    async def task(self, x: int, y: int) -> int:
        return x + y


class Caller(Worker):
    async def run(self) -> None:
        method = self.settings["method"]
        self.settings["spent"] = await keep_calling(
            lambda: self.call("callee", method, 1, 2), self.settings["count"], self.settings["in_flight"]
        )


async def _live(cls: type[Worker], address: str, settings: dict[str, Any]) -> None:
    """Be one of two nodes, as a worker's process is."""
    from meshvisor.shared.core.roster import NodeRecord, NodeStatus
    from meshvisor.shared.mesh.mesh import Mesh, MeshOptions
    from meshvisor.shared.transport.unix import UnixTransportAdapter
    from meshvisor.workers.node import Node

    endpoints = {"callee": f"unix:{address}", "caller": f"unix:{address}-caller"}
    name = cls.__name__.lower()
    records = [
        NodeRecord("callee", "callee", 0, 1, 1, NodeStatus.READY, (endpoints["callee"],)),
        NodeRecord("caller", "caller", 0, 1, 2, NodeStatus.DOWN),
    ]
    node = Node(name, 1, settings, report=lambda message: None)
    epoch = next(record.epoch for record in records if record.name == name)
    options = MeshOptions(name, 1, epoch, (endpoints[name],), b"secret", blacklist_duration=0.05)
    node.connect(Mesh(options, node, adapters=[UnixTransportAdapter()]), cls, records)
    await node.live()


async def serve_meshvisor(address: str) -> None:
    await _live(Callee, address, {})


def _call_meshvisor(method: str) -> Callable[[str, int, int], Coroutine[Any, Any, float]]:
    async def call(address: str, count: int, in_flight: int) -> float:
        settings: dict[str, Any] = {"method": method, "count": count, "in_flight": in_flight}
        await _live(Caller, address, settings)
        spent: float = settings["spent"]
        return spent

    return call


# pyzmq.


async def serve_zmq(address: str) -> None:
    import zmq
    import zmq.asyncio

    router = zmq.asyncio.Context().socket(zmq.ROUTER)
    router.set_hwm(0)
    router.bind(f"ipc://{address}")
    methods = {"add": lambda x, y: x + y}
    encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
    while True:
        who, request = await router.recv_multipart()
        number, method, arguments = decode(request)
        await router.send_multipart([who, encode((number, methods[method](*arguments)))])


async def call_zmq(address: str, count: int, in_flight: int) -> float:
    import zmq
    import zmq.asyncio

    dealer = zmq.asyncio.Context().socket(zmq.DEALER)
    dealer.set_hwm(0)
    dealer.connect(f"ipc://{address}")
    encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
    numbers = itertools.count()
    waiting: dict[int, asyncio.Future[object]] = {}

    async def receive() -> None:
        while True:
            number, result = decode(await dealer.recv())
            waiting.pop(number).set_result(result)

    async def call() -> object:
        number = next(numbers)
        future = waiting[number] = asyncio.get_running_loop().create_future()
        await dealer.send(encode((number, "add", (1, 2))))
        return await future

    receiving = asyncio.create_task(receive())
    spent = await keep_calling(call, count, in_flight)
    receiving.cancel()
    dealer.close(linger=0)
    return spent


# grpc.aio.


async def serve_grpc(address: str) -> None:
    grpc: Any = importlib.import_module("grpc")

    async def add(arguments: tuple[int, int], context: Any) -> int:
        return arguments[0] + arguments[1]

    handler = grpc.unary_unary_rpc_method_handler(
        add, request_deserializer=msgspec.msgpack.decode, response_serializer=msgspec.msgpack.encode
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Adder", {"Add": handler})])
    server.add_insecure_port(f"unix:{address}")
    await server.start()
    await server.wait_for_termination()


async def call_grpc(address: str, count: int, in_flight: int) -> float:
    grpc: Any = importlib.import_module("grpc")

    async with grpc.aio.insecure_channel(f"unix:{address}") as channel:
        add = channel.unary_unary(
            "/Adder/Add", request_serializer=msgspec.msgpack.encode, response_deserializer=msgspec.msgpack.decode
        )
        return await keep_calling(lambda: add((1, 2), wait_for_ready=True), count, in_flight)


# Actors.


async def serve_xoscar(address: str) -> None:
    xoscar: Any = importlib.import_module("xoscar")

    class Adder(xoscar.Actor):  # type: ignore[misc]  # it has no types
        async def add(self, x: int, y: int) -> int:
            return x + y

    pool = await xoscar.create_actor_pool(address, n_process=0)
    await xoscar.create_actor(Adder, address=address, uid="adder")
    await pool.join()


async def call_xoscar(address: str, count: int, in_flight: int) -> float:
    xoscar: Any = importlib.import_module("xoscar")

    while True:
        try:
            adder = await xoscar.actor_ref(address=address, uid="adder")
            break
        except (OSError, xoscar.ActorNotExist):
            await asyncio.sleep(0.05)
    return await keep_calling(lambda: adder.add(1, 2), count, in_flight)


async def call_ray(address: str, count: int, in_flight: int) -> float:
    ray: Any = importlib.import_module("ray")

    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)

    class Adder:
        async def add(self, x: int, y: int) -> int:
            return x + y

    adder = ray.remote(Adder).remote()
    spent = await keep_calling(lambda: adder.add.remote(1, 2), count, in_flight)
    ray.shutdown()
    return spent


Serve = Callable[[str], Coroutine[Any, Any, None]]
CONTENDERS: dict[str, tuple[Serve | None, Callable[[str, int, int], Coroutine[Any, Any, float]]]] = {
    "meshvisor plain": (serve_meshvisor, _call_meshvisor("plain")),
    "meshvisor task": (serve_meshvisor, _call_meshvisor("task")),
    "pyzmq asyncio": (serve_zmq, call_zmq),
    "grpc.aio": (serve_grpc, call_grpc),
    "xoscar": (serve_xoscar, call_xoscar),
    "ray": (None, call_ray),
}
BASE = "pyzmq asyncio"
SLOWER = {"pyzmq asyncio": 4, "grpc.aio": 20, "xoscar": 8, "ray": 40}
MODULES = {"grpc.aio": "grpc", "xoscar": "xoscar", "ray": "ray"}
"""What a contender needs beyond our own dependencies."""


def _run(main: Coroutine[Any, Any, float | None], fast: bool) -> float | None:
    if fast:
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main)


def _address(name: str, folder: str) -> str:
    if name != "xoscar":
        return f"{folder}/{time.monotonic_ns()}"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _start_up(name: str, fast: bool, folder: str) -> float:
    return measure(name, 1, 1, fast, folder, is_warm=False)[1]


def measure(
    name: str, count: int, in_flight: int, fast: bool, folder: str, *, is_warm: bool = True
) -> tuple[float, float]:
    """Return calls a second, and the processor time of a call in microseconds (of all, in seconds, when not warm)."""
    began = _start_up(name, fast, folder) if is_warm else 0.0
    address = _address(name, folder)
    before = _cpu()
    options = ["--address", address, "--count", str(count), "--in-flight", str(in_flight)]
    command = [sys.executable, "-m", "benchmarks.calls", *options, *(["--uvloop"] if fast else [])]
    callee = subprocess.Popen([*command, "--callee", name]) if CONTENDERS[name][0] is not None else None
    try:
        asked = [*command, "--caller", name]
        caller = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
    finally:
        if callee is not None:
            callee.kill()
            callee.wait()
    if caller.returncode:
        sys.exit(caller.stderr)
    spent = _cpu() - before
    return count / float(caller.stdout.split()[-1]), (spent - began) / count * 1e6 if is_warm else spent


def present() -> list[str]:
    """Return the contenders that can take part here."""
    return [name for name in CONTENDERS if importlib.util.find_spec(MODULES.get(name, "zmq")) is not None]


def rows(quick: bool) -> Iterator[Row]:
    """Measure calls of all contenders in turns, and ours on uvloop, too."""
    turns = [(name, "asyncio") for name in present()] + [("meshvisor plain", "uvloop"), ("meshvisor task", "uvloop")]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2 if quick else 5):
            for name, loop in turns:
                count = max(1, (40_000 if quick else 100_000) // SLOWER.get(name, 1) // 64) * 64
                rate, _ = measure(name, count, 64, loop == "uvloop", folder, is_warm=False)
                title = f"{name}, {loop}" if name.startswith("meshvisor") else name
                yield Row(CALLS, title, [rate], unit="/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=100_000, help="calls in a round; slower contenders make fewer")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--only", action="append", choices=list(CONTENDERS), default=[])
    for hidden in ("--caller", "--callee", "--address"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.callee:
        serve = CONTENDERS[asked.callee][0]
        assert serve is not None
        _run(serve(asked.address), asked.uvloop)
    elif asked.caller:
        print(_run(CONTENDERS[asked.caller][1](asked.address, asked.count, asked.in_flight), asked.uvloop))
    else:
        table(asked)


def table(asked: argparse.Namespace) -> None:
    """Measure and print everything."""
    names = [name for name in present() if not asked.only or name in asked.only]
    for name in CONTENDERS.keys() - set(present()):
        print(f"{name} is not installed and is left out")
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(asked.rounds):
            for name in names:
                count = max(1, asked.count // SLOWER.get(name, 1) // asked.in_flight) * asked.in_flight
                results[name].append(measure(name, count, asked.in_flight, asked.uvloop, folder))
    loop = "uvloop" if asked.uvloop else "asyncio"
    print(
        f"{asked.in_flight} calls in flight, {loop}, Python {sys.version.split()[0]}, {os.cpu_count()} cores,"
        f" median of {asked.rounds}"
    )
    medians = {name: tuple(map(statistics.median, zip(*rounds, strict=True))) for name, rounds in results.items()}
    for name, (rate, cost) in medians.items():
        shown = f"{name:18}{rate:>12,.0f}/s{cost:>10.1f} us"
        base = medians.get(BASE)
        print(f"{shown}{rate / base[0]:>8.2f}x{base[1] / cost:>8.2f}x less" if base else shown)


if __name__ == "__main__":
    main()
