"""Counts words with a mesh of processes, and stays exact whatever happens to them."""

import asyncio
import collections
import os
import random
import re
import signal
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from meshvisor import CallError, LinkError, Worker, rpc

WORD = re.compile(r"[^\W\d_]+")
SKIPPED = {"__pycache__", "site-packages", "dist-packages", ".git"}
BATCH = 128 * 1024  # characters in one call, at least
AT_ONCE = 8  # calls under way

Counts = collections.Counter[str]


class Counter(Worker):
    """Counts the words of what it is given."""

    @rpc
    async def count(self, texts: list[str]) -> dict[str, int]:
        return collections.Counter(word for text in texts for word in WORD.findall(text.lower()))

    @rpc
    async def pid(self) -> int:
        return os.getpid()


class Source(Worker):
    """Reads a tree of files and has it counted."""

    async def on_start(self) -> None:
        directory = self.settings.get("directory") or os.environ.get("WORDCOUNT_DIR")
        self.root = directory or sysconfig.get_path("stdlib")
        self.files = find_texts(self.root)
        if not self.files:
            raise SystemExit(f"there are no text files in {self.root}")
        self.total: Counts = collections.Counter()
        self.done = 0
        self.shown_at = 0.0

    async def run(self) -> None:
        print(f"counting the words of {len(self.files):,} files in {self.root}")
        began = time.monotonic()
        batches = read_batches(self.files)
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self.feed(batches))
        took = time.monotonic() - began
        words = self.total.total()
        print(table(self.total.most_common(20)))
        print(f"{len(self.files):,} files, {words:,} words in {took:.2f} s: {words / took:,.0f} words/s")
        print("checking that against a single process...")
        alone = await asyncio.to_thread(count_alone, self.files)
        if alone != self.total:
            raise SystemExit(f"WRONG: a single process counts {alone.total():,} words")
        print("exact: a single process counts the same, word for word")

    async def feed(self, batches: Iterator[list[str]]) -> None:
        """Take one batch after the other; a counter that dies meanwhile is no reason to lose one, or count it twice."""
        for texts in batches:
            self.total.update(await self.call("counter", "count", texts, timeout=60, retry=True))
            self.done += len(texts)
            self.show_progress()

    def show_progress(self) -> None:
        if time.monotonic() - self.shown_at > 0.1 or self.done == len(self.files):
            self.shown_at = time.monotonic()
            share = self.done / len(self.files)
            print(f"[{'#' * int(40 * share):40}] {share:4.0%}", end="\r", flush=True)


class Gremlin(Worker):
    """Kills a random counter, again and again."""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.settings["pause"])
            victim = random.choice([peer for peer in self.peers.values() if peer.group == "counter"])
            try:
                os.kill(await self.call(victim, "pid", timeout=self.settings["pause"]), signal.SIGKILL)
            except (CallError, LinkError, ProcessLookupError):
                continue  # It is down already.


def find_texts(root: str) -> list[Path]:
    paths = (path for path in Path(root).rglob("*") if SKIPPED.isdisjoint(path.relative_to(root).parts))
    return sorted(path for path in paths if is_text(path))


def is_text(path: Path) -> bool:
    try:
        return path.is_file() and b"\0" not in path.read_bytes()
    except OSError:
        return False


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def read_batches(files: list[Path]) -> Iterator[list[str]]:
    texts: list[str] = []
    for path in files:
        texts.append(read(path))
        if sum(map(len, texts)) >= BATCH or path is files[-1]:
            yield texts
            texts = []


def count_alone(files: list[Path]) -> Counts:
    total: Counts = collections.Counter()
    for path in files:
        total.update(WORD.findall(read(path).lower()))
    return total


def table(rows: list[tuple[str, int]], columns: int = 2) -> str:
    """Lay ``rows`` out in columns, counted from the top to the bottom."""
    lines = -(-len(rows) // columns)
    cells = [f"{rank:3}  {word:16.16} {count:>9,}" for rank, (word, count) in enumerate(rows, 1)]
    return "\n".join("   ".join(cells[line::lines]) for line in range(lines))
