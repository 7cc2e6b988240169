"""Keys are understood however the terminal sends them."""

import pytest

from meshvisor.supervisor.top.keys import Key, keys_of


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        (b"", []),
        (b"q", ["q"]),
        (b"rS?", ["r", "S", "?"]),
        (b"jk", [Key.DOWN, Key.UP]),
        (b"\x1b[A\x1bOB\x1b[5~\x1b[6~", [Key.UP, Key.DOWN, Key.PAGE_UP, Key.PAGE_DOWN]),
        (b"gG\x1b[H\x1b[4~ \r", [Key.HOME, Key.END, Key.HOME, Key.END, Key.PAGE_DOWN, Key.ENTER]),
        (b"\x1b", [Key.ESCAPE]),
        (b"\x1bq", [Key.ESCAPE, "q"]),
        (b"\x1b[1;5Cq", ["q"]),
        (b"\x1b[", []),
        (b"\x00\xff\xc3\xa9", ["é"]),
    ],
)
def test_what_is_typed(typed: bytes, keys: list[Key | str]) -> None:
    assert keys_of(typed) == keys
