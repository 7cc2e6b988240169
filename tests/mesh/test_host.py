"""The accepting side: one handle for each pair of incarnations, whatever comes and goes."""

import asyncio
from pathlib import Path

import pytest
from tests.mesh.way import Changes, Way, now, play, until

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.handshake import RefusalCode
from meshvisor.shared.core.states import ConnectionState
from meshvisor.shared.errors import ConnectFailed, LinkClosed, PeerLeft, PeerLost
from meshvisor.shared.mesh.host import ConnectionHost
from meshvisor.shared.mesh.options import ConnectionHostOptions
from meshvisor.shared.transport.base import TransportOptions
from meshvisor.shared.transport.chaos import ChaosOptions
from meshvisor.shared.transport.unix import UnixTransportAdapter

QUICK = {"endpoint_blacklist_duration": 0.2, "connect_timeout": None}


def test_a_second_connection_of_a_session_replaces_the_first_and_loses_nothing() -> None:
    """R26."""

    async def scenario(way: Way) -> None:
        async with way.host() as host, way.manager() as manager:
            connection = await manager.connect()
            accepted = await host.accept()
            for number in range(1, 101):
                await connection.send(b"to")
                await accepted.send(b"fro")
                if number % 10 == 0:
                    assert await manager.reconnect() is connection
            assert [(await accepted.receive()).number for _ in range(100)] == list(range(1, 101))
            assert [(await connection.receive()).number for _ in range(100)] == list(range(1, 101))
            statistics = host.statistics()
            assert (statistics.accepted, statistics.links, statistics.attached) == (11, 1, 1)

    play(scenario)


def test_two_messages_without_acknowledgement_are_both_there_after_the_reconnect() -> None:
    """R23, R24: from the host's side, and to it."""

    async def scenario(way: Way) -> None:
        async with way.host() as host, way.manager() as manager:
            connection = await manager.connect()
            accepted = await host.accept()
            for sender, receiver in ((connection, accepted), (accepted, connection)):
                await sender.send(b"one")
                await sender.send(b"two")
                way.cut()
                assert [(await receiver.receive()).body for _ in range(2)] == [b"one", b"two"]

    play(scenario)


@pytest.mark.parametrize("side", ["manager", "host"])
def test_a_close_acknowledges_what_was_taken_before_it_says_goodbye(side: str) -> None:
    """R25."""

    async def scenario(way: Way) -> None:
        async with way.host() as host, way.manager() as manager:
            near, far = await manager.connect(), await host.accept()
            sender, receiver = (far, near) if side == "manager" else (near, far)
            for _ in range(3):
                await sender.send(b"x")
            for _ in range(3):
                await receiver.receive()
            await receiver.close()
            assert sender.replay_depth == 0
            with pytest.raises(PeerLeft):
                await sender.receive()

    play(scenario)


@pytest.mark.parametrize(("away", "resumed"), [(2.0, True), (6.0, False)])
def test_a_session_is_resumed_before_its_expiry_and_not_after(away: float, resumed: bool) -> None:
    """R20, R7, R8: back after 2 s or 6 s, with an expiry of 5 s."""

    async def scenario(way: Way) -> None:
        lost: list[PeerLost] = []
        async with way.host(session_expiry=5.0) as host, way.manager(**QUICK) as manager:
            manager.on_peer_lost(lost.append)
            connection = await manager.connect()
            accepted = await host.accept()
            await connection.send(b"one")
            await accepted.receive()
            await asyncio.sleep(0.1)
            way.behaviour["memory:host"] = ConnectionRefusedError(111, "away")
            way.cut()
            await connection.send(b"two")
            await asyncio.sleep(away)
            way.behaviour.clear()
            await until(lambda: manager.state is ConnectionState.ESTABLISHED)
            assert host.statistics().expired == (not resumed)
            if resumed:
                assert (await accepted.receive()).body == b"two"
                assert not lost
            else:
                with pytest.raises(PeerLost):
                    await accepted.receive()
                assert [(loss.first, loss.last, loss.count) for loss in lost] == [(2, 2, 1)]
                assert connection.is_over
                assert await (await manager.connect()).send(b"new") == 1
                assert (await (await host.accept()).receive()).body == b"new"

    play(scenario)


def test_a_session_with_expiry_0_ends_with_its_connection() -> None:
    """R20."""

    async def scenario(way: Way) -> None:
        async with way.host(session_expiry=0.0) as host, way.manager(**QUICK) as manager:
            await manager.connect()
            accepted = await host.accept()
            way.cut()
            await until(lambda: accepted.is_over)
            assert now() < 0.01

    play(scenario)


def test_what_was_delivered_is_not_delivered_again_in_a_new_session_that_the_host_takes_it_for() -> None:
    """R8, R19: the host forgot a session in which it had delivered without an acknowledgement, and sent nothing."""

    async def scenario(way: Way) -> None:
        lost: list[PeerLost] = []
        async with way.host(session_expiry=1.0) as host, way.manager(**QUICK) as manager:
            manager.on_peer_lost(lost.append)
            connection = await manager.connect()
            await host.accept()
            for _ in range(10):
                await connection.send(b"once")
            await asyncio.sleep(0.01)
            way.behaviour["memory:host"] = ConnectionRefusedError(111, "away")
            way.cut()
            await asyncio.sleep(3)
            way.behaviour.clear()
            await until(lambda: bool(lost))
            assert (lost[0].first, lost[0].last, lost[0].count) == (1, 10, 10)
            again = await manager.connect()
            await again.send(b"new")
            message = await (await host.accept()).receive()
            assert (message.number, message.body) == (1, b"new")
            assert host.statistics().refused == {RefusalCode.STALE: 1}

    play(scenario)


def test_a_later_incarnation_ends_the_earlier_one_and_fences_it() -> None:
    """R16: the earlier one comes back, and changes nothing."""

    async def scenario(way: Way) -> None:
        async with way.host() as host:
            earlier, later = way.manager(**QUICK), way.manager(**QUICK)
            await earlier.connect()
            first = await host.accept()
            await first.send(b"never taken")
            connection = await later.connect()
            second = await host.accept()
            with pytest.raises(PeerLost) as loss:
                await first.receive()
            assert (loss.value.first, loss.value.last) == (1, 1)
            await asyncio.sleep(60)
            assert second.is_attached
            assert host.statistics().refused[RefusalCode.STALE] >= 2
            assert host.statistics().links == 1
            await connection.send(b"undisturbed")
            assert (await second.receive()).body == b"undisturbed"
            assert earlier.state is not ConnectionState.ESTABLISHED
            await earlier.close()
            await later.close()

    play(scenario)


def test_the_host_never_takes_a_connection_from_its_own_node_id() -> None:
    async def scenario(way: Way) -> None:
        async with way.host() as host, way.manager(node_id="host", connect_timeout=1.0) as manager:
            with pytest.raises(ConnectFailed, match="same node id"):
                await manager.connect()
            assert host.statistics().refused[RefusalCode.MISMATCH] == 1

    play(scenario)


def test_a_busy_host_names_a_pause_and_it_is_kept() -> None:
    """The Retry-After of a frame: 128 links wait for ``accept``, the next one is asked to come back in 1 s."""

    async def scenario(way: Way) -> None:
        async with way.host() as host:
            managers = [way.manager(node_id=f"client-{number}") for number in range(129)]
            for manager in managers[:128]:
                await manager.connect()
            late = asyncio.create_task(managers[128].connect())
            await asyncio.sleep(0.5)
            assert host.statistics().refused == {RefusalCode.BUSY: 1}
            assert managers[128].metrics().blacklisted_endpoints == 1
            await host.accept()
            await late
            assert now() >= 1.0
            assert len(way.dialled) == 130
            await asyncio.gather(*(manager.close() for manager in managers))

    play(scenario)


def test_a_silent_peer_is_given_up_by_the_host_and_its_session_kept() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(heartbeat_interval=0.25, heartbeat_timeout=2.0) as host, way.manager(**QUICK) as manager:
            await manager.connect()
            accepted = await host.accept()
            await asyncio.sleep(10)
            way.mute()
            start = now()
            await until(lambda: accepted.silence is not None)
            assert now() - start <= 2.25
            assert accepted.silence == pytest.approx(now() - start, abs=0.3)
            assert not accepted.is_over

    play(scenario)


def test_accept_and_iteration_end_when_the_host_closes() -> None:
    async def scenario(way: Way) -> None:
        seen: list[str] = []

        async def iterate(host: ConnectionHost) -> None:
            seen.extend([connection.node_id async for connection in host])

        async with way.host() as host, way.manager() as manager:
            waiting = asyncio.create_task(iterate(host))
            await manager.connect()
        await waiting
        assert seen == ["client"]
        with pytest.raises(LinkClosed):
            await host.accept()

    play(scenario)


def test_close_delivers_what_was_accepted_and_says_goodbye_to_all() -> None:
    async def scenario(way: Way) -> None:
        managers = [way.manager(node_id=f"client-{number}") for number in range(5)]
        async with way.host() as host:
            links = [await manager.connect() for manager in managers]
            readers = [asyncio.create_task(read(link)) for link in links]
            for _ in links:
                await (await host.accept()).send(b"last words")
        assert await asyncio.gather(*readers) == [[b"last words"]] * 5
        changes = [Changes(manager) for manager in managers]
        await asyncio.sleep(30)
        assert [manager.state for manager in managers] == [ConnectionState.DISCONNECTED] * 5
        assert not any(change.all for change in changes)
        await asyncio.gather(*(manager.close() for manager in managers))

    async def read(link: object) -> list[bytes]:
        return [bytes(message.body) async for message in link]  # type: ignore[attr-defined]  # a ConnectionHandle

    play(scenario)


def test_what_nobody_takes_does_not_keep_close_longer_than_the_drain() -> None:
    async def scenario(way: Way) -> None:
        async with way.manager(drain_timeout=0.0) as manager:
            async with way.host(drain_timeout=3.0) as host:
                await manager.connect()
                await (await host.accept()).send(b"never taken")
            assert 3.0 <= now() <= 3.6

    play(scenario)


def test_an_endpoint_that_nothing_serves_is_refused_by_name() -> None:
    options = ConnectionHostOptions(node_id="host", endpoints=["tcp:127.0.0.1:1"])
    with pytest.raises(ValueError, match="no adapter for the transport tcp"):
        ConnectionHost(options, adapters=[Way()])


def test_two_listeners_on_one_endpoint_leave_nothing_behind() -> None:
    async def scenario(way: Way) -> None:
        async with way.host():
            second = ConnectionHost(
                ConnectionHostOptions(node_id="second", endpoints=["memory:free", "memory:host"]), adapters=[way]
            )
            with pytest.raises(OSError, match="already listened"):
                await second.start()
            async with way.host("memory:free", node_id="third"):
                pass

    play(scenario)


@pytest.mark.parametrize("latency", [None, 0.01])
def test_what_is_sent_the_moment_a_link_exists_is_received_once(latency: float | None) -> None:
    """R9: the host's first words travel with its ACCEPT, and may overtake it on the other channel."""
    chaos = None if latency is None else ChaosOptions(latency=(0.0, latency), rechunk=(1, 7))

    async def scenario(way: Way) -> None:
        async with way.host() as host:
            greeting = asyncio.create_task(greet(host))
            async with way.manager() as manager:
                connection = await manager.connect()
                assert [(await connection.receive()).number for _ in range(3)] == [1, 2, 3]
                await asyncio.sleep(1)
                assert manager.metrics().messages_in == 3
                assert manager.metrics().duplicates_dropped == 0
            await greeting

    async def greet(host: ConnectionHost) -> None:
        link = await host.accept()
        for _ in range(3):
            await link.send(b"welcome")

    play(scenario, lambda: Way(chaos, chaos))


def test_strangers_on_a_socket_wait_in_the_kernel_while_all_places_are_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        endpoint = f"unix:{tmp_path}/host"
        options = ConnectionHostOptions(node_id="host", endpoints=[endpoint], max_half_open=2)
        async with asyncio.timeout(10), ConnectionHost(options) as host:
            adapter = UnixTransportAdapter()
            knocking = [await adapter.connect(Endpoint.parse(endpoint), TransportOptions("stranger")) for _ in range(3)]
            for gone, inside in ((0, 4), (2, 4), (4, 2), (6, 0)):

                def has_come_to(gone: int = gone, inside: int = inside) -> bool:
                    statistics = host.statistics()
                    assert statistics.half_open <= 4
                    return (sum(statistics.dropped.values()), statistics.half_open) == (gone, inside)

                await until(has_come_to)
                if knocking:
                    knocking.pop(0).close()

    asyncio.run(scenario())
