"""The line index finds every key of a TOML text, however it is written."""

import tomllib
from typing import Any

import pytest

from meshvisor.shared.config.lines import KeyPath, LineIndex

TEXT = '''# a comment with [brackets] = "and" quotes
title = "x" # 2

[owner]
name = "a # b"
"quoted key" = 1
'literal.key' = 2
dotted . inner."last one" = """
three
lines \\""" still
"""
raw = \'\'\'
[not.a.header]
key = 1
\'\'\'

[a.b.c]
list = [ # here
  1,
  [2,
   3],
  { x = 1, y = { z = "}" } },
]
date = 1979-05-27 07:32:00

  [a.b]
  after = true

[[fruit]]
name = "apple"
[fruit.colour]
red = 1
[[fruit]]
name = "pear"
[[fruit.kinds]]
k = 1
'''

LINES: dict[KeyPath, int] = {
    ("title",): 2,
    ("owner",): 4,
    ("owner", "name"): 5,
    ("owner", "quoted key"): 6,
    ("owner", "literal.key"): 7,
    ("owner", "dotted"): 8,
    ("owner", "dotted", "inner", "last one"): 8,
    ("owner", "raw"): 12,
    ("a",): 17,
    ("a", "b", "c"): 17,
    ("a", "b", "c", "list"): 18,
    ("a", "b", "c", "list", 0): 19,
    ("a", "b", "c", "list", 1, 1): 21,
    ("a", "b", "c", "list", 2, "y", "z"): 22,
    ("a", "b", "c", "date"): 24,
    ("a", "b"): 26,
    ("a", "b", "after"): 27,
    ("fruit", 0): 29,
    ("fruit", 0, "name"): 30,
    ("fruit", 0, "colour", "red"): 32,
    ("fruit", 1): 33,
    ("fruit", 1, "name"): 34,
    ("fruit", 1, "kinds", 0, "k"): 36,
}


@pytest.mark.parametrize(("path", "line"), LINES.items(), ids=str)
def test_a_key_is_found_on_its_line(path: KeyPath, line: int) -> None:
    assert LineIndex(TEXT).line(path) == line


def test_a_missing_key_stands_where_its_table_begins() -> None:
    assert LineIndex(TEXT).line(("a", "b", "missing")) == 26
    assert LineIndex(TEXT).line(("fruit", 1, "missing", "deeper")) == 33


def test_what_is_in_no_table_stands_in_the_first_line() -> None:
    assert LineIndex(TEXT).line(("missing",)) == 1
    assert LineIndex("").line(()) == 1


def paths(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [path, *(found for key, item in items for found in paths(item, (*path, key)))]


def test_every_path_of_the_document_has_a_line_of_its_own() -> None:
    index = LineIndex(TEXT)
    for path in paths(tomllib.loads(TEXT))[1:]:
        assert index._lines.get(path) or path == ("fruit",), path
