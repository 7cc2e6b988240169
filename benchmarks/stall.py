"""What a link does when its reader stands still: ``python -m benchmarks.stall [--quick]``.

The accepting process never takes a message. The other one sends 64 B messages as fast as it may, so it soon has to
wait; then it stays as it is for some seconds. Meanwhile the control channel is asked every 10 ms, each end's memory is
looked at, and a timer of 1 ms tells how long the sender's loop ever stood still. The last row of it is the same timer
without a link: what the machine itself is good for.

Beside it, what one message of 16 MiB takes in memory, sender and receiver in one process: the receiver's own buffer is
one body, and each copy would be another.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from meshvisor import (
    ConnectionHandle,
    ConnectionHost,
    ConnectionHostOptions,
    ConnectionManager,
    ConnectionOptions,
    LinkError,
)

from .disciplines import COPIES, GROWTH, PING, STALL
from .table import Row, merge, render

_TICK = 0.001
_LARGE = 16 << 20


def resident(pid: int | str = "self") -> float:
    """Return the resident memory of a process in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


class Ticker:
    """A timer that notes the longest time by which the loop was late; ``longest`` is in seconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.longest = 0.0
        self._due = 0.0
        self._next()

    def _tick(self) -> None:
        self.longest = max(self.longest, self._loop.time() - self._due)
        self._next()

    def _next(self) -> None:
        self._due = self._loop.time() + _TICK
        self._handle = self._loop.call_at(self._due, self._tick)

    def stop(self) -> float:
        """End it and return the longest pause in milliseconds."""
        self._handle.cancel()
        return self.longest * 1000


async def stand_still(address: str) -> None:
    """Be the reader that takes nothing, until standard input ends."""
    async with ConnectionHost(ConnectionHostOptions(node_id="reader", endpoints=[address])):
        await asyncio.to_thread(sys.stdin.read)


async def send_on(address: str, pid: int, seconds: float) -> dict[str, float]:
    """Send until nothing goes any more, and for ``seconds`` after that; return what was seen meanwhile."""
    ticker = Ticker()
    await asyncio.sleep(0.5)
    floor = ticker.stop()
    options = ConnectionOptions(
        node_id="writer", endpoints=[address], heartbeat_interval=0.01, endpoint_blacklist_duration=0.05
    )
    async with ConnectionManager(options) as manager:
        connection = await manager.connect()
        ticker = Ticker()
        sending = asyncio.create_task(_flood(connection))
        await asyncio.sleep(0.5)
        before = resident() + resident(pid)
        await asyncio.sleep(seconds)
        after = resident() + resident(pid)
        ping = manager.metrics().heartbeat_p50 or 0.0
        stall = ticker.stop()
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, LinkError):
            await sending
        await manager.disconnect()
    return {"ping": ping * 1e6, "stall": stall, "floor": floor, "growth": after - before}


async def _flood(connection: ConnectionHandle) -> NoReturn:
    body = bytes(64)
    while True:
        await connection.send(body)


async def bodies_taken(folder: str) -> float:
    """Send one large message within this process; return the memory that took at most, in bodies."""
    address = f"unix:{folder}/{time.monotonic_ns()}"
    async with (
        ConnectionHost(ConnectionHostOptions(node_id="reader", endpoints=[address])) as host,
        ConnectionManager(ConnectionOptions(node_id="writer", endpoints=[address])) as manager,
    ):
        connection = await manager.connect()
        accepted = await host.accept()
        body = bytearray(_LARGE)
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            sending = asyncio.create_task(connection.send(body))
            message = await accepted.receive()
            await sending
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(message.body) == _LARGE
    return (peak - before) / _LARGE


def once(seconds: float, folder: str) -> dict[str, float]:
    """Run both ends once."""
    address = f"unix:{folder}/{time.monotonic_ns()}"
    command = [sys.executable, "-m", "benchmarks.stall", "--address", address]
    with subprocess.Popen([*command, "--role", "reader"], stdin=subprocess.PIPE) as reader:
        writer = [*command, "--role", "writer", "--pid", str(reader.pid), "--seconds", str(seconds)]
        said = subprocess.run(writer, capture_output=True, text=True, timeout=60, check=False)
        if said.returncode:
            raise RuntimeError(said.stderr)
    found: dict[str, float] = json.loads(said.stdout)
    return found


def rows(quick: bool) -> Iterator[Row]:
    """Let the reader stall a few times."""
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2 if quick else 5):
            found = once(1.0 if quick else 2.0, folder)
            yield Row(PING, "meshvisor", [found["ping"]], unit="us")
            yield Row(STALL, "meshvisor", [found["stall"]])
            yield Row(STALL, "the machine, without a link", [found["floor"]])
            yield Row(GROWTH, "meshvisor", [found["growth"]], unit="MB")
            yield Row(COPIES, "meshvisor", [asyncio.run(bodies_taken(folder))], unit="bodies")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--role", choices=["reader", "writer"], help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--pid", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.role == "reader":
        asyncio.run(stand_still(asked.address))
    elif asked.role == "writer":
        print(json.dumps(asyncio.run(send_on(asked.address, asked.pid, asked.seconds))))
    else:
        print(render(merge(rows(asked.quick))), end="")


if __name__ == "__main__":
    main()
