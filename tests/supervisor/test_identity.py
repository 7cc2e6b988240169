"""What an incarnation is told about itself, and what the others are told about it."""

import os
from pathlib import Path
from typing import Any

import pytest

from meshvisor.shared.config.model import MeshSection, TransportName, WorkerConfig
from meshvisor.shared.core.roster import NodeRecord, NodeStatus
from meshvisor.shared.errors import SupervisorError
from meshvisor.supervisor.identity import Identity, run_secret
from meshvisor.supervisor.leftovers import Mark

MARK = Mark("m", 1, 2, "boot")


def identity(mesh: MeshSection | None = None, **options: Any) -> Identity:
    config = WorkerConfig("counter", Path("/app"), **{"class_path": "app:Counter", **options})
    return Identity(mesh or MeshSection("m"), config, "counter-2", 2).next(7)


def test_every_incarnation_has_an_epoch_of_its_own() -> None:
    one = identity()
    epochs = {one.next(incarnation).epoch for incarnation in range(100)}
    assert len(epochs) == 100
    assert all(0 < epoch < 2**64 for epoch in epochs)


def test_an_incarnation_listens_where_no_other_ever_did() -> None:
    assignment = identity().assignment(Path("/run/m"), b"secret", ())
    assert assignment.listen == ("unix:/run/m/counter-2.7.sock",)
    assert (assignment.name, assignment.group, assignment.replica, assignment.incarnation) == (
        "counter-2",
        "counter",
        2,
        7,
    )
    assert (assignment.class_path, assignment.path, assignment.secret) == ("app:Counter", "/app", b"secret")


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("127.0.0.1", "tcp:127.0.0.1:0"),
        ("::1", "tcp:[::1]:0"),
        ("[::1]", "tcp:[::1]:0"),
        ("localhost", "tcp:localhost:0"),
    ],
)
def test_over_tcp_the_kernel_chooses_the_port(host: str, endpoint: str) -> None:
    mesh = MeshSection("m", transport=TransportName.TCP, host=host)
    assert identity(mesh).assignment(Path("/run/m"), b"", ()).listen == (endpoint,)


@pytest.mark.parametrize(("stop_timeout", "drain_timeout"), [(5.0, 4.5), (1.0, 0.9), (0.0, 0.0), (60.0, 59.5)])
def test_draining_ends_a_little_before_the_kill(stop_timeout: float, drain_timeout: float) -> None:
    assignment = identity(stop_timeout=stop_timeout).assignment(Path("/run/m"), b"", ())
    assert assignment.drain_timeout == pytest.approx(drain_timeout)


def test_the_environment_is_ours_plus_what_is_configured_plus_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "yes")
    monkeypatch.setenv("MESHVISOR_SLOT", "of an outer mesh")
    environment = identity(env={"EXTRA": "1"}).environment(MARK)
    assert (environment["INHERITED"], environment["EXTRA"]) == ("yes", "1")
    assert (environment["MESHVISOR_SLOT"], environment["MESHVISOR_INCARNATION"]) == ("counter-2", "7")
    assert environment["MESHVISOR_MESH"] == "m:1:2:boot:"


def test_a_worker_prints_without_buffering_unless_it_is_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    assert identity().environment(MARK)["PYTHONUNBUFFERED"] == "1"
    assert identity(env={"PYTHONUNBUFFERED": ""}).environment(MARK)["PYTHONUNBUFFERED"] == ""
    assert "PYTHONUNBUFFERED" not in identity(class_path=None, command=("true",)).environment(MARK)


def test_the_roster_tells_the_others_what_they_need() -> None:
    one = identity()
    assert one.record(NodeStatus.READY, ("unix:/a",)) == NodeRecord(
        "counter-2", "counter", 2, 7, one.epoch, NodeStatus.READY, ("unix:/a",)
    )
    assert one.record(NodeStatus.GONE, why="stopped").why == "stopped"


@pytest.mark.parametrize(
    ("transport", "host", "interval"),
    [
        (TransportName.UNIX, "10.0.0.1", None),
        (TransportName.TCP, "127.0.0.1", None),
        (TransportName.TCP, "10.0.0.1", 0.75),
    ],
)
def test_links_are_probed_where_the_kernel_does_not_tell_of_a_death(
    transport: TransportName, host: str, interval: float | None
) -> None:
    mesh = MeshSection("m", transport=transport, host=host, heartbeat_interval=0.75, heartbeat_timeout=3.0)
    assignment = identity(mesh).assignment(Path("/run/m"), b"", ())
    assert (assignment.heartbeat_interval, assignment.heartbeat_timeout) == (interval, 3.0)


def test_a_worker_is_told_how_it_is_confined() -> None:
    assignment = identity(nice=5, umask=0o27, limits={"core": -1}).assignment(Path("/run/m"), b"", ())
    assert (assignment.nice, assignment.umask, assignment.limits) == (5, 0o27, {"core": -1})


def test_another_user_does_not_get_our_home_unless_that_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USER", "LOGNAME"):
        monkeypatch.setenv(name, "ours")
    own = identity(class_path=None, command=("a",)).environment(MARK)
    other = identity(class_path=None, command=("a",), user="nobody", env={"USER": "x"}).environment(MARK)
    assert [own.get(name) for name in ("HOME", "USER", "LOGNAME")] == ["ours"] * 3
    assert [other.get(name) for name in ("HOME", "USER", "LOGNAME")] == [None, "x", None]


def test_the_secret_of_a_run_is_the_files_or_a_new_one(tmp_path: Path) -> None:
    assert len(run_secret(MeshSection("m"))) == 32
    assert run_secret(MeshSection("m")) != run_secret(MeshSection("m"))
    file = tmp_path / "secret"
    file.write_text("sixteen bytes...\n")
    file.chmod(0o600)
    assert run_secret(MeshSection("m", secret_file=file)) == b"sixteen bytes..."
    file.chmod(0o604)
    with pytest.raises(SupervisorError, match=r'^mesh.secret_file: ".*" is open to others \(mode 0604\)'):
        run_secret(MeshSection("m", secret_file=file))


def test_a_secret_that_another_user_has_chosen_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text("sixteen bytes...\n")
    file.chmod(0o600)
    owner = os.stat(file).st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:
        assert run_secret(MeshSection("m", secret_file=file)) == b"sixteen bytes..."
        os.chown(file, 4711, -1)
    with pytest.raises(SupervisorError, match=r"belongs to another user \(uid \d+\), who knows what is in it"):
        run_secret(MeshSection("m", secret_file=file))
