"""The blacklist that all processes of a mesh share: which endpoints are left alone, and for how long.

Measured by ``benchmarks.shared_memory`` (Python 3.11, two cores): a check 0.1 us when the key is free and 0.2 us when
it is barred; 0.3 us when something else has changed since, 1.4 us when the record itself has; 1 us for a penalty that
changes nothing, which needs no lock; an update 4.9 us, 6.2 us with the wake-up of subscribers. Of an update 0.9 us are
the two system calls of ``flock``, and 0.5 us the record by itself: less than their sum is not to be had.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from ..core.penalties import FailureSeverity
from ..errors import BlacklistError
from . import entry as entries
from .changes import Subscribers
from .entry import SECOND, Entry, Penalty
from .handover import fetched, is_socket
from .segment import Segment, survivors
from .table import GENERATION, LAYOUT, Table
from .watch import INTERVAL, current_loop, eventfd_of, ring

log = logging.getLogger("meshvisor.blacklist")

_REPAIR_EVERY = SECOND // 10


@dataclass(frozen=True, slots=True)
class BlacklistStatistics:
    """How a blacklist is doing.

    Attributes:
        entries: Penalties that live.
        capacity: How many fit in.
        evictions: Penalties that a full table has lost before their time, in all processes.
        contended: Writes that this process gave up because the lock was not to be had within a millisecond.
        skipped: How often this process has met garbage where a record should be.
        generation: A number that changes with every write.
    """

    entries: int
    capacity: int
    evictions: int
    contended: int
    skipped: int
    generation: int


class SharedBlacklist:
    """Penalties by key, in memory that processes share; they outlive the process that set them.

    Make one with ``create`` and open it elsewhere with ``attach``: by path, or by a descriptor that the other process
    was given (``fileno``, and ``wake_fd`` beside it, over a Unix socket or by inheritance).

    Reading never waits and never fails. Writing waits a millisecond at most: if the lock is not to be had by then (its
    holder is stopped, say), the write is given up, counted, and False is returned. A penalty is *sticky*: while it
    lives it never ends earlier and its severity never falls, except by ``clear_penalty``, ``clear`` and ``forgive``,
    and when a full table needs the room (then the one that ends soonest goes, and is counted).

    All methods may be called from any thread, and after a fork in the child too, which has no subscriptions.
    """

    def __init__(self, segment: Segment, *, source: str, wake_fd: int, clock: Callable[[], int]) -> None:
        """Use ``create`` or ``attach``."""
        self._segment = segment
        self._source = source
        self._reporter = entries.reporter(source, os.getpid())
        self._wake_fd = wake_fd
        self._clock = clock
        self._words = segment.words
        self._table = Table(segment, clock)
        # What was found in one generation. One pair, replaced as one, so that a thread which is late stores into what
        # nobody looks at any more.
        self._found: tuple[int, dict[str, Entry | None]] = (-1, {})
        self._repaired_at = 0
        self._subscribers: dict[asyncio.AbstractEventLoop | None, Subscribers] = {}
        self._guard = threading.RLock()  # re-entrant for signal handlers and for subscribers
        survivors.add(self)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        capacity: int = 1024,
        source: str = "",
        wake_fd: int | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> SharedBlacklist:
        """Make a blacklist for ``capacity`` keys: in memory, or in a file at ``path``, which may be there already.

        ``source`` is who reports what this process sets. A file keeps its own capacity, and has no wake-up of its own
        (see ``subscribe``).

        Raises:
            BlacklistError: If it cannot be made, or what is at ``path`` is not a blacklist of this user.
            ValueError: If ``capacity`` or ``source`` cannot be.
        """
        entries.reporter(source, 0)
        segment = Segment.create(LAYOUT, capacity, path)
        try:
            wake = eventfd_of(wake_fd, new=path is None)
            return cls(segment, source=source, wake_fd=wake, clock=clock)
        except BaseException:
            segment.close()
            raise

    @classmethod
    def attach(
        cls,
        path_or_fd: str | os.PathLike[str] | int,
        *,
        source: str = "",
        wake_fd: int | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> SharedBlacklist:
        """Open the blacklist at a path, or of a descriptor; descriptors stay the caller's.

        The path may be the ``attach.sock`` of a running mesh, which hands out the mesh's own, with its wake-up.

        Raises:
            BlacklistError: If it is not there, or not a blacklist of this user and this boot of the machine.
            ValueError: If ``source`` cannot be.
        """
        entries.reporter(source, 0)
        if not isinstance(path_or_fd, int) and is_socket(path_or_fd):
            with fetched(path_or_fd, BlacklistError) as descriptors:
                if "blacklist" not in descriptors:
                    raise BlacklistError(os.fspath(path_or_fd), "there is no blacklist to be had")
                wake = descriptors.get("wake")
                return cls.attach(descriptors["blacklist"], source=source, wake_fd=wake, clock=clock)
        segment = Segment.attach(LAYOUT, path_or_fd)
        try:
            return cls(segment, source=source, wake_fd=eventfd_of(wake_fd), clock=clock)
        except BaseException:
            segment.close()
            raise

    def __enter__(self) -> SharedBlacklist:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor to ``attach`` to elsewhere."""
        return self._segment.fileno()

    @property
    def wake_fd(self) -> int:
        """The eventfd to hand on beside ``fileno``; -1 if there is none."""
        return self._wake_fd

    # What is barred.

    def remaining(self, key: str) -> float:
        """Return for how many seconds ``key`` is still barred (0.0: not at all)."""
        generation, found = self._found
        try:
            entry = found[key] if self._words[GENERATION] == generation else self._look(key)
        except KeyError:
            entry = self._look(key)
        if entry is None:
            return 0.0
        left = entry.until - self._clock()
        return left / SECOND if left > 0 else 0.0

    def asked(self, key: str) -> float:
        """Return for how many seconds ``key`` is still barred because the other side asked for that."""
        entry = self._entry(key)
        return 0.0 if entry is None or not entry.asked else max(0, entry.asked - self._clock()) / SECOND

    def get_penalty(self, key: str) -> Penalty | None:
        """Return why ``key`` is barred, None if it is not."""
        entry = self._entry(key)
        if entry is None:
            return None
        now = self._clock()
        return entry.penalty(now) if entry.until > now else None

    def _entry(self, key: str) -> Entry | None:
        generation, found = self._found
        try:
            return found[key] if self._words[GENERATION] == generation else self._look(key)
        except KeyError:
            return self._look(key)

    def _look(self, key: str) -> Entry | None:
        """Find ``key`` in the table, and remember what was found as long as nobody writes."""
        words, table = self._words, self._table
        generation = words[GENERATION]
        entry = table.find(key)
        if generation & 1:
            self._repair()
            return entry
        found = self._found
        if found[0] != generation or len(found[1]) >= 4 * table.capacity:
            found = self._found = generation, {}
        if words[GENERATION] == generation:
            found[1][key] = entry
        return entry

    def active(self) -> list[Penalty]:
        """Return all penalties, by key."""
        living, now = self._table.living()
        return [entry.penalty(now) for _, entry in sorted(living.items())]

    def statistics(self) -> BlacklistStatistics:
        """Return how the blacklist is doing."""
        table = self._table
        living, _ = table.living()
        return BlacklistStatistics(
            len(living), table.capacity, table.evictions, self._segment.contended, table.skipped, table.generation
        )

    # What bars, and what ends it.

    def set_penalty(
        self, key: str, severity: FailureSeverity | str, duration: float, *, retry_after: bool = False
    ) -> bool:
        """Bar ``key`` for ``duration`` seconds (1 ms to 300 s; what is outside is moved there) from now.

        If it is barred already, the later end and the higher severity count, and Retry-After if either had it. Return
        whether anything changed: False, too, if that is how it was barred anyway, and if the lock was not to be had.

        Raises:
            ValueError: If ``key`` is not a text of 1 to 255 bytes, ``duration`` not a finite number above 0, or
                ``severity`` none.
        """
        rank, length, by = entries.rank(severity), entries.nanoseconds(duration), self._reporter
        done = self._update(key, lambda old, now: entries.penalised(old, key, rank, length, now, by, asked=retry_after))
        if done is None:
            return False
        old, new, now = done
        if new is old:
            return False
        if old is not None and new is not None and old.until > now and entries.is_same(old, new):
            return False  # one more reporter
        self._changed()
        return True

    def strike(self, key: str, severity: FailureSeverity | str, duration: float) -> float | None:
        """Count a failure of ``key``: the n-th in a row bars it for n times ``duration`` seconds, 300 at most.

        One strike is forgiven for each ``duration`` without a failure once it is not barred any more. Return for how
        many seconds it is barred now; None if the lock was not to be had.

        Raises:
            ValueError: As ``set_penalty``.
        """
        rank, length, by = entries.rank(severity), entries.nanoseconds(duration), self._reporter
        done = self._update(key, lambda old, now: entries.struck(old, key, rank, length, now, by))
        if done is None:
            return None
        _, new, now = done
        self._changed()
        return 0.0 if new is None else (new.until - now) / SECOND

    def forgive(self, key: str) -> bool:
        """Forget what ``key`` did, but not what it asked for: there is another incarnation behind it now.

        Return False if there was nothing to forget, or the lock was not to be had.
        """
        done = self._update(key, lambda old, now: None if old is None else entries.forgiven(old, now))
        if done is None or done[0] is None:
            return False
        self._changed()
        return True

    def clear_penalty(self, key: str) -> bool:
        """Forget everything about ``key``; False if it was not barred, or the lock was not to be had."""
        done = self._update(key, lambda old, now: None)
        if done is None or done[0] is None or done[0].until <= done[2]:
            return False
        self._changed()
        return True

    def clear(self) -> bool:
        """Forget everything; False if the lock was not to be had."""
        if not self._segment.lock():
            return False
        try:
            self._table.recover()
            self._table.clear()
        finally:
            self._segment.unlock()
        self._changed()
        return True

    def prune(self) -> bool:
        """Forget what has expired, which happens by and by anyway; False if the lock was not to be had."""
        if not self._segment.lock():
            return False
        try:
            self._table.recover()
            self._table.prune(self._clock())
        finally:
            self._segment.unlock()
        return True

    def _update(
        self, key: str, rule: Callable[[Entry | None, int], Entry | None]
    ) -> tuple[Entry | None, Entry | None, int] | None:
        """Apply ``rule`` to what is known about ``key`` and to the time, and store what it returns.

        Return what was known, is known now, and the time; None if the lock, which is taken if there is anything to
        write, was not to be had. What ends a penalty comes often, and hardly ever there is one.
        """
        words, table = self._words, self._table
        generation, now = words[GENERATION], self._clock()
        old = table.find(key)
        new = rule(old, now)
        if new is old:
            return old, new, now
        if not self._segment.lock():
            return None
        try:
            if words[GENERATION] != generation or generation & 1:  # somebody was quicker, or has ended while writing
                table.recover()
                now = self._clock()
                old = table.find(key)
                new = rule(old, now)
            if new is None:
                table.remove(key)
            elif new is not old:
                table.store(old, new, now)
        finally:
            self._segment.unlock()
        return old, new, now

    def _repair(self) -> None:
        """End the write of a writer that is dead; one that is stopped has the lock."""
        now = self._clock()
        if now - self._repaired_at < _REPAIR_EVERY:
            return
        self._repaired_at = now
        if self._segment.lock(wait=False):
            try:
                self._table.recover()
            finally:
                self._segment.unlock()

    @property
    def source(self) -> str:
        """Who reports what this process sets."""
        return self._source

    @source.setter
    def source(self, source: str) -> None:
        self._reporter = entries.reporter(source, os.getpid())
        self._source = source

    # Who wants to hear of it.

    def subscribe(self, callback: Callable[[Penalty], None]) -> Callable[[], None]:
        """Call ``callback`` with each penalty that is set, changes, or is cleared (``remaining`` is 0.0 then).

        One call for a changed key, whichever process changed it, this one included; what changes several times in
        between may be one call. Expiry is no change. Called on the event loop that runs now, else in a thread of this
        blacklist; if it raises, that is logged. Without a wake-up (attached by path, or without ``wake_fd``) changes
        of other processes are looked for every 100 ms.

        Return what ends the subscription (as often as it is called: that once).
        """
        if self._segment.is_closed:
            raise BlacklistError(self._segment.name, "is closed")
        loop, ticket = current_loop(), object()
        with self._guard:
            self._forget_closed_loops()
            subscribers = self._subscribers.get(loop)
            if subscribers is None:
                if self._wake_fd < 0:
                    log.info("%s has no wake-up: it is looked at every %g s", self._segment.name, INTERVAL)
                subscribers = self._subscribers[loop] = Subscribers(self._table, self._wake_fd)
            subscribers.add(ticket, callback)

        def unsubscribe() -> None:
            with self._guard:
                if not subscribers.remove(ticket):
                    return
                del self._subscribers[loop]
            subscribers.stop()

        return unsubscribe

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in self._subscribers if loop is not None and loop.is_closed()]:
            self._subscribers.pop(loop).stop()

    def _changed(self) -> None:
        """Wake everyone who wants to hear of a change."""
        if self._wake_fd < 0 and not self._subscribers:
            return
        with self._guard:
            if self._wake_fd >= 0:
                ring(self._wake_fd)
            else:
                for subscribers in self._subscribers.values():
                    subscribers.poke()

    def close(self) -> None:
        """End all subscriptions and forget the blacklist; what it holds lives on with whoever else has it."""
        with self._guard:
            ended, self._subscribers = self._subscribers, {}
            wake_fd, self._wake_fd = self._wake_fd, -1
            if wake_fd >= 0:
                os.close(wake_fd)
        for subscribers in ended.values():
            subscribers.stop()
        survivors.discard(self)
        self._segment.close()
        self._words = self._segment.words
        self._table = Table(self._segment, self._clock)

    def after_fork(self) -> None:
        """Begin anew in a child: its subscriptions are its own, and without a name it is another reporter."""
        self._guard = threading.RLock()
        inherited, self._subscribers = self._subscribers, {}
        for subscribers in inherited.values():
            subscribers.abandon()
        self._reporter = entries.reporter(self._source, os.getpid())
