"""The incidents of a mesh, read as they are written."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from ...shared.core.malformed import MALFORMED
from ..incidents import FILE, Incident
from ..trail import Trail


class Past:
    """What is remembered in ``log_dir``."""

    def __init__(self, log_dir: Path) -> None:
        self._trail = Trail(log_dir / FILE)
        self._decoder = msgspec.json.Decoder(Incident)

    def more(self) -> list[Incident]:
        """Return the incidents that were written since the last time, the oldest first.

        Raises:
            SupervisorError: If we may not read them.
        """
        found = []
        for line in self._trail.lines():
            with suppress(*MALFORMED):
                found.append(self._decoder.decode(line))
        return found

    def close(self) -> None:
        """Close the file."""
        self._trail.close()
