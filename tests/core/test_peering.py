"""The decisions of a mesh about one peer."""

from meshvisor.shared.core.handshake import Identity
from meshvisor.shared.core.peering import Standing, courtesy, redial_delay, session_id
from meshvisor.shared.core.roster import NodeRecord, NodeStatus


def record(incarnation: int, status: NodeStatus, epoch: int = 0) -> NodeRecord:
    endpoints = ("memory:b",) if status in (NodeStatus.LISTENING, NodeStatus.READY) else ()
    return NodeRecord("b", "b", 0, incarnation, epoch or incarnation * 11, status, endpoints)


def identity(incarnation: int, epoch: int = 0, node: str = "b") -> Identity:
    return Identity(node, incarnation, epoch or incarnation * 11, (1, 1))


def test_the_newcomer_dials_at_once_and_the_others_leave_it_a_quarter_of_a_second() -> None:
    assert courtesy("a", "b", newcomer_is_other=False, together=False) == 0.0
    assert courtesy("b", "a", newcomer_is_other=False, together=False) == 0.0
    assert courtesy("a", "b", newcomer_is_other=True, together=False) == 0.25


def test_of_two_that_were_announced_together_the_lower_id_dials() -> None:
    assert courtesy("a", "b", newcomer_is_other=False, together=True) == 0.0
    assert courtesy("b", "a", newcomer_is_other=False, together=True) == 0.25


def test_after_a_broken_connection_the_lower_id_dials_first() -> None:
    assert redial_delay("a", "b") < redial_delay("b", "a")


def test_both_ends_derive_the_same_session_and_another_incarnation_is_another_session() -> None:
    a, b = identity(1, node="a"), identity(1)
    assert session_id(a, b) == session_id(b, a)
    assert session_id(a, b) != session_id(a, identity(2))
    assert len(session_id(a, b)) == 16


def test_an_update_says_when_the_peer_begins_to_listen() -> None:
    standing = Standing(record(1, NodeStatus.DOWN))
    assert standing.update(record(1, NodeStatus.LISTENING))
    assert not standing.update(record(1, NodeStatus.READY))
    assert not standing.update(record(1, NodeStatus.DOWN))
    assert standing.update(record(2, NodeStatus.READY))


def test_an_incarnation_that_went_down_is_over() -> None:
    standing = Standing(record(1, NodeStatus.DOWN))
    assert standing.buried == 0
    assert standing.is_current(identity(1), linked=0)
    standing.update(record(1, NodeStatus.READY))
    standing.update(record(1, NodeStatus.DOWN))
    assert standing.buried == 1
    assert not standing.is_current(identity(1), linked=0)


def test_a_peer_that_is_gone_is_over_and_so_is_everything_before_a_new_incarnation() -> None:
    standing = Standing(record(1, NodeStatus.DOWN))
    standing.update(record(1, NodeStatus.GONE))
    assert standing.buried == 1
    standing.update(record(4, NodeStatus.DOWN))
    assert standing.buried == 3


def test_an_incarnation_newer_than_the_news_is_believed_and_an_older_one_never() -> None:
    """R16: once a higher incarnation is known, a lower one is fenced."""
    standing = Standing(record(2, NodeStatus.READY))
    assert standing.is_current(identity(3), linked=0)
    assert standing.is_current(identity(2), linked=2)
    assert not standing.is_current(identity(2, epoch=5), linked=0)
    assert not standing.is_current(identity(2), linked=3)
    assert not standing.is_current(identity(1), linked=0)


def test_a_goodbye_buries_the_incarnation() -> None:
    standing = Standing(record(2, NodeStatus.READY))
    standing.bury(2)
    standing.bury(1)
    assert standing.buried == 2
    assert not standing.is_current(identity(2), linked=0)
