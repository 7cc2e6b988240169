"""The messages of the control plane: what goes in comes out, and what makes no sense is refused with a reason."""

import msgspec
import pytest

from meshvisor.shared.control.requests import (
    MAX_REQUEST,
    VERSION,
    Accepted,
    Answer,
    GetStatus,
    Hello,
    Question,
    Refusal,
    Refused,
    RequestError,
    Shutdown,
    StatusReport,
    Traces,
    Welcome,
    Why,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)


@pytest.mark.parametrize("question", [Hello(), GetStatus(), Shutdown(), Why("a")])
def test_a_question_survives_its_way(question: Question) -> None:
    assert decode_request(encode_request(7, question, deadline=10.0), now=10.0) == (7, question, 10.0)


@pytest.mark.parametrize(
    "answer", [Welcome("demo", 12, "1.0"), Accepted(), Traces("File 1"), Refused(Refusal.LATE, "too late")]
)
def test_an_answer_survives_its_way(answer: Answer) -> None:
    reply = decode_reply(encode_reply(7, answer))
    assert (reply.version, reply.id, reply.body) == (VERSION, 7, answer)


def test_a_status_travels_as_the_json_it_is() -> None:
    reply = decode_reply(encode_reply(1, StatusReport(msgspec.Raw(b'{"mesh":"demo"}'))))
    assert isinstance(reply.body, StatusReport)
    assert bytes(reply.body.status) == b'{"mesh":"demo"}'


@pytest.mark.parametrize(
    ("data", "request_id", "why"),
    [
        (b"", 0, Refusal.GARBAGE),
        (b"\xff\x00", 0, Refusal.GARBAGE),
        (b"[" * 5000, 0, Refusal.GARBAGE),
        (b'{"version": 1}', 0, Refusal.GARBAGE),
        (b" " * (MAX_REQUEST + 1), 0, Refusal.GARBAGE),
        (b'{"version": 2, "id": 5, "deadline": 9.0, "body": {"type": "status"}}', 5, Refusal.VERSION),
        (b'{"version": 1, "id": 5, "deadline": 4.9, "body": {"type": "status"}}', 5, Refusal.LATE),
        (b'{"version": 1, "id": 5, "deadline": 9.0, "body": {"type": "reboot"}}', 5, Refusal.UNKNOWN),
        (b'{"version": 1, "id": 5, "deadline": 9.0, "body": []}', 5, Refusal.UNKNOWN),
    ],
    ids=["nothing", "bytes", "deep", "no-request", "too-long", "version", "late", "unknown", "no-table"],
)
def test_what_cannot_be_carried_out_is_refused(data: bytes, request_id: int, why: Refusal) -> None:
    with pytest.raises(RequestError) as caught:
        decode_request(data, now=5.0)
    assert (caught.value.id, caught.value.why) == (request_id, why)


def test_an_answer_that_makes_no_sense_is_an_error() -> None:
    with pytest.raises(RequestError, match="makes no sense"):
        decode_reply(b'{"version": 1, "id": 1, "body": {"type": "what"}}')
