"""A message is a value: who sent it, what it says, which one it is."""

import pytest

from meshvisor.shared.core.message import Message


def test_a_message_has_a_sender_a_body_and_a_number() -> None:
    message = Message("counter-1", b"hello", 7)
    assert (message.sender, message.body, message.number) == ("counter-1", b"hello", 7)
    assert message == Message(sender="counter-1", body=b"hello", number=7)
    assert message != Message("counter-1", b"hello", 8)


def test_a_message_does_not_change() -> None:
    with pytest.raises(AttributeError):
        Message("counter-1", b"hello", 7).number = 8  # type: ignore[misc]  # what is to be refused


def test_a_large_body_is_held_and_not_copied() -> None:
    body = bytearray(65536)
    assert Message("counter-1", body, 1).body is body
