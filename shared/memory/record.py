"""Records that are read whole, whatever becomes of the process that writes them.

A record has room for two copies of its payload and a word that says which of them counts. A writer fills the *other*
copy and then stores that word, once:

    word               holds
    0                  sequence: how often the record was written; copy ``sequence & 1`` counts (0: nothing yet)
    1                  copy 0: CRC-32 of its payload | length of its payload in bytes << 32
    2 .. n+1           copy 0: payload, n words
    n+2                copy 1: CRC-32 of its payload | length of its payload in bytes << 32
    n+3 .. 2n+2        copy 1: payload, n words

A reader loads the sequence, takes the copy, and loads the sequence again. What it took is whole if the sequence is the
same: a writer touches that copy only after it has stored the next sequence, which is one store of one word.

So a writer that is killed, or stopped for as long as you like, leaves nothing behind that a reader would notice or
that anybody would have to repair:

    killed or stopped                          readers see      the next writer
    before it fills the other copy             the old copy     fills the other copy
    while it fills the other copy              the old copy     fills the other copy from its beginning
    after that, before the sequence            the old copy     fills the other copy from its beginning
    after the sequence                         the new copy     fills the copy that was the old one

**One writer at a time.** Two of them in the same copy would be told by its check, but both would have been told that
they succeeded. Either all write under the segment's lock, which a stopped writer keeps and a dead one has lost; or a
record belongs to one process, and the next one takes it over when that one is dead (not: stopped).

The check is what a barrier would be on machines that reorder loads and stores (it is taken over the sequence too, so
that an old copy cannot pass for a new one), and tells a record from garbage. A reader that finds no good copy in a few
tries says so; its caller goes on with the last one it has.
"""

from __future__ import annotations

from zlib import crc32

from .segment import WORD, Segment

_TRIES = (1, 2, 3, 4, 5, 6, 7, 8)
_LOW = 0xFFFFFFFF
_LAST = 0xFFFFFFFFFFFFFFFF


def record_words(payload: int) -> int:
    """Return how many words a record takes whose payload has up to ``payload`` bytes."""
    return 1 + 2 * (1 + -(-payload // WORD))


class Records:
    """``count`` records of up to ``payload`` bytes each, one after the other, from the word ``first`` of a segment on.

    Reading needs no lock, never waits, and takes the same time whatever writers do.
    """

    def __init__(self, segment: Segment, first: int, count: int, payload: int) -> None:
        self.payload = payload
        self._words = segment.words
        self._data = segment.data
        self._first = first
        self._count = count
        self._stride = record_words(payload)
        self._copy = self._stride // 2

    def __len__(self) -> int:
        return self._count

    def word(self, index: int) -> int:
        """Return which word of the segment is the sequence of record ``index``: it changes with every write."""
        return self._first + index * self._stride

    def read(self, index: int) -> tuple[int, bytes] | None:
        """Return sequence and payload of a record; ``(0, b"")`` if it was never written, None if no copy is good now.

        None is either a writer that is quicker than the reader, many times in a row, or garbage that no writer of ours
        has left.
        """
        words, data = self._words, self._data
        at = self._first + index * self._stride
        for _ in _TRIES:
            sequence = words[at]
            if not sequence:
                return 0, b""
            head = at + 1 + self._copy if sequence & 1 else at + 1
            check = words[head]
            length = check >> 32
            if length > self.payload:
                continue
            begin = head * WORD + WORD
            payload = data[begin : begin + length]
            if words[at] == sequence and crc32(payload, sequence & _LOW) == check & _LOW:
                return sequence, payload
        return None

    def peek(self, index: int, word: int) -> int:
        """Return one word of a record's payload, quickly and unchecked: a hint of what ``read`` will say."""
        at = self._first + index * self._stride
        return self._words[at + 2 + (self._words[at] & 1) * self._copy + word]

    def write(self, index: int, payload: bytes) -> int:
        """Replace the payload of a record and return its sequence; the caller is its only writer (see above)."""
        at = self._first + index * self._stride
        return self.rewrite(at, self._words[at], payload)

    def rewrite(self, at: int, sequence: int, payload: bytes) -> int:
        """Do as ``write`` to the record whose sequence is the word ``at`` (see ``word``) and is ``sequence`` now."""
        length = len(payload)
        if length > self.payload:
            raise ValueError(f"{length} bytes are too many for a record of {self.payload}")
        # The last number of all, which only garbage comes to, is followed by 2: 0 would be a record never written.
        sequence = sequence + 1 if sequence < _LAST else 2
        head = at + 1 + self._copy if sequence & 1 else at + 1
        begin = head * WORD + WORD
        self._data[begin : begin + length] = payload
        words = self._words
        words[head] = length << 32 | crc32(payload, sequence & _LOW)
        words[at] = sequence
        return sequence
