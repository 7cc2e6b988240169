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
    """The workers in the order of the file, and their slots by number. ``make`` makes the slots."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._slots: dict[str, list[Slot]] = {}
        self._single: dict[str, bool] = {}  # whether the slot of replica 0 is called as its worker
        self._workers: dict[str, WorkerConfig] = {}
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
        """Return the slots of one worker, by number."""
        return list(self._slots.get(worker, ()))

    def slot(self, name: str) -> Slot:
        """Return the slot of that name, which must be there."""
        return next(slot for slot in self if slot.name == name)

    def named(self, name: str) -> list[Slot]:
        """Return the slots that ``name`` means: all of the worker of that name, else the one slot.

        Raises:
            SupervisorError: If there is neither; it says what may have been meant.
        """
        if name in self._slots:
            return self.slots_of(name)
        found = [slot for slot in self if slot.name == name]
        if not found:
            raise unknown(name, dict.fromkeys([*self._slots, *(slot.name for slot in self)]))
        return found

    def add(self, worker: WorkerConfig) -> list[Slot]:
        """Add a worker with its slots, and return these."""
        self._workers[worker.name] = worker
        self._single[worker.name] = worker.replicas == 1
        self._slots[worker.name] = []
        return self.grow(worker)

    def grow(self, worker: WorkerConfig) -> list[Slot]:
        """Add slots until there are as many as ``worker.replicas`` says, and return the new ones.

        Raises:
            SupervisorError: If one of them would be called as another worker.
        """
        slots = self._slots[worker.name]
        numbers = range(len(slots), worker.replicas)
        names = [slot_name(worker, number, single=self._single[worker.name]) for number in numbers]
        for name in names:
            if name in self._workers and name != worker.name:
                raise SupervisorError(f"{worker.replicas} of {worker.name} would need a slot {name}, which is a worker")
        new = [self._make(worker, name, number) for name, number in zip(names, numbers, strict=True)]
        slots += new
        self.configure(worker)
        return new

    def surplus(self, worker: WorkerConfig) -> list[Slot]:
        """Return the slots beyond ``worker.replicas``, the highest number first."""
        return self._slots[worker.name][worker.replicas :][::-1]

    def forget(self, slot: Slot) -> None:
        """Take a slot out that is over."""
        self._slots[slot.config.name].remove(slot)
        self._arrange()

    def forget_worker(self, name: str) -> None:
        """Take a worker out whose slots are gone."""
        del self._workers[name], self._slots[name], self._single[name]
        self._arrange()

    def configure(self, worker: WorkerConfig) -> None:
        """Have the slots of a worker go by ``worker`` from now on."""
        self._workers[worker.name] = worker
        for slot in self._slots[worker.name]:
            slot.configure(worker)
        self._arrange()

    def sort(self, names: Iterable[str]) -> None:
        """Put the workers into the order of ``names``, which are all of them."""
        self._workers = {name: self._workers[name] for name in names}
        self._slots = {name: self._slots[name] for name in names}
        self._arrange()

    def _arrange(self) -> None:
        self.children = {name: [slot.child for slot in slots] for name, slots in self._slots.items()}
        try:
            levels = start_levels(self._workers.values())
        except ValueError:  # in the middle of a change: a worker names one that is not there yet, or is gone already
            levels = (tuple(self._workers.values()),)
        self.levels = [[slot for worker in level for slot in self._slots[worker.name]] for level in levels]
