"""What the kernel says about the machine's network, as bytes; and the socket that says it."""

import asyncio
import socket
import struct

import pytest

from meshvisor.shared.mesh.network import NetworkMonitor, changes


def message(kind: int, body: bytes = b"") -> bytes:
    length = 16 + len(body)
    return struct.pack("=IHHII", length, kind, 0, 0, 0) + body + bytes(-length % 4)


def test_each_kind_of_change_is_told_once() -> None:
    data = message(16, b"abc") + message(20) + message(16) + message(3) + message(21) + message(17)
    assert changes(data) == [
        "a network interface changed",
        "an address was added",
        "an address went away",
        "a network interface went away",
    ]


@pytest.mark.parametrize("data", [b"", b"short", bytes(64), struct.pack("=IHHII", 4, 16, 0, 0, 0), b"\xff" * 40])
def test_nonsense_is_no_change_and_no_endless_loop(data: bytes) -> None:
    assert changes(data) == []


def test_a_change_is_read_from_the_socket_and_the_end_leaves_nothing() -> None:
    async def main() -> None:
        heard: list[str] = []
        monitor = NetworkMonitor(heard.append)
        monitor.start()
        monitor.start()
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        if monitor._socket is not None:
            asyncio.get_running_loop().remove_reader(monitor._socket.fileno())
            monitor._socket.close()
        monitor._socket = near
        monitor._read()
        far.send(message(20))
        monitor._read()
        assert heard == ["an address was added"]
        monitor.close()
        monitor.close()
        assert near.fileno() == -1
        far.close()

    asyncio.run(main())


def test_where_netlink_cannot_be_had_it_stays_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> socket.socket:
        raise PermissionError(1, "no netlink in here")

    async def main() -> None:
        monitor = NetworkMonitor(lambda change: None)
        with monkeypatch.context() as patched:
            patched.setattr("meshvisor.shared.mesh.network.socket.socket", refused)
            monitor.start()
        monitor.close()

    asyncio.run(main())
