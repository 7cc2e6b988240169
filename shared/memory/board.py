"""The liveness board: what every node of a mesh says about itself, for anyone in the mesh to read at any moment.

A slot of the board belongs to one node at a time. It has three parts, each in a place of its own:

    part       words  written               holds
    stamp      1      at each turn          0: the loop waits; else when the turn began that it is in
    pulse      8      every 2 seconds       BEAT_AT  BEATS  STATUS  MESSAGES_IN  MESSAGES_OUT  EXECUTED  WAITED  OWNER
    identity   (*)    at the claim          name, incarnation, epoch, pid, tid, ... (a record: see ``record``)

The stamps of all slots lie side by side: one copy of a few hundred bytes says of a whole mesh who is late. Every word
of stamp and pulse is one aligned store without lock or sequence, since each says something by itself.

**Fencing.** A slot is taken over by the next incarnation while the previous one may still be there, stopped or stuck.
So the top byte of every stamp and pulse word (but ``OWNER``, which is the whole incarnation) is a tag made of the
incarnation that stored it, and readers believe only words with the tag of the incarnation they ask for: what a stale
one stores may hide a word of the new one, it cannot pass for one. It stops storing at its next beat, when it sees that
``OWNER`` is another. Tags come round after 255 incarnations.

Times are nanoseconds since the board was made (56 bits: two years), which word 8 of the header tells; callers get and
give CLOCK_MONOTONIC, in seconds.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

import msgspec

from ..core.malformed import MALFORMED
from ..core.stage import Stage as Stage
from ..errors import SegmentError
from .record import Records, record_words
from .segment import FIRST_FREE, HEADER_WORDS, WORD, Layout, Segment

BEAT_INTERVAL = 2.0
"""Seconds between two beats of a node.

Waking up is most of what a beat costs: 40-60 us for a process that does nothing else, and 150 us for a node whose
memory has left the caches meanwhile. A hundred nodes that beat each second took 1.5 % of a core, for nothing else.
"""

CAPACITY = 1024
"""Slots of a board, unless asked otherwise."""

BEAT_AT, BEATS, STATUS, MESSAGES_IN, MESSAGES_OUT, EXECUTED, WAITED, OWNER = range(8)
"""The words of a pulse."""

_PULSE = 8
_IDENTITY = 480  # bytes
_LAYOUT = Layout(kind=2, version=1, name="liveness board", unit=(1 + _PULSE + record_words(_IDENTITY)) * WORD)

_TAG_SHIFT = 56
_VALUE = (1 << _TAG_SHIFT) - 1
_TAGS = 255
_NEWER = 1 << 32  # An owner that is further ahead than this is garbage.

# STATUS: stage | links up << 8 | lag in microseconds << 24
_LINKS_SHIFT, _LINKS = 8, 0xFFFF
_LAG_SHIFT, _LAG = 24, 0xFFFFFFFF


_STAGES = tuple(Stage)
_CODES = {stage: code for code, stage in enumerate(_STAGES)}


class _Identity(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    name: str
    incarnation: int
    epoch: int
    pid: int
    tid: int
    claimed_at: int
    selector: int
    endpoints: tuple[str, ...] = ()
    is_cut: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Identity)


@dataclass(frozen=True, slots=True)
class BoardEntry:
    """What a node says about itself. Times are monotonic seconds, durations seconds.

    ``tid`` is the thread of its event loop and ``selector`` the descriptor that this waits on (-1: not known).
    ``turn_started_at`` is None while the loop waits; where the loop cannot stamp its turns it is the latest sign of
    life. ``lag`` is the worst lateness of the latest ten beats, ``executed`` and ``waited`` are how long the thread
    had computed, and queued for a core, when it last told (None: the kernel does not tell). ``endpoints``
    are left out, and ``endpoints_left_out`` says so, where they are too long for the board.
    """

    index: int
    name: str
    incarnation: int
    epoch: int
    pid: int
    tid: int
    selector: int
    claimed_at: float
    stage: Stage
    turn_started_at: float | None
    beats: int
    beat_at: float
    lag: float
    messages_in: int
    messages_out: int
    links_up: int
    executed: float | None
    waited: float | None
    endpoints: tuple[str, ...]
    endpoints_left_out: bool

    def lateness(self, now: float) -> float:
        """Return how far the loop is behind at ``now``: the length of its turn so far, or ``lag`` if that is more."""
        return self.lag if self.turn_started_at is None else max(self.lag, now - self.turn_started_at)


class LivenessBoard:
    """A board of ``capacity`` slots; the supervisor makes it and hands ``fileno()`` down.

    Whoever makes it gives out slots, densely from 0. Reading never waits and never raises for what it finds: a slot
    that holds garbage is a slot of nobody.
    """

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.capacity = segment.capacity
        self.words = segment.words
        self.base = segment.words[FIRST_FREE]
        """CLOCK_MONOTONIC, in nanoseconds, at which the times of this board begin."""
        self._data = segment.data
        self._stamps = HEADER_WORDS
        self._pulses = self._stamps + self.capacity
        self._records = Records(segment, self._pulses + self.capacity * _PULSE, self.capacity, _IDENTITY)
        self._places: dict[str, int] = {}

    @classmethod
    def create(cls, capacity: int = CAPACITY) -> LivenessBoard:
        """Make a board in memory of its own.

        Raises:
            SegmentError: If that is not possible.
            ValueError: If ``capacity`` is out of range.
        """
        segment = Segment.create(_LAYOUT, capacity)
        segment.words[FIRST_FREE] = time.monotonic_ns()
        return cls(segment)

    @classmethod
    def attach(cls, descriptor: int) -> LivenessBoard:
        """Open the board that ``descriptor`` is of; the descriptor stays the caller's.

        Raises:
            SegmentError: If it is not a board of this user and this version.
        """
        return cls(Segment.attach(_LAYOUT, descriptor))

    def fileno(self) -> int:
        """Return the descriptor to hand down to another process."""
        return self.segment.fileno()

    def close(self) -> None:
        """Forget the board; writers made from it can go on, and the memory is there until the last one is gone."""
        self.segment.close()
        # The mapping holds a descriptor as long as anybody refers to it.
        self.words, self._data = self.segment.words, self.segment.data
        self._records = Records(self.segment, 0, 0, 0)

    # Writing.

    def claim(
        self, index: int, name: str, incarnation: int, epoch: int, *, tid: int | None = None, selector: int = -1
    ) -> BoardWriter:
        """Take slot ``index`` over for this process, whose loop runs in thread ``tid`` (None: the calling one).

        Raises:
            SegmentError: If there is no such slot, or a later incarnation has it.
        """
        if not 0 <= index < self.capacity:
            raise SegmentError(self.segment.name, f"has slots 0 to {self.capacity - 1}, not {index}")
        owner = self.words[self._pulse(index) + OWNER]
        if 0 < owner - incarnation < _NEWER:
            raise SegmentError(
                self.segment.name, f"slot {index} belongs to incarnation {owner} already, not to {incarnation}"
            )
        identity = _Identity(
            name,
            incarnation,
            epoch,
            os.getpid(),
            threading.get_native_id() if tid is None else tid,
            time.monotonic_ns(),
            selector,
        )
        return BoardWriter(self, index, identity)

    def vacate(self, index: int) -> None:
        """Take the slot from whoever has it: its incarnation is over, as the supervisor knows."""
        self.words[self._pulse(index) + OWNER] = 0

    # Reading.

    def scan(self, count: int) -> bytes:
        """Return the stamps of the first ``count`` slots as they are: eight bytes each, in the machine's order.

        ``waiting(incarnation)`` is what an idle loop's looks like, ``turn(stamp, incarnation)`` reads one. It is a
        hint: confirm what it says about one slot by ``stamp``, which is a single load.
        """
        begin = self._stamps * WORD
        return self._data[begin : begin + count * WORD]

    def stamp(self, index: int) -> int:
        """Return the stamp of one slot."""
        return self.words[self._stamps + index]

    def turn(self, stamp: int, incarnation: int) -> float | None:
        """Return when the turn began that ``stamp`` is of; None if the loop waits, or if another incarnation's."""
        if stamp >> _TAG_SHIFT != tag(incarnation) or not stamp & _VALUE:
            return None
        return self._seconds(stamp)

    def beat_at(self, index: int, incarnation: int) -> float | None:
        """Return when ``incarnation`` gave its latest beat; None if it has given none here."""
        word = self.words[self._pulse(index) + BEAT_AT]
        return self._seconds(word) if word >> _TAG_SHIFT == tag(incarnation) and word & _VALUE else None

    def read(self, index: int) -> BoardEntry | None:
        """Return the whole entry of a slot; None if it is nobody's, or what is there is not to be believed."""
        if not 0 <= index < self.capacity:
            return None
        at = self._pulse(index)
        incarnation = self.words[at + OWNER]
        found = self._records.read(index) if incarnation else None
        if found is None:
            return None
        try:
            identity = _decoder.decode(found[1])
        except MALFORMED:
            return None
        if identity.incarnation != incarnation:
            return None
        mark = tag(incarnation)
        pulse = [word & _VALUE if word >> _TAG_SHIFT == mark else 0 for word in self.words[at : at + OWNER]]
        status = pulse[STATUS]
        if status & 0xFF >= len(_STAGES):
            return None
        return BoardEntry(
            index=index,
            name=identity.name,
            incarnation=incarnation,
            epoch=identity.epoch,
            pid=identity.pid,
            tid=identity.tid,
            selector=identity.selector,
            claimed_at=identity.claimed_at / 1e9,
            stage=_STAGES[status & 0xFF],
            turn_started_at=self.turn(self.stamp(index), incarnation),
            beats=pulse[BEATS],
            beat_at=self._seconds(pulse[BEAT_AT]),
            lag=(status >> _LAG_SHIFT) / 1e6,
            messages_in=pulse[MESSAGES_IN],
            messages_out=pulse[MESSAGES_OUT],
            links_up=status >> _LINKS_SHIFT & _LINKS,
            executed=pulse[EXECUTED] / 1e9 if pulse[EXECUTED] else None,
            waited=pulse[WAITED] / 1e9 if pulse[EXECUTED] else None,
            endpoints=identity.endpoints,
            endpoints_left_out=identity.is_cut,
        )

    def entries(self) -> list[BoardEntry]:
        """Return the entries of all slots that somebody has."""
        owners = self.words[self._pulses + OWNER : self._pulses + self.capacity * _PULSE : _PULSE].tolist()
        found = [self.read(index) for index, owner in enumerate(owners) if owner]
        return [entry for entry in found if entry is not None]

    def find(self, name: str) -> BoardEntry | None:
        """Return the entry of the node called ``name``, if it is on the board."""
        place = self._places.get(name)
        entry = self.read(place) if place is not None else None
        if entry is None or entry.name != name:
            self._places = {entry.name: entry.index for entry in self.entries()}
            entry = self.read(self._places[name]) if name in self._places else None
        return entry

    def _pulse(self, index: int) -> int:
        return self._pulses + index * _PULSE

    def _seconds(self, word: int) -> float:
        return (self.base + (word & _VALUE)) / 1e9


def tag(incarnation: int) -> int:
    """Return the number, 1 to 255, that marks the words of ``incarnation``."""
    return incarnation % _TAGS + 1


def waiting(incarnation: int) -> int:
    """Return the stamp of a loop of ``incarnation`` that waits."""
    return tag(incarnation) << _TAG_SHIFT


class BoardWriter:
    """A node's own slot. For the thread of its loop alone.

    Whoever stamps turns stores ``waiting`` into ``words[stamp_at]`` before the loop waits, and
    ``time.monotonic_ns() + bias`` after.
    """

    def __init__(self, board: LivenessBoard, index: int, identity: _Identity) -> None:
        self.index = index
        self.incarnation = identity.incarnation
        self.words = board.words
        self.stamp_at = board._stamps + index
        self.waiting = waiting(identity.incarnation)
        self.bias = self.waiting - board.base
        self._pulse = board._pulse(index)
        self._records = board._records
        self._identity = identity
        self._beats = self._links = self._lag = 0
        self._stage = Stage.STARTING
        words, at, mark = self.words, self._pulse, self.waiting
        words[at + OWNER] = identity.incarnation
        for word in range(OWNER):
            words[at + word] = mark
        words[at + BEAT_AT] = words[self.stamp_at] = time.monotonic_ns() + self.bias
        self._write_identity()

    @property
    def is_mine(self) -> bool:
        """Whether the slot still belongs to this incarnation; once it does not, nothing more is written."""
        return self.words[self._pulse + OWNER] == self.incarnation

    def beat(self, lag: float = 0.0, links_up: int = 0) -> bool:
        """Give a sign of life; False if the slot is not this incarnation's any more. ``lag`` is in seconds."""
        if not self.is_mine:
            return False
        words, at, mark = self.words, self._pulse, self.waiting
        self._beats += 1
        self._links = min(links_up, _LINKS)
        self._lag = min(round(lag * 1e6), _LAG)
        words[at + BEATS] = mark + self._beats
        self._write_status()
        words[at + BEAT_AT] = time.monotonic_ns() + self.bias
        return True

    def account(self, messages_in: int, messages_out: int, executed: int, waited: int) -> None:
        """Say how many messages came and went, and for how many nanoseconds the thread has executed and queued."""
        if self.is_mine:
            words, at, mark = self.words, self._pulse, self.waiting
            words[at + MESSAGES_IN] = mark + (messages_in & _VALUE)
            words[at + MESSAGES_OUT] = mark + (messages_out & _VALUE)
            self.schedule(executed, waited)

    def schedule(self, executed: int, waited: int) -> None:
        """Say for how many nanoseconds the thread has executed, and has queued for a core."""
        if self.is_mine:
            words, at, mark = self.words, self._pulse, self.waiting
            words[at + EXECUTED] = mark + (executed & _VALUE)
            words[at + WAITED] = mark + (waited & _VALUE)

    def sign(self) -> None:
        """Stamp that the loop is alive, where it cannot stamp its turns."""
        self.words[self.stamp_at] = time.monotonic_ns() + self.bias

    def set_stage(self, stage: Stage) -> None:
        """Say how far the node is."""
        self._stage = stage
        if self.is_mine:
            self._write_status()

    def set_endpoints(self, endpoints: tuple[str, ...]) -> None:
        """Say where the node listens; endpoints that the board has no room for are left out, all of them."""
        self._identity = msgspec.structs.replace(self._identity, endpoints=endpoints, is_cut=False)
        if self.is_mine:
            self._write_identity()

    def release(self) -> None:
        """Give the slot back, if it is still this incarnation's."""
        if self.is_mine:
            self.words[self._pulse + OWNER] = 0

    def _write_status(self) -> None:
        status = _CODES[self._stage] | self._links << _LINKS_SHIFT | self._lag << _LAG_SHIFT
        self.words[self._pulse + STATUS] = self.waiting + status

    def _write_identity(self) -> None:
        payload = _encoder.encode(self._identity)
        if len(payload) > _IDENTITY:
            self._identity = msgspec.structs.replace(self._identity, endpoints=(), is_cut=True)
            payload = _encoder.encode(self._identity)
        self._records.write(self.index, payload)
