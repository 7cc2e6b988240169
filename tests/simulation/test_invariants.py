"""The judge finds every planted violation, and nothing in a run where all is well."""

import pytest
from tests.simulation import history as h
from tests.simulation.history import Event, History, Life
from tests.simulation.invariants import violations

A, B, B2 = Life("a", 1), Life("b", 1), Life("b", 2)

START: list[Event] = [
    h.Begun(0.0, 2.5),
    h.Born(0.0, A, 4, 100),
    h.Born(0.0, B, 4, 100),
    h.Told(0.1, A, B, True),
    h.Told(0.1, B, A, True),
    h.Dialled(0.2, A, B),
    h.Up(0.3, A, B),
    h.Linked(0.3, A, B, True),
    h.Up(0.3, B, A),
    h.Linked(0.3, B, A, True),
]
END: list[Event] = [h.Calm(50.0), h.Settled(51.0), h.Connections(51.0, A, B, 1), h.Ended(60.0)]


def sent(number: int, *, lane: str = "messages", size: int = 10, to: Life = B) -> h.Accepted:
    return h.Accepted(1.0, A, to, lane, number, size, f"body {number}")


def came(number: int, *, lane: str = "messages", body: str | None = None) -> h.Delivered:
    return h.Delivered(2.0, B, A, lane, number, body or f"body {number}")


def consumed(number: int) -> h.Consumed:
    return h.Consumed(2.0, B, A, number)


def acknowledged(number: int) -> h.Acknowledged:
    return h.Acknowledged(2.5, A, B, number)


TWO: list[Event] = [sent(1), sent(2), came(1), came(2), consumed(2), acknowledged(2)]
DEATH: list[Event] = [h.Died(3.0, B), h.Told(3.0, A, B, False)]

GOOD: dict[str, list[Event]] = {
    "nothing is sent": [],
    "everything arrives": [*TWO],
    "calls have numbers of their own": [*TWO, sent(1, lane="calls"), came(1, lane="calls")],
    "the tail of a dead peer is reported": [
        *TWO,
        sent(3),
        sent(4),
        came(3),
        *DEATH,
        h.Lost(3.1, A, B, 3, 4, 2),
    ],
    "a loss without a tail": [*TWO, *DEATH, h.Lost(3.1, A, B, 3, 2, 0)],
    "a new incarnation begins at 1 again": [
        *TWO,
        *DEATH,
        h.Lost(3.1, A, B, 3, 2, 0),
        h.Born(3.2, B2, 4, 100),
        h.Up(3.3, A, B2),
        h.Up(3.3, B2, A),
        sent(1, to=B2),
        h.Delivered(3.4, B2, A, "messages", 1, "body 1"),
    ],
    "a peer leaves": [*TWO, h.Leaving(3.0, B), h.Left(3.1, A, B), h.Died(3.2, B)],
    "one large message exceeds the window alone": [sent(1, size=1000), acknowledged(0), came(1)],
    "a severed link is found": [
        h.Severed(5.0, "a", "b"),
        h.Linked(7.5, A, B, False),
        h.Linked(7.5, B, A, False),
        h.Mended(8.0, "a", "b"),
    ],
    "a severed link over which old bytes arrive late": [
        h.Severed(5.0, "a", "b"),
        h.Released(7.0, A),
        h.Mended(9.4, "a", "b"),
    ],
    "a severed link is mended in time": [h.Severed(5.0, "a", "b"), h.Mended(7.4, "a", "b")],
}

BAD: dict[str, tuple[str, list[Event]]] = {
    "a lost message": ("1", [sent(1), sent(2), came(1)]),
    "a lost call": ("1", [sent(1, lane="calls")]),
    "a doubled message": ("2", [*TWO, came(2)]),
    "a phantom": ("2", [*TWO, came(3)]),
    "a changed message": ("2", [sent(1), came(1, body="another body")]),
    "a gap": ("3", [sent(1), sent(2), came(2)]),
    "a number that is given twice": ("3", [*TWO, sent(2)]),
    "an acknowledgement of what was not consumed": ("4", [sent(1), came(1), acknowledged(1)]),
    "an acknowledgement taken back": ("4", [*TWO, acknowledged(1)]),
    "a loss of a living peer": ("5", [*TWO, h.Lost(3.0, A, B, 3, 2, 0)]),
    "a departure of a peer that was killed": ("5", [*TWO, *DEATH, h.Left(3.1, A, B)]),
    "two losses of one incarnation": ("5", [*TWO, *DEATH, h.Lost(3.1, A, B, 3, 2, 0), h.Lost(3.1, A, B, 3, 2, 0)]),
    "no loss of a dead incarnation": ("5", [*TWO, *DEATH]),
    "two links up to one peer": ("5", [*TWO, *DEATH, h.Born(3.1, B2, 4, 100), h.Up(3.2, A, B2)]),
    "an old incarnation that comes back": ("5", [*TWO, *DEATH, h.Lost(3.1, A, B, 3, 2, 0), h.Up(3.2, A, B)]),
    "a message from the dead": ("5", [*TWO, *DEATH, h.Lost(3.1, A, B, 3, 2, 0), sent(3)]),
    "a report with the wrong end": ("1", [*TWO, sent(3), *DEATH, h.Lost(3.1, A, B, 3, 4, 2)]),
    "a report with the wrong count": ("1", [*TWO, sent(3), *DEATH, h.Lost(3.1, A, B, 3, 3, 2)]),
    "a report that leaves one out": ("1", [*TWO, sent(3), sent(4), *DEATH, h.Lost(3.1, A, B, 4, 4, 1)]),
    "a report of what was acknowledged": ("1", [*TWO, *DEATH, h.Lost(3.1, A, B, 2, 2, 1)]),
    "a departure before all was delivered": (
        "1",
        [h.Accepted(1.0, B, A, "messages", 1, 10, "x"), h.Leaving(3.0, B), h.Left(3.1, A, B), h.Died(3.2, B)],
    ),
    "two connections of one pair": ("6", [h.Connections(3.0, A, B, 2)]),
    "no connection of a pair": ("6", [h.Connections(3.0, A, B, 0)]),
    "more messages than the window": (
        "7",
        [*map(sent, range(1, 6)), acknowledged(0), *map(came, range(1, 5)), came(5)],
    ),
    "more bytes than the window": ("7", [sent(1, size=60), sent(2, size=60), acknowledged(0), came(1), came(2)]),
    "a complaint": ("7", [h.Complaint(3.0, "an error")]),
    "a silent peer that is not found": ("8", [h.Severed(5.0, "a", "b"), h.Mended(7.6, "a", "b")]),
    "a dial too early after the one before": ("9", [h.Dialled(0.205, A, B)]),
    "a dial of a node that is not listening": ("10", [h.Told(1.0, A, B, False), h.Dialled(1.1, A, B)]),
    "a dial of an incarnation not heard of": ("10", [h.Dialled(1.1, A, B2)]),
}


@pytest.mark.parametrize("what", GOOD)
def test_a_run_where_all_is_well_has_no_violation(what: str) -> None:
    assert violations([*START, *GOOD[what], *END]) == []


@pytest.mark.parametrize("what", BAD)
def test_a_planted_violation_is_found(what: str) -> None:
    invariant, planted = BAD[what]
    found = violations([*START, *planted, *END])
    assert found
    assert {text.split(":")[0] for text in found} >= {invariant}


@pytest.mark.parametrize(
    "event", [h.Linked(52.0, A, B, False), h.Dialled(52.0, A, B)], ids=["a link is lost", "a dial begins"]
)
def test_nothing_moves_once_the_mesh_has_settled(event: Event) -> None:
    found = violations([*START, *END[:-1], event, h.Ended(60.0)])
    assert [text.split(":")[0] for text in found] == ["8"]


def test_a_mesh_that_does_not_settle_is_a_violation() -> None:
    found = violations([*START, h.Calm(50.0), h.Ended(170.0)])
    assert found == ["12: at 170.000000: not everybody is linked and drained"]


def test_a_run_that_does_not_end_is_a_violation() -> None:
    assert violations(START) == ["12: the run did not end"]


def test_the_hash_of_a_history_depends_on_every_event_and_its_time() -> None:
    def trace(*events: Event) -> str:
        history = History()
        for event in events:
            history.add(event)
        return history.trace

    assert trace(*TWO) == trace(*TWO)
    assert trace(*TWO) != trace(*TWO[:-1])
    assert trace(h.Calm(1.0)) != trace(h.Calm(1.5))
    assert trace(h.Leaving(1.0, A)) != trace(h.Died(1.0, A))
