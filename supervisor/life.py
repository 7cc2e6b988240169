"""One incarnation of a slot: its process, and everything that belongs to it, from the order for it to its death.

A candidate lives already while its predecessor does: to the other nodes it is a spare, until it takes the place.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from dataclasses import replace
from functools import partial

from ..shared.config.model import WorkerConfig
from ..shared.control import lifeline as messages
from ..shared.core.roster import NodeStatus
from ..shared.memory.board import BoardEntry
from . import spawn
from .attendant import Attendant, Verdicts
from .child import Exit
from .confinement import Confinement
from .frames import error_of
from .identity import Identity
from .lifeline import Lifeline
from .logs import Capture, Output
from .nursery import Request
from .reaper import bury, is_dead, kill_group, read_notice, send
from .reserve import Spare, provide
from .snapshot import ExitCause
from .surroundings import MeshRun, Owner, Reported
from .traces import PATIENCE, clear_traces, read_traces, request_traces
from .usage import Usage

_LIFELINE_GRACE = 0.5  # from the end of a lifeline to the death that should follow it by itself
_REPORT_SIZE = 4096


class Life:
    """See the module. All of it runs in the event loop's thread, which is also the one that forks."""

    def __init__(
        self, run: MeshRun, identity: Identity, output: Output, owner: Owner, *, is_candidate: bool = False
    ) -> None:
        self.identity = identity
        self.traceback = ""
        self.links = messages.Links(0, 0)
        self.peak = 0  # bytes: the most memory that it was seen to have; complete when it is buried
        self._run = run
        self._output = output
        self._owner = owner
        self._is_candidate = is_candidate
        self._spare: Spare | None = None  # what the process of a candidate is to the other nodes
        self._capture: Capture | None = None
        self._began_at = run.loop.time()
        self._request: Request | None = None  # for a process that has not arrived yet
        self._process: spawn.Process | None = None
        self._lifeline: Lifeline | None = None
        self._attendant: Attendant | None = None
        self._usage: Usage | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._place = -1  # on the liveness board
        self._traces = -1  # the file that it dumps its tracebacks into
        self._reported: Reported | None = None  # who waits for a report on its links
        self._failure = ""
        self._blame = ""
        self._is_killed = False  # by us
        self._is_judged = False
        self._has_dumped = False

    # What is known of it.

    @property
    def pid(self) -> int | None:
        """Its process, while there is one."""
        return self._process.pid if self._process else None

    @property
    def pids(self) -> set[int]:
        """All processes that are ours to reap: its own, and those that look after it."""
        own = {self._process.pid} if self._process else set()
        return own | self._attendant.checks if self._attendant else own

    @property
    def trouble(self) -> str:
        """Why it is not ready, or had to end, as far as known."""
        return self._failure or self._blame or error_of(self.traceback)

    @property
    def complaint(self) -> str:
        """What it was waited for in vain."""
        return self._attendant.complaint if self._attendant else ""

    @property
    def age(self) -> float:
        """For how many seconds there has been a process, or the wish for one; 0 if there is none any more."""
        return 0.0 if self._usage is None else self._run.loop.time() - self._began_at

    @property
    def tail(self) -> list[str]:
        """The last lines that it printed."""
        return list(self._capture.tail) if self._capture is not None else []

    def measure(self) -> tuple[float, float, int]:
        """Return its age in seconds, its share of a core in percent, and its memory in bytes."""
        age = self.age
        return (0.0, 0.0, 0) if self._usage is None else (age, *self._usage.measure(age))

    def entry(self) -> BoardEntry | None:
        """Return what it says of itself on the liveness board, if it does."""
        found = self._run.tables.board.read(self._place) if self._place >= 0 else None
        return found if found is not None and found.incarnation == self.identity.incarnation else None

    def want_links(self, question: messages.LinksWanted, reported: Reported) -> bool:
        """Have a worker say how its links are; False, and nothing comes, if it owes an earlier answer still."""
        if self._lifeline is None or self._reported is not None:
            return False
        self._reported = reported
        self._lifeline.want_links(question)
        return True

    # What its slot does with it.

    def begin(self) -> None:
        """Order the process; it may be there before this returns."""
        if not self._run.hoard.restock():
            text = f"cannot start a process: {os.strerror(errno.EMFILE)}"
            self._born(spawn.SpawnError(text, is_shortage=True))
            return
        config, environment = self.identity.config, partial(self.identity.environment, self._run.mark)
        try:
            # A worker's is not asked for: a forked one has its zygote's.
            self._attendant = attendant = self._attend({} if config.command is None else environment())
        except OSError as error:
            text = f"cannot find out when it is ready: {error}"
            self._born(spawn.SpawnError(text, is_shortage=spawn.is_shortage(error)))
            return
        if config.command is None:
            title = self.identity.title + (" candidate" if self._is_candidate else "")
            request = self._run.nursery.request(config, title, environment, self._born)
            self._request = None if request.is_over else request
            return
        confinement, ready = Confinement.of(config), attendant.descriptor
        try:
            process = spawn.spawn_command(config.command, config.cwd, attendant.environment, confinement, ready=ready)
        except spawn.SpawnError as error:
            self._born(error)
        else:
            self._born(process)

    def take(self, owner: Owner) -> None:
        """Begin to be that incarnation in the place of ``owner``, which is free now."""
        spare, self._spare = self._spare, None
        assert spare is not None
        assert self._process is not None
        self._owner, self._is_candidate = owner, False
        spare.lifeline.say(messages.Begin())
        self._succeed(spare)
        if self._capture is not None:
            self._output.present(self._capture)
        owner.born(self._process.pid)

    def hand_over(self) -> None:
        """Ask it to finish what it has, and to end."""
        if self._lifeline is not None:
            self._lifeline.say(messages.HandOver())

    def reconfigure(self, config: WorkerConfig) -> None:
        """Judge it by other limits and time-outs from now on."""
        if self._attendant is not None:
            self._attendant.reconfigure(config)
        if self._is_judged:
            self._watch(config)

    def ready(self) -> None:
        """It is taken for ready: from now on it is to be well."""
        self._is_judged = True
        if self._attendant is not None:
            self._attendant.ready()
        self._watch(self.identity.config)

    def is_to_end(self) -> None:
        """Judge it no more."""
        self._is_judged = False
        if self._attendant is not None:
            self._attendant.stopping()
        self._run.lookout.unwatch(self._place)

    def dump(self) -> None:
        """Have it write where its threads are; ``traceback`` holds that when it is dead."""
        if self._process is not None and self._traces >= 0:
            clear_traces(self._traces)
            request_traces(self._process.pidfd)
            self._has_dumped = True

    async def traces(self) -> str:
        """Return where the threads of a worker are now; empty if it is none, or not ready."""
        if not self._is_judged or self._traces < 0:
            return ""
        self.dump()
        await asyncio.sleep(PATIENCE)
        return read_traces(self._traces) if self._traces >= 0 else ""

    def ask(self, stop_signal: str) -> None:
        """Ask it to end: a command by ``stop_signal``, a worker by the signal that was configured when it started."""
        if self._do_without() or self._process is None:
            return
        if self._lifeline is not None:
            self._lifeline.stop()
            stop_signal = self.identity.config.stop_signal
        send(self._process.pidfd, signal.Signals[stop_signal])

    def kill(self) -> None:
        """Kill it with its process group."""
        if not self._do_without() and self._process is not None:
            self._is_killed = True
            kill_group(self._process.pid)

    def blame(self, reason: str) -> None:
        """Remember why it has to end, and how large it was then."""
        self._blame = self._blame or reason
        self.measure()

    # Its birth.

    def _attend(self, environment: dict[str, str]) -> Attendant:
        run, identity = self._run, self.identity
        verdicts = Verdicts(self._became_ready, self._condemned, self._retired)
        file = run.directory.path / f"{identity.slot}.{identity.incarnation}.notify"
        return Attendant(run.loop, identity.config, environment, file, run.memory, verdicts)

    def _born(self, result: spawn.Process | spawn.SpawnError) -> None:
        self._request = None
        if isinstance(result, spawn.SpawnError):
            self._never_born(str(result), is_shortage=result.is_shortage)
            return
        self._process = process = result
        if self._is_candidate:
            self._lifeline = self._try_out(process)
        elif process.spare is not None:
            self._lifeline = self._name(process, process.spare)
            self._run.loop.call_soon(self._settle)  # all else comes after what there is to say of the death before
            return
        elif process.lifeline is not None:
            self._lifeline = self._open_lifeline(process.lifeline)
        self._settle()

    def _settle(self) -> None:
        """Watch the process, and listen to what it prints. Again: no effect."""
        process = self._process
        if process is None or self._usage is not None:
            return
        if self._run.guard is not None:
            self._run.guard.record(process.pid)
        self._usage = Usage(process.pid)
        self._run.loop.add_reader(process.pidfd, self._died)
        assert self._attendant is not None
        attach = self._output.capture if self._is_candidate else self._output.attach
        self._capture = attach(process.stdout, process.stderr, self.identity.incarnation, self._attendant.printed)
        self._attendant.begin(process.pid)
        if process.report is not None:
            self._run.loop.add_reader(process.report, self._executed)
        self._owner.born(process.pid)

    def _never_born(self, reason: str, *, is_shortage: bool = False) -> None:
        if is_shortage:
            self._run.hoard.spend()
        self._failure = reason
        self._dismiss()
        if not self._is_candidate:
            self._output.begin()
        # Through the loop: however often a start fails, a request to stop gets in between (OTP does the same).
        self._run.loop.call_soon(self._ended, Exit(failure=reason, is_shortage=is_shortage))

    def _do_without(self) -> bool:
        """Want no more the process that has not arrived yet, if that is how it is."""
        if self._request is None:
            return False
        self._request.cancel()
        self._request = None
        self._never_born("its process was not made in time")
        return True

    def _open_lifeline(self, sock: socket.socket) -> Lifeline:
        run = self._run
        belongings = provide(run.tables, run.lookout)
        self._place, self._traces = belongings.place, belongings.traces
        descriptors = belongings.descriptors
        lifeline = Lifeline(run.loop, sock, self._heard, self._lifeline_ended)
        assignment = self.identity.assignment(
            run.directory.path, run.secret, run.herald.records, descriptors, place=max(self._place, 0)
        )
        lifeline.assign(assignment, tuple(descriptors.values()))
        run.herald.enroll(lifeline)
        return lifeline

    def _name(self, process: spawn.Process, spare: Spare) -> Lifeline:
        """Have a spare be this incarnation: it keeps its links, and others learn whose they are from the roster."""
        process.spare = None
        self._run.herald.hush()
        self._assign(spare)
        self._succeed(spare)
        return spare.lifeline

    def _try_out(self, process: spawn.Process) -> Lifeline:
        """Have a process, which becomes a spare if it is none, prepare itself to be this incarnation."""
        if process.spare is None:
            self._run.reserve.enlist(process)
        self._spare, process.spare = process.spare, None
        assert self._spare is not None
        self._assign(self._spare)
        return self._spare.lifeline

    def _assign(self, spare: Spare) -> None:
        run = self._run
        self.identity = replace(self.identity, epoch=spare.epoch, socket_name=spare.socket_name)
        spare.lifeline.pass_on(self._heard, self._lifeline_ended)
        assignment = self.identity.assignment(
            run.directory.path,
            run.secret,
            (),
            place=max(spare.belongings.place, 0),
            is_candidate=self._is_candidate,
        )
        spare.lifeline.assign(assignment)

    def _succeed(self, spare: Spare) -> None:
        """Have everybody know that what was a spare is this incarnation."""
        self._place, self._traces = spare.belongings.place, spare.belongings.traces
        self._owner.recognised(self.identity)
        if spare.endpoints:
            self._owner.listening(spare.endpoints)
        spare.announce(NodeStatus.REMOVED)

    # What others find out about it. Its owner may be another one by then.

    def _became_ready(self) -> None:
        self._owner.became_ready()

    def _condemned(self, fault: ExitCause | None, reason: str) -> None:
        self._owner.condemned(fault, reason)

    def _retired(self, reason: str) -> None:
        self._owner.retired(reason)

    def _ended(self, exit: Exit) -> None:
        self._owner.ended(exit)

    def _watch(self, config: WorkerConfig) -> None:
        if self._place >= 0:
            self._run.lookout.watch(self._place, self.identity.incarnation, config, self)

    def is_late(self, late: bool) -> None:
        """See ``Watched.is_late``."""
        self._owner.is_late(late)

    def is_frozen(self, evidence: str) -> None:
        """See ``Watched.is_frozen``; without a ``hang_timeout`` that is somebody's own wish."""
        if self.identity.config.hang_timeout is not None:
            self._owner.condemned(ExitCause.FROZEN, evidence)

    def hangs(self, evidence: str) -> None:
        """See ``Watched.hangs``."""
        self._owner.hangs(evidence)

    # What it says and does.

    def _heard(self, message: messages.FromWorker) -> None:
        if isinstance(message, messages.Links):
            self.links = message
        elif isinstance(message, messages.Failure):
            self.traceback = message.traceback
        elif isinstance(message, messages.LinkReport):
            reported, self._reported = self._reported, None
            if reported is not None:  # else nobody has asked
                reported(message)
        elif isinstance(message, messages.Listening) and self._spare is not None:
            self._spare.heard(message)
        elif isinstance(message, messages.Listening):
            self._run.herald.speak()
            self._owner.listening(message.endpoints)
        elif isinstance(message, messages.Prepared):
            self._owner.prepared()
        else:
            self._owner.became_ready()

    def _lifeline_ended(self, reason: str, garbled: bool) -> None:
        if garbled:
            self._condemned(None, reason)
            return
        self._died()  # as a rule it has: the kernel tells of the lifeline first
        if self._process is not None:
            self._grace = self._run.loop.call_later(_LIFELINE_GRACE, self._condemned, None, reason)

    def _executed(self) -> None:
        """Hear from a command's launcher: it ended its report by becoming the command, or says why it could not."""
        if self._process is None or self._process.report is None:
            return
        try:
            report = os.read(self._process.report, _REPORT_SIZE)
        except BlockingIOError:
            return
        self._close_report()
        self._failure = report.decode(errors="replace")
        if not report and self._attendant is not None:
            self._attendant.executed()

    def _close_report(self) -> None:
        process = self._process
        if process is not None and process.report is not None:
            self._run.loop.remove_reader(process.report)
            os.close(process.report)
            process.report = None

    # Its death.

    def _died(self) -> None:
        """Take its last words, have its owner do what follows from its death, and bury it then."""
        process, run = self._process, self._run
        if process is None or not is_dead(process.pidfd) or not run.deaths.lets_in():
            return
        self._settle()
        exit = read_notice(process.pid, process.pidfd) or Exit()
        self._dismiss()  # before its last words are read: a dead process does not become ready
        self._executed()
        self._close_report()  # its launcher was killed, and something still holds the other end
        if self._lifeline is not None:
            self._lifeline.drain()
        if self._capture is not None:
            self._capture.drain()
        if self._has_dumped and not self.traceback:
            self.traceback = read_traces(self._traces)
        is_oom = run.oom.explains(exit if not self._is_killed else Exit())
        exit = replace(exit, failure=exit.failure or self._failure, oom=is_oom)
        self._process = None
        self._ended(exit)
        self._bury(process)

    def _bury(self, process: spawn.Process) -> None:
        """Release what it had; it is a zombie until the end of this, so that nobody else can have its number."""
        run, lifeline = self._run, self._lifeline
        run.loop.remove_reader(process.pidfd)
        os.close(process.pidfd)
        if lifeline is not None:
            run.herald.dismiss(lifeline)
            lifeline.close()
        if self._spare is not None:
            self._spare.close()
        if self._place >= 0:
            run.lookout.give_back(self._place)
        if self._traces >= 0:
            os.close(self._traces)
        if run.guard is not None:
            run.guard.forget(process.pid)
        seen = max(self._usage.rss if self._usage else 0, self._attendant.rss if self._attendant else 0)
        self.peak = bury(process.pid) or seen
        self._place = self._traces = -1
        self._lifeline = self._usage = None
        # The name that a candidate was to have is that of another one by now; its process group is its own.
        name = ("", 0) if self._is_candidate else (self.identity.slot, self.identity.incarnation)
        run.buried(*name, process.pid)

    def _dismiss(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
        if self._attendant is not None:
            self._attendant.ended()
