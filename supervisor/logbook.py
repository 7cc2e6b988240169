"""``supervise logs``: what the slots of a mesh have printed, in the order of time, whether it runs or not."""

from __future__ import annotations

import heapq
import math
import os
import re
import select
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import takewhile
from operator import attrgetter
from pathlib import Path

from ..shared.errors import SupervisorError
from .inotify import DirectoryGone, changed_names, watch_directory
from .naming import slots_named
from .trail import Entry, SlotTrail

_LOG = re.compile(r"([a-z][a-z0-9_-]*)\.log(?:\.\d+)?")
_TIME = attrgetter("at")
_BATCH = 1000  # entries of one slot: so much is in memory at once, however fast it prints


def slots_with_logs(log_dir: Path) -> list[str]:
    """Return the slots that have left a log, those that have gone included."""
    with suppress(OSError):
        return sorted({match[1] for file in log_dir.iterdir() if (match := _LOG.fullmatch(file.name))})
    return []


class Selection:
    """Which slots are meant by ``names``: slots, or workers with all their slots; without names all are.

    Raises:
        UnknownSlot: If one is none of ``known``.
    """

    def __init__(self, names: Sequence[str], known: Sequence[str]) -> None:
        self.slots = list(dict.fromkeys(slot for name in names for slot in slots_named(name, known)))
        self._workers = [name for name in names if name not in known]
        self._is_all = not names
        if self._is_all:
            self.slots = list(known)

    def __contains__(self, slot: str) -> bool:
        """Whether ``slot``, which may not have been known before, is meant."""
        if self._is_all or slot in self.slots:
            return True
        worker, _, number = slot.rpartition("-")
        return number.isdigit() and worker in self._workers


class Logbook:
    """The logs in ``log_dir`` of the slots in ``selection``."""

    def __init__(self, log_dir: Path, selection: Selection) -> None:
        self._log_dir = log_dir
        self._selection = selection
        self._trails: dict[str, SlotTrail] = {}
        self._discover()

    def close(self) -> None:
        """Close all files."""
        for trail in self._trails.values():
            trail.close()

    def all(self, until: float = math.inf) -> Iterator[Entry]:
        """Yield all that is kept, the oldest first, ``until`` that time: who prints all the time comes to no end."""
        found = heapq.merge(*(trail.entries() for trail in self._trails.values()), key=_TIME)
        return takewhile(lambda entry: entry.at <= until, found)

    def latest(self, lines: int) -> Iterable[Entry]:
        """Return the last so many lines of all slots together, the oldest first."""
        tails = [trail.tail(lines) for trail in self._trails.values()]
        return deque(heapq.merge(*tails, key=_TIME), maxlen=lines)

    def follow(self, reader: int) -> Iterator[list[Entry]]:
        """Yield what comes after what was read before, as it comes, until nobody holds the other end of ``reader``.

        The kernel tells. Files that are rotated, slots that are new and a mesh that starts again are followed.
        """
        while True:
            if (watch := self._watch(reader)) is None:
                return
            with watch:
                # What was written before the watch is found by looking; also in files that nobody knew.
                yield from self._news(None)
                try:
                    while watch.wait():
                        yield from self._news(watch.names())
                    return
                except DirectoryGone:
                    self.close()

    def _news(self, names: set[str] | None) -> Iterator[list[Entry]]:
        """Yield what is new in the files of these names (None: in any), a batch at a time."""
        if names is None:
            self._discover()
            changed = list(self._trails)
        else:
            changed = sorted({match[1] for name in names if (match := _LOG.fullmatch(name))})
            self._add(changed)
        reading = [self._trails[slot] for slot in changed if slot in self._trails]
        while reading:
            found = [(trail, trail.some(_BATCH)) for trail in reading]
            if entries := sorted((entry for _, some in found for entry in some), key=_TIME):
                yield entries
            reading = [trail for trail, some in found if len(some) >= _BATCH]

    def _discover(self) -> None:
        self._add(slots_with_logs(self._log_dir))

    def _add(self, slots: Iterable[str]) -> None:
        for slot in slots:
            if slot not in self._trails and slot in self._selection:
                self._trails[slot] = SlotTrail(self._log_dir, slot)

    def _watch(self, reader: int) -> _Watch | None:
        """Watch the directory once it is there; None: the reader has gone before."""
        while True:
            place = next(one for one in (self._log_dir, *self._log_dir.parents) if one.is_dir())
            try:
                watch = _Watch(place, reader)
            except (FileNotFoundError, NotADirectoryError):
                continue  # it has gone meanwhile
            except OSError as error:
                raise SupervisorError(f"cannot follow {place}: {error.strerror}") from None
            if place == self._log_dir:
                return watch
            with watch, suppress(DirectoryGone):
                # Between the look and the watch the next folder may have appeared.
                while next(one for one in (self._log_dir, *self._log_dir.parents) if one.is_dir()) == place:
                    if not watch.wait():
                        return None
                    watch.names()


class _Watch:
    """Waits for changes in one directory, or for the end of whoever reads what we write."""

    def __init__(self, directory: Path, reader: int) -> None:
        self._descriptor = watch_directory(directory, writes=True)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._poll.register(reader, 0)  # its errors only: the other end is closed
        self._reader = reader

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *details: object) -> None:
        os.close(self._descriptor)

    def wait(self) -> bool:
        """Return whether there are changes to look at; else the reader has gone."""
        return all(descriptor != self._reader for descriptor, _ in self._poll.poll())

    def names(self) -> set[str] | None:
        return changed_names(self._descriptor)
