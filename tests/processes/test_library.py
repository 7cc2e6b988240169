"""A supervisor in a program that has other things to do: its threads, children and signals are its own business."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from meshvisor import Supervisor, load_config
from meshvisor.supervisor.event import Event

_MESH = """
[mesh]
name = "NAME"

[supervisor]
runtime_dir = "run"

[workers.a]
class = "app:Node"
replicas = 2
hang_timeout = "0.4s"
"""

_APPLICATION = """
import time
from meshvisor import Worker

class Node(Worker):
    async def on_message(self, message):
        time.sleep(1000)

    async def on_peer_up(self, peer):
        if self.settings.get("hangs") == self.name and self.incarnation == 1:
            await self.send(self.name, b"hang")
"""


def write(directory: Path, name: str, more: str = "") -> str:
    """Write a mesh and return its file."""
    (directory / "app.py").write_text(_APPLICATION)
    (directory / f"{name}.toml").write_text(_MESH.replace("NAME", name) + more)
    return str(directory / f"{name}.toml")


async def next_event(supervisor: Supervisor, name: str, slot: str) -> Event:
    """Return the next event of that name."""
    async with asyncio.timeout(30):
        async for event in supervisor.events():
            if (event.event, event.slot) == (name, slot):
                return event
    raise AssertionError("the mesh has ended")


def pid_of(supervisor: Supervisor, slot: str) -> int:
    pid = next(worker.pid for worker in supervisor.status().workers if worker.name == slot)
    assert pid is not None
    return pid


@pytest.fixture
def child_signals() -> Iterator[list[int]]:
    """Handle SIGCHLD as a host program may, and return the signals that came."""
    came: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = signal.signal(signal.SIGCHLD, handler)
    yield came
    assert signal.signal(signal.SIGCHLD, before) is handler


def test_children_signals_and_orphans_of_the_host_program_stay_its_own(
    tmp_path: Path, child_signals: list[int]
) -> None:
    own = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(7)"], stdin=subprocess.PIPE)

    async def main() -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        async with Supervisor(load_config(write(tmp_path, "guest"))) as supervisor:
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
            is_subreaper = ctypes.c_int(-1)
            ctypes.CDLL(None).prctl(37, ctypes.byref(is_subreaper), 0, 0, 0)
            assert is_subreaper.value == 0
            own.communicate()  # ends it; its death notice is not taken away
            ready = asyncio.create_task(next_event(supervisor, "slot-ready", "a-0"))
            await asyncio.sleep(0)
            os.kill(pid_of(supervisor, "a-0"), signal.SIGKILL)
            assert (await ready).incarnation == 2
            assert own.returncode == 7
            assert child_signals

    asyncio.run(main())


@pytest.mark.slow
def test_frozen_and_hung_workers_are_found_by_the_board(tmp_path: Path) -> None:
    async def main() -> None:
        file = write(tmp_path, "guest", more='settings = { hangs = "a-1" }\n')
        async with Supervisor(load_config(file)) as supervisor:
            ends = [asyncio.create_task(next_event(supervisor, "slot-exited", slot)) for slot in ("a-0", "a-1")]
            await asyncio.sleep(0)
            os.kill(pid_of(supervisor, "a-0"), signal.SIGSTOP)
            frozen, hung = await asyncio.gather(*ends)
            assert (frozen.details["cause"], frozen.incarnation) == ("frozen", 1)
            assert (hung.details["cause"], hung.incarnation) == ("hung", 1)
            assert "in on_message" in hung.details["traceback"]
            assert "state T, by SIGSTOP" in frozen.details["text"]

    asyncio.run(main())


def test_two_meshes_run_in_one_program_one_of_them_in_a_thread_of_its_own(tmp_path: Path) -> None:
    began, may_end = threading.Event(), threading.Event()
    statuses: list[int] = []

    async def recover(supervisor: Supervisor) -> None:
        ready = asyncio.create_task(next_event(supervisor, "slot-ready", "a-1"))
        await asyncio.sleep(0)
        os.kill(pid_of(supervisor, "a-1"), signal.SIGKILL)
        assert (await ready).incarnation == 2

    async def in_the_thread() -> None:
        async with Supervisor(load_config(write(tmp_path, "second"))) as supervisor:
            began.set()
            await recover(supervisor)
            await asyncio.to_thread(may_end.wait)
        statuses.append(await supervisor.wait())

    async def main() -> None:
        thread = threading.Thread(target=asyncio.run, args=(in_the_thread(),))
        thread.start()
        async with Supervisor(load_config(write(tmp_path, "first"))) as supervisor:
            assert await asyncio.to_thread(began.wait, 30)
            await recover(supervisor)
            may_end.set()
            await asyncio.to_thread(thread.join)
            assert [worker.ready for worker in supervisor.status().workers] == [True, True]
        statuses.append(await supervisor.wait())

    asyncio.run(main())
    assert statuses == [0, 0]
