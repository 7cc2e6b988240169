"""Looks a worker class up, in a process of its own.

``supervise check`` runs this file with the worker's interpreter, folder and environment; the supervisor itself never
imports what users wrote. Arguments: the class (``module:Class``) and the number of the descriptor for the verdict, a
JSON object: ``error`` (null: all is well) and ``hint``. Whatever the module prints goes nowhere near it.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
import traceback
from importlib import import_module
from typing import Any

_LONGEST = 4000


def verdict(class_path: str) -> dict[str, str | None]:
    """Return what is wrong with the class, as ``error`` and ``hint``."""
    name, _, attribute = class_path.partition(":")
    try:
        module = import_module(name)
    except BaseException as error:
        return {"error": f"cannot be imported: {_reason(error)}", "hint": None}
    worker = import_module("meshvisor").Worker
    workers = [key for key, value in vars(module).items() if _is_worker(value, worker) and value is not worker]
    found = getattr(module, attribute, None)
    if found is None:
        close = difflib.get_close_matches(attribute, workers, n=1) or (workers if len(workers) == 1 else [])
        where = getattr(module, "__file__", None) or name
        return {"error": f"there is no {attribute} in {where}", "hint": f"{name}:{close[0]}" if close else None}
    if not _is_worker(found, worker):
        return {"error": f"{attribute} is not a subclass of meshvisor.Worker", "hint": None}
    return {"error": None, "hint": None}


def _is_worker(value: Any, worker: type) -> bool:
    return isinstance(value, type) and issubclass(value, worker)


def _reason(error: BaseException) -> str:
    """Return the error in one line, with the place in the user's code that it came from."""
    line = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{line} ({error.filename}:{error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    return f"{line} ({frames[-1].filename}:{frames[-1].lineno})" if frames else line


def _fitting(text: str | None) -> str | None:
    """Return ``text`` as it can go through a pipe that is not read yet, and onto a terminal."""
    return text and "".join(char if char.isprintable() else "?" for char in text[:_LONGEST])


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # in place of this file's own folder, as for the worker
    descriptor = int(sys.argv[2])
    found = {key: _fitting(text) for key, text in verdict(sys.argv[1]).items()}
    os.write(descriptor, json.dumps(found).encode())
    os._exit(0)  # no thread or exit handler of the module may keep this process
