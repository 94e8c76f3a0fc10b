"""The functions of the live build: written when it is switched, and when the environment's settings change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from deferlite.model.environment import EnvironmentConfig, overlay
from deferlite.model.execution import encode_json
from deferlite.model.function import FunctionOptions, FunctionSpec
from deferlite.model.ids import new_id
from deferlite.model.renames import heirs
from deferlite.model.schedule import next_tick
from deferlite.store.events import tell_ready
from deferlite.store.rows import decode_options
from deferlite.store.statements import FUNCTIONS as SQL
from deferlite.store.timing import settle
from deferlite.store.writer import Transaction

_spec = msgspec.json.Decoder(FunctionSpec)


class _Known(NamedTuple):
    """A function that the environment has or had."""

    name: str
    id: str
    spec: str
    options: str
    active: int
    next_cron_at: int | None
    last_cron_at: int | None


def replace_functions(
    transaction: Transaction, environment: str, config: EnvironmentConfig, specs: Iterable[FunctionSpec]
) -> None:
    """Make ``specs`` the active functions of an active or retired environment; what else there was is inactive.

    What waits of a function that is now called otherwise goes over to that one, with its next moment of cron.

    Raises:
        ValueError: a cron expression or a time zone is wrong.
    """
    new = {spec.name: spec for spec in specs}
    known = {row[0]: _Known(*row) for row in transaction.all(SQL["known"], (environment,))}
    became = heirs_of(new.values(), (_spec.decode(each.spec) for each in known.values()))
    ticking = {became[name]: each for name, each in known.items() if name in became and each.next_cron_at is not None}
    ids = {
        name: _write(transaction, environment, config, spec, known.get(name), ticking.get(name))
        for name, spec in new.items()
    }
    for name, each in known.items():
        if each.active and name not in new:
            transaction.run(SQL["deactivate"], {"id": each.id, "environment": environment})
    transaction.run(SQL["forget_names"], (environment,))
    transaction.many(SQL["insert_name"], ((environment, name, ids[heir]) for name, heir in became.items()))
    settle(transaction)
    tell_ready(transaction, ((environment, id) for id in ids.values()))


def heirs_of(new: Iterable[FunctionSpec], known: Iterable[FunctionSpec]) -> dict[str, str]:
    """The function of ``new`` that each former name stands for; ``known`` are those that there were."""
    active = {spec.name: spec.aliases for spec in new}
    return heirs(active, {spec.name: spec.aliases for spec in known if spec.name not in active})


def known_specs(transaction: Transaction, environment: str) -> list[FunctionSpec]:
    """Of all functions that it has or had, as the newest live build with each had it."""
    return [_spec.decode(row[2]) for row in transaction.all(SQL["known"], (environment,))]


def refresh_functions(transaction: Transaction, environment: str, config: EnvironmentConfig) -> None:
    """Put changed settings on the functions as the live build has them. Raises ValueError, as above."""
    known = [_Known(*row) for row in transaction.all(SQL["known"], (environment,))]
    replace_functions(transaction, environment, config, [_spec.decode(each.spec) for each in known if each.active])


def stop_cron(transaction: Transaction, environment: str) -> None:
    transaction.run(SQL["stop_cron"], (environment,))


def _write(
    transaction: Transaction,
    environment: str,
    config: EnvironmentConfig,
    spec: FunctionSpec,
    known: _Known | None,
    former: _Known | None,
) -> str:
    """``former``: what ticked for it under another name until now."""
    options = overlay(spec.options, config.functions.get(spec.name, {}))
    id = known.id if known else new_id(transaction.now)
    ticking = known if known is not None and known.next_cron_at is not None else former
    transaction.run(
        SQL["update" if known else "insert"],
        {
            "id": id,
            "environment": environment,
            "name": spec.name,
            "spec": encode_json(spec),
            "options": encode_json(options),
            "next_cron_at": _next_cron(options, config, ticking, transaction.now),
            "last_cron_at": None if ticking is None else ticking.last_cron_at,
        },
    )
    return id


def _next_cron(options: FunctionOptions, config: EnvironmentConfig, ticking: _Known | None, now: int) -> int | None:
    if options.cron is None or not config.run.cron:
        return None
    if ticking is not None and ticking.next_cron_at is not None:
        before = decode_options(ticking.options)
        if (before.cron, before.timezone) == (options.cron, options.timezone):
            # A tick that is due already, missed while the server was down, is not forgotten by a new build.
            return ticking.next_cron_at
    return next_tick(options.cron, options.timezone, now)
