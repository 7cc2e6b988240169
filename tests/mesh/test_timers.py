"""A link asks of an event loop's timers no more than every loop has."""

import asyncio

from tests.bare_timers import bare_timers
from tests.mesh.way import Way, play


def test_messages_go_there_and_back_on_a_loop_whose_timers_know_no_time() -> None:
    async def scenario(way: Way) -> None:
        async with way.host() as host, way.manager() as manager:
            near, far = await manager.connect(), await host.accept()
            with bare_timers():
                for number in range(1, 4):
                    await near.send(b"there")
                    assert (await far.receive()).number == number
                    await far.send(b"and back")
                    assert (await near.receive()).number == number
                    await asyncio.sleep(0.3)

    play(scenario)
