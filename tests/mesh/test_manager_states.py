"""The states of a managed connection: every change is in the table, has a true cause, and none of them sticks."""

import asyncio
import contextlib
import random

import pytest
from tests.mesh.way import BLACK_HOLE, Changes, Way, now, play, until

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.states import ConnectionCause, ConnectionState
from meshvisor.shared.errors import ConnectFailed, HandshakeError, LinkClosed, PeerLost
from meshvisor.shared.mesh.host import ConnectionHost
from meshvisor.shared.mesh.manager import ConnectionManager
from meshvisor.shared.transport.chaos import ChaosOptions

QUICK = {"endpoint_blacklist_duration": 0.2, "connect_timeout": None}
BEATS = {"heartbeat_interval": 0.25, "heartbeat_timeout": 2.0}
CONNECTED = [
    "connecting (dial-started)",
    "handshake (handshake-started)",
    "established (handshake-completed)",
]
RESUMED = [
    "degraded (transport-error)",
    "reconnecting (dial-started)",
    "handshake (dial-succeeded)",
    "switching (resume-attempt)",
    "established (resume-succeeded)",
]


def chaos(latency: float) -> ChaosOptions:
    return ChaosOptions(latency=(latency, latency))


def test_connect_reconnect_and_close_are_told_step_by_step() -> None:
    async def scenario(way: Way) -> None:
        async with way.host():
            manager = way.manager()
            changes = Changes(manager)
            await manager.connect()
            assert changes.steps == CONNECTED
            await manager.reconnect()
            assert changes.since(3) == ["switching (switch-started)", "established (switch-completed)"]
            way.cut()
            await until(lambda: manager.state is ConnectionState.ESTABLISHED and len(changes.all) > 6)
            assert changes.since(5) == RESUMED
            await manager.close()
            assert changes.since(10) == ["closed (disposal)"]

    play(scenario)


def test_disconnect_is_one_step_and_dials_nobody() -> None:
    """The peer closes the connection upon the goodbye; that is no broken connection to replace."""

    async def scenario(way: Way) -> None:
        async with way.host(), way.manager() as manager:
            changes = Changes(manager)
            await manager.connect()
            await manager.disconnect()
            assert changes.since(3) == ["disconnected (manual)"]
            await asyncio.sleep(60)
            assert len(way.dialled) == 1

    play(scenario)


def test_an_attempt_that_fails_beside_a_handshake_does_not_take_the_state_back() -> None:
    async def scenario(way: Way) -> None:
        way.behaviour["memory:refused"] = 0.3
        async with way.host(), way.manager("memory:host", "memory:refused", happy_eyeballs_delay=0.01) as manager:
            changes = Changes(manager)
            await manager.connect()
            assert changes.steps == CONNECTED

    # One way 100 ms: the handshake lasts from 0.2 to 0.4 s, the second endpoint refuses at 0.31 s.
    play(scenario, lambda: Way(chaos(0.05), chaos(0.05)))


def test_connect_that_runs_out_of_time_in_the_handshake_leaves_disconnected() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(), way.manager(connect_timeout=0.5, attempt_timeout=5.0) as manager:
            changes = Changes(manager)
            with pytest.raises(ConnectFailed):
                await manager.connect()
            assert now() == 0.5
            assert changes.states == ["connecting", "handshake", "disconnected"]

    play(scenario, lambda: Way(chaos(0.1), chaos(0.1)))


def test_a_handshake_that_is_not_finished_goes_back_to_connecting() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(), way.manager(connect_timeout=None, attempt_timeout=0.5) as manager:
            changes = Changes(manager)
            connecting = asyncio.create_task(manager.connect())
            await until(lambda: len(changes.all) == 3)
            assert changes.steps[2] == "connecting (dial-failed)"
            assert now() == pytest.approx(0.5, abs=0.002)
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            assert manager.state is ConnectionState.DISCONNECTED

    play(scenario, lambda: Way(chaos(0.1), chaos(0.1)))


def test_of_two_callers_of_connect_one_may_give_up() -> None:
    async def scenario(way: Way) -> None:
        async with way.manager(connect_timeout=10.0, endpoint_blacklist_duration=0.2) as manager:
            first = asyncio.create_task(manager.connect())
            await asyncio.sleep(6)
            second = asyncio.create_task(manager.connect())
            await asyncio.sleep(5)
            with pytest.raises(ConnectFailed):
                await first
            async with way.host():
                assert (await second).node_id == "host"

    play(scenario)


def test_a_cancelled_connect_stops_dialling() -> None:
    async def scenario(way: Way) -> None:
        async with way.manager(**QUICK) as manager:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await manager.connect()
            assert manager.state is ConnectionState.DISCONNECTED
            dials = len(way.dialled)
            await asyncio.sleep(60)
            assert len(way.dialled) == dials

    play(scenario)


def test_a_reconnect_that_reaches_nobody_says_so_and_the_old_connection_goes_on() -> None:
    async def scenario(way: Way) -> None:
        async with way.host() as host, way.manager() as manager:
            connection = await manager.connect()
            changes = Changes(manager)
            way.behaviour["memory:host"] = ConnectionRefusedError(111, "refused")
            with pytest.raises(ConnectFailed, match="refused"):
                await manager.reconnect()
            assert changes.steps == ["switching (switch-started)", "established (dial-failed)"]
            await connection.send(b"still here")
            assert (await (await host.accept()).receive()).body == b"still here"

    play(scenario)


def test_a_reconnect_never_dials_an_endpoint_that_is_barred() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(), way.manager() as manager:
            await manager.connect()
            manager._ways.dialer.penalties.bar("memory:host", 30.0, now())
            with pytest.raises(ConnectFailed):
                await manager.reconnect()
            assert len(way.dialled) == 1

    play(scenario)


def test_an_impostor_at_the_endpoint_cannot_end_a_connection_that_works() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(secret=b"ours") as host, way.manager(secret=b"ours") as manager:
            connection = await manager.connect()
            host._acceptor._listeners[0].close()
            async with way.host(node_id="impostor", secret=b"theirs"):
                with pytest.raises(HandshakeError, match="secret"):
                    await manager.reconnect()
                assert manager.state is ConnectionState.ESTABLISHED
                await connection.send(b"still here")
                assert (await (await host.accept()).receive()).body == b"still here"

    play(scenario)


@pytest.mark.parametrize("end", ["disconnect", "close", "goodbye", "refusal"])
def test_whoever_waits_for_a_reconnect_hears_of_the_end(end: str) -> None:
    async def scenario(way: Way) -> None:
        async with way.host(secret=b"ours") as host, way.manager(secret=b"ours") as manager:
            await manager.connect()
            accepted = await host.accept()
            way.behaviour["memory:host"] = 0.5 if end == "refusal" else BLACK_HOLE
            switching = asyncio.create_task(manager.reconnect())
            await asyncio.sleep(0.1)
            if end == "goodbye":
                await accepted.close()
            elif end == "refusal":
                await impostor(way, host)
            else:
                await getattr(manager, end)()
            with pytest.raises(HandshakeError if end == "refusal" else LinkClosed):
                async with asyncio.timeout(30):
                    await switching

    async def impostor(way: Way, host: ConnectionHost) -> None:
        """The host dies, and somebody without the secret takes its place."""
        await way.kill(host)
        way.cut()
        async with way.host(node_id="impostor", secret=b"theirs"):
            await asyncio.sleep(20)

    play(scenario)


def test_a_reconnect_asked_for_during_the_return_to_a_better_endpoint_is_answered() -> None:
    async def scenario(way: Way) -> None:
        better, worse = Endpoint.parse("memory:better"), Endpoint.parse("memory:worse", priority=1)
        async with way.host("memory:worse"), way.manager(better, worse, **QUICK) as manager:
            connection = await manager.connect()
            way.behaviour["memory:better"] = BLACK_HOLE
            await until(lambda: manager.state is ConnectionState.SWITCHING)
            async with asyncio.timeout(30):
                assert await manager.reconnect() is connection

    play(scenario)


def test_disconnect_while_a_close_is_under_way_changes_nothing() -> None:
    async def scenario(way: Way) -> None:
        async with way.host():
            manager = way.manager()
            await manager.connect()
            await asyncio.gather(manager.disconnect(), manager.close(), manager.disconnect(), manager.close())
            assert manager.state is ConnectionState.CLOSED
            await manager.disconnect()
            assert manager.state is ConnectionState.CLOSED

    play(scenario)


def test_connect_during_a_disconnect_begins_a_new_session_after_it() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(), way.manager() as manager:
            first = await manager.connect()
            ending = asyncio.create_task(manager.disconnect())
            await asyncio.sleep(0)
            second = await manager.connect()
            await ending
            assert second is not first
            assert second.is_attached
            assert first.is_over

    play(scenario)


def test_a_change_of_the_network_asks_the_peer_at_once() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(), way.manager() as manager:
            await manager.connect()
            changes = Changes(manager)
            manager.network_changed("an address went away")
            await until(lambda: manager.state is ConnectionState.ESTABLISHED)
            assert now() < 0.01
            assert changes.steps == ["degraded (os-network-event)", "established (heartbeat-recovered)"]

    play(scenario)


def test_a_change_of_the_network_ends_the_pause_before_the_next_try() -> None:
    async def scenario(way: Way) -> None:
        options = {"hard_backoff_initial": 300.0, "hard_backoff_cap": 300.0, "connect_timeout": None}
        async with way.manager(endpoint_blacklist_duration=1.0, **options) as manager:
            connecting = asyncio.create_task(manager.connect())
            await asyncio.sleep(0.5)
            async with way.host():
                manager.network_changed("a network interface changed")
                await connecting
                # Never before the penalty ends, though.
                assert now() == pytest.approx(1.0, abs=0.001)

    play(scenario)


def test_every_cause_there_is_occurs_and_every_change_is_in_the_table() -> None:
    """One life of a manager in which everything happens; ``Changes`` checks each step against the table."""
    seen: set[ConnectionCause] = set()

    async def scenario(way: Way) -> None:
        manager = way.manager(**QUICK, **BEATS, secret=b"ours")
        changes = Changes(manager)
        async with way.host(**BEATS, secret=b"ours") as host:
            await manager.connect()
            await manager.reconnect()
            accepted = await host.accept()
            manager.network_changed("a network interface changed")
            await until(lambda: manager.state is ConnectionState.ESTABLISHED)
            await silence(way, manager)
            before = len(changes.all)
            way.cut()
            await until(lambda: changes.since(before) == RESUMED)
            await accepted.close()
            await manager.connect()
            await way.kill(host)
            way.cut()
            await asyncio.sleep(2)
        async with way.host(**BEATS, secret=b"ours") as host:
            await manager.connect()
            await manager.disconnect()
        async with way.host(secret=b"theirs"):
            with pytest.raises(HandshakeError):
                await manager.connect()
        await manager.close()
        seen.update(change.cause for change in changes.all)

    async def silence(way: Way, manager: ConnectionManager) -> None:
        """The peer falls silent until it is suspected, and is heard again before it is given up."""
        assert way.far is not None
        await asyncio.sleep(5)
        way.far.black_hole()
        await until(lambda: manager.state is ConnectionState.DEGRADED)
        way.far.heal()
        await until(lambda: manager.state is ConnectionState.ESTABLISHED)

    play(scenario, lambda: Way(far=ChaosOptions()))
    assert seen == set(ConnectionCause)


def test_a_restarted_peer_is_a_rejected_resumption_and_one_loss() -> None:
    async def scenario(way: Way) -> None:
        lost: list[PeerLost] = []
        async with way.manager(**QUICK) as manager:
            changes = Changes(manager)
            manager.on_peer_lost(lost.append)
            async with way.host() as host:
                await manager.connect()
                await way.kill(host)
            async with way.host():
                await until(lambda: manager.state is ConnectionState.ESTABLISHED and bool(lost))
                assert changes.steps[-2:] == ["handshake (dial-succeeded)", "established (resume-rejected)"]
                assert "switching" not in changes.states
            assert [loss.peer for loss in lost] == ["host"]

    play(scenario)


def test_who_connects_while_another_gives_up_is_not_given_up_with_it() -> None:
    """The state became disconnected while the second one was dialling already."""

    async def scenario(way: Way) -> None:
        way.behaviour["memory:host"] = BLACK_HOLE
        async with way.manager(**QUICK) as manager:
            changes = Changes(manager)
            first = asyncio.create_task(manager.connect())
            await asyncio.sleep(0.5)
            first.cancel()
            others = []
            for _ in range(6):  # giving up takes a few turns of the loop
                await asyncio.sleep(0)
                others.append(asyncio.create_task(manager.connect()))
            await asyncio.sleep(0.1)
            assert changes.states == ["connecting", "disconnected", "connecting"]
            way.behaviour.clear()
            async with way.host():
                await asyncio.gather(*others)

    play(scenario)


@pytest.mark.parametrize("turns", range(1, 8))
@pytest.mark.parametrize("ending", ["disconnect", "close"])
def test_an_ending_that_is_cancelled_leaves_no_half_of_a_link(ending: str, turns: int) -> None:
    """The state stayed what it was, without anybody who would have changed it."""

    async def scenario(way: Way) -> None:
        async with way.host():
            manager = way.manager(**QUICK)
            await manager.connect()
            task = asyncio.create_task(getattr(manager, ending)())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if ending == "disconnect":
                await manager.connect()
                assert manager.state is ConnectionState.ESTABLISHED
                await manager.close()
            assert manager.state is ConnectionState.CLOSED
            with pytest.raises(LinkClosed):
                await manager.connect()

    play(scenario)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_in_whatever_order_the_table_holds_and_the_end_is_an_end(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Two hundred things at random, most of them at bad moments; afterwards one connect and one close do."""
    dice = random.Random(seed)

    async def scenario(way: Way) -> None:
        names = [Endpoint.parse("memory:host"), Endpoint.parse("memory:spare", priority=1)]
        manager = way.manager(*names, **QUICK, **BEATS, rng=dice, drain_timeout=0.1, attempt_timeout=0.5)
        Changes(manager)
        tasks: list[asyncio.Task[object]] = []
        async with contextlib.AsyncExitStack() as stack:
            host = await stack.enter_async_context(way.host("memory:host", "memory:spare", **BEATS))
            for _ in range(200):
                host = await happen(way, manager, host, stack, tasks)
                await asyncio.sleep(dice.choice([0.0, 0.0, 0.001, 0.1, 3.0]))
            assert way.near is not None
            way.near.heal()
            way.behaviour.clear()
            async with asyncio.timeout(120):
                connection = await manager.connect()
                await connection.send(b"x")
                await manager.close()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def happen(
        way: Way,
        manager: ConnectionManager,
        host: ConnectionHost,
        stack: contextlib.AsyncExitStack,
        tasks: list[asyncio.Task[object]],
    ) -> ConnectionHost:
        assert way.near is not None
        match dice.randrange(12):
            case 0 | 1 | 2:
                tasks.append(asyncio.create_task(manager.connect()))
            case 3 | 4:
                tasks.append(asyncio.create_task(manager.reconnect()))
            case 5:
                tasks.append(asyncio.create_task(manager.disconnect()))
            case 6:
                way.cut()
            case 7:
                manager.network_changed("an address was added")
            case 8:
                way.near.black_hole()
                await asyncio.sleep(dice.choice([0.1, 1.5, 3.0]))
                way.near.heal()
            case 9:
                way.behaviour["memory:host"] = dice.choice([0.0, 0.3, BLACK_HOLE, ConnectionRefusedError(111, "no")])
            case 10:
                if tasks:
                    dice.choice(tasks).cancel()
            case 11:
                await way.kill(host)
                way.cut()
                host = await stack.enter_async_context(way.host("memory:host", "memory:spare", **BEATS))
        return host

    play(scenario, lambda: Way(ChaosOptions(seed=seed, latency=(0.0, 0.05))))
    assert not caplog.records
