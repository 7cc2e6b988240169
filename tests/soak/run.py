"""Soaks a mesh: rounds of faults that fall on each other, each followed by a calm in which all must be well again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.kills.checks import Watch
from tests.outside import proc
from tests.outside.mesh import Report, Stuck

from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.client import Client

from .application import TIMEOUT
from .causes import Causes
from .churn import LONGEST
from .disk import small_disk
from .faults import Hurting
from .figures import sample
from .growth import Sample, Trend, trends
from .ledger import Faults, Ledger
from .mesh import BASE, COMMANDS, DEPENDANTS, HUB, MOST_FILES, NODES, PENALTY, SoakMesh, group_of, sections
from .plan import Fault, Kind, Round, draw

_WHOLE = 30.0
"""Seconds in which the mesh must be whole once nothing is done to it any more."""
_TOLD = 15.0
"""Seconds in which the incident of a fault must be there, and what was accepted be delivered."""
_OPERATED = 60.0
_DEATH = 1.0
"""Seconds after which nothing may be left of a mesh whose supervisor is gone."""
_END = 30.0
_GLANCE = 0.05
_SLACK = 3.0
"""Seconds by which a call may overrun its time-out on a busy machine."""
_LAST_WORDS = 0.5
"""Seconds in which the living have said what became of their messages to the dead."""
_MOST_FIGURES = 20_000
_ROUND = 9.0
"""Seconds that a round takes, about."""
_FIRST = 0.4
"""Share of the time that the first supervisor lives: long enough to see what grows."""
_WINDOW = 8192
_MOST_TROUBLES = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What to run: for how many seconds, drawn from which seed."""

    seconds: float
    seed: int = 0
    keep: bool = False


@dataclass(slots=True)
class Outcome:
    """What has become of it. Durations in seconds; ``recoveries`` are those from a fault to the next life's ``run``."""

    options: Options
    folder: Path
    faults: Faults = field(default_factory=Faults)
    checks: Counter[int] = field(default_factory=Counter)
    done: Counter[Kind] = field(default_factory=Counter)
    skipped: Counter[Kind] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    unsent: Counter[str] = field(default_factory=Counter)
    recoveries: dict[str, deque[float]] = field(default_factory=dict)
    explained: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    trends: list[Trend] = field(default_factory=list)
    accepted: int = 0
    delivered: int = 0
    reported: int = 0
    tails: int = 0
    rounds: int = 0
    lives: int = 0
    ticks: int = 0
    reconnects: int = 0
    lost_logs: int = 0
    seconds: float = 0.0
    has_disk: bool = False
    is_interrupted: bool = False

    def took(self, what: str, seconds: float) -> None:
        """Keep a duration."""
        self.recoveries.setdefault(what, deque(maxlen=_MOST_FIGURES)).append(seconds)


def run(options: Options) -> Outcome:
    """Soak a mesh; nothing is left running, and its folder is kept if anything was wrong."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    outcome = Outcome(options, folder)
    try:
        with small_disk(folder / "log") as disk:
            outcome.has_disk = disk is not None
            soak = _Soak(outcome, disk)
            try:
                soak.run()
            finally:
                soak.close()
                if disk is not None:  # which is gone with this process
                    shutil.copytree(disk, folder / "logs", ignore=shutil.ignore_patterns("ballast"))
    except BaseException:
        if not options.keep:
            shutil.rmtree(folder)
        raise
    if not outcome.faults.count and not options.keep:
        shutil.rmtree(folder)
    return outcome


class _Soak:
    """One mesh under fire, and whoever looks at it."""

    def __init__(self, outcome: Outcome, disk: Path | None) -> None:
        self.outcome = outcome
        self.faults = outcome.faults
        self.checks = outcome.checks
        self.rng = random.Random(f"soak {outcome.options.seed}")
        self.version = 0
        self.transport = "unix"
        folder = outcome.folder
        self.mesh = SoakMesh(folder, f"soak-{os.getpid()}", sections(folder, self.transport, outcome.options.seed, 0))
        self.mesh.on_words = self.take_words
        self.mesh.on_line = self.take_line
        self.mesh.on_report = self.take_report
        self.ledger = Ledger(self.faults, self.checks)
        self.causes = Causes(self.faults, self.checks, lambda kind, took: outcome.took(f"incident: {kind}", took))
        self.hurting = Hurting(self.mesh, self.causes, self.faults, self.reconfigure, disk)
        self.watch = Watch(proc.identity)
        self.samples: list[Sample] = []
        self.hub_tasks = 0
        self.ticked: dict[str, float] = {}
        self.calm_since = float("inf")
        self.ready: dict[str, int] = {}
        self.stops: dict[str, int] = {}
        self.stopping_since = 0.0
        self.troubles = 0
        self.is_living = False
        self.trace = open(folder / "faults.log", "w", buffering=1)  # noqa: SIM115
        self.faults.told = lambda text: self.say(f"WRONG {text}")

    def close(self) -> None:
        """End everything."""
        self.hurting.close()
        self.mesh.__exit__(None, None, None)
        self.mesh.close()
        self.trace.close()

    def say(self, text: str) -> None:
        """Write a line into ``faults.log``."""
        self.trace.write(f"{time.monotonic():.3f} {text}\n")

    # The run.

    def run(self) -> None:
        outcome = self.outcome
        begun = time.monotonic()
        end = begun + outcome.options.seconds
        first = max(3, round(outcome.options.seconds * _FIRST / _ROUND))
        try:
            self.begin()
            for each in draw(outcome.options.seed, first):
                self.round(each)
                if time.monotonic() > end or self.troubles >= _MOST_TROUBLES:
                    break
            self.end_life(Kind.SUPERVISOR_RESTART)
        except Stuck as stuck:
            self.faults.add(f"12: {stuck}")
        except KeyboardInterrupt:
            outcome.is_interrupted = True
        outcome.seconds = time.monotonic() - begun
        self.sum_up()

    def sum_up(self) -> None:
        """Put all figures into the outcome."""
        outcome, ledger = self.outcome, self.ledger
        outcome.done, outcome.skipped = self.hurting.done, self.hurting.skipped
        outcome.operations = self.hurting.operations
        outcome.explained = Counter({str(cause): number for cause, number in self.causes.explained.items()})
        outcome.excused = self.causes.excused
        outcome.accepted, outcome.delivered = ledger.accepted, ledger.delivered
        outcome.reported, outcome.tails = ledger.reported, ledger.tails
        outcome.trends = outcome.trends or trends(self.samples)
        for trend in outcome.trends:
            self.checks[7] += 1
            if trend.is_growing:
                self.faults.add(f"7: {trend.name} grows: from {trend.first:,.0f} to {trend.last:,.0f}")

    def round(self, each: Round) -> None:
        """Inflict the faults of a round, and see to it that all is well afterwards."""
        self.outcome.rounds += 1
        self.say(f"round {self.outcome.rounds}: {len(each.faults)} faults")
        self.calm_since = float("inf")
        for fault in each.faults:
            self.mesh.rest(fault.after)
            self.inflict(fault)
        try:
            self.settle()
            self.stay(each.calm)
        except Stuck as stuck:
            self.faults.add(f"12: {stuck}")
            self.troubles += 1
            self.end_life(Kind.SUPERVISOR_KILL, is_drawn=False)
            self.settle()

    def inflict(self, fault: Fault) -> None:
        """Bring a fault about, and look at what may not be at any moment."""
        self.say(f"{fault.kind} ({fault.dice:.3f})")
        if fault.kind in (Kind.SUPERVISOR_KILL, Kind.SUPERVISOR_RESTART):
            self.end_life(fault.kind)
            return
        self.hurting.inflict(fault)
        self.look()
        self.read_incidents()

    # Lives of the supervisor.

    def reconfigure(self) -> None:
        """Write the file, with new settings for the writers."""
        self.version += 1
        seed = self.outcome.options.seed
        self.mesh.write(sections(self.mesh.folder, self.transport, seed, self.version))

    def begin(self) -> None:
        """Start a supervisor; wait until all is whole, and check in which order it came."""
        self.outcome.lives += 1
        self.is_living = True
        self.watch = Watch(proc.identity)
        self.ready.clear()
        self.stopping_since = 0.0
        first_starts: dict[str, int] = {}

        def note(report: Report) -> None:
            self.take_report(report)
            if report.kind == "start" and report.incarnation == 1:
                first_starts[report.slot] = report.at

        self.mesh.on_report = note
        begun = time.monotonic()
        self.mesh.begin()
        self.until_whole()
        self.outcome.took("start of the mesh", time.monotonic() - begun)
        self.mesh.on_report = self.take_report
        base_ready = max(at for slot, at in self.ready.items() if group_of(slot) == BASE)
        self.checks[11] += 1
        for slot, at in first_starts.items():
            if group_of(slot) in DEPENDANTS and at < base_ready:
                self.faults.add(f"11: {slot} started before all of {BASE!r} were ready")

    def end_life(self, kind: Kind, *, is_drawn: bool = True) -> None:
        """End the supervisor by a kill or a stop; after a drawn end, but the last, start the next one."""
        self.calm_since = float("inf")
        self.look()
        self.read_incidents()
        (self.kill if kind is Kind.SUPERVISOR_KILL else self.stop)()
        self.bury()
        if is_drawn:
            self.hurting.done[kind] += 1

    def mourn(self) -> None:
        """Take note of a supervisor that has ended though nobody had ended it."""
        status = self.mesh.wait(_END)
        self.faults.add(f"11: the supervisor ended by itself, with status {status}:\n{self.mesh.last_lines()}")
        self.troubles += 1
        self.bury()

    def bury(self) -> None:
        """Close the books on a life of the supervisor."""
        self.is_living = False
        self.hurting.supervisor_ended()
        self.mesh.pump(0)
        self.read_incidents()
        self.causes.drop()
        self.causes.is_scarce = self.causes.is_unrecorded = False
        self.ledger.close()
        self.take_watch()
        if len(self.samples) > 1 and not self.outcome.trends:
            self.outcome.trends = trends(self.samples)
        self.samples.clear()

    def kill(self) -> None:
        """Kill the supervisor; nothing may be left a second later."""
        is_guarded = bool(proc.zygotes_of(self.mesh.pid))
        everything = [one for one in proc.marked(self.mesh.name) if one.pid != self.mesh.pid]
        own = set(proc.children(self.mesh.pid))
        at = time.monotonic()
        self.mesh.signal(signal.SIGKILL)
        due = everything if is_guarded else [one for one in everything if one.pid in own]
        left = proc.wait_gone(due, _DEATH)
        self.outcome.took("everything gone after the supervisor", time.monotonic() - at)
        self.checks[11] += 1
        if left:
            names = ", ".join(f"{one.pid} ({proc.command_line(one.pid)})" for one in left)
            self.faults.add(f"11: {_DEATH:g} s after the death of the supervisor these are left: {names}")
        self.mesh.wait(_END)

    def stop(self) -> None:
        """Stop the mesh; it must end with 0, in the reverse order, and leave nothing."""
        self.stops.clear()
        self.stopping_since = time.monotonic()
        self.mesh.signal(signal.SIGTERM)
        if (status := self.mesh.wait(_END)) != 0:
            self.faults.add(f"11: a stop ended with {status}:\n{self.mesh.last_lines()}")
        self.mesh.pump(0)
        self.checks[11] += 1
        if left := self.mesh.remaining(_DEATH):
            self.faults.add(f"11: a stop left these behind: {[proc.command_line(one.pid) for one in left]}")
        last = max((at for slot, at in self.stops.items() if group_of(slot) in DEPENDANTS), default=0)
        for slot, at in self.stops.items():
            if group_of(slot) == BASE and at < last:
                self.faults.add(f"11: {slot} was stopped before all that depend on it were")

    # Looking.

    def look(self) -> None:
        """Check what may not be at any moment."""
        self.checks[11] += 1
        names = list(self.mesh.lives)
        doubles = proc.namesakes(self.mesh.name, names)
        if doubles and (doubles := proc.namesakes(self.mesh.name, names)):
            self.faults.add(f"11: two processes are called {', '.join(doubles)}")

    def take_watch(self) -> None:
        """Take over what the watch has found."""
        for text in self.watch.faults:
            self.faults.add(f"5: {text}")
        self.watch.faults.clear()

    def read_incidents(self) -> None:
        """Take over what the supervisor has put down."""
        for incident in self.mesh.new_incidents():
            life = incident.slot, incident.incarnation
            self.say(f"incident: {incident.slot} (incarnation {incident.incarnation}) {incident.cause} {incident.text}")
            self.causes.incident(life, incident.cause, incident.code, incident.signal, incident.at)

    def settle(self) -> None:
        """Take back what does not end by itself, and wait until all is whole and explained."""
        begun = time.monotonic()
        self.hurting.relent()
        if self.mesh_is_down():
            if self.is_living:
                self.mourn()
            self.begin()
        self.until(lambda: not self.hurting.is_operated, _OPERATED, "the end of what the operator began")
        self.hurting.scale_back()
        self.until(lambda: not self.hurting.is_operated, _OPERATED, "the end of what the operator began")
        self.until_whole()
        self.outcome.took("mesh whole after a round", time.monotonic() - begun)
        self.causes.is_scarce = self.causes.is_unrecorded = False
        self.until(self.is_told, _TOLD, "the incident of each fault")
        self.checks[8] += 1
        self.checks[12] += 1

    def mesh_is_down(self) -> bool:
        """Return whether the supervisor was ended by this round."""
        return proc.identity(self.mesh.pid) is None

    def is_told(self) -> bool:
        """Return whether each fault has its incident."""
        self.read_incidents()
        return not self.causes.waiting()

    def stay(self, seconds: float) -> None:
        """Keep calm: what is begun now must succeed, and what was begun before must be over at its end."""
        self.calm_since = time.monotonic()
        self.mesh.rest(_LAST_WORDS)
        lives = self.lives()
        self.ledger.settle(lives)
        self.ledger.mark(lives)
        self.mesh.rest(seconds)
        self.read_incidents()
        self.until(lambda: not self.ledger.overdue(lives), _TOLD, "the delivery of what was accepted")
        if lives != self.lives():
            self.faults.add(
                f"8: lives have changed in the calm: {sorted(set(lives.items()) ^ set(self.lives().items()))}"
            )
        late = {name for name in lives if self.ticked.get(name, 0.0) < time.monotonic() - _SLACK}
        if late:
            self.faults.add(f"12: the timers of {', '.join(sorted(late))} stand still")
        self.ledger.settle(lives)
        self.checks[1] += 1
        self.causes.settle()
        self.hurting.recovering.clear()
        self.look_after()
        self.take_watch()
        self.forget()

    def look_after(self) -> None:
        """Check what may not be when all is calm, and take the figures."""
        self.look()
        deadline = time.monotonic() + 1
        while (zombies := proc.zombies_of(self.mesh.pid)) and time.monotonic() < deadline:
            self.mesh.rest(_GLANCE)
        if zombies:
            self.faults.add(f"11: zombies are left: {zombies}")
        self.look_at_the_blacklist()
        self.look_at_the_links()
        self.look_at_the_logs()
        if (hub := self.mesh.lives.get(HUB)) is not None:
            self.samples.append(sample(self.mesh.pid, hub.pid, self.hub_tasks, self.mesh.runtime))

    def look_at_the_blacklist(self) -> None:
        """No penalty may last longer than somebody can have asked for."""
        status = self.mesh.status()
        self.checks[10] += 1
        for penalty in status.blacklist if status is not None else ():
            longest = max(LONGEST, PENALTY * max(1, penalty.strikes))
            if penalty.remaining > longest:
                self.faults.add(f"10: {penalty.key} is barred for {penalty.remaining:.1f} s, by {penalty.source}")

    def look_at_the_links(self) -> None:
        """No link may keep more than its window."""
        try:
            with Client(self.mesh.runtime, self.mesh.name) as client:
                links = client.links()
        except SupervisorError as error:
            self.faults.add(f"12: {error}")
            return
        for node in links.nodes:
            self.outcome.reconnects = max(self.outcome.reconnects, sum(each.totals.reconnects for each in links.nodes))
            for link in node.links:
                self.checks[7] += 1
                if link.replay_depth > _WINDOW:
                    self.faults.add(f"7: {node.name} keeps {link.replay_depth} messages for {link.peer}")

    def look_at_the_logs(self) -> None:
        """There may not be more files than the configuration allows."""
        self.checks[7] += 1
        files = [path.name for path in (self.mesh.folder / "log").rglob("*") if path.is_file()]
        if len(files) > MOST_FILES:
            self.faults.add(f"7: {len(files)} files in log_dir: {' '.join(sorted(files))}")

    # Waiting.

    def until(self, condition: Callable[[], bool], within: float, what: str) -> None:
        """Look now and then until ``condition`` is true.

        Raises:
            Stuck: If that takes longer than ``within`` seconds.
        """
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                waiting = [*self.missing(), *self.causes.waiting(), *self.ledger.overdue(self.lives())][:20]
                raise Stuck(f"{what} did not come within {within:g} s; waiting for {waiting}\n{self.mesh.last_lines()}")
            self.mesh.rest(_GLANCE)

    def until_whole(self) -> None:
        """Wait until every slot is ready and linked with every other, in a life that nothing was done to."""
        self.until(lambda: not self.missing(), _WHOLE, "a whole mesh")

    def missing(self) -> list[str]:
        """Return what is not well, in words."""
        self.read_incidents()
        status = self.mesh.status()
        if status is None:
            return ["an answer of the supervisor"]
        expected = sum(NODES.values()) + len(COMMANDS)
        found = [] if len(status.workers) == expected else [f"{expected} slots, not {len(status.workers)}"]
        for slot in status.workers:
            life = self.mesh.lives.get(slot.name)
            if not slot.ready:
                found.append(f"{slot.name} is {slot.state}")
            elif self.causes.is_waiting((slot.name, slot.incarnation)):
                found.append(f"{slot.name} has yet to end")
            elif group_of(slot.name) in NODES:
                if life is None or (life.incarnation, life.pid) != (slot.incarnation, slot.pid):
                    found.append(f"{slot.name} has not reported")
                elif slot.peers_up != slot.peers_total:
                    found.append(f"{slot.name} has {slot.peers_up} of {slot.peers_total} links")
        if not found:
            self.forget()
            if self.mesh.meshed(None, sum(NODES.values())) is None:
                found.append("a report of each end of each link")
        return found

    def forget(self) -> None:
        """Forget lives that are over, and slots that are no more."""
        for slot in self.mesh.forget():
            self.watch.forget(slot)

    def lives(self) -> dict[str, int]:
        """Return the incarnations of the workers by slot."""
        return {name: life.incarnation for name, life in self.mesh.lives.items()}

    # Listening.

    def take_report(self, report: Report) -> None:
        """Hear of starts, links and stops."""
        self.watch.take(report)
        if report.kind == "ready":
            self.ready[report.slot] = report.at
            if report.slot in self.hurting.recovering:
                kind, at = self.hurting.recovering[report.slot]
                if report.at > at:
                    del self.hurting.recovering[report.slot]
                    self.outcome.took(f"ready again: {kind}", (report.at - at) / 1e9)
        elif report.kind == "stop":
            self.stops[report.slot] = report.at
        elif report.kind == "start" and self.stopping_since and report.at > (self.stopping_since + 2) * 1e9:
            self.faults.add(
                f"11: {report.slot} started {report.at / 1e9 - self.stopping_since:.1f} s after the stop began"
            )

    def take_words(self, words: list[str]) -> None:
        """Hear what has become of messages and calls."""
        if self.ledger.take(words):
            return
        kind, slot, incarnation, *rest = words
        if kind == "tick":
            self.outcome.ticks += 1
            self.ticked[slot] = time.monotonic()
            if slot == HUB:
                self.hub_tasks = int(rest[0])
        elif kind == "twice":
            self.faults.add(f"2: {slot} (incarnation {incarnation}) served {rest[0]} twice")
        elif kind == "unsent":
            target, error, begun = rest
            self.outcome.unsent[error] += 1
            self.judge_failure(f"{slot} to {target}", error, float(begun))
        else:
            target, outcome, begun, took = rest
            self.outcome.calls[outcome] += 1
            if outcome != "done":
                self.judge_failure(f"call of {slot} to {target}", outcome, float(begun))
            if float(took) > TIMEOUT + _SLACK:
                self.faults.add(f"12: a call of {slot} to {target} took {took} s to end in {outcome}")

    def judge_failure(self, what: str, error: str, begun: float) -> None:
        """Nothing that is begun in the calm may fail."""
        if begun >= self.calm_since or error in ("wrong", "RemoteError"):
            self.faults.add(f"12: {what} ended in {error}, and nothing was wrong")

    def take_line(self, slot: str, text: str) -> None:
        """Hear what the supervisor prints."""
        if "log lines are being lost" in text:
            self.outcome.lost_logs += 1
        elif "Traceback" in text and not slot:
            self.faults.add(f"12: the supervisor printed a traceback: {text}")
