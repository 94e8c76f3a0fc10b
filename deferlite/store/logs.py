"""Logs of executions and builds, line by line."""

from __future__ import annotations

from collections.abc import Sequence

from deferlite.model.errors import NotFound
from deferlite.model.events import BuildLogged, ExecutionLogged
from deferlite.model.execution import LogLine
from deferlite.store.database import Database
from deferlite.store.rows import to_log_line
from deferlite.store.statements import LOGS as SQL
from deferlite.store.writer import Transaction


class Logs:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, execution_id: str, attempt: int, lines: Sequence[LogLine]) -> None:
        """Raises NotFound."""

        def append(transaction: Transaction) -> None:
            row = transaction.one(SQL["environment_of_execution"], (execution_id,))
            if row is None:
                raise NotFound(f'cannot find execution "{execution_id}"')
            transaction.many(SQL["append"], [(execution_id, attempt, *_columns(line)) for line in lines])
            transaction.publish(ExecutionLogged(environment=row[0], execution_id=execution_id, attempt=attempt))

        await self._database.write(append)

    async def read(self, execution_id: str, after_seq: int = 0, limit: int = 1000) -> list[tuple[int, int, LogLine]]:
        """Sequence number, attempt and line, in the order written; go on after the last sequence number."""
        rows = await self._database.rows(SQL["read"], (execution_id, after_seq, limit))
        return [(row[0], row[1], to_log_line(row[2:])) for row in rows]

    async def append_build(self, build_id: str, lines: Sequence[LogLine]) -> None:
        """Raises NotFound."""

        def append(transaction: Transaction) -> None:
            row = transaction.one(SQL["environment_of_build"], (build_id,))
            if row is None:
                raise NotFound(f'cannot find build "{build_id}"')
            transaction.many(SQL["append_build"], [(build_id, *_columns(line)) for line in lines])
            transaction.publish(BuildLogged(environment=row[0], build_id=build_id))

        await self._database.write(append)

    async def read_build(self, build_id: str, after_seq: int = 0, limit: int = 1000) -> list[tuple[int, LogLine]]:
        """Sequence number and line, in the order written."""
        rows = await self._database.rows(SQL["read_build"], (build_id, after_seq, limit))
        return [(row[0], to_log_line(row[1:])) for row in rows]

    async def build_tail(self, build_id: str, since: int, limit: int) -> list[LogLine]:
        """The last lines of a build that were written from ``since`` on, in the order written."""
        rows = await self._database.rows(SQL["build_tail"], (build_id, since, limit))
        return [to_log_line(row) for row in reversed(rows)]


def _columns(line: LogLine) -> tuple[int, str, str, str]:
    return line.time, line.stream, line.text, line.level
