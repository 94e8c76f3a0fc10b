"""Installed dependencies, kept by their content: what is the same is installed once and shared."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from deferlite.builder.layout import Layout, complete_marker, is_complete, remove_tree

UNUSED_SECONDS = 86400.0
"""How long a set of dependencies that no build uses is kept: a branch switched back finds it again."""


def content_key(parts: dict[str, object]) -> str:
    """A name for the dependencies that come out of ``parts``."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]


class Dependencies:
    """The folder of shared environments. One is made in its final place and counts once its marker is there."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._held: Counter[str] = Counter()

    @asynccontextmanager
    async def holding(self, key: str) -> AsyncIterator[None]:
        """Keep ``key`` from being pruned while a build that will use it is at work."""
        self._held[key] += 1
        try:
            yield
        finally:
            self._held[key] -= 1

    async def provide(self, key: str, make: Callable[[Path], Awaitable[None]], content: object) -> bool:
        """See to it that ``dependencies/KEY`` is complete, by ``make`` if need be; True if it was already.

        Whatever ``make`` leaves when it fails or is cancelled is removed. ``content`` is kept for people to read.
        """
        folder = self._layout.dependencies(key)
        async with self._locks[key]:
            if is_complete(folder):
                await anyio.to_thread.run_sync(os.utime, folder)
                return True
            await remove_tree(folder)
            folder.mkdir(parents=True)
            try:
                await make(folder)
                await anyio.to_thread.run_sync(_mark, folder, msgspec.json.encode(content))
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await remove_tree(folder)
                raise
        return False

    async def prune(self, used: Iterable[str]) -> list[str]:
        """Remove the sets that no build uses and that are older than a day; returns their keys."""
        keep = set(used)
        folders = await anyio.to_thread.run_sync(_old_folders, self._layout.all_dependencies)
        gone = [one for one in folders if one.name not in keep and not self._held[one.name]]
        for folder in gone:
            async with self._locks[folder.name]:
                await remove_tree(folder)
        return [folder.name for folder in gone]


def _old_folders(parent: Path) -> list[Path]:
    before = time.time() - UNUSED_SECONDS
    return [path for path in parent.glob("*") if path.is_dir() and path.stat().st_mtime < before]


def _mark(folder: Path, content: bytes) -> None:
    marker = complete_marker(folder)
    partial = marker.with_suffix(".partial")
    partial.write_bytes(content)
    os.sync()
    partial.replace(marker)
