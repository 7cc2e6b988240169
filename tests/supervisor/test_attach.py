"""``attach.sock``: any process of ours gets at the shared memory, and nobody can hold the supervisor up there."""

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshvisor.shared.errors import BlacklistError, SupervisorError
from meshvisor.shared.memory import handover
from meshvisor.shared.memory.blacklist import SharedBlacklist
from meshvisor.supervisor.attach import SOCKET, AttachServer, attach_blacklist
from meshvisor.supervisor.directory import NotRunning, RuntimeDirectory
from meshvisor.supervisor.tables import Tables

KEY = "tcp:127.0.0.1:4500"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RuntimeDirectory]:
    base = tmp_path / ("long" * 50)  # no socket address is that long
    directory = RuntimeDirectory(base, "demo", tmp_path / "mesh.toml")
    yield directory
    directory.close()


def test_another_process_shares_the_blacklist_of_a_running_mesh(directory: RuntimeDirectory) -> None:
    async def main() -> None:
        tables = Tables(asyncio.get_running_loop(), directory.fd, "demo")
        changed = asyncio.Event()
        tables.blacklist.subscribe(lambda penalty: changed.set())
        theirs = await asyncio.to_thread(attach_blacklist, directory.path.parent, "demo", "guest")
        with theirs:
            theirs.set_penalty(KEY, "hard", 10.0)
            await changed.wait()
            (penalty,) = tables.penalties()
            assert (penalty.key, penalty.source, penalty.severity) == (KEY, "guest", "hard")
            tables.close()
            tables.close()
            assert tables.penalties() == ()
            assert theirs.get_penalty(KEY) is not None
        with pytest.raises(BlacklistError, match="nobody answers there"):
            SharedBlacklist.attach(directory.path / SOCKET)

    asyncio.run(main())


def test_clients_that_stay_and_say_nothing_keep_nobody_waiting(directory: RuntimeDirectory) -> None:
    async def main() -> None:
        tables = Tables(asyncio.get_running_loop(), directory.fd, "demo")
        idle = [socket.socket(socket.AF_UNIX) for _ in range(40)]
        for client in idle:
            client.connect(f"/proc/self/fd/{directory.fd}/{SOCKET}")
        (await asyncio.to_thread(attach_blacklist, directory.path.parent, "demo", "guest")).close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for client in idle:
            assert client.recv(100).startswith(b"meshvisor 1 ")
            assert client.recv(100) == b""  # hung up on
            client.close()
        tables.close()

    asyncio.run(main())


def test_without_a_descriptor_to_accept_with_it_rests_and_serves_later(
    directory: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshvisor.supervisor.attach._PAUSE", 0.01)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = AttachServer(loop, directory.fd, {})
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{directory.fd}/{SOCKET}")
            client.setblocking(False)
            lowest_free = os.dup(0)
            os.close(lowest_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
            try:
                while server._timer is None:
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert await loop.sock_recv(client, 100) == b"meshvisor 1\n"
        server.close()
        server.close()

    asyncio.run(main())


def test_a_client_that_is_gone_before_it_is_served_does_no_harm(directory: RuntimeDirectory) -> None:
    async def main() -> None:
        server = AttachServer(asyncio.get_running_loop(), directory.fd, {})
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{directory.fd}/{SOCKET}")
        assert await asyncio.to_thread(handover.fetch, directory.path / SOCKET) == {}
        server.close()

    asyncio.run(main())


def test_a_socket_that_cannot_be_bound_is_an_error_and_leaves_nothing_open(directory: RuntimeDirectory) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = AttachServer(loop, directory.fd, {})
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(SupervisorError, match=r"cannot open the socket attach\.sock: Address already in use"):
            Tables(loop, directory.fd, "demo")
        assert len(os.listdir("/proc/self/fd")) == before
        server.close()

    asyncio.run(main())


def test_a_mesh_that_does_not_run_has_no_blacklist(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="'demo' is not running"):
        attach_blacklist(tmp_path, "demo", "guest")


def test_a_supervisor_that_has_no_socket_yet_is_waited_for(
    directory: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        attaching = asyncio.create_task(asyncio.to_thread(attach_blacklist, directory.path.parent, "demo", "guest"))
        await asyncio.sleep(0)
        tables = Tables(asyncio.get_running_loop(), directory.fd, "demo")
        (await attaching).close()
        tables.close()

    asyncio.run(main())
    monkeypatch.setattr("meshvisor.supervisor.attach._PATIENCE", 0.0)
    os.unlink(SOCKET, dir_fd=directory.fd)
    with pytest.raises(BlacklistError, match="No such file"):
        attach_blacklist(directory.path.parent, "demo", "guest")
