"""Calls between workers: results, errors, deadlines, cancellation, limits and death. On virtual time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from meshvisor.shared.core.retry import RetryBudget
from meshvisor.shared.errors import (
    CallTimeout,
    LinkClosed,
    PeerLeft,
    PeerLost,
    PeerUnavailable,
    RemoteError,
    UnknownPeer,
)
from meshvisor.workers.rpc import rpc
from meshvisor.workers.worker import Worker

Town = Any
InTown = Callable[[Callable[[Town], Any]], None]


class Idle(Worker):
    pass


class Service(Worker):
    """Everything that the tests below call."""

    async def on_start(self) -> None:
        self.running = self.most = 0
        self.settings.setdefault("log", [])

    @rpc
    async def add(self, x: int, y: int = 10) -> int:
        return x + y

    @rpc
    async def who(self) -> list[Any]:
        return [self.name, self.incarnation]

    @rpc
    async def slow(self, seconds: float) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        self.settings["log"].append("begin")
        try:
            await asyncio.sleep(seconds)
            self.settings["log"].append("end")
            return f"{self.name} {self.incarnation}"
        except asyncio.CancelledError:
            self.settings["log"].append("cancelled")
            raise
        finally:
            self.running -= 1

    @rpc
    async def fails(self) -> None:
        raise ValueError("not today \udcff")

    @rpc
    async def gives_up(self) -> None:
        raise asyncio.CancelledError("no more")

    @rpc
    async def leaves(self) -> None:
        raise SystemExit(9)

    @rpc
    async def unsendable(self) -> object:
        return object()

    @rpc
    async def too_long(self) -> bytes:
        return bytes(65 * 1024 * 1024)


async def pair(town: Town, settings: dict[str, Any] | None = None) -> Any:
    """Start a client and a service; return what calls as the client."""
    town.start("client", Idle)
    town.start("service", Service, settings)
    await town.ready("client", "service")
    return town.client("client")


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_call_returns_the_methods_result(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        assert await call("service", "add", 1, 2) == 3
        assert await call("service", "add", 1) == 11
        assert await call("service", "add", y=1, x=5) == 6
        assert await call("service", "who") == ["service", 1]
        assert await asyncio.gather(*(call("service", "add", n) for n in range(500))) == list(range(10, 510))

    in_town(scenario)


def test_a_call_to_oneself_works(in_town: InTown) -> None:
    class Selfish(Service):
        async def run(self) -> None:
            self.settings["sum"] = await self.call(self.name, "add", 1, 2)

    async def scenario(town: Town) -> None:
        resident = town.start("service", Selfish, {})
        assert await town.ended("service") == 0
        assert resident.node.settings["sum"] == 3

    in_town(scenario)


def test_an_exception_goes_to_the_caller_with_its_traceback(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        with pytest.raises(RemoteError) as caught:
            await call("service", "fails")
        error = caught.value
        assert (error.target, error.method, error.kind, error.message) == (
            "service",
            "fails",
            "ValueError",
            "not today \\udcff",
        )
        assert error.traceback.startswith("Traceback (most recent call last):\n")
        assert 'raise ValueError("not today' in error.traceback
        assert "serving.py" not in error.traceback
        assert await call("service", "add", 1) == 11  # And the service lives on.

    in_town(scenario)


@pytest.mark.parametrize(
    ("method", "args", "kind", "text"),
    [
        ("ad", (1,), "AttributeError", r"Service has no @rpc method 'ad' \(did you mean 'add'\?\)"),
        ("on_start", (), "AttributeError", "Service has no @rpc method 'on_start'"),
        ("add", ("1",), "TypeError", "argument 'x': Expected `int`, got `str`"),
        ("add", (), "TypeError", "argument 'x' is missing"),
        ("unsendable", (), "TypeError", "the result of unsendable cannot be sent"),
        ("too_long", (), "ValueError", "the result of too_long cannot be sent: .*max_message"),
        ("gives_up", (), "CancelledError", "no more"),
    ],
)
def test_what_cannot_be_called_is_told_to_the_caller(
    in_town: InTown, method: str, args: tuple[Any, ...], kind: str, text: str
) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        with pytest.raises(RemoteError, match=text) as caught:
            await call("service", method, *args)
        assert caught.value.kind == kind

    in_town(scenario)


def test_arguments_that_cannot_be_sent_are_refused_on_the_spot(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        for wrong in (object(), 1 << 64, "\udcff"):
            with pytest.raises(TypeError, match=r"argument 2 of service\.add cannot be sent"):
                await call("service", "add", 1, wrong)
        with pytest.raises(TypeError, match=r"argument 'y' of service\.add cannot be sent: .* type object is unsupp"):
            await call("service", "add", 1, y=[object()])
        with pytest.raises(ValueError, match=r"the arguments of service\.add cannot be sent: .* send it in parts"):
            await call("service", "add", bytes(65 * 1024 * 1024))
        with pytest.raises(TypeError, match="must be given by its name, a str, not as 7"):
            await call("service", 7)
        with pytest.raises(ValueError, match=r"timeout must be a number of seconds, .* not '2s'"):
            await call("service", "add", 1, timeout="2s")
        with pytest.raises(ValueError, match="timeout must be"):
            await call("service", "add", 1, timeout=-1)
        with pytest.raises(ValueError, match="timeout must be"):
            await call("service", "add", 1, timeout=float("nan"))

    in_town(scenario)


def test_a_peer_can_be_an_argument(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        peer = town.residents["client"].node.peers["service"]
        with pytest.raises(RemoteError, match="argument 'x': Expected `int`, got `str`"):
            await call(peer, "add", peer)

    in_town(scenario)


def test_a_system_exit_in_a_method_ends_the_process_and_the_caller_hears_of_it(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        calling = asyncio.create_task(call("service", "leaves"))
        assert await town.ended("service") == 9
        with pytest.raises(PeerLeft):
            await calling

    in_town(scenario)


def test_a_call_without_a_reply_times_out_and_the_method_is_cancelled(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        settings: dict[str, Any] = {"log": []}
        call = await pair(town, settings)
        began = now()
        with pytest.raises(CallTimeout, match=r"service\.slow did not answer within 2 s"):
            await call("service", "slow", 60, timeout=2.0)
        assert now() - began == pytest.approx(2.0)
        await asyncio.sleep(0.01)
        assert settings["log"] == ["begin", "cancelled"]

    in_town(scenario)


def test_each_call_has_its_own_deadline(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        ends: dict[float, float] = {}
        began = now()

        async def one(timeout: float) -> None:
            with pytest.raises(CallTimeout):
                await call("service", "slow", 60, timeout=timeout)
            ends[timeout] = now() - began

        await asyncio.gather(*(one(timeout) for timeout in (5.0, 1.0, 3.0, 2.0)))
        assert ends == {timeout: pytest.approx(timeout) for timeout in (1.0, 2.0, 3.0, 5.0)}
        assert await call("service", "slow", 100, timeout=None) == "service 1"

    in_town(scenario)


def test_a_cancelled_caller_cancels_the_method(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        settings: dict[str, Any] = {"log": []}
        call = await pair(town, settings)
        calling = asyncio.create_task(call("service", "slow", 60))
        await asyncio.sleep(1)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await asyncio.sleep(0.01)
        assert settings["log"] == ["begin", "cancelled"]

    in_town(scenario)


def test_a_dead_callers_methods_are_cancelled(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        settings: dict[str, Any] = {"log": []}
        call = await pair(town, settings)
        calling = asyncio.create_task(call("service", "slow", 60))
        await asyncio.sleep(1)
        await town.kill("client")
        await asyncio.sleep(2)
        assert settings["log"] == ["begin", "cancelled"]
        calling.cancel()

    in_town(scenario)


def test_a_call_in_flight_to_a_node_that_dies_ends_at_once(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        calls = [asyncio.create_task(call("service", "slow", 60)) for _ in range(3)]
        await asyncio.sleep(1)
        await town.kill("service")
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(outcome, PeerLost) and outcome.peer == "service" for outcome in outcomes)
        assert len({id(outcome) for outcome in outcomes}) == 3
        assert now() < 2

    in_town(scenario)


def test_with_retry_it_is_sent_again_to_the_next_incarnation(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        calling = asyncio.create_task(call("service", "slow", 5.0, retry=True))
        for _ in range(3):
            await asyncio.sleep(1)
            await town.kill("service")
            await asyncio.sleep(0.5)
            assert not calling.done()
            town.start("service", Service)
        assert await calling == "service 4"

    in_town(scenario)


def test_retries_have_a_budget_beyond_which_calls_end_as_without_retry(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        town.residents["client"].node._caller._retries = RetryBudget(ttl=10.0, min_per_second=0.0, ratio=0.5)
        calls = [asyncio.create_task(call("service", "slow", 5.0, retry=True)) for _ in range(4)]
        await asyncio.sleep(1)
        await town.kill("service")
        town.start("service", Service)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [outcome if isinstance(outcome, str) else type(outcome) for outcome in outcomes] == [
            "service 2",
            "service 2",
            PeerLost,
            PeerLost,
        ]

    in_town(scenario)


def test_a_call_that_could_not_be_sent_is_made_to_the_next_incarnation_without_retry(
    in_town: InTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(body: bytes) -> int:
        raise PeerLost("service", 1)

    async def scenario(town: Town) -> None:
        call = await pair(town)
        monkeypatch.setattr(town.residents["client"].mesh.link("service"), "post", lost)
        calling = asyncio.create_task(call("service", "who"))
        await asyncio.sleep(1)
        assert not calling.done()
        await town.kill("service")
        town.start("service", Service)
        assert await calling == ["service", 2]

    in_town(scenario)


def test_a_call_without_any_time_is_not_sent(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        settings: dict[str, Any] = {"log": []}
        call = await pair(town, settings)
        with pytest.raises(CallTimeout, match="within 0 s"):
            await call("service", "slow", 1.0, timeout=0)
        await asyncio.sleep(1)
        assert settings["log"] == []

    in_town(scenario)


def test_with_retry_a_groups_next_ready_replica_is_called(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        town.configure("s-0", "s-1", group="s")
        town.start("client", Idle)
        settings: dict[str, Any] = {"log": []}
        town.start("s-0", Service, settings)
        town.start("s-1", Service)
        await town.ready("client", "s-0", "s-1")
        call = town.client("client")
        calling = asyncio.create_task(call("s", "slow", 5.0, retry=True))
        await asyncio.sleep(1)
        assert settings["log"] == ["begin"]
        await town.kill("s-0")
        assert await calling == "s-1 1"
        assert now() == pytest.approx(6, abs=0.5)

    in_town(scenario)


def test_with_retry_and_key_the_fixed_replica_is_waited_for(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        names = ("s-0", "s-1", "s-2")
        town.configure(*names, group="s")
        town.start("client", Idle)
        for name in names:
            town.start(name, Service)
        await town.ready("client", *names)
        call = town.client("client")
        fixed = (await call("s", "who", key="k"))[0]
        calling = asyncio.create_task(call("s", "slow", 1.0, key="k", retry=True))
        await asyncio.sleep(0.5)
        await town.kill(fixed)
        await asyncio.sleep(5)
        assert not calling.done()
        town.start(fixed, Service)
        assert await calling == f"{fixed} 2"

    in_town(scenario)


def test_a_call_waits_for_a_link_within_its_timeout(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        town.start("client", Idle)
        town.configure("service")
        await town.ready("client")
        call = town.client("client")
        with pytest.raises(CallTimeout, match="within 3 s"):
            await call("service", "add", 1, timeout=3)
        assert now() == pytest.approx(3.0, abs=0.01)
        waiting = asyncio.create_task(call("service", "add", 1))
        await asyncio.sleep(1)
        town.start("service", Service)
        assert await waiting == 11
        with pytest.raises(UnknownPeer):
            await call("nobody", "add", 1)
        await town.kill("service")
        waiting = asyncio.create_task(call("service", "add", 1))
        await asyncio.sleep(1)
        town.gone("service", "parked")
        with pytest.raises(PeerUnavailable, match="service is parked"):
            await waiting

    in_town(scenario)


def test_no_more_than_1024_run_at_a_time_and_the_others_wait_their_turn(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        town.start("one", Idle)
        town.start("two", Idle)
        town.start("service", Service)
        await town.ready("one", "two", "service")
        calls = []
        for name in ("one", "two"):
            call = town.client(name)
            calls += [asyncio.create_task(call("service", "slow", 1.0, timeout=60)) for _ in range(1500)]
        await asyncio.sleep(0.5)
        serving = town.residents["service"].node._serving
        assert (serving._running, sum(map(len, serving._lines.values()))) == (1024, 1024)
        assert await asyncio.gather(*calls) == ["service 1"] * 3000
        assert now() == pytest.approx(3.0, abs=0.5)

    in_town(scenario)


def test_a_call_that_waits_for_its_turn_times_out_as_well_and_gives_its_place_up(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        calls = [asyncio.create_task(call("service", "slow", 5.0)) for _ in range(1024)]
        await asyncio.sleep(0)
        late = [asyncio.create_task(call("service", "add", 1, timeout=2.0)) for _ in range(3)]
        last = asyncio.create_task(call("service", "add", 1))
        outcomes = await asyncio.gather(*late, return_exceptions=True)
        assert all(isinstance(outcome, CallTimeout) for outcome in outcomes)
        assert await last == 11
        assert len(await asyncio.gather(*calls)) == 1024

    in_town(scenario)


def test_calls_are_not_held_back_by_messages_nobody_handles(in_town: InTown) -> None:
    class Stuck(Service):
        async def on_message(self, message: object) -> None:
            await asyncio.sleep(3600)

    async def scenario(town: Town) -> None:
        town.start("client", Idle)
        town.start("service", Stuck)
        await town.ready("client", "service")
        node = town.residents["client"].node
        await node.send("service", bytes(4 * 1024 * 1024), None, None)
        blocked = asyncio.create_task(node.send("service", b"more", None, None))
        assert await town.client("client")("service", "add", 1, timeout=1) == 11
        assert not blocked.done()
        blocked.cancel()

    in_town(scenario)


def test_calls_under_way_are_finished_at_the_stop_and_later_ones_fail(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        calling = asyncio.create_task(call("service", "slow", 2.0))
        late = asyncio.create_task(call("service", "slow", 60.0))
        await asyncio.sleep(1)
        town.residents["service"].node.request_stop()
        assert await calling == "service 1"
        with pytest.raises(PeerLeft):
            await late
        assert await town.ended("service") == 0
        town.residents["client"].node.stop()
        await town.ended("client")
        with pytest.raises(LinkClosed):
            await call("service", "add", 1)

    in_town(scenario)


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", b"\x91\x09", b"\x92\x02\xa1x", b"\x95\x01\x01\xa1x\x90", b"\xdd\xff\xff\xff\xff", b"\x91" * 5000],
)
def test_frames_that_make_no_sense_are_dropped_and_logged(
    in_town: InTown, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        link = town.residents["client"].mesh.link("service")
        link.post(body)
        town.residents["service"].node.calls_received(town.residents["service"].mesh.link("client"), [body])
        assert await call("service", "add", 1) == 11

    in_town(scenario)
    assert "dropped what client sent: not a frame of the calls lane" in caplog.text


def test_replies_and_cancels_that_nobody_asked_for_are_ignored(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        call = await pair(town)
        link = town.residents["client"].mesh.link("service")
        for frame in (b"\x93\x02\x07\x01", b"\x92\x04\x07", b"\x92\x05\x90", b"\x95\x03\x07\xa1k\xa1m\xa1t"):
            link.post(frame)
        assert await call("service", "add", 1) == 11

    in_town(scenario)
