"""The table of a shared blacklist: which record belongs to which key.

Behind the header lie ``2 * capacity`` tags, one word each, and as many records. A tag says what its record is:

    0            free, and so was every record behind it that a search would reach
    1            free, but a search goes on behind it
    else         the record of a key with this tag: its CRC-32, its length << 32, and 1 << 40

A key is searched from the place that its tag gives on, tag by tag, until a 0 (linear probing); a record never moves,
so a search needs no lock. Each change is published by one store of one word: the sequence of a record (record.py), or
a tag, which is stored when the record is there. A tag goes from 1 to 0 only when the next one is 0, and that ends no
search too early. So a writer may end between any two stores; what it leaves at worst is a wrong count of used records,
which the next writer puts right, because it finds this odd:

    word 8       generation: odd while somebody writes, another number after every write
    word 9       used: tags above 1
    word 10      evictions: living entries that a full table has lost
    word 11      when the expired were last looked for
    word 12      the tag from which they are looked for next
    word 13      latest: 1 + the slot of the one entry that the latest write changed | generation after it << 20

Word 13 spares those who want to hear of changes the search for what has changed; a write that changes more than one
entry does not set it, and it is believed only for its own generation.

Nothing here is trusted by a reader: not that a tag is right (the record has the key), not that a record is one
(entry.py), not that a search ends (every tag is looked at once).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from zlib import crc32

from ..errors import BlacklistError
from . import entry as entries
from .entry import Entry
from .record import Records, record_words
from .segment import HEADER_WORDS, WORD, Layout, Segment

GENERATION = 8
"""The word that changes with every write."""

LAYOUT = Layout(
    kind=1, version=1, name="blacklist", unit=2 * WORD * (1 + record_words(entries.PAYLOAD)), error=BlacklistError
)

_USED, _EVICTIONS, _PRUNED_AT, _CURSOR, _LATEST = 9, 10, 11, 12, 13
_LATEST_SHIFT = 20
_SLOT, _LATEST_GENERATION = (1 << _LATEST_SHIFT) - 1, (1 << 64 - _LATEST_SHIFT) - 1
_FREE, _TOMB = 0, 1
_TAG = 1 << 40
_MARK = b"\1"  # the byte of a tag that this bit is in ...
_MARK_AT = _TAG.to_bytes(WORD, sys.byteorder).index(_MARK)  # ... and which one that is
_WHOLE = (1 << 64) - 1
_PRUNE_EVERY = entries.SECOND // 4
_PRUNE_AT_ONCE = 1024


class Table:
    """The entries of a segment; whatever changes them is called under the segment's lock.

    It remembers what it has read, by record and sequence: an entry that has not changed is not decoded again.
    """

    def __init__(self, segment: Segment, clock: Callable[[], int]) -> None:
        self.capacity = segment.capacity
        self.skipped = 0
        """How often a record was met that is none."""
        self._words = segment.words
        self._data = segment.data
        self._clock = clock
        self._slots = 2 * segment.capacity
        self._records = Records(segment, HEADER_WORDS + self._slots, self._slots, entries.PAYLOAD)
        self._read: dict[int, tuple[int, Entry | None]] = {}
        # By key: slot, the word and the value of its tag, the word and the value of its sequence, and its entry.
        self._known: dict[str, tuple[int, int, int, int, int, Entry]] = {}
        # By key that was not there: the word where its search begins, and ends if nothing has come there since.
        self._homes: dict[str, int] = {}

    @property
    def evictions(self) -> int:
        """How many living entries a full table has lost."""
        return self._words[_EVICTIONS]

    @property
    def generation(self) -> int:
        """A number that changes with every write; odd while somebody writes, or has ended while writing."""
        return self._words[GENERATION]

    def find(self, key: str) -> Entry | None:
        """Return what is known about ``key``, living or not.

        Raises:
            ValueError: If it cannot be a key.
        """
        known = self._known.get(key)
        if known is not None:
            _, tag_at, tag, sequence_at, sequence, entry = known
            words = self._words
            # The same record, which has not been written since, still belongs to the key.
            if words[sequence_at] == sequence and words[tag_at] == tag:
                return entry
        home = self._homes.get(key)
        if home is not None and self._words[home] == _FREE:
            return None
        slot = self._search(key, _tag(entries.encoded_key(key)))
        return None if slot < 0 else self.entry(slot)

    def _search(self, key: str, tag: int) -> int:
        """Return the slot of ``key``, which has this ``tag``; -1 if it has none."""
        home = HEADER_WORDS + tag % self._slots
        if self._words[home] == _FREE:
            if len(self._homes) >= self._slots:
                self._homes.clear()
            self._homes[key] = home
            return -1
        for slot, found in self._from(tag):
            if found == _FREE:
                break
            if found == tag:
                entry = self.entry(slot)
                if entry is not None and entry.key == key:
                    self._remember(slot, tag, entry)
                    return slot
        return -1

    def _from(self, tag: int) -> Iterator[tuple[int, int]]:
        """Yield all slots, with their tags, in the order in which ``tag`` is searched."""
        words, slots = self._words, self._slots
        home = tag % slots
        for slot in range(home, slots):
            yield slot, words[HEADER_WORDS + slot]
        for slot in range(home):
            yield slot, words[HEADER_WORDS + slot]

    def _remember(self, slot: int, tag: int, entry: Entry) -> None:
        sequence, current = self._read[slot]
        if current is not entry:
            return  # another thread has met a later one meanwhile
        if len(self._known) >= self._slots:
            self._known.clear()
        self._known[entry.key] = slot, HEADER_WORDS + slot, tag, self._records.word(slot), sequence, entry

    def entry(self, slot: int) -> Entry | None:
        """Return the entry in a record; the last good one that was seen there if it has no good copy now."""
        seen = self._read.get(slot)
        if seen is not None and self._words[self._records.word(slot)] == seen[0]:
            return seen[1]
        record = self._records.read(slot)
        if record is None:
            self.skipped += 1
            return None if seen is None else seen[1]
        sequence, payload = record
        # The clock is read after the record: what was written a moment ago must not lie in the future.
        entry = entries.decode(payload, self._clock())
        if entry is None:
            self.skipped += 1
        self._read[slot] = sequence, entry
        return entry

    def taken(self, begin: int = 0, end: int | None = None) -> Iterator[int]:
        """Yield the slots from ``begin`` to before ``end`` that are somebody's."""
        end = self._slots if end is None else min(end, self._slots)
        tags = self._words[HEADER_WORDS + begin : HEADER_WORDS + end].tolist()
        return (slot for slot, tag in enumerate(tags, begin) if tag > _TOMB)

    def living(self) -> tuple[dict[str, Entry], int]:
        """Return all entries that live, by key, and the time that this is true of."""
        # Most of a table is free: one byte of each tag tells, and is looked for by the library.
        begin = HEADER_WORDS * WORD
        marks = self._data[begin : begin + self._slots * WORD][_MARK_AT::WORD]
        slots, slot = [], marks.find(_MARK)
        while slot >= 0:
            slots.append(slot)
            slot = marks.find(_MARK, slot + 1)
        found = [self.entry(slot) for slot in slots]
        now = self._clock()  # after them all: none of them was written later
        return {entry.key: entry for entry in found if entry is not None and entry.until > now}, now

    def latest(self, before: int) -> tuple[Entry, int] | None:
        """Return the one entry that has changed since the generation ``before``, and the time at which it lives.

        None if that is not one entry, if it does not live, or if nobody knows.
        """
        word = self._words[_LATEST]
        slot = (word & _SLOT) - 1
        if word >> _LATEST_SHIFT != (before + 2) & _LATEST_GENERATION or not 0 <= slot < self._slots:
            return None
        entry, now = self.entry(slot), self._clock()
        return (entry, now) if entry is not None and entry.until > now else None

    # Under the lock.

    def recover(self) -> None:
        """Put right what a writer left that did not get to its end."""
        if self._words[GENERATION] & 1:
            self._count()
            self._written()

    def store(self, old: Entry | None, new: Entry, now: int) -> None:
        """Write an entry over ``old``, which is what ``find`` says of its key.

        A new key gets room, if need be that of another entry.
        """
        words = self._words
        known = self._known.get(new.key)
        if known is None or known[5] is not old or not 0 <= now - words[_PRUNED_AT] < _PRUNE_EVERY:
            self._store(new, now)
            return
        slot, tag_at, tag, sequence_at, sequence, _ = known
        generation = words[GENERATION] | 1
        words[GENERATION] = generation
        sequence = self._records.rewrite(sequence_at, sequence, entries.encode(new))
        self._read[slot] = sequence, new
        self._known[new.key] = slot, tag_at, tag, sequence_at, sequence, new
        generation = (generation + 1) & _WHOLE
        words[_LATEST] = (generation & _LATEST_GENERATION) << _LATEST_SHIFT | slot + 1
        words[GENERATION] = generation

    def _store(self, new: Entry, now: int) -> None:
        self._tidy(now)
        self._writing()
        evictions = self.evictions
        tag = _tag(new.key.encode())
        slot = self._search(new.key, tag)
        is_new = slot < 0
        if is_new:
            slot = self._room(tag, now)
        self._read[slot] = self._records.write(slot, entries.encode(new)), new
        if is_new:
            self._words[HEADER_WORDS + slot] = tag
            self._words[_USED] += 1
        self._remember(slot, tag, new)
        if self.evictions == evictions:
            generation = self.generation + 1 & _LATEST_GENERATION
            self._words[_LATEST] = generation << _LATEST_SHIFT | slot + 1
        self._written()

    def remove(self, key: str) -> Entry | None:
        """Forget ``key``; return what was known about it."""
        slot = self._search(key, _tag(entries.encoded_key(key)))
        if slot < 0:
            return None
        old = self.entry(slot)
        self._writing()
        self._remove(slot)
        self._written()
        return old

    def clear(self) -> None:
        """Forget everything."""
        words = self._words
        self._writing()
        # All of them first: a 0 in between would hide the ones behind it, if this were the end.
        tags = words[HEADER_WORDS : HEADER_WORDS + self._slots].tolist()
        used = [HEADER_WORDS + slot for slot, tag in enumerate(tags) if tag != _FREE]
        for free in (_TOMB, _FREE):
            for slot in used:
                words[slot] = free
        words[_USED] = 0
        self._written()

    def _tidy(self, now: int) -> None:
        """Look for some of what is to be forgotten, if that was not done lately."""
        words = self._words
        if 0 <= now - words[_PRUNED_AT] < _PRUNE_EVERY:
            return
        words[_PRUNED_AT] = now
        begin = words[_CURSOR] % self._slots
        end = begin + _PRUNE_AT_ONCE
        words[_CURSOR] = end if end < self._slots else 0
        self.prune(now, begin, end)

    def prune(self, now: int, begin: int = 0, end: int | None = None) -> None:
        """Remove, from ``begin`` to before ``end``, what is to be forgotten, and records that are none."""
        gone = [slot for slot in self.taken(begin, end) if self._is_over(slot, now)]
        if not gone:
            return
        self._writing()
        for slot in gone:
            self._remove(slot)
        self._written()

    def _is_over(self, slot: int, now: int) -> bool:
        if now < self._records.peek(slot, 0) <= now + entries.LONGEST:
            return False
        entry = self.entry(slot)
        return entry is None or entry.forgotten_at <= now

    def _room(self, tag: int, now: int) -> int:
        """Return a free slot for a new key."""
        slot = -1
        if self._words[_USED] < self.capacity:
            slot = self._free(tag)
        if slot < 0:
            self.prune(now)
            self._writing()
            if self._count() >= self.capacity:
                self._evict(now)
            slot = self._free(tag)
        return slot

    def _free(self, tag: int) -> int:
        home = tag % self._slots
        if self._words[HEADER_WORDS + home] == _FREE:
            return home
        return next((slot for slot, found in self._from(tag) if found <= _TOMB), -1)

    def _evict(self, now: int) -> None:
        """Remove the entry that is the soonest to expire."""
        victim = min(self.taken(), key=lambda slot: self._records.peek(slot, 0))
        if self._records.peek(victim, 0) > now:
            self._words[_EVICTIONS] = (self._words[_EVICTIONS] + 1) & _WHOLE
        self._remove(victim)

    def _remove(self, slot: int) -> None:
        words = self._words
        words[HEADER_WORDS + slot] = _TOMB
        words[_USED] = max(0, words[_USED] - 1)
        if words[HEADER_WORDS + (slot + 1) % self._slots] != _FREE:
            return
        # From the last one on: there is never a 0 with something behind it.
        while words[HEADER_WORDS + slot] == _TOMB:
            words[HEADER_WORDS + slot] = _FREE
            slot = slot - 1 if slot else self._slots - 1

    def _count(self) -> int:
        """Count the used records anew."""
        self._words[_USED] = used = sum(1 for _ in self.taken())
        return used

    def _writing(self) -> None:
        self._words[GENERATION] |= 1

    def _written(self) -> None:
        self._words[GENERATION] = ((self._words[GENERATION] | 1) + 1) & _WHOLE


def _tag(key: bytes) -> int:
    return _TAG | len(key) << 32 | crc32(key)
