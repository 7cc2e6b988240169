"""What stands before each line: the name of its slot, in the slot's colour. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .cells import shorten
from .style import BOLD, SLOT_COLOURS, Look, paint

MESH = "mesh"
WIDEST = 24
_SHARE = 3  # on a narrow terminal names take a third of a line at most


class Labels:
    """The labels of ``slots``, as wide as the widest name among ``shown`` (default: all) within reason."""

    def __init__(self, slots: Sequence[str], look: Look, shown: Sequence[str] | None = None) -> None:
        self.bar, self.dot, self._mark = ("│", "•", "…") if look.unicode else ("|", "*", "~")
        self._look = look
        self._widest = min(max(map(len, slots if shown is None else shown), default=0), WIDEST)
        self._numbers = {slot: number for number, slot in enumerate(slots)}

    @property
    def width(self) -> int:
        """How many columns the names take now."""
        return self._widest if self._look.columns is None else min(self._widest, self._most())

    def of(self, slot: str, mark: str) -> str:
        """Return the label of a line of ``slot`` (empty: of the mesh), ending with ``mark``."""
        colour = self._colour(slot) if slot else BOLD
        return paint(f"{self._named(slot or MESH):{self.width}} {mark}", colour, on=self._look.colour)

    def room(self, slot: str) -> int:
        """Return how many columns are left behind the label of ``slot``; only on a terminal is there an end."""
        assert self._look.columns is not None
        return self._look.columns() - self._taken(slot) - 1

    def indent(self, slot: str) -> str:
        """Return what is as wide as the label of ``slot`` and the blank behind it."""
        return " " * self._taken(slot)

    def _colour(self, slot: str) -> str:
        """Return the colour of ``slot``; one that was not known before (scaled up, say) gets the next."""
        if slot not in self._numbers:
            self._numbers[slot] = len(self._numbers)
            self._widest = max(self._widest, min(len(slot), WIDEST))
        return SLOT_COLOURS[self._numbers[slot] % len(SLOT_COLOURS)]

    def _taken(self, slot: str) -> int:
        return max(self.width, len(self._named(slot or MESH))) + 3

    def _named(self, name: str) -> str:
        if self._look.columns is None:
            return name
        return shorten(name, max(self._most(), len(MESH)), self._mark)

    def _most(self) -> int:
        assert self._look.columns is not None
        return self._look.columns() // _SHARE
