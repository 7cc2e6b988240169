"""Attempts without a task: what becomes of them, and that nothing is left of one that has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from meshvisor.shared.core.endpoint import Endpoint
from meshvisor.shared.core.frames import HEADER_SIZE, PREAMBLE_SIZE
from meshvisor.shared.core.handshake import AcceptingSide, Identity, RefusalCode
from meshvisor.shared.core.penalties import FailureSeverity, Penalties
from meshvisor.shared.mesh.dialer import AttemptFailed, Dialer, Dialled, Proposal
from meshvisor.shared.mesh.direct import DirectDial, DirectDialer
from meshvisor.shared.transport.base import Stream, TransportAdapter, TransportOptions
from meshvisor.shared.transport.memory import MemoryNetwork, MemoryTransportAdapter
from meshvisor.workers.rehearsal import Stage
from meshvisor.workers.testing import run_virtual

ME = Identity("me", 1, 1, (1, 1))
YOU = Identity("you", 1, 2, (1, 1))
HERE = Endpoint.parse("rehearsal:here")
SESSION = bytes(16)
SECRET = b"secret"
LIMIT = 5.0

Scene = Callable[["Ends"], Coroutine[Any, Any, None]]


class Ends:
    """A dialling node, and the listener that it dials, which says what a test has it say."""

    def __init__(self, adapter: TransportAdapter) -> None:
        self.penalties = Penalties(10.0)
        dialer = Dialer(
            ME,
            SECRET,
            adapters={"rehearsal": adapter, "memory": adapter},
            attempt_timeout=LIMIT,
            penalties=self.penalties,
        )
        self.direct = DirectDialer(dialer)
        self.adapter = adapter
        self.outcomes: list[Dialled | AttemptFailed] = []
        self.over = asyncio.Event()
        self.streams: list[Stream] = []

    async def dial(self) -> tuple[DirectDial, Stream, Stream]:
        """Begin an attempt; return it, and the control and the data stream at the other end."""
        listener = await self.adapter.listen(HERE, TransportOptions("you"))
        dial = self.direct.begin(HERE, lambda peer: Proposal(SESSION, (0, 0)), self._ended)
        assert dial is not None
        control, data = await listener.accept(), await listener.accept()
        listener.close()
        self.streams += [control, data]
        return dial, control, data

    def _ended(self, outcome: Dialled | AttemptFailed) -> None:
        self.outcomes.append(outcome)
        self.over.set()

    async def failure(self) -> str:
        await self.over.wait()
        (outcome,) = self.outcomes
        assert isinstance(outcome, AttemptFailed)
        return str(outcome)

    @property
    def bar(self) -> float:
        return self.penalties.remaining(HERE.key, self.direct.now())


async def greeted(control: Stream, secret: bytes = SECRET) -> tuple[AcceptingSide, bytes]:
    """Take HELLO in; return the side that heard it, and its WELCOME."""
    said = await control.read(4096)
    connection_id = said[PREAMBLE_SIZE - 16 : PREAMBLE_SIZE]
    side = AcceptingSide(YOU, secret=secret, connection_id=connection_id, nonce=bytes(32))
    return side, side.greeted(said[PREAMBLE_SIZE + HEADER_SIZE :])


@pytest.fixture
def play() -> Callable[[Scene], None]:
    """Run a scene in virtual time; it must leave nothing under way."""

    def play(scene: Scene) -> None:
        async def main() -> None:
            ends = Ends(Stage())
            await scene(ends)
            assert not ends.direct._dials
            ends.direct.close()
            for stream in ends.streams:
                stream.close()

        run_virtual(main())

    return play


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_an_attempt_succeeds_however_its_answers_are_split(play: Callable[[Scene], None], step: int) -> None:
    async def say(stream: Stream, text: bytes) -> None:
        for at in range(0, len(text), step):
            await stream.write(text[at : at + step])
            await asyncio.sleep(0.001)

    async def scene(ends: Ends) -> None:
        ends.penalties.fail(HERE.key, -1000.0)
        _, control, data = await ends.dial()
        side, welcome = await greeted(control)
        await say(control, welcome)
        bind = await data.read(4096)
        side.bound(bind[PREAMBLE_SIZE + HEADER_SIZE :])
        side.proved((await control.read(4096))[HEADER_SIZE:])
        await say(control, side.accept(SESSION, (3, 4)) + b"next")
        await ends.over.wait()
        (outcome,) = ends.outcomes
        assert isinstance(outcome, Dialled)
        assert (outcome.peer, outcome.received) == (YOU, (3, 4))
        assert await outcome.connection.control.read(4096) == b"next", "what follows belongs to the link"
        outcome.connection.close()

    play(scene)


def test_silence_ends_an_attempt_at_its_time_limit_and_bars_the_endpoint(play: Callable[[Scene], None]) -> None:
    async def scene(ends: Ends) -> None:
        began = ends.direct.now()
        _, control, _ = await ends.dial()
        assert await ends.failure() == "no answer within 5 s"
        assert ends.direct.now() == pytest.approx(began + LIMIT, abs=0.01)
        assert ends.bar == pytest.approx(10.0, abs=0.01)
        await control.read(4096)
        assert await control.read(1) == b"", "nothing is left open"

    play(scene)


def test_a_peer_that_hangs_up_in_the_middle_has_failed(play: Callable[[Scene], None]) -> None:
    async def scene(ends: Ends) -> None:
        _, control, _ = await ends.dial()
        await greeted(control)
        control.close()
        assert "closed the connection during the handshake" in await ends.failure()
        assert ends.bar

    play(scene)


def test_a_peer_without_the_secret_is_refused_for_good(play: Callable[[Scene], None]) -> None:
    async def scene(ends: Ends) -> None:
        _, control, data = await ends.dial()
        await control.write((await greeted(control, b"another"))[1])
        assert "does not know our secret" in await ends.failure()
        assert ends.direct.dialer.last_severity is FailureSeverity.FATAL
        assert await data.read(1) == b"", "it is told nothing"

    play(scene)


def test_noise_in_the_place_of_an_answer_is_a_failure(play: Callable[[Scene], None]) -> None:
    async def scene(ends: Ends) -> None:
        _, control, _ = await ends.dial()
        await control.write(b"\xff" * 100)
        assert "has no place here" in await ends.failure()

    play(scene)


@pytest.mark.parametrize("is_greeted", [False, True])
def test_a_refusal_is_taken_in_the_place_of_either_answer(play: Callable[[Scene], None], is_greeted: bool) -> None:
    async def scene(ends: Ends) -> None:
        _, control, _ = await ends.dial()
        side, welcome = await greeted(control)
        if is_greeted:
            await control.write(welcome)
            side.proved((await control.read(4096))[HEADER_SIZE:])
        await control.write(side.refuse(RefusalCode.DUPLICATE, "another one wins"))
        assert await ends.failure() == "handshake failed: refused (duplicate): another one wins"
        assert not ends.bar, "that says nothing against the endpoint"

    play(scene)


def test_nobody_is_told_of_an_attempt_that_is_cancelled(play: Callable[[Scene], None]) -> None:
    async def scene(ends: Ends) -> None:
        dial, control, _ = await ends.dial()
        await greeted(control)
        dial.cancel()
        dial.cancel()
        await asyncio.sleep(2 * LIMIT)
        assert not ends.outcomes
        assert await control.read(1) == b""

    play(scene)


def test_an_endpoint_that_is_barred_is_left_alone(play: Callable[[Scene], None]) -> None:
    async def scene(ends: Ends) -> None:
        ends.penalties.fail(HERE.key, ends.direct.now())
        assert ends.direct.begin(HERE, lambda peer: Proposal(SESSION, (0, 0)), ends.outcomes.append) is None

    play(scene)


def test_an_endpoint_that_nobody_listens_at_has_failed_at_once(play: Callable[[Scene], None]) -> None:
    async def scene(ends: Ends) -> None:
        with pytest.raises(AttemptFailed, match="Connection refused"):
            ends.direct.begin(HERE, lambda peer: Proposal(SESSION, (0, 0)), ends.outcomes.append)
        assert ends.bar
        assert not ends.outcomes

    play(scene)


def test_a_transport_that_has_no_sockets_is_left_to_tasks() -> None:
    async def main() -> None:
        ends = Ends(MemoryTransportAdapter(MemoryNetwork()))
        there = Endpoint.parse("memory:here")
        assert ends.direct.begin(there, lambda peer: Proposal(SESSION, (0, 0)), ends.outcomes.append) is None

    run_virtual(main())
