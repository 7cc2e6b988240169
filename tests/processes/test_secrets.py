"""What is secret is in no place where the users of the machine, or those who read its logs, would find it (S12)."""

import base64
import socket
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT
from urllib.request import urlopen

import msgspec
import psutil
import pytest

from meshvisor.supervisor.client import Client

_SUPERVISE = (sys.executable, "-m", "meshvisor.supervisor")
_SECRET = b"the secret of this mesh, 32 byte"

_MESH = """
[mesh]
name = "quiet"
secret_file = "secret"

[supervisor]
runtime_dir = "run"
metrics = "ADDRESS"

[workers.node]
class = "app:Node"
replicas = 2

[workers.spawned]
class = "app:Node"
start_method = "spawn"

[workers.command]
command = ["sleep", "1000"]
"""

# It crashes with everything that it knows of itself in the local variables of its frames, and prints that, too.
_APPLICATION = """
import asyncio
from meshvisor import Worker

class Node(Worker):
    async def run(self):
        print(f"life {self.incarnation} of {self.name}", vars(self), flush=True)
        if self.name == "node-0" and self.incarnation == 1:
            raise ValueError(f"no more of {vars(self)!r}")
        await asyncio.Event().wait()
"""


def spellings(secret: bytes) -> list[bytes]:
    """Return the ways in which ``secret`` could be written."""
    return [secret, secret.hex().encode(), base64.b64encode(secret)[:-4], repr(secret)[2:-1].encode()]


def shown_by(pid: int) -> bytes:
    """Return what ``ps`` and its like can show of a process, to others or to its own user."""
    return b"".join(Path(f"/proc/{pid}/{part}").read_bytes() for part in ("cmdline", "environ", "comm"))


@pytest.mark.slow
def test_the_secret_of_a_mesh_is_shown_nowhere(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    (tmp_path / "app.py").write_text(_APPLICATION)
    (tmp_path / "mesh.toml").write_text(_MESH.replace("ADDRESS", address))
    (tmp_path / "secret").write_bytes(_SECRET)
    (tmp_path / "secret").chmod(0o600)
    with subprocess.Popen([*_SUPERVISE, "run"], cwd=tmp_path, stdout=PIPE, stderr=STDOUT) as running:
        assert running.stdout is not None
        shown = b""
        while b"life 2 of node-0" not in shown:
            line = running.stdout.readline()
            assert line, shown.decode()
            shown += line
        family = [running.pid, *(child.pid for child in psutil.Process(running.pid).children(recursive=True))]
        places = {f"process {pid}": shown_by(pid) for pid in family}
        with urlopen(f"http://{address}/metrics?links=each", timeout=10.0) as answer:
            places["metrics"] = answer.read()
        with Client(tmp_path / "run", "quiet") as client:
            places["status"] = msgspec.json.encode(client.status())
            places["links"] = msgspec.json.encode(client.links())
            places["events"] = repr(client.recent()).encode()
            places["traces"] = client.traces("node-0").encode()
            client.shutdown()
        places["output"] = shown + running.stdout.read()
    for file in (tmp_path / ".meshvisor").iterdir():
        places[file.name] = file.read_bytes()
    assert b"no more of" in places["incidents.jsonl"]
    assert b"life 1 of node-0" in places["node-0.log"]
    assert len(family) >= 7, "the supervisor, four slots, a zygote and the guardian"
    assert any(spelling in (tmp_path / "secret").read_bytes() for spelling in spellings(_SECRET))
    assert [name for name, text in places.items() if any(one in text for one in spellings(_SECRET))] == []
