"""The status page and the console: pages, their live hints, and the forms that act."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from deferlite.model.errors import DeferliteError
from deferlite.model.execution import Execution
from deferlite.model.ids import InvalidId, parse_id
from deferlite.store import Page
from deferlite.web import views
from deferlite.web.admin_builds import request_build
from deferlite.web.admin_filters import FILTERS, PAGES, log_position, parse_filter, parse_page, refuse_unknown
from deferlite.web.console_pages import page, static_answer
from deferlite.web.errors import ApiError, answer_for
from deferlite.web.events import hints, sse, topic_of
from deferlite.web.services import Services

Handler = Callable[[Request], Awaitable[Response]]
_SEE_OTHER = 303


def routes(services: Services) -> list[Route]:
    pages, actions = _Pages(services), _Actions(services)
    shown = {
        "/": pages.overview,
        "/environments/{name}": pages.environment,
        "/builds/{id}": pages.build,
        "/executions": pages.executions,
        "/executions/{id}": pages.execution,
    }
    done = {
        "/environments/{name}/build": actions.rebuild,
        "/environments/{name}/resume": actions.resume,
        "/builds/{id}/cancel": actions.cancel_build,
        "/builds/{id}/promote": actions.promote,
        "/builds/{id}/rollback": actions.rollback,
        "/executions/{id}/cancel": actions.cancel,
        "/executions/{id}/abort": actions.abort,
        "/executions/{id}/rerun": actions.rerun,
        "/executions/{id}/run-now": actions.run_now,
    }
    return [
        Route("/events", pages.events),
        Route("/static/{name}", _static),
        *(Route(path, _told(services, handler)) for path, handler in shown.items()),
        *(Route(path, _told(services, handler), methods=["POST"]) for path, handler in done.items()),
    ]


async def _static(request: Request) -> Response:
    return static_answer(request.path_params["name"], request.query_params.get("v"))


def _told(services: Services, handler: Handler) -> Handler:
    """``handler``, with its errors as a page for people."""

    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except (DeferliteError, ApiError, InvalidId) as error:
            answer = answer_for(error)
            if answer is None:
                raise
            text = str(error) if not isinstance(error, InvalidId) else f"{error} is not an id"
            context = views.common(services) | {"message": text, "status": answer.status_code}
            return page(request, "message.html", context, answer.status_code)

    return wrapped


def _id(request: Request) -> str:
    return parse_id(request.path_params["id"])


class _Pages:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def overview(self, request: Request) -> Response:
        return page(request, "overview.html", await views.overview(self._services))

    async def environment(self, request: Request) -> Response:
        context = await views.environment(self._services, request.path_params["name"])
        return page(request, "environment.html", context)

    async def build(self, request: Request) -> Response:
        context = await views.build(self._services, _id(request), log_position(request.query_params))
        return page(request, "build.html", context)

    async def execution(self, request: Request) -> Response:
        context = await views.execution(self._services, _id(request), log_position(request.query_params))
        return page(request, "execution.html", context)

    async def executions(self, request: Request) -> Response:
        query = request.query_params
        refuse_unknown(query, (*FILTERS, *PAGES, "fragment"))
        context = await views.executions(self._services, parse_filter(query), parse_page(query))
        chosen = {name: query.get(name, "") for name in FILTERS}
        return page(request, "executions.html", context | {"chosen": chosen} | _pager(request, context["page"]))

    async def events(self, request: Request) -> Response:
        return sse(hints(self._services.bus, topic_of(request)))


def _pager(request: Request, shown: Page[Execution]) -> dict[str, str | None]:
    """Addresses of the pages beside this one, with the same filters."""
    kept = [(key, value) for key, value in request.query_params.multi_items() if key in FILTERS and value]

    def address(*cursor: tuple[str, str | None]) -> str:
        return "/executions?" + urlencode([*kept, *((key, value) for key, value in cursor if value)])

    return {
        "newest": address(),
        "newer": address(("before", shown.start_cursor)) if shown.has_prev_page else None,
        "older": address(("after", shown.end_cursor)) if shown.has_next_page else None,
    }


class _Actions:
    """What the forms do; Origin and key have been checked in front of them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    async def rebuild(self, request: Request) -> Response:
        environment = await self._store.environments.get(request.path_params["name"])
        build = await request_build(self._services, environment)
        return RedirectResponse(f"/builds/{build.id}", _SEE_OTHER)

    async def cancel_build(self, request: Request) -> Response:
        build = await self._store.builds.cancel(_id(request))
        return RedirectResponse(f"/builds/{build.id}", _SEE_OTHER)

    async def promote(self, request: Request) -> Response:
        build = await self._store.builds.get(_id(request))
        await self._store.builds.promote(build.environment, build.id)
        return _to_environment(build.environment)

    async def rollback(self, request: Request) -> Response:
        build = await self._store.builds.get(_id(request))
        await self._store.builds.rollback(build.environment, build.id)
        return _to_environment(build.environment)

    async def resume(self, request: Request) -> Response:
        build = await self._store.builds.resume(request.path_params["name"])
        return _to_environment(build.environment)

    async def cancel(self, request: Request) -> Response:
        return _to(await self._store.executions.cancel(None, _id(request), force=False))

    async def abort(self, request: Request) -> Response:
        return _to(await self._store.executions.cancel(None, _id(request), force=True))

    async def rerun(self, request: Request) -> Response:
        return _to(await self._store.executions.rerun(None, _id(request)))

    async def run_now(self, request: Request) -> Response:
        return _to(await self._store.executions.reschedule(None, _id(request), None))


def _to(execution: Execution) -> Response:
    return RedirectResponse(f"/executions/{execution.id}", _SEE_OTHER)


def _to_environment(name: str) -> Response:
    return RedirectResponse(f"/environments/{name}", _SEE_OTHER)
