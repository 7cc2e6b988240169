"""How each kind of fault is brought about on a running mesh, and taken back where it does not end by itself."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.outside import proc
from tests.outside.mesh import hit

from meshvisor.supervisor.snapshot import WorkerState, WorkerStatus

from .causes import Causes, Life
from .ledger import Faults
from .mesh import COMMANDS, HUB, MORE_NODES, NODES, ROOT, SoakMesh, group_of
from .plan import Fault, Kind

_ORDERS = {
    Kind.RAISE: "raise",
    Kind.EXIT: "exit",
    Kind.SLEEP: "sleep",
    Kind.DEADLOCK: "deadlock",
    Kind.SPIN: "spin",
    Kind.GROW: f"grow {260 << 20}",
    Kind.SWELL: f"grow {110 << 20}",
}
_SPARED = 8
"""Descriptors that are taken from the supervisor beyond those that it does not use."""
_MOST_CHURNERS = 3


@dataclass(slots=True)
class Operation:
    """A command of the operator's that is under way, and the workers whose processes it replaces."""

    words: list[str]
    groups: frozenset[str]
    process: subprocess.Popen[str]
    is_smooth: bool
    """It is alone: nothing else was done to the mesh since it began."""


class Hurting:
    """Brings faults about. ``configure`` writes the file with another version of the writers' settings.

    ``recovering`` holds what was first done to a slot, and when (monotonic ns), until somebody takes it out.
    """

    def __init__(
        self, mesh: SoakMesh, causes: Causes, faults: Faults, configure: Callable[[], None], disk: Path | None
    ) -> None:
        self.mesh = mesh
        self.done: Counter[Kind] = Counter()
        self.skipped: Counter[Kind] = Counter()
        self.operations: Counter[str] = Counter()
        self.recovering: dict[str, tuple[Kind, int]] = {}
        self._causes = causes
        self._faults = faults
        self._configure = configure
        self._disk = disk
        self._under_way: list[Operation] = []
        self._churners: list[subprocess.Popen[str]] = []
        self._limited: list[tuple[int, int, tuple[int, int]]] = []
        self._is_scaled = False
        self._way: dict[Kind, Callable[[Fault], bool]] = {
            Kind.KILL: self._kill,
            Kind.SEGV: self._signal_ready,
            Kind.STOP: self._signal_ready,
            **dict.fromkeys(_ORDERS, self._order),
            Kind.COMMAND: self._kill_command,
            Kind.SICK: self._sicken,
            Kind.ZYGOTE: self._kill_zygotes,
            Kind.PAUSE: self._pause,
            Kind.CUT: self._cut,
            Kind.CHURN: self._churn,
            Kind.DISK: self._fill_disk,
            Kind.DESCRIPTORS: self._take_descriptors,
            Kind.PROCESSES: self._take_processes,
            Kind.ROLL: self._roll,
            Kind.SCALE: self._scale,
            Kind.RELOAD: self._reload,
        }

    def inflict(self, fault: Fault) -> None:
        """Bring a fault about, or count it as skipped where there is nobody to do it to."""
        for operation in self._under_way:
            operation.is_smooth = False
        (self.done if self._way[fault.kind](fault) else self.skipped)[fault.kind] += 1

    # Whom it hits.

    def _slots(self) -> list[WorkerStatus]:
        status = self.mesh.status()
        return list(status.workers) if status is not None else []

    def _ready_worker(self, fault: Fault) -> WorkerStatus | None:
        """Return a worker that is ready and that nothing was done to in this life."""
        wants = {Kind.GROW: "node", Kind.SWELL: "node"}.get(fault.kind)
        fit = [
            slot
            for slot in self._slots()
            if slot.state is WorkerState.READY
            and group_of(slot.name) in NODES
            and group_of(slot.name) in (wants or group_of(slot.name))
            and slot.name != HUB
            and not self._causes.is_hit((slot.name, slot.incarnation))
            and self._is_heard(slot)
        ]
        return fit[fault.pick(len(fit))] if fit else None

    def _is_heard(self, slot: WorkerStatus) -> bool:
        life = self.mesh.lives.get(slot.name)
        return life is not None and (life.incarnation, life.pid) == (slot.incarnation, slot.pid)

    def _hit(self, slot: WorkerStatus, kind: Kind, at: float) -> None:
        life: Life = slot.name, slot.incarnation
        group = group_of(slot.name)
        is_planned = any(group in operation.groups for operation in self._under_way)
        self._causes.hit(life, kind, at, is_doubtful=is_planned)
        self.recovering.setdefault(slot.name, (kind, time.monotonic_ns()))

    def _strike(self, slot: WorkerStatus, kind: Kind, number: signal.Signals) -> bool:
        at = time.time()
        if slot.pid is None or not proc.belongs(slot.pid, self.mesh.name) or hit(slot.pid, number) is None:
            return False
        self._hit(slot, kind, at)
        return True

    # One by one.

    def _kill(self, fault: Fault) -> bool:
        """Kill a worker in whatever state it is: starting, hanging, stopping..."""
        fit = [
            slot for slot in self._slots() if slot.pid is not None and group_of(slot.name) in NODES and slot.name != HUB
        ]
        return bool(fit) and self._strike(fit[fault.pick(len(fit))], fault.kind, signal.SIGKILL)

    def _signal_ready(self, fault: Fault) -> bool:
        number = signal.SIGSEGV if fault.kind is Kind.SEGV else signal.SIGSTOP
        slot = self._ready_worker(fault)
        return slot is not None and self._strike(slot, fault.kind, number)

    def _order(self, fault: Fault) -> bool:
        slot = self._ready_worker(fault)
        if slot is None:
            return False
        at = time.time()
        with suppress(OSError):
            self.mesh.order(slot.name, _ORDERS[fault.kind])
            self._hit(slot, fault.kind, at)
            return True
        return False

    def _kill_command(self, fault: Fault) -> bool:
        slots = [slot for slot in self._slots() if slot.name in COMMANDS and slot.state is WorkerState.READY]
        return bool(slots) and self._strike(slots[fault.pick(len(slots))], fault.kind, signal.SIGKILL)

    def _sicken(self, fault: Fault) -> bool:
        for slot in self._slots():
            life = slot.name, slot.incarnation
            if slot.name == "keeper" and slot.state is WorkerState.READY and not self._causes.is_hit(life):
                at = time.time()
                (self.mesh.folder / "well").unlink(missing_ok=True)
                self._hit(slot, fault.kind, at)
                return True
        return False

    def _kill_zygotes(self, fault: Fault) -> bool:
        struck = [hit(zygote) for zygote in proc.zygotes_of(self.mesh.pid)]
        return any(at is not None for at in struck)

    def _pause(self, fault: Fault) -> bool:
        self.mesh.signal(signal.SIGSTOP)
        try:
            self.mesh.rest(0.5 + 2 * fault.dice)
        finally:
            self.mesh.signal(signal.SIGCONT)
        return True

    def _cut(self, fault: Fault) -> bool:
        slots = [slot for slot in self._slots() if slot.ready and group_of(slot.name) in NODES]
        if not slots:
            return False
        with suppress(OSError):
            self.mesh.order(slots[fault.pick(len(slots))].name, "cut all" if fault.dice * 10 % 1 < 0.3 else "cut some")
            return True
        return False

    def _churn(self, fault: Fault) -> bool:
        """Have one process more bar the endpoints of all workers, and free them."""
        if len(self._churners) >= _MOST_CHURNERS:
            return False
        socket = self.mesh.runtime / self.mesh.name / "attach.sock"
        command = [sys.executable, "-m", "tests.soak.churn", str(socket), str(fault.dice), *self._endpoints()]
        self._churners.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
        return True

    def _endpoints(self) -> list[str]:
        pids = [life.pid for life in self.mesh.lives.values()]
        return [f"unix:{path}" for path in self.mesh.runtime.rglob("*") if path.is_socket()] + list(_ports(pids))

    def _fill_disk(self, fault: Fault) -> bool:
        self._causes.is_unrecorded = True
        self._causes.doubt()
        if self._disk is None:  # then what it writes is refused in another way
            self._limit(self.mesh.pid, resource.RLIMIT_FSIZE, 0)
            return True
        with open(self._disk / "ballast", "ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 14))
        return True

    def _take_descriptors(self, fault: Fault) -> bool:
        self._causes.is_scarce = True
        self._limit(self.mesh.pid, resource.RLIMIT_NOFILE, len(os.listdir(f"/proc/{self.mesh.pid}/fd")) - _SPARED)
        return True

    def _take_processes(self, fault: Fault) -> bool:
        if os.getuid() == 0:  # who has no such limit
            return False
        self._causes.is_scarce = True
        for pid in (self.mesh.pid, *proc.zygotes_of(self.mesh.pid)):
            self._limit(pid, resource.RLIMIT_NPROC, 1)
        return True

    def _limit(self, pid: int, kind: int, most: int) -> None:
        with suppress(ProcessLookupError):
            before = resource.prlimit(pid, kind)
            resource.prlimit(pid, kind, (most, before[1]))
            self._limited.append((pid, kind, before))

    # The operator.

    def _roll(self, fault: Fault) -> bool:
        groups = [group for group in NODES if group != HUB]
        group = groups[fault.pick(len(groups))]
        return self._operate(["restart", group], group)

    def _scale(self, fault: Fault) -> bool:
        if self._is_scaled:
            return False
        self._is_scaled = True
        return self._operate(["scale", f"node={NODES['node'] + MORE_NODES}"], "node")

    def _reload(self, fault: Fault) -> bool:
        self._configure()
        return self._operate(["reload"], "writer")

    def _operate(self, words: list[str], *groups: str) -> bool:
        command = [sys.executable, "-m", "meshvisor.supervisor", *words, "-f", str(self.mesh.file)]
        is_alone = not self._under_way and not self.recovering and not self._limited
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._under_way.append(Operation(words, frozenset(groups), process, is_alone))
        self._causes.doubt(groups)
        return True

    @property
    def is_operated(self) -> bool:
        """Whether the operator has something under way."""
        for operation in list(self._under_way):
            if (status := operation.process.poll()) is not None:
                self._under_way.remove(operation)
                self._ended(operation, status)
        return bool(self._under_way)

    def _ended(self, operation: Operation, status: int) -> None:
        assert operation.process.stdout is not None
        with operation.process.stdout as stream:
            said = stream.read()
        self.operations[f"{operation.words[0]}: {'done' if status == 0 else 'failed under fire'}"] += 1
        if status not in (0, 1) or (status and operation.is_smooth):
            self._faults.add(f"12: {' '.join(operation.words)} ended with {status}: {said.strip()[-600:]}")

    # Taking it back.

    def relent(self) -> None:
        """Take everything back that does not end by itself. What the operator began goes on."""
        for pid, kind, before in reversed(self._limited):
            with suppress(ProcessLookupError):
                resource.prlimit(pid, kind, before)
        self._limited.clear()
        if self._disk is not None:
            (self._disk / "ballast").unlink(missing_ok=True)
        while self._churners:
            self._end_churner(self._churners.pop())

    def scale_back(self) -> None:
        """Have as many nodes again as at first; only once nothing is under way."""
        if self._is_scaled:
            self._is_scaled = False
            self._operate(["scale", f"node={NODES['node']}"], "node")

    def _end_churner(self, churner: subprocess.Popen[str]) -> None:
        is_over = churner.poll() is not None
        churner.kill()
        _, said = churner.communicate()
        if is_over and churner.returncode == 1 and "was barred for" in said:
            self._faults.add(f"10: {said.strip()}")

    def supervisor_ended(self) -> None:
        """Forget what concerned the supervisor that is no more; what the operator began ends by itself, too."""
        self._limited.clear()
        self.relent()
        self._is_scaled = False
        self.recovering.clear()
        for operation in self._under_way:
            try:
                operation.process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self._faults.add(f"12: {' '.join(operation.words)} has not noticed the end of the mesh")
                operation.process.kill()
                operation.process.communicate()
        self._under_way.clear()

    def close(self) -> None:
        """End all processes."""
        for process in (*self._churners, *(operation.process for operation in self._under_way)):
            process.kill()
            process.communicate()


def _ports(pids: Iterable[int]) -> Iterable[str]:
    for pid in pids:
        with suppress(psutil.Error):
            for connection in psutil.Process(pid).net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    yield f"tcp:{connection.laddr.ip}:{connection.laddr.port}"
