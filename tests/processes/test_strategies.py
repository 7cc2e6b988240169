"""Who restarts with whom, and what happens beyond the limit, with real processes."""

import asyncio
import os
import signal
from typing import Any

import pytest

from meshvisor.shared.config.model import Backoff, OnLimit, RestartPolicy, StrategyName

FOREVER = "exec sleep 1000"
QUICK = Backoff(initial=0.001, max=0.002, jitter=0.0)


def incarnations(mesh: Any) -> dict[str, int]:
    return {worker.name: worker.incarnation for worker in mesh.supervisor.status().workers}


def three_levels(workshop: Any, **options: Any) -> list[Any]:
    return [
        workshop.shell("db", FOREVER, **options),
        workshop.shell("cache", FOREVER, replicas=2, depends_on=("db",), **options),
        workshop.shell("web", FOREVER, depends_on=("cache",), **options),
    ]


@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [
        (StrategyName.ONE_FOR_ONE, {"cache-0"}),
        (StrategyName.REST_FOR_ONE, {"cache-0", "cache-1", "web"}),
        (StrategyName.ONE_FOR_ALL, {"db", "cache-0", "cache-1", "web"}),
    ],
)
def test_a_crash_takes_down_whom_the_strategy_says_and_counts_once(
    workshop: Any, strategy: StrategyName, restarted: set[str]
) -> None:
    """OTP (reliability.md 4.1): successors in reverse start order, then forward again; one incident, one count."""

    async def main() -> None:
        async with workshop.running(*three_levels(workshop), strategy=strategy, max_restarts=1) as mesh:
            await mesh.happened("mesh-ready")
            mesh.events.clear()
            os.kill(mesh.pid("cache-0"), signal.SIGKILL)
            for name in restarted:
                await mesh.happened("slot-ready", name, 2)
            expected = {name: 2 if name in restarted else 1 for name in ("db", "cache-0", "cache-1", "web")}
            assert incarnations(mesh) == expected
            order = [(event.event, event.slot) for event in mesh.events]
            if "web" in restarted:
                assert order.index(("slot-exited", "web")) < order.index(("slot-stopping", "cache-1"))
                assert order.index(("slot-exited", "cache-1")) < order.index(("slot-starting", "cache-0"))
                assert order.index(("slot-ready", "cache-0")) < order.index(("slot-starting", "web"))
            if "db" in restarted:
                assert order.index(("slot-exited", "cache-1")) < order.index(("slot-stopping", "db"))
                assert order.index(("slot-ready", "db")) < order.index(("slot-starting", "cache-0"))

    asyncio.run(main())


def test_a_sibling_that_is_never_restarted_and_one_that_was_stopped_by_hand_stay_down(workshop: Any) -> None:
    async def main() -> None:
        workers = (
            workshop.shell("a", FOREVER),
            workshop.shell("never", FOREVER, restart=RestartPolicy.NEVER),
            workshop.shell("held", FOREVER),
        )
        async with workshop.running(*workers, strategy=StrategyName.ONE_FOR_ALL) as mesh:
            await mesh.happened("mesh-ready")
            await mesh.supervisor.stop("held")
            os.kill(mesh.pid("a"), signal.SIGKILL)
            await mesh.happened("slot-ready", "a", 2)
            assert incarnations(mesh) == {"a": 2, "never": 1, "held": 1}

    asyncio.run(main())


def test_an_end_that_restarts_nobody_takes_nobody_down(workshop: Any) -> None:
    async def main() -> None:
        once = workshop.shell("once", "exit 0", restart=RestartPolicy.ON_FAILURE)
        async with workshop.running(once, workshop.shell("a", FOREVER), strategy=StrategyName.ONE_FOR_ALL) as mesh:
            await mesh.happened("slot-stopped", "once")
            await mesh.happened("slot-ready", "a")
            assert incarnations(mesh) == {"once": 1, "a": 1}

    asyncio.run(main())


def test_a_stop_gets_in_between_while_siblings_go_down(workshop: Any) -> None:
    """OTP (reliability.md 4.1): a request to stop gets in between; nothing restarts after it."""

    async def main() -> None:
        slow = workshop.shell("slow", "trap '' TERM; echo up; while :; do sleep 0.05; done", stop_timeout=0.3)
        async with workshop.running(workshop.shell("a", FOREVER), slow, strategy=StrategyName.ONE_FOR_ALL) as mesh:
            await mesh.happened("mesh-ready")
            await mesh.printed("slow", "up")
            os.kill(mesh.pid("a"), signal.SIGKILL)
            await mesh.happened("slot-stopping", "slow")
            mesh.supervisor.request_stop()
            assert await mesh.supervisor.wait() == 0
            assert incarnations(mesh) == {"a": 1, "slow": 1}

    asyncio.run(main())


def test_beyond_the_limit_a_slot_is_parked_and_the_rest_keeps_running(workshop: Any) -> None:
    async def main() -> None:
        crashing = workshop.shell("crashing", "test -e fixed && exec sleep 1000; exit 7", backoff=QUICK)
        calm = workshop.shell("calm", FOREVER)
        async with workshop.running(crashing, calm, max_restarts=2, on_limit=OnLimit.PARK) as mesh:
            parked = await mesh.happened("slot-parked", "crashing")
            await mesh.happened("slot-ready", "calm")
            assert parked.details["delay"] == 5.0
            assert mesh.names("crashing").count("slot-exited") == 3
            first, second = mesh.supervisor.status().workers
            assert (first.state, second.state) == ("parked", "ready")
            assert first.next_try is not None
            assert 0 < first.next_try <= 5.0
            assert second.next_try is None
            (workshop.directory / "fixed").touch()
            await mesh.supervisor.start("crashing")
            assert mesh.supervisor.status().workers[0].state == "ready"

    asyncio.run(main())
