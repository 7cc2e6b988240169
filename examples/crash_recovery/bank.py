"""A bank in pieces: what its processes promise each other survives the death of any of them, at any moment.

A transfer is taken from one account and given to another, which may live in another process. Whoever dies on the way:
no money must be lost or made. So each bank writes down what it does before it says so, knows every transfer by its
number, and goes on delivering what it owes until the other side has confirmed it.
"""

import asyncio
import itertools
import json
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

from meshvisor import CallError, LinkError, PeerLeft, PeerLost, Worker, rpc

ACCOUNTS = [f"account-{number}" for number in range(40)]
DEPOSIT = 1000  # in each of them at first
BANKS, TELLERS = [f"bank-{number}" for number in range(4)], ["teller-0", "teller-1"]


def folder() -> Path:
    return Path(tempfile.gettempdir()) / f"meshvisor-bank-{os.getppid()}"  # a new one for each run


class Mortal(Worker):
    @rpc
    async def pid(self) -> int:
        return os.getpid()


class Bank(Mortal):
    """Keeps the accounts whose keys lead to it."""

    async def on_start(self) -> None:
        self.change = 0  # of the sum of its accounts, against the deposits
        self.balances: dict[str, int] = {}
        self.known: set[tuple[str, str]] = set()  # what was done already: "out" or "in", number
        self.owed: dict[str, tuple[str, int]] = {}  # what has left here and has not arrived
        self.is_owing = asyncio.Event()
        folder().mkdir(mode=0o700, exist_ok=True)
        # No buffer: a line that was written is there for the next life, however this one ends.
        self.journal = open(folder() / self.name, "a+b", buffering=0)  # noqa: ASYNC230, SIM115
        self.journal.seek(0)
        for line in self.journal:
            self.apply(*json.loads(line))

    def write(self, what: str, number: str, account: str = "", amount: int = 0, target: str = "") -> None:
        entry = (what, number, account, amount, target)
        if (what, number) not in self.known:  # else an earlier life has done it, and could not say so
            self.journal.write(json.dumps(entry).encode() + b"\n")
            self.apply(*entry)

    def apply(self, what: str, number: str, account: str, amount: int, target: str) -> None:
        self.known.add((what, number))
        if what == "paid":
            del self.owed[number]
        else:
            self.change += amount
            self.balances[account] = self.balances.get(account, DEPOSIT) + amount
        if what == "out":
            self.owed[number] = (target, -amount)
            self.is_owing.set()

    @rpc
    async def transfer(self, number: str, source: str, target: str, amount: int) -> None:
        if self.balances.get(source, DEPOSIT) >= amount:
            self.write("out", number, source, -amount, target)

    @rpc
    async def receive(self, number: str, account: str, amount: int) -> None:
        self.write("in", number, account, amount)

    @rpc
    async def books(self) -> tuple[int, int]:
        return self.change, len(self.owed)

    async def run(self) -> None:
        while await self.is_owing.wait():
            self.is_owing.clear()
            for number, (target, amount) in list(self.owed.items()):
                await self.call("bank", "receive", number, target, amount, key=target, retry=True)
                self.write("paid", number)


class Teller(Mortal):
    """Transfers money between random accounts, while it is open."""

    async def on_start(self) -> None:
        self.done, self.is_open = 0, asyncio.Event()
        self.desk = asyncio.Lock()
        self.is_open.set()

    @rpc
    async def open(self, is_open: bool) -> int:
        async with self.desk:
            (self.is_open.set if is_open else self.is_open.clear)()
        return self.done

    async def run(self) -> None:
        while await self.is_open.wait():
            async with self.desk:
                source, target = random.sample(ACCOUNTS, 2)
                number, amount = f"{self.name}.{self.incarnation}.{self.done}", random.randint(1, 300)
                await self.call("bank", "transfer", number, source, target, amount, key=source, retry=True)
                self.done += 1
            await asyncio.sleep(0.01)


class Gremlin(Worker):
    """Kills or freezes whoever it likes, again and again."""

    @rpc
    async def leave(self) -> None:
        self.stop()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.settings["pause"])
            victim = random.choice(BANKS + TELLERS)
            try:
                pid = await self.call(victim, "pid", timeout=self.settings["pause"])
                os.kill(pid, random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP]))
            except (CallError, LinkError, ProcessLookupError):
                continue  # it is down already


class Auditor(Worker):
    """Has nothing under way once a second, and adds everything up."""

    async def on_start(self) -> None:
        self.died: dict[str, float] = {}
        self.took: list[float] = []  # milliseconds from a death to the link with the next life
        self.deaths = 0

    async def on_peer_down(self, peer: str, reason: PeerLost | PeerLeft) -> None:
        self.died[peer] = time.monotonic()
        self.deaths += 1

    async def on_peer_up(self, peer: str) -> None:
        if peer in self.died:
            self.took.append(1000 * (time.monotonic() - self.died.pop(peer)))

    async def run(self) -> None:
        began, seconds = time.monotonic(), float(os.environ.get("BANK_SECONDS", "10"))
        print("  time   deaths   back   in all accounts")
        while (now := time.monotonic() - began) < seconds:
            await asyncio.sleep(min(1.0, seconds - now))
            change = await self.audit()
            verdict = "WRONG" if change else "exact"
            total = len(ACCOUNTS) * DEPOSIT + change
            print(f"{time.monotonic() - began:4.0f} s {self.deaths:8} {len(self.took):6}   {total:,}: {verdict}")
            if change:
                raise SystemExit(1)
        await self.call("gremlin", "leave")
        await self.audit()  # whoever it has killed last is back when that has been answered
        print(plot(self.took))
        print(f"{self.deaths} processes have died, and not a penny is missing")
        shutil.rmtree(folder(), ignore_errors=True)

    async def audit(self) -> int:
        """Return by how much the sum of all accounts differs from what it must be."""
        for teller in TELLERS:
            await self.call(teller, "open", False, retry=True)
        while True:
            books = [await self.call(bank, "books", retry=True) for bank in BANKS]
            if not any(owed for _, owed in books):
                break
            await asyncio.sleep(0.005)
        for teller in TELLERS:
            await self.call(teller, "open", True, retry=True)
        return sum(change for change, _ in books)


def plot(took: list[float], width: int = 40) -> str:
    """Draw how many recoveries took how long."""
    edges = [0, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000]
    ranges = list(itertools.pairwise(edges))
    counts = [sum(low <= each < high for each in took) for low, high in ranges]
    lines = ["from the news of a death to the link with the next life:"]
    for (low, high), count in zip(ranges, counts, strict=True):
        if count:
            lines.append(f"{low:5} - {high:3} ms  {'#' * max(1, round(width * count / max(counts))):{width}}  {count}")
    return "\n".join(lines)
