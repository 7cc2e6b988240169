"""The security document claims nothing that no test proves, and no test names a claim that is not made."""

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / ".github" / "SECURITY.md"

_ROW = re.compile(r"\| (S\d+) \| (.+?) \|(.*)\|")
_PROOF = re.compile(r"\[(test_\w+)\]\(([^)]+)\)")
_CITED = re.compile(r"\bS\d+\b")

Claims = dict[str, list[tuple[str, str]]]


def claims_of(text: str) -> Claims:
    """Return the tests, with their files, that are said to prove each claim.

    Raises:
        ValueError: If a claim is made twice.
    """
    found: Claims = {}
    for line in text.splitlines():
        if (row := _ROW.fullmatch(line)) is not None:
            if row[1] in found:
                raise ValueError(f"{row[1]} is claimed twice")
            found[row[1]] = _PROOF.findall(row[3])
    return found


@cache
def names_in(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text())
    functions = (one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(one.name for one in functions if one.name.startswith("test_"))


def missing(claims: Claims, tests: Callable[[str], frozenset[str]]) -> list[str]:
    """Return what is wrong with ``claims``; ``tests`` tells which there are in a file."""
    unproved = [claim for claim, proofs in claims.items() if not proofs]
    lost = [f"{claim}: {name}" for claim, proofs in claims.items() for name, file in proofs if name not in tests(file)]
    return unproved + lost


def cited(source: str) -> set[str]:
    """Return the claims that the docstrings of a file of tests name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
            found |= set(_CITED.findall(ast.get_docstring(node) or ""))
    return found


def there(file: str) -> frozenset[str]:
    path = DOCUMENT.parent / file
    return names_in(path.resolve()) if path.is_file() else frozenset()


def test_a_claim_without_a_test_or_with_one_that_is_gone_is_found() -> None:
    text = "| S1 | nobody gets in | [test_a](a.py), [test_b](a.py) |\n| S2 | nobody gets out | trust us |"
    assert missing(claims_of(text), lambda file: frozenset({"test_a"})) == ["S2", "S1: test_b"]
    with pytest.raises(ValueError, match="S1 is claimed twice"):
        claims_of("| S1 | a | |\n| S1 | b | |")
    assert cited('def test_a():\n    """What is said (S7)."""\n    x = "S8"') == {"S7"}


def test_each_claim_is_proved_by_tests_that_exist() -> None:
    claims = claims_of(DOCUMENT.read_text())
    assert list(claims) == [f"S{number}" for number in range(1, len(claims) + 1)], "none is left out, or out of order"
    assert len(claims) >= 30
    assert missing(claims, there) == []


def test_each_claim_that_a_test_names_is_made() -> None:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    texts = {str(file): text for file in files if _CITED.search(text := file.read_text())}
    named = {file: found for file, text in texts.items() if (found := cited(text))}
    claims = claims_of(DOCUMENT.read_text()).keys()
    assert {file: found - claims for file, found in named.items() if found - claims} == {}
    assert str(Path(__file__).with_name("test_names.py")) in named
