"""The examples, as a newcomer runs them: each ends by itself, well, and says what it showed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(name: str, folder: Path, **environment: str) -> str:
    """Run a copy of an example and return what it showed."""
    copy = folder / name
    shutil.copytree(EXAMPLES / name, copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    if name == "commands":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        text = (copy / "mesh.toml").read_text()
        (copy / "mesh.toml").write_text(text.replace("8765", str(port)))
    ended = subprocess.run(
        [sys.executable, "-m", "meshvisor.supervisor", "run", str(copy / "mesh.toml")],
        check=False,
        env={**os.environ, "MESHVISOR_RUNTIME_DIR": str(folder / "run"), "TMPDIR": str(folder), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    return ended.stdout


def test_quickstart_greets(tmp_path: Path) -> None:
    shown = run_example("quickstart", tmp_path)
    assert shown.count("hello, ") == 6
    assert "two processes were called, and 2 heard the goodbye" in shown
    assert shown.count("guest says: goodbye") == 2


@pytest.mark.slow
def test_the_example_of_a_test_passes() -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-c",
            os.devnull,
            str(EXAMPLES / "quickstart"),
        ],
        check=False,
        cwd=EXAMPLES / "quickstart",
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 passed" in ended.stdout


@pytest.mark.slow
def test_the_bank_loses_nothing_while_its_processes_die(tmp_path: Path) -> None:
    shown = run_example("crash_recovery", tmp_path, BANK_SECONDS="3")
    assert "40,000: exact" in shown
    assert "WRONG" not in shown
    assert "processes have died, and not a penny is missing" in shown
    assert "was killed by SIGKILL" in shown or "was frozen and was killed" in shown


@pytest.mark.slow
def test_commands_come_in_their_order(tmp_path: Path) -> None:
    shown = run_example("commands", tmp_path)
    assert shown.count("hello from a file") == 3
    assert shown.index("accepting connections") < shown.index("visitor  • is ready")
    assert "database • is ready again (incarnation 3" in shown


@pytest.mark.slow
def test_chaos_is_survived(tmp_path: Path) -> None:
    shown = run_example("chaos", tmp_path, CHAOS_MESSAGES="60")
    assert shown.count("60 messages in order") == 6
    assert "nothing was heard for" in shown
    assert "every message arrived exactly once and in order, in all of them" in shown


def test_links_alone_and_a_transport_of_ones_own(tmp_path: Path) -> None:
    assert run_example("library", tmp_path).count("'got hello over there again'") == 2
