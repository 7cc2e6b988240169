"""Spares as the supervisor keeps them: what they are told, what others are told of them, what a dead one leaves."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.config.model import MeshSection
from meshvisor.shared.control.lifeline import Listening, Reserve, RosterNews, ToWorker, encode, worker_end
from meshvisor.shared.core.roster import NodeRecord, NodeStatus
from meshvisor.supervisor import reserve as module
from meshvisor.supervisor.directory import RuntimeDirectory
from meshvisor.supervisor.herald import Herald
from meshvisor.supervisor.lookout import Lookout
from meshvisor.supervisor.spawn import Process
from meshvisor.supervisor.tables import Tables

NODE = NodeRecord("a", "a", 0, 1, 5, NodeStatus.READY, ("unix:/run/a.1.sock",))


class Home:
    """What a reserve works with, a process that is pretended, and its end of the lifeline."""

    def __init__(self, path: Path, mesh: MeshSection) -> None:
        loop = asyncio.get_running_loop()
        self.directory = RuntimeDirectory(path, "home", path / "mesh.toml")
        self.tables = Tables(loop, self.directory.fd, "home")
        self.herald = Herald(loop)
        self.lookout = Lookout(loop, self.tables.board, 0.025)
        self.herald.announce(NODE)
        self.reserve = module.Reserve(
            loop, self.directory, self.herald, self.tables, self.lookout, b"secret", lambda: mesh
        )
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        self.theirs.setblocking(False)
        self.process = Process(os.getpid(), os.pidfd_open(os.getpid()), *os.pipe(), lifeline=ours)
        self._reader = worker_end()

    def heard(self) -> list[ToWorker]:
        data, descriptors, _, _ = socket.recv_fds(self.theirs, 1 << 16, 8)
        for descriptor in descriptors:
            os.close(descriptor)
        return self._reader.receive(data)

    def spares(self) -> list[NodeRecord]:
        return [record for record in self.herald.records if record.is_spare]

    def close(self) -> None:
        self.theirs.close()
        self.lookout.close()
        self.tables.close()
        self.directory.close()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


Scenario = Callable[[Home], Any]


@pytest.fixture
def at_home(tmp_path: Path) -> Iterator[Callable[..., None]]:
    before = sorted(os.listdir("/proc/self/fd"))

    def run(scenario: Scenario, **mesh: Any) -> None:
        async def main() -> None:
            home = Home(tmp_path, MeshSection("home", **mesh))
            try:
                await scenario(home)
            finally:
                home.close()

        asyncio.run(main())

    yield run
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_spare_is_listed_and_told_how_it_is_linked(at_home: Any, tmp_path: Path) -> None:
    async def scenario(home: Home) -> None:
        await asyncio.sleep(0)
        home.reserve.enlist(home.process)
        (listed,) = home.spares()
        assert (listed.name, listed.status, listed.endpoints) == ("~spare-1", NodeStatus.DOWN, ())
        (told,) = home.heard()
        assert isinstance(told, Reserve)
        assert (told.name, told.epoch, told.secret) == (listed.name, listed.epoch, b"secret")
        assert told.listen == (f"unix:{home.directory.path}/~spare-1.sock",)
        assert told.roster == (NODE, listed)
        assert set(told.descriptors) == {"blacklist", "wake", "board", "traces"}
        assert told.heartbeat_interval is None
        home.theirs.send(encode(Listening(told.listen)))
        await eventually(lambda: home.spares() != [listed])
        (listed,) = home.spares()
        assert (listed.status, listed.endpoints, listed.epoch) == (NodeStatus.LISTENING, told.listen, told.epoch)
        await asyncio.sleep(0)
        assert home.heard()[-1] == RosterNews((listed,))
        home.process.close()

    at_home(scenario)


def test_a_spare_that_is_dead_leaves_nothing_behind(at_home: Any) -> None:
    async def scenario(home: Home) -> None:
        home.reserve.enlist(home.process)
        (home.directory.path / "~spare-1.sock").touch()
        home.process.close()
        assert home.spares() == []
        assert not (home.directory.path / "~spare-1.sock").exists()
        assert home.lookout.take_place() == 0

    at_home(scenario)


def test_between_machines_a_spare_pings_as_all_do(at_home: Any) -> None:
    async def scenario(home: Home) -> None:
        home.reserve.enlist(home.process)
        (told,) = home.heard()
        assert isinstance(told, Reserve)
        assert told.listen == ("tcp:10.0.0.1:0",)
        assert (told.heartbeat_interval, told.heartbeat_timeout) == (0.5, 3.0)
        home.process.close()

    at_home(scenario, transport="tcp", host="10.0.0.1", heartbeat_interval=0.5, heartbeat_timeout=3.0)


def test_a_spare_that_closes_its_lifeline_is_killed(at_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr(module, "kill_group", killed.append)

    async def scenario(home: Home) -> None:
        home.reserve.enlist(home.process)
        home.heard()
        home.theirs.shutdown(socket.SHUT_RDWR)
        await eventually(lambda: killed == [home.process.pid])
        home.process.close()

    at_home(scenario)
