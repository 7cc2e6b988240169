"""What the supervisor tells the one that has started it."""

import socket
from pathlib import Path

import pytest

from meshvisor.supervisor.event import Event
from meshvisor.supervisor.notify import Notifier

READY = Event(0.0, "mesh-ready", details={"duration": 0.5})
CRASHED = Event(
    0.0, "slot-exited", "a", 1,
    {"cause": "exited", "code": 3, "signal": None, "uptime": 2.0, "ready": True, "delay": 0.0, "next": "restart",
     "text": "two\nlines"},
)  # fmt: skip
STOPPING = Event(0.0, "mesh-stopping", details={"reason": "as requested"})


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_readiness_stopping_and_news_are_told(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name if kind == "path" else "\0" + name)
        environment = {"NOTIFY_SOCKET": name if kind == "path" else "@" + name, "HOME": "/"}
        notifier = Notifier(environment)
        assert environment == {"HOME": "/"}
        for event in (READY, Event(0.0, "slot-backoff", "a", 1, {"delay": 1.0}), CRASHED, STOPPING):
            notifier.event(event)
        notifier.close()
        notifier.event(READY)
        listener.setblocking(False)
        said = []
        while True:
            try:
                said.append(listener.recv(4096).decode())
            except BlockingIOError:
                break
    assert said == [
        "READY=1\nSTATUS=the mesh is ready, 500 ms after its start",
        "STATUS=a ended with status 3 after 2.0 s: two lines; starting again at once",
        "STOPPING=1\nSTATUS=stopping the mesh: as requested",
    ]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_where_nobody_listens_nothing_fails(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)
    notifier.event(READY)
    notifier.close()
