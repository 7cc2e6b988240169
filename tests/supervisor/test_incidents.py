"""What is remembered of incidents, and how it is told."""

from pathlib import Path

import msgspec
import pytest

from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.incidents import Incident, IncidentLog, Next, PastEnd, read_incidents
from meshvisor.supervisor.snapshot import ExitCause

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


def test_the_name_of_a_file_that_is_no_utf8_is_remembered_with_question_marks(tmp_path: Path) -> None:
    incidents = log(tmp_path)
    incidents.append(msgspec.structs.replace(CRASH, text="no file /\udcffx", tail=("\udcfe",)))
    incidents.close()
    (found,) = read_incidents(tmp_path)
    assert found == msgspec.structs.replace(CRASH, text="no file /?x", tail=("?",))


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
