"""Targets: what one worker sends another on the lane of calls, and what a plugin says of itself."""

from __future__ import annotations

import dataclasses
import enum
import struct
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
import numpy
from tests.fuzz.mutation import Dice, bytewise, packwise
from tests.fuzz.target import Target, rule

from meshvisor.shared.core.frames import LARGE
from meshvisor.shared.errors import PluginError
from meshvisor.workers.buffers import set_apart
from meshvisor.workers.introduction import Introduction, introduction_of
from meshvisor.workers.lane import LARGEST, Failed, Gathering, Parts, Request, decode, encode, encode_apart
from meshvisor.workers.plugin_contract import Contract, VersionRange, rank
from meshvisor.workers.plugin_node import _arguments
from meshvisor.workers.rpc import RpcMethod, rpc, rpc_methods
from meshvisor.workers.worker import Worker

# Frames of the lane. An input is a number of parts, and a frame that may refer to them.


def _parts(count: int) -> list[bytes | bytearray]:
    return [bytearray(LARGE) if number % 2 else bytes(16) for number in range(count)]


def run_lane(data: bytes) -> None:
    """Read a frame of the lane of calls, with its parts: it is one, or ValueError says why not."""
    count, body = (data[0] % 4, data[1:]) if data else (0, b"")
    parts = _parts(count)
    try:
        frame = decode(body, parts)
    except ValueError as error:
        rule(str(error), "a refusal without a reason")
        return
    if isinstance(frame, Parts):
        gathering = Gathering(frame.count)
        rule(gathering.wants >= 0, "fewer parts than none")
        for _ in range(min(gathering.wants, 6)):
            gathering.add(bytes(LARGEST // 4))
            rule(sum(map(len, gathering.parts)) <= LARGEST, "more is gathered than there may be")
    elif isinstance(frame, Request):
        _serve(frame, parts)
    elif isinstance(frame, Failed):
        rule(all(isinstance(text, str) for text in (frame.kind, frame.message, frame.traceback)), "an error of no text")


class _Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class _Point:
    x: int
    y: float = 0.0


class _Shape(msgspec.Struct, forbid_unknown_fields=True):
    points: list[_Point]
    colour: _Colour = _Colour.RED


class Callee(Worker):
    """Methods with all kinds of parameters."""

    @rpc
    def nothing(self) -> None: ...

    @rpc
    def plain(self, a: int, b: str = "x", *, c: float | None = None) -> bytes: ...  # type: ignore[empty-body]  # not called

    @rpc
    def buffers(self, a: bytes, b: bytearray, c: memoryview, d: bytes | None = None) -> None: ...

    @rpc
    def shapes(self, shape: _Shape, many: dict[str, list[_Point]], which: Literal["a", 1]) -> None: ...

    @rpc
    def arrays(self, a: numpy.ndarray[Any, numpy.dtype[numpy.float64]], b: Any = None) -> None: ...

    @rpc
    def bounded(self, a: Annotated[int, msgspec.Meta(ge=0, lt=9)], b: tuple[int, str], c: set[int]) -> None: ...


@cache
def _methods() -> dict[str, RpcMethod]:
    return rpc_methods(Callee)


def _serve(request: Request, parts: Sequence[bytes | bytearray]) -> None:
    """Read the arguments of a call as the method's own types; TypeError names the one that does not fit."""
    method = _methods().get(request.method)
    if method is None:
        return
    try:
        args, named = method.arguments(request.arguments, request.named, parts)
    except TypeError as error:
        rule(str(error), "a refusal without a reason")
        return
    given = dict(zip([one.name for one in method._positional], args, strict=False)) | named
    match request.method:
        case "plain":
            rule(type(given["a"]) is int and isinstance(given.get("b", ""), str), "an argument of another type")
        case "buffers":
            rule(type(given["a"]) is bytes and type(given["b"]) is bytearray, "an argument of another type")
            rule(type(given["c"]) is memoryview, "an argument of another type")
        case "shapes":
            rule(isinstance(given["shape"], _Shape) and given["which"] in ("a", 1), "an argument of another type")
        case "arrays":
            rule(given["a"].dtype == numpy.float64 and given["a"].flags.writeable, "an array of something else")
        case "bounded":
            rule(0 <= given["a"] < 9 and type(given["c"]) is set, "an argument out of bounds")


def _lane_seeds() -> list[bytes]:
    array = numpy.arange(6, dtype="<f8").reshape(2, 3)
    arguments: dict[str, tuple[Any, ...]] = {
        "nothing": (),
        "plain": (1, "two"),
        "buffers": (b"a", b"b", b"c"),
        "shapes": ({"points": [{"x": 1, "y": 2.5}], "colour": "red"}, {"k": [{"x": 3}]}, "a"),
        "arrays": (array, [1, None]),
        "bounded": (3, (1, "x"), {4, 5}),
        "unknown": ({"a": [1.5, None, True]},),
    }
    requests = [b"\0" + encode((1, 7, method, 1.5, args)) for method, args in arguments.items()]
    named = b"\0" + encode((1, 8, "plain", None, (), {"a": 1, "c": 2.5}))
    *_, apart = encode_apart((1, 9, "buffers", None, (set_apart(bytes(LARGE)), set_apart(bytearray(LARGE)), b"c")))
    *_, large = encode_apart((1, 9, "arrays", None, (numpy.zeros((LARGE // 8, 1)),)))
    others = [
        (2, 7, {"a": [1, array]}),
        (3, 7, "ValueError", "no", "Traceback"),
        (4, 7),
        (5, ["a", "b"]),
        (6, 3),
        (10,),
        (11, 7),
        (12, 7),
    ]
    odd = [
        encode((2, 7, msgspec.msgpack.Ext(2, msgspec.msgpack.encode(description))))
        for description in (
            ("<S0", (2**63, 5), b""),
            ("<f8", (0, 2**63 - 1), b""),
            ("<U999999999", (), b""),
            ("<M8[ns]", (1,), bytes(8)),
            ("|b1", (1,) * 33, b"x"),
            ("<f8", (2**32, 2**32), b""),
            ("<M8[xyz]", (1,), bytes(8)),
            ("<c16", (1,), 1),
            (">i3", (1,), b"abc"),
        )
    ]
    return [
        *requests,
        named,
        b"\2" + bytes(apart),
        b"\2" + bytes(large),
        *(b"\0" + encode(items) for items in others),
        *(b"\2" + one for one in odd),
        b"\0\x93\x02\x07" + b"\x91" * 3000,
        b"\0\x95\x01\x07\xa5plain\xc0" + b"\x91" * 3000,
    ]


def _lane_mutation(data: bytes, dice: Dice) -> bytes:
    """Change something in a frame, or in the description of an array that is in it."""
    at = data.find(b"\xc7")
    if at > 0 and dice.random() < 0.5 and len(data) > at + 3:
        length = data[at + 1]
        inner = packwise(data[at + 3 : at + 3 + length], dice)
        if len(inner) < 256:
            return data[: at + 1] + struct.pack("BB", len(inner), data[at + 2]) + inner + data[at + 3 + length :]
    return data[:1] + packwise(data[1:], dice) if dice.random() < 0.8 else bytewise(data, dice)


# Plugins.


class _Wanted:
    @rpc
    def plain(self, a: int, b: str) -> dict[str, list[int]]: ...  # type: ignore[empty-body]  # not called

    @rpc
    def shapes(self, shape: _Shape) -> _Shape: ...  # type: ignore[empty-body]


@cache
def _contract() -> Contract:
    return Contract.of(VersionRange(">=1.2, <3"), _Wanted)


def run_plugin(data: bytes) -> None:
    """Hear how a plugin introduces itself, and what it returns: it will do, or there is a reason why not."""
    with suppress(msgspec.MsgspecError, ValueError, RecursionError):
        (introduction,) = _arguments.decode(data)
        for known in ("", "1.5"):
            objection = _contract().objection(introduction, known)
            rule(objection is None or 0 < len(objection) <= 1000, "an objection that says nothing, or too much")
        with suppress(ValueError):
            numbers, _ = rank(introduction.version)
            rule(all(number >= 0 for number in numbers), "a version below 0")
    with suppress(msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError):
        returned = msgspec.msgpack.decode(data)
        for method, kind in (("plain", dict), ("shapes", _Shape)):
            with suppress(PluginError):
                rule(isinstance(_contract().result("p", method, returned), kind), "a result of another kind")


def _plugin_seeds() -> list[bytes]:
    told = introduction_of(Callee)
    versions = ("1.5", "2.0rc1", "3", "", "1.2.0+local", "9" * 5000, "1." * 50 + "0", "\u0661.\u0662", "1.5\n")
    introductions = [Introduction(version, told.methods) for version in versions]
    results: list[Any] = [{"k": [1, 2]}, {"points": [{"x": 1}], "colour": "red"}, None, [1]]
    return [*(msgspec.msgpack.encode((one,)) for one in introductions), *map(msgspec.msgpack.encode, results)]


TARGETS = (
    Target("lane", "frames of calls, their arguments and results", run_lane, _lane_seeds, _lane_mutation),
    Target("plugin", "what plugins say of themselves, and return", run_plugin, _plugin_seeds, packwise, 8192),
)
