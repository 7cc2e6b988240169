"""A rolling restart of one slot: another process is put into the place of a ready one, and nobody loses a call.

    prepare ──▶ hand over ──▶ the old one is dead ──▶ the candidate begins ──▶ ready
       │                                                   │
       └── it cannot: the old one goes on, untouched       └── it fails: the slot waits, for whoever rolls it

From the handover on the other nodes keep what is for the slot until it is ready again, by whichever process that is.
Only one slot of a mesh is in that state at a time: two that hand over could wait for each other's successors.
"""

from __future__ import annotations

import asyncio

from ..shared.errors import SupervisorError
from .candidate import Candidate
from .child import State
from .conductor import Conductor
from .slot import Slot


class Roller:
    """Rolls slots, in the loop of the mesh."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self._turn = asyncio.Lock()

    async def roll(self, slot: Slot) -> None:
        """Replace the process of ``slot``, which ``can_hand_over``, and wait until its successor is ready.

        If it ends by itself before that, it is restarted by the usual rules, or else started, and waited for.

        Raises:
            SupervisorError: If it is not replaced, and is what it was; or if its successor did not become ready: then
                ``slot.child.is_reserved``.
        """
        incarnation = slot.child.incarnation
        candidate = slot.prepare()
        try:
            await self._conductor.until(
                lambda: candidate.is_prepared or candidate.is_over or not self._is_up(slot, incarnation)
            )
            async with self._turn:
                if has_handed_over := self._is_up(slot, incarnation):
                    self._hand_over(slot, candidate)
                    await self._conductor.until_ready([slot], latest={slot.name: incarnation + 1})
            if not has_handed_over:
                await self._await_another(slot)
        finally:
            await candidate.dismiss()
            slot.forget(candidate)
        if self._conductor.outcome is not None:
            raise SupervisorError(f"{slot.name} was not replaced: {self._conductor.outcome.reason}")

    async def _await_another(self, slot: Slot) -> None:
        """Wait until the slot is ready, whose process has ended by itself or by somebody else's order."""
        if slot.child.is_over and not (slot.child.is_held or self._conductor.is_stopping):
            slot.start()
            self._conductor.advance()
        await self._conductor.until_ready([slot])

    def _hand_over(self, slot: Slot, candidate: Candidate) -> None:
        if candidate.is_over:
            life = candidate.life
            details = {"traceback": life.traceback} if life.traceback else {}
            slot.publish("slot-candidate-failed", text=candidate.trouble, tail=life.tail, **details)
            raise SupervisorError(f"{slot.name} was not replaced: {candidate.trouble}")
        if not self._conductor.may_start(slot):
            raise SupervisorError(f"{slot.name} was not replaced: what it depends on is not ready")
        slot.publish("slot-candidate", pid=candidate.life.pid, duration=round(candidate.age, 6))
        slot.hand_over()

    def _is_up(self, slot: Slot, incarnation: int) -> bool:
        is_same = slot.child.state is State.READY and slot.child.incarnation == incarnation
        return is_same and not self._conductor.is_stopping
