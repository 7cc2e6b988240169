"""When the slots of a mesh start and stop: what the pure rules of ``strategy`` decide, carried out and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from ..shared.config.model import SupervisorSection
from ..shared.errors import SupervisorError
from . import strategy
from .child import Ending, State
from .fleet import Fleet
from .limit import Judgement, Limit
from .slot import Slot

Publish = Callable[..., None]
"""Says that something happened to the mesh as a whole: the event's name, and its facts by keyword."""


class Conductor:
    """Leads the slots of ``fleet``. ``finished`` is called, once, when the mesh has an outcome and no process.

    ``advance`` is the one place where slots are released, taken down with a sibling, or stopped with the mesh; it is
    called after whatever may have changed what is possible, and does nothing that was done already.
    """

    def __init__(
        self, fleet: Fleet, section: SupervisorSection, publish: Publish, finished: Callable[[strategy.Verdict], None]
    ) -> None:
        self.outcome: strategy.Verdict | None = None
        self.was_ready = False
        self.is_lasting = False  # the mesh goes on when every slot has ended
        self._fleet = fleet
        self._section = section
        self._publish = publish
        self._finished = finished
        self._limit = Limit(section)
        self._restarting: set[str] = set()  # slots that a strategy restarts together: none starts before all have ended
        self._is_playing = False
        self._started_at = 0.0
        self._changed = asyncio.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether the end of the mesh is decided."""
        return self.outcome is not None

    def begin(self) -> None:
        """Begin to start the slots."""
        self._is_playing = True
        self._started_at = asyncio.get_running_loop().time()
        self.advance()

    def configure(self, section: SupervisorSection) -> None:
        """Go by another strategy and limit from now on."""
        self._section = section
        self._limit.configure(section)

    def end(self, outcome: strategy.Verdict) -> None:
        """Decide the end of the mesh, unless it is decided; what has no process stops at once."""
        if self.outcome is not None:
            return
        self.outcome = outcome
        self._publish("mesh-stopping", reason=outcome.reason)
        for slot in self._fleet:
            if slot.pid is None and not slot.child.is_over:
                slot.stop()

    def kill(self, reason: str) -> None:
        """End the mesh at once, as a failure."""
        status = self.outcome.status if self.outcome else 0
        self.outcome = strategy.Verdict(status or 1, reason)
        self._publish("mesh-stopping", reason=reason)
        for slot in self._fleet:
            slot.kill()
        self.advance()

    def ended(self, name: str, ending: Ending) -> Ending:
        """Count an end against the restart limit, and take down with it whoever the strategy says."""
        now = asyncio.get_running_loop().time()
        slot = self._fleet.slot(name)
        judgement = self._limit.judge(slot, ending, self._fleet, now)
        if judgement is Judgement.PARK:
            return replace(ending, delay=slot.child.park(now))
        if judgement is Judgement.GIVE_UP:
            slot.child.give_up(now)
            return replace(ending, delay=None)
        if ending.is_incident and self.outcome is None:
            siblings = strategy.concerned(self._section.strategy, slot.name, self._fleet.order)
            if siblings:
                self._restarting.update((slot.name, *siblings))
        return ending

    def advance(self) -> None:
        """Do what the states of the slots allow now: the next starts, or the next level of a stop."""
        if not self._is_playing:
            return
        for slot in self._fleet.take_out():
            slot.remove()
        if self.outcome is None:
            self._detect_the_end()
        if self.outcome is None:
            self._take_down_siblings()
            self._release_slots()
            self._detect_readiness()
        elif self._is_all_stopped():
            self._is_playing = False
            self._finished(self.outcome)
        self._changed.set()

    def _detect_the_end(self) -> None:
        if self._limit.is_exceeded:
            section = self._section
            self._publish("limit-exceeded", max_restarts=section.max_restarts, window=section.max_restarts_window)
            self.end(strategy.Verdict(3, "the restart limit is exceeded"))
        elif not self.is_lasting and (verdict := strategy.verdict([(slot.config, slot.child) for slot in self._fleet])):
            self.end(verdict)

    def _take_down_siblings(self) -> None:
        """Stop what restarts together, the highest level first, until no process of it is left."""
        if not self._restarting:
            return
        for level in reversed(self._fleet.levels):
            members = [slot for slot in level if slot.name in self._restarting]
            for slot in members:
                if strategy.is_taken_down(slot.child):
                    slot.take_down(comes_back=strategy.comes_back(slot.child))
            if any(slot.child.is_alive for slot in members):
                return
        self._restarting.clear()

    def may_start(self, slot: Slot) -> bool:
        """Return whether nothing that ``slot`` depends on is missing."""
        return strategy.may_start(slot.config, self._fleet.children)

    def _release_slots(self) -> None:
        for slot in self._fleet:
            is_reserved = slot.name in self._restarting or slot.child.is_reserved
            if slot.child.state is State.WAITING and not is_reserved and self.may_start(slot):
                slot.release()

    def _detect_readiness(self) -> None:
        if not self.was_ready and all(slot.child.ever_ready or slot.child.is_over for slot in self._fleet):
            self.was_ready = True
            self._publish("mesh-ready", duration=asyncio.get_running_loop().time() - self._started_at)

    def _is_all_stopped(self) -> bool:
        """Ask the highest level that still has processes to stop; say whether none has."""
        for level in reversed(self._fleet.levels):
            for slot in level:
                if not slot.child.is_over:
                    slot.stop()
            if not all(slot.child.is_over for slot in level):
                return False
        return True

    # Waiting.

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition over the states of slots."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def until_ready(
        self, slots: Sequence[Slot], *, once: bool = False, latest: Mapping[str, int] | None = None
    ) -> None:
        """Wait until each slot is ready (``once``: has ever been) or has ended well.

        Raises:
            SupervisorError: If one is not within its ``start_timeout`` since it could first start, tries included, or
                if it will not become so by itself, or not in the incarnation that is the ``latest`` for it.
        """

        def is_there(slot: Slot) -> bool:
            return slot.child.state is State.READY or (once and slot.child.ever_ready)

        while True:
            self._changed.clear()
            pending = [slot for slot in slots if not is_there(slot)]
            self._raise_if_lost(pending)
            self._raise_if_tried(slots, latest or {})
            pending = [slot for slot in pending if not slot.child.is_over]
            if not pending:
                return
            deadlines = [slot.ready_by for slot in pending if slot.ready_by is not None]
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(deadlines, default=None)):
                    await self._changed.wait()

    def _raise_if_tried(self, slots: Sequence[Slot], latest: Mapping[str, int]) -> None:
        for slot in slots:
            child, last = slot.child, latest.get(slot.name)
            has_failed = child.is_between or child.is_reserved
            if last is not None and (child.incarnation > last or (child.incarnation == last and has_failed)):
                raise SupervisorError(f"{slot.name} did not become ready: {slot.last_words}".removesuffix(": "))

    def _raise_if_lost(self, slots: Sequence[Slot]) -> None:
        now = asyncio.get_running_loop().time()
        for slot in slots:
            child = slot.child
            is_late = slot.ready_by is not None and now >= slot.ready_by and not child.is_over
            if is_late or child.is_held or child.state in (State.FAILED, State.PARKED):
                why = slot.trouble or ("it was stopped" if child.is_held else "")
                raise SupervisorError(f"{slot.name} did not become ready" + (f": {why}" if why else ""))
        if self.outcome is not None and self.outcome.status != 0:
            raise SupervisorError(f"the mesh did not become ready: {self.outcome.reason}")
