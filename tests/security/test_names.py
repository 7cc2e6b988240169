"""Names that are paths: none of them leads out of the directories that are ours, whoever says it, and where (S30)."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshvisor.shared.config import load_config
from meshvisor.shared.errors import ConfigError
from meshvisor.supervisor.cli import execute
from meshvisor.supervisor.incidents import Incident, IncidentLog
from meshvisor.supervisor.logbook import slots_with_logs
from meshvisor.supervisor.naming import UnknownSlot
from meshvisor.supervisor.snapshot import ExitCause
from meshvisor.supervisor.supervisor import Supervisor
from meshvisor.workers.runtime import load_class

ESCAPES = ["../outside", "..", ".", "/etc/passwd", "a/../../outside", "a/b", "a\0b", "a\nb", "~", "", "A", "a" * 64]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mesh that does not run, beside a file that looks like one of its logs but for its place."""
    inside = tmp_path / "inside"
    (inside / ".meshvisor").mkdir(parents=True)
    monkeypatch.setenv("MESHVISOR_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.chdir(inside)
    (inside / "mesh.toml").write_text('[mesh]\nname = "demo"\n[workers.a]\ncommand = ["true"]\n')
    for place in (inside, tmp_path):
        (place / "outside.log").write_text("1970-01-01T00:00:01Z stdout not for you\n")
    return inside


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("table", ["mesh", "worker"])
def test_a_configuration_with_such_a_name_is_refused(name: str, table: str, folder: Path) -> None:
    written = '"' + name.replace("\0", "\\u0000").replace("\n", "\\n") + '"'
    mesh, worker = (written, "a") if table == "mesh" else ('"demo"', written)
    (folder / "bad.toml").write_text(f'[mesh]\nname = {mesh}\n[workers.{worker}]\ncommand = ["true"]\n')
    with pytest.raises(ConfigError, match="must be a lower-case letter followed by"):
        load_config(folder / "bad.toml")


@pytest.mark.parametrize("name", [name for name in ESCAPES if "\0" not in name])
def test_a_command_with_such_a_name_opens_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["logs", name], ["why", name], ["logs", "--name", name], ["status", "--name", name]):
        assert execute(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "not for you" not in captured.err


def test_a_running_mesh_knows_no_such_slot(folder: Path) -> None:
    (folder / "mesh.toml").write_text('[mesh]\nname = "demo"\n[workers.a]\ncommand = ["sleep", "1000"]\n')

    async def main() -> None:
        async with Supervisor(load_config(folder / "mesh.toml")) as supervisor:
            for name in ESCAPES:
                for change in (supervisor.start, supervisor.stop, supervisor.restart, supervisor.traces):
                    with pytest.raises(UnknownSlot):
                        await change(name)
                with pytest.raises(UnknownSlot):
                    await supervisor.scale(name, 1)

    asyncio.run(main())
    assert sorted(file.name for file in (folder / ".meshvisor").iterdir()) in ([], ["a.log"])


def test_a_file_that_is_called_as_no_slot_is_no_log(folder: Path) -> None:
    log_dir = folder / ".meshvisor"
    for name in ("a.log", "..log", "-.log", "A.log", "a b.log", "\x1b[2J.log", "a.log.x", "a.log.1"):
        (log_dir / name).touch()
    assert slots_with_logs(log_dir) == ["a"]


@pytest.mark.parametrize(
    "facts", [{"slot": "../outside"}, {"slot": "a\x1b[2J"}, {"slot": "a\n"}, {"signal": "\x1bc"}, {"at": 1e300}]
)
def test_an_incident_that_no_supervisor_has_written_is_left_out(
    facts: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = IncidentLog(folder / ".meshvisor", pytest.fail, lambda count: None)
    real = Incident(at=1.0, slot="a", incarnation=1, cause=ExitCause.SIGNALED, signal="SIGRTMIN+3", text="\x1b]0;x\x07")
    log.append(real)
    log.append(msgspec.structs.replace(real, **facts))
    log.close()
    assert execute(["why"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("a was killed by SIGRTMIN+3")
    assert "\x1b" not in out


@pytest.mark.parametrize("path", ["../outside:Node", "/etc/passwd:x", "a b:Node", "os:system('x')", ":Node", "a.:Node"])
def test_a_class_path_names_a_module_and_a_class_and_nothing_else(path: str, folder: Path) -> None:
    (folder / "bad.toml").write_text(f'[mesh]\nname = "m"\n[workers.a]\nclass = "{path}"\n')
    with pytest.raises(ConfigError, match=r"workers\.a\.class"):
        load_config(folder / "bad.toml")
    with pytest.raises((ImportError, AttributeError, TypeError, ValueError)):
        load_class(path)
