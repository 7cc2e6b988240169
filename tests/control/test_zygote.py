"""The messages between a supervisor and a zygote: there and back, and what is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshvisor.shared.control.zygote import (
    FORK_DESCRIPTORS,
    MAX_PACKET,
    Check,
    Checked,
    Failed,
    Fork,
    Forked,
    FromZygote,
    Prepare,
    Prepared,
    ToZygote,
    ZygoteError,
    decode_from_zygote,
    decode_to_zygote,
    encode,
)

TO_ZYGOTE: list[ToZygote] = [
    Prepare("meshvisor zygote m", "/srv/m", ("json", "a.b")),
    Fork(1),
    Fork(2**32, is_spare=True),
    Check(),
]
FROM_ZYGOTE: list[FromZygote] = [
    Prepared(),
    Prepared({"a": "ValueError: no"}, 2, ("numpy",)),
    Forked(1, 4711),
    Failed(2, "cannot fork: Resource temporarily unavailable"),
    Checked(("/srv/m/a.py",)),
]


@pytest.mark.parametrize("message", TO_ZYGOTE, ids=repr)
def test_what_a_zygote_is_told_arrives_as_it_was(message: ToZygote) -> None:
    descriptors = FORK_DESCRIPTORS if isinstance(message, Fork) else 0
    assert decode_to_zygote(encode(message), descriptors) == message


@pytest.mark.parametrize("message", FROM_ZYGOTE, ids=repr)
def test_what_a_zygote_says_arrives_as_it_was(message: FromZygote) -> None:
    assert decode_from_zygote(encode(message)) == message


@pytest.mark.parametrize("message", TO_ZYGOTE, ids=repr)
@pytest.mark.parametrize("descriptors", range(5))
def test_descriptors_come_with_a_fork_and_with_nothing_else(message: ToZygote, descriptors: int) -> None:
    if descriptors == (FORK_DESCRIPTORS if isinstance(message, Fork) else 0):
        return
    with pytest.raises(ZygoteError, match=f"^{descriptors} descriptors came with a message that has [03]$"):
        decode_to_zygote(encode(message), descriptors)


@pytest.mark.parametrize("pid", [0, -1])
def test_a_fork_without_a_process_is_refused(pid: int) -> None:
    with pytest.raises(ZygoteError, match="is not a process"):
        decode_from_zygote(encode(Forked(1, pid)))


def test_neither_end_takes_the_words_of_the_other_for_its_own() -> None:
    for question in TO_ZYGOTE:
        with pytest.raises(ZygoteError):
            decode_from_zygote(encode(question))
    for answer in FROM_ZYGOTE:
        with pytest.raises(ZygoteError):
            decode_to_zygote(encode(answer), 0)


def test_a_packet_may_be_as_long_as_the_limit_and_no_longer() -> None:
    overhead = len(encode(Failed(1, "x" * 60_000))) - 60_000
    longest = Failed(1, "x" * (MAX_PACKET - overhead))
    assert decode_from_zygote(encode(longest)) == longest
    with pytest.raises(ZygoteError, match="65537 bytes"):
        encode(Failed(1, longest.text + "x"))
    with pytest.raises(ZygoteError, match="more than 65536 bytes"):
        decode_from_zygote(msgspec.msgpack.encode(["failed", 1, longest.text + "x"]))


@given(st.binary(max_size=64))
def test_garbage_is_refused_and_nothing_else_happens(packet: bytes) -> None:
    for decode in (decode_from_zygote, lambda packet: decode_to_zygote(packet, 0)):
        try:
            message = decode(packet)
        except ZygoteError:
            continue
        assert decode(encode(message)) == message
