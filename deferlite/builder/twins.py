"""The same commit with the same settings is built once: a new build takes the tree of an earlier one over."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from deferlite.builder.journal import Progress
from deferlite.builder.layout import BuildFolder, Layout
from deferlite.builder.runtimes import Launch
from deferlite.builder.shelf import content_key
from deferlite.model.build import Build, BuildState, Trigger
from deferlite.model.environment import EnvironmentConfig, build_inputs
from deferlite.model.errors import NotFound
from deferlite.model.function import Manifest
from deferlite.sandbox.removal import remove
from deferlite.store import Store


def inputs_digest(build: Build, config: EnvironmentConfig, env: dict[str, str], builder: str) -> str:
    """Names all that a build comes out of; empty where that cannot be told, as of a worktree."""
    if config.worktree or build.commit is None:
        return ""
    settings = msgspec.to_builtins(build_inputs(config))
    return content_key({"commit": build.commit, "settings": settings, "env": env, "builder": builder})


class Twins:
    """Finds the earlier build of the same inputs."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    async def take_over(self, build: Build, inputs: str, folder: BuildFolder, progress: Progress) -> Manifest | None:
        """Fill ``folder`` from an earlier build of the same environment; None: there is none to be had.

        A person who asks for the newest commit once more gets a build: what the file does not name may have changed.
        """
        if not inputs or await self._is_once_more(build):
            return None
        older = await self._find(build, inputs)
        if older is None:
            return None
        there = self._layout.build(older.environment, older.id)
        manifest = await anyio.to_thread.run_sync(self._take, there, folder)
        if manifest is not None:
            progress.say(f"taken over from build #{older.number}: same commit and settings")
            for state in (BuildState.INSTALLING, BuildState.COMPILING):
                await self._store.builds.advance(build.id, state)
        return manifest

    async def _is_once_more(self, build: Build) -> bool:
        if build.trigger is not Trigger.MANUAL:
            return False
        followed = await self._store.builds.newest_followed(build.environment)
        before = await self._store.builds.list(build.environment, 1, before_number=build.number)
        return build.commit in [one.commit for one in (followed, *before) if one is not None]

    async def _find(self, build: Build, inputs: str) -> Build | None:
        siblings = self._layout.builds / build.environment
        for name in await anyio.to_thread.run_sync(_of_same_inputs, siblings, inputs):
            try:
                older = await self._store.builds.get(name)
            except NotFound:
                continue
            if older.state is BuildState.SUCCEED and older.environment == build.environment:
                return older
        return None

    def _take(self, there: BuildFolder, here: BuildFolder) -> Manifest | None:
        """Blocks. Published trees never change, so links to their files will do."""
        try:
            manifest = msgspec.json.decode(there.manifest.read_bytes(), type=Manifest)
            if not self._is_shared(manifest, there):
                return None
            folders = ((there.source, here.source), (there.metadata, here.metadata))
            if all(link_tree(old, new, without=str(there.path)) for old, new in folders if old.exists()):
                return manifest
        except (OSError, RecursionError, msgspec.DecodeError):
            pass  # Being removed, too deep, or on a disk without links: it is built as any other.
        remove(here.source)
        remove(here.metadata)
        return None

    def _is_shared(self, manifest: Manifest, there: BuildFolder) -> bool:
        """Whether it can be started without anything of its own folder but the tree."""
        launch = msgspec.convert(manifest.launch, Launch)
        venv = self._layout.home / launch.venv
        inside = str(there.path).encode() in msgspec.json.encode(manifest.launch)
        shared = venv.is_relative_to(self._layout.all_dependencies)
        return shared and not inside and (venv / launch.executable).exists()


def _of_same_inputs(builds: Path, inputs: str) -> list[str]:
    """Names of published builds; the newest first, since ids grow."""
    found = []
    for path in builds.glob("*/inputs"):
        folder = BuildFolder(path.parent)
        if path.read_text() == inputs and folder.manifest.exists():
            found.append(path.parent.name)
    return sorted(found, reverse=True)


def link_tree(source: Path, target: Path, without: str) -> bool:
    """Make ``target`` a tree of links to the files of ``source``; False where one of them holds ``without``.

    What a build generated may name its own folder, which will be gone one day.
    """
    needle = os.fsencode(without)
    for name, folders, files in os.walk(source):
        here = target / Path(name).relative_to(source)
        here.mkdir()
        for one in (*files, *folders):
            path = Path(name, one)
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                if without in str(path.readlink()):
                    return False
                (here / one).symlink_to(path.readlink())
            elif stat.S_ISREG(status.st_mode):
                # Compiled modules name their files, which the interpreter sets right when it reads them.
                if path.suffix != ".pyc" and _holds(path, status.st_size, needle):
                    return False
                os.link(path, here / one)
    return True


def _holds(path: Path, size: int, needle: bytes) -> bool:
    if size < len(needle):
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(needle) >= 0
