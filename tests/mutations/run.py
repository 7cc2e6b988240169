"""Makes mistakes in a copy of the tree, one at a time, and sees whether the tests notice."""

from __future__ import annotations

import difflib
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from tests.outside.covered import uncovered
from tests.pure import PURE, ROOT

from .mutate import Mutant, mutants

_PARTS = (".src", "shared", "supervisor", "workers", "tests", "pyproject.toml")
_FAILED = 1  # the exit status of pytest when a test has failed
_BROKEN = 2  # when a test file cannot even be imported
_WITHOUT = ("-p", "no:cacheprovider", "-p", "no:xdist", "-o", "timeout=0", "-o", "faulthandler_timeout=0")
_ARGUMENTS = ("-x", "-q", "--assert=plain", *_WITHOUT)


@dataclass(frozen=True, slots=True)
class Case:
    """One mistake in one ``file`` (relative to the tree)."""

    file: str
    mutant: Mutant

    def diff(self) -> str:
        """Return what was changed, with what is around it."""
        old = (ROOT / self.file).read_bytes()
        before, after = (text.decode().splitlines() for text in (old, self.mutant.applied(old)))
        return "\n".join(difflib.unified_diff(before, after, self.file, self.file, lineterm="", n=2))


def files(glob: str) -> list[str]:
    """Return the modules that decide and never act, as far as ``glob`` matches them."""
    found = [file for path in PURE for file in ([ROOT / path] if path.endswith(".py") else (ROOT / path).glob("*.py"))]
    return sorted(str(file.relative_to(ROOT)) for file in found if file.match(glob))


def checks_of(file: str) -> list[str]:
    """Return the tests of a module: its own first, then those beside them that import it."""
    for path, tests in PURE.items():
        if file == path:
            return tests
        if file.startswith(f"{path}/"):
            module = file.removesuffix(".py").replace("/", ".")
            own = f"test_{Path(file).stem}.py"
            beside = [one for folder in tests for one in sorted((ROOT / folder).glob("test_*.py"))]
            users = [one for one in beside if one.name == own or f"meshvisor.{module} " in one.read_text()]
            users.sort(key=lambda one: one.name != own)
            return [str(one.relative_to(ROOT)) for one in users]
    raise ValueError(f"{file} is in no table")


def sample(glob: str, count: int, seed: int) -> list[Case]:
    """Draw ``count`` mistakes out of all that can be made, so that a large module has its share."""
    cases = [Case(file, mutant) for file in files(glob) for mutant in mutants((ROOT / file).read_bytes())]
    return random.Random(seed).sample(cases, min(count, len(cases)))


class Tree:
    """A copy of the tree in ``folder``, and a process that runs tests in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for part in _PARTS:
            if (ROOT / part).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / part, folder / part, symlinks=True, ignore=ignored)
            else:
                shutil.copy(ROOT / part, folder / part)
        command = [sys.executable, "-m", "tests.mutations.server"]
        # Coverage measured in there would be that of a tree that is gone when it is reported.
        self._server = subprocess.Popen(
            command, cwd=folder, env=uncovered(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        """End the process."""
        with self._server:
            self._input.close()

    @property
    def _input(self) -> IO[str]:
        assert self._server.stdin is not None
        return self._server.stdin

    def passes(self, test: str, marks: str) -> bool:
        """Run the tests of one file that have these ``marks``; return whether none has failed.

        Raises:
            RuntimeError: If they could not be run.
        """
        assert self._server.stdout is not None
        self._input.write(json.dumps([*_ARGUMENTS, "-m", marks, test]) + "\n")
        self._input.flush()
        status = int(self._server.stdout.readline())
        if status in (0, 5):  # 5: there are none with these marks
            return True
        if status in (-1, _FAILED, _BROKEN):
            return False
        raise RuntimeError(f"pytest ended with {status} for {test}")

    def survives(self, case: Case) -> bool:
        """Make a mistake, take it back, and return whether no test has noticed."""
        path = self._folder / case.file
        source = path.read_bytes()
        path.write_bytes(case.mutant.applied(source))
        try:
            return all(self.passes(test, marks) for test, marks in _steps(case.file))
        finally:
            path.write_bytes(source)

    def check(self, file: str) -> None:
        """Check that its tests pass as it is.

        Raises:
            RuntimeError: If they do not.
        """
        for test, marks in _steps(file):
            if not self.passes(test, marks):
                raise RuntimeError(f"{test} fails without any mistake")


def _steps(file: str) -> Iterator[tuple[str, str]]:
    """Yield runs, the quick ones first: a property that fails looks long for the shortest example."""
    tests = checks_of(file)
    for marks in ("not hypothesis", "hypothesis"):
        yield from ((test, marks) for test in tests)


def survivors(cases: list[Case], jobs: int, told: Callable[[Case, bool], None]) -> list[Case]:
    """Try ``cases``, ``jobs`` at a time, and return those that nobody noticed; ``told`` hears each.

    Raises:
        RuntimeError: If the tests do not pass, or cannot be run, without any mistake.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutations-")))
        trees: SimpleQueue[Tree] = SimpleQueue()
        for number in range(jobs):
            tree = Tree(folder / str(number))
            stack.callback(tree.close)
            trees.put(tree)
        for file in sorted({case.file for case in cases}):
            tree.check(file)

        def attempt(case: Case) -> bool:
            tree = trees.get()
            try:
                is_unnoticed = tree.survives(case)
            finally:
                trees.put(tree)
            told(case, is_unnoticed)
            return is_unnoticed

        with ThreadPoolExecutor(jobs) as pool:
            return [case for case, is_unnoticed in zip(cases, pool.map(attempt, cases), strict=True) if is_unnoticed]
