"""All links of one node, with scripted news from the supervisor."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.mesh.fleet import Fleet, Node

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.roster import NodeRecord, NodeStatus
from meshvisor.shared.errors import (
    LinkClosed,
    PeerLeft,
    PeerLost,
    PeerUnavailable,
    QueueFull,
    SendTimeout,
    UnknownPeer,
)
from meshvisor.shared.transport.base import TransportConnection, TransportOptions

Play = Callable[..., None]


def now() -> float:
    return asyncio.get_running_loop().time()


def test_every_pair_of_nodes_gets_exactly_one_link(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        nodes = await fleet.start(*(f"n{number}" for number in range(10)))
        await fleet.until(lambda: all(node.links == (9, 9) for node in nodes))
        assert sum(node.mesh._acceptor.counts["accepted"] for node in nodes) == 45
        for node in nodes:
            assert sorted(node.up) == sorted((other.name, 1) for other in nodes if other is not node)

    play(scenario)


def test_the_newcomer_dials_and_the_others_wait_for_it(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        old, new = [(await fleet.start(name))[0] for name in ("a", "b")]
        await fleet.until(lambda: old.links == (1, 1))
        assert old.adapter.dialled == []
        assert new.adapter.dialled == ["memory:a-1"]

    play(scenario)


def test_a_newcomer_that_does_not_dial_is_dialled_after_a_quarter_of_a_second(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        (old,) = await fleet.start("a")
        start = now()
        new = (await fleet.start("b"))[0]
        new.mesh._peers["a"].cancel_dial()
        await fleet.until(lambda: old.links == (1, 1))
        assert old.adapter.dialled == ["memory:b-1"]
        assert now() - start == pytest.approx(0.25, abs=0.002)

    play(scenario)


def test_when_both_dial_the_lower_node_id_wins(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        a.adapter.delays["memory:b-1"] = b.adapter.delays["memory:a-1"] = 0.01
        a.mesh._peers["b"].cancel_dial()
        a.mesh._plan_dial(a.mesh._peers["b"], 0.0)
        await fleet.until(lambda: a.links == b.links == (1, 1))
        await asyncio.sleep(1)
        assert a.adapter.dialled == ["memory:b-1"]
        assert b.adapter.dialled == ["memory:a-1"]
        assert len(a.up) == len(b.up) == 1
        assert a.mesh._acceptor.counts["accepted"] + b.mesh._acceptor.counts["accepted"] == 1

    play(scenario)


def test_a_close_waits_no_longer_than_until_the_calls_are_acknowledged(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        await fleet.until(lambda: a.links == b.links == (1, 1))
        (await a.mesh.wait_link("b")).post(b"reply")
        start = now()
        await fleet.nodes.pop("a").mesh.close(drain=5.0)
        assert b.calls == [b"reply"]
        assert now() - start < 0.1

    play(scenario)


def test_a_node_that_is_succeeded_leaves_when_all_has_arrived_though_it_is_not_handled(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        b.consumes = False
        link = await a.mesh.wait_link("b")
        for number in range(1000):
            await link.send(b"%d" % number)
        start = now()
        await fleet.nodes.pop("a").mesh.close(drain=5.0, is_succeeded=True)
        assert now() - start < 0.1
        assert b.got["a"] == [b"%d" % number for number in range(1000)]
        assert [type(reason) for reason in b.down] == [PeerLeft]

    play(scenario)


def test_who_waits_for_room_is_turned_away_and_what_was_accepted_arrives(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b", max_queue_messages=2)
        b.consumes = False
        link = await a.mesh.wait_link("b")
        for number in range(2):
            await link.send(b"%d" % number)
        late = asyncio.create_task(link.send(b"late"))
        await asyncio.sleep(1)
        link.turn_away()
        with pytest.raises(PeerLeft):
            await late
        assert link.message_counts() == (0, 2)
        assert b.got == {"a": [b"0", b"1"]}
        (await b.mesh.wait_link("a")).consumed(2)
        await asyncio.sleep(1)
        assert await link.send(b"next") == 3

    play(scenario)


def test_messages_arrive_once_and_in_order(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        link = await a.mesh.wait_link("b")
        numbers = [await link.send(str(number).encode()) for number in range(10_000)]
        assert numbers == list(range(1, 10_001))
        await fleet.until(lambda: len(b.got.get("a", [])) == 10_000)
        assert b.got["a"] == [str(number).encode() for number in range(10_000)]

    play(scenario)


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_lost_or_doubled_while_connections_are_cut(play: Play, seed: int) -> None:
    """R1-R3, R12, R13, R24: a cut at any moment costs nothing, in either direction."""
    rng = random.Random(seed)
    count = 3000

    async def send(node: Any, peer: str) -> None:
        for number in range(count):
            link = await node.mesh.wait_link(peer)
            size = rng.choice((0, 5, 500, 70_000)) if number % 50 == 0 else 5
            await link.send(f"{number} ".encode() + bytes(size))
            if rng.random() < 0.02:
                await asyncio.sleep(rng.random() * 0.01)

    async def cut(nodes: list[Any]) -> None:
        while True:
            await asyncio.sleep(rng.random() * 0.1)
            for node in nodes:
                node.adapter.cut()

    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        cutter = asyncio.create_task(cut([a, b]))
        async with asyncio.timeout(600):
            await asyncio.gather(send(a, "b"), send(b, "a"))
            cutter.cancel()
            await fleet.until(lambda: len(a.got["b"]) == len(b.got["a"]) == count, within=600)
        for node, peer in ((a, "b"), (b, "a")):
            assert [int(body.split(b" ", 1)[0]) for body in node.got[peer]] == list(range(count))
        assert len(a.adapter.dialled) + len(b.adapter.dialled) > 3
        assert len(a.up) == len(b.up) == 1
        assert not a.down
        assert not b.down

    play(scenario, seed)


def test_a_new_incarnation_is_one_loss_and_one_new_link(play: Play) -> None:
    """R28: the report names exactly the unacknowledged tail, then numbers begin at 1 again."""

    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        b.consumes = False
        link = await a.mesh.wait_link("b")
        for number in range(7):
            await link.send(bytes([number]))
        await fleet.until(lambda: len(b.got.get("a", [])) == 7)
        link_of_b = b.mesh.link("a")
        assert link_of_b is not None
        link_of_b.consumed(4)
        await asyncio.sleep(0.1)
        await fleet.kill("b")
        fleet.tell(b.record(NodeStatus.DOWN))
        await fleet.until(lambda: len(a.down) == 1)
        lost = a.down[0]
        assert isinstance(lost, PeerLost)
        assert (lost.peer, lost.incarnation, lost.first, lost.last, lost.count) == ("b", 1, 5, 7, 3)
        with pytest.raises(PeerLost):
            await link.send(b"too late")
        (again,) = await fleet.start("b", incarnation=2)
        assert await (await a.mesh.wait_link("b")).send(b"new") == 1
        await fleet.until(lambda: again.got.get("a") == [b"new"])
        assert a.up == [("b", 1), ("b", 2)]
        assert len(a.down) == 1

    play(scenario)


def test_a_replacement_that_is_faster_than_the_news_is_let_in(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        await fleet.until(lambda: a.links == (1, 1))
        await fleet.kill("b")
        withheld = fleet.nodes.pop("a")
        (again,) = await fleet.start("b", incarnation=2)
        await fleet.until(lambda: a.up == [("b", 1), ("b", 2)])
        assert len(a.down) == 1
        fleet.nodes["a"] = withheld
        fleet.tell(b.record(NodeStatus.DOWN), again.record(NodeStatus.DOWN), again.record(NodeStatus.LISTENING))
        await asyncio.sleep(2)
        assert a.links == again.links == (1, 1)
        assert (len(a.up), len(a.down)) == (2, 1)

    play(scenario)


def test_the_last_words_of_a_dead_peer_are_still_read(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        link = await b.mesh.wait_link("a")
        for number in range(100):
            await link.send(bytes([number]))
        await fleet.until(lambda: bool(a.got))
        fleet.tell(b.record(NodeStatus.DOWN))
        await fleet.kill("b")
        await fleet.until(lambda: len(a.down) == 1)
        assert len(a.got["b"]) == 100

    play(scenario)


def test_a_node_that_closes_says_goodbye(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        link = await a.mesh.wait_link("b")
        await link.send(b"last words")
        await fleet.nodes.pop("a").mesh.close(drain=1.0)
        assert b.got["a"] == [b"last words"]
        assert [type(reason) for reason in b.down] == [PeerLeft]
        with pytest.raises(LinkClosed):
            await link.send(b"after")

    play(scenario)


def test_what_a_node_that_closes_has_not_handled_is_named_to_its_sender(play: Play) -> None:
    """Soak, seed 2: it left, and of what it had in its inbox nobody heard anything."""

    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        link = await a.mesh.wait_link("b")
        await link.send(b"handled")
        await fleet.until(lambda: link.is_drained)
        b.consumes = False
        await link.send(b"still in its inbox")
        await link.send(b"and this, too")
        await fleet.nodes.pop("b").mesh.close(drain=1.0)
        await fleet.until(lambda: bool(a.down))
        (report,) = a.down
        assert isinstance(report, PeerLost)
        assert (report.first, report.last, report.count) == (2, 3, 2)

    play(scenario)


def test_what_was_accepted_is_delivered_by_a_node_that_closes_while_its_link_is_broken(play: Play) -> None:
    """A node that closed gave up the dial that would have resumed the link, and with it what it had accepted."""

    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        to_a, to_b = await b.mesh.wait_link("a"), await a.mesh.wait_link("b")
        for node in (a, b):
            node.adapter.cut()
        await fleet.until(lambda: not (to_a.is_attached or to_b.is_attached))
        await to_a.send(b"from b")
        await to_b.send(b"from a")
        await fleet.nodes.pop("b").mesh.close(drain=5.0)
        assert a.got["b"] == [b"from b"]
        assert [type(reason) for reason in a.down] == [PeerLeft]
        assert b.got["a"] == [b"from a"]

    play(scenario)


def test_a_node_that_closes_resumes_no_link_on_which_it_owes_nothing(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        link = await b.mesh.wait_link("a")
        for node in (a, b):
            node.adapter.cut()
        await fleet.until(lambda: not link.is_attached)
        dialled = len(b.adapter.dialled)
        await fleet.nodes.pop("b").mesh.close(drain=5.0)
        assert len(b.adapter.dialled) == dialled

    play(scenario)


def test_nothing_is_accepted_any_more_once_goodbye_was_said(play: Play) -> None:
    """Simulation, seed 20957: what was accepted between the goodbye and the end was lost without a word."""

    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        link = await a.mesh.wait_link("b")
        fleet.nodes.pop("a")
        part = link.part

        async def slow_parting(timeout: float) -> None:
            parting = asyncio.create_task(part(timeout))
            await asyncio.sleep(0)
            with pytest.raises(LinkClosed):
                await link.send(b"late")
            with pytest.raises(LinkClosed):
                link.send_nowait(b"late")
            with pytest.raises(LinkClosed):
                link.post(b"late")
            await parting

        link.part = slow_parting  # type: ignore[method-assign]
        await link.send(b"in time")
        link.post(b"in time")
        await a.mesh.close(drain=1.0)
        assert b.got["a"] == b.calls == [b"in time"]
        assert [type(reason) for reason in b.down] == [PeerLeft]

    play(scenario)


def test_names_are_told_apart(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        (a,) = await fleet.start("a")
        gone = NodeRecord("gone", "gone", 0, 1, 7, NodeStatus.GONE, (), "failed")
        fleet.tell(gone, NodeRecord("later", "later", 0))
        with pytest.raises(UnknownPeer, match="nobody"):
            await a.mesh.wait_link("nobody")
        with pytest.raises(PeerUnavailable, match="failed"):
            await a.mesh.wait_link("gone")
        waiting = asyncio.create_task(a.mesh.wait_link("later"))
        await asyncio.sleep(1)
        assert not waiting.done()
        fleet.tell(NodeRecord("later", "later", 0, 1, 7, NodeStatus.GONE, (), "stopped"))
        with pytest.raises(PeerUnavailable, match="stopped"):
            await waiting
        fleet.tell(NodeRecord("gone", "gone", 0, 1, 7, NodeStatus.REMOVED))
        with pytest.raises(UnknownPeer):
            await a.mesh.wait_link("gone")

    play(scenario)


def test_a_full_window_makes_send_wait_and_drops_nothing(play: Play) -> None:
    """R14, R21."""

    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b", max_queue_messages=8)
        b.consumes = False
        link = await a.mesh.wait_link("b")
        for number in range(8):
            link.send_nowait(bytes([number]))
        with pytest.raises(QueueFull):
            link.send_nowait(b"ninth")
        start = now()
        with pytest.raises(SendTimeout):
            await link.send(b"ninth", timeout=3.0)
        assert now() - start == pytest.approx(3.0)
        waiting = [asyncio.create_task(link.send(bytes([number]))) for number in (8, 9, 10)]
        await fleet.until(lambda: len(b.got.get("a", [])) == 8)
        back = b.mesh.link("a")
        assert back is not None
        back.consumed(2)
        await asyncio.sleep(0.1)
        assert [task.done() for task in waiting] == [True, True, False]
        back.consumed(8)
        assert await asyncio.gather(*waiting) == [9, 10, 11]
        await fleet.until(lambda: len(b.got["a"]) == 11)
        assert b.got["a"] == [bytes([number]) for number in range(11)]

    play(scenario)


def test_the_calls_lane_is_not_held_back_by_a_full_window(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b", max_queue_messages=4)
        b.consumes = False
        link = await a.mesh.wait_link("b")
        for _ in range(4):
            link.send_nowait(b"message")
        link.post(b"call")
        await fleet.until(lambda: b.calls == [b"call"])

    play(scenario)


def test_a_message_that_is_no_buffer_is_refused_with_a_sentence(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, _ = await fleet.start("a", "b")
        link = await a.mesh.wait_link("b")
        with pytest.raises(TypeError, match="a message must be bytes or another buffer, and not a str; encode it"):
            await link.send("text")  # type: ignore[arg-type]  # that it is refused is the point
        with pytest.raises(TypeError, match="and not a dict"):
            link.send_nowait({})  # type: ignore[arg-type]

    play(scenario)


def test_what_is_posted_together_arrives_in_order_and_its_being_taken_is_told_once(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await fleet.start("a", "b")
        link = await a.mesh.wait_link("b")
        taken: list[int] = []
        bodies: list[bytes | memoryview] = [b"one", bytes(100_000), memoryview(b"three")]
        link.post_together(bodies)
        link.post(b"four")
        link.when_calls_taken(lambda: taken.append(link.calls_behind))
        assert link.calls_behind == 100_012
        await fleet.until(lambda: len(b.calls) == 4)
        await fleet.until(lambda: taken != [])
        assert b.calls == [*map(bytes, bodies), b"four"]
        link.post(b"five")
        await asyncio.sleep(1)
        assert (len(taken), link.calls_behind) == (1, 0)
        with pytest.raises(ValueError, match="max_message"):
            link.post_together([b"six", bytes(65 * 1024 * 1024)])
        await asyncio.sleep(1)
        assert len(b.calls) == 5

    play(scenario)


def misdirect(node: Node, wrong: dict[str, str]) -> None:
    """Have the dials of ``node`` to some endpoints led to others, as whoever relays them would."""
    connect = node.adapter.connect

    async def misdirected(endpoint: Endpoint, options: TransportOptions) -> TransportConnection:
        return await connect(Endpoint.parse(wrong.get(str(endpoint), str(endpoint))), options)

    node.adapter.connect = misdirected  # type: ignore[method-assign]


def test_a_dial_that_is_led_to_another_node_of_the_mesh_makes_no_link_with_it_under_the_wrong_name(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        b, c = await fleet.start("b", "c")
        a = Node("a", 1, fleet.network, 0)
        misdirect(a, {"memory:b-1": "memory:c-1"})
        misdirect(b, {"memory:a-1": "memory:c-1"})
        fleet.tell(a.record(NodeStatus.DOWN))
        a.mesh.apply(fleet.records.values())
        fleet.nodes["a"] = a
        await a.mesh.start()
        fleet.tell(a.record(NodeStatus.LISTENING))
        await asyncio.sleep(5)
        assert (a.up, sorted(b.up), sorted(c.up)) == ([("c", 1)], [("c", 1)], [("a", 1), ("b", 1)])
        assert "memory:c-1" in a.adapter.dialled
        failures = {link.peer: link.failure for link in a.mesh.report()[1]}
        assert failures["b"].endswith("c (incarnation 1) answered for b")

    play(scenario)


def test_a_stranger_without_the_secret_is_refused_and_costs_no_link(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        (a,) = await fleet.start("a")
        stranger = Node("b", 1, fleet.network, 0, secret=b"another")
        stranger.mesh.apply([a.record(NodeStatus.LISTENING)])
        fleet.tell(stranger.record(NodeStatus.DOWN))
        await stranger.mesh.start()
        await asyncio.sleep(5)
        assert a.up == []
        assert stranger.up == []
        assert a.mesh._acceptor.counts["dropped"] >= 1
        await stranger.mesh.close()

    play(scenario)
