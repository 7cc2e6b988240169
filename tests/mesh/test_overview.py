"""What a node says of its links, as they come, carry, break and go."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from tests.mesh.fleet import Fleet, Node

from meshvisor.shared.control.links import LinkStatus
from meshvisor.shared.core.roster import NodeRecord, NodeStatus
from meshvisor.shared.core.states import ConnectionState
from meshvisor.shared.mesh.connection import ConnectionHandle
from meshvisor.shared.mesh.overview import state_of
from meshvisor.shared.mesh.peer import Peer

Play = Callable[..., None]
READY = NodeRecord("b", "b", 0, 1, 7, NodeStatus.READY, ("memory:b-1",), "")


def rows(node: Node) -> dict[str, LinkStatus]:
    return {row.peer: row for row in node.mesh.report()[1]}


async def linked(fleet: Fleet, *names: str) -> list[Node]:
    nodes = await fleet.start(*names)
    await fleet.until(lambda: all(node.links == (len(names) - 1, len(names) - 1) for node in nodes))
    return nodes


def test_there_is_a_row_for_every_other_node(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, *_ = await linked(fleet, "a", "b", "c")
        await asyncio.sleep(2.5)
        found = rows(a)
        assert list(found) == ["b", "c"]
        for row in found.values():
            assert (row.state, row.incarnation, row.reconnects) == (ConnectionState.ESTABLISHED, 1, 0)
            assert (row.failure, row.failed) == ("", None)
            assert row.age == pytest.approx(2.5, abs=0.1)

    play(scenario)


def test_the_end_that_dialled_knows_the_round_trip_of_the_handshake(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await linked(fleet, "a", "b")
        dialler, other = (a, b) if a.adapter.dialled else (b, a)
        assert rows(dialler)[other.name].srtt is not None
        assert rows(other)[dialler.name].srtt is None
        assert rows(dialler)[other.name].rttvar is None

    play(scenario)


def test_what_was_carried_is_counted_and_what_is_not_acknowledged_too(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await linked(fleet, "a", "b")
        b.consumes = False
        link = a.mesh.link("b")
        assert link is not None
        for _ in range(3):
            await link.send(b"x" * 100)
        link.post(b"call")
        await asyncio.sleep(0.1)
        ours, theirs = rows(a)["b"], rows(b)["a"]
        assert (ours.messages_out, ours.calls_out, ours.replay_depth) == (3, 1, 3)
        assert (theirs.messages_in, theirs.calls_in, theirs.replay_depth) == (3, 1, 0)
        assert min(ours.bytes_out, theirs.bytes_in) > 300

    play(scenario)


def test_a_connection_that_is_lost_is_told_with_its_reason_and_counted_once_it_is_back(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await linked(fleet, "a", "b")
        await asyncio.sleep(1.0)
        for node in (a, b):
            node.adapter.cut()
        await fleet.until(lambda: a.links == (0, 1))
        down = rows(a)["b"]
        assert down.state in (ConnectionState.DEGRADED, ConnectionState.RECONNECTING)
        assert (down.srtt, down.reconnects) == (None, 0)
        assert down.age < 0.01
        assert down.failure
        assert down.failed == down.age
        await fleet.until(lambda: a.links == (1, 1))
        up = rows(a)["b"]
        assert (up.state, up.reconnects, up.failure) == (ConnectionState.ESTABLISHED, 1, down.failure)
        assert a.mesh.report()[0].reconnects == 1

    play(scenario)


def test_a_node_that_cannot_be_reached_is_told_with_the_reason(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        (a,) = await fleet.start("a")
        ghost = Node("b", 1, fleet.network, 0)
        a.mesh.apply([ghost.record(NodeStatus.DOWN)])
        assert rows(a)["b"].state is ConnectionState.DISCONNECTED
        a.mesh.apply([ghost.record(NodeStatus.LISTENING)])
        await asyncio.sleep(0.5)
        row = rows(a)["b"]
        assert (row.state, row.incarnation) == (ConnectionState.CONNECTING, 0)
        assert row.failure == "no route to b-1"
        a.mesh.apply([ghost.record(NodeStatus.GONE)])
        assert rows(a)["b"].state is ConnectionState.CLOSED

    play(scenario)


def test_a_dead_node_is_not_linked_though_its_last_words_are_still_being_read() -> None:
    peer = Peer(READY, 0.0)
    assert state_of(peer) is ConnectionState.CONNECTING
    peer.is_doomed = True
    assert state_of(peer) is ConnectionState.DISCONNECTED


def test_a_link_without_a_connection_is_being_mended_while_somebody_dials() -> None:
    peer = Peer(READY, 0.0)
    peer.handle = cast(ConnectionHandle, SimpleNamespace(is_attached=False))
    assert state_of(peer) is ConnectionState.DEGRADED
    peer.dial = cast("asyncio.Task[None]", object())
    assert state_of(peer) is ConnectionState.RECONNECTING


def test_what_a_link_carried_counts_when_it_is_over(play: Play) -> None:
    async def scenario(fleet: Fleet) -> None:
        a, b = await linked(fleet, "a", "b")
        link = b.mesh.link("a")
        assert link is not None
        await link.send(b"last words")
        await asyncio.sleep(0.1)
        before = a.mesh.report()[0]
        await fleet.kill("b")
        fleet.tell(b.record(NodeStatus.DOWN))
        await fleet.until(lambda: bool(a.down))
        row = rows(a)["b"]
        assert (row.state, row.incarnation, row.messages_in) == (ConnectionState.DISCONNECTED, 0, 0)
        after = a.mesh.report()[0]
        assert a.mesh.report(each=False) == (after, ())
        assert (after.messages_in, after.messages_out) == a.mesh.message_counts() == (1, 0)
        assert after.bytes_in >= before.bytes_in > 0

    play(scenario)
