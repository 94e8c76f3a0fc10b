"""How many executions are in which state: read from counters, never counted. Builds are few, and counted."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from deferlite.model.build import BuildState
from deferlite.model.execution import State
from deferlite.store.database import Database, Row

_ENVIRONMENTS = """
SELECT environment, state, sum(count) FROM counters JOIN functions ON functions.id = function_id
WHERE count > 0 GROUP BY environment, state
"""
_FUNCTIONS = """
SELECT function_id, state, count FROM counters JOIN functions ON functions.id = function_id
WHERE environment = ? AND count > 0
"""
_EXECUTIONS = """
SELECT environment, name, state, count FROM counters JOIN functions ON functions.id = function_id
ORDER BY environment, name, state
"""
_BUILDS = "SELECT environment, state, count(*) FROM builds GROUP BY environment, state"


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
        return _by_owner(await self._database.rows(_ENVIRONMENTS))

    async def functions(self, environment: str) -> dict[str, dict[State, int]]:
        """Function id to counts; states without executions are left out."""
        return _by_owner(await self._database.rows(_FUNCTIONS, (environment,)))

    async def executions(self) -> list[ExecutionCount]:
        """Of every function that there was, in every state, also where there are none."""
        rows = await self._database.rows(_EXECUTIONS)
        return [ExecutionCount(environment, name, State(state), count) for environment, name, state, count in rows]

    async def builds(self) -> list[BuildCount]:
        """States without builds are left out."""
        rows = await self._database.rows(_BUILDS)
        return [BuildCount(environment, BuildState(state), count) for environment, state, count in rows]


def _by_owner(rows: Iterable[Row]) -> dict[str, dict[State, int]]:
    counts: dict[str, dict[State, int]] = {}
    for owner, state, count in rows:
        counts.setdefault(owner, {})[State(state)] = count
    return counts
