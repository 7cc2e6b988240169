"""What travels: numbered messages whose every byte is known beforehand, and the tally of those that arrive."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

_NUMBER = 8
_LONGEST_TAIL = 112
_LARGE_EVERY = 4_999
_LARGE = 64 * 1024
_LARGE_SPREAD = 50_000
_LONGEST = _LARGE + _LARGE_SPREAD
_STARTS = 10_007
"""A prime: it takes that many messages until one has the same tail as another of its length."""


def size(number: int) -> int:
    """Return the length in bytes of message ``number``: 8 to 120, and of every 4,999th more than 64 KiB."""
    if number % _LARGE_EVERY == 0:
        return _NUMBER + _LARGE + number % _LARGE_SPREAD
    return _NUMBER + number * 7919 % (_LONGEST_TAIL + 1)


def total_size(messages: int) -> int:
    """Return the bytes of messages 1 to ``messages`` together."""
    return sum(map(size, range(1, messages + 1)))


class Traffic:
    """The messages of the side called ``name``; no other side has the same ones."""

    def __init__(self, name: str) -> None:
        self._noise = random.Random(name).randbytes(_STARTS + _LONGEST)

    def body(self, number: int) -> bytes:
        """Return message ``number``: the number in 8 bytes, and bytes that depend on it and on the side."""
        start = number % _STARTS
        return number.to_bytes(_NUMBER, "big") + self._noise[start : start + size(number) - _NUMBER]


@dataclass
class Tally:
    """Counts what is wrong with the messages that arrive, out of 1 to ``messages``; all zero is exactly once.

    ``doubled`` came again, ``misordered`` came after a later one, ``damaged`` is not what was sent under its number.
    """

    messages: int
    received: int = 0
    doubled: int = 0
    misordered: int = 0
    damaged: int = 0
    _next: int = 1
    _skipped: set[int] = field(default_factory=set)

    @property
    def lost(self) -> int:
        """How many have not arrived; before the end, that is no fault."""
        return self.messages + 1 - self._next + len(self._skipped)

    @property
    def has_last(self) -> bool:
        """Whether the last message has arrived: nothing new can follow."""
        return self._next > self.messages

    def take(self, number: int, body: bytes | bytearray, expected: bytes) -> None:
        """Take note of the message that the link calls ``number``; ``expected`` is what was sent under it."""
        self.received += 1
        if body != expected or number > self.messages:
            self.damaged += 1
        elif number == self._next:
            self._next += 1
        elif number > self._next:
            self._skipped.update(range(self._next, number))
            self._next = number + 1
        elif number in self._skipped:
            self._skipped.discard(number)
            self.misordered += 1
        else:
            self.doubled += 1
