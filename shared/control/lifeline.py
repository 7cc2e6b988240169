"""What a supervisor and one of its workers say to each other over the socket that the worker inherits.

The socket is a ``SOCK_STREAM`` pair of ``AF_UNIX``; its end means that the other process is gone. A message is a
length (four bytes, big-endian, of what follows) and a msgpack array whose first item is the message's type. Both
ends are processes of one user and one version, but lengths and types are checked all the same.

    supervisor                                worker
        Assignment  ────────────────────────▶            who you are, what to run, the roster so far
                    ◀────────────────────────  Listening where others can reach me
        RosterNews  ────────────────────────▶            (from now on: whatever changes)
                    ◀────────────────────────  Ready     on_start has returned
                    ◀────────────────────────  Links     how many peers are linked (coalesced)
                    ◀────────────────────────  Failure   what ended me, with its traceback
        LinksWanted ────────────────────────▶            (while somebody looks)
                    ◀────────────────────────  LinkReport  all links, as this end sees them
        Stop        ────────────────────────▶            run on_stop and end (beside the stop signal)
        HandOver    ────────────────────────▶            finish what others have asked for, then as for Stop

A spare is told first how it is linked with everybody, and later whose place it takes:

        Reserve     ────────────────────────▶            how others know you, where to listen, the roster so far
                    ◀────────────────────────  Listening
        RosterNews  ────────────────────────▶            (from now on)
        Assignment  ────────────────────────▶            who you are from now on; the rest is as above

Its links stay what they are, so what the assignment says of them (epoch, endpoints, secret, descriptors) is known to
it already. If the place is not free yet, it prepares itself for it, and goes on being a spare to all others:

        Assignment  ────────────────────────▶            (``is_candidate``) who you are to be
                    ◀────────────────────────  Prepared   the class is imported, and there is an instance of it
        Begin       ────────────────────────▶            the place is yours; the rest is as above
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from ..core.malformed import MALFORMED
from ..core.roster import NodeRecord
from ..errors import MeshError
from .links import LinkStatus, LinkTotals

MAX_MESSAGE = 64 * 1024 * 1024
"""The longest message that a worker accepts, in bytes; settings and rosters are far below it."""

MAX_REPORT = 4 * 1024 * 1024
"""The longest message that a supervisor accepts, in bytes: it may have a hundred workers, each of which may be sick."""

MAX_TRACEBACK = 65_536
"""The longest traceback in a ``Failure``, in characters; the middle of a longer one is left out."""

MAX_DESCRIPTORS = 8
"""The most descriptors that come with an assignment."""

TRACES_SIGNAL = signal.SIGRTMAX - 2
"""Asks a worker for the tracebacks of its threads.

A real-time signal: SIGUSR1 and SIGUSR2 belong to the application, SIGQUIT to a person at a terminal, SIGABRT would end
it. Near the end of the range, since C libraries and container tools take theirs from its beginning.
"""

_LENGTH = 4

Message = TypeVar("Message")


class LifelineError(MeshError):
    """What came over a lifeline is not a message of this protocol; ``before`` are those that came with it and are."""

    def __init__(self, reason: str, before: Sequence[Any] = ()) -> None:
        self.before = tuple(before)
        super().__init__(reason)


class Assignment(msgspec.Struct, frozen=True, tag="assignment", array_like=True, forbid_unknown_fields=True):
    """The first message to a worker: its whole identity and everything it needs to become that node.

    ``listen`` are the endpoints it must bind, in order; ``secret`` authenticates the links of this run of the mesh
    and travels in no other way; ``path`` goes to the front of ``sys.path``; ``drain_timeout`` (seconds) is how long
    ``on_stop`` and the draining of links may take together. ``heartbeat_interval`` is None within one machine, where
    the kernel tells of every death. ``nice``, ``umask`` and ``limits`` (-1: unlimited; both soft and hard) are for the
    process as a whole, before anything of the user's is loaded. ``descriptors`` names the descriptors that come with
    the message (SCM_RIGHTS, on its first byte), in their order:

        blacklist  the table of bad endpoints      wake    the eventfd that its changes are announced on
        board      the liveness board              traces  where tracebacks are dumped before a kill

    ``board_index`` is the worker's record on the board, which it stamps each ``beat`` seconds at least where its loop
    cannot stamp its own turns. ``sponsor`` is the node that it introduces itself to before ``on_start``, if any.
    ``is_candidate``: see the module; only a spare is ever made one.
    """

    mesh: str
    name: str
    group: str
    replica: int
    incarnation: int
    epoch: int
    class_path: str
    path: str
    settings: dict[str, Any]
    listen: tuple[str, ...]
    secret: bytes
    roster: tuple[NodeRecord, ...]
    stop_signal: str = "SIGTERM"
    drain_timeout: float = 5.0
    heartbeat_interval: float | None = None
    heartbeat_timeout: float = 2.0
    blacklist_duration: float = 10.0
    nice: int | None = None
    umask: int | None = None
    limits: dict[str, int] = {}
    descriptors: tuple[str, ...] = ()
    board_index: int = 0
    beat: float = 0.025
    sponsor: str = ""
    is_candidate: bool = False

    def __repr__(self) -> str:
        """Leave the secret out, and the settings, which may hold others: many people read a traceback."""
        return f"Assignment(name={self.name!r}, incarnation={self.incarnation})"


class Reserve(msgspec.Struct, frozen=True, tag="reserve", array_like=True, forbid_unknown_fields=True):
    """The first message to a spare: how it is linked while it waits. The fields are those of an ``Assignment``.

    ``name`` is what the roster calls it; its ``epoch`` will be that of the incarnation whose place it takes.
    """

    name: str
    epoch: int
    listen: tuple[str, ...]
    secret: bytes
    roster: tuple[NodeRecord, ...]
    heartbeat_interval: float | None = None
    heartbeat_timeout: float = 2.0
    blacklist_duration: float = 10.0
    descriptors: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Leave the secret out."""
        return f"Reserve(name={self.name!r})"


class RosterNews(msgspec.Struct, frozen=True, tag="roster", array_like=True, forbid_unknown_fields=True):
    """Records that changed."""

    records: tuple[NodeRecord, ...]


class LinksWanted(msgspec.Struct, frozen=True, tag="links-wanted", array_like=True, forbid_unknown_fields=True):
    """How are your links? ``number`` is the question's, and comes back with the answer.

    Without ``each`` of them, the totals will do.
    """

    number: int
    each: bool = True


class Stop(msgspec.Struct, frozen=True, tag="stop", array_like=True, forbid_unknown_fields=True):
    """Run ``on_stop`` and end."""


class HandOver(msgspec.Struct, frozen=True, tag="hand-over", array_like=True, forbid_unknown_fields=True):
    """Another process is to take your place: finish what others have asked for, run ``on_stop`` and end."""


class Begin(msgspec.Struct, frozen=True, tag="begin", array_like=True, forbid_unknown_fields=True):
    """The place that a candidate was prepared for is its own from now on."""


class Listening(msgspec.Struct, frozen=True, tag="listening", array_like=True, forbid_unknown_fields=True):
    """The worker's listeners are bound; ``endpoints`` are as others must dial them."""

    endpoints: tuple[str, ...]


class Prepared(msgspec.Struct, frozen=True, tag="prepared", array_like=True, forbid_unknown_fields=True):
    """The candidate only waits for its place."""


class Ready(msgspec.Struct, frozen=True, tag="ready", array_like=True, forbid_unknown_fields=True):
    """``on_start`` has returned."""


class Links(msgspec.Struct, frozen=True, tag="links", array_like=True, forbid_unknown_fields=True):
    """``up`` of ``total`` other nodes are linked with this worker."""

    up: int
    total: int


class LinkReport(msgspec.Struct, frozen=True, tag="link-report", array_like=True, forbid_unknown_fields=True):
    """The answer to ``LinksWanted``: what all links carried, and a row for each other node, whatever its state."""

    number: int
    totals: LinkTotals
    links: tuple[LinkStatus, ...]


class Failure(msgspec.Struct, frozen=True, tag="failure", array_like=True, forbid_unknown_fields=True):
    """Why the worker is about to end by itself: where (``import``, ``on_start``, ...) and the whole traceback."""

    where: str
    traceback: str


ToWorker = Assignment | Reserve | RosterNews | LinksWanted | Stop | HandOver | Begin
FromWorker = Listening | Prepared | Ready | Links | LinkReport | Failure


# Made once: a decoder keeps nothing from one message to the next, and a forked process pays for a new one in page
# faults.
_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def failure(where: str, traceback: str) -> Failure:
    """Return a ``Failure`` that can be sent, whatever is in the traceback and however long it is."""
    if len(traceback) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        traceback = f"{traceback[:half]}\n[...]\n{traceback[-half:]}"
    return Failure(where, traceback.encode(errors="backslashreplace").decode())


def encode(message: ToWorker | FromWorker) -> bytes:
    """Return ``message`` as the bytes that go over the socket."""
    body = _encoder.encode(message)
    return len(body).to_bytes(_LENGTH, "big") + body


class Reader(Generic[Message]):
    """Cuts what arrives on a lifeline into messages."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Message], limit: int) -> None:
        self._decoder = decoder
        self._limit = limit
        self._buffer = bytearray()

    def receive(self, data: bytes) -> list[Message]:
        """Take ``data`` in and return the messages it completes.

        Raises:
            LifelineError: If a length is over the limit or a message is not one of this protocol. The lifeline cannot
                go on then; what ``data`` completed before it is in the error, so that it does not matter how the
                stream was split.
        """
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        while len(buffer) >= _LENGTH:
            end = _LENGTH + int.from_bytes(buffer[:_LENGTH], "big")
            if end - _LENGTH > self._limit:
                text = f"a message of {end - _LENGTH} bytes (at most {self._limit} are accepted)"
                raise LifelineError(text, messages)
            if len(buffer) < end:
                break
            try:
                messages.append(self._decoder.decode(memoryview(buffer)[_LENGTH:end].tobytes()))
            except MALFORMED as error:
                raise LifelineError(f"not a lifeline message: {error}", messages) from None
            del buffer[:end]
        return messages


def worker_end() -> Reader[ToWorker]:
    """Return the reader of a worker's end."""
    return Reader(_to_worker, MAX_MESSAGE)


def supervisor_end() -> Reader[FromWorker]:
    """Return the reader of a supervisor's end."""
    return Reader(_from_worker, MAX_REPORT)
