"""Imports run one way (the table of DESIGN, section 2), and the pure core stays pure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.pure import PURE, ROOT

# What each room may import of ours; a room may always import itself.
ROOMS = {
    "shared.errors": [],
    "shared.core": ["shared.errors"],
    "shared.transport": ["shared.errors", "shared.core"],
    "shared.memory": ["shared.errors", "shared.core"],
    "shared.config": ["shared.errors", "shared.core"],
    "shared.control": ["shared.errors", "shared.core"],
    "shared.metrics": ["shared.errors", "shared.core"],
    "shared.mesh": [
        "shared.errors",
        "shared.core",
        "shared.transport",
        "shared.memory",
        "shared.config",
        "shared.control",
        "shared.metrics",
    ],
    "workers": ["shared"],
    "supervisor": [
        "shared.errors",
        "shared.core",
        "shared.config",
        "shared.control",
        "shared.metrics",
        "shared.memory",
    ],
}

# The only place where workers and supervisor meet: a module, the one function in it that may import, and what.
COMPOSER = ("workers.plugins", "_embed", "supervisor.embedding")

# What the modules of PURE, which decide and never act, may not import.
IMPURE = {
    "asyncio",
    "logging",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
}

# Nothing that a worker process imports may load these: they cost its start tens of milliseconds.
HEAVY = {"click", "prometheus_client", "rich", "zmq"}


def modules() -> Iterator[tuple[str, Path]]:
    for room in ("shared", "workers", "supervisor"):
        for file in sorted((ROOT / room).rglob("*.py")):
            parts = list(file.relative_to(ROOT).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            yield ".".join(parts), file


def imports(module: str, file: Path) -> Iterator[str]:
    """Yield every module that ``file`` imports, ours without the leading ``meshvisor.``."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    yield from imports_of(ast.parse(file.read_text()), package)


def imports_of(tree: ast.AST, package: list[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("meshvisor.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])]).removeprefix("meshvisor.")
            yield name or "shared"
            yield from (f"{name}.{alias.name}" for alias in node.names if node.level and not node.module)


def room_of(module: str) -> str | None:
    return next((room for room in ROOMS if module == room or module.startswith(room + ".")), None)


def is_pure(file: Path) -> bool:
    return any(file.is_relative_to(ROOT / pure) for pure in PURE)


ALL = list(modules())


@pytest.mark.parametrize(("module", "file"), ALL, ids=[module for module, _ in ALL])
def test_imports_follow_the_table(module: str, file: Path) -> None:
    room = room_of(module)
    for target in imports(module, file):
        other = room_of(target)
        if room is None or other is None or other == room:
            continue
        if module == COMPOSER[0] and target.startswith(COMPOSER[2]):
            continue
        allowed = any(other == name or other.startswith(name + ".") for name in ROOMS[room])
        assert allowed, f"{module} imports {target}: {room} may not know {other}"


def test_workers_and_supervisor_meet_in_one_function() -> None:
    module, name, other = COMPOSER
    tree = ast.parse(dict(ALL)[module].read_text())
    composer = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    tree.body.remove(composer)
    assert other in list(imports_of(composer, module.split(".")[:-1]))
    assert not [target for target in imports_of(tree, module.split(".")[:-1]) if room_of(target) == "supervisor"]


def test_the_table_of_what_is_pure_names_what_there_is() -> None:
    named = [*PURE, *(test for tests in PURE.values() for test in tests)]
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert [path for path, tests in PURE.items() if not tests] == []


@pytest.mark.parametrize("file", [file for _, file in ALL if is_pure(file)], ids=lambda file: file.name)
def test_the_core_is_pure(file: Path) -> None:
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    impure = {name.split(".")[0] for name in imports(module, file)} & IMPURE
    assert not impure, f"{module} decides and must not act, but imports {sorted(impure)}"


@pytest.mark.parametrize("file", [file for name, file in ALL if room_of(name) != "supervisor"], ids=lambda f: f.name)
def test_a_worker_never_loads_what_only_the_supervisor_needs(file: Path) -> None:
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    heavy = {name.split(".")[0] for name in imports(module, file)} & HEAVY
    assert not heavy, f"{module} is loaded by workers and must not import {sorted(heavy)}"


def test_rich_is_loaded_by_the_live_view_and_by_what_opens_it_only() -> None:
    loading = {module for module, file in ALL if "rich" in {name.split(".")[0] for name in imports(module, file)}}
    assert {module for module in loading if not module.startswith("supervisor.top.")} == {"supervisor.commands.look"}
