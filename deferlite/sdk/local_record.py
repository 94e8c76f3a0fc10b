"""Executions of the in-process backend: one mutable record each, and the listing of them."""

from __future__ import annotations

import asyncio
import inspect
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter
from types import TracebackType
from typing import Any

from deferlite.sdk.errors import BadRequest
from deferlite.sdk.executions import (
    TERMINAL,
    CurrentExecution,
    Ended,
    Execution,
    NewExecution,
    Page,
    Query,
    State,
)
from deferlite.sdk.payload import check, decode, encode

RAISED = "ER0003"
_PAGE = 20


@dataclass(eq=False)
class Record:
    """One execution in memory. Only the holder of the backend's lock changes it."""

    request: NewExecution
    scheduled_at: datetime
    created_at: datetime
    sequence: int
    arguments: str
    """Arguments as JSON text: every attempt gets a copy of its own."""
    parent_id: str | None = None
    rerun_of: str | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: State = "created"
    updated_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    retries: int = 0
    error_code: str | None = None
    result: str | None = None
    cause: BaseException | None = None
    """What the last attempt raised."""
    attempts: list[Execution] = field(default_factory=list)
    ticket: int = 0
    """Counts its places in the queue: an entry with an older ticket is void."""
    has_slot: bool = False
    waiters: int = 0
    """Calls inside this execution that wait for another one; its slot is free meanwhile."""
    watchers: list[Callable[[], None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.request.definition.name

    def current(self) -> CurrentExecution:
        return CurrentExecution(self.id, self.name, len(self.attempts))

    def snapshot(self) -> Execution:
        return Execution(
            id=self.id,
            state=self.state,
            function_name=self.name,
            function_id=self.name,
            scheduled_at=self.scheduled_at,
            created_at=self.created_at,
            updated_at=self.updated_at or self.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            attempt=len(self.attempts),
            error_code=self.error_code,
            metadata=dict(self.request.metadata),
            parent_id=self.parent_id,
            rerun_of=self.rerun_of,
            executed_by="api",
        )

    @property
    def is_over(self) -> bool:
        return self.state in TERMINAL

    def ended(self) -> Ended | None:
        if not self.is_over:
            return None
        return Ended(self.state, None if self.result is None else decode(self.result), self.snapshot())

    def move(self, state: State, now: datetime) -> None:
        self.state, self.updated_at = state, now

    def begin(self, now: datetime) -> None:
        """A new attempt."""
        self.move("started", now)
        self.started_at = now
        self.attempts.append(replace(self.snapshot(), attempt=len(self.attempts) + 1))

    def close_attempt(self, state: State, now: datetime, error_code: str | None) -> None:
        self.attempts[-1] = replace(
            self.attempts[-1], state=state, updated_at=now, finished_at=now, error_code=error_code
        )


@dataclass(frozen=True)
class Attempted:
    """How an attempt ended: JSON text of the value or of the error object, and what was raised."""

    result: str
    cause: BaseException | None = None


def run(record: Record) -> Attempted:
    """Call the function in this thread; an async one in an event loop of its own."""
    try:
        value = _call(record)
        return _returned(record, asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value)
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        return _raised(error)


async def arun(record: Record) -> Attempted:
    """Call the function in the running event loop."""
    try:
        value = _call(record)
        return _returned(record, await value if inspect.isawaitable(value) else value)
    except (Exception, SystemExit) as error:
        return _raised(error)


def _call(record: Record) -> Any:
    arguments, keywords = decode(record.arguments)
    return record.request.definition.fn(*arguments, **keywords)


async def _awaited(value: Any) -> Any:
    return await value


def _returned(record: Record, value: Any) -> Attempted:
    check(value, f"the result of {record.name}()")
    return Attempted(encode(value))


def _raised(error: BaseException) -> Attempted:
    trace = _own_frames(error.__traceback__)
    stack = "".join(traceback.format_exception(type(error), error, trace))
    fields = {"name": type(error).__name__, "message": _message(error), "stack": stack}
    return Attempted(encode({key: text.encode(errors="replace").decode() for key, text in fields.items()}), error)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its message cannot be read)"


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """The stack from the application's first frame on."""
    first = trace
    while first is not None and first.tb_frame.f_globals.get("__name__", "").startswith(("deferlite.sdk.", "asyncio.")):
        first = first.tb_next
    return first or trace


def select(
    executions: Iterable[Execution], query: Query, cursor: Callable[[Execution], str] = attrgetter("id")
) -> Page[Execution]:
    """One page of ``executions``, which come newest first."""
    found = [execution for execution in executions if _matches(execution, query)]
    cursors = [cursor(execution) for execution in found]
    start = _position(cursors, query.after) + 1 if query.after else 0
    end = _position(cursors, query.before) if query.before else len(found)
    if query.last is not None:
        start = max(start, end - query.last)
    else:
        end = min(end, start + (query.first or _PAGE))
    first, last = (cursors[start], cursors[end - 1]) if start < end else (None, None)
    return Page(tuple(found[start:end]), end < len(found), start > 0, first, last)


def _position(cursors: list[str], cursor: str) -> int:
    try:
        return cursors.index(cursor)
    except ValueError:
        raise BadRequest(f"{cursor!r} is no cursor of this list: take start_cursor or end_cursor of a page") from None


def _matches(execution: Execution, query: Query) -> bool:
    return (
        (not query.states or execution.state in query.states)
        and (not query.function_ids or execution.function_id in query.function_ids)
        and (not query.error_codes or execution.error_code in query.error_codes)
        and _within(execution.scheduled_at, query.scheduled_from, query.scheduled_to)
        and _within(execution.started_at, query.started_from, query.started_to)
        and query.executed_by in (None, execution.executed_by)
        and _has_metadata(execution.metadata, query.metadata)
    )


def _within(moment: datetime | None, start: datetime | None, end: datetime | None) -> bool:
    if start is None and end is None:
        return True
    return moment is not None and (start is None or moment >= start) and (end is None or moment <= end)


def _has_metadata(metadata: Mapping[str, str], wanted: Mapping[str, tuple[str, ...]]) -> bool:
    return all(metadata.get(key) in values for key, values in wanted.items())
