"""What the store tells about executions after a commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from deferlite.model.events import ExecutionChanged, ExecutionsEnqueued
from deferlite.model.execution import Claimed, Execution, State
from deferlite.store.writer import Transaction


def tell_changed(transaction: Transaction, executions: Iterable[Execution]) -> None:
    """One event for each."""
    for execution in executions:
        tell_state(transaction, execution, execution.state)


def tell_state(transaction: Transaction, execution: Execution | Claimed, state: State) -> None:
    transaction.publish(
        ExecutionChanged(
            environment=execution.environment,
            execution_id=execution.id,
            function_name=execution.function_name,
            state=state,
            attempt=execution.attempt,
        )
    )


def tell_enqueued(transaction: Transaction, executions: Iterable[Execution]) -> None:
    """One event for each environment that has some of ``executions`` in state created."""
    functions: defaultdict[str, set[str]] = defaultdict(set)
    due: dict[str, int] = {}
    for execution in executions:
        if execution.state is not State.CREATED:
            continue
        functions[execution.environment].add(execution.function_id)
        moment = _due(execution, transaction.now)
        if moment is not None:
            due[execution.environment] = min(moment, due.get(execution.environment, moment))
    for environment, function_ids in functions.items():
        transaction.publish(
            ExecutionsEnqueued(
                environment=environment, function_ids=frozenset(function_ids), due_at=due.get(environment)
            )
        )


def tell_ready(transaction: Transaction, functions: Iterable[tuple[str, str]]) -> None:
    """Functions, as pairs of environment and id, whose executions may be claimed now."""
    by_environment: defaultdict[str, set[str]] = defaultdict(set)
    for environment, function_id in functions:
        by_environment[environment].add(function_id)
    for environment, function_ids in by_environment.items():
        transaction.publish(ExecutionsEnqueued(environment=environment, function_ids=frozenset(function_ids)))


def _due(execution: Execution, now: int) -> int | None:
    moments = [execution.scheduled_at] if execution.scheduled_at > now else []
    if execution.discard_at is not None:
        moments.append(execution.discard_at)
    return min(moments, default=None)
