"""The checks of the storm of kills see what they are there for."""

import os

import pytest
from tests.kills.checks import Watch
from tests.outside.mesh import Report
from tests.outside.proc import Identity, identity


def nobody(pid: int) -> Identity | None:
    return None


def start(incarnation: int, pid: int = 0) -> Report:
    return Report("start", "a", incarnation, "-", 0, 0, pid)


def up(incarnation: int, kind: str = "up") -> Report:
    return Report(kind, "a", 1, "b", incarnation, 0, 0)


def faults(*reports: Report) -> list[str]:
    watch = Watch(nobody)
    for report in reports:
        watch.take(report)
    return watch.faults


def test_lives_and_links_in_their_order_are_fine() -> None:
    assert faults(start(1), up(1), up(1, "down"), up(2), start(2), start(4)) == []


@pytest.mark.parametrize(
    ("reports", "text"),
    [
        ((start(2), start(2)), "a (incarnation 2) started after incarnation 2"),
        ((start(2), start(1)), "a (incarnation 1) started after incarnation 2"),
        ((up(1), up(2)), "a (incarnation 1) linked to incarnation 2 of b and to incarnation 1 at once"),
        ((up(2), up(2, "down"), up(1)), "a (incarnation 1) linked to incarnation 1 of b after incarnation 2"),
        ((up(1, "down"),), "a (incarnation 1) heard of the end of incarnation 1 of b, to which it was not linked"),
        ((up(1, "back"),), "a (incarnation 1) saw incarnation 1 of b after a newer one"),
    ],
)
def test_what_may_not_be_is_a_fault(reports: tuple[Report, ...], text: str) -> None:
    assert faults(*reports) == [text]


def test_a_life_that_begins_beside_the_process_of_the_one_before_is_a_fault() -> None:
    watch = Watch(identity)
    watch.take(start(1, os.getpid()))
    watch.take(start(2))
    assert watch.faults == [
        f"a (incarnation 2) started while process {os.getpid()} of incarnation 1 was alive",
    ]


def test_a_slot_that_was_taken_away_may_begin_anew() -> None:
    watch = Watch(nobody)
    for report in (start(2), up(3)):
        watch.take(report)
    watch.forget("a")
    for report in (start(1), up(3)):
        watch.take(report)
    watch.take(up(3, "down"))
    watch.forget("b")
    watch.take(up(1))
    assert watch.faults == []
