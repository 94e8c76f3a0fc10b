"""The functions of the live build: written when it is switched, and when the environment's settings change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from deferlite.model.environment import EnvironmentConfig, overlay
from deferlite.model.function import FunctionOptions, FunctionSpec
from deferlite.model.ids import new_id
from deferlite.model.schedule import next_tick
from deferlite.store.events import tell_ready
from deferlite.store.rows import decode_options
from deferlite.store.statements import FUNCTIONS as SQL
from deferlite.store.timing import fail_orphans
from deferlite.store.writer import Transaction

_spec = msgspec.json.Decoder(FunctionSpec)


def replace_functions(
    transaction: Transaction, environment: str, config: EnvironmentConfig, specs: Iterable[FunctionSpec]
) -> None:
    """Make ``specs`` the active functions of an active or retired environment; what else there was is inactive.

    Raises:
        ValueError: a cron expression or a time zone is wrong.
    """
    known = {row[0]: row[1:] for row in transaction.all(SQL["known"], (environment,))}
    ids = [_write(transaction, environment, config, spec, known.pop(spec.name, None)) for spec in specs]
    for id, _, _, active, _ in known.values():
        if active:
            transaction.run(SQL["deactivate"], (id,))
    fail_orphans(transaction)
    tell_ready(transaction, ((environment, id) for id in ids))


def refresh_functions(transaction: Transaction, environment: str, config: EnvironmentConfig) -> None:
    """Put changed settings on the functions as the live build has them. Raises ValueError, as above."""
    rows = transaction.all(SQL["known"], (environment,))
    replace_functions(transaction, environment, config, [_spec.decode(row[2]) for row in rows if row[4]])


def stop_cron(transaction: Transaction, environment: str) -> None:
    transaction.run(SQL["stop_cron"], (environment,))


def _write(
    transaction: Transaction,
    environment: str,
    config: EnvironmentConfig,
    spec: FunctionSpec,
    known: tuple[Any, ...] | None,
) -> str:
    options = overlay(spec.options, config.functions.get(spec.name, {}))
    id = known[0] if known else new_id(transaction.now)
    transaction.run(
        SQL["update" if known else "insert"],
        {
            "id": id,
            "environment": environment,
            "name": spec.name,
            "spec": msgspec.json.encode(spec).decode(),
            "options": msgspec.json.encode(options).decode(),
            "next_cron_at": _next_cron(options, config, known, transaction.now),
        },
    )
    return str(id)


def _next_cron(
    options: FunctionOptions, config: EnvironmentConfig, known: tuple[Any, ...] | None, now: int
) -> int | None:
    if options.cron is None or not config.run.cron:
        return None
    if known is not None and known[4] is not None:
        before = decode_options(known[2])
        if (before.cron, before.timezone) == (options.cron, options.timezone):
            # A tick that is due already, missed while the server was down, is not forgotten by a new build.
            return int(known[4])
    return next_tick(options.cron, options.timezone, now)
