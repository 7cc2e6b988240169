"""What travels: numbered messages of any length whose every byte is known beforehand."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

_HEAD = 12
_STARTS = 1009


@cache
def _noise(side: str, length: int) -> bytes:
    return random.Random(side).randbytes(_STARTS + length)


def body(side: str, number: int, length: int) -> bytes:
    """Return message ``number`` of ``side``: number, length, and ``length`` bytes that depend on number and side."""
    start = number % _STARTS
    power = 1 << max(8, length - 1).bit_length()
    return number.to_bytes(8, "big") + length.to_bytes(4, "big") + _noise(side, power)[start : start + length]


@dataclass
class Tally:
    """Counts the messages of a session that arrive, and what is wrong with them."""

    received: int = 0
    misplaced: int = 0
    damaged: int = 0

    def take(self, side: str, number: int, arrived: bytes | bytearray) -> None:
        """Take note of what ``side`` is said to have sent under ``number``."""
        self.received += 1
        self.misplaced += number != self.received
        length = min(int.from_bytes(arrived[8:_HEAD], "big"), len(arrived))
        self.damaged += arrived != body(side, number, length)
