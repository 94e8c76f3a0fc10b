"""A folder of things made once and shared: dependencies, other builders. Each lies under a key of its content."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from deferlite.builder.layout import complete_marker, is_complete, remove_tree
from deferlite.builder.locks import FileLock, locked

Make = Callable[[Path], Awaitable[None]]


def content_key(parts: dict[str, object]) -> str:
    """A name for what comes out of ``parts``."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()[:32]


class Shelf:
    """Things below ``folder``. One is made in its final place and counts once its marker is there.

    Locks are files below ``locks``, so several processes may share a shelf.
    """

    def __init__(self, folder: Path, locks: Path, unused_seconds: float) -> None:
        self._folder = folder
        self._locks = locks
        self._unused_seconds = unused_seconds

    @asynccontextmanager
    async def holding(self, key: str) -> AsyncIterator[None]:
        """Keep ``key`` from being pruned inside the block, and for ``unused_seconds`` after it."""
        async with locked(self._lock(key, "use"), shared=True):
            try:
                yield
            finally:
                _touch(self._folder / key)

    async def provide(self, key: str, make: Make, content: object) -> bool:
        """See to it that ``key`` is complete, by ``make`` if need be; True if it was already.

        Whatever ``make`` leaves when it fails or is cancelled is removed. ``content`` is kept for people to read.
        """
        folder = self._folder / key
        if is_complete(folder):
            _touch(folder)
            return True
        async with locked(self._lock(key, "make")):
            if is_complete(folder):
                _touch(folder)
                return True
            await self._make(folder, make, msgspec.json.encode(content))
        return False

    async def _make(self, folder: Path, make: Make, content: bytes) -> None:
        await remove_tree(folder)
        folder.mkdir(parents=True)
        try:
            await make(folder)
            await anyio.to_thread.run_sync(_mark, folder, content)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await remove_tree(folder)
            raise

    async def prune(self, used: Iterable[str] = ()) -> list[str]:
        """Remove what is half-made and at rest, and what is neither ``used`` nor held nor new; returns the keys."""
        keep = set(used)
        folders = await anyio.to_thread.run_sync(lambda: [path for path in self._folder.glob("*") if path.is_dir()])
        return [one.name for one in folders if self._is_old(one, keep) and await self._remove(one, keep)]

    def _is_old(self, folder: Path, keep: set[str]) -> bool:
        if not is_complete(folder):
            return True
        return folder.name not in keep and _age(folder) > self._unused_seconds

    async def _remove(self, folder: Path, keep: set[str]) -> bool:
        """Unless somebody is at work with it, or has been since it was looked at."""
        locks = [FileLock(self._lock(folder.name, kind)) for kind in ("make", "use")]
        removed = False
        try:
            if all(lock.take() for lock in locks) and self._is_old(folder, keep):
                with anyio.CancelScope(shield=True):
                    await remove_tree(folder)
                removed = True
        finally:
            for lock in locks:
                lock.free(remove=removed)
        return removed

    def _lock(self, key: str, kind: str) -> Path:
        return self._locks / f"{key}.{kind}"


def _age(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _touch(folder: Path) -> None:
    try:
        os.utime(folder)
    except FileNotFoundError:
        pass


def _mark(folder: Path, content: bytes) -> None:
    marker = complete_marker(folder)
    partial = marker.with_suffix(".partial")
    partial.write_bytes(content)
    os.sync()
    partial.replace(marker)
