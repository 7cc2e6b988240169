"""Fixtures for scenarios with whole meshes."""

import asyncio
from collections.abc import Callable

import pytest
from tests.mesh.fleet import Fleet, Scenario

from meshvisor.workers.testing import run_virtual


@pytest.fixture
def play() -> Callable[..., None]:
    """Run a scenario on a fleet in virtual time; afterwards nothing may be left running."""

    def play(scenario: Scenario, seed: int = 0) -> None:
        async def main() -> None:
            fleet = Fleet(seed)
            await scenario(fleet)
            await fleet.close()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, f"still running: {left}"

        run_virtual(main())

    return play
