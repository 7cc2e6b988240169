"""Targets: what supervisor, workers, zygotes and clients say to each other."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any

import msgspec
from tests.fuzz.mutation import Dice, bytewise, jsonwise, packwise
from tests.fuzz.target import Draw, Target, byte_by_byte, is_harmless, pieces, rule

from meshvisor.shared.control import lifeline, requests, zygote
from meshvisor.shared.control.lifeline import LifelineError
from meshvisor.shared.control.links import LinkStatus, LinkTotals
from meshvisor.shared.control.requests import RequestError
from meshvisor.shared.control.zygote import ZygoteError
from meshvisor.shared.core.roster import NodeRecord, NodeStatus, Roster
from meshvisor.shared.core.states import ConnectionState
from meshvisor.shared.errors import Fault, SegmentError
from meshvisor.shared.memory import handover
from meshvisor.supervisor.figures import MeshFigures
from meshvisor.supervisor.happenings import as_json, as_line
from meshvisor.supervisor.snapshot import MeshLinks, MeshStatus
from meshvisor.workers.lifeline import Lifeline

_NOW = 1000.0

# What clients ask, and what they are answered.

_QUESTIONS: tuple[requests.Question, ...] = (
    requests.Hello(),
    requests.GetStatus(),
    requests.GetLinks(),
    requests.GetFigures(each=True),
    requests.Shutdown(),
    requests.Why("counter-1"),
    requests.GetNames(),
    requests.GetEvents(),
    requests.Start(("a", "b")),
    requests.Stop(("a",), wait=False),
    requests.Restart(("a",), at_once=True),
    requests.Scale({"a": 3, "b": 0}),
    requests.Reload(dry_run=True),
)


def run_request(data: bytes) -> None:
    """Read a request as the supervisor does: a question, or a refusal that says why."""
    try:
        number, question, deadline = requests.decode_request(data, _NOW)
    except RequestError as refused:
        rule(refused.text and isinstance(refused.why, requests.Refusal), "a refusal without a reason")
        reply = requests.decode_reply(requests.encode_reply(refused.id, requests.Refused(refused.why, refused.text)))
        rule(reply.id == refused.id, "a refusal that cannot be told")
        return
    rule(len(data) <= requests.MAX_REQUEST and deadline >= _NOW, "a request that is too long, or too late")
    again = requests.encode_request(number, question, deadline)
    if deadline < float("inf"):
        rule(requests.decode_request(again, _NOW) == (number, question, deadline), "another request than was encoded")


def _request_seeds() -> list[bytes]:
    texts = [requests.encode_request(number, one, _NOW + 5) for number, one in enumerate(_QUESTIONS)]
    nested = b'{"version":1,"id":7,"deadline":2000,"body":' + b"[" * 5000
    return [*texts, texts[1].replace(b'"version":1', b'"version":2'), nested, b'{"id":1,"id":2,' + texts[1][1:]]


def run_reply(data: bytes) -> None:
    """Read a reply, and what is in it, as a client does."""
    with suppress(RequestError):
        reply = requests.decode_reply(data)
        _look_into(reply.body)
        if reply.version == requests.VERSION:
            rule(requests.decode_reply(requests.encode_reply(reply.id, reply.body)) == reply, "another reply")


def _look_into(answer: requests.Answer) -> None:
    kinds: list[tuple[msgspec.Raw, type]] = []
    if isinstance(answer, requests.StatusReport):
        kinds = [(answer.status, MeshStatus)]
    elif isinstance(answer, requests.LinksReport):
        kinds = [(answer.links, MeshLinks)]
    elif isinstance(answer, requests.FiguresReport):
        kinds = [(answer.figures, MeshFigures)]
    elif isinstance(answer, requests.EventLog):
        kinds = [(event, requests.Happened) for event in answer.events]
    for content, kind in kinds:
        rule(isinstance(requests.decode_content(content, kind), kind), "an answer of another kind")


def run_published(data: bytes) -> None:
    """Take in what the supervisor publishes, and show it as ``supervise events`` does."""
    topic, _, said = data.partition(b"|")
    message = [topic, said] if not data.startswith(b"+") else data.split(b"|")
    with suppress(RequestError):
        _, found = requests.decode_published(message)
        if isinstance(found, int):
            rule(found >= 0, "a number below 0")
            return
        line = as_line(found, colour=True)
        rule("\n" not in line and is_harmless(line), "a line that does something to the terminal")
        rule(as_json(found).count("\n") == 0, "an object of several lines")


def _published_seeds() -> list[bytes]:
    events = [
        requests.Happened(
            3,
            1.5,
            "slot-exited",
            "a",
            2,
            {
                "pid": 7,
                "cause": "hung",
                "code": None,
                "signal": "SIGKILL",
                "uptime": 3.0,
                "ready": True,
                "delay": 0.1,
                "next": "restart",
                "text": "x\x1b[2J",
                "tail": ["x"],
            },
        ),
        requests.Happened(4, 1.5e9, "limit-exceeded", "", 0, {"max_restarts": 5, "window": 10.0}),
        requests.Happened(5, 2.5, "zygote-died", "", 0, {"cwd": "/", "reason": "x", "tail": "a\nb", "delay": 0.5}),
        requests.Happened(6, 2.5, "code-changed", "", 0, {"files": ["/a", "/b"], "runs": False}),
    ]
    return [
        *(b"event|" + msgspec.json.encode(event) for event in events),
        b"event latest|7",
        b"sync 0123|" + b"9" * 19,
        b"event latest|-1",
        b"event|{}",
        b"event|7",
        b"|",
        b"event",
    ]


def _published_mutation(data: bytes, dice: Dice) -> bytes:
    topic, bar, said = data.partition(b"|")
    return topic + bar + jsonwise(said, dice) if dice.random() < 0.9 else bytewise(data, dice)


def _reply_seeds() -> list[bytes]:
    step = requests.Step("a", "ready", 3, 0.25)
    change = requests.KeyChange("workers.a.env.X", None, {"b": [1, 2.5, None]})
    happened = requests.Happened(3, 1.5, "slot-ready", "a", 2, {"pid": 7, "tail": ["x"]})
    answers: tuple[requests.Answer, ...] = (
        requests.Welcome("m", 7, "1.0"),
        requests.StatusReport(msgspec.Raw(b'{"mesh":"m","pid":1,"state":"running","uptime":1.5,"workers":[]}')),
        requests.LinksReport(msgspec.Raw(b'{"mesh":"m","pid":1,"uptime":1.5,"nodes":[]}')),
        requests.FiguresReport(msgspec.Raw(b"{}")),
        requests.Accepted(),
        requests.Traces("Thread 1\n"),
        requests.KnownNames({"a": ("a-0", "a-1")}),
        requests.EventLog((msgspec.Raw(msgspec.json.encode(happened)),)),
        step,
        requests.Done(1.5, (step,)),
        requests.Difference("f", added={"a": ("a",)}, replaced={"b": (change,)}, rescaled={"c": (1, 2)}),
        requests.Faulty("f", (Fault(1, "a.b", "is missing", None),)),
        requests.Refused(requests.Refusal.LATE, "too late"),
    )
    return [requests.encode_reply(number, one) for number, one in enumerate(answers)]


# The lifeline of a worker, from both ends.

_RECORDS = (
    NodeRecord("a", "a", 0, 3, 2**64 - 1, NodeStatus.READY, ("unix:/run/a.sock",)),
    NodeRecord("b-1", "b", 1, why="it was stopped", status=NodeStatus.GONE),
)


def _assignment(descriptors: tuple[str, ...] = ()) -> lifeline.Assignment:
    return lifeline.Assignment(
        "m",
        "a",
        "a",
        0,
        1,
        7,
        "x:Y",
        "/p",
        {"k": [1, {"z": None}]},
        ("unix:/s",),
        b"k" * 32,
        _RECORDS,
        limits={"nofile": 7},
        descriptors=descriptors,
    )


def _reserve(descriptors: tuple[str, ...] = ()) -> lifeline.Reserve:
    return lifeline.Reserve("~spare-1", 7, ("unix:/s",), b"k" * 32, _RECORDS, descriptors=descriptors)


_TO_WORKER: tuple[lifeline.ToWorker, ...] = (
    _assignment(),
    _reserve(),
    lifeline.RosterNews(_RECORDS),
    lifeline.LinksWanted(3, each=False),
    lifeline.Stop(),
    lifeline.HandOver(),
    lifeline.Begin(),
)
_FROM_WORKER: tuple[lifeline.FromWorker, ...] = (
    lifeline.Listening(("tcp:127.0.0.1:4500",)),
    lifeline.Prepared(),
    lifeline.Ready(),
    lifeline.Links(3, 4),
    lifeline.LinkReport(1, LinkTotals(1, 2), (LinkStatus("b", 1, ConnectionState.ESTABLISHED, 1.5, 0.001),)),
    lifeline.Failure("on_start", "Traceback ..."),
)

_Read = tuple[list[Any], str]


def _read(parts: Iterable[bytes], reader: lifeline.Reader[Any]) -> _Read:
    found: list[Any] = []
    try:
        for part in parts:
            found += reader.receive(part)
            rule(len(reader._buffer) <= 4 + lifeline.MAX_MESSAGE, "a reader keeps more than a message")
    except LifelineError as error:
        return [*found, *error.before], str(error)
    return found, ""


def _run_lifeline(make: Callable[[], lifeline.Reader[Any]]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        cuts, stream = Draw(data[:4]), data[4:]
        each = _read(byte_by_byte(stream), make())
        other = _read(pieces(stream, cuts), make())
        rule(each[1] == other[1], "cut in another way, it is wrong for another reason, or not at all")
        good, less = ([lifeline.encode(message) for message in read[0]] for read in (each, other))
        rule(good == less, "cut in another way, it says something else")
        again, fault = _read([b"".join(good)], make())
        rule(not fault and [lifeline.encode(message) for message in again] == good, "said again, it is something else")
        roster = Roster()
        for message in each[0]:
            if isinstance(message, lifeline.RosterNews | lifeline.Assignment | lifeline.Reserve):
                records = message.records if isinstance(message, lifeline.RosterNews) else message.roster
                roster.apply(records)
                rule(all(isinstance(one.status, NodeStatus) for one in roster), "a status that is none")
        rule(len(roster) <= len(stream), "a roster from nowhere")

    return run


def _lifeline_seeds(messages: tuple[Any, ...]) -> Callable[[], list[bytes]]:
    def make() -> list[bytes]:
        single = [lifeline.encode(message) for message in messages]
        odd = [(2**26 + 1).to_bytes(4, "big"), b"\xff" * 8, (4000).to_bytes(4, "big") + b"\x91" * 4000]
        return [b"\7\0\3\1" + said for said in (*single, b"".join(single), *odd)]

    return make


def _lifeline_mutation(data: bytes, dice: Dice) -> bytes:
    """Change one message; its length is that of what it has become."""
    head, stream = data[:4], data[4:]
    messages = []
    while len(stream) >= 4:
        end = 4 + int.from_bytes(stream[:4], "big")
        messages.append(stream[4:end])
        stream = stream[end:]
    if not messages or dice.random() < 0.15:
        return bytewise(data, dice)
    at = dice.randrange(len(messages))
    messages[at] = packwise(messages[at], dice)
    return head + b"".join(len(one).to_bytes(4, "big") + one for one in messages)


def run_first_word(data: bytes) -> None:
    """Hear the first word of a supervisor, with descriptors; none of those that came is left open by a failure."""
    draw = Draw(data)
    count, first, rest = draw.below(12), draw.below(200), draw.rest()
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with open(os.devnull, "rb") as null:
            if rest[:first]:
                socket.send_fds(theirs, [rest[:first]], [null.fileno()] * count)
        theirs.sendall(rest[first:])
        theirs.shutdown(socket.SHUT_WR)
        worker = Lifeline(ours)
        with suppress(LifelineError, EOFError):
            said = worker.receive_first()
            rule(tuple(worker.descriptors) == tuple(dict.fromkeys(said.descriptors)), "descriptors of other names")
            for descriptor in worker.descriptors.values():
                os.close(descriptor)
    rule(len(os.listdir("/proc/self/fd")) == before, "a descriptor is left open")


def _first_word_seeds() -> list[bytes]:
    names = ("blacklist", "wake", "board", "traces")
    said = [lifeline.encode(_assignment(names)), lifeline.encode(_reserve(names[:2]))]
    seeds = [bytes([count, 199]) + one for one, count in ((said[0], 4), (said[1], 2), (said[0], 3), (said[1], 9))]
    return [*seeds, bytes([0, 50]) + lifeline.encode(lifeline.Stop()), bytes([4, 1]) + said[0] + said[1]]


# Zygotes.

_TO_ZYGOTE: tuple[zygote.ToZygote, ...] = (
    zygote.Prepare("title", "/p", ("a.b",)),
    zygote.Fork(3, is_spare=True),
    zygote.Check(),
)
_FROM_ZYGOTE: tuple[zygote.FromZygote, ...] = (
    zygote.Prepared({"a": "ImportError"}, 1, ("b",)),
    zygote.Forked(3, 77),
    zygote.Failed(3, "no room"),
    zygote.Checked(("/a.py",)),
)


def run_zygote(data: bytes) -> None:
    """Read a packet at either end of a zygote's socket."""
    descriptors, packet = (data[0] % 5, data[1:]) if data else (0, b"")
    with suppress(ZygoteError):
        asked = zygote.decode_to_zygote(packet, descriptors)
        rule(descriptors == (zygote.FORK_DESCRIPTORS if isinstance(asked, zygote.Fork) else 0), "descriptors too many")
        rule(zygote.decode_to_zygote(zygote.encode(asked), descriptors) == asked, "another question")
    with suppress(ZygoteError):
        told = zygote.decode_from_zygote(packet)
        rule(not isinstance(told, zygote.Forked) or told.pid > 0, "a process that cannot be")
        rule(zygote.decode_from_zygote(zygote.encode(told)) == told, "another answer")


def _zygote_seeds() -> list[bytes]:
    both = (*_TO_ZYGOTE, *_FROM_ZYGOTE)
    return [bytes([3 if isinstance(one, zygote.Fork) else 0]) + zygote.encode(one) for one in both]


# Shared memory, handed over.


@cache
def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def run_greeting(data: bytes) -> None:
    """Read what attach.sock may send: descriptors, as they are named. (It reads nothing of what its clients send.)"""
    count, greeting = (data[0] % 10, data[1:512]) if data else (0, b"")
    ours, theirs = _pair()
    with open(os.devnull, "rb") as null:
        rights = array.array("i", [null.fileno()] * count)
        theirs.sendmsg([greeting or b"\n"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if count else [])
    said, descriptors = handover._receive(ours)
    try:
        with suppress(SegmentError):
            names = handover._names("attach.sock", said, len(descriptors))
            rule(len(set(names)) == len(names) == len(descriptors) == count, "names for other descriptors")
            rule(" ".join(["meshvisor 1", *names]).encode() + b"\n" == said, "other names than were said")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _greeting_seeds() -> list[bytes]:
    good = b"\2meshvisor 1 blacklist wake\n"
    return [good, b"\0meshvisor 1\n", b"\1meshvisor 999999999 board\n", b"\2meshvisor 1 wake wake\n", b"\x09" + good]


TARGETS = (
    Target("requests", "requests at the supervisor", run_request, _request_seeds, jsonwise, 70_000),
    Target("published", "events at a client", run_published, _published_seeds, _published_mutation),
    Target("replies", "replies at a client", run_reply, _reply_seeds, jsonwise),
    Target(
        "lifeline-worker",
        "a lifeline at the worker's end",
        _run_lifeline(lifeline.worker_end),
        _lifeline_seeds(_TO_WORKER),
        _lifeline_mutation,
    ),
    Target(
        "lifeline-supervisor",
        "a lifeline at the supervisor's end",
        _run_lifeline(lifeline.supervisor_end),
        _lifeline_seeds(_FROM_WORKER),
        _lifeline_mutation,
    ),
    Target("first-word", "the first word of a lifeline, with descriptors", run_first_word, _first_word_seeds),
    Target("zygote", "packets at both ends of a zygote's socket", run_zygote, _zygote_seeds, None),
    Target("greeting", "descriptors over attach.sock", run_greeting, _greeting_seeds),
)
