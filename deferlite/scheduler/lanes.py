"""Keeps the lanes true to the store: limits, options and live builds of the environments."""

from __future__ import annotations

import logging
from collections.abc import Callable, Set

import anyio.to_thread
import msgspec

from deferlite.builder.variables import read_env
from deferlite.model.environment import Environment, EnvironmentConfig, EnvironmentState
from deferlite.model.errors import BuildError
from deferlite.model.function import FunctionSpec
from deferlite.scheduler.slots import Slots
from deferlite.store import Store

log = logging.getLogger(__name__)


class KnownBuild(msgspec.Struct, frozen=True):
    commit: str | None
    functions: dict[str, FunctionSpec]


class LaneKeeper:
    def __init__(self, store: Store, slots: Slots) -> None:
        self._store = store
        self._slots = slots
        self._stale: set[str] = set()
        self._leaving: set[str] = set()
        self._live: dict[str, str] = {}
        self._fresh: dict[str, str] = {}
        self._builds: dict[str, KnownBuild] = {}
        self._variables: dict[str, dict[str, str]] = {}

    def stale(self, environment: str) -> None:
        """Something about it changed: ``refresh`` reads it again."""
        self._stale.add(environment)

    async def load(self) -> None:
        self._stale.update(environment.name for environment in await self._store.environments.list())

    async def refresh(self, busy: Callable[[], Set[str]]) -> list[str]:
        """Read again what is stale; the builds that are not live any more.

        ``busy`` names the environments that still have something running: retired ones are forgotten after it.
        """
        released = []
        while self._stale:
            environment = await self._store.environments.get(self._stale.pop())
            previous = self._live.get(environment.name)
            await self._read(environment)
            if previous is not None and previous != self._live.get(environment.name):
                self._builds.pop(previous, None)
                released.append(previous)
        for name in self._leaving - busy() if self._leaving else ():
            self._leaving.discard(name)
            self._slots.lanes.pop(name, None)
            self._variables.pop(name, None)
        return released

    def fresh_builds(self) -> list[tuple[str, str]]:
        """Environment and build of those that went live since the last call."""
        fresh, self._fresh = self._fresh, {}
        return list(fresh.items())

    async def build(self, build_id: str) -> KnownBuild:
        known = self._builds.get(build_id)
        if known is None:
            build = await self._store.builds.get(build_id)
            manifest = await self._store.builds.manifest(build_id)
            known = KnownBuild(build.commit, {spec.name: spec for spec in manifest.functions})
            self._builds[build_id] = known
        return known

    def variables(self, environment: str) -> dict[str, str]:
        """The environment's ``[env]``, its files read."""
        return self._variables.get(environment, {})

    async def _read(self, environment: Environment) -> None:
        name, config = environment.name, environment.config
        lane = self._slots.lane(name)
        if environment.state is EnvironmentState.RETIRED or config is None or environment.live_build_id is None:
            self._live.pop(name, None)
            lane.hopeful.clear()
            self._leaving.add(name)
            return
        self._leaving.discard(name)
        if self._live.get(name) != environment.live_build_id:
            self._live[name] = self._fresh[name] = environment.live_build_id
        # In this order: every heir is in the list.
        formers = await self._store.functions.formers(name)
        functions = await self._store.functions.list(name)
        lane.run = config.run
        lane.options = {function.id: function.options for function in functions}
        lane.families = {}
        for heir, ids in formers.items():
            # A parent that waits goes on within the limit of what it has become.
            lane.options |= dict.fromkeys(ids, lane.options[heir])
            lane.families |= dict.fromkeys((heir, *ids), (heir, *ids))
        lane.hope(function.id for function in functions if function.active)
        self._variables[name] = await self._resolve(name, config)

    async def _resolve(self, name: str, config: EnvironmentConfig) -> dict[str, str]:
        try:
            return await anyio.to_thread.run_sync(read_env, config.env)
        except BuildError as error:
            log.error("environment %s: %s", name, error)
            return self._variables.get(name, {})
