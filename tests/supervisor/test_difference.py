"""What a reload would change, key by key, and how that reads."""

from dataclasses import replace
from pathlib import Path

from tests.supervisor.fake import mesh

from meshvisor.shared.config.model import Backoff, Ready, WorkerConfig
from meshvisor.shared.control.requests import Difference, KeyChange, Step
from meshvisor.supervisor.difference import difference
from meshvisor.supervisor.outcome import differences, sentence, unchanged


def command(name: str, **options: object) -> WorkerConfig:
    return replace(WorkerConfig(name, Path("/"), command=("x",)), **options)  # type: ignore[arg-type]


A = command("a")


def test_two_equal_ones_differ_in_nothing() -> None:
    found = difference(mesh(A), mesh(A))
    assert (found, found.is_empty) == (Difference("/mesh.toml"), True)
    assert differences(found) == []


def test_each_kind_of_change_has_its_place() -> None:
    old = mesh(A, command("gone", replicas=2), command("policy"), command("many", replicas=2))
    new = mesh(
        command("a", env={"MODE": "fast"}, settings={"depth": {"x": [1, 2]}}, nice=5),
        command("policy", backoff=Backoff(max=60.0), hang_timeout=None, success=frozenset({3, 0})),
        command("many", replicas=4),
        command("new"),
        spares=3,
    )
    found = difference(old, new)
    assert found.added == {"new": ("new",)}
    assert found.removed == {"gone": ("gone-0", "gone-1")}
    assert found.replaced == {
        "a": (
            KeyChange("env.MODE", None, "fast"),
            KeyChange("settings.depth", None, {"x": [1, 2]}),
            KeyChange("nice", None, 5),
        )
    }
    assert found.adjusted == {
        "policy": (
            KeyChange("success", [0], [0, 3]),
            KeyChange("backoff.max", 30.0, 60.0),
            KeyChange("hang_timeout", 1.0, "off"),
        )
    }
    assert found.rescaled == {"many": (2, 4)}
    assert found.supervisor == (KeyChange("supervisor.spares", 1, 3),)
    assert (found.refused, found.is_empty) == ((), False)


def test_of_a_table_that_comes_or_goes_only_what_is_set_counts() -> None:
    tcp, file = Ready(tcp="localhost:1"), Ready(file=Path("/up"))
    found = difference(mesh(A), mesh(command("a", ready=tcp)))
    assert found.replaced == {"a": (KeyChange("ready", None, {"tcp": "localhost:1", "notify": False}),)}
    found = difference(mesh(command("a", ready=tcp)), mesh(command("a", ready=file)))
    assert found.replaced == {"a": (KeyChange("ready.tcp", "localhost:1", None), KeyChange("ready.file", None, "/up"))}


def test_a_change_of_the_mesh_replaces_workers_and_no_commands() -> None:
    worker = WorkerConfig("w", Path("/"), class_path="m:W")
    before = mesh(A, worker)
    found = difference(before, replace(before, mesh=replace(before.mesh, beat=0.05)))
    assert found.replaced == {"w": (KeyChange("mesh.beat", 0.025, 0.05),)}


def test_what_cannot_change_is_refused_with_the_reason() -> None:
    before = mesh(A)
    found = difference(before, replace(before, mesh=replace(before.mesh, name="other")))
    assert found.refused == ("mesh.name cannot change while the mesh runs",)


def test_a_difference_reads_well() -> None:
    found = Difference(
        "/mesh.toml",
        added={"new": ("new-0", "new-1"), "many": tuple(f"many-{number}" for number in range(12)), "none": ()},
        removed={"gone": ("gone",)},
        replaced={"a": (KeyChange("env.MODE", None, "fast"), KeyChange("command", ["x"], ["x", "y" * 80]))},
        adjusted={
            "b": (
                KeyChange("stop_timeout", 5.0, 0.25),
                KeyChange("max_memory", 536870912, None),
                KeyChange("umask", 23, 63),
            )
        },
        rescaled={"c": (4, 1)},
        supervisor=(KeyChange("supervisor.max_restarts", 5, 10),),
        refused=("mesh.name cannot change while the mesh runs",),
    )
    assert differences(found) == [
        "+ new is added: new-0, new-1",
        "+ many is added: many-0, many-1, many-2, many-3, many-4, many-5, many-6, many-7 and 4 more",
        "+ none is added: no slot",
        "- gone is removed: gone",
        "~ a is restarted:",
        '      env.MODE: (not set) -> "fast"',
        '      command: ["x"] -> ["x", "' + "y" * 50 + "...",
        "~ c has 1 slot instead of 4",
        "~ b is adjusted, without a restart:",
        "      stop_timeout: 5.0 s -> 250 ms",
        "      max_memory: 512 MiB -> (not set)",
        '      umask: "027" -> "077"',
        "~ [supervisor] is adjusted:",
        "      supervisor.max_restarts: 5 -> 10",
        "! mesh.name cannot change while the mesh runs",
    ]
    assert "\x1b[32m+\x1b[0m \x1b[1mnew\x1b[0m is added" in differences(found, colour=True)[0]


def test_nothing_in_a_value_gets_at_the_terminal() -> None:
    found = Difference("f", adjusted={"a": (KeyChange("stop_signal", "\x1b[2J", "\u202e"),)})
    assert differences(found)[1] == r'      stop_signal: "\u001b[2J" -> "\u202e"'


def test_steps_read_well() -> None:
    assert [
        sentence(step)
        for step in (
            Step("counter-1", "ready", 3, 0.0414),
            Step("counter-1", "ready", 3, None),
            Step("counter-1", "stopped", 3, 1.25),
            Step("counter-1", "stopped", 3, None),
            Step("counter-1", "failed", 3, 0.2),
            Step("counter-1", "ready", 5, 0.05, is_back=True),
        )
    ] == [
        "counter-1 is ready (incarnation 3, 41 ms)",
        "counter-1 was ready already (incarnation 3)",
        "counter-1 is stopped (1.2 s)",
        "counter-1 was stopped already",
        "counter-1 has failed (200 ms)",
        "counter-1 is what it was before (incarnation 5, 50 ms)",
    ]


def test_of_very_many_slots_with_nothing_to_do_the_number_is_told() -> None:
    ready = [Step(f"a-{number}", "ready", 1, None) for number in range(9)]
    moved = Step("b", "ready", 2, 0.5)
    assert unchanged([*ready[:2], moved]) == [sentence(step) for step in ready[:2]]
    assert unchanged([*ready, moved, Step("c", "stopped", 1, None)]) == [
        "9 slots were ready already",
        "1 slot was stopped already",
    ]
