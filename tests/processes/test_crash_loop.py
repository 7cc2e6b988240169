"""A worker that crashes again and again: slower and slower, then parked or given up, and calm all the while."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.outside.mesh import OutsideMesh
from tests.outside.proc import descriptors

pytestmark = pytest.mark.slow

LOOP = "test -e {fixed} && exec sleep 1000; sleep {up}; exit 3"


def sections(folder: Path, up: float = 0, **supervisor: object) -> dict[str, dict[str, object]]:
    script = LOOP.format(fixed=folder / "fixed", up=up)
    backoff = {"initial": "20ms", "max": "100ms", "jitter": 0.5}
    return {
        "supervisor": supervisor,
        "workers.loop": {"command": ["sh", "-c", script], "backoff": backoff},
        "workers.calm": {"command": ["sleep", "1000"]},
    }


def test_it_slows_down_is_parked_and_is_normal_again_when_the_cause_is_gone(tmp_path: Path) -> None:
    parked = sections(tmp_path, max_restarts=8, on_limit="park")
    with OutsideMesh(tmp_path, f"loop{os.getpid()}", parked) as mesh:
        mesh.start()
        mesh.until(lambda: any("is parked" in line.text for line in mesh.lines), 20, "the parking")
        said = [line.text for line in mesh.lines if line.slot == "loop"]
        assert len(said) == 9  # one line a crash, and no other
        assert said[0].endswith("; starting again at once")
        assert all("; starting again in " in text for text in said[1:8])
        assert said[8].endswith("; it has failed too often and is parked, next try in 5.0 s")
        before = descriptors(mesh.pid)
        (tmp_path / "fixed").touch()
        mesh.until(lambda: any("is ready again" in line.text for line in mesh.lines), 20, "the recovery")
        status = mesh.until(mesh.status, 10, "the status")
        assert [(worker.name, worker.state, worker.restarts) for worker in status.workers] == [
            ("loop", "ready", 9),
            ("calm", "ready", 0),
        ]
        assert len(descriptors(mesh.pid)) - len(before) <= 6  # those of one command, and of us who ask
        assert mesh.stop() == 0
        assert mesh.remaining() == []


def test_it_ends_the_mesh_with_3_where_that_is_configured(tmp_path: Path) -> None:
    with OutsideMesh(tmp_path, f"loop{os.getpid()}", sections(tmp_path, 0.3, max_restarts=3)) as mesh:
        mesh.start()
        assert mesh.wait(20) == 3
        texts = [line.text for line in mesh.lines]
        assert "more than 3 restarts within 10 s: giving up" in texts
        assert sum(text.startswith("ended with status 3") for text in texts) == 4
        assert mesh.remaining() == []
