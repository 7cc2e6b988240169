"""What several processes know of bad endpoints, as each of them dials by it (DESIGN 5.1, 5.2)."""

import asyncio
import errno
import random
from typing import Any

import pytest
from tests.mesh.fake_blacklist import FakeBlacklist
from tests.mesh.fleet import Fleet
from tests.mesh.way import BLACK_HOLE, Way, now, until
from tests.mesh.way import play as drive

from meshvisor.shared.core.penalties import FailureSeverity
from meshvisor.shared.core.roster import NodeStatus
from meshvisor.shared.errors import ConnectFailed, HandshakeError, RetryAfter
from meshvisor.shared.mesh.penalties import SharedPenalties
from meshvisor.workers.testing import run_virtual

A, HOST = "memory:a", "memory:host"
SPREAD = SharedPenalties.spread


def virtually(scenario: Any) -> None:
    async def main() -> None:
        await scenario()

    run_virtual(main())


# The table.


def test_what_one_process_learns_bars_the_endpoint_for_all() -> None:
    async def scenario() -> None:
        one = FakeBlacklist("one")
        ours, theirs = SharedPenalties(one, 10.0), SharedPenalties(one.seen_by("two"), 10.0)
        assert ours.fail(A, now(), FailureSeverity.HARD, known=now()) == 10.0
        assert theirs.remaining(A, now()) == 10.0
        await asyncio.sleep(10)
        assert theirs.remaining(A, now()) == 0.0

    virtually(scenario)


def test_many_who_dialled_a_dead_endpoint_at_once_count_one_strike_and_all_bear_witness() -> None:
    async def scenario() -> None:
        one = FakeBlacklist("0")
        began = now()
        for name in range(50):
            table = SharedPenalties(one.seen_by(str(name)), 10.0)
            table.fail(A, now(), FailureSeverity.HARD, known=began)
            await asyncio.sleep(0.01)
        penalty = one.get_penalty(A)
        assert penalty is not None
        assert (penalty.strikes, penalty.reporters) == (1, 50)
        assert penalty.remaining == pytest.approx(9.5)
        # A dial that began after that is news.
        assert SharedPenalties(one, 10.0).fail(A, now(), known=now() + penalty.remaining) == 20.0

    virtually(scenario)


def test_what_cannot_be_written_is_kept_for_ourselves() -> None:
    async def scenario() -> None:
        one = FakeBlacklist()
        table = SharedPenalties(one, 10.0)
        one.is_locked = True
        assert table.fail(A, now()) == 10.0
        table.bar("memory:b", 4.0, now())
        one.is_locked = False
        assert not one.entries
        assert (table.remaining(A, now()), table.firm("memory:b", now())) == (10.0, 4.0)

    virtually(scenario)


def test_a_pause_that_is_there_already_is_not_kept_twice() -> None:
    async def scenario() -> None:
        one = FakeBlacklist("one")
        ours, theirs = SharedPenalties(one, 10.0), SharedPenalties(one.seen_by("two"), 10.0)
        theirs.bar(A, 60.0, now())
        ours.bar(A, 4.0, now())
        theirs.clear(A)
        assert ours.remaining(A, now()) == 0.0

    virtually(scenario)


def test_a_table_that_is_gone_is_replaced_by_one_of_our_own() -> None:
    async def scenario() -> None:
        one = FakeBlacklist()
        one.is_closed = True
        table = SharedPenalties(one, 10.0)
        table.subscribe(lambda key: None)()
        table.clear(A)
        table.forgive(A)
        assert table.remaining(A, now()) == 0.0
        assert table.fail(A, now()) == 10.0
        table.bar(A, 30.0, now())
        assert (table.remaining(A, now()), table.firm(A, now())) == (30.0, 30.0)

    virtually(scenario)


def test_what_is_between_the_endpoint_and_us_is_not_told() -> None:
    async def scenario() -> None:
        one = FakeBlacklist()
        table = SharedPenalties(one, 10.0)
        table.fail(A, now(), personal=True)
        table.bar("memory:b", 2.0, now(), personal=True)
        assert not one.entries
        assert (table.remaining(A, now()), table.remaining("memory:b", now())) == (10.0, 2.0)

    virtually(scenario)


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_a_key_that_is_too_long_for_the_shared_table_is_barred_for_ourselves(name: str) -> None:
    async def scenario() -> None:
        one = FakeBlacklist()
        table = SharedPenalties(one, 10.0)
        key = f"memory:{name}"
        assert table.fail(key, now()) == 10.0
        assert table.remaining(key, now()) == 10.0
        assert not one.entries
        table.clear(key)
        assert table.remaining(key, now()) == 0.0

    virtually(scenario)


def test_success_clears_for_everybody_and_a_new_incarnation_all_but_what_was_asked_for() -> None:
    async def scenario() -> None:
        one = FakeBlacklist("one")
        ours, theirs = SharedPenalties(one, 10.0), SharedPenalties(one.seen_by("two"), 10.0)
        ours.fail(A, now())
        ours.bar(A, 5.0, now())
        theirs.forgive(A)
        assert ours.remaining(A, now()) == 5.0
        theirs.clear(A)
        assert ours.remaining(A, now()) == 0.0
        assert ours.fail(A, now()) == 10.0

    virtually(scenario)


def test_a_pause_that_was_asked_for_and_a_fatal_penalty_hold_whatever_else_is_left() -> None:
    async def scenario() -> None:
        one = FakeBlacklist()
        table = SharedPenalties(one, 10.0)
        table.fail(A, now(), FailureSeverity.HARD)
        assert table.firm(A, now()) == 0.0
        table.bar(A, 3.0, now())
        assert table.firm(A, now()) == 3.0
        table.fail(A, now(), FailureSeverity.FATAL)
        assert table.firm(A, now()) == 20.0

    virtually(scenario)


# A manager.


def shared(way: Way, blacklist: FakeBlacklist, *endpoints: str, **options: Any) -> Any:
    return way.manager(*endpoints, blacklist=blacklist, **options)


def test_an_endpoint_that_another_process_has_penalised_is_not_dialled() -> None:
    async def scenario(way: Way) -> None:
        one = FakeBlacklist()
        one.set_penalty(A, "hard", 60.0)
        async with way.host(HOST), shared(way, one, A, HOST) as manager:
            await manager.connect()
            assert way.endpoints_dialled == ["host"]
            metrics = manager.metrics()
            assert metrics.blacklisted_endpoints == 1
            assert {rate.endpoint: rate.barred_for for rate in metrics.dial_rates} == {A: 60.0, HOST: 0.0}
            assert metrics.last_failure_severity is None

    drive(scenario)


def test_an_endpoint_that_is_penalised_during_the_race_is_passed_over() -> None:
    async def scenario(way: Way) -> None:
        one = FakeBlacklist()
        way.behaviour[A] = BLACK_HOLE
        options = {"connect_timeout": 1.0, "happy_eyeballs_delay": 0.2}
        async with shared(way, one, A, "memory:b", **options) as manager:
            connecting = asyncio.create_task(manager.connect())
            await asyncio.sleep(0.1)
            one.seen_by("other").set_penalty("memory:b", "hard", 60.0)
            with pytest.raises(ConnectFailed, match="barred for another"):
                await connecting
            assert way.endpoints_dialled == ["a"]

    drive(scenario)


def test_the_error_names_what_was_not_even_tried() -> None:
    async def scenario(way: Way) -> None:
        one = FakeBlacklist()
        one.set_penalty(A, "hard", 60.0)
        async with shared(way, one, A, connect_timeout=10.0) as manager:
            with pytest.raises(ConnectFailed) as failure:
                await manager.connect()
            assert failure.value.attempts == ((A, "not tried: it failed before, and is barred for another 50 s"),)
            assert way.dialled == []

    drive(scenario)


def test_a_manager_tells_how_bad_its_failures_are() -> None:
    async def scenario(way: Way) -> None:
        one = FakeBlacklist("client")
        way.behaviour["memory:b"] = RetryAfter(7.0)
        way.behaviour["memory:c"] = OSError(errno.EMFILE, "too many open files")
        async with way.host(HOST), shared(way, one, A, "memory:b", "memory:c", HOST) as manager:
            await manager.connect()
        assert {key: (entry.severity, entry.until, entry.asked_until) for key, entry in one.entries.items()} == {
            A: ("hard", 10.0, 0.0),
            "memory:b": ("soft", 7.0, 7.0),
        }  # that we have no descriptors is nobody's fault
        async with way.host("memory:d", secret=b"theirs"), shared(way, one, "memory:d", secret=b"ours") as manager:
            with pytest.raises(HandshakeError):
                await manager.connect()
        assert one.entries["memory:d"].severity == "fatal"

    drive(scenario)


def test_success_frees_the_endpoint_for_everybody() -> None:
    async def scenario(way: Way) -> None:
        one = FakeBlacklist()
        async with shared(way, one, HOST, connect_timeout=None) as manager:
            connecting = asyncio.create_task(manager.connect())
            await until(lambda: one.get_penalty(HOST) is not None)
            async with way.host(HOST):
                await connecting
                assert one.entries == {}

    drive(scenario)


@pytest.mark.parametrize("how", ["clear_penalty", "forgive"])
def test_a_manager_that_waits_for_the_end_of_a_penalty_dials_at_once_when_it_is_lifted(how: str) -> None:
    async def scenario(way: Way) -> None:
        one = FakeBlacklist()
        one.set_penalty(HOST, "hard", 300.0)
        async with way.host(HOST), shared(way, one, HOST, connect_timeout=None) as manager:
            connecting = asyncio.create_task(manager.connect())
            await asyncio.sleep(5)
            one.clear_penalty("memory:another")
            one.set_penalty(HOST, "fatal", 300.0)
            await asyncio.sleep(5)
            assert way.dialled == []
            getattr(one.seen_by("operator"), how)(HOST)
            await connecting
            assert way.dialled == [(10.0, "host")]
        assert one.callbacks == []

    drive(scenario)


def test_those_who_wait_for_one_penalty_do_not_all_dial_at_its_end() -> None:
    async def scenario(way: Way) -> None:
        one = FakeBlacklist()
        one.set_penalty(HOST, "hard", 5.0)
        way.behaviour[HOST] = ConnectionRefusedError("dead")
        managers = [shared(way, one, HOST, rng=random.Random(number), connect_timeout=None) for number in range(50)]
        connecting = [asyncio.create_task(manager.connect()) for manager in managers]
        await asyncio.sleep(5 + SPREAD)
        assert [name for _, name in way.dialled] == ["host"]
        assert 5.0 <= way.dialled[0][0] < 5.0 + SPREAD
        for manager, task in zip(managers, connecting, strict=True):
            await manager.close()
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)

    drive(scenario)


def test_a_fatal_penalty_is_kept_in_a_panic() -> None:
    async def scenario(way: Way) -> None:
        one = FakeBlacklist()
        one.set_penalty(A, "fatal", 60.0)
        one.set_penalty(HOST, "hard", 60.0)
        async with way.host(HOST), way.host(A), shared(way, one, A, HOST) as manager:
            await manager.connect()
            assert way.endpoints_dialled == ["host"]

    drive(scenario)


# A mesh.


def test_a_mesh_waits_for_a_shared_penalty_and_dials_at_once_when_it_is_lifted(play: Any) -> None:
    async def scenario(fleet: Fleet) -> None:
        one = FakeBlacklist()
        (alpha,) = await fleet.start("alpha", blacklist=one.seen_by("alpha"))
        one.set_penalty("memory:alpha-1", "hard", 300.0)
        (beta,) = await fleet.start("beta", blacklist=one.seen_by("beta"))
        await asyncio.sleep(0.2)
        assert beta.adapter.dialled == []
        at = now()
        one.clear_penalty("memory:alpha-1")
        await fleet.until(lambda: bool(beta.up))
        assert now() == pytest.approx(at, abs=0.01)
        assert beta.adapter.dialled == ["memory:alpha-1"]
        assert alpha.up

    play(scenario)


def test_a_new_incarnation_lifts_the_penalty_of_its_endpoint_for_everybody(play: Any) -> None:
    async def scenario(fleet: Fleet) -> None:
        one = FakeBlacklist()
        (alpha,) = await fleet.start("alpha", blacklist=one)
        one.set_penalty("memory:beta-1", "hard", 300.0)
        await fleet.start("beta")
        await fleet.until(lambda: bool(alpha.up))
        assert one.get_penalty("memory:beta-1") is None

    play(scenario)


def test_a_newcomer_to_whom_all_are_new_forgives_nobody(play: Any) -> None:
    async def scenario(fleet: Fleet) -> None:
        one = FakeBlacklist()
        await fleet.start("alpha")
        one.set_penalty("memory:alpha-1", "hard", 300.0)
        await fleet.start("beta", blacklist=one)
        assert one.get_penalty("memory:alpha-1") is not None

    play(scenario)


def test_a_replacement_leaves_no_penalty_behind(play: Any) -> None:
    """Whoever dials a dead peer before the news of its death is here takes its penalty back with the news."""

    async def scenario(fleet: Fleet) -> None:
        one = FakeBlacklist()
        (alpha,) = await fleet.start("alpha", blacklist=one)
        (beta,) = await fleet.start("beta", blacklist=one)
        await fleet.until(lambda: bool(alpha.up and beta.up))
        gone = beta.record(NodeStatus.DOWN)
        await fleet.kill("beta")
        await fleet.until(lambda: one.get_penalty("memory:beta-1") is not None)
        fleet.tell(gone)
        assert one.get_penalty("memory:beta-1") is None

    play(scenario)


def test_a_node_that_is_not_known_yet_bars_nobody_but_itself(play: Any) -> None:
    """ "Not in our roster yet" is about the one who dials; for everybody else the endpoint is open."""

    async def scenario(fleet: Fleet) -> None:
        one = FakeBlacklist()
        (alpha,) = await fleet.start("alpha")
        (beta,) = await fleet.start("beta", blacklist=one)
        await fleet.until(lambda: bool(beta.up))
        alpha.mesh.apply([beta.record(NodeStatus.REMOVED)])
        beta.adapter.cut()
        await asyncio.sleep(2.0)
        assert beta.adapter.dialled.count("memory:alpha-1") > 1
        assert one.get_penalty("memory:alpha-1") is None

    play(scenario)
