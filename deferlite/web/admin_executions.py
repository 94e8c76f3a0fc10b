"""Executions in the admin API: any environment's."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deferlite.model.execution import TERMINAL, Execution
from deferlite.model.ids import parse_id
from deferlite.store import PageRequest
from deferlite.store.queries import LARGEST_PAGE
from deferlite.web.admin_filters import FILTERS, PAGES, parse_filter, parse_page, refuse_unknown, whole_number
from deferlite.web.admin_logs import execution_log
from deferlite.web.admin_shapes import answer, shape
from deferlite.web.admin_waiting import why_it_waits
from deferlite.web.bodies import decoder, read_body
from deferlite.web.filters import page_info
from deferlite.web.services import Services
from deferlite.web.wire import CancelBody, ScheduleBody, moment

LONGEST_WAIT = 60
"""Seconds that one call may wait for a result."""
_CREATED, _ACCEPTED, _NO_CONTENT = 201, 202, 204
_cancel_body, _schedule_body = decoder(CancelBody), decoder(ScheduleBody)


def routes(services: Services, api: str) -> list[Route]:
    handlers = _Handlers(services)
    one = f"{api}/executions/{{id}}"
    return [
        Route(f"{api}/executions", handlers.list),
        Route(one, handlers.show),
        Route(f"{one}/arguments", handlers.arguments),
        Route(f"{one}/result", handlers.result),
        Route(f"{one}/attempts", handlers.attempts),
        Route(f"{one}/children", handlers.children),
        Route(f"{one}/logs", handlers.logs),
        Route(f"{one}/cancel", handlers.cancel, methods=["POST"]),
        Route(f"{one}/rerun", handlers.rerun, methods=["POST"]),
        Route(f"{one}/reschedule", handlers.reschedule, methods=["POST"]),
    ]


def _id(request: Request) -> str:
    return parse_id(request.path_params["id"])


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._executions = services.store.executions

    async def list(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, FILTERS + PAGES)
        wanted, size = parse_filter(query), parse_page(query)
        if wanted.environment is not None:
            # A mistyped name is not an environment without executions.
            await self._services.store.environments.get(wanted.environment)
        page = await self._executions.list(wanted, size)
        return answer({"data": [shape(execution) for execution in page.items], "page_info": page_info(page)})

    async def show(self, request: Request) -> Response:
        execution = await self._executions.get(None, _id(request))
        waits = await why_it_waits(self._services, execution)
        return answer({"data": shape(execution) | {"waits_for": waits.text if waits else None}})

    async def arguments(self, request: Request) -> Response:
        arguments, keywords = await self._executions.arguments(_id(request))
        return answer({"arguments": _raw(arguments), "keyword_arguments": _raw(keywords)})

    async def result(self, request: Request) -> Response:
        """200 with the result or error object, 202 not yet, 204 there will never be one."""
        execution = await self._ended(request)
        if execution.state not in TERMINAL:
            return Response(status_code=_ACCEPTED)
        result = await self._executions.result(execution.id)
        return Response(status_code=_NO_CONTENT) if result is None else answer(_raw(result))

    async def _ended(self, request: Request) -> Execution:
        wait = whole_number(request.query_params.get("wait", "0"), "wait", 0, LONGEST_WAIT)
        execution = await self._executions.get(None, _id(request))
        if wait and execution.state not in TERMINAL:
            return await self._executions.wait_ended(execution.id, float(wait))
        return execution

    async def attempts(self, request: Request) -> Response:
        execution = await self._executions.get(None, _id(request))
        page = await self._executions.attempts(execution.id, page=PageRequest(first=LARGEST_PAGE))
        return answer({"data": [shape(attempt) for attempt in page.items]})

    async def children(self, request: Request) -> Response:
        execution = await self._executions.get(None, _id(request))
        return answer({"data": [shape(child) for child in await self._executions.children(execution.id)]})

    async def logs(self, request: Request) -> Response:
        return await execution_log(self._services, request, _id(request))

    async def cancel(self, request: Request) -> Response:
        body = _cancel_body(await read_body(request.scope, request.receive))
        return answer({"data": shape(await self._executions.cancel(None, _id(request), body.forced))})

    async def rerun(self, request: Request) -> Response:
        return answer({"data": shape(await self._executions.rerun(None, _id(request)))}, _CREATED)

    async def reschedule(self, request: Request) -> Response:
        body = _schedule_body(await read_body(request.scope, request.receive))
        when = moment(body.schedule_for, "schedule_for")
        return answer({"data": shape(await self._executions.reschedule(None, _id(request), when))})
