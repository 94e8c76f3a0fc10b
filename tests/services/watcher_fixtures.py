"""A store with the watcher at work on real files and real repositories."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from deferlite.bus import Bell, Bus
from deferlite.model.build import Build, Trigger
from deferlite.model.clock import Clock, SystemClock
from deferlite.model.environment import Environment
from deferlite.model.errors import NotFound
from deferlite.model.events import BuildRequested, EnvironmentChanged
from deferlite.scheduler.recovery import recover
from deferlite.store import Store
from deferlite.watcher.environments import EnvironmentFiles
from deferlite.watcher.repositories import Repositories, no_history
from deferlite.watcher.view import History

NOBODY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


async def git(*args: str | Path, cwd: Path | None = None) -> str:
    done = await anyio.run_process(["git", *map(str, args)], cwd=cwd, env={**os.environ, **NOBODY})
    return done.stdout.decode().strip()


class Repository:
    """A git repository of a test: a checkout, or a bare one that is pushed into."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = 0

    async def git(self, *args: str | Path) -> str:
        return await git(*args, cwd=self.path)

    async def commit(self, message: str = "change") -> str:
        """A new commit on what is checked out; its SHA."""
        self._files += 1
        (self.path / f"file{self._files}.py").write_text(message)
        await self.git("add", "-A")
        await self.git("commit", "-qm", message)
        return await self.git("rev-parse", "HEAD")


async def new_repository(path: Path, *commits: str) -> Repository:
    path.mkdir(parents=True, exist_ok=True)
    await git("init", "-q", "-b", "main", path)
    repository = Repository(path)
    for message in commits:
        await repository.commit(message)
    return repository


class Watched:
    """What a test asks the store, and waits for, while the watcher is at work."""

    def __init__(self, store: Store, bus: Bus, directory: Path, repositories: Repositories) -> None:
        self.store = store
        self.bus = bus
        self.directory = directory
        self.repositories = repositories
        self.files: EnvironmentFiles

    def file(self, name: str) -> Path:
        return self.directory / f"{name}.toml"

    def write(self, name: str, repository: Path | str, more: str = "") -> Path:
        path = self.file(name)
        path.write_text(f'repository = "{repository}"\n{more}')
        return path

    async def environment(self, name: str) -> Environment | None:
        try:
            return await self.store.environments.get(name)
        except NotFound:
            return None

    async def builds(self, name: str) -> list[Build]:
        """Oldest first."""
        return (await self.store.builds.list(name, limit=100))[::-1]

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for the event after which ``condition`` holds."""
        bell = Bell()
        with (
            self.bus.listening(BuildRequested, lambda _: bell.ring()),
            self.bus.listening(EnvironmentChanged, lambda _: bell.ring()),
            anyio.fail_after(20),
        ):
            while not await condition():
                await bell.wait()

    async def built(self, name: str, commit: str | None) -> Build:
        """Wait until a build of ``commit`` is the newest one asked for."""

        async def asked_for() -> bool:
            builds = await self.builds(name)
            return bool(builds) and builds[-1].commit == commit

        await self.until(asked_for)
        return (await self.builds(name))[-1]

    async def number(self, name: str, number: int) -> Build:
        """Wait until the environment has a build of this number."""

        async def asked_for() -> bool:
            builds = await self.builds(name)
            return bool(builds) and builds[-1].number >= number

        await self.until(asked_for)
        return (await self.builds(name))[number - 1]

    async def becomes(self, name: str, condition: Callable[[Environment], bool]) -> Environment:
        """Wait until the environment is there and as ``condition`` says."""

        async def holds() -> bool:
            environment = await self.environment(name)
            return environment is not None and condition(environment)

        await self.until(holds)
        environment = await self.environment(name)
        assert environment is not None
        return environment


@asynccontextmanager
async def watching(
    tmp_path: Path,
    clock: Clock | None = None,
    *,
    pause: float = 0.05,
    only: Sequence[str] = ("files", "repositories"),
    recovering: bool = False,
    history: History = no_history,
) -> AsyncIterator[Watched]:
    """Store and watcher over ``tmp_path/environments``; run it twice in a test and it is a restart."""
    clock = clock or SystemClock()
    bus = Bus()
    store = await Store.open(tmp_path / "deferlite.db", clock, bus)
    # The timers would find every change too: without them only hints do.
    files = EnvironmentFiles(store, bus, tmp_path / "environments", clock, every=3600)
    repositories = Repositories(store, bus, clock, history, every=3600, pause=pause)
    watched = Watched(store, bus, tmp_path / "environments", repositories)
    watched.files = files
    try:
        if recovering:
            await recover(store, "boot")
        async with anyio.create_task_group() as tasks:
            if "files" in only:
                await tasks.start(files.run)
            if "repositories" in only:
                await tasks.start(repositories.run)
            yield watched
            tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()


async def first_build(watched: Watched, repository: Repository, more: str = "", name: str = "staging") -> str:
    """Drop the file and wait for the first build; its commit."""
    watched.write(name, repository.path, more)
    build = await watched.number(name, 1)
    assert build.trigger is Trigger.NEW
    assert build.commit is not None
    return build.commit
