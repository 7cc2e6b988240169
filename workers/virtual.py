"""Virtual time: what runs in an event loop is tested without waiting.

``run_virtual`` runs a coroutine on a loop whose clock jumps to the next timer whenever nothing else is left to do:
an hour of sleep takes no time, timers fire in their exact order, and a loop that would wait for ever raises instead.
The idea is the auto-jumping clock of Trio, applied to asyncio. It is for code that does no real I/O (the memory
transport does none); with real sockets the clock stands still while something may still arrive.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(RuntimeError):
    """Nothing is ready, nothing is scheduled, and the main task is not done."""


class _JumpingSelector(selectors.DefaultSelector):
    """Finds out what is ready without waiting; the time it was asked to wait is added to the virtual clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Deadlock("nothing is ready and nothing is scheduled: every task waits for another one")
            self.now += max(timeout, 0.0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time; ``time()`` starts at 0.0."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        # Without this, timers that are due within the resolution of the real clock would fire together.
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end on virtual time and return its result.

    Raises:
        Deadlock: If every task waits for another one.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
