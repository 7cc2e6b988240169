"""How @rpc methods are read, and what cannot be one."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from meshvisor.workers.rpc import RpcMethod, rpc, rpc_methods
from meshvisor.workers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable  # Only to be written in an annotation.


@dataclass
class Point:
    x: int
    y: int = 0
    next: "Point | None" = None


class Opaque:
    pass


class Service(Worker):
    @rpc
    async def add(self, x: int, y: int) -> int:
        return x + y

    @rpc
    async def place(self, point: Point, text: str = "?", *, tags: "list[str] | None" = None) -> "Awaitable[None]":
        raise NotImplementedError

    @rpc
    async def anything(self, value, /):  # type: ignore[no-untyped-def]  # a method without annotations takes anything
        return value

    @rpc
    async def nothing(self) -> None: ...


METHODS = rpc_methods(Service)


def read(method: RpcMethod, *args: Any, **named: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return method.arguments(msgspec.Raw(msgspec.msgpack.encode(args)), msgspec.Raw(msgspec.msgpack.encode(named)))


def test_arguments_come_by_position_and_by_name() -> None:
    assert read(METHODS["add"], 1, 2) == ((1, 2), {})
    assert read(METHODS["add"], 1, y=2) == ((1,), {"y": 2})
    assert read(METHODS["add"], x=1, y=2) == ((), {"x": 1, "y": 2})
    assert read(METHODS["nothing"]) == ((), {})
    assert read(METHODS["anything"], [1, {"a": None}]) == (([1, {"a": None}],), {})


def test_arguments_become_what_the_annotations_say() -> None:
    point = {"x": 1, "next": {"x": 2, "y": 3}}
    assert read(METHODS["place"], point) == ((Point(1, 0, Point(2, 3)),), {})
    assert read(METHODS["place"], point, "t", tags=["a"]) == ((Point(1, 0, Point(2, 3)), "t"), {"tags": ["a"]})


@pytest.mark.parametrize(
    ("method", "args", "named", "text"),
    [
        ("add", (1, "2"), {}, "argument 'y': Expected `int`, got `str`"),
        ("add", (1, True), {}, "argument 'y': Expected `int`, got `bool`"),
        ("add", (1,), {}, "argument 'y' is missing"),
        ("add", (), {"x": 1}, "argument 'y' is missing"),
        ("add", (1, 2, 3), {}, "add takes 2 arguments by position, not 3"),
        ("add", (1, 2), {"x": 1}, "argument 'x' was given twice"),
        ("add", (1,), {"yy": 2}, r"add has no parameter 'yy' \(did you mean 'y'\?\)"),
        ("place", ({"x": 1, "y": "a"},), {}, r"argument 'point': Expected `int`, got `str` - at `\$.y`"),
        ("place", ({"x": 1}, "t", ["a"]), {}, "place takes 2 arguments by position, not 3"),
        ("anything", (), {"value": 1}, "anything has no parameter 'value'"),
        ("nothing", (1,), {}, "nothing takes 0 arguments by position, not 1"),
    ],
)
def test_arguments_that_do_not_fit_are_named(method: str, args: Any, named: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        read(METHODS[method], *args, **named)


def test_arguments_that_are_no_list_and_map_are_refused() -> None:
    with pytest.raises(TypeError, match="the arguments cannot be read"):
        METHODS["add"].arguments(msgspec.Raw(b"\x01"), msgspec.Raw(b"\x80"))


def test_a_method_that_is_overridden_stays_callable_with_its_new_types() -> None:
    class Derived(Service):
        async def add(self, x: float, y: float) -> float:  # type: ignore[override]  # what matters is that it changes
            return x * y

    assert read(rpc_methods(Derived)["add"], 0.5, 2) == ((0.5, 2.0), {})


@pytest.mark.parametrize("name", ["key", "timeout", "retry"])
def test_the_options_of_call_cannot_be_parameters(name: str) -> None:
    space: dict[str, Any] = {"rpc": rpc}
    exec(f"@rpc\nasync def get(self, {name}: int): ...", space)
    with pytest.raises(TypeError, match=f"Bad.get: a parameter must not be called '{name}'"):
        type("Bad", (Worker,), {"get": space["get"]})


def test_only_async_methods_can_be_called() -> None:
    with pytest.raises(TypeError, match=r"@rpc is for `async def` methods, and .*sync is none"):

        class Bad(Worker):
            @rpc
            def sync(self) -> None: ...


def test_an_async_method_overridden_by_a_plain_one_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Bad\.nothing is an @rpc method and must be `async def`"):
        type("Bad", (Service,), {"nothing": lambda self: None})


def test_parameters_that_swallow_everything_are_refused() -> None:
    with pytest.raises(TypeError, match=r"cannot have \*items"):

        class Bad(Worker):
            @rpc
            async def get(self, *items: int) -> None: ...


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (Opaque, "Opaque is no type that msgspec can read"),
        (list[Opaque], "Opaque is no type that msgspec can read"),
        (dict[str, tuple[int, "Opaque | None"]], "Opaque is no type that msgspec can read"),
        ("Missing", "name 'Missing' is not defined"),
        (list[int] | set[int], "more than one array-like"),
        (17, ""),
    ],
)
def test_an_annotation_that_cannot_be_used_is_refused_when_the_class_is_made(annotation: Any, why: str) -> None:
    async def get(self: Worker, value: Any) -> None: ...

    get.__annotations__["value"] = annotation
    with pytest.raises(TypeError, match=f"Bad.get: the annotation of 'value' cannot be used: .*{why}"):
        type("Bad", (Worker,), {"get": rpc(get)})
