"""Every command in every situation of the mesh: the right exit status, a clear sentence, no traceback, sound JSON.

A command that is new must get a line in ``COMMANDS``.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import zmq
from click.shell_completion import ShellComplete
from tests.outside.mesh import OutsideMesh

from meshvisor.supervisor import cli, client
from meshvisor.supervisor.cli import execute
from meshvisor.supervisor.directory import RuntimeDirectory

# Each command as one gives it, and whether it must have a running mesh (else it is about files, or the past).
COMMANDS: dict[str, list[tuple[list[str], bool]]] = {
    "run": [],  # takes the place of the mesh, and stays
    "check": [(["check"], False)],
    "init": [(["init"], False)],
    "status": [(["status"], True)],
    "top": [(["top"], True)],
    "start": [(["start", "a"], True), (["start", "a", "b-0", "--no-wait"], True)],
    "stop": [(["stop", "b-1"], True)],
    "restart": [(["restart", "b"], True), (["restart", "b", "--at-once"], True)],
    "scale": [(["scale", "b", "2"], True), (["scale", "a=1", "b=2", "--no-wait"], True)],
    "reload": [(["reload"], True), (["reload", "--dry-run"], True)],
    "logs": [(["logs"], False), (["logs", "a", "-n", "3"], False)],
    "events": [(["events", "-n", "3"], True), (["events", "--follow", "-n", "3"], True)],
    "why": [(["why"], False), (["why", "a", "--now"], True)],
    "mesh": [(["mesh"], True)],
    "metrics": [(["metrics"], True)],
    "blacklist": [
        (["blacklist", "list"], True),
        (["blacklist", "add", "tcp:127.0.0.1:4500"], True),
        (["blacklist", "clear"], True),
    ],
    "shutdown": [(["shutdown", "--no-wait"], True)],
    "completion": [(["completion", "bash"], False)],
}
LINES = [line for name in cli.COMMANDS for line in COMMANDS[name]]
LIVE = [arguments for arguments, needs_mesh in LINES if needs_mesh]
ENDLESS = ["--follow"]
_numbers = itertools.count()
WITHOUT_JSON = {"init", "completion"}

MESH = """[mesh]
name = "demo"
[workers.a]
command = ["sleep", "600"]
[workers.b]
command = ["sleep", "600"]
replicas = 2
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESHVISOR_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mesh.toml").write_text(MESH)
    return tmp_path


Give = Callable[[list[str]], tuple[int, str]]


@pytest.fixture
def give(capfd: pytest.CaptureFixture[str]) -> Give:
    """Give a command, as text and (if it does nothing twice) in JSON; return its status and what it said."""

    def run(arguments: list[str]) -> tuple[int, str]:
        status = execute(arguments)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        said = err if status else out
        assert said or status == 0, f"{arguments} failed and said nothing"
        if status and "Usage:" not in err:
            assert err.startswith(("supervise: ", "mesh.toml:")), err
        if arguments[0] not in WITHOUT_JSON:
            again = execute([*arguments, "--json"])
            answers = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
            assert again == status
            if status:
                (answer,) = answers
                assert (set(answer), answer["code"]) == ({"error", "code"}, status)
        return status, said

    return run


def test_every_command_is_in_the_table() -> None:
    assert set(cli.COMMANDS) <= set(COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: supervise {name}")
    assert ("--json" in out) is (name not in {*WITHOUT_JSON, "run", "blacklist"})


@pytest.mark.parametrize(("arguments", "needs_mesh"), LINES, ids=[" ".join(line) for line, _ in LINES])
def test_without_a_mesh(arguments: list[str], needs_mesh: bool, folder: Path, give: Give) -> None:
    status, said = give(arguments)
    if needs_mesh:
        assert (status, said) == (4, "supervise: the mesh 'demo' is not running\n")
    else:
        assert status in (0, 1)


@pytest.mark.parametrize("arguments", LIVE, ids=" ".join)
def test_with_what_a_killed_supervisor_left(arguments: list[str], folder: Path, give: Give) -> None:
    left = folder / "run" / "demo"
    left.mkdir(mode=0o700, parents=True)
    (left / "lock").write_text(f"{os.getpid()}\n{folder / 'mesh.toml'}\n")
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(f"ipc://{left}/control")
    (left / "control").touch()
    assert give(arguments) == (4, "supervise: the mesh 'demo' is not running\n")


@contextmanager
def of_another_version(folder: Path) -> Iterator[None]:
    """A supervisor that speaks version 2 of the control protocol."""
    directory = RuntimeDirectory(folder / "run", "demo", folder / "mesh.toml")
    is_over = threading.Event()

    def serve() -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.set(zmq.LINGER, 0)
            socket.bind(f"ipc://{directory.control_path}")
            while not is_over.is_set():
                if not socket.poll(10):
                    continue
                *route, body = socket.recv_multipart()
                request = msgspec.json.decode(body)
                answer: object = {"type": "news"}
                if request["body"]["type"] == "hello":
                    answer = {"type": "welcome", "mesh": "demo", "pid": 1, "release": "9.0"}
                reply = {"version": 2, "id": request["id"], "body": answer}
                socket.send_multipart([*route, msgspec.json.encode(reply)])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        directory.close()


@pytest.mark.parametrize("arguments", [line for line in LIVE if line[0] != "blacklist"], ids=" ".join)
def test_with_a_mesh_of_another_version(arguments: list[str], folder: Path, give: Give) -> None:
    with of_another_version(folder):
        status, said = give(arguments)
    assert status == 1
    assert "it is of meshvisor 9.0, this command of " in said


# With a mesh that runs.


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideMesh]:
    """A mesh that runs, for all that does not end it."""
    with running(tmp_path_factory.mktemp("live")) as mesh:
        yield mesh


@contextmanager
def running(folder: Path, **workers: dict[str, object]) -> Iterator[OutsideMesh]:
    sleeper: dict[str, object] = {"command": ["sleep", "600"]}
    sections = {"workers.a": sleeper, "workers.b": {**sleeper, "replicas": 2}}
    sections |= {f"workers.{name}": section for name, section in workers.items()}
    # A name of its own: at its end whatever is left of a mesh is found by that.
    with OutsideMesh(folder, f"live{os.getpid()}-{next(_numbers)}", sections) as mesh:
        mesh.start()
        mesh.until(lambda: any("the mesh is ready" in line.text for line in mesh.lines), 30, "readiness")
        yield mesh


def of(mesh: OutsideMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mesh.folder)


NOT_ENDING = [line for line in LIVE if line[0] != "shutdown" and not set(line) & set(ENDLESS)]


@pytest.mark.parametrize("arguments", NOT_ENDING, ids=" ".join)
def test_with_a_mesh(arguments: list[str], mesh: OutsideMesh, give: Give, monkeypatch: pytest.MonkeyPatch) -> None:
    of(mesh, monkeypatch)
    status, said = give(arguments)
    assert (status, bool(said)) == (0, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["start", "aa"],
        ["stop", "b-0", "aa"],
        ["restart", "aa", "--at-once"],
        ["scale", "aa", "3"],
        ["scale", "a=1", "aa=3"],
        ["why", "aa", "--now"],
    ],
    ids=" ".join,
)
def test_with_a_name_that_is_none(
    arguments: list[str], mesh: OutsideMesh, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    of(mesh, monkeypatch)
    hint = "supervise: there is no worker and no slot called 'aa' (did you mean \"a\"?)\n"
    assert give(arguments) == (2, hint)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["scale", "b-0", "3"], 2, 'supervise: b-0 is a slot; it is its worker that is scaled (did you mean "b"?)\n'),
        (["scale", "a"], 2, "'a' is not NAME=N"),
        (["scale", "a", "many"], 2, "must be from 0 to 1000, not 'many'"),
        (["scale", "a=1001"], 2, "must be from 0 to 1000, not '1001'"),
        (["scale", "a=1", "a=2"], 2, "a is named twice"),
        (["start"], 2, "Missing argument 'NAME...'"),
        (["events", "-n", "-1"], 2, "Invalid value for '-n'"),
        (["events", "-f", "-f", "x.toml", "--name", "y"], 2, "give one of them"),
        (["completion", "csh"], 2, "Invalid value"),
        (["reload", "-f", "copy.toml"], 2, ", which is what it reloads, and not by copy.toml"),
    ],
)
def test_with_what_makes_no_sense(
    arguments: list[str],
    status: int,
    said: str,
    mesh: OutsideMesh,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    of(mesh, monkeypatch)
    (mesh.folder / "copy.toml").write_text(mesh.file.read_text())
    assert execute(arguments) == status
    assert said in capsys.readouterr().err


@pytest.fixture
def stopped(mesh: OutsideMesh, monkeypatch: pytest.MonkeyPatch) -> Iterator[OutsideMesh]:
    """The same mesh while its supervisor is stopped."""
    of(mesh, monkeypatch)
    monkeypatch.setattr(client, "TIMEOUT", 0.02)
    monkeypatch.setattr("meshvisor.shared.memory.handover.TIMEOUT", 0.02)
    monkeypatch.setattr("meshvisor.supervisor.attach._PATIENCE", 0.02)
    mesh.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, mesh.pid, os.WSTOPPED)
    yield mesh
    mesh.signal(signal.SIGCONT)


@pytest.mark.parametrize("arguments", LIVE, ids=" ".join)
def test_with_a_supervisor_that_is_stopped(arguments: list[str], stopped: OutsideMesh, give: Give) -> None:
    status, said = give(arguments)
    assert status == 1
    assert "did not answer within 0.02 s" in said
    assert said.endswith(f"; it is stopped, kill -CONT {stopped.pid} lets it go on\n")


def test_changes_are_told_slot_by_slot(
    mesh: OutsideMesh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of(mesh, monkeypatch)
    assert execute(["start", "a", "b"]) == 0
    capsys.readouterr()

    def said(*arguments: str) -> list[str]:
        assert execute(list(arguments)) == 0
        lines = capsys.readouterr().out.splitlines()
        return [line.split(" (incarnation ")[0].split(" (")[0].split(" in ")[0] for line in lines]

    assert sorted(said("stop", "b")) == ["2 slots", "b-0 is stopped", "b-1 is stopped"]
    assert said("stop", "b-0") == ["b-0 was stopped already"]
    assert said("start", "b-0", "a") == ["b-0 is ready", "a was ready already"]
    assert said("restart", "b") == ["b-0 is ready", "b-1 is ready", "2 slots"]
    assert said("scale", "a", "2") == ["a-1 is ready", "a has 2 slots"]
    assert said("scale", "a=1", "b=2") == ["a-1 is stopped", "a has 1 slot", "b has 2 slots already"]
    assert said("stop", "a", "--no-wait") == ["stopping a"]
    assert said("start", "a") == ["a is ready"]


def test_a_reload_shows_its_difference_does_it_and_knows_when_there_is_none(
    mesh: OutsideMesh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of(mesh, monkeypatch)
    before = mesh.file.read_text()
    try:
        mesh.file.write_text(before + "stop_timeout = 1\n[workers.c]\ncommand = ['sleep', '600']\n")
        difference = ["+ c is added: c", "~ b is adjusted, without a restart:", "      stop_timeout: 5.0 s -> 1.0 s"]
        assert execute(["reload", "--dry-run"]) == 0
        assert capsys.readouterr().out.splitlines() == difference
        assert execute(["reload"]) == 0
        *shown, ready, done = capsys.readouterr().out.splitlines()
        assert shown == difference
        assert (ready.partition(" (")[0], done.partition(" in ")[0]) == ("c is ready", "reloaded")
        assert execute(["reload"]) == 0
        assert capsys.readouterr().out == f"nothing has changed in {mesh.file}\n"
        mesh.file.write_text(before + "replica = 1\n")
        assert execute(["reload"]) == 2
        assert capsys.readouterr().err.endswith(': workers.b.replica: unknown key (did you mean "replicas"?)\n')
    finally:
        mesh.file.write_text(before)
    assert execute(["reload", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["changes"]["removed"] == {"c": ["c"]}
    assert [(slot["slot"], slot["state"]) for slot in answer["slots"]] == [("c", "stopped")]


def test_a_slot_that_misses_its_goal_is_status_1_with_the_reason(
    mesh: OutsideMesh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of(mesh, monkeypatch)
    before = mesh.file.read_text()
    bad = "[workers.bad]\ncommand = ['sh', '-c', 'exit 3']\nrestart = 'never'\n"
    try:
        mesh.file.write_text(before + bad)
        assert execute(["reload"]) == 1
        assert capsys.readouterr().err == "supervise: bad did not become ready: it ended with status 3\n"
        assert execute(["start", "bad"]) == 1
        assert "bad did not become ready" in capsys.readouterr().err
    finally:
        mesh.file.write_text(before)
        assert execute(["reload"]) == 0


def test_who_does_not_wait_any_longer_is_told_that_it_goes_on(
    mesh: OutsideMesh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of(mesh, monkeypatch)

    def interrupted(self: object, *names: str, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client.Client, "restart", interrupted)
    assert execute(["restart", "a"]) == 130
    assert capsys.readouterr().err == "\nsupervise: the restart goes on without being waited for\n"


def test_ctrl_c_is_how_following_events_ends(
    mesh: OutsideMesh, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of(mesh, monkeypatch)

    def interrupted(self: object) -> Iterator[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("meshvisor.supervisor.following.Following.__iter__", interrupted)
    assert execute(["events", "-f", "-n", "1"]) == 0
    captured = capsys.readouterr()
    assert (captured.out.count("\n"), captured.err) == (1, "")


# What the shell completes.


def completed(*words: str) -> list[str]:
    shell = ShellComplete(cli.supervise, {}, "supervise", "_SUPERVISE_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rest"], ["restart"]),
        (["restart", ""], ["a", "b", "b-0", "b-1"]),
        (["stop", "a", "b-"], ["b-0", "b-1"]),
        (["scale", ""], ["a", "b"]),
        (["why", "b-1"], ["b-1"]),
        (["start", "--no"], ["--no-wait"]),
        (["blacklist", "add", "x", "--severity", "h"], ["hard"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["start", "-f", "elsewhere.toml", ""], []),
        (["start", "--name", "elsewhere", ""], []),
    ],
)
def test_names_and_values_are_completed(
    words: list[str], expected: list[str], mesh: OutsideMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    of(mesh, monkeypatch)
    assert completed(*words) == expected


def test_the_name_of_a_mesh_is_completed(mesh: OutsideMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHVISOR_RUNTIME_DIR", str(mesh.runtime))
    (mesh.runtime / "lifeless").mkdir(exist_ok=True)
    assert completed("status", "--name", "li") == [mesh.name]


def test_nothing_is_completed_and_nothing_said_without_an_answer(
    stopped: OutsideMesh, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert completed("restart", "") == []
    monkeypatch.chdir("/")
    assert completed("restart", "") == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_names_the_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["completion", shell]) == 0
    assert "_SUPERVISE_COMPLETE=" in capsys.readouterr().out


def test_bash_completes(mesh: OutsideMesh) -> None:
    folder = Path(sys.executable).parent
    script = "source <(supervise completion bash); COMP_WORDS=(supervise restart b-); COMP_CWORD=2;"
    script += ' _supervise_completion supervise; echo "${COMPREPLY[@]}"'
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", "-c", script], cwd=mesh.folder, env=environment, check=False, capture_output=True, text=True
    )
    assert (ended.stdout, ended.stderr) == ("b-0 b-1\n", "")


# What it costs to ask.


def test_the_status_imports_little(mesh: OutsideMesh) -> None:
    """DESIGN, section 6: 150 ms. What is not imported is what that takes."""
    program = "import sys; from meshvisor.supervisor.cli import execute; execute(['status']); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], cwd=mesh.folder, check=True, capture_output=True, text=True)
    modules = set(ended.stdout.splitlines()[-1].split())
    heavy = {"asyncio", "rich", "psutil", "difflib", "ssl", "prometheus_client", "importlib.metadata"}
    ours = {
        f"meshvisor.{name}"
        for name in (
            "shared.config.rules",
            "shared.config.model",
            "shared.memory.blacklist",
            "shared.memory.board",
            "supervisor.supervisor",
        )
    }
    assert modules & (heavy | ours) == set()
    assert "meshvisor.supervisor.status" in modules


# At its end.


def test_with_a_mesh_that_is_stopping(tmp_path: Path, give: Give, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 600; done"
    stubborn: dict[str, object] = {"command": ["sh", "-c", script], "stop_timeout": "10m", "ready": {"log": "up"}}
    with running(tmp_path, stubborn=stubborn) as mesh:
        of(mesh, monkeypatch)
        assert execute(["shutdown", "--no-wait"]) == 0
        for arguments in LIVE:
            if set(arguments) & set(ENDLESS) or arguments[0] in ("blacklist", "top", "mesh", "metrics"):
                continue
            status, said = give(arguments)
            if arguments[0] in ("status", "events", "shutdown"):
                assert status == 0
            else:
                assert (status, said) == (1, "supervise: the mesh is stopping: shutdown was asked for\n"), arguments
        now = mesh.status()
        assert now is not None
        (pid,) = (worker.pid for worker in now.workers if worker.name == "stubborn")
        assert pid is not None
        os.killpg(pid, signal.SIGKILL)
        assert mesh.wait(30) == 0


def test_events_are_followed_until_the_mesh_has_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path) as mesh:
        of(mesh, monkeypatch)
        threading.Timer(0.2, mesh.signal, [signal.SIGTERM]).start()
        assert execute(["events", "-f", "-n", "1000", "--json"]) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [event["number"] for event in events] == list(range(1, len(events) + 1))
        assert (events[0]["event"], events[-1]["event"]) == ("mesh-started", "mesh-stopped")
        assert set(events[1]) == {"at", "event", "slot", "incarnation", "pid", "number"}
        assert mesh.wait(30) == 0
