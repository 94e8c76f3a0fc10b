"""Takes requested builds one after the other: several environments at once, one build of each."""

from __future__ import annotations

import logging
import shutil
from collections import Counter

import anyio
import anyio.abc
import anyio.to_thread

from deferlite.builder.build import Pipeline
from deferlite.builder.builders import OwnBuilder
from deferlite.builder.canaries import Canaries
from deferlite.builder.journal import Journal, Progress, storable
from deferlite.builder.layout import Layout, remove_leftovers
from deferlite.builder.program import make_runtimes
from deferlite.builder.sources import Sources
from deferlite.builder.tidying import Tidying
from deferlite.builder.trash import Trash
from deferlite.bus import Bell, Bus
from deferlite.model.build import CANCELLED, Build, BuildState, Trigger, overtaken_by
from deferlite.model.clock import Clock
from deferlite.model.errors import Conflict, DeferliteError, NotFound, StoreError, WorldError
from deferlite.model.events import BuildCancelRequested, BuildRequested
from deferlite.model.words import plural
from deferlite.sandbox.levels import SandboxStatus
from deferlite.store import Store

log = logging.getLogger("deferlite.builder")

RETRY_SECONDS = 5.0
"""Pause of an environment's builds when the store does not answer."""

LITTLE_DISK = 16 * 1024 * 1024
"""Bytes that are as good as none."""

MOST_OVERTAKEN = 2
"""Builds of an environment that are overtaken in a row: the next one is let finish, or fast commits would starve it."""


class Job:
    """A build at work. Why its scope is cancelled is set before it is."""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.scope = anyio.CancelScope()
        self.overtaken_by: Build | None = None
        self.unwanted = False


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
    ) -> None:
        self._store = store
        self._bus = bus
        self._layout = layout
        self._clock = clock
        self._max_builds = max_builds
        runtimes = make_runtimes(layout)
        canaries = Canaries(layout, status)
        self._pipeline = Pipeline(store, layout, status, OwnBuilder(runtimes), canaries, Sources(layout))
        self._trash = Trash(store, layout, tuple(runtimes.values()), canaries, clock)
        self._running: dict[str, Job] = {}
        self._overtaken: Counter[str] = Counter()
        self._asked: list[str] = []
        self._bell = Bell()

    async def run(self) -> None:
        with (
            self._bus.listening(BuildRequested, self._requested),
            self._bus.listening(BuildCancelRequested, self._cancelled),
        ):
            left = await anyio.to_thread.run_sync(remove_leftovers, self._layout)
            if left:
                log.info("removed %s that unfinished builds left", plural(len(left), "folder"))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Tidying(self._store, self._bus, self._layout, self._trash).run)
                self._bell.ring()
                while True:
                    await self._bell.wait()
                    await self._look(tasks)

    def _requested(self, event: BuildRequested) -> None:
        self._asked.append(event.build_id)
        self._bell.ring()

    def _cancelled(self, event: BuildCancelRequested) -> None:
        job = self._running.get(event.environment)
        if job is not None and job.build.id == event.build_id:
            job.unwanted = True
            job.scope.cancel()

    async def _look(self, tasks: anyio.abc.TaskGroup) -> None:
        try:
            while self._asked:
                await self._overtake(self._asked.pop(0))
            await self._start_waiting(tasks)
        except DeferliteError:
            log.exception("the next build cannot be read")

    async def _overtake(self, build_id: str) -> None:
        """End the build at work for a newer one of its environment, where that stands for it."""
        try:
            newer = await self._store.builds.get(build_id)
        except NotFound:
            return
        job = self._running.get(newer.environment)
        if job is None or job.build.number >= newer.number or newer.finished_at is not None:
            return
        aside = newer.trigger is Trigger.MANUAL and newer.commit != job.build.commit
        if not aside and job.overtaken_by is None and self._overtaken[newer.environment] < MOST_OVERTAKEN:
            self._overtaken[newer.environment] += 1
            job.overtaken_by = newer
            job.scope.cancel()

    async def _start_waiting(self, tasks: anyio.abc.TaskGroup) -> None:
        while len(self._running) < self._max_builds:
            build = await self._store.builds.next_created(exclude=tuple(self._running))
            if build is None:
                return
            job = self._running[build.environment] = Job(build)
            tasks.start_soon(self._work, job)

    async def _work(self, job: Job) -> None:
        try:
            error = await self._build(job)
            if job.overtaken_by is None:
                del self._overtaken[job.build.environment]
            await self._end(job.build, error)
        except Exception:
            log.exception("build %s: its end could not be written", job.build.id)
        finally:
            del self._running[job.build.environment]
            self._bell.ring()

    async def _build(self, job: Job) -> str | None:
        """Carry it out, with its log; returns what went wrong, or None."""
        build = job.build
        journal = Journal(self._store, build.id, self._clock)
        progress = Progress(self._store, build.id, journal)
        error: str | None = CANCELLED
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.keep)
            with job.scope:
                error = await self._attempt(build, progress)
            if job.overtaken_by is not None and job.scope.cancelled_caught and not job.unwanted:
                newer = job.overtaken_by
                error = overtaken_by(newer.number, newer.commit or "worktree")
            if error is not None:
                progress.failed(error)
            tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await journal.close()
        return error

    async def _attempt(self, build: Build, progress: Progress) -> str | None:
        """Returns what went wrong, or None."""
        try:
            config = await self._store.builds.config(build.id)
            with anyio.move_on_after(config.build.timeout) as limit:
                done = await self._pipeline.run(build, config, progress)
                state = "is live" if done.live else "waits to be promoted" if done.held else "is good, and not live"
                log.info("environment %s: build %d %s", build.environment, build.number, state)
            if limit.cancelled_caught:
                seconds = f"{config.build.timeout:g} s"
                return f"the build took longer than {seconds}: make it shorter, or raise [build] timeout"
        except WorldError as error:
            return storable(await anyio.to_thread.run_sync(self._with_disk, build, str(error)))
        except DeferliteError as error:
            return storable(str(error))
        except OSError as error:
            said = f"{error.strerror or error}: {error.filename}; free some space, or mend the folder's rights"
            return storable(said)
        except Exception as error:
            log.exception("build %s failed inside deferlite", build.id)
            return storable(f"(internal) {type(error).__name__}: {error}")
        return None

    def _with_disk(self, build: Build, error: str) -> str:
        """Not every program says that a full disk made it fail."""
        folder = self._layout.build(build.environment, build.id).path
        if not folder.is_dir() or (free := shutil.disk_usage(folder).free) > LITTLE_DISK or "disk is full" in error:
            return error
        return f"the disk of {folder} has {free >> 20} MiB left, so free some space: {error}"

    async def _end(self, build: Build, error: str | None) -> None:
        """Write the end, as soon as the store takes it: its disk may be the full one."""
        while True:
            try:
                with anyio.CancelScope(shield=True):
                    await self._finish(build, error)
                return
            except StoreError:
                log.exception("build %s: its end could not be written", build.id)
                await anyio.sleep(RETRY_SECONDS)

    async def _finish(self, build: Build, error: str | None) -> None:
        if error is not None and (await self._store.builds.get(build.id)).state is not BuildState.SUCCEED:
            log.error("environment %s: build %d failed: %s", build.environment, build.number, error.partition("\n")[0])
            await self._trash.remove_build(build)
            try:
                await self._store.builds.fail(build.id, error)
            except Conflict:
                log.info("build %s had ended already: %s", build.id, error)
        await self._trash.prune(build.environment)
