"""The modules that decide and never act, and the tests that hold them to their rules: every branch, and no process.

``python -m tests.pure`` runs these tests alone and measures the branches of these modules: one that is missing is a
rule without a test, or code without a rule. ``python -m tests.pure --files`` names the modules, for ``.ci/run`` to ask
the same of all tests together.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

# On the left no clock, no socket, no process, no dice, no log; on the right what would notice a wrong branch.
PURE = {
    "shared/core": ["tests/core"],
    "shared/memory/entry.py": ["tests/memory/test_entry.py"],
    "shared/mesh/overview.py": ["tests/mesh/test_overview.py"],
    "supervisor/child.py": ["tests/supervisor/test_child.py"],
    "supervisor/backoff.py": ["tests/supervisor/test_backoff.py"],
    "supervisor/levels.py": ["tests/supervisor/test_levels.py"],
    "supervisor/strategy.py": ["tests/supervisor/test_strategy.py"],
    "supervisor/intensity.py": ["tests/supervisor/test_intensity.py"],
    "supervisor/verdict.py": ["tests/supervisor/test_verdict.py"],
    "supervisor/changes.py": ["tests/supervisor/test_changes.py"],
    "supervisor/difference.py": ["tests/supervisor/test_difference.py"],
    "supervisor/progress.py": ["tests/supervisor/test_progress.py"],
    "supervisor/outcome.py": ["tests/supervisor/test_difference.py"],
    "supervisor/links.py": ["tests/supervisor/test_links.py"],
    "supervisor/scales.py": ["tests/supervisor/test_links.py"],
    "supervisor/matrix.py": ["tests/supervisor/test_links.py"],
    "supervisor/overview.py": ["tests/supervisor/test_links.py"],
    "supervisor/graph.py": ["tests/supervisor/test_links.py"],
    "supervisor/figures.py": ["tests/supervisor/test_metrics.py"],
    "supervisor/metrics.py": ["tests/supervisor/test_metrics.py"],
    "workers/plugin_contract.py": ["tests/workers/test_plugin_contract.py"],
    "workers/plugin_meter.py": ["tests/workers/test_plugin_meter.py"],
}


def patterns() -> str:
    """Return the modules as what coverage takes after ``--include``."""
    return ",".join(path if path.endswith(".py") else f"{path}/*" for path in PURE)


def measure() -> int:
    """Run the tests of the modules, and report their branches; return the exit status: 0 if all of them were taken."""
    tests = list(dict.fromkeys(test for tests in PURE.values() for test in tests))
    coverage = [sys.executable, "-m", "coverage"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "COVERAGE_FILE": f"{folder}/coverage"}

        def run(*arguments: str) -> int:
            return subprocess.run([*coverage, *arguments], cwd=ROOT, env=environment, check=False).returncode

        return (
            run("run", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
            or run("combine", "--quiet")
            or run("report", f"--include={patterns()}", "--show-missing", "--skip-covered", "--fail-under=100")
        )


if __name__ == "__main__":
    if sys.argv[1:] == ["--files"]:
        sys.stdout.write(patterns())
    else:
        sys.exit(measure())
