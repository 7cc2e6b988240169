"""Who in this process wants to hear of changes in a shared blacklist, and what has changed since they last heard."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from .entry import Entry, Penalty, is_same
from .table import Table
from .watch import Watcher, watch

log = logging.getLogger("meshvisor.blacklist")


def changes(before: dict[str, Entry], after: dict[str, Entry], now: int) -> Iterator[Penalty]:
    """Yield what differs between the living entries of then and of ``now``; what has only expired does not."""
    for key, entry in after.items():
        old = before.get(key)
        if old is None or not is_same(old, entry):
            yield entry.penalty(now)
    for key, old in before.items():
        if key not in after and old.until > now:
            yield old.penalty(old.until)


class Subscribers:
    """The functions that are called on one event loop, or in a thread; made by the first of them, ended by the last."""

    def __init__(self, table: Table, wake_fd: int) -> None:
        self._table = table
        self._functions: dict[object, Callable[[Penalty], None]] = {}
        self._generation = table.generation
        self._known, _ = table.living()
        self._watcher: Watcher | None = watch(self._look, wake_fd)

    def add(self, ticket: object, function: Callable[[Penalty], None]) -> None:
        """Call ``function`` from now on."""
        self._functions[ticket] = function

    def remove(self, ticket: object) -> bool:
        """Call it no more; return whether it was the last one."""
        return self._functions.pop(ticket, None) is not None and not self._functions

    def poke(self) -> None:
        """Have them told soon of what this process has changed."""
        if self._watcher is not None:
            self._watcher.poke()

    def stop(self) -> None:
        """Call none of them any more."""
        self._functions.clear()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop()

    def abandon(self) -> None:
        """Let go of what a forked child has inherited."""
        self._functions.clear()
        if self._watcher is not None:
            self._watcher.abandon()

    def _look(self) -> None:
        generation = self._table.generation
        if generation == self._generation or not self._functions:
            return
        news = self._table.latest(self._generation) if generation == self._generation + 2 else None
        self._generation = generation
        if news is None:
            before = self._known
            self._known, now = self._table.living()
            told = list(changes(before, self._known, now))
        else:
            entry, now = news
            old = self._known.get(entry.key)
            self._known[entry.key] = entry
            told = list(changes({} if old is None else {entry.key: old}, {entry.key: entry}, now))
        for penalty in told:
            for ticket, function in list(self._functions.items()):
                if ticket not in self._functions:
                    continue
                try:
                    function(penalty)
                except Exception:
                    log.exception("a subscriber of the shared blacklist raised")
