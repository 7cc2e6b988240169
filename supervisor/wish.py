"""What an operator wants of slots that has to wait for its turn, as for a reload that goes on.

The latest wish counts: a slot that somebody stops meanwhile stays down, and whoever waits is told so.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..shared.errors import SupervisorError
from .slot import Slot


class Wish:
    """Begins when it is asked for, of ``slots``."""

    def __init__(self, slots: Iterable[Slot]) -> None:
        self._holds = {slot: slot.child.holds for slot in slots}
        self._withdrawn: list[str] = []

    def is_withdrawn(self, slot: Slot) -> bool:
        """Return whether somebody has stopped ``slot`` since, and nobody has started it again."""
        return slot.child.is_held and slot.child.holds > self._holds.get(slot, 0)

    def standing(self, slots: Iterable[Slot]) -> list[Slot]:
        """Return those of ``slots`` that are still meant, now that it is their turn."""
        slots = list(slots)
        self._withdrawn = [slot.name for slot in slots if self.is_withdrawn(slot)]
        return [slot for slot in slots if slot.name not in self._withdrawn]

    def check(self) -> None:
        """Say which were not meant any more, when all others are done.

        Raises:
            SupervisorError: If there were any.
        """
        if self._withdrawn:
            raise SupervisorError(f"{', '.join(self._withdrawn)}: stopped before it was its turn to start")
