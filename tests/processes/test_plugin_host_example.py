"""The plugin_host example, as a newcomer runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "examples" / "plugin_host" / "translate.py"


@pytest.mark.slow
def test_the_application_goes_on_and_tells_what_happened(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(PROGRAM)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    for line in (
        "ancient is refused: it is version 0.3, and >=1 is needed",
        "crashing was killed by SIGSEGV",
        "hanging hung and was killed",
        "leaking grew too large and was ended",
        "good        4 of 4   zu sein oder nicht zu sein   -",
        "The application ran all the time; 3 processes died in its place, and it knows of what.",
    ):
        assert line in ended.stdout
    assert list(tmp_path.iterdir()) == []
