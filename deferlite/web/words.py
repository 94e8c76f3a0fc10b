"""Durations and foreign text as people read them, on the page and in the terminal. Pure."""

from __future__ import annotations

import re

_UNITS = ((90.0, 1.0, "s"), (5400.0, 60.0, "m"), (129600.0, 3600.0, "h"), (float("inf"), 86400.0, "d"))
"""Below so many seconds: the unit in seconds, its letter."""
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]+[0-~]|[@-Z\\-_])")
_COLOURS = re.compile(r"(\x1b\[[0-9;:]*m)")


def rough(seconds: float) -> str:
    """A duration in one unit, rounded: ``42s``, ``3m``, ``5h``, ``2d``."""
    _, unit, letter = next(step for step in _UNITS if seconds < step[0])
    return f"{int(max(0.0, seconds) / unit + 0.5)}{letter}"


def age(seconds: float) -> str:
    """How long ago something was, ``seconds`` back from now: ``3m ago``, ``now``, ``in 2h``."""
    if abs(seconds) < 1:
        return "now"
    return f"in {rough(-seconds)}" if seconds < 0 else f"{rough(seconds)} ago"


def exact(seconds: float) -> str:
    """A duration as precise as its size makes sense of: ``38 ms``, ``1.2 s``, ``3m 05s``, ``2h 10m``."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"


def environment_word(
    *, retired: bool, error: str | None, problem: str | None, newest: str | None, live: bool, pinned: bool
) -> str:
    """What an environment's file and its builds come to; ``newest``: the word of the newest build.

    ``live, stays``: a rollback, or a build of a commit that a person named, holds it there.
    """
    if retired:
        return "retired"
    if error:
        return "broken file"
    if problem:
        return "live, no repository" if live else "no repository"
    if newest in ("failed", "held"):
        return f"build {newest}"
    if newest not in (None, "live", "succeed", "cancelled", "overtaken"):
        return "building"
    if live:
        return "live, stays" if pinned else "live"
    return "no build"


def plain(text: str) -> str:
    """``text`` without terminal escapes and control characters (tabs and ends of lines stay): it is foreign."""
    if text.isprintable():
        return text
    return "".join(char for char in _ESCAPES.sub("", text) if char.isprintable() or char in "\t\n")


def coloured(text: str) -> str:
    """As ``plain``, but colours stay, and end with the text."""
    parts = _COLOURS.split(text)
    if len(parts) == 1:
        return plain(text)
    return "".join(part if place % 2 else plain(part) for place, part in enumerate(parts)) + "\x1b[0m"
