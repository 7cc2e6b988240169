"""One rig per transport: the same test runs over each of them."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.transport.base import Listener, Stream, TransportAdapter, TransportOptions
from meshvisor.shared.transport.memory import MemoryNetwork, MemoryTransportAdapter
from meshvisor.shared.transport.tcp import TcpTransportAdapter
from meshvisor.shared.transport.unix import UnixTransportAdapter
from meshvisor.workers.testing import run_virtual


@dataclass
class Rig:
    """An adapter, a place to listen at, and the loop that suits it."""

    adapter: TransportAdapter
    endpoint: Endpoint
    run: Callable[[Coroutine[Any, Any, None]], None]
    options: TransportOptions

    async def listen(self) -> Listener:
        return await self.adapter.listen(self.endpoint, self.options)

    async def pair(self, listener: Listener) -> tuple[Stream, Stream]:
        """Return a connected stream: the dialling and the accepted end. (The connection's other stream is closed.)"""
        connection = await self.adapter.connect(listener.endpoint, self.options)
        control, data = await listener.accept(), await listener.accept()
        # Accepted in the order in which they were opened, or not: find out which is which.
        await connection.data.write(b"?")
        done, waiting = await asyncio.wait(
            [asyncio.create_task(stream.read(1), name=str(n)) for n, stream in enumerate((control, data))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in waiting:
            task.cancel()
            await asyncio.wait([task])
        accepted = (control, data) if done.pop().get_name() == "0" else (data, control)
        connection.control.close()
        accepted[1].close()
        return connection.data, accepted[0]


def _run_really(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.fixture(params=["tcp", "tcp6", "unix", "memory"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    options = TransportOptions("node-a")
    if request.param == "tcp":
        return Rig(TcpTransportAdapter(), Endpoint.parse("tcp:127.0.0.1:0"), _run_really, options)
    if request.param == "tcp6":
        if not _has_ipv6():
            pytest.skip("this machine has no IPv6 loopback")
        return Rig(TcpTransportAdapter(), Endpoint.parse("tcp:[::1]:0"), _run_really, options)
    if request.param == "unix":
        return Rig(UnixTransportAdapter(), Endpoint.parse(f"unix:{tmp_path}/a.sock"), _run_really, options)
    network = MemoryNetwork()
    return Rig(MemoryTransportAdapter(network), network.new_endpoint(), run_virtual, options)


@pytest.fixture
def open_files() -> Callable[[], set[str]]:
    """Return a function that lists what this process's descriptors stand for (sockets by their inode)."""

    def listing() -> set[str]:
        found = set()
        for fd in os.listdir("/proc/self/fd"):
            try:
                found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
            except FileNotFoundError:  # The descriptor of the listing itself.
                continue
        return found

    return listing
