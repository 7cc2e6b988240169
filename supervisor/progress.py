"""What becomes of the slots that a change concerns, step by step. Pure: events in, steps out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..shared.control.requests import Step
from .event import Event
from .snapshot import WorkerStatus

# A slot has arrived where a change can have wanted it, or cannot get there.
_ARRIVED = {"slot-ready": "ready", "slot-stopped": "stopped", "slot-failed": "failed"}
_BEGUN = ("slot-starting", "slot-stopping", "slot-candidate")


class Progress:
    """The steps of one change that begins at ``now``, of the slots that ``concerns`` says; ``told`` hears each.

    The time of a step is that from the first thing that happened to the slot: of slots that are restarted one after the
    other, each has its own. What had begun before the change counts from the change on.
    """

    def __init__(self, concerns: Callable[[str], bool], told: Callable[[Step], None], now: float) -> None:
        self._now = now
        self._concerns = concerns
        self._told = told
        self._begun: dict[str, float] = {}
        self._returning: set[str] = set()
        self._steps: dict[str, Step] = {}

    def heard(self, event: Event, now: float) -> None:
        """Take in what happened at ``now``, on the same clock."""
        if not event.slot or not self._concerns(event.slot):
            return
        if event.event in _BEGUN:
            self._begun.setdefault(event.slot, now)
        elif event.event == "slot-exited":
            if event.details.get("trial"):
                self._returning.add(event.slot)
        elif state := _ARRIVED.get(event.event):
            since, is_back = self._begun.pop(event.slot, self._now), event.slot in self._returning
            self._returning.discard(event.slot)
            step = Step(event.slot, state, event.incarnation, round(max(0.0, now - since), 6), is_back)
            self._steps[event.slot] = step
            self._told(step)

    def steps(self, slots: Iterable[WorkerStatus]) -> tuple[Step, ...]:
        """Return the latest step of each slot; of those of ``slots`` that have made none, how they are."""
        still = [Step(slot.name, slot.state, slot.incarnation, None) for slot in slots if slot.name not in self._steps]
        return (*self._steps.values(), *still)
