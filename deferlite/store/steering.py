"""What people and applications do to an execution: cancel, reschedule, run again."""

from __future__ import annotations

from deferlite.model.errors import AbortInProgress, Conflict, NotFound
from deferlite.model.events import AbortRequested
from deferlite.model.execution import Execution, NewExecution, State
from deferlite.store.enqueueing import enqueue
from deferlite.store.events import tell_changed, tell_enqueued
from deferlite.store.rows import decode_metadata, to_execution
from deferlite.store.statements import EXECUTIONS as SQL
from deferlite.store.timing import settle
from deferlite.store.writer import Transaction


def cancel(transaction: Transaction, *, environment: str | None, id: str, force: bool) -> Execution:
    where = {"id": id, "environment": environment, "now": transaction.now}
    row = transaction.one(SQL["cancel"], where)
    if row is None and force:
        row = transaction.one(SQL["start_aborting"], where)
    if row is None:
        raise _refusal(transaction, environment, id, "cancel", force)
    execution = to_execution(row)
    tell_changed(transaction, [execution])
    if execution.state is State.ABORTING:
        transaction.publish(AbortRequested(environment=execution.environment, execution_id=id))
    return execution


def reschedule(transaction: Transaction, *, environment: str | None, id: str, scheduled_at: int | None) -> Execution:
    now = transaction.now
    moment = now if scheduled_at is None else scheduled_at
    where = {"id": id, "environment": environment, "now": now, "scheduled_at": moment}
    row = transaction.one(SQL["reschedule"], where | {"ready": int(moment <= now)})
    if row is None:
        raise _refusal(transaction, environment, id, "reschedule", False)
    execution = to_execution(row)
    tell_changed(transaction, [execution])
    tell_enqueued(transaction, [execution])
    settle(transaction)
    return execution


def rerun(transaction: Transaction, *, environment: str | None, id: str) -> Execution:
    row = transaction.one(SQL["original"], {"id": id, "environment": environment})
    if row is None:
        raise NotFound(f'cannot find execution "{id}"')
    owner, function_name, arguments, keyword_arguments, metadata, priority, concurrency_key = row
    item = NewExecution(
        function_name=function_name,
        arguments=arguments,
        keyword_arguments=keyword_arguments,
        metadata=decode_metadata(metadata),
        priority=priority,
        concurrency_key=concurrency_key,
    )
    return enqueue(transaction, environment=owner, items=[item], executed_by="rerun", rerun_of=id)[0]


def cancel_excess(transaction: Transaction, *, function_id: str) -> int:
    rows = transaction.all(SQL["cancel_excess"], {"function_id": function_id, "now": transaction.now})
    tell_changed(transaction, map(to_execution, rows))
    return len(rows)


def _refusal(transaction: Transaction, environment: str | None, id: str, verb: str, force: bool) -> Exception:
    row = transaction.one(SQL["get"], {"id": id, "environment": environment})
    if row is None:
        return NotFound(f'cannot find execution "{id}"')
    state = to_execution(row).state
    if force and state is State.ABORTING:
        return AbortInProgress(f'execution "{id}" is being aborted already')
    return Conflict(f'cannot {verb} execution in "{state}" state')
