"""A worker process from its assignment to its exit.

It ends by ``os._exit``: when ``run`` has returned or a hook has failed, the process is to end, whatever threads or
tasks of the application still hold on; output is flushed and ``atexit`` functions run before, unless it crashed.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from ..shared.control.lifeline import (
    Assignment,
    Begin,
    FromWorker,
    HandOver,
    LifelineError,
    LinkReport,
    LinksWanted,
    Prepared,
    Ready,
    Reserve,
    RosterNews,
    Stop,
    ToWorker,
    failure,
)
from ..shared.control.urgency import ask_for_usual_turns
from ..shared.mesh.mesh import Mesh
from .ending import Ending, Manner, exit_status, user_traceback
from .lifeline import Lifeline
from .node import Node
from .presence import Presence, open_board
from .pulse import PulsedLoop
from .rehearsal import rehearse
from .rpc import suggestion
from .spare import Spare
from .title import set_title
from .traces import register
from .wiring import adapters_for, blacklist_of, options_of
from .worker import Worker

_FLUSH_TIMEOUT = 1.0
_FIRST_TO_GO = "1000"  # of the kernel's scores, the highest; raising one's own takes no privilege

log = logging.getLogger("meshvisor.worker")


def run(sock: socket.socket, *, is_spare: bool = False) -> NoReturn:
    """Be the worker that the supervisor at the other end of ``sock`` assigns, and exit.

    A spare may wait long for its assignment, and warms up meanwhile; it is linked, too, if the supervisor says how.
    """
    set_up_logging()
    lifeline = Lifeline(sock)
    runner = asyncio.Runner(loop_factory=_new_loop)
    if is_spare:
        set_title("meshvisor spare")
        rehearse()
        runner.run(asyncio.sleep(0))
    try:
        said = lifeline.receive_first()
        if "traces" in lifeline.descriptors:
            register(lifeline.descriptors["traces"])
    except (EOFError, OSError, LifelineError) as error:
        _gone(str(error))
    outcome = runner.run(_stand_by(lifeline, said)) if isinstance(said, Reserve) else said
    # Neither closed nor left by `with`: that would wait for tasks and threads, and this process ends now.
    if isinstance(outcome, Ending):
        ending = outcome
    else:
        spare, assignment = outcome if isinstance(outcome, tuple) else (None, outcome)
        found = _prepare(lifeline, assignment)
        ending = found if isinstance(found, Ending) else runner.run(_live(lifeline, assignment, found, spare))
    lifeline.flush(_FLUSH_TIMEOUT)
    _exit(ending)


def set_up_logging() -> None:
    """Log to stderr, unless the application logs already. Again: no effect."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that stamps its turns, unless the application has set a policy of its own for which loop it is."""
    policy = asyncio.get_event_loop_policy()
    return PulsedLoop() if type(policy) is asyncio.DefaultEventLoopPolicy else policy.new_event_loop()


async def _stand_by(lifeline: Lifeline, reserve: Reserve) -> Ending | tuple[Spare, Assignment]:
    """Be a spare, and the worker that it becomes.

    If the module of that is still to be imported it is returned instead: that is done outside of the loop.
    """
    spare = Spare(lifeline, reserve)
    try:
        assignment = await spare.wait(_gone)
    except OSError as error:  # it cannot listen
        _gone(str(error))
    if assignment.class_path.partition(":")[0] not in sys.modules:
        return spare, assignment
    found = _prepare(lifeline, assignment)
    return found if isinstance(found, Ending) else await _live(lifeline, assignment, found, spare)


def _introduce(assignment: Assignment) -> None:
    """Show who this process is, to what it starts and to who looks: a forked one is still called as its zygote is."""
    os.environ["MESHVISOR_SLOT"] = assignment.name
    os.environ["MESHVISOR_INCARNATION"] = str(assignment.incarnation)
    if "setproctitle" in sys.modules:
        set_title(_title(assignment) + (" candidate" if assignment.is_candidate else ""))


def _title(assignment: Assignment) -> str:
    return f"meshvisor {assignment.mesh}/{assignment.name}"


def load_class(path: str) -> type[Worker]:
    """Import ``module:Class``.

    Raises:
        TypeError: If there is something else of that name.
        AttributeError: If there is nothing of that name.
        Exception: Whatever the module raises when it is imported.
    """
    module_name, _, names = path.partition(":")
    found: object = importlib.import_module(module_name)
    for name in names.split("."):
        if not hasattr(found, name):
            raise AttributeError(f"module {module_name!r} has no {names!r}{suggestion(name, vars(found))}")
        found = getattr(found, name)
    if not (isinstance(found, type) and issubclass(found, Worker)):
        raise TypeError(f"{path} is not a subclass of meshvisor.Worker")
    return found


def apply_limits(assignment: Assignment) -> None:
    """Give this process the umask, nice value and resource limits of its assignment.

    Raises:
        OSError: If that is not allowed, saying what.
    """

    def limit(name: str, most: int) -> None:
        most = resource.RLIM_INFINITY if most < 0 else most
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (most, most))

    wanted: list[tuple[str, Callable[[], object]]] = [
        (f"limit {name} to {most}", partial(limit, name, most)) for name, most in assignment.limits.items()
    ]
    if assignment.nice is not None:
        nice = assignment.nice
        wanted.append((f"nice to {nice}", lambda: os.setpriority(os.PRIO_PROCESS, 0, nice)))
    if assignment.umask is not None:
        os.umask(assignment.umask)
    if assignment.sponsor:  # when memory runs out, the kernel shall end the plugin, and not the application
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(_FIRST_TO_GO)
    for what, apply in wanted:
        try:
            apply()
        except (OSError, ValueError, AttributeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OSError(f"cannot set {what}: {reason}") from error


def _prepare(lifeline: Lifeline, assignment: Assignment) -> type[Worker] | Ending:
    """Make this process what it was assigned to be, and return its class; or how it has to end, without one."""
    ask_for_usual_turns()
    _introduce(assignment)
    sys.path[0] = assignment.path
    try:
        apply_limits(assignment)
    except OSError as error:
        lifeline.report(failure("limits", str(error)))
        return Ending(1, Manner.CRASH)
    try:
        return load_class(assignment.class_path)
    except SystemExit as stop:
        return Ending(exit_status(stop), Manner.EXIT)
    except BaseException as error:  # A module may raise anything at all; the supervisor is to hear of it.
        text = user_traceback(error)
        print(text, end="", file=sys.stderr, flush=True)  # noqa: T201  (it belongs into the slot's log)
        lifeline.report(failure("import", text))
        return Ending(1, Manner.CRASH)


async def _live(lifeline: Lifeline, assignment: Assignment, worker_class: type[Worker], spare: Spare | None) -> Ending:
    loop = asyncio.get_running_loop()
    board = spare.board if spare is not None else open_board(lifeline.descriptors)
    presence = Presence(board, loop)

    def report(message: FromWorker) -> None:
        presence.heard(message)
        lifeline.report(message)
        if isinstance(message, Ready):
            loop.call_soon(set_title, _title(assignment))

    node = Node(
        assignment.name,
        assignment.incarnation,
        assignment.settings,
        report=report,
        ending=presence.stopping,
        lag_of=presence.lag_of,
        drain_timeout=assignment.drain_timeout,
        sponsor=assignment.sponsor,
    )
    mesh = spare.mesh if spare is not None else _mesh(lifeline, assignment, node)
    node.connect(mesh, worker_class, assignment.roster)

    def on_message(message: ToWorker) -> None:
        if isinstance(message, Stop):
            node.request_stop()
        elif isinstance(message, HandOver):
            node.hand_over()
        elif isinstance(message, RosterNews):
            node.apply(message.records)
        elif isinstance(message, LinksWanted):
            report(LinkReport(message.number, *mesh.report(each=message.each)))
        elif isinstance(message, Begin) and spare is not None:
            spare.begin()

    if spare is not None and assignment.is_candidate:
        lifeline.attach(on_message, _gone)
        if not node.prepare():
            return await node.live()  # which is over
        report(Prepared())
        await spare.wait_to_begin()
    presence.begin(assignment)
    if spare is not None:
        spare.become(assignment, node)
    presence.count_messages(mesh.message_counts)
    with contextlib.suppress(OSError, RuntimeError):  # SIGKILL has no handler.
        stop_signal = signal.Signals[assignment.stop_signal]
        loop.add_signal_handler(stop_signal, node.request_stop)

    lifeline.attach(on_message, _gone)
    if spare is not None and spare.is_stopped:
        node.request_stop()
    return await node.live()


def _mesh(lifeline: Lifeline, assignment: Assignment, node: Node) -> Mesh:
    blacklist = blacklist_of(lifeline, assignment.name)
    return Mesh(options_of(assignment), node, adapters=adapters_for(assignment.listen), blacklist=blacklist)


def _gone(reason: str) -> NoReturn:
    """End at once: without a supervisor there is nobody to work for, and nobody to clean up behind us."""
    with contextlib.suppress(OSError):
        os.write(2, f"meshvisor worker: {reason}\n".encode(errors="replace"))
    os._exit(1)


def _exit(ending: Ending) -> NoReturn:
    if ending.manner is not Manner.CRASH:
        atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(ending.status)
