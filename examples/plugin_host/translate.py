"""An application whose plugins crash, hang, leak and pretend, and which goes on:   python translate.py"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from meshvisor import PluginError, PluginEvent, PluginHost, PluginSpec, rpc

PLUGINS = Path(__file__).with_name("plugins")
TEXTS = ["to be or not to be", "see no evil", "all is well", "the end"]
WORDS = {"to": "zu", "be": "sein", "or": "oder", "not": "nicht", "all": "alles", "the": "das", "end": "Ende"}


class Translator(Protocol):
    """What the application needs of a plugin: these methods, with these arguments and results."""

    @rpc
    async def translate(self, text: str) -> str: ...


class Dictionary:
    """What the application offers to its plugins."""

    @rpc
    async def look_up(self, word: str) -> str:
        return WORDS.get(word, word)


class Diary:
    """Writes down what happens, and when."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def note(self, text: object) -> None:
        print(f"{time.monotonic() - self.began:5.2f} s   {text}", flush=True)

    def hear(self, event: PluginEvent) -> None:
        self.note(event)


class Work:
    """Has one plugin translate all texts, and keeps what became of each: a translation, or how the plugin failed."""

    def __init__(self, plugin: str, host: PluginHost) -> None:
        self.plugin = plugin
        self.results: list[str] = []
        self.faults: list[str] = []
        for text in TEXTS:
            try:
                self.results.append(host.call(plugin, "translate", text))
            except PluginError as error:
                self.faults.append(error.fault)

    def __str__(self) -> str:
        first = self.results[0] if self.results else "-"
        faults = ", ".join(dict.fromkeys(self.faults)) or "-"
        return f"{self.plugin:10}  {len(self.results)} of {len(TEXTS)}   {first:27}  {faults}"


def main() -> None:
    diary = Diary()
    needs = PluginSpec(interface=Translator, version=">=1", max_memory="100MiB", hang_timeout="500ms")
    diary.note("starting what is in the folder, each plugin in a process of its own")
    with PluginHost(folder=PLUGINS, default=needs, offer=Dictionary(), on_event=diary.hear) as host:
        names = list(host.status())
        diary.note("giving each of them four texts to translate, all at the same time")
        with ThreadPoolExecutor() as pool:
            works = list(pool.map(lambda name: Work(name, host), names))
        replaced = sum(status.restarts for status in host.status().values())
    diary.note("the plugins have ended with their host")

    print(f"\n{'PLUGIN':10}  {'DONE':7}  {'FIRST RESULT':27}  TROUBLE", *sorted(works, key=str), sep="\n")
    expected = {"ancient": 0, "crashing": 3, "good": 4, "hanging": 3, "leaking": 3}
    if {work.plugin: len(work.results) for work in works} != expected:
        raise SystemExit(f"WRONG: there should be {expected} translations")
    if strangers := expected.keys() & sys.modules.keys():
        raise SystemExit(f"WRONG: the application has imported {strangers}")
    print(f"\nThe application ran all the time; {replaced} processes died in its place, and it knows of what.")


if __name__ == "__main__":
    main()
