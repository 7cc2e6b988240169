"""What an operator asked for goes on to its end, whoever waits for it: who gives up leaves nothing half done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..shared.errors import SupervisorError

_PATIENCE = 1.0

T = TypeVar("T")


class Errands:
    """Owns the tasks in which it is done, until ``close``."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, errand: Coroutine[Any, Any, T]) -> T:
        """Do ``errand``, and return or raise what it does; if this is cancelled, it goes on.

        Raises:
            SupervisorError: If the mesh has ended before it was done.
        """
        waiter, task = asyncio.current_task(), asyncio.get_running_loop().create_task(errand, name="meshvisor-errand")
        assert waiter is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not waiter.cancelling():
                raise SupervisorError("the mesh has ended") from None
            raise

    async def close(self) -> None:
        """Wait for what is still being done; it has seen that the mesh is over. Then cancel it."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_PATIENCE)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
