"""What a host needs of a plugin, and what it objects to."""

from typing import Any, Protocol

import pytest

from meshvisor.shared.errors import PluginError, PluginFault
from meshvisor.workers.introduction import Introduction, Method, introduction_of, methods_of
from meshvisor.workers.plugin_contract import Contract, VersionRange, rank
from meshvisor.workers.rpc import rpc
from meshvisor.workers.worker import Worker

ANY = VersionRange("")


class Needed(Protocol):
    @rpc
    async def render(self, path: str, width: int = 200) -> bytes: ...

    @rpc
    async def sizes(self, *, limit: int | None = None) -> list[int]: ...


def objection(plugin: type, *, version: str = "", interface: Any = Needed, known: str = "") -> str | None:
    return Contract.of(VersionRange(version), interface).objection(introduction_of(plugin), known)


class Good(Worker):
    version = "2.1"

    @rpc
    async def render(self, path: str, width: int = 100, quality: float = 0.9) -> bytes:
        raise NotImplementedError

    @rpc
    async def sizes(self, limit: int | str | None = 3) -> list[int]:
        raise NotImplementedError

    @rpc
    async def more(self) -> None: ...


def test_a_plugin_may_offer_more_and_take_more_than_is_needed() -> None:
    assert objection(Good, version=">=2, <3", known="2.1.0") is None
    assert objection(Good, interface=["render", "more"]) is None
    assert objection(Good, interface=()) is None


def test_methods_that_are_missing_are_named_all_of_them() -> None:
    class Poor(Worker):
        @rpc
        async def rendr(self, path: str) -> bytes:
            raise NotImplementedError

    text = "has no @rpc method 'render' (did you mean 'rendr'?); it has no @rpc method 'sizes'"
    assert objection(Poor) == text
    assert objection(Poor, interface=["render", "sizes"]) == text


class Other:
    """Methods that do not fit, one by one; each is compared with ``render`` of ``Needed``."""

    @rpc
    async def needs_more(self, path: str, width: int = 1, *, quality: int) -> bytes: ...  # type: ignore[empty-body]

    @rpc
    async def takes_less(self, path: str) -> bytes: ...  # type: ignore[empty-body]

    @rpc
    async def other_order(self, width: int, path: str) -> bytes: ...  # type: ignore[empty-body]

    @rpc
    async def cannot_do_without(self, path: str, width: int) -> bytes: ...  # type: ignore[empty-body]

    @rpc
    async def other_argument(self, path: int, width: int = 1) -> bytes: ...  # type: ignore[empty-body]

    @rpc
    async def other_result(self, path: str, width: int = 1) -> str: ...  # type: ignore[empty-body]

    @rpc
    async def only_by_name(self, path: str, *, width: int = 1) -> bytes: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("needs_more", "needs an argument 'quality' that the host does not give"),
        ("takes_less", "takes no 'width' as argument 2"),
        ("cannot_do_without", "cannot do without 'width'"),
        ("other_argument", "takes int as 'path', and not str"),
        ("other_result", "returns str, and not bytes"),
        ("only_by_name", "takes no 'width' as argument 2"),
    ],
)
def test_a_method_that_cannot_be_called_as_agreed_is_refused(method: str, text: str) -> None:
    assert _compared(method) == [text]


def test_arguments_in_another_order_are_refused() -> None:
    assert "takes no 'path' as argument 1" in _compared("other_order")


def _compared(method: str) -> list[str]:
    wanted = next(one for one in methods_of(Needed) if one.name == "render")
    found = next(one for one in methods_of(Other) if one.name == method)
    named = Method("render", found.parameters, found.returns)
    text = Contract(methods=(wanted,)).objection(Introduction("", (named,))) or ""
    return [part.removesuffix(" (in render)") for part in text.split("; it ")]


def test_an_argument_that_is_only_given_by_name_must_be_taken_by_that_name() -> None:
    class Plugin(Good):
        @rpc
        async def sizes(self, bound: int | None = None) -> list[int]: ...  # type: ignore[empty-body, override]

    assert objection(Plugin) == "takes no argument 'limit' (in sizes)"


def test_an_int_will_do_where_a_float_is_wanted_and_not_the_other_way_round() -> None:
    class Host:
        @rpc
        async def f(self, x: int) -> float: ...  # type: ignore[empty-body]

    class Plugin:
        @rpc
        async def f(self, x: float) -> int: ...  # type: ignore[empty-body]

    assert objection(Plugin, interface=Host) is None
    assert objection(Host, interface=Plugin) == (
        "takes int as 'x', and not float (in f); it returns float, and not int (in f)"
    )


def test_whatever_the_host_may_give_must_be_taken_and_not_only_some_of_it() -> None:
    class Host:
        @rpc
        async def f(self, x: int | str) -> None: ...

    class Plugin:
        @rpc
        async def f(self, x: int) -> None: ...

    assert objection(Plugin, interface=Host) == "takes int as 'x', and not int or str (in f)"
    assert objection(Host, interface=Plugin) is None


def test_what_has_no_annotation_takes_and_returns_anything() -> None:
    class Loose:
        @rpc
        async def render(self, path, width=0): ...  # type: ignore[no-untyped-def]

        @rpc
        async def sizes(self, limit: "Nowhere" = None) -> "Nowhere": ...  # type: ignore[name-defined] # noqa: F821

    Loose.sizes.__annotations__.pop("limit")  # an argument's annotation has to exist, a result's need not
    assert objection(Loose) is None


def test_a_plugin_that_lies_about_its_version_is_refused() -> None:
    text = "says that it is version 2.1, and what was found is 3.0"
    assert objection(Good, interface=(), known="3.0") == text


@pytest.mark.parametrize(
    ("needed", "text"),
    [
        (">=2.2", "is version 2.1, and >=2.2 is needed"),
        ("<2.1", "is version 2.1, and <2.1 is needed"),
        ("!=2.1.0", "is version 2.1, and !=2.1.0 is needed"),
    ],
)
def test_a_version_that_is_not_needed_is_refused(needed: str, text: str) -> None:
    assert objection(Good, version=needed, interface=()) == text


def test_a_plugin_without_a_version_is_refused_only_if_one_is_needed() -> None:
    class Unmarked(Worker):
        pass

    assert objection(Unmarked, interface=()) is None
    assert objection(Unmarked, version=">=1", interface=(), known="1.4") is None
    assert objection(Unmarked, version=">=1", interface=()) == "does not say which version it is, and >=1 is needed"


def test_a_version_that_is_none_is_refused() -> None:
    text = Contract.of(VersionRange(">=1"), ()).objection(Introduction("latest", ()))
    assert text == "says that it is a version that is none: 'latest' is no version (such as 2.1.0)"


@pytest.mark.parametrize(
    ("needed", "inside"),
    [("<2", [1]), ("<=2", [1, 2]), ("==2", [2]), ("!=2", [1, 3]), (">=2", [2, 3]), (">2", [3]), (">1, <3", [2])],
)
def test_a_range_holds_what_it_says(needed: str, inside: list[int]) -> None:
    assert [number for number in (1, 2, 3) if str(number) in VersionRange(needed)] == inside


def test_versions_are_ordered_by_their_numbers() -> None:
    texts = ["0.9", "1.0.dev1", "1", "1.0.1", "1.2", "1.10rc1", "1.10", "2.0"]
    assert sorted(texts[3:] + texts[:3], key=rank) == texts
    assert rank("1") == rank("1.0") == rank("1.0+local")


def test_a_preview_is_older_than_the_release() -> None:
    assert "2.0rc1" not in VersionRange(">=2")
    assert "2.0rc1" in VersionRange("<2")


@pytest.mark.parametrize("text", ["2", "~=2", ">=two", ">=1,,<2", ">= 1 <2"])
def test_a_range_that_cannot_be_understood_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be versions such as|is no version"):
        VersionRange(text)


def test_a_result_is_checked_and_becomes_what_was_agreed() -> None:
    contract = Contract.of(ANY, Needed)
    assert contract.result("thumbs", "render", b"\xff") == b"\xff"
    assert contract.result("thumbs", "sizes", [1, 2]) == [1, 2]
    assert contract.result("thumbs", "other", "anything") == "anything"
    with pytest.raises(PluginError, match=r"returned something else from sizes than was agreed: Expected `int`") as lie:
        contract.result("thumbs", "sizes", [1, "2"])
    assert (lie.value.plugin, lie.value.fault) == ("thumbs", PluginFault.BAD_RESULT)


def test_a_text_is_never_taken_for_bytes() -> None:
    with pytest.raises(PluginError, match="Expected `bytes`, got `str`"):
        Contract.of(ANY, Needed).result("thumbs", "render", "aGVsbG8=")


def test_an_interface_whose_results_cannot_be_checked_is_an_error() -> None:
    class Unclear:
        @rpc
        async def render(self) -> int | list[int] | tuple[int, ...]: ...  # type: ignore[empty-body]

    with pytest.raises(
        TypeError, match=r"what .*Unclear\.render returns cannot be checked: Type unions may not contain"
    ):
        Contract.of(ANY, Unclear)


def test_an_interface_without_rpc_methods_is_an_error() -> None:
    class Empty:
        async def render(self) -> None: ...

    with pytest.raises(TypeError, match="Empty has no @rpc methods"):
        Contract.of(ANY, Empty)
    with pytest.raises(TypeError, match="a list of the names of methods"):
        Contract.of(ANY, "render")
