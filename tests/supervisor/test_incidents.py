"""What is remembered of incidents, and how it is told."""

import time
from pathlib import Path

import msgspec
import pytest

from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.incidents import Incident, IncidentLog, Next, PastEnd, read_incidents
from meshvisor.supervisor.snapshot import ExitCause, WorkerState, WorkerStatus
from meshvisor.supervisor.story import no_incident, tell

CRASH = Incident(
    at=1_000_000.0,
    slot="counter-2",
    incarnation=4,
    cause=ExitCause.SIGNALED,
    signal="SIGSEGV",
    uptime=12.0,
    ready=True,
    tail=("loading", "col\x1b[31mour"),
    rss=60 * 1024 * 1024,
    history=(PastEnd(999_000.0, ExitCause.EXITED, 0.2), PastEnd(999_940.0, ExitCause.HUNG, 300.0)),
    next=Next.RESTART,
    delay=1.5,
    next_try=1_000_001.5,
)


def log(directory: Path, lost: list[str] | None = None) -> IncidentLog:
    return IncidentLog(directory, (lost if lost is not None else []).append, lambda count: None)


def test_an_incident_survives_its_way_to_the_disk_and_back(tmp_path: Path) -> None:
    other = msgspec.structs.replace(CRASH, slot="sink", at=1_000_001.0)
    first = log(tmp_path / "logs")
    first.append(CRASH)
    first.append(other)
    first.close()
    second = log(tmp_path / "logs")
    second.append(msgspec.structs.replace(CRASH, incarnation=5))
    second.close()
    assert read_incidents(tmp_path / "logs")[:2] == [CRASH, other]
    assert [one.incarnation for one in read_incidents(tmp_path / "logs", "counter-2")] == [4, 5]
    assert [one.incarnation for one in read_incidents(tmp_path / "logs", limit=1)] == [5]
    assert read_incidents(tmp_path / "logs", limit=0) == []
    assert read_incidents(tmp_path / "nothing") == []


def test_a_line_that_was_torn_costs_itself_only(tmp_path: Path) -> None:
    first = log(tmp_path)
    first.append(CRASH)
    first.close()
    with open(first.path, "ab") as file:
        file.write(b'{"at": 1.0, "slot": "a')
    assert read_incidents(tmp_path) == [CRASH]
    second = log(tmp_path)
    second.append(CRASH)
    second.close()
    first.path.write_bytes(first.path.read_bytes() + b"\xff\xfe\n[]\n")
    assert read_incidents(tmp_path) == [CRASH, CRASH]


def test_the_memory_is_bounded_and_one_older_file_is_kept(tmp_path: Path) -> None:
    incidents = log(tmp_path)
    large = msgspec.structs.replace(CRASH, traceback="x" * 1_000_000, text="y" * 1_000_000)
    for number in range(40):
        incidents.append(msgspec.structs.replace(large, incarnation=number))
    incidents.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["incidents.jsonl", "incidents.jsonl.1"]
    assert all(file.stat().st_size <= 1024 * 1024 for file in tmp_path.iterdir())
    found = [one.incarnation for one in read_incidents(tmp_path)]
    assert found == list(range(found[0], 40))
    assert found[0] > 0


def test_a_disk_that_takes_nothing_is_told_of_once(tmp_path: Path) -> None:
    lost: list[str] = []
    (tmp_path / "logs").touch()
    incidents = log(tmp_path / "logs", lost)
    incidents.append(CRASH)
    incidents.append(CRASH)
    assert lost == ["File exists"]
    assert read_incidents(tmp_path / "logs") == []


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "incidents.jsonl").mkdir()
    with pytest.raises(SupervisorError, match=r"cannot read .*: Is a directory"):
        read_incidents(tmp_path)


# The story.


def test_a_crash_is_told_with_what_one_wants_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    present = WorkerStatus(
        "counter-2", WorkerState.READY, 123, 5, 4, 180.0, True, 0.0, 0, 0, 0, None
    )  # fmt: skip
    assert tell(CRASH, 1_000_181.0, present) == (
        "counter-2 was killed by SIGSEGV, 3 min ago\n"
        "Mon 12 Jan 1970, 13:46:40, incarnation 4\n"
        "\n"
        "It had run for 12.0 s, and it had been ready; it had used 60 MiB of memory.\n"
        "\n"
        "The last it printed:\n"
        "    loading\n"
        "    col?[31mour\n"
        "\n"
        "What then: it was started again after 1.5 s.\n"
        "Before: it had ended 60.0 s earlier (hung, after 5 min), 17 min earlier (exited, after 200 ms).\n"
        "Now: it is ready (incarnation 5, process 123, up 3 min).\n"
    )
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"cause": ExitCause.HUNG}, "a hung, and was killed, 1.0 s ago"),
        ({"cause": ExitCause.FROZEN}, "a was frozen, and was killed, 1.0 s ago"),
        ({"cause": ExitCause.OOM}, "a was killed by the kernel, which had run out of memory, 1.0 s ago"),
        ({"cause": ExitCause.MEMORY}, "a used too much memory, and was ended, 1.0 s ago"),
        ({"cause": ExitCause.START_TIMEOUT}, "a did not become ready in time, and was killed, 1.0 s ago"),
        ({"cause": ExitCause.EXITED, "code": 3}, "a ended with status 3, 1.0 s ago"),
        ({"cause": ExitCause.EXITED, "text": "no such program"}, "a could not start, 1.0 s ago"),
        ({"cause": ExitCause.EXITED, "text": "no such program"}, "Why: no such program"),
        ({"traceback": "Traceback\n  File x\n"}, "Where it was:\n    Traceback\n      File x"),
        ({"next": Next.RESTART, "delay": 0.0}, "What then: it was started again at once."),
        ({"next": Next.PARKED, "delay": 30.0, "next_try": 40.0}, "to be tried again after 30.0 s, that is in 29.0 s."),
        ({"next": Next.PARKED, "delay": 30.0, "next_try": 9.0}, "it was parked, to be tried again after 30.0 s."),
        ({"next": Next.STOPPED}, "What then: it was not started again."),
        ({"next": Next.MESH_STOP}, "What then: it was one too many, and the mesh was stopped."),
        ({"next": Next.FAILED}, "What then: it has failed, and was not started again."),
    ],
)  # fmt: skip
def test_every_cause_and_every_consequence_has_its_words(facts: dict[str, object], expected: str) -> None:
    plain = Incident(at=10.0, slot="a", incarnation=1, cause=ExitCause.SIGNALED, signal=None)
    assert expected in tell(msgspec.structs.replace(plain, **facts), 11.0)


def test_a_slot_without_a_process_is_what_it_is() -> None:
    present = WorkerStatus("a", WorkerState.BACKOFF, None, 5, 4, 0.0, False, 0.0, 0, 0, 0, None)
    assert tell(CRASH, 1_000_000.0, present).endswith("Now: it waits for its next start.\n")


def test_that_nothing_has_happened_is_said() -> None:
    assert (no_incident(None), no_incident("a")) == ("there has been no incident\n", "a has had no incident\n")
