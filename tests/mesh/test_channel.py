"""A channel whose socket cannot be written any more, while reading goes on."""

import asyncio
import errno
import socket
from typing import Any

from meshvisor.shared.core.frames import CONTROL_KINDS, Frame
from meshvisor.shared.mesh.channel import Channel, open_channel


class Owner:
    """Hears of the end."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def frames_arrived(self, channel: Channel, frames: list[Frame]) -> None: ...

    def bytes_arrived(self) -> None: ...

    def channel_writable(self, channel: Channel) -> None: ...

    def channel_lost(self, channel: Channel, reason: str, *, broken: bool) -> None:
        self.lost.set_result((reason, broken))


class Exhausted(socket.socket):
    """The kernel has no memory for what it is to send."""

    sends = 0

    def sendmsg(self, *_: Any) -> int:
        self.sends += 1
        raise OSError(errno.ENOBUFS, "No buffer space available")


class Way:
    """A stream over a socket that is read and written directly."""

    def __init__(self, one: socket.socket) -> None:
        self.socket = one

    def close(self) -> None:
        self.socket.close()


def test_what_the_kernel_refused_to_send_ends_the_channel_and_nothing_follows_the_gap() -> None:
    async def main() -> None:
        one, other = socket.socketpair()
        exhausted = Exhausted(fileno=one.detach())
        exhausted.setblocking(False)
        owner = Owner()
        way: Any = Way(exhausted)
        channel = open_channel(way, owner, CONTROL_KINDS, 1024, memoryview(bytearray(1024)))
        channel.start()
        channel.write([b"lost"])
        channel.write([b"after the gap"])
        assert await asyncio.wait_for(owner.lost, 5) == ("No buffer space available", False)
        assert exhausted.sends == 1
        channel.close()
        other.close()

    asyncio.run(main())
