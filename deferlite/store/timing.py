"""What time does: delays end, discards come due, cron ticks."""

from __future__ import annotations

from deferlite.model.ids import new_id
from deferlite.model.schedule import latest_tick, next_tick
from deferlite.store.database import Database
from deferlite.store.events import tell_changed, tell_ready
from deferlite.store.rows import decode_options, to_execution
from deferlite.store.statements import EXECUTIONS as SQL
from deferlite.store.writer import Transaction

MOST_SETTLED = 250
"""Executions that one transaction moves or fails, so that a long queue does not hold the writer."""


def promote(transaction: Transaction, *, now: int) -> tuple[set[str], bool]:
    """The functions, and whether ``settle`` has more to do: also what a release that was given up left to it."""
    rows = transaction.all(SQL["promote"], {"now": now})
    tell_ready(transaction, ((row[0], row[1]) for row in rows))
    return {row[1] for row in rows}, settle(transaction)


def discard(transaction: Transaction, *, now: int) -> int:
    rows = transaction.all(SQL["discard"], {"now": now})
    tell_changed(transaction, map(to_execution, rows))
    return len(rows)


def settle(transaction: Transaction) -> bool:
    """What waits of functions that are not in the live build goes to those they have become; without one it fails.

    Whether there is more of it.
    """
    where = {"now": transaction.now, "most": MOST_SETTLED}
    taken_over = transaction.all(SQL["take_over"], where)
    tell_ready(transaction, taken_over)
    orphans = [to_execution(row) for row in transaction.all(SQL["fail_orphans"], where)]
    tell_changed(transaction, orphans)
    return MOST_SETTLED in (len(taken_over), len(orphans))


def cancel_waiting(transaction: Transaction, environment: str, most: int = -1) -> None:
    """Cancel ``most`` of what waits in the environment; -1: all."""
    rows = transaction.all(SQL["cancel_waiting"], {"environment": environment, "now": transaction.now, "most": most})
    tell_changed(transaction, map(to_execution, rows))


def empty_retired(transaction: Transaction) -> bool:
    """Cancel what still waits in a retired preview. Whether there was one."""
    row = transaction.one(SQL["retired_waiting"])
    if row is not None:
        cancel_waiting(transaction, row[0], MOST_SETTLED)
    return row is not None


async def settle_all(database: Database) -> None:
    """All that is done in pieces; other operations of the writer come in between."""
    while await database.write(lambda transaction: settle(transaction) or empty_retired(transaction), "settle"):
        pass


def tick_cron(transaction: Transaction, *, now: int) -> int:
    ticked = [
        (environment, id)
        for id, environment, name, options, due in transaction.all(SQL["due_crons"], {"now": now})
        if _tick(transaction, id, environment, name, options, due, now)
    ]
    tell_ready(transaction, ticked)
    return len(ticked)


def _tick(transaction: Transaction, id: str, environment: str, name: str, options: str, due: int, now: int) -> bool:
    decoded = decode_options(options)
    if decoded.cron is None:
        transaction.run(SQL["set_cron"], {"id": id, "next": None, "last": None})
        return False
    tick = latest_tick(decoded.cron, decoded.timezone, due, now)
    following = next_tick(decoded.cron, decoded.timezone, now)
    transaction.run(SQL["set_cron"], {"id": id, "next": following, "last": tick})
    row = {"id": new_id(now), "environment": environment, "function_id": id, "function_name": name}
    # Zero rows: this very tick has run before, and the clock was set back since.
    return transaction.run(SQL["insert_tick"], row | {"tick": tick, "now": now}) == 1
