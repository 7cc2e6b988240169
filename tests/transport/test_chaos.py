"""The chaos adapter: faults by role, by connection and by script, on dialled and on accepted streams."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.transport import chaos
from meshvisor.shared.transport.base import Stream, TransportConnection, TransportOptions
from meshvisor.shared.transport.chaos import ChaosOptions, ChaosTransportAdapter, Fault
from meshvisor.shared.transport.memory import MemoryNetwork, MemoryTransportAdapter
from meshvisor.shared.transport.unix import UnixTransportAdapter
from meshvisor.workers.testing import run_virtual

OPTIONS = TransportOptions("node-a")
ENDPOINT = Endpoint.parse("memory:host")


class Scene:
    """A chaos adapter that dials, and a listener (plain, or with chaos of its own) that it dials."""

    def __init__(self, accepting: ChaosOptions | None = None, **chaos: Any) -> None:
        network = MemoryNetwork()
        self.adapter = ChaosTransportAdapter(MemoryTransportAdapter(network), **chaos)
        self.host = ChaosTransportAdapter(MemoryTransportAdapter(network), accepting)

    async def start(self) -> None:
        self.listener = await self.host.listen(ENDPOINT, OPTIONS)

    async def connect(self) -> tuple[TransportConnection, Stream, Stream]:
        """Return a connection, and the accepted ends of its control and data streams."""
        connection = await self.adapter.connect(ENDPOINT, OPTIONS)
        return connection, await self.listener.accept(), await self.listener.accept()

    async def close(self) -> None:
        self.listener.close()
        await self.adapter.close()
        await self.host.close()


def play(scene: Scene, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an act on virtual time; nothing may be left running, nor any connection listed."""

    async def main() -> None:
        await scene.start()
        await act()
        await scene.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"still running: {left}"
        assert not scene.adapter.connections
        assert not scene.host.connections

    run_virtual(main())


async def is_silent(stream: Stream) -> bool:
    """Return whether an hour passes without a byte, an end or an error."""
    try:
        async with asyncio.timeout(3600):
            await stream.read(1)
    except TimeoutError:
        return True
    return False


def test_control_and_data_have_faults_of_their_own() -> None:
    scene = Scene(control=ChaosOptions(write_drop=1.0))

    async def act() -> None:
        connection, control, data = await scene.connect()
        await connection.control.write(b"x")
        await connection.data.write(b"y")
        assert await data.read(1) == b"y"
        assert await is_silent(control)
        assert scene.adapter.injected == {Fault.DROP: 1}

    play(scene, act)


@pytest.mark.parametrize("shared_fate", [True, False])
def test_one_disconnect_takes_both_streams_only_with_a_shared_fate(shared_fate: bool) -> None:
    scene = Scene(data=ChaosOptions(disconnect_at=1), shared_fate=shared_fate)

    async def act() -> None:
        connection, control, data = await scene.connect()
        with pytest.raises(ConnectionResetError):
            await connection.data.write(b"x")
        assert await data.read(1) == b""
        if shared_fate:
            with pytest.raises(ConnectionResetError):
                await connection.control.write(b"x")
            assert await control.read(1) == b""
            assert not scene.adapter.connections
        else:
            await connection.control.write(b"x")
            assert await control.read(1) == b"x"
            assert len(scene.adapter.connections) == 1

    play(scene, act)


def test_a_shared_fate_makes_both_streams_half_open() -> None:
    scene = Scene(data=ChaosOptions(disconnect_at=1, half_open="write"), shared_fate=True)

    async def act() -> None:
        connection, control, data = await scene.connect()
        await connection.data.write(b"x")
        await connection.control.write(b"x")
        assert await is_silent(data)
        assert await is_silent(control)

    play(scene, act)


def test_accepted_streams_have_faults_too() -> None:
    scene = Scene(accepting=ChaosOptions(read_flip=1.0, disconnect_at=2))

    async def act() -> None:
        connection, control, _ = await scene.connect()
        await connection.control.write(b"\0")
        assert await control.read(1) != b"\0"
        with pytest.raises(ConnectionResetError):
            await control.write(b"x")
        assert await connection.control.read(1) == b""
        assert [one.is_accepted for one in scene.host.connections] == [True]
        assert scene.host.injected == {Fault.FLIP: 1, Fault.DISCONNECT: 1}

    play(scene, act)


def test_cut_ends_every_connection_there_is_and_none_to_come() -> None:
    scene = Scene()

    async def act() -> None:
        first = await scene.connect()
        second = await scene.connect()
        assert [repr(one) for one in scene.adapter.connections] == [
            "<ChaosConnection 1 to memory:host>",
            "<ChaosConnection 2 to memory:host>",
        ]
        scene.adapter.cut()
        for _, control, data in (first, second):
            assert (await control.read(1), await data.read(1)) == (b"", b"")
        assert not scene.adapter.connections
        assert scene.adapter.injected == {Fault.DISCONNECT: 4}
        third, control, _ = await scene.connect()
        await third.control.write(b"x")
        assert await control.read(1) == b"x"

    play(scene, act)


def test_one_connection_can_be_cut_by_itself() -> None:
    scene = Scene()

    async def act() -> None:
        _, cut, _ = await scene.connect()
        spared, control, _ = await scene.connect()
        scene.adapter.connections[0].cut()
        assert await cut.read(1) == b""
        await spared.control.write(b"x")
        assert await control.read(1) == b"x"

    play(scene, act)


@pytest.mark.parametrize("direction", ["read", "write", "both"])
def test_a_partition_is_one_way_or_both_covers_new_connections_and_loses_nothing(direction: str) -> None:
    scene = Scene()

    async def act() -> None:
        pairs = [await scene.connect()]
        scene.adapter.black_hole(direction)
        pairs.append(await scene.connect())
        for connection, control, _ in pairs:
            await connection.control.write(b"out")
            await control.write(b"in")
            assert await is_silent(control) is (direction in ("write", "both"))
            assert await is_silent(connection.control) is (direction in ("read", "both"))
        scene.adapter.heal()
        third, control, _ = await scene.connect()
        await third.control.write(b"out")
        assert await control.read(3) == b"out"
        for connection, control, _ in pairs:
            # What is_silent took of a way that was open is one byte.
            assert await control.read(9) == (b"out" if direction != "read" else b"ut")
            assert await connection.control.read(9) == (b"in" if direction != "write" else b"n")

    play(scene, act)


def test_a_close_is_not_heard_through_a_partition_until_it_heals() -> None:
    scene = Scene()

    async def act() -> None:
        connection, control, data = await scene.connect()
        scene.adapter.black_hole("write")
        await connection.control.write(b"goodbye")
        connection.close()
        assert not scene.adapter.connections
        assert await is_silent(control)
        assert await is_silent(data)
        scene.adapter.heal()
        assert await control.read(9) == b"goodbye"
        assert (await control.read(9), await data.read(9)) == (b"", b"")

    play(scene, act)


def test_closing_the_adapter_ends_what_nobody_hears() -> None:
    scene = Scene(options=ChaosOptions(latency=(5.0, 5.0), close_delay=60.0))

    async def act() -> None:
        slow, slow_control, _ = await scene.connect()
        await slow.control.write(b"never arrives")
        slow.close()
        open_still, open_control, _ = await scene.connect()
        await open_still.control.write(b"neither does this")
        await scene.adapter.close()
        assert (await slow_control.read(1), await open_control.read(1)) == (b"", b"")
        assert asyncio.get_running_loop().time() == 0.0

    play(scene, act)


def test_what_lingers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "_MAX_LINGERING", 2)
    scene = Scene()

    async def act() -> None:
        scene.adapter.black_hole("write")
        first, control, data = await scene.connect()
        first.close()
        second, *accepted = await scene.connect()
        second.close()
        assert (await control.read(1), await data.read(1)) == (b"", b"")
        for stream in accepted:
            assert await is_silent(stream)

    play(scene, act)


def test_calm_holds_for_old_and_new_connections() -> None:
    scene = Scene(options=ChaosOptions(write_drop=1.0))

    async def act() -> None:
        connection, control, _ = await scene.connect()
        await connection.control.write(b"dropped")
        scene.adapter.calm()
        await connection.control.write(b"kept")
        assert await control.read(9) == b"kept"
        connection, control, _ = await scene.connect()
        await connection.control.write(b"kept too")
        assert await control.read(9) == b"kept too"
        assert scene.adapter.injected == {Fault.DROP: 1}

    play(scene, act)


def test_a_seed_gives_each_connection_and_each_of_its_streams_a_fate_of_its_own_and_always_the_same() -> None:
    async def fates(seed: int) -> list[bytes]:
        scene = Scene(options=ChaosOptions(seed=seed, write_flip=0.5, flip_max_bits=4))
        await scene.start()
        seen = []
        for _ in range(2):
            connection, control, data = await scene.connect()
            for near, far in ((connection.control, control), (connection.data, data)):
                for _ in range(10):
                    await near.write(bytes(8))
                seen.append(await far.read(80))
        await scene.close()
        return seen

    first = run_virtual(fates(1))
    assert len(set(first)) == 4
    assert first == run_virtual(fates(1))
    assert first[0][:32] == bytes.fromhex("0000000000000000 0000800000010080 0000040000001000 0000000000000000")
    assert not set(first) & set(run_virtual(fates(2)))


def test_a_refused_dial_counts_no_connection() -> None:
    async def main() -> None:
        adapter = ChaosTransportAdapter(MemoryTransportAdapter(MemoryNetwork()))
        with pytest.raises(ConnectionRefusedError):
            await adapter.connect(ENDPOINT, OPTIONS)
        assert not adapter.connections

    run_virtual(main())


def test_a_cut_of_real_sockets_ends_the_reads_that_wait_on_both_sides(tmp_path: Path) -> None:
    async def main() -> None:
        adapter = ChaosTransportAdapter(UnixTransportAdapter())
        assert adapter.transport == "unix"
        listener = await adapter.listen(Endpoint.parse(f"unix:{tmp_path}/a.sock"), OPTIONS)
        connection = await adapter.connect(listener.endpoint, OPTIONS)
        accepted = [await listener.accept(), await listener.accept()]
        reading = asyncio.create_task(connection.control.read(1))
        await asyncio.sleep(0)
        dialled = adapter.connections[0]
        dialled.cut()
        with pytest.raises(ConnectionResetError, match="cut by chaos"):
            await reading
        for stream in accepted:
            assert await stream.read(1) == b""
            stream.close()
        listener.close()
        await adapter.close()
        assert dialled.is_ended
        assert not adapter.connections

    asyncio.run(main())
