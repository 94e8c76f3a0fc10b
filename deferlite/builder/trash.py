"""Gives disk back: folders of failed builds, of builds that nothing needs any more, and their dependencies."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import anyio.to_thread
import msgspec

from deferlite.builder.layout import MANIFEST, Layout, remove_tree
from deferlite.builder.runtimes import Launch, Runtime
from deferlite.model.build import Build
from deferlite.model.errors import DeferliteError
from deferlite.model.function import Manifest
from deferlite.store import Store

log = logging.getLogger("deferlite.builder")


class Trash:
    def __init__(self, store: Store, layout: Layout, runtimes: Sequence[Runtime]) -> None:
        self._store = store
        self._layout = layout
        self._runtimes = runtimes

    async def remove_build(self, build: Build) -> None:
        await remove_tree(self._layout.build(build.environment, build.id).path)

    async def prune(self, environment: str) -> None:
        """Remove the environment's builds that are not in use, then dependencies that no build has. Never raises."""
        try:
            used = await self._store.builds.in_use(environment)
            folders = await anyio.to_thread.run_sync(_published, self._layout.builds / environment)
            for folder in folders:
                if folder.name not in used:
                    log.info("removing build %s of %s: nothing uses it", folder.name, environment)
                    await remove_tree(folder)
            launches = await anyio.to_thread.run_sync(lambda: list(_launches(self._layout.builds)))
            for runtime in self._runtimes:
                await runtime.prune(launches)
        except (DeferliteError, OSError):
            log.exception("old builds of %s could not be removed", environment)


def _published(builds: Path) -> list[Path]:
    return [path.parent for path in builds.glob(f"*/{MANIFEST}")]


def _launches(builds: Path) -> Iterable[Launch]:
    for path in builds.glob(f"*/*/{MANIFEST}"):
        with suppress(FileNotFoundError):
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
            yield msgspec.convert(manifest.launch, Launch)
