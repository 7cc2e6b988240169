"""One link between a manager and a host, by itself, in virtual time."""

import asyncio
from typing import Any

import pytest
from tests.mesh.way import Way, now, until

from meshvisor.shared.core.states import TRANSITIONS, ConnectionState, StateChange
from meshvisor.shared.errors import (
    ConnectFailed,
    HandshakeError,
    LinkClosed,
    PeerLeft,
    PeerLost,
    RetryAfter,
)
from meshvisor.shared.mesh.options import ConnectionOptions
from meshvisor.workers.testing import run_virtual


def test_messages_pass_in_both_directions_and_nothing_is_left_running() -> None:
    async def main() -> None:
        way = Way()
        async with way.host() as host, way.manager() as manager:
            connection = await manager.connect()
            accepted = await host.accept()
            assert (connection.node_id, accepted.node_id) == ("host", "client")
            assert connection.session_id == accepted.session_id
            assert await connection.send(b"hello") == 1
            assert await connection.send(bytearray(b"x" * 100_000)) == 2
            first, second = await accepted.receive(), await accepted.receive()
            assert (first.sender, first.body, first.number) == ("client", b"hello", 1)
            assert isinstance(second.body, bytearray)
            assert len(second.body) == 100_000
            await accepted.send(b"back")
            assert (await connection.receive()).body == b"back"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


def test_a_handle_survives_cuts_without_losing_or_doubling_a_message() -> None:
    async def main() -> None:
        way = Way()
        changes: list[StateChange] = []
        async with way.host() as host, way.manager() as manager:
            manager.on_state_changed(changes.append)
            connection = await manager.connect()
            accepted = await host.accept()
            for number in range(50):
                await connection.send(str(number).encode())
                if number % 10 == 5:
                    way.cut()
            bodies = [(await accepted.receive()).body for _ in range(50)]
            assert bodies == [str(number).encode() for number in range(50)]
            assert await manager.connect() is connection
        assert len(way.dialled) >= 2
        states = [change.current for change in changes]
        assert states[:3] == [ConnectionState.CONNECTING, ConnectionState.HANDSHAKE, ConnectionState.ESTABLISHED]
        assert ConnectionState.RECONNECTING in states
        assert states[-1] is ConnectionState.CLOSED
        assert all(change.current in TRANSITIONS[change.previous] for change in changes)

    run_virtual(main())


def test_a_silent_connection_is_found_by_both_sides_and_replaced() -> None:
    async def main() -> None:
        way = Way()
        options: dict[str, Any] = {"heartbeat_interval": 0.25, "heartbeat_timeout": 2.0}
        async with way.host(**options) as host, way.manager(**options) as manager:
            connection = await manager.connect()
            await host.accept()
            await asyncio.sleep(30)
            assert len(way.dialled) == 1, "an idle link is kept alive by its pings"
            # A black hole: nothing that is written arrives any more, and nothing fails.
            way.mute()
            start = now()
            await until(lambda: len(way.dialled) == 2 and manager.state is ConnectionState.ESTABLISHED)
            assert now() - start < 3.0
            await connection.send(b"alive")

    run_virtual(main())


def test_a_restarted_host_is_one_loss_and_a_new_handle() -> None:
    """R28."""

    async def main() -> None:
        way = Way()
        lost: list[PeerLost] = []
        async with way.manager(endpoint_blacklist_duration=0.5) as manager:
            manager.on_peer_lost(lost.append)
            async with way.host() as host:
                connection = await manager.connect()
                accepted = await host.accept()
                await connection.send(b"1")
                await connection.send(b"2")
                await accepted.receive()
                await asyncio.sleep(1)
                await way.kill(host)
            async with way.host() as host:
                await until(lambda: bool(lost))
                again = await manager.connect()
                assert again is not connection
                assert (lost[0].first, lost[0].last, lost[0].count) == (2, 2, 1)
                with pytest.raises(PeerLost):
                    await connection.send(b"3")
                with pytest.raises(PeerLost):
                    await connection.receive()
                assert await again.send(b"new") == 1
                assert (await (await host.accept()).receive()).body == b"new"
            assert len(lost) == 1

    run_virtual(main())


def test_a_goodbye_ends_the_iteration_and_nobody_dials_by_itself() -> None:
    async def main() -> None:
        way = Way()
        async with way.manager() as manager, way.host() as host:
            connection = await manager.connect()
            accepted = await host.accept()
            await accepted.send(b"last")
            await accepted.close()
            assert [message.body async for message in connection] == [b"last"]
            with pytest.raises(PeerLeft):
                await connection.send(b"too late")
            await until(lambda: manager.state is ConnectionState.DISCONNECTED)
            await asyncio.sleep(30)
            assert len(way.dialled) == 1
            again = await manager.connect()
            assert again.session_id != connection.session_id
            assert (await host.accept()).session_id == again.session_id

    run_virtual(main())


def test_who_leaves_with_messages_that_nobody_took_is_told_to_their_sender_with_their_numbers() -> None:
    async def main() -> None:
        way = Way()
        async with way.manager() as manager, way.host() as host:
            connection = await manager.connect()
            accepted = await host.accept()
            for number in range(1, 5):
                assert await connection.send(b"%d" % number) == number
            assert (await accepted.receive()).number == 1
            await accepted.close()
            await until(lambda: manager.state is ConnectionState.DISCONNECTED)
            with pytest.raises(PeerLeft, match="had not acknowledged messages 2 to 4") as left:
                await connection.send(b"too late")
            assert (left.value.first, left.value.last, left.value.count) == (2, 4, 3)

    run_virtual(main())


def test_disconnect_leaves_the_manager_usable_and_the_host_gets_a_new_handle() -> None:
    async def main() -> None:
        way = Way()
        async with way.host() as host, way.manager() as manager:
            first = await manager.connect()
            accepted = await host.accept()
            await manager.disconnect()
            assert manager.state is ConnectionState.DISCONNECTED
            with pytest.raises(PeerLeft):
                await accepted.receive()
            with pytest.raises(LinkClosed):
                await first.send(b"x")
            second = await manager.connect()
            assert (await host.accept()).session_id == second.session_id != first.session_id

    run_virtual(main())


def test_connect_gives_up_in_time_and_names_every_attempt() -> None:
    """HE9."""

    async def main() -> None:
        way = Way()
        way.behaviour["memory:slow"] = 3600.0
        async with way.manager("memory:nowhere", "memory:slow", connect_timeout=5.0) as manager:
            start = now()
            with pytest.raises(ConnectFailed) as failure:
                await manager.connect()
            assert now() - start == pytest.approx(5.0)
            assert dict(failure.value.attempts).keys() == {"memory:nowhere", "memory:slow"}
            assert "within 2 s" in str(failure.value)
            assert manager.state is ConnectionState.DISCONNECTED
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


def test_attempts_overlap_after_the_delay_and_losers_are_closed() -> None:
    """HE1, HE3, HE4, HE10."""

    async def main() -> None:
        way = Way()
        way.behaviour["memory:slow"] = 0.5
        async with way.host(), way.manager("memory:slow", "memory:host") as manager:
            connection = await manager.connect()
            assert connection.endpoint == "memory:host"
            assert [at for at, _ in way.dialled] == pytest.approx([0.0, 0.2])
            assert now() == pytest.approx(0.2, abs=0.01)

    run_virtual(main())


def test_never_more_attempts_at_once_than_allowed() -> None:
    async def main() -> None:
        way = Way()
        names = [f"memory:slow-{number}" for number in range(5)]
        way.behaviour |= dict.fromkeys(names, 1.0)
        async with way.host(), way.manager(*names, "memory:host", max_concurrent_dials=2) as manager:
            assert (await manager.connect()).endpoint == "memory:host"
            assert way.most_at_once == 2

    run_virtual(main())


def test_a_wrong_secret_is_fatal_and_ends_all_dialling() -> None:
    async def main() -> None:
        way = Way()
        async with way.host(secret=b"right"), way.manager(secret=b"wrong") as manager:
            with pytest.raises(HandshakeError, match="secret"):
                await manager.connect()
            assert manager.state is ConnectionState.FAILED
            await asyncio.sleep(60)
            assert len(way.dialled) == 1

    run_virtual(main())


def test_a_listed_endpoint_is_not_dialled_before_its_penalty_ends() -> None:
    async def main() -> None:
        way = Way()
        async with way.manager("memory:host", endpoint_blacklist_duration=3.0, connect_timeout=None) as manager:
            connecting = asyncio.create_task(manager.connect())
            await asyncio.sleep(1)
            async with way.host():
                await connecting
                assert [at for at, _ in way.dialled] == [0.0, pytest.approx(3.0, abs=0.01)]

    run_virtual(main())


def test_retry_after_is_never_undercut() -> None:
    async def main() -> None:
        way = Way()
        way.behaviour["memory:host"] = RetryAfter(4.0)
        async with way.host(), way.manager(endpoint_blacklist_duration=0.1) as manager:
            connecting = asyncio.create_task(manager.connect())
            await asyncio.sleep(0.01)
            way.behaviour.clear()
            await connecting
            assert way.dialled[1][0] >= 4.0

    run_virtual(main())


def test_close_while_connecting_ends_everything() -> None:
    async def main() -> None:
        way = Way()
        manager = way.manager(connect_timeout=None)
        connecting = asyncio.create_task(manager.connect())
        await asyncio.sleep(0.5)
        await manager.close()
        with pytest.raises(LinkClosed):
            await connecting
        with pytest.raises(LinkClosed):
            await manager.connect()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


def test_a_callback_that_raises_is_logged_and_the_others_still_run(caplog: pytest.LogCaptureFixture) -> None:
    def faulty(change: StateChange) -> None:
        raise RuntimeError("a mistake of the application")

    async def main() -> None:
        way = Way()
        changes: list[StateChange] = []
        async with way.host(), way.manager() as manager:
            manager.on_state_changed(faulty)
            stop = manager.on_state_changed(changes.append)
            await manager.connect()
            seen = len(changes)
            assert seen == 3
            stop()
        assert len(changes) == seen

    run_virtual(main())
    assert "a mistake of the application" in caplog.text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("node_id", ""),
        ("endpoints", []),
        ("endpoints", "tcp:127.0.0.1:1"),
        ("endpoints", ["nonsense"]),
        ("connect_timeout", -1.0),
        ("attempt_timeout", float("nan")),
        ("max_concurrent_dials", 0),
        ("heartbeat_timeout", 0.1),
        ("max_message", 0),
    ],
)
def test_an_impossible_option_is_refused_by_name(field: str, value: object) -> None:
    options: dict[str, Any] = {"node_id": "n", "endpoints": ["tcp:127.0.0.1:1"], field: value}
    with pytest.raises(ValueError, match=field):
        ConnectionOptions(**options)
