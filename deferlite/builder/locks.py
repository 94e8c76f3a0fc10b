"""Locks between processes: the server's own builder and a canary's may want the same folder at the same time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio

SHORTEST_WAIT = 0.01
LONGEST_WAIT = 0.25
"""Seconds between two looks at a lock that another holds."""


class FileLock:
    """One hold on the lock file ``path``: many may share it, or one has it alone. Ends with its process."""

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self._path = path
        self._mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take it if it is free; does not wait."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, self._mode | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        if not self._is_still_there(descriptor):
            # It was removed by its last holder: whoever comes now makes a new one.
            os.close(descriptor)
            return self.take()
        self._descriptor = descriptor
        return True

    def free(self, *, remove: bool = False) -> None:
        """Let go of it; ``remove`` the file too, which only one that has it alone may do."""
        if self._descriptor is not None:
            if remove:
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _is_still_there(self, descriptor: int) -> bool:
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        return False


@asynccontextmanager
async def locked(path: Path, *, shared: bool = False) -> AsyncIterator[None]:
    """Hold the lock inside the block; waits for it, and may be cancelled meanwhile."""
    lock = FileLock(path, shared=shared)
    pause = SHORTEST_WAIT
    while not lock.take():
        await anyio.sleep(pause)
        pause = min(pause * 2, LONGEST_WAIT)
    try:
        yield
    finally:
        lock.free()
