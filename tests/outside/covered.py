"""Coverage is measured by the suite of what it starts itself, and not of what that starts in turn."""

from __future__ import annotations

import os


def uncovered() -> dict[str, str]:
    """Return the environment of this process, without what has coverage measured in a process that gets it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
