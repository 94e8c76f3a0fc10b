"""Git refs and saved files → builds and previews. One task a repository looks at the truth again on every hint."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import msgspec
from anyio.abc import TaskGroup, TaskStatus

from deferlite.bus import Bus
from deferlite.model.clock import Clock
from deferlite.model.environment import Environment, EnvironmentConfig, is_remote
from deferlite.model.errors import NotFound, StoreError
from deferlite.model.events import BuildPublished, EnvironmentChanged, Event, RepositoryPushed
from deferlite.store import Store
from deferlite.watcher.view import History, RepositoryView, Shared

log = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds after which a local repository is looked at without a hint."""

PAUSE = 0.1
"""Seconds of quiet after a hint: many commits in a burst give one build of the last."""

LOOKS = 8
"""Local repositories looked at side by side."""


async def no_history(config: EnvironmentConfig) -> Path | None:
    return None


class Repositories:
    """Asks for a build whenever what an environment follows is not what was built last, and keeps previews.

    ``history`` finds what this machine knows of a remote repository's commits: without it no preview of one is
    ever taken for merged.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        history: History = no_history,
        *,
        every: float = EVERY,
        pause: float = PAUSE,
    ) -> None:
        self._store = store
        self._bus = bus
        self._shared = Shared(store, clock, history, every=every, pause=pause, looks=LOOKS)
        self._views: dict[bytes, RepositoryView] = {}
        self._places: dict[str, RepositoryView] = {}
        self._previews: dict[str, str] = {}
        self._bases: set[str] = set()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Never returns; started when every active environment has a view that looks at its repository."""
        with self._bus.subscribe(EnvironmentChanged, RepositoryPushed, BuildPublished) as changes:
            async with anyio.create_task_group() as tasks:
                await tasks.start(self._shared.hints.run)
                await self._begin(tasks)
                task_status.started()
                async for change in changes:
                    try:
                        await self._hear(tasks, change)
                    except StoreError as error:
                        log.error("environment %s: its change is not followed: %s", change.environment, error)

    async def _begin(self, tasks: TaskGroup) -> None:
        environments = await self._store.environments.list()
        self._bases = {each.preview.of for each in environments if each.preview is not None}
        by_name = {environment.name: environment for environment in environments}
        for name in tuple(self._bases):
            await self._drop_unwanted(name, by_name.get(name))
        for environment in environments:
            self._place(tasks, environment)

    async def _hear(self, tasks: TaskGroup, change: Event) -> None:
        if isinstance(change, RepositoryPushed):
            self._ring(change.environment)
            return
        if isinstance(change, BuildPublished):
            if change.environment in self._places:
                self._places[change.environment].learn()
            return
        try:
            environment = await self._store.environments.get(change.environment)
        except NotFound:
            return
        await self._drop_unwanted(environment.name, environment)
        self._place(tasks, environment)

    async def _drop_unwanted(self, base: str, environment: Environment | None) -> None:
        """Retire the previews of what has no previews any more, whether or not its repository can be read."""
        if environment is not None and _has_previews(environment):
            self._bases.add(base)
        elif base in self._bases:
            await self._shared.previews.drop(base)
            self._bases.discard(base)

    def _place(self, tasks: TaskGroup, environment: Environment) -> None:
        """Put the environment into the view of its repository, and take it out of the one it was in."""
        name = environment.name
        key = _key_of(environment)
        view = self._views.get(key) if key is not None else None
        before = self._places.pop(name, None)
        if before is not None and before is not view:
            before.drop(name)
        self._remember_preview(environment)
        if key is None:
            return
        if view is None:
            view = self._views[key] = RepositoryView(self._shared)
            view.take(environment)
            tasks.start_soon(self._follow, key, view)
        else:
            view.take(environment)
        self._places[name] = view

    async def _follow(self, key: bytes, view: RepositoryView) -> None:
        await view.run()
        del self._views[key]

    def _remember_preview(self, environment: Environment) -> None:
        base = self._previews.pop(environment.name, None)
        if environment.state == "active" and environment.preview is not None:
            self._previews[environment.name] = environment.preview.of
        elif base is not None:
            # A file may have taken its name: the branch gets another one.
            self._ring(base)

    def _ring(self, name: str) -> None:
        if name in self._places:
            self._places[name].bell.ring()


def _has_previews(environment: Environment) -> bool:
    config = environment.config
    return environment.state == "active" and config is not None and config.preview is not None


def _key_of(environment: Environment) -> bytes | None:
    """The same for all environments that one look will do for; None: there is nothing to look at."""
    config = environment.config
    if environment.state != "active" or config is None:
        return None
    if config.worktree:
        return msgspec.json.encode([environment.name])
    if not is_remote(config.repository):
        return msgspec.json.encode([str(Path(config.repository))])
    access = msgspec.structs.replace(config.git, submodules=True)
    return msgspec.json.encode([config.repository, access])
