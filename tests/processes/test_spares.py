"""Spares in real processes: whoever takes a place is linked with everybody when its ``on_start`` begins."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_MESH = """
[mesh]
name = "spares"
transport = "{transport}"

[supervisor]
spares = 1
max_restarts = 100

[workers.n]
class = "application:Looks"
replicas = 3
backoff = {{ reset_after = 0 }}
"""

_APPLICATION = """
import asyncio, os
from meshvisor import Worker

class Looks(Worker):
    async def on_start(self):
        up = [peer.name for peer in self.peers.values() if peer.up]
        print("STARTED", os.getpid(), ",".join(sorted(up)), flush=True)

    async def run(self):
        mesh = self._node._mesh
        seen = ""
        while True:
            await asyncio.sleep(0.005)
            linked = [name for name, peer in mesh._spares.items() if peer.handle and peer.handle.is_attached]
            if linked and linked[0] != seen:
                seen = linked[0]
                print("ASIDE", os.getpid(), seen, flush=True)

    async def on_message(self, message):
        print("GOT", os.getpid(), message.sender, flush=True)

    async def on_peer_up(self, peer):
        if peer.incarnation > 1:
            await self.send(peer, b"welcome")
"""


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_a_spare_is_linked_with_everybody_when_it_starts_in_a_place(tmp_path: Path, transport: str) -> None:
    (tmp_path / "mesh.toml").write_text(_MESH.format(transport=transport))
    (tmp_path / "application.py").write_text(_APPLICATION)
    environment = {**os.environ, "MESHVISOR_RUNTIME_DIR": str(tmp_path / "run")}
    command = [sys.executable, "-m", "meshvisor.supervisor", "run", "mesh.toml"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as supervisor:
        said: list[list[str]] = []

        def until(kind: str, count: int, argument: str = "") -> list[list[str]]:
            """Read on until so many said so, and return what they said: slot, pid and argument."""
            while len(found := [one for one in said if one[1] == kind and argument in one[3]]) < count:
                assert supervisor.stdout is not None
                line = supervisor.stdout.readline()
                assert line, said
                slot, *words = line.replace("│", " ").split()
                if len(words) == 3 and words[0] in ("STARTED", "ASIDE", "GOT"):
                    said.append([slot, *words])
            return found

        pids = {slot: pid for slot, _, pid, _ in until("ASIDE", 3, "~spare-1")}
        for number, victim in enumerate(("n-0", "n-1"), 2):
            del said[:]
            os.kill(int(pids[victim]), signal.SIGKILL)
            ((slot, _, pid, up),) = until("STARTED", 1)
            assert (slot, up.split(",")) == (victim, sorted({"n-0", "n-1", "n-2"} - {victim}))
            pids[victim] = pid
            until("GOT", 2, "n-")
            until("ASIDE", 3, f"~spare-{number}")
        supervisor.send_signal(signal.SIGTERM)
        supervisor.communicate()
        assert supervisor.returncode == 0
