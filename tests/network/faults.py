"""How each kind of fault begins and ends in a laboratory, and who must find it out, how soon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from .lab import Lab
from .plan import Fault, Kind
from .way import BLACK_HOLE, PERFECT, Conditions
from .wire import SIDES, Side, other
from .words import Order

_LARGE = 256 * 1024

Act = Callable[[Lab, Fault], Awaitable[None]]


async def _outage(lab: Lab, fault: Fault) -> None:
    lab.wire.set(BLACK_HOLE, BLACK_HOLE)


async def _deaf(lab: Lab, fault: Fault) -> None:
    host = fault.side == "host"
    lab.wire.set(towards_host=BLACK_HOLE if host else PERFECT, towards_manager=PERFECT if host else BLACK_HOLE)


async def _hiccup(lab: Lab, fault: Fault) -> None:
    lab.wire.set(BLACK_HOLE, BLACK_HOLE)
    await asyncio.sleep(0.05 + fault.share * lab.setting.timeout)


async def _loss(lab: Lab, fault: Fault) -> None:
    leaky = Conditions(loss=0.01 + 0.29 * fault.share)
    lab.wire.set(leaky, leaky)
    await asyncio.sleep(1.0)


async def _unruly(lab: Lab, fault: Fault) -> None:
    unruly = Conditions(delay=0.05 * fault.share, jitter=0.02, duplication=0.2)
    lab.wire.set(unruly, unruly)
    await asyncio.sleep(1.0)


async def _narrow(lab: Lab, fault: Fault) -> None:
    narrow = Conditions(delay=0.01, bandwidth=8_000 + 32_000 * fault.share, queue=4 * 1024)
    lab.wire.set(narrow, narrow)
    await lab.residents[fault.side].order(Order("large", size=_LARGE))
    await asyncio.sleep(2.0)


async def _pull(lab: Lab, fault: Fault) -> None:
    lab.wire.set_carrier(fault.side, False)


async def _plug_in(lab: Lab, fault: Fault) -> None:
    lab.wire.set_carrier(fault.side, True)


async def _switch_off(lab: Lab, fault: Fault) -> None:
    await lab.residents[fault.side].order(Order("down"))


async def _switch_on(lab: Lab, fault: Fault) -> None:
    await lab.residents[fault.side].order(Order("up"))


async def _move(lab: Lab, fault: Fault) -> None:
    await lab.move(fault.side)


async def _forget(lab: Lab, fault: Fault) -> None:
    lab.wire.forget()


async def _vanish(lab: Lab, fault: Fault) -> None:
    await lab.vanish(fault.side)


async def _replace(lab: Lab, fault: Fault) -> None:
    await lab.settle_in(fault.side)


async def _clear(lab: Lab, fault: Fault) -> None:
    lab.wire.set()


async def _nothing(lab: Lab, fault: Fault) -> None:
    pass  # it heals by itself


ACTS: dict[Kind, tuple[Act, Act]] = {
    Kind.OUTAGE: (_outage, _clear),
    Kind.DEAF: (_deaf, _clear),
    Kind.HICCUP: (_hiccup, _clear),
    Kind.LOSS: (_loss, _clear),
    Kind.UNRULY: (_unruly, _clear),
    Kind.NARROW: (_narrow, _clear),
    Kind.CARRIER: (_pull, _plug_in),
    Kind.SWITCHED_OFF: (_switch_off, _switch_on),
    Kind.ADDRESS: (_move, _nothing),
    Kind.RESET: (_forget, _nothing),
    Kind.VANISHED: (_vanish, _replace),
}
"""How each begins, and how it is healed."""


def bounds(fault: Fault, timeout: float) -> dict[Side, float]:
    """Return who must find ``fault`` out, and within how many seconds. One second is for a machine that is busy.

    The side that still hears may learn of it only from the other, which has given up. Who gets a new connection before
    it has missed the old one has nothing to find out: so does a host whose manager dials it again.
    """
    soon = timeout + 1.0
    if fault.kind in (Kind.OUTAGE, Kind.CARRIER, Kind.SWITCHED_OFF, Kind.RESET):
        return dict.fromkeys(SIDES, soon)
    if fault.kind is Kind.DEAF:
        return {fault.side: soon, other(fault.side): 2 * soon}
    if fault.kind is Kind.ADDRESS:
        return {"manager": soon}
    if fault.kind is Kind.VANISHED:
        return {other(fault.side): soon}
    return {}
