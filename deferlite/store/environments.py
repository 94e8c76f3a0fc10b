"""Environments as stored: last good settings, faults, live build; and previews, which have no file of their own."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

import msgspec

from deferlite.model.build import RETIRED, BuildState
from deferlite.model.environment import Ended, Environment, EnvironmentConfig, EnvironmentState, Preview
from deferlite.model.errors import Conflict, NotFound
from deferlite.model.events import AbortRequested, BuildCancelRequested, EnvironmentChanged
from deferlite.model.execution import encode_json
from deferlite.store import timing
from deferlite.store.building import fail, fail_not_started
from deferlite.store.database import Database, Row
from deferlite.store.events import tell_changed
from deferlite.store.publishing import refresh_functions, stop_cron
from deferlite.store.rows import decode_config, to_environment, to_execution
from deferlite.store.statements import ENVIRONMENTS as SQL
from deferlite.store.timing import cancel_waiting
from deferlite.store.tokens import Tokens
from deferlite.store.writer import Transaction

_newest = msgspec.json.Decoder(tuple[str | None, int])


class StoredPreview(msgspec.Struct, frozen=True):
    """A preview, and the newest build of what it follows: its commit, and when it was asked for."""

    environment: Environment
    commit: str | None
    built_at: int | None

    @property
    def preview(self) -> Preview:
        assert self.environment.preview is not None
        return self.environment.preview


class Environments:
    def __init__(self, database: Database, tokens: Tokens) -> None:
        self._database = database
        self._tokens = tokens

    async def apply(
        self, name: str, config: EnvironmentConfig, source: str, preview: Preview | None = None
    ) -> Environment:
        """Create, update or bring back the environment with good settings; clears its fault.

        Options of its functions follow at once. ``config.token`` is kept as its hash alone: the stored settings
        have none. ``source`` is the file. Applying what is in force already changes and publishes nothing.
        With ``preview`` it is a preview. A file that takes the name of one ends the preview's work, and wins.

        Raises:
            Conflict: the token is another environment's, or a cron expression or retry of ``functions`` is wrong.
                Of a preview: the name is taken, or the environment it is of has no previews any more.
        """
        operation = partial(_apply, name=name, config=config, source=source, preview=preview, tokens=self._tokens)
        return await self._database.write(operation, "environment")

    async def reject(self, name: str, error: str, source: str) -> Environment:
        """The file is broken (``error``: its faults, one a line): the last good settings stay in force."""
        operation = partial(_reject, name=name, error=error, source=source, tokens=self._tokens)
        return await self._database.write(operation, "environment")

    async def retire(self, name: str, ended: Ended = "unwanted", commit: str | None = None) -> None:
        """History stays, nothing of it is claimed or ticks any more. Unknown and retired ones are ignored.

        An environment whose file is gone keeps its queue for the file's return; its previews are retired with it.
        Of a preview, which is retired for the reason ``ended`` while its branch stood at ``commit``, what waits is
        cancelled, what runs is aborted, and no build is live any more.
        """
        operation = partial(_retire, name=name, ended=ended, commit=commit, tokens=self._tokens)
        await self._database.write(operation, "environment")
        await timing.settle_all(self._database)

    async def report(self, name: str, problem: str | None) -> None:
        """What is wrong with its repository or branch now; None: nothing any more. Ignored of a retired one.

        Raises NotFound.
        """
        await self._database.write(partial(_report, name=name, problem=problem))

    async def note(self, name: str, note: str | None) -> None:
        """What is to be known of it that is no fault. Unknown names are ignored."""
        await self._database.write(partial(_note, name=name, note=note))

    async def previews(self, of: str, branches: Collection[str]) -> list[StoredPreview]:
        """By name: the active previews of ``of``, and of its retired ones those of ``branches``."""
        rows = await self._database.rows(SQL["previews"], {"of": of, "branches": encode_json(sorted(branches))})
        return [_stored_preview(row[:-1], row[-1]) for row in rows]

    async def active_previews(self, of: str) -> list[str]:
        """The names of the active previews of ``of``."""
        return [row[0] for row in await self._database.rows(SQL["active_previews"], (of,))]

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
    transaction: Transaction,
    *,
    name: str,
    config: EnvironmentConfig,
    source: str,
    preview: Preview | None,
    tokens: Tokens,
) -> Environment:
    before = _read(transaction, name)
    if preview is not None:
        _check_preview(transaction, name, preview, before)
    text = msgspec.json.encode(msgspec.structs.replace(config, token=None)).decode()
    stored = decode_config(text)
    in_force = before is not None and (before.state, before.config, before.error, before.source, before.preview) == (
        EnvironmentState.ACTIVE,
        stored,
        None,
        source,
        preview,
    )
    if not in_force:
        _end_replaced(transaction, before, preview)
        where = {"name": name, "config": text, "source": source, "preview": _text(preview), "now": transaction.now}
        transaction.run(SQL["apply"], where)
    new_token = tokens.take_from_file(transaction, name, config.token)
    after = _must_read(transaction, name)
    if in_force and not new_token:
        return after
    try:
        refresh_functions(transaction, name, stored)
    except (ValueError, TypeError) as error:
        raise Conflict(f"{source}: {error}") from None
    return _changed(transaction, after, tokens)


def _check_preview(transaction: Transaction, name: str, preview: Preview, before: Environment | None) -> None:
    """Raises Conflict."""
    if before is not None and (
        before.preview is None or (before.preview.of, before.preview.branch) != (preview.of, preview.branch)
    ):
        raise Conflict(f'"{name}" is another environment already')
    base = _read(transaction, preview.of)
    if base is None or base.state is EnvironmentState.RETIRED or base.config is None or base.config.preview is None:
        raise Conflict(f'environment "{preview.of}" has no previews')


def _end_replaced(transaction: Transaction, before: Environment | None, preview: Preview | None) -> None:
    """End what a preview does before a file takes its name, or its branch is back."""
    if before is not None and before.preview is not None and (preview is None or before.state == "retired"):
        cancel_waiting(transaction, before.name)
        _end_work(transaction, before.name)


def _reject(transaction: Transaction, *, name: str, error: str, source: str, tokens: Tokens) -> Environment:
    before = _read(transaction, name)
    if before is not None and (before.state, before.error, before.source, before.preview) == (
        EnvironmentState.ACTIVE,
        error,
        source,
        None,
    ):
        return before
    _end_replaced(transaction, before, None)
    transaction.run(SQL["reject"], {"name": name, "error": error, "source": source, "now": transaction.now})
    after = _must_read(transaction, name)
    if after.config is not None and before is not None and before.state is EnvironmentState.RETIRED:
        refresh_functions(transaction, name, after.config)
    return _changed(transaction, after, tokens)


def _retire(transaction: Transaction, *, name: str, ended: Ended, commit: str | None, tokens: Tokens) -> None:
    before = _read(transaction, name)
    if before is None or before.state is EnvironmentState.RETIRED:
        return
    preview = before.preview and msgspec.structs.replace(before.preview, ended=ended, commit=commit)
    transaction.run(SQL["retire"], {"name": name, "preview": _text(preview), "now": transaction.now})
    stop_cron(transaction, name)
    if preview is not None:
        cancel_waiting(transaction, name, timing.MOST_SETTLED)
        _end_work(transaction, name)
    fail_not_started(transaction, name, "the environment's file was removed before this build began")
    _changed(transaction, _must_read(transaction, name), tokens)
    for (other,) in transaction.all(SQL["active_previews"], (name,)):
        _retire(transaction, name=other, ended="unwanted", commit=None, tokens=tokens)


def _end_work(transaction: Transaction, name: str) -> None:
    """Abort what runs, and end the builds that have not."""
    rows = transaction.all(SQL["abort_running"], {"name": name, "now": transaction.now})
    aborting = [to_execution(row) for row in rows]
    tell_changed(transaction, aborting)
    for execution in aborting:
        transaction.publish(AbortRequested(environment=name, execution_id=execution.id))
    for id, build_state in transaction.all(SQL["unfinished_builds"], (name,)):
        fail(transaction, build_id=id, error=RETIRED)
        if build_state != BuildState.CREATED:
            transaction.publish(BuildCancelRequested(environment=name, build_id=id))


def _report(transaction: Transaction, *, name: str, problem: str | None) -> None:
    environment = _must_read(transaction, name)
    if environment.state is EnvironmentState.ACTIVE and environment.problem != problem:
        transaction.run(SQL["report"], {"name": name, "problem": problem, "now": transaction.now})
        transaction.publish(EnvironmentChanged(environment=name))


def _note(transaction: Transaction, *, name: str, note: str | None) -> None:
    if transaction.run(SQL["note"], {"name": name, "note": note, "now": transaction.now}):
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


def _text(preview: Preview | None) -> str | None:
    return None if preview is None else msgspec.json.encode(preview).decode()


def _stored_preview(row: Row, newest: str | None) -> StoredPreview:
    commit, built_at = (None, None) if newest is None else _newest.decode(newest)
    return StoredPreview(to_environment(row), commit, built_at)
