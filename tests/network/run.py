"""One run: fault after fault, each found out and healed, and everything that was sent accounted for after each."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field

from .faults import ACTS, bounds
from .lab import Lab, Setting, assert_in_order, laboratory
from .plan import Fault, Kind, draw
from .wire import SIDES, Side, other
from .words import Order

_CALM = 0.3


@dataclass
class Figures:
    """What faults of one kind have come to: seconds until each was found out, by side, and until messages flowed again
    once it was healed.
    """

    count: int = 0
    found: dict[Side, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    healed: list[float] = field(default_factory=list)


@dataclass
class Outcome:
    """What a run has come to; ``wrong`` says what was, and is empty if nothing was."""

    seed: int
    seconds: float = 0.0
    messages: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(SIDES, 0))
    sessions: int = 1
    figures: dict[Kind, Figures] = field(default_factory=lambda: defaultdict(Figures))
    carried: int = 0
    dropped: int = 0
    resets: int = 0
    wrong: str = ""


async def run(seconds: float, seed: int) -> Outcome:
    """Inflict faults that are drawn from ``seed`` for that long; stop at the first thing that is wrong."""
    outcome, rng = Outcome(seed), random.Random(seed)
    began = time.monotonic()
    async with laboratory(Setting(seed=seed)) as lab:
        fault = None
        try:
            while time.monotonic() - began < seconds:
                fault = draw(rng)
                await _suffer(lab, fault, outcome)
        except AssertionError as error:
            stories = (resident.story() for resident in lab.residents.values())
            outcome.wrong = "\n".join((f"{fault}: {error}", *stories))
        outcome.carried, outcome.dropped, outcome.resets = lab.wire.carried, lab.wire.dropped, lab.wire.resets
        for side, resident in lab.residents.items():
            outcome.messages[side] += resident.seen[-1].sent
    outcome.seconds = time.monotonic() - began
    return outcome


async def _suffer(lab: Lab, fault: Fault, outcome: Outcome) -> None:
    """One fault, from calm to calm."""
    figures = outcome.figures[fault.kind]
    begin, end = ACTS[fault.kind]
    await asyncio.sleep(_CALM)
    figures.count += 1
    began = lab.now()
    await begin(lab, fault)
    for side, bound in bounds(fault, lab.setting.timeout).items():
        took = (await lab.residents[side].saw("down", began)).at - began
        assert took < bound, f"the {side} took {took:.3f} s to find it out, and {bound:g} s at most are right"
        figures.found[side].append(took)
    before = lab.residents[fault.side]
    await end(lab, fault)
    healed = lab.now()
    if fault.kind is Kind.VANISHED:
        outcome.sessions += 1
        outcome.messages[fault.side] += before.seen[-1].sent
        outcome.messages[other(fault.side)] += await _account_for_lost(lab, other(fault.side), began)
    await lab.flowing()
    figures.healed.append(lab.now() - healed)
    await lab.settled()
    for resident in lab.residents.values():
        await resident.order(Order("work"))


async def _account_for_lost(lab: Lab, survivor: Side, since: float) -> int:
    """Check the report on the session whose peer is gone, and return how many messages ``survivor`` sent in it."""
    lost = await lab.residents[survivor].saw("lost", since)
    assert (lost.last, lost.count) == (lost.sent, lost.last - lost.first + 1), f"the wrong ones were reported: {lost}"
    assert_in_order(lost)
    await asyncio.gather(*(resident.saw("linked", since) for resident in lab.residents.values()))
    return lost.sent
