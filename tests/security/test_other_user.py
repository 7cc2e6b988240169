"""Another user of the machine at every socket (S1, S18, S19, S21): a process that is one in fact, which takes root.

The directory of the sockets is opened to everybody first, and so are the sockets: what keeps the stranger out here is
who it is, and not what it cannot reach.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.errors import SupervisorError
from meshvisor.shared.memory.handover import fetch
from meshvisor.shared.transport.base import TransportOptions
from meshvisor.shared.transport.unix import UnixTransportAdapter
from meshvisor.supervisor.directory import RuntimeDirectory, find_running
from meshvisor.supervisor.gate import Gate
from meshvisor.supervisor.tables import Tables

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to become another user")

_NOBODY = 65_534
_OPTIONS = TransportOptions("a")

# Says what comes of a connection: the number of an error, or the first that is heard (nothing: it was hung up).
_KNOCK = """
import os, socket, sys
os.setgroups([]), os.setgid(int(sys.argv[1])), os.setuid(int(sys.argv[1]))
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(20)
    try:
        sock.connect(sys.argv[2])
        print(sock.recv(1000))
    except OSError as error:
        print(error.errno)
"""

_LISTEN = """
import os, socket, sys
os.setgroups([]), os.setgid(int(sys.argv[1])), os.setuid(int(sys.argv[1]))
with socket.socket(socket.AF_UNIX) as sock:
    sock.bind(sys.argv[2])
    os.chmod(sys.argv[2], 0o666)
    sock.listen()
    print("listens", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory in which everybody may do everything, on a way that everybody may go."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


def knock(uid: int, path: Path) -> str:
    """Connect as user ``uid``; return what came of it."""
    arguments = [sys.executable, "-I", "-S", "-c", _KNOCK, str(uid), str(path)]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()


async def knocks(uid: int, path: Path) -> str:
    return await asyncio.to_thread(knock, uid, path)


def test_a_listener_of_ours_hangs_up_on_another_user(public: Path) -> None:
    async def main() -> None:
        listener = await UnixTransportAdapter().listen(Endpoint.parse(f"unix:{public}/a.sock"), _OPTIONS)
        (public / "a.sock").chmod(0o666)
        accepting = asyncio.create_task(listener.accept())
        assert await knocks(_NOBODY, public / "a.sock") == "b''"
        assert not accepting.done()
        ours = asyncio.create_task(knocks(0, public / "a.sock"))
        accepted = await accepting
        await accepted.write(b"welcome")
        assert await ours == "b'welcome'"
        accepted.close()
        listener.close()

    asyncio.run(main())


def test_a_listener_of_another_user_is_told_nothing(public: Path) -> None:
    arguments = [sys.executable, "-I", "-S", "-c", _LISTEN, str(_NOBODY), str(public / "a.sock")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "listens\n"
        with pytest.raises(PermissionError, match=f"belongs to user {_NOBODY}"):
            asyncio.run(UnixTransportAdapter().connect(Endpoint.parse(f"unix:{public}/a.sock"), _OPTIONS))
        stranger.communicate("")


def test_shared_memory_is_handed_to_nobody_else(public: Path) -> None:
    async def main() -> None:
        directory = RuntimeDirectory(public / "run", "demo", public / "mesh.toml")
        tables = Tables(asyncio.get_running_loop(), directory.fd, "demo")
        path = directory.path / "attach.sock"
        assert await knocks(_NOBODY, path) == "13", "it cannot be reached as long as the directory is as we made it"
        for place, mode in ((directory.path.parent, 0o755), (directory.path, 0o755), (path, 0o666)):
            place.chmod(mode)
        assert await knocks(_NOBODY, path) == "b''"
        for descriptor in (await asyncio.to_thread(fetch, path)).values():
            os.close(descriptor)
        tables.close()
        directory.close()

    asyncio.run(main())


def test_the_control_plane_hangs_up_on_another_user(public: Path) -> None:
    """``control`` and ``events`` are both behind a ``Gate``."""

    async def main() -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            gate = Gate(context, router, str(public / "control"))
            (public / "control").chmod(0o666)
            assert (await knocks(0, public / "control")).startswith("b'\\xff"), "the greeting of ZeroMQ"
            assert await knocks(_NOBODY, public / "control") == "b''"
            gate.close()

    asyncio.run(main())


def test_a_mesh_in_a_directory_of_another_user_is_not_talked_to(public: Path) -> None:
    """Whoever was the first to make /tmp/meshvisor-UID could answer in the place of a supervisor."""
    directory = RuntimeDirectory(public / "run", "demo", public / "mesh.toml")
    os.chown(directory.path, _NOBODY, _NOBODY)
    with pytest.raises(SupervisorError, match=f"belongs to another user .uid {_NOBODY}"):
        find_running(public / "run", "demo")
    directory.close()


def test_another_user_cannot_listen_where_a_worker_will(public: Path) -> None:
    directory = RuntimeDirectory(public / "run", "demo", public / "mesh.toml")
    arguments = [sys.executable, "-I", "-S", "-c", _LISTEN, str(_NOBODY), str(directory.path / "a.1.sock")]
    stranger = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert "Permission denied" in stranger.stderr
    assert os.listdir(directory.path) == ["lock"]
    directory.close()
