"""Events as ``supervise events`` shows them."""

import json
import time

from meshvisor.shared.control.requests import Happened
from meshvisor.supervisor.happenings import as_json, as_line

READY = Happened(12, 0.0, "slot-ready", "a", 2, {"pid": 7, "duration": 0.02, "after": 0.025})
SENTENCE = "a is ready again (incarnation 2, 25 ms after the death)"


def test_an_event_is_one_object_with_its_facts_beside_its_name() -> None:
    assert json.loads(as_json(READY)) == {
        "at": 0.0,
        "event": "slot-ready",
        "slot": "a",
        "incarnation": 2,
        "pid": 7,
        "duration": 0.02,
        "after": 0.025,
        "number": 12,
    }


def test_an_event_is_one_line_with_its_time_and_before_today_with_its_day() -> None:
    at = time.mktime((1995, 11, 25, 9, 8, 7, 0, 0, -1)) + 0.125
    line = as_line(Happened(12, at, READY.event, READY.slot, READY.incarnation, READY.details))
    assert line == f"1995-11-25 09:08:07.125  {SENTENCE}"
    now = time.time()
    today = as_line(Happened(12, now, READY.event, READY.slot, READY.incarnation, READY.details))
    assert today.split("  ")[0][:8] == time.strftime("%H:%M:%S", time.localtime(now))


def test_only_what_stands_out_is_coloured() -> None:
    assert as_line(READY, colour=True).endswith(f"  \x1b[32m{SENTENCE}\x1b[0m")
    begun = Happened(1, 0.0, "mesh-ready", "", 0, {"duration": 0.5})
    assert as_line(begun, colour=True).endswith("\x1b[0m  the mesh is ready, 500 ms after its start")


def test_an_event_of_another_release_is_shown_by_its_name() -> None:
    assert as_line(Happened(1, 0.0, "slot-ready", "a", 1, {})).endswith("  a slot-ready")
    assert as_line(Happened(1, 0.0, "slot-danced", "a", 1, {})).endswith("  a slot-danced")


def test_nothing_in_an_event_gets_at_the_terminal() -> None:
    hung = Happened(1, 0.0, "slot-hung", "a", 1, {"text": "\x1b[2Jnothing\nleft"})
    assert as_line(hung).endswith("  a hangs: nothing left")
