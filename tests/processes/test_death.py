"""Nothing outlives its supervisor, and no death goes unnoticed."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from meshvisor.supervisor.event import describe

FOREVER = "exec sleep 1000"

_PROGRAM = """
import asyncio, sys
from pathlib import Path
from meshvisor.shared.config.model import MeshConfig, MeshSection, SupervisorSection, WorkerConfig
from meshvisor.supervisor import spawn
from meshvisor.supervisor.event import describe
from meshvisor.supervisor.supervisor import Supervisor

directory, fake_worker = Path(sys.argv[1]), sys.argv[2]
spawn.WORKER_PROGRAM = (fake_worker,)
workers = (
    WorkerConfig("worker", directory, class_path="fake:Worker", settings={"do": "stubborn"}),
    WorkerConfig("command", directory, command=("sh", "-c", "echo pid $$; sleep 1000 & echo pid $!; wait")),
    WorkerConfig("escape", directory, command=("sh", "-c", "setsid sh -c 'echo pid $$; exec sleep 1000' & wait")),
)
config = MeshConfig(
    directory / "mesh.toml", MeshSection("testmesh"), SupervisorSection(runtime_dir=directory / "run"), workers
)

async def main():
    supervisor = Supervisor(config)
    supervisor.subscribe(lambda event: print(event.event, event.slot, describe(event), flush=True))
    supervisor.subscribe_output(lambda slot, kind, line: print("output", slot, line, flush=True))
    await supervisor.start_all()
    print("pid worker", next(w.pid for w in supervisor.status().workers if w.name == "worker"), flush=True)
    await supervisor.wait()

asyncio.run(main())
"""


class Program:
    """A supervisor in a process of its own, to be killed."""

    def __init__(self, directory: Path) -> None:
        fake_worker = Path(__file__).with_name("fake_worker.py")
        arguments = [sys.executable, "-c", _PROGRAM, str(directory), str(fake_worker)]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []

    def until(self, condition: Callable[[list[str]], object]) -> None:
        assert self.process.stdout is not None
        while not condition(self.lines):
            line = self.process.stdout.readline()
            assert line, f"the supervisor ended: {self.lines}"
            self.lines.append(line.rstrip())

    @property
    def pids(self) -> list[int]:
        """Those of the worker, of the command, of what that has started, and of what has escaped, in this order."""

        def said(*words: str) -> list[int]:
            return [int(line.split()[-1]) for line in self.lines if line.split()[:-1] == list(words)]

        return [*said("pid", "worker"), *said("output", "command", "pid"), *said("output", "escape", "pid")]

    def end(self, number: int) -> None:
        self.process.send_signal(number)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def is_up(lines: list[str]) -> bool:
    ready = {line.split()[1] for line in lines if line.startswith("slot-ready")}
    return ready == {"worker", "command", "escape"} and sum("pid" in line.split() for line in lines) == 4


def test_a_killed_supervisor_takes_its_children_along_and_the_next_one_finds_the_rest(
    tmp_path: Path, witness: Any
) -> None:
    first = Program(tmp_path)
    first.until(is_up)
    worker, command, *descendants = (witness(pid) for pid in first.pids)
    first.end(signal.SIGKILL)
    assert worker.saw_the_end(within=1.0)
    assert command.saw_the_end(within=1.0)

    # Two descendants were nobody's direct child; the next run of the mesh finds them by their mark.
    second = Program(tmp_path)
    second.until(is_up)
    assert [line.split()[0] for line in second.lines[:2]] == ["leftovers-killed", "mesh-started"]
    assert all(descendant.saw_the_end(within=0) for descendant in descendants)
    second.end(signal.SIGKILL)


def test_what_a_command_started_dies_with_it(workshop: Any, witness: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.shell("a", "sleep 1000 & echo pid $!; wait")) as mesh:
            grandchild = witness(int(await mesh.printed("a", "pid ")))
            await mesh.happened("slot-ready", "a")
            os.kill(mesh.pid("a"), signal.SIGKILL)
            await mesh.happened("slot-exited", "a")
            assert grandchild.saw_the_end()

    asyncio.run(main())


def test_what_left_its_group_is_found_when_the_mesh_stops(workshop: Any, witness: Any) -> None:
    async def main() -> None:
        script = "setsid sh -c 'echo pid $$; exec sleep 1000' & wait"
        async with workshop.running(workshop.shell("a", script)) as mesh:
            escaped = witness(int(await mesh.printed("a", "pid ")))
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0
            assert escaped.saw_the_end(within=0)

    asyncio.run(main())


def test_a_descendant_that_holds_the_pipes_open_does_not_delay_the_restart(workshop: Any) -> None:
    async def main() -> None:
        script = "setsid sh -c 'echo out; exec sleep 1000' & wait"
        async with workshop.running(workshop.shell("a", script)) as mesh:
            await mesh.printed("a", "out")
            await mesh.happened("slot-ready", "a")
            os.kill(mesh.pid("a"), signal.SIGKILL)
            await mesh.happened("slot-ready", "a", incarnation=2)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("do", "text"),
    [
        ("garbled", "it sent garbage over its lifeline: not a lifeline message: "),
        ("mute", "it closed its lifeline"),
    ],
)
def test_a_worker_that_no_longer_speaks_with_us_is_replaced(workshop: Any, do: str, text: str) -> None:
    """OTP (reliability.md 4.1): a child that unlinked itself must not hang the supervisor."""

    async def main() -> None:
        async with workshop.running(workshop.worker("a", do), max_restarts=1000) as mesh:
            ended = await mesh.happened("slot-exited", "a")
            assert ended.details["signal"] == "SIGKILL"
            assert ended.details["text"].startswith(text)
            await mesh.happened("slot-starting", "a", incarnation=2)

    asyncio.run(main())


def test_a_worker_that_does_not_become_ready_in_time_is_killed(workshop: Any) -> None:
    async def main() -> None:
        async with workshop.running(workshop.worker("a", "idle", start_timeout=0.2)) as mesh:
            ended = await mesh.happened("slot-exited", "a")
            assert (ended.details["cause"], ended.details["signal"]) == ("start-timeout", "SIGKILL")
            assert describe(ended).endswith("ms and was killed; starting again at once")

    asyncio.run(main())


def test_a_flood_of_output_delays_nobody(workshop: Any) -> None:
    async def main() -> None:
        workers = (workshop.command("flood", "yes"), workshop.shell("a", FOREVER))
        async with workshop.running(*workers) as mesh:
            await mesh.happened("slot-ready", "a")
            await mesh.printed("flood", "y")
            os.kill(mesh.pid("a"), signal.SIGKILL)
            await mesh.happened("slot-ready", "a", incarnation=2)
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0

    asyncio.run(main())


_ORPHANS = """
[mesh]
name = "container"

[workers.parent]
command = ["sh", "-c", "(setsid sh -c 'exec >&-; echo $$ > new; mv new orphan' &); exec sleep 1000"]

[workers.watcher]
command = ["sh", "-c", "until [ -e orphan ]; do sleep .01; done; while [ -e /proc/$(cat orphan) ]; do sleep .01; done"]
restart = "on-failure"
significant = true
"""


_SERVICE = """
[mesh]
name = "container"

[workers.a]
class = "app:Node"
replicas = 2
"""


class Container:
    """Runs a mesh as process 1 of a pid namespace."""

    def __init__(self, directory: Path, mesh: str) -> None:
        unshare = ["unshare", "--fork", "--kill-child", "--pid", "--mount-proc"]
        if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False).returncode:
            pytest.skip("no pid namespaces for us here")
        (directory / "mesh.toml").write_text(mesh)
        (directory / "app.py").write_text("from meshvisor import Worker\n\nclass Node(Worker): pass\n")
        self.command = [*unshare, sys.executable, "-m", "meshvisor.supervisor", "run", "mesh.toml"]
        self.options: dict[str, Any] = {
            "cwd": directory,
            "env": {**os.environ, "MESHVISOR_RUNTIME_DIR": str(directory / "run")},
        }


def test_as_process_1_it_reaps_the_orphans_that_the_kernel_gives_it(tmp_path: Path) -> None:
    container = Container(tmp_path, _ORPHANS)
    # The watcher ends when the orphan is not even a zombie any more.
    subprocess.run(container.command, check=True, **container.options, timeout=30)


def test_as_process_1_it_stops_at_a_sigterm_and_has_no_zombie(tmp_path: Path) -> None:
    container = Container(tmp_path, _SERVICE)
    with subprocess.Popen(container.command, **container.options, stdout=subprocess.PIPE, text=True) as unshare:
        assert unshare.stdout is not None
        try:
            assert any("the mesh is ready" in line for line in unshare.stdout)
            (first,) = psutil.Process(unshare.pid).children()
            (victim,) = (child for child in first.children() if "container/a-0" in " ".join(child.cmdline()))
            victim.kill()
            assert any("is ready again" in line for line in unshare.stdout)
            while any(child.status() == psutil.STATUS_ZOMBIE for child in first.children(recursive=True)):
                time.sleep(0.01)
            first.terminate()
            assert "exit status 0" in unshare.communicate(timeout=30)[0]
            assert unshare.returncode == 0
        finally:
            unshare.kill()
