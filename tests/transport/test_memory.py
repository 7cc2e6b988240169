"""What only the memory transport has: networks, names and a bound that can be counted."""

import asyncio

import pytest

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.transport.base import TransportOptions
from meshvisor.shared.transport.memory import PIPE_SIZE, MemoryNetwork, MemoryTransportAdapter, memory_pair
from meshvisor.workers.testing import run_virtual

OPTIONS = TransportOptions("node-a", backlog=2)


def test_networks_do_not_see_each_other() -> None:
    async def main() -> None:
        here, there = MemoryTransportAdapter(MemoryNetwork()), MemoryTransportAdapter(MemoryNetwork())
        listener = await here.listen(Endpoint.parse("memory:hub"), OPTIONS)
        with pytest.raises(ConnectionRefusedError, match="no route to hub"):
            await there.connect(listener.endpoint, OPTIONS)
        listener.close()

    run_virtual(main())


def test_adapters_without_a_network_share_one() -> None:
    assert MemoryTransportAdapter().network is MemoryTransportAdapter().network


def test_every_new_endpoint_is_another_one() -> None:
    network = MemoryNetwork()
    network.bind(Endpoint.parse("memory:2"), 1)
    assert [str(network.new_endpoint()) for _ in range(3)] == ["memory:1", "memory:3", "memory:4"]


def test_a_full_queue_refuses_and_leaves_no_half_connection() -> None:
    async def main() -> None:
        adapter = MemoryTransportAdapter(MemoryNetwork())
        listener = await adapter.listen(Endpoint.parse("memory:hub"), TransportOptions("node-a", backlog=3))
        first = await adapter.connect(listener.endpoint, OPTIONS)
        with pytest.raises(ConnectionRefusedError, match="full"):
            await adapter.connect(listener.endpoint, OPTIONS)
        streams = [await listener.accept() for _ in range(3)]
        assert await streams[2].read(1) == b""  # The half that had been opened was closed.
        listener.close()
        first.close()

    run_virtual(main())


def test_closing_a_listener_ends_what_it_never_accepted() -> None:
    async def main() -> None:
        adapter = MemoryTransportAdapter(MemoryNetwork())
        listener = await adapter.listen(Endpoint.parse("memory:hub"), OPTIONS)
        connection = await adapter.connect(listener.endpoint, OPTIONS)
        listener.close()
        assert await connection.control.read(1) == b""
        with pytest.raises(BrokenPipeError):
            await connection.data.write(b"x")

    run_virtual(main())


def test_a_stream_holds_as_much_as_its_pipe_and_then_makes_the_writer_wait() -> None:
    async def main() -> None:
        near, far = memory_pair()
        await near.write(bytes(PIPE_SIZE))
        writing = asyncio.create_task(near.write(b"one more"))
        await asyncio.sleep(60)
        assert not writing.done()
        assert len(await far.read(PIPE_SIZE)) == PIPE_SIZE
        await writing
        assert await far.read(100) == b"one more"

    run_virtual(main())
