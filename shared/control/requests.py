"""What clients ask the supervisor of a running mesh, and what it answers.

A request is one JSON text in one ZeroMQ message, from a DEALER to the supervisor's ROUTER, and so is its reply:

    {"version": 1, "id": 7, "deadline": 5123.25, "body": {"type": "status"}}
    {"version": 1, "id": 7, "body": {"type": "status", "status": {...}}}

``id`` is the client's and comes back in the reply (0: the request's could not be read). After ``deadline`` (seconds of
the system's monotonic clock, which all processes of a machine share) a request is answered with ``late`` and nothing
is done: a client that gave up must not be obeyed later. The envelope, ``hello`` and what it is answered with are the
same in every version, so that a client can always find out with whom it does not get along.

A request that changes something (``start``, ``stop``, ``restart``, ``scale``, ``reload``) is answered as soon as it has
begun: with ``accepted``, a reload with the ``difference``. From then on it is the supervisor's, whatever becomes of the
client. One that waits is told each ``step``, and at the end that it is ``done``, or why not.

Events are published beside that, on a socket of their own: two frames, ``TOPIC`` and a ``Happened``. Whoever has
subscribed to TOPIC and then to ``SYNC`` and a few bytes that nobody else uses gets these back, with the number of the
latest event: from the next one on it misses none. That number comes now and then under ``LATEST``, too, so that whoever
has missed the last ones of many notices it although nothing follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec

from ..core.malformed import MALFORMED
from ..errors import Fault, MeshError

VERSION = 1
MAX_REQUEST = 65_536
"""The longest request that is read, in bytes."""

TOPIC = b"event"
LATEST = b"event latest"
SYNC = b"sync "

Moment = Annotated[float, msgspec.Meta(ge=0.0, le=253_402_300_799.0)]
"""Unix seconds that a calendar has a date for: they are shown to people."""

_MOST_NAMES = 1000
Names = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=_MOST_NAMES)]
Replicas = Annotated[dict[str, Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(min_length=1, max_length=_MOST_NAMES)]


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """Who are you?"""


class GetStatus(msgspec.Struct, frozen=True, tag_field="type", tag="status"):
    """How is the mesh?"""


class GetLinks(msgspec.Struct, frozen=True, tag_field="type", tag="links"):
    """How are the links of all workers?"""


class GetFigures(msgspec.Struct, frozen=True, tag_field="type", tag="figures"):
    """What is measured of the mesh; with ``each`` link of each worker, or with what they carry together?"""

    each: bool = False


class Shutdown(msgspec.Struct, frozen=True, tag_field="type", tag="shutdown"):
    """Stop everything cleanly and end. Answered at once; the mesh is over when its lock is free."""


class Why(msgspec.Struct, frozen=True, tag_field="type", tag="why"):
    """Where is the process in ``slot`` now? Answered with the tracebacks of all its threads."""

    slot: str


class GetNames(msgspec.Struct, frozen=True, tag_field="type", tag="names"):
    """What are the workers and the slots called?"""


class GetEvents(msgspec.Struct, frozen=True, tag_field="type", tag="events"):
    """What has happened lately?"""


class Start(msgspec.Struct, frozen=True, tag_field="type", tag="start"):
    """Start slots, or all of workers."""

    names: Names
    wait: bool = True


class Stop(msgspec.Struct, frozen=True, tag_field="type", tag="stop"):
    """Stop slots, or all of workers, until they are started."""

    names: Names
    wait: bool = True


class Restart(msgspec.Struct, frozen=True, tag_field="type", tag="restart"):
    """Restart slots, or all of workers, one after the other or those of each name ``at_once``."""

    names: Names
    at_once: bool = False
    wait: bool = True


class Scale(msgspec.Struct, frozen=True, tag_field="type", tag="scale"):
    """Have so many slots for each of these workers."""

    replicas: Replicas
    wait: bool = True


class Reload(msgspec.Struct, frozen=True, tag_field="type", tag="reload"):
    """Go over to what the configuration file says now; ``dry_run``: only say what that would change."""

    dry_run: bool = False
    wait: bool = True


class Welcome(msgspec.Struct, frozen=True, tag_field="type", tag="welcome"):
    """The answer to ``Hello``."""

    mesh: str
    pid: int
    release: str


class StatusReport(msgspec.Struct, frozen=True, tag_field="type", tag="status"):
    """The answer to ``GetStatus``: the supervisor's ``MeshStatus`` as JSON."""

    status: msgspec.Raw


class LinksReport(msgspec.Struct, frozen=True, tag_field="type", tag="links"):
    """The answer to ``GetLinks``: the supervisor's ``MeshLinks`` as JSON, each link as an array of its fields."""

    links: msgspec.Raw


class FiguresReport(msgspec.Struct, frozen=True, tag_field="type", tag="figures"):
    """The answer to ``GetFigures``: the supervisor's ``MeshFigures`` as JSON."""

    figures: msgspec.Raw


class Accepted(msgspec.Struct, frozen=True, tag_field="type", tag="accepted"):
    """It has begun."""


class Traces(msgspec.Struct, frozen=True, tag_field="type", tag="traces"):
    """The answer to ``Why``."""

    text: str


class KnownNames(msgspec.Struct, frozen=True, tag_field="type", tag="names"):
    """The answer to ``GetNames``: the slots of each worker, in the order of the file."""

    workers: dict[str, tuple[str, ...]]


class Happened(msgspec.Struct, frozen=True):
    """One event. ``number`` counts from 1 without a gap; ``details`` are those of ``supervisor.event.Event``."""

    number: int
    at: Moment
    event: str
    slot: str
    incarnation: int
    details: dict[str, Any]


class EventLog(msgspec.Struct, frozen=True, tag_field="type", tag="events"):
    """The answer to ``GetEvents``: the latest, the oldest first, each a ``Happened``."""

    events: tuple[msgspec.Raw, ...]


class Step(msgspec.Struct, frozen=True, tag_field="type", tag="step"):
    """What has become of a slot in a change that goes on, and how many seconds that took (None: it was so before).

    ``is_back``: it is what it was before the change, because what was to take its place did not become ready.
    """

    slot: str
    state: str
    incarnation: int
    seconds: float | None
    is_back: bool = False


class Done(msgspec.Struct, frozen=True, tag_field="type", tag="done"):
    """A change is complete, after so many seconds, and this has become of each slot."""

    seconds: float
    steps: tuple[Step, ...]


class KeyChange(msgspec.Struct, frozen=True):
    """A key, dotted, that has another value; None: it was not there, or is not any more."""

    key: str
    old: Any
    new: Any


class Difference(msgspec.Struct, frozen=True, tag_field="type", tag="difference"):
    """What a reload changes, by worker: slots that come and go, keys, and how many replicas there were and are to be.

    ``replaced`` are workers whose processes are restarted for what has changed, ``adjusted`` those that go by other
    rules from now on. ``refused`` says what cannot change under a running mesh: if anything, nothing is done.
    """

    file: str
    added: dict[str, tuple[str, ...]] = {}
    removed: dict[str, tuple[str, ...]] = {}
    replaced: dict[str, tuple[KeyChange, ...]] = {}
    adjusted: dict[str, tuple[KeyChange, ...]] = {}
    rescaled: dict[str, tuple[int, int]] = {}
    supervisor: tuple[KeyChange, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return self == Difference(self.file)


class Faulty(msgspec.Struct, frozen=True, tag_field="type", tag="faulty"):
    """The answer to ``Reload`` when there are faults in the file: nothing has changed."""

    file: str
    faults: tuple[Fault, ...]


class Refusal(StrEnum):
    """Why a request was not carried out."""

    GARBAGE = "garbage"  # no request at all, or one that is too long
    VERSION = "version"  # of another version of this protocol
    UNKNOWN = "unknown"  # there is no such request, or not with this content
    LATE = "late"  # its deadline had passed
    BUSY = "busy"  # too many requests are being carried out
    NO_SUCH_SLOT = "no-such-slot"  # no slot and no worker has the name it was about
    FAILED = "failed"  # tried, and failed


class Refused(msgspec.Struct, frozen=True, tag_field="type", tag="refused"):
    """The answer to what was not carried out."""

    why: Refusal
    text: str


Change = Start | Stop | Restart | Scale | Reload
Question = Hello | GetStatus | GetLinks | GetFigures | GetNames | GetEvents | Shutdown | Why | Change
Answer = (
    Welcome
    | StatusReport
    | LinksReport
    | FiguresReport
    | KnownNames
    | EventLog
    | Accepted
    | Traces
    | Step
    | Done
    | Difference
    | Faulty
    | Refused
)


class RequestError(MeshError):
    """A request that cannot be carried out; ``id`` is its number, 0 if that could not be read."""

    def __init__(self, request: int, why: Refusal, text: str) -> None:
        self.id = request
        self.why = why
        self.text = text
        super().__init__(request, why, text)

    def __str__(self) -> str:
        return self.text


class Request(msgspec.Struct, frozen=True):
    """The envelope of a question."""

    version: int
    id: int
    deadline: float
    body: msgspec.Raw


class Reply(msgspec.Struct, frozen=True):
    """An answer, out of its envelope."""

    version: int
    id: int
    body: Answer


class _Envelope(msgspec.Struct, frozen=True):
    version: int
    id: int
    body: msgspec.Raw


T = TypeVar("T")

_envelopes = msgspec.json.Decoder(Request)
_questions: msgspec.json.Decoder[Question] = msgspec.json.Decoder(Question)
_replies = msgspec.json.Decoder(_Envelope)
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)
_happened = msgspec.json.Decoder(Happened)
_numbers = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0)])
_welcomes = msgspec.json.Decoder(Welcome)
_hellos = msgspec.json.Decoder(Hello)


def encode_request(request: int, question: Question, deadline: float) -> bytes:
    """Return the message for ``question``; ``deadline`` is in seconds of the monotonic clock."""
    return msgspec.json.encode(Request(VERSION, request, deadline, msgspec.Raw(msgspec.json.encode(question))))


def decode_request(data: bytes, now: float) -> tuple[int, Question, float]:
    """Return the number, the question and the deadline of a message that arrived at ``now`` (monotonic seconds).

    Raises:
        RequestError: If it is not a request, or not one to be carried out (any more).
    """
    if len(data) > MAX_REQUEST:
        raise RequestError(0, Refusal.GARBAGE, f"a request has at most {MAX_REQUEST} bytes, not {len(data)}")
    try:
        request = _envelopes.decode(data)
    except MALFORMED as error:
        raise RequestError(0, Refusal.GARBAGE, f"not a request: {error}") from None
    if request.version != VERSION and not _is(request.body, _hellos):
        text = f"this supervisor speaks version {VERSION} of the control protocol, not {request.version}"
        raise RequestError(request.id, Refusal.VERSION, text)
    if not now <= request.deadline:
        raise RequestError(request.id, Refusal.LATE, "the request arrived after its deadline")
    try:
        return request.id, _questions.decode(request.body), request.deadline
    except MALFORMED as error:
        raise RequestError(request.id, Refusal.UNKNOWN, f"no such request: {error}") from None


def encode_reply(request: int, answer: Answer) -> bytes:
    """Return the message for ``answer`` to the request of that number."""
    return msgspec.json.encode(Reply(VERSION, request, answer))


def decode_reply(data: bytes) -> Reply:
    """Return the reply in a message; of one of another version that makes no sense in this one, that it is refused.

    Raises:
        RequestError: If it is none.
    """
    try:
        reply = _replies.decode(data)
        if reply.version != VERSION and not _is(reply.body, _welcomes):
            text = f"it speaks version {reply.version} of the control protocol, not {VERSION}"
            return Reply(reply.version, reply.id, Refused(Refusal.VERSION, text))
        return Reply(reply.version, reply.id, _answers.decode(reply.body))
    except MALFORMED as error:
        raise RequestError(0, Refusal.GARBAGE, f"the supervisor's answer makes no sense: {error}") from None


def decode_content(content: msgspec.Raw, kind: type[T]) -> T:
    """Return what an answer holds as JSON, which is to be of this ``kind``.

    Raises:
        RequestError: If it is not.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except MALFORMED as error:
        raise RequestError(0, Refusal.GARBAGE, f"the supervisor's answer makes no sense: {error}") from None


def decode_published(message: Sequence[bytes]) -> tuple[bytes, Happened | int]:
    """Return the topic of a message that was published, and the event in it; or the number of the latest one.

    Raises:
        RequestError: If it is no such message.
    """
    try:
        topic, data = message  # another number of frames is a ValueError
        return topic, _happened.decode(data) if topic == TOPIC else _numbers.decode(data)
    except (*MALFORMED, ValueError) as error:
        text = f"what the supervisor has published makes no sense: {error}"
        raise RequestError(0, Refusal.GARBAGE, text) from None


def _is(body: msgspec.Raw, decoder: msgspec.json.Decoder[Any]) -> bool:
    try:
        decoder.decode(body)
    except MALFORMED:
        return False
    return True
