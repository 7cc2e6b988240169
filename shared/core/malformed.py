"""What decoding raises for bytes that are not what they should be."""

from __future__ import annotations

import msgspec

MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""For text that is not UTF-8, and for nesting that is too deep, msgspec raises errors that are not its own."""
