"""Git refs and saved files → builds. One task an environment looks at the truth again on every hint."""

from __future__ import annotations

import logging

import anyio
from anyio.abc import TaskGroup, TaskStatus

from deferlite.bus import Bell, Bus
from deferlite.model.build import CUT_OFF, Build, BuildState, Trigger
from deferlite.model.clock import Clock
from deferlite.model.environment import Environment, EnvironmentConfig, build_inputs, is_remote
from deferlite.model.errors import Conflict, DeferliteError, NotFound, StoreError
from deferlite.model.events import EnvironmentChanged, Event
from deferlite.store import Store
from deferlite.watcher.hints import Hints
from deferlite.watcher.sources import Seen, look_at_checkout, look_at_remote, look_at_worktree
from deferlite.watcher.waiting import hint_or_timer, quiet

log = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds after which a local repository is looked at without a hint."""

PAUSE = 0.1
"""Seconds of quiet after a hint: many commits in a burst give one build of the last."""

LONGEST_PAUSE = 1.0

LOOKS = 8
"""Local repositories looked at side by side."""


class Repositories:
    """Asks for a build whenever what an environment follows is not what was built last."""

    def __init__(self, store: Store, bus: Bus, clock: Clock, *, every: float = EVERY, pause: float = PAUSE) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._every = every
        self._pause = pause
        self._hints = Hints()
        # One push may concern every environment of a repository.
        self._looking = anyio.CapacityLimiter(LOOKS)
        self._bells: dict[str, Bell] = {}
        self._problems: dict[str, str | None] = {}

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Never returns; started when every active environment has a task that watches it."""
        with self._bus.subscribe(EnvironmentChanged) as changes:
            async with anyio.create_task_group() as tasks:
                await tasks.start(self._hints.run)
                for environment in await self._store.environments.list():
                    self._follow(tasks, environment.name)
                task_status.started()
                async for change in changes:
                    self._changed(tasks, change)

    def _changed(self, tasks: TaskGroup, change: Event) -> None:
        if change.environment in self._bells:
            self._bells[change.environment].ring()
        else:
            self._follow(tasks, change.environment)

    def _follow(self, tasks: TaskGroup, name: str) -> None:
        self._bells[name] = Bell()
        tasks.start_soon(self._watch, name)

    async def _watch(self, name: str) -> None:
        """Look again and again, until the environment is retired."""
        bell = self._bells[name]
        try:
            while (environment := await self._active(name)) is not None:
                config = environment.config
                if config is not None:
                    await self._look_safely(environment, config)
                await hint_or_timer(bell, self._clock, self._patience(config))
                await quiet(bell, self._pause, LONGEST_PAUSE)
        finally:
            self._hints.forget(name)
            del self._bells[name]
            self._problems.pop(name, None)

    async def _active(self, name: str) -> Environment | None:
        try:
            environment = await self._store.environments.get(name)
        except NotFound:
            return None
        return environment if environment.state == "active" else None

    def _patience(self, config: EnvironmentConfig | None) -> float:
        return config.poll if config is not None and is_remote(config.repository) else self._every

    async def _look_safely(self, environment: Environment, config: EnvironmentConfig) -> None:
        try:
            await self._look(environment, config)
        except StoreError as error:
            log.error("environment %s: cannot ask for a build: %s", environment.name, error)
        except Exception:
            # A fault of deferlite's own, which a strange repository has found: the others are still watched.
            log.exception("environment %s: its repository cannot be looked at", environment.name)

    async def _look(self, environment: Environment, config: EnvironmentConfig) -> None:
        try:
            seen = await self._see(environment.name, config)
        except (DeferliteError, OSError) as error:
            await self._report(environment, str(error))
            return
        await self._report(environment, None)
        if seen is not None:
            await self._compare(environment, config, seen)

    async def _see(self, name: str, config: EnvironmentConfig) -> Seen | None:
        """What there is to build now; None: the repository is in the middle of something."""
        if is_remote(config.repository):
            self._hints.forget(name)
            return await look_at_remote(config)
        bell = self._bells[name]
        look = look_at_worktree if config.worktree else look_at_checkout
        async with self._looking:
            return await look(config, lambda folders: self._hints.watch(name, folders, bell))

    async def _report(self, environment: Environment, problem: str | None) -> None:
        if problem != self._problems.get(environment.name, environment.problem):
            self._problems[environment.name] = problem
            await self._store.environments.report(environment.name, problem)
            if problem is not None:
                log.error("environment %s: %s", environment.name, problem)
            else:
                log.info("environment %s: its repository is there again", environment.name)

    async def _compare(self, environment: Environment, config: EnvironmentConfig, seen: Seen) -> None:
        newest = next(iter(await self._store.builds.list(environment.name, limit=1)), None)
        trigger = await self._reason(environment, config, seen, newest)
        if trigger is None:
            return
        try:
            build = await self._store.builds.request(
                environment.name, commit=seen.commit, branch=seen.branch, message=seen.message, trigger=trigger
            )
        except (Conflict, NotFound):
            return  # Retired meanwhile.
        what = (seen.commit or "")[:12]
        log.info("environment %s: build %d asked for (%s) %s", environment.name, build.number, trigger, what)

    async def _reason(
        self, environment: Environment, config: EnvironmentConfig, seen: Seen, newest: Build | None
    ) -> Trigger | None:
        """Why this is to be built; None: it was, or a rollback holds the environment."""
        if newest is None:
            return Trigger.NEW
        if not seen.is_what_was_built(newest):
            return Trigger.WORKTREE if config.worktree else Trigger.COMMIT
        if environment.pinned:
            return None
        if build_inputs(await self._store.builds.config(newest.id)) != build_inputs(config):
            return Trigger.SETTINGS
        return newest.trigger if _never_tried(newest) else None


def _never_tried(build: Build) -> bool:
    """A failure that says nothing about the project: a crash, or the file was away before it began."""
    return build.state is BuildState.FAILED and (build.started_at is None or build.error == CUT_OFF)
