"""``supervise top`` on a terminal, as somebody at the keyboard has it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

SUPERVISE = (sys.executable, "-m", "meshvisor.supervisor")
MESH = """[mesh]
name = "demo"
[workers.sleeper]
command = ["sh", "-c", "echo a line; exec sleep 600"]
replicas = 2
[workers.crasher]
command = ["sh", "-c", "echo oh no; exit 3"]
restart = "never"
"""
# A shell in small: Ctrl-C and Ctrl-Z are for the job that has the terminal, and one that stops is told and continued.
_SHELL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = os.fork()
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
print("job", job, flush=True)
while os.WIFSTOPPED(status := os.waitpid(job, os.WUNTRACED)[1]):
    os.tcsetpgrp(0, os.getpgrp())
    print("stopped", bool(termios.tcgetattr(0)[3] & termios.ICANON), flush=True)
    os.tcsetpgrp(0, job)
    os.kill(job, signal.SIGCONT)
print("ended", os.waitstatus_to_exitcode(status), flush=True)
"""
pytestmark = pytest.mark.slow

ENTERED, LEFT = "\x1b[?1049h", "\x1b[?1049l"


class Mesh:
    """A running mesh, and the commands given in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "MESHVISOR_RUNTIME_DIR": str(folder / "run"), "TERM": "xterm-256color"}
        (folder / "mesh.toml").write_text(MESH)

    def start(self) -> subprocess.Popen[bytes]:
        """Start it and wait until it is ready."""
        run = subprocess.Popen(
            [*SUPERVISE, "run"], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert run.stdout is not None
        while b"sleeper-1 \xe2\x94\x82 a line" not in (line := run.stdout.readline()):
            assert line
        return run

    def supervise(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SUPERVISE, *arguments],
            cwd=self.folder,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    run = mesh.start()
    yield mesh
    run.terminate()
    run.communicate()


class Keyboard:
    """A terminal of 100 columns and 30 lines with ``supervise top`` on it."""

    def __init__(self, mesh: Mesh) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.before = termios.tcgetattr(self.theirs)
        self.shown = ""
        self.shell = subprocess.Popen(
            [sys.executable, "-S", "-c", _SHELL, *SUPERVISE, "top"],
            cwd=mesh.folder,
            env=mesh.environment,
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
        )

    def until(self, text: str) -> None:
        """Read until ``text`` has been shown since the last time."""
        while text not in self.shown:
            self.shown += os.read(self.ours, 65_536).decode()
        self.shown = self.shown.partition(text)[2]

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def end(self) -> int:
        """Wait for the end, see that the terminal is as it was, and return the exit status."""
        self.until(LEFT)
        status = self.word_after("ended ")
        assert termios.tcgetattr(self.theirs) == self.before
        return int(status)

    def word_after(self, text: str) -> str:
        """Return what follows ``text`` on its line."""
        self.until(text)
        while "\r\n" not in self.shown:
            self.shown += os.read(self.ours, 65_536).decode()
        word, _, self.shown = self.shown.partition("\r\n")
        return word

    def close(self) -> None:
        self.shell.kill()  # its job loses its terminal
        self.shell.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def keyboard(mesh: Mesh) -> Iterator[Keyboard]:
    keyboard = Keyboard(mesh)
    yield keyboard
    keyboard.close()


def test_slots_are_seen_stopped_and_started_by_keys(mesh: Mesh, keyboard: Keyboard) -> None:
    keyboard.until(ENTERED)
    keyboard.until("sleeper-1")
    keyboard.type("js")
    keyboard.until("stop sleeper-1? (y/n)")
    keyboard.type("y")
    keyboard.until("sleeper-1 is stopped")
    keyboard.type("S")
    keyboard.until("sleeper-1 is ready (incarnation 2")
    keyboard.type("l")
    keyboard.until("what sleeper-1 prints")
    keyboard.until("a line")
    keyboard.type("\x1b")
    keyboard.until("crasher")
    keyboard.type("\x1b[Bw")
    keyboard.until("why crasher")
    keyboard.until("oh no")
    fcntl.ioctl(keyboard.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 60, 0, 0))
    keyboard.until("why crasher")
    keyboard.type("q")
    assert keyboard.end() == 0


def test_a_mesh_that_ends_is_waited_for(mesh: Mesh, keyboard: Keyboard) -> None:
    keyboard.until("of 3 ready")
    assert mesh.supervise("shutdown").returncode == 0
    keyboard.until("has ended; waiting for it to come back")
    run = mesh.start()
    keyboard.until("running")
    keyboard.type("\x03")
    assert keyboard.end() == 0
    run.terminate()
    run.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_as_it_was_after_any_end(keyboard: Keyboard, number: signal.Signals) -> None:
    job = int(keyboard.word_after("job "))
    keyboard.until("sleeper-0")
    os.kill(job, number)
    assert keyboard.end() == -number


def test_it_ends_with_its_terminal(mesh: Mesh) -> None:
    keyboard = Keyboard(mesh)
    job = os.pidfd_open(int(keyboard.word_after("job ")))
    keyboard.until("sleeper-0")
    keyboard.close()
    assert select.select([job], [], [], 20.0)[0]
    os.close(job)


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(keyboard: Keyboard) -> None:
    keyboard.until("sleeper-0")
    keyboard.type("\x1a")
    keyboard.until(LEFT)
    assert keyboard.word_after("stopped ") == "True"
    keyboard.until(ENTERED)
    keyboard.until("sleeper-0")
    keyboard.type("q")
    assert keyboard.end() == 0


def test_off_a_terminal_it_is_one_picture_or_one_object(mesh: Mesh) -> None:
    picture = mesh.supervise("top")
    assert (picture.returncode, picture.stderr) == (0, "")
    assert " LATEST INCIDENTS\n" in picture.stdout
    assert "\x1b" not in picture.stdout
    found = json.loads(mesh.supervise("top", "--json").stdout)
    assert [(one["name"], one["state"], one["received"]) for one in found["workers"]] == [
        ("sleeper-0", "ready", None),
        ("sleeper-1", "ready", None),
        ("crasher", "failed", None),
    ]
    assert (found["mesh"], found["links"]["wanted"], found["incidents"][0]["slot"]) == ("demo", 0, "crasher")


def test_a_mesh_that_does_not_run_is_status_4(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path)
    for arguments in (["top"], ["top", "--json"]):
        assert mesh.supervise(*arguments).returncode == 4
    ours, theirs = pty.openpty()
    top = subprocess.run(
        [*SUPERVISE, "top"], cwd=tmp_path, env=mesh.environment, check=False, stdout=theirs, stderr=theirs
    )
    assert top.returncode == 4
    assert os.read(ours, 4096) == b"supervise: the mesh 'demo' is not running\r\n"
    with contextlib.suppress(OSError):
        os.close(ours)
    os.close(theirs)
