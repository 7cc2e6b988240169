"""A whole mesh of actors under the real supervisor, on virtual time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from tests.supervisor.stage import Part, Stage

from meshvisor.shared.config.model import Backoff, OnLimit, RestartPolicy, StrategyName, WorkerConfig
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.child import Exit
from meshvisor.workers.testing import run_virtual

CALM = Backoff(initial=1.0, max=8.0, jitter=0.0, reset_after=10.0)


def worker(name: str, **options: Any) -> WorkerConfig:
    return WorkerConfig(name, Path("/"), command=(name,), **{"backoff": CALM, **options})


def play(stage: Stage, story: Callable[[], Awaitable[None]]) -> int:
    """Play ``story`` after the mesh was started; stop it if it goes on then, and return its exit status."""

    async def main() -> int:
        await stage.supervisor.start_all()
        await story()
        stage.supervisor.request_stop()
        status = await stage.supervisor.wait()
        assert not stage.living
        return status

    with stage.opened():
        return run_virtual(main())


def three_levels(**options: Any) -> list[WorkerConfig]:
    return [
        worker("db", **options),
        worker("cache", replicas=2, depends_on=("db",), **options),
        worker("web", depends_on=("cache",), **options),
    ]


def test_levels_start_one_after_the_other_and_stop_in_reverse() -> None:
    """supervisord 6 (reliability.md 4.3): stop_all in the reverse order of the starts."""
    stage = Stage(*three_levels())

    async def story() -> None:
        await asyncio.sleep(1)
        assert [at for at, what, _ in stage.log] == pytest.approx([0.0, 0.05, 0.05, 0.1])
        assert stage.when("mesh-ready") == pytest.approx([0.15])

    assert play(stage, story) == 0
    assert stage.of("starts") == ["db", "cache-0", "cache-1", "web"]
    assert stage.of("asked") == ["web", "cache-0", "cache-1", "db"]
    assert stage.of("ends") == ["web", "cache-0", "cache-1", "db"]


def test_rest_for_one_stops_the_successors_in_reverse_and_starts_them_forward() -> None:
    """OTP (reliability.md 4.1): from the failed one's successors in reverse start order, then forward from it."""
    stage = Stage(*three_levels(), strategy=StrategyName.REST_FOR_ONE, max_restarts=1)

    async def story() -> None:
        await asyncio.sleep(1)
        stage.log.clear()
        stage.living["cache-0"].dies()
        await asyncio.sleep(1)
        happened = [(what, name) for _, what, name in stage.log]
        assert happened == [
            ("ends", "cache-0"),
            ("asked", "web"),
            ("ends", "web"),
            ("asked", "cache-1"),
            ("ends", "cache-1"),
            ("starts", "cache-0"),
            ("starts", "cache-1"),
            ("starts", "web"),
        ]

    assert play(stage, story) == 0


def test_each_sibling_has_its_own_stop_timeout() -> None:
    """OTP (reliability.md 4.1): termination is one after the other, each child with its own timeout."""
    stubborn = Part(obeys=None)
    workers = [worker("a"), worker("b", depends_on=("a",), stop_timeout=2.0)]
    workers.append(worker("c", depends_on=("b",), stop_timeout=3.0))
    stage = Stage(*workers, strategy=StrategyName.ONE_FOR_ALL)
    stage.parts = {"b": stubborn, "c": stubborn}

    async def story() -> None:
        await asyncio.sleep(1)
        stage.log.clear()
        stage.living["a"].dies()
        await asyncio.sleep(10)
        ends = [(at, name) for at, what, name in stage.log if what == "ends"]
        assert [name for _, name in ends] == ["a", "c", "b"]
        assert [at for at, _ in ends] == pytest.approx([1.0, 4.0, 6.0], abs=0.01)

    assert play(stage, story) == 0


def test_a_failed_restart_is_another_restart() -> None:
    """OTP (reliability.md 4.1): between the attempts control returns to the loop, and a stop gets in."""
    stage = Stage(worker("a"), max_restarts=3)

    async def story() -> None:
        await asyncio.sleep(1)
        stage.parts["a"] = Part(is_made=False)
        stage.living["a"].dies()
        await stage.supervisor.wait()

    assert play(stage, story) == 3
    assert [at for at, what, _ in stage.log if what == "starts"] == pytest.approx([0, 1, 2, 4])
    assert stage.when("limit-exceeded") == pytest.approx([4.0])


def test_a_stop_gets_in_between_two_attempts() -> None:
    """OTP (reliability.md 4.1), supervisord 4 (reliability.md 4.3): nothing is started after it."""
    stage = Stage(worker("a"), worker("b"), max_restarts=100)

    async def story() -> None:
        await asyncio.sleep(1)
        stage.parts["a"] = Part(is_made=False)
        stage.living["a"].dies()
        await asyncio.sleep(5)
        stage.log.clear()
        stage.supervisor.request_stop()
        await asyncio.sleep(100)

    assert play(stage, story) == 0
    assert stage.log == [(6.0, "asked", "b"), (pytest.approx(6.05), "ends", "b")]


@pytest.mark.parametrize(("second", "status"), [(6.0, 3), (6.001, 0)])
def test_the_edge_of_the_window_belongs_to_it(second: float, status: int) -> None:
    """OTP (reliability.md 4.1): intensity 1, period 5: restarts at 0 and 5 die, at 0 and 6 live."""
    stage = Stage(worker("a"), max_restarts=1, max_restarts_window=5.0)

    async def story() -> None:
        def dies() -> None:
            stage.living["a"].dies()

        loop = asyncio.get_running_loop()
        for at in (1.0, second):
            loop.call_at(at, dies)
        await asyncio.sleep(8)

    assert play(stage, story) == status


def test_one_incident_counts_once_however_many_siblings_restart() -> None:
    """OTP (reliability.md 4.1)."""
    stage = Stage(*three_levels(), strategy=StrategyName.ONE_FOR_ALL, max_restarts=1)

    async def story() -> None:
        await asyncio.sleep(1)
        stage.living["db"].dies()
        await asyncio.sleep(1)
        assert set(stage.states.values()) == {"ready"}

    assert play(stage, story) == 0


def test_a_mesh_short_of_means_waits_and_goes_on_by_itself() -> None:
    """supervisord 8 (reliability.md 4.3)."""
    stage = Stage(worker("a"), worker("b"), max_restarts=1)

    async def story() -> None:
        await asyncio.sleep(1)
        stage.parts["a"] = Part(is_made=False, is_short=True)
        stage.living["a"].dies()
        await asyncio.sleep(60)
        assert stage.states == {"a": "backoff", "b": "ready"}
        shown = [event for _, event in stage.events if event.slot == "a" and not event.is_minor]
        assert [event.event for event in shown] == ["slot-ready", "slot-exited", "slot-exited"]
        stage.parts.clear()
        await asyncio.sleep(1.1)
        assert stage.states == {"a": "ready", "b": "ready"}

    assert play(stage, story) == 0


def a_hard_life() -> tuple[list[tuple[float, str, str]], list[float]]:
    """Return what happens to a mesh with failed starts, back-off, stop time-outs and the limit, and when in the log."""
    workers = (worker("a", start_timeout=1.0), worker("b", stop_timeout=2.0))
    stage = Stage(*workers, max_restarts=4, max_restarts_window=30.0)
    stage.parts["b"] = Part(obeys=None)

    async def story() -> None:
        await asyncio.sleep(1)
        stage.parts["a"] = Part(ready=None)
        stage.living["a"].dies()
        await stage.supervisor.restart("b")
        await asyncio.sleep(200)

    assert play(stage, story) == 3
    return stage.log, [event.at for _, event in stage.events]


def test_a_wall_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """supervisord 10 (reliability.md 4.3): it goes back an hour, or on by one, at each look; nothing depends on it."""
    calm, _ = a_hard_life()
    jumping = cycle([1e9, 1e9 - 3600, 1e9 + 3600, 0.0])
    monkeypatch.setattr(time, "time", lambda: next(jumping))
    hectic, at = a_hard_life()
    assert hectic == calm
    assert sorted(at) != at


def test_what_an_operator_stopped_stays_down_whatever_happens_to_its_siblings() -> None:
    """OTP (reliability.md 4.1): terminate_child; the bystander is not started by the restart of another."""
    stage = Stage(worker("a"), worker("b"), strategy=StrategyName.ONE_FOR_ALL)

    async def story() -> None:
        await asyncio.sleep(1)
        await stage.supervisor.stop("b")
        stage.living["a"].dies()
        await asyncio.sleep(5)
        assert stage.states == {"a": "ready", "b": "stopped"}

    assert play(stage, story) == 0


def test_only_an_end_of_its_own_makes_a_significant_worker_end_the_mesh() -> None:
    """OTP (reliability.md 4.1): auto_shutdown, but never by terminate_child, nor as a bystander."""
    once = worker("once", significant=True, restart=RestartPolicy.ON_FAILURE)
    stage = Stage(worker("a"), once, strategy=StrategyName.ONE_FOR_ALL)

    async def story() -> None:
        await asyncio.sleep(1)
        stage.living["a"].dies()  # the bystander
        await asyncio.sleep(1)
        await stage.supervisor.stop("once")
        await asyncio.sleep(1)
        assert stage.states == {"a": "ready", "once": "stopped"}
        await stage.supervisor.start("once")
        stage.living["once"].dies(Exit(code=0))
        await asyncio.sleep(1)
        assert stage.supervisor.status().state == "stopping" or not stage.living

    assert play(stage, story) == 0
    assert not stage.when("slot-ready", "once")[3:]


def test_a_parked_slot_leaves_the_others_alone_and_is_normal_again_when_the_cause_is_gone() -> None:
    stage = Stage(worker("a"), worker("b"), max_restarts=2, on_limit=OnLimit.PARK)
    stage.parts["a"] = Part(ends=0.1)

    async def story() -> None:
        await asyncio.sleep(60)
        assert stage.states == {"a": "parked", "b": "ready"}
        assert len(stage.of("starts")) == 1 + 3 + 7  # b; at 0, 0.1 and 1.2; then each 8 s
        stage.parts.clear()
        await asyncio.sleep(8.2)
        assert stage.states["a"] == "ready"
        await asyncio.sleep(10)
        stage.living["a"].dies()
        await asyncio.sleep(0.1)
        assert stage.states["a"] == "ready"  # at once

    assert play(stage, story) == 0


def test_a_start_that_is_waited_for_says_why_it_failed() -> None:
    stage = Stage(worker("a"), worker("b", start_timeout=4.0))

    async def story() -> None:
        await asyncio.sleep(1)
        await stage.supervisor.stop("b")
        stage.parts["b"] = Part(is_made=False)
        with pytest.raises(SupervisorError, match="b did not become ready: there is no such thing"):
            await stage.supervisor.start("b")
        assert asyncio.get_running_loop().time() == pytest.approx(5.05)

    assert play(stage, story) == 0


def test_a_start_while_the_stop_goes_on_is_the_latest_wish_and_ends_the_wait_for_the_stop() -> None:
    stage = Stage(worker("a"), worker("b"))

    async def story() -> None:
        await asyncio.sleep(1)
        stop = asyncio.create_task(stage.supervisor.stop("a"))
        await asyncio.sleep(0.01)
        await stage.supervisor.start("a")
        with pytest.raises(SupervisorError, match="a: started again while it stopped"):
            await stop
        assert stage.states == {"a": "ready", "b": "ready"}

    assert play(stage, story) == 0


def test_a_slot_that_is_to_go_stays_if_it_is_wanted_again_before_it_is_gone() -> None:
    stage = Stage(worker("a", replicas=3), worker("b"))
    stage.parts["a-2"] = Part(obeys=0.5)

    async def story() -> None:
        await asyncio.sleep(1)
        down = asyncio.create_task(stage.supervisor.scale("a", 1))
        await asyncio.sleep(0.2)
        assert sorted(stage.slots) == ["a-0", "a-2", "b"]  # one is gone already, the other takes its time
        up = asyncio.create_task(stage.supervisor.scale("a", 3))
        await asyncio.gather(down, up)
        assert stage.states == {"a-0": "ready", "a-1": "ready", "a-2": "ready", "b": "ready"}
        assert stage.of("starts").count("a-2") == 2

    assert play(stage, story) == 0


def test_two_may_scale_at_once_and_the_latest_wish_counts() -> None:
    stage = Stage(worker("a", replicas=3))

    async def story() -> None:
        await asyncio.sleep(1)
        await asyncio.gather(*(stage.supervisor.scale("a", count) for count in (1, 0, 2)))
        assert stage.states == {"a-0": "ready", "a-1": "ready"}

    assert play(stage, story) == 0


def test_nobody_finds_a_slot_that_is_to_go() -> None:
    stage = Stage(worker("a", replicas=2))

    async def story() -> None:
        await asyncio.sleep(1)
        down = asyncio.create_task(stage.supervisor.scale("a", 1))
        await asyncio.sleep(0.01)
        with pytest.raises(SupervisorError, match="a-1"):
            await stage.supervisor.start("a-1")
        await down
        assert stage.states == {"a-0": "ready"}

    assert play(stage, story) == 0


def test_a_restart_one_by_one_leaves_out_what_had_to_go_meanwhile() -> None:
    stage = Stage(worker("a", replicas=3))

    async def story() -> None:
        await asyncio.sleep(1)
        restart = asyncio.create_task(stage.supervisor.restart("a"))
        await asyncio.sleep(0.01)
        await stage.supervisor.scale("a", 1)
        await restart
        assert stage.states == {"a-0": "ready"}

    assert play(stage, story) == 0


def test_a_wait_that_is_given_up_does_not_keep_a_slot_that_was_to_go() -> None:
    stage = Stage(worker("a", replicas=2))

    async def story() -> None:
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stage.supervisor.scale("a", 1), 0.01)
        await asyncio.sleep(1)
        assert stage.states == {"a-0": "ready"}

    assert play(stage, story) == 0


def test_a_worker_that_is_taken_out_is_waited_for_by_a_mesh_that_stops() -> None:
    stage = Stage(worker("a"), worker("b"))
    stage.parts["b"] = Part(obeys=2.0)

    async def story() -> None:
        await asyncio.sleep(1)
        config = stage.supervisor.config
        reload = asyncio.create_task(stage.supervisor.reload(replace(config, workers=config.workers[:1])))
        await asyncio.sleep(0.1)
        stage.supervisor.request_stop()
        await stage.supervisor.wait()
        assert asyncio.get_running_loop().time() == pytest.approx(3.0)
        await reload

    assert play(stage, story) == 0
