"""Where in a TOML text each key stands.

``tomllib`` gives values without positions. This reads the text a second time, for the lines alone, and relies on
``tomllib`` having accepted it: it skips what it does not need to understand.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

from .depth import MAX_DEPTH

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys of tables and indices of arrays, from the root."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")


class LineIndex:
    """The lines (from 1) of all keys, tables and array items of a TOML text that ``tomllib`` accepts."""

    def __init__(self, text: str) -> None:
        self._lines = _Scanner(text).scan()

    def line(self, path: KeyPath) -> int:
        """Return the line of ``path``, or that of the innermost table around it that the text has."""
        for end in range(len(path), 0, -1):
            if (line := self._lines.get(path[:end])) is not None:
                return line
        return 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[KeyPath, int] = {}
        self._tables_in: dict[KeyPath, int] = {}  # how many tables an array of tables has so far

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._peek_after(_BLANK):
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _header(self) -> KeyPath:
        line = self._line()
        width = 2 if self._text.startswith("[[", self._at) else 1
        self._at += width
        path: KeyPath = ()
        for part in self._key():
            path = self._latest((*path, part))
            self._note(path, line)
        if width == 2:
            base = path[:-1] if isinstance(path[-1], int) else path
            count = self._tables_in.get(base, 0)
            self._tables_in[base] = count + 1
            path = (*base, count)
        self._note(path, line, anew=True)
        self._at += width
        return path

    def _note(self, path: KeyPath, line: int, *, anew: bool = False) -> None:
        """Keep the line of ``path``, the first one or ``anew`` this one; what is too deep has that of what it is in."""
        if len(path) <= MAX_DEPTH and (anew or path not in self._lines):
            self._lines[path] = line

    def _latest(self, path: KeyPath) -> KeyPath:
        """Within an array of tables, a header speaks of the last one."""
        count = self._tables_in.get(path)
        return path if count is None else (*path, count - 1)

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for part in self._key():
            path = (*path, part)
            self._note(path, line)
        self._at += 1  # the equals sign
        self._peek_after(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        parts = []
        while True:
            start = self._at
            quoted = self._peek_after(_SPACE) in ('"', "'")
            word = (_STRING if quoted else _BARE_KEY).match(self._text, self._at)
            if word is not None:
                self._at = word.end()
                parts.append(_unquoted(word[0]) if quoted else word[0])
            if self._peek_after(_SPACE) != "." or self._at == start:
                return parts
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        match self._text[self._at : self._at + 1]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while (char := self._peek_after(_BLANK)) not in ("", "]"):
            if char == ",":
                self._at += 1
                continue
            self._note((*path, index), self._line(), anew=True)
            self._value((*path, index))
            index += 1
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while (char := self._peek_after(_BLANK)) not in ("", "}"):
            if char == ",":
                self._at += 1
            else:
                self._pair(path)
        self._at += 1

    def _peek_after(self, skipped: re.Pattern[str]) -> str:
        match = skipped.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._text[self._at : self._at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at + 1

    def _line(self) -> int:
        return bisect_right(self._breaks, self._at) + 1


def _unquoted(word: str) -> str:
    return str(tomllib.loads(f"key = {word}")["key"])
