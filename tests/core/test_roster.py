"""What a node knows of the others: the latest news of each, never older ones."""

import msgspec
import pytest

from meshvisor.shared.core.roster import NodeRecord, NodeStatus, Roster


def record(name: str = "counter-0", status: NodeStatus = NodeStatus.LISTENING, *, incarnation: int = 1) -> NodeRecord:
    group, _, replica = name.partition("-")
    return NodeRecord(name, group, int(replica or 0), incarnation, 1000 + incarnation, status, (f"memory:{name}",))


def roster(*records: NodeRecord) -> Roster:
    out = Roster()
    out.apply(records)
    return out


def test_an_empty_roster_knows_nobody() -> None:
    empty = Roster()
    assert len(empty) == 0
    assert list(empty) == []
    assert empty.get("counter-0") is None
    assert empty.group("counter") == ()
    assert "counter-0" not in empty


def test_what_is_new_is_a_change_from_nothing() -> None:
    table = Roster()
    first, second = record("source"), record("counter-0")
    assert table.apply([first, second]) == [(None, first), (None, second)]
    assert list(table) == [first, second]
    assert table.get("source") is first
    assert "counter-0" in table
    assert len(table) == 2


def test_news_that_say_nothing_new_are_no_change() -> None:
    table = roster(record())
    assert table.apply([record(), record()]) == []


def test_a_change_names_the_old_record_and_the_new_one() -> None:
    old, new = record(status=NodeStatus.DOWN), record(status=NodeStatus.READY)
    table = roster(old)
    assert table.apply([new]) == [(old, new)]
    assert table.get("counter-0") is new


def test_a_newer_incarnation_replaces_an_older_one_and_keeps_its_place() -> None:
    table = roster(record("a"), record("b"))
    newer = record("a", NodeStatus.DOWN, incarnation=2)
    assert table.apply([newer]) == [(record("a"), newer)]
    assert [node.name for node in table] == ["a", "b"]


@pytest.mark.parametrize("status", list(NodeStatus))
def test_r16_news_of_an_older_incarnation_are_ignored(status: NodeStatus) -> None:
    table = roster(record(incarnation=3))
    assert table.apply([record(status=status, incarnation=2)]) == []
    assert table.get("counter-0") == record(incarnation=3)


def test_a_name_that_was_removed_is_forgotten() -> None:
    table = roster(record())
    removed = record(status=NodeStatus.REMOVED)
    assert table.apply([removed]) == [(record(), removed)]
    assert "counter-0" not in table
    assert table.apply([removed]) == []


def test_changes_of_one_batch_of_news_come_one_by_one_in_their_order() -> None:
    down, up = record(status=NodeStatus.DOWN, incarnation=2), record(incarnation=2)
    table = roster(record())
    assert table.apply([down, up]) == [(record(), down), (down, up)]


def test_a_group_is_its_replicas_by_number() -> None:
    table = roster(record("counter-2"), record("source"), record("counter-10"), record("counter-0"))
    assert [node.name for node in table.group("counter")] == ["counter-0", "counter-2", "counter-10"]
    assert [node.name for node in table.group("source")] == ["source"]
    assert table.group("counter-0") == ()


@pytest.mark.parametrize(
    ("status", "listening"),
    [
        (NodeStatus.DOWN, False),
        (NodeStatus.LISTENING, True),
        (NodeStatus.READY, True),
        (NodeStatus.GONE, False),
        (NodeStatus.REMOVED, False),
    ],
)
def test_only_a_node_that_listens_may_be_dialled(status: NodeStatus, listening: bool) -> None:
    assert record(status=status).is_listening is listening


def test_a_slot_that_was_never_started_is_down_in_incarnation_0() -> None:
    never = NodeRecord("counter-0", "counter", 0)
    assert (never.incarnation, never.epoch, never.status, never.endpoints, never.why) == (0, 0, NodeStatus.DOWN, (), "")


def test_a_record_travels_as_a_list_of_its_fields() -> None:
    wire = msgspec.msgpack.encode(record())
    assert msgspec.msgpack.decode(wire) == ["counter-0", "counter", 0, 1, 1001, "listening", ["memory:counter-0"], ""]
    assert msgspec.msgpack.decode(wire, type=NodeRecord) == record()
