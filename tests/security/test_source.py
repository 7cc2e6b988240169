"""What the source itself shows: nothing in it runs what came from outside, and no chance in it can be foretold."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Shown = dict[str, tuple[set[str], set[str], list[str]]]

# Each of them makes an object, or runs code, of what it is given.
MODULES = frozenset(
    {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "code", "xmlrpc"}
)
CALLS = frozenset({"eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp"})

# Who may throw dice that can be foretold: for pauses, and for faults that are asked for; never for a proof.
DICE = frozenset(
    {
        "shared/mesh/host.py",
        "shared/mesh/manager.py",
        "shared/mesh/mesh.py",
        "shared/mesh/ways.py",
        "shared/transport/chaos.py",
        "shared/transport/chaos_faults.py",
        "shared/transport/chaos_stream.py",
        "supervisor/supervisor.py",
        "workers/resident.py",
        "workers/testing.py",
    }
)


def imported(tree: ast.AST) -> set[str]:
    """Return the packages that are imported from outside."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            found.add(node.module.split(".")[0])
    return found


def dangers(tree: ast.AST) -> set[str]:
    """Return what in a source could run what it is given."""
    found = imported(tree) & MODULES
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if (called := ast.unparse(node.func)) in CALLS:
                found.add(called)
            found |= {"shell" for one in node.keywords if one.arg == "shell"}
    return found


def careless(tree: ast.AST) -> list[str]:
    """Return the comparisons of what must take equally long to compare, wherever it differs."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(one, ast.Eq | ast.NotEq) for one in node.ops):
            words = {word for side in (node.left, *node.comparators) for word in ast.unparse(side).lower().split(".")}
            if words & {"proof", "_secret", "secret", "_proof", "mac", "digest()"}:
                found.append(ast.unparse(node))
    return found


@pytest.fixture(scope="module")
def shown() -> Shown:
    """What is imported, dangerous and careless in each file; each is read once, which takes longest."""
    found = {}
    for room in ("shared", "supervisor", "workers"):
        for file in (ROOT / room).rglob("*.py"):
            tree = ast.parse(file.read_text())
            found[str(file.relative_to(ROOT))] = imported(tree), dangers(tree), careless(tree)
    assert len(found) > 200
    return found


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from marshal import loads", "x = eval(y)", "os.system(x)", "subprocess.run(x, shell=True)"],
)
def test_a_danger_is_found(source: str) -> None:
    assert dangers(ast.parse(source))


@pytest.mark.parametrize("source", ["a.proof == b", "if secret != self._secret: pass", "x == y.proof"])
def test_a_careless_comparison_is_found(source: str) -> None:
    assert careless(ast.parse(source))


def test_nothing_runs_what_came_from_outside(shown: Shown) -> None:
    assert {file: found for file, (_, found, _) in shown.items() if found} == {}


def test_proofs_are_compared_in_constant_time(shown: Shown) -> None:
    assert {file: found for file, (_, _, found) in shown.items() if found} == {}


def test_what_names_or_proves_anybody_is_drawn_from_the_systems_randomness(shown: Shown) -> None:
    assert {file for file, (packages, _, _) in shown.items() if "random" in packages} == DICE
    for file in ("shared/mesh/acceptor.py", "shared/mesh/dialer.py", "supervisor/identity.py", "supervisor/reserve.py"):
        assert "secrets" in shown[file][0]
