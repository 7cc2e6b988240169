"""Questions are asked without waiting, and answered when the supervisor gets round to it."""

import asyncio
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.supervisor.fake import FakeSupervisor

from meshvisor.shared.control.requests import Accepted, Answer, Done, GetStatus, Restart, StatusReport
from meshvisor.supervisor.control import ControlServer
from meshvisor.supervisor.directory import RuntimeDirectory
from meshvisor.supervisor.feed import Feed
from meshvisor.supervisor.operations import Operations
from meshvisor.supervisor.top.conversation import Conversation


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RuntimeDirectory]:
    directory = RuntimeDirectory(tmp_path / ("long" * 50), "demo", tmp_path / "mesh.toml")
    yield directory
    directory.close()


def listen(conversation: Conversation, answers: list[Answer], count: int) -> None:
    """Listen until there are so many answers."""
    poll = select.poll()
    for descriptor in conversation.descriptors:
        poll.register(descriptor, select.POLLIN)
    while len(answers) < count:
        assert conversation.listen()
        if len(answers) < count:
            poll.poll()


def test_answers_come_while_a_change_goes_on(directory: RuntimeDirectory) -> None:
    supervisor = FakeSupervisor()
    supervisor.hold()
    conversation = Conversation(directory.path.parent, "demo")
    changed: list[Answer] = []
    seen: list[Answer] = []

    def change(answer: Answer) -> bool:
        changed.append(answer)
        return not isinstance(answer, Done)

    def see(answer: Answer) -> bool:
        seen.append(answer)
        return False

    def before() -> None:
        assert conversation.begin()
        assert conversation.ask(Restart(("a",)), change)
        listen(conversation, changed, 1)
        assert conversation.ask(GetStatus(), see)
        listen(conversation, seen, 1)

    async def main() -> None:
        server = ControlServer(supervisor, Operations(supervisor), Feed(), directory)
        server.start()
        try:
            await asyncio.to_thread(before)
            supervisor.finish()
            await asyncio.to_thread(listen, conversation, changed, 2)
        finally:
            server.close()

    asyncio.run(main())
    assert [type(answer) for answer in (*changed, *seen)] == [Accepted, Done, StatusReport]
    conversation.end()
    assert (conversation.is_open, conversation.descriptors, conversation.listen()) == (False, [], False)


def test_what_nobody_answers_does_not_pile_up(directory: RuntimeDirectory) -> None:
    conversation = Conversation(directory.path.parent, "demo")
    assert conversation.begin()
    asked = [conversation.ask(GetStatus(), lambda answer: False) for _ in range(100)]
    assert 0 < sum(asked) < 100
    conversation.end()


def test_nobody_is_there_to_be_asked(tmp_path: Path) -> None:
    conversation = Conversation(tmp_path, "demo")
    assert not conversation.begin()
    assert not conversation.ask(GetStatus(), lambda answer: False)
