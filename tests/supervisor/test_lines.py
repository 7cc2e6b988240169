"""Lines of logs, as they are shown."""

import json
import time
from collections.abc import Iterator

import pytest

from meshvisor.supervisor.lines import Page, json_lines, local_time
from meshvisor.supervisor.style import Look
from meshvisor.supervisor.trail import MISSED, Entry

LINES = [
    Entry(1.5, "a", None, "stdout", "hello"),
    Entry(2.0, "bee-0", 4, "stderr", "\x1b[31mred\x1b[2J\x1b[0m"),
    Entry(3.0, "a", None, "stdout", ""),
    Entry(3.0, "bee-0", None, MISSED, "some are missing"),
]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_lines_stand_behind_the_names_of_their_slots() -> None:
    page = Page(["a", "bee-0", "a-very-long-name"], ["a", "bee-0"], Look(), times=False)
    assert page.text(LINES) == "a     │ hello\nbee-0 │ red\na     │\nbee-0 • some are missing\n"


def test_times_are_those_of_the_clock_on_the_wall() -> None:
    page = Page(["a"], ["a"], Look(), times=True)
    assert page.text(LINES[:1]) == "1970-01-01 00:00:01.500 a │ hello\n"
    assert local_time(59.9996) == "1970-01-01 00:00:59.999"


def test_each_slot_has_the_colour_that_it_has_in_the_output_of_run() -> None:
    page = Page(["z", "a", "bee-0"], ["a", "bee-0"], Look(colour=True), times=False)
    assert page.text(LINES[1:2]) == "\x1b[35mbee-0 │\x1b[0m \x1b[31mred\x1b[0m\x1b[0m\n"


def test_programs_get_an_object_a_line() -> None:
    assert [json.loads(line) for line in json_lines(LINES[:2]).splitlines()] == [
        {"at": 1.5, "slot": "a", "incarnation": None, "stream": "stdout", "text": "hello"},
        {"at": 2.0, "slot": "bee-0", "incarnation": 4, "stream": "stderr", "text": "\x1b[31mred\x1b[2J\x1b[0m"},
    ]
