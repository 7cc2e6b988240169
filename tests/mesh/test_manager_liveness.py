"""A link whose way misbehaves: dead ones are found in time, living ones are left alone (must hold, DESIGN 5.1)."""

import asyncio
from typing import Any

import pytest
from tests.mesh.way import Changes, Way, now, play, until

from meshvisor.shared.core.states import ConnectionState
from meshvisor.shared.mesh.connection import ConnectionHandle
from meshvisor.shared.transport.chaos import ChaosOptions, Direction

BEATS = {"heartbeat_interval": 0.25, "heartbeat_timeout": 2.0}
QUICK = {"endpoint_blacklist_duration": 0.2, "connect_timeout": None}


def quiet() -> Way:
    return Way(ChaosOptions(), ChaosOptions())


@pytest.mark.parametrize("talker", ["manager", "host"])
def test_a_stream_that_goes_on_and_on_keeps_its_one_connection(talker: str) -> None:
    """Ten times the time-out, in one direction only, without a pause that would let a ping out."""

    async def scenario(way: Way) -> None:
        async with way.host(**BEATS) as host, way.manager(**BEATS) as manager:
            near, far = await manager.connect(), await host.accept()
            sender, receiver = (near, far) if talker == "manager" else (far, near)
            reading = asyncio.create_task(read(receiver, 2000))
            for _ in range(2000):
                await sender.send(b"x" * 100)
                await asyncio.sleep(0.01)
            await reading
            assert now() == pytest.approx(20.0)
            assert len(way.dialled) == 1

    async def read(link: ConnectionHandle, count: int) -> None:
        for _ in range(count):
            await link.receive()

    play(scenario)


@pytest.mark.parametrize("end", ["near", "far"])
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("idle", [0.0, 30.0])
def test_a_half_open_connection_is_found_in_time(end: str, direction: Direction, idle: float) -> None:
    """Silent in one direction or both, on either side: found within the time-out and an interval, by whoever is deaf,
    and the manager has another connection by then."""

    async def scenario(way: Way) -> None:
        async with way.host(**BEATS) as host, way.manager(**BEATS, **QUICK) as manager:
            connection = await manager.connect()
            accepted = await host.accept()
            await asyncio.sleep(idle)
            chaos: Any = getattr(way, end)
            for live in chaos.connections:
                live.black_hole(direction)
            start = now()
            await until(lambda: len(way.dialled) == 2 and manager.state is ConnectionState.ESTABLISHED)
            assert now() - start <= 2.25
            await connection.send(b"again")
            assert (await accepted.receive()).body == b"again"

    play(scenario, quiet)


def test_detection_is_measured() -> None:
    async def scenario(way: Way) -> None:
        async with way.host(**BEATS), way.manager(**BEATS, **QUICK) as manager:
            await manager.connect()
            assert manager.metrics().detection_time is None
            await asyncio.sleep(30)
            assert way.near is not None
            for live in way.near.connections:
                live.black_hole()
            await until(lambda: len(way.dialled) == 2)
            detected = manager.metrics().detection_time
            assert detected is not None
            # Once φ is warm, well before the time-out.
            assert 1.0 < detected < 2.0

    play(scenario, quiet)


@pytest.mark.slow
def test_an_idle_healthy_link_is_never_suspected_in_an_hour_of_heavy_tailed_jitter() -> None:
    jitter = ChaosOptions(
        seed=5, latency=(0.0, 0.05), delay=(0.02, 0.08), delay_probability=0.5, stall=(0.1, 0.6), stall_probability=0.02
    )

    async def scenario(way: Way) -> None:
        options = {"heartbeat_interval": 0.75, "heartbeat_timeout": 3.0}
        async with way.host(**options) as host, way.manager(**options, attempt_timeout=10.0) as manager:
            await manager.connect()
            changes = Changes(manager)
            accepted = await host.accept()
            await asyncio.sleep(3600)
            assert changes.all == []
            assert len(way.dialled) == 1
            assert accepted.silence is None

    play(scenario, lambda: Way(jitter, jitter))


def test_an_observer_that_stood_still_for_ten_seconds_suspects_none_of_twenty() -> None:
    """All timers of the process fire late at once, as after SIGSTOP and SIGCONT."""

    async def scenario(way: Way) -> None:
        async with way.host(**BEATS) as host:
            managers = [way.manager(node_id=f"client-{number}", **BEATS) for number in range(20)]
            for manager in managers:
                await manager.connect()
            await asyncio.sleep(10)
            changes = [Changes(manager) for manager in managers]
            loop: Any = asyncio.get_running_loop()
            loop._jumping.now += 10.0
            await asyncio.sleep(10)
            assert [change.all for change in changes] == [[]] * 20
            assert host.statistics().accepted == 20
            await asyncio.gather(*(manager.close() for manager in managers))

    play(scenario)


def test_a_peer_that_comes_back_after_thirty_seconds_is_linked_again_by_itself() -> None:
    """Within one step: the pause that was announced when it came back, and the longest back-off."""

    async def scenario(way: Way) -> None:
        lost: list[object] = []
        async with way.manager(endpoint_blacklist_duration=2.0, hard_backoff_cap=5.0) as manager:
            manager.on_peer_lost(lost.append)
            async with way.host() as host:
                await manager.connect()
                await way.kill(host)
            await asyncio.sleep(30)
            async with way.host():
                barred_for = manager.metrics().dial_rates[0].barred_for
                start = now()
                await until(lambda: manager.state is ConnectionState.ESTABLISHED)
                assert now() - start <= barred_for + 5.0
                assert len(lost) == 1

    play(scenario)


def test_an_idle_link_below_every_default_lives() -> None:
    """An interval under 250 ms, and a time-out under the grace of half a second (seed, defects 3 and 4)."""

    async def scenario(way: Way) -> None:
        options = {"heartbeat_interval": 0.05, "heartbeat_timeout": 0.2}
        async with way.host(**options), way.manager(**options) as manager:
            await manager.connect()
            await asyncio.sleep(60)
            assert len(way.dialled) == 1

    play(scenario)


def test_a_link_that_ended_leaves_no_timer_behind() -> None:
    """``play`` looks at the loop's timers after each scenario; here with everything that sets one."""

    async def scenario(way: Way) -> None:
        async with way.host(**BEATS), way.manager(**BEATS, **QUICK) as manager:
            connection = await manager.connect()
            await connection.send(b"x")
            manager.network_changed("an address was added")
            way.cut()
            await until(lambda: len(way.dialled) == 2)

    play(scenario)
