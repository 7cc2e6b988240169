"""Whether a command that is ready stays well: asked again and again, one question at a time.

Only from ``start`` (the command is ready) until ``cancel`` (it is to stop, or has ended). Each ``period`` one check
begins, and has until the next one to succeed. ``failures`` in a row, and ``unhealthy`` is called, once, with what was
wrong; then it is over. A check that we lack the means for neither fails nor succeeds: a command that is well must not
die of our having no descriptor left.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from ..shared.config.model import Health
from . import spawn
from .confinement import UNCONFINED, Confinement
from .event import duration
from .probes import NotAsked, probe_http, probe_tcp
from .reaper import kill_group, reap

Check = Callable[[], Awaitable[str]]
"""One look: what is wrong, as half a sentence, or nothing. It is cancelled at its deadline; it may raise NotAsked."""
_REPORT_SIZE = 4096


class HealthCheck:
    """The checks of one incarnation of a slot."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        health: Health,
        check: Check,
        unhealthy: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._health = health
        self._check = check
        self._unhealthy = unhealthy
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with the first check a period from now."""
        if self._task is None:
            self._task = self._loop.create_task(self._watch(), name="meshvisor-health")

    def cancel(self) -> None:
        """Ask no more; a check that is going on is ended."""
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        period, most = self._health.period, self._health.failures
        failures, due, trouble = 0, self._loop.time(), ""
        while failures < most:
            due = max(due + period, self._loop.time())  # one that took its whole period delays, and skips, the next
            await asyncio.sleep(due - self._loop.time())
            with suppress(NotAsked):
                trouble = await self._look()
                failures = failures + 1 if trouble else 0
        times = f"{most} times in a row" if most > 1 else "once"
        self._unhealthy(f"its health check failed {times}: {trouble}")

    async def _look(self) -> str:
        try:
            async with asyncio.timeout(self._health.period):
                return await self._check()
        except TimeoutError:
            return f"no answer within {duration(self._health.period)}"


def check_of(
    health: Health,
    cwd: Path,
    environment: Mapping[str, str],
    confinement: Confinement = UNCONFINED,
    running: set[int] | None = None,
) -> Check:
    """Return the check that ``health`` names; a command of it runs as the one that it looks after does.

    The process of a check is in ``running`` while there is one, for whoever reaps strangers.
    """
    if health.tcp is not None:
        return partial(probe_tcp, health.tcp)
    if health.http is not None:
        return partial(probe_http, health.http)
    return partial(probe_exec, health.exec or (), cwd, environment, confinement, running)


async def probe_exec(
    command: tuple[str, ...],
    cwd: Path,
    environment: Mapping[str, str],
    confinement: Confinement = UNCONFINED,
    running: set[int] | None = None,
) -> str:
    """Run ``command`` to its end; it must end with 0. Cancelled, it is killed with all that it has started.

    Raises:
        NotAsked: If there can be no process more.
    """
    try:
        process = spawn.spawn_command(command, cwd, environment, confinement, is_quiet=True)
    except spawn.SpawnError as error:
        if error.is_shortage:
            raise NotAsked(str(error)) from error
        return str(error)
    pids = running if running is not None else set()
    pids.add(process.pid)
    loop = asyncio.get_running_loop()
    is_dead = asyncio.Event()
    loop.add_reader(process.pidfd, is_dead.set)
    try:
        await is_dead.wait()
    except asyncio.CancelledError:
        kill_group(process.pid)
        await is_dead.wait()  # so that there is never a second check beside one that cannot die yet
        raise
    finally:
        loop.remove_reader(process.pidfd)
        exit, report = reap(process.pid, process.pidfd), _report(process)
        if exit is None:  # cancelled twice, and still dying
            loop.add_reader(process.pidfd, _bury, loop, process)
        else:
            os.close(process.pidfd)
        pids.discard(process.pid)
    if report:
        return report
    if exit is None or exit.code == 0 or exit.failure:  # of one that was reaped by somebody else nothing is known
        return ""
    return f"{command[0]!r} " + (f"was ended by {exit.signal}" if exit.signal else f"ended with status {exit.code}")


def _report(process: spawn.Process) -> str:
    """Return what the launcher of a check had to say."""
    report = b""
    if process.report is not None:
        with suppress(BlockingIOError):
            report = os.read(process.report, _REPORT_SIZE)
        os.close(process.report)
    return report.decode(errors="replace")


def _bury(loop: asyncio.AbstractEventLoop, process: spawn.Process) -> None:
    if reap(process.pid, process.pidfd) is not None:
        loop.remove_reader(process.pidfd)
        os.close(process.pidfd)
