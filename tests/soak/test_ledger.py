"""The ledger finds what must not become of a message, in histories made by hand."""

from collections import Counter

import pytest
from tests.soak.ledger import LONGEST, Faults, Ledger

LIVES = {"a": 1, "b": 1}
"""Who lives, unless another test says otherwise."""


def take(ledger: Ledger, *lines: str) -> None:
    for line in lines:
        assert ledger.take(line.split())


def history(*lines: str, lives: dict[str, int] = LIVES) -> list[str]:
    """Return what is wrong with a history at whose end ``lives`` are alive."""
    ledger = Ledger(Faults(), Counter())
    take(ledger, *lines)
    ledger.settle(lives)
    return ledger.faults.texts


def test_messages_in_order_are_fine() -> None:
    assert history("sent a 1 b 1 1", "got b 1 a 1 1 1", "got b 1 a 1 2 2", "sent a 1 b 2 2") == []


def test_what_is_under_way_is_waited_for_and_is_no_fault_yet() -> None:
    ledger = Ledger(Faults(), Counter())
    take(ledger, "sent a 1 b 1 1")
    take(ledger, "sent a 1 b 2 2")
    ledger.mark(LIVES)
    take(ledger, "sent a 1 b 3 3")
    take(ledger, "got b 1 a 1 1 1")
    assert ledger.overdue(LIVES) == ["a (incarnation 1) to b: 1 of 2 handled"]
    take(ledger, "got b 1 a 1 2 2")
    assert ledger.overdue(LIVES) == []
    ledger.settle(LIVES)
    assert ledger.faults.texts == []


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (("sent a 1 b 2 2",), "3: a (incarnation 1) to b: message 2 was accepted after 0"),
        (("got b 1 a 1 2 2",), "3: a (incarnation 1) to b: message 2 came after 0"),
        (("got b 1 a 1 1 1", "got b 1 a 1 1 1"), "2: a (incarnation 1) to b: message 1 came again, after 1"),
        (("damaged b 1 a",), "2: b got from a what it never sent"),
        (
            ("got b 1 a 1 1 1", "got b 2 a 1 2 2"),
            "5: a (incarnation 1) to b: message 2 of a session with life 1 came to 2",
        ),
        (
            ("lost b 1 a 1 1 0 0", "got b 1 a 1 1 1"),
            "5: a (incarnation 1) to b: message 1 came after the end of its sender was told",
        ),
        (("lost a 1 b 1 1 0 0", "left a 1 b 1"), "1: a (incarnation 1) to b: the end of life 1 was told twice"),
        (("got b 1 a 1 1 1", "got b 1 a 1 2 2"), "2: a (incarnation 1) to b: 2 handled of 0 accepted"),
    ],
)
def test_what_may_never_be_is_a_fault(lines: tuple[str, ...], text: str) -> None:
    assert text in history(*lines)


SENT = ("sent a 1 b 1 1", "sent a 1 b 2 2", "sent a 1 b 3 3", "got b 1 a 1 1 1")
"""Three accepted by the first life of b, one of them handled."""
SECOND = {"a": 1, "b": 2}


def test_a_tail_that_is_reported_is_no_loss() -> None:
    assert history(*SENT, "lost a 1 b 1 2 3 2", lives=SECOND) == []
    assert history(*SENT, "lost a 1 b 1 1 3 3", lives=SECOND) == []


def test_a_report_belongs_to_the_session_with_that_life_even_if_the_next_one_has_begun() -> None:
    later = ("sent a 1 b 1 4", "got b 2 a 1 1 4")
    assert history(*SENT, *later, "lost a 1 b 1 2 3 2", lives=SECOND) == []
    assert history("sent a 1 b 1 1", "sent a 1 b 1 2", "lost a 1 b 1 1 1 1", lives=SECOND) == []


@pytest.mark.parametrize(
    ("report", "text"),
    [
        ("lost a 1 b 1 3 3 1", "4: a (incarnation 1) to b: reported 3 to 3, handled 1"),
        ("lost a 1 b 1 2 2 1", "1: a (incarnation 1) to b: life 1 ended: 2 to 2 (1) reported, 3 accepted"),
        ("lost a 1 b 1 2 3 1", "1: a (incarnation 1) to b: life 1 ended: 2 to 3 (1) reported, 3 accepted"),
        ("left a 1 b 1", "1: a (incarnation 1) to b: life 1 left with 1 of 3 messages handled, and no report of"),
    ],
)
def test_a_report_that_is_not_the_tail_is_a_fault(report: str, text: str) -> None:
    assert [found[: len(text)] for found in history(*SENT, report, lives=SECOND)] == [text]


def test_what_was_sent_to_a_life_that_is_over_is_not_waited_for() -> None:
    ledger = Ledger(Faults(), Counter())
    take(ledger, *SENT, "lost a 1 b 1 2 3 2")
    ledger.mark(SECOND)
    assert ledger.overdue(SECOND) == []
    unheard = Ledger(Faults(), Counter())
    take(unheard, "sent a 1 b 1 1", "lost a 1 b 1 1 1 1")
    unheard.settle(SECOND)
    unheard.mark(SECOND)
    assert unheard.overdue(SECOND) == unheard.faults.texts == []


def test_a_report_of_what_was_never_sent_is_a_fault() -> None:
    text = "4: a (incarnation 1) to b: told of 3 messages to life 1, and sent none"
    assert history("lost a 1 b 1 2 3 2", lives=SECOND) == [text]


def test_a_loss_without_a_word_is_a_fault() -> None:
    text = "1: a (incarnation 1) to b: 3 accepted, 1 handled, the end of 1 never told"
    assert history(*SENT, lives=SECOND) == [text]
    assert history(*SENT, "sent a 1 b 1 4", lives=SECOND) == [text]


def test_of_a_sender_that_is_gone_one_message_may_be_handled_that_it_had_no_time_to_speak_of() -> None:
    ledger = Ledger(Faults(), Counter())
    take(ledger, *SENT, "got b 1 a 1 2 2", "got b 1 a 1 3 3", "got b 1 a 1 4 4")
    ledger.close()
    assert ledger.faults.texts == []
    assert history(*SENT, *(f"got b 1 a 1 {n} {n}" for n in (2, 3, 4, 5)), lives={"b": 1}) == [
        "2: a (incarnation 1) to b: 5 handled of 3 accepted"
    ]


def test_what_was_judged_is_forgotten() -> None:
    ledger = Ledger(Faults(), Counter())
    take(ledger, *SENT, "lost a 1 b 1 2 3 2")
    ledger.settle(SECOND)
    assert (len(ledger._ways), len(ledger._ends)) == (0, 0)


def test_lines_about_other_things_are_left_to_others() -> None:
    assert not Ledger(Faults(), Counter()).take(["tick", "a", "1", "7"])


def test_more_faults_than_a_person_reads_are_only_counted() -> None:
    faults = Faults()
    for number in range(LONGEST + 7):
        faults.add(f"fault {number}")
    assert (len(faults.texts), faults.count) == (LONGEST, LONGEST + 7)
