"""``run --log-format json``: what a person reads as lines, programs read as objects."""

import json

from meshvisor.supervisor.event import Event
from meshvisor.supervisor.jsonlines import JsonOutput, dropped


def test_events_and_lines_are_one_object_each() -> None:
    written: list[str] = []
    output = JsonOutput(written.append, clock=lambda: 12.3456)
    output.event(Event(1.5, "slot-starting", "a", 2, {"pid": 7}))
    output.line("a", "stderr", "oh\x1b[31m ü\u2028")
    output.line("a", "progress", "50 %")
    output.note("a note")
    output.interrupted()
    output.close()
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in written)
    assert [json.loads(line) for line in written] == [
        {"at": 1.5, "event": "slot-starting", "slot": "a", "incarnation": 2, "pid": 7},
        {"at": 12.346, "slot": "a", "stream": "stderr", "text": "oh\x1b[31m ü\u2028"},
        {"at": 12.346, "event": "note", "slot": "", "text": "a note"},
    ]


def test_lines_that_nobody_took_are_an_object_too() -> None:
    told = json.loads(dropped(3))
    assert (told["event"], told["count"]) == ("dropped", 3)
