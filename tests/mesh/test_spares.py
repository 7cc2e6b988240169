"""Spares: linked with everybody beforehand, and named at a death; with the news of it in every order."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.mesh.fleet import Fleet, Node

from meshvisor.shared.core.roster import SPARES, NodeRecord, NodeStatus
from meshvisor.shared.errors import PeerLost, UnknownPeer
from meshvisor.shared.mesh.connection import ConnectionHandle
from meshvisor.shared.mesh.mesh import Mesh, MeshOptions
from meshvisor.shared.transport.unix import UnixTransportAdapter

Play = Callable[..., None]
SPARE = f"{SPARES}-1"
OTHER = f"{SPARES}-2"


async def meshed(fleet: Fleet, *names: str, **options: Any) -> tuple[Node, ...]:
    """Start nodes, and a spare that is linked with all of them."""
    nodes = await fleet.start(*names, **options)
    return (*nodes, await a_spare(fleet, **options))


async def a_spare(fleet: Fleet, name: str = SPARE, **options: Any) -> Node:
    (spare,) = await fleet.start(name, **options)
    await fleet.until(lambda: all(is_linked(spare, other) for other in fleet.nodes.values() if other is not spare))
    return spare


def is_linked(node: Node, other: Node) -> bool:
    """Whether both ends have a connection between them."""
    ends = [aside(one, two) for one, two in ((node, other), (other, node))]
    return all(handle is not None and handle.is_attached for handle in ends)


def aside(node: Node, other: Node) -> ConnectionHandle | None:
    peer = next((peer for peer in node.mesh._everybody() if other.epoch in peer.epochs), None)
    return None if peer is None else peer.handle


def naming(spare: Node, name: str, incarnation: int) -> list[NodeRecord]:
    """What the supervisor tells everybody, in one breath, when ``spare`` takes a place."""
    place = NodeRecord(name, name, 0, incarnation, spare.epoch, NodeStatus.LISTENING, spare.options.listen)
    removed = NodeRecord(spare.name, spare.group, 0, spare.incarnation, spare.epoch, NodeStatus.REMOVED)
    return [place, removed]


async def bury(fleet: Fleet, node: Node) -> None:
    """Kill ``node`` and wait until everybody knows that it is down."""
    await fleet.kill(node.name)
    fleet.tell(node.record(NodeStatus.DOWN))
    await fleet.until(lambda: all(other.down for other in fleet.nodes.values() if other.group != SPARES))


def rename(fleet: Fleet, spare: Node, name: str, incarnation: int) -> list[NodeRecord]:
    """Know ``spare`` as ``name`` in the fleet; return the news of it, which nobody has got yet."""
    news = naming(spare, name, incarnation)
    fleet.nodes[name] = fleet.nodes.pop(spare.name)
    for record in news:
        fleet.records[record.name] = record
    del fleet.records[spare.name]
    return news


def test_a_spare_is_linked_with_everybody_and_nobody_is_told(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b, spare = await meshed(fleet, "a", "b")
        other = await a_spare(fleet, OTHER)
        assert is_linked(spare, other)
        for node, peer in ((a, "b"), (b, "a")):
            assert node.up == [(peer, 1)]
            assert node.links == (1, 1)
            assert [link.node_id for link in node.mesh.links()] == [peer]
            assert [record.name for record in node.mesh.roster] == ["a", "b"]
            assert node.mesh.link(SPARE) is None
            with pytest.raises(UnknownPeer):
                await node.mesh.wait_link(SPARE)
        assert spare.mesh.links() == []

    play(scenario)


@pytest.mark.parametrize("named_first", [True, False])
def test_a_spare_takes_a_place_without_a_dial_and_without_a_moment_in_between(play: Play, named_first: bool) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b, spare = await meshed(fleet, "a", "b")
        await bury(fleet, b)
        news = rename(fleet, spare, "b", 2)
        steps: list[Callable[[], None]] = [lambda: spare.become("b", 2), lambda: fleet.tell(*news)]
        for step in steps if named_first else steps[::-1]:
            step()
        # Nothing has waited since the news.
        assert a.story == ["b.1 is up", "b.1 is down", "b.2 is up"]
        assert spare.story == ["a.1 is up"]
        await asyncio.sleep(0)  # links are counted once a turn
        assert a.links == spare.links == (1, 1)
        assert [node.name for node in spare.mesh.roster] == ["a", "b"]
        count = len(a.adapter.dialled) + len(spare.adapter.dialled)
        await (await a.mesh.wait_link("b")).send(b"hello")
        await (await spare.mesh.wait_link("a")).send(b"hello, too")
        await asyncio.sleep(10)
        assert (spare.story[1:], a.story[3:]) == (["a.1 says hello"], ["b.2 says hello, too"])
        assert len(a.adapter.dialled) + len(spare.adapter.dialled) == count
        assert a.mesh._everybody() == list(a.mesh._peers.values())

    play(scenario)


def test_the_news_of_a_place_that_is_taken_end_the_link_to_whoever_had_it_before(play: Play) -> None:
    """The supervisor may say in one breath that one is dead and another in its place."""

    async def scenario(fleet: Fleet) -> None:
        a, b, spare = await meshed(fleet, "a", "b")
        await (await a.mesh.wait_link("b")).send(b"in time")
        await fleet.until(lambda: bool(b.got))
        await fleet.kill("b")
        news = rename(fleet, spare, "b", 2)
        fleet.tell(*news)
        spare.become("b", 2)
        assert a.story == ["b.1 is up", "b.1 is down", "b.2 is up"]
        assert spare.story == ["a.1 is up"]

    play(scenario)


class _Told:
    """The handler of a mesh that is not in a fleet."""

    def __init__(self) -> None:
        self.story: list[str] = []

    def peer_up(self, link: ConnectionHandle) -> None:
        self.story.append(f"{link.node_id}.{link.incarnation} is up")

    def peer_down(self, link: ConnectionHandle, reason: object) -> None:
        self.story.append(f"{link.node_id}.{link.incarnation} is down")

    def messages_received(self, link: ConnectionHandle, first: int, bodies: list[bytes | bytearray]) -> None:
        self.story += [f"{link.node_id}.{link.incarnation} says {body.decode()}" for body in bodies]

    def calls_received(self, link: ConnectionHandle, bodies: list[bytes | bytearray]) -> None: ...

    def links_changed(self, up: int, total: int) -> None: ...


def test_the_last_words_of_the_dead_are_read_before_the_place_is_taken(tmp_path: Path) -> None:
    """What a process wrote before it died is in the socket when the news of its death are here."""
    told = _Told()
    records: list[NodeRecord] = []

    async def start(name: str, epoch: int, handler: _Told | None) -> Mesh:
        listen = (f"unix:{tmp_path}/{epoch}",)
        records.append(NodeRecord(name, SPARES if handler is None else name, 0, 1, epoch, NodeStatus.LISTENING, listen))
        options = MeshOptions(name, 1, epoch, listen, b"secret")
        mesh = Mesh(options, handler, adapters=[UnixTransportAdapter()])
        mesh.apply(records)
        await mesh.start()
        return mesh

    async def main() -> None:
        a, b = await start("a", 1, told), await start("b", 2, _Told())
        a.apply(records)
        link = await b.wait_link("a")
        spare = await start(SPARE, 3, None)
        a.apply(records)
        async with asyncio.timeout(10):
            while not (told.story and all(peer.handle and peer.handle.is_attached for peer in a._everybody())):
                await asyncio.sleep(0.001)
        for number in range(20):
            link.send_nowait(b"%d" % number)
        await asyncio.sleep(0)  # they are written; nobody has read them yet
        for peer in b._everybody():
            if peer.handle is not None:
                peer.handle._driver.end()
        assert told.story == ["b.1 is up"]
        place = NodeRecord("b", "b", 0, 2, 3, NodeStatus.LISTENING, records[2].endpoints)
        a.apply([place, NodeRecord(SPARE, SPARES, 0, 1, 3, NodeStatus.REMOVED)])
        assert told.story == [
            "b.1 is up",
            *(f"b.1 says {number}" for number in range(20)),
            "b.1 is down",
            "b.2 is up",
        ]
        await asyncio.gather(*(mesh.close() for mesh in (a, b, spare)))

    asyncio.run(main())


def test_what_is_said_by_one_that_is_not_known_by_its_name_yet_waits_for_the_news(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b, spare = await meshed(fleet, "a", "b", max_queue_messages=4)
        await bury(fleet, b)
        news = rename(fleet, spare, "b", 2)
        spare.become("b", 2)
        link = await spare.mesh.wait_link("a")
        for number in range(4):
            link.send_nowait(b"%d" % number)
        link.post(b"call")
        waiting = asyncio.create_task(link.send(b"4"))
        await asyncio.sleep(1)
        assert a.story == ["b.1 is up", "b.1 is down"]
        assert a.calls == []
        assert not waiting.done()  # the window bounds what is held back
        fleet.tell(*news)
        await waiting
        await fleet.until(lambda: len(a.got.get("b", ())) == 5)
        assert a.story[2:] == ["b.2 is up", *(f"b.2 says {number}" for number in range(5))]
        assert a.calls == [b"call"]

    play(scenario)


def test_what_is_said_to_one_that_does_not_know_its_name_yet_waits_for_the_name(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b, spare = await meshed(fleet, "a", "b", max_queue_messages=4)
        await bury(fleet, b)
        fleet.tell(*rename(fleet, spare, "b", 2))
        link = await a.mesh.wait_link("b")
        for number in range(4):
            link.send_nowait(b"%d" % number)
        link.post(b"call")
        waiting = asyncio.create_task(link.send(b"4"))
        await asyncio.sleep(1)
        assert not spare.story
        assert not waiting.done()
        spare.become("b", 2)
        await waiting
        await fleet.until(lambda: len(spare.got.get("a", ())) == 5)
        assert spare.story == ["a.1 is up", *(f"a.1 says {number}" for number in range(5))]
        assert spare.calls == [b"call"]

    play(scenario)


def cut(*nodes: Node) -> None:
    for node in nodes:
        node.adapter.cut()


@pytest.mark.parametrize("knows", ["the spare", "the other", "nobody"])
@pytest.mark.parametrize("dials_first", ["a", "spare"])
def test_a_connection_that_breaks_while_one_end_knows_the_name_costs_nothing(
    play: Play, knows: str, dials_first: str
) -> None:
    """The reconnect proves the new name or the old one, and either is understood by its epoch."""

    async def scenario(fleet: Fleet) -> None:
        a, b, spare = await meshed(fleet, "a", "b")
        await bury(fleet, b)
        news = rename(fleet, spare, "b", 2)
        if knows == "the spare":
            spare.become("b", 2)
            (await spare.mesh.wait_link("a")).send_nowait(b"one")
        elif knows == "the other":
            fleet.tell(*news)
            (await a.mesh.wait_link("b")).send_nowait(b"one")
        await asyncio.sleep(0.1)
        cut(a, spare)
        dials, other = (a, spare) if dials_first == "a" else (spare, a)
        peer = next(peer for peer in dials.mesh._everybody() if other.epoch in peer.epochs)
        peer.cancel_dial()
        dials.mesh._plan_dial(peer, 0.0)
        await fleet.until(lambda: is_linked(a, spare))
        if knows != "the spare":
            spare.become("b", 2)
        if knows != "the other":
            fleet.tell(*news)
        (await spare.mesh.wait_link("a")).send_nowait(b"two")
        (await a.mesh.wait_link("b")).send_nowait(b"two")
        await asyncio.sleep(5)
        one = {"the spare": (["one", "two"], ["two"]), "the other": (["two"], ["one", "two"])}
        said = one.get(knows, (["two"], ["two"]))
        assert a.story == ["b.1 is up", "b.1 is down", "b.2 is up", *(f"b.2 says {text}" for text in said[0])]
        assert spare.story == ["a.1 is up", *(f"a.1 says {text}" for text in said[1])]
        assert a.links == spare.links == (1, 1)

    play(scenario)


def test_one_that_dials_by_its_new_name_is_known_by_it_before_the_news_are_here(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b, spare = await meshed(fleet, "a", "b")
        await bury(fleet, b)
        news = rename(fleet, spare, "b", 2)
        spare.become("b", 2)
        cut(a, spare)
        a.mesh._spares[SPARE].cancel_dial()
        spare.mesh._peers["a"].cancel_dial()
        spare.mesh._plan_dial(spare.mesh._peers["a"], 0.0)
        await fleet.until(lambda: ("b", 2) in a.up)
        fleet.tell(*news)
        await asyncio.sleep(5)
        assert a.story == ["b.1 is up", "b.1 is down", "b.2 is up"]
        assert a.links == spare.links == (1, 1)
        assert len(a.mesh._everybody()) == 1

    play(scenario)


def test_a_link_that_is_not_up_at_the_naming_is_dialled_as_to_any_newcomer(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        (a,) = await fleet.start("a")
        (b,) = await fleet.start("b")
        (spare,) = [Node(SPARE, 1, fleet.network, 0)]
        fleet.tell(spare.record(NodeStatus.DOWN))
        spare.mesh.apply(fleet.records.values())
        spare.adapter.delays["memory:a-1"] = 0.5
        fleet.nodes[SPARE] = spare
        await spare.mesh.start()
        fleet.tell(spare.record(NodeStatus.LISTENING))
        await fleet.until(lambda: is_linked(spare, b))
        await bury(fleet, b)
        news = rename(fleet, spare, "b", 2)
        spare.become("b", 2)
        fleet.tell(*news)
        await asyncio.sleep(0)  # links are counted once a turn
        assert (a.links, spare.links) == ((0, 1), (0, 1))
        waiting = asyncio.create_task(a.mesh.wait_link("b"))
        await asyncio.sleep(0)
        assert not waiting.done()
        await (await waiting).send(b"hello")
        await fleet.until(lambda: spare.got.get("a") == [b"hello"])
        assert a.story == ["b.1 is up", "b.1 is down", "b.2 is up"]
        assert a.links == spare.links == (1, 1)

    play(scenario)


def test_a_spare_that_dies_is_forgotten_in_silence_and_nothing_is_held_against_it(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b, spare = await meshed(fleet, "a", "b")
        await fleet.kill(SPARE)
        await asyncio.sleep(1)  # somebody dials it in vain before the news are here
        fleet.tell(spare.record(NodeStatus.REMOVED))
        await asyncio.sleep(1)
        for node in (a, b):
            assert len(node.story) == 1
            assert node.mesh._everybody() == list(node.mesh._peers.values())
            assert not node.mesh._dialer.penalties.remaining(spare.options.listen[0], asyncio.get_running_loop().time())

    play(scenario)


def test_one_that_dies_while_it_is_named_is_lost_like_any_other(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b, spare = await meshed(fleet, "a", "b")
        await bury(fleet, b)
        fleet.tell(*rename(fleet, spare, "b", 2))
        link = await a.mesh.wait_link("b")
        for _ in range(3):
            await link.send(b"lost")
        await asyncio.sleep(0.1)
        await fleet.kill("b")
        fleet.tell(NodeRecord("b", "b", 0, 2, spare.epoch, NodeStatus.DOWN))
        await fleet.until(lambda: len(a.down) == 2)
        lost = a.down[1]
        assert isinstance(lost, PeerLost)
        assert (lost.incarnation, lost.first, lost.last, lost.count) == (2, 1, 3, 3)
        assert a.story == ["b.1 is up", "b.1 is down", "b.2 is up", "b.2 is down"]
        assert not spare.story

    play(scenario)


def test_one_spare_after_the_other_takes_the_same_place(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b, one = await meshed(fleet, "a", "b")
        two = await a_spare(fleet, OTHER)
        await bury(fleet, b)
        news = rename(fleet, one, "b", 2)
        one.become("b", 2)
        fleet.tell(*news)
        await fleet.kill("b")
        # Without a word about the death: the news of the next one says it all.
        news = rename(fleet, two, "b", 3)
        fleet.tell(*news)
        two.become("b", 3)
        assert a.story == [f"b.{number} is {what}" for number in (1, 2, 3) for what in ("up", "down")][:-1]
        assert two.story == ["a.1 is up"]
        await (await two.mesh.wait_link("a")).send(b"hello")
        await fleet.until(lambda: a.got.get("b") == [b"hello"])
        assert a.links == two.links == (1, 1)

    play(scenario)


def test_late_news_of_a_place_that_was_taken_do_not_end_the_link_to_whoever_came_after(play: Play) -> None:
    """Simulation, seed 294 with two spares: the next incarnation had dialled before its predecessor was heard of."""

    async def scenario(fleet: Fleet) -> None:
        a, b, one = await meshed(fleet, "a", "b")
        two = await a_spare(fleet, OTHER)
        await bury(fleet, b)
        late = rename(fleet, one, "b", 2)
        await fleet.kill("b")
        later = rename(fleet, two, "b", 3)
        two.become("b", 3)
        a.adapter.delays[two.options.listen[0]] = 1.0
        cut(a, two)
        await fleet.until(lambda: ("b", 3) in a.up)
        fleet.tell(*late)
        fleet.tell(*later)
        await asyncio.sleep(5)
        assert a.story == ["b.1 is up", "b.1 is down", "b.3 is up"]
        assert a.links == two.links == (1, 1)
        assert len(a.mesh._everybody()) == 1

    play(scenario)


def test_two_spares_that_are_named_are_linked_with_each_other(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b, one = await meshed(fleet, "a", "b")
        two = await a_spare(fleet, OTHER)
        await fleet.kill("a")
        await fleet.kill("b")
        news = rename(fleet, one, "a", 2) + rename(fleet, two, "b", 2)
        one.become("a", 2)
        fleet.tell(*news)
        two.become("b", 2)
        assert (one.story, two.story) == (["b.2 is up"], ["a.2 is up"])
        assert a.story[1:] == b.story[1:] == []

    play(scenario)


def test_a_node_that_leaves_says_goodbye_to_spares_so_that_they_do_not_dial_it(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, _, spare = await meshed(fleet, "a", "b")
        await fleet.nodes.pop("a").mesh.close()
        count = len(spare.adapter.dialled)
        await asyncio.sleep(5)
        assert len(spare.adapter.dialled) == count
        assert aside(spare, a) is None

    play(scenario)
