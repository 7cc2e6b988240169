"""What only Unix sockets have: files, users, and a queue that says EAGAIN."""

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.transport import unix
from meshvisor.shared.transport.base import TransportOptions
from meshvisor.shared.transport.unix import UnixTransportAdapter

OPTIONS = TransportOptions("node-a")


def at(path: Path) -> Endpoint:
    return Endpoint.parse(f"unix:{path}")


def leave_stale_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))


def test_the_file_is_the_users_own_and_gone_after_close(tmp_path: Path) -> None:
    async def main() -> None:
        listener = await UnixTransportAdapter().listen(at(tmp_path / "a.sock"), OPTIONS)
        assert os.listdir(tmp_path) == ["a.sock"]
        assert stat.S_IMODE((tmp_path / "a.sock").stat().st_mode) == 0o600
        listener.close()
        assert os.listdir(tmp_path) == []

    asyncio.run(main())


@pytest.mark.parametrize("name", ["s" * 250, "counter-0.1.sock"])
def test_a_path_may_be_longer_than_a_socket_address(tmp_path: Path, name: str) -> None:
    directory = tmp_path / ("d" * 200)
    directory.mkdir()

    async def main() -> None:
        adapter = UnixTransportAdapter()
        listener = await adapter.listen(at(directory / name), OPTIONS)
        connection = await adapter.connect(listener.endpoint, OPTIONS)
        accepted = [await listener.accept(), await listener.accept()]
        connection.close()
        for stream in accepted:
            stream.close()
        listener.close()

    asyncio.run(main())


def test_the_file_of_a_dead_listener_is_replaced(tmp_path: Path) -> None:
    leave_stale_socket(tmp_path / "a.sock")

    async def main() -> None:
        adapter = UnixTransportAdapter()
        listener = await adapter.listen(at(tmp_path / "a.sock"), OPTIONS)
        (await adapter.connect(listener.endpoint, OPTIONS)).close()
        listener.close()

    asyncio.run(main())
    assert os.listdir(tmp_path) == []


def test_a_live_listener_is_not_replaced_and_a_plain_file_neither(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("mine")

    async def main() -> None:
        adapter = UnixTransportAdapter()
        listener = await adapter.listen(at(tmp_path / "a.sock"), OPTIONS)
        for name in ("a.sock", "plain"):
            with pytest.raises(OSError, match="Address already in use") as caught:
                await adapter.listen(at(tmp_path / name), OPTIONS)
            assert caught.value.filename == str(tmp_path / name)
        (await adapter.connect(listener.endpoint, OPTIONS)).close()
        listener.close()

    asyncio.run(main())
    assert (tmp_path / "plain").read_text() == "mine"
    assert os.listdir(tmp_path) == ["plain"]


def test_of_many_that_replace_one_dead_listener_exactly_one_wins(tmp_path: Path) -> None:
    leave_stale_socket(tmp_path / "a.sock")

    async def main() -> None:
        adapter = UnixTransportAdapter()
        attempts = [adapter.listen(at(tmp_path / "a.sock"), OPTIONS) for _ in range(8)]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        winners = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(winners) == 1
        (await adapter.connect(at(tmp_path / "a.sock"), OPTIONS)).close()
        winners[0].close()

    asyncio.run(main())


def test_close_leaves_the_file_of_another_listener_alone(tmp_path: Path) -> None:
    async def main() -> None:
        adapter = UnixTransportAdapter()
        first = await adapter.listen(at(tmp_path / "a.sock"), OPTIONS)
        (tmp_path / "a.sock").unlink()
        second = await adapter.listen(at(tmp_path / "a.sock"), OPTIONS)
        first.close()
        (await adapter.connect(second.endpoint, OPTIONS)).close()
        second.close()

    asyncio.run(main())


def test_a_missing_directory_or_file_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        adapter = UnixTransportAdapter()
        with pytest.raises(FileNotFoundError, match="no-such-dir"):
            await adapter.listen(at(tmp_path / "no-such-dir" / "a.sock"), OPTIONS)
        with pytest.raises(FileNotFoundError, match="no-such-file"):
            await adapter.connect(at(tmp_path / "no-such-file"), OPTIONS)

    asyncio.run(main())


def test_a_full_queue_makes_the_dialler_wait_until_there_is_room(
    tmp_path: Path, open_files: Callable[[], set[str]]
) -> None:
    before = open_files()

    async def main() -> None:
        adapter = UnixTransportAdapter()
        # A backlog of 0 still lets one connection wait: the second stream of the connection finds the queue full.
        listener = await adapter.listen(at(tmp_path / "a.sock"), TransportOptions("node-a", backlog=0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await adapter.connect(listener.endpoint, OPTIONS)
        (await listener.accept()).close()
        connecting = asyncio.create_task(adapter.connect(listener.endpoint, OPTIONS))
        accepted = [await listener.accept(), await listener.accept()]
        connection = await connecting
        await connection.data.write(b"x")
        connection.close()
        for stream in accepted:
            stream.close()
        listener.close()

    asyncio.run(main())
    assert open_files() == before


def test_what_connects_at_once_has_no_connection_while_the_queue_is_full(
    tmp_path: Path, open_files: Callable[[], set[str]]
) -> None:
    before = open_files()

    async def main() -> None:
        adapter = UnixTransportAdapter()
        listener = await adapter.listen(at(tmp_path / "a.sock"), TransportOptions("node-a", backlog=1))
        connection = adapter.connect_now(listener.endpoint, OPTIONS)
        assert connection is not None
        assert adapter.connect_now(listener.endpoint, OPTIONS) is None
        connection.close()
        listener.close()
        with pytest.raises(FileNotFoundError, match=r"a\.sock"):
            adapter.connect_now(listener.endpoint, OPTIONS)

    asyncio.run(main())
    assert open_files() == before


def test_peers_of_another_user_are_turned_away_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_files: Callable[[], set[str]]
) -> None:
    before = open_files()

    async def main() -> None:
        adapter = UnixTransportAdapter()
        listener = await adapter.listen(at(tmp_path / "a.sock"), OPTIONS)
        stranger = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stranger.connect(str(tmp_path / "a.sock"))
        monkeypatch.setattr(unix, "_peer_uid", lambda sock: os.geteuid() + 1)
        with pytest.raises(PermissionError, match=f"belongs to user {os.geteuid() + 1}"):
            await adapter.connect(listener.endpoint, OPTIONS)
        accepting = asyncio.create_task(listener.accept())
        loop = asyncio.get_running_loop()
        stranger.setblocking(False)
        assert await loop.sock_recv(stranger, 1) == b""
        assert not accepting.done()
        stranger.close()
        listener.close()
        with pytest.raises(OSError, match="is closed"):
            await accepting

    asyncio.run(main())
    assert open_files() == before
