"""What ``from meshvisor import ...`` offers, and what it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import meshvisor
from meshvisor.shared import errors


@pytest.mark.parametrize("name", meshvisor.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    value = getattr(meshvisor, name)
    assert value.__module__.startswith("meshvisor.")
    assert name in dir(meshvisor)


def test_every_error_is_public() -> None:
    tree = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert tree <= set(meshvisor.__all__)


def test_type_checkers_see_the_same_names_as_the_interpreter() -> None:
    source = Path(meshvisor.__file__).read_text()
    seen = {
        f"{node.module}.{alias.name}"
        for block in ast.parse(source).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert seen == {f"{home}.{name}" for name, home in meshvisor._HOMES.items()}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        meshvisor.Nonsense  # noqa: B018


def test_importing_the_package_loads_nothing_of_it() -> None:
    script = "import sys, meshvisor; print([name for name in sys.modules if name.startswith('meshvisor.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_loads_nothing_that_only_the_supervisor_needs() -> None:
    script = "import sys, meshvisor.workers.runtime, meshvisor; meshvisor.Worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"click", "prometheus_client", "psutil", "rich", "zmq"}
    assert not any(name.startswith("meshvisor.supervisor") for name in done.stdout.split())
