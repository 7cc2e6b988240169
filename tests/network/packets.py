"""As much of IPv4 (RFC 791) and TCP (RFC 9293) as it takes to tell connections apart, and to reset one."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

_TCP = 6
_SYN, _RST, _ACK = 0x02, 0x04, 0x10
_IP = struct.Struct("!BBHHHBBH4s4s")
_HEADER = struct.Struct("!HHIIBBHHH")


class End(NamedTuple):
    """One end of a connection."""

    address: bytes
    port: int


Flow = frozenset[End]
"""Both ends of a connection, whichever of them speaks."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What of a TCP segment matters here."""

    source: End
    target: End
    number: int
    ack: int
    flags: int

    @property
    def flow(self) -> Flow:
        """The connection that it belongs to."""
        return frozenset((self.source, self.target))

    @property
    def begins(self) -> bool:
        """Whether it opens a connection (the first segment of the side that dials)."""
        return self.flags & (_SYN | _ACK) == _SYN

    @property
    def is_reset(self) -> bool:
        """Whether it ends a connection at once."""
        return bool(self.flags & _RST)


def segment_of(packet: bytes) -> Segment | None:
    """Return the TCP segment in an IPv4 packet; None if it holds something else."""
    if len(packet) < _IP.size or packet[0] >> 4 != 4:
        return None
    start = (packet[0] & 15) * 4
    if packet[9] != _TCP or len(packet) < start + _HEADER.size:
        return None
    source, target, number, ack, _, flags, *_ = _HEADER.unpack_from(packet, start)
    return Segment(End(packet[12:16], source), End(packet[16:20], target), number, ack, flags)


def reset_for(segment: Segment) -> bytes | None:
    """Return the packet by which a firewall refuses ``segment`` of a connection it does not know, to the sender.

    Its number is the one that the sender expects next, or it would be ignored (RFC 5961, section 3.2). A segment that
    acknowledges nothing tells no such number, and a reset is never answered: None.
    """
    if segment.is_reset or not segment.flags & _ACK:
        return None
    source, target = segment.target, segment.source
    body = _HEADER.pack(source.port, target.port, segment.ack, 0, 5 << 4, _RST, 0, 0, 0)
    pseudo = source.address + target.address + struct.pack("!BBH", 0, _TCP, len(body))
    body = body[:16] + struct.pack("!H", checksum(pseudo + body)) + body[18:]
    fields = (0x45, 0, _IP.size + len(body), 0, 0, 64, _TCP)
    header = _IP.pack(*fields, 0, source.address, target.address)
    return _IP.pack(*fields, checksum(header), source.address, target.address) + body


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of ``data``."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
