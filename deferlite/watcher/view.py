"""One look at a repository for all environments that follow it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio

from deferlite.bus import Bell
from deferlite.model.clock import Clock
from deferlite.model.environment import Environment, EnvironmentConfig, is_remote
from deferlite.model.errors import DeferliteError, StoreError
from deferlite.sandbox.git import RepositoryError
from deferlite.store import Store
from deferlite.watcher.asking import Asking
from deferlite.watcher.hints import Hints
from deferlite.watcher.previews import Previews
from deferlite.watcher.sources import Seen, Sight, look_at
from deferlite.watcher.waiting import hint_or_timer, quiet

log = logging.getLogger(__name__)

LONGEST_PAUSE = 1.0
"""Seconds that hints which do not end may put off a look."""

History = Callable[[EnvironmentConfig], Awaitable[Path | None]]
"""The git folder of this machine that knows the history of a remote repository; None: there is none yet."""


class Shared:
    """What all views work with. ``every``, ``pause``: seconds."""

    def __init__(self, store: Store, clock: Clock, history: History, *, every: float, pause: float, looks: int) -> None:
        self.store = store
        self.clock = clock
        self.history = history
        self.every = every
        self.pause = pause
        self.hints = Hints()
        self.asking = Asking(store)
        self.previews = Previews(store, clock)
        # One push may concern many checkouts.
        self.looking = anyio.CapacityLimiter(looks)


class RepositoryView:
    """Looks on every hint and by a slow timer, for as long as environments follow the repository."""

    def __init__(self, shared: Shared) -> None:
        self.bell = Bell()
        self._shared = shared
        self._members: dict[str, Environment] = {}
        self._compared: dict[str, Seen] = {}
        self._problems: dict[str, str | None] = {}

    def take(self, environment: Environment) -> None:
        """Follow the repository for ``environment`` too, or by its new settings."""
        before = self._members.get(environment.name)
        self._members[environment.name] = environment
        if before is None or _gist(before) != _gist(environment):
            self._compared.pop(environment.name, None)
            self.bell.ring()

    def drop(self, name: str) -> None:
        self._forget(name)
        self.bell.ring()

    def learn(self) -> None:
        """Commits have come to this machine: look again if it is now known which branches are merged."""
        configs = [member.config for member in self._members.values() if member.config is not None]
        if any(config.preview is not None and is_remote(config.repository) for config in configs):
            self.bell.ring()

    def _forget(self, name: str) -> None:
        for known in (self._members, self._compared, self._problems):
            known.pop(name, None)

    async def run(self) -> None:
        """Return when no environment follows the repository any more."""
        try:
            while self._members:
                await self._look()
                if not self._members:
                    break
                if await hint_or_timer(self.bell, self._shared.clock, self._patience()):
                    # A hint says what may have moved; the timer trusts nothing.
                    self._compared.clear()
                await quiet(self.bell, self._shared.pause, LONGEST_PAUSE)
        finally:
            self._shared.hints.forget(self)

    def _patience(self) -> float:
        configs = [member.config for member in self._members.values() if member.config is not None]
        return min((config.poll if is_remote(config.repository) else self._shared.every) for config in configs)

    async def _look(self) -> None:
        member = next(iter(self._members.values()))
        assert member.config is not None
        try:
            sight = await self._see(member.config)
        except (DeferliteError, OSError) as error:
            for environment in tuple(self._members.values()):
                await self._safely(environment, self._report(environment, str(error)))
            return
        except Exception:
            # A fault of deferlite's own, which a strange repository has found: the others are still watched.
            log.exception("environment %s: its repository cannot be looked at", member.name)
            return
        own = [environment for environment in self._members.values() if environment.preview is None]
        for environment in own:
            await self._safely(environment, self._attend(environment, sight))
        previews = {each.name: each for each in self._members.values() if each.preview is not None}
        for environment in own:
            await self._safely(environment, self._follow_branches(environment, sight, previews))
        for environment in previews.values():
            await self._safely(environment, self._attend(environment, sight))

    async def _see(self, config: EnvironmentConfig) -> Sight:
        hints = self._shared.hints
        if is_remote(config.repository):
            return await look_at(config, lambda folders: hints.watch(self, folders, self.bell))
        async with self._shared.looking:
            return await look_at(config, lambda folders: hints.watch(self, folders, self.bell))

    async def _safely(self, environment: Environment, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except StoreError as error:
            log.error("environment %s: cannot ask for a build: %s", environment.name, error)
        except Exception:
            log.exception("environment %s: its repository cannot be followed", environment.name)

    async def _attend(self, environment: Environment, sight: Sight) -> None:
        """Ask for a build of the environment if there is something new for it."""
        config, name = environment.config, environment.name
        if config is None:
            return
        try:
            seen = sight.seen_by(config)
        except RepositoryError as error:
            await self._report(environment, str(error))
            return
        await self._report(environment, None)
        if seen is not None and self._compared.get(name) != seen:
            await self._shared.asking.compare(name, config, seen)
            if self._members.get(name) is environment:
                self._compared[name] = seen

    async def _follow_branches(self, base: Environment, sight: Sight, previews: dict[str, Environment]) -> None:
        """``previews``, by name, are brought up to date: those made here are heard of, and become members, later."""
        config = base.config
        if config is None or config.preview is None or (sight.busy and config.branch is None):
            return
        history = sight.history or await self._shared.history(config)
        made, gone = await self._shared.previews.follow(base, sight.refs, history)
        for name in gone:
            previews.pop(name, None)
        previews.update((environment.name, environment) for environment in made)

    async def _report(self, environment: Environment, problem: str | None) -> None:
        name = environment.name
        if problem == self._problems.get(name, environment.problem):
            return
        self._problems[name] = problem
        await self._shared.store.environments.report(name, problem)
        if environment.preview is not None:
            return  # Its base says it.
        if problem is not None:
            log.error("environment %s: %s", name, problem)
        else:
            log.info("environment %s: its repository is there again", name)


def _gist(environment: Environment) -> tuple[object, ...]:
    """What a change of makes another look worth while."""
    return environment.state, environment.config, environment.preview, environment.pinned
