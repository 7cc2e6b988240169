"""What a subclass of Worker may and may not be."""

from types import SimpleNamespace
from typing import Any

import pytest

from meshvisor.workers.rpc import rpc
from meshvisor.workers.worker import Worker, make_worker


def test_nothing_public_but_what_the_design_lists() -> None:
    public = {name for name in dir(Worker) if not name.startswith("_")}
    hooks = {"on_start", "run", "on_peer_up", "on_message", "on_peer_down", "on_stop"}
    methods = {"send", "broadcast", "call", "run_blocking", "stop"}
    assert public == hooks | {"name", "settings", "peers", "incarnation", *methods}


@pytest.mark.parametrize("name", ["name", "settings", "peers", "incarnation"])
def test_what_a_worker_knows_cannot_be_hidden(name: str) -> None:
    with pytest.raises(TypeError, match=f"Bad.{name} would hide the worker's own {name}"):
        type("Bad", (Worker,), {name: "mine"})


@pytest.mark.parametrize("name", ["send", "broadcast", "call", "stop", "run", "on_start", "on_message"])
def test_what_a_worker_does_cannot_be_an_rpc_method(name: str) -> None:
    async def method(self: Worker) -> None: ...

    with pytest.raises(TypeError, match=f"Bad.{name} cannot be an @rpc method"):
        type("Bad", (Worker,), {name: rpc(method)})


def test_a_hook_must_be_async_and_no_generator() -> None:
    def plain(self: Worker) -> None: ...

    async def generator(self: Worker) -> Any:
        yield 1

    for hook in (plain, generator):
        with pytest.raises(TypeError, match=r"Bad\.on_start must be `async def`"):
            type("Bad", (Worker,), {"on_start": hook})


@pytest.mark.parametrize(
    ("name", "takes"), [("on_message", r"\(self, message\)"), ("on_peer_down", r"\(self, peer, reason\)")]
)
def test_a_hook_must_take_what_it_is_called_with(name: str, takes: str) -> None:
    async def too_few(self: Worker) -> None: ...

    async def too_many(self: Worker, one: Any, two: Any, three: Any) -> None: ...

    async def any_number(self: Worker, *what: Any, by_the_way: int = 1) -> None: ...

    for hook in (too_few, too_many):
        with pytest.raises(TypeError, match=rf"Bad\.{name} is called as a hook, and must take {takes}"):
            type("Bad", (Worker,), {name: hook})
    assert type("Good", (Worker,), {name: any_number})


def test_outside_of_a_mesh_a_worker_says_so() -> None:
    class Lonely(Worker):
        pass

    with pytest.raises(RuntimeError, match="this Lonely is not part of a mesh"):
        _ = Lonely().name


def test_an_init_without_super_can_use_what_the_worker_knows() -> None:
    class Prepared(Worker):
        def __init__(self) -> None:
            self.depth = self.settings["depth"]

    node: Any = SimpleNamespace(settings={"depth": 3})
    worker = make_worker(Prepared, node)
    assert isinstance(worker, Prepared)
    assert worker.depth == 3


def test_an_init_that_needs_arguments_is_refused_with_a_sentence() -> None:
    class Needy(Worker):
        def __init__(self, path: str) -> None: ...

    node: Any = object()
    with pytest.raises(TypeError, match=r"Needy.__init__ must do without arguments \(.*'path'\); use settings"):
        make_worker(Needy, node)
