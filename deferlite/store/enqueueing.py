"""Enqueue: all or none, and the same key answers the same execution."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from deferlite.model.clock import SECOND
from deferlite.model.errors import Conflict, NotFound, UnknownFunction
from deferlite.model.execution import Execution, NewExecution, State, encode_json
from deferlite.model.ids import new_id
from deferlite.store.events import tell_enqueued
from deferlite.store.rows import to_execution
from deferlite.store.statements import EXECUTIONS as SQL
from deferlite.store.writer import Transaction

_AT_ONCE = 20
"""Rows of one INSERT: half the price of as many statements, since a statement with triggers costs more than a row."""
_INSERT = SQL["insert"]
_INSERT_MANY = _INSERT + (", " + _INSERT[_INSERT.rindex("(") :]) * (_AT_ONCE - 1)

KEY_LIFE = 24 * 3600 * SECOND


def enqueue(
    transaction: Transaction,
    *,
    environment: str,
    items: Sequence[NewExecution],
    executed_by: str,
    rerun_of: str | None = None,
) -> list[Execution]:
    require_live(transaction, environment)
    entry = _Entry(transaction, environment, executed_by, rerun_of)
    executions = [entry.add(item) for item in items]
    _insert(transaction, entry.rows)
    if entry.metadata:
        transaction.many(SQL["insert_metadata"], entry.metadata)
    tell_enqueued(transaction, entry.fresh)
    return executions


def _insert(transaction: Transaction, rows: Sequence[tuple[Any, ...]]) -> None:
    full = len(rows) - len(rows) % _AT_ONCE
    for start in range(0, full, _AT_ONCE):
        chunk = rows[start : start + _AT_ONCE]
        transaction.run(_INSERT_MANY, tuple(itertools.chain.from_iterable(chunk)))
    transaction.many(_INSERT, rows[full:])


def require_live(transaction: Transaction, environment: str) -> None:
    """Raises NotFound or Conflict unless the environment can run something."""
    row = transaction.one(SQL["environment"], (environment,))
    if row is None:
        raise NotFound(f'there is no environment "{environment}"')
    state, live_build_id = row
    if state != "active":
        raise Conflict(f'environment "{environment}" is retired: put its file back to use it again')
    if live_build_id is None:
        raise Conflict(f'environment "{environment}" has no build yet: its first one must succeed')


class _Entry:
    """One enqueue under way: its new rows, written together at the end."""

    def __init__(self, transaction: Transaction, environment: str, executed_by: str, rerun_of: str | None) -> None:
        self._transaction = transaction
        self._environment = environment
        self._executed_by = executed_by
        self._rerun_of = rerun_of
        self._functions: dict[str, tuple[str, str]] = {}
        self._keys: dict[str, Execution] = {}
        self.rows: list[tuple[Any, ...]] = []
        self.metadata: list[tuple[str, str, str]] = []
        self.fresh: list[Execution] = []

    def add(self, item: NewExecution) -> Execution:
        function_id, function_name = self._function(item.function_name)
        if item.idempotency_key is not None:
            known = self._keys.get(item.idempotency_key) or self._stored(item.idempotency_key)
            if known is not None:
                return known
        execution = self._new(item, function_id, function_name)
        if item.idempotency_key is not None:
            self._keys[item.idempotency_key] = execution
        return execution

    def _function(self, name: str) -> tuple[str, str]:
        """Id and name: today's, whatever name it is asked for by, since a claimed one is looked up in its build."""
        known = self._functions.get(name)
        if known is None:
            row = self._transaction.one(SQL["active_function"], {"environment": self._environment, "name": name})
            if row is None:
                raise UnknownFunction(name)
            known = self._functions[name] = (row[0], row[1])
        return known

    def _stored(self, key: str) -> Execution | None:
        since = self._transaction.now - KEY_LIFE
        parameters = {"environment": self._environment, "key": key, "since": since}
        row = self._transaction.one(SQL["same_key"], parameters)
        return None if row is None else to_execution(row)

    def _new(self, item: NewExecution, function_id: str, function_name: str) -> Execution:
        now = self._transaction.now
        due = item.scheduled_at is None or item.scheduled_at <= now
        execution = Execution(
            id=new_id(now),
            environment=self._environment,
            function_id=function_id,
            function_name=function_name,
            state=State.CREATED,
            priority=item.priority,
            scheduled_at=now if item.scheduled_at is None else item.scheduled_at,
            discard_at=item.discard_at,
            created_at=now,
            updated_at=now,
            started_at=None,
            finished_at=None,
            attempt=0,
            retries=0,
            interruptions=0,
            error_code=None,
            metadata=item.metadata,
            build_id=None,
            parent_id=item.parent_id,
            rerun_of=self._rerun_of,
            cron_tick=None,
            idempotency_key=item.idempotency_key,
            concurrency_key=item.concurrency_key,
            executed_by=self._executed_by,
        )
        self._write(execution, item, due)
        return execution

    def _write(self, execution: Execution, item: NewExecution, due: bool) -> None:
        self.fresh.append(execution)
        self.rows.append(
            (
                execution.id,
                self._environment,
                execution.function_id,
                execution.function_name,
                int(due),
                item.priority,
                execution.scheduled_at,
                item.discard_at,
                execution.created_at,
                execution.updated_at,
                encode_json(item.metadata) if item.metadata else "{}",
                item.parent_id,
                self._rerun_of,
                item.idempotency_key,
                item.concurrency_key,
                self._executed_by,
                item.arguments,
                item.keyword_arguments,
            )
        )
        for key, value in item.metadata.items():
            self.metadata.append((key, value, execution.id))
