"""Gives disk back: folders of failed builds, of builds that nothing needs any more, and what only those needed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from deferlite.builder.canaries import Canaries
from deferlite.builder.layout import MANIFEST, Layout, remove_tree
from deferlite.builder.runtimes import Launch, Runtime
from deferlite.builder.sources.mirror import prune_mirrors
from deferlite.model.build import Build
from deferlite.model.clock import SECOND, Clock
from deferlite.model.environment import Environment, EnvironmentState
from deferlite.model.errors import DeferliteError
from deferlite.model.function import Manifest
from deferlite.sandbox.removal import remove
from deferlite.store import Store

log = logging.getLogger("deferlite.builder")

RETIRED_SECONDS = 3600.0
"""How long the live build of a retired environment is kept: a file that is moved or written anew is back at once.
That of a preview goes with its branch."""

CACHE_SECONDS = 7 * 86400.0
"""How long a package cache is kept that no build has used."""


class Trash:
    """One removal at a time: what one of them found unused stays so until it is gone."""

    def __init__(
        self, store: Store, layout: Layout, runtimes: Sequence[Runtime], canaries: Canaries, clock: Clock
    ) -> None:
        self._store = store
        self._layout = layout
        self._runtimes = runtimes
        self._canaries = canaries
        self._clock = clock
        self._removing = anyio.Lock()

    async def remove_build(self, build: Build) -> None:
        """All that a failed build left, also where its builder was killed before it could tidy up."""
        await remove_tree(self._layout.build(build.environment, build.id).path)
        await self._prune_dependencies()

    async def prune(self, environment: str) -> bool:
        """Remove the environment's builds that are not in use, then dependencies that no build has. Never raises.

        True: nothing is left of it that a later call could remove.
        """
        try:
            async with self._removing:
                left = await self._prune_builds(await self._store.environments.get(environment))
            await self._prune_dependencies()
        except (DeferliteError, OSError):
            log.exception("old builds of %s could not be removed", environment)
            return False
        return not left

    async def prune_all(self) -> None:
        """What belongs to no environment, or to none any more."""
        for name in await anyio.to_thread.run_sync(_names, self._layout):
            await self.prune(name)
        await self._canaries.prune()
        await anyio.to_thread.run_sync(_remove_unused_caches, self._layout)
        environments = await self._store.environments.list()
        await prune_mirrors(self._layout, {one.config.repository for one in environments if one.config is not None})

    async def _prune_builds(self, environment: Environment) -> bool:
        """Whether builds of a retired one are left."""
        retired = environment.state is EnvironmentState.RETIRED
        live_too = retired and self._is_long_gone(environment)
        used = await self._store.builds.let_go(environment.name, live_too=live_too)
        builds = self._layout.builds / environment.name
        for folder in await anyio.to_thread.run_sync(_published, builds):
            if folder.name not in used:
                log.info("removing build %s of %s: nothing uses it", folder.name, environment.name)
                await remove_tree(folder)
        if retired and not used:
            await remove_tree(builds)
            await remove_tree(self._layout.uv_cache(environment.name))
            await remove_tree(self._layout.foreign(environment.name))
        return retired and bool(used)

    def _is_long_gone(self, environment: Environment) -> bool:
        age = (self._clock.now() - environment.updated_at) / SECOND
        return environment.preview is not None or age > RETIRED_SECONDS

    async def _prune_dependencies(self) -> None:
        try:
            launches = await anyio.to_thread.run_sync(lambda: list(_launches(self._layout.builds)))
        except msgspec.DecodeError:
            # What is used cannot be told, so nothing is unused.
            log.exception("a manifest cannot be read")
            return
        for runtime in self._runtimes:
            await runtime.prune(launches)


def _names(layout: Layout) -> list[str]:
    return [path.name for path in layout.builds.glob("*") if path.is_dir()]


def _published(builds: Path) -> list[Path]:
    return [path.parent for path in builds.glob(f"*/{MANIFEST}")]


def _launches(builds: Path) -> Iterable[Launch]:
    for path in builds.glob(f"*/*/{MANIFEST}"):
        with suppress(FileNotFoundError):
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
            yield msgspec.convert(manifest.launch, Launch)


def _remove_unused_caches(layout: Layout) -> None:
    before = time.time() - CACHE_SECONDS
    for folder in layout.uv_caches.glob("*"):
        if folder.stat().st_mtime < before:
            remove(folder)
