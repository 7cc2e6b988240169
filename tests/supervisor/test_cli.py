"""``supervise`` as far as it starts nothing: usage, errors and their exit statuses (DESIGN, section 4.4)."""

import json
from pathlib import Path

import pytest

from meshvisor.shared.config import load_config
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor import client
from meshvisor.supervisor.cli import execute
from meshvisor.supervisor.incidents import Incident, IncidentLog
from meshvisor.supervisor.snapshot import ExitCause

GOOD = '[mesh]\nname = "demo"\n[workers.a]\ncommand = ["sh"]\nreplicas = 2\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESHVISOR_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_good_file_is_fine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mesh.toml").write_text(GOOD)
    assert execute(["check"]) == 0
    assert capsys.readouterr() == ("mesh.toml is fine: 1 worker in 2 slots, mesh demo\n", "")
    assert execute(["check", "mesh.toml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_missing_program_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD.replace('"sh"', '"no-such-program"') + 'health = { exec = ["no-such-check"] }\n'
    (folder / "my.toml").write_text(text)
    assert execute(["check", "my.toml"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "my.toml is fine: 1 worker in 2 slots, mesh demo\n"
    assert captured.err == (
        'my.toml:4: workers.a.command: warning: there is no program "no-such-program"\n'
        'my.toml:6: workers.a.health: warning: there is no program "no-such-check"\n'
    )


def test_a_program_is_looked_for_in_the_workers_own_folder_and_path(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bin").mkdir()
    (folder / "bin" / "tool").write_text("#!/bin/sh\n")
    (folder / "bin" / "tool").chmod(0o755)
    workers = '[workers.b]\ncommand = ["./tool"]\ncwd = "bin"\n[workers.c]\ncommand = ["tool"]\n'
    (folder / "mesh.toml").write_text(GOOD + workers + f'env = {{ PATH = "{folder}/bin" }}\n')
    assert execute(["check"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["run", "check"])
def test_faults_are_told_on_stderr(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mesh.toml").write_text(GOOD + "replica = 3\nnice = 30\n")
    assert execute([command, "./mesh.toml"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        './mesh.toml:6: workers.a.replica: unknown key (did you mean "replicas"?)\n'
        "./mesh.toml:7: workers.a.nice: must be a whole number from -20 to 19, not 30\n"
    )


def test_faults_are_a_list_in_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mesh.toml").write_text(GOOD + "replica = 3\n")
    assert execute(["check", "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == [
        {"line": 6, "path": "workers.a.replica", "message": "unknown key", "hint": "replicas"}
    ]


def test_a_missing_file_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["run", "nowhere/mesh.toml"]) == 2
    assert capsys.readouterr().err == "nowhere/mesh.toml:0: cannot be read: No such file or directory\n"


@pytest.mark.parametrize("command", ["status", "mesh", "metrics", "shutdown"])
def test_a_mesh_that_does_not_run_is_status_4(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mesh.toml").write_text(GOOD)
    assert execute([command]) == 4
    assert capsys.readouterr() == ("", "supervise: the mesh 'demo' is not running\n")
    assert execute([command, "--name", "other", "--json"]) == 4
    assert json.loads(capsys.readouterr().out) == {"error": "the mesh 'other' is not running", "code": 4}


def test_finding_a_mesh_needs_a_file_or_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["status", "--json"]) == 2
    error = "mesh.toml:0: cannot be read: No such file or directory"
    assert json.loads(capsys.readouterr().out) == {"error": error, "code": 2}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["restrat"], "No such command 'restrat' (did you mean \"restart\"?)"),
        (["xyzzy"], "No such command 'xyzzy'"),
        (["status", "--nme", "x"], "No such option"),
        (["status", "-f", "a", "--name", "b"], "give one of them"),
        (["status", "--name", "../etc"], "the name of a mesh must be"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, text in captured.err, captured.err.startswith("Usage: supervise")) == ("", True, True)
    assert execute([*arguments, "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert (answer["code"], text in answer["error"]) == (2, True)


@pytest.mark.parametrize("command", ["", "run", "check", "init", "status", "shutdown"])
def test_there_is_help_for_everything(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([*command.split(), "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: supervise")


def test_it_knows_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--version"]) == 0
    assert capsys.readouterr().out.startswith("meshvisor ")


# init.


def test_init_writes_an_example_that_is_fine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["init", "My Kitchen 2"]) == 0
    config = load_config(folder / "My Kitchen 2" / "mesh.toml")
    assert (config.mesh.name, [worker.class_path for worker in config.workers]) == (
        "my-kitchen",
        ["kitchen:Cook", "kitchen:Waiter"],
    )
    compile((folder / "My Kitchen 2" / "kitchen.py").read_text(), "kitchen.py", "exec")
    assert "supervise run 'My Kitchen 2/mesh.toml'" in capsys.readouterr().out


@pytest.mark.parametrize("existing", ["mesh.toml", "kitchen.py"])
def test_init_never_overwrites(existing: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / existing).write_text("mine")
    assert execute(["init"]) == 1
    assert capsys.readouterr().err == f"supervise: {existing} exists, and is not overwritten; nothing was written\n"
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [(existing, "mine")]


def test_init_says_where_it_cannot_write(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file").write_text("")
    assert execute(["init", "file/mesh.toml"]) == 1
    assert "supervise: cannot write" in capsys.readouterr().err


@pytest.fixture
def past(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mesh that does not run, and two incidents of its slots."""
    monkeypatch.setenv("MESHVISOR_RUNTIME_DIR", str(folder / "run"))
    text = '[mesh]\nname = "demo"\n[workers.a]\ncommand = ["x"]\nreplicas = 2\nnonsense = 1\n[workers.b]\n'
    (folder / "mesh.toml").write_text(text)
    log = IncidentLog(folder / ".meshvisor", pytest.fail, print)
    for slot, code in (("a-1", 3), ("gone", 4)):
        log.append(Incident(at=1.0, slot=slot, incarnation=1, cause=ExitCause.EXITED, code=code))
    log.close()
    return folder


@pytest.mark.parametrize(
    ("arguments", "status", "start"),
    [
        (["why"], 0, "gone ended with status 4, "),
        (["why", "a"], 0, "a-1 ended with status 3, "),
        (["why", "b"], 0, "b has had no incident\n"),
        (["why", "gon"], 2, "supervise: there is no worker and no slot called 'gon' (did you mean \"gone\"?)\n"),
        (["why", "--now"], 2, "Usage: supervise why"),
        (["why", "a-1", "--now"], 4, "supervise: the mesh 'demo' is not running"),
        (["why", "--name", "demo"], 4, "supervise: the mesh 'demo' is not running"),
        (["why", "-f", "missing.toml"], 2, "missing.toml:0: cannot be read"),
    ],
)
def test_why_tells_the_past_of_a_mesh_that_does_not_run(
    arguments: list[str], status: int, start: str, past: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(arguments) == status
    captured = capsys.readouterr()
    assert (captured.err if status else captured.out).startswith(start)


def test_why_answers_in_json(past: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["why", "a-1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["slot"], found["cause"], found["code"], found["next"]) == ("a-1", "exited", 3, "restart")
    assert execute(["why", "b", "--json"]) == 0
    assert capsys.readouterr().out == "null\n"
    assert execute(["why", "c", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["code"] == 2


def test_an_error_that_quotes_somebody_does_not_move_the_cursor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a worker raised, and why it was refused, stands in what the supervisor answers."""

    def refuse(*arguments: object) -> None:
        raise SupervisorError("a is not ready: first\x1b[2J line\nsecond\x1b]0;owned\x07 line")

    monkeypatch.setattr(client, "Client", refuse)
    assert execute(["status", "--name", "demo"]) == 1
    assert capsys.readouterr().err == "supervise: a is not ready: first line\nsecond line\n"
