"""How this process shows in ``ps``."""

from __future__ import annotations

import os


def set_title(title: str) -> None:
    """Show ``title``. The first call takes milliseconds; a zygote makes it for all that are forked from it."""
    # By default the title would be written over /proc/PID/environ too, by which the next supervisor would know this
    # process as one of a mesh that is gone.
    os.environ["SPT_NOENV"] = "1"
    from setproctitle import setproctitle

    setproctitle(title)
    del os.environ["SPT_NOENV"]
