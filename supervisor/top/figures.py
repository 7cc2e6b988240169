"""Numbers as short texts, for columns that stand still. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_LEVELS = {True: "▁▂▃▄▅▆▇█", False: "_.:-=+*#"}


def ago(seconds: float) -> str:
    """Return a duration in two parts at most: ``950ms``, ``42s``, ``3m05``, ``2h10``, ``12d``."""
    if seconds < 1.0:
        return f"{seconds * 1000:.0f}ms"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}"
    return f"{whole // 86_400}d"


def size(count: int) -> str:
    """Return bytes: ``24M``, ``1.2G``."""
    if count < 1024**2:
        return f"{count / 1024:.0f}K"
    return f"{count / 1024**2:.0f}M" if count < 1000 * 1024**2 else f"{count / 1024**3:.1f}G"


def rate(per_second: float | None) -> str:
    """Return a number of events a second: ``-`` (not known), ``0``, ``0.3``, ``950``, ``12.3k``, ``1.2M``."""
    if per_second is None:
        return "-"
    if per_second < 0.05:
        return "0"
    if per_second < 9.95:
        return f"{per_second:.1f}"
    if per_second < 999.5:
        return f"{per_second:.0f}"
    if per_second < 99_950:
        return f"{per_second / 1000:.1f}k"
    return f"{per_second / 1000:.0f}k" if per_second < 999_500 else f"{per_second / 1_000_000:.1f}M"


def span(seconds: float | None) -> str:
    """Return a short time: ``-`` (not known), ``40us``, ``1.2ms``, ``250ms``, ``2.5s``."""
    if seconds is None:
        return "-"
    if seconds < 0.0000005:
        return "0"
    if seconds < 0.0009995:
        return f"{seconds * 1_000_000:.0f}us"
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f}ms"
    return f"{seconds * 1000:.0f}ms" if seconds < 0.9995 else f"{seconds:.1f}s"


def spark(counts: Iterable[int], *, unicode: bool = True) -> str:
    """Return a row of bars, one for each count: the lowest means none, the highest six or more."""
    levels = _LEVELS[unicode]
    return "".join(levels[min(count + 1, len(levels) - 1) if count else 0] for count in counts)
