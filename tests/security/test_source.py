"""What the source itself shows: nothing in it runs what came from outside, and no chance in it can be foretold.

Of the claims of the security document: S16, S28, S33.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Who sends a signal to a number instead of a pidfd: to itself, or to a child of its own that nobody has reaped yet.
SIGNALLING = frozenset(
    {
        "supervisor/check.py",
        "supervisor/guard.py",
        "supervisor/reaper.py",
        "supervisor/spawn.py",
        "supervisor/top/screen.py",
        "supervisor/top/session.py",
    }
)


@dataclass(frozen=True)
class Shown:
    """What the source of a module shows."""

    imported: set[str]
    dangers: set[str]
    careless: list[str]
    called: set[str]


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
    found = imported(tree) & MODULES | called(tree) & CALLS
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found |= {"shell" for one in node.keywords if one.arg == "shell"}
    return found


def called(tree: ast.AST) -> set[str]:
    """Return what is called by a plain name, dotted or not."""
    functions = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    # Only these can be of interest, and unparsing the others takes seconds.
    return {ast.unparse(one) for one in functions if isinstance(one, ast.Name) or _is_dotted(one)}


def _is_dotted(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)


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
def sources() -> dict[str, Shown]:
    """What is imported, dangerous and careless in each file; each is read once, which takes longest."""
    found = {}
    for room in ("shared", "supervisor", "workers"):
        for file in (ROOT / room).rglob("*.py"):
            tree = ast.parse(file.read_text())
            shown = Shown(imported(tree), dangers(tree), careless(tree), called(tree))
            found[str(file.relative_to(ROOT))] = shown
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


def test_nothing_runs_what_came_from_outside(sources: dict[str, Shown]) -> None:
    assert {file: shown.dangers for file, shown in sources.items() if shown.dangers} == {}


def test_proofs_are_compared_in_constant_time(sources: dict[str, Shown]) -> None:
    assert {file: shown.careless for file, shown in sources.items() if shown.careless} == {}
    assert "hmac.compare_digest" in sources["shared/core/handshake.py"].called


def test_what_names_or_proves_anybody_is_drawn_from_the_systems_randomness(sources: dict[str, Shown]) -> None:
    assert {file for file, shown in sources.items() if "random" in shown.imported} == DICE
    for file in ("shared/mesh/acceptor.py", "shared/mesh/dialer.py", "supervisor/identity.py", "supervisor/reserve.py"):
        assert "secrets" in sources[file].imported


def test_signals_go_to_descriptors_of_processes(sources: dict[str, Shown]) -> None:
    """A number may be another process's by the time that the signal is sent."""
    assert {file for file, shown in sources.items() if shown.called & {"os.kill", "os.killpg"}} == SIGNALLING
