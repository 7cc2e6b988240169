"""One run: the two processes, the proxy between them, and what is found wrong in the end."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from tests.outside.covered import uncovered

from .peer import Report, Side, Task
from .plan import Kind, draw
from .proxy import CuttingProxy
from .traffic import total_size

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 30.0
"""Seconds without any report after which a run stands still; the longest pause of a healthy one is under one second."""
_MAY_GROW = 16 * 1024
"""KiB by which the peak of memory may grow after the first quarter: about what two full windows take."""
_SIDES: tuple[Side, Side] = ("manager", "host")


@dataclass(frozen=True, slots=True)
class Options:
    """What to run; ``messages`` go each way."""

    messages: int
    cuts: int
    transport: Literal["unix", "tcp"]
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has come to. ``early`` and ``final`` are a side's reports after a quarter of the messages, and last.

    ``seconds`` lie between the start of the manager's process and the last acknowledgement; ``stall`` says why a run
    was given up.
    """

    options: Options
    made: dict[Kind, int]
    outages: list[float]
    early: dict[Side, Report]
    final: dict[Side, Report]
    seconds: float
    stall: str

    @property
    def faults(self) -> list[str]:
        """Return what is wrong, in sentences; empty if everything held."""
        faults = [self.stall] if self.stall else []
        cuts = sum(self.made.values())
        if cuts != self.options.cuts:
            faults.append(f"only {cuts} of {self.options.cuts} cuts were made")
        for side in _SIDES:
            faults += self._faults_of(side)
        if "manager" in self.final and self.final["manager"].reconnects < cuts:
            faults.append(f"{cuts} cuts led to only {self.final['manager'].reconnects} reconnects")
        return faults

    def _faults_of(self, side: Side) -> list[str]:
        final = self.final.get(side)
        if final is None:
            return [f"the {side} reported nothing"]
        faults = [] if final.event == "over" else [f"the {side} did not come to its end"]
        if final.sent != self.options.messages:
            faults.append(f"the {side} sent {final.sent} messages instead of {self.options.messages}")
        for what in ("lost", "doubled", "misordered", "damaged"):
            if count := getattr(final, what):
                faults.append(f"at the {side}, {count} messages are {what}")
        growth = final.peak - self.early.get(side, final).peak
        if growth > _MAY_GROW:
            faults.append(f"the memory of the {side} grew by {growth} KiB after the first quarter of the messages")
        return faults


class _Child:
    """One of the two processes, and the latest it said."""

    def __init__(self, task: Task, process: asyncio.subprocess.Process) -> None:
        self.early: Report | None = None
        self.latest: Report | None = None
        self._task = task
        self._process = process

    async def until(self, *events: str) -> Report:
        """Read reports up to the first of one of ``events``.

        Raises:
            TimeoutError: If it says nothing for too long.
            EOFError: If it ended before.
        """
        assert self._process.stdout is not None
        while True:
            async with asyncio.timeout(_PATIENCE):
                line = await self._process.stdout.readline()
            if not line:
                raise EOFError(f"the {self._task.side} ended early, with status {await self._process.wait()}")
            report = msgspec.json.decode(line, type=Report)
            if report.event != "listening":
                self.latest = report
                if self.early is None and report.received >= self._task.messages / 4:
                    self.early = report
            if report.event in events:
                return report

    def stop(self) -> None:
        """Let it end in order."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"stop\n")


@asynccontextmanager
async def _child(task: Task) -> AsyncIterator[_Child]:
    """Start a peer; it has ended when this is left. Ctrl-C does not reach it: whoever started it ends it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.cuts.peer", msgspec.json.encode(task).decode()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        # Coverage measured in there, of what other tests cover, would only make it slow.
        env=uncovered(),
        start_new_session=True,
    )
    try:
        yield _Child(task, process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run(options: Options) -> Outcome:
    """Send ``options.messages`` each way over ``options.cuts`` cuts. Nothing is left running, whatever comes of it."""
    cuts = draw(options.seed, options.cuts, 2 * total_size(options.messages))
    with tempfile.TemporaryDirectory(prefix="meshvisor-cuts-") as name:
        directory = Path(name)
        listen = f"unix:{directory / 'host.sock'}" if options.transport == "unix" else "tcp:127.0.0.1:0"
        async with _child(Task("host", listen, options.messages)) as host:
            proxy = CuttingProxy((await host.until("listening")).endpoint, cuts)
            endpoint = await proxy.start(directory)
            try:
                async with _child(Task("manager", endpoint, options.messages)) as manager:
                    seconds, stall = await _exchange(manager, host)
            finally:
                await proxy.close()
    children: dict[Side, _Child] = {"manager": manager, "host": host}
    early = {side: child.early for side, child in children.items() if child.early is not None}
    final = {side: child.latest for side, child in children.items() if child.latest is not None}
    return Outcome(options, dict(proxy.made), proxy.outages, early, final, seconds, stall)


async def _exchange(manager: _Child, host: _Child) -> tuple[float, str]:
    """Wait until both have everything, and end them; return how long it took, and why it did not end, if so."""
    began = time.monotonic()
    seconds, stall = 0.0, ""
    try:
        await _both(manager.until("complete"), host.until("complete"))
        seconds = time.monotonic() - began
        manager.stop()
        host.stop()
        await _both(manager.until("over"), host.until("over"))
    except* TimeoutError:
        stall = f"nothing moved for {_PATIENCE:g} s"
    except* EOFError as ends:
        stall = "; ".join(map(str, ends.exceptions))
    return seconds or time.monotonic() - began, stall


async def _both(*waits: Coroutine[None, None, Report]) -> None:
    async with asyncio.TaskGroup() as group:
        for wait in waits:
            group.create_task(wait)
