"""Make before break, dialling, and the ends of a link, as DESIGN 4.1 and 5.1 promise them."""

import asyncio
import random

import pytest
from tests.mesh.way import BLACK_HOLE, Changes, Way, now, play, until

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.frames import HEADER_SIZE
from meshvisor.shared.core.retry import RetryBudget
from meshvisor.shared.core.states import ConnectionState
from meshvisor.shared.errors import ConnectFailed, HandshakeError, LinkClosed, PeerLeft, PeerLost, RetryAfter
from meshvisor.shared.mesh.connection import ConnectionHandle
from meshvisor.shared.transport.base import TransportOptions
from meshvisor.shared.transport.chaos import ChaosOptions

QUICK = {"endpoint_blacklist_duration": 0.2, "connect_timeout": None}


async def pour(link: ConnectionHandle, count: int) -> None:
    for number in range(1, count + 1):
        assert await link.send(str(number).encode()) == number
        if number % 7 == 0:
            await asyncio.sleep(0.001)


async def collect(link: ConnectionHandle, count: int) -> list[bytes]:
    return [bytes((await link.receive()).body) for _ in range(count)]


@pytest.mark.parametrize("latency", [None, 0.005])
def test_streams_both_ways_lose_and_double_nothing_during_fifty_reconnects(latency: float | None) -> None:
    """R24, R26, invariant 6."""
    chaos = None if latency is None else ChaosOptions(latency=(0.0, latency), rechunk=(1, 500))

    async def scenario(way: Way) -> None:
        async with way.host() as host, way.manager() as manager:
            near, far = await manager.connect(), await host.accept()
            count = 3000
            tasks = [asyncio.create_task(pour(link, count)) for link in (near, far)]
            readers = [asyncio.create_task(collect(link, count)) for link in (near, far)]
            for _ in range(50):
                assert await manager.reconnect() is near
                await asyncio.sleep(0.003)
            await asyncio.gather(*tasks)
            expected = [str(number).encode() for number in range(1, count + 1)]
            assert await asyncio.gather(*readers) == [expected, expected]
            assert len(way.dialled) == 51
            assert manager.metrics().reconnect_success_ratio == 1.0

    play(scenario, lambda: Way(chaos, chaos))


def test_the_old_connection_is_open_until_the_new_one_is_taken_on_both_sides() -> None:
    async def scenario(way: Way) -> None:
        async with way.host() as host, way.manager() as manager:
            near, far = await manager.connect(), await host.accept()
            way.behaviour["memory:host"] = 1.0
            switching = asyncio.create_task(manager.reconnect())
            for number in range(1, 10):
                await asyncio.sleep(0.1)
                await near.send(b"meanwhile")
                assert (await far.receive()).number == number
            await switching
            assert now() == pytest.approx(1.0, abs=0.01)
            # Nothing arrives on the first connection any more: it was closed by its reader.
            with pytest.raises(OSError, match="closed"):
                await way.open[0].control.read(1)

    play(scenario)


def test_a_new_connection_that_is_lost_before_it_is_taken_leaves_the_old_one() -> None:
    async def scenario(way: Way) -> None:
        async with way.host() as host, way.manager() as manager:
            near, far = await manager.connect(), await host.accept()
            assert way.near is not None
            host._acceptor._timeout = 0.5
            switching = asyncio.create_task(manager.reconnect())
            await until(lambda: len(way.near.connections) == 2)  # type: ignore[union-attr]  # asserted above
            way.near.connections[1].black_hole()
            await asyncio.sleep(0.7)
            with pytest.raises(ConnectFailed):
                await switching
            await near.send(b"on the old one")
            assert (await far.receive()).body == b"on the old one"
            assert len(way.dialled) == 2

    play(scenario, lambda: Way(ChaosOptions(latency=(0.01, 0.01))))


def test_a_connection_is_confirmed_if_the_peer_may_hold_on_to_an_older_one() -> None:
    async def scenario(way: Way) -> None:
        async with way.host() as host, way.manager() as manager:
            await manager.connect()
            await host.accept()
            assert manager.metrics().bytes_out == 0, "the peer is not woken for a confirmation of the first one"
            await manager.reconnect()
            assert manager.metrics().bytes_out == HEADER_SIZE

    play(scenario)


def test_reconnects_at_the_same_time_share_one_dial() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(), way.manager() as manager:
            connection = await manager.connect()
            handles = await asyncio.gather(*(manager.reconnect() for _ in range(10)))
            assert handles == [connection] * 10
            assert len(way.dialled) == 2

    play(scenario)


def test_reconnect_without_a_connection_connects() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(), way.manager() as manager:
            assert (await manager.reconnect()).node_id == "host"

    play(scenario)


def test_a_cancelled_reconnect_goes_on_for_the_others() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(), way.manager() as manager:
            connection = await manager.connect()
            way.behaviour["memory:host"] = 0.5
            one, other = asyncio.create_task(manager.reconnect()), asyncio.create_task(manager.reconnect())
            await asyncio.sleep(0.1)
            one.cancel()
            assert await other is connection

    play(scenario)


def test_a_link_on_a_fallback_returns_when_the_preferred_endpoint_heals() -> None:
    """Tried after 1 s, then 2, 4, 8... s; without a gap, and without the application's help."""

    async def scenario(way: Way) -> None:
        better, worse = Endpoint.parse("memory:better"), Endpoint.parse("memory:worse", priority=1)
        async with way.host("memory:better", "memory:worse") as host:
            way.behaviour["memory:better"] = ConnectionRefusedError(111, "ill")
            async with way.manager(better, worse, **QUICK) as manager:
                connection = await manager.connect()
                accepted = await host.accept()
                assert connection.endpoint == "memory:worse"
                changes = Changes(manager)
                await asyncio.sleep(20)
                tries = [at for at, name in way.dialled if name == "better"]
                assert tries == pytest.approx([0.0, 1.0, 3.0, 7.0, 15.0], abs=0.01)
                way.behaviour.clear()
                await until(lambda: connection.endpoint == "memory:better")
                assert now() == pytest.approx(31.0, abs=0.01)
                assert changes.steps[-2:] == ["switching (switch-started)", "established (switch-completed)"]
                await connection.send(b"x")
                assert (await accepted.receive()).body == b"x"
                dials = len(way.dialled)
                await asyncio.sleep(600)
                assert len(way.dialled) == dials, "it is where it wants to be"

    play(scenario)


def test_two_black_holes_in_front_of_a_good_endpoint_cost_two_attempt_delays() -> None:
    """HE1, HE3, HE6."""

    async def scenario(way: Way) -> None:
        way.behaviour |= {"memory:hole-1": BLACK_HOLE, "memory:hole-2": BLACK_HOLE}
        names = ("memory:hole-1", "memory:hole-2", "memory:host")
        async with way.host(), way.manager(*names, max_concurrent_dials=3) as manager:
            await manager.connect()
            assert now() == pytest.approx(0.4, abs=0.001)

    play(scenario)


def test_black_holes_that_take_all_places_cost_one_attempt_at_most() -> None:
    """With the two places of the default the third endpoint waits for the time limit of an attempt, not for ever."""

    async def scenario(way: Way) -> None:
        way.behaviour |= {"memory:hole-1": BLACK_HOLE, "memory:hole-2": BLACK_HOLE}
        async with way.host(), way.manager("memory:hole-1", "memory:hole-2", "memory:host") as manager:
            await manager.connect()
            assert now() == pytest.approx(2.0, abs=0.001)

    play(scenario)


def test_an_endpoint_that_accepts_and_never_shakes_hands_does_not_win() -> None:
    """HE6: success is the authenticated handshake."""

    async def scenario(way: Way) -> None:
        silent = await way.listen(Endpoint.parse("memory:silent"), TransportOptions("silent"))
        async with way.host(), way.manager("memory:silent", "memory:host") as manager:
            assert (await manager.connect()).endpoint == "memory:host"
        silent.close()

    play(scenario)


def test_attempts_that_win_in_one_turn_leave_one_connection() -> None:
    """HE4, HE10."""

    async def scenario(way: Way) -> None:
        names = [f"memory:host-{number}" for number in range(3)]
        way.behaviour |= {"memory:host-0": 0.4, "memory:host-1": 0.2}
        async with way.host(*names) as host, way.manager(*names, max_concurrent_dials=3) as manager:
            await manager.connect()
            assert [at for at, _ in way.dialled] == pytest.approx([0.0, 0.2, 0.4])
            await asyncio.sleep(10)
            statistics = host.statistics()
            assert (statistics.accepted, statistics.half_open, statistics.attached) == (1, 0, 1)

    play(scenario)


def test_all_attempts_are_named_when_all_fail_and_a_cancellation_is_none_of_them() -> None:
    """HE9."""

    async def scenario(way: Way) -> None:
        way.behaviour |= {
            "memory:a": ConnectionRefusedError(111, "nobody home"),
            "memory:b": RetryAfter(5.0, "too busy"),
            "memory:c": ValueError("a mistake in the adapter"),
            "memory:d": BLACK_HOLE,
        }
        names = [f"memory:{letter}" for letter in "abcd"]
        async with way.manager(*names, connect_timeout=3.0) as manager:
            with pytest.raises(ConnectFailed) as failure:
                await manager.connect()
            text = str(failure.value)
            for part in ("nobody home", "too busy", "a mistake in the adapter", "no answer within 2 s"):
                assert part in text

    play(scenario)


def test_an_endpoint_that_fails_is_dialled_so_often_a_minute_and_no_more() -> None:
    async def scenario(way: Way) -> None:
        options = {"endpoint_blacklist_duration": 0.001, "connect_timeout": None}
        async with way.manager(**options, max_dials_per_minute_per_endpoint=10) as manager:
            connecting = asyncio.create_task(manager.connect())
            await asyncio.sleep(600)
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            times = [at for at, _ in way.dialled]
            assert all(later - earlier >= 59.999 for earlier, later in zip(times, times[10:], strict=False))
            assert len(times) > 20

    play(scenario)


def test_two_managers_that_share_a_budget_share_its_retries() -> None:
    async def scenario(way: Way) -> None:
        budget = RetryBudget(ttl=60.0, min_per_second=0.1, ratio=0.0)  # six retries a minute for both
        options = {"budget": budget, "hard_backoff_cap": 0.1, "connect_timeout": 50.0}
        managers = [way.manager(endpoint_blacklist_duration=0.01, rng=random.Random(n), **options) for n in range(2)]
        for result in await asyncio.gather(*(m.connect() for m in managers), return_exceptions=True):
            assert isinstance(result, ConnectFailed)
        assert len(way.dialled) == 2 + 6
        await asyncio.gather(*(manager.close() for manager in managers))

    play(scenario)


def test_a_pause_asked_for_by_an_adapter_is_kept_even_if_all_endpoints_are_barred() -> None:
    """Retry-After is never overridden by the panic rule; a penalty is."""

    async def scenario(way: Way) -> None:
        way.behaviour |= {"memory:a": RetryAfter(30.0), "memory:b": ConnectionRefusedError(111, "refused")}
        async with way.manager("memory:a", "memory:b", connect_timeout=25.0) as manager:
            with pytest.raises(ConnectFailed):
                await manager.connect()
            assert way.endpoints_dialled.count("a") == 1
            assert way.endpoints_dialled.count("b") > 3

    play(scenario)


def test_peer_lost_is_told_once_everywhere() -> None:
    """By the iteration that runs, by each send that waits, and by the callback; then the handle is finished."""

    async def scenario(way: Way) -> None:
        lost: list[PeerLost] = []
        async with way.manager(**QUICK, max_queue_messages=2) as manager:
            manager.on_peer_lost(lost.append)
            async with way.host(max_queue_messages=2) as host:
                connection = await manager.connect()
                await connection.send(b"1")
                await connection.send(b"2")
                sends = [asyncio.create_task(connection.send(b"3")) for _ in range(3)]
                iterating = asyncio.create_task(iterate(connection))
                await asyncio.sleep(1)
                await way.kill(host)
                way.cut()
            async with way.host():
                results = await asyncio.gather(*sends, iterating, return_exceptions=True)
                assert [type(result) for result in results] == [PeerLost] * 4
                assert await iterate(connection) == 0, "told once; the next iteration is over at once"
                with pytest.raises(PeerLost):
                    await connection.send(b"4")
                assert [(loss.first, loss.last, loss.count) for loss in lost] == [(1, 2, 2)]
                await asyncio.sleep(30)
                assert len(lost) == 1
                assert (await manager.connect()) is not connection

    async def iterate(connection: ConnectionHandle) -> int:
        return len([message async for message in connection])

    play(scenario)


def test_closing_the_handle_is_a_disconnect() -> None:
    async def scenario(way: Way) -> None:
        async with way.host() as host, way.manager() as manager:
            connection = await manager.connect()
            accepted = await host.accept()
            await connection.close()
            assert manager.state is ConnectionState.DISCONNECTED
            with pytest.raises(PeerLeft):
                await accepted.receive()
            with pytest.raises(LinkClosed):
                await connection.send(b"x")
            await connection.close()

    play(scenario)


def test_a_wrong_secret_on_a_reconnect_loses_the_link_and_ends_the_dialling() -> None:
    async def scenario(way: Way) -> None:
        lost: list[PeerLost] = []
        async with way.manager(**QUICK, secret=b"ours") as manager:
            manager.on_peer_lost(lost.append)
            async with way.host(secret=b"ours") as host:
                connection = await manager.connect()
                await way.kill(host)
                way.cut()
            async with way.host(secret=b"theirs"):
                await until(lambda: manager.state is ConnectionState.FAILED)
                dials = len(way.dialled)
                await asyncio.sleep(60)
                assert len(way.dialled) == dials
                assert len(lost) == 1
                with pytest.raises(PeerLost):
                    await connection.receive()
                with pytest.raises(HandshakeError):
                    await manager.connect()

    play(scenario)


def test_the_delay_between_attempts_is_the_option_whatever_was_measured() -> None:
    """HE7: round trips are not used for it. A slow peer, known as such, is not given longer than a new one."""

    async def scenario(way: Way) -> None:
        async with way.host(), way.manager("memory:host", "memory:nobody", attempt_timeout=5.0) as manager:
            await manager.connect()
            await asyncio.sleep(15)
            start = now()
            assert manager.metrics().srtt == pytest.approx(0.4, abs=0.01)
            await manager.reconnect()
            later = [at - start for at, name in way.dialled if name == "nobody" and at >= start]
            assert later == pytest.approx([0.2], abs=0.001)

    play(scenario, lambda: Way(ChaosOptions(latency=(0.2, 0.2))))


def test_an_endpoint_whose_name_takes_long_to_resolve_holds_no_other_up() -> None:
    """HE5, HE8: resolving is part of the attempt, and the candidates of a race are those it began with; names that
    stand for several addresses are the adapter's business."""

    async def scenario(way: Way) -> None:
        way.behaviour["memory:slow-name"] = BLACK_HOLE
        async with way.host(), way.manager("memory:slow-name", "memory:host") as manager:
            assert (await manager.connect()).endpoint == "memory:host"
            assert now() == pytest.approx(0.2, abs=0.001)

    play(scenario)
