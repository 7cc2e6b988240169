"""``supervise run``: one mesh in the foreground, with the signals, the terminal and the control socket of a process."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from typing import Protocol

from ..shared.config.model import MeshConfig
from ..shared.control.requests import Reload
from ..shared.control.urgency import ask_for_short_turns
from . import jsonlines
from .autoreload import AutoReload
from .control import ControlServer
from .event import Event
from .feed import Feed
from .jsonlines import JsonOutput
from .notify import Notifier
from .operations import Operations
from .output import Output
from .style import Look
from .supervisor import Supervisor
from .writer import Writer

_STDOUT = 1


class Display(Protocol):
    """What shows a person, or a program, how the mesh does."""

    def event(self, event: Event) -> None: ...

    def line(self, slot: str, kind: str, text: str) -> None: ...

    def note(self, text: str) -> None: ...

    def interrupted(self) -> None: ...

    def close(self) -> None: ...


def run(config: MeshConfig, *, as_json: bool = False, watch: bool = False) -> int:
    """Run ``config`` until it is over and return the exit status.

    ``as_json``: show objects, not text. ``watch``: go over to changed files as they change.

    Raises:
        SupervisorError: If the mesh cannot be started.
    """
    ask_for_short_turns(inherit=False)
    return asyncio.run(_Foreground(config, as_json=as_json, watch=watch).run())


class _Foreground:
    def __init__(self, config: MeshConfig, *, as_json: bool, watch: bool) -> None:
        self._terminals = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]
        self._writer = Writer(_STDOUT, dropped=jsonlines.dropped) if as_json else Writer(_STDOUT)
        self._output: Display = JsonOutput(self._writer.write) if as_json else _text(config, self._writer)
        self._notifier = Notifier()
        self._supervisor = Supervisor(config, adopt=True)
        self._operations = Operations(self._supervisor, self._output.note)
        self._feed = Feed()
        begin, note = self._operations.begin, self._output.note
        self._watch = AutoReload(self._supervisor, begin, note) if watch else None
        self._stops_asked = 0
        self._is_started = False

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupted, signal.SIGINT)
        loop.add_signal_handler(signal.SIGTERM, self._interrupted, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        loop.add_signal_handler(signal.SIGCHLD, self._supervisor.children_changed)
        self._supervisor.subscribe(self._output.event)
        self._supervisor.subscribe(self._notifier.event)
        self._supervisor.subscribe(self._feed.event)
        self._supervisor.subscribe_output(self._output.line)
        try:
            return await self._supervise()
        finally:
            self._output.close()
            self._writer.close()
            self._notifier.close()

    async def _supervise(self) -> int:
        await self._supervisor.start_all()
        gc.freeze()  # what is there by now stays, and a collector that looks at it again and again delays everybody
        self._is_started = True
        self._obey()
        control = ControlServer(self._supervisor, self._operations, self._feed, self._supervisor.directory)
        try:
            control.start()
            if self._watch is not None:
                self._watch.start()
            return await self._supervisor.wait()
        except BaseException:
            self._supervisor.request_kill()
            await self._supervisor.wait()
            raise
        finally:
            if self._watch is not None:
                await self._watch.close()
            await self._operations.close()
            control.close()

    def _interrupted(self, number: signal.Signals) -> None:
        self._stops_asked += 1
        if number is signal.SIGINT:
            self._output.interrupted()
        self._obey(number)

    def _hung_up(self) -> None:
        if any(not os.isatty(descriptor) for descriptor in self._terminals):
            self._stops_asked += 1
            self._obey(signal.SIGHUP)
        elif self._is_started:
            self._operations.begin(Reload(wait=False), lambda answer: None)  # what becomes of it is noted

    def _obey(self, number: signal.Signals | None = None) -> None:
        """Stop once asked, at once if asked again; what comes before the start is obeyed after it."""
        if not self._is_started or not self._stops_asked:
            return
        if self._stops_asked == 1:
            self._supervisor.request_stop(f"{number.name} (once more: at once)" if number else "as requested")
        else:
            self._supervisor.request_kill()


def _text(config: MeshConfig, writer: Writer) -> Output:
    slots = [slot for worker in config.workers for slot in worker.slots]
    encoding = sys.stdout.encoding if sys.stdout is not None else "utf-8"
    return Output(slots, Look.of(_STDOUT, encoding), writer.write)
