"""What the proof of rolling restarts takes for a fault."""

import pytest
from tests.rolls.checks import account

GOOD = """\
life server-0 1 0
call caller-0.1.1
served caller-0.1.1 server-0 1
confirmed caller-0.1.1
done caller-0.1.1 2.5
sent writer 1 store 1
got writer 1 store 1
got writer 1 store 2
sent writer 1 store 2
"""


def test_a_call_that_ran_once_and_messages_in_their_order_are_no_faults() -> None:
    found = account(GOOD)
    assert found.judge() == []
    assert (found.lives.total(), found.done) == (1, {"caller-0.1.1": 2.5})


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("call caller-0.1.2", "1 calls never ended: caller-0.1.2"),
        ("served caller-0.1.1 server-0 2", "1 calls ran twice: caller-0.1.1"),
        ("done caller-0.1.2 1", "1 calls ended without having run: caller-0.1.2"),
        ("failed caller-0.1.2 store PeerLeft peer store left", "failed caller-0.1.2 store PeerLeft peer store left"),
        ("sent writer 1 store 3", "messages of writer 1 store: missing [3], too many []"),
        ("got writer 1 store 2", "messages of writer 1 store: missing [], too many [2]"),
        ("sent writer 2 store 1\nsent writer 2 store 2\ngot writer 2 store 2\ngot writer 2 store 1", "out of order"),
        ("lost writer 1 store 1 5", "lost writer 1 store 1 5"),
        ("unsent writer 1 store 3 SendTimeout no room", "unsent writer 1 store 3 SendTimeout no room"),
    ],
)
def test_what_is_lost_failed_or_doubled_is_a_fault(line: str, fault: str) -> None:
    (found,) = account(f"{GOOD}{line}\n").judge()
    assert found.endswith(fault)
