"""What a process may do and how it is ranked: the user it runs as, its limits, its umask, its nice value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..shared.config.model import WorkerConfig


@dataclass(frozen=True, slots=True)
class Confinement:
    """None, or nothing in ``limits``: as the supervisor has it. ``limits`` are both soft and hard."""

    user: str | None = None
    nice: int | None = None
    umask: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, config: WorkerConfig) -> Confinement:
        """Return what is configured for a worker."""
        return cls(config.user, config.nice, config.umask, config.limits)

    def words(self) -> list[str]:
        """Return it as arguments of ``launch.py``, in the order in which it can be done: the user last.

        After that, what only root may do (a higher limit, a better nice value) could not be done any more.
        """
        words = [f"limit={name}:{most}" for name, most in self.limits.items()]
        named = (("nice", self.nice), ("umask", self.umask), ("user", self.user))
        return words + [f"{key}={value}" for key, value in named if value is not None]


UNCONFINED = Confinement()
