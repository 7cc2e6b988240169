"""The generated parts of the guide are those of this program: ``python -m tests.docs`` writes them anew."""

import click
import pytest
from tests.docs.blocks import GUIDE
from tests.docs.command_reference import EXITS, all_commands
from tests.docs.generated import PARTS, filled, generated_pages, parts_of
from tests.docs.key_reference import at_reload, keys_of_all_sections

from meshvisor.supervisor.cli import execute

ASK = [name for name, ends in EXITS.items() if 4 in ends]
ARGUMENTS = {
    "start": ["a"],
    "stop": ["a"],
    "restart": ["a"],
    "scale": ["a=2"],
    "why": ["a", "--now"],
    "blacklist add": ["unix:/a"],
}


@pytest.mark.parametrize("page", [page.name for page in generated_pages()])
def test_a_page_is_up_to_date(page: str) -> None:
    text = (GUIDE / page).read_text()
    assert text == filled(text), "run: python -m tests.docs"


def test_every_generated_part_is_in_some_page() -> None:
    found = [part for page in generated_pages() for part in parts_of(page.read_text())]
    assert sorted(found) == sorted(PARTS)


def test_every_command_says_how_it_ends() -> None:
    assert [name for name, _, _ in all_commands()] == list(EXITS)


def test_every_option_has_a_word_of_help() -> None:
    options = [
        (name, one) for name, command, _ in all_commands() for one in command.params if isinstance(one, click.Option)
    ]
    assert [(name, one.name) for name, one in options if not one.help] == []


@pytest.mark.parametrize("command", ASK)
def test_a_command_that_needs_a_mesh_ends_with_4_without_one(
    command: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MESHVISOR_RUNTIME_DIR", f"{tmp_path}/run")
    assert execute([*command.split(), *ARGUMENTS.get(command, []), "--name", "nowhere"]) == 4
    assert "the mesh 'nowhere' is not running" in capsys.readouterr().err


def test_what_a_reload_does_is_said_of_every_key() -> None:
    said = {f"{section}.{key.name}": at_reload(section, key.name) for section, key in keys_of_all_sections()}
    refused = {name for name, does in said.items() if does == "refused"}
    assert refused == {"mesh.name", "mesh.secret_file", "supervisor.runtime_dir", "supervisor.log_dir"}
    assert said["worker.env"] == "**new processes**"
    assert said["worker.hang_timeout"] == "counts at once"
