"""How many executions are in which state: read from counters, never counted."""

from __future__ import annotations

from collections.abc import Iterable

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


class Statistics:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def environments(self) -> dict[str, dict[State, int]]:
        """Environment name to counts; states without executions are left out."""
        return _by_owner(await self._database.rows(_ENVIRONMENTS))

    async def functions(self, environment: str) -> dict[str, dict[State, int]]:
        """Function id to counts; states without executions are left out."""
        return _by_owner(await self._database.rows(_FUNCTIONS, (environment,)))


def _by_owner(rows: Iterable[Row]) -> dict[str, dict[State, int]]:
    counts: dict[str, dict[State, int]] = {}
    for owner, state, count in rows:
        counts.setdefault(owner, {})[State(state)] = count
    return counts
