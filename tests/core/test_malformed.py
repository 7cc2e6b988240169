"""What msgspec raises for bytes from outside is known, all of it."""

from __future__ import annotations

import msgspec
import pytest

from meshvisor.shared.core.malformed import MALFORMED


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"{", msgspec.DecodeError),
        (b'"\xff"', UnicodeDecodeError),
        (b"[" * 100_000, RecursionError),
    ],
    ids=["cut short", "not UTF-8", "nested too deeply"],
)
def test_whatever_is_wrong_with_bytes_is_one_of_these(data: bytes, kind: type[Exception]) -> None:
    with pytest.raises(MALFORMED) as raised:
        msgspec.json.decode(data)
    assert type(raised.value) is kind
