"""Installed dependencies, kept by their content: what is the same is installed once and shared."""

from __future__ import annotations

from deferlite.builder.layout import Layout
from deferlite.builder.shelf import Shelf

UNUSED_SECONDS = 86400.0
"""How long a set of dependencies that no build uses is kept: a branch switched back finds it again."""


class Dependencies(Shelf):
    """The shared environments of all builds, each with its ``venv``."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout.all_dependencies, layout.locks, UNUSED_SECONDS)
