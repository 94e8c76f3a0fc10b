"""One watcher of folders for all who want hints. A hint says only: look again."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus
from watchfiles import Change

# awatch borrows one of the loop's worker threads for good and leaves a gap between two lists of folders.
from watchfiles._rust_notify import RustNotify

from deferlite.bus import Bell

log = logging.getLogger(__name__)

QUIET = 25
"""Milliseconds without a change after which a group of changes is handed on."""

LONGEST = 100
"""Milliseconds that a group of changes may take."""

Relevant = Callable[[str], bool]
"""Says of a file's name in a folder whether its change is a hint."""


def everything(name: str) -> bool:
    return True


class _Wish:
    def __init__(self, folders: Mapping[Path, Relevant], bell: Bell) -> None:
        self.folders = {str(folder): relevant for folder, relevant in folders.items()}
        self.bell = bell

    def concerns(self, path: str) -> bool:
        if path in self.folders:
            return True
        folder, name = os.path.split(path)
        return folder in self.folders and self.folders[folder](name)


class _Armed:
    """A running watcher of the operating system, of these folders as they are on the disk now."""

    def __init__(self, folders: frozenset[str]) -> None:
        self.folders = {folder: identity for folder in folders if (identity := _identity(folder))}
        self.notify = RustNotify(sorted(self.folders), False, False, 300, False, True)
        self.stop = threading.Event()

    def covers(self, folders: frozenset[str]) -> bool:
        return all(self.folders.get(folder) == _identity(folder) for folder in folders)

    def changes(self) -> set[tuple[int, str]]:
        """Wait for changes, at most a second; an empty set when there were none."""
        found = self.notify.watch(LONGEST, QUIET, 1000, self.stop)
        return found if isinstance(found, set) else set()


def _arm(folders: frozenset[str]) -> _Armed:
    for _ in range(10):
        # A folder may vanish between two looks at it.
        with suppress(FileNotFoundError):
            return _Armed(folders)
    return _Armed(frozenset())


def _identity(folder: str) -> tuple[int, int] | None:
    """A folder that was removed and made again is another one; None: it is not there."""
    try:
        status = Path(folder).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Hints:
    """Rings a bell when something changes directly inside the folders it was asked to watch."""

    def __init__(self) -> None:
        self._wishes: dict[Hashable, _Wish] = {}
        self._armed: _Armed | None = None
        self._tasks: TaskGroup | None = None
        self._arming = anyio.Lock()
        # Threads that wait for changes must not use up those that the rest of the server works with.
        self._limiter = anyio.CapacityLimiter(math.inf)
        self._complained = False

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as self._tasks:
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                if self._armed is not None:
                    self._armed.stop.set()

    async def watch(self, key: Hashable, folders: Mapping[Path, Relevant], bell: Bell) -> None:
        """Watch ``folders`` for ``key`` in place of what it watched before; in force on return.

        Folders that do not exist are left out. So that no change is missed, look at the truth afterwards.
        """
        self._wishes[key] = _Wish(folders, bell)
        async with self._arming:
            wanted = frozenset(self._wishes[key].folders)
            if self._armed is None or not await anyio.to_thread.run_sync(self._armed.covers, wanted):
                await self._arm()

    def forget(self, key: Hashable) -> None:
        self._wishes.pop(key, None)

    async def _arm(self) -> None:
        """Start a new watcher before the old one stops: nothing falls between them."""
        folders = frozenset(folder for wish in self._wishes.values() for folder in wish.folders)
        try:
            armed = await anyio.to_thread.run_sync(_arm, folders)
        except (OSError, RuntimeError) as error:
            self._complain(error)
            return
        old, self._armed = self._armed, armed
        if self._tasks is not None:
            self._tasks.start_soon(self._read, armed)
        if old is not None:
            old.stop.set()

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning(
                "folders cannot be watched (%s), changes are noticed by the timer only: "
                "raise fs.inotify.max_user_watches and fs.inotify.max_user_instances",
                error,
            )

    async def _read(self, armed: _Armed) -> None:
        try:
            while not armed.stop.is_set():
                for change, path in await anyio.to_thread.run_sync(armed.changes, limiter=self._limiter):
                    self._tell(armed, change, path)
        except RuntimeError:
            self._lose(armed)
        finally:
            armed.notify.close()

    def _lose(self, armed: _Armed) -> None:
        """The watcher failed, on a file's name that is not UTF-8 for instance: all look again and watch anew."""
        if self._armed is armed:
            self._armed = None
        for wish in self._wishes.values():
            wish.bell.ring()

    def _tell(self, armed: _Armed, change: int, path: str) -> None:
        if change == Change.deleted:
            # Its watch went with it: if it is made again, it has to be watched anew.
            armed.folders.pop(path, None)
        for wish in self._wishes.values():
            if wish.concerns(path):
                wish.bell.ring()
