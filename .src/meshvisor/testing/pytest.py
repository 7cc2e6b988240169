"""A plugin for pytest: name it in ``conftest.py``, and tests get ``local_mesh``.

    pytest_plugins = ["meshvisor.testing.pytest"]

An ``async def`` test that asks for the fixture runs on virtual time, inside of its mesh.
"""

from ..workers.fixtures import local_mesh as local_mesh
from ..workers.fixtures import pytest_pyfunc_call as pytest_pyfunc_call
