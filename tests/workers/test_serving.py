"""The called side: what is begun when, whose turn it is, and what is passed on. On virtual time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from meshvisor.shared.errors import CallTimeout, RemoteError
from meshvisor.workers.lane import REQUEST, Request, decode, encode
from meshvisor.workers.rpc import rpc
from meshvisor.workers.serving import Serving
from meshvisor.workers.testing import run_virtual
from meshvisor.workers.worker import Worker

Town = Any
InTown = Callable[[Callable[[Town], Any]], None]


class Idle(Worker):
    pass


class Service(Worker):
    async def on_start(self) -> None:
        self.gate = asyncio.Event()

    @rpc
    def add(self, x: int, y: int = 10) -> int:
        return x + y

    @rpc
    def fails(self) -> None:
        raise ValueError("not today")

    @rpc
    def gives_up(self) -> None:
        raise asyncio.CancelledError("no more")

    @rpc
    def leaves(self) -> None:
        raise SystemExit(9)

    @rpc
    def lies(self) -> int:
        return "three"  # type: ignore[return-value]  # that this is found out is the point

    @rpc
    def open(self) -> None:
        self.gate.set()

    @rpc
    async def wait(self, who: str = "") -> None:
        await self.gate.wait()
        self.settings["log"].append(who)

    @rpc
    async def relay(self, target: str, seconds: float, within: float | None = 30.0) -> str:
        began = asyncio.get_running_loop().time()
        try:
            await asyncio.gather(self.call(target, "sleep", seconds, timeout=within))
        except CallTimeout as error:
            return f"{error.timeout:g} s: timed out after {asyncio.get_running_loop().time() - began:g} s"
        return f"slept {seconds:g} s"

    @rpc
    async def sleep(self, seconds: float) -> None:
        self.settings["log"].append(f"sleep {seconds:g}")
        await asyncio.sleep(seconds)

    @rpc
    async def leave_behind(self, target: str) -> None:
        self.left = asyncio.create_task(self.later(target))

    async def later(self, target: str) -> None:
        await asyncio.sleep(10)
        self.settings["log"].append(await self.call(target, "add", 1))

    @rpc
    async def nested(self, depth: int) -> int:
        return 1 + await self.call(self.name, "nested", depth - 1) if depth else 0


async def trio(town: Town) -> tuple[Any, Any, dict[str, Any]]:
    """Start two clients and a service; return what calls as each client, and the service's settings."""
    town.start("one", Idle)
    town.start("two", Idle)
    settings: dict[str, Any] = {"log": []}
    town.start("service", Service, settings)
    await town.ready("one", "two", "service")
    return town.client("one"), town.client("two"), settings


def test_a_plain_method_runs_on_the_loop_without_a_task(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call, _, _ = await trio(town)
        assert await call("service", "add", 1, y=2) == 3
        assert await asyncio.gather(*(call("service", "add", n) for n in range(500))) == list(range(10, 510))
        assert not town.residents["service"].node._serving._calls

    in_town(scenario)


@pytest.mark.parametrize(
    ("method", "kind", "text"),
    [
        ("fails", "ValueError", "not today"),
        ("gives_up", "CancelledError", "no more"),
        ("lies", "TypeError", "the result of lies cannot be sent: Expected `int`, got `str`"),
    ],
)
def test_what_leaves_a_plain_method_goes_to_the_caller(in_town: InTown, method: str, kind: str, text: str) -> None:
    async def scenario(town: Town) -> None:
        call, _, _ = await trio(town)
        with pytest.raises(RemoteError, match=text) as caught:
            await call("service", method)
        assert caught.value.kind == kind
        assert "workers/serving.py" not in caught.value.traceback

    in_town(scenario)


def test_a_system_exit_in_a_plain_method_ends_the_process(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call, _, _ = await trio(town)
        leaving = asyncio.create_task(call("service", "leaves"))
        assert await town.ended("service") == 9
        await asyncio.wait([leaving])
        assert leaving.exception() is not None

    in_town(scenario)


def test_a_flood_of_calls_is_begun_over_several_turns_of_the_loop(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call, _, _ = await trio(town)
        serving = town.residents["service"].node._serving
        most = begun = 0
        begin = serving._begin

        def counting(*args: Any) -> None:
            nonlocal begun
            begun += 1
            begin(*args)

        serving._begin = counting
        calls = [asyncio.create_task(call("service", "add", n)) for n in range(1000)]
        while not all(task.done() for task in calls):
            begun = 0
            await asyncio.sleep(0)
            most = max(most, begun)
        assert most == 128

    in_town(scenario)


def test_callers_take_turns_when_calls_have_to_wait() -> None:
    class Registrar(Worker):
        @rpc
        def sign(self, who: str) -> None:
            signed.append(who)

    async def main() -> None:
        serving = Serving(on_exit=lambda stop: None)
        number = 0
        for who, count in (("a", 300), ("b", 2), ("c", 1)):
            link: Any = Named(who)
            link.calls_behind = -(1 << 40)
            for _ in range(count):
                number += 1
                serving.receive(link, called(number, "sign", who))
        await asyncio.sleep(0)
        serving.open(Registrar(), Registrar._rpc_methods)
        while len(signed) < 303:
            await asyncio.sleep(0)

    signed: list[str] = []
    run_virtual(main())
    assert "".join(signed) == "abcab" + "a" * 298


class Named:
    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.replies = 0
        self.calls_behind = 0

    def post(self, body: bytes) -> None:
        self.replies += 1
        self.calls_behind += 40 * 1024 * 1024  # as if they were that long

    def when_calls_taken(self, callback: Callable[[], None]) -> None:
        self.callback = callback

    def take(self) -> None:
        self.calls_behind = 0
        self.callback()


def test_a_caller_that_takes_no_replies_gets_no_more_of_them_and_others_do() -> None:
    class Generous(Worker):
        @rpc
        def give(self) -> None: ...

    async def main() -> None:
        serving = Serving(on_exit=lambda stop: None)
        serving.open(Generous(), Generous._rpc_methods)
        stalled: Any = Named("stalled")
        other: Any = Named("other")
        for number in range(10):
            serving.receive(stalled, called(number, "give"))
        await asyncio.sleep(1)
        assert stalled.replies == 2
        for number in range(10):
            serving.receive(other, called(number, "give"))
            other.calls_behind = 0
            await asyncio.sleep(1)
        assert (stalled.replies, other.replies) == (2, 10)
        stalled.take()
        await asyncio.sleep(1)
        assert stalled.replies == 4
        serving.link_lost(stalled)
        stalled.take()
        await asyncio.sleep(1)
        assert stalled.replies == 4
        assert [serving._lines, list(serving._turns), serving._calls] == [{}, [], {}]

    run_virtual(main())


def test_a_call_that_is_given_up_in_the_same_breath_is_not_begun() -> None:
    """After an interruption of a link, a call may arrive together with the news that its time was up."""

    class Generous(Worker):
        @rpc
        def give(self) -> None: ...

    async def main() -> None:
        serving = Serving(on_exit=lambda stop: None)
        serving.open(Generous(), Generous._rpc_methods)
        link: Any = Named("link")
        for number in range(3):
            serving.receive(link, called(number, "give"))
        serving.cancel(link, 1)
        serving.cancel(link, 7)
        await asyncio.sleep(1)
        assert link.replies == 2
        link.calls_behind = 0
        serving.receive(link, called(1, "give"))
        serving.receive(link, called(2, "give"))
        serving.link_lost(link)
        await asyncio.sleep(1)
        assert link.replies == 2
        serving.receive(link, called(1, "give"))  # What was given up then has nothing to do with this one.
        await asyncio.sleep(1)
        assert link.replies == 3

    run_virtual(main())


def test_the_end_waits_for_what_was_just_read_and_no_longer() -> None:
    class Generous(Worker):
        @rpc
        def give(self) -> None: ...

    async def main() -> None:
        serving = Serving(on_exit=lambda stop: None)
        serving.open(Generous(), Generous._rpc_methods)
        link: Any = Named("link")
        serving.receive(link, called(1, "give"))
        serving.receive(link, called(2, "give"))
        serving.cancel(link, 2)
        await serving.close(5.0)
        assert link.replies == 1
        assert asyncio.get_running_loop().time() == 0.0

    run_virtual(main())


def called(number: int, method: str, *args: Any) -> Request:
    request = decode(encode((REQUEST, number, method, None, args)))
    assert isinstance(request, Request)
    return request


def test_a_call_whose_time_is_up_while_it_waits_is_not_begun(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        one, two, settings = await trio(town)
        holding = [asyncio.create_task(one("service", "wait", "first")) for _ in range(1024)]
        await asyncio.sleep(0.1)
        late = asyncio.create_task(two("service", "wait", "late", timeout=2.0))
        await asyncio.sleep(0.1)
        town.residents["two"].plug.pull()  # The cancel of its call never arrives.
        await asyncio.sleep(3)
        town.residents["service"].node._serving._worker.gate.set()
        await asyncio.gather(*holding)
        assert "late" not in settings["log"]
        with pytest.raises(CallTimeout):
            await late

    in_town(scenario)


def test_a_call_made_for_a_caller_has_no_more_time_than_that_caller(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        other: dict[str, Any] = {"log": []}
        town.start("other", Service, other)
        call, _, _ = await trio(town)
        await town.ready("service", "other")
        assert await call("service", "relay", "other", 1.0, timeout=5.0) == "slept 1 s"
        assert (await call("service", "relay", "other", 60.0, 2.0, timeout=5.0)).startswith("2 s: timed out after 2")
        began = asyncio.get_running_loop().time()
        with pytest.raises(CallTimeout):
            await call("service", "relay", "other", 60.0, None, timeout=5.0)
        assert asyncio.get_running_loop().time() - began == pytest.approx(5.0)
        assert (await call("service", "relay", "other", 1.0, None, timeout=None)) == "slept 1 s"
        assert other["log"] == ["sleep 1", "sleep 60", "sleep 60", "sleep 1"]

    in_town(scenario)


def test_what_a_method_leaves_behind_is_not_bound_to_its_callers_deadline(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        town.start("other", Service, {"log": []})
        call, _, settings = await trio(town)
        await town.ready("service", "other")
        await call("service", "leave_behind", "other", timeout=1.0)
        await asyncio.sleep(11)
        assert settings["log"] == [11]

    in_town(scenario)


def test_a_method_may_call_its_own_node_again_and_again(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call, _, _ = await trio(town)
        assert await call("service", "nested", 300) == 300

    in_town(scenario)
