"""The restart limit at work: what an end means for the mesh, or for its slot alone."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

from ..shared.config.model import OnLimit, SupervisorSection
from . import strategy
from .child import Ending
from .intensity import RestartIntensity
from .slot import Slot


class Judgement(Enum):
    """What becomes of a slot whose process has ended."""

    GO_ON = auto()  # as its own state machine decided
    PARK = auto()
    GIVE_UP = auto()  # and the mesh with it


class Limit:
    """Counts incidents: those of the mesh, or under ``park`` those of each slot by itself."""

    def __init__(self, section: SupervisorSection) -> None:
        self.is_exceeded = False  # for good: the mesh is to end
        self._section = section
        self._of_mesh = self._new()
        self._of_slots: dict[str, RestartIntensity] = {}

    def configure(self, section: SupervisorSection) -> None:
        """Go by another limit; a new one begins to count anew."""
        old, self._section = self._section, section
        names = ("max_restarts", "max_restarts_window", "on_limit")
        if any(getattr(old, name) != getattr(section, name) for name in names):
            self._of_mesh = self._new()
            self._of_slots.clear()

    def judge(self, slot: Slot, ending: Ending, slots: Iterable[Slot], now: float) -> Judgement:
        """Count an end, and say what follows."""
        if self.is_exceeded:
            return Judgement.GIVE_UP if ending.is_incident else Judgement.GO_ON
        is_park = self._section.on_limit == OnLimit.PARK
        if not strategy.counts(ending, [other.child for other in slots], is_park=is_park):
            return Judgement.GO_ON
        if not is_park:
            self.is_exceeded = self._of_mesh.record(now)
            return Judgement.GIVE_UP if self.is_exceeded else Judgement.GO_ON
        if slot.child.is_on_probation:
            return Judgement.PARK
        intensity = self._of_slots.setdefault(slot.name, self._new())
        if not intensity.record(now):
            return Judgement.GO_ON
        del self._of_slots[slot.name]  # once it is normal again, it begins anew
        return Judgement.PARK

    def _new(self) -> RestartIntensity:
        return RestartIntensity(self._section.max_restarts, self._section.max_restarts_window)
