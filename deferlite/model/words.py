"""Numbers as people read them, in logs, on the page and in the terminal."""

from __future__ import annotations


def plural(count: int, word: str) -> str:
    """``1 build``, ``1,200 builds``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
