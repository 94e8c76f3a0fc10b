"""A store with the builder at work on real repositories, with real uv and the real sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from deferlite.builder.layout import BuildFolder, Layout
from deferlite.builder.published import PublishedBuilds
from deferlite.builder.service import BuildService
from deferlite.bus import Bus
from deferlite.model.build import Build, Trigger
from deferlite.model.clock import SystemClock
from deferlite.model.environment import BuildSettings, EnvironmentConfig
from deferlite.model.events import BuildChanged, BuildLogged, BuildPublished, Event
from deferlite.model.function import Manifest
from deferlite.sandbox.launch import LaunchPlan
from deferlite.sandbox.levels import SandboxStatus, probe
from deferlite.store import Store
from tests.support import Repository

PATIENCE = 120.0
JOB = "from deferlite import defer\n\n@defer\ndef {name}(): ...\n"


def job(name: str = "job") -> str:
    return JOB.format(name=name)


class Workshop:
    """What a test of the builder needs. One environment unless it makes more."""

    def __init__(self, tmp_path: Path, store: Store, bus: Bus, status: SandboxStatus) -> None:
        self.tmp_path = tmp_path
        self.store = store
        self.bus = bus
        self.status = status
        self.layout = Layout(tmp_path / "home")
        self.published = PublishedBuilds(store, self.layout)

    def repository(self, files: Mapping[str, str], name: str = "shop") -> Repository:
        return Repository(self.tmp_path / name, files)

    async def environment(self, repository: Repository | str, name: str = "shop", **settings: Any) -> None:
        """Create the environment or change its settings; keys of BuildSettings go into ``[build]``."""
        build = {key: settings.pop(key) for key in tuple(settings) if key in BuildSettings.__struct_fields__}
        path = repository if isinstance(repository, str) else str(repository.path)
        config = EnvironmentConfig(repository=path, build=BuildSettings(**build), **settings)
        await self.store.environments.apply(name, config, f"{name}.toml")

    async def request(self, commit: str | None, name: str = "shop", message: str = "a change") -> Build:
        return await self.store.builds.request(
            name, commit=commit, branch="main", message=message, trigger=Trigger.COMMIT
        )

    async def build(self, repository: Repository, name: str = "shop", **settings: Any) -> Build:
        """Build the repository's newest commit to its end."""
        await self.environment(repository, name, **settings)
        build = await self.request(repository.git("rev-parse", "HEAD"), name)
        return await self.ended(build)

    async def until(self, build: Build, reached: Callable[[Build], bool]) -> Build:
        """The build as soon as ``reached`` says so, looked at whenever something about it has changed."""

        async def look() -> Build | None:
            now = await self.store.builds.get(build.id)
            return now if reached(now) else None

        return await self.eventually(look)

    async def eventually(self, look: Callable[[], Awaitable[Any]]) -> Any:
        """What ``look`` returns, once it is neither None nor empty."""
        stream: Any
        with anyio.fail_after(PATIENCE), self.bus.subscribe(BuildChanged, BuildPublished, BuildLogged) as stream:
            while not (found := await look()):
                _: Event = await stream.receive()
        return found

    async def ended(self, build: Build) -> Build:
        return await self.until(build, lambda now: now.finished_at is not None)

    async def log(self, build: Build) -> str:
        return "\n".join(line.text for _, line in await self.store.logs.read_build(build.id, limit=100_000))

    async def manifest(self, build: Build) -> Manifest:
        return await self.store.builds.manifest(build.id)

    async def launch(self, build: Build) -> LaunchPlan:
        return await self.published.locate(build.id)

    async def functions(self, build: Build) -> list[str]:
        return [function.name for function in (await self.manifest(build)).functions]

    async def live(self, name: str = "shop") -> str | None:
        return (await self.store.environments.get(name)).live_build_id

    def folder(self, build: Build) -> BuildFolder:
        return self.layout.build(build.environment, build.id)

    @asynccontextmanager
    async def at_work(self, max_builds: int = 2) -> AsyncIterator[None]:
        """The service runs inside the block."""
        service = BuildService(self.store, self.bus, self.layout, self.status, SystemClock(), max_builds)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.run)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()


@asynccontextmanager
async def workshop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """A store and everything around it, without the service."""
    (tmp_path / "home").mkdir()
    bus = Bus()
    store = await Store.open(tmp_path / "home" / "deferlite.db", SystemClock(), bus)
    try:
        yield Workshop(tmp_path, store, bus, await probe("auto"))
    finally:
        await store.close()
