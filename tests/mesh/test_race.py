"""Several endpoints side by side (Happy Eyeballs, RFC 8305; the statements HE1-HE10 of the reliability notes)."""

import asyncio
from typing import Any

import pytest

from meshvisor.shared.core.dialplan import DialPlan
from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.handshake import Identity
from meshvisor.shared.errors import HandshakeError
from meshvisor.shared.mesh.dialer import Dialled
from meshvisor.shared.mesh.race import race
from meshvisor.shared.transport.base import TransportConnection
from meshvisor.shared.transport.memory import memory_pair
from meshvisor.workers.testing import run_virtual

PEER = Identity("peer", 0, 1, (1, 1))


class Attempts:
    """Attempts that take so long and end in a connection, in nothing or in an exception; all is kept."""

    def __init__(self, *script: tuple[float, Any]) -> None:
        self.candidates = [Endpoint.parse(f"memory:{number}") for number in range(len(script))]
        self.began: list[float] = []
        self.connections: list[TransportConnection] = []
        self.cancelled = 0
        self._script = dict(zip(map(str, self.candidates), script, strict=True))

    async def __call__(self, endpoint: Endpoint) -> Dialled | None:
        duration, result = self._script[str(endpoint)]
        self.began.append(asyncio.get_running_loop().time())
        try:
            await asyncio.sleep(duration)
        except asyncio.CancelledError:
            self.cancelled += 1
            if result != "late":
                raise
        if isinstance(result, Exception):
            raise result
        if result is None:
            return None
        connection = TransportConnection(memory_pair()[0], memory_pair()[0])
        self.connections.append(connection)
        return Dialled(connection, endpoint, PEER, (0, 0), 0.0)

    def run(self, delay: float = 0.25, max_concurrent: int = 10) -> tuple[Dialled | None, float]:
        async def main() -> tuple[Dialled | None, float]:
            plan = DialPlan(len(self.candidates), delay=delay, max_concurrent=max_concurrent)
            dialled = await race(self.candidates, plan, self)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return dialled, asyncio.get_running_loop().time()

        return run_virtual(main())

    def is_open(self, connection: TransportConnection) -> bool:
        return bool(connection.control._incoming._has_reader)  # type: ignore[attr-defined]  # a MemoryStream


def winner(attempts: Attempts, **options: Any) -> str:
    dialled, _ = attempts.run(**options)
    assert dialled is not None
    assert [attempts.is_open(connection) for connection in attempts.connections].count(True) == 1
    assert attempts.is_open(dialled.connection)
    return str(dialled.endpoint)


def test_attempts_begin_in_order_after_the_delay_or_a_failure() -> None:
    """HE1, HE2: after a failure at once."""
    attempts = Attempts((0.1, None), (9.0, None), (9.0, None), (0.1, "yes"))
    assert winner(attempts) == "memory:3"
    assert attempts.began == pytest.approx([0.0, 0.1, 0.35, 0.6])


def test_a_slow_attempt_is_not_ended_by_the_next_one() -> None:
    """HE3, HE4."""
    attempts = Attempts((0.3, "yes"), (9.0, "yes"))
    assert winner(attempts) == "memory:0"
    assert attempts.cancelled == 1


def test_of_two_that_win_in_one_turn_the_first_in_order_is_returned_and_the_other_closed() -> None:
    """HE4."""
    attempts = Attempts((0.5, "yes"), (0.25, "yes"))
    assert winner(attempts) == "memory:0"
    assert len(attempts.connections) == 2


def test_one_that_wins_while_it_is_being_ended_is_closed() -> None:
    """HE4, HE10."""
    attempts = Attempts((9.0, "late"), (0.1, "yes"))
    assert winner(attempts) == "memory:1"
    assert len(attempts.connections) == 2


@pytest.mark.parametrize("order", [0, 1])
def test_a_connection_outweighs_a_refusal_in_the_same_turn(order: int) -> None:
    script: list[tuple[float, Any]] = [(0.5, "yes"), (0.25, HandshakeError("no", fatal=True))]
    if order:
        script = [(0.5, HandshakeError("no", fatal=True)), (0.25, "yes")]
    assert winner(Attempts(*script)) == f"memory:{order}"


def test_a_refusal_for_good_ends_the_race_and_everything_in_it() -> None:
    attempts = Attempts((9.0, "late"), (0.1, HandshakeError("no", fatal=True)))
    with pytest.raises(HandshakeError):
        attempts.run()
    assert [attempts.is_open(connection) for connection in attempts.connections] == [False]


def test_all_may_fail() -> None:
    """HE9: what each of them failed of is kept by whoever attempts."""
    dialled, at = Attempts((0.1, None), (0.1, None)).run()
    assert dialled is None
    assert at == pytest.approx(0.2)


def test_no_more_run_at_a_time_than_allowed() -> None:
    attempts = Attempts((1.0, None), (1.0, None), (0.1, "yes"))
    assert winner(attempts, max_concurrent=2) == "memory:2"
    assert attempts.began == pytest.approx([0.0, 0.25, 1.0])


@pytest.mark.parametrize("when", [0.05, 0.25, 0.5])
def test_a_race_that_is_cancelled_leaves_nothing(when: float) -> None:
    """HE9, HE10: a cancellation is never swallowed."""
    attempts = Attempts((0.5, "yes"), (9.0, "late"))

    async def main() -> None:
        plan = DialPlan(2, delay=0.25, max_concurrent=2)
        racing = asyncio.create_task(race(attempts.candidates, plan, attempts))
        await asyncio.sleep(when)
        racing.cancel()
        await asyncio.gather(racing, return_exceptions=True)
        assert racing.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())
    assert not any(map(attempts.is_open, attempts.connections))
