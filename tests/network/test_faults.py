"""A link between two machines, on a network that fails in every way that networks do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps

import pytest
from tests.network.lab import Lab, Setting, assert_in_order, laboratory
from tests.network.namespace import missing
from tests.network.way import BLACK_HOLE, Conditions
from tests.network.wire import SIDES, Side, other
from tests.network.words import Order, Seen

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

PATIENT = Setting().timeout + 1.0
"""Seconds within which a silent peer is found out on a machine that is busy with other things as well."""


def in_laboratory(
    setting: Setting | None = None,
) -> Callable[[Callable[[Lab], Awaitable[None]]], Callable[[], None]]:
    """Make a test of what is to happen in a laboratory."""

    def decorate(scenario: Callable[[Lab], Awaitable[None]]) -> Callable[[], None]:
        async def run() -> None:
            async with laboratory(setting) as lab:
                await scenario(lab)

        @wraps(scenario)
        def test() -> None:
            asyncio.run(run())

        del test.__wrapped__  # or pytest looks for a fixture called "lab"
        return test

    return decorate


async def both_lose(lab: Lab, since: float) -> dict[Side, Seen]:
    """Wait until both ends have given their connection up."""
    return {side: await lab.residents[side].saw("down", since) for side in SIDES}


async def work_goes_on(lab: Lab, since: float) -> None:
    """Wait until the link is up again; it is the same session, and nothing was lost, doubled or misplaced in it."""
    await lab.linked(since)
    await recovered(lab)


async def recovered(lab: Lab) -> None:
    """Wait until messages flow again."""
    await lab.flowing()
    await lab.settled()
    for resident in lab.residents.values():
        assert [s.text for s in resident.seen if s.event == "linked"] == [resident.seen_first("up").text]


@in_laboratory()
async def test_packets_vanish_both_ways_and_both_ends_find_out_in_time_and_lose_nothing(lab: Lab) -> None:
    began = lab.now()
    lab.wire.set(BLACK_HOLE, BLACK_HOLE)

    for seen in (await both_lose(lab, began)).values():
        assert seen.text.startswith("nothing was heard for")
        assert seen.at - began < PATIENT

    healed = lab.now()
    lab.wire.set()
    await work_goes_on(lab, healed)


@pytest.mark.parametrize("deaf", SIDES)
def test_packets_vanish_one_way_and_the_deaf_end_finds_out_in_time_and_the_other_soon_after(deaf: Side) -> None:
    async def scenario(lab: Lab) -> None:
        began = lab.now()
        lab.wire.set(**{f"towards_{deaf}": BLACK_HOLE})

        found = await both_lose(lab, began)
        assert found[deaf].text.startswith("nothing was heard for")
        assert found[deaf].at - began < PATIENT
        # It may be heard, or not, that the deaf end has hung up; then there is nothing more to be heard of it.
        assert found[other(deaf)].at - found[deaf].at < PATIENT

        healed = lab.now()
        lab.wire.set()
        await work_goes_on(lab, healed)

    in_laboratory()(scenario)()


@in_laboratory()
async def test_up_to_30_percent_of_the_packets_are_lost_and_no_message_is(lab: Lab) -> None:
    for loss in (0.01, 0.1, 0.3):
        lab.wire.set(Conditions(loss=loss), Conditions(loss=loss))
        before = lab.wire.dropped
        while lab.wire.dropped < before + 10:
            await asyncio.sleep(0.05)

    lab.wire.set()
    await recovered(lab)


@in_laboratory()
async def test_packets_overtake_each_other_and_come_twice_and_no_message_does(lab: Lab) -> None:
    began = lab.now()
    unruly = Conditions(delay=0.02, jitter=0.02, duplication=0.2)
    lab.wire.set(unruly, unruly)

    await lab.flowing()
    await asyncio.sleep(0.5)

    assert not any(resident.find("down", began) for resident in lab.residents.values())
    await lab.settled()


@in_laboratory()
async def test_a_link_that_flaps_is_kept(lab: Lab) -> None:
    for _ in range(4):
        lab.wire.set(BLACK_HOLE, BLACK_HOLE)
        await asyncio.sleep(0.15)
        lab.wire.set()
        await asyncio.sleep(0.15)

    await recovered(lab)


@in_laboratory()
async def test_a_cable_is_pulled_and_plugged_in_again(lab: Lab) -> None:
    began = lab.now()
    lab.wire.set_carrier("manager", False)

    for seen in (await both_lose(lab, began)).values():
        assert seen.at - began < PATIENT

    healed = lab.now()
    lab.wire.set_carrier("manager", True)
    await work_goes_on(lab, healed)


@in_laboratory()
async def test_an_interface_is_switched_off_and_on(lab: Lab) -> None:
    began = lab.now()
    await lab.host.order(Order("down"))

    for seen in (await both_lose(lab, began)).values():
        assert seen.at - began < PATIENT

    healed = lab.now()
    await lab.host.order(Order("up"))
    await work_goes_on(lab, healed)


@in_laboratory()
async def test_the_manager_gets_another_address_and_dials_from_there(lab: Lab) -> None:
    began = lab.now()
    await lab.move("manager")

    assert (await lab.manager.saw("down", began)).at - began < PATIENT
    await work_goes_on(lab, began)


@in_laboratory()
async def test_the_host_gets_another_address_and_is_reached_by_the_second_endpoint(lab: Lab) -> None:
    began = lab.now()
    address = await lab.move("host")

    await lab.manager.saw("state", began, f"-> established (resume-succeeded: host at tcp:{address}:")
    await work_goes_on(lab, began)


@in_laboratory()
async def test_a_firewall_forgets_its_connections_and_resets_them(lab: Lab) -> None:
    began = lab.now()
    lab.wire.forget()

    for seen in (await both_lose(lab, began)).values():
        assert not seen.text.startswith("nothing was heard")

    await work_goes_on(lab, began)
    assert lab.wire.resets


@in_laboratory(Setting(timeout=3.0))
async def test_a_message_of_1_mib_on_a_line_of_64_kbit_a_second_starves_no_heartbeat(lab: Lab) -> None:
    """Its queue takes two seconds to pass, in the one direction; the other is as free as ever."""
    await lab.settled()
    lab.wire.set(towards_host=Conditions(delay=0.01, bandwidth=8_000, queue=16 * 1024))
    began = lab.now()
    await lab.manager.order(Order("large", size=1024 * 1024))
    await lab.manager.order(Order("work"))

    await asyncio.sleep(3.5)  # two minutes' worth of it is still under way
    assert not any(resident.find("down", began) for resident in lab.residents.values())

    lab.wire.set()
    await lab.host.saw("large", began)
    await lab.settled()


@in_laboratory()
async def test_the_hosts_machine_vanishes_and_the_manager_links_to_the_next_one_and_says_what_was_lost(
    lab: Lab,
) -> None:
    began = lab.now()
    await lab.vanish("host")

    assert (await lab.manager.saw("down", began)).at - began < PATIENT
    await lab.settle_in("host")

    lost = await lab.manager.saw("lost", began)
    assert (lost.last, lost.count) == (lost.sent, lost.last - lost.first + 1)
    assert_in_order(lost)
    await lab.flowing()
    await lab.settled()


@in_laboratory(Setting(expiry=0.5))
async def test_the_managers_machine_vanishes_and_the_host_gives_its_session_up_when_that_has_expired(lab: Lab) -> None:
    began = lab.now()
    await lab.vanish("manager")

    down = await lab.host.saw("down", began)
    assert down.at - began < PATIENT
    lost = await lab.host.saw("lost", began)
    assert 0.5 <= lost.at - down.at < 2.5
    assert (lost.last, lost.count) == (lost.sent, lost.last - lost.first + 1)
    assert_in_order(lost)

    await lab.settle_in("manager")
    await lab.flowing()
    await lab.settled()
