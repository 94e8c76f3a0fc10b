"""Pages and filters of lists, as they are sent and as the store takes them (DEFER-PROTOCOL: HTTP API v2)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from deferlite.model.execution import Attempt, ErrorCode, Execution, State
from deferlite.model.ids import InvalidId, parse_id
from deferlite.store.queries import DEFAULT_PAGE, LARGEST_PAGE, ExecutionFilter, Page, PageRequest, Span
from deferlite.web.errors import bad_request
from deferlite.web.wire import ListAnswer, Moment, PageInfo, execution_body, moment

Count = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_PAGE)]


class PageBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``first`` with ``after``, or ``last`` with ``before``; newest first."""

    first: Count | None = None
    after: str | None = None
    last: Count | None = None
    before: str | None = None


class Between(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Both ends included; one left out is open."""

    from_: Moment | None = msgspec.field(name="from", default=None)
    to: Moment | None = None


class MetadataFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Any of ``values`` of the key."""

    key: str
    values: Annotated[list[str], msgspec.Meta(min_length=1)]


class Filters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values within one key are alternatives; different keys narrow."""

    states: list[State] | None = None
    function_ids: list[str] | None = None
    error_codes: list[ErrorCode] | None = None
    scheduled_at: Between | None = None
    started_at: Between | None = None
    executed_by: str | None = None
    metadata: list[MetadataFilter] | None = None


class ListBody(msgspec.Struct, frozen=True, kw_only=True):
    page: PageBody | None = None
    filters: Filters | None = None


def page_request(body: PageBody | None) -> PageRequest:
    """
    Raises:
        ApiError: 400, the two directions are mixed.
    """
    if body is None:
        return PageRequest()
    forward = body.first is not None or body.after is not None
    backward = body.last is not None or body.before is not None
    if forward and backward:
        raise bad_request("page: write first with after, or last with before, not parts of both")
    last = body.last or (DEFAULT_PAGE if backward else None)
    return PageRequest(first=body.first, after=body.after or None, last=last, before=body.before or None)


def list_answer(page: Page[Execution]) -> ListAnswer:
    return ListAnswer([execution_body(row) for row in page.items], page_info(page))


def page_info(page: Page[Execution] | Page[Attempt]) -> PageInfo:
    return PageInfo(
        has_next_page=page.has_next_page,
        has_prev_page=page.has_prev_page,
        start_cursor=page.start_cursor,
        end_cursor=page.end_cursor,
    )


def execution_filter(environment: str, body: Filters | None) -> ExecutionFilter:
    """
    Raises:
        ApiError: 400 naming the filter.
    """
    if body is None:
        return ExecutionFilter(environment=environment)
    return ExecutionFilter(
        environment=environment,
        states=tuple(body.states or ()),
        function_ids=tuple(_ids(body.function_ids or [])),
        error_codes=tuple(body.error_codes or ()),
        scheduled_at=_span(body.scheduled_at, "filters.scheduled_at"),
        started_at=_span(body.started_at, "filters.started_at"),
        executed_by=(body.executed_by,) if body.executed_by else (),
        metadata=_metadata(body.metadata or []),
    )


def _ids(texts: list[str]) -> list[str]:
    ids = []
    for position, text in enumerate(texts):
        try:
            ids.append(parse_id(text))
        except InvalidId:
            raise bad_request(f'filters.function_ids[{position}]: "{text[:64]}" is not an id') from None
    return ids


def _span(body: Between | None, field: str) -> Span:
    if body is None:
        return Span()
    span = Span(start=moment(body.from_, f"{field}.from"), end=moment(body.to, f"{field}.to"))
    if span.start is not None and span.end is not None and span.start > span.end:
        raise bad_request(f"{field}: from is later than to")
    return span


def _metadata(body: list[MetadataFilter]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    merged: dict[str, tuple[str, ...]] = {}
    for pair in body:
        merged[pair.key] = (*merged.get(pair.key, ()), *pair.values)
    return tuple(merged.items())


def select_attempts(rows: list[Attempt], execution: Execution, filters: Filters | None) -> list[Attempt]:
    """The attempts, newest first as given, that the filters leave.

    States, error codes and start are an attempt's own; the other filters ask for the execution.
    """
    if filters is None:
        return rows
    wanted = execution_filter(execution.environment, filters)
    if not _is_wanted(execution, wanted):
        return []
    return [row for row in rows if _attempt_is_wanted(row, wanted)]


def _is_wanted(execution: Execution, wanted: ExecutionFilter) -> bool:
    return (
        (not wanted.function_ids or execution.function_id in wanted.function_ids)
        and _within(execution.scheduled_at, wanted.scheduled_at)
        and all(execution.metadata.get(key) in values for key, values in wanted.metadata)
        and (not wanted.executed_by or execution.executed_by in wanted.executed_by)
    )


def _attempt_is_wanted(row: Attempt, wanted: ExecutionFilter) -> bool:
    return (
        (not wanted.states or row.state in wanted.states)
        and (not wanted.error_codes or row.error_code in wanted.error_codes)
        and _within(row.started_at, wanted.started_at)
    )


def _within(value: int, span: Span) -> bool:
    return (span.start is None or value >= span.start) and (span.end is None or value <= span.end)


def attempt_page(rows: list[Attempt], request: PageRequest) -> Page[Attempt]:
    """One page of ``rows``, newest first; the cursor of an attempt is its number.

    Raises:
        ApiError: 400, a cursor that is not one.
    """
    after, before = _number(request.after, "after"), _number(request.before, "before")
    inside = [row for row in rows if (after is None or row.number < after) and (before is None or row.number > before)]
    items = inside[-request.last :] if request.last else inside[: request.first or DEFAULT_PAGE]
    # Of an empty page only the cursor says on which side the others are.
    newest, oldest = (items[0], items[-1]) if items else (None, None)
    return Page(
        items=tuple(items),
        has_next_page=any(row.number < oldest.number for row in rows) if oldest else before is not None,
        has_prev_page=any(row.number > newest.number for row in rows) if newest else after is not None,
        start_cursor=str(newest.number) if newest else None,
        end_cursor=str(oldest.number) if oldest else None,
    )


def _number(cursor: str | None, field: str) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 10):
        raise bad_request(f"page.{field}: take a cursor from page_info of the page before")
    return int(cursor)
