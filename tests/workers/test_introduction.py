"""What a plugin says of itself, and what becomes of one that is not wanted."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Any, Literal

import msgspec
import pytest

from meshvisor.workers.introduction import (
    INTRODUCE,
    Introduction,
    Method,
    Parameter,
    introduction_of,
    methods_of,
    return_type,
)
from meshvisor.workers.rpc import rpc, rpc_methods
from meshvisor.workers.worker import Worker


@dataclass
class Point:
    x: int


class Pair(msgspec.Struct, array_like=True):
    one: int


class Colour(Enum):
    RED = "red"


def test_a_method_is_told_with_its_parameters_and_the_kinds_of_its_values() -> None:
    class Plugin:
        @rpc
        async def paint(self, where: Point, /, colour: Colour, *, loud: bool = False) -> bytes | None: ...

    assert methods_of(Plugin) == (
        Method(
            "paint",
            (
                Parameter("where", True, False, True, ("object",)),
                Parameter("colour", True, True, True, ("str",)),
                Parameter("loud", False, True, False, ("bool",)),
            ),
            ("bytes", "nothing"),
        ),
    )


@pytest.mark.parametrize(
    ("annotation", "kinds"),
    [
        (int | float, ("float", "int")),
        (Literal["a", 1], ("int", "str")),
        (list[int] | None, ("array", "nothing")),
        (tuple[int, str], ("array",)),
        (dict[str, Any], ("object",)),
        (Pair, ("array",)),
        (Any, ("anything",)),
        (Worker, ("anything",)),
        ("Nowhere", ("anything",)),
    ],
)
def test_kinds_of_results(annotation: Any, kinds: tuple[str, ...]) -> None:
    async def method(self: object) -> None: ...

    method.__annotations__["return"] = annotation
    plugin = type("Plugin", (), {"method": rpc(method)})
    (found,) = methods_of(plugin)
    assert found.returns == kinds


def test_a_result_that_is_not_annotated_may_be_anything() -> None:
    async def method(self): ...  # type: ignore[no-untyped-def]

    assert return_type(method) is Any


def test_its_version_is_that_of_the_class_else_that_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("versioned")
    module.__dict__["__version__"] = "3.2"
    monkeypatch.setitem(sys.modules, "versioned", module)
    plain = type("Plain", (Worker,), {"__module__": "versioned"})
    own = type("Own", (Worker,), {"__module__": "versioned", "version": "4.0"})
    odd = type("Odd", (Worker,), {"version": lambda self: "5.0"})
    assert [introduction_of(one).version for one in (plain, own, odd)] == ["3.2", "4.0", ""]


def test_it_can_be_sent() -> None:
    class Plugin(Worker):
        @rpc
        async def add(self, x: int, y: int = 0) -> int:
            return x + y

    said = introduction_of(Plugin)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(said), type=Introduction) == said


def test_a_worker_with_a_sponsor_waits_for_its_consent_before_on_start(in_town: Callable[[Any], None]) -> None:
    asked: list[Introduction] = []
    order: list[str] = []

    class Plugin(Worker):
        version = "1.0"

        async def on_start(self) -> None:
            order.append("on_start")

    async def consent(self: Worker, introduction: Introduction) -> None:
        order.append("asked")
        asked.append(introduction)
        await asyncio.sleep(1)
        order.append("consented")

    async def refuse(self: Worker, introduction: Introduction) -> None:
        raise ValueError("is too old")

    def sponsor(answer: Any) -> type[Worker]:
        cls: type[Worker] = type("Sponsor", (Worker,), {})
        methods = type("Methods", (), {"introduce": rpc(answer)})
        cls._rpc_methods = {INTRODUCE: rpc_methods(methods)["introduce"]}
        return cls

    async def scenario(town: Any) -> None:
        town.start("good", sponsor(consent))
        town.start("strict", sponsor(refuse))
        await town.ready("good", "strict")
        town.start("welcome", Plugin, sponsor="good")
        unwelcome = town.start("unwelcome", Plugin, sponsor="strict")
        await town.ready("good", "welcome")
        assert await town.ended("unwelcome") == 1
        assert unwelcome.failure is None

    in_town(scenario)
    assert [said.version for said in asked] == ["1.0"]
    assert order == ["asked", "consented", "on_start"]
