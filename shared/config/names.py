"""What meshes and workers may be called."""

from __future__ import annotations

import re

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
NAME_RULE = "must be a lower-case letter followed by at most 62 of a-z, 0-9, _ and -"
