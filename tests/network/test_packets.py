"""Segments told apart, and the reset that a firewall answers with, in bytes."""

import struct

import pytest
from tests.network.packets import End, Segment, checksum, reset_for, segment_of

MANAGER, HOST = End(bytes([10, 77, 0, 1]), 40000), End(bytes([10, 77, 0, 2]), 4500)
SYN, RST, ACK = 0x02, 0x04, 0x10


def packet(flags: int, *, number: int = 7, ack: int = 9, protocol: int = 6) -> bytes:
    """Return what the manager says to the host, without checksums."""
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, protocol, 0, MANAGER.address, HOST.address)
    return header + struct.pack("!HHIIBBHHH", MANAGER.port, HOST.port, number, ack, 5 << 4, flags, 1024, 0, 0)


def test_a_segment_is_who_says_it_to_whom_and_where_both_are() -> None:
    segment = segment_of(packet(ACK, number=1234, ack=5678))

    assert segment == Segment(MANAGER, HOST, 1234, 5678, ACK)


@pytest.mark.parametrize("other", [b"", bytes(40), packet(ACK, protocol=17), packet(ACK)[:39], b"\x60" + bytes(60)])
def test_what_is_no_tcp_over_ipv4_is_none(other: bytes) -> None:
    assert segment_of(other) is None


def test_both_directions_are_one_flow_and_another_port_is_another() -> None:
    there, back = Segment(MANAGER, HOST, 1, 1, ACK), Segment(HOST, MANAGER, 1, 1, ACK)

    assert there.flow == back.flow
    assert there.flow != Segment(MANAGER._replace(port=40001), HOST, 1, 1, ACK).flow


def test_only_the_first_segment_of_the_side_that_dials_begins_a_connection() -> None:
    assert Segment(MANAGER, HOST, 1, 0, SYN).begins
    assert not Segment(HOST, MANAGER, 1, 2, SYN | ACK).begins
    assert not Segment(MANAGER, HOST, 2, 2, ACK).begins


def test_a_reset_comes_from_the_other_end_with_the_number_that_the_sender_expects() -> None:
    segment = segment_of(packet(ACK, number=1234, ack=5678))
    assert segment is not None

    reset = reset_for(segment)

    assert reset is not None
    assert segment_of(reset) == Segment(HOST, MANAGER, 5678, 0, RST)
    assert checksum(reset[:20]) == 0
    assert checksum(HOST.address + MANAGER.address + struct.pack("!BBH", 0, 6, 20) + reset[20:]) == 0


def test_a_reset_is_not_answered_and_neither_is_what_acknowledges_nothing() -> None:
    assert reset_for(Segment(MANAGER, HOST, 1, 1, RST | ACK)) is None
    assert reset_for(Segment(MANAGER, HOST, 1, 0, SYN)) is None


def test_the_checksum_is_that_of_the_rfc() -> None:
    """RFC 1071, section 3: the sum of this is ddf2."""
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2 ^ 0xFFFF
    assert checksum(b"\x12\x34\x56") == (0x1234 + 0x5600) ^ 0xFFFF
