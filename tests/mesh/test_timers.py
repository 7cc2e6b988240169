"""A link asks of an event loop's timers no more than every loop has."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.mesh.way import Way, play


class Bare(asyncio.Handle):
    """What uvloop gives for a timer that is due within half a millisecond: it can be cancelled, and knows no time."""

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        super().__init__(timer.cancel, (), asyncio.get_running_loop())
        self._timer = timer

    def cancel(self) -> None:
        """Cancel the timer."""
        self._timer.cancel()
        super().cancel()


def test_messages_go_there_and_back_on_a_loop_whose_timers_know_no_time() -> None:
    async def scenario(way: Way) -> None:
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def bare(when: float, callback: Callable[..., object], *arguments: Any, **more: Any) -> Bare:
            return Bare(call_at(when, callback, *arguments, **more))

        async with way.host() as host, way.manager() as manager:
            near, far = await manager.connect(), await host.accept()
            loop.call_at = bare  # type: ignore[assignment, method-assign]
            try:
                for number in range(3):
                    await near.send(b"there")
                    assert (await far.receive()).number == number + 1
                    await far.send(b"and back")
                    assert (await near.receive()).number == number + 1
                    await asyncio.sleep(0.3)
            finally:
                loop.call_at = call_at  # type: ignore[method-assign]

    play(scenario)
