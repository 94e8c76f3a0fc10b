"""Claim, finish and recover: the only ways into and out of the running states."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

from deferlite.model.execution import (
    MAX_INTERRUPTIONS,
    Claimed,
    Ending,
    ErrorCode,
    Execution,
    Outcome,
    State,
    encode_json,
    error_result,
)
from deferlite.model.retry import Verdict, decide
from deferlite.sdk.retry import RetryPolicy
from deferlite.store.events import tell_changed, tell_enqueued, tell_state
from deferlite.store.queries import Want
from deferlite.store.rows import decode_options, to_claimed, to_execution
from deferlite.store.statements import EXECUTIONS as SQL
from deferlite.store.timing import settle
from deferlite.store.writer import Transaction

_CUT_OFF = error_result("InterruptedError", "the server ended while this attempt ran; the execution runs again")
_CUT_OFF_FOR_GOOD = error_result(
    "InterruptedError",
    f"the server ended {MAX_INTERRUPTIONS} times while this ran, so it is not started again by itself; "
    "run it again once you know that it is not what ends the server",
)

RunningSet = set[tuple[str, int]]
"""Execution ids and attempts that run now; changed on the event loop alone, after the commit."""


MOST_KEYS = 1000
"""Concurrency keys of one function that one claim looks at: more than may run at once, so that some are free."""

KeyTurns = dict[str, str]
"""Of functions with more waiting keys than that, by id: the key at which the last look ended."""


def claim(
    transaction: Transaction,
    *,
    wants: Sequence[Want],
    boot_id: str,
    sandbox: str,
    parked: Sequence[str],
    known: RunningSet,
    turns: KeyTurns,
) -> list[Claimed]:
    claimed: list[Claimed] = []
    for want in wants:
        claimed += _claim_one(transaction, want, encode_json(parked), turns)
    now = transaction.now
    transaction.many(
        SQL["insert_attempt"],
        [(item.id, item.attempt, item.build_id, boot_id, sandbox, now) for item in claimed],
    )
    for item in claimed:
        transaction.then(partial(known.add, (item.id, item.attempt)))
        tell_state(transaction, item, State.STARTED)
    return claimed


def _claim_one(transaction: Transaction, want: Want, parked: str, turns: KeyTurns) -> list[Claimed]:
    where = {"function_id": want.function_id, "environment": want.environment}
    if want.slots <= 0 or transaction.one(SQL["may_run"], where) is None:
        return []
    keys = _free_keys(transaction, where | {"parked": parked}, turns)
    rows = transaction.all(SQL["claim"], where | {"slots": want.slots, "now": transaction.now, "keys": keys})
    # RETURNING promises no order.
    rows.sort(key=lambda row: (-row[0], row[1]))
    return [to_claimed(row[2:]) for row in rows]


def _free_keys(transaction: Transaction, where: dict[str, Any], turns: KeyTurns) -> str:
    """Keys of which one may start, as JSON; with more than ``MOST_KEYS`` waiting, the next ones in turn."""
    after = turns.pop(where["function_id"], "")
    rows = transaction.all(SQL["waiting_keys"], where | {"after": after, "most": MOST_KEYS})
    if len(rows) == MOST_KEYS:
        turns[where["function_id"]] = rows[-1][0]
    elif after:
        rows += transaction.all(SQL["waiting_keys"], where | {"after": "", "most": MOST_KEYS - len(rows)})
    return encode_json(list(dict.fromkeys(key for key, free in rows if free)))


def finish(
    transaction: Transaction, *, endings: Sequence[tuple[str, int, Outcome]], known: RunningSet
) -> list[Execution]:
    changed: list[Execution] = []
    for id, attempt, outcome in endings:
        transaction.then(partial(known.discard, (id, attempt)))
        execution = _finish_one(transaction, id, attempt, outcome)
        if execution is not None:
            changed.append(execution)
    return _tell(transaction, changed)


def _finish_one(transaction: Transaction, id: str, attempt: int, outcome: Outcome) -> Execution | None:
    if outcome.ending is Ending.RETURNED:
        where = {"id": id, "attempt": attempt, "now": transaction.now, "result": outcome.result}
        row = transaction.one(SQL["succeed"], where)
        if row is not None:
            _end_attempt(transaction, id, attempt, outcome, State.SUCCEED)
            return to_execution(row)
    row = transaction.one(SQL["running_attempt"], {"id": id, "attempt": attempt})
    if row is None:
        return None
    state, retries, interruptions, options = row
    verdict = decide(
        State(state),
        outcome.ending,
        decode_options(options).retry,
        retries=retries,
        interruptions=interruptions,
        now=transaction.now,
        spread=random.random(),
    )
    return _carry_out(transaction, id, attempt, outcome, verdict)


def recover(transaction: Transaction, *, boot_id: str) -> list[Execution]:
    changed: list[Execution] = []
    for id, attempt, state, retries, interruptions in transaction.all(SQL["left_running"], {"boot_id": boot_id}):
        verdict = decide(
            State(state),
            Ending.INTERNAL,
            RetryPolicy(),
            retries=retries,
            interruptions=interruptions,
            now=transaction.now,
            spread=0.0,
        )
        result = _CUT_OFF_FOR_GOOD if verdict.state is State.FAILED else _CUT_OFF
        execution = _carry_out(transaction, id, attempt, Outcome(ending=Ending.INTERNAL, result=result), verdict)
        if execution is not None:
            changed.append(execution)
    return _tell(transaction, changed)


def _carry_out(transaction: Transaction, id: str, attempt: int, outcome: Outcome, verdict: Verdict) -> Execution | None:
    where: dict[str, Any] = {"id": id, "attempt": attempt, "now": transaction.now}
    if verdict.state is State.ABORTED:
        row = transaction.one(SQL["abort"], where)
    elif verdict.state is State.FAILED:
        where |= {"error_code": _text(verdict.error_code), "interruptions": verdict.interruptions}
        row = transaction.one(SQL["fail"], where | {"result": outcome.result})
    else:
        where |= {"retries": verdict.retries, "interruptions": verdict.interruptions}
        due = verdict.scheduled_at is None or verdict.scheduled_at <= transaction.now
        where |= {"ready": int(due), "scheduled_at": verdict.scheduled_at}
        row = transaction.one(SQL["put_back"], where)
        if verdict.scheduled_at is not None:
            transaction.probes.add("retry")
    if row is None:
        return None
    _end_attempt(transaction, id, attempt, outcome, verdict.attempt_state, verdict.error_code, verdict.interrupted)
    return to_execution(row)


def _end_attempt(
    transaction: Transaction,
    id: str,
    attempt: int,
    outcome: Outcome,
    state: State,
    error_code: ErrorCode | None = None,
    interrupted: bool = False,
) -> None:
    transaction.run(
        SQL["end_attempt"],
        {
            "id": id,
            "attempt": attempt,
            "state": state.value,
            "error_code": _text(error_code),
            "interrupted": int(interrupted),
            "result": None if state is State.SUCCEED else outcome.result,
            "cpu_time": outcome.cpu_time,
            "memory_peak": outcome.memory_peak,
            "now": transaction.now,
        },
    )


def _text(code: ErrorCode | None) -> str | None:
    return None if code is None else code.value


def _tell(transaction: Transaction, changed: list[Execution]) -> list[Execution]:
    tell_changed(transaction, changed)
    tell_enqueued(transaction, changed)
    if any(execution.state is State.CREATED for execution in changed):
        # It may have gone back to a function that a build has removed meanwhile.
        settle(transaction)
    return changed
