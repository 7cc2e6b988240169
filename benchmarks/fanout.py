"""How one process bears many links: ``python -m benchmarks.fanout [--quick] [N ...]``.

One process is the hub; another one is N nodes that are all linked with it. How long until the others are up once the
first one is, what one of them weighs in the hub, what the hub costs while nothing is sent (such links ping each 250 ms,
having no board), and how many messages of 64 B it takes in when all N send as fast as they may.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from meshvisor import ConnectionHandle, ConnectionHost, ConnectionHostOptions, ConnectionManager, ConnectionOptions

from .disciplines import FAN_CPU, FAN_MEMORY, FAN_RATE, FAN_UP
from .stall import resident
from .table import Row, merge, render

COUNTS = (2, 10, 50, 100, 200)
_FEW = (2, 50, 200)
_BODY = bytes(64)
_REST = 0.5
_AT_ONCE = 64
"""So many dial at a time: a host puts off those who come while 128 wait for ``accept``, by a second."""


async def be_hub(address: str, count: int, messages: int, seconds: float) -> dict[str, float]:
    """Take in ``count`` links and ``messages`` over each; return what was measured."""
    host_options = ConnectionHostOptions(node_id="hub", endpoints=[address], max_half_open=count + 8)
    async with ConnectionHost(host_options) as host:
        print("ready", flush=True)
        first = await host.accept()
        await asyncio.sleep(_REST)
        began, before = time.perf_counter(), resident()
        await first.send(b"the others")
        links = [first, *[await host.accept() for _ in range(count - 1)]]
        up = time.perf_counter() - began
        await asyncio.sleep(_REST)
        memory = (resident() - before) / (count - 1)
        worked = time.process_time()
        await asyncio.sleep(seconds)
        idle = 100 * (time.process_time() - worked) / seconds
        await asyncio.gather(*(link.send(b"go") for link in links))
        began = time.perf_counter()
        await asyncio.gather(*(_take(link, messages) for link in links))
        rate = count * messages / (time.perf_counter() - began)
        await asyncio.gather(*(link.send(b"done") for link in links))
        await asyncio.gather(*(link.wait_closed() for link in links))
    return {"up": up * 1000, "memory": memory * 1000, "cpu": idle, "rate": rate}


async def _take(link: ConnectionHandle, messages: int) -> None:
    for _ in range(messages):
        await link.receive()


async def be_nodes(address: str, count: int, messages: int) -> None:
    """Be ``count`` nodes that are linked with the hub."""
    options = [
        ConnectionOptions(
            node_id=f"node-{number}", endpoints=[address], connect_timeout=30.0, endpoint_blacklist_duration=0.05
        )
        for number in range(count)
    ]
    managers = [ConnectionManager(each) for each in options]
    first = await managers[0].connect()
    await first.receive()
    gate = asyncio.Semaphore(_AT_ONCE)
    links = [first, *await asyncio.gather(*(_connect(manager, gate) for manager in managers[1:]))]
    await asyncio.gather(*(_give(link, messages) for link in links))
    await asyncio.gather(*(manager.close() for manager in managers))


async def _connect(manager: ConnectionManager, gate: asyncio.Semaphore) -> ConnectionHandle:
    async with gate:
        return await manager.connect()


async def _give(link: ConnectionHandle, messages: int) -> None:
    await link.receive()
    for _ in range(messages):
        await link.send(_BODY)
    await link.receive()


def once(count: int, messages: int, seconds: float, folder: str) -> dict[str, float]:
    """Measure one hub with ``count`` links."""
    command = [sys.executable, "-m", "benchmarks.fanout", str(count), "--messages", str(messages // count)]
    command += ["--address", f"unix:{folder}/{time.monotonic_ns()}", "--seconds", str(seconds)]
    with subprocess.Popen([*command, "--role", "hub"], stdout=subprocess.PIPE, text=True) as hub:
        assert hub.stdout is not None
        try:
            hub.stdout.readline()
            subprocess.run([*command, "--role", "nodes"], timeout=100, check=True)
            found: dict[str, float] = json.loads(hub.stdout.readline())
        finally:
            hub.kill()
    return found


def rows(quick: bool, counts: Sequence[int] = ()) -> Iterator[Row]:
    """Measure a hub with each number of links."""
    messages, seconds = (100_000, 1.0) if quick else (400_000, 2.0)
    with tempfile.TemporaryDirectory() as folder:
        for count in counts or (_FEW if quick else COUNTS):
            found = once(count, messages, seconds, folder)
            name = f"meshvisor, {count} links"
            yield Row(FAN_UP, name, [found["up"]])
            yield Row(FAN_MEMORY, name, [found["memory"]], unit="kB")
            yield Row(FAN_CPU, name, [found["cpu"]], unit="%")
            yield Row(FAN_RATE, name, [found["rate"]], unit="/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("counts", metavar="N", type=int, nargs="*", default=[])
    parser.add_argument("--role", choices=["hub", "nodes"], help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--messages", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.role == "hub":
        print(json.dumps(asyncio.run(be_hub(asked.address, asked.counts[0], asked.messages, asked.seconds))))
    elif asked.role == "nodes":
        asyncio.run(be_nodes(asked.address, asked.counts[0], asked.messages))
    else:
        print(render(merge(rows(asked.quick, asked.counts))), end="")


if __name__ == "__main__":
    main()
