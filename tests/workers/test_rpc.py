"""How @rpc methods are read, and what cannot be one."""

import functools
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy
import pytest

from meshvisor.workers.lane import NO_NAMES
from meshvisor.workers.rpc import RpcMethod, rpc, rpc_methods
from meshvisor.workers.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable  # Only to be written in an annotation.


@dataclass
class Point:
    x: int
    y: int = 0
    next: "Point | None" = None


@dataclass
class Point3(Point):
    z: int = 0


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
    given = msgspec.Raw(msgspec.msgpack.encode(named)) if named else NO_NAMES
    return method.arguments(msgspec.Raw(msgspec.msgpack.encode(args)), given)


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


@pytest.mark.parametrize("yields", ["async def get(self): yield 1", "def get(self): yield 1"])
def test_a_generator_cannot_be_called(yields: str) -> None:
    space: dict[str, Any] = {}
    exec(yields, space)
    with pytest.raises(TypeError, match=r"@rpc is for methods that return one result, .* and get is none"):
        rpc(space["get"])
    with pytest.raises(TypeError, match=r"Bad\.nothing is an @rpc method and must return one result"):
        type("Bad", (Service,), {"nothing": space["get"]})
    with pytest.raises(TypeError, match="and 17 is none"):
        rpc(17)  # type: ignore[type-var]  # that it is refused is the point


def test_a_method_may_be_plain_and_a_decorated_one_is_what_it_wraps() -> None:
    def decorated(function: Any) -> Any:
        def inner(self: Worker, x: int) -> Any:
            return function(self, x)

        return functools.wraps(function)(inner)

    class Mixed(Service):
        @rpc
        def plain(self, x: int) -> int:
            return x

        @rpc
        @decorated
        async def wrapped(self, x: int) -> int:
            return x

        def nothing(self) -> None: ...  # type: ignore[override]  # an override may be of the other kind

    methods = rpc_methods(Mixed)
    assert {name: method.is_plain for name, method in methods.items()} == {
        "add": False,
        "anything": False,
        "nothing": True,
        "place": False,
        "plain": True,
        "wrapped": False,
    }
    assert read(methods["wrapped"], 1) == ((1,), {})


@pytest.mark.parametrize(
    ("annotation", "value", "sent"),
    [
        (int, 3, 3),
        (float, 1, 1.0),
        (list[int], (1, 2), [1, 2]),
        (Point, Point(1), Point(1)),
        (Point, {"x": 1}, Point(1)),
        (list[Point], [Point3(1, z=2)], [Point3(1, z=2)]),
        (float, numpy.float64(0.5), numpy.float64(0.5)),
        (None, None, None),
        (bytes, bytearray(b"1"), bytearray(b"1")),
        (Any, object, object),
        (Opaque | None, None, None),
        ("Awaitable[None]", 17, 17),
        (inspect.Signature.empty, 17, 17),
    ],
)
def test_a_result_is_sent_as_what_its_annotation_says(annotation: Any, value: Any, sent: Any) -> None:
    method = returning(annotation)
    assert method.checked(value) == sent
    assert type(method.checked(value)) is type(sent)


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (int, "3", "Expected `int`, got `str`"),
        (int, None, "Expected `int`, got `null`"),
        (None, 1, "Expected `null`, got `int`"),
        (list[int], [1, "2"], r"Expected `int`, got `str` - at `\$\[1\]`"),
        (Point, {"x": "1"}, r"Expected `int`, got `str` - at `\$.x`"),
        (Opaque, 1, "Expected `Opaque`, got `int`"),
    ],
)
def test_a_result_that_is_something_else_is_refused(annotation: Any, value: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        returning(annotation).checked(value)


def returning(annotation: Any) -> RpcMethod:
    async def get(self: Worker) -> Any: ...

    get.__annotations__["return"] = annotation
    return RpcMethod("Service", "get", get)


def test_parameters_that_swallow_everything_are_refused() -> None:
    with pytest.raises(TypeError, match=r"cannot have \*items"):

        class Bad(Worker):
            @rpc
            async def get(self, *items: int) -> None: ...


def test_a_method_takes_the_instance_first() -> None:
    def get(first: int = 1) -> None: ...

    def none() -> None: ...

    wrap: Any = classmethod
    for method in (rpc(none), staticmethod(rpc(get)), rpc(staticmethod(get)), wrap(rpc(get))):
        with pytest.raises(
            TypeError, match=r"Bad.get is an @rpc method and must take the instance first: def get\(self"
        ):
            type("Bad", (Worker,), {"get": method})


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
