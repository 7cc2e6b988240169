"""A worker hands its place over to another process, and nobody loses what was asked of it. On virtual time."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from meshvisor.shared.core.message import Message
from meshvisor.shared.core.roster import NodeStatus
from meshvisor.shared.errors import CallTimeout, PeerLeft, PeerLost, SendTimeout
from meshvisor.workers.peers import Peer
from meshvisor.workers.rpc import rpc
from meshvisor.workers.worker import Worker

Town = Any
InTown = Callable[[Callable[[Town], Any]], None]


class Idle(Worker):
    async def on_peer_down(self, peer: Peer, reason: PeerLost | PeerLeft) -> None:
        self.settings.setdefault("down", []).append(repr(reason))

    @rpc
    async def ask_back(self, name: str) -> str:
        await self.send(name, b"part of the call")
        return str(await self.call(name, "now"))

    @rpc
    async def follow(self, name: str) -> None:
        self.following = asyncio.create_task(self.feed(name))

    async def feed(self, name: str) -> None:
        for number in range(100):
            await self.send(name, b"news %d" % number)
            await asyncio.sleep(0.1)


class Server(Worker):
    """Writes down in ``settings["log"]`` what it does, in which life."""

    def note(self, *words: object) -> None:
        self.settings["log"].append(" ".join(map(str, (f"{self.name}.{self.incarnation}", *words))))

    async def on_start(self) -> None:
        await asyncio.sleep(self.settings.get("start", 0.0))
        for peer in self.settings.get("asks", ()):
            await self.call(peer, "ask_back", self.name)
        self.note("starts")

    async def on_message(self, message: Message) -> None:
        await asyncio.sleep(self.settings.get("think", 0.0))
        self.note("got", bytes(message.body).decode())

    @rpc
    async def slow(self, seconds: float) -> str:
        self.note("serves")
        await asyncio.sleep(seconds)
        return f"{self.name}.{self.incarnation}"

    @rpc
    async def now(self) -> str:
        return f"{self.name}.{self.incarnation}"

    @rpc
    async def nested(self, peer: str) -> str:
        await asyncio.sleep(1)
        return str(await self.call(peer, "ask_back", self.name))

    async def on_stop(self) -> None:
        self.note("stops")


def hold(town: Town, name: str) -> None:
    """Say what the supervisor says when a worker is to hand over."""
    town._publish(msgspec.structs.replace(town.roster[name], status=NodeStatus.HELD))


async def leave(town: Town, name: str) -> None:
    """Have a worker hand over, and wait until it is gone."""
    town.residents[name].node.hand_over()
    assert await town.ended(name) == 0


def test_calls_under_way_finish_and_new_ones_wait_for_the_successor(in_town: InTown) -> None:
    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        town.start("b", Server, {"log": log})
        await town.ready("a", "b")
        a = town.residents["a"].node
        early = asyncio.create_task(a.call("b", "slow", (2.0,), {}, key=None, timeout=None, retry=False))
        await asyncio.sleep(1)
        town.residents["b"].node.hand_over()
        await asyncio.sleep(0.1)
        late = [
            asyncio.create_task(a.call("b", "slow", (0.0,), {}, key=key, timeout=None, retry=False))
            for key in (None, "some key")
        ]
        with pytest.raises(CallTimeout):
            await a.call("b", "now", (), {}, key=None, timeout=0.1, retry=False)
        assert await town.ended("b") == 0
        assert await early == "b.1"
        assert not any(call.done() for call in late)
        town.start("b", Server, {"log": log})
        assert await asyncio.gather(*late) == ["b.2", "b.2"]
        assert log == ["b.1 starts", "b.1 serves", "b.1 stops", "b.2 starts", "b.2 serves", "b.2 serves"]

    in_town(scenario)


def test_a_method_that_needs_run_for_its_answer_gets_it(in_town: InTown) -> None:
    class Queue(Server):
        async def on_start(self) -> None:
            self.waiting: asyncio.Queue[asyncio.Future[str]] = asyncio.Queue()

        async def run(self) -> None:
            while True:
                answer = await self.waiting.get()
                await asyncio.sleep(0.5)
                answer.set_result("done")

        @rpc
        async def put(self) -> str:
            answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            await self.waiting.put(answer)
            return await answer

    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        town.start("b", Queue, {"log": []})
        await town.ready("a", "b")
        a = town.residents["a"].node
        calls = [asyncio.create_task(a.call("b", "put", (), {}, key=None, timeout=None, retry=False)) for _ in range(3)]
        await asyncio.sleep(0.1)
        await leave(town, "b")
        assert await asyncio.gather(*calls) == ["done"] * 3

    in_town(scenario)


def test_a_group_goes_on_with_its_other_replicas_and_a_key_waits_for_its_own(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        town.configure("s-0", "s-1", group="s")
        town.start("a", Idle)
        for name in ("s-0", "s-1"):
            town.start(name, Server, {"log": []})
        await town.ready("a", "s-0", "s-1")
        a = town.residents["a"].node

        async def call(key: str | None) -> str:
            return str(await a.call("s", "now", (), {}, key=key, timeout=None, retry=False))

        keys = {await call(key): key for key in map(str, range(20))}
        busy = asyncio.create_task(a.call("s-0", "slow", (1.0,), {}, key=None, timeout=None, retry=False))
        await asyncio.sleep(0.1)
        town.residents["s-0"].node.hand_over()
        await asyncio.sleep(0.1)
        assert [await call(None) for _ in range(4)] == ["s-1.1"] * 4
        waiting = asyncio.create_task(call(keys["s-0.1"]))
        assert await town.ended("s-0") == 0
        assert await busy == "s-0.1"
        town.start("s-0", Server, {"log": []})
        assert await waiting == "s-0.2"

    in_town(scenario)


def test_messages_that_were_accepted_are_handled_and_others_go_to_the_successor(in_town: InTown) -> None:
    """More than the window holds: some wait for room when the handover begins."""
    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        server = town.start("b", Server, {"log": log, "think": 0.01})
        await town.ready("a", "b")
        a = town.residents["a"].node
        link = a._mesh.link("b")
        link._lane.limits = type(link._lane.limits)(8, 4096)  # a small window
        link._lane.fast_last = -1
        sending = [asyncio.create_task(a.send("b", b"%d" % number, None, None)) for number in range(20)]
        await asyncio.sleep(0.06)
        accepted = sum(task.done() for task in sending)
        assert 8 < accepted < 20
        server.node.hand_over()
        with pytest.raises(SendTimeout):
            await a.send("b", b"in vain", None, 0.001)
        assert await town.ended("b") == 0
        assert log[1:-1] == [f"b.1 got {number}" for number in range(accepted)]
        town.start("b", Server, {"log": log})
        numbers = await asyncio.gather(*sending)
        assert numbers[accepted:] == list(range(1, 21 - accepted))
        await asyncio.sleep(1)
        assert log[accepted + 3 :] == [f"b.2 got {number}" for number in range(accepted, 20)]
        assert not [reason for reason in a.settings["down"] if "PeerLost" in reason]

    in_town(scenario)


def test_what_was_sent_has_arrived_and_need_not_be_handled_before_a_sender_ends(in_town: InTown) -> None:
    """Who handles it may wait for the sender's successor."""
    log: list[str] = []

    class Chatty(Idle):
        async def run(self) -> None:
            for number in range(100):
                await self.send("b", b"%d" % number)
            await asyncio.sleep(1000)

    class Answers(Server):
        async def on_message(self, message: Message) -> None:
            await super().on_message(message)
            await self.send(message.sender, b"thanks")

    async def scenario(town: Town) -> None:
        town.start("a", Chatty)
        town.start("b", Answers, {"log": log, "think": 0.1})
        await town.ready("a", "b")
        await asyncio.sleep(0.5)
        began = asyncio.get_running_loop().time()
        await leave(town, "a")
        assert asyncio.get_running_loop().time() - began < 0.2
        town.start("a", Idle)
        await asyncio.sleep(20)
        assert log[1:] == [f"b.1 got {number}" for number in range(100)]

    in_town(scenario)


def test_what_belongs_to_a_call_under_way_still_reaches_who_hands_over(in_town: InTown) -> None:
    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        town.start("b", Server, {"log": log})
        await town.ready("a", "b")
        a = town.residents["a"].node
        call = asyncio.create_task(a.call("b", "nested", ("a",), {}, key=None, timeout=None, retry=False))
        await asyncio.sleep(0.5)
        began = asyncio.get_running_loop().time()
        await leave(town, "b")
        assert await call == "b.1"
        assert log == ["b.1 starts", "b.1 got part of the call", "b.1 stops"]
        assert asyncio.get_running_loop().time() - began < 1

    in_town(scenario)


def test_a_task_that_a_call_has_left_behind_waits_as_all_others_do(in_town: InTown) -> None:
    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        b = town.start("b", Server, {"log": log})
        await town.ready("a", "b")
        await b.node.call("a", "follow", ("b",), {}, key=None, timeout=None, retry=False)
        await asyncio.sleep(0.25)
        began = asyncio.get_running_loop().time()
        await leave(town, "b")
        assert asyncio.get_running_loop().time() - began < 0.1
        town.start("b", Server, {"log": log})
        await asyncio.sleep(10)
        assert [line.split()[-1] for line in log if "got" in line] == [str(number) for number in range(100)]

    in_town(scenario)


def test_a_successor_is_asked_for_nothing_until_it_is_ready(in_town: InTown) -> None:
    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        town.start("b", Server, {"log": log})
        await town.ready("a", "b")
        a = town.residents["a"].node
        hold(town, "b")
        await leave(town, "b")
        call = asyncio.create_task(a.call("b", "now", (), {}, key=None, timeout=None, retry=False))
        send = asyncio.create_task(a.send("b", b"later", None, None))
        town.start("b", Server, {"log": log, "start": 1.0})
        while town.roster["b"].status is not NodeStatus.LISTENING:
            await asyncio.sleep(0.001)
        hold(town, "b")
        await asyncio.sleep(0.5)
        await town.kill("b")
        town.start("b", Server, {"log": log})
        assert await call == "b.3"
        assert await send == 1
        assert log[-2:] == ["b.3 starts", "b.3 got later"]

    in_town(scenario)


def test_a_successor_that_asks_others_in_its_on_start_is_answered(in_town: InTown) -> None:
    """What they send it and the call back are part of that call, else it would wait for itself."""
    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        town.start("b", Server, {"log": log})
        town.start("c", Register, {"log": log})
        await town.ready("a", "b", "c")
        hold(town, "b")
        await leave(town, "b")
        town.start("b", Server, {"log": log, "asks": ["c"], "start": 0.1})
        while town.roster["b"].status is not NodeStatus.LISTENING:
            await asyncio.sleep(0.001)
        hold(town, "b")
        await town.ready("a", "b", "c")
        await asyncio.sleep(0.1)
        assert log[-2:] == ["b.2 starts", "b.2 got welcome"]

    class Register(Worker):
        @rpc
        async def ask_back(self, name: str) -> None:
            await self.send(name, b"welcome")

    in_town(scenario)


def test_a_peer_that_does_not_answer_holds_nobody_up_for_long(
    in_town: InTown, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        b = town.start("b", Server, {"log": []})
        await town.ready("a", "b")
        town.residents["a"].node.calls_received = lambda link, bodies: None
        town.residents["a"].mesh._peers["b"].handle._receiver = town.residents["a"].node
        began = asyncio.get_running_loop().time()
        with caplog.at_level(logging.WARNING):
            await leave(town, "b")
        assert asyncio.get_running_loop().time() - began == pytest.approx(3.75, abs=0.2)
        assert "not everything was finished within 3.75 s of the order to hand over (a did not answer)" in caplog.text
        assert b.failure is None

    in_town(scenario)


def test_a_call_that_comes_too_late_is_refused_and_made_again(in_town: InTown) -> None:
    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        b = town.start("b", Server, {"log": log})
        await town.ready("a", "b")
        a = town.residents["a"].node
        a._hold = lambda link: None  # it does not know
        closed = b.mesh.close

        async def close(drain: float = 0.0, *, is_succeeded: bool = False) -> None:
            call = asyncio.create_task(a.call("b", "slow", (0.0,), {}, key=None, timeout=None, retry=False))
            await asyncio.sleep(0.1)
            calls.append(call)
            await closed(drain, is_succeeded=is_succeeded)

        calls: list[asyncio.Task[str]] = []
        b.mesh.close = close
        await leave(town, "b")
        assert not calls[0].done()
        town.start("b", Server, {"log": log})
        assert await calls[0] == "b.2"
        assert log.count("b.1 serves") == 0
        assert log.count("b.2 serves") == 1

    in_town(scenario)


def test_who_comes_in_the_middle_of_a_handover_is_told_of_it(in_town: InTown) -> None:
    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        b = town.start("b", Server, {"log": log})
        await town.ready("a", "b")
        a = town.residents["a"].node
        busy = asyncio.create_task(a.call("b", "slow", (1.0,), {}, key=None, timeout=None, retry=False))
        await asyncio.sleep(0.1)
        b.node.hand_over()
        await asyncio.sleep(0.1)
        c = town.start("c", Idle)
        while c.mesh.link("b") is None:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        sending = asyncio.create_task(c.node.send("b", b"for the next one", None, None))
        assert await town.ended("b") == 0
        assert await busy == "b.1"
        town.start("b", Server, {"log": log})
        await sending
        await asyncio.sleep(0.1)
        assert log[-2:] == ["b.2 starts", "b.2 got for the next one"]

    in_town(scenario)


def test_who_hands_over_still_reaches_the_successors_of_others(in_town: InTown) -> None:
    log: list[str] = []

    class Last(Idle):
        async def on_stop(self) -> None:
            log.append(await self.call("b", "now"))

    async def scenario(town: Town) -> None:
        town.start("a", Last)
        town.start("b", Server, {"log": []})
        await town.ready("a", "b")
        leaving = asyncio.create_task(leave(town, "b"))
        town.residents["a"].node.hand_over()
        await leaving
        town.start("b", Server, {"log": []})
        assert await town.ended("a") == 0
        assert log == ["b.2"]

    in_town(scenario)


def test_a_broadcast_passes_by_who_hands_over(in_town: InTown) -> None:
    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        for name in ("b", "c"):
            town.start(name, Server, {"log": log})
        await town.ready("a", "b", "c")
        a = town.residents["a"].node
        busy = asyncio.create_task(a.call("b", "slow", (1.0,), {}, key=None, timeout=None, retry=False))
        await asyncio.sleep(0.1)
        town.residents["b"].node.hand_over()
        await asyncio.sleep(0.1)
        assert await a.broadcast(b"to all") == 1
        assert await town.ended("b") == 0
        assert await busy == "b.1"
        assert [line for line in log if "got" in line] == ["c.1 got to all"]

    in_town(scenario)
