"""``supervise init``: a mesh.toml and a worker that run as they are, to begin with."""

from __future__ import annotations

import re
from pathlib import Path

from ..shared.errors import SupervisorError

_MESH = """\
# A mesh of two kinds of workers. Start it:   supervise run {file}
# Meanwhile, in another terminal:             supervise status -f {file}

[mesh]
name = "{name}"                  # what status and shutdown call it

[supervisor]
max_restarts = 5                 # more than 5 crashes ...
max_restarts_window = "10s"      # ... within 10 seconds ...
on_limit = "stop"                # ... stop the mesh; "park": put that slot aside and keep the rest running
# strategy = "one_for_all"       # who is restarted with a worker that crashed: by default nobody else

[workers.cook]
class = "{module}:Cook"          # module:Class, looked for beside this file
replicas = 3                     # the slots cook-0, cook-1 and cook-2
hang_timeout = "1s"              # a cook whose event loop stands still for so long is killed and replaced
max_memory = "512MiB"            # so is one that grows beyond this

[workers.waiter]
class = "{module}:Waiter"
depends_on = ["cook"]            # starts when the cooks are ready
significant = true               # when it has ended well, the mesh ends
settings = {{ orders = 12 }}       # the worker's self.settings

# Any command can be a worker, too:
# [workers.web]
# command = ["python3", "-m", "http.server", "8080"]
# ready = {{ tcp = "127.0.0.1:8080" }}                                   # when it counts as started
# health = {{ http = "http://127.0.0.1:8080/", period = "5s", failures = 3 }}    # and how one sees that it is well
"""

_WORKER = '''\
"""A kitchen: a waiter takes orders to three cooks, one of whom does not survive the seventh."""

import asyncio
import os
import signal

from meshvisor import Worker, rpc


class Waiter(Worker):
    """Has no on_message or @rpc methods: it only does its own work, in run."""

    async def run(self) -> None:
        for order in range(1, self.settings["orders"] + 1):
            # "cook" is a group of three. The key decides which of them gets the order; retry=True: if that one dies
            # over it, its next incarnation gets the order again.
            dish = await self.call("cook", "prepare", order, key=str(order), retry=True)
            print(f"order {order}: {dish}")
            await asyncio.sleep(0.4)
        await self.broadcast(b"we are closing")


class Cook(Worker):
    @rpc
    async def prepare(self, order: int) -> str:
        if order == 7 and self.incarnation == 1:
            print("something is burning ...")
            os.kill(os.getpid(), signal.SIGKILL)  # the hardest of crashes: see how the mesh takes it
        await asyncio.sleep(0.2)
        return f"from {self.name}, incarnation {self.incarnation}, process {os.getpid()}"

    async def on_message(self, message) -> None:
        print(f"{message.sender} says: {message.body.decode()}")
'''


def write_example(target: Path) -> tuple[Path, Path]:
    """Write the two files of an example and return their paths. ``target`` is the mesh file, or its folder.

    Raises:
        SupervisorError: If one of them is there already (nothing is written then), or cannot be written.
    """
    mesh = target if target.suffix == ".toml" else target / "mesh.toml"
    worker = mesh.with_name("kitchen.py")
    for file in (mesh, worker):
        if file.exists() or file.is_symlink():
            raise SupervisorError(f"{file} exists, and is not overwritten; nothing was written")
    text = _MESH.format(file=mesh.name, name=_mesh_name(mesh), module=worker.stem)
    try:
        mesh.parent.mkdir(parents=True, exist_ok=True)
        _write_new(worker, _WORKER)
        _write_new(mesh, text)
    except OSError as error:
        raise SupervisorError(f"cannot write {error.filename or mesh}: {error.strerror}") from None
    return mesh, worker


def _write_new(file: Path, text: str) -> None:
    with open(file, "x", encoding="utf-8") as stream:
        stream.write(text)


def _mesh_name(mesh: Path) -> str:
    """Return a name made of the folder's: two meshes of one user need two names."""
    folder = re.sub(r"[^a-z0-9_-]+", "-", mesh.absolute().parent.name.lower()).strip("-_0123456789")
    return folder[:63] or "kitchen"
