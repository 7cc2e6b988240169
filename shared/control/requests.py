"""What clients ask the supervisor of a running mesh, and what it answers.

A request is one JSON text in one ZeroMQ message, from a DEALER to the supervisor's ROUTER, and so is its reply:

    {"version": 1, "id": 7, "deadline": 5123.25, "body": {"type": "status"}}
    {"version": 1, "id": 7, "body": {"type": "status", "status": {...}}}

``id`` is the client's and comes back in the reply (0: the request's could not be read). After ``deadline`` (seconds of
the system's monotonic clock, which all processes of a machine share) a request is answered with ``late`` and nothing
is done: a client that gave up must not be obeyed later. The envelope is the same in every version.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ..errors import MeshError

VERSION = 1
MAX_REQUEST = 65_536
"""The longest request that is read, in bytes."""


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


Question = Hello | GetStatus | GetLinks | GetFigures | Shutdown | Why
Answer = Welcome | StatusReport | LinksReport | FiguresReport | Accepted | Traces | Refused


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
    """The envelope of an answer."""

    version: int
    id: int
    body: Answer


_envelopes = msgspec.json.Decoder(Request)
_questions: msgspec.json.Decoder[Question] = msgspec.json.Decoder(Question)
_replies = msgspec.json.Decoder(Reply)


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
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(0, Refusal.GARBAGE, f"not a request: {error}") from None
    if request.version != VERSION:
        text = f"this supervisor speaks version {VERSION} of the control protocol, not {request.version}"
        raise RequestError(request.id, Refusal.VERSION, text)
    if not now <= request.deadline:
        raise RequestError(request.id, Refusal.LATE, "the request arrived after its deadline")
    try:
        return request.id, _questions.decode(request.body), request.deadline
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(request.id, Refusal.UNKNOWN, f"no such request: {error}") from None


def encode_reply(request: int, answer: Answer) -> bytes:
    """Return the message for ``answer`` to the request of that number."""
    return msgspec.json.encode(Reply(VERSION, request, answer))


def decode_reply(data: bytes) -> Reply:
    """Return the reply in a message.

    Raises:
        RequestError: If it is none, or one of another version.
    """
    try:
        reply = _replies.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(0, Refusal.GARBAGE, f"the supervisor's answer makes no sense: {error}") from None
    return reply
