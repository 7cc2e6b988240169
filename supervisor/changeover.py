"""What an operator changes in a running mesh: which slots there are, and by which configuration they go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..shared.config.model import MeshConfig, WorkerConfig
from ..shared.config.schema import MAX_REPLICAS
from ..shared.errors import SupervisorError
from .changes import Changes, keeping_scale, restored
from .conductor import Conductor
from .fleet import Fleet
from .naming import NoWorker
from .renewal import Renewal
from .slot import Slot
from .surroundings import MeshRun
from .sweeps import Sweeps
from .wish import Wish


class Changeover:
    """Carries changes out, in the loop of ``run``, and keeps ``run.config`` true to what the slots go by."""

    def __init__(
        self, run: MeshRun, fleet: Fleet, conductor: Conductor, renewal: Renewal, sweeps: Sweeps | None
    ) -> None:
        self._run = run
        self._fleet = fleet
        self._conductor = conductor
        self._renewal = renewal
        self._sweeps = sweeps
        self._in_file: dict[str, int] = {}  # replicas that the file had of what was scaled since

    async def start(self, slots: Sequence[Slot]) -> None:
        """Start slots and wait until they are ready or have ended well; what is up stays up.

        Raises:
            SupervisorError: As ``Conductor.until_ready``.
        """
        for slot in slots:
            slot.start()
        self._conductor.advance()
        await self._conductor.until_ready(slots)

    async def stop(self, slots: Sequence[Slot]) -> None:
        """Stop slots, and wait until they are down and what they have left behind is ended.

        Raises:
            SupervisorError: If somebody starts one again before it is down.
        """
        for slot in slots:
            slot.hold()
        self._conductor.advance()
        await self._conductor.until(lambda: all(slot.child.is_over or not slot.child.is_held for slot in slots))
        if again := [slot.name for slot in slots if not slot.child.is_held]:
            raise SupervisorError(f"{', '.join(again)}: started again while it stopped")
        if self._sweeps is not None:
            await self._sweeps.finish()

    async def replace(self, slots: Sequence[Slot], wish: Wish, *, is_new: bool) -> None:
        """Replace the processes of slots one after the other, by code that ``is_new`` or by the same as before.

        Raises:
            SupervisorError: At the first one that is not replaced. It is then as it was before, or, if its successor
                did not become ready at its first try, another process of the old code is in its place. One that an
                operator has stopped while it waited for its turn stays down.
        """
        for slot in slots:
            if not self._fleet.has(slot):  # while others were replaced, it had to go
                continue
            if wish.is_withdrawn(slot):
                raise SupervisorError(f"{slot.name} was not replaced: it was stopped")
            before = slot.child.incarnation
            try:
                await self._renewal.replace(slot, once=is_new)
            except SupervisorError:
                if slot.child.incarnation > before and (is_new or slot.child.is_reserved):
                    await self._renewal.take_back([slot])
                raise

    async def restart(self, slots: Sequence[Slot], *, is_new: bool) -> None:
        """Restart slots at once and wait until all are ready, with code that ``is_new`` or the same as before.

        Raises:
            SupervisorError: If one does not become ready; if the code is new, at its first try.
        """
        try:
            await self._renewal.restart(slots, once=is_new)
        except SupervisorError:
            if is_new:
                await self._renewal.take_back(slots)
            raise

    def scaled(self, replicas: Mapping[str, int]) -> list[WorkerConfig]:
        """Return workers as they would be with so many ``replicas``.

        Raises:
            SupervisorError: If there is no such worker, or one of its new slots would be called as another worker.
            ValueError: If one is not a number from 0 to 1000.
        """
        known = {worker.name: worker for worker in self._run.config.workers}
        for name, number in replicas.items():
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MAX_REPLICAS:
                raise ValueError(f"replicas must be a number from 0 to {MAX_REPLICAS}, not {number!r}")
            self._fleet.named(name)
            if name not in known:
                raise NoWorker(name)
        workers = [replace(known[name], replicas=number) for name, number in replicas.items()]
        for worker in workers:
            self._fleet.check_growth(worker)
        return workers

    async def scale(self, replicas: Mapping[str, int]) -> None:
        """Have as many slots for each of these workers; the highest numbers go first.

        Raises:
            SupervisorError: As ``scaled``, and as ``Conductor.until_ready``.
            ValueError: As ``scaled``.
        """
        workers = self.scaled(replicas)
        for worker in self._run.config.workers:
            if worker.name in replicas:
                self._in_file.setdefault(worker.name, worker.replicas)
        new, leaving = self._resize_all(workers)
        await self._see_off(leaving)
        await self._conductor.until_ready(new)

    def keeping_scale(self, config: MeshConfig) -> MeshConfig:
        """Return ``config`` as a reload takes it: what was scaled stays so unless the file has another number now."""
        return keeping_scale(config, self._run.config, self._in_file)

    def take_over(self, config: MeshConfig) -> MeshConfig:
        """Return the same for the reload that follows: what the file has another number of is scaled no more."""
        kept = self.keeping_scale(config)
        in_file = {worker.name: worker.replicas for worker in config.workers}
        self._in_file = {name: number for name, number in self._in_file.items() if in_file.get(name) == number}
        return kept

    async def reload(self, config: MeshConfig, changes: Changes) -> list[Slot]:
        """Go over to ``config``, which differs by ``changes`` from what there is; return the slots that are new.

        Raises:
            SupervisorError: If a slot whose process is replaced does not become ready. All of them are then as before.
        """
        before, self._run.config = self._run.config, config
        if config.mesh != before.mesh:
            self._run.nursery.renew_spares()
        self._conductor.configure(config.supervisor)
        self._run.lookout.configure(config.mesh.beat)
        workers = {worker.name: worker for worker in config.workers}
        replaced = [slot for name in changes.replaced for slot in self._fleet.slots_of(name)]
        new = [slot for name in changes.added for slot in self._fleet.add(workers[name])]
        for name in changes.replaced + tuple(changes.adjusted) + tuple(changes.rescaled):
            self._fleet.configure(workers[name])
        leaving: list[Slot] = []
        for name in changes.removed:
            leaving += self._dismiss(name)
            self._fleet.forget_worker(name)
        self._fleet.sort(workers)
        more, less = self._resize_all([workers[name] for name in changes.rescaled])
        new, leaving = new + more, leaving + less
        # Up to here nothing has waited: whoever looks at the mesh sees it before the change, or after.
        await self._see_off(leaving)
        try:
            await self._replace(replaced)
        except SupervisorError:
            await self._return(before, changes)
            raise
        return new

    def _resize_all(self, workers: Iterable[WorkerConfig]) -> tuple[list[Slot], list[Slot]]:
        new: list[Slot] = []
        leaving: list[Slot] = []
        for worker in workers:
            more, less = self._resize(worker)
            new, leaving = new + more, leaving + less
        return new, leaving

    def _resize(self, worker: WorkerConfig) -> tuple[list[Slot], list[Slot]]:
        """Begin to have ``worker.replicas`` slots; return those that are to come, and those that are to go."""
        new = self._fleet.grow(worker)
        workers = tuple(worker if known.name == worker.name else known for known in self._run.config.workers)
        self._run.config = replace(self._run.config, workers=workers)
        for slot in new:
            slot.start()
        return new, self._dismiss(worker.name, worker.replicas)

    def _dismiss(self, worker: str, staying: int = 0) -> list[Slot]:
        leaving = self._fleet.dismiss(worker, staying)
        for slot in leaving:
            slot.hold()
        return leaving

    async def _see_off(self, slots: Sequence[Slot]) -> None:
        """Wait until slots that are to go are gone, or are to stay after all."""
        self._conductor.advance()
        await self._conductor.until(lambda: not any(self._fleet.is_leaving(slot) for slot in slots))
        if slots and self._sweeps is not None:
            await self._sweeps.finish()

    async def _replace(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            if not slot.child.is_held and self._fleet.has(slot):
                await self._renewal.replace(slot, once=True)

    async def _return(self, before: MeshConfig, changes: Changes) -> None:
        """Have the workers that were to be replaced run as they did, those that were not reached yet untouched."""
        slots = [slot for name in changes.replaced for slot in self._fleet.slots_of(name)]
        gone_over = [slot for slot in slots if slot.has_gone_over or slot.child.is_reserved]
        self._run.config = restored(self._run.config, before, changes.replaced)
        self._run.lookout.configure(self._run.config.mesh.beat)
        for worker in self._run.config.workers:
            self._fleet.configure(worker)
        await self._renewal.take_back(gone_over)
