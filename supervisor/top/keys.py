"""What was typed: bytes in, keys out. Pure."""

from __future__ import annotations

from enum import Enum

_SEQUENCES = {
    "[A": "up", "OA": "up", "[B": "down", "OB": "down", "[5~": "page-up", "[6~": "page-down",
    "[H": "home", "OH": "home", "[1~": "home", "[F": "end", "OF": "end", "[4~": "end",
}  # fmt: skip
_LETTERS = {"k": "up", "j": "down", "g": "home", "G": "end", " ": "page-down", "\r": "enter", "\n": "enter"}


class Key(Enum):
    """A key that moves something; all others are themselves."""

    UP = "up"
    DOWN = "down"
    PAGE_UP = "page-up"
    PAGE_DOWN = "page-down"
    HOME = "home"
    END = "end"
    ENTER = "enter"
    ESCAPE = "escape"


def keys_of(typed: bytes) -> list[Key | str]:
    """Return the keys in what was read at once; an escape that nothing follows is the key of that name."""
    text = typed.decode(errors="ignore")
    keys: list[Key | str] = []
    while text:
        if text[0] == "\x1b":
            sequence = next((one for one in _SEQUENCES if text.startswith(one, 1)), None)
            if sequence is not None:
                keys.append(Key(_SEQUENCES[sequence]))
                text = text[1 + len(sequence) :]
                continue
            if len(text) > 1 and text[1] in "[O":  # some other key
                end = next((i for i, char in enumerate(text[2:], 2) if "@" <= char <= "~"), len(text) - 1)
                text = text[end + 1 :]
                continue
            keys.append(Key.ESCAPE)
        elif (name := _LETTERS.get(text[0])) is not None:
            keys.append(Key(name))
        elif text[0].isprintable():
            keys.append(text[0])
        text = text[1:]
    return keys
