"""The wire, byte by byte: layouts, limits before allocation, and every way in which a stream can be split."""

import struct
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshvisor.shared.core import frames
from meshvisor.shared.core.frames import (
    CONTROL_KINDS,
    DATA_KINDS,
    HANDSHAKE_LIMIT,
    HEADER_SIZE,
    LARGE,
    PREAMBLE_SIZE,
    Channel,
    Frame,
    FrameFault,
    FrameReader,
    HandshakeReader,
    Kind,
)

ID = bytes(range(16))
LIMIT = 4 * LARGE

SMALL_TRANSCRIPT = (
    frames.encode(Kind.SINGLE, b"one", count=1, number=1, ack=7)
    + frames.encode(Kind.SINGLE, b"", lane=1, count=1, number=1)
    + frames.encode(Kind.BATCH, b"\x92\xc4\x01a\xc4\x01b", count=2, number=2, ack=8)
)
SMALL_FRAMES = [
    Frame(Kind.SINGLE, 0, 1, 1, 7, b"one"),
    Frame(Kind.SINGLE, 1, 1, 1, 0, b""),
    Frame(Kind.BATCH, 0, 2, 2, 8, b"\x92\xc4\x01a\xc4\x01b"),
]

LARGE_BODY = bytes(range(256)) * (LARGE // 256) + b"!"
LARGE_TRANSCRIPT = (
    frames.encode(Kind.SINGLE, b"before", count=1, number=1)
    + frames.encode(Kind.SINGLE, LARGE_BODY, count=1, number=2)
    + frames.encode(Kind.SINGLE, b"x" * (LARGE - 1), count=1, number=3)
    + frames.encode(Kind.SINGLE, b"y" * LARGE, count=1, number=4)
    + frames.encode(Kind.SINGLE, b"after", count=1, number=5)
)
LARGE_FRAMES = [
    Frame(Kind.SINGLE, 0, 1, 1, 0, b"before"),
    Frame(Kind.SINGLE, 0, 1, 2, 0, LARGE_BODY),
    Frame(Kind.SINGLE, 0, 1, 3, 0, b"x" * (LARGE - 1)),
    Frame(Kind.SINGLE, 0, 1, 4, 0, b"y" * LARGE),
    Frame(Kind.SINGLE, 0, 1, 5, 0, b"after"),
]


def data_reader(limit: int = LIMIT) -> FrameReader:
    return FrameReader(DATA_KINDS, limit)


def feed(reader: FrameReader, pieces: Iterable[bytes]) -> list[Frame]:
    """Pass ``pieces`` on as a driver does: into the vacancy while there is one, through ``receive`` otherwise."""
    out: list[Frame] = []
    for piece in pieces:
        while piece:
            vacancy = reader.vacancy()
            if vacancy is None:
                out += reader.receive(piece)
                break
            part = min(len(piece), len(vacancy))
            vacancy[:part] = piece[:part]
            out += reader.filled(part)
            piece = piece[part:]
    return out


# Layouts.


def test_a_preamble_is_24_bytes_magic_version_channel_and_connection_id() -> None:
    assert frames.encode_preamble(Channel.DATA, ID) == b"MSHV\x01\x01\x00\x00" + ID
    assert PREAMBLE_SIZE == 24
    assert frames.decode_preamble(b"MSHV\x01\x00\x00\x00" + ID) == (Channel.CONTROL, ID)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n"[:24], "does not begin with b'MSHV'"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(13), "does not begin with b'MSHV'"),
        (bytes(24), "does not begin with b'MSHV'"),
        (b"VHSM\x01\x00\x00\x00" + ID, "does not begin with b'MSHV'"),
        (b"MSHV\x00\x00\x00\x00" + ID, "the peer speaks version 0 of the protocol, we speak 1"),
        (b"MSHV\x02\x00\x00\x00" + ID, "the peer speaks version 2 of the protocol, we speak 1"),
        (b"MSHV\xff\x00\x00\x00" + ID, "the peer speaks version 255 of the protocol, we speak 1"),
        (b"MSHV\x01\x02\x00\x00" + ID, "unknown channel 2"),
    ],
    ids=["http", "tls", "zeros", "byte-swapped", "older", "newer", "garbage", "channel"],
)
def test_a_stream_that_is_not_ours_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(FrameFault) as caught:
        frames.decode_preamble(data)
    assert why in str(caught.value)


def test_a_header_is_24_bytes_little_endian() -> None:
    expected = b"\x03\x00\x00\x00\x10\x01\x02\x00" + b"\x04" + bytes(7) + b"\x05" + bytes(7)
    assert frames.encode_header(3, Kind.BATCH, lane=1, count=2, number=4, ack=5) == expected
    assert frames.encode(Kind.BATCH, b"abc", lane=1, count=2, number=4, ack=5) == expected + b"abc"
    assert HEADER_SIZE == 24


def hello_reader(*, least: int = 0) -> HandshakeReader:
    reader = HandshakeReader()
    reader.expect(frozenset({Kind.HELLO}), least)
    return reader


@pytest.mark.parametrize("step", [1, 7, 24, 100])
def test_a_handshake_is_cut_exactly_however_it_is_split(step: int) -> None:
    said = frames.encode_preamble(Channel.CONTROL, ID) + frames.encode(Kind.HELLO, b"hello") + frames.encode(Kind.PROOF)
    reader, at, pieces = HandshakeReader(), 0, []
    while at < len(said):
        part = said[at : at + min(step, reader.lacking)]
        at += len(part)
        piece = reader.receive(part)
        if piece is not None:
            pieces.append((reader.kind, piece))
            assert reader.lacking == 0
            reader.expect(frozenset({Kind.HELLO, Kind.PROOF}))
    assert pieces == [(0, said[:PREAMBLE_SIZE]), (Kind.HELLO, b"hello"), (Kind.PROOF, b"")]


@pytest.mark.parametrize("step", [1, 30, 100])
def test_a_frame_is_read_together_with_as_much_of_its_body_as_it_has_for_sure(step: int) -> None:
    said = frames.encode(Kind.HELLO, b"0123456789")
    reader, at, piece = hello_reader(least=4), 0, None
    while piece is None:
        part = said[at : at + min(step, reader.lacking)]
        at += len(part)
        piece = reader.receive(part)
    assert (piece, reader.lacking) == (b"0123456789", 0)


def test_what_follows_a_frame_that_is_shorter_than_it_can_be_is_no_part_of_a_handshake() -> None:
    with pytest.raises(FrameFault, match="more came than was due"):
        hello_reader(least=4).receive(frames.encode(Kind.HELLO, b"ab") + b"cd")


def test_a_handshake_that_ends_early_is_told_from_a_piece_that_is_not_there_yet() -> None:
    reader = hello_reader()
    assert reader.receive(frames.encode(Kind.HELLO, b"hello")[:10]) is None
    with pytest.raises(EOFError):
        reader.receive(b"")


@pytest.mark.parametrize("length", [HANDSHAKE_LIMIT + 1, 2**31 - 1, 2**32 - 1])
def test_a_header_that_announces_too_much_is_refused_before_anything_is_allocated(length: int) -> None:
    with pytest.raises(FrameFault, match=f"a frame of {length} bytes is longer than the 4096 allowed here"):
        hello_reader().receive(frames.encode_header(length, Kind.HELLO))


def test_a_header_of_a_kind_or_lane_that_has_no_place_is_refused() -> None:
    with pytest.raises(FrameFault, match="kind 3 has no place here"):
        hello_reader().receive(frames.encode_header(0, Kind.PROOF))
    with pytest.raises(FrameFault, match="there is no lane 2"):
        hello_reader().receive(frames.encode_header(0, Kind.HELLO, lane=2))


def test_the_numbers_of_the_kinds_are_the_protocol() -> None:
    assert {kind.name: int(kind) for kind in Kind} == {
        "HELLO": 1, "WELCOME": 2, "PROOF": 3, "ACCEPT": 4, "REFUSE": 5, "BIND": 6,
        "BATCH": 16, "SINGLE": 17, "PING": 32, "PONG": 33, "ACK": 34, "GOODBYE": 35,
    }  # fmt: skip


# Splits.


@pytest.mark.parametrize("step", range(1, len(SMALL_TRANSCRIPT) + 1))
def test_pieces_of_any_size_give_the_same_frames(step: int) -> None:
    reader = data_reader()
    pieces = [SMALL_TRANSCRIPT[at : at + step] for at in range(0, len(SMALL_TRANSCRIPT), step)]
    assert feed(reader, pieces) == SMALL_FRAMES
    assert reader.fault is None


def test_one_cut_anywhere_gives_the_same_frames() -> None:
    for cut in range(len(SMALL_TRANSCRIPT) + 1):
        assert feed(data_reader(), [SMALL_TRANSCRIPT[:cut], SMALL_TRANSCRIPT[cut:]]) == SMALL_FRAMES


@given(st.lists(st.integers(0, len(LARGE_TRANSCRIPT)), max_size=8), st.booleans())
def test_large_bodies_give_the_same_frames_however_they_are_split(cuts: list[int], through_vacancy: bool) -> None:
    edges = [0, *sorted(cuts), len(LARGE_TRANSCRIPT)]
    pieces = [LARGE_TRANSCRIPT[start:end] for start, end in pairwise(edges)]
    reader = data_reader()
    out = feed(reader, pieces) if through_vacancy else [frame for piece in pieces for frame in reader.receive(piece)]
    assert out == LARGE_FRAMES
    assert reader.vacancy() is None


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_buffer_is_taken_and_nothing_of_it_is_kept(
    kind: type[bytes] | type[bytearray] | type[memoryview],
) -> None:
    scratch = bytearray(SMALL_TRANSCRIPT)
    reader = data_reader()
    out = reader.receive(kind(scratch)[:-1])
    scratch[:-1] = bytes(len(scratch) - 1)
    out += reader.receive(SMALL_TRANSCRIPT[-1:])
    assert out == SMALL_FRAMES


def test_a_body_from_64_kib_on_is_a_bytearray_of_the_receivers_own_and_a_smaller_one_bytes() -> None:
    below, at = (
        data_reader().receive(frames.encode(Kind.SINGLE, bytes(size), count=1, number=1))[0].body
        for size in (LARGE - 1, LARGE)
    )
    assert type(below) is bytes
    assert type(at) is bytearray


def test_the_rest_of_a_large_body_is_received_in_place() -> None:
    reader = data_reader()
    assert reader.receive(frames.encode_header(LARGE, Kind.SINGLE, count=1, number=1) + b"ab") == []
    vacancy = reader.vacancy()
    assert vacancy is not None
    assert len(vacancy) == LARGE - 2
    assert reader.filled(0) == []
    vacancy[:] = b"c" * (LARGE - 2)
    (frame,) = reader.filled(LARGE - 2)
    assert frame.body == b"ab" + b"c" * (LARGE - 2)
    assert frame.body is vacancy.obj
    assert reader.vacancy() is None


# Limits and faults.


@pytest.mark.parametrize("length", [1001, 2**31 - 1, 2**32 - 1])
def test_a_length_over_the_limit_is_a_fault_before_anything_is_allocated(length: int) -> None:
    reader = data_reader(limit=1000)
    assert reader.receive(frames.encode_header(length, Kind.SINGLE, count=1, number=1)) == []
    assert reader.fault == f"a frame of {length} bytes is longer than the 1000 allowed here"
    assert reader.vacancy() is None


def test_a_header_by_itself_is_that_of_the_whole_frame() -> None:
    assert frames.encode_header(3, Kind.PING) == frames.encode(Kind.PING, b"abc")[:HEADER_SIZE]


def test_a_length_up_to_the_limit_is_not_what_is_wrong_with_a_frame() -> None:
    reader = data_reader(limit=1000)
    reader.receive(frames.encode_header(1000, Kind.SINGLE, lane=9, count=1, number=1))
    assert reader.fault == "there is no lane 9"


@pytest.mark.parametrize("length", [0, 1, 1000])
def test_a_length_up_to_the_limit_is_taken(length: int) -> None:
    reader = data_reader(limit=1000)
    (frame,) = reader.receive(frames.encode(Kind.SINGLE, b"x" * length, count=1, number=1))
    assert frame.body == b"x" * length
    assert reader.fault is None


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (frames.encode_header(0, 0), "a frame of kind 0 has no place here"),
        (frames.encode_header(0, 255), "a frame of kind 255 has no place here"),
        (frames.encode_header(0, Kind.HELLO), "a frame of kind 1 has no place here"),
        (frames.encode_header(0, Kind.ACK), "a frame of kind 34 has no place here"),
        (frames.encode_header(0, Kind.SINGLE, lane=2), "there is no lane 2"),
        (frames.encode_header(0, Kind.SINGLE, lane=255), "there is no lane 255"),
        (struct.pack("<24s", b"GET / HTTP/1.1\r\nHost: x\r\n"), "has no place here"),
    ],
    ids=["zero", "unknown", "handshake", "control", "lane", "last lane", "http"],
)
def test_the_good_frames_before_a_fault_are_returned_and_what_follows_is_ignored(bad: bytes, why: str) -> None:
    reader = data_reader()
    assert reader.receive(SMALL_TRANSCRIPT + bad + SMALL_TRANSCRIPT) == SMALL_FRAMES
    assert reader.fault is not None
    assert why in reader.fault
    assert reader.receive(SMALL_TRANSCRIPT) == []


def test_a_fault_is_found_at_the_header_without_waiting_for_the_body() -> None:
    reader = FrameReader(CONTROL_KINDS, 100)
    assert reader.receive(frames.encode_header(100, Kind.PING)) == []
    assert reader.fault is None
    reader = FrameReader(CONTROL_KINDS, 100)
    assert reader.receive(frames.encode_header(100, Kind.SINGLE)) == []
    assert reader.fault is not None


@given(st.binary(max_size=200))
def test_garbage_never_raises(garbage: bytes) -> None:
    whole, bytewise = data_reader(1000), data_reader(1000)
    expected = whole.receive(garbage)
    assert [frame for at in range(len(garbage)) for frame in bytewise.receive(garbage[at : at + 1])] == expected
    assert bytewise.fault == whole.fault


@given(
    st.lists(
        st.builds(
            Frame,
            st.sampled_from(sorted(DATA_KINDS)),
            st.integers(0, 1),
            st.integers(0, 2**16 - 1),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**64 - 1),
            st.binary(max_size=50),
        ),
        max_size=5,
    )
)
def test_what_was_encoded_is_what_is_decoded(sent: list[Frame]) -> None:
    stream = b"".join(
        frames.encode(f.kind, bytes(f.body), lane=f.lane, count=f.messages, number=f.number, ack=f.ack) for f in sent
    )
    assert data_reader().receive(stream) == sent
