"""Changed code in a running mesh: how it gets in, is tried, and how to go back.

Workers are forked from zygotes that have imported their modules, so that what is on disk counts for nobody until a
zygote has imported it anew. An operator's start or restart and a reload see to that, and it is all or nothing: if the
code cannot be imported, nothing is touched; if a process that runs it does not become ready, the old zygotes are still
there, and a process of theirs takes the slot back. (What is started anew each time, without a zygote, runs what is on
disk whatever comes of it.) After a crash, what counts is speed: the zygote that is there forks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from ..shared.config.model import MeshConfig
from ..shared.errors import SupervisorError
from .conductor import Conductor
from .event import Event
from .nursery import Nursery
from .roller import Roller
from .slot import Slot

_LOOK_DELAY = 1.0
"""Seconds from a crash to the look at the code: recovery comes first, and many crashes are worth one look."""


class Renewal:
    """``on_event`` hears, once for each change, ``code-changed`` with ``files`` when a crash ran old code again."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        nursery: Nursery,
        conductor: Conductor,
        on_event: Callable[..., None],
    ) -> None:
        self._loop = loop
        self._nursery = nursery
        self._conductor = conductor
        self._roller = Roller(conductor)
        self._on_event = on_event
        self._lock = asyncio.Lock()
        self._has_told = False
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def trial(self, config: MeshConfig | None = None) -> AsyncIterator[bool]:
        """Have workers forked with the code on disk, and for ``config`` if it is given; yield whether that is new.

        When the block is left by a SupervisorError, workers are forked with the old code again; when it is cancelled,
        they go on with the new. One block at a time: others wait.

        Raises:
            SupervisorError: If that code cannot be imported; nothing has changed then.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._lock)
            is_new = config is not None or await self._nursery.is_stale()
            if not is_new:
                await stack.aclose()
                yield False
                return
            try:
                if config is not None:
                    section = config.supervisor
                    self._nursery.configure(config.workers, spares=section.spares, preload=section.preload)
                await self._nursery.replace_changed()
            except BaseException:
                await self.go_back()
                raise
            self._has_told = False
            try:
                yield True
            except SupervisorError:
                await self.go_back()
                raise
            finally:
                await self._nursery.settle()

    async def go_back(self) -> None:
        """Have workers forked with the old code again."""
        await self._nursery.roll_back()

    async def restart(self, slots: Sequence[Slot], *, once: bool = False) -> None:
        """Restart slots and wait until all are ready; ``once``: each has one try.

        Raises:
            SupervisorError: If one does not become ready.
        """
        latest = {slot.name: slot.child.incarnation + 1 for slot in slots} if once else {}
        for slot in slots:
            slot.restart()
        self._conductor.advance()
        await self._conductor.until_ready(slots, latest=latest)

    async def replace(self, slot: Slot, *, once: bool = False) -> None:
        """Put another process into a slot: a ready worker hands over to it, others are restarted as by ``restart``.

        Raises:
            SupervisorError: As ``Roller.roll``, or ``restart``.
        """
        if slot.can_hand_over:
            await self._roller.roll(slot)
        else:
            await self.restart([slot], once=once)

    async def take_back(self, slots: Sequence[Slot]) -> None:
        """Go back to the old code, and replace by it what an operator has not stopped meanwhile."""
        await self.go_back()
        for slot in sorted(slots, key=lambda slot: not slot.child.is_reserved):  # first what is down
            if not slot.child.is_held and not self._conductor.is_stopping:
                with suppress(SupervisorError):  # the one that led here is told
                    await self._replace_by_old(slot)

    async def _replace_by_old(self, slot: Slot) -> None:
        try:
            await self.replace(slot)
        except SupervisorError:
            if not slot.child.is_reserved:
                raise
            await self.restart([slot])  # there is nothing else to go back to

    def heard(self, event: Event) -> None:
        """Look, a while after each crash, whether it could have been started with newer code."""
        is_crash = event.event == "slot-exited" and event.details["cause"] != "stopped"
        if is_crash and not self._has_told and self._timer is None and self._look is None:
            self._timer = self._loop.call_later(_LOOK_DELAY, self._begin_to_look)

    async def close(self) -> None:
        """Look no more."""
        self._has_told = True
        if self._timer is not None:
            self._timer.cancel()
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait([self._look])

    def _begin_to_look(self) -> None:
        self._timer = None
        self._look = self._loop.create_task(self._tell(), name="meshvisor-code")

    async def _tell(self) -> None:
        try:
            files = [] if self._lock.locked() else await self._nursery.changed_files()
            if files and not self._has_told:
                self._has_told = True
                self._on_event("code-changed", files=list(files), runs=False)
        finally:
            self._look = None
