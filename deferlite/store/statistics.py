"""How many executions are in which state: read from counters, never counted. Builds are few, and counted."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from deferlite.model.build import BuildState
from deferlite.model.execution import State
from deferlite.store.database import Database, Row
from deferlite.store.statements import STATISTICS as SQL


class ExecutionCount(msgspec.Struct, frozen=True):
    environment: str
    function_name: str
    state: State
    count: int


class BuildCount(msgspec.Struct, frozen=True):
    environment: str
    state: BuildState
    count: int


class Statistics:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def environments(self) -> dict[str, dict[State, int]]:
        """Environment name to counts; states without executions are left out."""
        return _by_owner(await self._database.rows(SQL["environments"]))

    async def functions(self, environment: str) -> dict[str, dict[State, int]]:
        """Function id to counts; states without executions are left out."""
        return _by_owner(await self._database.rows(SQL["functions"], (environment,)))

    async def executions(self) -> list[ExecutionCount]:
        """Of every function that there was, in every state, also where there are none."""
        rows = await self._database.rows(SQL["executions"])
        return [ExecutionCount(environment, name, State(state), count) for environment, name, state, count in rows]

    async def builds(self) -> list[BuildCount]:
        """States without builds are left out."""
        rows = await self._database.rows(SQL["builds"])
        return [BuildCount(environment, BuildState(state), count) for environment, state, count in rows]


def _by_owner(rows: Iterable[Row]) -> dict[str, dict[State, int]]:
    counts: dict[str, dict[State, int]] = {}
    for owner, state, count in rows:
        counts.setdefault(owner, {})[State(state)] = count
    return counts
