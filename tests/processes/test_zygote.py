"""Real zygotes, and the workers forked from them; the test is the supervisor that adopts them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.config.model import MeshConfig, MeshSection, StartMethod, SupervisorSection, WorkerConfig
from meshvisor.shared.control.lifeline import Assignment, Failure, FromWorker, Ready, encode, supervisor_end
from meshvisor.supervisor import zygote
from meshvisor.supervisor.child import Exit
from meshvisor.supervisor.leftovers import Mark
from meshvisor.supervisor.nursery import Nursery
from meshvisor.supervisor.reaper import kill_group, reap
from meshvisor.supervisor.spawn import Process, SpawnError
from meshvisor.supervisor.subreaper import Subreaper, children
from meshvisor.supervisor.supervisor import Supervisor

APPLICATION = """
import ctypes, json, os, signal, subprocess, sys, time
from meshvisor import Worker

def status(name):
    return next(line.split()[1] for line in open("/proc/self/status") if line.startswith(name + ":"))

def files():
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            yield os.readlink(f"/proc/self/fd/{descriptor}").split(":")[0]
        except FileNotFoundError:  # the one that listed them
            pass

class Looks(Worker):
    async def on_start(self):
        death_signal = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(death_signal), 0, 0, 0)
        print(json.dumps({
            "parent": os.getppid(), "group": os.getpgid(0), "session": os.getsid(0), "death_signal": death_signal.value,
            "blocked": int(status("SigBlk"), 16), "ignored": int(status("SigIgn"), 16),
            "caught": [n for n in range(1, 32) if int(status("SigCgt"), 16) >> (n - 1) & 1],
            "stdin": os.readlink("/proc/self/fd/0"), "cwd": os.getcwd(), "path": sys.path[0],
            "files": sorted(files()),
            "slot": os.environ["MESHVISOR_SLOT"], "incarnation": os.environ["MESHVISOR_INCARNATION"],
            "colour": os.environ.get("COLOUR"), "title": open("/proc/self/cmdline").read().rstrip("\\0 "),
            "marked": "MESHVISOR_MESH=" in open("/proc/self/environ").read(),
        }), flush=True)

class Leaves(Worker):
    async def on_start(self):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.execvp("sleep", ["sleep", "1000"])
        while os.getsid(pid) != pid:  # until then it would be killed with the group of this one
            time.sleep(0.001)
"""


class Worker:
    """A process of the nursery, and the supervisor's end of its lifeline."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._reader = supervisor_end()

    @property
    def pid(self) -> int:
        return self.process.pid

    async def run(self, directory: Path, class_path: str, until: type[FromWorker]) -> Any:
        """Assign it a class, and return the message of the type ``until`` that comes back."""
        assert self.process.lifeline is not None
        self.process.lifeline.send(encode(assignment(directory, class_path, self.pid)))
        while True:
            data = await asyncio.get_running_loop().sock_recv(self.process.lifeline, 65_536)
            assert data, os.read(self.process.stderr, 65_536)
            for message in self._reader.receive(data):
                if isinstance(message, until):
                    return message

    def end(self) -> Exit:
        kill_group(self.pid)
        os.waitid(os.P_PIDFD, self.process.pidfd, os.WEXITED | os.WNOWAIT)
        exit = reap(self.pid, self.process.pidfd)
        self.process.close()
        assert exit is not None
        return exit


class Family:
    """A nursery and what has happened in it."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.mark = Mark.of_this_process("family")
        self._news = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.nursery = Nursery(loop, self.mark, **{"adopt": True, "on_event": self._happened, **options})

    def _happened(self, name: str, **facts: Any) -> None:
        self.events.append((name, facts))
        self._news.set()

    async def happened(self, name: str, times: int = 1) -> dict[str, Any]:
        while len(found := [facts for event, facts in self.events if event == name]) < times:
            self._news.clear()
            await self._news.wait()
        return found[times - 1]

    def config(self, class_path: str = "application:Looks", **options: Any) -> WorkerConfig:
        options = {"start_method": StartMethod.ZYGOTE, "cwd": self.directory, **options}
        return WorkerConfig("looks", class_path=class_path, **options)

    async def born(self, config: WorkerConfig) -> Worker:
        answer: asyncio.Future[Process | SpawnError] = asyncio.get_running_loop().create_future()
        self.nursery.request(config, "family/looks", lambda: {**os.environ, "SPAWNED": "1"}, answer.set_result)
        process = await answer
        assert isinstance(process, Process), process
        return Worker(process)

    async def spares(self, count: int) -> set[int]:
        """Wait until there are so many spares, and return all processes that are in no slot but the zygotes."""
        while self.nursery.statistics().spares != count:
            await asyncio.sleep(0.005)
        return self.nursery.pids - {facts["pid"] for _, facts in self.events}

    async def facts(self, worker: Worker) -> dict[str, Any]:
        await worker.run(self.directory, "application:Looks", Ready)
        found: dict[str, Any] = json.loads(os.read(worker.process.stdout, 65_536))
        return found


def assignment(directory: Path, class_path: str, number: int) -> Assignment:
    return Assignment(
        mesh="family",
        name="looks",
        group="looks",
        replica=0,
        incarnation=3,
        epoch=1,
        class_path=class_path,
        path=str(directory),
        settings={},
        listen=(f"unix:{directory}/{number}.sock",),
        secret=bytes(32),
        roster=(),
    )


def wait_for_death(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture
def family(tmp_path: Path, adopting: None) -> Callable[..., Any]:
    (tmp_path / "application.py").write_text(APPLICATION)

    @asynccontextmanager
    async def start(*configs: dict[str, Any], **options: Any) -> AsyncIterator[Family]:
        async with asyncio.timeout(30):
            family = Family(tmp_path, **options)
            family.nursery.warm([family.config(**config) for config in configs or ({},)])
            try:
                yield family
            finally:
                await family.nursery.close()

    return start


def test_a_forked_worker_is_a_child_and_a_session_of_its_own(family: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with family() as home:
            worker = await home.born(home.config())
            facts = await home.facts(worker)
            assert home.nursery.statistics().forked == 1
            pid = worker.pid
            assert (facts["parent"], facts["group"], facts["session"]) == (os.getpid(), pid, pid)
            assert facts["death_signal"] == signal.SIGKILL
            assert (facts["slot"], facts["incarnation"], facts["marked"]) == ("looks", "3", True)
            assert (facts["cwd"], facts["path"]) == (str(tmp_path), str(tmp_path))
            assert facts["title"] == "meshvisor family/looks"
            assert worker.end() == Exit(signal="SIGKILL")

    asyncio.run(main())


def test_forked_and_spawned_workers_find_the_same_signals_and_descriptors(family: Any) -> None:
    async def main() -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        try:
            async with family(spares=1) as home:
                await home.spares(1)
                workers = [await home.born(home.config()) for _ in range(2)]
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
                signal.signal(signal.SIGHUP, before)
                workers.append(await home.born(home.config(start_method=StartMethod.SPAWN)))
                facts = [await home.facts(worker) for worker in workers]
                for fact in ("blocked", "ignored", "caught", "stdin", "files"):
                    assert facts[0][fact] == facts[1][fact] == facts[2][fact], fact
                assert facts[0]["blocked"] == 0
                assert facts[0]["stdin"] == "/dev/null"
                for worker in workers:
                    worker.end()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            signal.signal(signal.SIGHUP, before)

    asyncio.run(main())


def test_a_spare_is_there_at_once_and_another_one_follows(family: Any) -> None:
    async def main() -> None:
        async with family(spares=1) as home:
            spares = await home.spares(1)
            assert len(spares) == 1
            came: list[Process | SpawnError] = []
            home.nursery.request(home.config(), "family/looks", {}, came.append)
            assert isinstance(came[0], Process)
            assert {came[0].pid} == spares
            worker = Worker(came[0])
            assert (await home.facts(worker))["parent"] == os.getpid()
            assert not await home.spares(1) & spares
            worker.end()

    asyncio.run(main())


def test_a_dead_spare_is_replaced_and_never_handed_out(family: Any) -> None:
    async def main() -> None:
        async with family(spares=1) as home:
            (spare,) = await home.spares(1)
            os.kill(spare, signal.SIGKILL)
            wait_for_death(spare)
            worker = await home.born(home.config())
            assert worker.pid != spare
            await home.spares(1)
            worker.end()

    asyncio.run(main())


def test_spares_that_were_told_what_does_not_hold_any_more_are_replaced(family: Any) -> None:
    async def main() -> None:
        async with family(spares=2) as home:
            old = await home.spares(2)
            home.nursery.renew_spares()
            assert home.nursery.statistics().spares == 0
            await home.spares(2)
            workers = [await home.born(home.config()) for _ in range(2)]
            assert home.nursery.statistics().spares_used == 2
            assert not old & {worker.pid for worker in workers}
            for worker in workers:
                worker.end()

    asyncio.run(main())


def test_a_zygote_that_dies_is_replaced_and_meanwhile_workers_are_spawned(family: Any) -> None:
    async def main() -> None:
        async with family() as home:
            first = await home.happened("zygote-started")
            answers = [asyncio.ensure_future(home.born(home.config())) for _ in range(3)]
            os.kill(first["pid"], signal.SIGKILL)
            workers = [await answer for answer in answers]
            assert home.nursery.statistics().spawned == 3
            died = await home.happened("zygote-died")
            assert (died["pid"], died["reason"]) == (first["pid"], "it was killed by SIGKILL")
            await home.happened("zygote-started", times=2)
            workers.append(await home.born(home.config()))
            assert home.nursery.statistics().forked == 1
            for worker in workers:
                worker.end()

    asyncio.run(main())


def test_a_zygote_that_hangs_over_a_fork_is_killed_and_the_worker_is_spawned(
    family: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygote, "FORK_TIMEOUT", 0.1)

    async def main() -> None:
        async with family() as home:
            started = await home.happened("zygote-started")
            os.kill(started["pid"], signal.SIGSTOP)
            worker = await home.born(home.config())
            assert home.nursery.statistics().spawned == 1
            assert (await home.happened("zygote-died"))["reason"] == "it did not answer within 0.1 s"
            worker.end()

    asyncio.run(main())


def test_threads_that_an_import_leaves_running_make_the_zygote_unfit(family: Any, tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n" + APPLICATION
    )

    async def main() -> None:
        config = {"class_path": "threaded:Looks"}
        async with family(config) as home:
            worker = await home.born(home.config(**config))
            assert home.nursery.statistics().spawned == 1
            assert (await home.happened("zygote-unfit"))["reason"] == (
                "1 thread is left after the imports (begun by threaded), and a process with threads cannot be forked"
            )
            worker.end()

    asyncio.run(main())


def test_a_class_that_cannot_be_imported_fails_in_its_own_worker_only(family: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise ValueError('no such luck')\n")

    async def main() -> None:
        async with family({}, {"class_path": "broken:Looks"}) as home:
            worker = await home.born(home.config())
            said = f"ValueError: no such luck ({tmp_path}/broken.py:1)"
            assert (await home.happened("zygote-started"))["skipped"] == {"broken": said}
            failure = await worker.run(tmp_path, "broken:Looks", Failure)
            assert failure.where == "import"
            assert 'broken.py", line 1, in <module>' in failure.traceback
            wait_for_death(worker.pid)
            assert worker.end() == Exit(code=1)
            healthy = await home.born(home.config())
            assert home.nursery.statistics().forked == 2
            healthy.end()

    asyncio.run(main())


def test_workers_of_another_directory_or_environment_have_another_zygote(family: Any, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "application.py").write_text(APPLICATION)

    async def main() -> None:
        places: list[dict[str, Any]] = [{"env": {"COLOUR": "red"}}, {"env": {"COLOUR": "blue"}}, {"cwd": elsewhere}]
        async with family(*places, spares=1) as home:
            await home.spares(3)
            workers = [await home.born(home.config(**place)) for place in places]
            assert home.nursery.statistics().spares_used == 3
            facts = [await home.facts(worker) for worker in workers]
            assert [(fact["colour"], fact["cwd"]) for fact in facts] == [
                ("red", str(tmp_path)),
                ("blue", str(tmp_path)),
                (None, str(elsewhere)),
            ]
            for worker in workers:
                worker.end()

    asyncio.run(main())


def test_changed_code_makes_a_new_zygote_and_there_is_a_way_back(family: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with family(spares=1) as home:
            first = await home.happened("zygote-started")
            old_spares = await home.spares(1)
            assert await home.nursery.replace_changed() == ()
            file = tmp_path / "application.py"
            file.write_text(file.read_text().replace('"title": ', '"new": True, "title": '))
            assert await home.nursery.is_stale()
            assert await home.nursery.replace_changed() == (str(file),)
            new = await home.born(home.config())
            assert new.pid not in old_spares
            assert "new" in await home.facts(new)
            await home.nursery.roll_back()
            old = await home.born(home.config())
            assert "new" not in await home.facts(old)
            assert first["pid"] in home.nursery.pids
            for worker in (new, old):
                worker.end()

    asyncio.run(main())


def test_a_process_that_arrives_after_it_was_cancelled_is_ended(family: Any) -> None:
    async def main() -> None:
        async with family() as home:
            await home.happened("zygote-started")
            came: list[Process | SpawnError] = []
            request = home.nursery.request(home.config(), "family/looks", dict, came.append)
            request.cancel()
            worker = await home.born(home.config())
            assert home.nursery.statistics().forked == 2
            await home.nursery.close()
            assert not came
            for pid in set(children()) - {worker.pid}:
                await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED)  # what a dead zygote had forked ahead
            assert children() == [worker.pid]
            worker.end()

    asyncio.run(main())


def test_what_a_dead_worker_has_started_is_adopted_and_ended(family: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with family() as home:
            worker = await home.born(home.config())
            await worker.run(tmp_path, "application:Leaves", Ready)
            other = await home.born(home.config())
            subreaper = Subreaper(
                asyncio.get_running_loop(),
                home.mark,
                own=lambda: {*home.nursery.pids, other.pid},
                is_forking=lambda: home.nursery.is_forking,
            )
            assert worker.end() == Exit(signal="SIGKILL")
            assert await subreaper.sweep("another", 3, 2**22) == []
            assert len(await subreaper.sweep("looks", 3, worker.pid)) == 1
            assert set(children()) == {*home.nursery.pids, other.pid}
            other.end()
            subreaper.close()

    asyncio.run(main())


_SUPERVISOR = """
import asyncio, os, sys
from pathlib import Path
from meshvisor.shared.config.model import MeshConfig, MeshSection, StartMethod, SupervisorSection, WorkerConfig
from meshvisor.supervisor.leftovers import Mark
from meshvisor.supervisor.nursery import Nursery
from meshvisor.supervisor.subreaper import become_subreaper

async def main():
    config = WorkerConfig("looks", Path(sys.argv[1]), class_path="application:Looks", start_method=StartMethod.ZYGOTE)
    nursery = Nursery(asyncio.get_running_loop(), Mark.of_this_process("family"), adopt=True, spares=2)
    nursery.warm([config])
    while nursery.statistics().spares < 2:
        await asyncio.sleep(0.005)
    nursery.request(config, "family/looks", {}, lambda process: print(process.pid, *nursery.pids, flush=True))
    await asyncio.Event().wait()

become_subreaper()
asyncio.run(main())
"""


def test_zygote_spares_and_workers_die_with_their_supervisor(tmp_path: Path, witness: Any) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    arguments = [sys.executable, "-c", _SUPERVISOR, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        witnesses = [witness(int(pid)) for pid in supervisor.stdout.readline().split()]
        assert len(witnesses) == 3
        supervisor.kill()
        for process in witnesses:
            assert process.saw_the_end()


def test_a_stop_does_not_wait_for_imports(adopting: None, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(1000)\n")
    worker = WorkerConfig("a", tmp_path, class_path="slow:Slow", start_method=StartMethod.ZYGOTE)
    section = SupervisorSection(runtime_dir=tmp_path / "run")
    config = MeshConfig(tmp_path / "mesh.toml", MeshSection("family"), section, (worker,))

    async def main() -> None:
        supervisor = Supervisor(config, adopt=True)
        events: list[str] = []
        supervisor.subscribe(lambda event: events.append(event.event))
        await supervisor.start_all()
        supervisor.request_stop()
        assert await supervisor.wait() == 0
        assert "slot-starting" not in events  # nothing was spawned instead

    asyncio.run(main())


_MESH = """
[mesh]
name = "family"

[supervisor]
spares = 1

[workers.a]
class = "mesh:Says"
start_method = "zygote"

[workers.b]
class = "mesh:Says"
start_method = "zygote"
"""

_SAYS = """
import os
from meshvisor import Worker

class Says(Worker):
    async def on_peer_up(self, peer):
        print("LINKED", os.getpid(), self.incarnation, os.getppid(), flush=True)
"""


def test_a_mesh_in_the_foreground_forks_its_workers_and_leaves_no_process_behind(tmp_path: Path, witness: Any) -> None:
    (tmp_path / "mesh.toml").write_text(_MESH)
    (tmp_path / "mesh.py").write_text(_SAYS)
    environment = {**os.environ, "MESHVISOR_RUNTIME_DIR": str(tmp_path / "run")}
    command = [sys.executable, "-m", "meshvisor.supervisor", "run", "mesh.toml"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as supervisor:

        def linked(slot: str, incarnation: int) -> int:
            assert supervisor.stdout is not None
            for line in supervisor.stdout:
                words = line.split()
                if words[0] == slot and "LINKED" in words and words[-2] == str(incarnation):
                    assert words[-1] == str(supervisor.pid)
                    return int(words[-3])
            raise AssertionError("the supervisor ended")

        os.kill(linked("a", 1), signal.SIGKILL)
        linked("a", 2)
        task = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}")
        processes = [witness(int(pid)) for pid in (task / "children").read_text().split()]
        assert len(processes) >= 4  # two workers, the zygote, the guardian, and perhaps a spare
        supervisor.send_signal(signal.SIGTERM)
        supervisor.communicate()
        assert supervisor.returncode == 0
        assert all(process.saw_the_end(within=0) for process in processes)
