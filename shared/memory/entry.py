"""What a shared blacklist knows about one key: the rules by which it changes, and its form in memory.

Times are whole nanoseconds of the machine's monotonic clock. An entry *lives* until ``until``; an expired one lends
nothing to the next penalty but its strikes, and those only as far as they have not been forgiven meanwhile.

While an entry lives it is sticky: ``until`` never moves earlier and ``severity`` never falls, whoever reports what.

The payload of a record:

    bytes              holds
    0 .. 7             until
    8 .. 15            asked: the end of the part that the other side asked for by Retry-After (0: none)
    16 .. 23           pace: the duration that the last strike was counted with (0: no strike)
    24 .. 27           strikes
    28                 severity: 0 soft, 1 hard, 2 fatal
    29                 r, the number of reporters
    30                 k, the length of the key
    31                 s, the length of the source
    32 .. 31+4r        reporters, four bytes each
    32+4r ..           key, k bytes of UTF-8, and source, s bytes of UTF-8
"""

from __future__ import annotations

import math
from hashlib import blake2b
from struct import Struct

import msgspec

from ..core.penalties import MAX_PENALTY, FailureSeverity

SECOND = 1_000_000_000
SHORTEST = SECOND // 1000
"""The shortest penalty, in nanoseconds."""

LONGEST = int(MAX_PENALTY) * SECOND
"""The longest penalty, in nanoseconds."""

MAX_KEY = 255
"""Bytes of UTF-8 in a key."""

MAX_SOURCE = 80
"""Bytes of UTF-8 in a source; the name of a slot has fewer."""

MAX_REPORTERS = 8
"""How many reporters of one entry are told apart."""

PAYLOAD = 32 + 4 * MAX_REPORTERS + MAX_KEY + MAX_SOURCE
"""The longest payload, in bytes."""

_SHORTEST = SHORTEST / SECOND
_HEAD = Struct("=QQQIBBBB")
_REPORTER = 4
_MAX_STRIKES = 0xFFFFFFFF
_SEVERITIES = tuple(FailureSeverity)
_RANKS: dict[str, int] = {severity: severity.rank for severity in FailureSeverity}


class Penalty(msgspec.Struct, frozen=True, gc=False):
    """Why, and for how long, a key is barred.

    Attributes:
        key: What is barred, usually an endpoint (``Endpoint.key``).
        severity: The worst that has been reported while it was barred.
        remaining: Seconds left; 0.0 if it was cleared before its time, which only a subscriber gets to see.
        retry_after: Whether (part of) it was asked for by the other side.
        source: Who changed it last.
        reporters: How many different sources have reported it while it was barred; 8 means 8 or more. Processes
            without a source count one each.
        strikes: How often it failed, less what has been forgiven since.
    """

    key: str
    severity: FailureSeverity
    remaining: float
    retry_after: bool = False
    source: str = ""
    reporters: int = 1
    strikes: int = 0


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One key's part of the table; see the module for the fields."""

    key: str
    until: int
    severity: int
    asked: int = 0
    pace: int = 0
    strikes: int = 0
    reporters: bytes = b""
    source: str = ""

    @property
    def forgotten_at(self) -> int:
        """When the last strike is forgiven, and nothing is left to be known."""
        return self.until + self.strikes * self.pace

    def penalty(self, now: int) -> Penalty:
        """Return the entry as users see it."""
        return Penalty(
            self.key,
            _SEVERITIES[self.severity],
            max(0, self.until - now) / SECOND,
            self.asked != 0,
            self.source,
            len(self.reporters) // _REPORTER,
            self.strikes,
        )


class Reporter(msgspec.Struct, frozen=True, gc=False):
    """Who reports: a text for people, and four bytes that tell it from others."""

    source: str
    mark: bytes


def reporter(source: str, process: int) -> Reporter:
    """Return who reports as ``source``; without a name, it is the process number ``process``.

    Raises:
        ValueError: If ``source`` is not a text of at most ``MAX_SOURCE`` bytes.
    """
    if not isinstance(source, str) or len(source.encode(errors="replace")) > MAX_SOURCE or not _is_text(source):
        raise ValueError(f"source must be a text of at most {MAX_SOURCE} bytes, not {source!r}")
    if source:
        return Reporter(source, blake2b(source.encode(), digest_size=_REPORTER, person=b"source").digest())
    return Reporter("", blake2b(str(process).encode(), digest_size=_REPORTER, person=b"process").digest())


def encoded_key(key: str) -> bytes:
    """Return ``key`` as it stands in memory.

    Raises:
        ValueError: If it is not a text of 1 to ``MAX_KEY`` bytes.
    """
    if isinstance(key, str):
        try:
            encoded = key.encode()
        except UnicodeEncodeError:
            encoded = b""
        if 0 < len(encoded) <= MAX_KEY:
            return encoded
    raise ValueError(f"key must be a text of 1 to {MAX_KEY} bytes, not {key!r}")


def rank(severity: FailureSeverity | str) -> int:
    """Return the number of a severity, given by itself or by its text.

    Raises:
        ValueError: If there is none such.
    """
    try:
        return _RANKS[severity]
    except (KeyError, TypeError):
        raise ValueError(f"severity must be one of {', '.join(_SEVERITIES)}, not {severity!r}") from None


def nanoseconds(duration: float) -> int:
    """Return a duration in seconds as a number of nanoseconds that a penalty may have.

    Raises:
        ValueError: If it is not a finite number above 0.
    """
    if type(duration) is float and _SHORTEST <= duration < MAX_PENALTY:
        return int(duration * SECOND + 0.5)
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 < duration < math.inf:
        raise ValueError(f"duration must be a finite number of seconds above 0, not {duration!r}")
    if duration >= MAX_PENALTY:
        return LONGEST
    return max(SHORTEST, round(duration * SECOND))


def penalised(
    old: Entry | None, key: str, severity: int, duration: int, now: int, by: Reporter, *, asked: bool = False
) -> Entry:
    """Return what is known once ``by`` has reported a penalty of ``duration``; ``old`` itself if that is no news."""
    until = now + duration
    asked_until = until if asked else 0
    if old is None:
        return Entry(key, until, severity, asked_until, 0, 0, by.mark, by.source)
    if old.until <= now:
        strikes = _unforgiven(old, now, old.pace)
        return Entry(key, until, severity, asked_until, old.pace if strikes else 0, strikes, by.mark, by.source)
    reporters = old.reporters
    if reporters != by.mark:
        reporters = _joined(reporters, by.mark)
    is_news = until > old.until or severity > old.severity or asked_until > old.asked
    if not is_news and reporters is old.reporters:
        return old
    return Entry(
        key,
        until if until > old.until else old.until,
        severity if severity > old.severity else old.severity,
        asked_until if asked_until > old.asked else old.asked,
        old.pace,
        old.strikes,
        reporters,
        by.source if is_news else old.source,
    )


def struck(old: Entry | None, key: str, severity: int, duration: int, now: int, by: Reporter) -> Entry:
    """Return what is known after one more failure: the n-th in a row bars for n times ``duration``.

    One strike is forgiven for each ``duration`` that passed without a failure since the last penalty ended.
    """
    strikes = 0 if old is None else _unforgiven(old, now, duration)
    strikes = min(_MAX_STRIKES, strikes + 1)
    new = penalised(old, key, severity, min(LONGEST, duration * strikes), now, by)
    return msgspec.structs.replace(new, pace=duration, strikes=strikes, source=by.source)


def forgiven(old: Entry, now: int) -> Entry | None:
    """Return what is left of an entry when another incarnation is behind the key: what was asked for, if anything."""
    if old.asked <= now:
        return None
    return Entry(old.key, old.asked, 0, old.asked, 0, 0, old.reporters, old.source)


def is_same(one: Entry, other: Entry) -> bool:
    """Whether both bar in the same way, whoever reported it."""
    return one.until == other.until and one.severity == other.severity and one.asked == other.asked


def encode(entry: Entry) -> bytes:
    """Return the payload of a record for ``entry``."""
    key, source, reporters = entry.key.encode(), entry.source.encode(), entry.reporters
    head = _HEAD.pack(
        entry.until,
        entry.asked,
        entry.pace,
        entry.strikes,
        entry.severity,
        len(reporters) // _REPORTER,
        len(key),
        len(source),
    )
    return head + reporters + key + source


def decode(payload: bytes, now: int) -> Entry | None:
    """Return the entry in a payload; None if there is anything in it that no ``encode`` can have written by ``now``."""
    if len(payload) < _HEAD.size:
        return None
    until, asked, pace, strikes, severity, reporters, key, source = _HEAD.unpack_from(payload)
    at = _HEAD.size + _REPORTER * reporters
    if until > now + LONGEST or asked > until or pace > LONGEST or (not pace and strikes):
        return None
    if severity >= len(_SEVERITIES) or reporters > MAX_REPORTERS or source > MAX_SOURCE or not key:
        return None
    if len(payload) != at + key + source:
        return None
    try:
        return Entry(
            payload[at : at + key].decode(),
            until,
            severity,
            asked,
            pace,
            strikes,
            payload[_HEAD.size : at],
            payload[at + key :].decode(),
        )
    except UnicodeDecodeError:
        return None


def _unforgiven(old: Entry, now: int, pace: int) -> int:
    """Return how many of an entry's strikes still count."""
    if old.until >= now or not old.strikes:
        return old.strikes
    return max(0, old.strikes - (now - old.until) // pace)


def _joined(reporters: bytes, mark: bytes) -> bytes:
    """Return ``reporters`` with ``mark`` among them, if it was not and there is room."""
    at = reporters.find(mark)
    while at % _REPORTER > 0 and at >= 0:  # across two of them
        at = reporters.find(mark, at + 1)
    if at >= 0 or len(reporters) == _REPORTER * MAX_REPORTERS:
        return reporters
    return reporters + mark


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
