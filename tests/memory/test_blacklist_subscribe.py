"""Who subscribes hears of every change, is woken for it, and is left alone otherwise."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.memory.tools import Clock

from meshvisor.shared.core.penalties import FailureSeverity
from meshvisor.shared.memory.blacklist import SharedBlacklist
from meshvisor.shared.memory.changes import changes
from meshvisor.shared.memory.entry import Entry, Penalty
from meshvisor.shared.memory.watch import INTERVAL
from meshvisor.workers.testing import run_virtual

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

Attach = Callable[..., SharedBlacklist]
KEY, OTHER = "tcp:127.0.0.1:4500", "unix:/run/a.sock"
HARD = FailureSeverity.HARD


class Heard:
    """What a subscriber was told, and a way to wait for it."""

    def __init__(self) -> None:
        self.penalties: list[Penalty] = []
        self._news = threading.Condition()

    def __call__(self, penalty: Penalty) -> None:
        with self._news:
            self.penalties.append(penalty)
            self._news.notify_all()

    def wait(self, count: int) -> list[Penalty]:
        with self._news:
            assert self._news.wait_for(lambda: len(self.penalties) >= count, 10.0)
            return self.penalties

    async def wait_on_loop(self, count: int) -> list[Penalty]:
        async with asyncio.timeout(10.0):
            while len(self.penalties) < count:
                await asyncio.sleep(0)
        return self.penalties


def told(penalties: list[Penalty]) -> list[tuple[str, float]]:
    return [(penalty.key, penalty.remaining) for penalty in penalties]


def our_threads() -> int:
    return sum(thread.name == "meshvisor-blacklist" for thread in threading.enumerate())


def test_what_has_changed_is_told_and_what_has_expired_is_not() -> None:
    def entry(key: str, until: int, severity: int = 1, asked: int = 0, source: str = "a") -> Entry:
        return Entry(key, until * 10**9, severity, asked * 10**9, reporters=b"mark", source=source)

    before = {
        "same": entry("same", 9),
        "longer": entry("longer", 9),
        "worse": entry("worse", 9),
        "asked": entry("asked", 9),
        "reported": entry("reported", 9),
        "cleared": entry("cleared", 9),
        "expired": entry("expired", 5),
    }
    after = {
        "same": entry("same", 9),
        "longer": entry("longer", 10),
        "worse": entry("worse", 9, 2),
        "asked": entry("asked", 9, 1, 7),
        "reported": entry("reported", 9, source="b"),
        "new": entry("new", 8),
    }
    assert told(list(changes(before, after, 5 * 10**9))) == [
        ("longer", 5.0),
        ("worse", 4.0),
        ("asked", 4.0),
        ("new", 3.0),
        ("cleared", 0.0),
    ]


async def hear_on_a_loop(blacklist: SharedBlacklist, other: SharedBlacklist) -> None:
    heard = Heard()
    unsubscribe = blacklist.subscribe(heard)
    other.set_penalty(KEY, "hard", 10.0)
    assert await heard.wait_on_loop(1) == [Penalty(KEY, HARD, 10.0, False, "second", 1, 0)]
    blacklist.set_penalty(OTHER, "soft", 5.0)  # our own are told, too
    assert told((await heard.wait_on_loop(2))[1:]) == [(OTHER, 5.0)]
    other.clear_penalty(KEY)
    assert told((await heard.wait_on_loop(3))[2:]) == [(KEY, 0.0)]
    unsubscribe()
    unsubscribe()
    other.set_penalty(KEY, "hard", 10.0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(heard.penalties) == 3


def test_subscribers_are_woken_on_their_loop_by_any_process(blacklist: SharedBlacklist, attach: Attach) -> None:
    other = attach(wake_fd=blacklist.wake_fd)
    before = set(os.listdir("/proc/self/fd"))
    asyncio.run(hear_on_a_loop(blacklist, other))
    assert set(os.listdir("/proc/self/fd")) == before
    assert our_threads() == 0


def test_of_one_change_a_subscriber_hears_without_a_search_and_of_several_too(
    attach: Attach, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(blacklist: SharedBlacklist) -> None:
        heard = Heard()
        blacklist.subscribe(heard)
        living = blacklist._table.living
        searches = 0

        def search() -> tuple[dict[str, Entry], int]:
            nonlocal searches
            searches += 1
            return living()

        async def hear(count: int) -> tuple[list[tuple[str, float]], int]:
            nonlocal searches
            new, done = sorted(told(await heard.wait_on_loop(count))), searches
            heard.penalties.clear()
            searches = 0
            return new, done

        monkeypatch.setattr(blacklist._table, "living", search)

        other = SharedBlacklist.attach(blacklist.fileno(), wake_fd=blacklist.wake_fd, clock=clock)
        other.set_penalty("a", "hard", 10.0)
        assert await hear(1) == ([("a", 10.0)], 0)
        blacklist.set_penalty("a", "hard", 20.0)
        assert await hear(1) == ([("a", 20.0)], 0)
        other.set_penalty("a", "hard", 30.0)
        other.set_penalty("b", "hard", 10.0)
        assert await hear(2) == ([("a", 30.0), ("b", 10.0)], 1)
        other.set_penalty("c", "hard", 40.0)  # the table is full: b has to go
        assert await hear(2) == ([("b", 0.0), ("c", 40.0)], 1)
        other.clear_penalty("a")
        assert await hear(1) == ([("a", 0.0)], 1)
        other.close()

    with SharedBlacklist.create(capacity=2, clock=clock) as blacklist:
        asyncio.run(main(blacklist))


def test_subscribers_are_woken_on_virtual_time(blacklist: SharedBlacklist, attach: Attach) -> None:
    run_virtual(hear_on_a_loop(blacklist, attach(wake_fd=blacklist.wake_fd)))


def test_subscribers_are_woken_on_uvloop(blacklist: SharedBlacklist, attach: Attach) -> None:
    uvloop = pytest.importorskip("uvloop")
    uvloop.run(hear_on_a_loop(blacklist, attach(wake_fd=blacklist.wake_fd)))


def test_without_a_loop_a_thread_waits_and_ends_with_the_last_subscription(
    blacklist: SharedBlacklist, attach: Attach
) -> None:
    other, one, two = attach(wake_fd=blacklist.wake_fd), Heard(), Heard()
    before = set(os.listdir("/proc/self/fd"))
    ends = [blacklist.subscribe(one), blacklist.subscribe(two)]
    assert our_threads() == 1
    other.set_penalty(KEY, "hard", 10.0)
    assert told(one.wait(1)) == told(two.wait(1)) == [(KEY, 10.0)]
    ends[0]()
    blacklist.set_penalty(OTHER, "hard", 5.0)
    assert told(two.wait(2)) == [(KEY, 10.0), (OTHER, 5.0)]
    assert len(one.penalties) == 1
    ends[1]()
    assert our_threads() == 0
    assert set(os.listdir("/proc/self/fd")) == before


def test_every_process_is_woken_however_many_there_are(blacklist: SharedBlacklist, attach: Attach) -> None:
    """One counter for all: who is woken takes nothing away from the others."""
    others = [attach(wake_fd=blacklist.wake_fd) for _ in range(5)]
    heard = [Heard() for _ in others]
    for each, hears in zip(others, heard, strict=True):
        each.subscribe(hears)
    for number in range(1, 4):
        blacklist.set_penalty(KEY, "hard", 10.0 * number)
        assert {told(hears.wait(number))[-1] for hears in heard} == {(KEY, 10.0 * number)}


def test_closing_ends_all_subscriptions(blacklist: SharedBlacklist) -> None:
    heard = Heard()
    blacklist.subscribe(heard)

    async def main() -> None:
        blacklist.subscribe(heard)
        blacklist.close()

    asyncio.run(main())
    assert our_threads() == 0


def test_what_a_loop_that_has_ended_leaves_goes_with_the_next_subscription(blacklist: SharedBlacklist) -> None:
    async def main() -> set[str]:
        blacklist.subscribe(Heard())
        return set(os.listdir("/proc/self/fd"))

    first = asyncio.run(main())
    blacklist.set_penalty(KEY, "hard", 1.0)
    assert asyncio.run(main()) == first
    assert len(blacklist._subscribers) == 1
    blacklist.close()


def test_a_subscription_on_a_loop_can_be_ended_from_another_thread(blacklist: SharedBlacklist) -> None:
    async def main() -> None:
        before = set(os.listdir("/proc/self/fd"))
        unsubscribe = blacklist.subscribe(Heard())
        thread = threading.Thread(target=unsubscribe)
        thread.start()
        thread.join()
        await asyncio.sleep(0)
        assert set(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())


def test_a_subscriber_that_raises_is_logged_and_the_others_still_hear(
    blacklist: SharedBlacklist, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(penalty: Penalty) -> None:
        raise RuntimeError("no")

    heard = Heard()
    blacklist.subscribe(broken)
    blacklist.subscribe(heard)
    blacklist.set_penalty(KEY, "hard", 10.0)
    assert told(heard.wait(1)) == [(KEY, 10.0)]
    blacklist.set_penalty(KEY, "hard", 20.0)
    assert told(heard.wait(2))[1:] == [(KEY, 20.0)]
    assert {(record.name, record.levelname) for record in caplog.records} == {("meshvisor.blacklist", "ERROR")}


def test_a_subscriber_may_change_the_blacklist_and_end_subscriptions(blacklist: SharedBlacklist) -> None:
    heard = Heard()
    ends: list[Callable[[], None]] = []

    def once(penalty: Penalty) -> None:
        for end in ends:
            end()
        blacklist.set_penalty(OTHER, "soft", 5.0)
        heard(penalty)

    ends += [blacklist.subscribe(once), blacklist.subscribe(lambda penalty: pytest.fail("was ended before"))]
    blacklist.set_penalty(KEY, "hard", 10.0)
    assert told(heard.wait(1)) == [(KEY, 10.0)]
    blacklist.close()


def test_without_a_wake_up_a_loop_looks_now_and_then_and_says_so(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshvisor.blacklist")

    async def main() -> None:
        heard, begin = Heard(), asyncio.get_running_loop().time()
        with (
            SharedBlacklist.create(tmp_path / "blacklist", clock=clock) as one,
            SharedBlacklist.attach(tmp_path / "blacklist", clock=clock) as two,
        ):
            one.subscribe(heard)
            two.set_penalty(KEY, "hard", 10.0)
            await asyncio.sleep(INTERVAL * 1.01)
            assert told(heard.penalties) == [(KEY, 10.0)]
            two.clear()
            await asyncio.sleep(INTERVAL)
            assert told(heard.penalties)[1:] == [(KEY, 0.0)]
            one.set_penalty(OTHER, "hard", 5.0)  # our own are told at once
            await asyncio.sleep(0.001)
            assert told(heard.penalties)[2:] == [(OTHER, 5.0)]
            assert asyncio.get_running_loop().time() - begin < 0.3
            one.subscribe(heard)

    run_virtual(main())
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/blacklist has no wake-up: it is looked at every 0.1 s"
    ]


def test_without_a_wake_up_a_thread_looks_now_and_then(tmp_path: Path) -> None:
    heard = Heard()
    with (
        SharedBlacklist.create(tmp_path / "blacklist") as one,
        SharedBlacklist.attach(tmp_path / "blacklist") as two,
    ):
        one.subscribe(heard)
        two.set_penalty(KEY, "hard", 10.0)
        assert heard.wait(1)[0].key == KEY


def test_a_forked_child_has_no_subscriptions_and_may_have_its_own(blacklist: SharedBlacklist) -> None:
    heard = Heard()
    blacklist.subscribe(heard)
    blacklist.set_penalty("before", "hard", 1.0)
    heard.wait(1)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            mine = Heard()
            blacklist.subscribe(mine)
            blacklist.set_penalty(KEY, "hard", 10.0)
            status = 0 if told(mine.wait(1)) == [(KEY, 10.0)] and len(heard.penalties) == 1 else 1
            blacklist.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert told(heard.wait(2)) == [("before", 1.0), (KEY, 10.0)]


def test_a_counter_that_somebody_has_filled_wakes_all_the_same(blacklist: SharedBlacklist) -> None:
    heard = Heard()
    blacklist.subscribe(heard)
    os.eventfd_write(blacklist.wake_fd, 2**64 - 2)
    blacklist.set_penalty(KEY, "hard", 10.0)
    assert told(heard.wait(1)) == [(KEY, 10.0)]
