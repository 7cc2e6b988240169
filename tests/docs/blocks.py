"""The code blocks of a Markdown page, each with its language, its line and what an invisible comment before it says.

A comment of its own line directly before a block is a note to whoever runs the pages as tests, not to the reader:
``<!-- with: shop -->`` begins a new folder, with what the reader has already: the files of ``tests/docs/props/shop``.
A block whose first line is ``# NAME.py`` or ``# NAME.toml`` is that file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / ".github" / "guide"
PAGES = (ROOT / "README.md", *sorted(GUIDE.glob("*.md")))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOTE = re.compile(r"<!-- with: (\w+) -->\n+\Z")
_FILE = re.compile(r"# ([\w/]+\.(?:py|toml))\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. ``line`` is that of its first line within; ``props`` is the name of a folder, or empty."""

    page: Path
    line: int
    language: str
    text: str
    props: str = ""

    @property
    def file(self) -> str:
        """The name of the file that it shows, or "" if it does not say so."""
        named = _FILE.match(self.text)
        return named[1] if named else ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in their order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        note = _NOTE.search(before)
        line = before.count("\n") + 2
        found.append(Block(page, line, match[1], match[2], note[1] if note else ""))
    return found


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """Return the command lines of a ``console`` block, each with what it shows, line by line."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
        else:
            raise AssertionError(f"{block}: a console block begins with a command, not with {line!r}")
    return found


def links(text: str) -> list[str]:
    """Return where the links and pictures of a page lead, those to other places of the web left out."""
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


def anchors(text: str) -> set[str]:
    """Return what the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
