"""What travels over HTTP: the bodies that are read, the answers that are given, and the limits of both.

Arguments and results pass through as the JSON text they came as; nothing here decodes them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from starlette.responses import Response

from deferlite.model.clock import SECOND, from_datetime, to_rfc3339
from deferlite.model.execution import Attempt, ErrorCode, Execution, LogLine, NewExecution, State
from deferlite.web.errors import JSON, bad_request

MAX_BATCH = 10_000
_MOST_PAIRS = 25
_LONGEST_TEXT = 256
_LAST_MOMENT = 253_402_300_800 * SECOND - 1
"""The end of the year 9999, the last that RFC 3339 can write."""

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Metadata = dict[str, str]


def _array() -> msgspec.Raw:
    return msgspec.Raw(b"[]")


def _object() -> msgspec.Raw:
    return msgspec.Raw(b"{}")


class EnqueueBody(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /executions. Only ``function_name`` is required."""

    function_name: str
    function_arguments: msgspec.Raw = msgspec.field(default_factory=_array)
    keyword_arguments: msgspec.Raw = msgspec.field(default_factory=_object)
    schedule_for: Moment | None = None
    discard_after: Moment | None = None
    metadata: Metadata | None = None
    priority: Annotated[int, msgspec.Meta(ge=-100, le=100)] = 0
    """Higher first."""
    idempotency_key: str | None = None
    """The same key within 24 h answers the same execution."""
    concurrency_key: str | None = None


class BatchBody(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /executions/batch: all or none."""

    executions: Annotated[list[EnqueueBody], msgspec.Meta(max_length=MAX_BATCH)]


class EnqueueV1Body(msgspec.Struct, frozen=True, kw_only=True):
    """POST /enqueue of v1."""

    name: str
    arguments: msgspec.Raw = msgspec.field(default_factory=_array)
    schedule_for: Moment | None = None
    discard_after: Moment | None = None
    metadata: Metadata | None = None


class ForceObject(msgspec.Struct, frozen=True, kw_only=True):
    force: bool = False


class CancelBody(msgspec.Struct, frozen=True, kw_only=True):
    """Some callers hand the client ``{force: true}`` where it wants ``true``; it sends that as it is."""

    force: bool | ForceObject | None = None

    @property
    def forced(self) -> bool:
        return self.force.force if isinstance(self.force, ForceObject) else bool(self.force)


class ScheduleBody(msgspec.Struct, frozen=True, kw_only=True):
    schedule_for: Moment | None = None
    """Null or left out: now."""


class ExecutionBody(msgspec.Struct, frozen=True, kw_only=True):
    """An execution, or one of its attempts. Times are RFC 3339 in UTC."""

    id: str
    state: State
    function_name: str
    function_id: str
    scheduled_at: str
    created_at: str
    updated_at: str
    started_at: str | None
    finished_at: str | None
    attempt: int
    error_code: ErrorCode | None
    metadata: Metadata
    build_id: str | None
    parent_id: str | None
    rerun_of: str | None
    executed_by: str


class PageInfo(msgspec.Struct, frozen=True, kw_only=True):
    has_next_page: bool
    has_prev_page: bool
    start_cursor: str | None
    end_cursor: str | None


class ExecutionAnswer(msgspec.Struct, frozen=True):
    data: ExecutionBody


class BatchAnswer(msgspec.Struct, frozen=True):
    data: list[ExecutionBody]


class ListAnswer(msgspec.Struct, frozen=True):
    data: list[ExecutionBody]
    page_info: PageInfo


class LogLineBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a log; ``seq`` grows, ``stream`` is stdout, stderr, logging or system."""

    seq: int
    attempt: int | None = None
    """None: the log of a build."""
    time: str
    stream: str
    level: str
    text: str


class IdV1(msgspec.Struct, frozen=True):
    id: str


class ExecutionV1(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    state: State
    result: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))


class TryV1(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    state: State


def execution_body(row: Execution) -> ExecutionBody:
    return ExecutionBody(
        id=row.id,
        state=row.state,
        function_name=row.function_name,
        function_id=row.function_id,
        scheduled_at=to_rfc3339(row.scheduled_at),
        created_at=to_rfc3339(row.created_at),
        updated_at=to_rfc3339(row.updated_at),
        started_at=moment_text(row.started_at),
        finished_at=moment_text(row.finished_at),
        attempt=row.attempt,
        error_code=row.error_code,
        metadata=row.metadata,
        build_id=row.build_id,
        parent_id=row.parent_id,
        rerun_of=row.rerun_of,
        executed_by=row.executed_by,
    )


def attempt_body(execution: Execution, row: Attempt) -> ExecutionBody:
    """``row`` shaped as an execution: the id is the execution's, so that every call takes it."""
    started, ended = to_rfc3339(row.started_at), moment_text(row.finished_at)
    return msgspec.structs.replace(
        execution_body(execution),
        state=row.state,
        scheduled_at=started,
        created_at=started,
        updated_at=ended or started,
        started_at=started,
        finished_at=ended,
        attempt=row.number,
        error_code=row.error_code,
        build_id=row.build_id,
    )


def moment_text(moment: int | None) -> str | None:
    return None if moment is None else to_rfc3339(moment)


def log_line(seq: int, attempt: int | None, line: LogLine) -> str:
    """One line of NDJSON."""
    time = to_rfc3339(line.time)
    body = LogLineBody(seq=seq, attempt=attempt, time=time, stream=line.stream, level=line.level, text=line.text)
    return _encode(body).decode() + "\n"


_encode = msgspec.json.Encoder().encode


def json_answer(value: Any, status: int = 200) -> Response:
    """``value`` (a struct, or what msgspec encodes) as a JSON response."""
    return Response(_encode(value), status, None, JSON)


def moment(value: datetime | None, field: str) -> int | None:
    """``value`` in microseconds since 1970; one before that counts as 1970."""
    if value is None:
        return None
    micros = from_datetime(value)
    if micros > _LAST_MOMENT:
        raise bad_request(f"{field}: later than the year 9999")
    return max(0, micros)


def new_execution(body: EnqueueBody, parent_id: str | None, where: str = "") -> NewExecution:
    """What the store is asked for; ``where`` is the path of ``body`` in messages.

    Raises:
        ApiError: 400 naming the field.
    """
    return NewExecution(
        function_name=body.function_name,
        arguments=_raw(body.function_arguments, b"[", f"{where}function_arguments: write a JSON array"),
        keyword_arguments=_raw(body.keyword_arguments, b"{", f"{where}keyword_arguments: write a JSON object"),
        scheduled_at=moment(body.schedule_for, f"{where}schedule_for"),
        discard_at=moment(body.discard_after, f"{where}discard_after"),
        metadata=_metadata(body.metadata, where) if body.metadata else {},
        priority=body.priority,
        idempotency_key=_key(body.idempotency_key, f"{where}idempotency_key"),
        concurrency_key=_key(body.concurrency_key, f"{where}concurrency_key"),
        parent_id=parent_id,
    )


def new_execution_v1(body: EnqueueV1Body, parent_id: str | None) -> NewExecution:
    """As ``new_execution``, in the words of v1."""
    return NewExecution(
        function_name=body.name,
        arguments=_raw(body.arguments, b"[", "arguments: write a JSON array"),
        scheduled_at=moment(body.schedule_for, "schedule_for"),
        discard_at=moment(body.discard_after, "discard_after"),
        metadata=_metadata(body.metadata, "") if body.metadata else {},
        parent_id=parent_id,
    )


def _raw(value: msgspec.Raw, opening: bytes, message: str) -> str:
    text = bytes(value)
    if not text.startswith(opening):
        raise bad_request(message)
    return text.decode()


def _metadata(pairs: Metadata, where: str) -> Metadata:
    if len(pairs) > _MOST_PAIRS:
        raise bad_request(f"{where}metadata: {len(pairs)} pairs; {_MOST_PAIRS} at most")
    for key, value in pairs.items():
        for part, text in (("the key", key), ("the value of", value)):
            if not _is_plain(text):
                raise bad_request(f"{where}metadata: {part} {key[:40]!a} must be 1 to 256 printable ASCII characters")
    return pairs


def _key(text: str | None, field: str) -> str | None:
    if text is not None and not _is_plain(text):
        raise bad_request(f"{field}: write 1 to 256 printable ASCII characters")
    return text


def _is_plain(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_TEXT and text.isascii() and text.isprintable()
