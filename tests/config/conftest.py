from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from meshvisor.shared.config import MeshConfig, load_config
from meshvisor.shared.errors import ConfigError

MINIMAL = '[mesh]\nname = "demo"\n\n[workers.a]\ncommand = ["sleep", "60"]\n'


@pytest.fixture
def minimal() -> str:
    """The smallest file that is fine: five lines, ``[workers.a]`` last."""
    return MINIMAL


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_file(text: str) -> Path:
        file = tmp_path / "mesh.toml"
        file.write_text(text)
        return file

    return write_file


@pytest.fixture
def load(write: Callable[[str], Path]) -> Callable[[str], MeshConfig]:
    return lambda text: load_config(write(text))


@pytest.fixture
def faults(write: Callable[[str], Path]) -> Callable[[str], list[str]]:
    """The report about a text, one string a fault, without the file's name."""

    def faults_of(text: str) -> list[str]:
        file = write(text)
        try:
            load_config(file)
        except ConfigError as error:
            return [line.removeprefix(f"{file}:") for line in str(error).splitlines()]
        return []

    return faults_of
