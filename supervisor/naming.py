"""What a name on the command line means: a slot, else all slots of the worker of that name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from ..shared.errors import SupervisorError

_NUMBERED = re.compile(r"(.+)-\d+")


class UnknownSlot(SupervisorError):
    """There is no slot, and no worker, of the name that was given."""


class NoWorker(UnknownSlot):
    """There is a slot of that name, where a worker is wanted."""

    def __init__(self, slot: str) -> None:
        worker = _NUMBERED.fullmatch(slot)
        hint = f' (did you mean "{worker[1]}"?)' if worker else ""
        super().__init__(f"{slot} is a slot; it is its worker that is scaled{hint}")


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


def is_of(worker: str, slot: str) -> bool:
    """Return whether ``slot`` can be one of ``worker``."""
    return slot == worker or ((match := _NUMBERED.fullmatch(slot)) is not None and match[1] == worker)


def unknown(name: str, known: Iterable[str]) -> UnknownSlot:
    """Return the error about a name that is none of ``known``, with the one that was most likely meant."""
    from ..shared.config.report import closest  # the whole configuration with it: not for who knows the names

    hint = closest(name, known)
    text = f"there is no worker and no slot called {name!r}"
    return UnknownSlot(text + (f' (did you mean "{hint}"?)' if hint else ""))
