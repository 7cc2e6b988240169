"""Managers and a mesh over a blacklist in real shared memory, each with an attachment of its own, as processes have."""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

import pytest
from tests.mesh.fleet import Fleet
from tests.mesh.way import Way

from meshvisor.shared.memory.blacklist import SharedBlacklist
from meshvisor.shared.mesh.penalties import SharedPenalties
from meshvisor.workers.testing import run_virtual

HOST = "memory:host"


def on_real_time(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main``; afterwards no task and no descriptor may be left."""
    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(main)
    assert len(os.listdir("/proc/self/fd")) == before


def attached(table: SharedBlacklist, source: str) -> SharedBlacklist:
    return SharedBlacklist.attach(table.fileno(), source=source, wake_fd=table.wake_fd)


def test_what_one_manager_finds_out_spares_the_other_the_dial() -> None:
    async def main() -> None:
        way = Way()
        way.behaviour["memory:bad"] = ConnectionRefusedError("dead")
        with SharedBlacklist.create(source="test") as table, attached(table, "1") as one, attached(table, "2") as two:
            async with way.host(HOST):
                for mine in (one, two):
                    async with way.manager("memory:bad", HOST, blacklist=mine) as manager:
                        await manager.connect()
                        assert manager.metrics().blacklisted_endpoints == 1
            assert way.endpoints_dialled == ["bad", "host", "host"]
            (penalty,) = table.active()
            assert (penalty.key, penalty.source, penalty.strikes) == ("memory:bad", "1", 1)

    on_real_time(main())


def test_a_penalty_that_another_attachment_lifts_is_not_waited_for() -> None:
    async def main() -> None:
        way = Way()
        with SharedBlacklist.create() as table, attached(table, "operator") as operator:
            operator.set_penalty(HOST, "hard", 300.0)
            async with way.host(HOST), way.manager(HOST, blacklist=table, connect_timeout=None) as manager:
                connecting = asyncio.create_task(manager.connect())
                await asyncio.sleep(0)
                operator.set_penalty(HOST, "hard", 300.0)
                operator.clear_penalty(HOST)
                await connecting
            assert way.endpoints_dialled == ["host"]

    on_real_time(main())


def test_the_clock_of_the_table_may_be_that_of_the_loop() -> None:
    """What a penalty says is what a manager waits, to the spread that keeps many from dialling at one instant."""

    async def main() -> None:
        way, loop = Way(), asyncio.get_running_loop()
        with SharedBlacklist.create(clock=lambda: round((loop.time() + 1) * 1e9)) as table:
            way.behaviour[HOST] = ConnectionRefusedError("dead")
            async with way.manager(HOST, blacklist=table, connect_timeout=None) as manager:
                connecting = asyncio.create_task(manager.connect())
                await asyncio.sleep(100)
                gaps = [b - a for (a, _), (b, _) in zip(way.dialled, way.dialled[1:], strict=False)]
                assert gaps == [pytest.approx(wait, abs=SharedPenalties.spread) for wait in (10.0, 20.0, 30.0)]
                connecting.cancel()

    run_virtual(main())


def test_a_blacklist_that_is_closed_too_early_stops_nobody() -> None:
    async def main() -> None:
        way = Way()
        table = SharedBlacklist.create()
        async with way.host(HOST), way.manager("memory:bad", HOST, blacklist=table) as manager:
            await manager.connect()
            table.close()
            way.cut()
            await manager.connect()
            assert manager.metrics().blacklisted_endpoints == 0

    on_real_time(main())


def test_a_mesh_shares_it_too(play: Any) -> None:
    async def scenario(fleet: Fleet) -> None:
        loop = asyncio.get_running_loop()
        with SharedBlacklist.create(clock=lambda: round((loop.time() + 1) * 1e9)) as table:
            await fleet.start("alpha", blacklist=table)
            table.set_penalty("memory:alpha-1", "hard", 300.0)
            (beta,) = await fleet.start("beta", blacklist=table)
            await asyncio.sleep(0.2)
            assert beta.adapter.dialled == []
            table.clear_penalty("memory:alpha-1")
            await fleet.until(lambda: bool(beta.up), within=0.04)
            assert beta.adapter.dialled == ["memory:alpha-1"]
            await asyncio.gather(*(node.mesh.close() for node in fleet.nodes.values()))

    play(scenario)


def test_success_and_news_about_endpoints_that_nobody_has_penalised_take_no_lock() -> None:
    """Each of thousands of links in a mesh is such a success, and each takes place while many others do."""

    async def main() -> None:
        with SharedBlacklist.create() as table, attached(table, "stopped") as stopped:
            assert stopped._segment.lock()
            penalties = SharedPenalties(table, 10.0)
            penalties.clear(HOST)
            penalties.forgive(HOST)
            assert table.statistics().contended == 0
            stopped._segment.unlock()

    on_real_time(main())
