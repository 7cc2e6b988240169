"""What an operator sees of the blacklist and does with it: ``supervise blacklist`` and its part of ``status``."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshvisor.shared.core.penalties import FailureSeverity
from meshvisor.shared.errors import SupervisorError
from meshvisor.shared.memory.blacklist import SharedBlacklist
from meshvisor.shared.memory.entry import Penalty
from meshvisor.supervisor import blacklist
from meshvisor.supervisor.cli import execute
from meshvisor.supervisor.directory import RuntimeDirectory
from meshvisor.supervisor.snapshot import MeshState, MeshStatus
from meshvisor.supervisor.status import render
from meshvisor.supervisor.tables import Tables

KEY = "tcp:127.0.0.1:4500"
FOUND = (
    Penalty(KEY, FailureSeverity.HARD, 8.2, False, "counter-1", 3, 2),
    Penalty("unix:/run/a.sock", FailureSeverity.SOFT, 0.25, True, "", 1, 0),
)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedBlacklist]:
    """The blacklist of a mesh called demo, whose supervisor is a thread of the test."""
    monkeypatch.setenv("MESHVISOR_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mesh.toml").write_text('[mesh]\nname = "demo"\n[workers.a]\ncommand = ["sh"]\n')
    directory = RuntimeDirectory(tmp_path / "run", "demo", tmp_path / "mesh.toml")
    loop = asyncio.new_event_loop()
    tables = Tables(loop, directory.fd, "demo")
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield tables.blacklist
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    tables.close()
    loop.close()
    directory.close()


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_the_table_has_one_line_per_penalty() -> None:
    assert blacklist.penalties(FOUND) == [
        "BARRED              SEVERITY     FOR  STRIKES  REPORTERS  BY         RETRY-AFTER",
        "tcp:127.0.0.1:4500  hard       8.2 s        2          3  counter-1  -",
        "unix:/run/a.sock    soft      250 ms        0          1  -          yes",
    ]
    coloured = blacklist.penalties(FOUND, colour=True)
    assert "\x1b[33mhard    \x1b[0m" in coloured[1]


def test_the_status_shows_the_blacklist_only_if_there_is_something_in_it() -> None:
    text = render(MeshStatus("demo", 1, MeshState.RUNNING, 1.0, (), FOUND), now=0.0)
    assert text.splitlines()[1:] == ["", *blacklist.penalties(FOUND)]
    assert "BARRED" not in render(MeshStatus("demo", 1, MeshState.RUNNING, 1.0, ()), now=0.0)


def test_an_endpoint_is_barred_shown_and_freed(table: SharedBlacklist, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["blacklist", "list"]) == 0
    assert said(capsys) == "no endpoint is barred\n"
    assert execute(["blacklist", "add", "TCP:127.0.0.1:4500", "--duration", "2m"]) == 0
    assert said(capsys) == f"{KEY} is barred for 2 min (hard)\n"
    penalty = table.get_penalty(KEY)
    assert penalty is not None
    assert (penalty.severity, penalty.source, penalty.retry_after, penalty.strikes) == ("hard", "operator", False, 0)
    assert execute(["blacklist", "list"]) == 0
    lines = said(capsys).splitlines()
    assert (len(lines), lines[1].split()[:2]) == (2, [KEY, "hard"])
    assert execute(["blacklist", "clear", KEY]) == 0
    assert said(capsys) == f"{KEY} is free\n"
    assert table.get_penalty(KEY) is None
    assert execute(["blacklist", "clear", KEY]) == 0
    assert said(capsys) == f"{KEY} was not barred\n"


def test_programs_get_json(table: SharedBlacklist, capsys: pytest.CaptureFixture[str]) -> None:
    table.set_penalty("memory:a", "soft", 20.0, retry_after=True)
    assert execute(["blacklist", "add", KEY, "--severity", "fatal", "--name", "demo", "--json"]) == 0
    added = json.loads(said(capsys))
    assert execute(["blacklist", "list", "--json"]) == 0
    first, second = json.loads(said(capsys))
    assert list(first) == ["key", "severity", "remaining", "retry_after", "source", "reporters", "strikes"]
    assert 0 < first.pop("remaining") <= added.pop("remaining") <= 10
    assert first == added
    assert (second["key"], second["retry_after"]) == ("memory:a", True)
    assert execute(["blacklist", "clear", "--json"]) == 0
    assert json.loads(said(capsys)) == {"cleared": ["memory:a", KEY]}
    assert table.active() == []
    assert execute(["blacklist", "clear"]) == 0
    assert said(capsys) == "no endpoint was barred\n"


def test_a_longer_or_worse_penalty_stays(table: SharedBlacklist, capsys: pytest.CaptureFixture[str]) -> None:
    table.set_penalty(KEY, "fatal", 240.0)
    assert execute(["blacklist", "add", KEY, "--severity", "soft", "--duration", "1ms"]) == 0
    assert said(capsys) == f"{KEY} is barred for 4 min (fatal)\n"
    assert execute(["blacklist", "add", KEY, "--duration", "1h"]) == 0
    assert said(capsys) == f"{KEY} is barred for 5 min (fatal)\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["add", "nonsense"], "'nonsense' is not an endpoint: it must begin with its transport"),
        (["add", "tcp:127.0.0.1"], "the port is missing"),
        (["clear", "counter-1"], "'counter-1' is not an endpoint"),
        (["add", "memory:" + "x" * 300], "longer than 255 bytes"),
        (["add"], "Missing argument 'KEY'"),
        (["add", KEY, "--severity", "bad"], "is not one of"),
        (["add", KEY, "--duration", "soon"], "must be a duration"),
        (["add", KEY, "--duration", "0s"], "must be longer than 0"),
        (["add", KEY, "--duration", "nan"], "must be a duration"),
        (["bar", KEY], "No such command"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["blacklist", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert text in captured.err
    assert execute(["blacklist", *arguments, "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert (answer["code"], text in answer["error"]) == (2, True)


@pytest.mark.parametrize("arguments", [["list"], ["add", KEY], ["clear"]])
def test_a_mesh_that_does_not_run_is_status_4(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MESHVISOR_RUNTIME_DIR", str(tmp_path))
    assert execute(["blacklist", *arguments, "--name", "demo"]) == 4
    assert capsys.readouterr().err == "supervise: the mesh 'demo' is not running\n"


def test_a_duration_may_be_a_plain_number_of_seconds(
    table: SharedBlacklist, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["blacklist", "add", KEY, "--duration", "7.5"]) == 0
    assert said(capsys) == f"{KEY} is barred for 7.5 s (hard)\n"


def test_a_lock_that_nobody_gives_back_is_an_error(table: SharedBlacklist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blacklist, "_PATIENCE", 0.02)
    table.set_penalty(KEY, "hard", 10.0)
    with SharedBlacklist.attach(table.fileno()) as stopped:
        assert stopped._segment.lock()
        with pytest.raises(SupervisorError, match="holds the blacklist's lock"):
            blacklist.bar(table, "memory:a", FailureSeverity.HARD, 10.0)
        with pytest.raises(SupervisorError, match="holds the blacklist's lock"):
            blacklist.lift(table, KEY)
        stopped._segment.unlock()
        assert blacklist.lift(table) == [KEY]


@pytest.mark.parametrize("command", ["blacklist", "blacklist list", "blacklist add", "blacklist clear"])
def test_there_is_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*command.split(), "--help"]) == 0
    assert said(capsys).startswith(f"Usage: supervise {command}")


def test_a_key_that_would_move_the_cursor_does_not(table: SharedBlacklist, capsys: pytest.CaptureFixture[str]) -> None:
    """Any process of the user may write anything into the table."""
    table.set_penalty("unix:/a\x1b[2Jb", "hard", 10.0)
    assert execute(["blacklist", "list"]) == 0
    assert said(capsys).splitlines()[1].split()[0] == "unix:/ab"
    assert "\x1b" not in "".join(
        blacklist.penalties([Penalty("a\x1bc", FailureSeverity.SOFT, 1, False, "\x1bc", 1, 0)])
    )
    assert execute(["blacklist", "clear"]) == 0
    assert said(capsys) == "unix:/ab is free\n"
