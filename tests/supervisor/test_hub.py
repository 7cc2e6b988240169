import asyncio
import logging

import pytest

from meshvisor.supervisor.event import Event
from meshvisor.supervisor.hub import Hub
from meshvisor.workers.testing import run_virtual


def test_everybody_hears_until_they_no_longer_want_to() -> None:
    hub = Hub()
    first: list[Event] = []
    second: list[Event] = []
    leave = hub.events.add(first.append)
    hub.events.add(second.append)
    said = hub.publish("slot-ready", "a", 2, pid=7)
    leave()
    leave()
    hub.publish("slot-exited", "a", 2)
    assert first == [said]
    assert (said.event, said.slot, said.incarnation, said.details) == ("slot-ready", "a", 2, {"pid": 7})
    assert [event.event for event in second] == ["slot-ready", "slot-exited"]


def test_once_open_it_tells_at_the_end_of_the_turn_in_the_order_of_what_happened() -> None:
    async def main() -> None:
        hub = Hub()
        heard: list[str] = []
        hub.events.add(lambda event: heard.append(event.event))
        hub.open(asyncio.get_running_loop())
        hub.publish("slot-exited", "a", 1)
        asyncio.get_running_loop().call_soon(hub.publish, "slot-starting", "a", 2)
        hub.publish("slot-hung", "b", 1)
        assert heard == []
        await asyncio.sleep(0)
        assert heard == ["slot-exited", "slot-hung"]
        await asyncio.sleep(0)
        assert heard == ["slot-exited", "slot-hung", "slot-starting"]

    run_virtual(main())


def test_what_happened_last_is_told_before_the_end() -> None:
    async def main() -> None:
        hub = Hub()
        stream = hub.stream()
        hub.open(asyncio.get_running_loop())
        hub.publish("mesh-stopped")
        hub.end()
        assert [event.event async for event in stream] == ["mesh-stopped"]

    run_virtual(main())


def test_a_listener_that_fails_keeps_nobody_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(slot: str, kind: str, line: str) -> None:
        raise RuntimeError("broken listener")

    hub = Hub()
    lines: list[str] = []
    hub.output.add(fail)
    hub.output.add(lambda slot, kind, line: lines.append(line))
    with caplog.at_level(logging.ERROR):
        hub.output.notify("a", "stdout", "text")
    assert lines == ["text"]
    assert "broken listener" in caplog.text


def test_a_stream_ends_with_the_mesh() -> None:
    async def main() -> None:
        hub = Hub()
        stream = hub.stream()
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, hub.publish, "mesh-ready")
        loop.call_later(2.0, hub.end)
        assert [event.event async for event in stream] == ["mesh-ready"]
        assert [event async for event in hub.stream()] == []

    run_virtual(main())


def test_a_slow_reader_loses_the_oldest_and_is_told_how_many() -> None:
    """supervisord 13 (reliability.md 4.3): the oldest go, and that is said."""

    async def main() -> None:
        hub = Hub()
        stream = hub.stream()
        for number in range(1030):
            hub.publish("slot-ready", "a", number)
        assert hub.dropped == 6
        hub.end()
        events = [event async for event in stream]
        assert (events[0].event, events[0].details) == ("dropped", {"count": 6})
        assert [event.incarnation for event in events[1:]] == list(range(6, 1030))

    run_virtual(main())
