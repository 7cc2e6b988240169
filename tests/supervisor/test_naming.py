"""What a name on the command line means."""

import pytest

from meshvisor.supervisor.naming import UnknownSlot, slots_named

SLOTS = ("a", "counter-0", "counter-1", "x-1", "sink", "sink-1")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("a", ["a"]),
        ("counter", ["counter-0", "counter-1"]),
        ("counter-1", ["counter-1"]),
        ("sink", ["sink"]),
        ("x", ["x-1"]),
    ],
)
def test_a_name_is_a_slot_or_else_a_worker(name: str, meant: list[str]) -> None:
    assert slots_named(name, SLOTS) == meant


def test_an_unknown_name_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(UnknownSlot, match=r"called 'conter' \(did you mean \"counter\"\?\)$"):
        slots_named("conter", SLOTS)
    with pytest.raises(UnknownSlot, match=r"^there is no worker and no slot called 'zzz'$"):
        slots_named("zzz", SLOTS)
