"""A mesh of workers in one process and in virtual time, for the tests of an application."""

from ..workers.testing import Deadlock as Deadlock
from ..workers.testing import LocalMesh as LocalMesh
from ..workers.testing import VirtualTimeLoop as VirtualTimeLoop
from ..workers.testing import WorkerFailed as WorkerFailed
from ..workers.testing import run_virtual as run_virtual

__all__ = ["Deadlock", "LocalMesh", "VirtualTimeLoop", "WorkerFailed", "run_virtual"]
