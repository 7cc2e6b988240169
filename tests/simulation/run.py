"""One run of the simulation, from its seed to its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.simulation import history as h
from tests.simulation.history import History
from tests.simulation.invariants import violations
from tests.simulation.node import now
from tests.simulation.plan import Plan, draw
from tests.simulation.script import Script
from tests.simulation.world import World

from meshvisor.workers.testing import run_virtual

SETTLING = 120.0
"""Virtual seconds within which everything must be well again once the faults have ended: penalties are waited out."""

QUIET = 6.0
"""Virtual seconds at the end in which nothing may move."""

_SAMPLE = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run; ``trace`` is the hash of its history."""

    seed: int
    trace: str
    events: int
    messages: int
    lives: int
    losses: int
    settled_after: float
    violations: tuple[str, ...]

    def __str__(self) -> str:
        text = (
            f"seed {self.seed}: {self.trace}, {self.events} events, {self.lives} lives, {self.messages} messages,"
            f" {self.losses} losses, settled after {self.settled_after:.2f} s"
        )
        return "\n  ".join([text, *self.violations])


def run(seed: int, spares: int = 0) -> Outcome:
    """Run what ``seed`` stands for, and judge it; with ``spares`` there are so many more processes at each moment."""
    plan = draw(seed)
    if spares:
        plan = plan.with_spares(spares)
    history = History()
    with _complaints_in(history):
        try:
            run_virtual(_play(plan, history))
        except Exception as error:
            error.add_note(f"in the simulation of seed {seed}")
            raise
    return _judge(seed, history)


def _judge(seed: int, history: History) -> Outcome:
    events = history.events
    times = {type(event): event.at for event in events if isinstance(event, h.Calm | h.Settled | h.Ended)}
    settled_at = times.get(h.Settled, times.get(h.Ended, 0.0))
    return Outcome(
        seed=seed,
        trace=history.trace,
        events=len(events),
        messages=sum(isinstance(event, h.Accepted) for event in events),
        lives=sum(isinstance(event, h.Born) for event in events),
        losses=sum(isinstance(event, h.Lost | h.Left) for event in events),
        settled_after=settled_at - times.get(h.Calm, 0.0),
        violations=tuple(violations(events)),
    )


async def _play(plan: Plan, history: History) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: _complain(history, context))
    history.add(h.Begun(now(), plan.detection))
    world = World(plan, history)
    for _ in range(plan.nodes):
        await world.start(world.new_name())
    for _ in range(plan.spares):
        await world.start_spare()
    sampling = asyncio.create_task(_sample(world))
    await Script(plan, world).run()
    world.calm()
    await _settle(plan, world)
    history.add(h.Ended(now()))
    sampling.cancel()
    await asyncio.wait([sampling])
    await world.close()
    left = len(asyncio.all_tasks()) - 1
    if left:
        history.add(h.Complaint(now(), f"{left} tasks are left over"))


async def _sample(world: World) -> None:
    while True:
        await asyncio.sleep(_SAMPLE)
        world.sample()


async def _settle(plan: Plan, world: World) -> None:
    """Wait until all is well, twice: before and after last words; then see that it stays so."""
    last = now() + SETTLING
    if not await _until_settled(world, last):
        return
    await world.say_last_words(SETTLING)
    # A dial that another one has overtaken may still be on its way to its refusal.
    await asyncio.sleep(plan.attempt_timeout)
    if not await _until_settled(world, last):
        return
    world.history.add(h.Settled(now()))
    world.count_connections()
    await asyncio.sleep(QUIET)


async def _until_settled(world: World, last: float) -> bool:
    while missing := world.unsettled():
        if now() > last:
            for text in missing:
                world.history.add(h.Complaint(now(), text))
            return False
        await asyncio.sleep(_SAMPLE)
    return True


def _complain(history: History, context: dict[str, Any]) -> None:
    error = context.get("exception")
    history.add(h.Complaint(now(), f"{context['message'].splitlines()[0]}: {type(error).__name__}: {error}"))


class _Complaints(logging.Handler):
    """Whatever the mesh logs as an error: with no byte changed on its way, nobody can break a rule of the protocol."""

    def __init__(self, history: History) -> None:
        super().__init__(logging.ERROR)
        self._history = history

    def emit(self, record: logging.LogRecord) -> None:
        self._history.add(h.Complaint(now(), record.getMessage()))


@contextlib.contextmanager
def _complaints_in(history: History) -> Iterator[None]:
    logger = logging.getLogger("meshvisor")
    handler = _Complaints(history)
    logger.addHandler(handler)
    propagates, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)
