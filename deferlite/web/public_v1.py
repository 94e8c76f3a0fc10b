"""Version 1 of the Defer API, which @defer/client 1.x speaks, under both of its base paths (DEFER-PROTOCOL)."""

from __future__ import annotations

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from deferlite.model.execution import State
from deferlite.web.bodies import decoder
from deferlite.web.endpoint import Call, Operation, routes_of
from deferlite.web.errors import ErrorBody
from deferlite.web.public_v2 import add, all_attempts, cancelled, find, rescheduled
from deferlite.web.services import Services
from deferlite.web.wire import (
    CancelBody,
    EnqueueV1Body,
    ExecutionV1,
    IdV1,
    ScheduleBody,
    TryV1,
    json_answer,
    new_execution_v1,
)

BASES = ("/public/v1", "/api/v1")
"""Of client 1.5 and later, and of those before."""

_read_enqueue = decoder(EnqueueV1Body)


async def enqueue(call: Call) -> Response:
    (row,) = await add(call, [new_execution_v1(_read_enqueue(await call.body()), call.principal.execution_id)])
    return json_answer(IdV1(row.id), 201)


async def get_execution(call: Call) -> Response:
    execution = await find(call)
    ended = execution.state in (State.SUCCEED, State.FAILED)
    result = await call.services.store.executions.result(execution.id) if ended else None
    raw = msgspec.Raw((result or "null").encode())
    return json_answer(ExecutionV1(id=execution.id, state=execution.state, result=raw))


async def cancel(call: Call) -> Response:
    return json_answer(IdV1((await cancelled(call)).id))


async def reschedule(call: Call) -> Response:
    return json_answer(IdV1((await rescheduled(call)).id))


async def list_tries(call: Call) -> Response:
    """A plain array, the first try first."""
    rows = await all_attempts(call.services, (await find(call)).id)
    return json_answer([TryV1(id=row.execution_id, state=row.state) for row in reversed(rows)])


def _operations(base: str) -> tuple[Operation, ...]:
    one = f"{base}/executions/{{id}}"
    changed = {200: IdV1, 409: ErrorBody}
    summary = "Cancel; with force also abort a running one (version 1)"
    return (
        Operation(
            "POST",
            f"{base}/enqueue",
            enqueue,
            "Enqueue an execution (version 1)",
            {201: IdV1, 409: ErrorBody},
            body=EnqueueV1Body,
        ),
        Operation("GET", one, get_execution, "One execution with its result (version 1)", {200: ExecutionV1}),
        Operation("POST", f"{one}/cancel", cancel, summary, {**changed, 202: ErrorBody}, body=CancelBody),
        Operation(
            "POST",
            f"{one}/reschedule",
            reschedule,
            "Move an execution that has not started (version 1)",
            changed,
            body=ScheduleBody,
        ),
        Operation("GET", f"{one}/tries", list_tries, "List the attempts (version 1)", {200: list[TryV1]}),
    )


OPERATIONS = tuple(operation for base in BASES for operation in _operations(base))


def routes(services: Services) -> list[Route]:
    return routes_of(services, OPERATIONS)
