"""Executions of the in-process backend: one mutable record each, and the listing of them."""

from __future__ import annotations

import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from deferlite.sdk.current import CurrentExecution
from deferlite.sdk.errors import BadRequest, value_of
from deferlite.sdk.executions import Execution, NewExecution, Page, Query, State, parse_time
from deferlite.sdk.payload import check, decode, encode

_PAGE = 20


@dataclass(eq=False)
class Record:
    """One execution in memory. Only the holder of the backend's lock changes it."""

    request: NewExecution
    sequence: int
    arguments: str
    """As JSON text: every attempt gets a copy of its own."""
    execution: Execution
    """As it is now; replaced at every change."""
    attempts: list[Execution] = field(default_factory=list)
    result: str | None = None
    cause: BaseException | None = None
    """What the last attempt raised."""
    waiters: int = 0
    """Calls inside this execution that wait for another one; its slot is free meanwhile."""
    over: Future[None] = field(default_factory=Future)

    @classmethod
    def of(cls, request: NewExecution, sequence: int, parent_id: str | None, rerun_of: str | None) -> Record:
        now, name = utc_now(), request.definition.name
        execution = Execution(
            id=str(uuid.uuid4()),
            state="created",
            function_name=name,
            function_id=name,
            scheduled_at=request.scheduled_at or now,
            created_at=now,
            updated_at=now,
            metadata=dict(request.options.metadata),
            parent_id=parent_id,
            rerun_of=rerun_of,
            executed_by="api",
        )
        record = cls(request, sequence, encode([request.arguments, request.keyword_arguments]), execution)
        record.over.set_running_or_notify_cancel()  # Whoever stops waiting for it must not cancel it.
        return record

    @property
    def lane(self) -> tuple[str, str | None]:
        """Its function and its concurrency key: where one of them has to wait, all have to."""
        return self.execution.function_name, self.request.options.concurrency_key

    def turn(self) -> tuple[int, int]:
        return -self.request.options.priority, self.sequence

    def is_expired(self, now: datetime) -> bool:
        return self.request.discard_at is not None and self.request.discard_at <= now and not self.attempts

    def change(self, state: State, **fields: Any) -> None:
        self.execution = replace(self.execution, state=state, updated_at=utc_now(), **fields)

    def begin(self) -> None:
        """A new attempt."""
        self.change("started", started_at=utc_now(), attempt=len(self.attempts) + 1)
        self.attempts.append(self.execution)

    def retry(self, moment: datetime) -> None:
        self._close_attempt("failed")
        self.change("created", scheduled_at=moment)

    def end(self, state: State) -> None:
        if state == "failed" and self.cause is not None:
            self.result = encode(_error_object(self.cause))
        self._close_attempt(state)
        self.change(state, finished_at=utc_now(), error_code=_error_code(state))
        self.over.set_result(None)

    def _close_attempt(self, state: State) -> None:
        if self.attempts and not self.attempts[-1].ended:
            now = utc_now()
            closed = replace(self.attempts[-1], state=state, updated_at=now, finished_at=now)
            self.attempts[-1] = replace(closed, error_code=_error_code(state))

    def current(self) -> CurrentExecution:
        return CurrentExecution(self.execution.id, self.lane[0], len(self.attempts))

    def call(self) -> Any:
        """What the function gives: its value, or something to await."""
        arguments, keywords = decode(self.arguments)
        return self.request.definition.fn(*arguments, **keywords)

    def keep(self, value: Any) -> None:
        check(value, f"the result of {self.lane[0]}()")
        self.result = encode(value)

    def value(self) -> Any:
        return value_of(self.execution, None if self.result is None else decode(self.result))


def _error_code(state: State) -> str | None:
    return "ER0003" if state == "failed" else None


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def _error_object(error: BaseException) -> dict[str, str]:
    """``name``, ``message`` and ``stack``; the stack from the application's first frame on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(("deferlite.sdk", "asyncio")):
        trace = trace.tb_next
    stack = "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))
    return {"name": type(error).__name__, "message": str(error), "stack": stack}


def select(executions: Iterable[Execution], query: Query, cursor: Callable[[Execution], str]) -> Page[Execution]:
    """One page of ``executions``, which come newest first."""
    page, filters = query["page"], query["filters"]
    found = [execution for execution in executions if _matches(execution, filters)]
    cursors = [cursor(execution) for execution in found]
    start = _position(cursors, page["after"]) + 1 if "after" in page else 0
    end = _position(cursors, page["before"]) if "before" in page else len(found)
    if "last" in page:
        start = max(start, end - page["last"])
    else:
        end = min(end, start + page.get("first", _PAGE))
    ends = (cursors[start], cursors[end - 1]) if start < end else (None, None)
    return Page(tuple(found[start:end]), end < len(found), start > 0, *ends)


def _position(cursors: list[str], cursor: str) -> int:
    try:
        return cursors.index(cursor)
    except ValueError:
        raise BadRequest(f"{cursor!r} is no cursor of this list: take start_cursor or end_cursor of a page") from None


def _matches(execution: Execution, filters: Mapping[str, Any]) -> bool:
    return (
        execution.state in filters.get("states", (execution.state,))
        and execution.function_id in filters.get("function_ids", (execution.function_id,))
        and execution.error_code in filters.get("error_codes", (execution.error_code,))
        and execution.executed_by == filters.get("executed_by", execution.executed_by)
        and _within(execution.scheduled_at, filters.get("scheduled_at", {}))
        and _within(execution.started_at, filters.get("started_at", {}))
        and all(execution.metadata.get(wanted["key"]) in wanted["values"] for wanted in filters.get("metadata", ()))
    )


def _within(moment: datetime | None, interval: Mapping[str, str]) -> bool:
    if moment is None:
        return not interval
    after = "from" not in interval or moment >= parse_time(interval["from"])
    return after and ("to" not in interval or moment <= parse_time(interval["to"]))
