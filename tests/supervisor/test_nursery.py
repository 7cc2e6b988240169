"""Where a process comes from, decided on virtual time: the zygotes are played, and nothing is really forked."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.config.model import StartMethod, WorkerConfig
from meshvisor.shared.control.zygote import Prepared
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor import spawn
from meshvisor.supervisor.cradle import Plan
from meshvisor.supervisor.leftovers import Mark
from meshvisor.supervisor.nursery import Nursery, Request
from meshvisor.supervisor.spawn import Process, SpawnError
from meshvisor.supervisor.zygote import CheckDone, ForkDone
from meshvisor.workers.testing import run_virtual

HOME = Path("/home")
MARK = Mark("mesh", 1, 2, "boot")
Scenario = Callable[["Town"], Coroutine[Any, Any, None]]


class PlayedZygote:
    """Does what the test tells it to."""

    def __init__(self, town: "Town", plan: Plan, prepared: Callable[[Prepared], None], ended: Callable[[str], None]):
        self.pid = 1000 + len(town.zygotes)
        self.tail = "its last words"
        self.plan = plan
        self.prepared = prepared
        self.ended = ended
        self.orders: list[tuple[ForkDone, bool]] = []
        self.asked_at: list[float] = []
        self.killed = ""
        self.changed: tuple[str, ...] = ()

    @property
    def is_forking(self) -> bool:
        return bool(self.orders)

    def fork(self, done: ForkDone, *, is_spare: bool = False) -> None:
        self.orders.append((done, is_spare))
        self.asked_at.append(round(asyncio.get_running_loop().time(), 3))

    def check(self, done: CheckDone) -> None:
        done(self.changed)

    def kill(self, reason: str) -> None:
        self.killed = reason
        asyncio.get_running_loop().call_soon(self.end, reason)

    def answer(self, result: Process | SpawnError) -> bool:
        """Answer the oldest order and return whether a spare was wanted."""
        done, is_spare = self.orders.pop(0)
        done(result)
        return is_spare

    def end(self, reason: str) -> None:
        while self.orders:
            self.answer(SpawnError(reason))
        self.ended(reason)


class Town:
    """A nursery, the zygotes it has started, and what has come of them."""

    def __init__(self, **options: Any) -> None:
        self.zygotes: list[PlayedZygote] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.spawned: list[str] = []
        self.start_error: SpawnError | None = None
        loop = asyncio.get_running_loop()
        self.nursery = Nursery(
            loop, MARK, **{"adopt": True, "on_event": self._happened, "start": self._start, **options}
        )

    def _happened(self, name: str, **facts: Any) -> None:
        self.events.append((name, facts))

    def _start(
        self,
        loop: asyncio.AbstractEventLoop,
        plan: Plan,
        *,
        prepared: Callable[[Prepared], None],
        ended: Callable[[str], None],
    ) -> PlayedZygote:
        if self.start_error is not None:
            raise self.start_error
        self.zygotes.append(PlayedZygote(self, plan, prepared, ended))
        return self.zygotes[-1]

    def request(self, config: WorkerConfig, into: list[Process | SpawnError]) -> Request:
        return self.nursery.request(config, "mesh/a", dict, into.append)


def worker(module: str = "app", **options: Any) -> WorkerConfig:
    return WorkerConfig(
        "a", **{"cwd": HOME, "class_path": f"{module}:A", "start_method": StartMethod.ZYGOTE, **options}
    )


def process(pid: int) -> Process:
    return Process(pid, -1, -1, -1)


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a scenario in a town; what is spawned there is process 1."""

    def run(scenario: Scenario, **options: Any) -> None:
        async def main() -> None:
            town = Town(**options)

            def spawn_worker(title: str, cwd: Path, environment: Any) -> Process:
                town.spawned.append(title)
                return process(1)

            monkeypatch.setattr(spawn, "spawn_worker", spawn_worker)
            await scenario(town)
            await town.nursery.close()
            assert not town.nursery.is_forking

        run_virtual(main())

    return run


def test_the_first_starts_wait_for_the_imports_and_are_forked_then(town: Any) -> None:
    async def scenario(town: Town) -> None:
        came: list[Process | SpawnError] = []
        town.nursery.warm([worker(), worker("other")])
        assert town.zygotes[0].plan.modules == ("json", "app", "other")
        assert town.zygotes[0].plan.environment["MESHVISOR_MESH"] == "mesh:1:2:boot:"
        for _ in range(3):
            town.request(worker(), came)
        assert not came
        assert not town.zygotes[0].orders
        town.zygotes[0].prepared(Prepared())
        assert town.nursery.is_forking
        for pid in (11, 12, 13):
            assert not town.zygotes[0].answer(process(pid))
        assert [one.pid for one in came if isinstance(one, Process)] == [11, 12, 13]
        assert not town.spawned

    town(scenario, preload=["json"])


def test_nobody_waits_longer_for_the_imports_than_half_of_what_its_start_may_take(town: Any) -> None:
    async def scenario(town: Town) -> None:
        came: list[Process | SpawnError] = []
        town.request(worker(start_timeout=4.0), came)
        await asyncio.sleep(1.99)
        assert not came
        await asyncio.sleep(0.02)
        assert came == [process(1)]
        town.request(worker(start_timeout=4.0), came)  # once is enough
        assert came == [process(1)] * 2
        town.zygotes[0].prepared(Prepared())
        assert not town.zygotes[0].orders
        town.request(worker(start_timeout=4.0), came)
        town.zygotes[0].answer(process(11))
        assert came[2] == process(11)

    town(scenario)


@pytest.mark.parametrize(
    ("options", "config"),
    [({"adopt": False}, {}), ({}, {"start_method": StartMethod.SPAWN})],
    ids=["as a library", "start_method"],
)
def test_what_is_not_to_be_forked_is_spawned_at_once(town: Any, options: Any, config: Any) -> None:
    async def scenario(town: Town) -> None:
        came: list[Process | SpawnError] = []
        town.nursery.warm([worker(**config)])
        assert town.request(worker(**config), came).is_over
        assert came == [process(1)]
        assert not town.zygotes

    town(scenario, **options)


def test_a_zygote_with_threads_is_ended_and_its_workers_are_spawned_for_ever(town: Any) -> None:
    async def scenario(town: Town) -> None:
        came: list[Process | SpawnError] = []
        town.request(worker(), came)
        town.zygotes[0].prepared(Prepared(threads=2, blamed=("app",)))
        assert came == [process(1)]
        reason = "2 threads are left after the imports (begun by app), and a process with threads cannot be forked"
        assert town.events == [("zygote-unfit", {"cwd": "/home", "pid": 1000, "reason": reason})]
        await asyncio.sleep(1000)
        town.request(worker(), came)
        assert (len(came), len(town.zygotes)) == (2, 1)

    town(scenario)


def test_a_zygote_that_keeps_dying_is_started_again_later_and_later(town: Any) -> None:
    async def scenario(town: Town) -> None:
        came: list[Process | SpawnError] = []
        town.nursery.warm([worker()])
        for _ in range(5):
            count = len(town.zygotes)
            town.zygotes[-1].end("it was killed by SIGSEGV")
            town.request(worker(), came)  # meanwhile
            while len(town.zygotes) == count:
                await asyncio.sleep(0.01)
        assert [facts["delay"] for _, facts in town.events] == [0.0, 0.1, 0.2, 0.4, 0.8]
        assert town.events[0][1] == {
            "cwd": "/home",
            "pid": 1000,
            "reason": "it was killed by SIGSEGV",
            "tail": "its last words",
            "delay": 0.0,
        }
        assert came == [process(1)] * 5
        town.zygotes[-1].prepared(Prepared())
        await asyncio.sleep(5.0)
        town.zygotes[-1].end("it was killed by SIGKILL")
        assert town.events[-1][1]["delay"] == 0.0  # it had lived long enough

    town(scenario)


def test_a_zygote_that_cannot_be_started_is_tried_again(town: Any) -> None:
    async def scenario(town: Town) -> None:
        came: list[Process | SpawnError] = []
        town.start_error = SpawnError("cannot enter the directory")
        town.request(worker(), came)
        assert came == [process(1)]
        town.start_error = None
        await asyncio.sleep(0.01)
        town.zygotes[0].prepared(Prepared())
        town.request(worker(), came)
        town.zygotes[0].answer(process(11))
        assert came[1] == process(11)

    town(scenario)


def test_a_fork_that_fails_becomes_a_spawn(town: Any) -> None:
    async def scenario(town: Town) -> None:
        came: list[Process | SpawnError] = []
        town.request(worker(), came)
        town.zygotes[0].prepared(Prepared())
        town.zygotes[0].answer(SpawnError("cannot fork: Resource temporarily unavailable"))
        assert came == [process(1)]

    town(scenario)


def test_a_request_that_was_cancelled_gets_nothing_and_spawns_nothing(town: Any) -> None:
    async def scenario(town: Town) -> None:
        came: list[Process | SpawnError] = []
        town.request(worker(), came).cancel()
        town.zygotes[0].end("it was killed by SIGKILL")
        assert not came
        assert not town.spawned

    town(scenario)


def test_spares_are_forked_after_the_workers_and_later_and_later_when_that_fails(town: Any) -> None:
    async def scenario(town: Town) -> None:
        came: list[Process | SpawnError] = []
        town.request(worker(), came)
        zygote = town.zygotes[0]
        zygote.prepared(Prepared())
        assert [is_spare for _, is_spare in zygote.orders] == [False]
        zygote.answer(process(11))
        for _ in range(4):
            while not zygote.orders:
                await asyncio.sleep(0.001)
            assert zygote.answer(SpawnError("no"))
        assert zygote.asked_at[1:] == pytest.approx([0.05, 0.051, 0.152, 0.353], abs=0.003)

    town(scenario, spares=1)


def test_after_a_close_nothing_is_made_any_more(town: Any) -> None:
    async def scenario(town: Town) -> None:
        came: list[Process | SpawnError] = []
        town.request(worker(), came)
        await town.nursery.close()
        town.request(worker(), came)
        assert [str(error) for error in came] == ["the mesh is being stopped"] * 2
        assert not town.spawned

    town(scenario)


def test_a_reload_ends_what_is_not_needed_any_more_and_renews_what_imports_other_modules(town: Any) -> None:
    async def scenario(town: Town) -> None:
        loop = asyncio.get_running_loop()
        town.nursery.warm([worker(), worker(env={"A": "1"})])
        for zygote in town.zygotes:
            zygote.prepared(Prepared())
        assert await town.nursery.replace_changed() == ()
        town.nursery.warm([worker(), worker("other")])
        loop.call_later(1.0, lambda: town.zygotes[2].prepared(Prepared()))
        assert await town.nursery.replace_changed() == ("the modules for /home",)
        assert town.zygotes[2].plan.modules == ("app", "other")
        assert not any(zygote.killed for zygote in town.zygotes)
        await town.nursery.settle()
        assert [bool(zygote.killed) for zygote in town.zygotes] == [True, True, False]
        assert town.nursery.pids == {1002}

    town(scenario)


def changed_town(town: Town) -> PlayedZygote:
    """Have one zygote, of whose modules a file has changed."""
    town.nursery.warm([worker()])
    town.zygotes[0].prepared(Prepared())
    town.zygotes[0].changed = ("/home/app.py",)
    return town.zygotes[0]


@pytest.mark.parametrize(
    ("play", "error"),
    [
        (lambda new: new.prepared(Prepared({"app": "SyntaxError: no"})), "cannot be imported: app: SyntaxError: no"),
        (lambda new: new.end("it was killed by SIGSEGV"), "cannot be imported: it was killed by SIGSEGV"),
        (lambda new: None, r"was not imported within 10 s"),
    ],
    ids=["an exception", "a crash", "no end"],
)
def test_code_that_cannot_be_imported_replaces_nothing(town: Any, play: Callable[[Any], None], error: str) -> None:
    async def scenario(town: Town) -> None:
        old = changed_town(town)
        asyncio.get_running_loop().call_later(1.0, lambda: play(town.zygotes[1]))
        with pytest.raises(SupervisorError, match=f"the code in /home {error}"):
            await town.nursery.replace_changed()
        assert town.nursery.pids == {old.pid}
        assert not old.killed
        assert "code-changed" not in [name for name, _ in town.events]

    town(scenario)


def test_code_that_could_not_be_imported_before_keeps_nobody_from_a_change(town: Any) -> None:
    async def scenario(town: Town) -> None:
        broken = Prepared({"broken": "ValueError: still"})
        town.nursery.warm([worker(), worker("broken")])
        town.zygotes[0].prepared(broken)
        assert await town.nursery.is_stale()
        asyncio.get_running_loop().call_later(1.0, lambda: town.zygotes[1].prepared(broken))
        await town.nursery.replace_changed()
        assert not town.zygotes[1].killed

    town(scenario)


def test_a_mesh_that_stops_while_new_code_is_imported_leaves_no_zygote(town: Any) -> None:
    async def scenario(town: Town) -> None:
        changed_town(town)
        replacing = asyncio.create_task(town.nursery.replace_changed())
        await asyncio.sleep(1.0)
        assert town.nursery.pids == {1000, 1001}
        await town.nursery.close()
        with pytest.raises(SupervisorError, match="the mesh is being stopped"):
            await replacing
        assert town.nursery.pids == set()

    town(scenario)


def test_the_way_back_brings_back_what_was_asked_for_before(town: Any) -> None:
    async def scenario(town: Town) -> None:
        changed_town(town)
        town.nursery.configure([worker("other")], spares=0, preload=["json"])
        asyncio.get_running_loop().call_later(1.0, lambda: town.zygotes[1].prepared(Prepared()))
        assert await town.nursery.replace_changed() == ("/home/app.py",)
        assert town.zygotes[1].plan.modules == ("json", "other")
        assert town.events[-1] == ("code-changed", {"files": ["/home/app.py"], "runs": True})
        await town.nursery.roll_back()
        town.zygotes[0].changed = ()
        assert await town.nursery.replace_changed() == ()
        assert town.nursery.pids == {1000}

    town(scenario)
