"""Doing what a page shows: its files are written, its programs run, its meshes come up, all in one folder."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from meshvisor import MeshConfig, load_config
from meshvisor.testing import LocalMesh, run_virtual

_LONGEST = 20.0  # seconds that a program of a page may take
_A_WHILE = 60.0  # virtual seconds that a mesh runs that does not end by itself

_MESH = '[mesh]\nname = "part"\n'
_WORKER = '\n[workers.anybody]\ncommand = ["true"]\n'


def is_whole(toml: str) -> bool:
    """Whether this is a ``mesh.toml`` and not a part of one."""
    root = tomllib.loads(toml)
    return "name" in root.get("mesh", {}) and bool(root.get("workers"))


def completed(toml: str) -> str:
    """Return a ``mesh.toml`` that has the given part of one in it, so that it can be checked."""
    root = tomllib.loads(toml)
    if "mesh" not in root:
        toml = _MESH + toml
    elif "name" not in root["mesh"]:
        toml = toml.replace("[mesh]\n", _MESH)
    return toml if root.get("workers") else toml + _WORKER


@contextmanager
def folder_for_modules(folder: Path) -> Iterator[None]:
    """Let modules be imported from ``folder``, and forget them afterwards."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if file.startswith(str(folder)):
                del sys.modules[name]


def run_program(file: Path, text: str) -> None:
    """Execute ``text`` as the module ``file``; what it awaits at its top level, it does in an event loop."""
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    code = compile(text, str(file), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, vars(module))
        return

    async def program() -> None:
        async with asyncio.timeout(_LONGEST):
            await eval(code, vars(module))

    asyncio.run(program())


def rehearse(file: Path) -> None:
    """Run the workers of a ``mesh.toml`` on virtual time, until the significant ones have ended well or for a while."""
    config = load_config(file)
    if any(worker.class_path for worker in config.workers):
        run_virtual(_rehearsal(config))


async def _rehearsal(config: MeshConfig) -> None:
    significant = [slot for worker in config.workers if worker.significant for slot in worker.slots]
    async with LocalMesh.of(config) as mesh:
        for slot in significant:
            assert await mesh.ended(slot) == 0, f"{slot} has not ended well"
        if not significant:
            await mesh.ready()
            await asyncio.sleep(_A_WHILE)
