"""Which node a name means, decided from a roster of literals."""

import pytest

from meshvisor.shared.core.roster import NodeRecord, NodeStatus
from meshvisor.shared.errors import PeerUnavailable, UnknownPeer
from meshvisor.workers.routing import Key, Router, rendezvous

READY, DOWN, LISTENING, GONE = NodeStatus.READY, NodeStatus.DOWN, NodeStatus.LISTENING, NodeStatus.GONE


def node(name: str, status: NodeStatus = READY, group: str = "", replica: int = 0, why: str = "") -> NodeRecord:
    return NodeRecord(name, group or name, replica, 1, 1, status, (), why)


def counters(*statuses: NodeStatus) -> list[NodeRecord]:
    return [node(f"counter-{n}", status, "counter", n) for n, status in enumerate(statuses)]


def router(own: str, *records: NodeRecord) -> Router:
    made = Router(own)
    made.update(records)
    return made


def choose(made: Router, target: str, key: Key | None = None, *, unlinked: tuple[str, ...] = ()) -> str | None:
    return made.choose(target, key, lambda record: record.name not in unlinked)


def test_ready_replicas_take_turns() -> None:
    made = router("source", node("source"), *counters(READY, READY, READY))
    assert [choose(made, "counter") for _ in range(4)] == ["counter-0", "counter-1", "counter-2", "counter-0"]


def test_replicas_that_are_not_ready_or_not_linked_are_passed_over() -> None:
    made = router("source", *counters(READY, LISTENING, DOWN, READY, GONE))
    assert {choose(made, "counter", unlinked=("counter-3",)) for _ in range(3)} == {"counter-0"}


def test_a_group_with_none_ready_is_waited_for() -> None:
    made = router("source", *counters(DOWN, LISTENING, GONE))
    assert choose(made, "counter") is None


def test_a_group_whose_replicas_are_all_gone_is_unavailable() -> None:
    gone = [node("c-0", GONE, "c", 0, "parked"), node("c-1", GONE, "c", 1)]
    with pytest.raises(PeerUnavailable, match="c is parked"):
        choose(router("source", *gone), "c")


def test_the_caller_is_left_out_of_its_own_group() -> None:
    made = router("counter-1", *counters(READY, READY, READY))
    assert [choose(made, "counter") for _ in range(3)] == ["counter-0", "counter-2", "counter-0"]


def test_a_group_of_the_caller_alone_means_the_caller() -> None:
    assert choose(router("solo", node("solo")), "solo") == "solo"


def test_a_node_means_itself_ready_or_not() -> None:
    made = router("source", *counters(LISTENING, DOWN))
    assert choose(made, "counter-0") == "counter-0"
    assert choose(made, "counter-1", unlinked=("counter-1",)) is None
    assert choose(router("counter-0", *counters(DOWN, DOWN)), "counter-0") == "counter-0"


def test_a_name_that_is_both_means_the_group() -> None:
    # Scaled up from one replica: the first slot has kept the group's name.
    made = router("source", node("web", READY, "web", 0), node("web-1", READY, "web", 1))
    assert [choose(made, "web") for _ in range(3)] == ["web", "web-1", "web"]


def test_an_unknown_name_is_refused_at_once_with_those_known() -> None:
    with pytest.raises(UnknownPeer, match=r"no node or group is called 'sink' \(known: counter, counter-0\)"):
        choose(router("source", *counters(READY)), "sink")


def test_a_gone_node_is_unavailable() -> None:
    with pytest.raises(PeerUnavailable, match="a is failed"):
        choose(router("source", node("a", GONE, "g", why="failed"), node("b", READY, "g", 1)), "a")


def test_a_key_keeps_its_replica_and_waits_for_it_while_it_is_down() -> None:
    up, down = counters(READY, READY, READY), counters(DOWN, DOWN, DOWN)
    for key in ("a", "b", "c", b"\xff", 17):
        fixed = choose(router("source", *up), "counter", key)
        assert fixed == rendezvous(key, up).name
        assert fixed is not None
        others_down = [record if record.name != fixed else down[record.replica] for record in up]
        assert choose(router("source", *others_down), "counter", key) is None
        assert choose(router(fixed, *up), "counter", key) == fixed  # Its own caller, even.


def test_a_keys_replica_that_is_gone_is_unavailable() -> None:
    with pytest.raises(PeerUnavailable):
        choose(router("source", *counters(GONE)), "counter", "k")


def test_keys_spread_and_only_those_of_a_removed_replica_move() -> None:
    members = counters(READY, READY, READY, READY)
    before = {n: rendezvous(f"key {n}", members).name for n in range(1000)}
    after = {n: rendezvous(f"key {n}", members[:3]).name for n in range(1000)}
    assert all(after[n] == name for n, name in before.items() if name != "counter-3")
    shares = [list(before.values()).count(member.name) for member in members]
    assert min(shares) > 200


def test_the_hash_is_the_same_in_every_process_and_version() -> None:
    members = counters(READY, READY, READY, READY)
    assert [rendezvous(key, members).replica for key in ("a", "b", "c", "d", "e", "f")] == [2, 2, 0, 3, 1, 2]
    assert rendezvous(5, members) == rendezvous("5", members) == rendezvous(b"5", members)


def test_a_key_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="a key must be str, bytes or int, not float"):
        rendezvous(1.5, counters(READY))  # type: ignore[arg-type]  # that it is refused is the point
