"""One build told as a pipeline: fetch, install, generate, compile, publish."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from deferlite.builder import variables
from deferlite.builder.journal import Journal
from deferlite.builder.layout import BuildFolder, Layout
from deferlite.builder.runtimes import Installed, Runtime
from deferlite.builder.source import Sources, project_folder
from deferlite.builder.workspace import Workspace, expect
from deferlite.model.build import Build, BuildState
from deferlite.model.clock import Clock
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.errors import BuildError
from deferlite.model.function import Manifest
from deferlite.sandbox.levels import SandboxStatus
from deferlite.store import Store


class Pipeline:
    """Takes one build from state created to succeed. Whoever calls it turns what it raises into a failed build."""

    def __init__(
        self,
        store: Store,
        layout: Layout,
        status: SandboxStatus,
        clock: Clock,
        runtimes: Mapping[str, Runtime],
        sources: Sources,
    ) -> None:
        self._store = store
        self._layout = layout
        self._status = status
        self._clock = clock
        self._runtimes = runtimes
        self._sources = sources

    async def run(self, build: Build, config: EnvironmentConfig, journal: Journal) -> Manifest:
        """Carry the build out; its folder stays behind in whatever state when this raises or is cancelled.

        Raises:
            DeferliteError: the project, the world or the box; the message is fit for the build's error.
        """
        folder = self._layout.build(build.environment, build.id)
        await self._store.builds.advance(build.id, BuildState.STARTED)
        runtime = self._runtime(config)
        await self._store.builds.advance(build.id, BuildState.CLONING)
        await anyio.Path(folder.path).mkdir(parents=True)
        await self._sources.fetch(config, build.commit, build.branch, folder.source, journal.say)
        workspace = await self._workspace(build, config, folder, journal)
        async with AsyncExitStack() as stack:
            async with workspace.scratch():
                manifest = await self._make(build, workspace, runtime, stack)
            await self._store.builds.advance(build.id, BuildState.PUBLISHING)
            # From here on it is published whatever else is asked: a folder with a manifest has its row.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(seal, folder, msgspec.json.encode(manifest))
                await journal.flush()
                await self._store.builds.publish(build.id, manifest)
        return manifest

    async def _make(self, build: Build, workspace: Workspace, runtime: Runtime, stack: AsyncExitStack) -> Manifest:
        """All that runs the project's code."""
        await self._store.builds.advance(build.id, BuildState.INSTALLING)
        installed = await self._install(workspace, runtime, stack)
        prebuild = workspace.config.build.prebuild
        if prebuild is not None:
            await self._store.builds.advance(build.id, BuildState.GENERATING)
            await self._prebuild(workspace, installed, prebuild)
        await self._store.builds.advance(build.id, BuildState.COMPILING)
        return await runtime.discover(workspace, installed)

    def _runtime(self, config: EnvironmentConfig) -> Runtime:
        name = config.build.runtime or "python"
        if name not in self._runtimes:
            there = ", ".join(self._runtimes)
            raise BuildError(f'[build] runtime = "{name}" is not there yet: this deferlite builds {there}')
        return self._runtimes[name]

    async def _workspace(
        self, build: Build, config: EnvironmentConfig, folder: BuildFolder, journal: Journal
    ) -> Workspace:
        environment = await self._store.environments.get(build.environment)
        return Workspace(
            build=build,
            config=config,
            layout=self._layout,
            folder=folder,
            project=await anyio.to_thread.run_sync(project_folder, folder.source, config.directory),
            env=await anyio.to_thread.run_sync(variables.read_env, config.env),
            status=self._status,
            journal=journal,
            hidden=self._layout.hidden(environment.source),
        )

    async def _install(self, workspace: Workspace, runtime: Runtime, stack: AsyncExitStack) -> Installed:
        plan = await anyio.to_thread.run_sync(runtime.plan, workspace.files, workspace.config.build)
        for note in plan.notes:
            workspace.journal.say(note)
        return await runtime.install(workspace, plan, stack)

    async def _prebuild(self, workspace: Workspace, installed: Installed, command: str) -> None:
        workspace.journal.say(f"$ {command}")
        done = await workspace.command(
            ["sh", "-c", command],
            venv=installed.venv,
            read_only=(installed.venv, *installed.read_only),
        )
        expect(done, f"[build] prebuild = {command!r}", "mend the command or what it runs")


def seal(folder: BuildFolder, manifest: bytes) -> None:
    """Write the manifest, which makes the folder a published build, and take the right to write away. Blocks."""
    partial = folder.path / "manifest.partial"
    partial.write_bytes(manifest)
    partial.replace(folder.manifest)
    for name, _, files in os.walk(folder.source):
        for file in files:
            path = Path(name, file)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o555)
