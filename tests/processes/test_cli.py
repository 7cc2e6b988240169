"""The commands as a user gives them, by hand: processes, signals, terminals."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SUPERVISE = (sys.executable, "-m", "meshvisor.supervisor")
MESH = '[mesh]\nname = "demo"\n'
SLEEPER = '[workers.sleeper]\ncommand = ["sh", "-c", "echo up; exec sleep 600"]\n'
STUBBORN = """[workers.stubborn]
command = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 600; done"]
stop_timeout = "10m"
"""


class Session:
    """A folder with a mesh.toml, and the commands given in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "MESHVISOR_RUNTIME_DIR": str(folder / "run")}
        self.running: list[Run] = []

    def write(self, text: str, name: str = "mesh.toml") -> None:
        (self.folder / name).write_text(text)

    def supervise(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SUPERVISE, *arguments],
            cwd=self.folder,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )

    def run(self, **options: Any) -> Run:
        run = Run(self, **options)
        self.running.append(run)
        return run


class Run:
    """``supervise run`` in the background, and what it has shown so far."""

    def __init__(
        self, session: Session, stdout: int = subprocess.PIPE, arguments: tuple[str, ...] = (), **options: Any
    ) -> None:
        self.shown = ""
        self.process = subprocess.Popen(
            [*SUPERVISE, "run", *arguments],
            cwd=session.folder,
            env=session.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            **options,
        )

    def until(self, text: str, times: int = 1) -> str:
        """Read until ``text`` has been shown so many times, and return the line it is in."""
        assert self.process.stdout is not None
        while self.shown.count(text) < times:
            line = self.process.stdout.readline().decode()
            assert line, f"{text!r} was never shown, but: {self.shown}"
            self.shown += line
        return next(line for line in self.shown.splitlines() if text in line)

    def end(self) -> tuple[int, str]:
        """Wait for the end and return the exit status and what went to stderr."""
        out, err = self.process.communicate()
        self.shown += (out or b"").decode()
        return self.process.returncode, err.decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        with contextlib.suppress(ValueError):
            self.process.communicate()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path)
    yield session
    for run in session.running:
        run.close()


def is_gone(pid: int) -> bool:
    """Wait for the end of a process that is not our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ready, _, _ = select.select([descriptor], [], [], 10.0)
    os.close(descriptor)
    return bool(ready)


def test_run_status_and_shutdown(session: Session) -> None:
    session.write(MESH + SLEEPER + "replicas = 2\n")
    run = session.run()
    run.until("the mesh is ready")
    status = json.loads(session.supervise("status", "--json").stdout)
    assert (status["mesh"], status["pid"], status["state"]) == ("demo", run.process.pid, "running")
    assert [(worker["name"], worker["state"], worker["ready"]) for worker in status["workers"]] == [
        ("sleeper-0", "ready", True),
        ("sleeper-1", "ready", True),
    ]
    assert set(status) == {"mesh", "pid", "state", "uptime", "workers"}
    assert set(status["workers"][0]) == {
        "name", "state", "pid", "incarnation", "restarts", "uptime", "ready", "cpu", "rss", "peers_up", "peers_total",
        "last_exit",
    }  # fmt: skip
    table = session.supervise("status", "--name", "demo")
    assert "demo is running: 2 of 2 slots ready" in table.stdout
    assert "\x1b" not in table.stdout
    stopped = session.supervise("shutdown")
    assert (stopped.returncode, stopped.stdout) == (0, "the mesh demo has stopped\n")
    assert run.end() == (0, "")
    assert all(is_gone(worker["pid"]) for worker in status["workers"])
    assert session.supervise("status").returncode == 4
    assert "sleeper-0 │ up\n" in run.shown
    assert "\x1b" not in run.shown


def test_shutdown_without_waiting(session: Session) -> None:
    session.write(MESH + SLEEPER)
    run = session.run()
    run.until("the mesh is ready")
    answer = session.supervise("shutdown", "--no-wait", "--json")
    assert (answer.returncode, json.loads(answer.stdout)) == (0, {"mesh": "demo"})
    assert run.end() == (0, "")


def test_a_crash_and_its_recovery_are_one_line_each(session: Session) -> None:
    session.write(MESH + SLEEPER)
    run = session.run()
    run.until("the mesh is ready")
    (worker,) = json.loads(session.supervise("status", "--json").stdout)["workers"]
    os.kill(worker["pid"], signal.SIGKILL)
    assert "was killed by SIGKILL" in run.until("killed by")
    assert "incarnation 2" in run.until("is ready again")
    run.process.terminate()
    assert run.end() == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_cleanly(session: Session, number: signal.Signals) -> None:
    session.write(MESH + SLEEPER)
    run = session.run()
    run.until("the mesh is ready")
    run.process.send_signal(number)
    assert run.end() == (0, "")
    assert f"stopping the mesh: {number.name}" in run.shown
    assert "the mesh has stopped (exit status 0)" in run.shown


def test_the_second_signal_stops_at_once(session: Session) -> None:
    session.write(MESH + STUBBORN)
    run = session.run()
    run.until("│ up")
    (worker,) = json.loads(session.supervise("status", "--json").stdout)["workers"]
    run.process.send_signal(signal.SIGINT)
    run.until("stopping the mesh")
    run.process.send_signal(signal.SIGINT)
    assert run.end() == (1, "")
    assert is_gone(worker["pid"])


def test_sighup_reloads_and_a_file_with_faults_changes_nothing(session: Session) -> None:
    session.write(MESH + SLEEPER)
    run = session.run()
    run.until("the mesh is ready")
    session.write(MESH + SLEEPER + '[workers.other]\ncommand = "no list"\n')
    run.process.send_signal(signal.SIGHUP)
    run.until("the reload failed: ")
    session.write(MESH + SLEEPER + '[workers.other]\ncommand = ["sleep", "600"]\n')
    run.process.send_signal(signal.SIGHUP)
    run.until("• reloaded")
    workers = json.loads(session.supervise("status", "--json").stdout)["workers"]
    assert [(worker["name"], worker["state"], worker["incarnation"]) for worker in workers] == [
        ("sleeper", "ready", 1),
        ("other", "ready", 1),
    ]
    run.process.terminate()
    assert run.end() == (0, "")


def test_a_second_supervisor_is_refused_with_pid_and_file(session: Session) -> None:
    session.write(MESH + SLEEPER)
    run = session.run()
    run.until("the mesh is ready")
    refused = session.supervise("run")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"pid {run.process.pid}, {session.folder / 'mesh.toml'}" in refused.stderr
    run.process.terminate()
    assert run.end() == (0, "")


def test_ten_faults_are_one_report_and_nothing_is_started(session: Session) -> None:
    session.write("""[mesh]
name = "Demo"
transport = "udp"
[supervisor]
max_restart = 1
max_restarts_window = "soon"
[workers.a]
command = ["touch", "started"]
restart = "sometimes"
replicas = -1
stop_signal = "SIGTREM"
cwd = "nowhere"
depends_on = ["b"]
env = { N = 1 }
""")
    refused = session.supervise("run", "mesh.toml")
    assert (refused.returncode, refused.stdout) == (2, "")
    lines = refused.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        f"mesh.toml:{line}" for line in (2, 3, 5, 6, 9, 10, 11, 12, 13, 14)
    ]
    assert sorted(os.listdir(session.folder)) == ["mesh.toml"]


@pytest.mark.parametrize(("end", "status"), [("exit 0", 0), ("exit 7", 1)])
def test_the_exit_status_tells_how_it_ended(session: Session, end: str, status: int) -> None:
    session.write(MESH + f'[workers.once]\ncommand = ["sh", "-c", "{end}"]\nrestart = "never"\n')
    assert session.supervise("run").returncode == status


def test_too_many_restarts_are_status_3(session: Session) -> None:
    session.write(MESH + '[supervisor]\nmax_restarts = 1\n[workers.a]\ncommand = ["sh", "-c", "sleep 0.2; exit 7"]\n')
    ended = session.supervise("run")
    assert ended.returncode == 3
    assert "giving up" in ended.stdout


# Places that are written to.


def wait_for(session: Session, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask for the status until it is as wanted; for runs whose output cannot be read."""
    while True:
        answer = session.supervise("status", "--json")
        if answer.returncode == 0 and condition(status := json.loads(answer.stdout)):
            return dict(status)


def test_a_reader_that_goes_away_does_not_stop_supervision(session: Session) -> None:
    session.write(MESH + '[workers.talker]\ncommand = ["sh", "-c", "while sleep 0.02; do echo still here; done"]\n')
    run = session.run()
    run.until("still here")
    assert run.process.stdout is not None
    run.process.stdout.close()
    (worker,) = wait_for(session, lambda status: status["state"] == "running")["workers"]
    os.kill(worker["pid"], signal.SIGKILL)
    wait_for(session, lambda status: status["workers"][0]["incarnation"] == 2 and status["workers"][0]["ready"])
    assert session.supervise("shutdown").returncode == 0
    assert run.process.wait() == 0


def test_a_reader_that_never_reads_does_not_hold_supervision_up(session: Session) -> None:
    session.write(MESH + '[workers.flood]\ncommand = ["sh", "-c", "yes; true"]\n' + SLEEPER)
    run = session.run()
    run.until("│ y")
    wait_for(session, lambda status: status["state"] == "running")
    assert session.supervise("shutdown").returncode == 0
    assert run.process.wait() == 0


def test_closed_descriptors_are_no_obstacle(session: Session) -> None:
    session.write(MESH + SLEEPER)
    closing = "import os, sys; [os.close(n) for n in (0, 1, 2)]; os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", closing, *SUPERVISE, "run"], cwd=session.folder, env=session.environment
    )
    wait_for(session, lambda status: status["state"] == "running")
    assert session.supervise("shutdown").returncode == 0
    assert process.wait() == 0


class Terminal:
    """A pseudo-terminal, and what has been shown on it."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        self.shown = ""

    def run(self, session: Session) -> Run:
        """Start ``run`` on it; from then on it is only the run's, so that reading ends with it."""
        run = session.run(stdout=self.theirs)
        os.close(self.theirs)
        return run

    def until(self, text: str) -> None:
        while text not in self.shown:
            self.shown += os.read(self.ours, 65_536).decode()

    def drain(self) -> str:
        with contextlib.suppress(OSError):
            while data := os.read(self.ours, 65_536):
                self.shown += data.decode()
        return self.shown


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    with contextlib.suppress(OSError):  # the test may have closed it
        os.close(terminal.ours)


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals(session: Session, terminal: Terminal, no_color: str, is_coloured: bool) -> None:
    session.write(MESH + SLEEPER)
    session.environment |= {"TERM": "xterm", "NO_COLOR": no_color}
    run = terminal.run(session)
    terminal.until("the mesh is ready")
    run.process.terminate()
    assert run.end() == (0, "")
    assert ("\x1b[36m" in terminal.drain()) is is_coloured


def test_progress_stays_in_its_line(session: Session, terminal: Terminal) -> None:
    session.environment |= {"TERM": "xterm", "NO_COLOR": "1"}
    script = r"printf '10 %%\r'; read x < go; printf '20 %%\r'; read x < go; echo done"
    session.write(MESH + f"[workers.bar]\ncommand = ['sh', '-c', '''{script}''']\nrestart = 'never'\n")
    os.mkfifo(session.folder / "go")
    go = os.open(session.folder / "go", os.O_RDWR)  # held open: no reader ever finds its end, nor waits for a writer
    run = terminal.run(session)
    for text in ("bar  │ 10 %", "\r\x1b[2Kbar  │ 20 %"):
        terminal.until(text)
        os.write(go, b"\n")
    assert run.end() == (0, "")
    os.close(go)
    assert "\r\x1b[2Kbar  │ done\r\n" in terminal.drain()


def test_a_terminal_that_is_gone_stops_the_mesh(session: Session, terminal: Terminal) -> None:
    session.write(MESH + SLEEPER)
    run = terminal.run(session)
    terminal.until("the mesh is ready")
    os.close(terminal.ours)
    run.process.send_signal(signal.SIGHUP)
    assert run.end() == (0, "")


# check and init, with real workers.

WORKERS = """
import os, sys
from meshvisor import Worker

class Good(Worker):
    pass

class Bad:
    pass

print("noise")
if os.environ.get("MODE") == "exit":
    sys.exit(5)
if os.environ.get("MODE") == "crash":
    os.abort()
"""


def test_check_looks_the_classes_up(session: Session) -> None:
    session.write(WORKERS, "mine.py")
    cases = {
        "good": ("mine:Good", ""),
        "bad": ("mine:Bad", ""),
        "typo": ("mine:Goood", ""),
        "nowhere": ("missing:Worker", ""),
        "exits": ("mine:Good", 'env = { MODE = "exit" }'),
        "crashes": ("mine:Good", 'env = { MODE = "crash" }'),
    }
    session.write(MESH + "".join(f'[workers.{name}]\nclass = "{c}"\n{env}\n' for name, (c, env) in cases.items()))
    checked = session.supervise("check")
    assert (checked.returncode, checked.stdout) == (2, "")
    assert checked.stderr.splitlines() == [
        "mesh.toml:7: workers.bad.class: Bad is not a subclass of meshvisor.Worker",
        f"mesh.toml:10: workers.typo.class: there is no Goood in {session.folder / 'mine.py'} "
        '(did you mean "mine:Good"?)',
        "mesh.toml:13: workers.nowhere.class: cannot be imported: ModuleNotFoundError: No module named 'missing'",
        f"mesh.toml:16: workers.exits.class: cannot be imported: SystemExit: 5 ({session.folder / 'mine.py'}:13)",
        "mesh.toml:19: workers.crashes.class: its import killed its process by SIGABRT",
    ]


def test_the_example_runs_as_it_is(session: Session) -> None:
    assert session.supervise("init").returncode == 0
    assert session.supervise("check").returncode == 0
    text = (session.folder / "mesh.toml").read_text().replace("orders = 12", "orders = 7")
    session.write(text)
    worker = (session.folder / "kitchen.py").read_text()
    session.write(worker.replace("sleep(0.4)", "sleep(0)").replace("sleep(0.2)", "sleep(0)"), "kitchen.py")
    ended = session.supervise("run")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "was killed by SIGKILL" in ended.stdout
    assert "order 7: from cook-" in ended.stdout
    assert "incarnation 2" in ended.stdout


def test_why_tells_what_has_happened_and_what_happens_now(session: Session) -> None:
    session.write(MESH + SLEEPER + "replicas = 2\n")
    run = session.run()
    run.until("the mesh is ready")
    assert session.supervise("why").stdout == "there has been no incident\n"
    (first, _) = json.loads(session.supervise("status", "--json").stdout)["workers"]
    os.kill(first["pid"], signal.SIGSEGV)
    run.until("sleeper-0 │ up", times=2)
    run.until("is ready again")
    told = session.supervise("why", "sleeper")
    assert told.stdout.startswith("sleeper-0 was killed by SIGSEGV, ")
    assert "Output  up\n" in told.stdout
    assert "\nNow     it is ready (incarnation 2, process " in told.stdout
    now = session.supervise("why", "sleeper-1", "--now")
    assert (now.returncode, now.stdout.partition("(")[0]) == (0, "sleeper-1 ")
    assert json.loads(session.supervise("why", "sleeper-1", "--now", "--json").stdout)["slot"] == "sleeper-1"
    unknown = session.supervise("why", "sleper", "--now", "--name", "demo")
    assert (unknown.returncode, unknown.stderr) == (
        2,
        "supervise: there is no worker and no slot called 'sleper' (did you mean \"sleeper\"?)\n",
    )
    named = session.supervise("why", "--name", "demo", "--json")
    assert json.loads(named.stdout)["signal"] == "SIGSEGV"
    session.supervise("shutdown")
    assert run.end() == (0, "")
    assert session.supervise("why").stdout.startswith("sleeper-0 was killed by SIGSEGV, ")


def test_whoever_starts_the_supervisor_is_notified_and_its_children_do_not_answer(session: Session) -> None:
    address = session.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(address))
        listener.settimeout(20)
        session.environment["NOTIFY_SOCKET"] = str(address)
        session.write(MESH + '[workers.a]\ncommand = ["sh", "-c", "echo [${NOTIFY_SOCKET-none}]; exec sleep 600"]\n')
        run = session.run()
        run.until("a    │ [none]")
        while not (said := listener.recv(4096)).startswith(b"READY=1"):
            pass
        assert said.startswith(b"READY=1\nSTATUS=the mesh is ready, ")
        session.supervise("shutdown")
        while not listener.recv(4096).startswith(b"STOPPING=1\nSTATUS=stopping the mesh: "):
            pass
        assert run.end() == (0, "")


def test_a_secret_that_others_can_read_is_a_fault_and_one_of_our_own_is_used(session: Session) -> None:
    secret = session.folder / "secret"
    secret.write_text("sixteen bytes, and more\n")
    secret.chmod(0o644)
    session.write('[mesh]\nname = "demo"\nsecret_file = "secret"\n' + SLEEPER)
    refused = session.supervise("run")
    assert refused.returncode == 2
    assert refused.stderr.startswith("mesh.toml:3: mesh.secret_file: ")
    assert refused.stderr.endswith("is open to others (mode 0644); chmod 600 it\n")
    secret.chmod(0o600)
    run = session.run()
    run.until("the mesh is ready")
    session.supervise("shutdown")
    assert run.end() == (0, "")


# logs, and run for programs.


@pytest.mark.slow
def test_logs_are_followed_over_restarts_of_the_mesh_until_ctrl_c(session: Session) -> None:
    session.write(MESH + '[workers.a]\ncommand = ["sh", "-c", "echo up; exec sleep 600"]\nreplicas = 2\n')
    following = subprocess.Popen(
        [*SUPERVISE, "logs", "a", "-f", "--json"], cwd=session.folder, env=session.environment, stdout=subprocess.PIPE
    )
    assert following.stdout is not None
    for _ in range(2):
        run = session.run()
        run.until("the mesh is ready")
        lines = [json.loads(following.stdout.readline()) for _ in range(2)]
        assert {(line["slot"], line["stream"], line["text"]) for line in lines} == {
            ("a-0", "stdout", "up"),
            ("a-1", "stdout", "up"),
        }
        assert session.supervise("shutdown").returncode == 0
        assert run.end() == (0, "")
    following.send_signal(signal.SIGINT)
    assert following.communicate()[0] == b""
    assert following.returncode == 0
    told = session.supervise("logs", "a-1", "-n", "1")
    assert (told.returncode, told.stdout, told.stderr) == (0, "a-1 │ up\n", "")
    unknown = session.supervise("logs", "b")
    assert (unknown.returncode, unknown.stdout) == (2, "")


def test_following_logs_ends_with_the_pipe(session: Session) -> None:
    session.write(MESH + SLEEPER)
    following = subprocess.Popen(
        [*SUPERVISE, "logs", "--follow", "-f", "mesh.toml"],
        cwd=session.folder,
        env=session.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert following.stdout is not None
    assert following.stderr is not None
    following.stdout.close()
    assert following.wait() == 0
    assert following.stderr.read() == b""
    following.stderr.close()


def test_run_can_show_objects_instead_of_text(session: Session) -> None:
    session.write(MESH + '[workers.a]\ncommand = ["sh", "-c", "echo up; exit 3"]\nrestart = "never"\n')
    ended = session.supervise("run", "--log-format", "json")
    assert (ended.returncode, ended.stderr) == (1, "")
    objects = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [one["event"] for one in objects if "event" in one][:2] == ["mesh-started", "slot-starting"]
    assert [(one["slot"], one["stream"], one["text"]) for one in objects if "stream" in one] == [("a", "stdout", "up")]
    assert objects[-1]["event"] == "mesh-stopped"


@pytest.mark.slow
def test_run_restarts_the_workers_whose_code_has_changed(session: Session) -> None:
    pytest.importorskip("watchfiles")
    program = "import asyncio\nfrom meshvisor import Worker\n\n\nclass A(Worker):\n    async def run(self):\n"
    program += "        print('version {}')\n        await asyncio.Event().wait()\n"
    session.write(program.format(1), "app.py")
    session.write(MESH + '[workers.a]\nclass = "app:A"\n' + SLEEPER)
    run = session.run(arguments=("--watch",))
    run.until("the mesh is ready")
    session.write("x = (\n", "app.py")
    assert run.until("the restart failed: the code in ").endswith(f"({session.folder}/app.py:1)")
    session.write(program.format(2), "app.py")
    run.until("a       │ version 2")
    run.until("a restarted in ")
    session.supervise("shutdown")
    assert run.end() == (0, "")
    assert "sleeper • is ready again" not in run.shown


def test_watching_needs_watchfiles(session: Session) -> None:
    session.write(MESH + SLEEPER)
    session.write("raise ImportError\n", "watchfiles.py")
    session.environment["PYTHONPATH"] = str(session.folder)
    refused = session.supervise("run", "--watch")
    assert (refused.returncode, refused.stdout) == (1, "")
    text = "supervise: --watch needs watchfiles, which is not installed: pip install 'meshvisor[watch]'\n"
    assert refused.stderr == text
