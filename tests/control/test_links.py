"""What a worker may say of its links, and what becomes of it."""

import math
from typing import Any

import msgspec
import pytest

from meshvisor.shared.control.lifeline import LifelineError, LinkReport, encode, supervisor_end
from meshvisor.shared.control.links import MAX_FAILURE, LinkStatus, LinkTotals, named
from meshvisor.shared.core.states import ConnectionState

ROW = LinkStatus("a", 2, ConnectionState.ESTABLISHED, 1.5, 0.001, bytes_in=1, calls_out=2, reconnects=3)


def test_the_status_of_a_link_travels_without_names_and_gets_them_back() -> None:
    assert msgspec.to_builtins(ROW)[:5] == ["a", 2, "established", 1.5, 0.001]
    assert msgspec.convert(msgspec.to_builtins(ROW), LinkStatus) == ROW
    assert list(named(ROW)) == list(LinkStatus.__struct_fields__)
    assert (named(ROW)["state"], named(ROW)["reconnects"]) == ("established", 3)


def test_totals_are_sums() -> None:
    totals = LinkTotals(bytes_in=10, messages_in=5, reconnects=1).plus(ROW, ROW)
    assert totals == LinkTotals(bytes_in=12, messages_in=5, calls_out=4, reconnects=7)
    assert totals.plus() == totals


@pytest.mark.parametrize(
    "change",
    [
        {"age": math.nan},
        {"age": -1.0},
        {"srtt": math.inf},
        {"phi": 1e6},
        {"bytes_in": -1},
        {"state": "excellent"},
        {"failure": "x" * (MAX_FAILURE + 1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_cannot_be_is_garbage_and_never_gets_to_a_client(change: dict[str, Any]) -> None:
    report = encode(LinkReport(1, LinkTotals(), (msgspec.structs.replace(ROW, **change),)))
    with pytest.raises(LifelineError, match="not a lifeline message"):
        supervisor_end().receive(report)
