"""Version 2 of the Defer API, which @defer/client 2.x and deferlite's own SDK speak (DEFER-PROTOCOL)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from deferlite.model.clock import to_rfc3339
from deferlite.model.errors import InvalidCursor, NotFound
from deferlite.model.execution import TERMINAL, Attempt, Execution, LogLine, NewExecution, State
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
    log_line,
    moment,
    new_execution,
)

BASE = "/public/v2"
_LOG_PAGE = 1000
LineForm = Callable[[int, int, LogLine], str]

_read_enqueue = decoder(EnqueueBody)
_read_batch = decoder(BatchBody)
_read_list = decoder(ListBody)
_read_cancel = decoder(CancelBody)
_read_schedule = decoder(ScheduleBody)


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


async def add(call: Call, items: Sequence[NewExecution]) -> list[Execution]:
    by = "api" if call.principal.execution_id is None else "execution"
    return await call.services.store.executions.enqueue(call.environment, items, executed_by=by)


async def enqueue(call: Call) -> Response:
    (row,) = await add(call, [new_execution(_read_enqueue(await call.body()), call.principal.execution_id)])
    return json_answer(ExecutionAnswer(execution_body(row)), 201)


async def enqueue_batch(call: Call) -> Response:
    parent = call.principal.execution_id
    bodies = _read_batch(await call.body()).executions
    items = [new_execution(body, parent, f"executions[{at}].") for at, body in enumerate(bodies)]
    rows = await add(call, items) if items else []
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
        return json_answer(Message("the caller gave its slot back while it waited, and all are taken: ask again"), 202)
    headers = {"deferlite-state": waited.state.value}
    if waited.state in (State.SUCCEED, State.FAILED):
        result = await services.store.executions.result(waited.id)
        return Response(result or "null", 200, headers, JSON)
    if waited.state in TERMINAL:
        return Response(None, 204, headers)
    message = f'the result of execution "{waited.id}" is not available yet: it is "{waited.state}"'
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
        lines = _log_lines(call.services, execution.id, log_line)
        return StreamingResponse(lines, media_type="application/x-ndjson")
    return StreamingResponse(_log_lines(call.services, execution.id, _plain_line), media_type="text/plain")


async def cancelled(call: Call) -> Execution:
    execution_id, forced = (await find(call)).id, _read_cancel(await call.body()).forced
    return await call.services.store.executions.cancel(call.environment, execution_id, forced)


async def cancel(call: Call) -> Response:
    return json_answer(ExecutionAnswer(execution_body(await cancelled(call))))


async def rescheduled(call: Call) -> Execution:
    body = _read_schedule(await call.body())
    execution_id = (await find(call)).id
    at = moment(body.schedule_for, "schedule_for")
    return await call.services.store.executions.reschedule(call.environment, execution_id, at)


async def reschedule(call: Call) -> Response:
    return json_answer(ExecutionAnswer(execution_body(await rescheduled(call))))


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


class Message(msgspec.Struct, frozen=True):
    message: str


_ALL = f"{BASE}/executions"
_ONE = f"{_ALL}/{{id}}"
_CHANGED = {200: ExecutionAnswer, 409: ErrorBody}
_RESULT = {
    200: "The result as JSON; of a failed execution its error (name, message, stack). Header Deferlite-State.",
    202: Message,
    204: None,
}
_LOGS = {200: "text/plain: lines `TIME STREAM TEXT`; JSON lines with Accept: application/x-ndjson."}
_WAIT = {"wait": "Seconds to wait for the result, up to 300."}
_KEYWORDS = {"keyword_arguments": "1: an object with function_arguments and keyword_arguments."}
_CANCEL = "Cancel; with force also abort a running one"
_RESCHEDULE = "Move an execution that has not started; without a time to now"
_ATTEMPTS = "List the attempts, newest first, shaped as executions"

OPERATIONS = (
    Operation("PUT", _ALL, enqueue, "Enqueue an execution", {201: ExecutionAnswer, 409: ErrorBody}, body=EnqueueBody),
    Operation("POST", _ALL, list_executions, "List executions, newest first", {200: ListAnswer}, body=ListBody),
    Operation("GET", _ALL, list_executions, "List executions; the body is the one of POST", {200: ListAnswer}),
    Operation(
        "PUT",
        f"{_ALL}/batch",
        enqueue_batch,
        "Enqueue up to 10,000 executions, all or none",
        {201: BatchAnswer, 409: ErrorBody},
        body=BatchBody,
    ),
    Operation("GET", _ONE, get_execution, "One execution", {200: ExecutionAnswer}),
    Operation(
        "GET",
        f"{_ONE}/results",
        get_result,
        "The result: 202 not available yet, 204 never will be",
        _RESULT,
        query=_WAIT,
    ),
    Operation(
        "GET",
        f"{_ONE}/arguments",
        get_arguments,
        "The arguments",
        {200: "The arguments as a JSON array."},
        query=_KEYWORDS,
    ),
    Operation("GET", f"{_ONE}/logs", get_logs, "The log of all attempts", _LOGS),
    Operation("POST", f"{_ONE}/cancellation", cancel, _CANCEL, {**_CHANGED, 202: ErrorBody}, body=CancelBody),
    Operation("PATCH", f"{_ONE}/schedule", reschedule, _RESCHEDULE, _CHANGED, body=ScheduleBody),
    Operation("POST", f"{_ONE}/reruns", rerun, "Run it again as a new execution", _CHANGED),
    Operation("POST", f"{_ONE}/attempts", list_attempts, _ATTEMPTS, {200: ListAnswer}, body=ListBody),
    Operation(
        "GET", f"{_ONE}/attempts", list_attempts, "List the attempts; the body is the one of POST", {200: ListAnswer}
    ),
)


def routes(services: Services) -> list[Route]:
    return routes_of(services, OPERATIONS)
