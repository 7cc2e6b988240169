"""Circles of back-pressure are found and named; a slow receiver alone is none."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from meshvisor.shared.core.message import Message
from meshvisor.workers.worker import Worker

Town = Any
InTown = Callable[[Callable[[Town], Any]], None]

BIG = bytes(3 * 1024 * 1024)


class Passes(Worker):
    """Passes each message on to ``settings["to"]``, twice: more than a window holds."""

    async def on_message(self, message: Message) -> None:
        for _ in range(2):
            await self.send(self.settings["to"], BIG)


class Handles(Worker):
    async def on_message(self, message: Message) -> None:
        await asyncio.sleep(30)


def circles(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "standstill" in record.getMessage()]


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
def test_a_circle_is_named_in_the_log_of_those_in_it(
    in_town: InTown, names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(town: Town) -> None:
        for name, following in zip(names, (*names[1:], names[0]), strict=True):
            town.start(name, Passes, {"to": following})
        await town.ready(*names)
        for name, following in zip(names, (*names[1:], names[0]), strict=True):
            await town.residents[name].node.send(following, b"go", None, None)
        await asyncio.sleep(60)

    in_town(scenario)
    found = circles(caplog)
    path = " -> ".join((*names, names[0]))
    assert any(path in text for text in found)
    assert len(found) == len(names)  # Each of them says it once, however long it lasts.


def test_waiting_for_a_slow_receiver_is_no_circle(in_town: InTown, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(town: Town) -> None:
        town.start("a", Passes, {"to": "b"})
        town.start("b", Passes, {"to": "c"})
        town.start("c", Handles)
        town.start("source", Handles)
        await town.ready("a", "b", "c", "source")
        for _ in range(2):
            await town.residents["source"].node.send("a", b"go", None, None)
        await asyncio.sleep(300)

    in_town(scenario)
    assert circles(caplog) == []
