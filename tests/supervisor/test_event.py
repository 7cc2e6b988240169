"""What happens, as sentences."""

from typing import Any

import pytest

from meshvisor.supervisor.event import Event, describe, duration


def exited(**details: Any) -> Event:
    facts = {
        "cause": "exited",
        "code": None,
        "signal": None,
        "uptime": 1.2,
        "ready": True,
        "delay": None,
        "next": "failed",
        **details,
    }
    return Event(0.0, "slot-exited", "counter-2", 2, facts)


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (
            exited(cause="signaled", signal="SIGKILL", delay=0.0),
            "counter-2 was killed by SIGKILL after 1.2 s; starting again at once",
        ),
        (
            exited(cause="signaled", signal="SIGKILL", delay=0.0001),
            "counter-2 was killed by SIGKILL after 1.2 s; starting again at once",
        ),
        (
            exited(code=1, delay=0.32, text="ValueError: no"),
            "counter-2 ended with status 1 after 1.2 s: ValueError: no; starting again in 320 ms",
        ),
        (exited(code=0, next="stopped"), "counter-2 ended with status 0 after 1.2 s"),
        (exited(code=4), "counter-2 ended with status 4 after 1.2 s; not starting it again"),
        (
            exited(ready=False, text="cannot run 'x': Permission denied", code=126, delay=0.0),
            "counter-2 could not start: cannot run 'x': Permission denied (exit status 126); starting again at once",
        ),
        (
            exited(ready=False, text="Too many open files", delay=2.0),
            "counter-2 could not start: Too many open files; starting again in 2.0 s",
        ),
        (
            exited(cause="start-timeout", signal="SIGKILL", uptime=10.0, delay=0.0, ready=False),
            "counter-2 was not ready within 10.0 s and was killed; starting again at once",
        ),
        (
            exited(cause="signaled", signal="SIGKILL", text="it closed its lifeline", delay=0.0),
            "counter-2 was killed by SIGKILL after 1.2 s: it closed its lifeline; starting again at once",
        ),
        (
            exited(cause="hung", signal="SIGKILL", text="it made no turn for 1 s", traceback="...", delay=0.0),
            "counter-2 hung and was killed after 1.2 s; starting again at once",
        ),
        (
            exited(cause="hung", signal="SIGKILL", text="3 health checks failed", delay=0.0),
            "counter-2 hung and was killed after 1.2 s: 3 health checks failed; starting again at once",
        ),
        (
            exited(cause="frozen", signal="SIGKILL", text="it was stopped (SIGSTOP)", delay=0.0),
            "counter-2 was frozen and was killed after 1.2 s: it was stopped (SIGSTOP); starting again at once",
        ),
        (
            exited(code=1, delay=5.0, next="parked"),
            "counter-2 ended with status 1 after 1.2 s; it has failed too often and is parked, next try in 5.0 s",
        ),
        (
            Event(0.0, "slot-hung", "counter-2", 2, {"pid": 4, "text": "its event loop made no turn for 1.00 s"}),
            "counter-2 hangs: its event loop made no turn for 1.00 s",
        ),
        (exited(cause="stopped", code=0, delay=0.0), "counter-2 stopped; starting again at once"),
        (exited(cause="stopped", code=0, next="stopped"), "counter-2 stopped"),
        (exited(cause="stopped", code=3, next="stopped"), "counter-2 stopped (with status 3)"),
        (exited(cause="stopped", signal="SIGKILL", next="stopped"), "counter-2 stopped (by SIGKILL)"),
        (
            Event(0.0, "slot-ready", "counter-2", 3, {"pid": 7, "duration": 0.05, "after": 0.084}),
            "counter-2 is ready again (incarnation 3, 84 ms after the death)",
        ),
        (
            Event(0.0, "slot-ready", "counter-2", 1, {"pid": 7, "duration": 0.05}),
            "counter-2 is ready (50 ms after its start)",
        ),
        (Event(0.0, "slot-starting", "a", 1, {"pid": 7}), "a is starting (incarnation 1, process 7)"),
        (Event(0.0, "slot-backoff", "a", 1, {"delay": 0.5}), "a waits 500 ms before its next start"),
        (Event(0.0, "slot-stopping", "a", 1), "a is stopping"),
        (
            Event(0.0, "slot-candidate", "a", 1, {"pid": 7, "duration": 0.04}),
            "a is about to be replaced by process 7, which took 40 ms to prepare",
        ),
        (
            Event(0.0, "slot-candidate-failed", "a", 1, {"text": "ValueError: no luck", "tail": []}),
            "a stays as it is: ValueError: no luck",
        ),
        (
            Event(0.0, "slot-ready", "a", 2, {"pid": 7, "duration": 0.002, "after": 0.003, "replacement": True}),
            "a is replaced (incarnation 2, ready 3 ms after the handover)",
        ),
        (Event(0.0, "slot-stopped", "a", 1), "a is stopped"),
        (Event(0.0, "slot-failed", "a", 1), "a has failed and is not started again"),
        (
            Event(0.0, "mesh-started", details={"slots": 1, "pid": 7}),
            "starting 1 slot (supervisor is process 7)",
        ),
        (Event(0.0, "mesh-ready", details={"duration": 0.261}), "the mesh is ready, 261 ms after its start"),
        (Event(0.0, "mesh-stopping", details={"reason": "as requested"}), "stopping the mesh: as requested"),
        (Event(0.0, "mesh-stopped", details={"status": 3}), "the mesh has stopped (exit status 3)"),
        (
            Event(0.0, "limit-exceeded", details={"max_restarts": 5, "window": 10.0}),
            "more than 5 restarts within 10 s: giving up",
        ),
        (
            Event(0.0, "leftovers-killed", details={"pids": [7, 8]}),
            "killed what an earlier run had left behind: processes 7, 8",
        ),
        (
            Event(0.0, "log-lost", "a", 1, {"file": "/a.log", "text": "No space left on device"}),
            "log lines are being lost, /a.log cannot be written: No space left on device",
        ),
        (
            Event(0.0, "log-restored", "a", 1, {"file": "/a.log", "count": 3}),
            "/a.log can be written again; 3 lines lost meanwhile",
        ),
        (Event(0.0, "dropped", details={"count": 2}), "2 events dropped: this reader is too slow"),
        (Event(0.0, "something-new", "a"), "a something-new"),
    ],
    ids=lambda value: value.event if isinstance(value, Event) else "",
)
def test_an_event_is_one_readable_line(event: Event, sentence: str) -> None:
    assert describe(event) == sentence


def test_a_smooth_handover_is_told_by_its_successor() -> None:
    facts = {
        "cause": "stopped",
        "code": 0,
        "signal": None,
        "uptime": 1.0,
        "ready": True,
        "delay": 0.0,
        "handover": True,
    }
    smooth = Event(0.0, "slot-exited", "a", 1, facts)
    assert smooth.is_minor
    assert describe(smooth) == "a stopped; its successor begins"
    rough = Event(0.0, "slot-exited", "a", 1, {**facts, "code": None, "signal": "SIGKILL"})
    assert not rough.is_minor
    assert describe(rough) == "a stopped (by SIGKILL); its successor begins"


def test_one_line_per_incident_is_enough() -> None:
    names = ["slot-exited", "slot-backoff", "slot-starting", "slot-ready"]
    assert [Event(0.0, name).is_minor for name in names] == [False, True, True, False]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0004, "0 ms"), (0.084, "84 ms"), (0.9994, "999 ms"), (0.9996, "1.0 s"), (59.0, "59.0 s"), (300.0, "5 min")],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_long_time_is_said_in_hours() -> None:
    assert duration(2.5 * 3600) == "2.5 h"
