"""Asking all workers how their links are: in time, once, and never all of them together."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from meshvisor.shared.control.lifeline import LinkReport, LinksWanted
from meshvisor.shared.control.links import LinkTotals
from meshvisor.supervisor.snapshot import Answer, NodeLinks, WorkerState
from meshvisor.supervisor.survey import PATIENCE, SHARED, Survey
from meshvisor.workers.testing import run_virtual


class FakeSlot:
    """Answers ``delay`` seconds after it was asked; None: never."""

    def __init__(
        self, name: str, delay: float | None = 0.001, *, is_node: bool = True, can_be_asked: bool = True
    ) -> None:
        self.name = name
        self.is_node = is_node
        self.incarnation = 1
        self.delay = delay
        self.can_be_asked = can_be_asked
        self.asked: list[float] = []
        self.questions: list[LinksWanted] = []
        self.number_of: Callable[[int], int] = lambda number: number

    def want_links(self, question: LinksWanted, reported: Callable[[LinkReport], None]) -> bool:
        if not self.can_be_asked:
            return False
        loop = asyncio.get_running_loop()
        self.asked.append(loop.time())
        self.questions.append(question)
        if self.delay is not None:
            loop.call_later(self.delay, reported, LinkReport(self.number_of(question.number), LinkTotals(), ()))
        return True

    def links(self, report: LinkReport | None) -> NodeLinks:
        silent = Answer.SILENT if self.can_be_asked else Answer.ABSENT
        answer = silent if report is None else Answer.FRESH
        return NodeLinks(self.name, "w", WorkerState.READY, 1, self.incarnation, answer, None, None, 0, 0, 0, 0)


def now() -> float:
    return asyncio.get_running_loop().time()


def survey(*slots: FakeSlot, scenario: Callable[[Survey], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        one = Survey(slots)
        await scenario(one)
        one.close()

    run_virtual(main())


async def answers(one: Survey) -> dict[str, str]:
    return {node.name: str(node.answer) for node in await one.links()}


def test_all_workers_are_asked_in_their_order_and_no_command_is() -> None:
    slots = [FakeSlot("b"), FakeSlot("a"), FakeSlot("redis", is_node=False)]

    async def scenario(one: Survey) -> None:
        assert list((await answers(one)).items()) == [("b", "fresh"), ("a", "fresh")]
        assert now() == pytest.approx(0.001)

    survey(*slots, scenario=scenario)


def test_who_does_not_answer_in_time_is_silent_and_delays_nobody_else_for_longer() -> None:
    slots = [FakeSlot("a"), FakeSlot("hung", None), FakeSlot("late", PATIENCE + 0.01)]

    async def scenario(one: Survey) -> None:
        assert await answers(one) == {"a": "fresh", "hung": "silent", "late": "silent"}
        assert now() == pytest.approx(PATIENCE, abs=0.002)

    survey(*slots, scenario=scenario)


def test_who_cannot_be_asked_is_not_waited_for() -> None:
    slots = [FakeSlot("a"), FakeSlot("down", can_be_asked=False)]

    async def scenario(one: Survey) -> None:
        assert await answers(one) == {"a": "fresh", "down": "absent"}
        assert now() == pytest.approx(0.001)

    survey(*slots, scenario=scenario)


def test_a_mesh_without_workers_has_no_links() -> None:
    async def scenario(one: Survey) -> None:
        assert await one.links() == ()

    survey(FakeSlot("redis", is_node=False), scenario=scenario)


def test_who_asks_during_a_round_or_just_after_it_shares_its_result() -> None:
    slot = FakeSlot("a", 0.01)

    async def scenario(one: Survey) -> None:
        first, second = await asyncio.gather(one.links(), one.links())
        assert first is second
        await asyncio.sleep(SHARED - 0.001)
        assert await one.links() is first
        await asyncio.sleep(0.002)
        assert await one.links() is not first
        assert len(slot.asked) == 2

    survey(slot, scenario=scenario)


def test_who_wants_to_know_of_each_link_waits_for_a_round_about_the_totals_and_begins_another_one() -> None:
    slot = FakeSlot("a", 0.01)

    async def scenario(one: Survey) -> None:
        totals, first, second, again = await asyncio.gather(
            one.links(each=False), one.links(), one.links(), one.links(each=False)
        )
        assert slot.questions == [LinksWanted(1, each=False), LinksWanted(2)]
        assert first is second
        assert totals is again is not first
        assert await one.links(each=False) is first

    survey(slot, scenario=scenario)


def test_who_gives_up_takes_the_result_from_nobody() -> None:
    async def scenario(one: Survey) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.links(), 0.01)
        assert await answers(one) == {"a": "fresh"}

    survey(FakeSlot("a", 0.02), scenario=scenario)


def test_the_answer_to_an_earlier_question_is_none_to_this_one() -> None:
    slot = FakeSlot("a")
    slot.number_of = lambda number: number - 1

    async def scenario(one: Survey) -> None:
        assert await answers(one) == {"a": "silent"}

    survey(slot, scenario=scenario)


def test_what_a_worker_said_that_has_been_replaced_since_does_not_count() -> None:
    slot, slow = FakeSlot("a"), FakeSlot("b", 0.1)

    async def scenario(one: Survey) -> None:
        asyncio.get_running_loop().call_later(0.05, setattr, slot, "incarnation", 2)
        first, _ = await one.links()
        assert (first.incarnation, first.answer) == (2, Answer.SILENT)

    survey(slot, slow, scenario=scenario)


def test_a_few_are_asked_at_a_time_and_another_one_whenever_one_has_answered() -> None:
    slots = [FakeSlot(f"n{number}", 0.002) for number in range(12)]

    async def scenario(one: Survey) -> None:
        await one.links()
        times = sorted(at for slot in slots for at in slot.asked)
        assert times == pytest.approx([0.0] * 4 + [0.002] * 4 + [0.004] * 4)

    survey(*slots, scenario=scenario)


def test_those_who_do_not_answer_hold_up_the_others_for_a_moment_only() -> None:
    slots = [FakeSlot(f"hung{number}", None) for number in range(10)] + [FakeSlot("well")]

    async def scenario(one: Survey) -> None:
        found = await answers(one)
        assert found.pop("well") == "fresh"
        assert set(found.values()) == {"silent"}
        assert slots[-1].asked == pytest.approx([0.035])
        assert now() == pytest.approx(0.035 + PATIENCE)

    survey(*slots, scenario=scenario)


def test_closing_ends_a_round_with_what_is_known() -> None:
    async def scenario(one: Survey) -> None:
        waiting = asyncio.ensure_future(one.links())
        await asyncio.sleep(0.01)
        one.close()
        assert [node.answer for node in await waiting] == [Answer.FRESH, Answer.SILENT]
        assert now() == pytest.approx(0.01)

    survey(FakeSlot("a"), FakeSlot("hung", None), scenario=scenario)
