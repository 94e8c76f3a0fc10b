"""Takes requested builds one after the other: several environments at once, one build of each."""

from __future__ import annotations

import logging

import anyio
import anyio.abc
import anyio.to_thread

from deferlite.builder.build import Pipeline
from deferlite.builder.journal import Journal, storable
from deferlite.builder.layout import Layout, remove_leftovers
from deferlite.builder.runtimes import Runtime
from deferlite.builder.runtimes.python import PythonRuntime
from deferlite.builder.source import Sources
from deferlite.builder.trash import Trash
from deferlite.bus import Bell, Bus
from deferlite.model.build import Build
from deferlite.model.clock import Clock
from deferlite.model.errors import Conflict, DeferliteError, NotFound
from deferlite.model.events import BuildRequested
from deferlite.sandbox.levels import SandboxStatus
from deferlite.store import Store

log = logging.getLogger("deferlite.builder")

RETRY_SECONDS = 5.0
"""Pause of an environment's builds when the store does not answer."""


class Job:
    """A build at work. ``overtaken_by`` is set before its scope is cancelled for a newer one."""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.scope = anyio.CancelScope()
        self.overtaken_by: str | None = None


class BuildService:
    """Runs builds until it is cancelled. A failed build changes nothing that is live, and never ends the service."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        layout: Layout,
        status: SandboxStatus,
        clock: Clock,
        max_builds: int = 2,
        runtimes: tuple[Runtime, ...] | None = None,
    ) -> None:
        self._store = store
        self._bus = bus
        self._layout = layout
        self._clock = clock
        self._max_builds = max_builds
        self._runtimes = runtimes if runtimes is not None else (PythonRuntime(layout),)
        by_name = {runtime.name: runtime for runtime in self._runtimes}
        self._pipeline = Pipeline(store, layout, status, clock, by_name, Sources(layout))
        self._trash = Trash(store, layout, self._runtimes)
        self._running: dict[str, Job] = {}
        self._bell = Bell()

    async def run(self) -> None:
        with self._bus.listening(BuildRequested, self._requested):
            left = await anyio.to_thread.run_sync(remove_leftovers, self._layout)
            if left:
                log.info("removed %d folders that unfinished builds left", len(left))
            async with anyio.create_task_group() as tasks:
                self._bell.ring()
                while True:
                    await self._bell.wait()
                    await self._start_waiting(tasks)

    def _requested(self, event: BuildRequested) -> None:
        job = self._running.get(event.environment)
        if job is not None and job.build.id != event.build_id:
            job.overtaken_by = event.build_id
            job.scope.cancel()
        self._bell.ring()

    async def _start_waiting(self, tasks: anyio.abc.TaskGroup) -> None:
        while len(self._running) < self._max_builds:
            try:
                build = await self._store.builds.next_created(exclude=tuple(self._running))
            except DeferliteError:
                log.exception("the next build cannot be read")
                return
            if build is None:
                return
            job = self._running[build.environment] = Job(build)
            tasks.start_soon(self._work, job)

    async def _work(self, job: Job) -> None:
        try:
            await self._build(job)
        except Exception:
            log.exception("build %s: its end could not be written", job.build.id)
            await anyio.sleep(RETRY_SECONDS)
        finally:
            del self._running[job.build.environment]
            self._bell.ring()

    async def _build(self, job: Job) -> None:
        build = job.build
        journal = Journal(self._store, build.id, self._clock)
        error: str | None = "cancelled"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.keep)
            with job.scope:
                error = await self._attempt(build, journal)
            if job.scope.cancelled_caught:
                error = await self._overtaken(job)
            if error is not None:
                # The rest of it is the end of a command's output, which the log has already.
                journal.say(error.partition("\n")[0])
            tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await journal.flush()
            await self._finish(build, error)

    async def _attempt(self, build: Build, journal: Journal) -> str | None:
        """Carry it out; returns what went wrong, or None."""
        try:
            config = await self._store.builds.config(build.id)
            with anyio.move_on_after(config.build.timeout) as limit:
                await self._pipeline.run(build, config, journal)
            if limit.cancelled_caught:
                seconds = f"{config.build.timeout:g} s"
                return f"the build took longer than {seconds}: make it shorter, or raise [build] timeout"
        except DeferliteError as error:
            return storable(str(error))
        except Exception as error:
            log.exception("build %s failed inside deferlite", build.id)
            return storable(f"(internal) {type(error).__name__}: {error}")
        return None

    async def _overtaken(self, job: Job) -> str:
        try:
            newer = await self._store.builds.get(job.overtaken_by or "")
        except NotFound:
            return "overtaken by a newer build"
        return f"overtaken by build {newer.number} ({(newer.commit or 'worktree')[:12]})"

    async def _finish(self, build: Build, error: str | None) -> None:
        if error is None:
            log.info("environment %s: build %d is live", build.environment, build.number)
        else:
            log.error("environment %s: build %d failed: %s", build.environment, build.number, error.partition("\n")[0])
            await self._trash.remove_build(build)
            try:
                await self._store.builds.fail(build.id, error)
            except Conflict:
                log.info("build %s had ended already: %s", build.id, error)
        await self._trash.prune(build.environment)
