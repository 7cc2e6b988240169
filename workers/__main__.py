"""``python -m meshvisor.workers FD [TITLE]``: a worker process, as the supervisor starts it.

FD is the inherited lifeline; TITLE is for those who read ``ps``.
"""

import signal
import sys


def main() -> None:
    """Tie this process to its supervisor first, and only then load what a worker needs."""
    if not sys.platform.startswith("linux"):
        sys.exit("meshvisor runs on Linux only")
    if len(sys.argv) < 2:
        sys.exit("this is how a supervisor starts its workers; to start a mesh, run: supervise run mesh.toml")
    from .parent import die_with_supervisor, open_lifeline

    try:
        lifeline = open_lifeline(sys.argv[1])
        die_with_supervisor(lifeline)
    except (ValueError, OSError) as error:
        sys.exit(f"meshvisor worker: {error}")
    # Ctrl-C in a terminal goes to everybody; it is the supervisor that decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from .runtime import run

    run(lifeline)


if __name__ == "__main__":
    main()
