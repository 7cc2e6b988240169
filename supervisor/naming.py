"""What a name on the command line means: a slot, else all slots of the worker of that name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from ..shared.config.report import closest
from ..shared.errors import SupervisorError

_NUMBERED = re.compile(r"(.+)-\d+")


class UnknownSlot(SupervisorError):
    """There is no slot, and no worker, of the name that was given."""


def slots_named(name: str, slots: Collection[str]) -> list[str]:
    """Return those of ``slots`` that ``name`` means.

    Raises:
        UnknownSlot: If there is none, with the name that was most likely meant.
    """
    if name in slots:
        return [name]
    workers = {slot: match[1] for slot in slots if (match := _NUMBERED.fullmatch(slot))}
    if found := [slot for slot in slots if workers.get(slot) == name]:
        return found
    raise unknown(name, [*slots, *workers.values()])


def unknown(name: str, known: Iterable[str]) -> UnknownSlot:
    """Return the error about a name that is none of ``known``, with the one that was most likely meant."""
    hint = closest(name, known)
    text = f"there is no worker and no slot called {name!r}"
    return UnknownSlot(text + (f' (did you mean "{hint}"?)' if hint else ""))
