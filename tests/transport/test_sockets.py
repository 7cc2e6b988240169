"""Accepting goes on through a lack of descriptors, without spinning."""

import asyncio
import errno
import socket
from typing import Any

import pytest

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.transport.sockets import SocketListener
from meshvisor.workers.testing import run_virtual


class FailingSocket:
    """A listening socket whose ``accept`` fails with ``codes``, one after the other, and then works."""

    def __init__(self, codes: list[int]) -> None:
        self.codes = codes
        self.times: list[float] = []
        self.near, self.far = socket.socketpair()

    def fileno(self) -> int:
        return 1000

    def accept(self) -> tuple[socket.socket, Any]:
        self.times.append(round(asyncio.get_running_loop().time(), 6))
        if self.codes:
            raise OSError(self.codes.pop(0), "failed on purpose")
        return self.far, None

    def close(self) -> None:
        self.near.close()
        self.far.close()


def listener_over(sock: Any) -> SocketListener:
    return SocketListener(sock, Endpoint.parse("tcp:127.0.0.1:1"))


def test_a_lack_of_descriptors_is_waited_out_with_growing_pauses() -> None:
    # The pauses of memberlist's accept loop (reliability.md, accept-loop back-off).
    async def main() -> None:
        sock = FailingSocket([errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ECONNABORTED] + [errno.EMFILE] * 6)
        listener = listener_over(sock)
        stream = await listener.accept()
        pauses = [round(later - earlier, 3) for earlier, later in zip(sock.times, sock.times[1:], strict=False)]
        assert pauses == [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0]
        stream.close()
        listener.close()

    run_virtual(main())


def test_closing_the_listener_ends_a_pause_at_once() -> None:
    async def main() -> None:
        listener = listener_over(FailingSocket([errno.EMFILE] * 100))
        accepting = asyncio.create_task(listener.accept())
        await asyncio.sleep(4.2)
        listener.close()
        with pytest.raises(OSError, match="the listener is closed"):
            await accepting
        assert asyncio.get_running_loop().time() == pytest.approx(4.2)

    run_virtual(main())


def test_a_listening_socket_that_is_broken_ends_accepting() -> None:
    async def main() -> None:
        listener = listener_over(FailingSocket([errno.EINVAL]))
        with pytest.raises(OSError, match="failed on purpose"):
            await listener.accept()
        listener.close()

    run_virtual(main())
