"""What happened in a run, as the applications, the transports and the supervisor saw it; nothing of what a mesh thinks.

Times are virtual seconds. An event is a tuple of plain values, so its text is the same in every process, and the hash
over all texts names the run.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple


class Life(NamedTuple):
    """One incarnation of a node."""

    name: str
    incarnation: int

    def __str__(self) -> str:
        return f"{self.name}.{self.incarnation}"


class Begun(NamedTuple):
    """The run began. ``detection`` is how long a severed link may seem linked (None: not promised in this run)."""

    at: float
    detection: float | None


class Born(NamedTuple):
    """A process began to listen; ``window`` and ``window_size`` bound what it may send unacknowledged, each way."""

    at: float
    node: Life
    window: int
    window_size: int


class Leaving(NamedTuple):
    """The node began to leave in an orderly way."""

    at: float
    node: Life


class Died(NamedTuple):
    """The process ended, whether killed or after leaving."""

    at: float
    node: Life


class Told(NamedTuple):
    """News of ``peer`` reached ``node``."""

    at: float
    node: Life
    peer: Life
    is_listening: bool


class Dialled(NamedTuple):
    """``node`` began to dial ``peer``."""

    at: float
    node: Life
    peer: Life


class Linked(NamedTuple):
    """``node`` has, or has no more, a connection that carries its link to ``peer``."""

    at: float
    node: Life
    peer: Life
    is_linked: bool


class Up(NamedTuple):
    """``node`` was told of a new link to ``peer``."""

    at: float
    node: Life
    peer: Life


class Lost(NamedTuple):
    """``node`` was told that ``peer`` is lost, and which messages with it."""

    at: float
    node: Life
    peer: Life
    first: int
    last: int
    total: int


class Left(NamedTuple):
    """``node`` was told that ``peer`` has left."""

    at: float
    node: Life
    peer: Life


class Accepted(NamedTuple):
    """A send of ``node`` to ``peer`` was accepted as message ``number`` of ``lane``."""

    at: float
    node: Life
    peer: Life
    lane: str
    number: int
    size: int
    digest: str


class Delivered(NamedTuple):
    """``node`` was handed message ``number`` of ``lane`` from ``peer``."""

    at: float
    node: Life
    peer: Life
    lane: str
    number: int
    digest: str


class Consumed(NamedTuple):
    """``node`` is done with all messages from ``peer`` up to ``number``."""

    at: float
    node: Life
    peer: Life
    number: int


class Acknowledged(NamedTuple):
    """``node`` knows that ``peer`` has consumed all its messages up to ``number``."""

    at: float
    node: Life
    peer: Life
    number: int


class Severed(NamedTuple):
    """From now on nothing passes between two nodes, without any error."""

    at: float
    one: str
    other: str


class Mended(NamedTuple):
    """Everything passes between two nodes again."""

    at: float
    one: str
    other: str


class Released(NamedTuple):
    """What a fault had withheld from ``node``, or had kept of what it wrote, goes on its way."""

    at: float
    node: Life


class Calm(NamedTuple):
    """All faults ended."""

    at: float


class Settled(NamedTuple):
    """All wanted pairs are linked and all is drained; from here to the end nothing may move."""

    at: float


class Connections(NamedTuple):
    """How many connections there are between two nodes, after the mesh settled."""

    at: float
    one: Life
    other: Life
    total: int


class Complaint(NamedTuple):
    """Something that may never be: an error in a callback, a task left over, a peer that is said to break a rule."""

    at: float
    text: str


class Ended(NamedTuple):
    """The run is over."""

    at: float


Event = (
    Begun
    | Born
    | Leaving
    | Died
    | Told
    | Dialled
    | Linked
    | Up
    | Lost
    | Left
    | Accepted
    | Delivered
    | Consumed
    | Acknowledged
    | Severed
    | Mended
    | Released
    | Calm
    | Settled
    | Connections
    | Complaint
    | Ended
)


class History:
    """All events of a run in their order, and the hash that names it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, event: Event) -> None:
        """Append ``event``."""
        self.events.append(event)
        self._hash.update(f"{event!r}\n".encode())

    @property
    def trace(self) -> str:
        """The hash over all events so far, in hexadecimal."""
        return self._hash.hexdigest()
