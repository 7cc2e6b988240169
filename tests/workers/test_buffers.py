"""Bytes and arrays in calls: beside the message if large, checked before anything is made of them."""

import array
import asyncio
import contextlib
import random
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from meshvisor.shared.core.frames import LARGE
from meshvisor.shared.errors import RemoteError
from meshvisor.workers import lane
from meshvisor.workers.buffers import Apart
from meshvisor.workers.lane import Failed, Gathering, Parts, Result, decode, encode, encode_apart
from meshvisor.workers.rpc import rpc, rpc_methods
from meshvisor.workers.worker import Worker

Town = Any
InTown = Callable[[Callable[[Town], Any]], None]

BIG = bytes(range(256)) * 1024
ARRAY = numpy.arange(65536, dtype="<f8").reshape(256, 256)


class Idle(Worker):
    pass


class Gallery(Worker):
    """Returns what it was given, and says what that was."""

    @rpc
    def as_bytes(self, data: bytes) -> list[Any]:
        return [type(data).__name__, len(data)]

    @rpc
    def as_bytearray(self, data: bytearray | None = None, *, more: bytearray | None = None) -> list[Any]:
        return [type(data).__name__, type(more).__name__]

    @rpc
    def as_view(self, data: memoryview) -> list[Any]:
        return [type(data).__name__, type(data.obj).__name__, data.nbytes]

    @rpc
    def as_it_comes(self, data):  # type: ignore[no-untyped-def]  # without an annotation it is as in a Message
        return [type(data).__name__, len(data)]

    @rpc
    def short(self, data: "bytes", number: int = 0) -> int:
        return len(data) + number

    @rpc
    def number(self, number: int) -> int:
        return number

    @rpc
    def mirror(self, data: Any) -> Any:
        return data

    @rpc
    def total(self, data: numpy.ndarray) -> float:
        data += 1  # It is the receiver's own.
        return float(data.sum())

    @rpc
    def floats(self, data: NDArray[numpy.float64] | None, by_name: dict[str, NDArray[numpy.floating[Any]]]) -> int:
        return len(by_name) + (0 if data is None else data.ndim)

    @rpc
    def wrong(self) -> NDArray[numpy.int8]:
        return numpy.zeros(3)  # type: ignore[return-value]  # that this is found out is the point


async def gallery(town: Town) -> Any:
    town.start("client", Idle)
    town.start("gallery", Gallery)
    await town.ready("client", "gallery")
    return town.client("client")


def test_large_bytes_arrive_as_what_the_annotation_says(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await gallery(town)
        for big in (BIG, bytearray(BIG), memoryview(BIG)):
            assert await call("gallery", "as_bytes", big) == ["bytes", len(BIG)]
            assert await call("gallery", "as_bytearray", big, more=big) == ["bytearray", "bytearray"]
            assert await call("gallery", "as_view", big) == ["memoryview", "bytearray", len(BIG)]
            assert await call("gallery", "as_it_comes", big) == ["bytearray", len(BIG)]
            assert await call("gallery", "mirror", big) == BIG
            assert await call("gallery", "mirror", [big, {"a": big}]) == [BIG, {"a": BIG}]
        assert await call("gallery", "as_it_comes", b"small") == ["bytes", 5]
        assert await call("gallery", "mirror", array.array("i", [1, 2])) == array.array("i", [1, 2]).tobytes()

    in_town(scenario)


def test_what_is_beside_the_message_is_checked_as_what_is_in_it(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await gallery(town)
        with pytest.raises(RemoteError, match="argument 'number': Expected `int`, got `bytes`"):
            await call("gallery", "number", BIG)
        with pytest.raises(RemoteError, match="argument 'number': Expected `int`, got `bytes`"):
            await call("gallery", "short", BIG, BIG)
        with pytest.raises(RemoteError, match="argument 'data': Expected `bytes`, got `ext`"):
            await call("gallery", "short", ARRAY)
        with pytest.raises(TypeError, match=r"argument 1 of gallery\.short cannot be sent: a memoryview must be con"):
            await call("gallery", "short", memoryview(BIG)[::2])

    in_town(scenario)


def test_a_large_buffer_is_not_copied_on_its_way_to_the_link() -> None:
    view = memoryview(BIG)
    _, *parts, _ = encode_apart((2, 1, [ARRAY, Apart(BIG), Apart(view)]))
    assert parts[1] is BIG
    assert numpy.shares_memory(numpy.frombuffer(parts[0]), ARRAY)
    assert numpy.shares_memory(numpy.frombuffer(parts[2], "u1"), numpy.frombuffer(BIG, "u1"))


def test_a_large_buffer_is_not_copied_on_its_way_from_the_link() -> None:
    announced, *parts, frame = encode_apart((2, 1, [ARRAY, Apart(BIG)]))
    assert decode(bytes(announced)) == Parts(2)
    arrived = [bytearray(part) for part in parts]
    result = decode(bytes(frame), arrived)
    assert isinstance(result, Result)
    assert result.value[1] is arrived[1]
    assert numpy.shares_memory(result.value[0], numpy.frombuffer(arrived[0]))


@pytest.mark.parametrize(
    "value",
    [
        ARRAY,
        ARRAY[:, :3],
        ARRAY.T,
        numpy.float32(1.5) * numpy.ones((2, 3), "<f4"),
        numpy.array(7),
        numpy.zeros((0, 5), "<i2"),
        numpy.zeros((3, 0)),
        numpy.array([True, False]),
        numpy.array(["a", "bcd"]),
        numpy.array([b"a", b"bcd"]),
        numpy.array(["2026-01-01", "NaT"], "<M8[ns]"),
        numpy.arange(3, dtype=">i4"),
        numpy.arange(40000).astype("<M8[s]"),
        numpy.ones(5, complex),
    ],
    ids=lambda value: f"{value.dtype}-{value.shape}",
)
def test_an_array_arrives_as_it_was_and_belongs_to_the_receiver(in_town: InTown, value: Any) -> None:
    async def scenario(town: Town) -> None:
        call = await gallery(town)
        for whole, back in ((value, None), ([value, {"a": value}], 0)):
            got = await call("gallery", "mirror", whole)
            got = got if back is None else got[back]
            assert (got.dtype, got.shape) == (value.dtype, value.shape)
            numpy.testing.assert_array_equal(got, value)
            assert got.flags.writeable

    in_town(scenario)


def test_the_callee_may_change_its_array_and_the_callers_stays_as_it_is(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await gallery(town)
        for size in (10, 100_000):
            mine = numpy.zeros(size)
            assert await call("gallery", "total", mine) == size
            assert not mine.any()
            own = town.client("gallery")
            assert await own("gallery", "total", mine) == size
            assert not mine.any()

    in_town(scenario)


def test_the_dtype_is_checked_where_the_annotation_has_one(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await gallery(town)
        single = numpy.ones(3, "<f4")
        assert await call("gallery", "floats", ARRAY, {"a": ARRAY, "b": single}) == 4
        assert await call("gallery", "floats", None, {}) == 0
        with pytest.raises(RemoteError, match="argument 'data': Expected an array of `float64`, got one of `float32`"):
            await call("gallery", "floats", single, {})
        with pytest.raises(RemoteError, match=r"'by_name': Expected an array of `floating`, got one of `int64`"):
            await call("gallery", "floats", None, {"a": numpy.arange(3)})
        with pytest.raises(RemoteError, match="the result of wrong cannot be sent: Expected an array of `int8`"):
            await call("gallery", "wrong")

    in_town(scenario)


def test_numbers_of_numpy_are_sent_as_numbers(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await gallery(town)
        assert await call("gallery", "mirror", [ARRAY.max(), numpy.int8(3), numpy.bool_(True)]) == [65535.0, 3, True]

    in_town(scenario)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (numpy.array([object()]), "dtype object cannot be sent"),
        (numpy.zeros(2, [("a", "i4"), ("b", "f8")]), "only numbers, booleans, times and text can"),
        (numpy.ma.masked_array([1, 2], [True, False]), "a MaskedArray cannot be sent: make a plain array of it"),
    ],
)
def test_arrays_of_objects_and_the_like_are_refused_by_the_sender(in_town: InTown, value: Any, text: str) -> None:
    async def scenario(town: Town) -> None:
        call = await gallery(town)
        with pytest.raises(TypeError, match=text):
            await call("gallery", "mirror", value)

    in_town(scenario)


def described(*items: Any) -> bytes:
    return encode((2, 7, msgspec.msgpack.Ext(2, msgspec.msgpack.encode(items))))


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (described("|O8", (1,), b"12345678"), "there is no array of dtype"),
        (described("|V4", (1,), b"1234"), "there is no array of dtype"),
        (described("<f8", (1 << 40, 1 << 20), b"12345678"), "does not have 8 bytes"),
        (described("<f8", (2,), b"12345678"), "does not have 8 bytes"),
        (described("<f8", (-1,), b""), "malformed"),
        (described("<f8", (1,) * 33, b"12345678"), "33 dimensions"),
        (described("<f3", (1,), b"123"), "not understood|no array"),
        (described("<U999999999", (0,), b""), ""),
        (described("<f8", (1,), 0), "there is no part 0"),
        (described("<f8", (1,), -1), "there is no part -1"),
        (described("<f8"), "malformed"),
        (encode((2, 7, msgspec.msgpack.Ext(1, b"\xc1"))), "malformed"),
        (encode((2, 7, msgspec.msgpack.Ext(1, b"\x05"))), "there is no part 5"),
        (encode((2, 7, msgspec.msgpack.Ext(9, b""))), "there is no extension type 9"),
    ],
)
def test_what_cannot_be_an_array_ends_the_call_and_makes_nothing(frame: bytes, text: str) -> None:
    got = decode(frame)
    if isinstance(got, Result):
        assert got.value.size == 0
    else:
        assert isinstance(got, Failed)
        assert got.number == 7
        assert "the result cannot be read" in got.message
        assert not text or any(part in got.message for part in text.split("|"))


@settings(deadline=None)  # time is no property of what is tested, and the machine may be busy
@given(st.randoms(use_true_random=False))
def test_whatever_arrives_is_read_or_refused(dice: random.Random) -> None:
    def damaged(body: bytes) -> bytes:
        changed = bytearray(body)
        for _ in range(dice.randrange(1, 5)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        return bytes(changed)

    parts = [bytearray(dice.randrange(20))] if dice.random() < 0.5 else []
    method = rpc_methods(Gallery)["floats"]
    with contextlib.suppress(ValueError):
        decode(damaged(described("<f8", (2, 1), bytes(16))), parts)
    with contextlib.suppress(TypeError):
        method.arguments(msgspec.Raw(damaged(encode([numpy.zeros(2), {"a": numpy.ones(1)}]))), lane.NO_NAMES, parts)


def test_an_array_needs_numpy_at_the_receiver_which_is_not_imported_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = encode((2, 7, numpy.zeros(3)))
    monkeypatch.delitem(sys.modules, "numpy")
    got = decode(frame)
    assert isinstance(got, Failed)
    assert "import it in the worker's module" in got.message
    assert "numpy" not in sys.modules


def test_more_than_may_travel_beside_one_message_is_not_kept() -> None:
    many = Gathering(1_000_000)
    for _ in range(1000):
        many.add(bytearray(LARGE))
    assert (many.parts, many.wants) == ([], 999_000)
    assert Gathering(-5).wants == 0


def test_too_many_bytes_in_one_call_are_refused_by_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "LARGEST", 2 * len(BIG) - 1)
    with pytest.raises(ValueError, match="are more than the 524287 that one call may carry"):
        encode_apart((2, 7, [ARRAY]))
    gathering = Gathering(3)
    for _ in range(3):
        gathering.add(bytearray(BIG))
    assert (gathering.parts, gathering.wants) == ([], 0)


def test_with_more_buffers_than_parts_the_rest_is_inside(in_town: InTown) -> None:
    many = [numpy.full(LARGE // 8, n, "<f8") for n in range(260)]
    _, *parts, frame = encode_apart((2, 1, many))
    assert len(parts) == 255
    result = decode(bytes(frame), [bytearray(part) for part in parts])
    assert isinstance(result, Result)
    assert [array[0] for array in result.value] == list(range(260))


def test_calls_with_and_without_buffers_may_be_under_way_together(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await gallery(town)
        sent = [BIG if n % 3 else n for n in range(60)]
        assert await asyncio.gather(*(call("gallery", "mirror", item) for item in sent)) == sent

    in_town(scenario)


def test_a_buffer_larger_than_a_window_may_be_followed_at_once(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await gallery(town)
        huge = bytes(10 * 1024 * 1024)
        results = await asyncio.gather(
            *(call("gallery", "as_bytes", huge) for _ in range(3)), call("gallery", "number", 1)
        )
        assert results == [["bytes", len(huge)]] * 3 + [1]

    in_town(scenario)


def test_no_more_calls_are_sent_while_many_bytes_are_under_way(in_town: InTown) -> None:
    class Slow(Gallery):
        @rpc
        async def keep(self, data: bytearray) -> None:
            self.settings["kept"] += 1
            self.settings["most"] = max(self.settings["most"], self.settings["kept"])
            await asyncio.sleep(1)
            self.settings["kept"] -= 1

    async def scenario(town: Town) -> None:
        settings = {"kept": 0, "most": 0}
        town.start("client", Idle)
        town.start("slow", Slow, settings)
        await town.ready("client", "slow")
        call = town.client("client")
        block = bytes(20 * 1024 * 1024)
        await asyncio.gather(*(call("slow", "keep", block) for _ in range(10)))
        assert settings["most"] == 4

    in_town(scenario)


def test_a_frame_whose_parts_never_came_is_forgotten_with_its_link(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        await gallery(town)
        node = town.residents["gallery"].node
        town.residents["client"].mesh.link("gallery").post(encode((lane.PARTS, 3)))
        await asyncio.sleep(1)
        assert len(node._gathering) == 1
        await town.kill("client")
        await asyncio.sleep(2)
        assert not node._gathering

    in_town(scenario)
