"""Sees to it that what is gone gives its disk back, and that what is live has its files."""

from __future__ import annotations

import logging

import anyio

from deferlite.builder.layout import Layout
from deferlite.builder.trash import Trash
from deferlite.bus import Bell, Bus
from deferlite.model.build import Trigger
from deferlite.model.environment import EnvironmentState
from deferlite.model.errors import DeferliteError, NotFound
from deferlite.model.events import EnvironmentChanged, ExecutionChanged
from deferlite.model.execution import TERMINAL
from deferlite.store import Store

log = logging.getLogger("deferlite.builder")

EVERY_SECONDS = 3600.0
"""How often everything is looked at, whether something has happened or not."""


class Tidying:
    """Looks at environments that have changed, and at retired ones again when an execution of theirs has ended."""

    def __init__(self, store: Store, bus: Bus, layout: Layout, trash: Trash) -> None:
        self._store = store
        self._bus = bus
        self._layout = layout
        self._trash = trash
        self._changed: set[str] = set()
        self._lingering: set[str] = set()
        self._bell = Bell()

    async def run(self) -> None:
        """Never returns."""
        with (
            self._bus.listening(EnvironmentChanged, self._environment),
            self._bus.listening(ExecutionChanged, self._execution),
        ):
            while True:
                await self._all()
                with anyio.move_on_after(EVERY_SECONDS):
                    while True:
                        await self._bell.wait()
                        while self._changed:
                            await self._look(self._changed.pop())

    def _environment(self, event: EnvironmentChanged) -> None:
        self._changed.add(event.environment)
        self._bell.ring()

    def _execution(self, event: ExecutionChanged) -> None:
        if event.environment in self._lingering and event.state in TERMINAL:
            self._changed.add(event.environment)
            self._bell.ring()

    async def _all(self) -> None:
        try:
            await self._trash.prune_all()
            for environment in await self._store.environments.list(include_retired=True):
                await self._look(environment.name)
        except (DeferliteError, OSError):
            log.exception("the disk could not be tidied up")

    async def _look(self, name: str) -> None:
        try:
            environment = await self._store.environments.get(name)
            if environment.state is EnvironmentState.ACTIVE:
                self._lingering.discard(name)
                await self._rebuild_what_is_gone(name, environment.live_build_id)
                return
            # Before the look: an execution may end in the middle of it.
            self._lingering.add(name)
            if await self._trash.prune(name):
                self._lingering.discard(name)
        except NotFound:
            self._lingering.discard(name)
        except (DeferliteError, OSError):
            log.exception("environment %s could not be looked at", name)

    async def _rebuild_what_is_gone(self, name: str, live: str | None) -> None:
        """An environment that was retired for long comes back without its files; a person may have removed them."""
        if live is None or await anyio.Path(self._layout.build(name, live).manifest).exists():
            return
        lost = await self._store.builds.get(live)
        newest = (await self._store.builds.list(name, limit=1))[0]
        tried = newest.number > lost.number and newest.commit == lost.commit
        if newest.finished_at is None or tried:
            return
        log.warning("environment %s: the files of build %d are gone, so it is built again", name, lost.number)
        await self._store.builds.request(
            name, commit=lost.commit, branch=lost.branch, message=lost.message, trigger=Trigger.SETTINGS
        )
