"""Environment files → environments. The directory is the truth: it is read again on every hint and by a slow timer."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskStatus

from deferlite.bus import Bell, Bus
from deferlite.model.clock import Clock
from deferlite.model.environment import Environment
from deferlite.model.environment_file import LARGEST, Fault, ParsedFile, failed, name_fault, parse_bytes
from deferlite.model.errors import Conflict, StoreError
from deferlite.model.ids import is_environment_name
from deferlite.store import Store
from deferlite.watcher.hints import Hints, Relevant, everything
from deferlite.watcher.waiting import hint_or_timer

log = logging.getLogger(__name__)

SUFFIX = ".toml"
EVERY = 30.0
"""Seconds after which the directory is read again without a hint."""

SETTLE = 0.1
"""Seconds that a file may be broken or away before it counts: editors truncate, and save by renaming."""


class _Reading(msgspec.Struct, frozen=True):
    """A file's content, or why there is none, and what it says."""

    digest: bytes
    parsed: ParsedFile


class EnvironmentFiles:
    """Keeps the store's environments as the files of ``directory`` say."""

    def __init__(self, store: Store, bus: Bus, directory: Path, clock: Clock, *, every: float = EVERY) -> None:
        self.misnamed: dict[str, str] = {}
        """Files whose names cannot be an environment's, with what to do about each."""
        self._store = store
        self._bus = bus
        self._directory = directory
        self._clock = clock
        self._every = every
        self._bell = Bell()
        self._hints = Hints()
        self._applied: dict[str, bytes] = {}

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Never returns; started once the files as they are now have been taken over."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._hints.run)
            await self._look()
            task_status.started()
            while True:
                await hint_or_timer(self._bell, self._clock, self._every)
                await self._look()

    async def _look(self) -> None:
        try:
            readings = await self._read_the_truth()
        except OSError as error:
            # Nothing is known about the files: nothing is retired.
            log.error("environment files in %s cannot be read: %s", self._directory, error.strerror or error)
            return
        try:
            await self._reconcile(readings)
        except StoreError as error:
            self._applied = {}
            log.error("environment files are not taken over: %s", error)

    async def _read_the_truth(self) -> dict[str, _Reading]:
        folders = await anyio.to_thread.run_sync(_folders, self._directory)
        await self._hints.watch("files", folders, self._bell)
        readings = await anyio.to_thread.run_sync(read_all, self._directory)
        if self._doubtful(readings):
            readings = await self._settled(readings)
        return readings

    def _doubtful(self, readings: dict[str, _Reading]) -> bool:
        """Whether something is newly broken or newly gone, which an editor in the middle of saving looks like."""
        broken = any(
            reading.parsed.config is None and self._applied.get(name) != reading.digest
            for name, reading in readings.items()
        )
        return broken or any(name not in readings for name in self._applied)

    async def _settled(self, before: dict[str, _Reading]) -> dict[str, _Reading]:
        for _ in range(10):
            await anyio.sleep(SETTLE)
            readings = await anyio.to_thread.run_sync(read_all, self._directory)
            if _digests(readings) == _digests(before):
                break
            before = readings
        return before

    async def _reconcile(self, readings: dict[str, _Reading]) -> None:
        self._complain_of_names(readings)
        stored = {environment.name: environment for environment in await self._store.environments.list()}
        for name, environment in stored.items():
            # A preview has no file of its own.
            if name not in readings and environment.preview is None:
                await self._store.environments.retire(name)
                log.info("environment %s is retired: its file is gone", name)
        before, self._applied = self._applied, _digests(readings)
        for name, reading in readings.items():
            if is_environment_name(name) and before.get(name) != reading.digest:
                await self._take_over(reading.parsed, stored.get(name))

    async def _take_over(self, parsed: ParsedFile, stored: Environment | None) -> None:
        for note in parsed.notes:
            log.warning("%s", note)
        if parsed.config is None:
            await self._reject(parsed.name, parsed.error, parsed.path, stored)
            return
        try:
            applied = await self._store.environments.apply(parsed.name, parsed.config, parsed.path)
        except Conflict as error:
            # It may be good as soon as another file changes.
            self._applied.pop(parsed.name, None)
            await self._reject(parsed.name, str(error), parsed.path, stored)
            return
        if applied != stored:
            log.info("environment %s: settings taken over from %s", parsed.name, parsed.path)

    async def _reject(self, name: str, error: str, source: str, stored: Environment | None) -> None:
        rejected = await self._store.environments.reject(name, error, source)
        if rejected != stored:
            kept = "" if rejected.config is None else "; its last good settings stay in force"
            log.error("environment %s: %s%s", name, error, kept)

    def _complain_of_names(self, readings: dict[str, _Reading]) -> None:
        misnamed = {
            reading.parsed.path: reading.parsed.error
            for name, reading in readings.items()
            if not is_environment_name(name)
        }
        for path in misnamed.keys() - self.misnamed.keys():
            log.error("%s", misnamed[path])
        self.misnamed = misnamed


def _digests(readings: dict[str, _Reading]) -> dict[str, bytes]:
    return {name: reading.digest for name, reading in readings.items()}


def _folders(directory: Path) -> dict[Path, Relevant]:
    """The directory, made if it is missing, and the folders that its symbolic links lead through."""
    directory.mkdir(parents=True, exist_ok=True)
    folders: dict[Path, Relevant] = {directory: everything}
    for file in _files(directory):
        hop = file
        for _ in range(20):
            if not hop.is_symlink():
                break
            hop = hop.parent / hop.readlink()
            folders[hop.parent] = everything
        with suppress(OSError, RuntimeError):  # A link to itself.
            folders[file.resolve().parent] = everything
    return folders


def _files(directory: Path) -> list[Path]:
    """What may be an environment file; hidden ones are an editor's own."""
    return sorted(path for path in directory.iterdir() if path.suffix == SUFFIX and path.name[0] != ".")


def read_all(directory: Path) -> dict[str, _Reading]:
    """Every environment file of ``directory`` by the environment's name."""
    return {path.stem: _read(path) for path in _files(directory) if path.is_symlink() or path.exists()}


def _read(path: Path) -> _Reading:
    shown = str(path).encode(errors="backslashreplace").decode()
    name = path.stem.encode(errors="backslashreplace").decode()
    try:
        if not path.is_file() and path.exists():
            raise IsADirectoryError
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        parsed = failed(name, shown, _fault_of_reading(path, error))
        return _Reading(parsed.error.encode(), parsed)
    return _Reading(hashlib.sha256(data).digest(), parse_bytes(data, name, shown))


def _fault_of_reading(path: Path, error: OSError) -> Fault:
    if isinstance(error, IsADirectoryError):
        return Fault(1, "", "is not a file", f"move it away: {SUFFIX} is for environment files")
    if isinstance(error, PermissionError):
        return Fault(
            1, "", "may not be read by the server's user", "give it permission, such as chmod 640 and its group"
        )
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return Fault(1, "", f"is a link to {path.readlink()}, which does not exist", "mend or remove the link")
    return Fault(1, "", f"cannot be read ({error.strerror})", "look at the file and its disk")


def check(paths: Sequence[Path]) -> list[ParsedFile]:
    """What ``deferlite check`` says: every file, and every environment file of every folder, by path."""
    files: list[Path] = []
    for path in paths:
        files += _files(path) if path.is_dir() and path.suffix != SUFFIX else [path]
    return [_checked(path) for path in files]


def _checked(path: Path) -> ParsedFile:
    if path.suffix != SUFFIX:
        return failed(path.stem, str(path), Fault(1, "", "does not end in .toml", f"rename it to {path.stem}{SUFFIX}"))
    if not path.exists() and not path.is_symlink():
        return failed(path.stem, str(path), Fault(1, "", "does not exist", "mend the path"))
    if not is_environment_name(path.stem):
        return failed(path.stem, str(path), name_fault(path.stem))
    return _read(path).parsed
