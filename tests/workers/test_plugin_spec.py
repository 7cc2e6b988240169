"""What an application says of its plugins, and how that becomes the configuration of a mesh."""

from pathlib import Path
from typing import Any

import pytest

from meshvisor import ConfigError, PluginHost, PluginSpec, rpc
from meshvisor.shared.config import MeshConfig, OnLimit, StartMethod
from meshvisor.workers.plugin_spec import Sources, configurer


class Needed:
    @rpc
    async def render(self) -> bytes: ...  # type: ignore[empty-body]


def config(specs: dict[str, PluginSpec | str], **sources: Any) -> MeshConfig:
    return configurer("plugins")(Sources(specs, **sources).plans())


def faults(**specs: PluginSpec | str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        PluginHost(specs)
    return str(caught.value).split("\n")


def test_options_are_the_keys_of_mesh_toml() -> None:
    spec = PluginSpec("thumbs:Thumbs", max_memory="64MiB", hang_timeout=0.5, limits={"nofile": 100}, cwd=Path("/tmp"))
    (worker,) = config({"thumbs": spec}).workers
    assert (worker.name, worker.class_path, worker.start_method) == ("thumbs", "thumbs:Thumbs", StartMethod.SPAWN)
    assert (worker.max_memory, worker.hang_timeout, worker.limits) == (64 * 1024 * 1024, 0.5, {"nofile": 100})
    assert (worker.cwd, worker.sponsor) == (Path("/tmp"), "host")


def test_a_plugin_that_fails_too_often_is_parked_and_takes_nobody_with_it() -> None:
    assert config({"thumbs": "thumbs:Thumbs"}).supervisor.on_limit is OnLimit.PARK


def test_a_plugin_finds_modules_where_the_application_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (worker,) = config({"thumbs": PluginSpec("thumbs:Thumbs", env={"MORE": "1"})}).workers
    assert worker.env["PYTHONPATH"].split(":")[0] == str(tmp_path)
    assert "site-packages" not in worker.env["PYTHONPATH"]
    assert worker.env["MORE"] == "1"


def test_a_change_of_module_path_or_directory_changes_no_plugin_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, plans = configurer("plugins"), Sources({"thumbs": "thumbs:Thumbs"}).plans()
    before = make(plans)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert make(plans).workers == before.workers


def test_all_that_is_found_runs_as_named_or_by_default(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(f"class {name.title()}(Worker): ...")
    specs: dict[str, PluginSpec | str] = {"one": PluginSpec(max_memory="1GiB")}
    made = config(specs, folder=tmp_path, default=PluginSpec(max_memory="1MiB"))
    assert [(one.name, one.class_path, one.max_memory, one.cwd) for one in made.workers] == [
        ("one", "one:One", 1024**3, tmp_path),
        ("two", "two:Two", 1024**2, tmp_path),
    ]


def test_a_host_without_plugins_is_one() -> None:
    assert config({}).workers == ()


def test_all_faults_are_found_at_once_and_named_as_the_application_has_them() -> None:
    assert faults(
        one=PluginSpec("one:One", version="new", interface=object, max_rate=0),
        two=PluginSpec(),
    ) == [
        "plugins.one.max_rate: must be a number above 0, not 0",
        "plugins.one.version: must be versions such as \">=2.1, <3\", not 'new'",
        "plugins.one.interface: object has no @rpc methods",
        "plugins.two: was not found, and has no source of its own (such as PluginSpec('module:Class'))",
    ]
    assert faults(
        one=PluginSpec("one:One", max_memry="1GiB", replicas=3, hang_timeout="soon"),
        host=PluginSpec("nonsense"),
    ) == [
        "plugins.one.replicas: is not for plugins",
        "plugins.host: is the name of the application itself",
        'plugins.one.max_memry: unknown key (did you mean "max_memory"?)',
        'plugins.one.hang_timeout: must be a duration such as "250ms", "2s", "5m", "1h" or a number of seconds, '
        'not "soon"',
        'plugins.host.class: must be of the form "module:Class", not "nonsense"',
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"plugins": ["a:B"]},
            "plugins: must be what is to run by its name, such as {'thumbs': 'thumbnails:Thumbnails'}",
        ),
        ({"plugins": {"a": 3}}, "plugins.a: must be a PluginSpec, or a class as 'module:Class', not 3"),
        ({"default": PluginSpec("a:B")}, "default.source: must not be given: it is found, and another one for each"),
        ({"default": "a:B"}, "default: must be a PluginSpec, not 'a:B'"),
    ],
)
def test_a_host_says_what_it_takes(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PluginHost(**arguments)
    assert str(caught.value).startswith(text)


def test_a_time_that_cannot_be_is_a_fault() -> None:
    (fault,) = faults(one=PluginSpec("one:One", call_timeout=-1))
    assert fault == "plugins.one.call_timeout: must be a number of seconds, 0 or more, or None, not -1"


@pytest.mark.parametrize("interface", [3, "render", [4]])
def test_an_interface_is_a_class_or_names(interface: Any) -> None:
    (fault,) = faults(one=PluginSpec("one:One", interface=interface))
    assert fault == "plugins.one.interface: must be a class with @rpc methods, or a list of the names of methods"


def test_what_is_offered_needs_methods() -> None:
    with pytest.raises(ConfigError, match=r"offer: object has no @rpc methods that plugins could call"):
        PluginHost(offer=object())


def test_a_name_that_no_node_can_have_is_a_fault() -> None:
    (fault,) = faults(**{"Thumbs": "thumbs:Thumbs"})
    assert fault.startswith("plugins.Thumbs: the name of a worker must be a lower-case letter")
