"""All slots of a mesh: found by name, and in the orders of starting and stopping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..shared.config.model import WorkerConfig
from ..shared.errors import SupervisorError
from .changes import slot_name
from .child import Child
from .levels import start_levels
from .naming import unknown
from .slot import Slot

Make = Callable[[WorkerConfig, str, int], Slot]
"""Makes the slot of a worker, with its name and the number of the replica."""


class Fleet:
    """The workers in the order of the file, and their slots by number. ``make`` makes the slots.

    A slot that is to go is dismissed first: nobody finds it by name any more, but it counts until it is over. If it is
    wanted again before that, it stays: there is never a second slot of a name, nor a wait for the first to be gone.
    """

    def __init__(self, make: Make) -> None:
        self._make = make
        self._slots: dict[str, list[Slot]] = {}
        self._single: dict[str, bool] = {}  # whether the slot of replica 0 is called as its worker
        self._workers: dict[str, WorkerConfig] = {}
        self._leaving: set[str] = set()  # slots that are to go
        self._going: set[str] = set()  # workers that go with their last slot
        self.levels: list[list[Slot]] = []
        self.children: dict[str, list[Child]] = {}

    def __iter__(self) -> Iterator[Slot]:
        for slots in self._slots.values():
            yield from slots

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    @property
    def order(self) -> list[str]:
        """The names of all slots, by level, then as in the file, then by number."""
        return [slot.name for level in self.levels for slot in level]

    def slots_of(self, worker: str) -> list[Slot]:
        """Return the slots of one worker, by number, without those that are to go."""
        return [slot for slot in self._slots.get(worker, ()) if slot.name not in self._leaving]

    def is_leaving(self, slot: Slot) -> bool:
        """Return whether ``slot`` is to go and still there."""
        return slot.name in self._leaving and any(known is slot for known in self)

    def has(self, slot: Slot) -> bool:
        """Return whether ``slot`` is one of ours, and is to stay."""
        return slot.name not in self._leaving and any(known is slot for known in self)

    def slot(self, name: str) -> Slot:
        """Return the slot of that name, which must be there."""
        return next(slot for slot in self if slot.name == name)

    def named(self, name: str) -> list[Slot]:
        """Return the slots that ``name`` means: the one slot, else all of the worker of that name.

        Raises:
            SupervisorError: If there is neither; it says what may have been meant.
        """
        staying = {slot.name: slot for slot in self if slot.name not in self._leaving}
        if name in staying:
            return [staying[name]]
        if name in self._workers and name not in self._going:
            return self.slots_of(name)
        workers = [worker for worker in self._workers if worker not in self._going]
        raise unknown(name, dict.fromkeys([*workers, *staying]))

    def add(self, worker: WorkerConfig) -> list[Slot]:
        """Add a worker with its slots, and return these."""
        self._going.discard(worker.name)
        self._workers[worker.name] = worker
        self._single.setdefault(worker.name, worker.replicas == 1)
        self._slots.setdefault(worker.name, [])
        return self.grow(worker)

    def grow(self, worker: WorkerConfig) -> list[Slot]:
        """Have as many slots as ``worker.replicas`` says, and return those that are new or stay after all.

        Raises:
            SupervisorError: If one of them would be called as another worker.
        """
        self.check_growth(worker)
        there = {slot.replica: slot for slot in self._slots[worker.name]}
        numbers = [number for number in range(worker.replicas) if number not in there]
        names = [slot_name(worker, number, single=self._single[worker.name]) for number in numbers]
        staying = [slot for number, slot in there.items() if number < worker.replicas and slot.name in self._leaving]
        self._leaving.difference_update(slot.name for slot in staying)
        new = [self._make(worker, name, number) for name, number in zip(names, numbers, strict=True)]
        self._slots[worker.name] = sorted([*there.values(), *new], key=lambda slot: slot.replica)
        self.configure(worker)
        return staying + new

    def check_growth(self, worker: WorkerConfig) -> None:
        """Check that a worker may have as many slots as ``worker.replicas`` says.

        Raises:
            SupervisorError: If one of them would be called as another worker.
        """
        for number in range(worker.replicas):
            name = slot_name(worker, number, single=self._single[worker.name])
            if name in self._workers and name != worker.name:
                raise SupervisorError(f"{worker.replicas} of {worker.name} would need a slot {name}, which is a worker")

    def workers(self) -> dict[str, list[Slot]]:
        """Return the slots of each worker, without what is to go."""
        return {name: self.slots_of(name) for name in self._workers if name not in self._going}

    def dismiss(self, worker: str, staying: int = 0) -> list[Slot]:
        """Have the slots of a worker go that are beyond the first ``staying``, and return them, the highest first."""
        leaving = [slot for slot in self.slots_of(worker)[::-1] if slot.replica >= staying]
        self._leaving.update(slot.name for slot in leaving)
        return leaving

    def forget_worker(self, name: str) -> None:
        """Take a worker out as soon as its slots are gone, which are to go now."""
        self.dismiss(name)
        self._going.add(name)
        self._forget_empty()

    def take_out(self) -> list[Slot]:
        """Take out the slots that are over and were to go, and return them."""
        gone = [slot for slot in self if slot.name in self._leaving and slot.child.is_over]
        if gone:
            for slot in gone:
                self._leaving.remove(slot.name)
                self._slots[slot.config.name].remove(slot)
            self._forget_empty()
        return gone

    def _forget_empty(self) -> None:
        for name in [name for name in self._going if not self._slots[name]]:
            self._going.remove(name)
            del self._workers[name], self._slots[name], self._single[name]
        self._arrange()

    def configure(self, worker: WorkerConfig) -> None:
        """Have the slots of a worker go by ``worker`` from now on."""
        self._workers[worker.name] = worker
        for slot in self._slots[worker.name]:
            slot.configure(worker)
        self._arrange()

    def sort(self, names: Iterable[str]) -> None:
        """Put the workers into the order of ``names``, which are all of them but those that go."""
        order = dict.fromkeys([*names, *self._workers])
        self._workers = {name: self._workers[name] for name in order}
        self._slots = {name: self._slots[name] for name in order}
        self._arrange()

    def _arrange(self) -> None:
        self.children = {name: [slot.child for slot in slots] for name, slots in self._slots.items()}
        try:
            levels = start_levels(self._workers.values())
        except ValueError:  # in the middle of a change: a worker names one that is not there yet, or is gone already
            levels = (tuple(self._workers.values()),)
        self.levels = [[slot for worker in level for slot in self._slots[worker.name]] for level in levels]
