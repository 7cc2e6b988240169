"""Keys that change something, and what is told of it."""

import pytest

from meshvisor.shared.control.requests import (
    Accepted,
    Answer,
    Done,
    Refusal,
    Refused,
    Restart,
    Start,
    Step,
    Stop,
    Traces,
)
from meshvisor.supervisor.top.actions import action_of, told

STEP = Step("a", "ready", 3, 0.041)


def test_a_stop_is_doubted_and_nothing_else() -> None:
    found = [action_of(key, "a") for key in ("r", "s", "S", "x")]
    assert [action and (action.change, bool(action.doubt)) for action in found] == [
        (Restart(("a",)), False),
        (Stop(("a",)), True),
        (Start(("a",)), False),
        None,
    ]


@pytest.mark.parametrize(
    ("answer", "text", "more"),
    [
        (Accepted(), "restarting a ...", True),
        (STEP, "a is ready (incarnation 3, 41 ms)", True),
        (Done(0.05, (STEP,)), "a is ready (incarnation 3, 41 ms)", False),
        (Refused(Refusal.FAILED, "a did not become ready"), "a did not become ready", False),
        (Traces(""), "restarting a ... was answered with something else", False),
    ],
)
def test_each_answer_is_told(answer: Answer, text: str, more: bool) -> None:
    action = action_of("r", "a")
    assert action is not None
    assert told(action, answer) == (text, more)
