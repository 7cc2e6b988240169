"""Targets: shared memory in which another process of ours, a sick one, may have stored anything.

The input is a story: what is stored where, and what this process reads and writes meanwhile. Readers never raise and
never go round for ever; what they return is of the kind that it should be; and once the table was cleared it works.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from math import isfinite
from zlib import crc32

import msgspec
from tests.fuzz.mutation import Dice, bytewise
from tests.fuzz.target import Draw, Target, rule

from meshvisor.shared.core.penalties import FailureSeverity
from meshvisor.shared.core.stage import Stage
from meshvisor.shared.errors import SegmentError
from meshvisor.shared.memory import entry as entries
from meshvisor.shared.memory import segment as segments
from meshvisor.shared.memory import table as tables
from meshvisor.shared.memory.blacklist import SharedBlacklist
from meshvisor.shared.memory.board import BoardEntry, LivenessBoard
from meshvisor.shared.memory.changes import changes
from meshvisor.shared.memory.entry import SECOND, Entry, Penalty, Reporter
from meshvisor.shared.memory.record import record_words
from meshvisor.shared.memory.segment import HEADER_WORDS, WORD, Layout, Segment
from meshvisor.shared.memory.table import Table

_NOW = 1000 * SECOND
_KEYS = ("tcp:127.0.0.1:1", "unix:/a", "k", "é" * 100)
_SEVERITIES = tuple(FailureSeverity)
_SOURCES = ("", "counter-1", "operator")


# One record's payload.


def run_entry(data: bytes) -> None:
    """Read a payload: it is an entry that was written like that, or none; what the rules make of it can be stored."""
    draw = Draw(data[:8])
    found = entries.decode(data[8:], _NOW)
    if found is None:
        return
    _check_entry(found)
    rule(entries.encode(found) == data[8:], "an entry is stored in another way than it was read")
    by = entries.reporter(draw.one_of(_SOURCES), 7)
    now = _NOW + draw.one_of((0, 1, SECOND, 1000 * SECOND))
    duration = draw.one_of((entries.SHORTEST, SECOND, entries.LONGEST))
    severity = draw.below(3)
    for new in (
        entries.penalised(found, found.key, severity, duration, now, by, asked=draw.flag()),
        entries.struck(found, found.key, severity, duration, now, by),
        entries.forgiven(found, now),
    ):
        if new is not None:
            _check_entry(new)
            rule(entries.decode(entries.encode(new), now) == new, "what is stored is not what is read")
            rule(len(entries.encode(new)) <= entries.PAYLOAD, "an entry that is too long")
    if found.until > now:
        sticky = entries.penalised(found, found.key, severity, duration, now, by)
        rule(sticky.until >= found.until and sticky.severity >= found.severity, "a penalty that gives way")


def _check_entry(entry: Entry) -> None:
    rule(0 < len(entry.key.encode()) <= entries.MAX_KEY, "a key that cannot be")
    rule(len(entry.source.encode()) <= entries.MAX_SOURCE, "a source that is too long")
    rule(len(entry.reporters) % 4 == 0 and len(entry.reporters) <= 4 * entries.MAX_REPORTERS, "reporters in part")
    rule(0 <= entry.severity < len(_SEVERITIES), "a severity that is none")


def _payloads() -> list[bytes]:
    by = Reporter("counter-1", b"\1\2\3\4")
    one = entries.penalised(None, _KEYS[0], 1, SECOND, _NOW, by, asked=True)
    two = entries.struck(one, _KEYS[0], 2, SECOND, _NOW, Reporter("", b"\5\6\7\10"))
    return [
        entries.encode(found)
        for found in (one, two, Entry("k", _NOW, 0), Entry("é" * 127, 5, 2, 0, 0, 0, b"", "x" * 80))
    ]


# A whole table, and what every process does with it.

_CAPACITY = 3


@cache
def _segment() -> Segment:
    return Segment.create(tables.LAYOUT, _CAPACITY)


class _Patches:
    """Stores what the draw says: words, bytes, and records that are whole but for their payload."""

    def __init__(self, draw: Draw, segment: Segment, first: int, stride: int, count: int) -> None:
        self._draw = draw
        self._segment = segment
        self._first, self._stride, self._count = first, stride, count
        self._size = len(segment.data) // WORD

    def words(self, *interesting: int) -> None:
        """Store a number into a word, mostly one of the ``interesting``."""
        draw = self._draw
        at = draw.one_of(interesting) if draw.flag() else 8 + draw.below(self._size - 8)
        edges = (0, 1, 2, 3, 2**20, 2**32 - 1, 2**40, 2**63, 2**64 - 1, 2**64 - 2, _NOW, _NOW + SECOND)
        self._segment.words[at] = draw.number(8) if draw.flag() else draw.one_of(edges)

    def run(self) -> None:
        """Store a run of bytes."""
        draw = self._draw
        data = draw.chunk()
        at = 8 * WORD + draw.below(len(self._segment.data) - 8 * WORD - len(data))
        self._segment.data[at : at + len(data)] = data

    def record(self, payload: bytes, *, tag_at: int = 0) -> None:
        """Store a record with ``payload`` and a check that is right, and perhaps a tag for it."""
        draw, words = self._draw, self._segment.words
        slot = draw.below(self._count)
        at = self._first + slot * self._stride
        sequence = draw.one_of((1, 2, 3, 2**32, 2**64 - 1))
        head = at + 1 + (self._stride // 2 if sequence & 1 else 0)
        payload = payload[: (self._stride // 2 - 1) * WORD]
        self._segment.data[head * WORD + WORD : head * WORD + WORD + len(payload)] = payload
        words[head] = len(payload) << 32 | crc32(payload, sequence & 0xFFFFFFFF)
        words[at] = sequence
        if tag_at:
            key = draw.one_of(_KEYS).encode()
            words[tag_at + slot] = 1 << 40 | len(key) << 32 | crc32(key)


def run_table(data: bytes) -> None:
    """Use a blacklist whose memory is stored into by somebody else."""
    draw, segment, now = Draw(data), _segment(), [_NOW]
    memory = segment.data
    memory[8 * WORD :] = bytes(len(memory) - 8 * WORD)
    blacklist = SharedBlacklist(segment, source=draw.one_of(_SOURCES), wake_fd=-1, clock=lambda: now[0])
    watching = Table(segment, lambda: now[0])
    known, _ = watching.living()
    slots = 2 * _CAPACITY
    stride = record_words(entries.PAYLOAD)
    patches = _Patches(draw, segment, HEADER_WORDS + slots, stride, slots)
    interesting = (*range(8, 14), *range(HEADER_WORDS, HEADER_WORDS + slots + 1), HEADER_WORDS + slots + stride)
    while not draw.is_empty:
        match draw.below(8):
            case 0:
                patches.words(*interesting)
            case 1:
                patches.run()
            case 2:
                payload = draw.one_of(_payload_list())
                at = draw.below(len(payload))
                payload = payload[:at] + draw.take(draw.below(3)) + payload[at:] if draw.flag() else payload
                patches.record(payload, tag_at=HEADER_WORDS)
            case 3:
                now[0] += draw.one_of((0, SECOND // 4, SECOND, 1000 * SECOND))
            case 4:
                before, known, at = known, *watching.living()
                rule(all(_is_penalty(one) for one in changes(before, known, at)), "a change that is none")
                news = watching.latest(watching.generation - 2)
                rule(news is None or isinstance(news[0], Entry), "news that are none")
            case _:
                _use(blacklist, draw)
    rule(blacklist.clear(), "the lock is not to be had")
    # Another process: this one may have been made to believe that nothing was written since it looked.
    _check_health(SharedBlacklist(segment, source="", wake_fd=-1, clock=lambda: now[0]))


_payload_list = cache(_payloads)


def _use(blacklist: SharedBlacklist, draw: Draw) -> None:
    key, severity = draw.one_of(_KEYS), draw.one_of(_SEVERITIES)
    duration = draw.one_of((0.001, 1.0, 300.0, 1e9))
    match draw.below(8):
        case 0:
            found = blacklist.get_penalty(key)
            rule(found is None or (_is_penalty(found) and found.key == key), "another penalty")
        case 1:
            rule(0.0 <= blacklist.remaining(key) <= 301.0 and 0.0 <= blacklist.asked(key) <= 301.0, "for ever")
        case 2:
            rule(all(map(_is_penalty, blacklist.active())), "a penalty that is none")
        case 3:
            blacklist.set_penalty(key, severity, duration, retry_after=draw.flag())
        case 4:
            rule((blacklist.strike(key, severity, duration) or 0.0) <= 301.0, "for ever")
        case 5:
            blacklist.clear_penalty(key)
        case 6:
            blacklist.forgive(key)
            blacklist.prune()
        case _:
            statistics = blacklist.statistics()
            rule(0 <= statistics.entries <= 2 * _CAPACITY, "more entries than there is room for")


def _is_penalty(found: Penalty) -> bool:
    return (
        isinstance(found.severity, FailureSeverity)
        and 0.0 <= found.remaining <= 301.0
        and isfinite(found.remaining)
        and 0 <= found.reporters <= entries.MAX_REPORTERS
        and 0 <= found.strikes < 2**32
        and 0 < len(found.key.encode()) <= entries.MAX_KEY
    )


def _check_health(blacklist: SharedBlacklist) -> None:
    rule(blacklist.active() == [], "what was cleared is there")
    for key in _KEYS[:_CAPACITY]:
        rule(blacklist.set_penalty(key, FailureSeverity.HARD, 5.0), "nothing changes any more")
    rule({one.key for one in blacklist.active()} == set(_KEYS[:_CAPACITY]), "what was stored is not there")


def _table_seeds() -> list[bytes]:
    ordinary = bytes([0, 5, 3, 0, 3, 2, 1, 5, 0, 0, 1, 2, 5, 1, 1, 0, 2, 5, 2, 1, 0, 3, 4, 5, 3, 1, 2, 3, 7])
    stored = bytes([0, 2, 1, 0, 0, 1, 0, 0, 2, 2, 0, 0, 3, 2, 1, 5, 0, 0, 0, 0, 5, 2, 0, 0, 2, 5, 3, 1, 2, 1, 4, 5, 6])
    garbage = bytes([0, 0, 1, 1, 0, 8, 0, 1, 6, 0, 4, 5, 3, 0, 0, 0, 0, 5, 4, 1, 1, 1, 4])
    return [ordinary, stored, garbage, stored + ordinary * 3, bytes(range(256)), bytes(range(255, -1, -1)) * 2]


# The header of a segment.


def run_segment(data: bytes) -> None:
    """Open a file as a segment: it is one of this layout and this boot, or is refused in words."""
    header, size = data[: HEADER_WORDS * WORD], int.from_bytes(data[HEADER_WORDS * WORD :][:3], "little")
    descriptor = os.memfd_create("fuzz")
    try:
        os.write(descriptor, header)
        os.ftruncate(descriptor, size)
        segment = Segment.attach(_LAYOUT, descriptor)
    except SegmentError as error:
        rule(error.reason and error.segment, "a refusal without a reason")
        return
    finally:
        os.close(descriptor)
    rule(len(segment.data) == _LAYOUT.size(segment.capacity) == size, "a segment of another size")
    segment.close()


_LAYOUT = Layout(kind=7, version=2, name="fuzzed table", unit=16)


def _segment_seeds() -> list[bytes]:
    seeds = []
    for capacity in (1, 3, 1000):
        header = segments._header(_LAYOUT, capacity) + segments.boot_id()
        seeds.append(header.ljust(HEADER_WORDS * WORD, b"\0") + _LAYOUT.size(capacity).to_bytes(3, "little"))
    return seeds


def _segment_mutation(data: bytes, dice: Dice) -> bytes:
    """Change a word of the header, mostly with the check put right again."""
    out = bytearray(bytewise(data, dice) if dice.random() < 0.3 else data)
    if dice.random() < 0.7:
        at = dice.choice((0, 8, 12, 16, 24, 32, 48, 56))
        out[at : at + 8] = dice.choice((0, 1, 65_537, 2**63, dice.getrandbits(64), 16, 2)).to_bytes(8, "little")
    if dice.random() < 0.7:
        out[40:48] = crc32(out[:40]).to_bytes(8, "little")
    return bytes(out)


# The board.

_NODES = 3


@cache
def _board() -> LivenessBoard:
    return LivenessBoard.create(_NODES)


def run_board(data: bytes) -> None:
    """Read a liveness board that anybody stores into."""
    draw, board = Draw(data), _board()
    memory = board.segment.data
    memory[9 * WORD :] = bytes(len(memory) - 9 * WORD)
    stride = record_words(480)
    patches = _Patches(draw, board.segment, HEADER_WORDS + 9 * _NODES, stride, _NODES)
    writers = []
    while not draw.is_empty:
        index, incarnation = draw.below(_NODES + 1), draw.one_of((1, 2, 255, 256, 2**64 - 1))
        match draw.below(7):
            case 0:
                patches.words(8, *range(HEADER_WORDS, HEADER_WORDS + 9 * _NODES))
            case 1:
                patches.run()
            case 2:
                patches.record(_identity(draw, incarnation))
                board.words[board._pulse(index % _NODES) + 7] = incarnation
            case 3:
                try:
                    writers.append(board.claim(index, draw.one_of(("a", "b" * 63)), incarnation % 2**32, 7, tid=1))
                except SegmentError:
                    continue
            case 4:
                for writer in writers:
                    writer.beat(draw.one_of((0.0, 1.0, 1e9)), draw.number(3))
                    writer.account(draw.number(8), draw.number(8), 1, 2)
                    writer.set_stage(draw.one_of(tuple(Stage)))
                    writer.set_endpoints((draw.one_of(("unix:/a", "x" * 600)),))
            case 5:
                board.vacate(index % _NODES)
            case _:
                _read_board(board, index, incarnation)


def _identity(draw: Draw, incarnation: int) -> bytes:
    fields = ["node", incarnation, 7, 10, 11, 5 * SECOND, -1, ["unix:/a"], False]
    at = draw.below(16)
    if at < len(fields):
        fields[at] = draw.one_of((None, -1, 2**64 - 1, "", [], "x" * 400, 1.5, {"a": 1}))
    packed = msgspec.msgpack.encode(fields)
    return packed if draw.byte() < 200 else packed[: draw.below(len(packed))]


def _read_board(board: LivenessBoard, index: int, incarnation: int) -> None:
    one = board.read(index)
    rule(one is None or _is_node(one), "a node that cannot be")
    everybody = board.entries()
    rule(len(everybody) <= _NODES and all(map(_is_node, everybody)), "nodes that cannot be")
    found = board.find("node")
    rule(found is None or found.name == "node", "another node was found")
    rule(len(board.scan(_NODES)) == _NODES * WORD, "a scan of another length")
    if index < _NODES:
        for moment in (board.turn(board.stamp(index), incarnation), board.beat_at(index, incarnation)):
            rule(moment is None or (isinstance(moment, float) and isfinite(moment)), "a time that is none")


def _is_node(entry: BoardEntry) -> bool:
    moments = (entry.claimed_at, entry.turn_started_at, entry.beat_at, entry.lag, entry.executed, entry.waited)
    numbers = (entry.incarnation, entry.epoch, entry.pid, entry.tid, entry.selector, entry.beats, entry.links_up)
    return (
        isinstance(entry.name, str)
        and isinstance(entry.stage, Stage)
        and all(moment is None or (isinstance(moment, float) and isfinite(moment)) for moment in moments)
        and all(type(number) is int for number in numbers)
        and all(isinstance(endpoint, str) for endpoint in entry.endpoints)
        and isinstance(entry.lateness(1000.0), float)
    )


def _board_seeds() -> list[bytes]:
    claimed = bytes([0, 0, 3, 0, 1, 0, 3, 1, 0, 0, 4, 1, 2, 0, 0, 6, 1, 0, 6])
    stored = bytes([0, 0, 2, 20, 0, 1, 1, 0, 0, 6, 1, 1, 2, 3, 4, 0, 2, 0, 0, 6])
    return [claimed, stored, claimed + stored * 3, bytes(range(256)), bytes(range(255, -1, -1)) * 2]


def _story(run: Callable[[bytes], None], name: str, text: str, seeds: Callable[[], list[bytes]]) -> Target:
    return Target(name, text, run, seeds, bytewise, 2000)


TARGETS = (
    Target("entry", "the payload of a record of the blacklist", run_entry, lambda: [bytes(8) + p for p in _payloads()]),
    _story(run_table, "blacklist", "a blacklist in whose memory anything may stand", _table_seeds),
    _story(run_board, "board", "a liveness board on which anything may stand", _board_seeds),
    Target("segment", "the header of a segment", run_segment, _segment_seeds, _segment_mutation, 131),
)
