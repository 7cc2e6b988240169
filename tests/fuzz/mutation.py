"""Changes of inputs that leave most of their structure alone, so that they get past the first check.

Each takes its dice from outside: the same dice make the same change.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from meshvisor.shared.core.frames import HEADER_SIZE, Kind

_HEADER = struct.Struct("<IBBHQQ")
_EDGES = (0, 1, 2, 127, 128, 255, 256, 4096, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_TEXTS = ("", "\0", "a" * 64, "x" * 300, "é", "\u2028", "\x1b[31m", "\u00b2", "-1", "nan", "~", "/", "..")
_FLOATS = (0.0, -0.0, -1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"))

Dice = random.Random


def edge(dice: Dice, bits: int = 64) -> int:
    """Return a number of up to so many ``bits``, most likely one where something changes."""
    number = dice.choice(_EDGES) + dice.choice((0, 0, 0, 1, -1))
    return (number if dice.random() < 0.8 else dice.getrandbits(bits)) % (1 << bits)


def bytewise(data: bytes, dice: Dice) -> bytes:
    """Change, insert, remove, double or move a few bytes."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        at = dice.randrange(len(out) + 1)
        size = dice.choice((1, 1, 2, 4, 8, 16))
        match dice.randrange(6):
            case 0 if out:
                at %= len(out)
                out[at] ^= 1 << dice.randrange(8)
            case 1:
                out[at:at] = dice.randbytes(size)
            case 2:
                del out[at : at + size]
            case 3:
                out[at : at + size] = edge(dice, 8 * size).to_bytes(size, dice.choice(("little", "big")))
            case 4:
                out[at:at] = out[at : at + size * 4]
            case _:
                del out[at:]
    return bytes(out)


def _frames_of(data: bytes, at: int) -> list[list[Any]]:
    found = []
    while len(data) - at >= HEADER_SIZE:
        fields = list(_HEADER.unpack_from(data, at))
        at += HEADER_SIZE
        found.append([*fields, data[at : at + fields[0]]])
        at += fields[0]
    return found


def framewise(prefix: int) -> Callable[[bytes, Dice], bytes]:
    """Return what changes a field of a frame, or the order of frames, in a stream that begins after ``prefix`` bytes.

    A body stays as long as its frame says, unless it is the length that is changed.
    """

    def mutate(data: bytes, dice: Dice) -> bytes:
        found = _frames_of(data, prefix)
        if not found or dice.random() < 0.15:
            return bytewise(data, dice)
        at = dice.randrange(len(found))
        match dice.randrange(9):
            case 0:
                found[at][0] = edge(dice, 32)
            case 1:
                found[at][1] = dice.choice((*Kind, 0, 255, dice.randrange(256)))
            case 2:
                found[at][2] = dice.choice((0, 1, 2, 255))
            case 3:
                found[at][3] = edge(dice, 16)
            case 4 | 5:
                field = dice.choice((4, 5))
                found[at][field] = dice.choice((edge(dice), found[at][field] + 1, found[at][field] - 1)) % 2**64
            case 6:
                found.insert(dice.randrange(len(found) + 1), list(found[at]))
            case 7:
                del found[at]
            case _:
                body = (packwise if found[at][1] == Kind.BATCH else bytewise)(found[at][6], dice)
                found[at][0], found[at][6] = len(body), body
        return data[:prefix] + b"".join(_HEADER.pack(*fields[:6]) + fields[6] for fields in found)

    return mutate


def packwise(data: bytes, dice: Dice) -> bytes:
    """Change something within the msgpack that ``data`` is."""
    try:
        value = msgspec.msgpack.decode(data)
        return msgspec.msgpack.encode(_changed(value, dice)) if dice.random() < 0.85 else bytewise(data, dice)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError):
        return bytewise(data, dice)


def jsonwise(data: bytes, dice: Dice) -> bytes:
    """Change something within the JSON that ``data`` is."""
    try:
        value = msgspec.json.decode(data)
        if dice.random() < 0.1:
            return data[:1] + b'"more":' + b"[" * 3000 + data[1:]
        return msgspec.json.encode(_changed(value, dice)) if dice.random() < 0.8 else bytewise(data, dice)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError):
        return bytewise(data, dice)


def linewise(words: Sequence[bytes]) -> Callable[[bytes, Dice], bytes]:
    """Return what changes, doubles, moves or drops a line of a text, or puts one of ``words`` somewhere in it."""

    def mutate(data: bytes, dice: Dice) -> bytes:
        lines = data.split(b"\n")
        at, other = dice.randrange(len(lines)), dice.randrange(len(lines))
        match dice.randrange(7):
            case 0:
                lines.insert(other, lines[at])
            case 1:
                lines[at], lines[other] = lines[other], lines[at]
            case 2:
                del lines[at]
            case 3 | 4:
                place = dice.randrange(len(lines[at]) + 1)
                end = place + dice.choice((0, 0, 1, 4))
                lines[at] = lines[at][:place] + dice.choice(words) + lines[at][end:]
            case 5:
                lines.insert(at, dice.choice(words))
            case _:
                return bytewise(data, dice)
        return b"\n".join(lines)

    return mutate


def _changed(value: Any, dice: Dice) -> Any:
    """Return ``value`` with one thing in it changed."""
    if isinstance(value, (list, tuple)) and value and dice.random() < 0.85:
        items = list(value)
        at = dice.randrange(len(items))
        match dice.randrange(8):
            case 0:
                del items[at]
            case 1:
                items.insert(at, items[dice.randrange(len(items))])
            case _:
                items[at] = _changed(items[at], dice)
        return items
    if isinstance(value, dict) and value and dice.random() < 0.85:
        key = dice.choice(list(value))
        if dice.random() < 0.1:
            return {other: item for other, item in value.items() if other != key}
        return {**value, key: _changed(value[key], dice)}
    if isinstance(value, bytes) and dice.random() < 0.8:
        try:  # within the bytes there may be msgpack again
            inner = msgspec.msgpack.decode(value)
            return msgspec.msgpack.encode(_changed(inner, dice)) if isinstance(inner, list) else bytewise(value, dice)
        except (msgspec.MsgspecError, ValueError, TypeError):
            return bytewise(value, dice)
    if isinstance(value, int) and not isinstance(value, bool) and dice.random() < 0.8:
        return dice.choice((value + 1, max(value - 1, -(2**63)), edge(dice), -edge(dice, 63))) % 2**64
    return dice.choice(
        (None, True, edge(dice), -edge(dice, 63), dice.choice(_TEXTS), dice.choice(_FLOATS), b"x", [], {})
    )
