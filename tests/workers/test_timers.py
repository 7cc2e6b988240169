"""@every: when a run is due, and what becomes of a worker whose timers run. On virtual time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from meshvisor import every as exported
from meshvisor.workers.rpc import rpc
from meshvisor.workers.timers import every, following, timers
from meshvisor.workers.worker import Worker

Town = Any
InTown = Callable[[Callable[[Town], Any]], None]


class Clock(Worker):
    async def on_start(self) -> None:
        await asyncio.sleep(5)
        self.settings["ready"] = self.now()

    def now(self) -> float:
        return round(asyncio.get_running_loop().time(), 6)

    @every("2s")
    async def tick(self) -> None:
        self.settings["ticks"].append(round(self.now() - self.settings["ready"], 6))
        await asyncio.sleep(self.settings["takes"])


def ticks(in_town: InTown, takes: float, seconds: float, cls: type[Worker] = Clock) -> list[float]:
    settings: dict[str, Any] = {"ticks": [], "takes": takes}

    async def scenario(town: Town) -> None:
        resident = town.start("clock", cls, settings)
        await town.ready("clock")
        await asyncio.sleep(seconds)
        resident.node.request_stop()
        assert await town.ended("clock") == 0
        seen = len(settings["ticks"])
        await asyncio.sleep(10)
        assert len(settings["ticks"]) == seen

    in_town(scenario)
    found: list[float] = settings["ticks"]
    return found


def test_a_timer_runs_from_when_the_worker_is_ready_and_then_at_whole_intervals(in_town: InTown) -> None:
    assert ticks(in_town, takes=0.5, seconds=7) == [0, 2, 4, 6]


def test_a_run_that_takes_too_long_is_never_overlapped_and_what_was_missed_is_left_out(in_town: InTown) -> None:
    assert ticks(in_town, takes=3, seconds=13) == [0, 4, 8, 12]


def test_a_run_is_cancelled_at_the_stop(in_town: InTown) -> None:
    assert ticks(in_town, takes=3600, seconds=5) == [0]


def test_a_subclass_may_run_its_own_code_on_the_timer_of_its_base(in_town: InTown) -> None:
    class Derived(Clock):
        async def tick(self) -> None:
            self.settings["ticks"].append(-1)

    class Slower(Clock):
        @every(5)
        async def tick(self) -> None:
            await super().tick()

    assert ticks(in_town, takes=0, seconds=3, cls=Derived) == [-1, -1]
    assert ticks(in_town, takes=0, seconds=11, cls=Slower) == [0, 5, 10]
    assert timers(Slower) == {"tick": 5.0}


def test_an_exception_in_a_timer_ends_the_process_and_is_told(in_town: InTown) -> None:
    class Failing(Worker):
        @every(1)
        async def tick(self) -> None:
            raise ValueError("out of time")

    async def scenario(town: Town) -> None:
        resident = town.start("failing", Failing)
        assert await town.ended("failing") == 1
        assert resident.failure.where == "tick"
        assert resident.failure.traceback.endswith("ValueError: out of time\n")

    in_town(scenario)


@pytest.mark.parametrize(
    ("due", "now", "next_due"),
    [(10.0, 10.0, 12.0), (10.0, 11.9, 12.0), (10.0, 12.0, 12.0), (10.0, 12.1, 14.0), (10.0, 19.0, 20.0)],
)
def test_the_next_run_is_due_at_the_next_whole_interval(due: float, now: float, next_due: float) -> None:
    assert following(due, 2.0, now) == next_due


@pytest.mark.parametrize("interval", [0, -1, float("inf"), float("nan"), True, None, "soon", "0s", [1]])
def test_an_interval_must_be_a_duration(interval: Any) -> None:
    with pytest.raises(
        ValueError, match='@every takes seconds, or a duration such as "250ms" or "5m", more than 0; not '
    ) as caught:
        every(interval)
    assert str(caught.value).endswith(repr(interval))


def test_only_an_async_method_without_arguments_can_be_run_by_a_timer() -> None:
    async def greedy(self: Worker, more: int) -> None: ...

    def plain(self: Worker) -> None: ...

    assert exported is every
    with pytest.raises(TypeError, match="greedy is run by @every and can take no arguments"):
        every(1)(greedy)
    with pytest.raises(TypeError, match=r"@every is for `async def` methods, and .*plain is none"):
        every(1)(plain)  # type: ignore[type-var]  # that it is refused is the point


def test_a_hook_cannot_be_a_timer_but_a_called_method_can() -> None:
    async def method(self: Worker) -> None: ...

    timer = every(1)(method)
    with pytest.raises(TypeError, match=r"Bad\.on_stop cannot be run by @every: the name is taken"):
        type("Bad", (Worker,), {"on_stop": timer})
    both = type("Both", (Worker,), {"refresh": rpc(timer)})
    assert timers(both) == {"refresh": 1.0}
