"""One build told as a pipeline: fetch, make by a builder, publish."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

import anyio
import anyio.to_thread
import msgspec

from deferlite.builder import variables
from deferlite.builder.builders import Builder, OwnBuilder
from deferlite.builder.canaries import Canaries
from deferlite.builder.journal import Progress
from deferlite.builder.layout import BuildFolder, Layout
from deferlite.builder.protocol import PROTOCOL, BuildOrder
from deferlite.builder.sources import Sources, history_of, project_folder
from deferlite.builder.twins import Twins, inputs_digest
from deferlite.model.build import Build, BuildState
from deferlite.model.changes import Commit
from deferlite.model.environment import EnvironmentConfig
from deferlite.model.errors import DeferliteError
from deferlite.model.function import Manifest
from deferlite.sandbox.levels import SandboxStatus
from deferlite.sandbox.process import output
from deferlite.sandbox.refs import commits_between, subject_of
from deferlite.store import Store

log = logging.getLogger("deferlite.builder")

MOST_COMMITS = 50
"""Commits that are kept of what a build adds."""

SEAL_SECONDS = 600.0


class Pipeline:
    """Takes one build from state created to succeed. Whoever calls it turns what it raises into a failed build."""

    def __init__(
        self,
        store: Store,
        layout: Layout,
        status: SandboxStatus,
        own: OwnBuilder,
        canaries: Canaries,
        sources: Sources,
    ) -> None:
        self._store = store
        self._layout = layout
        self._status = status
        self._own = own
        self._canaries = canaries
        self._sources = sources
        self._twins = Twins(store, layout)

    async def run(self, build: Build, config: EnvironmentConfig, progress: Progress) -> Build:
        """Carry the build out; its folder stays behind in whatever state when this raises or is cancelled.

        Raises:
            DeferliteError: the project, the world or the box; the message is fit for the build's error.
        """
        folder = self._layout.build(build.environment, build.id)
        await progress.step(BuildState.STARTED)
        async with AsyncExitStack() as stack:
            builder = await self._builder(config, progress, stack)
            progress.say(f"builder deferlite {builder.version} (protocol {PROTOCOL})")
            await progress.step(BuildState.CLONING, builder.version)
            await anyio.Path(folder.path).mkdir(parents=True)
            env = await anyio.to_thread.run_sync(variables.read_env, config.env)
            inputs = inputs_digest(build, config, env, builder.key)
            manifest = await self._twins.take_over(build, inputs, folder, progress)
            if manifest is None:
                await self._sources.fetch(config, build.commit, build.branch, folder.source, progress.say)
                await self._describe(build, config)
                order = await self._order(build, config, env, folder)
                manifest = await builder.make(order, progress, stack)
            await progress.step(BuildState.PUBLISHING)
            # From here on it is published whatever else is asked: a folder with a manifest has its row.
            with anyio.CancelScope(shield=True):
                await seal(folder, msgspec.json.encode(manifest), inputs)
                await progress.close()
                done = await self._publish(build, config, manifest, builder.version)
        return done

    async def _describe(self, build: Build, config: EnvironmentConfig) -> None:
        """A remote repository lists commits without their subjects: with the fetch it is here."""
        history = None if build.message or build.commit is None else await history_of(self._layout, config)
        if history is not None and build.commit is not None:
            await self._store.builds.describe(build.id, await subject_of(history, build.commit))

    async def _publish(self, build: Build, config: EnvironmentConfig, manifest: Manifest, builder: str) -> Build:
        commits, more = await self._commits(build, config)
        return await self._store.builds.publish(build.id, manifest, builder=builder, commits=commits, more_commits=more)

    async def _commits(self, build: Build, config: EnvironmentConfig) -> tuple[tuple[Commit, ...], int]:
        """What the build adds to the live one, as far as the repository knows: nothing else depends on it."""
        live = (await self._store.environments.get(build.environment)).live_build_id
        try:
            before = None if live is None else (await self._store.builds.get(live)).commit
            history = await history_of(self._layout, config)
            if before is None or build.commit is None or history is None:
                return (), 0
            return await commits_between(history, before, build.commit, MOST_COMMITS)
        except (DeferliteError, OSError):
            log.warning("environment %s: the commits of build %d are not known", build.environment, build.number)
            return (), 0

    async def _builder(self, config: EnvironmentConfig, progress: Progress, stack: AsyncExitStack) -> Builder:
        if config.build.builder in (None, self._own.version):
            return self._own
        return await self._canaries.find(config.build.builder, progress, stack)

    async def _order(
        self, build: Build, config: EnvironmentConfig, env: dict[str, str], folder: BuildFolder
    ) -> BuildOrder:
        environment = await self._store.environments.get(build.environment)
        project = await anyio.to_thread.run_sync(project_folder, folder.source, config.directory)
        return BuildOrder(
            id=build.id,
            environment=build.environment,
            settings=msgspec.to_builtins(config.build),
            env=env,
            home=str(self._layout.home),
            folder=str(folder.path),
            project=str(project),
            hidden=tuple(map(str, self._layout.hidden(environment.source))),
            sandbox=self._status.level.value,
            bwrap=self._status.bwrap,
        )


async def seal(folder: BuildFolder, manifest: bytes, inputs: str) -> None:
    """Take the right to write away, and write the manifest, which makes the folder a published build."""
    # It follows no link, and goes deeper than paths are long.
    await output(["chmod", "-R", "a-w", "--", str(folder.source)], timeout=SEAL_SECONDS)
    await anyio.Path(folder.inputs).write_text(inputs)
    partial = anyio.Path(folder.path / "manifest.partial")
    await partial.write_bytes(manifest)
    await partial.replace(folder.manifest)
