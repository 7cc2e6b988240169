"""Draw the two pictures of ``supervise top`` in the README: ``python .github/pictures.py`` (half a minute).

One mesh runs in good health, and the same one under fire: a slot is killed now and then, one hangs, one leaks, one
does not find its database.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from meshvisor.supervisor.client import Client
from meshvisor.supervisor.top.facts import Observer
from meshvisor.supervisor.top.marks import Marks
from meshvisor.supervisor.top.matrix import matrix_of
from meshvisor.supervisor.top.past import Past
from meshvisor.supervisor.top.picture import View, picture, scrolled

WIDTH = 100
HERE = Path(__file__).parent
THEME = TerminalTheme(
    (22, 27, 34),
    (201, 209, 217),
    [
        (72, 79, 88),
        (255, 123, 114),
        (86, 185, 104),
        (210, 170, 80),
        (108, 164, 248),
        (188, 140, 255),
        (57, 197, 207),
        (177, 186, 196),
    ],
)  # GitHub's dark colours

WORKERS = """
import asyncio, os, random, signal, time
from meshvisor import Worker, rpc


class Orders(Worker):
    @rpc
    async def place(self, item: str) -> int:
        await self.send("mailer", item.encode())
        return await self.call("payments", "charge", len(item), retry=True, timeout=5)


class Payments(Worker):
    async def run(self):
        if self.settings.get("hangs") and self.name == "payments-1":
            await asyncio.sleep(6)
            time.sleep(60)
        await asyncio.Event().wait()

    @rpc
    async def charge(self, amount: int) -> int:
        return amount


class Mailer(Worker):
    async def on_message(self, message):
        pass

    async def run(self):
        heap = []
        while self.settings.get("leaks"):
            heap.append(bytearray(5 << 20))
            await asyncio.sleep(0.25)
        await asyncio.Event().wait()


class Gateway(Worker):
    async def run(self):
        while True:
            await asyncio.gather(*(self.order() for _ in range(20)))
            await asyncio.sleep(0.05)

    async def order(self):
        try:
            await self.call("orders", "place", "a book", retry=True, timeout=5)
        except Exception:
            await asyncio.sleep(0.1)


class Gremlin(Worker):
    async def run(self):
        while True:
            await asyncio.sleep(random.uniform(2, 4))
            name = random.choice(["orders-0", "orders-1", "orders-2"])
            os.kill(await self.call(name, "pid"), signal.SIGKILL)


class Mortal(Orders):
    @rpc
    async def pid(self) -> int:
        return os.getpid()
"""

MESH = """
[mesh]
name = "shop"
[supervisor]
max_restarts = 100
[workers.gateway]
class = "shop:Gateway"
depends_on = ["orders", "mailer"]
[workers.orders]
class = "shop:Mortal"
replicas = 3
depends_on = ["payments"]
[workers.payments]
class = "shop:Payments"
replicas = 3
[workers.mailer]
class = "shop:Mailer"
[workers.cache]
command = ["sleep", "1000"]
"""

FIRE = """
[workers.gremlin]
class = "shop:Gremlin"
[workers.report]
command = ["sh", "-c", "sleep 1; echo 'no database at 127.0.0.1:5432' >&2; exit 1"]
"""


def draw(mesh: str, seconds: float, file: Path, selected: str, height: int) -> None:
    """Run ``mesh`` for so long, and draw what ``supervise top`` shows of it then."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "shop.py").write_text(WORKERS)
        (Path(folder) / "mesh.toml").write_text(mesh)
        environment = {**os.environ, "MESHVISOR_RUNTIME_DIR": f"{folder}/run"}
        command = [sys.executable, "-m", "meshvisor.supervisor", "run"]
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as run:
            try:
                time.sleep(seconds)
                save(Path(folder), file, selected, height)
            finally:
                run.terminate()


def save(folder: Path, file: Path, selected: str, height: int) -> None:
    """Look twice, a second apart, and write the picture."""
    observer, past = Observer("shop"), Past(folder / ".meshvisor")
    with Client(folder / "run", "shop") as client:
        client.status()
        observer.links(client.links())
        time.sleep(1.0)
        links = client.links()
        observer.links(links)
        observer.status(client.status(), time.monotonic())
    observer.incidents(past.more())
    past.close()
    facts, matrix = observer.facts(time.monotonic(), time.time()), matrix_of(links)
    view = scrolled(facts, View(selected), WIDTH, height, matrix, Marks())
    console = Console(
        record=True, width=WIDTH, height=height, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    for line in picture(facts, matrix, view, Marks(), WIDTH, height):
        console.print(line, highlight=False)
    file.write_text(console.export_svg(title="supervise top", theme=THEME))


if __name__ == "__main__":
    draw(MESH, 6.0, HERE / "top.svg", "orders-1", 26)
    fire = MESH.replace('"shop:Payments"', '"shop:Payments"\nsettings = { hangs = true }')
    fire = fire.replace('"shop:Mailer"', '"shop:Mailer"\nsettings = { leaks = true }\nmemory_soft = "128MiB"')
    draw(fire + FIRE, 24.0, HERE / "top-under-fire.svg", "payments-1", 34)
