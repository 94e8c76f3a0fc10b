"""Environments as stored: last good settings, faults, live build."""

from __future__ import annotations

from functools import partial

import msgspec

from deferlite.model.environment import Environment, EnvironmentConfig, EnvironmentState
from deferlite.model.errors import Conflict, NotFound
from deferlite.model.events import EnvironmentChanged
from deferlite.store.building import fail_not_started
from deferlite.store.database import Database
from deferlite.store.publishing import refresh_functions, stop_cron
from deferlite.store.rows import decode_config, to_environment
from deferlite.store.statements import ENVIRONMENTS as SQL
from deferlite.store.tokens import Tokens
from deferlite.store.writer import Transaction


class Environments:
    def __init__(self, database: Database, tokens: Tokens) -> None:
        self._database = database
        self._tokens = tokens

    async def apply(self, name: str, config: EnvironmentConfig, source: str) -> Environment:
        """Create, update or bring back the environment with good settings; clears its fault.

        Options of its functions follow at once. ``config.token`` is kept as its hash alone: the stored settings
        have none. ``source`` is the file. Applying what is in force already changes and publishes nothing.

        Raises:
            Conflict: the token is another environment's, or a cron expression or retry of ``functions`` is wrong.
        """
        operation = partial(_apply, name=name, config=config, source=source, tokens=self._tokens)
        return await self._database.write(operation, "environment")

    async def reject(self, name: str, error: str, source: str) -> Environment:
        """The file is broken (``error``: its faults, one a line): the last good settings stay in force."""
        operation = partial(_reject, name=name, error=error, source=source, tokens=self._tokens)
        return await self._database.write(operation, "environment")

    async def retire(self, name: str) -> None:
        """The file is gone: history stays, nothing of it is claimed or ticks any more. Unknown names are ignored."""
        await self._database.write(partial(_retire, name=name, tokens=self._tokens), "environment")

    async def report(self, name: str, problem: str | None) -> None:
        """What is wrong with its repository or branch now; None: nothing any more. Raises NotFound."""
        await self._database.write(partial(_report, name=name, problem=problem))

    async def get(self, name: str) -> Environment:
        """Raises NotFound."""
        row = await self._database.row(SQL["get"], (name,))
        if row is None:
            raise NotFound(f'there is no environment "{name}"')
        return to_environment(row)

    async def list(self, include_retired: bool = False) -> list[Environment]:
        """By name."""
        rows = await self._database.rows(SQL["list"], {"include_retired": include_retired})
        return [to_environment(row) for row in rows]


def _apply(
    transaction: Transaction, *, name: str, config: EnvironmentConfig, source: str, tokens: Tokens
) -> Environment:
    before = _read(transaction, name)
    text = msgspec.json.encode(msgspec.structs.replace(config, token=None)).decode()
    stored = decode_config(text)
    in_force = before is not None and (before.state, before.config, before.error, before.source) == (
        EnvironmentState.ACTIVE,
        stored,
        None,
        source,
    )
    if not in_force:
        transaction.run(SQL["apply"], {"name": name, "config": text, "source": source, "now": transaction.now})
    new_token = tokens.take_from_file(transaction, name, config.token)
    after = _must_read(transaction, name)
    if in_force and not new_token:
        return after
    try:
        refresh_functions(transaction, name, stored)
    except (ValueError, TypeError) as error:
        raise Conflict(f"{source}: {error}") from None
    return _changed(transaction, after, tokens)


def _reject(transaction: Transaction, *, name: str, error: str, source: str, tokens: Tokens) -> Environment:
    before = _read(transaction, name)
    if before is not None and (before.state, before.error, before.source) == (
        EnvironmentState.ACTIVE,
        error,
        source,
    ):
        return before
    transaction.run(SQL["reject"], {"name": name, "error": error, "source": source, "now": transaction.now})
    after = _must_read(transaction, name)
    if after.config is not None and before is not None and before.state is EnvironmentState.RETIRED:
        refresh_functions(transaction, name, after.config)
    return _changed(transaction, after, tokens)


def _retire(transaction: Transaction, *, name: str, tokens: Tokens) -> None:
    if transaction.run(SQL["retire"], {"name": name, "now": transaction.now}) == 0:
        return
    stop_cron(transaction, name)
    fail_not_started(transaction, name, "the environment's file was removed before this build began")
    _changed(transaction, _must_read(transaction, name), tokens)


def _report(transaction: Transaction, *, name: str, problem: str | None) -> None:
    if _must_read(transaction, name).problem != problem:
        transaction.run(SQL["report"], {"name": name, "problem": problem, "now": transaction.now})
        transaction.publish(EnvironmentChanged(environment=name))


def _changed(transaction: Transaction, environment: Environment, tokens: Tokens) -> Environment:
    tokens.refresh(transaction)
    transaction.publish(EnvironmentChanged(environment=environment.name))
    return environment


def _read(transaction: Transaction, name: str) -> Environment | None:
    row = transaction.one(SQL["get"], (name,))
    return None if row is None else to_environment(row)


def _must_read(transaction: Transaction, name: str) -> Environment:
    environment = _read(transaction, name)
    if environment is None:
        raise NotFound(f'there is no environment "{name}"')
    return environment
