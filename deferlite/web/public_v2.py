"""Version 2 of the Defer API, which @defer/client 2.x and deferlite's own SDK speak (DEFER-PROTOCOL)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from deferlite.model.clock import to_rfc3339
from deferlite.model.errors import InvalidCursor, NotFound
from deferlite.model.execution import Attempt, Execution, LogLine, State
from deferlite.store import PageRequest
from deferlite.store.queries import LARGEST_PAGE
from deferlite.web.bodies import decoder
from deferlite.web.endpoint import Call, Operation, routes_of
from deferlite.web.errors import JSON, ErrorBody, bad_request, not_found
from deferlite.web.filters import (
    ListBody,
    attempt_page,
    execution_filter,
    list_answer,
    page_info,
    page_request,
    select_attempts,
)
from deferlite.web.services import Services
from deferlite.web.waiting import parse_wait, wait_for
from deferlite.web.wire import (
    BatchAnswer,
    BatchBody,
    CancelBody,
    EnqueueBody,
    ExecutionAnswer,
    ListAnswer,
    ScheduleBody,
    attempt_body,
    execution_body,
    json_answer,
    moment,
    new_execution,
)

BASE = "/public/v2"
_LOG_PAGE = 1000
LineForm = Callable[[int, int, LogLine], str]
_NEVER = frozenset({State.CANCELLED, State.ABORTED, State.DISCARDED})

_read_enqueue = decoder(EnqueueBody)
_read_batch = decoder(BatchBody)
_read_list = decoder(ListBody)
_read_cancel = decoder(CancelBody)
_read_schedule = decoder(ScheduleBody)


def executed_by(call: Call) -> str:
    return "api" if call.principal.execution_id is None else "execution"


async def find(call: Call) -> Execution:
    """The execution of the path, in the caller's environment.

    Raises:
        InvalidId: the path's id is no id.
        ApiError: 404.
    """
    execution_id = call.id
    try:
        return await call.services.store.executions.get(call.environment, execution_id)
    except NotFound:
        raise not_found(f'cannot find execution "{execution_id}"') from None


async def enqueue(call: Call) -> Response:
    new = new_execution(_read_enqueue(await call.body()), call.principal.execution_id)
    rows = await call.services.store.executions.enqueue(call.environment, [new], executed_by=executed_by(call))
    return json_answer(ExecutionAnswer(execution_body(rows[0])), 201)


async def enqueue_batch(call: Call) -> Response:
    parent = call.principal.execution_id
    bodies = _read_batch(await call.body()).executions
    items = [new_execution(body, parent, f"executions[{at}].") for at, body in enumerate(bodies)]
    executions = call.services.store.executions
    rows = await executions.enqueue(call.environment, items, executed_by=executed_by(call)) if items else []
    return json_answer(BatchAnswer([execution_body(row) for row in rows]), 201)


async def list_executions(call: Call) -> Response:
    body = _read_list(await call.body())
    wanted = execution_filter(call.environment, body.filters)
    request = page_request(body.page)
    try:
        page = await call.services.store.executions.list(wanted, request)
    except InvalidCursor as error:
        raise bad_request(f"page.{'after' if request.after else 'before'}: {error}") from None
    return json_answer(list_answer(page))


async def get_execution(call: Call) -> Response:
    return json_answer(ExecutionAnswer(execution_body(await find(call))))


async def get_result(call: Call) -> Response:
    seconds = parse_wait(call.query("wait"))
    services = call.services
    execution = await find(call)
    waited = await wait_for(services.store, services.bus, call.principal, execution, seconds, call.receive)
    if waited is None:
        message = "the caller gave its slot back while it waited, and all are taken: ask again"
        return Response(msgspec.json.encode(Message(message)), 202, None, JSON)
    execution = waited
    headers = {"deferlite-state": execution.state.value}
    if execution.state in (State.SUCCEED, State.FAILED):
        result = await services.store.executions.result(execution.id)
        return Response(result or "null", 200, headers, JSON)
    if execution.state in _NEVER:
        return Response(None, 204, headers)
    message = f'the result of execution "{execution.id}" is not available yet: it is "{execution.state}"'
    return Response(msgspec.json.encode(Message(message)), 202, headers, JSON)


async def get_arguments(call: Call) -> Response:
    """The array alone, as on Defer; with ``?keyword_arguments=1`` an object of both, named as in the enqueue."""
    execution = await find(call)
    arguments, keywords = await call.services.store.executions.arguments(execution.id)
    if call.query("keyword_arguments") in (None, "", "0"):
        return Response(arguments, 200, None, JSON)
    return Response(f'{{"function_arguments":{arguments},"keyword_arguments":{keywords}}}', 200, None, JSON)


async def get_logs(call: Call) -> Response:
    """Lines ``TIME STREAM TEXT``; as JSON lines for a caller that accepts ``application/x-ndjson``."""
    execution = await find(call)
    accept = next((value for name, value in call.scope["headers"] if name == b"accept"), b"")
    if b"application/x-ndjson" in accept:
        lines = _log_lines(call.services, execution.id, _json_line)
        return StreamingResponse(lines, media_type="application/x-ndjson")
    return StreamingResponse(_log_lines(call.services, execution.id, _plain_line), media_type="text/plain")


async def cancel(call: Call) -> Response:
    execution_id, forced = (await find(call)).id, _read_cancel(await call.body()).forced
    row = await call.services.store.executions.cancel(call.environment, execution_id, forced)
    return json_answer(ExecutionAnswer(execution_body(row)))


async def reschedule(call: Call) -> Response:
    body = _read_schedule(await call.body())
    execution_id = (await find(call)).id
    at = moment(body.schedule_for, "schedule_for")
    row = await call.services.store.executions.reschedule(call.environment, execution_id, at)
    return json_answer(ExecutionAnswer(execution_body(row)))


async def rerun(call: Call) -> Response:
    execution_id = (await find(call)).id
    row = await call.services.store.executions.rerun(call.environment, execution_id)
    return json_answer(ExecutionAnswer(execution_body(row)))


async def list_attempts(call: Call) -> Response:
    body = _read_list(await call.body())
    request = page_request(body.page)
    execution = await find(call)
    rows = select_attempts(await all_attempts(call.services, execution.id), execution, body.filters)
    page = attempt_page(rows, request)
    return json_answer(ListAnswer([attempt_body(execution, row) for row in page.items], page_info(page)))


async def all_attempts(services: Services, execution_id: str) -> list[Attempt]:
    """Every attempt, newest first."""
    rows: list[Attempt] = []
    request = PageRequest(first=LARGEST_PAGE)
    while True:
        page = await services.store.executions.attempts(execution_id, page=request)
        rows.extend(page.items)
        if not page.has_next_page:
            return rows
        request = PageRequest(first=LARGEST_PAGE, after=page.end_cursor)


async def _log_lines(services: Services, execution_id: str, form: LineForm) -> AsyncIterator[str]:
    after = 0
    while rows := await services.store.logs.read(execution_id, after, _LOG_PAGE):
        after = rows[-1][0]
        yield "".join(form(*row) for row in rows)


def _plain_line(seq: int, attempt: int, line: LogLine) -> str:
    return f"{to_rfc3339(line.time)} {line.stream} {line.text}\n"


class LogLineBody(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a log; ``seq`` grows, ``stream`` is stdout, stderr, logging or system."""

    seq: int
    attempt: int
    time: str
    stream: str
    level: str
    text: str


def _json_line(seq: int, attempt: int, line: LogLine) -> str:
    body = LogLineBody(
        seq=seq,
        attempt=attempt,
        time=to_rfc3339(line.time),
        stream=line.stream,
        level=line.level,
        text=line.text,
    )
    return msgspec.json.encode(body).decode() + "\n"


class Message(msgspec.Struct, frozen=True):
    message: str


_ONE = f"{BASE}/executions/{{id}}"
_BAD, _GONE = {400: ErrorBody}, {400: ErrorBody, 404: ErrorBody}
_RESULT = {
    200: "The result as JSON; of a failed execution its error (name, message, stack). Header Deferlite-State.",
    202: Message,
    204: None,
}
_LOGS = {200: "text/plain: lines `TIME STREAM TEXT`; JSON lines with Accept: application/x-ndjson."}
_ARGUMENTS = {200: "The arguments as a JSON array."}

OPERATIONS = (
    Operation(
        method="PUT",
        path=f"{BASE}/executions",
        handler=enqueue,
        summary="Enqueue an execution",
        body=EnqueueBody,
        answers={201: ExecutionAnswer, **_BAD, 409: ErrorBody},
    ),
    Operation(
        method="POST",
        path=f"{BASE}/executions",
        handler=list_executions,
        summary="List executions, newest first",
        body=ListBody,
        answers={200: ListAnswer, **_BAD},
    ),
    Operation(
        method="GET",
        path=f"{BASE}/executions",
        handler=list_executions,
        summary="List executions; the body is the one of POST",
        answers={200: ListAnswer, **_BAD},
    ),
    Operation(
        method="PUT",
        path=f"{BASE}/executions/batch",
        handler=enqueue_batch,
        summary="Enqueue up to 10,000 executions, all or none",
        body=BatchBody,
        answers={201: BatchAnswer, **_BAD, 409: ErrorBody},
    ),
    Operation(
        method="GET",
        path=_ONE,
        handler=get_execution,
        summary="One execution",
        answers={200: ExecutionAnswer, **_GONE},
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/results",
        handler=get_result,
        summary="The result: 202 not available yet, 204 never will be",
        answers={**_RESULT, **_GONE},
        query={"wait": "Seconds to wait for the result, up to 300."},
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/arguments",
        handler=get_arguments,
        summary="The arguments",
        answers={**_ARGUMENTS, **_GONE},
        query={"keyword_arguments": "1: an object with function_arguments and keyword_arguments."},
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/logs",
        handler=get_logs,
        summary="The log of all attempts",
        answers={**_LOGS, **_GONE},
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/cancellation",
        handler=cancel,
        summary="Cancel; with force also abort a running one",
        body=CancelBody,
        answers={200: ExecutionAnswer, 202: ErrorBody, **_GONE, 409: ErrorBody},
    ),
    Operation(
        method="PATCH",
        path=f"{_ONE}/schedule",
        handler=reschedule,
        summary="Move an execution that has not started; without a time to now",
        body=ScheduleBody,
        answers={200: ExecutionAnswer, **_GONE, 409: ErrorBody},
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/reruns",
        handler=rerun,
        summary="Run it again as a new execution",
        answers={200: ExecutionAnswer, **_GONE, 409: ErrorBody},
    ),
    Operation(
        method="POST",
        path=f"{_ONE}/attempts",
        handler=list_attempts,
        summary="List the attempts, newest first, shaped as executions",
        body=ListBody,
        answers={200: ListAnswer, **_GONE},
    ),
    Operation(
        method="GET",
        path=f"{_ONE}/attempts",
        handler=list_attempts,
        summary="List the attempts; the body is the one of POST",
        answers={200: ListAnswer, **_GONE},
    ),
)


def routes(services: Services) -> list[Route]:
    return routes_of(services, OPERATIONS)
