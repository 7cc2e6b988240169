"""A lifeline's messages: their bytes, every way to split them, and what is refused."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshvisor.shared.control import lifeline
from meshvisor.shared.control.lifeline import (
    MAX_MESSAGE,
    MAX_REPORT,
    MAX_TRACEBACK,
    Assignment,
    Begin,
    Failure,
    FromWorker,
    HandOver,
    LifelineError,
    LinkReport,
    Links,
    LinksWanted,
    Listening,
    Prepared,
    Reader,
    Ready,
    Reserve,
    RosterNews,
    Stop,
    ToWorker,
    encode,
    failure,
    supervisor_end,
    worker_end,
)
from meshvisor.shared.control.links import LinkStatus, LinkTotals
from meshvisor.shared.core.roster import NodeRecord, NodeStatus
from meshvisor.shared.core.states import ConnectionState

RECORD = NodeRecord("counter-1", "counter", 1, 2, 2**64 - 1, NodeStatus.READY, ("unix:/run/c.sock",), "")

ASSIGNMENT = Assignment(
    mesh="wordcount",
    name="counter-1",
    group="counter",
    replica=1,
    incarnation=2,
    epoch=2**64 - 1,
    class_path="wordcount:Counter",
    path="/srv/wordcount",
    settings={"top": 20, "words": ["a", None, 1.5], "deep": {"er": True}},
    listen=("unix:/run/c.sock",),
    secret=bytes(range(32)),
    roster=(RECORD,),
)

RESERVE = Reserve("~spare-1", 2**64 - 1, ("unix:/run/~spare-1.sock",), bytes(32), (RECORD,), descriptors=("board",))

LINK = LinkStatus("counter-2", 1, ConnectionState.DEGRADED, 1.5, 0.001, failure="broken", failed=2.5)

TO_WORKER: list[ToWorker] = [
    ASSIGNMENT,
    RESERVE,
    RosterNews((RECORD,)),
    RosterNews(()),
    LinksWanted(7),
    Stop(),
    HandOver(),
    Begin(),
]
FROM_WORKER: list[FromWorker] = [
    Listening(("unix:/run/c.sock", "tcp:127.0.0.1:4500")),
    Links(3, 15),
    Prepared(),
    Ready(),
    LinkReport(7, LinkTotals(1, 2, 3, 4, 5, 6, 7), (LINK, LINK)),
    Failure("on_start", "Traceback (most recent call last):\n  \N{SNOWMAN}\nValueError: no"),
]


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def packed(*fields: Any) -> bytes:
    return framed(msgspec.msgpack.encode(list(fields)))


def test_a_message_is_its_length_and_an_array_that_begins_with_its_type() -> None:
    assert encode(Ready()) == b"\x00\x00\x00\x07\x91\xa5ready"
    assert encode(Links(3, 15)) == b"\x00\x00\x00\x09\x93\xa5links\x03\x0f"
    assert encode(Stop()) == b"\x00\x00\x00\x06\x91\xa4stop"


@pytest.mark.parametrize("message", TO_WORKER, ids=lambda message: type(message).__name__)
def test_what_the_supervisor_says_arrives_at_the_worker(message: ToWorker) -> None:
    assert worker_end().receive(encode(message)) == [message]


@pytest.mark.parametrize("message", FROM_WORKER, ids=lambda message: type(message).__name__)
def test_what_a_worker_says_arrives_at_the_supervisor(message: FromWorker) -> None:
    assert supervisor_end().receive(encode(message)) == [message]


def test_an_assignment_without_its_optional_fields_has_their_defaults() -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(ASSIGNMENT))
    assert worker_end().receive(packed(*fields[:13])) == [ASSIGNMENT]


@settings(derandomize=True, deadline=None, database=None)
@given(st.data())
def test_messages_are_the_same_however_the_stream_is_split(data: st.DataObject) -> None:
    stream = b"".join(map(encode, TO_WORKER))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    reader, out = worker_end(), list[ToWorker]()
    for start, end in pairwise([0, *sorted(cuts), len(stream)]):
        out += reader.receive(stream[start:end])
    assert out == TO_WORKER


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 7])
def test_pieces_of_a_few_bytes_give_the_same_messages(step: int) -> None:
    stream = b"".join(map(encode, FROM_WORKER))
    reader, out = supervisor_end(), list[FromWorker]()
    for at in range(0, len(stream), step):
        out += reader.receive(stream[at : at + step])
    assert out == FROM_WORKER


def test_nothing_gives_nothing() -> None:
    assert supervisor_end().receive(b"") == []


@pytest.mark.parametrize(
    ("end", "length"),
    [
        (worker_end, MAX_MESSAGE + 1),
        (supervisor_end, MAX_REPORT + 1),
        (supervisor_end, 2**31 - 1),
        (supervisor_end, 2**32 - 1),
    ],
)
def test_a_length_over_the_limit_is_refused_before_anything_of_it_has_come(
    end: Callable[[], Reader[Any]], length: int
) -> None:
    with pytest.raises(LifelineError, match=f"a message of {length} bytes"):
        end().receive(length.to_bytes(4, "big"))


def test_a_length_at_the_limit_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_end().receive(MAX_MESSAGE.to_bytes(4, "big")) == []
    assert supervisor_end().receive(MAX_REPORT.to_bytes(4, "big")) == []
    monkeypatch.setattr(lifeline, "MAX_REPORT", 7)
    assert supervisor_end().receive(encode(Ready())) == [Ready()]
    with pytest.raises(LifelineError, match="a message of 9 bytes"):
        supervisor_end().receive(encode(Links(3, 15)))


REFUSED = {
    "an empty message": framed(b""),
    "garbage": framed(b"\xc1\xc1\xc1"),
    "an unknown type": packed("reboot"),
    "no type": framed(b"\x90"),
    "a type that is no text": packed(7),
    "a map": framed(msgspec.msgpack.encode({"type": "ready"})),
    "a missing field": packed("links", 3),
    "a field of another type": packed("links", "3", 15),
    "text that is not UTF-8": framed(b"\x93\xa7failure\xa1\xff\xa1a"),
    "a message cut short": framed(encode(Links(3, 15))[4:-1]),
    "a message and something after it": framed(encode(Ready())[4:] + b"\x00"),
    "nesting without end": framed(b"\x91" * 60_000),
    "nesting without end after the last field": framed(b"\x92\xa5ready" + b"\x91" * 60_000),
    "what the other side says": encode(Stop()),
}


@pytest.mark.parametrize("stream", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_a_message_of_a_worker_is_refused(stream: bytes) -> None:
    with pytest.raises(LifelineError, match="not a lifeline message"):
        supervisor_end().receive(stream)


@pytest.mark.parametrize("stream", [encode(Ready()), packed("assignment", 1), packed("roster", [["a"]])])
def test_what_is_not_a_message_of_a_supervisor_is_refused(stream: bytes) -> None:
    with pytest.raises(LifelineError, match="not a lifeline message"):
        worker_end().receive(stream)


def test_settings_nested_without_end_are_refused() -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(ASSIGNMENT))
    head = msgspec.msgpack.encode(fields[:9])[1:]
    with pytest.raises(LifelineError, match="not a lifeline message"):
        worker_end().receive(framed(b"\x9d" + head + b"\x81\xa1a" + b"\x91" * 60_000))


@given(st.binary(max_size=60), st.sampled_from([worker_end, supervisor_end]))
@settings(derandomize=True, deadline=None, database=None)
def test_garbage_is_refused_or_waited_for_and_nothing_else(garbage: bytes, end: Callable[[], Reader[Any]]) -> None:
    for stream in (garbage, framed(garbage)):
        try:
            end().receive(stream)
        except LifelineError:
            continue


def test_what_comes_with_one_that_is_refused_is_not_lost_with_it() -> None:
    with pytest.raises(LifelineError) as caught:
        supervisor_end().receive(encode(Ready()) + encode(Links(1, 2)) + packed("reboot") + encode(Ready()))
    assert caught.value.before == (Ready(), Links(1, 2))


def test_after_one_that_is_refused_nothing_is_taken_any_more() -> None:
    reader = supervisor_end()
    for data in (packed("reboot"), encode(Ready()), b""):
        with pytest.raises(LifelineError, match="not a lifeline message"):
            reader.receive(data)


def test_a_failure_can_be_told_however_long_its_traceback_is_and_whatever_is_in_it() -> None:
    """A lone surrogate, as in a file's name that is no UTF-8, cannot be encoded; ten megabytes are not accepted."""
    told = failure("run", "Traceback\n" + "x" * 10_000_000 + "\nOSError: a\udcff")
    (heard,) = supervisor_end().receive(encode(told))
    assert isinstance(heard, Failure)
    assert heard.traceback.startswith("Traceback\nxxx")
    assert heard.traceback.endswith("xxx\nOSError: a\\udcff")
    assert len(heard.traceback) < MAX_TRACEBACK + 100
    assert failure("run", "short") == Failure("run", "short")


def test_what_a_worker_is_told_is_shown_without_secrets() -> None:
    assert repr(ASSIGNMENT) == "Assignment(name='counter-1', incarnation=2)"
    assert repr(RESERVE) == "Reserve(name='~spare-1')"
