"""Finds a published build on this machine and says how its runner is started."""

from __future__ import annotations

import os
from pathlib import Path

import anyio.to_thread
import msgspec

from deferlite.builder import variables
from deferlite.builder.layout import Layout
from deferlite.builder.runtimes import Launch
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.errors import NotFound, WorldError
from deferlite.model.function import Manifest
from deferlite.sandbox.launch import LaunchPlan
from deferlite.store import Store


class PublishedBuilds:
    """The executors' way to builds, which they know by id alone."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    async def locate(self, build_id: str) -> LaunchPlan:
        """How to start a runner of the build. ``[run]`` settings are those of the environment as it is now.

        Raises:
            NotFound: no such build, it did not succeed, or its files are gone.
            BuildError: a file that ``[env]`` names cannot be read.
            WorldError: a folder that ``[run] mounts`` names is not there.
        """
        build = await self._store.builds.get(build_id)
        manifest = await self._store.builds.manifest(build_id)
        built = await self._store.builds.config(build_id)
        environment = await self._store.environments.get(build.environment)
        now = environment.config or built
        folder = self._layout.build(build.environment, build.id)
        hidden = self._layout.hidden(environment.source)
        return await anyio.to_thread.run_sync(self._plan, folder.path, manifest, built, now, hidden)

    def _plan(
        self,
        folder: Path,
        manifest: Manifest,
        built: EnvironmentConfig,
        now: EnvironmentConfig,
        hidden: tuple[Path, ...],
    ) -> LaunchPlan:
        launch = msgspec.convert(manifest.launch, Launch)
        project, venv = folder / launch.project, self._layout.home / launch.venv
        if not project.is_dir() or not (venv / launch.executable).exists():
            raise NotFound(f"the files of build {folder.name} are gone: build the environment again")
        for mount in now.run.mounts:
            if not Path(mount.removesuffix(":rw")).exists():
                raise WorldError(f"[run] mounts names {mount}, which is not on this machine: make it, or mend the file")
        # The modules are imported by the runner: they find there what they found when the build was made.
        env = {"VIRTUAL_ENV": str(venv)} | variables.read_env(built.env)
        return LaunchPlan(
            runtime="node" if manifest.runtime == "node" else "python",
            interpreter=venv / launch.executable,
            project=project,
            import_paths=tuple(_inside(folder, project / path) for path in launch.import_paths),
            modules=manifest.modules,
            django_settings=launch.django_settings,
            read_only=(folder, venv, *map(Path, launch.read_only)),
            hidden=hidden,
            environment=env,
            network=now.run.network,
            memory=now.run.memory,
            mounts=now.run.mounts,
            workdir=now.run.workdir or ("project" if manifest.runtime == "python" else "scratch"),
        )


def _inside(folder: Path, path: Path) -> Path:
    """The path without dots. Code of the project had a hand in it: it may show nothing else of the machine."""
    clean = Path(os.path.normpath(path))
    if not clean.resolve().is_relative_to(folder.resolve()):
        raise NotFound(f"the build imports from {path}, which is not part of it: build the environment again")
    return clean
