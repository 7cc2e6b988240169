"""What the README shows of the program's output is what the program prints, up to numbers, times and places."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.docs.blocks import ROOT, blocks, commands
from tests.docs.shapes import is_told, shape

from meshvisor.supervisor.cli import execute

PROPS = Path(__file__).parent / "props" / "shown"
SHOWN = {
    " ".join(shlex.split(line, comments=True)): lines
    for block in blocks(ROOT / "README.md")
    if block.language == "console"
    for line, lines in commands(block)
    if any(is_told(one) for one in lines)
}
CHANGED = """
[workers.cache]
command = ["true"]
"""
FAULTY = """\
[mesh]
name = "shop"

[workers.counter]
class = "shop:Counter"

replica = 4

stop_timeout = "soon"
"""


class Shop:
    """A mesh that runs, and what it has shown so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def until(self, text: str, times: int = 1) -> None:
        """Read what is shown until ``text`` has come so many times in all."""
        assert self.process.stdout is not None
        while sum(text in line for line in self.lines) < times:
            line = self.process.stdout.readline()
            assert line, "".join(self.lines)
            self.lines.append(line)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    shutil.copytree(PROPS, tmp_path / "shop", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path / "shop")
    monkeypatch.setenv("MESHVISOR_RUNTIME_DIR", str(tmp_path / "run"))
    command = [sys.executable, "-m", "meshvisor.supervisor", "run", "mesh.toml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        try:
            yield Shop(process)
        finally:
            process.terminate()


@pytest.mark.slow
def test_the_readme_shows_what_the_program_prints(shop: Shop, capfd: pytest.CaptureFixture[str]) -> None:
    def ask(line: str, status: int = 0) -> str:
        assert execute(shlex.split(line)) == status
        told = capfd.readouterr()
        return told.err if status else told.out

    def slots() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(ask("status --json"))["workers"]
        return found

    def kill(name: str) -> None:
        (pid,) = (slot["pid"] for slot in slots() if slot["name"] == name)
        os.kill(pid, signal.SIGKILL)

    shop.until("• is ready", 5)
    kill("counter-2")
    shop.until("counter-2 • is ready again")
    kill("counter-2")  # the second time in a row it waits before it starts
    shop.until("counter-2 • is ready again", 2)
    Path("hang").touch()
    shop.until("counter-3 • is ready again")
    while any(slot["peers_up"] < 4 for slot in slots()):  # workers report that once a second
        time.sleep(0.02)
    told = {f"supervise {line}": ask(line) for line in ("status", "why counter-3", "mesh", "restart counter")}
    text = Path("mesh.toml").read_text().replace("limit = 3", "limit = 5")
    Path("mesh.toml").write_text(text + 'stop_timeout = "10s"\n' + CHANGED)
    told["supervise reload --dry-run"] = ask("reload --dry-run")
    Path("mesh.toml").write_text(FAULTY)
    told["supervise run mesh.toml"] = ask("run mesh.toml", 2)
    told[".venv/bin/supervise run examples/wordcount/gremlin.toml"] = "".join(shop.lines)

    assert sorted(told) == sorted(SHOWN)
    for command, output in told.items():
        shapes = {shape(line) for line in output.splitlines()}
        strange = [line for line in SHOWN[command] if is_told(line) and shape(line) not in shapes]
        assert strange == [], f"{command} does not print such lines, but:\n{output}"


def test_lines_that_say_something_else_have_another_shape() -> None:
    assert shape("counter-2 • is ready again (incarnation 3, 25 ms after the death)") == shape(
        "counter-1  • is ready again (incarnation 12, 1.5 s after the death)"
    )
    assert shape("4 slots in 168 ms") != shape("4 slots after 168 ms")
