"""What chaos does to a stream, as options and as pure decisions drawn from them.

Nothing here waits, reads or writes: time and dice come as arguments, so a seed decides everything. What is certain
(a probability of 0 or 1, a range of one value) costs no draw; switching a fault off does not shift the others.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import NamedTuple, TypeGuard


class Operation(StrEnum):
    """What is done to a stream."""

    READ = "read"
    WRITE = "write"


class Direction(StrEnum):
    """Which way of a stream is meant, seen from the end that chaos wraps: what it reads, writes, or both."""

    READ = "read"
    WRITE = "write"
    BOTH = "both"

    def includes(self, operation: Operation) -> bool:
        """Return whether ``operation`` goes this way."""
        return self is Direction.BOTH or self.value == operation.value


class Fault(StrEnum):
    """What can be injected; the keys of every ``injected`` counter."""

    STALL = "stall"
    DELAY = "delay"
    FAILURE = "failure"
    DROP = "drop"
    TRUNCATION = "truncation"
    FLIP = "flip"
    DISCONNECT = "disconnect"
    BLACK_HOLE = "black_hole"


class Moment(NamedTuple):
    """One operation, as filters and predicates see it, in the order of their arguments.

    ``number`` counts the operations of this kind from 1; ``bytes_so_far`` is what earlier operations of this kind
    have moved; ``elapsed`` is the age of the stream in seconds.
    """

    operation: str
    number: int
    bytes_so_far: int
    elapsed: float


Predicate = Callable[[str, int, int, float], bool]
"""Called with the fields of a ``Moment``."""

Range = tuple[float, float]

_PROBABILITIES = (
    "read_drop",
    "write_drop",
    "read_truncate",
    "write_truncate",
    "read_flip",
    "write_flip",
    "read_failure",
    "write_failure",
    "delay_probability",
    "stall_probability",
    "disconnect_probability",
)
_RANGES = ("delay", "stall", "latency")
_DURATIONS = ("per_byte_delay", "close_delay")
_COUNTS = ("truncate_max_bytes", "flip_max_bits", "disconnect_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosOptions:
    """Which faults a stream suffers. Durations in seconds, sizes in bytes, ranges as pairs (least, most).

    By itself it is quiet: everything passes unchanged. In the order in which an operation meets them:

    * A disconnect is for good: the inner stream is closed, and every operation from then on raises the same
      ``ConnectionResetError`` with ``disconnect_message``. It happens at the operation with the number
      ``disconnect_at`` (from 1, reads and writes together), as soon as ``disconnect_at_byte`` bytes have passed (both
      ways together; a write that goes beyond is cut in the middle), when ``disconnect_when`` says so, or with
      ``disconnect_probability`` at each operation.
    * ``half_open`` makes a way of the stream a black hole instead: nothing arrives, or what is written goes nowhere,
      without any error. With one of the disconnects above it takes that one's place; without, it is so from the start.
    * A stall holds an operation up for ``stall`` seconds with ``stall_probability``; ``stall_provider``, asked instead
      of both, returns the seconds.
    * Noise is whatever follows here. Where ``noise_filter`` says no there is none. A ``delay`` before the operation;
      an ``OSError`` with ``read_failure`` or ``write_failure``, after which the stream goes on; a drop (a dropped read
      returns ``b""``, as at the end of the stream, without touching the inner one; a dropped write is swallowed); a
      truncation of 1 to ``truncate_max_bytes`` bytes at the end (a read with nothing left looks like the end, too);
      1 to ``flip_max_bits`` flipped bits.
    * ``per_byte_delay`` after the operation, for each byte that it moved.

    And by the nature of the way: ``bandwidth`` (bytes a second, each direction); ``latency``, for which bytes are on
    their way without holding the writer up, in order whatever the jitter; ``rechunk``, the size of the pieces in which
    bytes are read and written (a number, or a range to draw from); ``close_delay``, the time until the peer sees a
    close.

    ``seed`` is what an adapter makes the dice of each of its connections from, and a stream its own if it gets none.

    Raises:
        ValueError: For an impossible value, naming the field.
    """

    seed: int = 0
    read_drop: float = 0.0
    write_drop: float = 0.0
    read_truncate: float = 0.0
    write_truncate: float = 0.0
    truncate_max_bytes: int = 1
    read_flip: float = 0.0
    write_flip: float = 0.0
    flip_max_bits: int = 1
    read_failure: float = 0.0
    write_failure: float = 0.0
    delay: Range = (0.0, 0.0)
    delay_probability: float = 1.0
    per_byte_delay: float = 0.0
    bandwidth: float | None = None
    latency: Range = (0.0, 0.0)
    stall: Range = (0.0, 0.0)
    stall_probability: float = 1.0
    stall_provider: Callable[[str, int, int, float], float] | None = None
    disconnect_at: int | None = None
    disconnect_at_byte: int | None = None
    disconnect_when: Predicate | None = None
    disconnect_probability: float = 0.0
    disconnect_message: str = "the connection was cut by chaos"
    half_open: Direction | str | None = None
    noise_filter: Predicate | None = None
    rechunk: int | tuple[int, int] | None = None
    close_delay: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name))
        if self.half_open is not None:
            object.__setattr__(self, "half_open", Direction(self.half_open))

    @property
    def disconnects(self) -> bool:
        """Whether any disconnect is asked for."""
        asked = (self.disconnect_at, self.disconnect_at_byte, self.disconnect_when)
        return self.disconnect_probability > 0 or any(trigger is not None for trigger in asked)


def _check(name: str, value: object) -> None:
    """Refuse a value that is impossible for the field ``name``.

    Raises:
        ValueError: Naming the field.
    """
    if name in _PROBABILITIES and not (_is_number(value) and 0 <= value <= 1):
        raise ValueError(f"{name} must be a probability from 0 to 1, not {value!r}")
    if name in _RANGES and not _is_range(value, 0.0):
        raise ValueError(f"{name} must be a pair of seconds (least, most), not {value!r}")
    if name in _DURATIONS and not (_is_number(value) and value >= 0):
        raise ValueError(f"{name} must be a number of seconds, 0 or more, not {value!r}")
    if name in _COUNTS and value is not None and not (_is_whole(value) and value >= 1):
        raise ValueError(f"{name} must be a whole number, 1 or more, not {value!r}")
    if name == "disconnect_at_byte" and value is not None and not (_is_whole(value) and value >= 0):
        raise ValueError(f"{name} must be a whole number, 0 or more, not {value!r}")
    if name == "bandwidth" and value is not None and not (_is_number(value) and value > 0):
        raise ValueError(f"{name} must be a positive number of bytes a second, not {value!r}")
    if name == "half_open" and value is not None and value not in list(Direction):
        raise ValueError(f"{name} must be 'read', 'write' or 'both', not {value!r}")
    if name == "rechunk" and value is not None and not _is_chunk(value):
        raise ValueError(f"{name} must be a number of bytes or a pair (least, most), from 1, not {value!r}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_range(value: object, least: float) -> TypeGuard[Range]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    low, high = value
    return _is_number(low) and _is_number(high) and least <= low <= high


def _is_chunk(value: object) -> bool:
    if _is_range(value, 1):
        return all(_is_whole(bound) for bound in value)
    return _is_whole(value) and value >= 1


_PACE = 0.1
"""Seconds of a stream's bandwidth that pass as one piece (the granularity of toxiproxy's bandwidth toxic)."""


class Faults:
    """Decides, one by one and in the order in which it is asked, what happens to the operations of one stream."""

    def __init__(self, options: ChaosOptions, rng: random.Random) -> None:
        self.options = options
        self._rng = rng

    def disconnects(self, moment: Moment, total: int) -> bool:
        """Return whether the operation, number ``total`` of both kinds, is the one that finds the stream cut."""
        options = self.options
        if options.disconnect_at is not None and total >= options.disconnect_at:
            return True
        if options.disconnect_when is not None and options.disconnect_when(*moment):
            return True
        return self._hits(options.disconnect_probability)

    def stall(self, moment: Moment) -> float:
        """Return for how many seconds the operation stalls."""
        options = self.options
        if options.stall_provider is not None:
            return options.stall_provider(*moment)
        if options.stall[1] > 0 and self._hits(options.stall_probability):
            return self._between(options.stall)
        return 0.0

    def is_noisy(self, moment: Moment) -> bool:
        """Return whether noise may happen to the operation at all."""
        noise_filter = self.options.noise_filter
        return noise_filter is None or noise_filter(*moment)

    def delay(self) -> float:
        """Return for how many seconds the operation is delayed."""
        if self.options.delay[1] > 0 and self._hits(self.options.delay_probability):
            return self._between(self.options.delay)
        return 0.0

    def fails(self, operation: Operation) -> bool:
        """Return whether the operation fails."""
        options = self.options
        return self._hits(options.read_failure if operation is Operation.READ else options.write_failure)

    def drops(self, operation: Operation) -> bool:
        """Return whether the operation is dropped."""
        options = self.options
        return self._hits(options.read_drop if operation is Operation.READ else options.write_drop)

    def truncated(self, operation: Operation, size: int) -> int:
        """Return how many of ``size`` bytes are left of the operation."""
        options = self.options
        chance = options.read_truncate if operation is Operation.READ else options.write_truncate
        if not size or not self._hits(chance):
            return size
        return size - self._whole(1, min(size, options.truncate_max_bytes))

    def flipped_bits(self, operation: Operation, size: int) -> list[int]:
        """Return which bits of ``size`` bytes flip: bit k is bit k mod 8, from the least, of byte k // 8."""
        options = self.options
        chance = options.read_flip if operation is Operation.READ else options.write_flip
        if not size or not self._hits(chance):
            return []
        return [self._whole(0, 8 * size - 1) for _ in range(self._whole(1, options.flip_max_bits))]

    def latency(self) -> float:
        """Return for how many seconds the next bytes are on their way."""
        return self._between(self.options.latency)

    def piece(self, size: int) -> int:
        """Return how many of ``size`` bytes pass as one piece (at least 1)."""
        rechunk, bandwidth = self.options.rechunk, self.options.bandwidth
        if rechunk is not None:
            size = min(size, rechunk if isinstance(rechunk, int) else self._whole(*rechunk))
        if bandwidth is not None:
            size = min(size, max(1, int(bandwidth * _PACE)))
        return size

    def transmission(self, size: int) -> float:
        """Return how many seconds ``size`` bytes take at the stream's bandwidth."""
        return 0.0 if self.options.bandwidth is None else size / self.options.bandwidth

    def _hits(self, probability: float) -> bool:
        return probability >= 1 or (probability > 0 and self._rng.random() < probability)

    def _between(self, bounds: Range) -> float:
        low, high = bounds
        return low if low == high else self._rng.uniform(low, high)

    def _whole(self, low: int, high: int) -> int:
        return low if low == high else self._rng.randint(low, high)


def flip(data: bytes, bits: list[int]) -> bytes:
    """Return ``data`` with ``bits`` flipped (one that is named twice is as it was)."""
    flipped = bytearray(data)
    for bit in bits:
        flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)
