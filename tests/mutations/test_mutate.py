"""The mistakes that ``python -m tests.mutations`` makes: which there are, and that each changes one place."""

from textwrap import dedent

import pytest
from tests.mutations.mutate import Mutant, mutants
from tests.mutations.run import Case, checks_of, files, survivors
from tests.pure import ROOT


def made(source: str) -> list[str]:
    source = dedent(source)
    return [mutant.applied(source.encode()).decode() for mutant in mutants(source.encode())]


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("a < b", ["a <= b", "a >= b"]),
        ("a == b", ["a != b"]),
        ("a is None", ["a is not None"]),
        ("a + b", ["(a - b)"]),
        ("a and b", ["(a or b)", "(a)", "(b)"]),
        ("not a", ["(a)"]),
        ("True", ["False"]),
        ("1.5", ["(2.5)", "(0.5)"]),
        ("b if a else c", ["(b)", "(c)"]),
        ("min(a, b)", ["max(a, b)"]),
        ("a.popleft()", ["a.pop()"]),
    ],
)
def test_an_expression_is_written_as_somebody_might_have_written_it_by_mistake(source: str, wrong: list[str]) -> None:
    assert made(f"x = {source}\n") == [f"x = {one}\n" for one in wrong]


def test_a_statement_is_left_out_and_a_branch_taken_the_wrong_way() -> None:
    assert made("a()\n") == ["pass\n"]
    assert made("a.b = c\n") == ["pass\n"]
    assert made("a += b\n") == ["pass\n", "a -= b\n"]
    assert made("def f():\n    return a\n") == ["def f():\n    return None\n"]
    assert made("if a:\n    b\nelse:\n    raise c\n") == [
        "if not (a):\n    b\nelse:\n    raise c\n",
        "if a:\n    pass\nelse:\n    raise c\n",
        "if a:\n    b\nelse:\n    pass\n",
    ]


def test_what_says_nothing_to_whoever_runs_the_code_is_left_alone() -> None:
    source = '''
        """Text."""

        @dataclass(frozen=True)
        class A(msgspec.Struct, gc=False):
            a: Literal[1]

            def f(self, b: Literal[2]) -> Literal[3]:
                """Text."""
                assert b == 1
                f"{a + b}"
    '''
    assert made(source) == [dedent(source).replace('f"{a + b}"', "pass")]


def test_a_place_after_letters_of_several_bytes_is_found() -> None:
    assert made('x = "äöü", a < b\n') == ['x = "äöü", a <= b\n', 'x = "äöü", a >= b\n']


@pytest.mark.slow
def test_a_mistake_that_a_test_notices_does_not_survive_and_one_that_changes_nothing_does() -> None:
    file = "supervisor/backoff.py"
    source = (ROOT / file).read_bytes()
    wrong, harmless = mutants(source)[0], Mutant(0, 0, 1, "# nothing\n")
    told: list[tuple[Case, bool]] = []
    cases = [Case(file, wrong), Case(file, harmless)]
    assert survivors(cases, 1, lambda case, is_unnoticed: told.append((case, is_unnoticed))) == cases[1:]
    assert told == [(cases[0], False), (cases[1], True)]
    assert "+# nothing" in cases[1].diff()
    assert (ROOT / file).read_bytes() == source


def test_every_module_that_decides_and_can_be_wrong_has_tests_that_are_run() -> None:
    empty = {"shared/core/__init__.py", "shared/core/stage.py"}  # names alone
    assert {file for file in files("*.py") if not checks_of(file)} == empty
