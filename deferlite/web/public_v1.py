"""Version 1 of the Defer API, which @defer/client 1.x speaks, under both of its base paths (DEFER-PROTOCOL)."""

from __future__ import annotations

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from deferlite.model.execution import State
from deferlite.web.bodies import decoder
from deferlite.web.endpoint import Call, Operation, routes_of
from deferlite.web.errors import ErrorBody
from deferlite.web.public_v2 import all_attempts, executed_by, find
from deferlite.web.services import Services
from deferlite.web.wire import (
    CancelBody,
    EnqueueV1Body,
    ExecutionV1,
    IdV1,
    ScheduleBody,
    TryV1,
    json_answer,
    moment,
    new_execution_v1,
)

BASES = ("/public/v1", "/api/v1")
"""Of client 1.5 and later, and of those before."""

_read_enqueue = decoder(EnqueueV1Body)
_read_cancel = decoder(CancelBody)
_read_schedule = decoder(ScheduleBody)


async def enqueue(call: Call) -> Response:
    new = new_execution_v1(_read_enqueue(await call.body()), call.principal.execution_id)
    rows = await call.services.store.executions.enqueue(call.environment, [new], executed_by=executed_by(call))
    return json_answer(IdV1(rows[0].id), 201)


async def get_execution(call: Call) -> Response:
    execution = await find(call)
    ended = execution.state in (State.SUCCEED, State.FAILED)
    result = await call.services.store.executions.result(execution.id) if ended else None
    raw = msgspec.Raw((result or "null").encode())
    return json_answer(ExecutionV1(id=execution.id, state=execution.state, result=raw))


async def cancel(call: Call) -> Response:
    execution_id, forced = (await find(call)).id, _read_cancel(await call.body()).forced
    row = await call.services.store.executions.cancel(call.environment, execution_id, forced)
    return json_answer(IdV1(row.id))


async def reschedule(call: Call) -> Response:
    body = _read_schedule(await call.body())
    execution_id = (await find(call)).id
    at = moment(body.schedule_for, "schedule_for")
    row = await call.services.store.executions.reschedule(call.environment, execution_id, at)
    return json_answer(IdV1(row.id))


async def list_tries(call: Call) -> Response:
    """A plain array, the first try first."""
    rows = await all_attempts(call.services, (await find(call)).id)
    return json_answer([TryV1(id=row.execution_id, state=row.state) for row in reversed(rows)])


def _operations(base: str) -> tuple[Operation, ...]:
    one = f"{base}/executions/{{id}}"
    bad, gone = {400: ErrorBody}, {400: ErrorBody, 404: ErrorBody}
    return (
        Operation(
            method="POST",
            path=f"{base}/enqueue",
            handler=enqueue,
            summary="Enqueue an execution (version 1)",
            body=EnqueueV1Body,
            answers={201: IdV1, **bad, 409: ErrorBody},
        ),
        Operation(
            method="GET",
            path=one,
            handler=get_execution,
            summary="One execution with its result (version 1)",
            answers={200: ExecutionV1, **gone},
        ),
        Operation(
            method="POST",
            path=f"{one}/cancel",
            handler=cancel,
            summary="Cancel; with force also abort a running one (version 1)",
            body=CancelBody,
            answers={200: IdV1, 202: ErrorBody, **gone, 409: ErrorBody},
        ),
        Operation(
            method="POST",
            path=f"{one}/reschedule",
            handler=reschedule,
            summary="Move an execution that has not started (version 1)",
            body=ScheduleBody,
            answers={200: IdV1, **gone, 409: ErrorBody},
        ),
        Operation(
            method="GET",
            path=f"{one}/tries",
            handler=list_tries,
            summary="List the attempts (version 1)",
            answers={200: list[TryV1], **gone},
        ),
    )


OPERATIONS = tuple(operation for base in BASES for operation in _operations(base))


def routes(services: Services) -> list[Route]:
    return routes_of(services, OPERATIONS)
