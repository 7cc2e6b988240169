"""The order of starting and stopping: the levels of the graph that ``depends_on`` draws."""

from __future__ import annotations

from collections.abc import Iterable

from ..shared.config.model import WorkerConfig


def start_levels(workers: Iterable[WorkerConfig]) -> tuple[tuple[WorkerConfig, ...], ...]:
    """Return ``workers`` in levels, lowest first: each worker is one level above its highest dependency.

    Within a level the order is the given one. A mesh stops level by level from the last to the first.

    Raises:
        ValueError: If a dependency is unknown, or workers depend on each other in a circle.
    """
    workers = tuple(workers)
    level_of: dict[str, int] = {}
    waiting = list(workers)
    while waiting:
        found = [worker for worker in waiting if all(name in level_of for name in worker.depends_on)]
        if not found:
            names = ", ".join(worker.name for worker in waiting)
            raise ValueError(f"unknown dependencies, or a circle of them, among {names}")
        for worker in found:
            level_of[worker.name] = 1 + max((level_of[name] for name in worker.depends_on), default=-1)
        waiting = [worker for worker in waiting if worker.name not in level_of]
    count = 1 + max(level_of.values(), default=-1)
    return tuple(tuple(worker for worker in workers if level_of[worker.name] == level) for level in range(count))
