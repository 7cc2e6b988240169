"""What an application is told of its plugins, with a supervisor and plugins that are pretended."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from meshvisor import PluginError, PluginEvent, PluginFault, PluginSpec, SupervisorError
from meshvisor.shared.config import MeshConfig
from meshvisor.shared.control.lifeline import Assignment, FromWorker
from meshvisor.shared.core.roster import NodeRecord, NodeStatus
from meshvisor.workers.introduction import Introduction
from meshvisor.workers.plugin_keeper import Keeper
from meshvisor.workers.plugin_news import PluginNews
from meshvisor.workers.plugin_spec import Sources, configurer


@dataclass
class Event:
    event: str
    slot: str
    incarnation: int = 1
    details: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0


@dataclass
class Worker:
    name: str
    state: str = "ready"
    pid: int | None = 7
    incarnation: int = 1
    restarts: int = 0
    rss: int = 0


class Supervisor:
    """Does nothing, and remembers what it was asked to do."""

    def __init__(self, config: MeshConfig) -> None:
        self.config = config
        self.asked: list[str] = []
        self.states = {worker.name: Worker(worker.name) for worker in config.workers}
        self.says: Callable[[Any], None] = lambda event: None
        self.starts: Callable[[str], Awaitable[None]] | None = None

    async def start(self, name: str) -> None:
        self.asked.append(f"start {name}")
        if self.starts is not None:
            await self.starts(name)

    async def stop(self, name: str) -> None:
        self.asked.append(f"stop {name}")

    async def restart(self, name: str) -> None:
        self.asked.append(f"restart {name}")

    async def reload(self, config: MeshConfig) -> Any:
        raise NotImplementedError

    def condemn(self, name: str, reason: str) -> None:
        self.asked.append(f"condemn {name}: {reason}")

    def status(self) -> Any:
        return self

    @property
    def workers(self) -> list[Worker]:
        return list(self.states.values())

    def subscribe(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        self.says = callback
        return lambda: None

    def subscribe_output(self, callback: Callable[[str, str, str], None]) -> Callable[[], None]:
        return lambda: None


class Embedding:
    """A mesh without processes; ``first`` is what happens when it is started."""

    def __init__(self, folder: Path, config: MeshConfig, told: Callable[[Iterable[NodeRecord]], None]) -> None:
        self.supervisor = Supervisor(config)
        self.member = self
        self.told = told
        self.first: list[Event] = []
        self.is_stopped = False
        self.assignment = Assignment(
            mesh="mesh",
            name="host",
            group="host",
            replica=0,
            incarnation=1,
            epoch=1,
            class_path="",
            path="",
            settings={},
            listen=(f"unix:{folder}/host.sock",),
            secret=b"secret",
            roster=(NodeRecord("host", "host", 0, 1, 1),),
        )

    def report(self, message: FromWorker) -> None: ...

    async def start(self) -> None:
        for event in self.first:
            asyncio.get_running_loop().call_soon(self.supervisor.says, event)

    async def stop(self) -> None:
        self.is_stopped = True

    def adapt(self, config: MeshConfig) -> MeshConfig:
        return config

    def how_it_ended(self, event: Any) -> str:
        return f"ended: {event.details['cause']}"


def ended(plugin: str, cause: str = "signaled", *, incarnation: int = 1, follows: str = "restart") -> Event:
    details = {"cause": cause, "tail": ["last words"], "next": follows, "delay": 0.5}
    return Event("slot-exited", plugin, incarnation, details)


class Stage:
    """A keeper of the plugins ``a`` and ``b``, and what it has told."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.told: list[PluginEvent] = []
        sources = Sources({"a": PluginSpec("app:A", **options), "b": "app:B"})

        def embed(config: MeshConfig, told: Callable[[Iterable[NodeRecord]], None]) -> Embedding:
            self.mesh = Embedding(folder, config, told)
            return self.mesh

        self.keeper = Keeper(sources, configurer("mesh"), embed, None, self.told.append)
        self.mesh.first = [Event("slot-ready", "a"), Event("slot-ready", "b")]

    @property
    def news(self) -> list[tuple[str, PluginNews, PluginFault | None]]:
        return [(event.plugin, event.event, event.fault) for event in self.told]

    def play(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(10):
                await self.keeper.start()
                try:
                    await scenario()
                finally:
                    await self.keeper.stop()

        asyncio.run(main())

    async def call(self, plugin: str) -> PluginError:
        with pytest.raises(PluginError) as caught:
            await self.keeper.call(plugin, "method", (), {}, timeout=5.0, retry=False)
        return caught.value

    def gone(self, plugin: str, why: str) -> None:
        self.mesh.told([NodeRecord(plugin, plugin, 0, 1, 5, NodeStatus.GONE, (), why)])


def test_it_is_entered_when_it_is_known_of_each_plugin_how_its_start_went(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.mesh.first = [Event("slot-ready", "a"), ended("b", "exited")]

    async def scenario() -> None: ...

    stage.play(scenario)
    assert stage.news == [("a", PluginNews.READY, None), ("b", PluginNews.ENDED, PluginFault.CRASHED)]
    assert stage.told[1].tail == ("last words",)
    assert (stage.told[1].next, stage.told[1].delay) == ("restart", 0.5)
    assert stage.mesh.is_stopped


def test_without_one_that_is_required_it_is_not_entered_and_leaves_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, required=True)
    stage.mesh.first = [ended("a", "start-timeout"), Event("slot-ready", "b")]
    stage.mesh.supervisor.states["a"].state = "backoff"

    async def scenario() -> None:
        raise AssertionError("must not be reached")

    with pytest.raises(PluginError, match="plugin a ended: start-timeout") as caught:
        stage.play(scenario)
    assert caught.value.fault is PluginFault.START_TIMEOUT
    assert stage.mesh.is_stopped


@pytest.mark.parametrize(
    ("cause", "fault"),
    [
        ("exited", PluginFault.CRASHED),
        ("signaled", PluginFault.CRASHED),
        ("hung", PluginFault.HUNG),
        ("frozen", PluginFault.FROZEN),
        ("oom", PluginFault.MEMORY),
        ("memory", PluginFault.MEMORY),
    ],
)
def test_the_causes_of_an_end_are_told_as_faults(tmp_path: Path, cause: str, fault: PluginFault) -> None:
    stage = Stage(tmp_path)

    async def scenario() -> None:
        stage.mesh.supervisor.says(ended("a", cause))
        trouble = stage.keeper.status("a").trouble
        assert trouble is not None
        assert trouble.fault is fault

    stage.play(scenario)
    assert stage.news[2:] == [("a", PluginNews.ENDED, fault)]


def test_a_plugin_that_is_parked_says_so_and_why(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    async def scenario() -> None:
        stage.mesh.supervisor.says(ended("a", "hung", follows="parked"))
        stage.gone("a", "parked")
        error = await stage.call("a")
        assert error.fault is PluginFault.PARKED
        assert str(error) == (
            "plugin a has failed too often, and is parked: tried again only now and then (at last, it ended: hung)"
        )

    stage.play(scenario)


def test_a_stop_that_was_asked_for_is_told_as_such_and_not_as_an_end(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    async def scenario() -> None:
        stage.mesh.supervisor.says(ended("a", "stopped", follows="stopped"))
        stage.mesh.supervisor.says(Event("slot-stopped", "a"))
        stage.gone("a", "stopped")
        error = await stage.call("a")
        assert (error.fault, error.reason) == (
            PluginFault.STOPPED,
            "is stopped, and is not started again before it is enabled",
        )
        assert stage.keeper.status("a").trouble is None

    stage.play(scenario)
    assert stage.news[2:] == [("a", PluginNews.STOPPED, None)]


def test_a_plugin_that_is_not_needed_is_refused_and_put_down_at_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path, version=">=2")

    async def scenario() -> None:
        assert stage.keeper.introduced("a", 1, Introduction("2.1", ())) is None
        assert stage.keeper.status("a").version == "2.1"
        objection = stage.keeper.introduced("a", 2, Introduction("1.0", ()))
        assert objection == "is version 1.0, and >=2 is needed"
        await asyncio.sleep(0)
        assert stage.mesh.supervisor.asked == ["stop a"]
        stage.mesh.supervisor.says(ended("a", "stopped", incarnation=2, follows="stopped"))
        stage.mesh.supervisor.says(Event("slot-stopped", "a", 2))
        stage.gone("a", "stopped")
        error = await stage.call("a")
        assert (error.fault, error.reason) == (PluginFault.REFUSED, f"is refused: it {objection}")
        assert stage.keeper.status("a").state == "refused"

    stage.play(scenario)
    assert stage.news[2:] == [("a", PluginNews.REFUSED, PluginFault.REFUSED)]


def test_a_refusal_is_forgotten_when_the_plugin_is_enabled(tmp_path: Path) -> None:
    stage = Stage(tmp_path, version=">=2")

    async def scenario() -> None:
        stage.keeper.introduced("a", 1, Introduction("1.0", ()))
        await asyncio.sleep(0)
        await stage.keeper.enable("a", None)
        assert stage.keeper.status("a").state == "ready"

    stage.play(scenario)
    assert stage.mesh.supervisor.asked == ["stop a", "start a"]


def test_why_a_plugin_cannot_be_enabled_is_its_own_story(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    async def fail(name: str) -> None:
        stage.mesh.supervisor.says(ended(name, "exited"))
        raise SupervisorError("a did not become ready")

    async def scenario() -> None:
        stage.mesh.supervisor.starts = fail
        with pytest.raises(PluginError, match="plugin a ended: exited"):
            await stage.keeper.enable("a", None)

    stage.play(scenario)


def test_one_that_floods_is_condemned_once_and_the_end_is_told_as_a_flood(tmp_path: Path) -> None:
    stage = Stage(tmp_path, max_rate=100)

    async def scenario() -> None:
        assert stage.keeper.came("a", 150, 0)
        assert not stage.keeper.came("a", 150, 0)
        assert not stage.keeper.came("a", 1, 0)
        assert stage.keeper.came("b", 1000, 0)
        stage.mesh.supervisor.says(ended("a"))
        assert stage.keeper.came("a", 100, 0)  # the next one begins anew

    stage.play(scenario)
    assert stage.mesh.supervisor.asked == ["condemn a: it floods the application, with more than 100 messages a second"]
    assert stage.news[2:] == [("a", PluginNews.ENDED, PluginFault.FLOODED)]


def test_an_application_that_cannot_listen_is_told_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stage = Stage(tmp_path / "nowhere")
    stage.mesh.first = []

    async def scenario() -> None:
        raise AssertionError("must not be reached")

    with pytest.raises(SupervisorError, match="cannot be a node of its mesh"):
        stage.play(scenario)
    assert "FileNotFoundError" in capfd.readouterr().err
    assert stage.mesh.is_stopped


def test_a_listener_that_fails_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(tmp_path)

    def fail(event: PluginEvent) -> None:
        raise ValueError("no room in the diary")

    stage.keeper._on_event = fail

    async def scenario() -> None:
        assert stage.keeper.status("a").is_ready

    stage.play(scenario)
    assert "no room in the diary" in caplog.text


def test_a_call_after_the_end_is_an_error_of_the_plugin(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    async def scenario() -> None: ...

    stage.play(scenario)

    async def late() -> None:
        error = await stage.call("a")
        assert error.reason == "is stopped: its host has ended"

    asyncio.run(late())
