"""What a target of fuzzing is, and what all of them are made with.

A target is one function ``run(data)`` that hands arbitrary bytes to one decoder as its callers do. It returns if
every rule of that decoder held, whatever the bytes were; it raises ``Broken`` if one did not. Typed errors are what a
decoder may answer; anything else that leaves ``run`` is a finding as well.
"""

from __future__ import annotations

import asyncio
import atexit
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")


class Broken(AssertionError):
    """A decoder broke one of its rules; the text says which."""


def rule(holds: object, text: str) -> None:
    """Raise ``Broken`` with ``text`` unless it ``holds``."""
    if not holds:
        raise Broken(text)


def is_harmless(text: str) -> bool:
    """Return whether nothing in ``text`` but its colours would do anything to a terminal."""
    return not CONTROLS.search(_COLOURS.sub("", text))


@dataclass(frozen=True, slots=True)
class Target:
    """One decoder under fuzzing.

    ``seeds`` makes valid inputs, the more of the decoder they reach the better; ``mutate`` changes one of them within
    its structure (None: as bytes alone). No input is longer than ``longest`` bytes, or takes more than ``seconds`` of
    CPU time.
    """

    name: str
    text: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    mutate: Callable[[bytes, random.Random], bytes] | None = None
    longest: int = 4096
    seconds: float = 5.0


class Draw:
    """Decisions taken from bytes, in order; when they are used up, each further one is the first there is."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        """Whether everything has been used."""
        return self._at >= len(self._data)

    def byte(self) -> int:
        """Return a number below 256."""
        return self.number(1)

    def number(self, size: int) -> int:
        """Return a number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def below(self, bound: int) -> int:
        """Return a number below ``bound``, which is at most 65,536."""
        return self.number(1 if bound <= 256 else 2) % bound

    def flag(self) -> bool:
        """Return yes or no."""
        return bool(self.byte() & 1)

    def one_of(self, things: Sequence[T]) -> T:
        """Return one of ``things``."""
        return things[self.below(len(things))]

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes, or as many as are left."""
        self._at += count
        return self._data[self._at - count : self._at]

    def chunk(self) -> bytes:
        """Return some bytes, behind their own number."""
        return self.take(self.byte())

    def rest(self) -> bytes:
        """Return everything that is left."""
        return self.take(max(0, len(self._data) - self._at))


@cache
def scratch() -> Path:
    """Return a folder for the files of this process, which is removed at its end."""
    folder = tempfile.mkdtemp(prefix="meshvisor-fuzz-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that all runs of this process share."""
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


def pieces(data: bytes, draw: Draw) -> Iterator[bytes]:
    """Cut ``data`` at places that ``draw`` decides on: pieces of one byte, a few, or many; a few hundred at most."""
    at, least = 0, 1 + len(data) // (512 if len(data) < 16_384 else 32)
    while at < len(data):
        size = least - 1 + (draw.byte() or 255) ** (1 + draw.byte() % 3)
        yield data[at : at + size]
        at += size


def byte_by_byte(data: bytes) -> Iterator[bytes]:
    """Cut ``data`` into single bytes."""
    return (data[at : at + 1] for at in range(len(data)))
