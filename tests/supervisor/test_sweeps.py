"""When it is swept after the dead, and that nobody has to wait for it."""

import asyncio
from typing import Any

from meshvisor.supervisor.sweeps import Sweeps
from meshvisor.workers.testing import run_virtual


class PlayedSubreaper:
    """Takes a second for each sweep."""

    def __init__(self) -> None:
        self.swept: list[tuple[float, str, int, int]] = []

    async def sweep(self, slot: str, incarnation: int, pid: int, **options: Any) -> None:
        self.swept.append((round(asyncio.get_running_loop().time(), 3), slot, incarnation, pid))
        await asyncio.sleep(1.0)


def test_it_is_swept_one_by_one_a_moment_after_the_deaths() -> None:
    async def main() -> None:
        subreaper = PlayedSubreaper()
        sweeps = Sweeps(asyncio.get_running_loop(), subreaper)  # type: ignore[arg-type]
        sweeps.after("a", 1, 11)
        sweeps.after("b", 1, 12)
        await asyncio.sleep(0.5)
        sweeps.after("a", 2, 13)
        await sweeps.finish()
        assert subreaper.swept == [(0.05, "a", 1, 11), (1.05, "b", 1, 12), (2.1, "a", 2, 13)]
        await sweeps.close()

    run_virtual(main())


def test_a_sweep_ends_with_the_mesh() -> None:
    async def main() -> None:
        subreaper = PlayedSubreaper()
        sweeps = Sweeps(asyncio.get_running_loop(), subreaper)  # type: ignore[arg-type]
        await sweeps.finish()
        sweeps.after("a", 1, 11)
        sweeps.after("b", 1, 12)
        await asyncio.sleep(0.5)
        await sweeps.close()
        assert [slot for _, slot, *_ in subreaper.swept] == ["a"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())
