"""Whatever befalls a mesh, in whatever order: what must hold of it at every moment, and when all is quiet again."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.supervisor.stage import Actor, Part, Stage

from meshvisor.shared.config.model import Backoff, OnLimit, RestartPolicy, StrategyName, SupervisorSection, WorkerConfig
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.child import Exit, State
from meshvisor.supervisor.slot import Slot
from meshvisor.workers.testing import run_virtual

_LONGEST_WAIT = 20.0  # of everything below together: backoff, parking, start and stop time-outs
_BACKOFF = Backoff(initial=0.1, max=2.0, reset_after=3.0)


def worker(name: str, **options: Any) -> WorkerConfig:
    what = {"class_path": f"app:{name}"} if options.pop("rolls", False) else {"command": (name,)}
    return WorkerConfig(name, Path("/"), backoff=_BACKOFF, start_timeout=2.0, stop_timeout=1.0, **what, **options)


WORKERS = (
    worker("db"),
    worker("cache", replicas=2, depends_on=("db",), rolls=True),
    worker("web", depends_on=("cache",), rolls=True),
    worker("job", restart=RestartPolicy.ON_FAILURE),
    worker("once", restart=RestartPolicy.NEVER, rolls=True),
)
NAMES = ("db", "cache-0", "cache-1", "cache-2", "web", "job", "once", "cache")
PARTS = (
    Part(),
    Part(ready=0.5, obeys=None),
    Part(ready=None),
    Part(prepared=None),
    Part(prepared=0.5),
    Part(ends=0.02),
    Part(ends=0.3),
    Part(ends=0.3, status=0),
    Part(is_made=False),
    Part(is_made=False, is_short=True),
)

RESTS = (0.0, 0.01, 0.1, 1.0, 5.0)

Step = tuple[Any, ...]

names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("dies"), names),
    st.tuples(st.sampled_from(["dies", "condemn", "candidate-dies"]), names),
    st.tuples(st.sampled_from(["stop", "start", "restart", "restart-all"]), names),
    st.tuples(st.just("part"), names, st.sampled_from(PARTS)),
    st.tuples(st.just("scale"), st.sampled_from(["cache", "web", "db"]), st.integers(0, 3)),
    st.tuples(st.just("settings"), st.integers(0, 3)),
    st.tuples(st.just("strategy"), st.sampled_from(StrategyName)),
    st.tuples(st.just("limit"), st.integers(0, 4), st.sampled_from(OnLimit)),
    st.tuples(st.just("rest"), st.sampled_from(RESTS)),
)


KINDS = (
    "dies",
    "condemn",
    "candidate-dies",
    "stop",
    "start",
    "restart",
    "restart-all",
    "part",
    "scale",
    "settings",
    "strategy",
    "limit",
    "rest",
)


def draw_step(rng: random.Random, kind: str) -> Step:
    """Return a step of this kind, or a rest: as a rule something happens before the next step does."""
    if kind == "rest" or rng.random() < 0.3:
        return "rest", rng.choice(RESTS)
    details: dict[str, Step] = {
        "part": (rng.choice(NAMES), rng.choice(PARTS)),
        "scale": (rng.choice(["cache", "web", "db"]), rng.randrange(4)),
        "settings": (rng.randrange(4),),
        "strategy": (rng.choice(list(StrategyName)),),
        "limit": (rng.choice([0, 2, 5]), rng.choice(list(OnLimit))),
    }
    return kind, *details.get(kind, (rng.choice(NAMES),))


class Trial:
    """One run of a mesh through ``script``, and the rules it is held to."""

    def __init__(self, lead: float, script: list[Step], max_restarts: int, on_limit: OnLimit) -> None:
        self.lead = lead
        self.script = script
        self.stage = Stage(*WORKERS, max_restarts=max_restarts, max_restarts_window=5.0, on_limit=on_limit)
        self.stage.check = self.check
        self.held: set[str] = set()  # stopped by hand
        self.unsure: set[str] = set()  # perhaps
        self.reloads = 0  # under way
        self.replicas = {config.name: config.replicas for config in WORKERS}
        self.limit = (max_restarts, on_limit)
        self.counted: deque[float] = deque()  # incidents that count for sure
        self.possible: deque[float] = deque()  # all that may
        self.was_ready: set[Slot] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.end_at: float | None = None
        self.faults: list[object] = []  # found in callbacks, where an exception would end nothing
        self.stage.supervisor._hub.open = lambda loop: None  # type: ignore[method-assign]  # heard when it is said
        self.stage.supervisor.subscribe(self.hear)
        self.configure = self.stage.supervisor._conductor.configure
        self.stage.supervisor._conductor.configure = self.configured  # type: ignore[method-assign]

    # Rules that hold at every moment; the stage itself checks that there are never two in a slot.

    def check(self, what: str, actor: Actor) -> None:
        slot, slots = actor.owner, self.stage.slots
        is_ending = self.stage.supervisor._conductor.is_stopping
        if what == "starts":
            assert not is_ending, f"{slot.name} was started after the end was decided"
            assert slot.name in slots, f"{slot.name} was started and is no slot"
            for other in slots.values():
                if other.config.name in slot.config.depends_on:
                    living = self.stage.living.get(other.name)
                    assert (living is not None and living.is_ready) or (living is None and other.child.is_over)
        if what == "asked" and actor.pid is not None and is_ending and slot.child.state is State.STOPPING:
            levels = self.stage.supervisor._fleet.levels
            level = next(number for number, members in enumerate(levels) if slot in members)
            above = [member.name for members in levels[level + 1 :] for member in members]
            assert not set(above) & set(self.stage.living), f"{slot.name} was stopped before those above it"

    def configured(self, section: SupervisorSection) -> None:
        """Note when a reload takes effect: a new limit begins to count anew."""
        limit = (section.max_restarts, section.on_limit)
        if limit != self.limit:
            self.limit = limit
            self.counted.clear()
            self.possible.clear()
        self.configure(section)

    def hear(self, event: Any) -> None:
        try:
            self.heard(event)
        except AssertionError as error:
            self.faults.append(error)

    def heard(self, event: Any) -> None:
        now = asyncio.get_running_loop().time()
        if event.event == "slot-ready":
            self.was_ready.add(self.stage.slots[event.slot])
        elif event.event == "mesh-stopping":
            self.end_at = now
        elif event.event == "limit-exceeded":
            most, on_limit = self.limit
            assert on_limit is OnLimit.STOP
            assert self.within(self.possible, now) > most
        elif event.event == "slot-exited" and not {"shortage", "trial"} & event.details.keys():
            self.count(event, now)

    def count(self, event: Any, now: float) -> None:
        """Take down an incident; it is told of before the limit has had its consequences."""
        if event.details["cause"] == "stopped" or event.details["next"] == "stopped" or self.end_at is not None:
            return
        self.possible.append(now)
        if self.stage.slots[event.slot] in self.was_ready and event.details["delay"] is not None:
            self.counted.append(now)
            if self.limit[1] is OnLimit.STOP:
                assert self.within(self.counted, now) <= self.limit[0], "the limit is exceeded, and it goes on"

    def within(self, times: deque[float], now: float) -> int:
        return sum(now - at <= 5.0 for at in times)

    # The run.

    async def play(self) -> None:
        supervisor = self.stage.supervisor
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: self.faults.append(context.get("exception", context)))
        await supervisor.start_all()
        await asyncio.sleep(self.lead)
        for step in self.script:
            await self.do(step)
            await asyncio.sleep(0)
        self.stage.parts.clear()  # whatever starts from now on is well
        await asyncio.sleep(10 * _LONGEST_WAIT)
        assert not [task for task in self.tasks if not task.done()], "somebody waits for ever"
        if not supervisor._conductor.is_stopping:
            self.check_quiet()
        supervisor.request_stop()
        async with asyncio.timeout(_LONGEST_WAIT):
            await supervisor.wait()
        assert not self.stage.living
        assert not self.stage.candidates
        for task in self.tasks:
            task.result()
        assert not self.faults

    def check_quiet(self) -> None:
        names = {name for config in WORKERS for name in self.names_of(config)}
        assert set(self.stage.slots) == names
        assert not self.stage.candidates
        for name, slot in self.stage.slots.items():
            living = self.stage.living.get(name)
            if name in self.unsure:
                assert (living is not None) != slot.child.is_held or slot.child.is_over
            elif name in self.held:
                assert living is None, f"{name} was stopped by hand and runs"
            elif slot.config.restart is RestartPolicy.ALWAYS:
                assert living is not None, f"{name} was forgotten"
                assert living.is_ready
                assert slot.child.state is State.READY

    def names_of(self, config: WorkerConfig) -> list[str]:
        count = self.replicas[config.name]
        if config.replicas == 1:
            return [config.name, *(f"{config.name}-{number}" for number in range(1, count))][:count]
        return [f"{config.name}-{number}" for number in range(count)]

    async def do(self, step: Step) -> None:
        match step:
            case "rest", seconds:
                await asyncio.sleep(seconds)
            case "part", name, part:
                self.stage.parts[name] = part
            case "dies", name:
                if name in self.stage.living:
                    self.stage.living[name].dies(Exit(signal="SIGKILL"))
            case "candidate-dies", name:
                for actor in [actor for actor in self.stage.candidates if actor.identity.slot == name]:
                    actor.dies(Exit(signal="SIGKILL"))
            case "condemn", name:
                self.stage.condemn(name)
            case _:
                self.ask(step)

    def ask(self, step: Step) -> None:
        """Have an operator ask for something, and wait for it beside all others."""
        if self.stage.supervisor._conductor.is_stopping:
            return
        task = asyncio.get_running_loop().create_task(self.asked(step))
        self.tasks.add(task)

    async def asked(self, step: Step) -> None:
        supervisor = self.stage.supervisor
        if supervisor._conductor.is_stopping:
            return
        with suppress(SupervisorError):  # not ready in time, not there, ending: all that may be said
            match step:
                case "stop", name:
                    self.held |= self.meant(name)
                    await supervisor.stop(name)
                case "start", name:
                    self.held -= self.meant(name)
                    await supervisor.start(name)
                case "restart-all", name:
                    self.held -= self.meant(name)
                    await supervisor.restart(name, at_once=True)
                case "restart", name:  # one after the other: which of them it comes to depends on those before
                    self.unsure |= self.meant(name)
                    await supervisor.restart(name)
                case "settings", version:
                    await self.go_over(version)
                case "scale", name, count if not self.reloads:  # else it lasts until the reload says otherwise
                    self.replicas[name] = count
                    gone = {slot.name for slot in self.stage.slots.values() if slot.replica >= count}
                    self.held -= gone & self.meant(name)  # should it be wanted again, it is as good as new
                    await supervisor.scale(name, count)
                case "strategy", strategy:
                    await self.stage.reload(strategy=strategy)
                case "limit", most, on_limit:
                    await self.stage.reload(max_restarts=most, on_limit=on_limit)

    async def go_over(self, version: int) -> None:
        """Reload with other settings, for which the processes of all but the commands are replaced."""
        config = self.stage.supervisor.config
        workers = [replace(one, settings={"version": version}) if one.class_path else one for one in config.workers]
        self.reloads += 1
        try:
            await self.stage.supervisor.reload(replace(config, workers=tuple(workers)))
        finally:
            self.reloads -= 1

    def meant(self, name: str) -> set[str]:
        staying = [slot for slot in self.stage.slots.values() if self.stage.supervisor._fleet.has(slot)]
        slots = {slot.name for slot in staying if slot.name == name}
        return slots or {slot.name for slot in staying if slot.config.name == name}


def play(trial: Trial) -> None:
    with trial.stage.opened():
        run_virtual(trial.play())


@given(
    st.sampled_from([0.0, 1.0]),
    st.lists(steps, min_size=1, max_size=60),
    st.integers(0, 6),
    st.sampled_from(OnLimit),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_one_process_a_slot_none_forgotten_none_after_the_end(
    lead: float, script: list[Step], max_restarts: int, on_limit: OnLimit
) -> None:
    """Invariant 11 of reliability.md 7: the count exact, nothing twice, nothing lost, nothing after a stop.

    These scripts are short, and a failing one becomes as short as can be; the next test's are long.
    """
    play(Trial(lead, script, max_restarts, on_limit))


@pytest.mark.parametrize("seed", range(60))
def test_the_same_holds_in_long_storms(seed: int) -> None:
    """Each seed has faults and operators of its own kinds: a storm of everything at once finds less (FoundationDB)."""
    rng = random.Random(seed)
    kinds = [kind for kind in KINDS if rng.random() < 0.6] or ["dies"]
    script = [draw_step(rng, rng.choice(kinds)) for _ in range(rng.randrange(20, 100))]
    on_limit = rng.choice([OnLimit.STOP, OnLimit.STOP, OnLimit.PARK])
    play(Trial(rng.choice([0.0, 1.0]), script, rng.choice([0, 1, 3, 6, 10, 1000]), on_limit))
