"""Rolling restarts of a mesh of actors under the real supervisor, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.stage import Part, Stage

from meshvisor.shared.config.model import Backoff, RestartPolicy, StrategyName, WorkerConfig
from meshvisor.shared.core.roster import NodeStatus
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.child import Exit
from meshvisor.workers.testing import run_virtual

CALM = Backoff(initial=1.0, max=8.0, jitter=0.0, reset_after=10.0)


def node(name: str, **options: Any) -> WorkerConfig:
    return WorkerConfig(name, Path("/"), class_path="shop:Says", **{"backoff": CALM, **options})


def play(stage: Stage, story: Callable[[], Awaitable[None]]) -> None:
    """Play ``story`` one second after the start; stop then, and have nothing left and nothing counted."""

    async def main() -> None:
        await stage.supervisor.start_all()
        await asyncio.sleep(1)
        stage.log.clear()
        await story()
        stage.supervisor.request_stop()
        assert await stage.supervisor.wait() == 0
        assert not stage.living
        assert not stage.candidates
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "meshvisor-errand"]

    with stage.opened():
        run_virtual(main())


def happened(stage: Stage) -> list[tuple[str, str]]:
    return [(what, name) for _, what, name in stage.log]


def incarnations(stage: Stage) -> dict[str, int]:
    return {worker.name: worker.incarnation for worker in stage.supervisor.status().workers}


def told(stage: Stage, slot: str) -> list[NodeStatus]:
    """Return what the roster has said of a slot, in its order."""
    return [record.status for record in stage.roster if record.name == slot]


def test_a_successor_is_prepared_before_its_predecessor_is_asked_for_the_place() -> None:
    stage = Stage(node("a", replicas=2), max_restarts=0)

    async def story() -> None:
        await stage.supervisor.restart("a")
        assert happened(stage) == [
            *(("asked", "a-0"), ("ends", "a-0"), ("starts", "a-0")),
            *(("asked", "a-1"), ("ends", "a-1"), ("starts", "a-1")),
        ]
        # Prepared for 20 ms, 50 ms to the end of the old one, 50 ms to ready; and the same again.
        assert [at for at, _, _ in stage.log] == pytest.approx([1.02, 1.07, 1.07, 1.14, 1.19, 1.19])
        assert asyncio.get_running_loop().time() == pytest.approx(1.24)
        assert incarnations(stage) == {"a-0": 2, "a-1": 2}
        assert [worker.restarts for worker in stage.supervisor.status().workers] == [0, 0]
        assert list(dict.fromkeys(told(stage, "a-0")[-4:])) == [NodeStatus.HELD, NodeStatus.DOWN, NodeStatus.READY]

    play(stage, story)


def test_all_that_a_roll_shows_of_a_slot_is_one_line() -> None:
    stage = Stage(node("a"))

    async def story() -> None:
        stage.events.clear()
        await stage.supervisor.restart("a")
        names = [event.event for _, event in stage.events]
        assert names == ["slot-candidate", "slot-stopping", "slot-exited", "slot-starting", "slot-ready"]
        assert [event.event for _, event in stage.events if not event.is_minor] == ["slot-ready"]
        assert stage.events[0][1].details["duration"] == pytest.approx(0.02)
        assert stage.events[-1][1].details["after"] == pytest.approx(0.05)

    play(stage, story)


def test_a_command_and_what_is_not_ready_are_stopped_and_started() -> None:
    stage = Stage(WorkerConfig("tool", Path("/"), command=("tool",)), node("a"))

    async def story() -> None:
        await stage.supervisor.restart("tool")
        assert happened(stage) == [("asked", "tool"), ("ends", "tool"), ("starts", "tool")]
        await stage.supervisor.stop("a")
        await stage.supervisor.restart("a")
        assert not stage.when("slot-candidate", "a")
        assert incarnations(stage) == {"tool": 2, "a": 2}

    play(stage, story)


def test_at_once_stops_and_starts_all_together() -> None:
    stage = Stage(node("a", replicas=2))

    async def story() -> None:
        await stage.supervisor.restart("a", at_once=True)
        assert [what for what, _ in happened(stage)] == ["asked", "asked", "ends", "starts", "ends", "starts"]
        assert not stage.when("slot-candidate", "a-0")

    play(stage, story)


def test_a_candidate_that_dies_or_takes_too_long_leaves_everything_as_it_is() -> None:
    stage = Stage(node("a", replicas=2, start_timeout=3.0), max_restarts=0)

    async def story() -> None:
        stage.parts["a-0"] = Part(is_made=False)
        with pytest.raises(SupervisorError, match=r"a-0 was not replaced: there is no such thing"):
            await stage.supervisor.restart("a")
        stage.parts["a-0"] = Part(prepared=None)
        with pytest.raises(SupervisorError, match=r"a-0 was not replaced: it was not prepared within 3 s"):
            await stage.supervisor.restart("a")
        roll = asyncio.create_task(stage.supervisor.restart("a"))
        await asyncio.sleep(0.01)
        stage.candidates[0].dies(Exit(signal="SIGKILL"))
        with pytest.raises(SupervisorError, match=r"a-0 was not replaced: it was killed by SIGKILL"):
            await roll
        assert happened(stage) == []
        assert incarnations(stage) == {"a-0": 1, "a-1": 1}
        assert len(stage.when("slot-candidate-failed", "a-0")) == 3

    play(stage, story)


def test_a_candidate_that_dies_while_its_predecessor_hands_over_is_replaced() -> None:
    stage = Stage(node("a"))

    async def story() -> None:
        roll = asyncio.create_task(stage.supervisor.restart("a"))
        await asyncio.sleep(0.04)
        stage.candidates[0].dies()
        await roll
        assert happened(stage) == [("asked", "a"), ("ends", "a"), ("starts", "a")]
        assert incarnations(stage) == {"a": 2}
        assert told(stage, "a")[-1] == NodeStatus.READY

    play(stage, story)


@pytest.mark.parametrize("part", [Part(ready=None), Part(ready=None, ends=0.1)], ids=["hangs", "ends"])
def test_a_successor_that_does_not_become_ready_is_followed_by_another_one_and_is_no_incident(part: Part) -> None:
    stage = Stage(node("a", start_timeout=3.0), node("b"), max_restarts=0, strategy=StrategyName.ONE_FOR_ALL)

    async def story() -> None:
        stage.parts["a"] = part
        roll = asyncio.create_task(stage.supervisor.restart("a"))
        await asyncio.sleep(0.09)
        stage.parts["a"] = Part()
        with pytest.raises(SupervisorError, match="a did not become ready"):
            await roll
        assert stage.states == {"a": "ready", "b": "ready"}
        assert incarnations(stage) == {"a": 3, "b": 1}
        assert [worker.restarts for worker in stage.supervisor.status().workers] == [0, 0]

    play(stage, story)


def test_what_follows_a_failed_successor_goes_by_the_usual_rules() -> None:
    stage = Stage(node("a"), node("b"), max_restarts=5)

    async def story() -> None:
        stage.parts["a"] = Part(ready=None, ends=0.1)
        with pytest.raises(SupervisorError, match="a did not become ready"):
            await stage.supervisor.restart("a")
        assert stage.states == {"a": "backoff", "b": "ready"}
        stage.parts["a"] = Part()
        await asyncio.sleep(10)
        assert stage.states == {"a": "ready", "b": "ready"}

    play(stage, story)


def test_a_process_that_crashes_while_its_successor_is_prepared_is_restarted_as_ever() -> None:
    stage = Stage(node("a"))

    async def story() -> None:
        stage.parts["a"] = Part(prepared=0.5)
        roll = asyncio.create_task(stage.supervisor.restart("a"))
        await asyncio.sleep(0.1)
        stage.living["a"].dies()
        await roll
        assert asyncio.get_running_loop().time() == pytest.approx(1.15, abs=0.002)
        assert incarnations(stage) == {"a": 2}
        assert not stage.candidates

    play(stage, story)


def test_a_job_that_ends_while_its_successor_is_prepared_is_started_as_any_that_has_ended() -> None:
    stage = Stage(node("job", restart=RestartPolicy.NEVER), node("a"))

    async def story() -> None:
        stage.parts["job"] = Part(prepared=0.5)
        roll = asyncio.create_task(stage.supervisor.restart("job"))
        await asyncio.sleep(0.1)
        stage.living["job"].dies(Exit(code=0))
        await roll
        assert stage.states == {"job": "ready", "a": "ready"}
        assert incarnations(stage) == {"job": 2, "a": 1}

    play(stage, story)


def test_what_is_stopped_before_its_turn_in_a_roll_stays_down_and_what_was_stopped_before_the_roll_does_not() -> None:
    stage = Stage(node("a", replicas=2))

    async def story() -> None:
        roll = asyncio.create_task(stage.supervisor.restart("a"))
        await asyncio.sleep(0.01)
        await stage.supervisor.stop("a-1")
        with pytest.raises(SupervisorError, match="a-1 was not replaced: it was stopped"):
            await roll
        assert stage.states == {"a-0": "ready", "a-1": "stopped"}
        assert incarnations(stage) == {"a-0": 2, "a-1": 1}
        await stage.supervisor.restart("a")
        assert stage.states == {"a-0": "ready", "a-1": "ready"}

    play(stage, story)


@pytest.mark.parametrize("is_down", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("change", ["start", "restart", "restart at once"])
def test_a_stop_counts_though_a_start_from_before_it_still_waits_for_a_reload(change: str, is_down: bool) -> None:
    """DESIGN 5.3: what an operator stopped stays down until the next start. The other slots that were meant start."""
    stage = Stage(node("a", replicas=2), node("b"))

    async def story() -> None:
        supervisor = stage.supervisor
        await supervisor.stop("a" if is_down else "a-1")
        reloading = asyncio.create_task(reload(stage, settings={"new": True}, of="b"))
        await asyncio.sleep(0.01)
        asked = supervisor.start("a") if change == "start" else supervisor.restart("a", at_once="once" in change)
        waiting = asyncio.create_task(asked)
        await asyncio.sleep(0.01)
        await supervisor.stop("a-1")
        with pytest.raises(SupervisorError, match=r"^a-1(: stopped before it was| was not replaced: it was stopped)"):
            await waiting
        await reloading
        assert stage.states == {"a-0": "ready", "a-1": "stopped", "b": "ready"}
        await supervisor.start("a-1")
        assert stage.states["a-1"] == "ready"

    play(stage, story)


def test_a_start_after_a_stop_counts_though_both_come_before_the_turn_of_an_earlier_start() -> None:
    stage = Stage(node("a"), node("b"))

    async def story() -> None:
        await stage.supervisor.stop("a")
        reloading = asyncio.create_task(reload(stage, settings={"new": True}, of="b"))
        await asyncio.sleep(0.01)
        first = asyncio.create_task(stage.supervisor.start("a"))
        await asyncio.sleep(0.01)
        await stage.supervisor.stop("a")
        second = asyncio.create_task(stage.supervisor.start("a"))
        with pytest.raises(SupervisorError, match="a: stopped before it was its turn to start"):
            await first
        await second
        await reloading
        assert stage.states == {"a": "ready", "b": "ready"}

    play(stage, story)


@pytest.mark.parametrize("after", [0.01, 0.04, 0.09], ids=["prepares", "hands over", "starts"])
def test_what_is_stopped_in_the_middle_of_a_roll_stays_down(after: float) -> None:
    stage = Stage(node("a", replicas=2))

    async def story() -> None:
        roll = asyncio.create_task(stage.supervisor.restart("a"))
        await asyncio.sleep(after)
        await stage.supervisor.stop("a")
        with pytest.raises(SupervisorError, match="it was stopped"):
            await roll
        await asyncio.sleep(1)
        assert stage.states == {"a-0": "stopped", "a-1": "stopped"}
        assert not stage.living
        assert not stage.candidates

    play(stage, story)


@pytest.mark.parametrize("after", [0.01, 0.04, 0.09], ids=["prepares", "hands over", "starts"])
def test_nothing_restarts_after_the_mesh_was_asked_to_stop(after: float) -> None:
    stage = Stage(node("a", replicas=2))

    async def story() -> None:
        roll = asyncio.create_task(stage.supervisor.restart("a"))
        await asyncio.sleep(after)
        starts = stage.of("starts")
        stage.supervisor.request_stop()
        with pytest.raises(SupervisorError, match="as requested"):
            await roll
        await stage.supervisor.wait()
        assert stage.of("starts") == starts

    play(stage, story)


@pytest.mark.parametrize("after", [0.01, 0.04, 0.09], ids=["prepares", "hands over", "starts"])
def test_a_roll_goes_on_to_its_end_though_nobody_waits_for_it(after: float) -> None:
    stage = Stage(node("a", replicas=2))

    async def story() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stage.supervisor.restart("a"), after)
        assert asyncio.get_running_loop().time() == pytest.approx(1.0 + after)
        await asyncio.sleep(1)
        assert incarnations(stage) == {"a-0": 2, "a-1": 2}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reload(stage, settings={"new": True}), after)
        await asyncio.sleep(1)
        assert incarnations(stage) == {"a-0": 3, "a-1": 3}
        assert stage.supervisor.config.workers[0].settings == {"new": True}

    play(stage, story)


def test_two_restarts_at_the_same_time_are_each_waited_for() -> None:
    stage = Stage(node("a", replicas=2))

    async def story() -> None:
        rolls = [asyncio.create_task(stage.supervisor.restart(name)) for name in ("a", "a-0")]
        await asyncio.sleep(0.01)
        assert len(stage.slots["a-0"].pids) == 3
        await asyncio.gather(*rolls)
        assert stage.states == {"a-0": "ready", "a-1": "ready"}
        assert incarnations(stage) == {"a-0": 2, "a-1": 2}
        assert not stage.candidates

    play(stage, story)


def test_a_restart_that_waits_for_its_turn_does_not_keep_a_reload_from_rolling_back() -> None:
    stage = Stage(node("a", replicas=2, start_timeout=3.0), max_restarts=0)

    async def story() -> None:
        stage.parts["a-1"] = Part(prepared=1.0)  # the reload comes to it before that
        restart = asyncio.create_task(stage.supervisor.restart("a-1"))
        await asyncio.sleep(0.01)
        stage.parts["a-1"] = Part(ready=None)
        reloading = asyncio.create_task(reload(stage, settings={"new": True}))
        await asyncio.sleep(0.25)
        stage.parts["a-1"] = Part()
        with pytest.raises(SupervisorError, match="a-1 did not become ready"):
            await asyncio.wait_for(reloading, 20)
        await restart
        assert stage.states == {"a-0": "ready", "a-1": "ready"}
        assert stage.supervisor.config.workers[0].settings == {}
        assert incarnations(stage) == {"a-0": 3, "a-1": 3}

    play(stage, story)


def test_only_one_slot_hands_over_at_a_time() -> None:
    stage = Stage(node("a"), node("b"))

    async def story() -> None:
        await asyncio.gather(stage.supervisor.restart("a"), stage.supervisor.restart("b"))
        assert [at for at, _, _ in stage.log] == pytest.approx([1.02, 1.07, 1.07, 1.12, 1.17, 1.17])
        assert stage.of("asked") == ["a", "b"]

    play(stage, story)


async def reload(stage: Stage, of: str = "", **options: Any) -> None:
    """Go over to other options of all workers, or of one."""
    config = stage.supervisor.config
    workers = tuple(replace(one, **options) if of in ("", one.name) else one for one in config.workers)
    await stage.supervisor.reload(replace(config, workers=workers))


def test_a_reload_rolls_and_when_one_fails_all_roll_back() -> None:
    stage = Stage(node("a", replicas=3), max_restarts=0)

    async def story() -> None:
        stage.parts["a-2"] = Part(prepared=None)
        with pytest.raises(SupervisorError, match=r"a-2 was not replaced: it was not prepared within 2 s"):
            await reload(stage, settings={"new": True}, start_timeout=2.0)
        assert incarnations(stage) == {"a-0": 3, "a-1": 3, "a-2": 1}
        assert stage.supervisor.config.workers[0].settings == {}
        assert {name: dict(actor.identity.config.settings) for name, actor in stage.living.items()} == {
            "a-0": {},
            "a-1": {},
            "a-2": {},
        }
        assert len(stage.when("slot-candidate", "a-0")) == 2  # there and back

    play(stage, story)


def test_a_slot_that_fails_on_the_way_back_goes_by_the_usual_rules() -> None:
    """A storm: nobody started it any more, and what depended on it was waited for in vain."""
    stage = Stage(node("a", start_timeout=3.0), node("b", depends_on=("a",), start_timeout=3.0))

    async def story() -> None:
        stage.parts["b"] = Part(ready=None)
        reloading = asyncio.create_task(reload(stage, settings={"new": True}))
        await asyncio.sleep(0.3)
        stage.parts = {"a": Part(ready=None, ends=0.01), "b": Part()}
        await asyncio.sleep(3.3)
        stage.parts.clear()
        with pytest.raises(SupervisorError, match="b did not become ready"):
            await reloading
        assert stage.states == {"a": "ready", "b": "ready"}

    play(stage, story)


def test_a_slot_that_goes_while_it_is_rolled_is_not_waited_for() -> None:
    stage = Stage(node("a", replicas=2))

    async def story() -> None:
        roll = asyncio.create_task(stage.supervisor.restart("a-1"))
        await asyncio.sleep(0.04)
        await stage.supervisor.scale("a", 1)
        with pytest.raises(SupervisorError):
            await roll
        assert stage.states == {"a-0": "ready"}

    play(stage, story)


def test_a_worker_whose_dependency_is_missing_is_not_asked_for_its_place() -> None:
    stage = Stage(node("db"), node("a", depends_on=("db",)))

    async def story() -> None:
        stage.parts["db"] = Part(ready=5.0)
        stage.living["db"].dies()
        await asyncio.sleep(0.1)
        with pytest.raises(SupervisorError, match="a was not replaced: what it depends on is not ready"):
            await stage.supervisor.restart("a")
        assert incarnations(stage) == {"db": 2, "a": 1}
        await asyncio.sleep(10)

    play(stage, story)
