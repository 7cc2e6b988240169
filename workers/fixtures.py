"""The fixture ``local_mesh`` for pytest; users name it by ``meshvisor.testing.pytest``."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from .testing import LocalMesh, run_virtual

_FIXTURE = "local_mesh"


@pytest.fixture
def local_mesh() -> LocalMesh:
    """Return an empty ``LocalMesh`` on virtual time, which the test is run in; it ends with the test."""
    return LocalMesh()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test that has the fixture; every other one is left to whoever runs it."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or _FIXTURE not in pyfuncitem.funcargs:
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments: dict[str, Any] = {name: value for name, value in pyfuncitem.funcargs.items() if name in wanted}
    mesh = pyfuncitem.funcargs[_FIXTURE]
    assert isinstance(mesh, LocalMesh)

    async def run() -> None:
        async with mesh:
            await pyfuncitem.obj(**arguments)

    run_virtual(run())
    return True
