"""The life of workers in a mesh: hooks and their order, messages, and every way to end. On virtual time."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from meshvisor.shared.control.lifeline import Failure, Links, Listening, Ready
from meshvisor.shared.core.message import Message
from meshvisor.shared.errors import LinkClosed, PeerLeft, PeerLost, PeerUnavailable, QueueFull, SendTimeout, UnknownPeer
from meshvisor.workers.node import Node
from meshvisor.workers.peers import Peer
from meshvisor.workers.rpc import rpc
from meshvisor.workers.worker import Worker

Town = Any
InTown = Callable[[Callable[[Town], Any]], None]


class Log(Worker):
    """Writes down what happens to it in ``settings["log"]``."""

    def note(self, *words: object) -> None:
        self.settings["log"].append(" ".join(map(str, words)))

    async def on_start(self) -> None:
        self.note(self.name, "on_start")

    async def on_peer_up(self, peer: Peer) -> None:
        self.note(self.name, "up", peer, peer.incarnation)

    async def on_message(self, message: Message) -> None:
        self.note(self.name, "got", bytes(message.body).decode(), "from", message.sender, message.number)

    async def on_peer_down(self, peer: Peer, reason: PeerLost | PeerLeft) -> None:
        self.note(self.name, "down", peer, peer.incarnation, type(reason).__name__)

    async def on_stop(self) -> None:
        self.note(self.name, "on_stop")


class Idle(Worker):
    pass


def settings(log: list[str]) -> dict[str, Any]:
    return {"log": log}


def test_hooks_run_in_their_order(in_town: InTown) -> None:
    log: list[str] = []

    class Source(Log):
        async def run(self) -> None:
            self.note(self.name, "run")
            for text in ("one", "two"):
                self.note("number", await self.send("sink", text.encode()))

    sources: list[str] = []

    async def scenario(town: Town) -> None:
        town.start("sink", Log, settings(log))
        await town.ready("sink")
        source = town.start("source", Source, settings(sources))
        assert await town.ended("source") == 0
        assert [type(message) for message in source.heard if not isinstance(message, Links)] == [Listening, Ready]
        await asyncio.sleep(0.01)

    in_town(scenario)
    assert log == [
        "sink on_start",
        "sink up source 1",
        "sink got one from source 1",
        "sink got two from source 2",
        "sink down source 1 PeerLeft",
    ]
    assert sources == ["source on_start", "source run", "source up sink 1", "number 1", "number 2", "source on_stop"]


def test_a_killed_peer_is_lost_and_its_next_life_is_up(in_town: InTown) -> None:
    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.start("a", Log, settings(log))
        town.start("b", Idle)
        await town.ready("a", "b")
        await town.kill("b")
        town.start("b", Idle)
        await town.ready("a", "b")
        await asyncio.sleep(0.01)

    in_town(scenario)
    assert log == ["a on_start", "a up b 1", "a down b 1 PeerLost", "a up b 2"]


def test_what_arrives_during_on_start_waits_and_sending_works_already(in_town: InTown) -> None:
    log: list[str] = []

    class Slow(Log):
        async def on_start(self) -> None:
            self.note("sent", await self.send("other", b"early"))
            await asyncio.sleep(10)
            self.note("started")

    class Other(Worker):
        async def on_message(self, message: Message) -> None:
            await self.send("slow-0", b"reply")

    async def scenario(town: Town) -> None:
        town.configure("slow-0", "slow-1", group="slow")
        town.start("slow-0", Slow, settings(log))
        town.start("other", Other)
        await town.ready("slow-0", "other")
        assert asyncio.get_running_loop().time() >= 10
        await asyncio.sleep(0.01)

    in_town(scenario)
    assert log == ["sent 1", "started", "slow-0 up other 1", "slow-0 got reply from other 1"]


def test_calls_work_in_on_start_and_those_to_it_wait(in_town: InTown) -> None:
    log: list[str] = []

    class Slow(Log):
        async def on_start(self) -> None:
            self.note("two is", await self.call("helper", "double", 1))
            await asyncio.sleep(10)
            self.started = True

        @rpc
        async def is_started(self) -> bool:
            return self.started

    class Helper(Worker):
        async def run(self) -> None:
            assert await self.call("slow-0", "is_started", timeout=20)

        @rpc
        async def double(self, number: int) -> int:
            return 2 * number

    async def scenario(town: Town) -> None:
        town.configure("slow-0", "slow-1", group="slow")
        town.start("helper", Helper)
        town.start("slow-0", Slow, settings(log))
        assert await town.ended("helper") == 0

    in_town(scenario)
    assert log[0] == "two is 2"


def test_messages_to_a_worker_without_on_message_are_dropped_and_that_is_said_once(
    in_town: InTown, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        town.start("b", Idle)
        await town.ready("a", "b")
        for _ in range(10_000):  # More than a window: they are acknowledged.
            await town.residents["a"].node.send("b", b"x", None, None)

    in_town(scenario)
    assert [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()] == [
        "a sent a message, and this worker has no on_message: such messages are dropped"
    ]


def test_one_message_at_a_time(in_town: InTown) -> None:
    log: list[str] = []

    class Slow(Log):
        async def on_message(self, message: Message) -> None:
            self.note("begin", message.sender)
            await asyncio.sleep(1)
            self.note("end", message.sender)

    class Source(Worker):
        async def run(self) -> None:
            await self.send("slow", b"1")
            await self.send("slow", b"2")
            await asyncio.sleep(60)

    async def scenario(town: Town) -> None:
        town.start("slow", Slow, settings(log))
        await town.ready("slow")
        town.start("a", Source)
        town.start("b", Source)
        await asyncio.sleep(30)

    in_town(scenario)
    messages = [line for line in log if line.startswith(("begin", "end"))]
    assert messages[::2] == [line.replace("end", "begin") for line in messages[1::2]]
    assert sorted(messages[1::2]) == ["end a", "end a", "end b", "end b"]


def test_a_message_to_oneself_takes_the_same_path_in_order(in_town: InTown) -> None:
    log: list[str] = []

    class Selfish(Log):
        async def run(self) -> None:
            body = bytearray(b"x")
            numbers = [await self.send("selfish", body) for _ in range(2)]
            body[:] = b"changed later"
            self.note("sent", *numbers)
            await asyncio.sleep(1)

    async def scenario(town: Town) -> None:
        town.start("selfish", Selfish, settings(log))
        assert await town.ended("selfish") == 0

    in_town(scenario)
    assert log == [
        "selfish on_start",
        "sent 1 2",
        "selfish got x from selfish 1",
        "selfish got x from selfish 2",
        "selfish on_stop",
    ]


def test_a_hook_that_fills_its_own_window_is_told_instead_of_waiting_for_itself(in_town: InTown) -> None:
    class Echo(Worker):
        async def on_message(self, message: Message) -> None:
            for _ in range(8191):  # The message that is being handled counts as well.
                await self.send(self.name, b"more")
            with pytest.raises(QueueFull, match="8192 messages"):
                await self.send(self.name, b"one too many")
            raise SystemExit(4)

        async def run(self) -> None:
            await self.send(self.name, b"begin")
            await asyncio.sleep(60)

    async def scenario(town: Town) -> None:
        town.start("echo", Echo)
        assert await town.ended("echo") == 4

    in_town(scenario)


def test_a_sender_waits_for_a_slow_receiver_and_all_arrives(in_town: InTown) -> None:
    received = []
    count = 20_000  # More than two windows.

    class Sink(Worker):
        async def on_message(self, message: Message) -> None:
            received.append(message.number)

    class Source(Worker):
        async def run(self) -> None:
            for _ in range(count):
                await self.send("sink", b"x")

    async def scenario(town: Town) -> None:
        town.start("sink", Sink)
        town.start("source", Source)
        assert await town.ended("source") == 0  # Which it is when all is delivered.

    in_town(scenario)
    assert received == list(range(1, count + 1))


def test_broadcast_reaches_every_other_linked_node(in_town: InTown) -> None:
    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.configure("not-there")
        town.start("caller", Idle)
        for name in ("a", "b"):
            town.start(name, Log, settings(log))
        await town.ready("a", "b", "caller")
        assert await town.residents["caller"].node.broadcast(b"hello") == 2
        await asyncio.sleep(0.01)

    in_town(scenario)
    assert sorted(line for line in log if "got" in line) == [
        "a got hello from caller 1",
        "b got hello from caller 1",
    ]


def test_a_broadcast_waits_for_those_that_are_behind_and_counts_only_those_that_accept(in_town: InTown) -> None:
    class Stuck(Worker):
        async def on_message(self, message: Message) -> None:
            await asyncio.sleep(10)

    async def scenario(town: Town) -> None:
        for name, cls in (("caller", Idle), ("quick", Idle), ("slow", Stuck), ("doomed", Stuck)):
            town.start(name, cls)
        await town.ready("caller", "quick", "slow", "doomed")
        node = town.residents["caller"].node
        for name in ("slow", "doomed"):
            await node.send(name, bytes(4 * 1024 * 1024), None, None)
        casting = asyncio.create_task(node.broadcast(b"hello"))
        await asyncio.sleep(5)
        assert not casting.done()
        await town.kill("doomed")
        assert await casting == 2

    in_town(scenario)


def test_names_that_cannot_be_reached_are_refused(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        town.configure("late", "over")
        town.start("a", Idle)
        await town.ready("a")
        node = town.residents["a"].node
        with pytest.raises(UnknownPeer, match=r"'nobody' \(known: a, late, over\)"):
            await node.send("nobody", b"", None, None)
        with pytest.raises(SendTimeout, match=r"towards late within 2.5 s"):
            await node.send("late", b"", None, 2.5)
        assert asyncio.get_running_loop().time() == pytest.approx(2.5, abs=0.1)
        waiting = asyncio.create_task(node.send("over", b"", None, None))
        await asyncio.sleep(1)
        town.gone("over", "failed")
        with pytest.raises(PeerUnavailable, match="over is failed"):
            await waiting

    in_town(scenario)


def test_a_send_waits_for_a_node_that_is_down_until_its_next_life_is_linked(in_town: InTown) -> None:
    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.configure("late-0", "late-1", group="late")
        town.start("a", Idle)
        await town.ready("a")
        send = town.residents["a"].node.send
        waiting = [asyncio.create_task(send(name, b"hi", None, None)) for name in ("late-1", "late")]
        await asyncio.sleep(5)
        town.start("late-1", Log, settings(log))
        assert sorted(await asyncio.gather(*waiting)) == [1, 2]
        await asyncio.sleep(0.1)

    in_town(scenario)
    assert log == ["late-1 on_start", "late-1 up a 1", "late-1 got hi from a 1", "late-1 got hi from a 2"]


def test_a_send_that_waited_for_room_when_its_receiver_died_goes_to_the_next_life(in_town: InTown) -> None:
    class Stuck(Worker):
        async def on_message(self, message: Message) -> None:
            await asyncio.sleep(3600)

    log: list[str] = []

    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        town.start("b", Stuck)
        await town.ready("a", "b")
        send = town.residents["a"].node.send
        await send("b", bytes(4 * 1024 * 1024), None, None)
        waiting = asyncio.create_task(send("b", b"next", None, None))
        await asyncio.sleep(1)
        assert not waiting.done()
        await town.kill("b")
        town.start("b", Log, settings(log))
        assert await waiting == 1
        await asyncio.sleep(0.1)

    in_town(scenario)
    assert log[-1] == "b got next from a 1"


class Slowly(Worker):
    async def on_start(self) -> None:
        await asyncio.sleep(3600)


def test_peers_are_all_other_nodes_as_they_are_now(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        town.configure("c-0", "c-1", group="c")
        town.start("a", Idle)
        town.start("c-1", Idle)
        await town.ready("a", "c-1")
        await asyncio.sleep(0.01)
        peers = town.residents["a"].node.peers
        assert list(peers) == ["c-0", "c-1"]
        assert len(peers) == 2
        assert "a" not in peers
        one, zero = peers["c-1"], peers["c-0"]
        assert (one, one.name, one.group, one.incarnation, one.up, one.ready) == ("c-1", "c-1", "c", 1, True, True)
        assert (zero.incarnation, zero.up, zero.ready, zero.state) == (0, False, False, "down")
        await town.kill("c-1")
        await asyncio.sleep(0)
        assert (peers["c-1"].up, peers["c-1"].ready, peers["c-1"].state) == (False, False, "down")
        assert one.state == "ready"  # as of then
        town.start("c-0", Slowly)
        await asyncio.sleep(1)
        assert (peers["c-0"].up, peers["c-0"].ready, peers["c-0"].state) == (True, False, "starting")
        town.gone("c-1", "parked")
        await asyncio.sleep(0)
        assert peers["c-1"].state == "parked"
        with pytest.raises(TypeError):
            peers["x"] = one

    in_town(scenario)


# The ends.


@pytest.mark.parametrize("hook", ["on_start", "run", "on_peer_up", "on_message", "on_peer_down", "on_stop"])
def test_an_exception_that_leaves_a_hook_ends_with_1_and_its_traceback(
    in_town: InTown, hook: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fails(self: Worker, *_: object) -> None:
        raise ValueError(f"in {hook}")

    failing = type("Failing", (Worker,), {hook: fails})

    class Visitor(Worker):
        async def run(self) -> None:
            await self.send("failing", b"knock")

    async def scenario(town: Town) -> None:
        resident = town.start("failing", failing)
        if hook in ("on_peer_up", "on_message", "on_peer_down"):
            town.start("visitor", Visitor)
        if hook == "on_stop":
            await town.ready("failing")
            resident.node.request_stop()
        assert await town.ended("failing") == 1
        assert resident.failure == Failure(hook, capsys.readouterr().err)
        assert resident.failure.traceback.startswith("Traceback (most recent call last):\n")
        assert resident.failure.traceback.endswith(f"ValueError: in {hook}\n")
        assert "meshvisor" not in resident.failure.traceback.replace("meshvisor.", "")

    in_town(scenario)


def test_a_hook_that_cancels_itself_has_failed(in_town: InTown, capsys: pytest.CaptureFixture[str]) -> None:
    class Gives(Worker):
        async def run(self) -> None:
            raise asyncio.CancelledError("gave up")

    async def scenario(town: Town) -> None:
        resident = town.start("a", Gives)
        assert await town.ended("a") == 1
        assert resident.failure.where == "run"

    in_town(scenario)
    assert "CancelledError: gave up" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "status"), [(None, 0), (0, 0), (3, 3), (256 + 9, 9), ("what went wrong", 1)])
def test_system_exit_ends_with_its_status_without_on_stop(
    in_town: InTown, code: Any, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    log: list[str] = []

    class Exits(Log):
        async def run(self) -> None:
            sys.exit(code)

    async def scenario(town: Town) -> None:
        resident = town.start("a", Exits, settings(log))
        assert await town.ended("a") == status
        assert resident.failure is None

    in_town(scenario)
    assert log == ["a on_start"]
    assert capsys.readouterr().err == ("what went wrong\n" if isinstance(code, str) else "")


def test_stop_runs_on_stop_and_ends_with_its_status(in_town: InTown) -> None:
    log: list[str] = []

    class Stops(Log):
        async def run(self) -> None:
            self.stop(5)
            self.stop(6)
            try:
                await asyncio.sleep(3600)
            finally:
                self.note("run is over")

    async def scenario(town: Town) -> None:
        town.start("a", Stops, settings(log))
        assert await town.ended("a") == 5

    in_town(scenario)
    assert log == ["a on_start", "run is over", "a on_stop"]


def test_the_beginning_of_the_end_is_told_once_whoever_wanted_it() -> None:
    told: list[str] = []
    node = Node("a", 1, {}, report=lambda message: None, ending=lambda: told.append("ending"))
    assert told == []
    with pytest.raises(TypeError, match="stop takes an exit status, a number from 0 to 255, not 'now'"):
        node.stop("now")  # type: ignore[arg-type]  # that it is refused is the point
    node.stop()
    node.request_stop()
    node.stop(3)
    assert told == ["ending"]


def test_a_stop_right_after_an_answer_waits_for_its_acknowledgement_and_no_longer(in_town: InTown) -> None:
    class Echo(Worker):
        @rpc
        async def echo(self, text: str) -> str:
            return text

    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        town.start("b", Echo)
        await town.ready("a", "b")
        asked = asyncio.get_running_loop().time()
        assert await town.residents["a"].node.call("b", "echo", ("x",), {}, key=None, timeout=1.0, retry=False) == "x"
        town.residents["b"].node.request_stop()
        assert await town.ended("b") == 0
        assert asyncio.get_running_loop().time() - asked < 0.1

    in_town(scenario)


def test_a_stop_asked_for_in_on_start_waits_for_it(in_town: InTown) -> None:
    log: list[str] = []

    class Stops(Log):
        async def on_start(self) -> None:
            self.stop(2)
            await asyncio.sleep(1)
            self.note("started")

    async def scenario(town: Town) -> None:
        resident = town.start("a", Stops, settings(log))
        assert await town.ended("a") == 2
        assert not any(isinstance(message, Ready) for message in resident.heard)

    in_town(scenario)
    assert log == ["started", "a on_stop"]


def test_a_stop_from_outside_cancels_on_start_and_leaves_on_stop_out(in_town: InTown) -> None:
    log: list[str] = []

    class Slow(Log):
        async def on_start(self) -> None:
            await asyncio.sleep(3600)

    async def scenario(town: Town) -> None:
        resident = town.start("a", Slow, settings(log))
        await asyncio.sleep(1)
        resident.node.request_stop()
        assert await town.ended("a") == 0
        assert asyncio.get_running_loop().time() < 2

    in_town(scenario)
    assert log == []


def test_the_message_in_hand_is_finished_before_on_stop_and_the_next_ones_stay_unacknowledged(in_town: InTown) -> None:
    log: list[str] = []

    class Slow(Log):
        async def on_message(self, message: Message) -> None:
            await asyncio.sleep(1)
            await super().on_message(message)

    class Source(Log):
        async def run(self) -> None:
            for _ in range(3):
                await self.send("slow", b"x")
            await asyncio.sleep(3600)

    async def scenario(town: Town) -> None:
        slow = town.start("slow", Slow, settings(log))
        town.start("source", Source, settings([]))
        await town.ready("slow", "source")
        await asyncio.sleep(0.5)
        slow.node.request_stop()
        assert await town.ended("slow") == 0

    in_town(scenario)
    assert log == ["slow on_start", "slow up source 1", "slow got x from source 1", "slow on_stop"]


def test_a_hook_that_does_not_end_is_cancelled_after_half_of_the_time(
    in_town: InTown, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []

    class Stuck(Log):
        async def on_message(self, message: Message) -> None:
            await asyncio.sleep(3600)

        async def run(self) -> None:
            await self.send("stuck", b"x")
            await asyncio.sleep(1)

    async def scenario(town: Town) -> None:
        town.start("stuck", Stuck, settings(log))
        assert await town.ended("stuck") == 0
        assert asyncio.get_running_loop().time() == pytest.approx(3.5, abs=0.1)

    in_town(scenario)
    assert log == ["stuck on_start", "stuck on_stop"]
    assert "on_message did not end within 2.5 s of the stop and is cancelled" in caplog.text


def test_what_was_sent_before_the_end_is_delivered(in_town: InTown) -> None:
    log: list[str] = []

    class Parting(Worker):
        async def on_stop(self) -> None:
            await self.send("sink", b"goodbye")

        async def run(self) -> None:
            await self.send("sink", b"hello")

    async def scenario(town: Town) -> None:
        town.start("sink", Log, settings(log))
        town.start("parting", Parting)
        assert await town.ended("parting") == 0
        await asyncio.sleep(0.1)

    in_town(scenario)
    assert log == [
        "sink on_start",
        "sink up parting 1",
        "sink got hello from parting 1",
        "sink got goodbye from parting 2",
        "sink down parting 1 PeerLeft",
    ]


def test_after_the_end_nothing_can_be_sent_any_more(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        resident = town.start("a", Idle)
        await town.ready("a")
        resident.node.stop()
        assert await town.ended("a") == 0
        with pytest.raises(LinkClosed):
            await resident.node.send("a", b"", None, None)

    in_town(scenario)


def test_an_init_that_fails_ends_the_worker_before_it_listens(
    in_town: InTown, capsys: pytest.CaptureFixture[str]
) -> None:
    class Bad(Worker):
        def __init__(self) -> None:
            raise KeyError("depth")

    class Leaves(Worker):
        def __init__(self) -> None:
            raise SystemExit(3)

    async def scenario(town: Town) -> None:
        bad, leaves = town.start("bad", Bad), town.start("leaves", Leaves)
        assert (await town.ended("bad"), await town.ended("leaves")) == (1, 3)
        assert bad.failure.where == "__init__"
        assert not any(isinstance(message, Listening) for message in bad.heard + leaves.heard)

    in_town(scenario)
    assert "KeyError: 'depth'" in capsys.readouterr().err


def test_an_endpoint_that_cannot_be_bound_is_a_failure(in_town: InTown, capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario(town: Town) -> None:
        town.network.bind(town.network.new_endpoint(), 1)
        taken = town.network.new_endpoint()
        town.network.new_endpoint = lambda: taken
        town.network.bind(taken, 1)
        resident = town.start("a", Idle)
        assert await town.ended("a") == 1
        assert resident.failure.where == "listen"

    in_town(scenario)
    assert "already listened at" in capsys.readouterr().err


def test_links_are_reported(in_town: InTown) -> None:
    async def scenario(town: Town) -> None:
        town.start("a", Idle)
        town.start("b", Idle)
        town.configure("c")
        await town.ready("a", "b")
        await asyncio.sleep(0.01)
        assert town.residents["a"].links == (1, 2)
        await town.kill("b")
        await asyncio.sleep(0.01)
        assert town.residents["a"].links == (0, 2)

    in_town(scenario)
